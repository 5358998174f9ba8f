//! The table of all known keys: type, bounds, default and meaning of each.
//!
//! It drives reading, the search for the nearest known key, and the test that
//! `config/example.toml` names every key. What a value leads to stands elsewhere.

use Fallback::{Absent, Is, Required};
use Kind::{
    Bool, Choice, Duration, Float, Int, Path, Paths, Range, Secret, Size, Text, Texts, Time, Words,
};
use tidemill_kernel::{
    key::KEY_PART_BYTES_MAX,
    rollup::{GENERATION_MAX, OPEN_WINDOWS_MAX},
};

/// What may be written as a value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A whole number within these bounds.
    Int(i64, i64),
    /// A number within these bounds.
    Float(f64, f64),
    /// `true` or `false`.
    Bool,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Text, not empty.
    Text,
    /// Several texts, at least one.
    Texts,
    /// Text that is never shown.
    Secret,
    /// A duration within these bounds in milliseconds.
    Duration(u64, u64),
    /// A size within these bounds in bytes.
    Size(u64, u64),
    /// An instant.
    Time,
    /// A place in a message: `"a.b"` or `["a", "b"]`.
    Path,
    /// Several places.
    Paths,
    /// Smallest and largest value: `[0, 100]`.
    Range,
    /// Words that stand for numbers: `{ ONLINE = 1 }`.
    Words,
}

/// What holds where a key is not written.
#[derive(Clone, Copy, Debug)]
pub enum Fallback {
    /// The key has to be written, at least where its table is.
    Required,
    /// Nothing; the meaning says what that leads to.
    Absent,
    /// This value, as it would be written (texts without quotes).
    Is(&'static str),
}

/// When a reload makes another value of a key hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// At once: it decides no row.
    Now,
    /// For windows beyond the newest open one of each lane: it decides rows, but no column.
    NextEdge,
    /// Never; the process has to be started again.
    Restart,
}

impl Change {
    /// Returns the words used in the documents.
    pub fn name(self) -> &'static str {
        match self {
            Change::Now => "at once",
            Change::NextEdge => "next window edge",
            Change::Restart => "restart",
        }
    }
}

/// One known key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name within the table.
    pub name: &'static str,
    /// What may be written.
    pub kind: Kind,
    /// What holds where it is not written.
    pub fallback: Fallback,
    /// What it is for, in a few words.
    pub meaning: &'static str,
    /// When a reload changes it.
    pub change: Change,
}

/// One known table.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its full name, such as `source.file`.
    pub path: &'static str,
    /// Its keys, in the order of the example.
    pub keys: &'static [Key],
}

const fn key(name: &'static str, kind: Kind, fallback: Fallback, meaning: &'static str) -> Key {
    Key { name, kind, fallback, meaning, change: Change::Restart }
}

const fn now(key: Key) -> Key {
    Key { change: Change::Now, ..key }
}

const fn next_edge(key: Key) -> Key {
    Key { change: Change::NextEdge, ..key }
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Every known table with its keys.
pub const TABLES: &[Table] = &[
    Table { path: "pipeline", keys: PIPELINE },
    Table { path: "source", keys: &[] },
    Table { path: "source.file", keys: FILE },
    Table { path: "source.stdin", keys: &[] },
    Table { path: "source.generate", keys: GENERATE },
    Table { path: "source.pulsar", keys: PULSAR },
    Table { path: "schema", keys: SCHEMA },
    Table { path: "schema.field", keys: FIELD },
    Table { path: "window", keys: WINDOW },
    Table { path: "sink", keys: &[] },
    Table { path: "sink.embedded", keys: EMBEDDED },
    Table { path: "sink.clickhouse", keys: CLICKHOUSE },
    Table { path: "sink.stdout", keys: &[] },
    Table { path: "http", keys: HTTP },
    Table { path: "limits", keys: LIMITS },
];

const PIPELINE: &[Key] = &[
    key("name", Text, Required, "lineage of every row: 1 to 64 letters, digits, _ or -"),
    key(
        "routing",
        Choice(&["key", "any"]),
        Is("key"),
        "key: a device is on one partition; any: one process merges all partitions",
    ),
    key(
        "worker_threads",
        Int(1, 256),
        Absent,
        "threads that decode and fold; default: one per core",
    ),
    now(key("log_windows", Bool, Is("false"), "log a line for each device of a closed window")),
    key(
        "generation",
        Int(0, GENERATION_MAX as i64),
        Is("0"),
        "raise it to change what a row means while windows are open; it never falls",
    ),
    now(key("commit_interval", Duration(10, HOUR), Is("5s"), "longest time between two commits")),
];

const FILE: &[Key] = &[
    key(
        "paths",
        Texts,
        Required,
        "NDJSON files, plain, gzip or zstd, in the order in which they are read",
    ),
    key(
        "partitions",
        Choice(&["single", "per_file"]),
        Is("single"),
        "all files are one lane, or each is a lane of its own",
    ),
];

const GENERATE: &[Key] = &[
    key("seed", Int(0, i64::MAX), Is("1"), "same seed, same bytes"),
    key("rate_per_s", Float(0.001, 1e7), Is("30000"), "messages per second of event time"),
    key("devices", Int(1, 10_000_000), Is("500"), "number of devices"),
    key("first_device", Int(0, u32::MAX as i64), Is("1"), "number of the first device"),
    key("device_prefix", Text, Is("sensor_"), "text before the device number"),
    key("device_digits", Int(1, 10), Is("3"), "least digits of the device number"),
    key(
        "start",
        Time,
        Absent,
        "first publish time; default: the present, with pace \"fast\" 2026-01-01",
    ),
    key("out_of_orderness", Duration(0, 30 * DAY), Is("2s"), "events lie up to this far behind"),
    key("late_ratio", Float(0.0, 1.0), Is("0"), "share of late messages"),
    key("late_by", Duration(1, 366 * DAY), Is("2m"), "how late those are"),
    key("malformed_ratio", Float(0.0, 1.0), Is("0"), "share of messages nobody can read"),
    key("future_ratio", Float(0.0, 1.0), Is("0"), "share of messages from a fast clock"),
    key("future_by", Duration(1, 366 * DAY), Is("10m"), "how fast that clock is"),
    key(
        "time_format",
        Choice(&["rfc3339", "epoch_ms"]),
        Is("rfc3339"),
        "how the field time is written",
    ),
    key(
        "shape",
        Choice(&["sensor", "nested", "cpu"]),
        Is("sensor"),
        "fields of a message: those of preset sensor, sensor-nested or cpu",
    ),
    key("missing_ratio", Float(0.0, 1.0), Is("0"), "share of messages that lack 1 to 3 fields"),
    key("duplicate_ratio", Float(0.0, 0.9), Is("0"), "share of messages that repeat the last one"),
    key("silent_ratio", Float(0.0, 0.9), Is("0"), "share of devices that are silent at any time"),
    key("silent_for", Duration(1, 366 * DAY), Is("10m"), "how long a device is silent"),
    key("wrong_clock_ratio", Float(0.0, 1.0), Is("0"), "share of devices whose clock is wrong"),
    key("wrong_clock_by", Duration(1, 366 * DAY), Is("10m"), "by at most this much, either way"),
    key("burst_every", Duration(0, 366 * DAY), Is("0s"), "messages of such a period come at once"),
    key("burst_ratio", Float(1e-9, 1.0), Is("0.1"), "within this share of the period"),
    key("messages", Int(1, i64::MAX), Absent, "how many messages in total; default: no end"),
    key(
        "pace",
        Choice(&["real", "fast"]),
        Is("real"),
        "as fast as time passes, or as fast as it goes",
    ),
    key("partitions", Int(1, 1024), Is("1"), "over how many lanes the devices are spread"),
    key(
        "backfill",
        Duration(0, 366 * DAY),
        Is("0s"),
        "begin this long ago and catch up; not with start or pace \"fast\"",
    ),
];

const PULSAR: &[Key] = &[
    key("url", Text, Required, "where the broker is: pulsar://host:port, or pulsar+ssl:// for TLS"),
    key("tls_ca_file", Text, Absent, "trusted authorities, PEM; default: the operating system's"),
    key("topic", Text, Absent, "the topic, partitioned or not; this or one of the next two"),
    key("topics", Texts, Absent, "several topics; lanes bear their full names"),
    key("topics_pattern", Text, Absent, "all topics of a namespace whose names fit: a/b/name-*"),
    key("subscription", Text, Is("tidemill"), "name of the Failover subscription"),
    key("consumer_name", Text, Absent, "name of this consumer; default: the broker chooses"),
    key("token", Secret, Absent, "token for the broker: ${NAME} or file:/path"),
    key(
        "start",
        Text,
        Is("earliest"),
        "where to begin when nothing was ever committed: earliest, latest or a publish time",
    ),
    key(
        "discovery_interval",
        Duration(100, DAY),
        Is("30s"),
        "how often new partitions and topics are looked for",
    ),
    key(
        "receive_messages_max",
        Int(1, 10_000_000),
        Is("50000"),
        "messages of a partition that may wait in this process",
    ),
    key("entry_bytes_max", Size(KIB, GIB), Is("64MiB"), "largest batch after decompression"),
];

const SCHEMA: &[Key] =
    &[key("preset", Text, Absent, "sensor, sensor-nested or cpu; fields add or replace")];

const FIELD: &[Key] = &[
    key("name", Text, Required, "name of the column: letters, digits and _"),
    key(
        "role",
        Choice(&["key", "time", "attribute", "gauge", "flag", "code", "counter"]),
        Required,
        "what the field is for",
    ),
    key("type", Choice(&["float", "int", "bool", "text"]), Absent, "default: by role"),
    key("path", Path, Absent, "place in the message; default: the name"),
    key("aliases", Paths, Absent, "other places; the first that is there counts"),
    key("range", Range, Absent, "smallest and largest valid value"),
    key("aggregates", Texts, Absent, "what is kept; default: by role"),
    key("words", Words, Absent, "words that stand for numbers"),
    key("time_unit", Choice(&["auto", "s", "ms", "us", "ns"]), Absent, "unit of numeric times"),
];

const WINDOW: &[Key] = &[
    key("size", Duration(SECOND, HOUR), Is("1m"), "length of a window, in whole seconds"),
    key("offset", Duration(0, HOUR), Is("0s"), "moves the window edges, in whole seconds"),
    next_edge(key(
        "max_out_of_orderness",
        Duration(0, 30 * DAY),
        Is("5s"),
        "how far an event may be behind the newest one",
    )),
    next_edge(key(
        "allowed_lateness",
        Duration(0, 30 * DAY),
        Is("0s"),
        "how much longer windows stay open",
    )),
    key(
        "late",
        Choice(&["dead_letter", "amend"]),
        Is("dead_letter"),
        "where late events go; with amend into their rows, which are written again",
    ),
    next_edge(key(
        "max_future_skew",
        Duration(0, 3_660 * DAY),
        Is("5m"),
        "events further ahead of their publish time are dead letters",
    )),
    now(key(
        "idle_timeout",
        Duration(100, 7 * DAY),
        Is("10s"),
        "then open windows are written as is",
    )),
    key("time", Choice(&["event", "publish"]), Is("event"), "which time decides the window"),
];

const EMBEDDED: &[Key] = &[
    key("path", Text, Required, "the SQLite file; its directory must exist"),
    key("table", Text, Absent, "the table readers use; default: the pipeline's name"),
    key("busy_timeout", Duration(0, HOUR), Is("5s"), "how long to wait for another writer"),
];

const CLICKHOUSE: &[Key] = &[
    key("url", Text, Required, "http://host:8123 or https://host:8443"),
    key("table", Text, Required, "the table readers use: database.table"),
    key("user", Text, Absent, "default: the server's default user"),
    key("password", Secret, Absent, "password: ${NAME} or file:/path"),
    key("ca_file", Text, Absent, "PEM file of the CA of an https url; default: the system's roots"),
    key(
        "engine",
        Choice(&["plain", "replicated"]),
        Is("plain"),
        "tables of one server, or replicated ones of a cluster with rows sharded by device",
    ),
    key("cluster", Text, Absent, "the cluster of engine \"replicated\", as in remote_servers"),
    key("create", Bool, Is("true"), "make missing tables and views; alters nothing"),
    key("connect_timeout", Duration(10, HOUR), Is("5s"), "how long connecting may take"),
    key("insert_timeout", Duration(10, HOUR), Is("60s"), "how long one insert may take"),
    key("query_timeout", Duration(10, HOUR), Is("60s"), "how long any other statement may take"),
    key("piece_bytes_max", Size(KIB, GIB), Is("32MiB"), "largest insert before compression"),
    key("insert_quorum", Int(1, 1_000), Absent, "replicas that must have an insert; replicated: 2"),
];

const HTTP: &[Key] = &[
    key("listen", Text, Is("127.0.0.1:8787"), "address of health, metrics and API"),
    key("enabled", Bool, Is("true"), "whether to listen at all"),
];

const LIMITS: &[Key] = &[
    key("devices_max", Int(1, 50_000_000), Is("2000000"), "keys of one window of one lane"),
    now(key(
        "open_windows_max",
        Int(2, OPEN_WINDOWS_MAX),
        Is("1000"),
        "windows of a lane open at once; settings that could need more are refused",
    )),
    key("payload_bytes_max", Size(1, 64 * MIB), Is("1MiB"), "largest message"),
    key("key_bytes_max", Size(1, KEY_PART_BYTES_MAX as u64), Is("256B"), "longest key part"),
    key("text_bytes_max", Size(1, 64 * MIB), Is("4KiB"), "longest text of an attribute"),
    key("depth_max", Int(1, 1_024), Is("32"), "deepest nesting of a message"),
    now(key("dead_letter_bytes_max", Size(0, MIB), Is("4KiB"), "payload kept of a dead letter")),
    now(key(
        "letters_per_commit_max",
        Int(1, 1_000_000),
        Is("10000"),
        "letters that force a commit",
    )),
    now(key("commits_in_flight_max", Int(1, 64), Is("4"), "commits of a lane that may wait")),
    key("piece_rows_max", Int(1, 1_000_000), Is("50000"), "rows of one insert"),
    key(
        "routed_devices_max",
        Int(0, 50_000_000),
        Is("1000000"),
        "devices remembered to notice one on two partitions; 0: none",
    ),
    key(
        "held_windows_max",
        Int(2, 100_000),
        Is("60"),
        "closed windows of a lane that may wait for others; with routing any",
    ),
    key("queue_bytes_max", Size(MIB, 64 * GIB), Is("16MiB"), "bytes read but not yet processed"),
    now(key(
        "memory_max",
        Size(32 * MIB, 4_096 * GIB),
        Is("2GiB"),
        "bytes that wait, are in open windows or on their way to the store; then the source waits",
    )),
    now(key("drain_timeout", Duration(0, HOUR), Is("30s"), "how long an orderly end may take")),
    now(key("retry_pause_min", Duration(1, HOUR), Is("100ms"), "first pause before a repeat")),
    now(key("retry_pause_max", Duration(1, HOUR), Is("5s"), "longest pause before a repeat")),
];

/// Returns when a reload changes a key by its full name; in keys of `[[schema.field]]` the field's
/// name stands before the last part.
pub fn change_of(full: &str) -> Change {
    let key = full.rsplit_once('.').and_then(|(path, name)| table(path)?.key(name));
    key.map_or(Change::Restart, |key| key.change)
}

/// Returns the table with that full name.
pub fn table(path: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.path == path)
}

impl Table {
    /// Returns the key of that name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// Returns the names that may stand in a table (the empty path is the file's root): its keys and
/// the tables below it.
pub fn names_in(path: &str) -> Vec<&'static str> {
    let keys = table(path).map_or(&[][..], |table| table.keys).iter().map(|key| key.name);
    let below = TABLES.iter().filter_map(|table| match table.path.rsplit_once('.') {
        Some((parent, name)) => (parent == path).then_some(name),
        None => path.is_empty().then_some(table.path),
    });
    keys.chain(below).collect()
}

/// Returns the known name that was most likely meant.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name: String = name.chars().take(64).collect::<String>().to_lowercase().replace('-', "_");
    let limit = match name.chars().count() {
        0..=3 => 1,
        4..=8 => 2,
        length => length / 3,
    };
    let distance = |known: &str| strsim::damerau_levenshtein(&name, known);
    let near = known.iter().map(|known| (distance(&known.to_lowercase()), *known)).min();
    near.filter(|(distance, _)| *distance <= limit).map(|(_, known)| known)
}

/// Returns the full name of a key called so in any table.
pub fn elsewhere(name: &str) -> Option<String> {
    let mut homes = TABLES.iter().filter(|table| table.key(name).is_some());
    let home = homes.next()?;
    homes.next().is_none().then(|| format!("{}.{name}", home.path))
}

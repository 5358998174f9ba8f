//! What the tables of a config file mean, as plain values: everything checked, every default
//! filled in. Sources and sinks are described, not made.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use tidemill_decode::DecodeLimits;
use tidemill_kernel::{
    amend::LatePolicy,
    time::{DurationMs, WindowGrid},
};
use tidemill_sink::clickhouse::TableEngine;
use tidemill_source::{generate::GenerateConfig, pulsar::Topics};

use super::secret::Secret;

/// `[pipeline]`: who writes the rows, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// Lineage of every row: 1 to 64 letters, digits, `_` or `-`.
    pub name: String,
    /// What the partitions have to do with devices.
    pub routing: Routing,
    /// Threads that decode and fold, 1 to 256; one with [`Routing::Any`].
    pub worker_threads: usize,
    /// Whether each device of a closed window gets a log line.
    pub log_windows: bool,
    /// Raised by the operator to change what a row means.
    pub generation: u32,
    /// The longest time between two commits of a lane that reads.
    pub commit_interval: Duration,
}

/// What a partition tells of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// All messages of a device come on one partition; each lane makes rows of its own.
    Key,
    /// A device's messages may come on any; one process reads all partitions and merges.
    Any,
}

impl Routing {
    /// Returns the name used in configuration.
    pub fn name(self) -> &'static str {
        match self {
            Routing::Key => "key",
            Routing::Any => "any",
        }
    }
}

/// `[source.*]`: where messages come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// NDJSON files.
    File(FileSource),
    /// NDJSON from the standard input, once.
    Stdin,
    /// Made in the process.
    Generate(GenerateSource),
    /// A Pulsar topic.
    Pulsar(PulsarSource),
}

impl Source {
    /// Returns the name used in configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Source::File(_) => "file",
            Source::Stdin => "stdin",
            Source::Generate(_) => "generate",
            Source::Pulsar(_) => "pulsar",
        }
    }
}

/// `[source.file]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSource {
    /// The files in the order in which they are read; at least one, none twice.
    pub paths: Vec<PathBuf>,
    /// Which lanes they are.
    pub partitions: FilePartitions,
}

/// How files become lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilePartitions {
    /// All files in order are one lane.
    Single,
    /// Each file is a lane.
    PerFile,
}

/// `[source.generate]`.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateSource {
    /// What the stream looks like. `start_ms` is the default of the generator where `start_ms`
    /// below is `None`.
    pub config: GenerateConfig,
    /// The written publish time of the first message in ms; `None` leaves it to the pace: the
    /// present less `backfill` for [`Pace::Real`], the generator's default for [`Pace::Fast`].
    pub start_ms: Option<i64>,
    /// How many messages in total over all partitions; `None`: no end.
    pub messages: Option<u64>,
    /// How fast they come.
    pub pace: Pace,
    /// Over how many lanes the devices are spread, 1 to 1024.
    pub partitions: u32,
    /// How far in the past the stream begins, to be caught up as fast as it goes. Zero with
    /// [`Pace::Fast`] or a written start.
    pub backfill: Duration,
}

/// How fast generated messages come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As time passes.
    Real,
    /// As fast as they can be made and processed.
    Fast,
}

/// `[source.pulsar]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PulsarSource {
    /// The broker, `pulsar://host:port` or `pulsar+ssl://host:port`, without credentials.
    pub url: String,
    /// PEM file of trusted authorities; `None` trusts those of the operating system.
    pub tls_ca_file: Option<PathBuf>,
    /// The topics.
    pub topics: Topics,
    /// Name of the Failover subscription.
    pub subscription: String,
    /// Name of the consumer; `None` lets the broker choose.
    pub consumer_name: Option<String>,
    /// Token for the broker.
    pub token: Option<Secret>,
    /// Where to begin when no commit record exists.
    pub start: PulsarStart,
    /// How often topics and partitions that are new are looked for.
    pub discovery_interval: Duration,
    /// Messages of a partition that may wait in this process: the permits given to the broker.
    pub receive_messages_max: u32,
    /// The largest entry after decompression, in bytes; a larger one is rejected.
    pub entry_bytes_max: usize,
}

/// Where a topic is begun when no commit record exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PulsarStart {
    /// With the oldest entry that the broker has.
    Earliest,
    /// Behind the newest.
    Latest,
    /// With the first that was published at this time (ms) or later.
    PublishTime(i64),
}

/// `[window]`: windows and lateness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Size and offset of the windows.
    pub grid: WindowGrid,
    /// How far events may be behind the newest one without being late.
    pub max_out_of_orderness: DurationMs,
    /// How much longer a window stays open for stragglers.
    pub allowed_lateness: DurationMs,
    /// What becomes of late events.
    pub late: LatePolicy,
    /// How far an event may be ahead of its message's publish time.
    pub max_future_skew: DurationMs,
    /// Open windows are written as they are when the watermark stood still this long.
    pub idle_timeout: Duration,
    /// Which time decides the window.
    pub time: TimeMode,
}

/// Which time decides the window of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeMode {
    /// The time in the message.
    Event,
    /// When the message was published, by the broker's clock where it stamps entries.
    Publish,
}

impl TimeMode {
    /// Returns the name used in configuration.
    pub fn name(self) -> &'static str {
        match self {
            TimeMode::Event => "event",
            TimeMode::Publish => "publish",
        }
    }
}

/// `[sink.*]`: where rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// An SQLite file.
    Embedded(EmbeddedSink),
    /// ClickHouse over HTTP.
    ClickHouse(ClickHouseSink),
    /// NDJSON on the standard output.
    Stdout,
}

impl Sink {
    /// Returns the name used in configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Sink::Embedded(_) => "embedded",
            Sink::ClickHouse(_) => "clickhouse",
            Sink::Stdout => "stdout",
        }
    }
}

/// `[sink.embedded]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedSink {
    /// The file.
    pub path: PathBuf,
    /// The table that readers use: letters, digits and `_`, at most 64.
    pub table: String,
    /// How long a commit waits for another writer.
    pub busy_timeout: Duration,
}

/// `[sink.clickhouse]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClickHouseSink {
    /// `http://host:8123` or `https://host:8443`, without credentials.
    pub url: String,
    /// The table that readers use: `database.table`.
    pub table: String,
    /// The user; `None` is the server's default user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// A PEM file with the CA of the server's certificate; `None`: the system's roots.
    pub ca_file: Option<PathBuf>,
    /// How the tables are kept.
    pub engine: TableEngine,
    /// Whether missing tables and views are made at the start.
    pub create: bool,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// How long one insert may take as a whole.
    pub insert_timeout: Duration,
    /// How long any other statement may take.
    pub query_timeout: Duration,
    /// The most bytes of one insert before compression.
    pub piece_bytes_max: usize,
    /// How many replicas must have an insert; `None`: the server's setting.
    pub insert_quorum: Option<u32>,
}

/// `[http]`: health, metrics and API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Whether to listen at all.
    pub enabled: bool,
}

/// `[limits]`: what is bounded, and by how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most keys of one window of one lane; messages of further keys are rejected.
    pub devices_max: usize,
    /// The most windows of a lane that the configuration may let be open at once.
    pub open_windows_max: i64,
    /// Limits of a message: payload, key, text and depth.
    pub decode: DecodeLimits,
    /// Payload bytes kept of a dead letter.
    pub dead_letter_bytes_max: usize,
    /// Letters that force a commit.
    pub letters_per_commit_max: usize,
    /// Commits of a lane that may wait for the store; then it takes no further entry.
    pub commits_in_flight_max: usize,
    /// The most rows of one insert.
    pub piece_rows_max: usize,
    /// The most devices remembered to notice one on two partitions; 0 watches none.
    pub routed_devices_max: usize,
    /// Closed windows of a lane that may wait for other lanes, with [`Routing::Any`].
    pub held_windows_max: usize,
    /// The most bytes read but not yet processed; then no more is asked of the source.
    pub queue_bytes_max: usize,
    /// The most bytes that wait, are in open windows or on their way to the store, all lanes
    /// together; then no more is asked of the source.
    pub memory_max: usize,
    /// How long an orderly end waits for the store.
    pub drain_timeout: Duration,
    /// The first pause before a repeat; each further one is twice as long.
    pub retry_pause_min: Duration,
    /// The longest pause before a repeat.
    pub retry_pause_max: Duration,
}

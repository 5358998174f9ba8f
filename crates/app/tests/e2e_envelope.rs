//! What the broker knows of a message besides its payload, through a whole job: key, properties,
//! topic and partition become columns, and a payload cannot speak for the broker.

mod e2e;
#[path = "../../../tests/service/pulsar_raw.rs"]
mod raw;

use std::{fs, path::Path, process::Command};

use e2e::{
    TIDEMILL,
    job::Run,
    services::{admin_put, broker},
    until,
};
use raw::{Fields, Raw, RawEntry};
use rusqlite::OpenFlags;

/// Begins a minute: 2025-10-09T08:00:00Z. The broker stamps messages with its own clock, which is
/// later.
const MINUTE_MS: u64 = 1_760_000_400_000;

/// One message of a batch, with the fields of the protocol: 1 a property, 2 the key, 3 the
/// payload's size.
fn message(key: Option<&str>, properties: &[(&str, &str)], payload: &str) -> Vec<u8> {
    let mut head = Fields::default();
    for (name, value) in properties {
        head = head.message(1, Fields::default().bytes(1, name).bytes(2, value));
    }
    if let Some(key) = key {
        head = head.bytes(2, key);
    }
    head.int(3, payload.len() as u64).sized(payload.as_bytes())
}

/// An entry that is a batch of messages.
fn batch(messages: &[Vec<u8>]) -> RawEntry {
    let count = messages.len() as u64;
    RawEntry::new(0, 1_000, messages.concat()).with(|metadata| metadata.int(11, count))
}

fn reading(after_s: u64, celsius: f64) -> String {
    format!("{{\"time\":{},\"celsius\":{celsius}}}", MINUTE_MS + after_s * 1000)
}

/// The last message of a partition, behind the windows before it.
fn closing() -> RawEntry {
    batch(&[message(Some("closing"), &[("site", "none")], &reading(180, 0.0))])
}

fn send(topic: &str) {
    let spoof = format!("{{\"$key\":\"spoof\",\"time\":{MINUTE_MS},\"celsius\":99}}");
    let first = [
        batch(&[
            message(Some("a"), &[("site", "\"nörth\"\\"), ("other", "x")], &reading(1, 20.0)),
            message(Some("a"), &[("site", "east")], &reading(2, 22.0)),
            message(Some("b"), &[("site", "x"), ("site", "south")], &reading(3, 5.5)),
            message(Some("a"), &[("site", "spoof")], &spoof),
        ]),
        closing(),
    ];
    // Outside of a batch, the same are fields 4 and 6 of the entry.
    let property = Fields::default().bytes(1, "site").bytes(2, "west");
    let single = RawEntry::new(0, 1_000, reading(4, 7.0));
    let second = [
        single.with(|metadata| metadata.message(4, property).bytes(6, "c")),
        batch(&[message(Some("d"), &[], &reading(5, 8.0)), message(None, &[], &reading(6, 9.0))]),
        closing(),
    ];
    let mut raw = Raw::connect(&broker().url);
    raw.produce(&format!("{topic}-partition-0"), &first);
    raw.produce(&format!("{topic}-partition-1"), &second);
}

const SCHEMA: &str = r#"
[[schema.field]]
name = "device"
role = "key"
path = "$key"

[[schema.field]]
name = "time"
role = "time"

[[schema.field]]
name = "topic"
role = "attribute"
path = "$topic"

[[schema.field]]
name = "part"
role = "attribute"
type = "int"
path = "$partition"

[[schema.field]]
name = "site"
role = "attribute"
path = "$properties.site"

[[schema.field]]
name = "celsius"
role = "gauge"
"#;

/// Runs `tidemill query` and returns its rows as cells: what stands between header and count.
fn query(config: &Path, more: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new(TIDEMILL);
    let output = command.arg("query").arg(config).args(more).output().expect("tidemill can be run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    let mut lines: Vec<Vec<String>> = said.lines().skip(1).map(cells).collect();
    let count = lines.pop().expect("the number of rows");
    assert_eq!(count, [lines.len().to_string(), "rows".to_owned()]);
    lines
}

fn messages_committed(store: &Path) -> i64 {
    let opened = rusqlite::Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let sql = "SELECT sum(messages) FROM envelope_commits";
    // No file or no table yet: nothing is committed.
    opened.and_then(|store| store.query_row(sql, [], |row| row.get(0))).unwrap_or(0)
}

#[test]
fn key_properties_topic_and_partition_are_columns_of_the_rows() {
    let name = format!("envelope-{}", std::process::id());
    let topic = format!("persistent://public/default/{name}");
    let path = format!("persistent/public/default/{name}");
    admin_put(&format!("{path}/partitions"), "2");
    // The second client looks nothing up: this has the broker load both partitions.
    admin_put(&format!("{path}/subscription/keep"), "");
    send(&topic);

    let place = tempfile::tempdir().expect("a temporary folder");
    let (config, store) = (place.path().join("tidemill.toml"), place.path().join("rows.db"));
    let text = format!(
        "[pipeline]\nname = \"envelope\"\ncommit_interval = \"50ms\"\n\
         [source.pulsar]\nurl = \"{}\"\ntopic = \"{topic}\"\n{SCHEMA}\
         [window]\nidle_timeout = \"1h\"\n[sink.embedded]\npath = {store:?}\n\
         [http]\nenabled = false\n",
        broker().url
    );
    fs::write(&config, text).expect("the configuration is written");
    let arguments: [&Path; 2] = [Path::new("run"), &config];
    let mut run = Run::start(&arguments, &place.path().join("run.log"));
    until("all messages are committed", || {
        run.must_run();
        (messages_committed(&store) == 9).then_some(())
    });
    run.terminate();

    let columns = "device,topic,part,site,record_count,celsius";
    let mut rows = query(&config, &["--columns", columns]);
    rows.sort();
    let row = |cells: [&str; 5]| {
        let [device, part, site, count, celsius] = cells;
        [device, &topic, part, site, count, celsius].map(str::to_owned).to_vec()
    };
    let expected = [
        row(["a", "0", "\"nörth\"\\", "2", "21"]),
        row(["b", "0", "south", "1", "5.5"]),
        row(["c", "1", "west", "1", "7"]),
        row(["d", "1", "NULL", "1", "8"]),
    ];
    assert_eq!(rows, expected);
    let letters = query(&config, &["--dead-letters"]);
    let reasons: Vec<bool> = ["duplicate_key", "missing_key"]
        .iter()
        .map(|reason| letters.iter().any(|cells| cells.iter().any(|cell| cell == reason)))
        .collect();
    assert_eq!((letters.len(), reasons), (2, vec![true, true]), "{letters:?}");
}

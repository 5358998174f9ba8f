//! `tidemill replay --write` as a user meets it: a damaged store becomes what it was, byte for
//! byte, and what cannot be repaired is told and left. Which rows are right `verify` says here;
//! the oracle judges the job's rows elsewhere.

mod e2e;

use std::{fs, path::PathBuf, thread};

use e2e::{
    alone,
    job::{Job, Store},
    place::{Place, said, tidemill},
    services::{Version, ask},
    topic::{Content, PARTITIONS, Topic, now_ms},
    until,
};
use rusqlite::{Connection, types::Value};
use tidemill_sink::{EmbeddedConfig, EmbeddedLock};

/// Five minutes of ten devices, and their rows.
struct Stored {
    place: Place,
    config: PathBuf,
}

impl Stored {
    fn new() -> Stored {
        let options = ["--rate", "50", "--devices", "10", "--start-ms", "1767225600000"];
        let place = Place::of_messages(15_000, &options);
        let text = format!(
            "[pipeline]\nname = \"proof\"\n[source.file]\npaths = [{:?}]\n\
             [schema]\npreset = \"sensor\"\n[sink.embedded]\npath = {:?}\ntable = \"sensors\"\n\
             busy_timeout = \"100ms\"\n[http]\nenabled = false\n",
            place.path("messages.ndjson"),
            place.path("rows.db")
        );
        let config = place.path("tidemill.toml");
        fs::write(&config, text).expect("the configuration is written");
        let stored = Stored { place, config };
        stored.ends("run", &[], 0);
        stored
    }

    /// Runs a command, which has to end with this status; returns what it said.
    fn ends(&self, command: &str, options: &[&str], status: i32) -> String {
        let output = tidemill(command, &self.config, options);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(status), "{command}: {said}");
        said
    }

    fn open(&self) -> Connection {
        Connection::open(self.place.path("rows.db")).expect("the store's file")
    }

    /// Changes so many rows.
    fn change(&self, count: usize, statement: &str) {
        assert_eq!(self.open().execute(statement, []).expect(statement), count, "{statement}");
    }

    /// All that is stored, table by table and row by row, floats by their bits.
    fn dump(&self) -> Vec<String> {
        let store = self.open();
        let mut lines = Vec::new();
        for table in ["sensors_rows", "sensors_dead_letters", "sensors_commits"] {
            let mut statement = store.prepare(&format!("SELECT * FROM {table}")).expect(table);
            let width = statement.column_count();
            let mut rows = statement.query([]).expect(table);
            while let Some(row) = rows.next().expect(table) {
                let value = |at| match row.get(at).expect("a value") {
                    Value::Real(value) => format!("{:x}", value.to_bits()),
                    value => format!("{value:?}"),
                };
                lines.push((0..width).map(value).collect::<Vec<_>>().join(" "));
            }
        }
        lines.sort();
        lines
    }
}

/// The row of a device in the minute that ends so many minutes after midnight.
fn of(device: u32, minute: u32) -> String {
    format!("WHERE device_id = 'sensor_{device:03}' AND time = 1767225600 + 60 * {minute}")
}

const WRITE: [&str; 1] = ["--write"];

#[test]
fn damaged_and_missing_rows_are_as_before_and_a_second_time_changes_nothing() {
    let stored = Stored::new();
    let sound = stored.dump();
    let said = stored.ends("replay", &WRITE, 0);
    assert!(said.contains("rows to write: 0\n0 rows written\n"), "{said}");
    assert_eq!(stored.dump(), sound);

    stored.change(
        1,
        &format!("UPDATE sensors_rows SET humidity = humidity * 1.0000000000000002 {}", of(4, 3)),
    );
    stored.change(
        1,
        &format!("UPDATE sensors_rows SET temperature = NULL, revision = 1 {}", of(6, 2)),
    );
    stored.change(1, &format!("DELETE FROM sensors_rows {}", of(5, 4)));
    stored.change(10, "DELETE FROM sensors_rows WHERE time = 1767225600 + 60");
    let damaged = stored.dump();
    stored.ends("replay", &["--diff"], 1);
    assert_eq!(stored.dump(), damaged, "--diff writes nothing");

    // Only what is asked for.
    let said = stored.ends("replay", &["--write", "--device", "sensor_005"], 0);
    assert!(said.contains("to write: 2026-01-01 00:04:00 sensor_005: is not stored\n"), "{said}");
    assert!(said.contains("rows to write: 2\n2 rows written\n"), "{said}");
    stored.ends("replay", &["--diff", "--device", "sensor_005"], 0);
    stored.ends("replay", &["--diff"], 1);

    let said = stored.ends("replay", &WRITE, 0);
    for line in [
        "to write: 2026-01-01 00:01:00 sensor_001: is not stored\n",
        "to write: 2026-01-01 00:02:00 sensor_006: temperature is NULL stored, ",
        "to write: 2026-01-01 00:03:00 sensor_004: humidity is ",
        "rows to write: 11\n11 rows written\n",
        ", 0 different, 0 not checkable\n",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert_eq!(stored.dump(), sound, "rows, letters and records");
    let said = stored.ends("verify", &["--sample", "100000", "--seed", "7"], 0);
    assert!(said.contains("proved") && said.contains(" 0 different, 0 not checkable"), "{said}");
    let said = stored.ends("replay", &WRITE, 0);
    assert!(said.contains("rows to write: 0\n0 rows written\n"), "{said}");
    assert_eq!(stored.dump(), sound);
    // The job goes on as if nothing had happened.
    stored.ends("run", &[], 0);
    stored.ends("verify", &["--sample", "100000"], 0);
}

#[test]
fn rows_that_no_true_row_can_replace_are_told_and_left() {
    let stored = Stored::new();
    let sound = stored.dump();
    stored.change(
        1,
        &format!(
            "UPDATE sensors_rows SET humidity = 1.0, revision = revision + 1000000 {}",
            of(4, 3)
        ),
    );
    // Right in all but its revision: it would hide every later correction.
    stored.change(1, &format!("UPDATE sensors_rows SET revision = revision + 1 {}", of(5, 3)));
    stored.change(1, &format!("UPDATE sensors_rows SET device_id = 'sensor_999' {}", of(7, 2)));
    let higher = "its revision is too high for any true row to replace it: raise \
                  pipeline.generation and reset";
    for (round, written) in ["1 rows written\n", "0 rows written\n"].into_iter().enumerate() {
        let said = stored.ends("replay", &WRITE, 1);
        for line in [
            "DIFFERENCE: 2026-01-01 00:03:00 sensor_004: humidity is 1 stored, ",
            "DIFFERENCE: 2026-01-01 00:03:00 sensor_005: revision is ",
            "DIFFERENCE: 2026-01-01 00:02:00 sensor_999: no message of the log is of this device",
            written,
            ", 3 different, 0 not checkable\n",
        ] {
            assert!(said.contains(line), "round {round}: {line}: {said}");
        }
        assert_eq!(said.matches(higher).count(), 2, "{said}");
    }
    // Each of the three is what was forged; what `sensor_007` had is back.
    let left = stored.dump();
    assert_eq!(left.iter().filter(|line| !sound.contains(line)).count(), 3);
    assert_eq!(sound.iter().filter(|line| !left.contains(line)).count(), 2);
    // What it says is a way out.
    stored.change(1, "DELETE FROM sensors_rows WHERE device_id = 'sensor_999'");
    let text = fs::read_to_string(&stored.config).expect("the configuration");
    let raised = text.replace("[pipeline]\n", "[pipeline]\ngeneration = 2\n");
    fs::write(&stored.config, raised).expect("the configuration is written");
    stored.ends("reset", &["--yes"], 0);
    stored.ends("run", &[], 0);
    stored.ends("replay", &["--diff"], 0);
}

#[test]
fn only_what_the_record_calls_closed_and_makes_is_written() {
    let stored = Stored::new();
    stored.change(1, "UPDATE sensors_commits SET closed_until_ms = (1767225600 + 120) * 1000");
    let deleted = "DELETE FROM sensors_rows WHERE time >= 1767225600 + 120";
    let count = stored.open().execute(deleted, []).expect(deleted);
    assert!(count > 20, "several windows: {count} rows");
    let said = stored.ends("replay", &WRITE, 0);
    assert!(said.contains("10 rows written\n"), "{said}");
    // A record of another generation than its birth's: older rows may be of another configuration.
    stored.change(1, &format!("DELETE FROM sensors_rows {}", of(1, 1)));
    stored.change(1, "UPDATE sensors_commits SET generation = 1, revision = 1 << 44 | ordinal");
    let before = stored.dump();
    let said = stored.ends("replay", &WRITE, 2);
    assert!(said.contains("not checked: partition messages.ndjson: the generation was"), "{said}");
    assert!(said.contains("0 rows written\n"), "{said}");
    assert_eq!(stored.dump(), before);
}

#[test]
fn store_that_another_process_writes_is_not_repaired() {
    let stored = Stored::new();
    stored.change(1, &format!("DELETE FROM sensors_rows {}", of(5, 4)));
    let damaged = stored.dump();
    let lock = EmbeddedLock::take(&EmbeddedConfig::new(stored.place.path("rows.db"), "sensors"));
    let lock = lock.expect("nobody else has it");
    let said = stored.ends("replay", &WRITE, 1);
    assert!(said.contains(&format!("process {} writes table", std::process::id())), "{said}");
    assert_eq!(stored.dump(), damaged);
    stored.ends("replay", &["--diff"], 1);
    drop(lock);
    stored.ends("replay", &WRITE, 0);
    let said = stored.ends("replay", &["--write", "--diff"], 2);
    assert!(said.contains("cannot be used with"), "{said}");
    let said = stored.ends("replay", &[], 2);
    assert!(said.contains("--diff") && said.contains("--write"), "{said}");
}

/// Forges a row of a device, with the revision that it has.
fn forge(url: &str, table: &str, device: &str) {
    let statement = format!(
        "INSERT INTO {table}_rows SELECT * REPLACE (temperature + 1 AS temperature) FROM {table} \
         WHERE device_id = '{device}' ORDER BY time LIMIT 1"
    );
    ask(url, &statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
}

#[test]
fn rows_are_repaired_while_the_job_goes_on() {
    let _alone = alone();
    let all = Content { messages: 200_000, rate: 1_000, ratios: [0.001, 0.001, 0.000_1] };
    let topic = Topic::empty("repair", PARTITIONS, &all);
    let start_ms = now_ms() - 200_000;
    let half = |first: u64| (Content { messages: 100_000, ..all }, start_ms + first as i64);
    let (first, first_ms) = half(0);
    topic.generate_with(&first, first_ms, &[]);
    let url = Version::Modern.url();
    let job = Job::new("repair", &topic, Store::server(&url));
    let config = job.config("replay", None);
    let mut run = job.start();
    until("the first half is committed", || {
        run.must_run();
        (job.processed() == first.messages).then_some(())
    });
    thread::scope(|scope| {
        // The job reads these while rows of what it read before are repaired.
        scope.spawn(|| {
            let (second, second_ms) = half(100_000);
            topic.generate_with(&second, second_ms, &[]);
        });
        for device in ["sensor_001", "sensor_002", "sensor_003"] {
            forge(&url, &job.table(), device);
            let before = job.processed();
            let output = tidemill("replay", &config, &["--write"]);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(0), "{said}");
            assert!(said.contains("\n1 rows written\n"), "{said}");
            eprintln!("{device}: the job came from {before} to {}", job.processed());
        }
    });
    topic.close(&all, start_ms);
    job.until_done(&mut [&mut run]);
    run.terminate();
    topic.expect(60_000, u64::MAX);
    job.prove();
}

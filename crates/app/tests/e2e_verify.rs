//! `tidemill verify` as a user meets it: each way to damage a store is found and named, and rows
//! are computed again from files, a generator and a real broker.

mod e2e;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use e2e::{
    TIDEMILL, alone,
    job::{Job, Run, Store},
    services::{Version, ask},
    topic::{Content, PARTITIONS, Topic},
    until,
};
use tempfile::TempDir;

/// A folder with a file of messages, a configuration and a store.
struct Place {
    directory: TempDir,
}

impl Place {
    /// Ten minutes of ten devices.
    fn new() -> Place {
        let place = Place { directory: tempfile::tempdir().expect("a temporary folder") };
        place.generate("messages.ndjson", "2026-01-01T00:00:00Z");
        place
    }

    fn generate(&self, file: &str, start: &str) {
        let start_ms =
            if start.contains("00:00:00") { 1_767_225_600_000_u64 } else { 1_767_226_500_000 };
        let output = Command::new(TIDEMILL)
            .args(["generate", "--messages", "30000", "--rate", "50", "--devices", "10"])
            .args(["--late-ratio", "0.001", "--malformed-ratio", "0.001"])
            .args(["--start-ms", &start_ms.to_string(), "--out"])
            .arg(self.path(file))
            .output()
            .expect("tidemill can be run");
        assert!(output.status.success(), "{output:?}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn config(&self, source: &str) -> PathBuf {
        let text = format!(
            "[pipeline]\nname = \"proof\"\ncommit_interval = \"20ms\"\n{source}\n\
             [schema]\npreset = \"sensor\"\n\
             [sink.embedded]\npath = {:?}\ntable = \"sensors\"\n[http]\nenabled = false\n",
            self.path("rows.db")
        );
        let path = self.path("tidemill.toml");
        fs::write(&path, text).expect("the configuration is written");
        path
    }

    fn file_config(&self) -> PathBuf {
        self.config(&format!("[source.file]\npaths = [{:?}]", self.path("messages.ndjson")))
    }

    /// Runs on the file to its end.
    fn run(&self) -> PathBuf {
        let config = self.file_config();
        assert_eq!(tidemill("run", &config, &[]).0, Some(0));
        fs::copy(self.path("rows.db"), self.path("sound.db")).expect("a copy");
        config
    }

    /// Damages the sound store.
    fn damage(&self, statement: &str) {
        fs::copy(self.path("sound.db"), self.path("rows.db")).expect("a copy");
        let store = rusqlite::Connection::open(self.path("rows.db")).expect("the store's file");
        assert!(store.execute(statement, []).expect(statement) > 0, "{statement}");
    }
}

/// Runs a command on a configuration; returns its status and all that it said.
fn tidemill(command: &str, config: &Path, more: &[&str]) -> (Option<i32>, String) {
    let mut process = Command::new(TIDEMILL);
    process.arg(command).arg(config).args(more).stdin(Stdio::null());
    let output = process.output().expect("tidemill can be run");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// More rows than any of these stores has: all of them.
const ALL: [&str; 4] = ["--sample", "100000", "--seed", "7"];

#[test]
fn every_row_of_a_file_is_computed_again_and_a_seed_chooses_the_same_rows() {
    let place = Place::new();
    let config = place.run();
    let (status, said) = tidemill("verify", &config, &ALL);
    assert_eq!(status, Some(0), "{said}");
    let all = "sample, seed 7: 110 of 110 rows computed again from raw messages: 110 equal in \
               every bit, 0 different, 0 not checkable\n";
    assert!(said.ends_with(all), "{said}");
    assert!(said.contains("in the log") && said.contains("30000  proved"), "{said}");
    let (status, said) = tidemill("verify", &config, &["--sample", "5"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("5 of 110 rows computed again") && said.contains("5 equal"), "{said}");
    let span = ["--from", "2026-01-01T00:02:00Z", "--to", "2026-01-01T00:04:00Z"];
    let (status, said) = tidemill("verify", &config, &[&span[..], &ALL].concat());
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("20 of 20 rows computed again"), "two windows: {said}");
    let (status, said) = tidemill("verify", &config, &["--checklist"]);
    assert_eq!(status, Some(0), "{said}");
    for line in ["throughput  ", "11 of 11 from the first to the last", "% fewer writes"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let (status, said) = tidemill("verify", &config, &["--sample", "5", "--store-only"]);
    assert_eq!(status, Some(2), "{said}");
}

#[test]
fn each_way_to_damage_a_store_is_found_and_named() {
    let place = Place::new();
    let config = place.run();
    let of = |device: &str, minute: u32| {
        format!("WHERE device_id = '{device}' AND time = 1767225600 + 60 * {minute}")
    };
    let rows = "sensors_rows";
    for (statement, options, expected) in [
        (
            format!(
                "UPDATE {rows} SET humidity = humidity * 1.0000000000000002 {}",
                of("sensor_004", 3)
            ),
            &ALL[..],
            "row 2026-01-01 00:03:00 sensor_004: humidity is ",
        ),
        (
            format!("DELETE FROM {rows} {}", of("sensor_005", 4)),
            &ALL[..],
            "window 2026-01-01 00:04:00: 9 rows stored, 10 by the messages; missing: sensor_005",
        ),
        (format!("DELETE FROM {rows} {}", of("sensor_005", 4)), &[], "messages in closed rows: "),
        (
            format!("UPDATE {rows} SET time = time + 1 {}", of("sensor_006", 5)),
            &[],
            "off the grid: 2026-01-01 00:05:01 sensor_006",
        ),
        (
            format!("UPDATE {rows} SET revision = revision + 1 {}", of("sensor_007", 6)),
            &ALL[..],
            "row 2026-01-01 00:06:00 sensor_007: revision is ",
        ),
        (
            format!("UPDATE {rows} SET device_id = 'sensor_999' {}", of("sensor_007", 6)),
            &ALL[..],
            "row 2026-01-01 00:06:00 sensor_999: no message of the log is of this device",
        ),
        (
            "DELETE FROM sensors_dead_letters WHERE reason = 'late' AND ordinal = \
             (SELECT min(ordinal) FROM sensors_dead_letters WHERE reason = 'late')"
                .to_owned(),
            &[],
            "late letters: ",
        ),
        ("DELETE FROM sensors_commits".to_owned(), &[], "110 rows, but no commit record"),
        (
            "UPDATE sensors_commits SET ordinal = ordinal + 1, messages = messages + 1, \
             open = open + 1"
                .to_owned(),
            &[],
            "the log holds 30000 messages up to the processed position, the record says 30001",
        ),
    ] {
        place.damage(&statement);
        let (status, said) = tidemill("verify", &config, options);
        assert_eq!(status, Some(1), "{statement}: {said}");
        assert!(said.contains(&format!("DIFFERENCE: {expected}")), "{statement}: {said}");
    }
    // A span without the damage: only the ledger, which is always whole, tells.
    place.damage(&format!("UPDATE {rows} SET time = time + 1 {}", of("sensor_006", 5)));
    let (status, said) = tidemill("verify", &config, &["--to", "2026-01-01T00:05:00Z"]);
    assert_eq!((status, said.contains("off the grid")), (Some(0), false), "{said}");
    // A silent minute is no difference by itself; that its messages are gone is one.
    place.damage(&format!("DELETE FROM {rows} WHERE time = 1767225600 + 120"));
    let (status, said) = tidemill("verify", &config, &[]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("1 of 11 windows have no row: 2026-01-01 00:02:00\n"), "{said}");
}

#[test]
fn log_that_cannot_be_read_again_is_told_apart_from_one_that_differs() {
    let place = Place::new();
    let config = place.run();
    fs::rename(place.path("messages.ndjson"), place.path("away")).expect("renamed");
    let (status, said) = tidemill("verify", &config, &ALL);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("not checked: file ") && said.contains("110 not checkable"), "{said}");
    assert_eq!(tidemill("verify", &config, &["--store-only"]).0, Some(0));
    // As many messages as there were, but the first says nothing any more.
    let content = fs::read_to_string(place.path("away")).expect("the messages");
    let (line, rest) = content.split_once('\n').expect("lines");
    let spaces = " ".repeat(line.len() - 2);
    fs::write(place.path("messages.ndjson"), format!("{{}}{spaces}\n{rest}")).expect("written");
    let (status, said) = tidemill("verify", &config, &ALL);
    assert_eq!(status, Some(1), "{said}");
    let lacks = "temperature_count is 6 stored, 5 by the messages";
    assert!(said.contains(lacks) && said.contains("1 different"), "{said}");
    // Another configuration gives other rows; that says nothing about these.
    fs::rename(place.path("away"), place.path("messages.ndjson")).expect("renamed");
    let text = fs::read_to_string(&config).expect("the configuration");
    fs::write(&config, format!("{text}\n[window]\nsize = \"30s\"\n")).expect("written");
    let (status, said) = tidemill("verify", &config, &["--sample", "5"]);
    assert!(said.contains("the configuration has changed since the commit: window.size"), "{said}");
    assert_ne!(status, Some(0), "{said}");
}

#[test]
fn standard_input_cannot_be_read_again_and_a_generator_only_from_a_written_start() {
    let place = Place::new();
    let config = place.config("[source.stdin]");
    let mut fed = Command::new(TIDEMILL)
        .arg("run")
        .arg(&config)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("tidemill can be run");
    let content = fs::read(place.path("messages.ndjson")).expect("the messages");
    fed.stdin.take().expect("a pipe").write_all(&content).expect("fed");
    assert!(fed.wait().expect("waited for").success());
    let (status, said) = tidemill("verify", &config, &["--sample", "5"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("standard input cannot be read again"), "{said}");
    assert_eq!(tidemill("verify", &config, &[]).0, Some(0));
    fs::remove_file(place.path("rows.db")).expect("the store");

    let real = "[source.generate]\npace = \"real\"\nrate_per_s = 1000\nbackfill = \"3m\"";
    let config = place.config(real);
    let mut run = Run::start(&[Path::new("run"), &config], &place.path("run.log"));
    run.until_logged("window closed");
    run.terminate();
    let (status, said) = tidemill("verify", &config, &["--sample", "5"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("set source.generate.start"), "{said}");
    fs::remove_file(place.path("rows.db")).expect("the store");

    let fast = "[source.generate]\npace = \"fast\"\nrate_per_s = 100\ndevices = 30\n\
                partitions = 3\nmessages = 30000";
    let config = place.config(fast);
    assert_eq!(tidemill("run", &config, &[]).0, Some(0));
    let (status, said) = tidemill("verify", &config, &ALL);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("180 of 180 rows") && said.contains("180 equal"), "{said}");
}

#[test]
fn rows_of_an_input_that_ended_and_went_on_are_those_of_their_revision() {
    let place = Place::new();
    let config = place.run();
    // Backlog of windows that the first end has closed, and then a newer quarter of an hour.
    let first = fs::read_to_string(place.path("messages.ndjson")).expect("the messages");
    place.generate("later.ndjson", "2026-01-01T00:15:00Z");
    let later = fs::read_to_string(place.path("later.ndjson")).expect("the messages");
    let tail: String = first.lines().rev().take(3).map(|line| format!("{line}\n")).collect();
    let all = [first.as_str(), &tail, &later].concat();
    fs::write(place.path("messages.ndjson"), all).expect("written");
    assert_eq!(tidemill("run", &config, &[]).0, Some(0));
    let (status, said) = tidemill("verify", &config, &ALL);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("the input has ended once and went on later"), "{said}");
    assert!(said.contains("0 different, 0 not checkable"), "{said}");
}

#[test]
fn replay_names_rows_that_differ_are_missing_or_too_many_and_changes_nothing() {
    let place = Place::new();
    let config = place.run();
    let stored = fs::read(place.path("rows.db")).expect("the store");
    for _ in 0..2 {
        let (status, said) = tidemill("replay", &config, &["--diff"]);
        assert_eq!(status, Some(0), "{said}");
        let expected = "rows of pipeline \"proof\": 110 as their messages give them, 0 different";
        assert!(said.contains(expected), "{said}");
    }
    assert!(fs::read(place.path("rows.db")).expect("the store") == stored, "nothing is written");
    let span = ["--from", "2026-01-01T00:02:00Z", "--to", "2026-01-01T00:05:00Z"];
    let device = ["--diff", "--device", "sensor_003"];
    let (status, said) = tidemill("replay", &config, &[&device[..], &span].concat());
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains(": 3 as their messages give them"), "{said}");

    // A whole minute is gone, a mean has another bit, a device another name.
    place.damage("DELETE FROM sensors_rows WHERE time = 1767225600 + 120");
    let store = rusqlite::Connection::open(place.path("rows.db")).expect("the store's file");
    for statement in [
        "UPDATE sensors_rows SET humidity = humidity * 1.0000000000000002 \
         WHERE device_id = 'sensor_003' AND time = 1767225600 + 180",
        "UPDATE sensors_rows SET device_id = 'sensor_999' \
         WHERE device_id = 'sensor_004' AND time = 1767225600 + 240",
    ] {
        assert_eq!(store.execute(statement, []).expect(statement), 1);
    }
    let (status, said) = tidemill("replay", &config, &["--diff"]);
    assert_eq!(status, Some(1), "{said}");
    for line in [
        "DIFFERENCE: 2026-01-01 00:02:00 sensor_010: is not stored\n",
        "DIFFERENCE: 2026-01-01 00:03:00 sensor_003: humidity is ",
        "DIFFERENCE: 2026-01-01 00:04:00 sensor_004: is not stored\n",
        "DIFFERENCE: 2026-01-01 00:04:00 sensor_999: no message of the log is of this device",
        ": 98 as their messages give them, 13 different, 0 not checkable\n",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let (status, said) = tidemill("replay", &config, &[&device[..], &span].concat());
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains(": 1 as their messages give them, 2 different"), "{said}");
    fs::remove_file(place.path("messages.ndjson")).expect("removed");
    let (status, said) = tidemill("replay", &config, &["--diff"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("not checked: partition messages.ndjson: file "), "{said}");
}

#[test]
fn logs_of_merged_lanes_are_counted_and_their_rows_are_not_computed_again() {
    let place = Place::new();
    let messages = fs::read_to_string(place.path("messages.ndjson")).expect("the messages");
    let every_other = |first: usize| {
        let lines = messages.lines().skip(first).step_by(2);
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let paths = [place.path("a.ndjson"), place.path("b.ndjson")];
    fs::write(&paths[0], every_other(0)).expect("written");
    fs::write(&paths[1], every_other(1)).expect("written");
    let source = format!("[source.file]\npaths = {paths:?}\npartitions = \"per_file\"");
    let config = place.config(&format!("routing = \"any\"\n{source}"));
    assert_eq!(tidemill("run", &config, &[]).0, Some(0));
    let (status, said) = tidemill("verify", &config, &[]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("30000  proved\n"), "{said}");
    for (command, options) in
        [("verify", &["--sample", "5"][..]), ("replay", &["--diff"]), ("replay", &["--write"])]
    {
        let (status, said) = tidemill(command, &config, options);
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains("rows of merged lanes (routing = \"any\") are not"), "{said}");
    }
    // Two lines of a lane have become one.
    let joined = every_other(0).replacen('\n', " ", 1);
    fs::write(&paths[0], joined).expect("written");
    let (status, said) = tidemill("verify", &config, &[]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("the log holds 29999 messages up to the processed"), "{said}");
}

#[test]
fn rows_of_a_broker_are_computed_again_and_what_was_forged_is_named() {
    let _alone = alone();
    let content = Content { messages: 40_000, rate: 200, ratios: [0.002; 3] };
    let topic = Topic::new("verify", &content);
    let embedded = Job::new("verify_embedded", &topic, Store::Embedded);
    let mut run = embedded.start();
    embedded.until_done(&mut [&mut run]);
    run.terminate();
    let config = embedded.config("verify", None);
    let (status, said) = tidemill("verify", &config, &ALL);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("0 different, 0 not checkable"), "{said}");
    assert!(said.contains("entries  in the log  verdict"), "{said}");
    assert_eq!(said.matches("  proved\n").count(), PARTITIONS as usize, "{said}");

    let (status, said) = tidemill("replay", &config, &["--diff"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("0 different, 0 not checkable"), "{said}");

    // As if the lane had been born with entries that retention has taken since.
    let store = rusqlite::Connection::open(embedded.path()).expect("the store's file");
    let statement = "UPDATE sensors_commits SET birth_segment = 0";
    assert_eq!(store.execute(statement, []).expect(statement), PARTITIONS as usize);
    let (status, said) = tidemill("verify", &config, &ALL);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("the log begins at ") && said.contains("log in part"), "{said}");
    assert!(said.contains("the 0 messages before are held against the store alone"), "{said}");
    drop(store);

    let url = Version::Modern.url();
    let job = Job::new("verify_forged", &topic, Store::server(&url));
    let mut run = job.start();
    job.until_done(&mut [&mut run]);
    run.terminate();
    job.prove();
    forge(&job, &url);
}

/// Takes a commit out of the ring, then a row's place by one of the same revision.
fn forge(job: &Job<'_>, url: &str) {
    let (config, table) = (job.config("verify", None), job.table());
    let number = format!(
        "SELECT toString(max(commit_number) - 1) FROM {table}_commits WHERE partition = '2'"
    );
    let number = ask(url, &number).expect("the server answers");
    let forged = "WHERE source_partition = '1' ORDER BY time, device_id LIMIT 1";
    let names = format!("SELECT device_id FROM {table} {forged}");
    let device = ask(url, &names).expect("the server answers");
    for statement in [
        format!(
            "ALTER TABLE {table}_commits DELETE WHERE partition = '2' AND commit_number = {number} \
             SETTINGS mutations_sync = 2"
        ),
        format!(
            "INSERT INTO {table}_rows SELECT * REPLACE (temperature + 1 AS temperature) \
             FROM {table} {forged}"
        ),
    ] {
        ask(url, &statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    let said = until("the forgery is found", || {
        let (status, said) = tidemill("verify", &config, &ALL);
        (status == Some(1)).then_some(said)
    });
    assert!(said.contains(&format!("are gone: {number}\n")), "{said}");
    assert!(said.contains(&format!("{device}: temperature is ")), "{said}");
    assert!(said.contains(" 1 different, 0 not checkable"), "{said}");
    let (status, said) = tidemill("replay", &config, &["--write"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("\n1 rows written\n"), "{said}");
    let (status, said) = tidemill("replay", &config, &["--write"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("\n0 rows written\n"), "{said}");
}

//! The cut-over guide, block by block, on both ClickHouse servers: what docs/cut-over.md says is
//! what is run, and after each step readers see what it promises.

mod e2e;

use std::{fs, path::Path, process::Command};

use e2e::{
    TIDEMILL, root,
    services::{Version, ask},
};
use tempfile::TempDir;

/// An hour and a half of twenty devices.
const MINUTES: u64 = 90;
const DEVICES: u64 = 20;
/// 2026-01-01T00:30:00Z, as in the guide.
const SWITCH: &str = "toDateTime('2026-01-01 00:30:00')";

/// A block of the guide: its language and its lines.
fn blocks(guide: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut parts = guide.split("\n```");
    parts.next();
    while let (Some(block), Some(_)) = (parts.next(), parts.next()) {
        let (language, text) = block.split_once('\n').expect("a block has lines");
        found.push((language.to_owned(), text.to_owned()));
    }
    found
}

struct Guide {
    url: String,
    /// Takes the place of the guide's database, so that servers may be shared.
    database: String,
    directory: TempDir,
}

impl Guide {
    fn sql(&self, text: &str) -> Vec<String> {
        let text = text.replace("benchmark", &self.database);
        let statements = text.split(";\n").map(str::trim);
        let bare =
            |text: &&str| text.lines().any(|line| !line.starts_with("--") && !line.is_empty());
        let statements = statements.map(|text| text.trim_end_matches(';')).filter(bare);
        statements.map(|sql| self.ask(sql)).collect()
    }

    fn ask(&self, sql: &str) -> String {
        let sql = sql.replace("benchmark", &self.database);
        ask(&self.url, &sql).unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }

    /// Runs a line of a shell block; what it pipes to the client goes to the server.
    fn shell(&self, line: &str) -> (String, Vec<String>) {
        let (command, pipe) = line.split_once(" | ").unwrap_or((line, ""));
        assert!(pipe.is_empty() || pipe == "clickhouse-client -n", "{line}");
        let command = command.replace("benchmark", &self.database);
        let mut words = command.split(' ');
        assert_eq!(words.next(), Some("tidemill"), "{line}");
        let mut process = Command::new(TIDEMILL);
        let output = process.args(words).current_dir(self.directory.path()).output();
        let output = output.expect("tidemill can be run");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {said}{errors}");
        let answers = if pipe.is_empty() { Vec::new() } else { self.sql(&said) };
        (said, answers)
    }

    /// Writes a configuration with the guide's sink, and a file as the source.
    fn config(&self, sink: &str) {
        let file = self.directory.path().join("messages.ndjson");
        let count = (MINUTES * 60 * 10).to_string();
        let devices = DEVICES.to_string();
        let made = Command::new(TIDEMILL)
            .args(["generate", "--rate", "10", "--messages", &count, "--devices", &devices])
            .arg("--out")
            .arg(&file)
            .status();
        assert!(made.expect("tidemill can be run").success());
        let sink = sink.replace("benchmark", &self.database);
        let sink = sink.replace("http://127.0.0.1:8123", &self.url);
        let text = format!(
            "[pipeline]\nname = \"sensors\"\n[source.file]\npaths = [{file:?}]\n\
             [schema]\npreset = \"sensor\"\n[http]\nenabled = false\n{sink}"
        );
        let path = self.directory.path().join("sensors.toml");
        fs::write(path, text).expect("the configuration is written");
    }

    /// What the old job would have written: the same rows at its own clock, one of them twice, and
    /// none of one device.
    fn run_old_job(&self) {
        let row = "time + 2, device_id, ifNull(temperature, 0), ifNull(humidity, 0), \
                   ifNull(battery_level, 0), ifNull(error_count, 0), ifNull(packets_sent, 0), \
                   'flink'";
        let insert = "INSERT INTO benchmark.sensors_local SELECT";
        let from = "FROM benchmark.sensors WHERE device_id != 'sensor_007'";
        self.ask(&format!("{insert} {row} {from}"));
        self.ask(&format!("{insert} {row} {from} AND device_id = 'sensor_003'"));
        // And long before the new job.
        self.ask(&format!(
            "{insert} toDateTime('2025-12-31 12:00:00'), 'sensor_001', 1, 2, 3, 4, 5, 'flink'"
        ));
    }
}

fn follow(version: Version) {
    let database = format!("cut_over_{}", std::process::id());
    let directory = tempfile::tempdir().expect("a temporary folder");
    let guide = Guide { url: version.url(), database, directory };
    guide.ask("DROP DATABASE IF EXISTS benchmark");
    guide.ask("CREATE DATABASE benchmark");
    let text = fs::read_to_string(root().join("docs/cut-over.md")).expect("the guide");
    let current = "SELECT count() FROM benchmark.sensors_local_current";
    let mut parts = Vec::new();
    for (language, text) in blocks(&text) {
        match language.as_str() {
            "toml" => guide.config(&text),
            "sql" => drop(guide.sql(&text)),
            "sh" => text.lines().for_each(|line| {
                let (said, answers) = guide.shell(line);
                if line.starts_with("tidemill run") {
                    guide.run_old_job();
                }
                if line.starts_with("tidemill check") {
                    assert!(!said.contains("error  "), "{said}");
                }
                if let Some((_, part)) = line.split_once("--part ") {
                    let part = part.split(' ').next().unwrap_or_default().to_owned();
                    check_part(&guide, &part, &answers);
                    parts.push(part);
                }
            }),
            other => panic!("a block of {other}"),
        }
        if parts.len() == 1 {
            assert_eq!(
                guide.ask(current),
                guide.ask("SELECT count() FROM benchmark.sensors_local")
            );
        }
    }
    assert_eq!(parts, ["beside", "compare", "switch", "back", "switch", "finish"]);
    let [new, name] = ["sensors", "sensors_local"]
        .map(|table| guide.ask(&format!("SELECT count() FROM benchmark.{table}")));
    assert_eq!(new, name);
    guide.ask("DROP DATABASE benchmark");
}

fn check_part(guide: &Guide, part: &str, answers: &[String]) {
    let count = |sql: &str| -> u64 { guide.ask(sql).parse().expect("a number") };
    let view = "FROM benchmark.sensors_local_current";
    let only_old = |at: &str| {
        assert_eq!(
            count(&format!("SELECT count() {view} WHERE device_id = 'sensor_007'")),
            0,
            "{at}"
        );
    };
    let both = |view: &str| {
        // The device that the old job lost is there from the switch time on, and what the old job
        // wrote twice is there once.
        let first = format!("SELECT toString(min(time)) {view} WHERE device_id = 'sensor_007'");
        assert_eq!(guide.ask(&first), "2026-01-01 00:30:00");
        let since = format!("SELECT count() {view} WHERE time >= {SWITCH}");
        let new = format!("SELECT count() FROM benchmark.sensors WHERE time >= {SWITCH}");
        assert_eq!(count(&since), count(&new));
        let twice = format!("{since} AND device_id = 'sensor_003'");
        let once = format!("{new} AND device_id = 'sensor_003'");
        assert_eq!(count(&twice), count(&once));
        let oldest = guide.ask(&format!("SELECT toString(min(time)) {view}"));
        assert_eq!(oldest, "2025-12-31 12:00:00");
    };
    match part {
        "beside" => only_old(part),
        "compare" => {
            let [by_minute, keys, means] = answers else { panic!("{answers:?}") };
            // An hour of whole minutes, in each: all devices, less the lost one, and one twice.
            assert_eq!(by_minute.lines().count(), 60, "{by_minute}");
            assert!(by_minute.lines().all(|line| line.ends_with("\t20\t20")), "{by_minute}");
            assert_eq!(keys, "sensor_007\t0\t60");
            let temperature = means.lines().find(|line| line.starts_with("temperature\t"));
            let temperature = temperature.unwrap_or_else(|| panic!("{means}"));
            let numbers: Vec<f64> =
                temperature.split('\t').skip(1).map(|n| n.parse().expect("a number")).collect();
            assert!(numbers[0] > 0.0 && numbers[2].abs() < 0.05, "{temperature}");
            assert!(!means.contains("inserted_by") && means.contains("error_count"), "{means}");
        }
        "back" => only_old(part),
        "switch" => both(view),
        "finish" => {
            both("FROM benchmark.sensors_local");
            both(view);
        }
        other => panic!("{other}"),
    }
}

#[test]
fn guide_leads_from_the_old_table_to_the_new_one_on_18_16() {
    follow(Version::Old);
}

#[test]
fn guide_leads_from_the_old_table_to_the_new_one_on_26_9() {
    follow(Version::Modern);
}

#[test]
fn old_table_has_to_be_there_and_another_one() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let path = directory.path().join("sensors.toml");
    let url = Version::Old.url();
    let text = format!(
        "[pipeline]\nname = \"sensors\"\n[source.generate]\n[schema]\npreset = \"sensor\"\n\
         [sink.clickhouse]\nurl = \"{url}\"\ntable = \"benchmark.sensors\"\n"
    );
    fs::write(&path, text).expect("the configuration is written");
    for (old, expected) in [
        ("benchmark.sensors", "needs a name of its own"),
        ("benchmark.nobody", "benchmark.nobody is not there"),
        ("system.tables", "column \"device_id\" is missing"),
        ("a.b.c", "must be database.table"),
    ] {
        let said = migrate(&path, old);
        assert!(said.contains(expected), "{old}: {said}");
    }
}

fn migrate(config: &Path, old: &str) -> String {
    let mut command = Command::new(TIDEMILL);
    let output = command.arg("ddl").arg(config).args(["--migrate", old]).output();
    let output = output.expect("tidemill can be run");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

//! The commands as a user meets them: what they print, how they end, what they say is wrong.

mod e2e;

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, UNIX_EPOCH},
};

use e2e::{
    TIDEMILL, alone,
    job::Run,
    place::{Place, text, tidemill},
    until,
};

/// Messages of the file that most tests read: two minutes and a half of ten devices.
const MESSAGES: usize = 15_000;

fn new_place() -> Place {
    Place::of_messages(MESSAGES, &["--rate", "100", "--devices", "10"])
}

impl Place {
    /// Writes a configuration that reads the file into a sink.
    fn config(&self, sink: &str) -> PathBuf {
        let source = format!("[source.file]\npaths = [{:?}]", self.path("messages.ndjson"));
        self.config_of(&source, sink, "enabled = false")
    }

    fn config_of(&self, source: &str, sink: &str, http: &str) -> PathBuf {
        let text = format!(
            "[pipeline]\nname = \"cli\"\n{source}\n[schema]\npreset = \"sensor\"\n{sink}\n\
             [http]\n{http}\n"
        );
        let path = self.path("tidemill.toml");
        fs::write(&path, text).expect("the configuration is written");
        path
    }

    fn embedded(&self) -> String {
        format!("[sink.embedded]\npath = {:?}\ntable = \"sensors\"", self.path("rows.db"))
    }
}

#[test]
fn check_and_run_name_the_nearest_key() {
    let place = new_place();
    let config = place.config(&place.embedded());
    let good = tidemill("check", &config, &[]);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    assert!(text(&good.stdout).contains("ok: pipeline \"cli\", source file, sink embedded"));
    let bad = fs::read_to_string(&config)
        .expect("the configuration")
        .replace("[http]\n", "[http]\nlisen = 1\n");
    fs::write(&config, bad).expect("the configuration is written");
    for command in ["check", "run"] {
        let output = tidemill(command, &config, &[]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        let expected = "key \"http.lisen\" is unknown; did you mean \"http.listen\"?";
        assert!(said.contains(expected) && said.contains("tidemill.toml:"), "{command}: {said}");
    }
    assert!(!place.path("rows.db").exists(), "nothing is made of a wrong configuration");
}

#[test]
fn busy_port_ends_a_run_and_only_warns_in_the_demo() {
    let _alone = alone();
    let place = new_place();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    let source = format!("[source.file]\npaths = [{:?}]", place.path("messages.ndjson"));
    let http = format!("listen = \"{address}\"");
    let config = place.config_of(&source, &place.embedded(), &http);
    let output = tidemill("run", &config, &[]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("http.listen = \"{address}\"")), "{said}");
    assert!(said.contains("write another address"), "{said}");
    // The demo has the default address; it is taken by us or by somebody else.
    let _taken = TcpListener::bind("127.0.0.1:8787");
    let demo = Command::new(TIDEMILL)
        .args(["demo", "--for", "1s", "--rate", "1000", "--path"])
        .arg(place.path("demo.db"))
        .output()
        .expect("tidemill can be run");
    let said = text(&demo.stderr);
    assert_eq!(demo.status.code(), Some(0), "{said}");
    assert!(said.contains("WARN") && said.contains("no http endpoint"), "{said}");
}

#[test]
fn health_readiness_and_metrics_answer() {
    let place = new_place();
    let source = "[source.generate]\npace = \"real\"\nrate_per_s = 1000\nbackfill = \"2m\"";
    let config = place.config_of(source, &place.embedded(), "listen = \"127.0.0.1:0\"");
    let mut run = Run::start(&[Path::new("run"), &config], &place.path("run.log"));
    run.until_logged("window closed");
    let logged = run.logged();
    let address = logged.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let address = address.unwrap_or_else(|| panic!("no address in {logged}"));
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let get = |path: &str| {
        let answer = agent.get(format!("http://{address}{path}")).call();
        let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        let status = answer.status().as_u16();
        (status, answer.into_body().read_to_string().expect("a text"))
    };
    assert_eq!(get("/healthz"), (200, "ok\n".to_owned()));
    until("readiness", || {
        let (status, text) = get("/readyz");
        assert!(status == 200 || (status == 503 && text.contains("partition 0: not reading")));
        (status == 200 && text == "ready, 1 lanes\n").then_some(())
    });
    let value = |metrics: &str, name: &str| -> f64 {
        let line = metrics.lines().find(|line| line.split([' ', '{']).next() == Some(name));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {metrics}"))
    };
    until("two minutes in the metrics", || {
        let (_, metrics) = get("/metrics");
        let rows = value(&metrics, "tidemill_rows_total");
        let messages = value(&metrics, "tidemill_messages_total");
        (rows >= 1_000.0 && messages >= 100_000.0).then_some(())
    });
    until("all that was received is processed", || {
        let (_, metrics) = get("/metrics");
        let queue = ["tidemill_queue_messages", "tidemill_queue_bytes"];
        queue.iter().all(|name| value(&metrics, name) == 0.0).then_some(())
    });
    let (_, metrics) = get("/metrics");
    let started_at_s = value(&metrics, "process_start_time_seconds");
    let committed_at_s = value(&metrics, "tidemill_lane_commit_timestamp_seconds");
    assert!((-2.0..600.0).contains(&(committed_at_s - started_at_s)), "{metrics}");
    assert!(value(&metrics, "tidemill_store_busy_seconds_total") > 0.0, "{metrics}");
    assert!(value(&metrics, "tidemill_lane_failed") == 0.0, "{metrics}");
    run.terminate();
}

#[test]
fn second_interrupt_ends_at_once() {
    let place = new_place();
    let source = "[source.generate]\npace = \"real\"\nrate_per_s = 1000\nbackfill = \"2m\"";
    let sink = format!("{}\nbusy_timeout = \"1m\"", place.embedded());
    let config = place.config_of(source, &sink, "enabled = false");
    let mut run = Run::start(&[Path::new("run"), &config], &place.path("run.log"));
    run.until_logged("window closed");
    // Somebody holds the file, so the drain cannot end.
    let other = rusqlite::Connection::open(place.path("rows.db")).expect("the store's file");
    until("the lock", || other.execute_batch("BEGIN IMMEDIATE").ok());
    run.signal("INT");
    run.until_logged("draining");
    run.must_run();
    let second_at = Instant::now();
    run.signal("INT");
    let status = run.until_ended();
    assert_eq!(status.code(), Some(130), "{}", run.logged());
    assert!(second_at.elapsed().as_secs_f64() < 2.0, "{:?}", second_at.elapsed());
}

#[test]
fn orderly_end_waits_for_the_store_no_longer_than_it_may() {
    let place = new_place();
    let source = "[source.generate]\npace = \"real\"\nrate_per_s = 1000\nbackfill = \"2m\"";
    let sink = format!("{}\nbusy_timeout = \"100ms\"", place.embedded());
    let more = "enabled = false\n[limits]\ndrain_timeout = \"300ms\"";
    let config = place.config_of(source, &sink, more);
    let mut run = Run::start(&[Path::new("run"), &config], &place.path("run.log"));
    run.until_logged("window closed");
    let other = rusqlite::Connection::open(place.path("rows.db")).expect("the store's file");
    until("the lock", || other.execute_batch("BEGIN IMMEDIATE").ok());
    let asked_at = Instant::now();
    run.terminate();
    assert!(asked_at.elapsed() < Duration::from_secs(10), "{:?}", asked_at.elapsed());
    assert!(run.logged().contains("stopped before the store answered"), "{}", run.logged());
    drop(other);
    // The next start reads that part again.
    let verified = tidemill("verify", &config, &[]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stdout));
}

#[test]
fn one_thread_for_all_lanes_and_more_threads_than_lanes_give_the_same_rows() {
    let rows = |threads: &str| {
        let place = new_place();
        let source = format!(
            "worker_threads = {threads}\n[source.generate]\npace = \"fast\"\n\
             rate_per_s = 100\ndevices = 30\npartitions = 3\nmessages = 30000"
        );
        let config = place.config_of(&source, &place.embedded(), "enabled = false");
        let run = tidemill("run", &config, &[]);
        assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
        let rows = tidemill("query", &config, &["--limit", "1000"]);
        text(&rows.stdout)
    };
    let one = rows("1");
    assert!(one.ends_with("\n180 rows\n"), "{one}");
    assert_eq!(one, rows("16"));
}

#[test]
fn demo_shows_what_came_of_it() {
    let _alone = alone();
    let place = new_place();
    let path = place.path("demo.db");
    let demo = Command::new(TIDEMILL)
        .args(["demo", "--for", "5s", "--path"])
        .arg(&path)
        .output()
        .expect("tidemill can be run");
    let (said, logged) = (text(&demo.stdout), text(&demo.stderr));
    assert_eq!(demo.status.code(), Some(0), "{said}{logged}");
    for part in ["messages/s\n", "rows/s, ", " % fewer writes", "The last rows of sensor_001"] {
        assert!(said.contains(part), "{part:?}: {said}{logged}");
    }
    assert!(said.contains("proved") && !said.contains("DIFFERENCE"), "{said}");
    assert!(said.contains(&format!("sqlite3 {}", path.display())), "{said}");
    let line = said.lines().find(|line| line.ends_with("fewer writes")).expect("checked above");
    let percent = line
        .split([' ', ','])
        .find_map(|word| word.parse::<f64>().ok().filter(|p| *p > 90.0 && *p < 100.0));
    assert!(percent.is_some(), "a reduction like that of the sensor job: {line}");
    let rows: i64 = rusqlite::Connection::open(&path)
        .and_then(|store| store.query_row("SELECT count(*) FROM sensors", [], |row| row.get(0)))
        .expect("the demo's file can be looked into");
    assert!(line.starts_with(&format!("{rows} rows:")), "{rows}: {line}");
}

#[test]
fn query_prints_rows_and_dead_letters() {
    let place = new_place();
    let config = place.config(&place.embedded());
    let run = tidemill("run", &config, &[]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let columns = "time,device_id,record_count,temperature";
    let options = ["--device", "sensor_003", "--columns", columns, "--limit", "2"];
    let said = text(&tidemill("query", &config, &options).stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 4, "{said}");
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        columns.split(',').collect::<Vec<_>>()
    );
    assert!(lines[1..3].iter().all(|line| line.contains("sensor_003")), "{said}");
    assert_eq!(lines[3], "2 rows");
    let letters = text(&tidemill("query", &config, &["--dead-letters", "--reason", "late"]).stdout);
    assert!(letters.contains("late") && letters.contains("payload"), "{letters}");
    assert!(!letters.contains("malformed"), "{letters}");
    let wrong = tidemill("query", &config, &["--dead-letters", "--reason", "early"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("write one of empty, too_large"));
}

#[test]
fn publish_time_of_a_file_is_its_modification_time() {
    let place = new_place();
    let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    let file = fs::File::open(place.path("messages.ndjson")).expect("the messages");
    file.set_modified(at).expect("the file is ours");
    let sink = format!("{}\n[window]\ntime = \"publish\"", place.embedded());
    let config = place.config(&sink);
    assert_eq!(tidemill("run", &config, &[]).status.code(), Some(0));
    let rows = tidemill("query", &config, &["--device", "sensor_001"]);
    let rows = text(&rows.stdout);
    assert!(rows.contains("2023-11-14 22:14:00"), "{rows}");
    assert!(rows.contains("2023-11-14 22:13:20.123"), "{rows}");
    assert_eq!(rows.matches("sensor_001").count(), 1, "{rows}");
    let verified = tidemill("verify", &config, &["--store-only"]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stdout));
}

#[test]
fn run_without_a_partition_is_healthy_and_not_ready() {
    let place = new_place();
    // Nobody listens there: a port that was ours a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|taken| taken.local_addr());
    let port = port.expect("bound").port();
    let source = format!("[source.pulsar]\nurl = \"pulsar://127.0.0.1:{port}\"\ntopic = \"t\"");
    let config = place.config_of(&source, &place.embedded(), "listen = \"127.0.0.1:0\"");
    let mut run = Run::start(&[Path::new("run"), &config], &place.path("run.log"));
    run.until_logged("started");
    let logged = run.logged();
    let address = logged.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let address = address.unwrap_or_else(|| panic!("no address in {logged}"));
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let get = |path: &str| {
        let answer = agent.get(format!("http://{address}{path}")).call();
        let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        let status = answer.status().as_u16();
        (status, answer.into_body().read_to_string().expect("a text"))
    };
    assert_eq!(get("/healthz").0, 200);
    assert_eq!(get("/readyz"), (503, "no partition is assigned yet\n".to_owned()));
}

#[test]
fn device_on_two_partitions_is_told_by_the_run_and_by_verify() {
    let place = new_place();
    let messages = fs::read_to_string(place.path("messages.ndjson")).expect("the messages");
    let of = |device: &str| {
        let lines = messages.lines().filter(|line| line.contains(device));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    fs::write(place.path("a.ndjson"), of("sensor_001") + &of("sensor_002")).expect("a file");
    fs::write(place.path("b.ndjson"), of("sensor_002") + &of("sensor_003")).expect("a file");
    let paths = [place.path("a.ndjson"), place.path("b.ndjson")];
    let source = format!("[source.file]\npaths = {paths:?}\npartitions = \"per_file\"");
    let config = place.config_of(&source, &place.embedded(), "enabled = false");
    let run = tidemill("run", &config, &[]);
    let logged = text(&run.stderr);
    assert_eq!(run.status.code(), Some(0), "{logged}");
    assert_eq!(logged.matches("a device is on two partitions").count(), 1, "{logged}");
    assert!(logged.contains("device=\"sensor_002\""), "{logged}");
    let verified = text(&tidemill("verify", &config, &[]).stdout);
    assert!(verified.contains("\n1 devices have rows of several partitions"), "{verified}");
    fs::remove_file(place.path("rows.db")).expect("the store");
    fs::write(place.path("b.ndjson"), of("sensor_003")).expect("a file");
    let run = tidemill("run", &config, &[]);
    assert!(!text(&run.stderr).contains("two partitions"), "{}", text(&run.stderr));
    let verified = text(&tidemill("verify", &config, &[]).stdout);
    assert!(!verified.contains("several partitions"), "{verified}");
}

#[test]
fn verify_tells_proved_different_and_unchecked_apart() {
    let place = new_place();
    let config = place.config(&place.embedded());
    let missing = tidemill("verify", &config, &[]);
    assert_eq!(missing.status.code(), Some(2), "no store: {}", text(&missing.stderr));
    let run = tidemill("run", &config, &[]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let proved = tidemill("verify", &config, &[]);
    assert_eq!(proved.status.code(), Some(0), "{}", text(&proved.stdout));
    assert!(text(&proved.stdout).contains("proved"), "{}", text(&proved.stdout));
    let store = rusqlite::Connection::open(place.path("rows.db")).expect("the store's file");
    let damage = |statement: &str| assert!(store.execute(statement, []).expect(statement) > 0);
    damage(
        "DELETE FROM sensors_rows WHERE device_id = 'sensor_004' \
         AND time = (SELECT min(time) FROM sensors_rows)",
    );
    let different = tidemill("verify", &config, &[]);
    let said = text(&different.stdout);
    assert_eq!(different.status.code(), Some(1), "{said}");
    assert!(said.contains("DIFFERENCE: messages in closed rows"), "{said}");
    for table in ["sensors_rows", "sensors_commits", "sensors_dead_letters"] {
        damage(&format!("DELETE FROM {table}"));
    }
    let empty = tidemill("verify", &config, &[]);
    assert_eq!(empty.status.code(), Some(2), "{}", text(&empty.stdout));
}

#[test]
fn stdout_sink_prints_a_line_of_json_for_each_row() {
    let place = new_place();
    let config = place.config("[sink.stdout]");
    let output = tidemill("run", &config, &[]);
    let logged = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{logged}");
    let rows: Vec<serde_json::Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let letters: Vec<serde_json::Value> = logged
        .lines()
        .filter(|line| line.starts_with("{\"dead_letter\""))
        .map(|line| serde_json::from_str(line).expect("a letter is JSON"))
        .collect();
    let count: u64 =
        rows.iter().map(|row| row["record_count"].as_u64().expect("a count in each row")).sum();
    assert!(rows.len() >= 30 && !letters.is_empty(), "{} rows, {}", rows.len(), letters.len());
    assert_eq!(count + letters.len() as u64, MESSAGES as u64, "nothing is lost");
    std::io::stdout().flush().expect("standard output");
}

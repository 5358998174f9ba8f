//! The job on two replicas of ClickHouse 18.16 with ZooKeeper: the tables are made by the printed
//! statements, one replica is written through, and both have each row once, whoever dies.

mod e2e;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use e2e::{
    TIDEMILL,
    job::Run,
    services::{
        ask,
        clickhouse_replicas::{CLUSTER, Replicas},
    },
    until,
};
use tempfile::TempDir;

/// Forty minutes of fifty devices.
const MESSAGES: u64 = 120_000;
const ROWS: &str = "SELECT count(), uniqExact(device_id), sum(record_count), \
                    sum(cityHash64(time, device_id, temperature, record_count, revision))";

struct Place {
    directory: TempDir,
    url: String,
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a configuration that reads the file into `table` of the cluster.
    fn config(&self, table: &str, more: &str) -> PathBuf {
        let (url, file) = (&self.url, self.path("messages.ndjson"));
        let text = format!(
            "[pipeline]\nname = \"replicated\"\n[source.file]\npaths = [{file:?}]\n\
             [schema]\npreset = \"sensor\"\n[http]\nenabled = false\n\
             [limits]\nqueue_bytes_max = \"1MiB\"\n\
             [sink.clickhouse]\nurl = \"{url}\"\ntable = \"{table}\"\n{more}"
        );
        let path = self.path(&format!("{table}.toml"));
        fs::write(&path, text).expect("the configuration is written");
        path
    }
}

fn tidemill(arguments: &[&str]) -> String {
    let output = Command::new(TIDEMILL).args(arguments).output().expect("tidemill can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Messages of a file, and configurations of tables that are replicated and of plain ones.
fn prepare(url: &str) -> (Place, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let place = Place { directory, url: url.to_owned() };
    let file = place.path("messages.ndjson");
    let count = MESSAGES.to_string();
    let file = file.to_str().expect("a path of letters");
    tidemill(&["generate", "--messages", &count, "--rate", "50", "--devices", "50", "--out", file]);
    let config = place.config("benchmark.sensors_local", &sink_lines(CLUSTER));
    let plain = place.config("benchmark.other", "");
    (place, config, plain)
}

fn sink_lines(cluster: &str) -> String {
    format!(
        "engine = \"replicated\"\ncluster = \"{cluster}\"\ncreate = false\n\
         insert_timeout = \"8s\"\n"
    )
}

/// Makes the tables by the printed statements, through one server.
fn make_tables(url: &str, config: &Path, plain: &Path) {
    let [config, plain] = [config, plain].map(|path| path.to_str().expect("a path of letters"));
    let replicated = ["--dialect", "legacy", "--engine", "replicated", "--cluster", CLUSTER];
    let by_options = tidemill(&[&["ddl", plain], &replicated[..]].concat());
    let printed = tidemill(&["ddl", config, "--dialect", "legacy"]);
    assert_eq!(by_options.replace("other", "sensors_local"), printed);
    for statement in printed.split(";\n").map(str::trim).filter(|text| !text.is_empty()) {
        ask(url, statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

/// The check knows the tables, and names a cluster that is not there.
fn check(place: &Place, config: &Path) {
    let said = tidemill(&["check", config.to_str().expect("a path of letters"), "--connect"]);
    assert!(said.contains(&format!("the server knows cluster {CLUSTER:?}")), "{said}");
    assert!(said.contains("may SELECT and INSERT") && !said.contains("error  "), "{said}");
    let elsewhere = place.config("benchmark.elsewhere", &sink_lines("other"));
    let output = Command::new(TIDEMILL).arg("check").arg(elsewhere).arg("--connect").output();
    let output = output.expect("tidemill can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the server knows no cluster \"other\", only [main]"), "{said}");
}

#[test]
fn both_replicas_have_each_row_once_whoever_is_killed() {
    let cluster = Replicas::start(1, 2);
    let urls = [cluster.server(0).url().to_owned(), cluster.server(1).url().to_owned()];
    let (place, config, plain) = prepare(&urls[0]);
    make_tables(&urls[0], &config, &plain);
    for url in &urls {
        let sql = "SELECT count() FROM system.tables WHERE database = 'benchmark'";
        assert_eq!(ask(url, sql).as_deref(), Ok("5"));
    }
    check(&place, &config);

    let committed = || {
        let sql = "SELECT max(messages) FROM benchmark.sensors_local_commits";
        ask(&urls[0], sql).ok().and_then(|count| count.parse::<u64>().ok()).unwrap_or(0)
    };
    // The process dies, then the other replica, then the one that is written through.
    let log = |number: usize| place.path(&format!("{number}.log"));
    let mut run = start(&config, &log(0));
    until("a first commit", || (committed() > 0).then_some(()));
    run.kill();
    let after_kill = committed();
    assert!(after_kill < MESSAGES, "the job was done before it was killed");
    let mut run = start(&config, &log(1));
    for replica in [1, 0] {
        let before = committed();
        until("more commits", || (committed() > before).then_some(()));
        cluster.server(replica).kill();
        run.until_logged("store failed, repeating");
        cluster.server(replica).up();
    }
    assert!(run.until_ended().success(), "{}", run.logged());

    let answers: Vec<String> = urls
        .iter()
        .map(|url| {
            let shard = format!("{ROWS} FROM benchmark.sensors_local_rows_shard FINAL");
            let view = format!("{ROWS} FROM benchmark.sensors_local");
            let [shard, view] = [shard, view].map(|sql| ask(url, &sql).expect("an answer"));
            assert_eq!(shard, view);
            view
        })
        .collect();
    assert_eq!(answers[0], answers[1]);
    let sum = format!("\t50\t{MESSAGES}\t");
    assert!(answers[0].contains(&sum), "{sum:?} is not in {:?}", answers[0]);
    let config = config.to_str().expect("a path of letters");
    assert!(tidemill(&["verify", config]).contains("proved"));

    // The same messages into tables of one server: the same rows, bit for bit.
    start(&plain, &log(2)).until_ended();
    let alone = ask(&urls[0], &format!("{ROWS} FROM benchmark.other")).expect("an answer");
    assert_eq!(alone, answers[0]);
}

fn start(config: &Path, log: &Path) -> Run {
    Run::start(&[Path::new("run"), config], log)
}

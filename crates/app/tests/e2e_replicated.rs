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

#[test]
fn both_replicas_have_each_row_once_whoever_is_killed() {
    let cluster = Replicas::start(1, 2);
    let urls = [cluster.server(0).url().to_owned(), cluster.server(1).url().to_owned()];
    let directory = tempfile::tempdir().expect("a temporary folder");
    let place = Place { directory, url: urls[0].clone() };
    let file = place.path("messages.ndjson");
    let count = MESSAGES.to_string();
    let file = file.to_str().expect("a path of letters");
    tidemill(&["generate", "--messages", &count, "--rate", "50", "--devices", "50", "--out", file]);

    // The printed statements make everything on both; then `create` has nothing to do.
    let replicated = format!(
        "engine = \"replicated\"\ncluster = \"{CLUSTER}\"\ncreate = false\ninsert_timeout = \"8s\"\n"
    );
    let config = place.config("benchmark.sensors_local", &replicated);
    let plain = place.config("benchmark.other", "");
    let config_path = config.to_str().expect("a path of letters");
    let by_options = tidemill(&[
        "ddl",
        plain.to_str().expect("a path of letters"),
        "--dialect",
        "legacy",
        "--engine",
        "replicated",
        "--cluster",
        CLUSTER,
    ]);
    let printed = tidemill(&["ddl", config_path, "--dialect", "legacy"]);
    assert_eq!(by_options.replace("other", "sensors_local"), printed);
    for statement in printed.split(";\n").map(str::trim).filter(|text| !text.is_empty()) {
        ask(&urls[0], statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    for url in &urls {
        let sql = "SELECT count() FROM system.tables WHERE database = 'benchmark'";
        assert_eq!(ask(url, sql).as_deref(), Ok("5"));
    }

    let said = tidemill(&["check", config_path, "--connect"]);
    assert!(said.contains(&format!("the server knows cluster {CLUSTER:?}")), "{said}");
    assert!(said.contains("may SELECT and INSERT") && !said.contains("error  "), "{said}");
    let elsewhere = place.config("benchmark.elsewhere", &replicated.replace(CLUSTER, "other"));
    let output = Command::new(TIDEMILL).arg("check").arg(elsewhere).arg("--connect").output();
    let output = output.expect("tidemill can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the server knows no cluster \"other\", only [main]"), "{said}");

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
    assert!(tidemill(&["verify", config_path]).contains("proved"));

    // The same messages into tables of one server: the same rows, bit for bit.
    start(&plain, &log(2)).until_ended();
    let alone = ask(&urls[0], &format!("{ROWS} FROM benchmark.other")).expect("an answer");
    assert_eq!(alone, answers[0]);
}

fn start(config: &Path, log: &Path) -> Run {
    Run::start(&[Path::new("run"), config], log)
}

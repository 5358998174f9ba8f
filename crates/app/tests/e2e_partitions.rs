//! A topic that grows while the job runs: the whole program on a real broker, no restart.

#![expect(clippy::unwrap_used, reason = "a helper of the tests fails the test")]

#[path = "../../../tests/service/pulsar.rs"]
mod service;

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, Output},
    thread,
    time::{Duration, Instant},
};

use service::Pulsar;

const PATIENCE: Duration = Duration::from_secs(120);
const MESSAGES: u64 = 4_000;

/// Ends with the test, however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tidemill(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidemill")).args(arguments).output().unwrap()
}

fn generate(broker: &Pulsar, topic: &str, seed: &str) {
    let messages = MESSAGES.to_string();
    let to = ["--pulsar", &broker.url, "--topic", topic, "--batch-messages", "100"];
    let what = ["generate", "--messages", &messages, "--seed", seed];
    let output = tidemill(&[&what[..], &to].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Waits until `verify` proves a ledger; returns the messages of each partition.
fn proved(config: &str, messages: u64) -> BTreeMap<String, u64> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let output = tidemill(&["verify", config]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let ledger: BTreeMap<String, u64> = said
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let (partition, count) = (words.next()?, words.next()?);
                partition.parse::<u32>().ok()?;
                Some((partition.to_owned(), count.parse().ok()?))
            })
            .collect();
        if output.status.success() && ledger.values().sum::<u64>() == messages {
            return ledger;
        }
        assert!(Instant::now() < deadline, "{said}{}", String::from_utf8_lossy(&output.stderr));
        thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn partitions_added_while_the_job_runs_are_read_from_their_start() {
    let broker = Pulsar::start(Path::new(env!("CARGO_TARGET_TMPDIR")), "pulsar-partitions");
    let directory = tempfile::tempdir().unwrap();
    let topic = format!("persistent://public/default/grows-{}", std::process::id());
    let partitions = |count: u32| {
        let path = topic.replace("://", "/");
        let url = format!("{}/admin/v2/{path}/partitions", broker.admin);
        let deadline = Instant::now() + PATIENCE;
        let ask = || {
            let request = if count == 2 { ureq::put(&url) } else { ureq::post(&url) };
            request.header("content-type", "application/json").send(count.to_string())
        };
        // Right behind its start the broker may have nobody yet who keeps its ledgers.
        while let Err(error) = ask() {
            assert!(Instant::now() < deadline, "{url}: {error}");
            thread::sleep(Duration::from_millis(300));
        }
    };
    let config = directory.path().join("job.toml");
    let text = format!(
        "[pipeline]\nname = \"grows\"\ncommit_interval = \"200ms\"\n\
         [source.pulsar]\nurl = \"{}\"\ntopic = \"{topic}\"\nstart = \"latest\"\n\
         discovery_interval = \"3s\"\n\
         [sink.embedded]\npath = \"{}\"\n[schema]\npreset = \"sensor\"\n\
         [window]\nsize = \"1m\"\n[http]\nenabled = false\n",
        broker.url,
        directory.path().join("rows.db").display(),
    );
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    partitions(2);
    let job = Command::new(env!("CARGO_BIN_EXE_tidemill")).args(["run", config]).spawn().unwrap();
    let job = Running(job);
    // The job starts behind the newest message: its subscriptions have to be there first.
    let deadline = Instant::now() + PATIENCE;
    for number in 0..2 {
        let path = topic.replace("://", "/");
        let url = format!("{}/admin/v2/{path}-partition-{number}/subscriptions", broker.admin);
        let subscribed = || {
            let answer = ureq::get(&url).call().and_then(|mut a| a.body_mut().read_to_string());
            answer.is_ok_and(|text| text.contains("tidemill"))
        };
        while !subscribed() {
            assert!(Instant::now() < deadline, "partition {number} has no subscription");
            thread::sleep(Duration::from_millis(100));
        }
    }
    generate(&broker, &topic, "1");
    let before = proved(config, MESSAGES);
    assert!(before.keys().eq(["0", "1"]), "{before:?}");
    partitions(4);
    // Most likely stored before the job has found the new partitions, and read all the same.
    generate(&broker, &topic, "2");
    let after = proved(config, 2 * MESSAGES);
    assert!(after.keys().eq(["0", "1", "2", "3"]), "{after:?}");
    assert!(after["2"] > 0 && after["3"] > 0 && after["0"] > before["0"], "{after:?}");
    drop(job);
}

//! The fault matrix: a topic with a known content is read into each store while something dies.
//! Behind every fault the ledger balances and all rows and letters are the oracle's, bit for bit.
//!
//! Which moments are chosen follows from a seed, `TIDEMILL_E2E_SEED`.

mod e2e;

use std::{
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use e2e::{
    Random, alone,
    job::{Job, Store},
    proxy::{Cut, Proxy},
    services::{Version, admin_put, kill_broker, start_broker_again},
    topic::{Content, PARTITIONS, Topic},
    until,
};

/// The topic that all jobs of this program read.
fn topic() -> &'static Topic {
    static TOPIC: OnceLock<Topic> = OnceLock::new();
    TOPIC.get_or_init(|| {
        let content = Content { messages: 400_000, rate: 1_200, ratios: [0.001, 0.001, 0.000_1] };
        Topic::new("faults", &content)
    })
}

/// Returns a job of that name for each store; none of them is used by anybody else.
fn jobs(fault: &str) -> [Job<'static>; 3] {
    let server = |version: Version| Store::server(version.own().url());
    [
        Job::new(&format!("{fault}_embedded"), topic(), Store::Embedded),
        Job::new(&format!("{fault}_old"), topic(), server(Version::Old)),
        Job::new(&format!("{fault}_modern"), topic(), server(Version::Modern)),
    ]
}

/// How often a process is killed before its job is done, and after how many processes a test
/// gives up because the machine is too fast or too slow for it.
const KILLS: usize = 10;
const PROCESSES_MAX: usize = 80;

#[test]
fn ten_kills_at_random_moments_change_nothing() {
    let _alone = alone();
    let mut random = Random::new();
    for mut job in jobs("kills") {
        // Little is on its way at a time, so that kills find a job that is not yet done.
        job.limits_lines = "commits_in_flight_max = 1\n".to_owned();
        job.queue_bytes_max = "1MiB";
        let (mut places, mut kills, mut longest_ms) = (Vec::new(), 0, 300);
        while kills < KILLS {
            assert!(places.len() < PROCESSES_MAX, "no moment to kill in: {places:?}");
            let before = job.processed();
            let mut run = job.start();
            until("all partitions are read", || {
                run.must_run();
                let reading = run.logged().matches("reading partition").count();
                (reading >= PARTITIONS as usize).then_some(())
            });
            if places.len() % 2 == 0 {
                // Right behind a commit; the others at any moment.
                until("a commit", || (job.processed() > before).then_some(()));
            } else {
                thread::sleep(Duration::from_millis(random.below(longest_ms)));
            }
            run.must_run();
            run.kill();
            places.push(job.processed());
            if job.processed() < topic().messages {
                kills += 1;
            } else {
                // Done before the kill: prove it, and begin again with shorter pauses.
                job.prove();
                job.forget();
                longest_ms = (longest_ms * 2 / 3).max(10);
            }
        }
        eprintln!("committed at the kills: {places:?} of {}", topic().messages);
        let within = places.iter().filter(|place| (1..topic().messages).contains(place)).count();
        assert!(within >= 3, "only {within} kills fell into the middle: {places:?}");
        let mut run = job.start();
        job.until_done(&mut [&mut run]);
        run.kill();
        job.prove();
    }
}

#[test]
fn broker_killed_and_started_again_changes_nothing() {
    let _alone = alone();
    for job in jobs("broker") {
        let mut run = job.start();
        job.until_under_way(&mut run);
        kill_broker();
        run.until_logged("disconnected");
        start_broker_again();
        job.until_done(&mut [&mut run]);
        run.terminate();
        job.prove();
    }
}

#[test]
fn topic_that_is_unloaded_again_and_again_changes_nothing() {
    let _alone = alone();
    let path = topic().name.replace("://", "/");
    for job in jobs("unload") {
        let mut run = job.start();
        job.until_under_way(&mut run);
        for _ in 0..3 {
            admin_put(&format!("{path}/unload"), "");
        }
        run.until_logged("disconnected");
        job.until_done(&mut [&mut run]);
        run.terminate();
        job.prove();
    }
}

#[test]
fn clickhouse_killed_and_down_for_twenty_seconds_changes_nothing() {
    let _alone = alone();
    for version in Version::ALL {
        let server = version.own();
        let name = format!("down_{version:?}").to_lowercase();
        let job = Job::new(&name, topic(), Store::server(server.url()));
        let mut run = job.start();
        job.until_under_way(&mut run);
        server.kill();
        let down_at = Instant::now();
        while down_at.elapsed() < Duration::from_secs(20) {
            run.must_run();
            thread::sleep(Duration::from_millis(200));
        }
        server.up();
        job.until_done(&mut [&mut run]);
        assert!(run.logged().contains("store failed, repeating"), "nobody noticed");
        run.terminate();
        job.prove();
    }
}

#[test]
fn embedded_store_that_somebody_else_locks_changes_nothing() {
    let _alone = alone();
    let job = Job::new("locked", topic(), Store::Embedded);
    let mut run = job.start();
    job.until_under_way(&mut run);
    let other = rusqlite::Connection::open(job.path()).expect("the store's file");
    until("the lock", || other.execute_batch("BEGIN IMMEDIATE").ok());
    // Longer than the job's busy timeout of 5 s.
    run.until_logged("store failed, repeating");
    other.execute_batch("ROLLBACK").expect("the lock is ours");
    job.until_done(&mut [&mut run]);
    run.terminate();
    job.prove();
}

#[test]
fn connections_cut_in_the_middle_of_inserts_change_nothing() {
    let _alone = alone();
    let mut random = Random::new();
    for version in Version::ALL {
        let url = version.own().url();
        let cuts = (0..20).map(|number| match number % 2 {
            0 => Cut::Request(1 + random.below(8_000) as usize),
            // The server has got all of it, and nobody learns that it has.
            _ => Cut::Answer { after_request: 1, answer: random.below(40) as usize },
        });
        let proxy = Proxy::start(url, cuts.collect());
        let name = format!("cut_{version:?}").to_lowercase();
        let (url, job_url) = (url.to_owned(), proxy.address().to_owned());
        let job = Job::new(&name, topic(), Store::ClickHouse { url, job_url });
        let mut run = job.start();
        job.until_done(&mut [&mut run]);
        eprintln!("{name}: {} connections were cut", proxy.cut_count());
        assert!(proxy.cut_count() >= 10, "only {} connections were cut", proxy.cut_count());
        run.terminate();
        job.prove();
    }
}

#[test]
fn orderly_ends_and_starts_change_nothing() {
    let _alone = alone();
    for job in jobs("drains") {
        for _ in 0..2 {
            let mut run = job.start();
            job.until_under_way(&mut run);
            run.terminate();
            assert!(run.logged().contains("stopped, all that was read is stored"));
        }
        let mut run = job.start();
        job.until_done(&mut [&mut run]);
        run.terminate();
        job.prove();
    }
}

#[test]
fn death_of_one_of_two_replicas_changes_nothing() {
    let _alone = alone();
    // One process at a time writes an embedded store.
    for job in jobs("replicas").iter().skip(1) {
        let mut first = job.start_replica("a");
        let mut second = job.start_replica("b");
        job.until_under_way(&mut first);
        first.kill();
        job.until_done(&mut [&mut second]);
        let starts = second.logged().matches("lane starts").count();
        assert!(starts >= PARTITIONS as usize, "the second took {starts} partitions");
        second.kill();
        job.prove();
    }
}

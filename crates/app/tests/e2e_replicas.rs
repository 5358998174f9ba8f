//! Replicas: several processes share a topic, and what one leaves the others take over.
//!
//! The soak has one implementation and two lengths: two minutes among the tests, ten by
//! `make soak`. `TIDEMILL_SOAK_SECONDS`, `TIDEMILL_SOAK_RATE` (messages per second) and
//! `TIDEMILL_SOAK_WINDOW_SECONDS` choose others.

mod e2e;

use std::{
    sync::atomic::Ordering::SeqCst,
    thread,
    time::{Duration, Instant},
};

use e2e::{
    alone,
    job::{Job, Run, Store},
    replicas::{Recovery, Tally, owned, until_shared},
    services::Version,
    topic::{Content, Topic, now_ms},
    until,
};

const PARTITIONS: u32 = 8;
/// Dead letters of each kind among the messages.
const RATIOS: [f64; 3] = [0.001, 0.001, 0.000_1];
/// About how many messages the oracle computes in reasonable time.
const ORACLE_MESSAGES_MAX: u64 = 1_000_000;
/// How long a process may take to hand over: far less than a window of a minute.
const HAND_OVER_MAX: Duration = Duration::from_secs(20);

/// How long the soak lasts, and under what.
struct Soak {
    duration_s: u64,
    rate: u64,
    window_s: u64,
}

impl Soak {
    fn new() -> Soak {
        let number = |name: &str, default| match std::env::var(name) {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}: no number: {text:?}")),
            Err(_) => default,
        };
        Soak {
            duration_s: number("TIDEMILL_SOAK_SECONDS", 120),
            rate: number("TIDEMILL_SOAK_RATE", 30_000),
            window_s: number("TIDEMILL_SOAK_WINDOW_SECONDS", 10),
        }
    }

    fn job<'t>(&self, name: &str, topic: &'t Topic) -> Job<'t> {
        let mut job = Job::new(name, topic, Store::server(&Version::Old.url()));
        job.window_lines = format!("size = \"{}s\"\n", self.window_s);
        job
    }

    /// Sends at the rate while the processes die, sleep and restart; returns those that live.
    fn torment(&self, job: &Job<'_>, topic: &Topic, content: &Content, tally: &Tally) -> [Run; 3] {
        let [mut a, mut b, mut c] = ["a", "b", "c"].map(|name| job.start_replica(name));
        until_shared(&mut [&mut a, &mut b, &mut c], PARTITIONS as usize);
        let start_ms = now_ms();
        let runs = thread::scope(|scope| {
            let load = scope.spawn(|| {
                let said = topic.generate_with(content, start_ms, &["--real-pace"]);
                tally.end();
                said
            });
            let killed = scope.spawn(|| tally.kill_in_a_loop(job, "a", a));
            let paused = scope.spawn(|| tally.pause_in_a_loop(b));
            let restarted = scope.spawn(|| tally.restart_in_a_loop(job, "c", c));
            let runs = [killed, paused, restarted].map(|thread| thread.join());
            load.join().expect("the load is sent");
            runs.map(|run| run.expect("the processes do what they should"))
        });
        topic.close(content, start_ms);
        runs
    }
}

#[test]
fn rows_of_three_replicas_that_die_sleep_and_restart_are_those_of_one_process() {
    let _alone = alone();
    let soak = Soak::new();
    let messages = soak.rate * soak.duration_s;
    let content = Content { messages, rate: soak.rate, ratios: RATIOS };
    let topic = Topic::empty("replicas", PARTITIONS, &content);
    let tally = Tally::new(Duration::from_secs(soak.window_s));
    let job = soak.job("soak", &topic);
    let [mut a, mut b, mut c] = soak.torment(&job, &topic, &content, &tally);
    let ended_at = Instant::now();
    job.until_done(&mut [&mut a, &mut b, &mut c]);
    let caught_up = ended_at.elapsed();
    [a, b, c].iter_mut().for_each(Run::terminate);
    report(&soak, &topic, &tally, &job.logged(), caught_up);

    let alone = soak.job("soak_alone", &topic);
    let mut run = alone.start();
    alone.until_done(&mut [&mut run]);
    run.terminate();
    let (same, said) = job.same_as(&alone);
    eprint!("three processes and one: {said}");
    assert!(same, "{said}");
    topic.expect(soak.window_s * 1000, ORACLE_MESSAGES_MAX);
    let (equal, said) = job.compare_with(&["--some"]);
    eprint!("the oracle: {said}");
    assert!(equal, "{said}");
    for job in [&job, &alone] {
        let (status, said) = job.verify();
        eprintln!("{said}");
        assert_eq!(status, Some(0), "{said}");
        assert_eq!(said.matches("proved").count(), PARTITIONS as usize, "{said}");
    }
    check_that_enough_was_done(&soak, &tally, &job.logged());
}

/// Prints what was done, and what came of it.
fn report(soak: &Soak, topic: &Topic, tally: &Tally, logged: &str, caught_up: Duration) {
    let ends = tally.ends.lock().expect("no panic").clone();
    let recoveries = tally.recoveries.lock().expect("no panic").clone();
    let pauses = tally.pauses.load(SeqCst);
    let starts = logged.matches("lane starts").count();
    eprintln!(
        "{} messages at {} a second, windows of {} s: {} kills, {pauses} pauses, {} restarts; \
         partitions were taken over {starts} times; caught up {:.1} s behind the last message",
        topic.messages,
        soak.rate,
        soak.window_s,
        tally.kills.load(SeqCst),
        ends.len(),
        caught_up.as_secs_f64(),
    );
    eprintln!("seconds from SIGTERM to the end: {}", spread(ends.iter().copied()));
    for (text, beside) in [("", false), (", while another process was paused", true)] {
        let some = || recoveries.iter().filter(move |recovery| recovery.beside_a_pause == beside);
        let column = |read: fn(&Recovery) -> Duration| spread(some().map(read));
        eprintln!(
            "seconds from kill -9{text}, {} times: to the first commit of its partitions {}; \
             to their first new row {}, {} after it was due; to new rows of all {}",
            some().count(),
            column(|recovery| recovery.first_commit),
            column(|recovery| recovery.first_row),
            column(|recovery| recovery.first_row_late),
            column(|recovery| recovery.all_rows),
        );
    }
}

/// Fails if less was done than the length asks for, or if a process was slow to hand over.
fn check_that_enough_was_done(soak: &Soak, tally: &Tally, logged: &str) {
    let minutes = usize::try_from(soak.duration_s / 60).expect("a few minutes");
    // Behind each kill, new rows are waited for.
    let kills = tally.kills.load(SeqCst);
    assert!(kills >= soak.duration_s / (2 * soak.window_s + 40), "{kills} kills");
    let pauses = tally.pauses.load(SeqCst);
    assert!(pauses >= soak.duration_s / 120, "{pauses} pauses");
    let ends = tally.ends.lock().expect("no panic").clone();
    assert!(ends.len() >= minutes * 2, "{} restarts", ends.len());
    let starts = logged.matches("lane starts").count();
    assert!(starts >= 3 * PARTITIONS as usize, "partitions hardly moved: {starts} times");
    assert!(ends.iter().all(|end| *end < HAND_OVER_MAX), "a slow end: {ends:?}");
}

/// The median and the extremes.
fn spread(values: impl Iterator<Item = Duration>) -> String {
    let mut values: Vec<Duration> = values.collect();
    values.sort();
    let Some(last) = values.len().checked_sub(1) else {
        return "-".to_owned();
    };
    let [median, least, most] = [last / 2, 0, last].map(|at| values[at].as_secs_f64());
    format!("{median:.1} ({least:.1} to {most:.1})")
}

#[test]
fn process_that_ends_in_order_hands_over_without_waiting_for_windows() {
    let _alone = alone();
    // All of it lies in one window of an hour, which closes only at the end.
    let content = Content { messages: 100_000, rate: 2_000, ratios: RATIOS };
    let topic = Topic::empty("hand-over", PARTITIONS, &content);
    let soak = Soak { duration_s: 0, rate: content.rate, window_s: 3_600 };
    let job = soak.job("hand_over", &topic);
    let mut first = job.start_replica("a");
    until("the first has all", || {
        first.must_run();
        (owned(&first.logged()).len() == PARTITIONS as usize).then_some(())
    });
    let start_ms = now_ms();
    topic.generate_with(&content, start_ms, &[]);
    until("all is read", || (job.processed() == content.messages).then_some(()));
    // A process that joins takes its share, from the records, while all windows are open.
    let mut second = job.start_replica("b");
    until_shared(&mut [&mut first, &mut second], PARTITIONS as usize);
    let asked_at = Instant::now();
    first.terminate();
    until("the second has all", || {
        second.must_run();
        (owned(&second.logged()).len() == PARTITIONS as usize).then_some(())
    });
    let taken = asked_at.elapsed();
    eprintln!("handed over within {:.1} s", taken.as_secs_f64());
    assert!(taken < HAND_OVER_MAX, "handed over in {taken:?}");
    for line in second.logged().lines().filter(|line| line.contains("lane starts")) {
        assert!(!line.contains("ordinal=0 ") && !line.ends_with("ordinal=0"), "{line}");
    }
    assert_eq!(job.processed(), content.messages);
    second.terminate();
}

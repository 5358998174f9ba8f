//! Two Failover consumers on a real broker while everything around them dies: a soak test.
//!
//! Starts a broker of its own, a producer with 4 partitions and two consumer processes. At random
//! moments it unloads the topic or a partition, kills a consumer or the broker with SIGKILL and
//! starts it again. At the end the log is read by a reader and held against what each consumer
//! reported. The rate is low on purpose: it looks for rare events and not for speed.
//!
//!     cargo run -p tidemill-pulsar --example failover_soak -- --for 20m [--seed N]
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a command of the tests")]

mod check;
mod consume;
mod faults;
mod produce;
#[path = "../../../../tests/service/pulsar.rs"]
mod service;

use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use check::Report;
use faults::Faults;
use service::Pulsar;
use tidemill_pulsar::{Client, ClientConfig};
use tokio::runtime::Runtime;

const PARTITIONS: u32 = 4;
const SUBSCRIPTION: &str = "soak";

/// How long consumers may take to catch up at the end.
const CATCH_UP: Duration = Duration::from_secs(180);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, url, topic, name] = &arguments[..]
        && word == "consume"
    {
        Runtime::new().unwrap().block_on(consume::run(url, topic, name));
        return;
    }
    let mut duration = Duration::from_secs(20 * 60);
    let mut seed = now_us();
    for pair in arguments.chunks(2) {
        match pair {
            [key, value] if key == "--for" => duration = parse_duration(value),
            [key, value] if key == "--seed" => seed = value.parse().expect("a number"),
            other => panic!("unknown argument {other:?}: use --for 20m, --seed N"),
        }
    }
    println!("seed {seed}, {} s", duration.as_secs());
    if !soak(duration, seed) {
        exit(1);
    }
}

/// Microseconds since 1970, the clock that all processes of the soak share.
fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    u64::try_from(since.as_micros()).expect("a time of this century")
}

fn parse_duration(text: &str) -> Duration {
    let (digits, factor) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    Duration::from_secs(digits.parse::<u64>().expect("a duration such as 20m or 90s") * factor)
}

fn soak(duration: Duration, seed: u64) -> bool {
    let named = std::env::var("TIDEMILL_PULSAR_URL").is_ok_and(|url| !url.is_empty());
    assert!(!named, "unset TIDEMILL_PULSAR_URL: the soak kills its broker");
    let exe = std::env::current_exe().expect("own path");
    let build_dir = exe.ancestors().nth(3).expect("target/PROFILE/examples");
    let broker = Pulsar::start(build_dir, "failover-soak");
    let topic = format!("persistent://public/default/soak-{}", std::process::id());
    faults::keep_everything(&broker);
    faults::admin(&broker, "PUT", &topic, "partitions", &PARTITIONS.to_string());
    let runtime = Runtime::new().unwrap();
    let client = {
        let _context = runtime.enter();
        Client::new(ClientConfig::new(broker.url.clone())).unwrap()
    };
    let report = Arc::new(Mutex::new(Report::default()));
    let stop = Arc::new(AtomicBool::new(false));
    let producers: Vec<_> = (0..PARTITIONS)
        .map(|partition| {
            let (client, topic) = (client.clone(), topic.clone());
            runtime.spawn(produce::run(client, topic, partition, report.clone(), stop.clone()))
        })
        .collect();
    let mut faults = Faults::new(&broker, &topic, report.clone(), seed);
    faults.run(duration);
    stop.store(true, Ordering::Release);
    for producer in producers {
        runtime.block_on(producer).unwrap();
    }
    println!("reading the log");
    let log = runtime.block_on(async {
        let mut log = Vec::new();
        for partition in 0..PARTITIONS {
            log.push(consume::read_log(&client, &topic, partition).await);
        }
        log
    });
    let caught_up = faults.wait_until(CATCH_UP, || check::missing(&report, &log) == 0);
    faults.finish();
    let report = report.lock().unwrap();
    let problems = check::check(&report, &log);
    println!("{}", report.summary(&log));
    for problem in problems.iter().take(50) {
        println!("PROBLEM: {problem}");
    }
    println!("{} problems, everything delivered: {caught_up}", problems.len());
    problems.is_empty() && caught_up
}

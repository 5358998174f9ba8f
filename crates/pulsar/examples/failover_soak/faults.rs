//! What the soak does to broker and consumers, and when.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidemill_pulsar::partition_topic;

use crate::check::{Report, Seen};
use crate::service::Pulsar;
use crate::{PARTITIONS, now_us};

/// Shortest and longest pause between faults.
const PAUSE_MS: (u64, u64) = (10_000, 35_000);

/// The two consumers and the source of chance.
pub(crate) struct Faults<'a> {
    broker: &'a Pulsar,
    topic: &'a str,
    report: Arc<Mutex<Report>>,
    random: u64,
    consumers: Vec<Consumer>,
}

struct Consumer {
    process: Child,
    listener: JoinHandle<()>,
}

impl<'a> Faults<'a> {
    /// Starts the consumers.
    pub(crate) fn new(
        broker: &'a Pulsar,
        topic: &'a str,
        report: Arc<Mutex<Report>>,
        seed: u64,
    ) -> Self {
        let mut faults = Self { broker, topic, report, random: seed | 1, consumers: Vec::new() };
        for index in 0..2 {
            let consumer = faults.start_consumer(index);
            faults.consumers.push(consumer);
        }
        faults
    }

    /// Makes things fail until the time is over.
    pub(crate) fn run(&mut self, duration: Duration) {
        let started = Instant::now();
        while started.elapsed() < duration {
            let pause = PAUSE_MS.0 + self.random() % (PAUSE_MS.1 - PAUSE_MS.0);
            self.wait_until(Duration::from_millis(pause), || false);
            match self.random() % 100 {
                0..25 => self.unload(self.topic.to_owned()),
                25..50 => {
                    let partition = (self.random() % u64::from(PARTITIONS)) as u32;
                    self.unload(partition_topic(self.topic, partition));
                }
                50..86 => self.kill_consumer(),
                _ => self.kill_broker(),
            }
            self.sample_cursors();
        }
    }

    /// Polls a condition; returns whether it held in time.
    pub(crate) fn wait_until(&self, limit: Duration, mut done: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + limit;
        while !done() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(200).min(limit));
        }
        true
    }

    /// Lets the consumers acknowledge what they have, ends them, and looks at the cursors.
    pub(crate) fn finish(&mut self) {
        for consumer in &mut self.consumers {
            drop(consumer.process.stdin.take());
        }
        for mut consumer in self.consumers.drain(..) {
            let _ = consumer.process.wait();
            consumer.listener.join().expect("the listener reads lines");
        }
        self.sample_cursors();
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }

    fn note(&self, fault: &str) {
        println!("{} {fault}", now_us() / 1_000_000);
        self.report.lock().expect("no holder panics").faults.push((now_us(), fault.to_owned()));
    }

    fn unload(&self, topic: String) {
        self.note(if topic == self.topic { "unload topic" } else { "unload partition" });
        admin(self.broker, "PUT", &topic, "unload", "");
    }

    fn kill_consumer(&mut self) {
        let index = (self.random() % 2) as usize;
        self.note("kill consumer");
        let mut killed = self.consumers.remove(index);
        killed.process.kill().expect("it is our child");
        let _ = killed.process.wait();
        killed.listener.join().expect("the listener reads lines");
        let pause = self.random() % 5_000;
        self.wait_until(Duration::from_millis(pause), || false);
        let consumer = self.start_consumer(index);
        self.consumers.insert(index, consumer);
    }

    fn kill_broker(&self) {
        self.note("kill broker");
        self.broker.kill();
        self.broker.start_again();
        self.note("broker is back");
    }

    fn start_consumer(&self, index: usize) -> Consumer {
        let name = ["a", "b"][index];
        let mut process = Command::new(std::env::current_exe().expect("own path"))
            .args(["consume", &self.broker.url, self.topic, name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("own program");
        let output = process.stdout.take().expect("standard output is piped");
        let report = self.report.clone();
        let instance = {
            let mut report = report.lock().expect("no holder panics");
            report.instances += 1;
            report.instances
        };
        let listener = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let seen = Seen::parse(instance, &line);
                report.lock().expect("no holder panics").seen.extend(seen);
            }
        });
        Consumer { process, listener }
    }

    /// Notes where the broker holds the cursors, where it says so.
    fn sample_cursors(&self) {
        for partition in 0..PARTITIONS {
            let topic = partition_topic(self.topic, partition);
            let stats = admin(self.broker, "GET", &topic, "internalStats", "");
            let place = stats.split("\"markDeletePosition\":\"").nth(1);
            let place = place.and_then(|text| text.split('"').next()).and_then(|text| {
                let (ledger, entry) = text.split_once(':')?;
                Some((ledger.parse::<i64>().ok()?, entry.parse::<i64>().ok()?))
            });
            if let Some(place) = place {
                let sample = (now_us(), partition, place);
                self.report.lock().expect("no holder panics").cursors.push(sample);
            }
        }
    }
}

/// Asks the broker's admin interface; asks again while a topic is between two owners.
pub(crate) fn admin(broker: &Pulsar, method: &str, topic: &str, what: &str, body: &str) -> String {
    ask(method, &format!("{}/admin/v2/{}/{what}", broker.admin, topic.replace("://", "/")), body)
}

/// Makes the broker keep what is acknowledged: the log is the measure at the end.
pub(crate) fn keep_everything(broker: &Pulsar) {
    let url = format!("{}/admin/v2/namespaces/public/default/retention", broker.admin);
    ask("POST", &url, r#"{"retentionTimeInMinutes":-1,"retentionSizeInMB":-1}"#);
}

fn ask(method: &str, url: &str, body: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = match method {
            "PUT" => ureq::put(url).header("content-type", "application/json").send(body),
            "POST" => ureq::post(url).header("content-type", "application/json").send(body),
            _ => ureq::get(url).call(),
        };
        match answer {
            Ok(mut answer) => return answer.body_mut().read_to_string().unwrap_or_default(),
            Err(error) => {
                assert!(Instant::now() < deadline, "{method} {url}: {error}");
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    }
}

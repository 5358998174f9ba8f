//! What the tests on the real broker share: the broker, topics, messages, waiting.

#![allow(dead_code, reason = "each test file uses a part of it")]

#[path = "../../../../tests/service/pulsar.rs"]
mod service;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidemill_pulsar::{
    Client, ClientConfig, Consumer, ConsumerEvent, Entry, OutgoingMessage, PartitionedConfig,
    PartitionedProducer, Position,
};
use tokio::sync::RwLock;
use tokio::time::timeout;

pub(crate) use service::Pulsar;

/// Tests share the broker; the one that kills it takes this alone.
pub(crate) static BROKER_USE: RwLock<()> = RwLock::const_new(());

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn broker() -> &'static Pulsar {
    static BROKER: OnceLock<Pulsar> = OnceLock::new();
    BROKER.get_or_init(|| {
        let build_dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        Pulsar::start(build_dir, "pulsar-real-broker")
    })
}

pub(crate) fn client() -> Client {
    Client::new(ClientConfig::new(broker().url.clone())).expect("url")
}

pub(crate) fn new_topic(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    format!("persistent://public/default/{name}-{process}-{number}")
}

pub(crate) fn admin(topic: &str, action: &str, body: &str) {
    let topic = topic.replace("://", "/");
    let url = format!("{}/admin/v2/{topic}/{action}", broker().admin);
    let answer = ureq::put(&url).header("content-type", "application/json").send(body);
    assert!(answer.is_ok(), "{url}: {answer:?}");
}

pub(crate) fn create_partitioned(topic: &str, partition_count: u32) {
    admin(topic, "partitions", &partition_count.to_string());
}

pub(crate) fn device(number: usize) -> String {
    format!("sensor_{:03}", number % 97)
}

pub(crate) fn message(number: usize) -> OutgoingMessage {
    let device = device(number);
    let payload = format!(
        r#"{{"n":{number},"device_id":"{device}","temperature":{}.5,"status":1}}"#,
        20 + number % 10
    );
    let event_time_ms = Some(1_700_000_000_000 + number as u64);
    OutgoingMessage { event_time_ms, ..OutgoingMessage::new(Some(device), payload) }
}

/// Returns the number that `message` wrote into a payload.
pub(crate) fn number_of(payload: &[u8]) -> usize {
    let text = std::str::from_utf8(payload).expect("payload is text");
    let digits = text.strip_prefix(r#"{"n":"#).expect("payload of this test");
    digits.split(',').next().and_then(|digits| digits.parse().ok()).expect("a number")
}

pub(crate) async fn produce(client: &Client, topic: &str, range: std::ops::Range<usize>, n: usize) {
    let mut config = PartitionedConfig::new(topic);
    config.batch_messages_max = n;
    config.linger_ms = 10_000;
    let mut producer = PartitionedProducer::new(client, config).await.expect("producer");
    for number in range.clone() {
        producer.send(message(number)).await.expect("send");
    }
    producer.flush().await.expect("flush");
    assert_eq!(producer.confirmed_count(), range.len() as u64);
    producer.close().await.expect("close");
}

pub(crate) async fn next(consumer: &mut Consumer) -> ConsumerEvent {
    timeout(PATIENCE, consumer.next()).await.expect("an event in time")
}

/// Waits for `Connected`, passing over everything before it.
pub(crate) async fn connected(consumer: &mut Consumer) {
    loop {
        match next(consumer).await {
            ConsumerEvent::Connected => return,
            ConsumerEvent::Failed { reason } => panic!("{reason}"),
            _ => {}
        }
    }
}

/// What was read from one partition.
#[derive(Default)]
pub(crate) struct Read {
    /// How often each message came.
    pub(crate) times: BTreeMap<usize, u32>,
    pub(crate) last: Option<Position>,
    pub(crate) entry_count: usize,
    pub(crate) connected_count: u32,
    pub(crate) disconnected_count: u32,
    pub(crate) active: bool,
    permits: u32,
}

pub(crate) const PERMITS: u32 = 1000;

impl Read {
    /// Takes one event as an application would; returns the entry, if it is one.
    pub(crate) async fn take(
        &mut self,
        consumer: &Consumer,
        event: ConsumerEvent,
    ) -> Option<Entry> {
        match event {
            ConsumerEvent::Connected => {
                self.connected_count += 1;
                self.permits = 0;
                // The connection may have ended again; then another event follows.
                let _ = consumer.flow(PERMITS).await;
            }
            ConsumerEvent::Active(active) => self.active = active,
            ConsumerEvent::Disconnected { .. } => {
                self.disconnected_count += 1;
                self.active = false;
            }
            ConsumerEvent::Entry(entry) => {
                self.entry(&entry);
                self.permits += entry.permits;
                if self.permits >= PERMITS / 2 {
                    let _ = consumer.flow(self.permits).await;
                    self.permits = 0;
                }
                return Some(entry);
            }
            ConsumerEvent::Waiting { .. } => {}
            other => panic!("{other:?}"),
        }
        None
    }

    fn entry(&mut self, entry: &Entry) {
        assert!(entry.rejected().is_none(), "{entry:?}");
        self.entry_count += 1;
        self.last = Some(entry.position);
        for message in entry.messages() {
            let message = message.expect("readable");
            let number = number_of(message.payload);
            assert_eq!(message.key, Some(device(number).as_bytes()));
            assert_eq!(message.event_time_ms, Some(1_700_000_000_000 + number as u64));
            *self.times.entry(number).or_default() += 1;
        }
    }
}

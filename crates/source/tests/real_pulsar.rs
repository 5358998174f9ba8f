//! The Pulsar source on a real broker, as the engine sees it: events, entries, orders.

#![expect(clippy::unwrap_used, reason = "a helper of the tests fails the test")]

#[path = "../../../tests/service/pulsar_raw.rs"]
mod raw;
#[path = "../../../tests/service/pulsar.rs"]
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use raw::{Raw, RawEntry};
use service::Pulsar;
use tidemill_engine::port::{Entry, Source, SourceControl, SourceEvent};
use tidemill_kernel::event::Reason;
use tidemill_pulsar::{
    Client, ClientConfig, Compression, OutgoingMessage, ProducerConfig, SendReceipt,
    partition_topic,
};
use tidemill_source::pulsar::{Envelope, PulsarConfig, PulsarSource, Start, Topics, open};
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(60);

fn broker() -> &'static Pulsar {
    static BROKER: OnceLock<Pulsar> = OnceLock::new();
    BROKER.get_or_init(|| Pulsar::start(Path::new(env!("CARGO_TARGET_TMPDIR")), "pulsar-source"))
}

/// A name that no other test and no earlier run has.
fn new_topic(what: &str) -> String {
    format!("persistent://public/default/{what}-{}", now_ms())
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Sets the partition count of a topic, or raises it.
fn set_partitions(topic: &str, count: u32, raise: bool) {
    let topic = topic.replace("://", "/");
    let url = format!("{}/admin/v2/{topic}/partitions", broker().admin);
    // A broker that is busy with what other tests did to it answers 500 now and then.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let request = if raise { ureq::post(&url) } else { ureq::put(&url) };
        let answer = request.header("content-type", "application/json").send(count.to_string());
        match answer {
            // Made by an attempt that was answered by an error.
            Ok(_) | Err(ureq::Error::StatusCode(409)) => return,
            Err(error) => assert!(Instant::now() < deadline, "{url}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// A producer's side.
struct Writer {
    runtime: Runtime,
    client: Client,
}

impl Writer {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let client = {
            let _context = runtime.enter();
            Client::new(ClientConfig::new(broker().url.clone())).unwrap()
        };
        Self { runtime, client }
    }

    /// Sends texts as one batch to a topic without partitions, or to one partition.
    fn send(&self, topic: &str, compression: Compression, texts: &[&str]) -> SendReceipt {
        let messages: Vec<_> = texts
            .iter()
            .map(|text| OutgoingMessage::new(Some("key"), (*text).to_owned()))
            .collect();
        self.runtime.block_on(async {
            let config = ProducerConfig { compression, ..ProducerConfig::new(topic) };
            let producer = self.client.producer(config).await.unwrap();
            let receipt = producer.send_batch(&messages).await.unwrap();
            producer.close().await.unwrap();
            receipt
        })
    }
}

/// What lanes of the engine would do: read from the first entry, give back all credit.
struct Reading {
    source: PulsarSource,
    control: Arc<dyn SourceControl>,
    entries: BTreeMap<Arc<str>, Vec<Entry>>,
}

impl Reading {
    fn new(topics: Topics, change: impl FnOnce(&mut PulsarConfig)) -> Self {
        let mut config = PulsarConfig::new(&broker().url, "", "test");
        config.topics = topics;
        change(&mut config);
        let source = open(config).unwrap();
        let control = source.control();
        Self { source, control, entries: BTreeMap::new() }
    }

    /// Takes events until the condition holds.
    fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "only {:#?} came", self.texts());
            match self.source.next(Duration::from_millis(100)).unwrap() {
                Some(SourceEvent::Assigned(lane)) => {
                    self.entries.insert(lane.clone(), Vec::new());
                    self.control.read_from(&lane, None, false);
                }
                Some(SourceEvent::Entry(lane, entry)) => {
                    self.control.credit(&lane, entry.credit);
                    self.entries.get_mut(&lane).unwrap().push(entry);
                }
                Some(SourceEvent::Failed(lane, text)) => panic!("{lane}: {text}"),
                _ => {}
            }
        }
    }

    /// Returns the payloads of all lanes, in order.
    fn texts(&self) -> BTreeMap<String, Vec<String>> {
        let text = |entry: &Entry| {
            let payloads = entry.messages.iter().map(|message| entry.payload(message));
            payloads.map(|p| String::from_utf8_lossy(p).into_owned()).collect::<Vec<_>>()
        };
        let lane = |entries: &Vec<Entry>| entries.iter().flat_map(text).collect();
        self.entries.iter().map(|(name, entries)| (name.to_string(), lane(entries))).collect()
    }

    fn message_count(&self) -> usize {
        self.entries.values().flatten().map(|entry| entry.messages.len()).sum()
    }
}

#[test]
fn plain_topic_is_one_lane_and_every_codec_is_read() {
    let topic = new_topic("plain");
    let writer = Writer::new();
    let codecs = [
        Compression::None,
        Compression::Lz4,
        Compression::Zstd,
        Compression::Zlib,
        Compression::Snappy,
    ];
    for codec in codecs {
        writer.send(&topic, codec, &["a", "a", "a"]);
    }
    let mut reading = Reading::new(Topics::One(topic), |_| {});
    reading.until(|reading| reading.message_count() == 15);
    let texts = reading.texts();
    assert_eq!(texts.keys().collect::<Vec<_>>(), ["plain"]);
    assert!(texts["plain"].iter().all(|text| text == "a"), "{texts:?}");
}

#[test]
fn each_entry_that_cannot_be_read_has_its_reason_and_its_place() {
    const PUBLISHED_MS: u64 = 1_000;
    let before_ms = now_ms();
    let topic = new_topic("reject");
    let writer = Writer::new();
    writer.send(&topic, Compression::None, &["before"]);
    let entry = |body: &str| RawEntry::new(0, PUBLISHED_MS, body);
    let keys = raw::Fields::default().bytes(1, "key").bytes(2, "value");
    let entries = [
        // 26: which chunked message; 27: how many chunks; 28: its size; 29: which chunk.
        entry("piece").with(|m| m.bytes(26, "id").int(27, 2).int(28, 10).int(29, 0)),
        // 13: keys that the body is encrypted with.
        entry("secret").with(|m| m.message(13, keys)),
        // 8: codec; 9: size before compression.
        entry("what").with(|m| m.int(8, 9).int(9, 4)),
        entry("what").with(|m| m.int(8, 2).int(9, 4)),
        entry("what").with(|m| m.int(8, 4).int(9, 4)),
        entry("huge").with(|m| m.int(8, 1).int(9, 1 << 30)),
        entry(""),
        entry("good"),
    ];
    Raw::connect(&broker().url).produce(&topic, &entries);
    let mut reading = Reading::new(Topics::One(topic), |_| {});
    reading.until(|reading| reading.message_count() == 9);
    let found: Vec<_> = reading.entries["plain"]
        .iter()
        .map(|entry| (entry.messages[0].reject, entry.payload(&entry.messages[0])))
        .collect();
    let expected: [(Option<Reason>, &[u8]); 9] = [
        (None, b"before"),
        (Some(Reason::Chunked), b"piece"),
        (Some(Reason::Encrypted), b"secret"),
        (Some(Reason::UnsupportedCodec), b"what"),
        (Some(Reason::CorruptEntry), b"what"),
        (Some(Reason::CorruptEntry), b"what"),
        (Some(Reason::TooLarge), b"huge"),
        (None, b""),
        (None, b"good"),
    ];
    assert_eq!(found, expected);
    // The broker's clock counts, not the producer's, which stood at 1970.
    for message in reading.entries["plain"].iter().flat_map(|entry| &entry.messages) {
        assert!((before_ms..=now_ms()).contains(&message.publish_time_ms), "{message:?}");
    }
    let places = reading.entries["plain"].iter().map(|entry| entry.position.offset);
    assert!(places.eq(0..9), "no place in the log is left out");
}

#[test]
fn messages_that_somebody_acknowledged_inside_a_batch_are_read_again() {
    let topic = new_topic("acked");
    let writer = Writer::new();
    writer.send(&topic, Compression::Lz4, &["0", "1", "2", "3"]);
    Raw::connect(&broker().url).acknowledge_in_batch(&topic, "test", 0b1001);
    let mut reading = Reading::new(Topics::One(topic), |_| {});
    reading.until(|reading| reading.message_count() == 4);
    assert_eq!(reading.texts()["plain"], ["0", "1", "2", "3"]);
    // The broker counts permits for what was not acknowledged.
    assert_eq!(reading.entries["plain"][0].credit, 2);
}

#[test]
fn key_properties_and_place_are_members_of_the_payload_if_the_schema_names_them() {
    let topic = new_topic("envelope");
    set_partitions(&topic, 2, false);
    let partition = partition_topic(&topic, 1);
    let writer = Writer::new();
    writer.send(&partition, Compression::Lz4, &[r#"{"a":1}"#, r#"{"a":2}"#]);
    // 4: a property; 6: the key. The second value of a name counts.
    let property = |value: &str| raw::Fields::default().bytes(1, "site").bytes(2, value);
    let single = RawEntry::new(0, 1_000, r#"{"a":3}"#)
        .with(|m| m.message(4, property("x")).message(4, property("y")).bytes(6, "sensor"));
    // In a batch the same are fields 1 and 2 of each message; 3 is the payload's size.
    let body = br#"{"a":4}"#;
    let head = raw::Fields::default().message(1, property("z")).bytes(2, "other");
    let batched =
        RawEntry::new(1, 1_000, head.int(3, body.len() as u64).sized(body)).with(|m| m.int(11, 1));
    Raw::connect(&broker().url).produce(&partition, &[single, batched]);
    let names = ["$key", "$topic", "$partition"].map(|name| vec![name.to_owned()]);
    let paths = names.into_iter().chain([vec!["$properties".to_owned(), "site".to_owned()]]);
    let paths: Vec<Vec<String>> = paths.collect();
    let mut reading = Reading::new(Topics::One(topic.clone()), |config| {
        config.envelope = Envelope::of_paths(paths.iter().map(Vec::as_slice));
    });
    reading.until(|reading| reading.message_count() == 4);
    let read: Vec<serde_json::Value> =
        reading.texts()["1"].iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let expected = [("key", None), ("key", None), ("sensor", Some("y")), ("other", Some("z"))];
    for (index, (message, (key, site))) in read.iter().zip(expected).enumerate() {
        assert_eq!(message["a"], index + 1);
        assert_eq!(message["$key"], key);
        assert_eq!(message["$topic"], *topic);
        assert_eq!(message["$partition"], 1);
        assert_eq!(message["$properties"]["site"].as_str(), site);
    }
}

#[test]
fn partition_that_appears_later_is_read_from_its_start() {
    let topic = new_topic("grow");
    set_partitions(&topic, 2, false);
    let writer = Writer::new();
    writer.send(&partition_topic(&topic, 0), Compression::Lz4, &["old"]);
    // Even where a first start passes over what is there.
    let mut reading = Reading::new(Topics::One(topic.clone()), |config| {
        config.start = Start::Latest;
        config.discovery_interval = Duration::from_millis(1_500);
    });
    reading.until(|reading| reading.entries.len() == 2);
    set_partitions(&topic, 4, true);
    writer.send(&partition_topic(&topic, 3), Compression::Lz4, &["first", "second"]);
    writer.send(&partition_topic(&topic, 1), Compression::Lz4, &["new"]);
    reading.until(|reading| reading.message_count() == 3 && reading.entries.len() == 4);
    let texts = reading.texts();
    assert_eq!(texts["3"], ["first", "second"]);
    assert_eq!(texts["1"], ["new"]);
    assert_eq!(texts["0"], [""; 0]);
}

#[test]
fn several_topics_have_lanes_of_their_full_names() {
    let name = new_topic("several");
    let topics = ["a", "b", "c"].map(|end| format!("{name}-{end}"));
    set_partitions(&topics[0], 2, false);
    let writer = Writer::new();
    writer.send(&partition_topic(&topics[0], 1), Compression::Lz4, &["in a"]);
    writer.send(&topics[1], Compression::Lz4, &["in b"]);
    let mut reading = Reading::new(Topics::List(topics[..2].to_vec()), |_| {});
    reading.until(|reading| reading.message_count() == 2 && reading.entries.len() == 3);
    let texts = reading.texts();
    assert_eq!(texts[&partition_topic(&topics[0], 1)], ["in a"]);
    assert_eq!(texts[&topics[1]], ["in b"]);
    drop(reading);
    // The same by a pattern, and a topic that appears later and fits.
    let mut reading = Reading::new(Topics::Pattern(format!("{name}-*")), |config| {
        config.subscription = "pattern".to_owned();
        config.discovery_interval = Duration::from_millis(500);
    });
    reading.until(|reading| reading.message_count() == 2);
    writer.send(&name.replace("several", "others"), Compression::Lz4, &["not ours"]);
    writer.send(&topics[2], Compression::Lz4, &["in c"]);
    reading.until(|reading| reading.message_count() == 3);
    let lanes: BTreeSet<String> = reading.texts().into_keys().collect();
    let expected = [
        partition_topic(&topics[0], 0),
        partition_topic(&topics[0], 1),
        topics[1].clone(),
        topics[2].clone(),
    ];
    assert_eq!(lanes, BTreeSet::from(expected));
    assert_eq!(reading.texts()[&topics[2]], ["in c"]);
}

#[test]
fn first_start_at_a_time_begins_with_what_was_published_then() {
    let topic = new_topic("time");
    let writer = Writer::new();
    writer.send(&topic, Compression::Lz4, &["early"]);
    let sent_ms = now_ms();
    while now_ms() < sent_ms + 20 {
        std::thread::yield_now();
    }
    let time_ms = now_ms();
    let first = writer.send(&topic, Compression::Lz4, &["late", "later"]).position.unwrap();
    writer.send(&topic, Compression::Lz4, &["latest"]);
    let mut reading = Reading::new(Topics::One(topic.clone()), |config| {
        config.start = Start::PublishTime(time_ms);
    });
    reading.until(|reading| reading.message_count() == 3);
    assert_eq!(reading.texts()["plain"], ["late", "later", "latest"]);
    assert_eq!(reading.entries["plain"][0].position.offset, first.entry_id);
    drop(reading);
    // A time before everything begins with everything.
    let mut reading = Reading::new(Topics::One(topic), |config| {
        config.subscription = "all".to_owned();
        config.start = Start::PublishTime(time_ms - 3_600_000);
    });
    reading.until(|reading| reading.message_count() == 4);
    assert_eq!(reading.texts()["plain"][0], "early");
}

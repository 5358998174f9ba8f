//! Tells when the newest event time of each partition passes a whole second, for `bench/steady.py`:
//! a consumer beside the measured one, which gets the same messages at the same time.
//!
//! `arrivals URL TOPIC PARTITIONS` reads from the end of the topic on and writes a line
//! `PARTITION UNIX_MICROSECONDS SECOND` each time, the second as the messages write it. It ends
//! when it is killed.

use std::{
    io::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use tidemill_pulsar::{
    Client, ClientConfig, Consumer, ConsumerConfig, ConsumerEvent, Entry, StartAt, partition_topic,
};
use tokio::task::JoinSet;

/// What stands before the event time in a message of `tidemill generate`.
const FIELD: &[u8] = b"\"time\":\"";
/// Length of `2026-01-01T00:00:00`.
const SECOND_BYTES: usize = 19;
/// Messages that may be under way in each partition.
const PERMITS: u32 = 50_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, topic, partitions] = words.as_slice() else {
        panic!("usage: arrivals URL TOPIC PARTITIONS");
    };
    let client = Client::new(ClientConfig::new(url.as_str())).expect("a broker's address");
    let mut tasks = JoinSet::new();
    for partition in 0..partitions.parse().expect("a number of partitions") {
        let topic = partition_topic(topic, partition);
        let config = ConsumerConfig::reader(topic, "arrivals", StartAt::Latest);
        tasks.spawn(watch(client.subscribe(config), partition));
    }
    tasks.join_all().await;
}

async fn watch(mut consumer: Consumer, partition: u32) {
    let mut newest = Vec::new();
    let mut used = 0;
    loop {
        match consumer.next().await {
            ConsumerEvent::Connected => {
                used = 0;
                let _ = consumer.flow(PERMITS).await;
            }
            ConsumerEvent::Entry(entry) => {
                let arrived = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
                used += note(&entry, &mut newest, partition, arrived.as_micros());
                if used >= PERMITS / 2 {
                    let _ = consumer.flow(std::mem::take(&mut used)).await;
                }
            }
            ConsumerEvent::Failed { reason } => panic!("partition {partition}: {reason}"),
            _ => {}
        }
    }
}

/// Writes the line of each new second; returns how many messages the entry has.
fn note(entry: &Entry, newest: &mut Vec<u8>, partition: u32, arrived_us: u128) -> u32 {
    let mut count = 0;
    for message in entry.messages() {
        count += 1;
        let Some(second) = message.ok().and_then(|message| second(message.payload)) else {
            continue;
        };
        if second > newest.as_slice() {
            newest.clear();
            newest.extend_from_slice(second);
            let line = format!("{partition} {arrived_us} {}\n", String::from_utf8_lossy(second));
            std::io::stdout().write_all(line.as_bytes()).expect("somebody reads it");
        }
    }
    count
}

/// Returns the event time up to its seconds; so written, later ones are greater.
fn second(payload: &[u8]) -> Option<&[u8]> {
    let at = payload.windows(FIELD.len()).position(|window| window == FIELD)? + FIELD.len();
    payload.get(at..at + SECOND_BYTES)
}

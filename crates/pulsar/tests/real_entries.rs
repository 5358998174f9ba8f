//! What the broker adds to entries, on a real broker: its clock, and acknowledgements inside a
//! batch.

#[path = "../../../tests/service/pulsar_raw.rs"]
mod raw;
mod real;

use std::time::{SystemTime, UNIX_EPOCH};

use raw::{Raw, RawEntry};
use real::*;
use tidemill_pulsar::{Consumer, ConsumerConfig, ConsumerEvent, Entry, ProducerConfig};

async fn next_entry(consumer: &mut Consumer) -> Entry {
    loop {
        match next(consumer).await {
            ConsumerEvent::Entry(entry) => return entry,
            ConsumerEvent::Failed { reason } => panic!("{reason}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_acknowledged_inside_a_batch_come_again_and_are_marked() {
    let _use = BROKER_USE.read().await;
    let client = client();
    let topic = new_topic("ack-set");
    let producer = client.producer(ProducerConfig::new(&topic)).await.unwrap();
    let messages: Vec<_> = (0..10).map(message).collect();
    producer.send_batch(&messages).await.unwrap();
    producer.send_batch(&[message(10)]).await.unwrap();
    // Messages 0, 1, 2 and 7 are acknowledged.
    let (url, place) = (broker().url.clone(), topic.clone());
    let acknowledge = move || {
        Raw::connect(&url).acknowledge_in_batch(&place, "s", 0b11_0111_1000);
    };
    tokio::task::spawn_blocking(acknowledge).await.unwrap();
    let mut consumer = client.subscribe(ConsumerConfig::new(&topic, "s"));
    connected(&mut consumer).await;
    consumer.flow(100).await.unwrap();
    let entry = next_entry(&mut consumer).await;
    assert!(entry.ack_set.is_some(), "the broker remembers them");
    assert_eq!((entry.message_count, entry.permits), (10, 6));
    let acked: Vec<usize> = entry
        .messages()
        .map(Result::unwrap)
        .enumerate()
        .inspect(|(index, message)| assert_eq!(number_of(message.payload), *index))
        .filter_map(|(index, message)| message.acked.then_some(index))
        .collect();
    assert_eq!(acked, [0, 1, 2, 7]);
    // A cumulative acknowledgement of the entry ends it for good.
    consumer.handle().ack_cumulative(entry.position).await.unwrap();
    let second = next_entry(&mut consumer).await;
    assert!(second.ack_set.is_none() && second.position > entry.position);
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_of_the_broker_stands_above_that_of_the_producer() {
    let _use = BROKER_USE.read().await;
    let client = client();
    let topic = new_topic("clock");
    let mut consumer = client.subscribe(ConsumerConfig::new(&topic, "s"));
    connected(&mut consumer).await;
    consumer.flow(100).await.unwrap();
    let now_ms = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    const YEAR_MS: u64 = 365 * 24 * 3_600_000;
    let before_ms = now_ms();
    let claimed_ms = [before_ms - YEAR_MS, before_ms + YEAR_MS];
    let (url, place) = (broker().url.clone(), topic.clone());
    let produce = move || {
        let entries = claimed_ms.map(|claimed| RawEntry::new(0, claimed, "{}"));
        Raw::connect(&url).produce(&place, &entries)
    };
    tokio::task::spawn_blocking(produce).await.unwrap();
    for claimed_ms in claimed_ms {
        let entry = next_entry(&mut consumer).await;
        assert_eq!(entry.publish_time_ms, claimed_ms);
        let stored_ms = entry.broker_timestamp_ms.expect("the broker adds its clock");
        assert_eq!(entry.message_time_ms(), stored_ms);
        assert!((before_ms..=now_ms()).contains(&stored_ms), "{stored_ms}");
    }
}

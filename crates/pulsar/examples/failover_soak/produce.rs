//! The soak's producer of one partition: small batches, numbered, with what was confirmed noted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_pulsar::{Client, OutgoingMessage, ProducerConfig, partition_topic};

use crate::check::Report;

const BATCH_MESSAGES: u64 = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// Sends batches until it is told to stop.
pub(crate) async fn run(
    client: Client,
    topic: String,
    partition: u32,
    report: Arc<Mutex<Report>>,
    stop: Arc<AtomicBool>,
) {
    let topic = partition_topic(&topic, partition);
    let producer = client.producer(ProducerConfig::new(&topic)).await.expect("a producer");
    let mut next = 0;
    while !stop.load(Ordering::Acquire) {
        let messages: Vec<_> = (next..next + BATCH_MESSAGES)
            .map(|number| OutgoingMessage::new(None::<&str>, number.to_string()))
            .collect();
        let sent = producer.send_batch(&messages).await;
        {
            let mut report = report.lock().expect("no holder panics");
            match sent {
                Ok(receipt) => report.confirmed.push((partition, next, receipt.position)),
                Err(error) => report.unconfirmed.push((partition, next, error.to_string())),
            }
        }
        next += BATCH_MESSAGES;
        tokio::time::sleep(PAUSE).await;
    }
    let _ = producer.close().await;
}

//! Fills a topic with LZ4 batches of 1,000 messages of 500 bytes. The messages are sensor messages
//! from a file, cut or padded, so that they compress as real ones do.

use std::collections::VecDeque;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader};

use bytes::Bytes;
use tidemill_pulsar::{Client, ClientConfig, OutgoingMessage, ProducerConfig};

use crate::Seen;

const BATCH_MESSAGES: usize = 1_000;
const PAYLOAD_BYTES: usize = 500;
/// Batches that are built once and sent in turn.
const BATCHES: usize = 100;

/// Sends `messages` messages, whole batches only.
pub(crate) async fn fill(
    url: &str,
    topic: &str,
    messages: usize,
    lines: &str,
) -> Result<Seen, Box<dyn Error>> {
    let batches = batches(lines)?;
    let client = Client::new(ClientConfig::new(url))?;
    let producer = client.producer(ProducerConfig::new(topic)).await?;
    let mut seen = Seen::default();
    let mut pending = VecDeque::new();
    for batch in batches.iter().cycle().take(messages / BATCH_MESSAGES) {
        pending.push_back(producer.send(batch).await?);
        if pending.len() > 64
            && let Some(oldest) = pending.pop_front()
        {
            oldest.await?;
        }
        for message in batch {
            seen.add(&message.payload, message.key.as_deref().unwrap_or_default());
        }
    }
    for receipt in pending {
        receipt.await?;
    }
    producer.close().await?;
    Ok(seen)
}

fn batches(lines: &str) -> Result<Vec<Vec<OutgoingMessage>>, Box<dyn Error>> {
    let mut lines = BufReader::new(File::open(lines)?).lines();
    let mut batches = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        let mut batch = Vec::with_capacity(BATCH_MESSAGES);
        for _ in 0..BATCH_MESSAGES {
            let line = lines.next().ok_or("the file has too few lines")??;
            // The key is what stands in the second pair of quotes: {"device_id":"sensor_001",...
            let key = line.split('"').nth(3).ok_or("a line has no key")?.to_owned();
            let mut payload = line.into_bytes();
            payload.resize(PAYLOAD_BYTES, b' ');
            batch.push(OutgoingMessage::new(Some(key), Bytes::from(payload)));
        }
        batches.push(batch);
    }
    Ok(batches)
}

//! The consumer of this repository: whole entries, permits returned per entry.

use std::error::Error;

use tidemill_pulsar::{Client, ClientConfig, ConsumerConfig, ConsumerEvent};

use crate::{ACK_MESSAGES, Seen};

/// As the default of `receive_messages_max` of the source.
const PERMITS: u32 = 50_000;

/// Reads `messages` messages from the earliest on.
pub(crate) async fn consume(
    url: &str,
    topic: &str,
    subscription: &str,
    messages: u64,
) -> Result<Seen, Box<dyn Error>> {
    let client = Client::new(ClientConfig::new(url))?;
    let mut consumer = client.subscribe(ConsumerConfig::new(topic, subscription));
    let handle = consumer.handle();
    let (mut seen, mut used, mut acked) = (Seen::default(), 0, 0);
    while seen.messages < messages {
        let entry = match consumer.next().await {
            ConsumerEvent::Connected => {
                handle.flow(PERMITS).await?;
                continue;
            }
            ConsumerEvent::Active(_) => continue,
            ConsumerEvent::Entry(entry) => entry,
            other => return Err(format!("unexpected event: {other:?}").into()),
        };
        for message in entry.messages() {
            let message = message?;
            seen.add(message.payload, message.key.unwrap_or_default());
        }
        used += entry.permits;
        if used >= PERMITS / 4 {
            handle.flow(std::mem::take(&mut used)).await?;
        }
        if seen.messages >= acked + ACK_MESSAGES {
            handle.ack_cumulative(entry.position).await?;
            acked = seen.messages;
        }
    }
    Ok(seen)
}

//! The `pulsar` crate, used as its documentation shows, without decoding the payload.

use std::error::Error;

use futures::TryStreamExt;
use pulsar::consumer::InitialPosition;
use pulsar::{Consumer, ConsumerOptions, Pulsar, SubType, TokioExecutor};

use crate::{ACK_MESSAGES, Seen};

/// Reads `messages` messages from the earliest on.
pub(crate) async fn consume(
    url: &str,
    topic: &str,
    subscription: &str,
    messages: u64,
    permits: u32,
) -> Result<Seen, Box<dyn Error>> {
    let client: Pulsar<_> = Pulsar::builder(url, TokioExecutor).build().await?;
    let options = ConsumerOptions::default().with_initial_position(InitialPosition::Earliest);
    let mut consumer: Consumer<Vec<u8>, _> = client
        .consumer()
        .with_topic(topic)
        .with_subscription(subscription)
        .with_subscription_type(SubType::Failover)
        .with_batch_size(permits)
        .with_options(options)
        .build()
        .await?;
    let (mut seen, mut acked) = (Seen::default(), 0);
    while seen.messages < messages {
        let message = consumer.try_next().await?.ok_or("the stream ended")?;
        let key = message.metadata().partition_key.as_deref().unwrap_or_default();
        seen.add(&message.payload.data, key.as_bytes());
        if seen.messages >= acked + ACK_MESSAGES {
            consumer.cumulative_ack(&message).await?;
            acked = seen.messages;
        }
    }
    Ok(seen)
}

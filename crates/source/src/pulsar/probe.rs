//! Looks what follows an entry in the log, past the subscription's cursor.
//!
//! Within a ledger entries are counted, so a gap shows. From one ledger to the next it does not:
//! an acknowledgement by somebody else may have moved the cursor over the rest of the old one. A
//! reader of its own, which has no cursor that others could move, tells.

use std::time::Duration;

use tidemill_pulsar::{Client, ConsumerConfig, ConsumerEvent, Position, StartAt};

/// How long the broker may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages asked for: a few entries are enough.
const PERMITS: u32 = 2;

/// Returns the first entry behind `last` that the broker still has.
///
/// # Errors
/// If it cannot be told now.
pub(super) async fn entry_behind(
    client: &Client,
    topic: &str,
    last: Position,
) -> Result<Position, String> {
    let config = ConsumerConfig::reader(topic, "tidemill-probe", StartAt::Position(last));
    let mut reader = client.subscribe(config);
    let search = async {
        loop {
            match reader.next().await {
                ConsumerEvent::Connected => {
                    reader.flow(PERMITS).await.map_err(|error| error.to_string())?;
                }
                ConsumerEvent::Entry(entry) if entry.position > last => return Ok(entry.position),
                ConsumerEvent::Entry(entry) => {
                    reader.flow(entry.permits).await.map_err(|error| error.to_string())?;
                }
                ConsumerEvent::EndOfTopic => return Err("the topic ends".to_owned()),
                ConsumerEvent::Failed { reason } => return Err(reason.to_string()),
                _ => {}
            }
        }
    };
    match tokio::time::timeout(PROBE_TIMEOUT, search).await {
        Ok(found) => found,
        Err(_) => Err(format!("no answer within {PROBE_TIMEOUT:?}")),
    }
}

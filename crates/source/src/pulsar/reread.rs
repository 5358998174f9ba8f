//! Reads a partition's log again by a reader of its own: for whoever checks or recomputes what a
//! job made of it.
//!
//! It moves no cursor, acknowledges nothing and has no part in any subscription. Entries become
//! what the job's own source makes of them. Whoever reads decides where it ends.

use std::{sync::Arc, time::Duration};

use tidemill_engine::port::Entry;
use tidemill_kernel::event::Position;
use tidemill_pulsar::{
    self as pulsar, Client, Consumer, ConsumerConfig, ConsumerEvent, EntryLimits, StartAt,
};
use tokio::runtime::Runtime;

use super::{
    PulsarConfig, convert, envelope,
    flow::{Flow, QueueShare},
};

/// How long the broker may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// A partition's log from one entry on.
pub struct LogReader {
    consumer: Consumer,
    envelope: Option<envelope::Writer>,
    entry_bytes_max: usize,
    flow: Flow,
    last: Option<pulsar::Position>,
    /// Ends the connection when the reader is dropped.
    runtime: Runtime,
}

impl LogReader {
    /// Prepares to read a topic (of one partition) from the entry that holds `from`, or from the
    /// first behind it that the broker still has. `name` names the reader at the broker; no two
    /// may have the same.
    ///
    /// # Errors
    /// A bad URL, or no thread to be had.
    pub fn open(
        config: &PulsarConfig,
        topic: &str,
        name: &str,
        from: Position,
    ) -> Result<LogReader, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("reread")
            .enable_all()
            .build()
            .map_err(|error| format!("source.pulsar: {error}"))?;
        let consumer = {
            let _context = runtime.enter();
            let client = Client::new(config.client.clone())
                .map_err(|error| format!("source.pulsar.url: {error}"))?;
            let from = pulsar::Position { ledger_id: from.segment, entry_id: from.offset };
            let limits =
                EntryLimits { entry_bytes_max: config.entry_bytes_max, ..EntryLimits::default() };
            let reader = ConsumerConfig::reader(topic, name, StartAt::Position(from));
            // Looking must not make what is not there.
            client.subscribe(ConsumerConfig { limits, create_topic: false, ..reader })
        };
        let share = QueueShare::new(config.queue_bytes_max, u64::MAX);
        Ok(LogReader {
            consumer,
            envelope: envelope::Writer::new(&config.envelope, topic),
            entry_bytes_max: config.entry_bytes_max,
            flow: Flow::new(config.queue_messages_max, Arc::new(share)),
            last: None,
            runtime,
        })
    }

    /// Returns the next entry, in log order and each once; `None` behind the last entry of a topic
    /// that was terminated. At the end of any other topic it waits.
    ///
    /// # Errors
    /// If the broker refuses, or is silent for 20 seconds.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, String> {
        loop {
            let next = self.consumer.next();
            let event =
                self.runtime.block_on(async { tokio::time::timeout(SILENCE_MAX, next).await });
            match event.map_err(|_| format!("the broker was silent for {SILENCE_MAX:?}"))? {
                ConsumerEvent::Connected => {
                    self.flow.reset();
                    self.grant();
                }
                ConsumerEvent::Entry(entry) => {
                    self.flow.delivered(entry.permits, entry.body_bytes());
                    self.flow.processed(entry.permits);
                    self.grant();
                    if self.last.is_some_and(|last| entry.position <= last) {
                        continue;
                    }
                    self.last = Some(entry.position);
                    return Ok(Some(match &self.envelope {
                        None => convert::entry(&entry),
                        Some(writer) => {
                            let bytes_max = self.entry_bytes_max.saturating_mul(2);
                            convert::entry_in_envelopes(&entry, writer, bytes_max)
                        }
                    }));
                }
                ConsumerEvent::EndOfTopic => return Ok(None),
                ConsumerEvent::Failed { reason } => return Err(reason.to_string()),
                _ => {}
            }
        }
    }

    fn grant(&mut self) {
        let permits = self.flow.grant();
        let handle = self.consumer.handle();
        if permits > 0 && self.runtime.block_on(handle.flow(permits)).is_err() {
            // The subscription is gone; the next one grants anew.
            self.flow.reset();
        }
    }
}

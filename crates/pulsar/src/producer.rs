//! A producer of whole batches to one topic or partition.
//!
//! Several batches may be under way; each is confirmed by a receipt. When the connection ends,
//! batches without a receipt are sent again on the next one, in order, under the same producer
//! name and with the same sequence ids. With deduplication switched on at the broker nothing is
//! then stored twice; without it a batch whose receipt was lost is. A batch fails only where the
//! broker refuses it for good or the producer is dropped; after a drop or `Error::Closed` it is
//! unknown whether it was stored. There is no time limit: a broker that is away is back pressure.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::batch::{OutgoingMessage, encode_batch};
use crate::client::Client;
use crate::codec::Compression;
use crate::entry::{EntryLimits, Position};
use crate::error::Error;
use crate::producer::task::{Link, Task};

mod task;

/// Settings of a producer.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// Full name of a topic that is not partitioned, or of one partition.
    pub topic: String,
    /// Name, unique at the topic; `None` lets the broker choose. Deduplication needs a name that
    /// stays the same.
    pub name: Option<String>,
    /// How batches are compressed.
    pub compression: Compression,
    /// Batches under way; `send` waits beyond. Between 1 and 4,096, default 16.
    pub in_flight_max: usize,
}

impl ProducerConfig {
    /// Creates the settings of a producer with LZ4 and a name chosen by the broker.
    pub fn new(topic: impl Into<String>) -> Self {
        let topic = topic.into();
        Self { topic, name: None, compression: Compression::Lz4, in_flight_max: 16 }
    }
}

/// Confirms that a batch is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendReceipt {
    /// Sequence id of the batch.
    pub sequence_id: u64,
    /// Where it is stored; `None` where the broker's deduplication says it was stored before.
    pub position: Option<Position>,
}

/// The receipt of a batch that is under way; a future. Dropping it does not take the batch back.
#[derive(Debug)]
pub struct PendingReceipt {
    receiver: oneshot::Receiver<Result<SendReceipt, Error>>,
}

impl PendingReceipt {
    /// Returns the outcome if it is known already; `None` if not. Not to be asked again after an
    /// outcome.
    pub fn try_take(&mut self) -> Option<Result<SendReceipt, Error>> {
        match self.receiver.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(Error::Closed)),
        }
    }
}

impl Future for PendingReceipt {
    type Output = Result<SendReceipt, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver)
            .poll(context)
            .map(|outcome| outcome.unwrap_or(Err(Error::Closed)))
    }
}

/// A batch that is ready but for its sequence id.
#[derive(Debug)]
struct Prepared {
    body: Bytes,
    /// Size before compression; `None` where there is none.
    uncompressed_bytes: Option<usize>,
    /// `None` for a message without a batch around it.
    message_count: Option<i32>,
    key: Option<Bytes>,
    event_time_ms: Option<u64>,
    done: oneshot::Sender<Result<SendReceipt, Error>>,
    permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Work {
    Send(Prepared),
    Close(oneshot::Sender<()>),
}

/// What the producer and its task share.
#[derive(Debug)]
struct Shared {
    config: ProducerConfig,
    name: String,
    last_sequence_id: Option<u64>,
    message_bytes_max: AtomicUsize,
    failed: Mutex<Option<Error>>,
}

impl Shared {
    fn failure(&self) -> Error {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.clone().unwrap_or(Error::Closed)
    }

    fn fail(&self, reason: Error) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }
}

/// A producer; may be used by several tasks at once. Dropping it gives up what is under way.
#[derive(Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    work: mpsc::Sender<Work>,
    /// Tells the task of the drop.
    _owner: oneshot::Sender<()>,
    slots: Arc<Semaphore>,
}

/// The largest batch in messages; readers take more for forged.
const BATCH_MESSAGES_MAX: usize = 1 << 20;
const IN_FLIGHT_MAX: usize = 4096;
/// Metadata around a body, without producer name and key.
const METADATA_BYTES: usize = 256;

impl Client {
    /// Creates a producer: connects, trying again with back-off as long as that can help.
    ///
    /// # Errors
    /// What the broker refuses for good, for example a topic that does not exist.
    pub async fn producer(&self, config: ProducerConfig) -> Result<Producer, Error> {
        let mut config = config;
        config.in_flight_max = config.in_flight_max.clamp(1, IN_FLIGHT_MAX);
        let mut backoff = self.backoff();
        let (link, name, last) = loop {
            match Link::open(self, &config, config.name.as_deref()).await {
                Ok(opened) => break opened,
                Err(error) => match backoff.pause_after(&error) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(error),
                },
            }
        };
        let slots = Arc::new(Semaphore::new(config.in_flight_max));
        let (work, receiver) = mpsc::channel(config.in_flight_max + 1);
        let shared = Arc::new(Shared {
            config,
            name,
            last_sequence_id: last,
            message_bytes_max: AtomicUsize::new(link.message_bytes_max()),
            failed: Mutex::default(),
        });
        let (owner, owned) = oneshot::channel();
        let task = Task::new(self.clone(), Arc::clone(&shared), receiver, owned);
        tokio::spawn(task.run(link));
        Ok(Producer { shared, work, _owner: owner, slots })
    }
}

impl Producer {
    /// Sends a batch and waits for its receipt.
    ///
    /// # Errors
    /// See `send`, and what the broker answers.
    pub async fn send_batch(&self, messages: &[OutgoingMessage]) -> Result<SendReceipt, Error> {
        self.send(messages).await?.await
    }

    /// Hands over a batch, waiting while `in_flight_max` are under way, and returns its future
    /// receipt. Batches are stored in the order of the calls.
    ///
    /// # Errors
    /// `Error::TooLarge`, `Error::Config` for no or more than 1,048,576 messages, or the reason
    /// for which the producer has ended.
    pub async fn send(&self, messages: &[OutgoingMessage]) -> Result<PendingReceipt, Error> {
        let message_count = match i32::try_from(messages.len()) {
            Ok(count) if count > 0 && messages.len() <= BATCH_MESSAGES_MAX => count,
            _ => {
                return Err(Error::Config {
                    key: "messages",
                    value: messages.len().to_string(),
                    problem: "a batch has between 1 and 1048576 messages",
                });
            }
        };
        let bytes = messages.iter().map(OutgoingMessage::batched_bytes).sum();
        self.check_uncompressed(bytes)?;
        self.submit(encode_batch(messages), Some(message_count), None, None).await
    }

    /// Sends one message without a batch around it.
    ///
    /// # Errors
    /// As `send_batch`.
    pub async fn send_unbatched(&self, message: &OutgoingMessage) -> Result<SendReceipt, Error> {
        self.check_uncompressed(message.batched_bytes())?;
        let (payload, key) = (message.payload.clone(), message.key.clone());
        self.submit(payload, None, key, message.event_time_ms).await?.await
    }

    /// The protocol has 32 bits for the size before compression, readers have a lower limit.
    fn check_uncompressed(&self, bytes: usize) -> Result<(), Error> {
        let bytes_max = EntryLimits::default().entry_bytes_max;
        if bytes > bytes_max { Err(Error::TooLarge { bytes, bytes_max }) } else { Ok(()) }
    }

    async fn submit(
        &self,
        raw: Bytes,
        message_count: Option<i32>,
        key: Option<Bytes>,
        event_time_ms: Option<u64>,
    ) -> Result<PendingReceipt, Error> {
        let compression = self.shared.config.compression;
        let uncompressed_bytes = raw.len();
        let body = compression.compress(raw);
        let key_bytes = key.as_ref().map_or(0, Bytes::len);
        let bytes = body.len() + key_bytes + self.shared.name.len() + METADATA_BYTES;
        let bytes_max = self.shared.message_bytes_max.load(Ordering::Relaxed);
        if bytes > bytes_max {
            return Err(Error::TooLarge { bytes, bytes_max });
        }
        let slots = Arc::clone(&self.slots);
        let permit = slots.acquire_owned().await.map_err(|_| self.shared.failure())?;
        let (done, receiver) = oneshot::channel();
        let prepared = Prepared {
            body,
            uncompressed_bytes: (compression != Compression::None).then_some(uncompressed_bytes),
            message_count,
            key,
            event_time_ms,
            done,
            permit,
        };
        let sent = self.work.send(Work::Send(prepared)).await;
        sent.map_err(|_| self.shared.failure())?;
        Ok(PendingReceipt { receiver })
    }

    /// Returns the name under which the broker knows the producer.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Returns the sequence id of the last batch that an earlier producer of this name had
    /// stored, where the broker deduplicates; new batches go on behind it.
    pub fn last_sequence_id(&self) -> Option<u64> {
        self.shared.last_sequence_id
    }

    /// Waits until everything under way has its receipt, then ends the producer.
    ///
    /// # Errors
    /// The reason for which the producer had ended before.
    pub async fn close(self) -> Result<(), Error> {
        let (done, finished) = oneshot::channel();
        let ordered = self.work.send(Work::Close(done)).await;
        ordered.map_err(|_| self.shared.failure())?;
        finished.await.map_err(|_| self.shared.failure())
    }
}

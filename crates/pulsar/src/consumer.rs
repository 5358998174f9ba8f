//! The public side of a consumer: its settings, its events and its controls.
//!
//! A consumer has two sides that may live in different tasks. `Consumer` yields events and opens
//! entries; `ConsumerHandle` grants permits, acknowledges and seeks. The task in `subscription`
//! keeps the subscription alive. Opening (checksum, decompression) happens in the task that calls
//! `next`, so consumers of several partitions spread over threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::client::Client;
use crate::connection::Connection;
use crate::dispatch::Delivery;
use crate::entry::{Entry, EntryLimits, Position};
use crate::error::Error;
use crate::proto::{self, Command};
use crate::subscription::{self, Order};

/// How the consumers of a subscription share a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubscriptionKind {
    /// One is active, the others wait to take over.
    #[default]
    Failover,
    /// Only one may exist; others are refused until it is gone.
    Exclusive,
}

/// A place in the log to start from or to seek to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// The oldest entry that the broker still has.
    Earliest,
    /// Behind the newest entry.
    Latest,
    /// This entry, itself included.
    Position(Position),
    /// The first entry published at or after this time (ms since 1970). For `seek` only.
    PublishTime(u64),
}

/// Settings of a consumer.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// Full name of a topic that is not partitioned, or of one partition.
    pub topic: String,
    /// Name of the subscription.
    pub subscription: String,
    /// How it is shared.
    pub kind: SubscriptionKind,
    /// Name of this consumer; empty lets the broker choose. Failover orders consumers by it.
    pub consumer_name: String,
    /// True: the broker remembers the cursor. False: a reader, whose cursor lives as long as its
    /// connection.
    pub durable: bool,
    /// Where a durable subscription starts when it is new (`Earliest` or `Latest`), or where a
    /// reader starts. A reader that is reconnected goes on with the entry that it delivered last.
    pub start: StartAt,
    /// Whether the broker may create the topic.
    pub create_topic: bool,
    /// Bounds on a single entry.
    pub limits: EntryLimits,
}

impl ConsumerConfig {
    /// Creates the settings of a durable Failover consumer that starts a new subscription at the
    /// earliest entry.
    pub fn new(topic: impl Into<String>, subscription: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            subscription: subscription.into(),
            kind: SubscriptionKind::Failover,
            consumer_name: String::new(),
            durable: true,
            start: StartAt::Earliest,
            create_topic: true,
            limits: EntryLimits::default(),
        }
    }

    /// Creates the settings of a reader: an exclusive subscription without a durable cursor.
    pub fn reader(
        topic: impl Into<String>,
        subscription: impl Into<String>,
        start: StartAt,
    ) -> Self {
        Self {
            kind: SubscriptionKind::Exclusive,
            durable: false,
            start,
            ..Self::new(topic, subscription)
        }
    }
}

/// What happens to a consumer.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// A subscription was made, the first or a new one. No permits are granted yet, and entries
    /// start from the broker's cursor: whoever keeps state restarts it from its own record.
    Connected,
    /// Failover only: whether this consumer gets the entries of the partition.
    Active(bool),
    /// An entry.
    Entry(Entry),
    /// The subscription ended; the consumer makes a new one by itself. Nothing of the old one
    /// follows.
    Disconnected {
        /// Why.
        reason: Error,
    },
    /// The first attempt at a new subscription since the last event failed; attempts go on.
    Waiting {
        /// Why.
        reason: Error,
    },
    /// The topic was terminated and everything in it was delivered.
    EndOfTopic,
    /// The consumer is at its end: refused for good, or closed by its owner (`Error::Closed`).
    /// Every later call of `next` yields `Failed` with `Error::Closed`.
    Failed {
        /// Why.
        reason: Error,
    },
}

/// The subscription that exists at present.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) epoch: u64,
    pub(crate) consumer_id: u64,
    pub(crate) connection: Connection,
}

/// What the two sides and the task of a consumer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ConsumerConfig,
    /// The subscription whose entries are valid; 0 while there is none.
    pub(crate) live_epoch: Arc<AtomicU64>,
    /// The subscription that the event side has reported as connected.
    reported_epoch: AtomicU64,
    session: Mutex<Option<Session>>,
    start: Mutex<StartAt>,
}

impl Shared {
    pub(crate) fn start(&self) -> StartAt {
        *self.start.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_start(&self, start: StartAt) {
        *self.start.lock().unwrap_or_else(PoisonError::into_inner) = start;
    }

    pub(crate) fn session(&self) -> MutexGuard<'_, Option<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the subscription that the event side knows of, so that nothing which the
    /// application decided upon an older one reaches a newer one.
    fn reported_session(&self) -> Result<Session, Error> {
        let reported = self.reported_epoch.load(Ordering::Acquire);
        let live = self.live_epoch.load(Ordering::Acquire);
        let session = self.session().clone();
        session
            .filter(|session| session.epoch == reported && session.epoch == live)
            .ok_or_else(|| Error::NotConnected { topic: self.config.topic.clone() })
    }
}

/// The event side of a consumer. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    events: mpsc::UnboundedReceiver<Delivery>,
    orders: mpsc::Sender<Order>,
    /// Arrived before the answer to the subscription that it belongs to.
    early_active: Option<(u64, bool)>,
    connected: bool,
}

/// The control side of a consumer; clones share it.
#[derive(Clone, Debug)]
pub struct ConsumerHandle {
    pub(crate) shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
}

impl Client {
    /// Creates a consumer and starts its task; the first event is `Connected` or a failure.
    ///
    /// Must be called within a tokio runtime.
    pub fn subscribe(&self, config: ConsumerConfig) -> Consumer {
        let shared = Arc::new(Shared {
            start: Mutex::new(config.start),
            config,
            live_epoch: Arc::default(),
            reported_epoch: AtomicU64::new(0),
            session: Mutex::default(),
        });
        let (sender, events) = mpsc::unbounded_channel();
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        tokio::spawn(subscription::run(self.clone(), Arc::clone(&shared), sender, receiver));
        Consumer { shared, events, orders, early_active: None, connected: false }
    }
}

const ORDERS_MAX: usize = 8;

impl Consumer {
    /// Waits for the next event. May be cancelled without losing one.
    pub async fn next(&mut self) -> ConsumerEvent {
        if self.connected
            && let Some((epoch, active)) = self.early_active.take()
            && epoch == self.shared.reported_epoch.load(Ordering::Acquire)
        {
            return ConsumerEvent::Active(active);
        }
        loop {
            let Some(delivery) = self.events.recv().await else {
                return ConsumerEvent::Failed { reason: Error::Closed };
            };
            if let Some(event) = self.judge(delivery) {
                return event;
            }
        }
    }

    /// Returns the control side.
    pub fn handle(&self) -> ConsumerHandle {
        ConsumerHandle { shared: Arc::clone(&self.shared), orders: self.orders.clone() }
    }

    /// Grants permits; see `ConsumerHandle::flow`.
    ///
    /// # Errors
    /// See `ConsumerHandle::flow`.
    pub async fn flow(&self, permits: u32) -> Result<(), Error> {
        self.handle().flow(permits).await
    }

    fn judge(&mut self, delivery: Delivery) -> Option<ConsumerEvent> {
        let live = self.shared.live_epoch.load(Ordering::Acquire);
        match delivery {
            // Ended again before it was reported: as if it had never been.
            Delivery::Connected { epoch } if epoch != live => None,
            Delivery::Connected { epoch } => {
                self.connected = true;
                self.shared.reported_epoch.store(epoch, Ordering::Release);
                Some(ConsumerEvent::Connected)
            }
            Delivery::Active { epoch, active, .. } => self.judge_active(epoch, active),
            Delivery::Entry { epoch, .. } if epoch != live => None,
            Delivery::Entry { entry, .. } => {
                if !self.shared.config.durable {
                    self.shared.set_start(StartAt::Position(entry.position));
                }
                Some(ConsumerEvent::Entry(Entry::open_with(
                    entry.position,
                    entry.partition,
                    entry.redelivery_count,
                    entry.ack_set,
                    entry.payload,
                    &self.shared.config.limits,
                )))
            }
            Delivery::EndOfTopic { epoch, .. } => {
                (epoch == live).then_some(ConsumerEvent::EndOfTopic)
            }
            Delivery::Disconnected { epoch, reason } => {
                let reported = self.shared.reported_epoch.load(Ordering::Acquire);
                if !self.connected || epoch != reported {
                    return None;
                }
                self.connected = false;
                Some(ConsumerEvent::Disconnected { reason })
            }
            Delivery::Waiting { reason } => Some(ConsumerEvent::Waiting { reason }),
            Delivery::Failed { reason } => {
                self.connected = false;
                self.events.close();
                Some(ConsumerEvent::Failed { reason })
            }
        }
    }

    fn judge_active(&mut self, epoch: u64, active: bool) -> Option<ConsumerEvent> {
        let reported = self.shared.reported_epoch.load(Ordering::Acquire);
        if self.connected && epoch == reported {
            let live = epoch == self.shared.live_epoch.load(Ordering::Acquire);
            return live.then_some(ConsumerEvent::Active(active));
        }
        self.early_active = Some((epoch, active));
        None
    }
}

impl ConsumerHandle {
    /// Allows the broker to send so many messages more. Permits are charged by entry
    /// (`Entry::permits`); the last entry may exceed them. They end with the subscription.
    ///
    /// # Errors
    /// `Error::NotConnected` where there is no subscription or the event side has not reported it
    /// yet; the permits are then void.
    pub async fn flow(&self, permits: u32) -> Result<(), Error> {
        let session = self.shared.reported_session()?;
        let consumer_id = session.consumer_id;
        let flow = proto::CommandFlow { consumer_id, message_permits: permits };
        session.connection.send(Command::Flow(flow)).await
    }

    /// Acknowledges an entry and all before it, and waits for the broker's receipt.
    ///
    /// The broker does not make the cursor durable at once, and it does not check whether this
    /// consumer is the active one: that is the caller's affair.
    ///
    /// # Errors
    /// `Error::NotConnected`; on `Timeout` and `Disconnected` the acknowledgement may have counted.
    pub async fn ack_cumulative(&self, position: Position) -> Result<(), Error> {
        const CUMULATIVE: i32 = 1;
        let session = self.shared.reported_session()?;
        let topic = &self.shared.config.topic;
        let request = |request_id| {
            Command::Ack(proto::CommandAck {
                consumer_id: session.consumer_id,
                ack_type: CUMULATIVE,
                message_id: vec![subscription::message_id(position)],
                request_id: Some(request_id),
            })
        };
        match session.connection.request("ack", topic, request).await? {
            Command::AckResponse(answer) if answer.error.is_none() => Ok(()),
            Command::AckResponse(answer) => {
                Err(Error::broker("ack", topic, answer.error, answer.message))
            }
            other => Err(session.connection.unexpected("ack", &other)),
        }
    }

    /// Moves the subscription. The broker ends the consumer for it: the events `Disconnected` and
    /// `Connected` follow, then entries from the new place.
    ///
    /// # Errors
    /// `Error::NotConnected`; on `Timeout` and `Disconnected` the seek may have taken effect.
    pub async fn seek(&self, to: StartAt) -> Result<(), Error> {
        let session = self.shared.reported_session()?;
        let topic = &self.shared.config.topic;
        if !self.shared.config.durable && !matches!(to, StartAt::PublishTime(_)) {
            self.shared.set_start(to);
        }
        let message_publish_time = match to {
            StartAt::PublishTime(at_ms) => Some(at_ms),
            _ => None,
        };
        let request = |request_id| {
            Command::Seek(proto::CommandSeek {
                consumer_id: session.consumer_id,
                request_id,
                message_id: subscription::start_id(to),
                message_publish_time,
            })
        };
        match session.connection.request("seek", topic, request).await? {
            Command::Success(_) => {
                // The broker has closed the consumer already; if it ever does not, nothing from
                // before the seek may be delivered.
                let dispatch = session.connection.dispatch();
                let reason = dispatch.disconnected("seek");
                if dispatch.end_consumer(session.consumer_id, reason) {
                    let request_id = session.connection.next_request_id();
                    let consumer_id = session.consumer_id;
                    let close = proto::CommandCloseConsumer { consumer_id, request_id };
                    session.connection.send(Command::CloseConsumer(close)).await?;
                }
                Ok(())
            }
            other => Err(session.connection.unexpected("seek", &other)),
        }
    }

    /// Asks for the position of the newest entry; `None` where the topic holds none.
    ///
    /// # Errors
    /// Any; not repeated.
    pub async fn last_position(&self) -> Result<Option<Position>, Error> {
        let what = "last message id";
        let session = self.shared.reported_session()?;
        let consumer_id = session.consumer_id;
        let request = |request_id| {
            Command::GetLastMessageId(proto::CommandGetLastMessageId { consumer_id, request_id })
        };
        match session.connection.request(what, &self.shared.config.topic, request).await? {
            Command::GetLastMessageIdResponse(answer) => Ok(answer
                .last_message_id
                // An empty topic is reported as entry -1.
                .filter(|id| id.entry_id != u64::MAX && id.ledger_id != u64::MAX)
                .map(|id| Position { ledger_id: id.ledger_id, entry_id: id.entry_id })),
            other => Err(session.connection.unexpected(what, &other)),
        }
    }

    /// Deletes the subscription at the broker, its cursor included, and ends the consumer.
    ///
    /// # Errors
    /// Any; the consumer then goes on.
    pub async fn unsubscribe(&self) -> Result<(), Error> {
        let what = "unsubscribe";
        let session = self.shared.reported_session()?;
        let consumer_id = session.consumer_id;
        let request = |request_id| {
            Command::Unsubscribe(proto::CommandUnsubscribe { consumer_id, request_id })
        };
        match session.connection.request(what, &self.shared.config.topic, request).await? {
            Command::Success(_) => self.close().await,
            other => Err(session.connection.unexpected(what, &other)),
        }
    }

    /// Ends the consumer and waits until the broker has confirmed it, or 5 s.
    ///
    /// # Errors
    /// None at present.
    pub async fn close(&self) -> Result<(), Error> {
        let (done, finished) = oneshot::channel();
        if self.orders.send(Order::Close(done)).await.is_ok() {
            // Fails only where the task has ended, which is what was asked for.
            let _ = finished.await;
        }
        Ok(())
    }
}

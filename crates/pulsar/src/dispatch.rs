//! Who waits for what on one connection: answers by request id, entries by consumer id, receipts
//! by producer id. Reads frames, touches no socket.
//!
//! What arrives for an id that is no longer registered is dropped; this is how nothing of an old
//! subscription can reach a new one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::batch::AckSet;
use crate::entry::Position;
use crate::error::Error;
use crate::frame::Frame;
use crate::proto::{self, Command};

/// Bytes that have been read from the socket and wait in the queues of consumers.
#[derive(Debug, Default)]
pub(crate) struct ReadQueue {
    bytes: AtomicUsize,
    pub(crate) lowered: Notify,
}

impl ReadQueue {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    fn charge(self: &Arc<Self>, payload_bytes: usize) -> Charge {
        // What an item costs besides its payload.
        const ITEM_BYTES: usize = 256;
        let bytes = payload_bytes + ITEM_BYTES;
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        Charge { queue: Arc::clone(self), bytes }
    }
}

/// Gives the bytes of one queued item back when the item leaves the queue.
#[derive(Debug)]
pub(crate) struct Charge {
    queue: Arc<ReadQueue>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.queue.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.queue.lowered.notify_one();
    }
}

/// An entry as received, not yet opened.
#[derive(Debug)]
pub(crate) struct RawEntry {
    pub(crate) position: Position,
    pub(crate) partition: i32,
    pub(crate) redelivery_count: u32,
    pub(crate) ack_set: Option<AckSet>,
    pub(crate) payload: Bytes,
}

/// What travels to a consumer's event side; `epoch` numbers its subscriptions.
#[derive(Debug)]
pub(crate) enum Delivery {
    Connected { epoch: u64 },
    Active { epoch: u64, active: bool, _charge: Charge },
    Entry { epoch: u64, entry: RawEntry, _charge: Charge },
    EndOfTopic { epoch: u64, _charge: Charge },
    Disconnected { epoch: u64, reason: Error },
    Waiting { reason: Error },
    Failed { reason: Error },
}

/// Where a connection delivers what arrives for one consumer.
#[derive(Debug)]
pub(crate) struct ConsumerRoute {
    pub(crate) epoch: u64,
    /// The subscription whose entries are valid; 0 while there is none.
    pub(crate) live_epoch: Arc<AtomicU64>,
    pub(crate) events: mpsc::UnboundedSender<Delivery>,
    pub(crate) ended: oneshot::Sender<Error>,
}

impl ConsumerRoute {
    fn end(self, reason: Error) {
        let _ =
            self.live_epoch.compare_exchange(self.epoch, 0, Ordering::AcqRel, Ordering::Acquire);
        // The subscription may have been given up already.
        let _ = self.ended.send(reason);
    }
}

/// What arrives for a producer.
#[derive(Debug)]
pub(crate) enum ProducerEvent {
    Receipt { sequence_id: u64, position: Option<Position> },
    Refused { sequence_id: u64, code: i32, message: String },
    Ended { reason: Error },
}

#[derive(Debug, Default)]
struct Routes {
    answers: HashMap<u64, oneshot::Sender<Result<Command, Error>>>,
    consumers: HashMap<u64, ConsumerRoute>,
    producers: HashMap<u64, mpsc::Sender<ProducerEvent>>,
    closed: Option<Error>,
}

/// What the connection has to do after a frame.
#[derive(Debug)]
pub(crate) enum Reaction {
    Nothing,
    Reply(Command),
    Challenge,
}

/// The routes of one connection; shared by its task and everybody who uses it.
#[derive(Debug)]
pub(crate) struct Dispatch {
    address: String,
    routes: Mutex<Routes>,
    pub(crate) queue: Arc<ReadQueue>,
}

impl Dispatch {
    pub(crate) fn new(address: String) -> Self {
        Self { address, routes: Mutex::default(), queue: Arc::default() }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        // No code that holds the lock can leave the maps half changed.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.routes().closed.is_some()
    }

    pub(crate) fn expect_answer(
        &self,
        request_id: u64,
    ) -> Result<oneshot::Receiver<Result<Command, Error>>, Error> {
        let mut routes = self.routes();
        if let Some(reason) = &routes.closed {
            return Err(reason.clone());
        }
        let (sender, receiver) = oneshot::channel();
        routes.answers.insert(request_id, sender);
        Ok(receiver)
    }

    pub(crate) fn forget_answer(&self, request_id: u64) {
        self.routes().answers.remove(&request_id);
    }

    pub(crate) fn add_consumer(&self, id: u64, route: ConsumerRoute) -> Result<(), Error> {
        let mut routes = self.routes();
        match &routes.closed {
            Some(reason) => Err(reason.clone()),
            None => {
                routes.consumers.insert(id, route);
                Ok(())
            }
        }
    }

    /// Ends a subscription from this side; returns false where it had ended before.
    pub(crate) fn end_consumer(&self, id: u64, reason: Error) -> bool {
        let route = self.routes().consumers.remove(&id);
        let present = route.is_some();
        if let Some(route) = route {
            route.end(reason);
        }
        present
    }

    pub(crate) fn add_producer(
        &self,
        id: u64,
        route: mpsc::Sender<ProducerEvent>,
    ) -> Result<(), Error> {
        let mut routes = self.routes();
        match &routes.closed {
            Some(reason) => Err(reason.clone()),
            None => {
                routes.producers.insert(id, route);
                Ok(())
            }
        }
    }

    pub(crate) fn remove_producer(&self, id: u64) -> bool {
        self.routes().producers.remove(&id).is_some()
    }

    pub(crate) fn disconnected(&self, reason: impl Into<String>) -> Error {
        Error::Disconnected { address: self.address.clone(), reason: reason.into() }
    }

    /// Fails everybody who waits; nothing can be registered any more.
    pub(crate) fn close(&self, reason: Error) {
        let routes = {
            let mut routes = self.routes();
            let closed = Some(reason.clone());
            std::mem::replace(&mut *routes, Routes { closed, ..Routes::default() })
        };
        for answer in routes.answers.into_values() {
            let _ = answer.send(Err(reason.clone()));
        }
        for route in routes.consumers.into_values() {
            route.end(reason.clone());
        }
        for producer in routes.producers.into_values() {
            end_producer(&producer, reason.clone());
        }
    }

    /// Delivers one frame.
    pub(crate) fn accept(&self, frame: Frame) -> Reaction {
        let (Some(command), payload) = frame.into_parts() else { return Reaction::Nothing };
        match command {
            Command::Message(message) => self.accept_message(message, payload),
            Command::Ping(_) => return Reaction::Reply(Command::Pong(proto::CommandPong {})),
            Command::AuthChallenge(_) => return Reaction::Challenge,
            Command::ActiveConsumerChange(change) => {
                self.deliver(change.consumer_id, 0, |epoch, charge| {
                    let active = change.is_active.unwrap_or(false);
                    Delivery::Active { epoch, active, _charge: charge }
                });
            }
            Command::ReachedEndOfTopic(end) => {
                self.deliver(end.consumer_id, 0, |epoch, charge| Delivery::EndOfTopic {
                    epoch,
                    _charge: charge,
                });
            }
            Command::CloseConsumer(close) => {
                self.end_consumer(close.consumer_id, self.disconnected("closed by the broker"));
            }
            Command::CloseProducer(close) => {
                let reason = self.disconnected("closed by the broker");
                let producer = self.routes().producers.remove(&close.producer_id);
                producer.inspect(|producer| end_producer(producer, reason));
            }
            Command::SendReceipt(receipt) => {
                // The broker writes -1:-1 for a batch that it had stored before.
                let stored = receipt.message_id.filter(|id| id.ledger_id != u64::MAX);
                let position = stored.map(|id| position(&id));
                let sequence_id = receipt.sequence_id;
                let event = ProducerEvent::Receipt { sequence_id, position };
                self.inform_producer(receipt.producer_id, event);
            }
            Command::SendError(error) => {
                let (sequence_id, code) = (error.sequence_id, error.error);
                let event = ProducerEvent::Refused { sequence_id, code, message: error.message };
                self.inform_producer(error.producer_id, event);
            }
            answer => self.accept_answer(answer),
        }
        Reaction::Nothing
    }

    fn accept_message(&self, message: proto::CommandMessage, payload: Bytes) {
        let Some(id) = message.message_id else { return };
        let bytes = payload.len();
        self.deliver(message.consumer_id, bytes, |epoch, charge| {
            let entry = RawEntry {
                position: position(&id),
                partition: id.partition.unwrap_or(-1),
                redelivery_count: message.redelivery_count.unwrap_or(0),
                ack_set: AckSet::from_words(message.ack_set),
                payload,
            };
            Delivery::Entry { epoch, entry, _charge: charge }
        });
    }

    fn deliver(&self, consumer_id: u64, bytes: usize, make: impl FnOnce(u64, Charge) -> Delivery) {
        let routes = self.routes();
        if let Some(route) = routes.consumers.get(&consumer_id) {
            // Fails only where the consumer is being dropped.
            let _ = route.events.send(make(route.epoch, self.queue.charge(bytes)));
        }
    }

    fn inform_producer(&self, id: u64, event: ProducerEvent) {
        let mut routes = self.routes();
        let full = routes.producers.get(&id).is_some_and(|route| route.try_send(event).is_err());
        if full {
            // More receipts than batches under way: the route ends, the producer starts afresh.
            routes.producers.remove(&id);
        }
    }

    fn accept_answer(&self, answer: Command) {
        let Some(request_id) = request_id(&answer) else { return };
        if let Some(waiting) = self.routes().answers.remove(&request_id) {
            // The caller may have stopped waiting.
            let _ = waiting.send(Ok(answer));
        }
    }
}

/// An ended producer learns it from the event, or from its channel being closed.
fn end_producer(producer: &mpsc::Sender<ProducerEvent>, reason: Error) {
    let _ = producer.try_send(ProducerEvent::Ended { reason });
}

fn position(id: &proto::MessageIdData) -> Position {
    Position { ledger_id: id.ledger_id, entry_id: id.entry_id }
}

fn request_id(answer: &Command) -> Option<u64> {
    match answer {
        Command::Success(answer) => Some(answer.request_id),
        Command::Error(answer) => Some(answer.request_id),
        Command::ProducerSuccess(answer) => Some(answer.request_id),
        Command::PartitionedTopicMetadataResponse(answer) => Some(answer.request_id),
        Command::LookupTopicResponse(answer) => Some(answer.request_id),
        Command::GetLastMessageIdResponse(answer) => Some(answer.request_id),
        Command::GetTopicsOfNamespaceResponse(answer) => Some(answer.request_id),
        Command::AckResponse(answer) => answer.request_id,
        _ => None,
    }
}

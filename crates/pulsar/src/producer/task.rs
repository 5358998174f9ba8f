//! The task of a producer: numbers batches, sends them, matches receipts, reconnects.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::client::Client;
use crate::connection::Connection;
use crate::dispatch::ProducerEvent;
use crate::error::{Error, ServerError};
use crate::frame::encode_payload;
use crate::producer::{Prepared, ProducerConfig, SendReceipt, Shared, Work};
use crate::proto::{self, Command};

const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A producer as one connection knows it; dropping it ends it at the broker.
pub(super) struct Link {
    connection: Connection,
    producer_id: u64,
    events: mpsc::Receiver<ProducerEvent>,
}

impl Link {
    /// Creates the producer at the broker; returns its name and its last stored sequence id, too.
    pub(super) async fn open(
        client: &Client,
        config: &ProducerConfig,
        name: Option<&str>,
    ) -> Result<(Self, String, Option<u64>), Error> {
        let what = "create producer";
        let topic = &config.topic;
        let connection = client.connect_to_owner(topic).await?;
        let producer_id = client.next_id();
        // A receipt for each batch under way, and the end.
        let (sender, events) = mpsc::channel(config.in_flight_max + 1);
        connection.dispatch().add_producer(producer_id, sender)?;
        let link = Self { connection, producer_id, events };
        let request = |request_id| {
            Command::Producer(proto::CommandProducer {
                topic: topic.clone(),
                producer_id,
                request_id,
                producer_name: name.map(str::to_owned),
                user_provided_producer_name: Some(config.name.is_some()),
            })
        };
        match link.connection.request(what, topic, request).await {
            Ok(Command::ProducerSuccess(success)) => {
                let last = success.last_sequence_id.and_then(|id| u64::try_from(id).ok());
                Ok((link, success.producer_name, last))
            }
            Ok(other) => Err(link.connection.unexpected(what, &other)),
            Err(refused @ Error::Broker { .. }) => {
                // The broker knows of no such producer; there is nothing to take back.
                link.connection.dispatch().remove_producer(producer_id);
                Err(refused)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn message_bytes_max(&self) -> usize {
        self.connection.message_bytes_max()
    }

    fn close_command(&self, request_id: u64) -> Command {
        let producer_id = self.producer_id;
        Command::CloseProducer(proto::CommandCloseProducer { producer_id, request_id })
    }

    async fn send(&self, batch: &Unconfirmed) -> Result<(), Error> {
        let send = Command::Send(proto::CommandSend {
            producer_id: self.producer_id,
            sequence_id: batch.sequence_id,
            num_messages: batch.message_count,
        });
        self.connection.send_payload(send, batch.payload.clone()).await
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.connection.dispatch().remove_producer(self.producer_id) {
            self.connection.send_now(self.close_command(self.connection.next_request_id()));
        }
    }
}

struct Unconfirmed {
    sequence_id: u64,
    message_count: Option<i32>,
    payload: Bytes,
    done: oneshot::Sender<Result<SendReceipt, Error>>,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

enum Ended {
    /// The connection ended; go on with a new one.
    Again(Error),
    /// The owner has closed or dropped the producer, or the broker refuses it for good.
    ForGood,
}

/// State of the task.
pub(super) struct Task {
    client: Client,
    shared: Arc<Shared>,
    work: mpsc::Receiver<Work>,
    /// Ends when the producer is dropped.
    owner: oneshot::Receiver<()>,
    unconfirmed: VecDeque<Unconfirmed>,
    next_sequence_id: u64,
    closing: Option<oneshot::Sender<()>>,
}

impl Task {
    pub(super) fn new(
        client: Client,
        shared: Arc<Shared>,
        work: mpsc::Receiver<Work>,
        owner: oneshot::Receiver<()>,
    ) -> Self {
        let next_sequence_id = shared.last_sequence_id.map_or(0, |last| last + 1);
        let unconfirmed = VecDeque::new();
        Self { client, shared, work, owner, unconfirmed, next_sequence_id, closing: None }
    }

    pub(super) async fn run(mut self, first: Link) {
        let mut link = Some(first);
        while let Some(current) = link.take() {
            match self.serve(current).await {
                Ended::ForGood => break,
                Ended::Again(reason) => {
                    let (topic, unconfirmed) = (&self.shared.config.topic, self.unconfirmed.len());
                    info!(topic, unconfirmed, %reason, "producer disconnected");
                    link = self.reconnect().await;
                }
            }
        }
    }

    /// Returns `None` where the producer is at its end.
    async fn reconnect(&mut self) -> Option<Link> {
        let shared = Arc::clone(&self.shared);
        let mut backoff = self.client.backoff();
        let mut pause = backoff.next_pause();
        loop {
            let attempt = async {
                sleep(pause).await;
                Link::open(&self.client, &shared.config, Some(&shared.name)).await
            };
            let opened = tokio::select! {
                opened = attempt => opened,
                _ = &mut self.owner => return None,
            };
            match opened {
                Ok((link, _, _)) => {
                    shared.message_bytes_max.store(link.message_bytes_max(), Ordering::Relaxed);
                    return Some(link);
                }
                Err(error) => match backoff.pause_after(&error) {
                    Some(next) => pause = next,
                    None => {
                        self.fail_all(&error);
                        return None;
                    }
                },
            }
        }
    }

    async fn serve(&mut self, mut link: Link) -> Ended {
        for batch in &self.unconfirmed {
            if let Err(reason) = link.send(batch).await {
                return Ended::Again(reason);
            }
        }
        loop {
            if self.closing.is_some() && self.unconfirmed.is_empty() {
                close(link).await;
                self.closing.take().map(|done| done.send(()));
                return Ended::ForGood;
            }
            tokio::select! {
                event = link.events.recv() => {
                    let ended = link.connection.dispatch().disconnected("too many receipts");
                    let event = event.unwrap_or(ProducerEvent::Ended { reason: ended });
                    if let Some(ended) = self.accept(&link, event) {
                        return ended;
                    }
                }
                work = self.work.recv(), if self.closing.is_none() => match work {
                    Some(Work::Send(prepared)) => {
                        let batch = self.number(prepared);
                        let sent = link.send(&batch).await;
                        self.unconfirmed.push_back(batch);
                        if let Err(reason) = sent {
                            return Ended::Again(reason);
                        }
                    }
                    Some(Work::Close(done)) => self.closing = Some(done),
                    None => return Ended::ForGood,
                },
                _ = &mut self.owner => return Ended::ForGood,
            }
        }
    }

    fn number(&mut self, prepared: Prepared) -> Unconfirmed {
        let sequence_id = self.next_sequence_id;
        self.next_sequence_id += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let metadata = proto::MessageMetadata {
            producer_name: Bytes::copy_from_slice(self.shared.name.as_bytes()),
            sequence_id,
            publish_time: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            partition_key: prepared.key,
            compression: self.shared.config.compression.code(),
            uncompressed_size: prepared
                .uncompressed_bytes
                .map(|bytes| u32::try_from(bytes).expect("checked before compression")),
            num_messages_in_batch: prepared.message_count,
            event_time: prepared.event_time_ms,
            ..proto::MessageMetadata::default()
        };
        Unconfirmed {
            sequence_id,
            message_count: prepared.message_count,
            payload: encode_payload(&metadata, &prepared.body),
            done: prepared.done,
            _permit: prepared.permit,
        }
    }

    fn accept(&mut self, link: &Link, event: ProducerEvent) -> Option<Ended> {
        match event {
            ProducerEvent::Receipt { sequence_id, position } => {
                let confirmed = Ok(SendReceipt { sequence_id, position });
                self.settle(link, sequence_id, confirmed)
            }
            ProducerEvent::Refused { sequence_id, code, message } => {
                let topic = &self.shared.config.topic;
                let refused = Error::broker("send", topic, Some(code), Some(message));
                warn!(topic, sequence_id, reason = %refused, "batch refused");
                match ServerError::from_code(code) {
                    ServerError::TopicTerminated | ServerError::ProducerFenced => {
                        self.fail_all(&refused);
                        Some(Ended::ForGood)
                    }
                    ServerError::Checksum | ServerError::NotAllowed => {
                        self.settle(link, sequence_id, Err(refused))
                    }
                    // The broker has trouble of its own; it gets the batch again.
                    _ => Some(Ended::Again(refused)),
                }
            }
            ProducerEvent::Ended { reason } => Some(Ended::Again(reason)),
        }
    }

    /// Gives the oldest unconfirmed batch its outcome.
    fn settle(
        &mut self,
        link: &Link,
        sequence_id: u64,
        outcome: Result<SendReceipt, Error>,
    ) -> Option<Ended> {
        match self.unconfirmed.front() {
            Some(oldest) if oldest.sequence_id == sequence_id => {
                let batch = self.unconfirmed.pop_front()?;
                // The caller may not want to know.
                let _ = batch.done.send(outcome);
                None
            }
            Some(oldest) if oldest.sequence_id < sequence_id => {
                Some(Ended::Again(link.connection.dispatch().disconnected("receipt missing")))
            }
            _ => None,
        }
    }

    fn fail_all(&mut self, reason: &Error) {
        self.shared.fail(reason.clone());
        for batch in self.unconfirmed.drain(..) {
            let _ = batch.done.send(Err(reason.clone()));
        }
    }
}

async fn close(link: Link) {
    let (connection, producer_id) = (link.connection.clone(), link.producer_id);
    connection.dispatch().remove_producer(producer_id);
    let request = |request_id| link.close_command(request_id);
    let _ = timeout(CLOSE_TIMEOUT, connection.request("close producer", "", request)).await;
}

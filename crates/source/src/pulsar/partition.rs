//! The task of one partition: its consumer's events become the engine's, the engine's orders become
//! permits, acknowledgements and seeks.

use std::{
    sync::{Arc, mpsc::Sender},
    time::Duration,
};

use tidemill_engine::port::SourceEvent;
use tidemill_kernel::event::Position;
use tidemill_pulsar::{
    self as pulsar, Client, Consumer, ConsumerConfig, ConsumerEvent, ConsumerHandle, EntryLimits,
    StartAt,
};
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::{info, warn};

use super::{PulsarConfig, convert, flow::Flow};

/// How often going back is tried on one subscription, and the pause between.
const SEEK_ATTEMPTS_MAX: u32 = 20;
const SEEK_PAUSE: Duration = Duration::from_millis(500);

/// What the engine asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    ReadFrom { from: Option<Position>, seek: bool },
    Credit(u32),
    Acknowledge(Position),
}

/// A partition's consumer and what is known of it.
pub(super) struct PartitionTask {
    name: Arc<str>,
    consumer: Consumer,
    handle: ConsumerHandle,
    events: Sender<SourceEvent>,
    orders: UnboundedReceiver<Order>,
    flow: Flow,
    /// Whether the engine was told that it owns the partition.
    assigned: bool,
    /// Whether the engine said where to read from since it was told so.
    reading: bool,
    /// Whether the next loss of the subscription is our own seek.
    seeking: bool,
    /// The newest acknowledgement that waits for the one under way.
    acknowledge: Option<Position>,
}

impl PartitionTask {
    pub(super) fn new(
        client: &Client,
        config: &PulsarConfig,
        name: Arc<str>,
        topic: &str,
        events: Sender<SourceEvent>,
        orders: UnboundedReceiver<Order>,
    ) -> PartitionTask {
        let consumer = client.subscribe(ConsumerConfig {
            consumer_name: config.consumer_name.clone(),
            start: config.start,
            limits: EntryLimits {
                entry_bytes_max: config.entry_bytes_max,
                ..EntryLimits::default()
            },
            ..ConsumerConfig::new(topic, &config.subscription)
        });
        PartitionTask {
            name,
            handle: consumer.handle(),
            consumer,
            events,
            orders,
            flow: Flow::new(config.queue_messages_max, config.queue_bytes_max),
            assigned: false,
            reading: false,
            seeking: false,
            acknowledge: None,
        }
    }

    /// Runs until the consumer fails for good or the engine is gone.
    pub(super) async fn run(mut self) {
        let (done, mut finished) = tokio::sync::mpsc::channel::<()>(1);
        let mut acknowledging = false;
        loop {
            if !acknowledging && let Some(through) = self.acknowledge.take() {
                acknowledging = true;
                let (handle, name, done) = (self.handle.clone(), self.name.clone(), done.clone());
                tokio::spawn(async move {
                    acknowledge(&handle, &name, through).await;
                    let _ = done.send(()).await;
                });
            }
            tokio::select! {
                event = self.consumer.next() => {
                    if !self.handle_event(event).await {
                        return;
                    }
                }
                order = self.orders.recv() => match order {
                    Some(order) => self.handle_order(order).await,
                    None => return,
                },
                _ = finished.recv() => acknowledging = false,
            }
        }
    }

    /// Returns whether the task goes on.
    async fn handle_event(&mut self, event: ConsumerEvent) -> bool {
        match event {
            ConsumerEvent::Connected => self.flow.reset(),
            ConsumerEvent::Active(true) => {
                self.seeking = false;
                self.assigned = true;
                self.reading = false;
                return self.send(SourceEvent::Assigned(self.name.clone()));
            }
            ConsumerEvent::Active(false) => {
                self.flow.reset();
                return self.revoke();
            }
            ConsumerEvent::Entry(entry) => {
                self.flow.delivered(entry.permits, entry.body_bytes());
                // What still comes after a revocation or before the new start is not wanted.
                if !self.reading {
                    self.flow.processed(entry.permits);
                    return true;
                }
                let name = self.name.clone();
                let sent = self.send(SourceEvent::Entry(name, convert::entry(&entry)));
                self.grant().await;
                return sent;
            }
            ConsumerEvent::Disconnected { reason } => {
                if self.seeking {
                    info!(partition = %self.name, "went back");
                    self.assigned = false;
                    self.reading = false;
                } else {
                    warn!(partition = %self.name, %reason, "disconnected");
                    return self.revoke();
                }
            }
            ConsumerEvent::Waiting { reason } => {
                warn!(partition = %self.name, %reason, "waiting for the broker");
            }
            ConsumerEvent::EndOfTopic => {
                return self.send(SourceEvent::End(self.name.clone()));
            }
            ConsumerEvent::Failed { reason } => {
                if !self.assigned {
                    self.send(SourceEvent::Assigned(self.name.clone()));
                }
                let text = reason.to_string();
                self.send(SourceEvent::Failed(self.name.clone(), text));
                return false;
            }
        }
        true
    }

    fn revoke(&mut self) -> bool {
        self.reading = false;
        self.acknowledge = None;
        if std::mem::take(&mut self.assigned) {
            return self.send(SourceEvent::Revoked(self.name.clone()));
        }
        true
    }

    async fn handle_order(&mut self, order: Order) {
        match order {
            Order::ReadFrom { from, seek: false } => {
                info!(partition = %self.name, ?from, "reading");
                self.reading = self.assigned;
                self.grant().await;
            }
            Order::ReadFrom { from, seek: true } => self.seek(from).await,
            Order::Credit(permits) => {
                self.flow.processed(permits);
                self.grant().await;
            }
            Order::Acknowledge(through) if self.assigned => {
                self.acknowledge = Some(through);
            }
            Order::Acknowledge(_) => {}
        }
    }

    /// Goes back; a new subscription and assignment follow.
    async fn seek(&mut self, from: Option<Position>) {
        self.reading = false;
        self.seeking = true;
        let to = from.map_or(StartAt::Earliest, |from| StartAt::Position(broker_position(from)));
        for _ in 0..SEEK_ATTEMPTS_MAX {
            match self.handle.seek(to).await {
                Ok(()) => return,
                // Without a subscription the next one starts anew from the record in any case.
                Err(error @ pulsar::Error::NotConnected { .. }) => {
                    self.seeking = false;
                    warn!(partition = %self.name, %error, "could not go back");
                    return;
                }
                Err(error) => {
                    warn!(partition = %self.name, %error, "could not go back, trying again");
                    tokio::time::sleep(SEEK_PAUSE).await;
                }
            }
        }
        let text = format!("the broker refused {SEEK_ATTEMPTS_MAX} times to go back to {to:?}");
        self.send(SourceEvent::Failed(self.name.clone(), text));
    }

    async fn grant(&mut self) {
        if !self.reading {
            return;
        }
        let permits = self.flow.grant();
        if permits > 0 && self.handle.flow(permits).await.is_err() {
            // The subscription is gone; the next one grants anew.
            self.flow.reset();
        }
    }

    fn send(&self, event: SourceEvent) -> bool {
        self.events.send(event).is_ok()
    }
}

/// Acknowledges; a failure costs a longer replay and nothing else.
async fn acknowledge(handle: &ConsumerHandle, name: &str, through: Position) {
    if let Err(error) = handle.ack_cumulative(broker_position(through)).await {
        warn!(partition = name, %error, "not acknowledged");
    }
}

fn broker_position(position: Position) -> pulsar::Position {
    pulsar::Position { ledger_id: position.segment, entry_id: position.offset }
}

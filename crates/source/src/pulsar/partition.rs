//! The task of one partition: its consumer's events become the engine's, the engine's orders become
//! permits, acknowledgements and seeks.

use std::{sync::Arc, time::Duration};

use tidemill_engine::port::SourceEvent;
use tidemill_kernel::event::Position;
use tidemill_pulsar::{
    self as pulsar, Client, Consumer, ConsumerConfig, ConsumerEvent, ConsumerHandle, EntryLimits,
    StartAt, SubscriptionKind,
};
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::{info, warn};

use super::{
    PulsarConfig, Start, convert, envelope,
    flow::{QueueShare, SharedFlow},
    gate::Gate,
    outlet::Outlet,
    probe,
};

/// How often going back is tried on one subscription, and the pause between.
const SEEK_ATTEMPTS_MAX: u32 = 20;
const SEEK_PAUSE: Duration = Duration::from_millis(500);

/// What the engine asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    ReadFrom {
        from: Option<Position>,
        seek: bool,
    },
    /// Enough is processed that more may be granted.
    Grant,
    Acknowledge(Position),
    AssignAgain,
}

/// A partition's consumer and what is known of it.
pub(super) struct PartitionTask {
    name: Arc<str>,
    topic: String,
    client: Client,
    config: ConsumerConfig,
    gate: Gate,
    consumer: Consumer,
    handle: ConsumerHandle,
    events: Arc<Outlet>,
    orders: UnboundedReceiver<Order>,
    flow: SharedFlow,
    share: Arc<QueueShare>,
    /// Whether the engine was told that it owns the partition.
    assigned: bool,
    /// Whether the engine said where to read from since it was told so.
    reading: bool,
    /// Whether the next loss of the subscription is our own seek.
    seeking: bool,
    /// Puts envelopes around payloads, where the schema reads them.
    envelope: Option<envelope::Writer>,
    entry_bytes_max: usize,
    /// The publish time at which a lane without a record begins, until the subscription is there.
    start_time_ms: Option<u64>,
    /// The entry delivered last, or the one that reading was to begin with.
    last: Option<pulsar::Position>,
    /// An entry whose checksum did not match: it is asked for once more before it is believed.
    suspect: Option<pulsar::Position>,
    /// The newest acknowledgement that waits for the one under way.
    acknowledge: Option<Position>,
}

impl PartitionTask {
    pub(super) fn new(
        client: &Client,
        config: &PulsarConfig,
        name: Arc<str>,
        topic: &str,
        events: Arc<Outlet>,
        orders: UnboundedReceiver<Order>,
        (share, flow, gate): (Arc<QueueShare>, SharedFlow, Gate),
    ) -> PartitionTask {
        let consumer = ConsumerConfig {
            consumer_name: config.consumer_name.clone(),
            start: match config.start {
                Start::Latest => StartAt::Latest,
                Start::Earliest | Start::PublishTime(_) => StartAt::Earliest,
            },
            limits: EntryLimits {
                entry_bytes_max: config.entry_bytes_max,
                ..EntryLimits::default()
            },
            kind: match gate.is_exclusive() {
                true => SubscriptionKind::Exclusive,
                false => SubscriptionKind::Failover,
            },
            ..ConsumerConfig::new(topic, &config.subscription)
        };
        let settings = consumer.clone();
        let consumer = client.subscribe(consumer);
        PartitionTask {
            name,
            topic: topic.to_owned(),
            client: client.clone(),
            config: settings,
            gate,
            handle: consumer.handle(),
            consumer,
            events,
            orders,
            flow,
            share,
            assigned: false,
            reading: false,
            seeking: false,
            envelope: envelope::Writer::new(&config.envelope, topic),
            entry_bytes_max: config.entry_bytes_max,
            start_time_ms: match config.start {
                Start::PublishTime(at_ms) => Some(u64::try_from(at_ms).unwrap_or(0)),
                Start::Earliest | Start::Latest => None,
            },
            last: None,
            suspect: None,
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
                () = self.gate.closed() => if !self.wait_for_the_first().await {
                    return;
                },
            }
        }
    }

    /// Returns whether the task goes on.
    async fn handle_event(&mut self, event: ConsumerEvent) -> bool {
        match event {
            ConsumerEvent::Connected if self.gate.is_exclusive() => {
                self.flow.reset();
                self.gate.set(true);
                return self.assign();
            }
            ConsumerEvent::Connected => self.flow.reset(),
            ConsumerEvent::Active(_) if self.gate.is_exclusive() => {}
            // Told again: the lane goes on. If the broker also went back, entries come again and
            // the lane drops them; to start the lane anew would lose what has no record yet.
            ConsumerEvent::Active(true) if self.assigned => {
                info!(partition = %self.name, "still active");
            }
            ConsumerEvent::Active(true) => return self.assign(),
            ConsumerEvent::Active(false) => {
                self.flow.reset();
                return self.revoke() && self.send(SourceEvent::Standby(self.name.clone()));
            }
            ConsumerEvent::Entry(entry) => return self.deliver(&entry).await,
            ConsumerEvent::Disconnected { reason } => {
                if self.seeking {
                    info!(partition = %self.name, "went back");
                    if std::mem::take(&mut self.assigned) {
                        self.share.leave();
                    }
                    self.reading = false;
                } else {
                    warn!(partition = %self.name, %reason, "disconnected");
                    let stood_by = !self.assigned;
                    self.gate.set(false);
                    return self.revoke()
                        && (!stood_by || self.send(SourceEvent::Revoked(self.name.clone())));
                }
            }
            ConsumerEvent::Waiting { reason } => {
                warn!(partition = %self.name, %reason, "waiting for the broker");
                // Whoever has the first one meanwhile has to get the others.
                self.gate.set(false);
                let is_busy = matches!(
                    &reason,
                    pulsar::Error::Broker { code: pulsar::ServerError::ConsumerBusy, .. }
                );
                if is_busy && self.gate.is_exclusive() {
                    return self.send(SourceEvent::Standby(self.name.clone()));
                }
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

    /// Hands an entry to the engine, unless it shows that entries before it are missing or that
    /// it was damaged on its way.
    async fn deliver(&mut self, entry: &pulsar::Entry) -> bool {
        self.flow.delivered(entry.permits, entry.body_bytes());
        // What still comes after a revocation or before the new start is not wanted.
        if !self.reading {
            self.flow.processed(entry.permits);
            return true;
        }
        let damaged = entry
            .rejected()
            .is_some_and(|rejected| rejected.reason == pulsar::RejectReason::ChecksumMismatch);
        if damaged && self.suspect != Some(entry.position) {
            warn!(partition = %self.name, position = %entry.position, "checksum does not match");
            self.suspect = Some(entry.position);
            self.seek(StartAt::Position(entry.position)).await;
            return true;
        }
        if let Some(last) = self.last
            && entry.position.ledger_id > last.ledger_id
        {
            match probe::entry_behind(&self.client, &self.topic, last).await {
                Ok(next) if next == entry.position => {}
                other => {
                    warn!(
                        partition = %self.name, %last, found = %entry.position, expected = ?other,
                        "entries of the ledger before are missing, going back"
                    );
                    self.seek(StartAt::Position(last)).await;
                    return true;
                }
            }
        }
        self.last = Some(self.last.map_or(entry.position, |last| last.max(entry.position)));
        let entry = match &self.envelope {
            None => convert::entry(entry),
            Some(writer) => {
                convert::entry_in_envelopes(entry, writer, self.entry_bytes_max.saturating_mul(2))
            }
        };
        let sent = self.send(SourceEvent::Entry(self.name.clone(), entry));
        self.grant().await;
        sent
    }

    fn assign(&mut self) -> bool {
        self.seeking = false;
        if !std::mem::replace(&mut self.assigned, true) {
            self.share.join();
        }
        self.reading = false;
        self.send(SourceEvent::Assigned(self.name.clone()))
    }

    /// Leaves the subscription and asks for it again.
    async fn subscribe_again(&mut self) {
        // Else the broker may still see the old one when the new one comes, and refuse it once.
        let _ = self.handle.close().await;
        self.consumer = self.client.subscribe(self.config.clone());
        self.handle = self.consumer.handle();
        self.flow.reset();
        if std::mem::take(&mut self.assigned) {
            self.share.leave();
        }
        (self.reading, self.seeking) = (false, false);
        (self.last, self.suspect, self.acknowledge) = (None, None, None);
    }

    /// Gives the partition back until this process has the first one again. Returns whether the
    /// task goes on.
    async fn wait_for_the_first(&mut self) -> bool {
        info!(partition = %self.name, "given back with the first partition");
        let _ = self.handle.close().await;
        if !self.revoke() || !self.gate.opened().await {
            return false;
        }
        self.subscribe_again().await;
        true
    }

    fn revoke(&mut self) -> bool {
        self.reading = false;
        self.acknowledge = None;
        if std::mem::take(&mut self.assigned) {
            self.share.leave();
            return self.send(SourceEvent::Revoked(self.name.clone()));
        }
        true
    }

    async fn handle_order(&mut self, order: Order) {
        match order {
            Order::ReadFrom { from: None, seek: false }
                if self.assigned && self.start_time_ms.is_some() =>
            {
                let at_ms = self.start_time_ms.take().unwrap_or(0);
                info!(partition = %self.name, at_ms, "first start: going to a publish time");
                if !self.seek(StartAt::PublishTime(at_ms)).await {
                    self.start_time_ms = Some(at_ms);
                }
            }
            Order::ReadFrom { from, seek: false } => {
                if let Some(text) = self.log_is_too_short(from).await {
                    self.send(SourceEvent::Failed(self.name.clone(), text));
                    return;
                }
                info!(partition = %self.name, ?from, "reading");
                self.reading = self.assigned;
                self.last = from.map(broker_position);
                self.grant().await;
            }
            Order::ReadFrom { from, seek: true } => {
                let to =
                    from.map_or(StartAt::Earliest, |from| StartAt::Position(broker_position(from)));
                self.seek(to).await;
            }
            Order::Grant => self.grant().await,
            Order::Acknowledge(through) if self.assigned => {
                self.acknowledge = Some(through);
            }
            Order::Acknowledge(_) => {}
            Order::AssignAgain => {
                info!(partition = %self.name, "subscribing anew");
                self.subscribe_again().await;
            }
        }
    }

    /// Returns what is wrong if the topic ends before the position that reading is to begin with:
    /// it is another one, and all of it would look like repeats.
    async fn log_is_too_short(&self, from: Option<Position>) -> Option<String> {
        let from = broker_position(from?);
        match self.handle.last_position().await {
            Ok(Some(last)) if last < from => Some(format!(
                "topic {:?} ends with entry {last}, before entry {from}, which is processed: it \
                 is not the topic that the commits speak of; restore it, or forget them: raise \
                 pipeline.generation and run \"tidemill reset CONFIG\" for this partition",
                self.topic
            )),
            Ok(_) => None,
            // What cannot be told now does not hold up reading.
            Err(error) => {
                warn!(partition = %self.name, %error, "end of the topic not known");
                None
            }
        }
    }

    /// Goes to another place; a new subscription and assignment follow. Returns whether the broker
    /// agreed.
    async fn seek(&mut self, to: StartAt) -> bool {
        self.reading = false;
        self.seeking = true;
        for _ in 0..SEEK_ATTEMPTS_MAX {
            match self.handle.seek(to).await {
                Ok(()) => return true,
                // Without a subscription the next one starts anew from the record in any case.
                Err(error @ pulsar::Error::NotConnected { .. }) => {
                    self.seeking = false;
                    warn!(partition = %self.name, %error, "could not go back");
                    return false;
                }
                Err(error) => {
                    warn!(partition = %self.name, %error, "could not go back, trying again");
                    tokio::time::sleep(SEEK_PAUSE).await;
                }
            }
        }
        let text = format!("the broker refused {SEEK_ATTEMPTS_MAX} times to go back to {to:?}");
        self.send(SourceEvent::Failed(self.name.clone(), text));
        false
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
        self.events.send(event)
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

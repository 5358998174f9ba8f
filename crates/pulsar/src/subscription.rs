//! The task that keeps a consumer subscribed: looks up, subscribes, waits for the end, repeats.
//!
//! Each subscription has a consumer id and an epoch of its own, so what arrives late from an old
//! one is recognised and dropped. The task passes on no entries; they go from the connection
//! straight to the event side.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::client::Client;
use crate::connection::Connection;
use crate::consumer::{Session, Shared, StartAt, SubscriptionKind};
use crate::dispatch::{ConsumerRoute, Delivery};
use crate::entry::Position;
use crate::error::Error;
use crate::proto::{self, Command};

/// What the owner of a consumer can tell its task.
#[derive(Debug)]
pub(crate) enum Order {
    Close(oneshot::Sender<()>),
}

const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn message_id(position: Position) -> proto::MessageIdData {
    proto::MessageIdData {
        ledger_id: position.ledger_id,
        entry_id: position.entry_id,
        ..proto::MessageIdData::default()
    }
}

/// Returns the id that the protocol has for a place; `None` for a time.
pub(crate) fn start_id(start: StartAt) -> Option<proto::MessageIdData> {
    const LATEST: u64 = i64::MAX as u64;
    let (ledger_id, entry_id) = match start {
        // -1:-1
        StartAt::Earliest => (u64::MAX, u64::MAX),
        StartAt::Latest => (LATEST, LATEST),
        StartAt::Position(position) => (position.ledger_id, position.entry_id),
        StartAt::PublishTime(_) => return None,
    };
    Some(message_id(Position { ledger_id, entry_id }))
}

enum Ended {
    /// The subscription is gone; make a new one.
    Again,
    /// The owner wants no more.
    Closed,
}

/// Keeps the consumer subscribed until it is closed, dropped, or refused for good.
pub(crate) async fn run(
    client: Client,
    shared: Arc<Shared>,
    events: mpsc::UnboundedSender<Delivery>,
    mut orders: mpsc::Receiver<Order>,
) {
    let mut backoff = client.backoff();
    let mut epoch = 0;
    let mut failures = 0u32;
    loop {
        epoch += 1;
        let attempt = subscribe(&client, &shared, &events, epoch);
        let stopped = stop_ordered(&events, &mut orders);
        let result = tokio::select! {
            result = attempt => result,
            done = stopped => return finish(&events, done),
        };
        let pause = match result {
            Ok(subscription) => {
                failures = 0;
                backoff.reset();
                if let Ended::Closed = serve(subscription, &shared, &events, &mut orders).await {
                    return;
                }
                // A broker that ends each subscription at once must not be flooded.
                backoff.next_pause()
            }
            Err(reason) => {
                let Some(pause) = backoff.pause_after(&reason) else {
                    warn!(topic = shared.config.topic, %reason, "consumer failed");
                    let _ = events.send(Delivery::Failed { reason });
                    return;
                };
                failures = failures.saturating_add(1);
                if failures == 1 {
                    warn!(topic = shared.config.topic, %reason, "cannot subscribe, trying again");
                    let _ = events.send(Delivery::Waiting { reason });
                } else {
                    debug!(topic = shared.config.topic, failures, %reason, "cannot subscribe");
                }
                pause
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            done = stop_ordered(&events, &mut orders) => return finish(&events, done),
        }
    }
}

async fn stop_ordered(
    events: &mpsc::UnboundedSender<Delivery>,
    orders: &mut mpsc::Receiver<Order>,
) -> Option<oneshot::Sender<()>> {
    tokio::select! {
        () = events.closed() => None,
        // Without handles only the event side can end the consumer; it holds one order sender.
        order = orders.recv() => order.map(|Order::Close(done)| done),
    }
}

fn finish(events: &mpsc::UnboundedSender<Delivery>, done: Option<oneshot::Sender<()>>) {
    let _ = events.send(Delivery::Failed { reason: Error::Closed });
    if let Some(done) = done {
        let _ = done.send(());
    }
}

/// A subscription that exists, or is being asked for; dropping it ends it at the broker.
struct Subscription {
    connection: Connection,
    consumer_id: u64,
    epoch: u64,
    ended: oneshot::Receiver<Error>,
}

impl Subscription {
    fn close_command(&self, request_id: u64) -> Command {
        let consumer_id = self.consumer_id;
        Command::CloseConsumer(proto::CommandCloseConsumer { consumer_id, request_id })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let dispatch = self.connection.dispatch();
        if dispatch.end_consumer(self.consumer_id, Error::Closed) {
            self.connection.send_now(self.close_command(self.connection.next_request_id()));
        }
    }
}

async fn subscribe(
    client: &Client,
    shared: &Shared,
    events: &mpsc::UnboundedSender<Delivery>,
    epoch: u64,
) -> Result<Subscription, Error> {
    let topic = &shared.config.topic;
    let connection = client.connect_to_owner(topic).await?;
    let consumer_id = client.next_id();
    let (sender, ended) = oneshot::channel();
    let route = ConsumerRoute {
        epoch,
        live_epoch: Arc::clone(&shared.live_epoch),
        events: events.clone(),
        ended: sender,
    };
    // Set before the route exists, so that the end of the route clears it.
    shared.live_epoch.store(epoch, Ordering::Release);
    connection.dispatch().add_consumer(consumer_id, route)?;
    let subscription = Subscription { connection, consumer_id, epoch, ended };
    let connection = &subscription.connection;
    let request = |request_id| subscribe_command(shared, consumer_id, request_id);
    match connection.request("subscribe", topic, request).await {
        Ok(Command::Success(_)) => Ok(subscription),
        Ok(other) => Err(connection.unexpected("subscribe", &other)),
        Err(refused @ Error::Broker { .. }) => {
            // The broker knows of no such consumer; there is nothing to take back.
            connection.dispatch().end_consumer(consumer_id, Error::Closed);
            Err(refused)
        }
        Err(error) => Err(error),
    }
}

fn subscribe_command(shared: &Shared, consumer_id: u64, request_id: u64) -> Command {
    const EXCLUSIVE: i32 = 0;
    const FAILOVER: i32 = 2;
    const LATEST: i32 = 0;
    const EARLIEST: i32 = 1;
    let config = &shared.config;
    let start = shared.start();
    Command::Subscribe(proto::CommandSubscribe {
        topic: config.topic.clone(),
        subscription: config.subscription.clone(),
        sub_type: match config.kind {
            SubscriptionKind::Exclusive => EXCLUSIVE,
            SubscriptionKind::Failover => FAILOVER,
        },
        consumer_id,
        request_id,
        consumer_name: (!config.consumer_name.is_empty()).then(|| config.consumer_name.clone()),
        durable: Some(config.durable),
        start_message_id: if config.durable { None } else { start_id(start) },
        initial_position: Some(if start == StartAt::Latest { LATEST } else { EARLIEST }),
        force_topic_creation: Some(config.create_topic),
    })
}

/// Waits until the subscription ends.
async fn serve(
    mut subscription: Subscription,
    shared: &Shared,
    events: &mpsc::UnboundedSender<Delivery>,
    orders: &mut mpsc::Receiver<Order>,
) -> Ended {
    let epoch = subscription.epoch;
    let topic = &shared.config.topic;
    *shared.session() = Some(Session {
        epoch,
        consumer_id: subscription.consumer_id,
        connection: subscription.connection.clone(),
    });
    info!(topic, epoch, "subscribed");
    let _ = events.send(Delivery::Connected { epoch });
    let stopped = tokio::select! {
        reason = &mut subscription.ended => Err(reason.unwrap_or(Error::Closed)),
        done = stop_ordered(events, orders) => Ok(done),
    };
    *shared.session() = None;
    match stopped {
        Err(reason) => {
            info!(topic, epoch, %reason, "subscription ended");
            let _ = events.send(Delivery::Disconnected { epoch, reason });
            Ended::Again
        }
        Ok(done) => {
            close(subscription).await;
            finish(events, done);
            Ended::Closed
        }
    }
}

async fn close(subscription: Subscription) {
    let connection = subscription.connection.clone();
    connection.dispatch().end_consumer(subscription.consumer_id, Error::Closed);
    let request = |request_id| subscription.close_command(request_id);
    // The broker also ends the consumer when the connection ends; nothing is lost by giving up.
    let _ = timeout(CLOSE_TIMEOUT, connection.request("close consumer", "", request)).await;
}

//! Apache Pulsar: one Failover consumer per partition, whole entries, permits by bytes.
//!
//! The broker's cursor is only where reading starts and a lower bound for others: what was
//! processed, the lanes know from their records. Every new subscription is a new assignment.

mod convert;
mod flow;
mod partition;
mod probe;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

use tidemill_engine::port::{Continuity, Source, SourceControl, SourceEvent};
use tidemill_kernel::event::Position;
use tidemill_pulsar::{Client, ClientConfig, EntryLimits, StartAt, partition_topic};
use tokio::{runtime::Runtime, sync::mpsc::UnboundedSender};
use tracing::{info, warn};

use partition::{Order, PartitionTask};

/// The name of the only partition of a topic that is not partitioned.
pub const PLAIN_PARTITION: &str = "plain";

/// Which topic to read, and how.
#[derive(Clone, Debug)]
pub struct PulsarConfig {
    /// The broker.
    pub client: ClientConfig,
    /// The topic's full name, without a partition's suffix.
    pub topic: String,
    /// The subscription's name.
    pub subscription: String,
    /// Names this consumer; the broker spreads partitions over consumers in the order of names.
    pub consumer_name: String,
    /// Where a new subscription starts; an old one goes on where its records say.
    pub start: StartAt,
    /// The most messages of a partition on their way or waiting.
    pub queue_messages_max: u32,
    /// About the most bytes of a partition on their way or waiting.
    pub queue_bytes_max: u64,
    /// The most bytes of one decompressed entry; a larger one is rejected.
    pub entry_bytes_max: usize,
}

impl PulsarConfig {
    /// Returns the settings with their defaults.
    pub fn new(url: &str, topic: &str, subscription: &str) -> PulsarConfig {
        PulsarConfig {
            client: ClientConfig::new(url),
            topic: topic.to_owned(),
            subscription: subscription.to_owned(),
            consumer_name: String::new(),
            start: StartAt::Earliest,
            queue_messages_max: 50_000,
            queue_bytes_max: 16 << 20,
            entry_bytes_max: EntryLimits::default().entry_bytes_max,
        }
    }
}

/// The partitions of one topic.
pub struct PulsarSource {
    events: Receiver<SourceEvent>,
    control: Arc<Control>,
    /// Ends the tasks when the source is dropped.
    _runtime: Runtime,
}

struct Control {
    orders: Mutex<BTreeMap<Arc<str>, UnboundedSender<Order>>>,
}

/// Connects to the topic and subscribes to all its partitions, in the background: a broker that is
/// down is waited for.
///
/// # Errors
/// A bad URL, or no threads to be had.
pub fn open(config: PulsarConfig) -> Result<PulsarSource, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("pulsar")
        .enable_all()
        .build()
        .map_err(|error| format!("source.pulsar: {error}"))?;
    let client = {
        let _context = runtime.enter();
        Client::new(config.client.clone()).map_err(|error| format!("source.pulsar.url: {error}"))?
    };
    let (sender, events) = channel();
    let control = Arc::new(Control { orders: Mutex::new(BTreeMap::new()) });
    runtime.spawn(discover(client, config, sender, control.clone()));
    Ok(PulsarSource { events, control, _runtime: runtime })
}

/// Finds the partitions and starts a task for each.
async fn discover(
    client: Client,
    config: PulsarConfig,
    events: Sender<SourceEvent>,
    control: Arc<Control>,
) {
    let count = loop {
        match client.partition_count(&config.topic).await {
            Ok(count) => break count,
            Err(error) if error.retry() => {
                warn!(topic = config.topic, %error, "topic not reached, trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => {
                let text = format!("topic {:?}: {error}", config.topic);
                let name: Arc<str> = PLAIN_PARTITION.into();
                let _ = events.send(SourceEvent::Assigned(name.clone()));
                let _ = events.send(SourceEvent::Failed(name, text));
                return;
            }
        }
    };
    info!(topic = config.topic, partitions = count, "topic found");
    let partitions: Vec<(Arc<str>, String)> = match count {
        0 => vec![(PLAIN_PARTITION.into(), config.topic.clone())],
        count => (0..count)
            .map(|index| (index.to_string().into(), partition_topic(&config.topic, index)))
            .collect(),
    };
    for (name, topic) in partitions {
        let (orders, receiver) = tokio::sync::mpsc::unbounded_channel();
        control.lock().insert(name.clone(), orders);
        let task = PartitionTask::new(&client, &config, name, &topic, events.clone(), receiver);
        tokio::spawn(task.run());
    }
}

impl Source for PulsarSource {
    fn next(&mut self, timeout: Duration) -> Result<Option<SourceEvent>, String> {
        match self.events.recv_timeout(timeout) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err("source.pulsar: no partition can be read any more".to_owned())
            }
        }
    }

    fn control(&self) -> Arc<dyn SourceControl> {
        self.control.clone()
    }

    fn continuity(&self) -> Continuity {
        Continuity::Counted
    }
}

impl Control {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Arc<str>, UnboundedSender<Order>>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, partition: &str, order: Order) {
        if let Some(orders) = self.lock().get(partition) {
            // A task that has ended reported why.
            let _ = orders.send(order);
        }
    }
}

impl SourceControl for Control {
    fn read_from(&self, partition: &str, from: Option<Position>, seek: bool) {
        self.order(partition, Order::ReadFrom { from, seek });
    }

    fn credit(&self, partition: &str, credit: u32) {
        self.order(partition, Order::Credit(credit));
    }

    fn acknowledge(&self, partition: &str, through: Position) {
        self.order(partition, Order::Acknowledge(through));
    }
}

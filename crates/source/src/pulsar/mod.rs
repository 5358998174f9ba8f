//! Apache Pulsar: one consumer per partition, whole entries, permits by bytes. Processes share the
//! partitions (Failover), or one has them all (Exclusive) and others stand by.
//!
//! The broker's cursor is only where reading starts and a lower bound for others: what was
//! processed, the lanes know from their records. Every new subscription is a new assignment.
//! Partitions and topics that appear later become lanes without a restart; none ever goes away.

mod convert;
mod discover;
mod envelope;
mod flow;
mod gate;
mod outlet;
mod partition;
mod probe;
mod reread;
mod topics;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::Duration,
};

use tidemill_engine::port::{Continuity, Inbox, Source, SourceControl, SourceEvent};
use tidemill_kernel::event::Position;
use tidemill_pulsar::{Client, ClientConfig, EntryLimits};
use tokio::{runtime::Runtime, sync::mpsc::UnboundedSender};

use discover::discover;
pub use discover::topic_names;
pub use envelope::Envelope;
use flow::{QueueShare, SharedFlow};
use outlet::{Outlet, REST};
use partition::Order;
pub use reread::LogReader;
pub use topics::{PLAIN_PARTITION, Topics, full_name};

/// Where a lane without any record begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest entry that the broker has.
    Earliest,
    /// Behind the newest one, at the moment the subscription is made.
    Latest,
    /// With the first entry that was published at this time (ms) or later.
    PublishTime(i64),
}

/// Which topic to read, and how.
#[derive(Clone, Debug)]
pub struct PulsarConfig {
    /// The broker.
    pub client: ClientConfig,
    /// The topics.
    pub topics: Topics,
    /// The subscription's name.
    pub subscription: String,
    /// Whether one process has all partitions; else processes share them.
    pub is_exclusive: bool,
    /// Names this consumer; the broker spreads partitions over consumers in the order of names.
    pub consumer_name: String,
    /// Where partitions start that are there when the source is opened and have no record.
    /// Those that appear later are read from their first entry.
    pub start: Start,
    /// What of a message besides its payload is read, too.
    pub envelope: Envelope,
    /// How often topics and partitions that are new are looked for.
    pub discovery_interval: Duration,
    /// The most messages of a partition on their way or waiting.
    pub queue_messages_max: u32,
    /// About the most bytes of a partition on their way or waiting.
    pub queue_bytes_max: u64,
    /// About the most bytes of all partitions that this process has, on their way or waiting; each
    /// has its share, and one entry in any case.
    pub queue_bytes_total_max: u64,
    /// The most bytes of one decompressed entry; a larger one is rejected.
    pub entry_bytes_max: usize,
}

impl PulsarConfig {
    /// Returns the settings with their defaults.
    pub fn new(url: &str, topic: &str, subscription: &str) -> PulsarConfig {
        PulsarConfig {
            client: ClientConfig::new(url),
            topics: Topics::One(topic.to_owned()),
            subscription: subscription.to_owned(),
            is_exclusive: false,
            consumer_name: String::new(),
            start: Start::Earliest,
            envelope: Envelope::default(),
            discovery_interval: Duration::from_secs(30),
            queue_messages_max: 50_000,
            queue_bytes_max: 16 << 20,
            queue_bytes_total_max: 1 << 30,
            entry_bytes_max: EntryLimits::default().entry_bytes_max,
        }
    }
}

/// The partitions of the topics.
pub struct PulsarSource {
    events: Receiver<SourceEvent>,
    /// Gone when no task is left.
    outlet: Weak<Outlet>,
    control: Arc<Control>,
    /// Ends the tasks when the source is dropped.
    _runtime: Runtime,
}

/// What steers the task of a partition.
struct Steering {
    orders: UnboundedSender<Order>,
    flow: SharedFlow,
}

struct Control {
    steered: Mutex<BTreeMap<Arc<str>, Steering>>,
    /// What all partitions of this process share.
    queue: Arc<QueueShare>,
}

/// Connects to the topics and subscribes to all their partitions, in the background: a broker that
/// is down is waited for.
///
/// # Errors
/// A bad URL, or no threads to be had.
pub fn open(config: PulsarConfig) -> Result<PulsarSource, String> {
    let (sender, events) = channel();
    let outlet = Arc::new(Outlet::new(sender));
    let turning = Arc::downgrade(&outlet);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("pulsar")
        .on_thread_park(move || {
            if turning.upgrade().is_some_and(|outlet| outlet.end_turn()) {
                thread::sleep(REST);
            }
        })
        .enable_all()
        .build()
        .map_err(|error| format!("source.pulsar: {error}"))?;
    let client = {
        let _context = runtime.enter();
        Client::new(config.client.clone()).map_err(|error| format!("source.pulsar.url: {error}"))?
    };
    let queue = QueueShare::new(config.queue_bytes_max, config.queue_bytes_total_max);
    let control = Arc::new(Control { steered: Mutex::default(), queue: Arc::new(queue) });
    let known = Arc::downgrade(&outlet);
    runtime.spawn(discover(client, config, outlet, control.clone()));
    Ok(PulsarSource { events, outlet: known, control, _runtime: runtime })
}

impl Source for PulsarSource {
    fn push_to(&mut self, inbox: Arc<dyn Inbox>) {
        if let Some(outlet) = self.outlet.upgrade() {
            outlet.attach(inbox, &self.events);
        }
    }

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
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Steering>> {
        self.steered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, partition: &str, order: Order) {
        if let Some(steering) = self.lock().get(partition) {
            // A task that has ended reported why.
            let _ = steering.orders.send(order);
        }
    }
}

impl SourceControl for Control {
    fn read_from(&self, partition: &str, from: Option<Position>, seek: bool) {
        self.order(partition, Order::ReadFrom { from, seek });
    }

    fn credit(&self, partition: &str, credit: u32) {
        if let Some(steering) = self.lock().get(partition)
            && steering.flow.processed(credit)
        {
            let _ = steering.orders.send(Order::Grant);
        }
    }

    fn assign_again(&self, partition: &str) {
        self.order(partition, Order::AssignAgain);
    }

    fn acknowledge(&self, partition: &str, through: Position) {
        self.order(partition, Order::Acknowledge(through));
    }
}

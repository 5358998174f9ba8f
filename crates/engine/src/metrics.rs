//! What a running pipeline counts: plain atomics, written once per batch, read at any time.
//!
//! One table names every metric; the HTTP endpoint and the reference are made from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tidemill_kernel::{
    event::{Position, Reason},
    ledger::Ledger,
};

use crate::{
    memory::{Hold, Memory},
    port::Entry,
};

/// Counters of a pipeline since its process started.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Messages taken from the source, repeats left out.
    pub messages: AtomicU64,
    /// Payload bytes of those.
    pub bytes: AtomicU64,
    /// Rows that are durable in the store.
    pub rows: AtomicU64,
    /// Windows that closed and are durable.
    pub windows: AtomicU64,
    /// Commits that are durable.
    pub commits: AtomicU64,
    /// Attempts at a store that failed or stayed unanswered, and were repeated.
    pub store_failures: AtomicU64,
    /// Microseconds that the store threads have spent with a store, without pauses.
    pub store_busy_us: AtomicU64,
    /// Sums stored as the nearest value their column holds.
    pub saturated: AtomicU64,
    /// Late messages that are in a stored row.
    pub late_merged: AtomicU64,
    /// Rows written again for late messages.
    pub rows_amended: AtomicU64,
    /// Devices whose rows came from a second partition.
    pub devices_on_two_partitions: AtomicU64,
    /// Reloads of the configuration that applied all that had changed.
    pub reloads_applied: AtomicU64,
    /// Reloads that left changed keys to a restart.
    pub reloads_partial: AtomicU64,
    /// Reloads that changed nothing because the configuration was refused.
    pub reloads_refused: AtomicU64,
    /// What is held, and how much may be.
    pub memory: Memory,
    queue_messages: AtomicU64,
    queue_bytes: AtomicU64,
    letters: [AtomicU64; Reason::ALL.len()],
    lanes: Mutex<BTreeMap<Arc<str>, LaneStatus>>,
    /// Partitions that another process has.
    standby: Mutex<BTreeSet<Arc<str>>>,
}

/// How a lane is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneStatus {
    /// Where its messages went.
    pub ledger: Ledger,
    /// Its watermark in ms.
    pub watermark_ms: Option<i64>,
    /// The publish time of the newest processed message, ms.
    pub publish_time_ms: Option<i64>,
    /// The position of the newest processed message.
    pub position: Option<Position>,
    /// When its last commit became durable, ms since the epoch.
    pub committed_at_ms: Option<i64>,
    /// Why it stopped, if it did.
    pub failure: Option<String>,
    /// Whether it reads.
    pub running: bool,
}

impl Metrics {
    /// Counts durable dead letters.
    pub fn count_letter(&self, reason: Reason) {
        if let Some(at) = Reason::ALL.iter().position(|known| *known == reason) {
            self.letters[at].fetch_add(1, Relaxed);
        }
    }

    /// Returns the durable dead letters of each reason.
    pub fn letters(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL.iter().zip(&self.letters).map(|(reason, count)| (*reason, count.load(Relaxed)))
    }

    /// Changes the status of a lane.
    pub fn update_lane(&self, partition: &Arc<str>, change: impl FnOnce(&mut LaneStatus)) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        change(lanes.entry(partition.clone()).or_default());
    }

    /// Forgets a lane that this process no longer owns.
    pub fn remove_lane(&self, partition: &str) {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).remove(partition);
    }

    /// Notes that another process has a partition.
    pub fn stand_by(&self, partition: Arc<str>) {
        self.standby.lock().unwrap_or_else(PoisonError::into_inner).insert(partition);
    }

    /// Notes that it is not known any more whether another process has a partition.
    pub fn end_standby(&self, partition: &str) {
        self.standby.lock().unwrap_or_else(PoisonError::into_inner).remove(partition);
    }

    /// Returns how many partitions another process has, as far as it is known.
    pub fn standby_count(&self) -> usize {
        let lanes = self.lanes();
        let standby = self.standby.lock().unwrap_or_else(PoisonError::into_inner);
        standby.iter().filter(|partition| !lanes.contains_key(*partition)).count()
    }

    /// Returns the lanes of this process.
    pub fn lanes(&self) -> BTreeMap<Arc<str>, LaneStatus> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns why the lanes stopped if there are so many, at least one, and none of them works.
    pub(crate) fn failures_of_all(&self, lane_count: usize) -> Option<Vec<String>> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = || lanes.values().filter_map(|lane| lane.failure.as_ref());
        let failure_count = failures().count();
        (failure_count > 0 && failure_count >= lane_count).then(|| failures().cloned().collect())
    }

    /// Returns the sum of the lanes' ledgers.
    pub fn ledger(&self) -> Ledger {
        let mut total = Ledger::default();
        self.lanes().values().for_each(|lane| total += lane.ledger);
        total
    }
}

/// An entry on its way from the source to its lane; counted as waiting until it is dropped.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) entry: Entry,
    bytes: u64,
    metrics: Arc<Metrics>,
    _hold: Hold,
}

impl Queued {
    pub(crate) fn new(entry: Entry, metrics: &Arc<Metrics>) -> Queued {
        let bytes = entry.messages.iter().map(|message| u64::from(message.length)).sum();
        metrics.queue_messages.fetch_add(entry.messages.len() as u64, Relaxed);
        metrics.queue_bytes.fetch_add(bytes, Relaxed);
        let _hold = Hold::entry(&entry, metrics);
        Queued { entry, bytes, metrics: metrics.clone(), _hold }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.metrics.queue_messages.fetch_sub(self.entry.messages.len() as u64, Relaxed);
        self.metrics.queue_bytes.fetch_sub(self.bytes, Relaxed);
    }
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One metric of the table.
pub struct Metric {
    /// Its name without the prefix.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// How it behaves.
    pub kind: MetricKind,
    /// Its values: label text such as `reason="late"`, or none, and the value.
    pub read: fn(&Metrics) -> Vec<(String, f64)>,
}

fn single(value: &AtomicU64) -> Vec<(String, f64)> {
    vec![(String::new(), value.load(Relaxed) as f64)]
}

fn per_lane(metrics: &Metrics, read: impl Fn(&LaneStatus) -> Option<f64>) -> Vec<(String, f64)> {
    let lanes = metrics.lanes();
    let values = lanes.iter().filter_map(|(partition, lane)| {
        let escaped = partition.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        Some((format!("partition=\"{escaped}\""), read(lane)?))
    });
    values.collect()
}

fn seconds(ms: Option<i64>) -> Option<f64> {
    Some(ms? as f64 / 1000.0)
}

/// Every metric, in the order of the page.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "messages_total",
        help: "Messages taken from the source; repeats are left out.",
        kind: MetricKind::Counter,
        read: |metrics| single(&metrics.messages),
    },
    Metric {
        name: "message_bytes_total",
        help: "Payload bytes of the messages.",
        kind: MetricKind::Counter,
        read: |metrics| single(&metrics.bytes),
    },
    Metric {
        name: "rows_total",
        help: "Rows durable in the store; a row that was written early and again counts twice.",
        kind: MetricKind::Counter,
        read: |metrics| single(&metrics.rows),
    },
    Metric {
        name: "windows_closed_total",
        help: "Windows of a lane that closed and are durable.",
        kind: MetricKind::Counter,
        read: |metrics| single(&metrics.windows),
    },
    Metric {
        name: "commits_total",
        help: "Durable commits.",
        kind: MetricKind::Counter,
        read: |metrics| single(&metrics.commits),
    },
    Metric {
        name: "store_failures_total",
        help: "Attempts at the store that failed or stayed unanswered and were repeated.",
        kind: MetricKind::Counter,
        read: |metrics| single(&metrics.store_failures),
    },
    Metric {
        name: "store_busy_seconds_total",
        help: "Time that all store threads together have waited for the store.",
        kind: MetricKind::Counter,
        read: |metrics| {
            vec![(String::new(), metrics.store_busy_us.load(Relaxed) as f64 / 1_000_000.0)]
        },
    },
    Metric {
        name: "queue_messages",
        help: "Messages received that no lane has processed yet.",
        kind: MetricKind::Gauge,
        read: |metrics| single(&metrics.queue_messages),
    },
    Metric {
        name: "queue_bytes",
        help: "Payload bytes of the messages received that no lane has processed yet.",
        kind: MetricKind::Gauge,
        read: |metrics| single(&metrics.queue_bytes),
    },
    Metric {
        name: "memory_bytes",
        help: "What is held by the pipeline's own books: entries that wait, open windows with what \
               is not given to the store yet and what is kept for the rows of the next ones, \
               commits on their way to the store.",
        kind: MetricKind::Gauge,
        read: |metrics| {
            let memory = &metrics.memory;
            [
                ("waiting", memory.waiting()),
                ("windows", memory.open() + memory.kept()),
                ("commits", memory.committing()),
            ]
            .map(|(name, bytes)| (format!("of=\"{name}\""), bytes as f64))
            .into()
        },
    },
    Metric {
        name: "memory_max_bytes",
        help: "At this sum of memory_bytes the source has to wait (limits.memory_max).",
        kind: MetricKind::Gauge,
        read: |metrics| vec![(String::new(), metrics.memory.max() as f64)],
    },
    Metric {
        name: "memory_full_total",
        help: "Times that a lane, or its source, had to wait because of limits.memory_max.",
        kind: MetricKind::Counter,
        read: |metrics| single(&metrics.memory.waits),
    },
    Metric {
        name: "saturated_sums_total",
        help: "Sums stored as the nearest value that their column holds.",
        kind: MetricKind::Counter,
        read: |metrics| single(&metrics.saturated),
    },
    Metric {
        name: "late_merged_total",
        help: "Late messages merged into stored rows (late = \"amend\").",
        kind: MetricKind::Counter,
        read: |metrics| single(&metrics.late_merged),
    },
    Metric {
        name: "rows_amended_total",
        help: "Rows written again because of late messages, from what was stored of them.",
        kind: MetricKind::Counter,
        read: |metrics| single(&metrics.rows_amended),
    },
    Metric {
        name: "devices_on_two_partitions_total",
        help: "Devices whose rows came from a second partition; the topic is not keyed by device.",
        kind: MetricKind::Counter,
        read: |metrics| single(&metrics.devices_on_two_partitions),
    },
    Metric {
        name: "config_reloads_total",
        help: "Reloads of the configuration: applied, partial (some keys need a restart), refused.",
        kind: MetricKind::Counter,
        read: |metrics| {
            [
                ("applied", &metrics.reloads_applied),
                ("partial", &metrics.reloads_partial),
                ("refused", &metrics.reloads_refused),
            ]
            .map(|(name, count)| (format!("outcome=\"{name}\""), count.load(Relaxed) as f64))
            .into()
        },
    },
    Metric {
        name: "dead_letters_total",
        help: "Durable dead letters by reason.",
        kind: MetricKind::Counter,
        read: |metrics| {
            let letters = metrics.letters();
            letters
                .map(|(reason, count)| (format!("reason=\"{}\"", reason.name()), count as f64))
                .collect()
        },
    },
    Metric {
        name: "lane_running",
        help: "Whether the lane reads (1), or waits for its record or has stopped (0).",
        kind: MetricKind::Gauge,
        read: |metrics| per_lane(metrics, |lane| Some(f64::from(u8::from(lane.running)))),
    },
    Metric {
        name: "lane_failed",
        help: "Whether the lane has stopped for good (1); /readyz and the log say why.",
        kind: MetricKind::Gauge,
        read: |metrics| per_lane(metrics, |lane| Some(f64::from(u8::from(lane.failure.is_some())))),
    },
    Metric {
        name: "lane_messages",
        help: "Messages of the lane since its birth, in this process and those before.",
        kind: MetricKind::Gauge,
        read: |metrics| per_lane(metrics, |lane| Some(lane.ledger.messages as f64)),
    },
    Metric {
        name: "lane_open_messages",
        help: "Messages of the lane in windows that are open: what a restart reads again.",
        kind: MetricKind::Gauge,
        read: |metrics| per_lane(metrics, |lane| Some(lane.ledger.open as f64)),
    },
    Metric {
        name: "lane_watermark_timestamp_seconds",
        help: "The lane's watermark in event time, seconds since the epoch.",
        kind: MetricKind::Gauge,
        read: |metrics| per_lane(metrics, |lane| seconds(lane.watermark_ms)),
    },
    Metric {
        name: "lane_publish_timestamp_seconds",
        help: "Publish time of the newest message that the lane has processed, seconds since the \
               epoch.",
        kind: MetricKind::Gauge,
        read: |metrics| per_lane(metrics, |lane| seconds(lane.publish_time_ms)),
    },
    Metric {
        name: "lane_commit_timestamp_seconds",
        help: "When the lane's last commit of this process became durable, seconds since the \
               epoch.",
        kind: MetricKind::Gauge,
        read: |metrics| per_lane(metrics, |lane| seconds(lane.committed_at_ms)),
    },
];

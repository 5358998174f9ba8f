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

use tidemill_kernel::{event::Reason, ledger::Ledger};

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
    /// Commits that had to be tried again.
    pub commit_retries: AtomicU64,
    /// Sums stored as the nearest value their column holds.
    pub saturated: AtomicU64,
    /// Devices whose rows came from a second partition.
    pub devices_on_two_partitions: AtomicU64,
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

    /// Returns the sum of the lanes' ledgers.
    pub fn ledger(&self) -> Ledger {
        let mut total = Ledger::default();
        self.lanes().values().for_each(|lane| total += lane.ledger);
        total
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
        help: "Rows durable in the store.",
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
        name: "commit_retries_total",
        help: "Attempts to commit that failed or stayed unanswered and were repeated.",
        kind: MetricKind::Counter,
        read: |metrics| single(&metrics.commit_retries),
    },
    Metric {
        name: "saturated_sums_total",
        help: "Sums stored as the nearest value that their column holds.",
        kind: MetricKind::Counter,
        read: |metrics| single(&metrics.saturated),
    },
    Metric {
        name: "devices_on_two_partitions_total",
        help: "Devices whose rows came from a second partition; the topic is not keyed by device.",
        kind: MetricKind::Counter,
        read: |metrics| single(&metrics.devices_on_two_partitions),
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
        help: "Whether the lane reads (1) or has stopped or waits for its record (0).",
        kind: MetricKind::Gauge,
        read: |metrics| per_lane(metrics, |lane| Some(f64::from(u8::from(lane.running)))),
    },
    Metric {
        name: "lane_messages",
        help: "Messages of the lane since its birth.",
        kind: MetricKind::Gauge,
        read: |metrics| per_lane(metrics, |lane| Some(lane.ledger.messages as f64)),
    },
    Metric {
        name: "lane_open_messages",
        help: "Messages of the lane in windows that are open.",
        kind: MetricKind::Gauge,
        read: |metrics| per_lane(metrics, |lane| Some(lane.ledger.open as f64)),
    },
    Metric {
        name: "lane_watermark_seconds",
        help: "The lane's watermark, seconds since the epoch.",
        kind: MetricKind::Gauge,
        read: |metrics| per_lane(metrics, |lane| Some(lane.watermark_ms? as f64 / 1000.0)),
    },
];

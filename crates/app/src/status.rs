//! The status line: every ten seconds, what happened since the last one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tidemill_engine::{metrics::Metrics, window_log::utc};
use tracing::info;

const INTERVAL: Duration = Duration::from_secs(10);

/// Prints the line until dropped.
pub struct StatusLine {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl StatusLine {
    /// Starts the thread.
    pub fn start(metrics: Arc<Metrics>) -> StatusLine {
        let ended = Arc::new(AtomicBool::new(false));
        let flag = ended.clone();
        let thread = thread::spawn(move || {
            let mut last = Snapshot::of(&metrics);
            while !flag.load(Relaxed) {
                thread::park_timeout(INTERVAL.saturating_sub(last.at.elapsed()));
                if last.at.elapsed() >= INTERVAL {
                    let now = Snapshot::of(&metrics);
                    log(&metrics, &last, &now);
                    last = now;
                }
            }
        });
        StatusLine { ended, thread: Some(thread) }
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It only prints; a panic in it must not hide what ended the run.
            let _ = thread.join();
        }
    }
}

struct Snapshot {
    at: Instant,
    messages: u64,
    rows: u64,
}

impl Snapshot {
    fn of(metrics: &Metrics) -> Snapshot {
        Snapshot {
            at: Instant::now(),
            messages: metrics.messages.load(Relaxed),
            rows: metrics.rows.load(Relaxed),
        }
    }
}

fn log(metrics: &Metrics, last: &Snapshot, now: &Snapshot) {
    let seconds = now.at.duration_since(last.at).as_secs_f64();
    let per_s = |count: u64| (count as f64 / seconds * 10.0).round() / 10.0;
    let lanes = metrics.lanes();
    let ledger = metrics.ledger();
    let watermark_ms = lanes.values().filter_map(|lane| lane.watermark_ms).min();
    // Without messages the age of the last one says how long the topic has been silent, not how
    // far behind this process is.
    let oldest_ms = lanes.values().filter_map(|lane| lane.publish_time_ms).min();
    let oldest_ms = oldest_ms.filter(|_| now.messages > last.messages);
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let lag_s = oldest_ms.map(|ms| (unix.as_secs_f64() - ms as f64 / 1000.0).max(0.0).round());
    info!(
        messages_per_s = per_s(now.messages - last.messages),
        rows_per_s = per_s(now.rows - last.rows),
        lag_s = lag_s.map_or_else(|| "none".to_owned(), |lag| lag.to_string()),
        watermark = watermark_ms.map_or_else(|| "none".to_owned(), utc),
        late = ledger.late,
        rejected = ledger.rejected,
        lanes = lanes.len(),
        "status"
    );
}

//! What a worker counts and logs of entries that are processed and commits that are durable.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

use tidemill_kernel::effect::ClosedWindow;
use tracing::{info, warn};

use crate::{
    port::{Commit, Entry},
    window_log::{log_devices, utc},
    worker::WorkerContext,
};

impl WorkerContext {
    /// Counts and logs a commit that is durable.
    pub(crate) fn count_commit(
        &self,
        partition: &Arc<str>,
        commit: &Commit,
        closed: &[ClosedWindow],
    ) {
        let metrics = &self.metrics;
        let row_count: usize = commit.rows.iter().map(|piece| piece.row_count()).sum();
        metrics.rows.fetch_add(row_count as u64, Relaxed);
        metrics.commits.fetch_add(1, Relaxed);
        metrics.windows.fetch_add(closed.len() as u64, Relaxed);
        commit.letters.iter().for_each(|letter| metrics.count_letter(letter.reason));
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = i64::try_from(unix.as_millis()).unwrap_or(i64::MAX);
        let lanes = commit.record.lanes.iter().map(|lane| &lane.lane.partition);
        for lane in lanes.chain(commit.record.lanes.is_empty().then_some(partition)) {
            metrics.update_lane(lane, |status| status.committed_at_ms = Some(unix_ms));
        }
        for window in closed {
            let pieces = window.pieces(&commit.rows);
            info!(
                %partition,
                time = %utc(window.end_ms),
                devices = window.device_count,
                messages = window.message_count,
                rows = pieces.iter().map(|piece| piece.row_count()).sum::<usize>(),
                lag_ms = unix_ms.saturating_sub(window.end_ms),
                "window closed"
            );
            if self.log_windows {
                log_devices(&self.lane.rollup.plan, pieces);
            }
        }
    }

    /// Warns, once in a process, of a device whose rows come from two partitions.
    pub(crate) fn note_homes(&self, partition: &Arc<str>, commit: &Commit) {
        let schema = self.lane.rollup.plan.schema();
        let (columns, key_count) = (schema.columns(), schema.key_count());
        let visitors = self.key_homes.note(columns, key_count, partition, &commit.rows);
        let Some(first) = visitors.first() else {
            return;
        };
        let count = visitors.len() as u64;
        let before = self.metrics.devices_on_two_partitions.fetch_add(count, Relaxed);
        if before == 0 {
            warn!(
                device = first.key, %partition, other = %first.home,
                "a device is on two partitions and has a row of each: key the topic by device"
            );
        }
    }

    /// Counts an entry of which so many messages were no repeats.
    pub(crate) fn count_entry(&self, partition: &Arc<str>, fresh: u64, entry: &Entry) {
        let bytes: u64 = entry.messages.iter().map(|message| u64::from(message.length)).sum();
        self.metrics.messages.fetch_add(fresh, Relaxed);
        self.metrics.bytes.fetch_add(bytes, Relaxed);
        if let Some(last) = entry.messages.last() {
            let (publish_time_ms, position) = (last.publish_time_ms, last.position);
            self.metrics.update_lane(partition, |status| {
                status.publish_time_ms = Some(publish_time_ms);
                status.position = Some(position);
            });
        }
    }
}

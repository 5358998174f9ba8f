//! What a lane does where its windows become rows only together with those of other lanes.
//!
//! It closes windows as ever, by its own messages, and keeps them; the junction takes them out. Its
//! commits hold letters and its record, and become parts of the commits of all lanes.

use tidemill_kernel::{rollup::Rollup, window::Window};

use super::{Action, Lane, Phase};
use crate::record::CommitRecord;

impl Lane {
    /// As [`Lane::start`], for a lane that keeps its closed windows. Those that end at or before
    /// `merged_until_ms` are in rows: what still comes for them is late.
    pub(crate) fn start_holding(
        &mut self,
        record: Option<CommitRecord>,
        merged_until_ms: i64,
        now_ms: u64,
        actions: &mut Vec<Action>,
    ) {
        self.merged_until_ms = Some(merged_until_ms);
        self.start(record, now_ms, actions);
    }

    /// Returns the instant up to which this lane has closed all windows: any, once it has ended.
    pub(crate) fn closed_until_ms(&self) -> i64 {
        if self.has_ended { i64::MAX } else { self.rollup.progress().closed_until_ms }
    }

    /// Returns the roll-up, to be looked at.
    pub(crate) fn rollup(&self) -> &Rollup {
        &self.rollup
    }

    /// Gives out the closed windows up to an instant.
    pub(crate) fn release(&mut self, until_ms: i64) -> Vec<Window> {
        self.merged_until_ms = self.merged_until_ms.max(Some(until_ms));
        self.rollup.release(until_ms)
    }

    /// Closes windows that this lane's own messages have not closed. The next commit has to be
    /// taken before the next message.
    pub(crate) fn close_until(&mut self, edge_ms: i64) {
        self.rollup.close_until(edge_ms, &mut self.effects);
    }

    /// Returns whether it still reads again what its record covers.
    pub(crate) fn is_replaying(&self) -> bool {
        self.phase == Phase::Loading || self.rollup.is_replaying()
    }

    /// Returns whether messages were processed since the last snapshot.
    pub(crate) fn has_news(&self) -> bool {
        self.rollup.progress().ordinal > self.committed_ordinal
    }

    /// Returns whether the watermark has stood still for the idle timeout.
    pub(crate) fn is_quiet(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.watermark_moved_at_ms) >= self.config.idle_timeout_ms
    }

    /// Takes a snapshot now, also where nothing was read.
    pub(crate) fn take_part(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        self.snapshot(now_ms, actions);
    }
}

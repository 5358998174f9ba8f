//! Settings of time that change while windows are open: windows that end at or before an edge go by
//! the old values, later ones by the new.
//!
//! From the edge and the place in the log where it was chosen everything else follows, so owner,
//! restart and the cutting of blocks change no row. When to change, and that the edge is durable
//! before anything that follows from it, is the caller's business.

use alloc::vec::Vec;

use super::{Rollup, RollupConfig};
use crate::{
    event::{Message, Position},
    time::{DurationMs, Timestamp, WindowGrid},
    window::Window,
};

/// The settings of time that decide rows and no column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// How far events may be behind the highest event time without being late.
    pub max_out_of_orderness: DurationMs,
    /// How much longer a window stays open for stragglers.
    pub allowed_lateness: DurationMs,
    /// How far an event may be ahead of its message's publish time.
    pub max_future_skew: DurationMs,
}

/// That windows beyond an edge go by other values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Windows that end at or before this instant (ms) keep the values before.
    pub edge_ms: i64,
    /// The last position processed when the edge was chosen. No message up to here was counted in
    /// a window beyond the edge.
    pub since: Position,
    /// The values of later windows.
    pub timing: Timing,
}

impl RollupConfig {
    /// Returns the settings of time.
    pub fn timing(&self) -> Timing {
        Timing {
            max_out_of_orderness: self.max_out_of_orderness,
            allowed_lateness: self.allowed_lateness,
            max_future_skew: self.max_future_skew,
        }
    }

    /// Replaces the settings of time.
    pub fn set_timing(&mut self, timing: Timing) {
        self.max_out_of_orderness = timing.max_out_of_orderness;
        self.allowed_lateness = timing.allowed_lateness;
        self.max_future_skew = timing.max_future_skew;
    }

    /// Returns how many windows can be open at once.
    pub fn open_windows_max(&self) -> i64 {
        open_windows_max(self.grid, self.max_out_of_orderness, self.allowed_lateness)
    }
}

/// Returns how many windows can be open at once: those between the newest event and the oldest one
/// that is not late.
pub fn open_windows_max(
    grid: WindowGrid,
    max_out_of_orderness: DurationMs,
    allowed_lateness: DurationMs,
) -> i64 {
    (max_out_of_orderness.as_ms() + allowed_lateness.as_ms()) / grid.size_ms() + 2
}

impl Rollup {
    /// Returns the values of the oldest window that is open or could be.
    pub fn timing(&self) -> Timing {
        self.config.timing()
    }

    /// Returns the values of windows that are yet to begin.
    pub fn newest_timing(&self) -> Timing {
        self.changes.last().map_or_else(|| self.timing(), |change| change.timing)
    }

    /// Returns the changes whose edge is not closed yet, edges rising.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Goes on with recorded values and changes.
    ///
    /// # Panics
    /// If the edges do not rise, or the first is closed.
    pub fn restore_timing(&mut self, timing: Timing, changes: Vec<Change>) {
        let rise = changes.is_sorted_by(|a, b| a.edge_ms < b.edge_ms);
        let is_open = |change: &Change| change.edge_ms > self.watermark.closed_until_ms();
        assert!(rise && changes.first().is_none_or(is_open), "edges of a record: {changes:?}");
        self.changes = changes;
        self.go_by(timing);
    }

    /// Lets all windows that are yet to begin go by other values. Those that are open keep theirs.
    /// The caller has to make the change durable before the next message.
    ///
    /// # Panics
    /// While the lane reads again, or where windows are held for other lanes.
    pub fn change_timing(&mut self, timing: Timing) {
        assert!(self.replay.is_none() && self.held.is_none(), "only between messages of one lane");
        match (self.windows.last().map(Window::end_ms), self.processed) {
            (Some(edge_ms), Some(since)) => {
                // No window goes by the values of a change with the same edge.
                self.changes.retain(|change| change.edge_ms < edge_ms);
                self.changes.push(Change { edge_ms, since, timing });
                self.go_by(self.timing());
            }
            // Changes under way have an open window, so there is none.
            _ => self.go_by(timing),
        }
    }

    fn go_by(&mut self, timing: Timing) {
        self.config.set_timing(timing);
        if let Some(amending) = &mut self.amending {
            amending.go_by(timing.allowed_lateness);
        }
        let edge_ms = self.changes.first().map_or(i64::MAX, |change| change.edge_ms);
        self.watermark.go_by(timing.max_out_of_orderness, timing.allowed_lateness, edge_ms);
    }

    /// Goes over to the next values where an edge is closed, and closes what they close.
    pub(super) fn pass_edges(&mut self) {
        while let Some(change) = self.changes.first().copied()
            && self.watermark.closed_until_ms() >= change.edge_ms
        {
            self.changes.remove(0);
            self.go_by(change.timing);
            self.watermark.settle();
        }
    }

    /// Returns how far ahead an event of that time may be.
    #[inline]
    pub(super) fn max_future_skew_at(&self, time: Timestamp) -> DurationMs {
        if self.changes.is_empty() {
            return self.config.max_future_skew;
        }
        let end_ms = self.config.grid.window_end(time);
        let mut changes = self.changes.iter().rev();
        let governing = changes.find(|change| end_ms > change.edge_ms);
        governing.map_or(self.config.max_future_skew, |change| change.timing.max_future_skew)
    }

    /// Returns whether a message that is read again cannot have been counted: its window's values
    /// were not yet chosen.
    pub(super) fn was_beyond(&self, message: &Message<'_>) -> bool {
        message.reject().is_none()
            && self.changes.iter().any(|change| {
                message.position() <= change.since
                    && self.config.grid.window_end(message.time()) > change.edge_ms
            })
    }
}

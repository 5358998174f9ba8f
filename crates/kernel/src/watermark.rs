//! How far event time has certainly come, and what that closes.
//!
//! The watermark is the highest event time seen minus the out-of-orderness that is allowed for. A
//! window closes when the watermark reaches its end plus the allowed lateness; an event whose
//! window is closed is late. All of it follows from the messages in log order alone.

use crate::time::{DurationMs, Timestamp, WindowGrid};

/// The lane's event-time progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    grid: WindowGrid,
    /// Out-of-orderness plus allowed lateness: how far closing stays behind the highest event.
    hold_back_ms: i64,
    max_out_of_orderness_ms: i64,
    highest_event_time_ms: i64,
    closed_until_ms: i64,
    /// Events close nothing beyond this edge: later windows go by other values.
    edge_ms: i64,
}

impl Watermark {
    /// Returns the progress of a lane that has seen nothing.
    pub fn new(
        grid: WindowGrid,
        max_out_of_orderness: DurationMs,
        allowed_lateness: DurationMs,
    ) -> Watermark {
        Watermark {
            grid,
            hold_back_ms: max_out_of_orderness.as_ms() + allowed_lateness.as_ms(),
            max_out_of_orderness_ms: max_out_of_orderness.as_ms(),
            highest_event_time_ms: i64::MIN,
            closed_until_ms: i64::MIN,
            edge_ms: i64::MAX,
        }
    }

    /// Goes by other values from here on, for windows that end at or before `edge_ms`.
    pub fn go_by(
        &mut self,
        max_out_of_orderness: DurationMs,
        allowed_lateness: DurationMs,
        edge_ms: i64,
    ) {
        self.hold_back_ms = max_out_of_orderness.as_ms() + allowed_lateness.as_ms();
        self.max_out_of_orderness_ms = max_out_of_orderness.as_ms();
        self.edge_ms = edge_ms;
    }

    /// Continues from recorded progress.
    pub fn restore(&mut self, highest_event_time_ms: i64, closed_until_ms: i64) {
        self.highest_event_time_ms = highest_event_time_ms;
        self.closed_until_ms = closed_until_ms;
    }

    /// Returns the highest event time that counted, in ms, or `i64::MIN`.
    pub const fn highest_event_time_ms(&self) -> i64 {
        self.highest_event_time_ms
    }

    /// Returns the instant (ms) up to which all windows are closed, or `i64::MIN`.
    pub const fn closed_until_ms(&self) -> i64 {
        self.closed_until_ms
    }

    /// Returns the watermark in ms, or `None` before the first event.
    pub const fn value_ms(&self) -> Option<i64> {
        if self.highest_event_time_ms == i64::MIN {
            None
        } else {
            Some(self.highest_event_time_ms - self.max_out_of_orderness_ms)
        }
    }

    /// Returns how far the watermark is behind the highest event time.
    pub const fn max_out_of_orderness_ms(&self) -> i64 {
        self.max_out_of_orderness_ms
    }

    /// Returns whether the window that ends then is closed.
    #[inline]
    pub const fn is_closed(&self, window_end_ms: i64) -> bool {
        window_end_ms <= self.closed_until_ms
    }

    /// Takes an event's time in; returns true if `closed_until` rose, so that windows close.
    #[inline]
    pub fn observe(&mut self, time: Timestamp) -> bool {
        if time.as_ms() <= self.highest_event_time_ms {
            return false;
        }
        self.highest_event_time_ms = time.as_ms();
        self.settle()
    }

    /// Returns up to which time events close nothing.
    pub fn calm_until_ms(&self) -> i64 {
        let next_edge_ms = match self.closed_until_ms {
            i64::MIN => return i64::MIN,
            edge_ms => self.grid.edge_at_or_before(edge_ms).saturating_add(self.grid.size_ms()),
        };
        next_edge_ms.saturating_add(self.hold_back_ms).saturating_sub(1)
    }

    /// Takes the highest time of events in that close nothing.
    pub fn raise(&mut self, event_time_ms: i64) {
        debug_assert!(event_time_ms <= self.calm_until_ms().max(self.highest_event_time_ms));
        self.highest_event_time_ms = self.highest_event_time_ms.max(event_time_ms);
    }

    /// Closes what the highest event time closes by the present values; returns whether that is
    /// news.
    #[inline]
    pub fn settle(&mut self) -> bool {
        if self.highest_event_time_ms == i64::MIN {
            return false;
        }
        let reached = self.grid.edge_at_or_before(self.highest_event_time_ms - self.hold_back_ms);
        self.close_until(reached.min(self.edge_ms))
    }

    /// Closes all windows up to an edge; returns whether that is news.
    pub fn close_until(&mut self, edge_ms: i64) -> bool {
        let rises = edge_ms > self.closed_until_ms;
        self.closed_until_ms = self.closed_until_ms.max(edge_ms);
        rises
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_closes_when_the_watermark_reaches_end_plus_lateness() {
        let grid = WindowGrid::new(60_000, 0).expect("valid grid");
        let ms = DurationMs::from_ms;
        let mut watermark = Watermark::new(grid, ms(5_000), ms(2_000));
        let at = |ms| Timestamp::from_ms(ms).expect("in range");
        watermark.observe(at(600_000));
        assert!(watermark.is_closed(540_000) && !watermark.is_closed(600_000));
        assert!(!watermark.observe(at(606_999)));
        assert!(!watermark.is_closed(600_000));
        assert!(watermark.observe(at(607_000)));
        assert!(watermark.is_closed(600_000));
        assert!(!watermark.observe(at(1_000)), "an old event moves nothing");
        assert_eq!(watermark.value_ms(), Some(602_000));
    }
}

//! Instants, spans and the window grid, all in whole milliseconds of UTC.
//!
//! Nothing here reads a clock. Leap seconds and time zones do not exist: windows are UTC.

/// An instant in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest instant an event may carry.
    pub const MIN: Timestamp = Timestamp(0);
    /// The latest instant an event may carry: its window's end, at most one hour later, must fit
    /// the stores' 32-bit seconds (2106-02-07T06:28:15Z is their last).
    pub const MAX: Timestamp = Timestamp((u32::MAX as i64 - 2 * 3600) * 1000);

    /// Returns the instant, or `None` outside of `MIN..=MAX`.
    #[inline]
    pub const fn from_ms(ms: i64) -> Option<Timestamp> {
        if ms < Self::MIN.0 || ms > Self::MAX.0 { None } else { Some(Timestamp(ms)) }
    }

    /// Returns milliseconds since the epoch.
    #[inline]
    pub const fn as_ms(self) -> i64 {
        self.0
    }
}

/// A length of time in milliseconds, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DurationMs(i64);

impl DurationMs {
    /// No time at all.
    pub const ZERO: DurationMs = DurationMs(0);

    /// Returns a span; negative input becomes zero and 400 years is the most.
    #[inline]
    pub const fn from_ms(ms: i64) -> DurationMs {
        const MAX: i64 = 400 * 366 * 86_400_000;
        if ms < 0 {
            DurationMs(0)
        } else if ms > MAX {
            DurationMs(MAX)
        } else {
            DurationMs(ms)
        }
    }

    /// Returns the span in milliseconds.
    #[inline]
    pub const fn as_ms(self) -> i64 {
        self.0
    }
}

/// The smallest window.
pub const WINDOW_SIZE_MIN_MS: i64 = 1_000;
/// The largest window.
pub const WINDOW_SIZE_MAX_MS: i64 = 3_600_000;
/// How many equal slots of a window the coverage bitmap tells apart.
pub const COVERAGE_SLOTS: u32 = 60;

/// The grid of tumbling windows: windows are `[start, start + size)` with `start = offset` modulo
/// `size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowGrid {
    size_ms: i64,
    offset_ms: i64,
}

impl WindowGrid {
    /// Returns the grid, or `None` unless the size is 1 s to 1 h in whole seconds and the offset
    /// is whole seconds in `0..size`.
    pub const fn new(size_ms: i64, offset_ms: i64) -> Option<WindowGrid> {
        let whole = size_ms % 1000 == 0 && offset_ms % 1000 == 0;
        let sized = size_ms >= WINDOW_SIZE_MIN_MS && size_ms <= WINDOW_SIZE_MAX_MS;
        if whole && sized && offset_ms >= 0 && offset_ms < size_ms {
            Some(WindowGrid { size_ms, offset_ms })
        } else {
            None
        }
    }

    /// Returns the length of a window in milliseconds.
    pub const fn size_ms(self) -> i64 {
        self.size_ms
    }

    /// Returns the offset of the grid in milliseconds.
    pub const fn offset_ms(self) -> i64 {
        self.offset_ms
    }

    /// Returns the last window edge at or before `ms`, which may lie outside of the range of
    /// [`Timestamp`].
    #[inline]
    pub const fn edge_at_or_before(self, ms: i64) -> i64 {
        ms - (ms - self.offset_ms).rem_euclid(self.size_ms)
    }

    /// Returns the end of the window that `time` belongs to, in milliseconds.
    #[inline]
    pub const fn window_end(self, time: Timestamp) -> i64 {
        self.edge_at_or_before(time.0) + self.size_ms
    }

    /// Returns the coverage slot (0 to 59) of `time` in the window that starts at `start_ms`.
    #[inline]
    pub const fn slot(self, start_ms: i64, time: Timestamp) -> u32 {
        ((time.0 - start_ms) * COVERAGE_SLOTS as i64 / self.size_ms) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_of_an_edge_is_the_one_that_starts_there() {
        let grid = WindowGrid::new(60_000, 0).expect("valid grid");
        let at = |ms| Timestamp::from_ms(ms).expect("in range");
        assert_eq!(grid.window_end(at(60_000)), 120_000);
        assert_eq!(grid.window_end(at(59_999)), 60_000);
        assert_eq!(grid.window_end(at(0)), 60_000);
        assert_eq!(grid.slot(60_000, at(119_999)), 59);
        assert_eq!(grid.slot(60_000, at(60_000)), 0);
    }

    #[test]
    fn offset_moves_the_grid_also_before_the_first_edge() {
        let grid = WindowGrid::new(10_000, 3_000).expect("valid grid");
        let at = |ms| Timestamp::from_ms(ms).expect("in range");
        assert_eq!(grid.window_end(at(0)), 3_000);
        assert_eq!(grid.window_end(at(2_999)), 3_000);
        assert_eq!(grid.window_end(at(3_000)), 13_000);
    }

    #[test]
    fn grid_refuses_fractions_of_seconds_and_sizes_out_of_bounds() {
        assert!(WindowGrid::new(500, 0).is_none());
        assert!(WindowGrid::new(1_500, 0).is_none());
        assert!(WindowGrid::new(3_601_000, 0).is_none());
        assert!(WindowGrid::new(60_000, 60_000).is_none());
    }
}

//! The value of the earliest or latest event; among events of one instant the smallest value.

use crate::time::Timestamp;

/// Which event decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The earliest.
    First,
    /// The latest.
    Last,
}

impl End {
    /// Returns whether an event at `time` decides before one at `than`.
    #[inline]
    pub fn is_closer(self, time: i64, than: i64) -> bool {
        match self {
            End::First => time < than,
            End::Last => time > than,
        }
    }

    /// Returns the instant that every event beats.
    pub const fn farthest(self) -> i64 {
        match self {
            End::First => i64::MAX,
            End::Last => i64::MIN,
        }
    }
}

/// Returns how close to its end of the window an event is: the highest rank decides. The time is
/// in ms from the window's start; 0 is the rank of no event.
#[inline]
pub(crate) fn rank_of(end: End, offset_ms: u32) -> u64 {
    match end {
        End::First => u64::from(u32::MAX - offset_ms),
        End::Last => u64::from(offset_ms) + 1,
    }
}

/// Returns the time of a rank, `None` of no event.
pub(crate) fn offset_of(end: End, rank: u64) -> Option<u32> {
    let offset_ms = match (end, rank) {
        (_, 0) => return None,
        (End::First, rank) => u64::from(u32::MAX) - rank,
        (End::Last, rank) => rank - 1,
    };
    u32::try_from(offset_ms).ok()
}

/// The deciding value so far, of any copyable type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decided<T> {
    /// When the deciding event was (ms), or `End::farthest` if there was none.
    pub time_ms: i64,
    /// Its value.
    pub value: T,
}

impl<T: Copy + PartialOrd + Default> Decided<T> {
    /// Returns the state before any event.
    pub fn empty(end: End) -> Decided<T> {
        Decided { time_ms: end.farthest(), value: T::default() }
    }

    /// Takes an event in.
    #[inline]
    pub fn add(&mut self, end: End, time: Timestamp, value: T) {
        self.merge(end, Decided { time_ms: time.as_ms(), value });
    }

    /// Takes another state in.
    #[inline]
    pub fn merge(&mut self, end: End, other: Decided<T>) {
        let tie = other.time_ms == self.time_ms && other.time_ms != end.farthest();
        if end.is_closer(other.time_ms, self.time_ms) || (tie && other.value < self.value) {
            *self = other;
        }
    }

    /// Returns the value, if there was an event.
    pub fn get(self, end: End) -> Option<T> {
        (self.time_ms != end.farthest()).then_some(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_order_times_towards_their_end() {
        for offset_ms in [0, 1, 59_999, 3_599_999] {
            for end in [End::First, End::Last] {
                assert!(rank_of(end, offset_ms) > 0);
                assert_eq!(offset_of(end, rank_of(end, offset_ms)), Some(offset_ms));
                assert_eq!(offset_of(end, 0), None);
            }
            assert!(rank_of(End::First, offset_ms) > rank_of(End::First, offset_ms + 1));
            assert!(rank_of(End::Last, offset_ms) < rank_of(End::Last, offset_ms + 1));
        }
    }

    #[test]
    fn ties_go_to_the_smallest_value() {
        let at = |ms| Timestamp::from_ms(ms).expect("in range");
        for (end, expected) in [(End::First, 1.0), (End::Last, 2.0)] {
            let events = [(5, 4.0), (3, 7.0), (3, 1.0), (9, 2.0), (9, 3.0)];
            let mut forward = Decided::<f64>::empty(end);
            let mut backward = Decided::<f64>::empty(end);
            assert_eq!(forward.get(end), None);
            events.iter().for_each(|(ms, value)| forward.add(end, at(*ms), *value));
            events.iter().rev().for_each(|(ms, value)| backward.add(end, at(*ms), *value));
            assert_eq!(forward.get(end), Some(expected));
            assert_eq!(forward, backward);
        }
    }
}

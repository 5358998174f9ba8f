//! How evenly the events of a window are spread: sixty equal slots, a bit for each that holds one.

use crate::time::COVERAGE_SLOTS;

/// The slots that hold an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage(u64);

impl Coverage {
    /// Marks a slot (0 to 59).
    #[inline]
    pub fn add(&mut self, slot: u32) {
        debug_assert!(slot < COVERAGE_SLOTS, "slot {slot} of a window");
        self.0 |= 1 << slot;
    }

    /// Takes another bitmap in.
    pub fn merge(&mut self, other: Coverage) {
        self.0 |= other.0;
    }

    /// Returns the bitmap.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Returns the coverage of a bitmap; bits beyond the sixtieth are dropped.
    pub const fn from_bits(bits: u64) -> Coverage {
        Coverage(bits & ((1 << COVERAGE_SLOTS) - 1))
    }

    /// Returns the share of slots that hold an event, 0 to 1.
    pub fn ratio(self) -> f64 {
        f64::from(self.0.count_ones()) / f64::from(COVERAGE_SLOTS)
    }

    /// Returns the longest run of empty slots of a window of that size, in milliseconds.
    pub fn max_gap_ms(self, size_ms: i64) -> u32 {
        let empty = !self.0 & ((1 << COVERAGE_SLOTS) - 1);
        // Where runs of 1, 2, 4 and so on begin.
        let mut begins = [empty; 6];
        for power in 1..begins.len() {
            begins[power] = begins[power - 1] & begins[power - 1] >> (1 << (power - 1));
        }
        // Where the longest run found so far begins; the lengths of the next bits are tried.
        let (mut found, mut run) = (u64::MAX, 0_i64);
        for (power, begins) in begins.into_iter().enumerate().rev() {
            let longer = found & begins >> run;
            if longer != 0 {
                (found, run) = (longer, run + (1 << power));
            }
        }
        // A window has at most 3,600,000 ms.
        (run * size_ms / i64::from(COVERAGE_SLOTS)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_gap_of_any_bitmap_is_found() {
        let mut state = 7_u64;
        for round in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // From nearly all slots to nearly none.
            let bits = (0..round % 9).fold(state, |bits, by| bits & state.rotate_left(7 + 13 * by));
            let coverage = Coverage::from_bits(if round % 2 == 0 { bits } else { !bits });
            let (mut run, mut longest) = (0, 0);
            for slot in 0..COVERAGE_SLOTS {
                run = if coverage.bits() >> slot & 1 == 1 { 0 } else { run + 1 };
                longest = longest.max(run);
            }
            assert_eq!(coverage.max_gap_ms(60_000), longest * 1_000, "{:b}", coverage.bits());
        }
    }

    #[test]
    fn longest_gap_is_the_longest_run_of_empty_slots() {
        let mut coverage = Coverage::default();
        assert_eq!((coverage.ratio(), coverage.max_gap_ms(60_000)), (0.0, 60_000));
        coverage.add(0);
        coverage.add(20);
        assert_eq!(coverage.ratio(), 2.0 / 60.0);
        assert_eq!(coverage.max_gap_ms(60_000), 39_000);
        assert_eq!(coverage.max_gap_ms(1_000), 650);
        (0..60).for_each(|slot| coverage.add(slot));
        assert_eq!((coverage.ratio(), coverage.max_gap_ms(60_000)), (1.0, 0));
    }
}

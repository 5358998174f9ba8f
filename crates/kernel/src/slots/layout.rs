//! Where each state of a device-window stands in its row of 64-bit words.
//!
//! What every message touches stands together, in whole cache lines: with many devices each line
//! more is a wait for memory. What only incomplete messages touch is kept outside of the row.

use alloc::vec::Vec;
use core::ops::Range;

use crate::aggregate::{min_max::MinMax, most_frequent};

/// Words of a cache line.
pub(crate) const LINE_WORDS: usize = 8;

/// Record count (low half) and invalid count.
pub(crate) const COUNTS: usize = 0;
/// First (low half) and last event time, in ms from the window's start.
pub(crate) const TIMES: usize = 1;
/// The coverage bitmap.
pub(crate) const COVERAGE: usize = 2;
/// In the word of the bitmap, which needs but sixty bits: set once the first or last message of a
/// device lacked a value that was to be its first or last one, or the states came from elsewhere.
/// While it is not, first values are of the first event time and last values of the last one.
pub(crate) const MIXED: u64 = 1 << 63;
/// Start and length of the key in the chunk's bytes, as [`span`] packs them.
pub(crate) const KEY: usize = 3;
/// The words that every row has.
pub(crate) const HEADER: usize = 4;

/// The words of each kind of state, and what an empty row holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowLayout {
    /// The high limbs, then the low limbs.
    pub(crate) float_sums: Range<usize>,
    /// A word each.
    pub(crate) int_sums: Range<usize>,
    /// The counts of true values, a word each.
    pub(crate) flags: Range<usize>,
    /// [`code_places`](RowLayout::code_places) each: see
    /// [`most_frequent`](crate::aggregate::most_frequent).
    pub(crate) codes: Range<usize>,
    /// Whole groups of places.
    pub(crate) code_places: usize,
    /// Minimum and maximum each.
    pub(crate) float_ranges: Range<usize>,
    /// Minimum and maximum each.
    pub(crate) int_ranges: Range<usize>,
    /// Rank of the time and value each.
    pub(crate) float_ends: Range<usize>,
    /// Rank of the time and value each.
    pub(crate) int_ends: Range<usize>,
    /// Rank of the time (low half) and capacity, then the span of the text.
    pub(crate) text_ends: Range<usize>,
    /// An empty row; as long as every row is.
    pub(crate) empty: Vec<u64>,
    /// Whether any aggregate is a first value.
    pub(crate) has_first_ends: bool,
    /// Whether any aggregate is a last value.
    pub(crate) has_last_ends: bool,
}

/// How many states of each kind a row has.
pub(crate) struct Counts {
    pub(crate) float_sums: usize,
    pub(crate) int_sums: usize,
    pub(crate) flags: usize,
    pub(crate) codes: usize,
    pub(crate) float_ranges: usize,
    pub(crate) int_ranges: usize,
    pub(crate) float_ends: usize,
    pub(crate) int_ends: usize,
    pub(crate) text_ends: usize,
    pub(crate) has_first_ends: bool,
    pub(crate) has_last_ends: bool,
}

impl RowLayout {
    /// Works out the places.
    pub(crate) fn new(counts: &Counts) -> RowLayout {
        let layout = RowLayout::with_code_places(counts, most_frequent::PLACES);
        // More places where the lines have room for them anyway.
        let more = RowLayout::with_code_places(counts, 2 * most_frequent::PLACES);
        if more.words() == layout.words() { more } else { layout }
    }

    fn with_code_places(counts: &Counts, code_places: usize) -> RowLayout {
        let mut words = HEADER;
        let mut take = |count: usize| {
            words += count;
            words - count..words
        };
        let mut layout = RowLayout {
            float_sums: take(2 * counts.float_sums),
            int_sums: take(counts.int_sums),
            flags: take(counts.flags),
            codes: take(code_places * counts.codes),
            code_places,
            float_ranges: take(2 * counts.float_ranges),
            int_ranges: take(2 * counts.int_ranges),
            float_ends: take(2 * counts.float_ends),
            int_ends: take(2 * counts.int_ends),
            text_ends: take(2 * counts.text_ends),
            empty: Vec::new(),
            has_first_ends: counts.has_first_ends,
            has_last_ends: counts.has_last_ends,
        };
        layout.empty = alloc::vec![0; words.next_multiple_of(LINE_WORDS)];
        layout.empty[TIMES] = u64::from(u32::MAX);
        let floats = MinMax::<f64>::EMPTY;
        for range in layout.empty[layout.float_ranges.clone()].chunks_exact_mut(2) {
            range.copy_from_slice(&[floats.min.to_bits(), floats.max.to_bits()]);
        }
        let ints = MinMax::<i64>::EMPTY;
        for range in layout.empty[layout.int_ranges.clone()].chunks_exact_mut(2) {
            range.copy_from_slice(&[ints.min as u64, ints.max as u64]);
        }
        layout
    }

    /// Returns where the places of a code are.
    #[inline]
    pub(crate) fn code(&self, index: usize) -> Range<usize> {
        let at = self.codes.start + self.code_places * index;
        at..at + self.code_places
    }

    /// Returns the words of a row, whole lines.
    #[inline]
    pub(crate) fn words(&self) -> usize {
        self.empty.len()
    }
}

/// Bits of a span that hold its length: a text is shorter than 256 MiB.
const LENGTH_BITS: u32 = 28;

/// Packs a range of a chunk's bytes.
#[inline]
pub(crate) fn span(start: usize, length: usize) -> u64 {
    let fits = length < 1 << LENGTH_BITS && start < 1 << (64 - LENGTH_BITS);
    assert!(fits, "keys and texts are shorter than a message");
    (start as u64) << LENGTH_BITS | length as u64
}

/// Unpacks a [`span`]: start and length.
#[inline]
pub(crate) fn unspan(span: u64) -> (usize, usize) {
    ((span >> LENGTH_BITS) as usize, (span & ((1 << LENGTH_BITS) - 1)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_keep_start_and_length() {
        for (start, length) in [(0, 0), (1, (1 << 28) - 1), ((1 << 36) - 1, 7)] {
            assert_eq!(unspan(span(start, length)), (start, length));
        }
    }
}

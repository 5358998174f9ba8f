//! Single states of a device-window, read as values and set from values.
//!
//! What emitting, encoding and merging use; folding works on the words themselves. Times are
//! absolute here.

use alloc::boxed::Box;

use super::{
    CHUNK_ROWS, Chunk,
    layout::{COUNTS, COVERAGE, KEY, MIXED, TIMES, unspan},
};
use crate::{
    aggregate::{
        coverage::Coverage,
        first_last::{Decided, End, offset_of, rank_of},
        min_max::MinMax,
        most_frequent::{CodeCounts, counted_in_place, most_frequent, most_frequent_in_place},
        sum::{self, FloatSum, IntSum},
        wide::{Rounded, WideSum},
    },
    event::Text,
    plan::Plan,
};

/// What every device-window has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quality {
    pub(crate) record_count: u32,
    pub(crate) invalid_count: u32,
    pub(crate) first_event_time_ms: i64,
    pub(crate) last_event_time_ms: i64,
    pub(crate) coverage: Coverage,
}

impl Quality {
    /// Takes another one in that counts messages too.
    pub(crate) fn merge(&mut self, other: &Quality) {
        if self.record_count == 0 {
            *self = *other;
            return;
        }
        self.first_event_time_ms = self.first_event_time_ms.min(other.first_event_time_ms);
        self.last_event_time_ms = self.last_event_time_ms.max(other.last_event_time_ms);
        self.coverage.merge(other.coverage);
        self.record_count += other.record_count;
        self.invalid_count = self.invalid_count.saturating_add(other.invalid_count);
    }
}

/// The window that a chunk's times belong to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start_ms: i64,
    pub(crate) size_ms: i64,
}

impl Span {
    /// Returns a time as milliseconds from the window's start, if it lies in the window.
    fn offset(self, time_ms: i64) -> Option<u32> {
        let offset_ms = time_ms.checked_sub(self.start_ms)?;
        let inside = (0..self.size_ms).contains(&offset_ms);
        inside.then(|| u32::try_from(offset_ms).ok()).flatten()
    }
}

/// The states of one device-window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct States<'a> {
    pub(super) chunk: &'a Chunk,
    pub(crate) plan: &'a Plan,
    row: usize,
    span: Span,
    /// The row's words.
    words: &'a [u64],
}

impl<'a> States<'a> {
    #[inline]
    pub(crate) fn new(chunk: &'a Chunk, plan: &'a Plan, row: usize, span: Span) -> States<'a> {
        States { chunk, plan, row, span, words: chunk.row(row) }
    }

    #[inline]
    fn word(&self, at: usize) -> u64 {
        self.words[at]
    }

    fn place(&self, index: usize) -> (u16, u16) {
        (self.row as u16, index as u16)
    }

    #[inline]
    pub(crate) fn key(&self) -> &'a [u8] {
        self.key_place().as_bytes()
    }

    /// Returns the key, to be copied.
    #[inline]
    pub(crate) fn key_place(&self) -> Text<'a> {
        let (start, length) = unspan(self.word(KEY));
        Text::new(&self.chunk.bytes[start..], length)
    }

    #[inline]
    pub(crate) fn quality(&self) -> Quality {
        let (counts, times) = (self.word(COUNTS), self.word(TIMES));
        Quality {
            record_count: counts as u32,
            invalid_count: (counts >> 32) as u32,
            first_event_time_ms: self.span.start_ms + i64::from(times as u32),
            last_event_time_ms: self.span.start_ms + (times >> 32) as i64,
            coverage: Coverage::from_bits(self.word(COVERAGE)),
        }
    }

    /// Returns how many messages lacked a field.
    #[inline]
    pub(crate) fn absent(&self, bit: usize) -> u32 {
        self.chunk.absent.get(self.row * self.plan.presence_bits + bit).copied().unwrap_or(0)
    }

    /// Returns how many messages had a field.
    #[inline]
    pub(crate) fn present(&self, bit: usize) -> u32 {
        self.word(COUNTS) as u32 - self.absent(bit)
    }

    /// Returns the part of a sum that the row holds, and the other part if there is one.
    pub(crate) fn float_sum(&self, index: usize) -> (FloatSum, Option<&'a WideSum>) {
        let at = self.plan.layout.float_sums.start + index;
        let units = sum::units(self.word(at), self.word(at + self.plan.float_sums.len()));
        let cold = self.chunk.cold.get(&self.place(index)).map(|cold| &**cold);
        (FloatSum::from_units(units), cold)
    }

    /// Returns whether each of its messages had all fields, as far as the chunk knows at a glance.
    #[inline]
    fn is_complete(&self) -> bool {
        self.chunk.absent.is_empty() && self.word(COUNTS) as u32 > 0
    }

    /// Returns the means of so many neighbouring sums, where that takes no closer look.
    #[inline]
    pub(crate) fn plain_means(
        &self,
        index: usize,
        count: usize,
    ) -> Option<impl Iterator<Item = f64> + use<'a>> {
        let at = self.plan.layout.float_sums.start + index;
        let high = &self.words[at..][..count];
        let low = &self.words[at + self.plan.float_sums.len()..][..count];
        let messages = f64::from(self.word(COUNTS) as u32);
        let means =
            high.iter().zip(low).map(move |(high, low)| sum::rounded(*high, *low) / messages);
        (self.is_complete() && self.chunk.cold.is_empty()).then_some(means)
    }

    /// Returns so many neighbouring sums of integers, where that takes no closer look.
    #[inline]
    pub(crate) fn plain_totals(
        &self,
        index: usize,
        count: usize,
    ) -> Option<impl Iterator<Item = i64> + use<'a>> {
        let at = self.plan.layout.int_sums.start + index;
        let totals = self.words[at..][..count].iter().map(|total| *total as i64);
        (self.is_complete() && self.chunk.cold_ints.is_empty()).then_some(totals)
    }

    /// Returns a sum, rounded once.
    #[inline]
    pub(crate) fn float_total(&self, index: usize) -> Rounded {
        if !self.chunk.cold.is_empty() {
            return self.cold_total(index);
        }
        let at = self.plan.layout.float_sums.start + index;
        let low = self.word(at + self.plan.float_sums.len());
        Rounded { value: sum::rounded(self.word(at), low), saturated: false }
    }

    #[cold]
    fn cold_total(&self, index: usize) -> Rounded {
        let (sum, cold) = self.float_sum(index);
        sum.round(cold)
    }

    #[inline]
    pub(crate) fn int_sum(&self, index: usize) -> IntSum {
        let cold = self.cold_int(index);
        let hot = self.word(self.plan.layout.int_sums.start + index) as i64;
        IntSum::from_total(cold.saturating_add(i128::from(hot)))
    }

    #[inline]
    fn cold_int(&self, index: usize) -> i128 {
        if self.chunk.cold_ints.is_empty() {
            return 0;
        }
        self.chunk.cold_ints.get(&self.place(index)).copied().unwrap_or(0)
    }

    #[inline]
    pub(crate) fn true_count(&self, index: usize) -> u32 {
        // Never above the record count.
        self.word(self.plan.layout.flags.start + index) as u32
    }

    /// Returns the codes with their counts, in no order that means anything.
    pub(crate) fn codes(&self, index: usize) -> impl Iterator<Item = (u16, u32)> + use<'a> {
        let spilled = self.chunk.spilled_codes.get(&self.place(index));
        let places = self.chunk.code_places(self.plan, self.row, index);
        counted_in_place(places).chain(spilled.into_iter().flat_map(CodeCounts::iter))
    }

    /// Returns the most frequent code, if there was one.
    #[inline]
    pub(crate) fn most_frequent(&self, index: usize) -> Option<u16> {
        if self.chunk.spilled_codes.is_empty() {
            return most_frequent_in_place(&self.words[self.plan.layout.code(index)]);
        }
        most_frequent(self.codes(index))
    }

    #[inline]
    pub(crate) fn float_range(&self, index: usize) -> MinMax<f64> {
        let at = self.plan.layout.float_ranges.start + 2 * index;
        MinMax { min: f64::from_bits(self.word(at)), max: f64::from_bits(self.word(at + 1)) }
    }

    #[inline]
    pub(crate) fn int_range(&self, index: usize) -> MinMax<i64> {
        let at = self.plan.layout.int_ranges.start + 2 * index;
        MinMax { min: self.word(at) as i64, max: self.word(at + 1) as i64 }
    }

    #[inline]
    pub(crate) fn float_end(&self, index: usize) -> Decided<f64> {
        let (_, end) = self.plan.float_ends[index];
        let at = self.plan.layout.float_ends.start + 2 * index;
        let value = f64::from_bits(self.word(at + 1));
        Decided { time_ms: self.time(end, self.word(at)), value }
    }

    #[inline]
    pub(crate) fn int_end(&self, index: usize) -> Decided<i64> {
        let (_, end) = self.plan.int_ends[index];
        let at = self.plan.layout.int_ends.start + 2 * index;
        Decided { time_ms: self.time(end, self.word(at)), value: self.word(at + 1) as i64 }
    }

    /// Returns the deciding text and its time, which is [`End::farthest`] if there was none.
    pub(crate) fn text_end(&self, index: usize) -> (i64, &'a [u8]) {
        let (_, end) = self.plan.text_ends[index];
        let at = self.plan.layout.text_ends.start + 2 * index;
        let (start, length) = unspan(self.word(at + 1));
        let rank = u64::from(self.word(at) as u32);
        (self.time(end, rank), &self.chunk.bytes[start..][..length])
    }

    /// Returns the deciding float, if there was one.
    #[inline]
    pub(crate) fn float_at_end(&self, index: usize) -> Option<f64> {
        let at = self.plan.layout.float_ends.start + 2 * index;
        (self.word(at) > 0).then(|| f64::from_bits(self.word(at + 1)))
    }

    /// Returns the deciding integer, if there was one.
    #[inline]
    pub(crate) fn int_at_end(&self, index: usize) -> Option<i64> {
        let at = self.plan.layout.int_ends.start + 2 * index;
        (self.word(at) > 0).then(|| self.word(at + 1) as i64)
    }

    /// Returns how long a deciding text is; 0 if there is none.
    #[inline]
    pub(crate) fn text_length(&self, index: usize) -> usize {
        unspan(self.word(self.plan.layout.text_ends.start + 2 * index + 1)).1
    }

    /// Returns the deciding text, if there was one.
    #[inline]
    pub(crate) fn text(&self, index: usize) -> Option<Text<'a>> {
        let at = self.plan.layout.text_ends.start + 2 * index;
        let (start, length) = unspan(self.word(at + 1));
        let is_known = self.word(at) as u32 > 0;
        is_known.then(|| Text::new(&self.chunk.bytes[start..], length))
    }

    #[inline]
    fn time(&self, end: End, rank: u64) -> i64 {
        let offset_ms = offset_of(end, rank);
        offset_ms.map_or(end.farthest(), |offset| self.span.start_ms + i64::from(offset))
    }
}

/// The states of one device-window, to be set.
#[derive(Debug)]
pub(crate) struct StatesMut<'a> {
    pub(crate) chunk: &'a mut Chunk,
    pub(crate) plan: &'a Plan,
    pub(crate) row: usize,
    pub(crate) span: Span,
}

impl StatesMut<'_> {
    fn set(&mut self, at: usize, word: u64) {
        self.chunk.row_mut(self.row)[at] = word;
    }

    pub(crate) fn read(&self) -> States<'_> {
        States::new(self.chunk, self.plan, self.row, self.span)
    }

    /// Sets the quality; returns false, and changes nothing, if a time is not of this window.
    #[must_use]
    pub(crate) fn set_quality(&mut self, quality: &Quality) -> bool {
        let first = self.span.offset(quality.first_event_time_ms);
        let last = self.span.offset(quality.last_event_time_ms);
        let (Some(first), Some(last)) = (first, last) else {
            return false;
        };
        let counts = u64::from(quality.invalid_count) << 32 | u64::from(quality.record_count);
        self.set(COUNTS, counts);
        self.set(TIMES, u64::from(last) << 32 | u64::from(first));
        self.set(COVERAGE, quality.coverage.bits() | MIXED);
        true
    }

    pub(crate) fn add_absent(&mut self, bit: usize, count: u32) {
        if count > 0 {
            self.chunk.absent_mut(self.row)[bit] += count;
        }
    }

    pub(crate) fn add_units(&mut self, index: usize, sum: FloatSum) {
        let (known, _) = self.read().float_sum(index);
        let at = self.plan.layout.float_sums.start + index;
        // Two sums of limbs, each below 2^116, or one of them with nothing.
        let (units, overflow) = known.units().overflowing_add(sum.units());
        let limbs = if overflow { None } else { sum::limbs(units) };
        if limbs.is_none() {
            let place = (self.row as u16, index as u16);
            let cold = self.chunk.cold.entry(place).or_default();
            cold.add_units(known.units());
            cold.add_units(sum.units());
        }
        let (high, low) = limbs.unwrap_or((0, 0));
        self.set(at, high);
        self.set(at + self.plan.float_sums.len(), low);
    }

    pub(crate) fn add_wide(&mut self, index: usize, wide: &WideSum) {
        let place = (self.row as u16, index as u16);
        let cold: &mut Box<WideSum> = self.chunk.cold.entry(place).or_default();
        cold.merge(wide);
    }

    pub(crate) fn add_int_sum(&mut self, index: usize, sum: IntSum) {
        let mut total = self.read().int_sum(index);
        total.merge(sum);
        let place = (self.row as u16, index as u16);
        let hot = i64::try_from(total.total());
        self.set(self.plan.layout.int_sums.start + index, hot.unwrap_or(0) as u64);
        if hot.is_ok() {
            self.chunk.cold_ints.remove(&place);
        } else {
            self.chunk.cold_ints.insert(place, total.total());
        }
    }

    pub(crate) fn add_true_count(&mut self, index: usize, count: u32) {
        let at = self.plan.layout.flags.start + index;
        let known = self.read().true_count(index);
        self.set(at, u64::from(known) + u64::from(count));
    }

    pub(crate) fn add_code(&mut self, index: usize, code: u16, count: u32) {
        self.chunk.add_code(self.plan, self.row, index, code, count);
    }

    pub(crate) fn set_float_range(&mut self, index: usize, range: MinMax<f64>) {
        let at = self.plan.layout.float_ranges.start + 2 * index;
        self.set(at, range.min.to_bits());
        self.set(at + 1, range.max.to_bits());
    }

    pub(crate) fn set_int_range(&mut self, index: usize, range: MinMax<i64>) {
        let at = self.plan.layout.int_ranges.start + 2 * index;
        self.set(at, range.min as u64);
        self.set(at + 1, range.max as u64);
    }

    /// Sets a deciding value; returns false, and changes nothing, if its time is not of this
    /// window. So do the two that follow.
    #[must_use]
    pub(crate) fn set_float_end(&mut self, index: usize, state: Decided<f64>) -> bool {
        let (_, end) = self.plan.float_ends[index];
        let at = self.plan.layout.float_ends.start + 2 * index;
        self.rank(end, state.time_ms).is_some_and(|rank| {
            self.set(at, rank);
            self.set(at + 1, state.value.to_bits());
            true
        })
    }

    #[must_use]
    pub(crate) fn set_int_end(&mut self, index: usize, state: Decided<i64>) -> bool {
        let (_, end) = self.plan.int_ends[index];
        let at = self.plan.layout.int_ends.start + 2 * index;
        self.rank(end, state.time_ms).is_some_and(|rank| {
            self.set(at, rank);
            self.set(at + 1, state.value as u64);
            true
        })
    }

    /// Takes a text in; at [`End::farthest`] there is none to take.
    #[must_use]
    pub(crate) fn add_text(&mut self, index: usize, time_ms: i64, text: &[u8]) -> bool {
        let (_, end) = self.plan.text_ends[index];
        match self.rank(end, time_ms) {
            Some(0) => text.is_empty(),
            Some(rank) => {
                self.chunk.add_text(self.plan, self.row, index, rank, text.into());
                true
            }
            None => false,
        }
    }

    /// Returns the rank of a time of this window, 0 of [`End::farthest`].
    fn rank(&self, end: End, time_ms: i64) -> Option<u64> {
        if time_ms == end.farthest() {
            return Some(0);
        }
        self.span.offset(time_ms).map(|offset_ms| rank_of(end, offset_ms))
    }
}

impl Chunk {
    /// Returns the chunk and the row of a window's slot.
    #[inline]
    pub(crate) fn of_slot(slot: usize) -> (usize, usize) {
        (slot / CHUNK_ROWS, slot % CHUNK_ROWS)
    }

    /// Returns how many chunks the first `slots` slots of a window take.
    pub(crate) fn count_for(slots: usize) -> usize {
        slots.div_ceil(CHUNK_ROWS)
    }
}

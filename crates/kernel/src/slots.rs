//! The states of a few hundred device-windows: a row of words each, and what is rare beside them.
//!
//! A window grows by whole chunks, so that no growth copies what is there; a chunk's rows are
//! zero pages until a device uses them. Which device has which row, the window knows. Times in a
//! row count from the window's start; [`states`] reads and sets single states.

use alloc::{boxed::Box, collections::BTreeMap, vec, vec::Vec};

use crate::{
    aggregate::{
        first_last::{End, rank_of},
        most_frequent::{CodeCounts, count_in_place, counted_in_place},
        sum,
        wide::WideSum,
    },
    event::Message,
    plan::Plan,
    prefetch,
};

pub(crate) mod layout;
pub(crate) mod states;

use layout::{COUNTS, COVERAGE, KEY, LINE_WORDS, RowLayout, TIMES, span, unspan};

/// Device-windows of one chunk: a power of two, small enough that 500 devices waste little.
pub(crate) const CHUNK_ROWS: usize = 512;

/// After so many messages the limbs of float sums are made small again.
const CARRY_EVERY: u32 = sum::ADDITIONS_MAX;

/// When a message happened in its window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// From the window's start.
    pub(crate) offset_ms: u32,
    /// The slot of the coverage bitmap.
    pub(crate) coverage_slot: u32,
}

/// The states of [`CHUNK_ROWS`] device-windows.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    /// The rows; the first begins a cache line, `skip` words in.
    words: Vec<u64>,
    skip: usize,
    row_words: usize,
    rows: usize,
    /// How many messages lacked a field, by row and presence bit; nothing while all were complete.
    absent: Vec<u32>,
    /// Float sums outside of the hot domain or grown out of their limbs, by (row, sum).
    cold: BTreeMap<(u16, u16), Box<WideSum>>,
    /// What integer sums had when they outgrew 64 bits, by (row, sum).
    cold_ints: BTreeMap<(u16, u16), i128>,
    /// Codes that found no place in the row, by (row, code).
    spilled_codes: BTreeMap<(u16, u16), CodeCounts>,
    /// Keys and texts.
    bytes: Vec<u8>,
}

/// Returns how many bytes one row takes, without its key, its texts and what incomplete messages
/// need.
pub(crate) fn row_bytes(plan: &Plan) -> usize {
    plan.layout.words() * size_of::<u64>()
}

impl Chunk {
    pub(crate) fn new(plan: &Plan) -> Chunk {
        let row_words = plan.layout.words();
        let words = vec![0_u64; CHUNK_ROWS * row_words + LINE_WORDS - 1];
        let skip = words.as_ptr().align_offset(LINE_WORDS * size_of::<u64>()).min(LINE_WORDS - 1);
        Chunk {
            words,
            skip,
            row_words,
            rows: 0,
            absent: Vec::new(),
            cold: BTreeMap::new(),
            cold_ints: BTreeMap::new(),
            spilled_codes: BTreeMap::new(),
            bytes: Vec::new(),
        }
    }

    /// Forgets all rows; the memory stays.
    pub(crate) fn clear(&mut self) {
        let bits = self.absent.len() / CHUNK_ROWS;
        self.absent[..self.rows * bits].fill(0);
        self.rows = 0;
        self.cold.clear();
        self.cold_ints.clear();
        self.spilled_codes.clear();
        self.bytes.clear();
    }

    /// Returns about how many bytes all of it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let cold = self.cold.len() * size_of::<WideSum>() + self.cold_ints.len() * 64;
        self.words.capacity() * size_of::<u64>()
            + self.absent.capacity() * size_of::<u32>()
            + self.bytes.capacity()
            + cold
            + self.spilled_codes.len() * size_of::<CodeCounts>()
    }

    /// Gives the next row to a key; rows are used in order.
    pub(crate) fn push_key(&mut self, plan: &Plan, key: &[u8]) {
        assert!(self.rows < CHUNK_ROWS, "a chunk's rows are counted by its window");
        let start = append(&mut self.bytes, key);
        let row = self.rows;
        self.rows += 1;
        let words = self.row_mut(row);
        words.copy_from_slice(&plan.layout.empty);
        words[KEY] = span(start, key.len());
    }

    #[inline]
    pub(crate) fn key(&self, row: usize) -> &[u8] {
        let (start, length) = unspan(self.row(row)[KEY]);
        &self.bytes[start..][..length]
    }

    #[inline]
    pub(crate) fn record_count(&self, row: usize) -> u32 {
        self.row(row)[COUNTS] as u32
    }

    /// Fetches the lines of a row.
    #[inline]
    pub(crate) fn prefetch(&self, row: usize) {
        prefetch::lines(self.row(row));
    }

    /// Fetches the key of a row, and the texts behind it: they were appended together.
    #[inline]
    pub(crate) fn prefetch_key(&self, row: usize) {
        let (start, _) = unspan(self.row(row)[KEY]);
        prefetch::element(&self.bytes, start);
        prefetch::element(&self.bytes, start + LINE_WORDS * size_of::<u64>());
    }

    #[inline]
    fn row(&self, row: usize) -> &[u64] {
        &self.words[self.skip + row * self.row_words..][..self.row_words]
    }

    #[inline]
    fn row_mut(&mut self, row: usize) -> &mut [u64] {
        &mut self.words[self.skip + row * self.row_words..][..self.row_words]
    }

    /// Folds an event into a row.
    #[inline]
    pub(crate) fn fold(&mut self, plan: &Plan, row: usize, event: &Message<'_>, moment: Moment) {
        let layout = &plan.layout;
        let words = &mut self.words[self.skip + row * self.row_words..][..self.row_words];
        let record_count = words[COUNTS] as u32 + 1;
        let invalid_count = ((words[COUNTS] >> 32) as u32).saturating_add(event.invalid_count());
        words[COUNTS] = u64::from(invalid_count) << 32 | u64::from(record_count);
        let first_ms = (words[TIMES] as u32).min(moment.offset_ms);
        let last_ms = ((words[TIMES] >> 32) as u32).max(moment.offset_ms);
        words[TIMES] = u64::from(last_ms) << 32 | u64::from(first_ms);
        words[COVERAGE] |= 1 << moment.coverage_slot;
        // Sums and flags take absent values as the 0 that stands in their place.
        let inside = fold_floats(layout, words, event.floats());
        let fits = fold_ints(plan, words, event.ints());
        let ranks = [End::First, End::Last].map(|end| rank_of(end, moment.offset_ms));
        let complete = event.is_complete();
        let placed = if complete {
            fold_points(plan, words, event, ranks, |_| true, |_| true)
        } else {
            let has_float = |slot| event.has_float(slot);
            fold_points(plan, words, event, ranks, has_float, |slot| event.has_int(slot))
        };
        for index in 0..plan.text_ends.len() {
            let (slot, end) = plan.text_ends[index];
            if let Some(text) = event.text(slot) {
                self.add_text(plan, row, index, ranks[end as usize], text);
            }
        }
        let carry = record_count.is_multiple_of(CARRY_EVERY);
        if !(inside & fits & complete & placed & !carry) {
            self.fold_rare(plan, row, event, carry);
        }
    }

    /// What few messages need: absent fields, values outside of the hot domain, and so on. Each
    /// finds out by itself what the others have left to it.
    #[cold]
    fn fold_rare(&mut self, plan: &Plan, row: usize, event: &Message<'_>, carry: bool) {
        for bit in event.absent() {
            self.add_absent(plan, row, bit, 1);
        }
        self.move_to_cold(plan, row, event);
        for (index, slot) in plan.int_sums.iter().enumerate() {
            let value = event.ints()[usize::from(*slot)];
            let state = &mut self.row_mut(row)[plan.layout.int_sums.start + index];
            // The sum has wrapped if it is not what adding exactly gives.
            let sum = *state as i64;
            let before = sum.wrapping_sub(value);
            if before.checked_add(value).is_none() {
                *state = value as u64;
                *self.cold_ints.entry((row as u16, index as u16)).or_default() +=
                    i128::from(before);
            }
        }
        for (index, code) in plan.codes.iter().enumerate() {
            let at = plan.layout.codes.start + 2 * index;
            if let Some(code) = event.int(code.slot).and_then(|value| code.offset(value)) {
                let words = self.row_mut(row);
                let is_placed = counted_in_place(&words[at..at + 2]).any(|(c, _)| c == code);
                if !is_placed {
                    self.add_code(plan, row, index, code, 1);
                }
            }
        }
        if carry {
            (0..plan.float_sums.len()).for_each(|at| self.carry(plan, row, at));
        }
    }

    /// Takes the values outside of the hot domain out of the limbs again.
    fn move_to_cold(&mut self, plan: &Plan, row: usize, event: &Message<'_>) {
        let count = plan.float_sums.len();
        for (index, slot) in plan.float_sums.iter().enumerate() {
            let value = event.floats()[usize::from(*slot)];
            let split = sum::split(value);
            if !split.inside {
                let at = plan.layout.float_sums.start + index;
                let words = self.row_mut(row);
                words[at] = words[at].wrapping_sub(split.high);
                words[at + count] = words[at + count].wrapping_sub(split.low);
                self.cold.entry((row as u16, index as u16)).or_default().add(value);
            }
        }
    }

    /// Makes the limbs of a sum small; what does not fit goes to the wide sum.
    fn carry(&mut self, plan: &Plan, row: usize, index: usize) {
        let at = plan.layout.float_sums.start + index;
        let count = plan.float_sums.len();
        let words = self.row_mut(row);
        let units = sum::units(words[at], words[at + count]);
        let limbs = sum::limbs(units);
        (words[at], words[at + count]) = limbs.unwrap_or((0, 0));
        if limbs.is_none() {
            self.cold.entry((row as u16, index as u16)).or_default().add_units(units);
        }
    }

    fn add_absent(&mut self, plan: &Plan, row: usize, bit: usize, count: u32) {
        if self.absent.is_empty() {
            self.absent = vec![0; CHUNK_ROWS * plan.presence_bits];
        }
        self.absent[row * plan.presence_bits + bit] += count;
    }

    #[inline]
    fn add_code(&mut self, plan: &Plan, row: usize, index: usize, code: u16, count: u32) {
        let at = plan.layout.codes.start + 2 * index;
        if !count_in_place(&mut self.row_mut(row)[at..at + 2], code, count) {
            let spilled = self.spilled_codes.entry((row as u16, index as u16)).or_default();
            spilled.add(code, count);
        }
    }

    /// Takes a text in, by the rule of [`Decided`](crate::aggregate::first_last::Decided) for
    /// values of any length.
    #[inline]
    fn add_text(&mut self, plan: &Plan, row: usize, index: usize, rank: u64, text: &[u8]) {
        let at = plan.layout.text_ends.start + 2 * index;
        let (state, known) = (self.row(row)[at], self.row(row)[at + 1]);
        let (known_rank, capacity) = (u64::from(state as u32), (state >> 32) as usize);
        let (start, length) = unspan(known);
        let known_text = &self.bytes[start..][..length];
        if rank < known_rank || (rank == known_rank && text >= known_text) {
            return;
        }
        if text == known_text {
            // Attributes hardly ever change.
            self.row_mut(row)[at] = (capacity as u64) << 32 | rank;
            return;
        }
        let (mut start, mut capacity) = (start, capacity);
        if text.len() > capacity {
            // Doubling bounds what replaced texts leave behind to the longest one twice.
            capacity = text.len().max(capacity * 2);
            start = append(&mut self.bytes, text);
            self.bytes.resize(start + capacity, 0);
        } else {
            self.bytes[start..][..text.len()].copy_from_slice(text);
        }
        let words = self.row_mut(row);
        words[at] = (capacity as u64) << 32 | rank;
        words[at + 1] = span(start, text.len());
    }
}

/// Adds floats to their sums; returns whether all were in the hot domain.
#[inline]
fn fold_floats(layout: &RowLayout, words: &mut [u64], floats: &[f64]) -> bool {
    let sums = &mut words[layout.float_sums.clone()];
    let (mut high, mut low) = sums.split_at_mut(sums.len() / 2);
    let mut inside = true;
    for (first, count) in &layout.float_runs {
        let (run_high, rest_high) = high.split_at_mut(*count);
        let (run_low, rest_low) = low.split_at_mut(*count);
        inside &= sum::add_all(&floats[*first..][..*count], run_high, run_low);
        (high, low) = (rest_high, rest_low);
    }
    inside
}

/// Adds integers to their sums and flags to their counts; returns whether no sum has wrapped.
#[inline]
fn fold_ints(plan: &Plan, words: &mut [u64], ints: &[i64]) -> bool {
    let mut wrapped = false;
    let sums = &mut words[plan.layout.int_sums.clone()];
    for (state, slot) in sums.iter_mut().zip(&plan.int_sums) {
        let (sum, overflow) = (*state as i64).overflowing_add(ints[usize::from(*slot)]);
        *state = sum as u64;
        wrapped |= overflow;
    }
    let flags = &mut words[plan.layout.flags.clone()];
    for (state, slot) in flags.iter_mut().zip(&plan.flags) {
        *state += u64::from(ints[usize::from(*slot)] != 0);
    }
    !wrapped
}

/// Folds what absent values must not touch; returns whether every code found a place.
#[inline]
fn fold_points(
    plan: &Plan,
    words: &mut [u64],
    event: &Message<'_>,
    ranks: [u64; 2],
    has_float: impl Fn(u16) -> bool,
    has_int: impl Fn(u16) -> bool,
) -> bool {
    let layout = &plan.layout;
    let (floats, ints) = (event.floats(), event.ints());
    let (ranges, _) = words[layout.float_ranges.clone()].as_chunks_mut::<2>();
    for (range, slot) in ranges.iter_mut().zip(&plan.float_ranges) {
        if has_float(*slot) {
            let value = floats[usize::from(*slot)];
            let [min, max] = range.map(f64::from_bits);
            range[0] = (if value < min { value } else { min }).to_bits();
            range[1] = (if value > max { value } else { max }).to_bits();
        }
    }
    let (ends, _) = words[layout.float_ends.clone()].as_chunks_mut::<2>();
    for (state, (slot, end)) in ends.iter_mut().zip(&plan.float_ends) {
        if has_float(*slot) {
            let (rank, value) = (ranks[*end as usize], floats[usize::from(*slot)]);
            if rank > state[0] || (rank == state[0] && value < f64::from_bits(state[1])) {
                *state = [rank, value.to_bits()];
            }
        }
    }
    let (ranges, _) = words[layout.int_ranges.clone()].as_chunks_mut::<2>();
    for (range, slot) in ranges.iter_mut().zip(&plan.int_ranges) {
        if has_int(*slot) {
            let value = ints[usize::from(*slot)];
            *range = [(range[0] as i64).min(value) as u64, (range[1] as i64).max(value) as u64];
        }
    }
    let (ends, _) = words[layout.int_ends.clone()].as_chunks_mut::<2>();
    for (state, (slot, end)) in ends.iter_mut().zip(&plan.int_ends) {
        if has_int(*slot) {
            let (rank, value) = (ranks[*end as usize], ints[usize::from(*slot)]);
            if rank > state[0] || (rank == state[0] && value < state[1] as i64) {
                *state = [rank, value as u64];
            }
        }
    }
    let mut placed = true;
    let (codes, _) = words[layout.codes.clone()].as_chunks_mut::<2>();
    for (places, code) in codes.iter_mut().zip(&plan.codes) {
        if has_int(code.slot) {
            let offset = code.offset(ints[usize::from(code.slot)]);
            let offset = offset.expect("decoding checks code ranges");
            placed &= count_in_place(places, offset, 1);
        }
    }
    placed
}

fn append(to: &mut Vec<u8>, bytes: &[u8]) -> usize {
    let start = to.len();
    to.extend_from_slice(bytes);
    start
}

//! The states of a few hundred device-windows, in flat arrays.
//!
//! A window grows by whole chunks, so that no growth copies what is there; a chunk's arrays are
//! zero pages until a device uses them. Which device has which row, the window knows.

use alloc::{boxed::Box, collections::BTreeMap, vec, vec::Vec};

use crate::{
    aggregate::{
        coverage::Coverage,
        first_last::{Decided, End},
        min_max::MinMax,
        most_frequent::CodeCounts,
        sum::{FloatSum, IntSum},
        wide::WideSum,
    },
    event::Message,
    plan::Plan,
};

/// Device-windows of one chunk: a power of two, small enough that 500 devices waste little.
pub(crate) const CHUNK_ROWS: usize = 512;

/// What every device-window has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quality {
    pub(crate) record_count: u32,
    pub(crate) invalid_count: u32,
    pub(crate) first_event_time_ms: i64,
    pub(crate) last_event_time_ms: i64,
    pub(crate) coverage: Coverage,
}

impl Quality {
    fn add(&mut self, time_ms: i64, coverage_slot: u32, invalid_count: u32) {
        if self.record_count == 0 {
            (self.first_event_time_ms, self.last_event_time_ms) = (time_ms, time_ms);
        }
        self.first_event_time_ms = self.first_event_time_ms.min(time_ms);
        self.last_event_time_ms = self.last_event_time_ms.max(time_ms);
        self.coverage.add(coverage_slot);
        self.record_count += 1;
        self.invalid_count = self.invalid_count.saturating_add(invalid_count);
    }

    pub(crate) fn merge(&mut self, other: &Quality) {
        if self.record_count == 0 {
            *self = *other;
        } else if other.record_count > 0 {
            self.first_event_time_ms = self.first_event_time_ms.min(other.first_event_time_ms);
            self.last_event_time_ms = self.last_event_time_ms.max(other.last_event_time_ms);
            self.coverage.merge(other.coverage);
            self.record_count += other.record_count;
            self.invalid_count = self.invalid_count.saturating_add(other.invalid_count);
        }
    }
}

/// The text that decides so far, in the chunk's bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextEnd {
    pub(crate) time_ms: i64,
    start: usize,
    length: u32,
    capacity: u32,
}

/// The states of [`CHUNK_ROWS`] device-windows; each array holds its plan's list per row.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) quality: Vec<Quality>,
    pub(crate) absent: Vec<u32>,
    pub(crate) float_sums: Vec<FloatSum>,
    pub(crate) float_ranges: Vec<MinMax<f64>>,
    pub(crate) float_ends: Vec<Decided<f64>>,
    pub(crate) int_sums: Vec<IntSum>,
    pub(crate) int_ranges: Vec<MinMax<i64>>,
    pub(crate) int_ends: Vec<Decided<i64>>,
    pub(crate) text_ends: Vec<TextEnd>,
    pub(crate) true_counts: Vec<u32>,
    pub(crate) codes: Vec<CodeCounts>,
    /// Float sums outside of the hot domain, by (row, sum).
    pub(crate) cold: BTreeMap<(u16, u16), Box<WideSum>>,
    /// Keys and texts.
    bytes: Vec<u8>,
    /// Start and length.
    keys: Vec<(usize, u32)>,
}

/// Returns how many bytes of a chunk's arrays one row takes.
pub(crate) fn row_bytes(plan: &Plan) -> usize {
    size_of::<Quality>()
        + size_of::<u32>() * (plan.presence_bits + plan.flags.len())
        + size_of::<FloatSum>() * plan.float_sums.len()
        + size_of::<MinMax<f64>>() * plan.float_ranges.len()
        + size_of::<Decided<f64>>() * plan.float_ends.len()
        + size_of::<IntSum>() * plan.int_sums.len()
        + size_of::<MinMax<i64>>() * plan.int_ranges.len()
        + size_of::<Decided<i64>>() * plan.int_ends.len()
        + size_of::<TextEnd>() * plan.text_ends.len()
        + size_of::<CodeCounts>() * plan.codes.len()
        + size_of::<(usize, u32)>()
}

impl Chunk {
    pub(crate) fn new(plan: &Plan) -> Chunk {
        let rows = CHUNK_ROWS;
        let float_ends = plan.float_ends.iter().map(|(_, end)| Decided::empty(*end));
        let int_ends = plan.int_ends.iter().map(|(_, end)| Decided::empty(*end));
        let text_ends = plan.text_ends.iter().map(|(_, end)| TextEnd {
            time_ms: end.farthest(),
            start: 0,
            length: 0,
            capacity: 0,
        });
        Chunk {
            quality: vec![Quality::default(); rows],
            absent: vec![0; rows * plan.presence_bits],
            float_sums: vec![FloatSum::default(); rows * plan.float_sums.len()],
            float_ranges: vec![MinMax::<f64>::EMPTY; rows * plan.float_ranges.len()],
            float_ends: float_ends.collect::<Vec<_>>().repeat(rows),
            int_sums: vec![IntSum::default(); rows * plan.int_sums.len()],
            int_ranges: vec![MinMax::<i64>::EMPTY; rows * plan.int_ranges.len()],
            int_ends: int_ends.collect::<Vec<_>>().repeat(rows),
            text_ends: text_ends.collect::<Vec<_>>().repeat(rows),
            true_counts: vec![0; rows * plan.flags.len()],
            codes: vec![CodeCounts::default(); rows * plan.codes.len()],
            cold: BTreeMap::new(),
            bytes: Vec::new(),
            keys: Vec::with_capacity(rows),
        }
    }

    /// Gives the next row to a key; rows are used in order.
    pub(crate) fn push_key(&mut self, key: &[u8]) {
        assert!(self.keys.len() < CHUNK_ROWS, "a chunk's rows are counted by its window");
        let start = self.append(key);
        let length = u32::try_from(key.len()).expect("keys are shorter than a message");
        self.keys.push((start, length));
    }

    pub(crate) fn key(&self, row: usize) -> &[u8] {
        let (start, length) = self.keys[row];
        &self.bytes[start..][..length as usize]
    }

    /// Reads one word of each cache line that folding into a row touches, and returns something
    /// made of them. Reads of several rows at once overlap; those of folding hardly do.
    #[inline]
    pub(crate) fn touch(&self, plan: &Plan, row: usize) -> u64 {
        let mut word = u64::from(self.quality[row].record_count);
        for sum in row_of(&self.float_sums, row, plan.float_sums.len()).iter().step_by(4) {
            word ^= sum.units() as u64;
        }
        for range in row_of(&self.float_ranges, row, plan.float_ranges.len()).iter().step_by(4) {
            word ^= range.min.to_bits();
        }
        for end in row_of(&self.float_ends, row, plan.float_ends.len()).iter().step_by(4) {
            word ^= end.time_ms as u64;
        }
        for sum in row_of(&self.int_sums, row, plan.int_sums.len()).iter().step_by(4) {
            word ^= sum.total() as u64;
        }
        for end in row_of(&self.int_ends, row, plan.int_ends.len()).iter().step_by(4) {
            word ^= end.time_ms as u64;
        }
        for end in row_of(&self.text_ends, row, plan.text_ends.len()).iter().step_by(2) {
            word ^= end.time_ms as u64;
        }
        for count in row_of(&self.true_counts, row, plan.flags.len()).iter().step_by(16) {
            word ^= u64::from(*count);
        }
        for codes in row_of(&self.codes, row, plan.codes.len()).iter().step_by(2) {
            word ^= u64::from(codes.is_empty());
        }
        word
    }

    /// Folds an event into a row.
    #[inline]
    pub(crate) fn fold(&mut self, plan: &Plan, row: usize, event: &Message<'_>, slot: u32) {
        let time = event.time();
        self.quality[row].add(time.as_ms(), slot, event.invalid_count());
        if !event.is_complete() {
            for bit in event.absent() {
                self.absent[row * plan.presence_bits + bit] += 1;
            }
        }
        self.fold_sums(plan, row, event);
        let at = row * plan.float_ranges.len();
        for (state, slot) in self.float_ranges[at..].iter_mut().zip(&plan.float_ranges) {
            if let Some(value) = event.float(*slot) {
                state.add(value);
            }
        }
        let at = row * plan.float_ends.len();
        for (state, (slot, end)) in self.float_ends[at..].iter_mut().zip(&plan.float_ends) {
            if let Some(value) = event.float(*slot) {
                state.add(*end, time, value);
            }
        }
        let at = row * plan.int_ranges.len();
        for (state, slot) in self.int_ranges[at..].iter_mut().zip(&plan.int_ranges) {
            if let Some(value) = event.int(*slot) {
                state.add(value);
            }
        }
        let at = row * plan.int_ends.len();
        for (state, (slot, end)) in self.int_ends[at..].iter_mut().zip(&plan.int_ends) {
            if let Some(value) = event.int(*slot) {
                state.add(*end, time, value);
            }
        }
        for (index, code) in plan.codes.iter().enumerate() {
            if let Some(value) = event.int(code.slot) {
                let offset = u16::try_from(value - code.low).expect("decoding checks code ranges");
                self.codes[row * plan.codes.len() + index].add(offset, 1);
            }
        }
        for (index, (slot, end)) in plan.text_ends.iter().enumerate() {
            if let Some(text) = event.text(*slot) {
                self.add_text(row * plan.text_ends.len() + index, *end, time.as_ms(), text);
            }
        }
    }

    /// Sums take absent values as the 0 that stands in their place.
    #[inline]
    fn fold_sums(&mut self, plan: &Plan, row: usize, event: &Message<'_>) {
        let floats = event.floats();
        let at = row * plan.float_sums.len();
        let sums = &mut self.float_sums[at..][..plan.float_sums.len()];
        for (index, (state, slot)) in sums.iter_mut().zip(&plan.float_sums).enumerate() {
            let value = floats[usize::from(*slot)];
            if !state.add(value) {
                self.cold.entry((row as u16, index as u16)).or_default().add(value);
            }
        }
        let ints = event.ints();
        let at = row * plan.int_sums.len();
        for (state, slot) in self.int_sums[at..].iter_mut().zip(&plan.int_sums) {
            state.add(ints[usize::from(*slot)]);
        }
        let at = row * plan.flags.len();
        for (state, slot) in self.true_counts[at..].iter_mut().zip(&plan.flags) {
            *state += (ints[usize::from(*slot)] != 0) as u32;
        }
    }

    /// Takes a text in, by the rule of [`Decided`] for values of any length.
    pub(crate) fn add_text(&mut self, at: usize, end: End, time_ms: i64, text: &[u8]) {
        let state = self.text_ends[at];
        let tie = time_ms == state.time_ms && text < self.text_of(state);
        if !end.is_closer(time_ms, state.time_ms) && !tie {
            return;
        }
        let length = u32::try_from(text.len()).expect("texts are shorter than a message");
        let mut next = TextEnd { time_ms, length, ..state };
        if length > state.capacity {
            // Doubling bounds what replaced texts leave behind to the longest one twice.
            next.capacity = length.max(state.capacity.saturating_mul(2));
            next.start = self.append(text);
            let padding = (next.capacity - length) as usize;
            self.bytes.resize(self.bytes.len() + padding, 0);
        } else {
            self.bytes[state.start..][..text.len()].copy_from_slice(text);
        }
        self.text_ends[at] = next;
    }

    /// Returns the deciding text of a state, if there was one.
    pub(crate) fn text(&self, at: usize, end: End) -> Option<&[u8]> {
        let state = self.text_ends[at];
        (state.time_ms != end.farthest()).then(|| self.text_of(state))
    }

    fn text_of(&self, state: TextEnd) -> &[u8] {
        &self.bytes[state.start..][..state.length as usize]
    }

    fn append(&mut self, bytes: &[u8]) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start
    }
}

/// Returns a row of an array that holds `width` elements per row.
#[inline]
pub(crate) fn row_of<T>(array: &[T], row: usize, width: usize) -> &[T] {
    &array[row * width..][..width]
}

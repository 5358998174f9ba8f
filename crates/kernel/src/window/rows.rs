//! Writing the rows of a window.
//!
//! A row is put together in one place that stays in the cache, and then copied to the others. What
//! its columns are made of, the plan says in runs, so that each kind of state is a loop. How cells
//! are encoded: [`row`](crate::row).

use alloc::{vec, vec::Vec};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};

use super::{Lineage, Window};
use crate::{
    aggregate::{majority, mean},
    event::Text,
    partial,
    plan::{Output, Plan, Run},
    row::{Cell, Encoder, RowBlock},
    schema::AMEND_COLUMNS,
    slots::states::States,
};

/// What is copied of a text at once, as nearly every one is shorter.
const TEXT_STEP: usize = 32;
/// The most bytes of a cell that is no text, and of what stands before one.
const CELL_BYTES_MAX: usize = 9;

/// Writes the rows of one emission.
pub(super) struct RowWriter<'a> {
    plan: &'a Plan,
    lineage: Lineage<'a>,
    /// Of the plan, where rows can be amended.
    shape: Option<u64>,
    /// The row being written.
    row: Vec<u8>,
    /// The most bytes of a row without its key and texts.
    cells_bytes: usize,
    /// What is the same in all rows.
    end: [u8; 4],
    start: [u8; 4],
    origin: Vec<u8>,
}

impl<'a> RowWriter<'a> {
    pub(super) fn new(window: &Window, plan: &'a Plan, lineage: Lineage<'a>) -> RowWriter<'a> {
        let schema = plan.schema();
        let columns = &schema.columns()[1 + schema.key_count()..];
        let kinds = plan.runs.iter().flat_map(|run| run.outputs().map(Output::kind));
        let known = columns.iter().map(|column| (column.kind, column.nullable));
        assert!(kinds.zip(known).all(|(kind, known)| kind == known), "a column for each output");
        let mut origin = RowBlock::new();
        let count =
            schema.columns().len() - if schema.is_amendable() { AMEND_COLUMNS.len() } else { 0 };
        let last = &schema.columns()[count - 3..count];
        origin.push(&last[0], Cell::Text(lineage.pipeline));
        origin.push(&last[1], Cell::Text(lineage.source_partition));
        origin.push(&last[2], Cell::UInt(lineage.revision));
        // Stores' seconds have no sign: with an offset, the first window of 1970 starts before 0.
        let seconds = |ms: i64| {
            let seconds = u32::try_from(ms.max(0) / 1000);
            seconds.expect("windows end before 2106").to_le_bytes()
        };
        RowWriter {
            plan,
            lineage,
            shape: schema.is_amendable().then(|| partial::shape(plan)),
            row: Vec::new(),
            cells_bytes: (columns.len() + 2) * CELL_BYTES_MAX + origin.bytes().len() + TEXT_STEP,
            end: seconds(window.end_ms),
            start: seconds(window.end_ms - window.size_ms),
            origin: origin.bytes().to_vec(),
        }
    }

    /// Writes the row of a slot; returns how many of its sums saturated.
    pub(super) fn write(&mut self, window: &Window, slot: usize, out: &mut Encoder<'_>) -> u64 {
        let states = window.states(self.plan, slot);
        let quality = states.quality();
        let texts: usize = (0..self.plan.text_ends.len()).map(|end| states.text_length(end)).sum();
        let key = states.key_place();
        let most = self.cells_bytes + key.len() + texts;
        if self.row.len() < most {
            self.row = vec![0; most.next_power_of_two()];
        }
        let room = self.row.len();
        let mut cells = Cells { rest: &mut self.row };
        cells.put(self.end);
        // A part of a key is encoded as the cell of a text is.
        cells.put_bytes(key);
        let mut saturated_count = 0;
        for run in &self.plan.runs {
            saturated_count += cells.put_run(&states, *run);
        }
        cells.put(self.start);
        cells.put(u64::from(quality.record_count).to_le_bytes());
        cells.put(u64::from(quality.invalid_count).to_le_bytes());
        cells.put(quality.first_event_time_ms.to_le_bytes());
        cells.put(quality.last_event_time_ms.to_le_bytes());
        cells.put(quality.coverage.ratio().to_le_bytes());
        cells.put(quality.coverage.max_gap_ms(window.size_ms).to_le_bytes());
        cells.put_bytes(Text::from(self.origin.as_slice()));
        let length = room - cells.rest.len();
        out.put(&self.row[..length]);
        if let Some(shape) = self.shape {
            self.amendable(window, slot, shape, out);
        }
        out.end_row();
        saturated_count
    }

    /// Writes what late messages need to correct a row.
    fn amendable(&self, window: &Window, slot: usize, shape: u64, out: &mut Encoder<'_>) {
        let columns = self.plan.schema().columns();
        let columns = &columns[columns.len() - AMEND_COLUMNS.len()..];
        let state = partial::encode_slot(window, self.plan, shape, slot);
        out.push(&columns[0], Cell::UInt(window.late.get(&slot).copied().unwrap_or(0).into()));
        out.push(&columns[1], Cell::Text(self.lineage.finality.name()));
        out.push(&columns[2], Cell::Text(&BASE64_STANDARD_NO_PAD.encode(state)));
    }
}

/// The cells of a row: what is left of its room.
struct Cells<'b> {
    rest: &'b mut [u8],
}

impl Cells<'_> {
    #[inline]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        let rest = core::mem::take(&mut self.rest);
        let (place, rest) = rest.split_first_chunk_mut().expect("room was made for all cells");
        *place = bytes;
        self.rest = rest;
    }

    /// Puts a cell that may be NULL.
    #[inline]
    fn put_option<const N: usize>(&mut self, bytes: Option<[u8; N]>) {
        let Some(bytes) = bytes else {
            return self.put([1]);
        };
        let rest = core::mem::take(&mut self.rest);
        let (place, rest) = rest.split_at_mut(1 + N);
        place[0] = 0;
        place[1..].copy_from_slice(&bytes);
        self.rest = rest;
    }

    #[inline]
    fn put_bytes(&mut self, text: Text<'_>) {
        let rest = core::mem::take(&mut self.rest);
        // Copies of one size need no call.
        match (text.place().first_chunk::<TEXT_STEP>(), rest.first_chunk_mut::<TEXT_STEP>()) {
            (Some(bytes), Some(place)) if text.len() <= TEXT_STEP => *place = *bytes,
            _ => rest[..text.len()].copy_from_slice(text.as_bytes()),
        }
        self.rest = &mut rest[text.len()..];
    }

    #[inline]
    fn put_text(&mut self, text: Option<Text<'_>>) {
        let Some(text) = text else {
            return self.put([1]);
        };
        debug_assert!(core::str::from_utf8(text.as_bytes()).is_ok(), "checked when decoded");
        self.put([0]);
        let mut length = text.len();
        while length >= 0x80 {
            self.put([(length as u8 & 0x7f) | 0x80]);
            length >>= 7;
        }
        self.put([length as u8]);
        self.put_bytes(text);
    }

    /// Puts so many cells that may be NULL.
    #[inline]
    fn put_each<const N: usize>(
        &mut self,
        count: usize,
        mut value: impl FnMut(usize) -> Option<[u8; N]>,
    ) {
        (0..count).for_each(|at| self.put_option(value(at)));
    }

    /// Puts cells that may be NULL and are not.
    #[inline]
    fn put_known(&mut self, count: usize, values: impl Iterator<Item = [u8; 8]>) {
        let rest = core::mem::take(&mut self.rest);
        let (places, rest) = rest.split_at_mut(count * CELL_BYTES_MAX);
        let (places, _) = places.as_chunks_mut::<CELL_BYTES_MAX>();
        for (place, value) in places.iter_mut().zip(values) {
            place[0] = 0;
            place[1..].copy_from_slice(&value);
        }
        self.rest = rest;
    }

    /// Puts the means of so many sums of floats; returns how many saturated.
    #[inline]
    fn put_means(&mut self, states: &States<'_>, sum: usize, bit: usize, count: usize) -> u64 {
        if let Some(means) = states.plain_means(sum, count) {
            self.put_known(count, means.map(f64::to_le_bytes));
            return 0;
        }
        let mut saturated_count = 0;
        self.put_each(count, |at| {
            let mean = mean::of_floats(states.float_total(sum + at), states.present(bit + at))?;
            saturated_count += u64::from(mean.saturated);
            Some(mean.value.to_le_bytes())
        });
        saturated_count
    }

    /// Puts so many sums of integers; returns how many saturated.
    #[inline]
    fn put_totals(&mut self, states: &States<'_>, sum: usize, bit: usize, count: usize) -> u64 {
        if let Some(totals) = states.plain_totals(sum, count) {
            self.put_known(count, totals.map(i64::to_le_bytes));
            return 0;
        }
        let mut saturated_count = 0;
        self.put_each(count, |at| {
            let has = states.present(bit + at) > 0;
            let (total, saturated) = has.then(|| states.int_sum(sum + at).saturate())?;
            saturated_count += u64::from(saturated);
            Some(total.to_le_bytes())
        });
        saturated_count
    }

    /// Puts the cells of a run; returns how many sums saturated.
    #[inline]
    fn put_run(&mut self, states: &States<'_>, Run { first, count }: Run) -> u64 {
        let present = |bit: usize| states.present(bit);
        let has = |bit: usize| states.present(bit) > 0;
        let flag = |value: Option<bool>| value.map(|value| [u8::from(value)]);
        let mut saturated_count = 0;
        match first {
            Output::FloatMean { sum, bit } => {
                saturated_count += self.put_means(states, sum, bit, count);
            }
            Output::FloatTotal { sum, bit } => self.put_each(count, |at| {
                let total = has(bit + at).then(|| states.float_total(sum + at))?;
                saturated_count += u64::from(total.saturated);
                Some(total.value.to_le_bytes())
            }),
            Output::FloatMin { range, bit } => self.put_each(count, |at| {
                has(bit + at).then(|| states.float_range(range + at).min.to_le_bytes())
            }),
            Output::FloatMax { range, bit } => self.put_each(count, |at| {
                has(bit + at).then(|| states.float_range(range + at).max.to_le_bytes())
            }),
            Output::FloatEnd { end } => {
                self.put_each(count, |at| states.float_at_end(end + at).map(f64::to_le_bytes));
            }
            Output::IntMean { sum, bit } => self.put_each(count, |at| {
                let mean = mean::of_ints(states.int_sum(sum + at), present(bit + at));
                mean.map(f64::to_le_bytes)
            }),
            Output::IntTotal { sum, bit } => {
                saturated_count += self.put_totals(states, sum, bit, count);
            }
            Output::IntMin { range, bit } => self.put_each(count, |at| {
                has(bit + at).then(|| states.int_range(range + at).min.to_le_bytes())
            }),
            Output::IntMax { range, bit } => self.put_each(count, |at| {
                has(bit + at).then(|| states.int_range(range + at).max.to_le_bytes())
            }),
            Output::IntEnd { end } => {
                self.put_each(count, |at| states.int_at_end(end + at).map(i64::to_le_bytes));
            }
            Output::BoolEnd { end } => {
                self.put_each(count, |at| flag(states.int_at_end(end + at).map(|value| value != 0)))
            }
            Output::TextEnd { end } => {
                (0..count).for_each(|at| self.put_text(states.text(end + at)));
            }
            Output::Count { bit } => (0..count).for_each(|at| {
                self.put(u64::from(present(bit + at)).to_le_bytes());
            }),
            Output::Majority { flag: index, bit } => self.put_each(count, |at| {
                flag(majority::of(states.true_count(index + at), present(bit + at)))
            }),
            Output::MostFrequent { code } => self.put_each(count, |at| {
                let low = states.plan.codes[code + at].low;
                states.most_frequent(code + at).map(|code| (low + i64::from(code)).to_le_bytes())
            }),
        }
        saturated_count
    }
}

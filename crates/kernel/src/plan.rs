//! Which states a device-window needs, worked out once from the schema.
//!
//! The plan lists the slots of each kind of state and, for each column of the row, where its value
//! comes from. Folding and emitting only walk these lists.

use alloc::{sync::Arc, vec::Vec};

use crate::{
    aggregate::{first_last::End, most_frequent},
    processor::row::{self, Cell, CodeCell, Places, RowFolder},
    row::ColumnKind,
    schema::{Aggregate, Field, Schema, Slot, ValueType},
    slots::layout::{Counts, RowLayout},
};

/// Where a column's value comes from; indices go into the plan's lists, `bit` is a presence bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    FloatMean { sum: usize, bit: usize },
    FloatTotal { sum: usize, bit: usize },
    FloatMin { range: usize, bit: usize },
    FloatMax { range: usize, bit: usize },
    FloatEnd { end: usize },
    IntMean { sum: usize, bit: usize },
    IntTotal { sum: usize, bit: usize },
    IntMin { range: usize, bit: usize },
    IntMax { range: usize, bit: usize },
    IntEnd { end: usize },
    BoolEnd { end: usize },
    TextEnd { end: usize },
    Count { bit: usize },
    Majority { flag: usize, bit: usize },
    MostFrequent { code: usize },
}

impl Output {
    /// Returns the output whose states stand so many places behind.
    fn behind(self, by: usize) -> Output {
        match self {
            Output::FloatMean { sum, bit } => Output::FloatMean { sum: sum + by, bit: bit + by },
            Output::FloatTotal { sum, bit } => Output::FloatTotal { sum: sum + by, bit: bit + by },
            Output::FloatMin { range, bit } => {
                Output::FloatMin { range: range + by, bit: bit + by }
            }
            Output::FloatMax { range, bit } => {
                Output::FloatMax { range: range + by, bit: bit + by }
            }
            Output::FloatEnd { end } => Output::FloatEnd { end: end + by },
            Output::IntMean { sum, bit } => Output::IntMean { sum: sum + by, bit: bit + by },
            Output::IntTotal { sum, bit } => Output::IntTotal { sum: sum + by, bit: bit + by },
            Output::IntMin { range, bit } => Output::IntMin { range: range + by, bit: bit + by },
            Output::IntMax { range, bit } => Output::IntMax { range: range + by, bit: bit + by },
            Output::IntEnd { end } => Output::IntEnd { end: end + by },
            Output::BoolEnd { end } => Output::BoolEnd { end: end + by },
            Output::TextEnd { end } => Output::TextEnd { end: end + by },
            Output::Count { bit } => Output::Count { bit: bit + by },
            Output::Majority { flag, bit } => Output::Majority { flag: flag + by, bit: bit + by },
            Output::MostFrequent { code } => Output::MostFrequent { code: code + by },
        }
    }

    /// Returns how its column is encoded, and whether it can be NULL.
    pub(crate) fn kind(self) -> (ColumnKind, bool) {
        let kind = match self {
            Output::FloatMean { .. }
            | Output::FloatTotal { .. }
            | Output::FloatMin { .. }
            | Output::FloatMax { .. }
            | Output::FloatEnd { .. }
            | Output::IntMean { .. } => ColumnKind::Float64,
            Output::IntTotal { .. }
            | Output::IntMin { .. }
            | Output::IntMax { .. }
            | Output::IntEnd { .. }
            | Output::MostFrequent { .. } => ColumnKind::Int64,
            Output::BoolEnd { .. } | Output::Majority { .. } => ColumnKind::UInt8,
            Output::TextEnd { .. } => ColumnKind::Text,
            Output::Count { .. } => return (ColumnKind::UInt64, false),
        };
        (kind, true)
    }
}

/// Columns next to each other that are made in one way, of states next to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: Output,
    pub(crate) count: usize,
}

impl Run {
    /// Returns its outputs one by one.
    pub(crate) fn outputs(self) -> impl Iterator<Item = Output> {
        (0..self.count).map(move |by| self.first.behind(by))
    }
}

/// A code's slot, the smallest valid code and how many there are from it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodeSlot {
    pub(crate) slot: u16,
    pub(crate) low: i64,
    pub(crate) width: u32,
}

impl CodeSlot {
    /// Returns a valid code as it is counted.
    #[inline]
    pub(crate) fn offset(&self, value: i64) -> Option<u16> {
        value.checked_sub(self.low).and_then(|offset| u16::try_from(offset).ok())
    }
}

/// The states of a device-window and the columns made of them.
#[derive(Clone, Debug)]
pub struct Plan {
    schema: Arc<Schema>,
    pub(crate) presence_bits: usize,
    pub(crate) float_sums: Vec<u16>,
    pub(crate) float_ranges: Vec<u16>,
    pub(crate) float_ends: Vec<(u16, End)>,
    pub(crate) int_sums: Vec<u16>,
    pub(crate) int_ranges: Vec<u16>,
    pub(crate) int_ends: Vec<(u16, End)>,
    pub(crate) text_ends: Vec<(u16, End)>,
    pub(crate) flags: Vec<u16>,
    pub(crate) codes: Vec<CodeSlot>,
    /// What the columns are made of, in their order.
    pub(crate) runs: Vec<Run>,
    pub(crate) layout: RowLayout,
    pub(crate) folder: RowFolder,
}

impl Plan {
    /// Works out the plan of a schema.
    pub fn new(schema: Arc<Schema>) -> Plan {
        let bits = schema.float_count() + schema.int_count() + schema.text_count();
        let mut plan = Plan {
            schema: schema.clone(),
            presence_bits: bits,
            float_sums: Vec::new(),
            float_ranges: Vec::new(),
            float_ends: Vec::new(),
            int_sums: Vec::new(),
            int_ranges: Vec::new(),
            int_ends: Vec::new(),
            text_ends: Vec::new(),
            flags: Vec::new(),
            codes: Vec::new(),
            runs: Vec::new(),
            layout: RowLayout::default(),
            folder: RowFolder::default(),
        };
        for (field, slot) in schema.fields().iter().zip(schema.slots()) {
            for aggregate in &field.aggregates {
                let output = plan.output(field, *slot, *aggregate);
                match plan.runs.last_mut() {
                    Some(run) if run.first.behind(run.count) == output => run.count += 1,
                    _ => plan.runs.push(Run { first: output, count: 1 }),
                }
            }
        }
        let has_ends = |wanted: End| {
            let mut ends = plan.float_ends.iter().chain(&plan.int_ends).chain(&plan.text_ends);
            ends.any(|(_, end)| *end == wanted)
        };
        plan.layout = RowLayout::new(&Counts {
            float_sums: plan.float_sums.len(),
            int_sums: plan.int_sums.len(),
            flags: plan.flags.len(),
            codes: plan.codes.len(),
            float_ranges: plan.float_ranges.len(),
            int_ranges: plan.int_ranges.len(),
            float_ends: plan.float_ends.len(),
            int_ends: plan.int_ends.len(),
            text_ends: plan.text_ends.len(),
            has_first_ends: has_ends(End::First),
            has_last_ends: has_ends(End::Last),
        });
        plan.folder = plan.folder();
        plan
    }

    /// Works out what messages change in a row.
    fn folder(&self) -> RowFolder {
        let layout = &self.layout;
        let cells = |slots: &[u16], first: usize, words: usize| {
            let places = (first..).step_by(words);
            let cells = slots.iter().zip(places);
            cells.map(|(slot, to)| Cell { from: usize::from(*slot), to }).collect::<Vec<_>>()
        };
        let code = |(code, to): (&CodeSlot, usize)| CodeCell {
            from: usize::from(code.slot),
            to,
            groups: layout.code_places / most_frequent::PLACES,
            low: code.low,
        };
        let codes = self.codes.iter().zip((layout.codes.start..).step_by(layout.code_places));
        let places = Places {
            float_sums: row::runs(&cells(&self.float_sums, layout.float_sums.start, 1)),
            limbs: self.float_sums.len(),
            int_sums: row::runs(&cells(&self.int_sums, layout.int_sums.start, 1)),
            flags: cells(&self.flags, layout.flags.start, 1),
            float_ranges: cells(&self.float_ranges, layout.float_ranges.start, 2),
            int_ranges: cells(&self.int_ranges, layout.int_ranges.start, 2),
            codes: codes.map(code).collect(),
            int_bit: self.schema.float_count(),
        };
        let padded = |count: usize| count.next_multiple_of(4);
        let (floats, ints) = (self.schema.float_count(), self.schema.int_count());
        RowFolder::new(places, layout.words(), padded(floats), padded(ints))
    }

    /// Returns the schema the plan was made of.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Returns how many bytes one device takes in one open window, besides its key, its texts and
    /// sums of values beyond the usual range of floats.
    pub fn device_window_bytes(&self) -> usize {
        crate::slots::row_bytes(self)
    }

    fn output(&mut self, field: &Field, slot: Slot, aggregate: Aggregate) -> Output {
        match slot {
            Slot::Float(slot) => self.float_output(slot, aggregate),
            Slot::Int(slot) => self.int_output(field, slot, aggregate),
            Slot::Text(slot) => {
                let bit = self.schema.float_count() + self.schema.int_count() + usize::from(slot);
                match aggregate {
                    Aggregate::Count => Output::Count { bit },
                    other => {
                        Output::TextEnd { end: index(&mut self.text_ends, (slot, end(other))) }
                    }
                }
            }
            Slot::Key(_) | Slot::Time => unreachable!("keys and time have no aggregates"),
        }
    }

    fn float_output(&mut self, slot: u16, aggregate: Aggregate) -> Output {
        let bit = usize::from(slot);
        match aggregate {
            Aggregate::Avg => Output::FloatMean { sum: index(&mut self.float_sums, slot), bit },
            Aggregate::Sum => Output::FloatTotal { sum: index(&mut self.float_sums, slot), bit },
            Aggregate::Min => Output::FloatMin { range: index(&mut self.float_ranges, slot), bit },
            Aggregate::Max => Output::FloatMax { range: index(&mut self.float_ranges, slot), bit },
            Aggregate::Count => Output::Count { bit },
            other => Output::FloatEnd { end: index(&mut self.float_ends, (slot, end(other))) },
        }
    }

    fn int_output(&mut self, field: &Field, slot: u16, aggregate: Aggregate) -> Output {
        let bit = self.schema.float_count() + usize::from(slot);
        match aggregate {
            Aggregate::Avg => Output::IntMean { sum: index(&mut self.int_sums, slot), bit },
            Aggregate::Sum => Output::IntTotal { sum: index(&mut self.int_sums, slot), bit },
            Aggregate::Min => Output::IntMin { range: index(&mut self.int_ranges, slot), bit },
            Aggregate::Max => Output::IntMax { range: index(&mut self.int_ranges, slot), bit },
            Aggregate::Count => Output::Count { bit },
            Aggregate::Majority => Output::Majority { flag: index(&mut self.flags, slot), bit },
            Aggregate::MostFrequent => {
                let (low, high) = field.range.expect("the schema asks for a range");
                // At most CODE_RANGE_MAX whole values, far from the ends of 64 bits.
                let (low, width) = (low as i64, (high - low) as u32 + 1);
                Output::MostFrequent { code: index(&mut self.codes, CodeSlot { slot, low, width }) }
            }
            other => {
                let end = index(&mut self.int_ends, (slot, end(other)));
                match field.value_type {
                    ValueType::Bool => Output::BoolEnd { end },
                    _ => Output::IntEnd { end },
                }
            }
        }
    }
}

fn end(aggregate: Aggregate) -> End {
    match aggregate {
        Aggregate::First => End::First,
        Aggregate::Last => End::Last,
        other => unreachable!("the schema refuses {other:?} here"),
    }
}

/// Returns the index of `item`, appended if it is new.
fn index<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    list.iter().position(|known| *known == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}

//! What a scalar means to a field, and which of a field's sources counts.
//!
//! While a message is read each source has a cell; when it is read to its end the cells become a
//! row of the block or a reason to reject. Nothing is written before that, because a later
//! repetition may take a value back.

use tidemill_kernel::{
    event::{EventBlock, Reason},
    schema::TimeUnit,
    time::Timestamp,
};

use super::{
    layout::{Kind, Layout, Rule, Target},
    number::Number,
    scan::{Scalar, Text, unescape},
};
use crate::{DecodeLimits, time};

/// What a source said.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Cell {
    /// It is not in the message.
    #[default]
    Absent,
    /// It is null.
    Null,
    /// Its value is none that the field can have.
    Invalid,
    /// It is there more than once.
    Duplicate,
    Float(f64),
    Int(i64),
    Time(Timestamp),
    /// Text as it stands in the payload.
    Plain {
        start: u32,
        end: u32,
    },
    /// Text that had escapes or was a number, in the scratch.
    Made {
        start: u32,
        end: u32,
    },
}

/// The cells of one message.
#[derive(Debug)]
pub(crate) struct Values {
    cells: Vec<Cell>,
    pub(crate) scratch: Vec<u8>,
    limits: DecodeLimits,
}

impl Values {
    /// Returns empty cells for that many sources.
    pub(crate) fn new(source_count: usize, limits: DecodeLimits) -> Values {
        Values { cells: vec![Cell::Absent; source_count], scratch: Vec::new(), limits }
    }

    /// Forgets the message.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.cells.fill(Cell::Absent);
        self.scratch.clear();
    }

    /// Returns whether any source was there twice.
    pub(crate) fn has_duplicates(&self) -> bool {
        self.cells.contains(&Cell::Duplicate)
    }

    /// Sets a source that is known to be there once.
    #[inline(always)]
    pub(crate) fn set(&mut self, source: usize, cell: Cell) {
        self.cells[source] = cell;
    }

    /// Records the value of a source; a second one makes it a duplicate.
    #[inline]
    pub(crate) fn record(&mut self, layout: &Layout, source: usize, scalar: Scalar, bytes: &[u8]) {
        self.cells[source] = match self.cells[source] {
            Cell::Absent => self.read(&layout.rules[layout.field_of[source]], scalar, bytes),
            _ => Cell::Duplicate,
        };
    }

    /// Returns what a scalar means by a rule.
    pub(crate) fn read(&mut self, rule: &Rule, scalar: Scalar, bytes: &[u8]) -> Cell {
        match (rule.kind, scalar) {
            (_, Scalar::Null) => Cell::Null,
            (Kind::Float, Scalar::Number(number)) => float_cell(rule, number.to_float(bytes)),
            (Kind::Int, Scalar::Number(number)) => {
                int_cell(rule, number.to_integer().and_then(narrow))
            }
            (Kind::Int, Scalar::Text(text)) => self.read_word(rule, text, bytes),
            (Kind::Bool, Scalar::Bool(value)) => Cell::Int(i64::from(value)),
            (Kind::Bool, Scalar::Number(number)) => match number.to_integer() {
                Some(value @ (0 | 1)) => Cell::Int(value as i64),
                _ => Cell::Invalid,
            },
            (Kind::Text | Kind::Key, Scalar::Text(text)) => {
                let cell = self.text_cell(text, bytes);
                self.bounded(rule.kind, cell)
            }
            (Kind::Text | Kind::Key, Scalar::Number(number)) => {
                let cell = self.integer_text(number);
                self.bounded(rule.kind, cell)
            }
            (Kind::Time, Scalar::Number(number)) => time_cell(time::parse_number(
                number.negative,
                number.mantissa,
                number.exponent,
                rule.unit,
            )),
            (Kind::Time, Scalar::Text(text)) => self.read_time(rule.unit, text, bytes),
            _ => Cell::Invalid,
        }
    }

    fn read_word(&mut self, rule: &Rule, text: Text, bytes: &[u8]) -> Cell {
        if rule.words.is_empty() {
            return Cell::Invalid;
        }
        let mark = self.scratch.len();
        let word = plain_text(text, bytes, &mut self.scratch);
        let found = rule.words.iter().find(|(known, _)| **known == *word);
        let cell = int_cell(rule, found.map(|(_, number)| *number));
        self.scratch.truncate(mark);
        cell
    }

    fn read_time(&mut self, unit: TimeUnit, text: Text, bytes: &[u8]) -> Cell {
        let mark = self.scratch.len();
        let cell = time_cell(time::parse_text(plain_text(text, bytes, &mut self.scratch), unit));
        self.scratch.truncate(mark);
        cell
    }

    #[inline]
    fn text_cell(&mut self, text: Text, bytes: &[u8]) -> Cell {
        if !text.escaped {
            return Cell::Plain { start: text.start as u32, end: text.end as u32 };
        }
        let start = self.scratch.len() as u32;
        unescape(text.raw(bytes), &mut self.scratch);
        Cell::Made { start, end: self.scratch.len() as u32 }
    }

    fn integer_text(&mut self, number: Number) -> Cell {
        use std::io::Write;
        let Some(value) = number.to_integer() else { return Cell::Invalid };
        let start = self.scratch.len() as u32;
        write!(self.scratch, "{value}").expect("memory takes every write");
        Cell::Made { start, end: self.scratch.len() as u32 }
    }

    /// Returns the cell unless its text is too long, or empty where it must not be.
    #[inline]
    pub(crate) fn bounded(&self, kind: Kind, cell: Cell) -> Cell {
        let (Cell::Plain { start, end } | Cell::Made { start, end }) = cell else { return cell };
        if self.fits(kind, (end - start) as usize) { cell } else { Cell::Invalid }
    }

    /// Returns whether a text may be as long.
    #[inline]
    pub(crate) fn fits(&self, kind: Kind, length: usize) -> bool {
        match kind {
            Kind::Key => length > 0 && length <= self.limits.key_bytes_max,
            _ => length <= self.limits.text_bytes_max,
        }
    }

    /// Returns what counts of a field: its first source that is there and not null.
    #[inline(always)]
    fn pick(&self, target: &Target) -> Cell {
        for cell in &self.cells[target.first as usize..target.end as usize] {
            if !matches!(cell, Cell::Absent | Cell::Null) {
                return *cell;
            }
        }
        Cell::Absent
    }

    #[inline]
    pub(crate) fn text<'v>(&'v self, cell: Cell, bytes: &'v [u8]) -> &'v [u8] {
        match cell {
            Cell::Plain { start, end } => &bytes[start as usize..end as usize],
            Cell::Made { start, end } => &self.scratch[start as usize..end as usize],
            _ => &[],
        }
    }

    /// Writes the message into the block, or returns why it cannot be counted.
    pub(crate) fn write(
        &self,
        layout: &Layout,
        bytes: &[u8],
        block: &mut EventBlock,
    ) -> Result<(), Reason> {
        for key in &layout.keys {
            match self.pick(key) {
                Cell::Plain { .. } | Cell::Made { .. } => {}
                Cell::Absent => return Err(Reason::MissingKey),
                Cell::Duplicate => return Err(Reason::DuplicateKey),
                _ => return Err(Reason::InvalidKey),
            }
        }
        let time = match self.pick(&layout.time) {
            Cell::Time(time) => time,
            _ if layout.time_is_published => block.publish_time().ok_or(Reason::InvalidTime)?,
            Cell::Absent => return Err(Reason::MissingTime),
            _ => return Err(Reason::InvalidTime),
        };
        let mut invalid_count = 0;
        block.set_floats(layout.floats.iter().map(|metric| match self.pick(metric) {
            Cell::Float(value) => Some(value),
            Cell::Absent => None,
            _ => {
                invalid_count += 1;
                None
            }
        }));
        block.set_ints(layout.ints.iter().map(|metric| match self.pick(metric) {
            Cell::Int(value) => Some(value),
            Cell::Absent => None,
            _ => {
                invalid_count += 1;
                None
            }
        }));
        for metric in &layout.texts {
            match self.pick(metric) {
                Cell::Absent => {}
                cell @ (Cell::Plain { .. } | Cell::Made { .. }) => {
                    block.set_text(metric.slot, self.text(cell, bytes));
                }
                _ => invalid_count += 1,
            }
        }
        block.count_invalid(invalid_count);
        let parts = layout.keys.iter().map(|key| self.text(self.pick(key), bytes));
        block.finish(time, parts);
        Ok(())
    }
}

/// Returns a string's text without escapes; the scratch is used if there are any.
fn plain_text<'v>(text: Text, bytes: &'v [u8], scratch: &'v mut Vec<u8>) -> &'v [u8] {
    if !text.escaped {
        return text.raw(bytes);
    }
    let mark = scratch.len();
    unescape(text.raw(bytes), scratch);
    &scratch[mark..]
}

/// Returns the cell of a number by the rule's range.
#[inline(always)]
pub(crate) fn float_cell(rule: &Rule, value: f64) -> Cell {
    if rule.float_low <= value && value <= rule.float_high {
        Cell::Float(value)
    } else {
        Cell::Invalid
    }
}

/// Returns the cell of a whole number by the rule's range.
#[inline(always)]
pub(crate) fn int_cell(rule: &Rule, value: Option<i64>) -> Cell {
    match value {
        Some(value) if rule.int_low <= value && value <= rule.int_high => Cell::Int(value),
        _ => Cell::Invalid,
    }
}

fn narrow(value: i128) -> Option<i64> {
    i64::try_from(value).ok()
}

/// Returns the cell of a time, readable or not.
#[inline]
pub(crate) fn time_cell(time: Option<Timestamp>) -> Cell {
    time.map_or(Cell::Invalid, Cell::Time)
}

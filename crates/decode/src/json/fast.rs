//! Guesses that a message looks like an earlier one: the same texts between the values, with
//! other values.
//!
//! A plan holds, for each value of a message that the judge accepted, the exact bytes before it.
//! If they come again and valid values stand between them, the message is well-formed by
//! construction, nests and repeats nothing that the first did not, and needs no look-up of names.
//! Fields may lack or be null. Any other surprise ends the guess without a verdict: what a guess
//! has read is thrown away and `strict.rs` judges.

use super::{
    layout::{Kind, Layout, Rule},
    number::{short_decimal, short_float},
    quick::{QuickPlan, Sketch},
    scan::{Scalar, byte_at, padded_word_at, scan_scalar, scan_string},
    strict::{Trace, skip_composite},
    value::{Cell, Values, float_cell, int_cell, time_cell},
};
use crate::{DecodeLimits, time::parse_text};

/// What stands at a step and who wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaf {
    /// A name that leads nowhere: any value.
    Unknown,
    /// A name that leads to an object, or to several fields.
    Entry,
    /// Exactly one field.
    Field(Kind),
}

/// The longest literal that is compared word by word.
const WORDS_BYTES: usize = 32;

#[derive(Clone, Debug)]
struct Step {
    words: [u64; 4],
    masks: [u64; 4],
    start: u32,
    length: u32,
    leaf: Leaf,
    plain: bool,
    depth: u16,
    /// The source of a field, or else the entry.
    target: u32,
    /// The rule of a field.
    rule: u32,
    /// The first byte of the value that the plan was learnt from.
    first: u8,
}

impl Step {
    fn new(literal: &[u8], start: usize) -> Step {
        let (mut text, mut mask) = ([0_u8; WORDS_BYTES], [0_u8; WORDS_BYTES]);
        if literal.len() <= WORDS_BYTES {
            text[..literal.len()].copy_from_slice(literal);
            mask[..literal.len()].fill(0xff);
        }
        Step {
            words: words(&text),
            masks: words(&mask),
            start: start as u32,
            length: literal.len() as u32,
            leaf: Leaf::Unknown,
            plain: false,
            depth: 0,
            target: 0,
            rule: 0,
            first: 0,
        }
    }

    /// Returns whether the step's literal stands at `at`.
    #[inline(always)]
    fn matches(&self, literals: &[u8], bytes: &[u8], at: usize) -> bool {
        if self.length as usize <= WORDS_BYTES
            && let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk())
        {
            let there = words(chunk);
            let differs = |word: usize| (there[word] ^ self.words[word]) & self.masks[word];
            return differs(0) | differs(1) | differs(2) | differs(3) == 0;
        }
        let (start, length) = (self.start as usize, self.length as usize);
        bytes.get(at..at + length) == Some(&literals[start..start + length])
    }
}

#[inline(always)]
fn words(bytes: &[u8; WORDS_BYTES]) -> [u64; 4] {
    let (chunks, _) = bytes.as_chunks::<8>();
    [chunks[0], chunks[1], chunks[2], chunks[3]].map(u64::from_le_bytes)
}

/// The shape of one message.
#[derive(Debug, Default)]
pub(super) struct Plan {
    literals: Vec<u8>,
    steps: Vec<Step>,
    tail_start: usize,
    /// The same shape for the quick reader, if it came again and can be walked quickly.
    pub(super) quick: Option<Box<QuickPlan>>,
    pub(super) has_come_again: bool,
    /// How many messages in a row were of this shape and not for the quick reader.
    pub(super) losses: u32,
}

/// Literals beyond this are not worth remembering.
const LITERALS_BYTES_MAX: usize = 64 << 10;
/// How many steps of a plan may lack in a message.
const ABSENT_MAX: usize = 4;
/// After this many messages in a row that only the portable reader could read, it reads them all.
const LOSSES_MAX: u32 = 16;

impl Plan {
    /// Takes the shape of a message; returns whether it could be.
    pub(super) fn learn(&mut self, layout: &Layout, bytes: &[u8], trace: &Trace) -> bool {
        (self.quick, self.has_come_again, self.losses) = (None, false, 0);
        self.literals.clear();
        self.steps.clear();
        for mark in &trace.marks {
            let literal = &bytes[mark.literal_start..mark.literal_end];
            let mut step = Step::new(literal, self.literals.len());
            step.first = bytes[mark.literal_end];
            step.plain = mark.plain;
            step.depth = mark.depth as u16;
            if let Some(index) = mark.entry {
                let entry = layout.entry(index);
                (step.leaf, step.target) = match entry.sources[..] {
                    [source] if entry.child.is_none() => {
                        step.rule = layout.field_of[source] as u32;
                        (Leaf::Field(layout.rules[step.rule as usize].kind), source as u32)
                    }
                    _ => (Leaf::Entry, index as u32),
                };
            }
            self.literals.extend_from_slice(literal);
            self.steps.push(step);
        }
        self.tail_start = self.literals.len();
        self.literals.extend_from_slice(&bytes[trace.tail_start..]);
        self.literals.len() <= LITERALS_BYTES_MAX
    }

    /// Prepares the shape for the quick reader, once. That it came again shows that it pays.
    #[cold]
    pub(super) fn quicken(&mut self, layout: &Layout, limits: &DecodeLimits) {
        self.has_come_again = true;
        self.quick = self.for_quick_reader(layout, limits);
    }

    /// Returns the shape as the quick reader walks it, if it can.
    pub(super) fn for_quick_reader(
        &self,
        layout: &Layout,
        limits: &DecodeLimits,
    ) -> Option<Box<QuickPlan>> {
        let ends = self.steps.iter().map(|step| (step.start + step.length) as usize);
        let values = self.steps.iter().zip(ends).map(|(step, end)| Sketch {
            literal: &self.literals[step.start as usize..end],
            first: step.first,
            field: match step.leaf {
                Leaf::Unknown => Ok(None),
                Leaf::Entry => Err(()),
                Leaf::Field(_) => Ok(Some(step.rule as usize)),
            },
            plain: step.plain,
            depth: step.depth,
        });
        QuickPlan::new(layout, limits, values, &self.literals[self.tail_start..])
    }

    /// Reads a message by the quick reader, if it can, else into the values.
    #[inline]
    pub(super) fn guess(
        &mut self,
        layout: &Layout,
        bytes: &[u8],
        values: &mut Values,
        depth_max: usize,
        quick: &mut impl FnMut(&QuickPlan, &mut Values) -> bool,
    ) -> Found {
        if let Some(plan) = &self.quick {
            if !plan.begins(bytes) {
                return Found::Nothing;
            }
            if quick(plan, values) {
                self.losses = 0;
                return Found::Row;
            }
        }
        values.clear();
        if self.read(layout, bytes, values, depth_max).is_none() {
            return Found::Nothing;
        }
        self.losses += u32::from(self.quick.is_some());
        if self.losses > LOSSES_MAX {
            self.quick = None;
        }
        Found::Values
    }

    /// Reads a message of this shape into the (cleared) values; `None` if it has another.
    fn read(
        &self,
        layout: &Layout,
        bytes: &[u8],
        values: &mut Values,
        depth_max: usize,
    ) -> Option<()> {
        let mut at = 0;
        let mut index = 0;
        let mut absent = 0;
        while let Some(mut step) = self.steps.get(index) {
            if !step.matches(&self.literals, bytes, at) {
                index = self.later_step(index, &mut absent, bytes, at)?;
                let Some(later) = self.steps.get(index) else { break };
                step = later;
            }
            at = at.wrapping_add(step.length as usize);
            at = match step.leaf {
                Leaf::Field(kind) => {
                    let rule = &layout.rules[step.rule as usize];
                    read_field(kind, rule, step.target as usize, bytes, at, values)?
                }
                Leaf::Entry => read_entry(layout, step.target as usize, bytes, at, values)?,
                Leaf::Unknown => match byte_at(bytes, at) {
                    b'{' | b'[' => {
                        skip_composite(bytes, at, usize::from(step.depth), depth_max).ok()?
                    }
                    _ => scan_scalar(bytes, at)?.1,
                },
            };
            index += 1;
        }
        (bytes.get(at..)? == &self.literals[self.tail_start..]).then_some(())
    }

    /// Returns the step (or the end of the steps) that fits if those from `index` on lack. Only
    /// steps that open and close nothing may: the text goes on as if they had never been there.
    #[cold]
    fn later_step(
        &self,
        mut index: usize,
        absent: &mut usize,
        bytes: &[u8],
        at: usize,
    ) -> Option<usize> {
        while self.steps.get(index)?.plain && *absent < ABSENT_MAX {
            index += 1;
            *absent += 1;
            match self.steps.get(index) {
                Some(step) if step.matches(&self.literals, bytes, at) => return Some(index),
                Some(_) => {}
                None => return Some(index),
            }
        }
        None
    }
}

#[inline(always)]
fn read_field(
    kind: Kind,
    rule: &Rule,
    source: usize,
    bytes: &[u8],
    at: usize,
    values: &mut Values,
) -> Option<usize> {
    match kind {
        Kind::Float => {
            if let Some((mantissa, digits, end)) = short_decimal(bytes, at) {
                values.set(source, float_cell(rule, short_float(mantissa, digits)));
                return Some(end);
            }
        }
        Kind::Int => {
            if let Some((value, 0, end)) = short_decimal(bytes, at) {
                values.set(source, int_cell(rule, Some(value)));
                return Some(end);
            }
        }
        Kind::Bool => {
            let word = padded_word_at(bytes, at);
            if word as u32 == u32::from_le_bytes(*b"true") {
                values.set(source, Cell::Int(1));
                return Some(at + 4);
            }
            if word & 0xff_ffff_ffff == u64::from_le_bytes(*b"false\0\0\0") {
                values.set(source, Cell::Int(0));
                return Some(at + 5);
            }
        }
        Kind::Text | Kind::Key => {
            if byte_at(bytes, at) == b'"' {
                let text = scan_string(bytes, at + 1)?;
                if !text.escaped {
                    let (start, end) = (text.start as u32, text.end as u32);
                    values.set(source, values.bounded(kind, Cell::Plain { start, end }));
                    return Some(text.end + 1);
                }
            }
        }
        Kind::Time => {
            if byte_at(bytes, at) == b'"' {
                let text = scan_string(bytes, at + 1)?;
                if !text.escaped {
                    let time = parse_text(text.raw(bytes), rule.unit);
                    values.set(source, time_cell(time));
                    return Some(text.end + 1);
                }
            }
        }
    }
    read_any(rule, source, bytes, at, values)
}

#[inline(never)]
fn read_any(
    rule: &Rule,
    source: usize,
    bytes: &[u8],
    at: usize,
    values: &mut Values,
) -> Option<usize> {
    let (scalar, end) = scan_scalar(bytes, at)?;
    let cell = values.read(rule, scalar, bytes);
    values.set(source, cell);
    Some(end)
}

#[inline(never)]
fn read_entry(
    layout: &Layout,
    entry: usize,
    bytes: &[u8],
    at: usize,
    values: &mut Values,
) -> Option<usize> {
    let (scalar, end): (Scalar, usize) = scan_scalar(bytes, at)?;
    for source in &layout.entry(entry).sources {
        values.record(layout, *source, scalar, bytes);
    }
    Some(end)
}

/// What a guess has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A row of the block is written.
    Row,
    /// The values are those of the message.
    Values,
    Nothing,
}

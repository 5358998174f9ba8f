//! The shape of a message as the quick reader walks it: a list of steps, each a text that must
//! stand there and the kind of value behind it. Made of a shape that `fast.rs` learnt;
//! what a plan cannot express (a field that comes from two names at once, keys that are no
//! strings, hundreds of numbers) is left to the slower readers.

use std::cell::Cell;

use tidemill_kernel::schema::{Slot, TimeUnit};

use super::{
    super::layout::{Kind as Meaning, Layout},
    names::Names,
    work::SLOTS,
};
use crate::DecodeLimits;

/// What is read at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number without sign and with a point that is staged for conversion to a float, or only
    /// to be checked.
    Decimal,
    /// The same with or without sign.
    SignedDecimal,
    /// The same without sign, with or without a point.
    Float,
    /// The same with or without sign, of any length.
    AnyFloat,
    /// The same, expected to have more digits than a stage holds.
    LongFloat,
    /// A number without sign and point that is staged for conversion to an integer.
    Int,
    /// The same with or without sign.
    SignedInt,
    /// The same for the time.
    TimeNumber,
    /// true or false.
    Bool,
    /// A part of the key: text behind the quote that ends the literal.
    Key,
    /// Text behind the quote that ends the literal.
    Text,
    /// Text that nobody wants, behind the quote that ends the literal.
    OtherText,
    /// A time as text, behind the quote that ends the literal.
    TimeText,
    /// Any value, read by the general reader.
    Any,
    /// Nothing: the literal is longer than one step and goes on.
    More,
    /// Nothing: the literal ends the message.
    End,
}

impl Kind {
    /// Returns whether the value waits in a stage for its conversion.
    pub(super) fn is_staged(self) -> bool {
        match self {
            Kind::Decimal | Kind::SignedDecimal | Kind::Float | Kind::AnyFloat => true,
            Kind::LongFloat => true,
            Kind::Int | Kind::SignedInt | Kind::TimeNumber | Kind::Bool => true,
            Kind::Key | Kind::Text | Kind::OtherText | Kind::TimeText => false,
            Kind::Any | Kind::More | Kind::End => false,
        }
    }
}

/// The longest literal of one step.
pub(super) const LITERAL_BYTES: usize = 31;

/// One step.
#[derive(Clone, Debug)]
#[repr(C, align(32))]
pub(super) struct Step {
    /// What stands before the value, then zeros.
    pub(super) literal: [u8; 32],
    /// All ones where the literal is.
    pub(super) mask: [u8; 32],
    pub(super) length: u8,
    /// Made wider when a value asks for it.
    pub(super) kind: Cell<Kind>,
    /// Where a number is staged.
    pub(super) stage: u8,
    /// Whether the literal is the whole text before the value, and opens and closes nothing.
    pub(super) may_lack: bool,
    /// The slot of a text or the part of a key.
    pub(super) slot: u16,
    /// Its place among the plan's steps.
    pub(super) index: u32,
    /// How many objects are open around the value.
    pub(super) depth: u16,
    /// The rule of the field that the value is for.
    pub(super) rule: Option<u32>,
}

impl Step {
    /// Returns the literal.
    pub(super) fn text(&self) -> &[u8] {
        &self.literal[..usize::from(self.length)]
    }
}

/// What is read in place of a value that is not there: the step's literal and a value, and how
/// long they are.
pub(super) type StandIn = ([u8; 64], usize);

/// One value of a shape, and what stands before it.
#[derive(Debug)]
pub(crate) struct Sketch<'p> {
    pub(crate) literal: &'p [u8],
    /// The first byte of a value that stood there.
    pub(crate) first: u8,
    /// The field that the value is for; an error if it may be for several.
    pub(crate) field: Result<Option<usize>, ()>,
    /// Whether the literal opens and closes nothing.
    pub(crate) plain: bool,
    /// How many objects are open around the value.
    pub(crate) depth: u16,
}

/// The shape of one message.
#[derive(Debug)]
pub(crate) struct QuickPlan {
    pub(super) steps: Vec<Step>,
    /// One per step.
    pub(super) stand_ins: Vec<Option<Box<StandIn>>>,
    /// The presence bits of a message that has all values of the plan.
    pub(super) presence: Vec<u64>,
    /// Whether these are all bits there are.
    pub(super) is_complete: bool,
    /// The stages of numbers that the plan's messages do not have.
    pub(super) unused: Vec<u8>,
    /// The ranges of floats and integers, slot by slot; all there is where a slot is not used.
    pub(super) float_ranges: Vec<[[f64; 4]; 2]>,
    pub(super) int_ranges: Vec<[[i64; 4]; 2]>,
    /// How many groups of four numbers are staged: floats, integers, the time, then, from
    /// `first_other` on, numbers that nobody wants.
    pub(super) groups: usize,
    pub(super) first_other: usize,
    /// Whether the time is a number, and where it is staged.
    pub(super) time_is_number: bool,
    pub(super) time_stage: u8,
    pub(super) time_unit: TimeUnit,
    pub(super) key_parts: usize,
    /// Present if messages are read whatever the order of their names.
    pub(super) names: Option<Names>,
}

/// The most parts of a key.
pub(super) const KEY_PARTS_MAX: usize = 4;
/// Texts up to this are read at once; a limit below it is the general reader's.
const SHORT_TEXT_BYTES: usize = 32;

impl QuickPlan {
    /// Returns the plan of a shape; `None` if it cannot be walked quickly.
    pub(crate) fn new<'p>(
        layout: &Layout,
        limits: &DecodeLimits,
        values: impl Iterator<Item = Sketch<'p>>,
        tail: &[u8],
    ) -> Option<Box<QuickPlan>> {
        let fields = layout.floats.len() + layout.ints.len() + layout.texts.len();
        let float_groups = layout.floats.len().div_ceil(4);
        let int_groups = layout.ints.len().div_ceil(4);
        let times = 4 * (float_groups + int_groups);
        if times + 4 > SLOTS || layout.keys.len() > KEY_PARTS_MAX {
            return None;
        }
        let mut plan = QuickPlan {
            steps: Vec::new(),
            stand_ins: Vec::new(),
            presence: vec![0; fields.div_ceil(64)],
            is_complete: false,
            unused: Vec::new(),
            float_ranges: vec![[[f64::MIN; 4], [f64::MAX; 4]]; float_groups],
            int_ranges: vec![[[i64::MIN; 4], [i64::MAX; 4]]; int_groups],
            groups: 0,
            first_other: times / 4 + 1,
            time_is_number: false,
            time_stage: times as u8,
            time_unit: TimeUnit::Auto,
            key_parts: layout.keys.len(),
            names: None,
        };
        let ints = 4 * float_groups;
        let slots = (0..layout.floats.len()).chain(ints..ints + layout.ints.len());
        plan.unused = slots.map(|stage| stage as u8).collect();
        let mut learner =
            Learner { layout, limits, plan: &mut plan, seen: Vec::new(), next_stage: times + 4 };
        for value in values {
            learner.learn_value(&value)?;
        }
        // A key or time that is not there is for the judge to say.
        let needed = |slot| matches!(slot, Slot::Key(_) | Slot::Time);
        let seen = learner.seen.iter().filter(|field| needed(layout.rules[**field].slot)).count();
        if seen != layout.keys.len() + 1 {
            return None;
        }
        let stages = learner.next_stage;
        plan.push_literal(tail, Step::of(Kind::End), false);
        plan.groups = stages.div_ceil(4);
        plan.unused.extend((stages..4 * plan.groups).map(|stage| stage as u8));
        let present = plan.presence.iter().map(|word| word.count_ones() as usize);
        plan.is_complete = present.sum::<usize>() == fields;
        plan.stand_ins = plan.steps.iter().map(stand_in).collect();
        Some(Box::new(plan))
    }

    /// Returns the plan for messages whose names come in any order, if such can be read.
    pub(crate) fn in_any_order(mut self: Box<QuickPlan>) -> Option<Box<QuickPlan>> {
        self.names = Some(Names::of(&self)?);
        Some(self)
    }

    /// Returns how many steps the plan has.
    pub(crate) fn step_count(&self) -> usize {
        self.steps.len()
    }

    /// Returns whether a message starts as the plan's messages do.
    #[inline]
    pub(crate) fn begins(&self, bytes: &[u8]) -> bool {
        let Some(step) = self.steps.first() else { return false };
        let Some(start) = bytes.first_chunk::<32>() else {
            return bytes.starts_with(step.text());
        };
        // Sixteen bytes at a time, which needs no call.
        let halves = [start, &step.literal, &step.mask].map(|bytes| bytes.as_chunks::<16>().0);
        (0..2).all(|at| {
            let [start, literal, mask] = halves.map(|half| u128::from_le_bytes(half[at]));
            (start ^ literal) & mask == 0
        })
    }

    /// Returns how many bytes a message's texts and keys may need beyond the payload's length.
    pub(super) fn room_bytes(&self) -> usize {
        // A short text is written with all of its 32 bytes; a number as text may be longer than
        // it is written, and a part of the key has its length before it.
        64 + 32 * self.steps.len()
    }

    /// Returns how many groups of four the floats and the integers take.
    pub(super) fn groups_of_rows(&self) -> [usize; 2] {
        [self.float_ranges.len(), self.int_ranges.len()]
    }

    fn push_literal(&mut self, literal: &[u8], last: Step, plain: bool) {
        let mut rest = literal;
        while let Some((head, tail)) = rest.split_first_chunk::<LITERAL_BYTES>()
            && !tail.is_empty()
        {
            self.push(Step::of(Kind::More).with_literal(head));
            rest = tail;
        }
        let may_lack = plain && literal.len() <= LITERAL_BYTES;
        self.push(Step { may_lack, ..last.with_literal(rest) });
    }

    fn push(&mut self, step: Step) {
        self.steps.push(Step { index: self.steps.len() as u32, ..step });
    }
}

impl Step {
    fn of(kind: Kind) -> Step {
        Step {
            literal: [0; 32],
            mask: [0; 32],
            length: 0,
            kind: Cell::new(kind),
            stage: 0,
            may_lack: false,
            slot: 0,
            index: 0,
            depth: 0,
            rule: None,
        }
    }

    fn with_literal(mut self, text: &[u8]) -> Step {
        self.literal[..text.len()].copy_from_slice(text);
        self.mask[..text.len()].fill(0xff);
        self.length = text.len() as u8;
        self
    }
}

struct Learner<'l> {
    layout: &'l Layout,
    limits: &'l DecodeLimits,
    plan: &'l mut QuickPlan,
    /// The fields met so far.
    seen: Vec<usize>,
    next_stage: usize,
}

impl Learner<'_> {
    fn learn_value(&mut self, value: &Sketch<'_>) -> Option<()> {
        let mut step = match value.field.ok()? {
            None => self.unknown(value.first),
            // Which of two sources counts is not for plans to say.
            Some(field) if self.seen.contains(&field) => return None,
            Some(field) => {
                self.seen.push(field);
                self.known(field, value.first)?
            }
        };
        step.depth = value.depth;
        let mut literal = value.literal.to_vec();
        if matches!(step.kind.get(), Kind::Key | Kind::Text | Kind::OtherText | Kind::TimeText) {
            literal.push(b'"');
        }
        self.plan.push_literal(&literal, step, value.plain);
        Some(())
    }

    fn unknown(&mut self, first: u8) -> Step {
        match first {
            b'"' => Step::of(Kind::OtherText),
            b'0'..=b'9' | b'-' if self.next_stage < SLOTS => {
                self.next_stage += 1;
                Step { stage: (self.next_stage - 1) as u8, ..Step::of(Kind::Decimal) }
            }
            _ => Step::of(Kind::Any),
        }
    }

    fn known(&mut self, field: usize, first: u8) -> Option<Step> {
        let rule = &self.layout.rules[field];
        let (float_count, int_count) = (self.layout.floats.len(), self.layout.ints.len());
        let ints = 4 * float_count.div_ceil(4);
        let mut step = Step { rule: Some(field as u32), ..Step::of(Kind::Any) };
        let bit = match rule.slot {
            Slot::Key(part) => {
                step.slot = part;
                step.kind.set(Kind::Key);
                return (first == b'"' && self.limits.key_bytes_max >= SHORT_TEXT_BYTES)
                    .then_some(step);
            }
            Slot::Time => {
                step.kind.set(if first == b'"' { Kind::TimeText } else { Kind::TimeNumber });
                step.stage = self.plan.time_stage;
                self.plan.time_is_number = first != b'"';
                self.plan.time_unit = rule.unit;
                return Some(step);
            }
            Slot::Float(slot) => {
                step.kind.set(Kind::Decimal);
                step.stage = slot as u8;
                let ranges = &mut self.plan.float_ranges[usize::from(slot) / 4];
                ranges[0][usize::from(slot) % 4] = rule.float_low;
                ranges[1][usize::from(slot) % 4] = rule.float_high;
                usize::from(slot)
            }
            Slot::Int(slot) => {
                let is_bool = rule.kind == Meaning::Bool;
                step.kind.set(match first {
                    b't' | b'f' if is_bool => Kind::Bool,
                    b'0'..=b'9' | b'-' | b'n' => Kind::Int,
                    _ => Kind::Any,
                });
                step.stage = (ints + usize::from(slot)) as u8;
                let range = if is_bool { (0, 1) } else { (rule.int_low, rule.int_high) };
                let ranges = &mut self.plan.int_ranges[usize::from(slot) / 4];
                ranges[0][usize::from(slot) % 4] = range.0;
                ranges[1][usize::from(slot) % 4] = range.1;
                float_count + usize::from(slot)
            }
            Slot::Text(slot) => {
                step.slot = slot;
                let is_text = matches!(first, b'"' | b'n');
                if is_text && self.limits.text_bytes_max >= SHORT_TEXT_BYTES {
                    step.kind.set(Kind::Text);
                }
                float_count + int_count + usize::from(slot)
            }
        };
        self.plan.presence[bit / 64] |= 1 << (bit % 64);
        if matches!(rule.slot, Slot::Float(_) | Slot::Int(_)) && step.kind.get() != Kind::Any {
            self.plan.unused.retain(|stage| *stage != step.stage);
        }
        Some(step)
    }
}

/// Returns what may be read in place of a value that is not there; `None` where it must be.
fn stand_in(step: &Step) -> Option<Box<StandIn>> {
    let value: &[u8] = match step.kind.get() {
        Kind::Decimal | Kind::SignedDecimal | Kind::Float | Kind::AnyFloat => b"0.0",
        Kind::LongFloat => b"0.0",
        Kind::Int | Kind::SignedInt => b"0",
        Kind::Bool => b"false",
        Kind::Text | Kind::OtherText => b"\"",
        Kind::Any => b"",
        _ => return None,
    };
    let mut text = [0; 64];
    let length = usize::from(step.length);
    text[..length].copy_from_slice(step.text());
    text[length..length + value.len()].copy_from_slice(value);
    // What an `AnyFloat` finds behind a number must look like its end.
    text[length + value.len()] = b',';
    Some(Box::new((text, length + value.len())))
}

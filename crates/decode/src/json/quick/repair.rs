//! What the walk does where a message is not as the plan expects: a value of another form, null,
//! a text of any length, a field that is not there. All of it is read by the readers that the
//! judge uses, and only ever accepts what the judge would.

use std::arch::x86_64::*;

use tidemill_kernel::{event::Rows, schema::TimeUnit};

use super::{
    super::{
        layout::Kind as Meaning,
        scan::{scan_scalar, scan_string, unescape},
        strict::skip_composite,
        value::Cell,
    },
    Lane,
    plan::{KEY_PARTS_MAX, Kind, QuickPlan, Step},
    simd::{Place, Text, load32},
    stage::{is_plain, quoted_length},
    walk::{Detour, KeyPart},
    work::Work,
};
use crate::time::parse_text;

/// How many values of a plan may lack in a message.
const LACKING_MAX: u8 = 4;

/// Returns where the lanes stand and what they look at once the literal of a step does stand in
/// all of them; `None` if that cannot be said. A lane that lacks the value looks at a stand-in,
/// and stands where reading that leads it to where it is.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
pub(super) fn repair<'w, const L: usize>(
    plan: &'w QuickPlan,
    step: &Step,
    text: Text<'w>,
    lanes: &[Lane; L],
    places: [Place<'w>; L],
    work: &mut Work<'_>,
) -> Option<[Detour<'w>; L]> {
    let mut stands = places.map(|place| Detour { at: text.at(place), window: place.window() });
    let index = step.index as usize;
    let (literal, mask) = (load32(&step.literal), load32(&step.mask));
    for (lane, stand) in stands.iter_mut().enumerate() {
        let there = load32(&stand.window.as_chunks().0[0]);
        if _mm256_testz_si256(_mm256_xor_si256(there, literal), mask) != 0 {
            continue;
        }
        let spot = Spot { plan, index, lane, from: lanes[lane] };
        let found = spot.repair(stand.at, work)?;
        *stand = if work.detours[lane] == index {
            let (window, length) = plan.stand_ins[index].as_deref()?;
            Detour { at: found.wrapping_sub(*length), window }
        } else {
            Detour { at: found, window: text.place(found)?.window() }
        };
    }
    Some(stands)
}

/// The most bytes that are staged of a number.
const STAGED_MAX: usize = 32;

/// A step in a lane.
#[derive(Clone, Copy)]
pub(super) struct Spot<'p> {
    pub(super) plan: &'p QuickPlan,
    pub(super) index: usize,
    pub(super) lane: usize,
    pub(super) from: Lane,
}

impl Spot<'_> {
    #[inline]
    pub(super) fn step(&self) -> &Step {
        &self.plan.steps[self.index]
    }

    /// Returns where the step's literal stands, which is not `staged_to`, or, on a detour, where
    /// the lane goes on.
    fn repair(&self, staged_to: usize, work: &mut Work<'_>) -> Option<usize> {
        let mut at = staged_to;
        // Behind a value that was staged whole this is all there is to it.
        if self.lack(at, work).is_some() {
            work.detours[self.lane] = self.index;
            return Some(at);
        }
        // Where the literal does begin, the value before it has ended and the name is another one,
        // as in a message of another order, of which there may be many.
        let begins = work.buffer.get(at) == self.step().text().first();
        if !begins
            && let Some(index) = self.index.checked_sub(1)
            && self.plan.steps[index].kind.get().is_staged()
            && work.detours[self.lane] != index
        {
            let last = Spot { index, ..*self };
            let value = last.value_before(at, work)?;
            let end = last.read_again(value, at, work)?;
            if end != at {
                at = end;
                if self.stands(self.index, at, work) {
                    return Some(at);
                }
            }
        }
        let mut behind = self.other_text(at, work);
        if behind.is_none() && at != staged_to {
            behind = self.lack(at, work);
        }
        let behind = behind?;
        work.detours[self.lane] = self.index;
        Some(behind)
    }

    /// Returns where the value starts that was staged up to a place: behind the step's literal.
    /// Of a number that is too long all is taken that a stage looks at, so the same text may stand
    /// there twice; then nobody knows.
    fn value_before(&self, at: usize, work: &Work<'_>) -> Option<usize> {
        let length = usize::from(self.step().length);
        let mut starts = (at.saturating_sub(STAGED_MAX)..=at).filter(|value| {
            value.checked_sub(length).is_some_and(|at| self.stands(self.index, at, work))
        });
        let start = starts.next()?;
        starts.next().is_none().then_some(start)
    }

    /// Returns whether the literal of a step stands somewhere in the message.
    fn stands(&self, step: usize, at: usize, work: &Work<'_>) -> bool {
        let literal = self.plan.steps.get(step).map(Step::text);
        literal.is_some_and(|literal| {
            work.buffer.get(at..self.from.end).is_some_and(|rest| rest.starts_with(literal))
        })
    }

    /// Reads a value, staged up to `at`, by the general reader; returns where it ends.
    #[cold]
    #[inline(never)]
    pub(super) fn read_again(&self, value: usize, at: usize, work: &mut Work<'_>) -> Option<usize> {
        let (cell, end) = self.value_at(value, work)?;
        if end != at {
            self.widen(work.buffer.get(value..end)?);
            work.note_odd(self.plan, self.lane, self.index, cell)?;
        }
        Some(end)
    }

    /// Lets the step take more from now on, if a value was odd only by its sign, point or length.
    fn widen(&self, value: &[u8]) {
        let kind = &self.step().kind;
        let is_negative = value.starts_with(b"-");
        if !is_negative && !value.first().is_some_and(u8::is_ascii_digit) {
            return;
        }
        let is_long = value.len() > 15 || value.iter().any(|byte| matches!(byte, b'e' | b'E'));
        let needed = match (is_negative, value.contains(&b'.')) {
            _ if is_long => Kind::AnyFloat,
            (false, true) => Kind::Decimal,
            (true, true) => Kind::SignedDecimal,
            (false, false) => Kind::Float,
            (true, false) => Kind::AnyFloat,
        };
        match kind.get() {
            Kind::Decimal => kind.set(needed),
            Kind::SignedDecimal | Kind::Float if kind.get() != needed => kind.set(Kind::AnyFloat),
            Kind::Int if is_negative => kind.set(Kind::SignedInt),
            _ => {}
        }
    }

    /// Reads what has no point where a decimal should; returns where it ends. `at` is where the
    /// step's literal stands.
    #[cold]
    #[inline(never)]
    pub(super) fn no_decimal(&self, at: usize, work: &mut Work<'_>) -> Option<usize> {
        let value = at.checked_add(usize::from(self.step().length))?;
        if work.detours[self.lane] == self.index {
            return None;
        }
        let (cell, end) = self.value_at(value, work)?;
        self.widen(work.buffer.get(value..end)?);
        work.note_odd(self.plan, self.lane, self.index, cell)?;
        Some(end)
    }

    /// Reads what stands instead of a text at the step; returns where it ends.
    fn other_text(&self, at: usize, work: &mut Work<'_>) -> Option<usize> {
        if !matches!(self.step().kind.get(), Kind::Text | Kind::OtherText) {
            return None;
        }
        let (_, name) = self.step().text().split_last()?;
        // The start of a longer literal stands in another step, where it was found.
        work.buffer.get(at..self.from.end)?.strip_prefix(name)?;
        self.in_place_of_text(at + name.len(), work)
    }

    /// Reads what stands instead of a text; returns where it ends.
    pub(super) fn in_place_of_text(&self, value: usize, work: &mut Work<'_>) -> Option<usize> {
        let (cell, end) = self.value_at(value, work)?;
        work.note_odd(self.plan, self.lane, self.index, cell)?;
        Some(end)
    }

    /// Returns the place again if a later step stands here, so that this one's value lacks.
    fn lack(&self, at: usize, work: &mut Work<'_>) -> Option<usize> {
        if work.lacking[self.lane] == LACKING_MAX {
            return None;
        }
        let mut later = self.index;
        loop {
            let between = self.plan.steps.get(later)?;
            if !between.may_lack || later - self.index > usize::from(LACKING_MAX) {
                return None;
            }
            later += 1;
            if self.stands(later, at, work) {
                break;
            }
        }
        work.lacking[self.lane] += 1;
        work.note_odd(self.plan, self.lane, self.index, Cell::Absent)?;
        Some(at)
    }

    /// Reads the value that stands at a place by the step's rule; returns where it ends.
    fn value_at(&self, at: usize, work: &mut Work<'_>) -> Option<(Cell, usize)> {
        let bytes = work.buffer.get(self.from.start..self.from.end)?;
        let at = at.checked_sub(self.from.start)?;
        let Some(rule) = self.step().rule else {
            let end = if let Some(b'{' | b'[') = bytes.get(at) {
                let depth = usize::from(self.step().depth);
                skip_composite(bytes, at, depth, work.depth_max).ok()?
            } else {
                scan_scalar(bytes, at)?.1
            };
            return Some((Cell::Absent, self.from.start + end));
        };
        let (scalar, end) = scan_scalar(bytes, at)?;
        let cell = work.values.read(&work.layout.rules[rule as usize], scalar, bytes);
        Some((cell, self.from.start + end))
    }

    /// Reads a value that the plan knows nothing of; returns where it ends.
    #[inline(never)]
    pub(super) fn any_value(&self, at: usize, work: &mut Work<'_>) -> Option<usize> {
        let value = at.wrapping_add(usize::from(self.step().length));
        if work.detours[self.lane] == self.index {
            return Some(value);
        }
        let (cell, end) = self.value_at(value, work)?;
        work.note_odd(self.plan, self.lane, self.index, cell)?;
        Some(end)
    }

    /// Reads a text of plain ASCII that has between 32 and 64 bytes, as names of their own that
    /// machines make have 36; returns where it ends.
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[inline]
    fn plain_text(
        &self,
        at: usize,
        keys: &mut [[KeyPart; KEY_PARTS_MAX]],
        work: &mut Work<'_>,
        rows: &mut Rows<'_>,
    ) -> Option<usize> {
        let step = self.step();
        let start = at.checked_add(usize::from(step.length))?;
        let (first, behind) = work.buffer.get(start..)?.split_first_chunk::<32>()?;
        let length = 32 + quoted_length(behind.first_chunk()?, 0)?;
        // Room was made for the texts of the message, not for what stands behind it.
        if !is_plain(first) || start + length >= self.from.end {
            return None;
        }
        match step.kind.get() {
            Kind::Key if work.values.fits(Meaning::Key, length) => {
                keys[self.lane][usize::from(step.slot)] = (start, length);
            }
            Kind::Text if work.values.fits(Meaning::Text, length) => {
                rows.set_text(self.lane, step.slot, work.buffer.get(start..start + length)?);
            }
            Kind::OtherText => {}
            _ => return None,
        }
        Some(start + length + 1)
    }

    /// Reads a text that is long, has escapes, or is not ASCII; returns where it ends.
    #[cold]
    #[inline(never)]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    pub(super) fn long_text(
        &self,
        at: usize,
        keys: &mut [[KeyPart; KEY_PARTS_MAX]],
        work: &mut Work<'_>,
        rows: &mut Rows<'_>,
    ) -> Option<usize> {
        if let Some(end) = self.plain_text(at, keys, work, rows) {
            return Some(end);
        }
        let payload = work.buffer.get(self.from.start..self.from.end)?;
        let start = (at + usize::from(self.step().length)).checked_sub(self.from.start)?;
        let text = scan_string(payload, start)?;
        let cell = Cell::Plain { start: text.start as u32, end: text.end as u32 };
        let kind = self.step().kind.get();
        match kind {
            Kind::Key => {
                if text.escaped || work.values.bounded(Meaning::Key, cell) != cell {
                    return None;
                }
                let part = usize::from(self.step().slot);
                keys[self.lane][part] = (self.from.start + start, text.end - start);
            }
            Kind::Text if text.escaped => {
                let mark = work.values.scratch.len() as u32;
                unescape(text.raw(payload), &mut work.values.scratch);
                let end = work.values.scratch.len() as u32;
                let cell = Cell::Made { start: mark, end };
                let cell = work.values.bounded(Meaning::Text, cell);
                work.note_odd(self.plan, self.lane, self.index, cell)?;
            }
            Kind::Text if work.values.bounded(Meaning::Text, cell) == cell => {
                rows.set_text(self.lane, self.step().slot, text.raw(payload));
            }
            Kind::Text => work.note_odd(self.plan, self.lane, self.index, Cell::Invalid)?,
            _ => {}
        }
        Some(self.from.start + text.end + 1)
    }

    /// Reads a time that is not of the last one's minute, or otherwise written; returns where it
    /// ends.
    #[cold]
    #[inline(never)]
    pub(super) fn text_time(&self, at: usize, work: &mut Work<'_>) -> Option<usize> {
        let payload = work.buffer.get(self.from.start..self.from.end)?;
        let start = (at + usize::from(self.step().length)).checked_sub(self.from.start)?;
        let text = scan_string(payload, start)?;
        if text.escaped {
            return None;
        }
        let raw = text.raw(payload);
        work.times_ms[self.lane] = parse_text(raw, self.plan.time_unit)?.as_ms();
        if self.plan.time_unit == TimeUnit::Auto {
            work.memory.times.learn(raw);
        }
        Some(self.from.start + text.end + 1)
    }
}

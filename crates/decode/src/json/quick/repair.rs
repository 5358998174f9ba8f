//! What the walk does where a message is not as the plan expects: a value of another form, null,
//! a text of any length, a field that is not there. All of it is read by the readers that the
//! judge uses, and only ever accepts what the judge would.

use tidemill_kernel::{
    event::Rows,
    schema::{Slot, TimeUnit},
};

use super::{
    super::{
        layout::Kind as Meaning,
        scan::{scan_scalar, scan_string, unescape},
        strict::skip_composite,
        value::Cell,
    },
    Lane,
    plan::{Kind, QuickPlan, Step},
    walk::KeyPart,
    work::Work,
};
use crate::time::parse_text;

/// How many values of a plan may lack in a message.
const LACKING_MAX: u8 = 4;

fn stands_at(step: &Step, text: &[u8]) -> bool {
    text.starts_with(step.text())
}

/// Returns where the lanes stand once the literal of a step does in all of them; `None` if that
/// cannot be said.
#[cold]
#[inline(never)]
pub(super) fn repair<'m, const L: usize>(
    plan: &'m QuickPlan,
    index: usize,
    lanes: &[Lane<'m>; L],
    mut rest: [&'m [u8]; L],
    starts: &[usize; L],
    work: &mut Work<'_>,
) -> Option<[&'m [u8]; L]> {
    for lane in 0..L {
        if !stands_at(&plan.steps[index], rest[lane]) {
            let at = LaneAt { plan, index, lane, from: &lanes[lane] };
            rest[lane] = at.repair(rest[lane], starts[lane], work)?;
        }
    }
    Some(rest)
}

struct LaneAt<'l, 'm> {
    plan: &'m QuickPlan,
    index: usize,
    lane: usize,
    from: &'l Lane<'m>,
}

impl<'m> LaneAt<'_, 'm> {
    fn repair(&self, rest: &'m [u8], start: usize, work: &mut Work<'_>) -> Option<&'m [u8]> {
        let open = self.from.open;
        let step = &self.plan.steps[self.index];
        let mut here = rest;
        if let Some(left) = work.detours[self.lane].take() {
            here = &open[open.len() - left..];
        } else if let Some(before) = self.index.checked_sub(1) {
            let of = &self.plan.steps[before];
            if matches!(of.kind, Kind::Float | Kind::Int | Kind::TimeNumber | Kind::Bool) {
                let at = open.len() - start + usize::from(of.length);
                let (cell, end) = value_at(self.plan, before, self.from, at, work)?;
                if open.len() - end != here.len() {
                    work.note_odd(self.plan, self.lane, before, cell)?;
                    here = &open[end..];
                }
            }
        }
        if stands_at(step, here) {
            return Some(here);
        }
        let left = self.other_text(here, work).or_else(|| self.lack(here, work))?;
        work.detours[self.lane] = Some(left);
        Some(self.plan.stand_ins[self.index].as_deref()?)
    }

    /// Reads what stands instead of a text at the step; returns how much is left behind it.
    fn other_text(&self, here: &[u8], work: &mut Work<'_>) -> Option<usize> {
        let step = &self.plan.steps[self.index];
        if !matches!(step.kind, Kind::Text | Kind::OtherText) {
            return None;
        }
        let (_, name) = step.text().split_last()?;
        // The start of a longer literal stands in another step, where it was found.
        here.strip_prefix(name)?;
        let at = self.from.open.len() - here.len() + name.len();
        let (cell, end) = value_at(self.plan, self.index, self.from, at, work)?;
        work.note_odd(self.plan, self.lane, self.index, cell)?;
        Some(self.from.open.len() - end)
    }

    /// Finds a later step that stands here; returns how much is left.
    fn lack(&self, here: &[u8], work: &mut Work<'_>) -> Option<usize> {
        if work.lacking[self.lane] == LACKING_MAX {
            return None;
        }
        work.lacking[self.lane] += 1;
        let mut later = self.index;
        loop {
            let between = self.plan.steps.get(later)?;
            if !between.may_lack || later - self.index > usize::from(LACKING_MAX) {
                return None;
            }
            later += 1;
            if self.plan.steps.get(later).is_some_and(|step| stands_at(step, here)) {
                break;
            }
        }
        work.note_odd(self.plan, self.lane, self.index, Cell::Absent)?;
        Some(here.len())
    }
}

/// Reads the value that stands at a place of the payload by the step's rule.
fn value_at(
    plan: &QuickPlan,
    index: usize,
    from: &Lane<'_>,
    at: usize,
    work: &mut Work<'_>,
) -> Option<(Cell, usize)> {
    let step = &plan.steps[index];
    let bytes = from.payload;
    let Some(rule) = step.rule else {
        if let Some(b'{' | b'[') = bytes.get(at) {
            let depth = usize::from(step.depth);
            let end = skip_composite(bytes, at, depth, work.depth_max).ok()?;
            return Some((Cell::Absent, end));
        }
        return Some((Cell::Absent, scan_scalar(bytes, at)?.1));
    };
    let (scalar, end) = scan_scalar(bytes, at)?;
    Some((work.values.read(&work.layout.rules[rule as usize], scalar, bytes), end))
}

/// Reads a value that the plan knows nothing of; returns what is left behind it.
#[inline(never)]
pub(super) fn any_value<'m>(
    plan: &'m QuickPlan,
    index: usize,
    lane: usize,
    from: &Lane<'m>,
    rest: &'m [u8],
    work: &mut Work<'_>,
) -> Option<&'m [u8]> {
    let length = usize::from(plan.steps[index].length);
    if work.detours[lane].is_some() {
        return rest.get(length..);
    }
    let at = from.open.len() - rest.len() + length;
    let (cell, end) = value_at(plan, index, from, at, work)?;
    work.note_odd(plan, lane, index, cell)?;
    from.open.get(end..)
}

/// Reads a text that is long, has escapes, or is not ASCII; returns what is left behind it.
#[cold]
#[inline(never)]
#[expect(clippy::too_many_arguments, reason = "the state of a walk")]
pub(super) fn long_text<'m>(
    plan: &'m QuickPlan,
    index: usize,
    lane: usize,
    from: &Lane<'m>,
    rest: &'m [u8],
    keys: &mut [KeyPart],
    work: &mut Work<'_>,
    rows: &mut Rows<'_>,
) -> Option<&'m [u8]> {
    let step = &plan.steps[index];
    let start = from.open.len() - rest.len() + usize::from(step.length);
    let text = scan_string(from.payload, start)?;
    let cell = Cell::Plain { start: text.start as u32, end: text.end as u32 };
    match step.kind {
        Kind::Key => {
            if text.escaped || work.values.bounded(Meaning::Key, cell) != cell {
                return None;
            }
            keys[usize::from(step.slot)] = (start as u32, (text.end - start) as u32);
        }
        Kind::Text if text.escaped => {
            let mark = work.values.scratch.len();
            unescape(text.raw(from.payload), &mut work.values.scratch);
            let end = work.values.scratch.len() as u32;
            let cell = work.values.bounded(Meaning::Text, Cell::Made { start: mark as u32, end });
            work.note_odd(plan, lane, index, cell)?;
        }
        Kind::Text if work.values.bounded(Meaning::Text, cell) == cell => {
            rows.set_text(lane, step.slot, text.raw(from.payload));
        }
        Kind::Text => work.note_odd(plan, lane, index, Cell::Invalid)?,
        _ => {}
    }
    from.open.get(text.end + 1..)
}

/// Reads a time that is not of the last one's minute, or otherwise written; returns what is left
/// behind it.
#[cold]
#[inline(never)]
pub(super) fn text_time<'m>(
    plan: &'m QuickPlan,
    index: usize,
    lane: usize,
    from: &Lane<'m>,
    rest: &'m [u8],
    work: &mut Work<'_>,
) -> Option<&'m [u8]> {
    let start = from.open.len() - rest.len() + usize::from(plan.steps[index].length);
    let text = scan_string(from.payload, start)?;
    if text.escaped {
        return None;
    }
    let raw = text.raw(from.payload);
    work.times_ms[lane] = parse_text(raw, plan.time_unit)?.as_ms();
    if plan.time_unit == TimeUnit::Auto {
        work.memory.times.learn(raw);
    }
    from.open.get(text.end + 1..)
}

/// Corrects the row of a lane by its odd values, and by the ranges of its numbers.
#[cold]
#[inline(never)]
pub(super) fn settle(
    plan: &QuickPlan,
    lane: usize,
    from: &Lane<'_>,
    work: &mut Work<'_>,
    rows: &mut Rows<'_>,
) {
    let layout = work.layout;
    let (float_count, int_count) = (layout.floats.len(), layout.ints.len());
    let bit_of = |slot| match slot {
        Slot::Float(slot) => usize::from(slot),
        Slot::Int(slot) => float_count + usize::from(slot),
        Slot::Text(slot) => float_count + int_count + usize::from(slot),
        Slot::Key(_) | Slot::Time => unreachable!("keys and times are never odd"),
    };
    let slot_of = |step: usize| {
        let rule = plan.steps[step].rule.expect("values without a rule are not noted");
        layout.rules[rule as usize].slot
    };
    let odd = || work.memory.odd.iter().filter(|odd| odd.lane == lane);
    for odd in odd() {
        let bit = bit_of(slot_of(odd.step));
        rows.presence(lane)[bit / 64] &= !(1 << (bit % 64));
    }
    let mut invalid_count = 0;
    for bit in 0..float_count + int_count {
        if rows.presence(lane)[bit / 64] >> (bit % 64) & 1 == 0 {
            continue;
        }
        let is_valid = if let Some(slot) = bit.checked_sub(float_count) {
            let [low, high] = &plan.int_ranges[slot / 4];
            let value = &mut rows.ints(lane)[slot / 4][slot % 4];
            let is_valid = low[slot % 4] <= *value && *value <= high[slot % 4];
            *value *= i64::from(is_valid);
            is_valid
        } else {
            let [low, high] = &plan.float_ranges[bit / 4];
            let value = &mut rows.floats(lane)[bit / 4][bit % 4];
            let is_valid = low[bit % 4] <= *value && *value <= high[bit % 4];
            if !is_valid {
                *value = 0.0;
            }
            is_valid
        };
        if !is_valid {
            rows.presence(lane)[bit / 64] &= !(1 << (bit % 64));
            invalid_count += 1;
        }
    }
    for odd in odd() {
        let slot = slot_of(odd.step);
        let is_present = match (slot, odd.cell) {
            (Slot::Float(slot), Cell::Float(value)) => {
                rows.floats(lane)[usize::from(slot) / 4][usize::from(slot) % 4] = value;
                true
            }
            (Slot::Int(slot), Cell::Int(value)) => {
                rows.ints(lane)[usize::from(slot) / 4][usize::from(slot) % 4] = value;
                true
            }
            (Slot::Text(slot), cell @ (Cell::Plain { .. } | Cell::Made { .. })) => {
                rows.set_text(lane, slot, work.values.text(cell, from.payload));
                true
            }
            (_, Cell::Absent | Cell::Null) => false,
            _ => {
                invalid_count += 1;
                false
            }
        };
        if is_present {
            let bit = bit_of(slot);
            rows.presence(lane)[bit / 64] |= 1 << (bit % 64);
        }
    }
    let present = rows.presence(lane).iter().map(|word| word.count_ones() as usize).sum::<usize>();
    let is_complete = present == float_count + int_count + layout.texts.len();
    rows.amend(lane, is_complete, invalid_count);
}

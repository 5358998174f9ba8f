//! The walk through one message whose names come in any order: each is looked up, and its value
//! read as in `walk.rs`. For messages that no remembered order fits.
//!
//! A name that comes twice, or that the plan does not know, ends the walk without a verdict.

use std::arch::x86_64::*;

use tidemill_kernel::event::Rows;

use super::{
    super::value::Cell,
    Lane,
    convert::finish,
    names::{Head, Names},
    plan::{KEY_PARTS_MAX, Kind, QuickPlan},
    repair::Spot,
    simd::{Text, Window, load32},
    stage::stage_number,
    walk::{Detour, Walk},
    work::Work,
};

/// Reads a message with a plan's names into a row; `None` if it has others, or may have.
#[target_feature(enable = "avx2,bmi1,bmi2")]
pub(super) fn read(
    plan: &QuickPlan,
    names: &Names,
    text: Text<'_>,
    lanes: &[Lane; 1],
    work: &mut Work<'_>,
    rows: &mut Rows<'_>,
) -> Option<()> {
    let [from] = *lanes;
    let walk = Walk::start(plan, text, lanes, work);
    let mut keys = [[(0, 0); KEY_PARTS_MAX]];
    let mut seen = [0_u64; 4];
    let mut at =
        from.start + names.opening.length_in(text.place(from.start)?.window().first_chunk()?)?;
    loop {
        let window = text.place(at)?.window();
        let head = names.likely(window, name_length(window)?)?;
        let (word, bit) = ((head.step / 64) & 3, 1 << (head.step % 64));
        if seen[word] & bit != 0 {
            return None;
        }
        seen[word] |= bit;
        let spot = Spot { plan, index: head.step, lane: 0, from };
        let value = at + head.length;
        at = if !stands(head, window) {
            other_value(spot, head, window, at, work)?
        } else if let Some((slot, points)) = head.number {
            // One way for all numbers: nothing can predict which is next (858 and 680 ns a
            // message of 25 values, folding included).
            let number = window[head.length & 31..].first_chunk()?;
            value + stage_number(number, &mut work.stages[0], slot, points)?
        } else {
            // Where the step's literal ends with the same name.
            let before = value.wrapping_sub(usize::from(spot.step().length));
            let stand = Detour { at: before, window: text.place(before)?.window() };
            let [end] = walk.values(spot.step(), [stand], &mut keys, work, rows)?;
            end.at
        };
        let mut end = end_of_value(names, text, at, from)?;
        if end == End::None && spot.step().kind.get().is_staged() {
            at = spot.read_again(value, at, work)?;
            end = end_of_value(names, text, at, from)?;
        }
        match end {
            End::None => return None,
            End::OfMessage => break,
            End::OfValue(length) => at += length,
        }
    }
    if seen != names.all {
        lack(plan, &seen, work)?;
    }
    finish(plan, lanes, &keys, work, rows)
}

/// What stands behind a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// What stands before the next name, and its length.
    OfValue(usize),
    OfMessage,
    None,
}

#[inline(always)]
fn end_of_value(names: &Names, text: Text<'_>, at: usize, from: Lane) -> Option<End> {
    let behind = text.place(at)?.window().first_chunk()?;
    if let Some(length) = names.between.length_in(behind) {
        return Some(End::OfValue(length));
    }
    let is_last = names.closing.length_in(behind).is_some_and(|length| at + length == from.end);
    Some(if is_last { End::OfMessage } else { End::None })
}

/// Returns the length of the name behind the quote that a window starts with, if it is short.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn name_length(window: &Window) -> Option<usize> {
    let quotes =
        _mm256_cmpeq_epi8(load32(window[1..].first_chunk()?), _mm256_set1_epi8(b'"' as i8));
    let length = (_mm256_movemask_epi8(quotes) as u32).trailing_zeros();
    (length < 32).then_some(length as usize)
}

/// Returns whether a window starts with the name and all that stands before its value.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn stands(head: &Head, window: &Window) -> bool {
    let Some(there) = window.first_chunk() else { return false };
    let differs = _mm256_xor_si256(load32(there), load32(&head.text));
    _mm256_testz_si256(differs, load32(&head.mask)) != 0
}

/// Reads what stands where the plan expects a text; returns where it ends.
#[cold]
#[inline(never)]
fn other_value(
    spot: Spot<'_>,
    head: &Head,
    window: &Window,
    at: usize,
    work: &mut Work<'_>,
) -> Option<usize> {
    if !matches!(spot.step().kind.get(), Kind::Text | Kind::OtherText) {
        return None;
    }
    let name = &head.text[..head.length - 1];
    if !window.starts_with(name) {
        return None;
    }
    spot.in_place_of_text(at + name.len(), work)
}

/// Notes the values that are not there; `None` if the message needs one of them.
#[cold]
#[inline(never)]
fn lack(plan: &QuickPlan, seen: &[u64; 4], work: &mut Work<'_>) -> Option<()> {
    // The last step is the message's end.
    for index in 0..plan.steps.len() - 1 {
        if seen[index / 64] >> (index % 64) & 1 == 0 {
            work.note_odd(plan, 0, index, Cell::Absent)?;
        }
    }
    Some(())
}

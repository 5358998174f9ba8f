//! The last word on a row that was not as the plan expects: values of another form, fields that
//! lack, numbers beyond their field's range.

use tidemill_kernel::{event::Rows, schema::Slot};

use super::{
    super::{layout::Layout, value::Cell},
    Lane,
    plan::QuickPlan,
    work::{Odd, Work},
};

/// Corrects the rows of the lanes by their odd values, and, if some number is beyond its range, by
/// the ranges of all.
#[cold]
#[inline(never)]
pub(super) fn settle(
    plan: &QuickPlan,
    lanes: &[Lane],
    is_beyond: bool,
    work: &mut Work<'_>,
    rows: &mut Rows<'_>,
) {
    let odd_lanes = work.memory.odd.iter().fold(0, |lanes, odd| lanes | 1 << odd.lane);
    for (lane, from) in lanes.iter().enumerate() {
        if is_beyond || odd_lanes >> lane & 1 == 1 {
            settle_lane(plan, lane, *from, is_beyond, work, rows);
        }
    }
}

fn settle_lane(
    plan: &QuickPlan,
    lane: usize,
    from: Lane,
    is_beyond: bool,
    work: &mut Work<'_>,
    rows: &mut Rows<'_>,
) {
    let layout = work.layout;
    let odd = || work.memory.odd.iter().filter(|odd| odd.lane == lane);
    for odd in odd() {
        let bit = bit_of(layout, slot_of(plan, layout, odd));
        rows.presence(lane)[bit / 64] &= !(1 << (bit % 64));
    }
    let mut invalid_count = if is_beyond { drop_beyond(plan, layout, lane, rows) } else { 0 };
    for odd in odd() {
        let slot = slot_of(plan, layout, odd);
        match (slot, odd.cell) {
            (Slot::Float(slot), Cell::Float(value)) => {
                rows.floats(lane)[usize::from(slot) / 4][usize::from(slot) % 4] = value;
            }
            (Slot::Int(slot), Cell::Int(value)) => {
                rows.ints(lane)[usize::from(slot) / 4][usize::from(slot) % 4] = value;
            }
            (Slot::Text(slot), cell @ (Cell::Plain { .. } | Cell::Made { .. })) => {
                let payload = &work.buffer[from.start..from.end];
                rows.set_text(lane, slot, work.values.text(cell, payload));
            }
            (_, Cell::Absent | Cell::Null) => continue,
            _ => {
                invalid_count += 1;
                continue;
            }
        }
        let bit = bit_of(layout, slot);
        rows.presence(lane)[bit / 64] |= 1 << (bit % 64);
    }
    // No value comes in that the plan does not have.
    let is_complete = plan.is_complete && rows.presence(lane).iter().eq(&plan.presence);
    rows.amend(lane, is_complete, invalid_count);
}

fn slot_of(plan: &QuickPlan, layout: &Layout, odd: &Odd) -> Slot {
    let rule = plan.steps[odd.step].rule.expect("values without a rule are not noted");
    layout.rules[rule as usize].slot
}

fn bit_of(layout: &Layout, slot: Slot) -> usize {
    match slot {
        Slot::Float(slot) => usize::from(slot),
        Slot::Int(slot) => layout.floats.len() + usize::from(slot),
        Slot::Text(slot) => layout.floats.len() + layout.ints.len() + usize::from(slot),
        Slot::Key(_) | Slot::Time => unreachable!("keys and times are never odd"),
    }
}

/// Takes the present numbers that are beyond their range out of a row; returns how many.
fn drop_beyond(plan: &QuickPlan, layout: &Layout, lane: usize, rows: &mut Rows<'_>) -> u32 {
    let float_count = layout.floats.len();
    let mut count = 0;
    for bit in 0..float_count + layout.ints.len() {
        if rows.presence(lane)[bit / 64] >> (bit % 64) & 1 == 0 {
            continue;
        }
        let is_within = if let Some(slot) = bit.checked_sub(float_count) {
            let [low, high] = &plan.int_ranges[slot / 4];
            let value = &mut rows.ints(lane)[slot / 4][slot % 4];
            let is_within = low[slot % 4] <= *value && *value <= high[slot % 4];
            *value *= i64::from(is_within);
            is_within
        } else {
            let [low, high] = &plan.float_ranges[bit / 4];
            let value = &mut rows.floats(lane)[bit / 4][bit % 4];
            let is_within = low[bit % 4] <= *value && *value <= high[bit % 4];
            *value = if is_within { *value } else { 0.0 };
            is_within
        };
        if !is_within {
            rows.presence(lane)[bit / 64] &= !(1 << (bit % 64));
            count += 1;
        }
    }
    count
}

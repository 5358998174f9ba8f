//! Folding on any processor.

use super::{Cell, Has, Left, Places, Run};
use crate::aggregate::{
    min_max::{widen_floats, widen_ints},
    most_frequent::{PLACES, count_in_place},
    sum,
};

#[inline(never)]
pub(super) fn fold(
    places: &Places,
    row: &mut [u64],
    floats: &[f64],
    ints: &[i64],
    has: impl Has,
) -> Left {
    let mut left = Left::NOTHING;
    for (from, to) in places.float_sums.iter().flat_map(steps) {
        let split = sum::split(floats[from]);
        row[to] = row[to].wrapping_add(split.high);
        row[to + places.limbs] = row[to + places.limbs].wrapping_add(split.low);
        left = left.and(Left::OUTSIDE.when(!split.inside));
    }
    for (from, to) in places.int_sums.iter().flat_map(steps) {
        let (sum, wraps) = (row[to] as i64).overflowing_add(ints[from]);
        row[to] = sum as u64;
        left = left.and(Left::WRAPPED.when(wraps));
    }
    for Cell { from, to } in &places.flags {
        row[*to] += u64::from(ints[*from] != 0);
    }
    let has_int = |from: usize| has.bit(places.int_bit + from);
    for Cell { from, to } in places.float_ranges.iter().filter(|cell| has.bit(cell.from)) {
        widen_floats(&mut row[*to..][..2], floats[*from]);
    }
    for Cell { from, to } in places.int_ranges.iter().filter(|cell| has_int(cell.from)) {
        widen_ints(&mut row[*to..][..2], ints[*from]);
    }
    for code in places.codes.iter().filter(|code| has_int(code.from)) {
        let offset = u16::try_from(ints[code.from].wrapping_sub(code.low));
        let offset = offset.expect("decoding checks code ranges");
        let places = &mut row[code.to..][..code.groups * PLACES];
        left = left.and(Left::UNPLACED.when(!count_in_place(places, offset, 1)));
    }
    left
}

/// The numbers of a run with their words.
fn steps(run: &Run) -> impl Iterator<Item = (usize, usize)> + use<> {
    (run.from..run.from + run.count).zip(run.to..)
}

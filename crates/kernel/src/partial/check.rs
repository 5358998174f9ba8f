//! Refuses decoded states that no messages could have left.
//!
//! Reading has already bounded each number by itself; here they are held against each other, so
//! that whatever is merged behaves like a state of this process: it can be merged on, encoded and
//! emitted. It cannot tell a state of other messages from the true one.

use super::PartialError;
use crate::{
    aggregate::{
        first_last::{Decided, End},
        min_max::MinMax,
        sum::FloatSum,
    },
    plan::Plan,
    slots::Chunk,
    time::{Timestamp, WindowGrid},
    window::Window,
};

/// Checks the only state of `window`; `at` is the place that an error names.
pub(super) fn check(
    window: &Window,
    grid: WindowGrid,
    plan: &Plan,
    at: usize,
) -> Result<(), PartialError> {
    let (chunk, _) = window.chunk(0);
    let state = State { chunk, plan };
    let sound = [
        (state.quality_is_sound(window.end_ms(), grid), "times outside of the window"),
        (state.sums_are_sound(), "sum that its values cannot have"),
        (state.ranges_are_sound(), "minimum or maximum of no value"),
        (state.ends_are_sound(), "first or last value of no event"),
        (state.counts_are_sound(), "counts that contradict each other"),
    ];
    match sound.into_iter().find(|(sound, _)| !sound) {
        Some((_, problem)) => Err(PartialError { at, problem }),
        None => Ok(()),
    }
}

struct State<'a> {
    chunk: &'a Chunk,
    plan: &'a Plan,
}

impl State<'_> {
    fn present(&self, bit: usize) -> u32 {
        self.chunk.quality[0].record_count - self.chunk.absent[bit]
    }

    fn floats_present(&self, slot: u16) -> u32 {
        self.present(usize::from(slot))
    }

    fn ints_present(&self, slot: u16) -> u32 {
        self.present(self.plan.schema().float_count() + usize::from(slot))
    }

    fn texts_present(&self, slot: u16) -> u32 {
        let schema = self.plan.schema();
        self.present(schema.float_count() + schema.int_count() + usize::from(slot))
    }

    fn quality_is_sound(&self, end_ms: i64, grid: WindowGrid) -> bool {
        let quality = &self.chunk.quality[0];
        let Some(start_ms) = end_ms.checked_sub(grid.size_ms()) else {
            return false;
        };
        let is_covered = |time_ms: i64| {
            Timestamp::from_ms(time_ms)
                .is_some_and(|time| quality.coverage.bits() >> grid.slot(start_ms, time) & 1 == 1)
        };
        let (first_ms, last_ms) = (quality.first_event_time_ms, quality.last_event_time_ms);
        let inside = start_ms <= first_ms && first_ms <= last_ms && last_ms < end_ms;
        inside && is_covered(first_ms) && is_covered(last_ms)
    }

    fn sums_are_sound(&self) -> bool {
        let (chunk, plan) = (self.chunk, self.plan);
        let floats = plan.float_sums.iter().enumerate().all(|(at, slot)| {
            let cold = chunk.cold.get(&(0, at as u16));
            let zero = chunk.float_sums[at] == FloatSum::default() && cold.is_none();
            let present = self.floats_present(*slot);
            let reachable =
                cold.is_none_or(|cold| cold.is_reachable(present) && cold.to_units().is_none());
            if present == 0 { zero } else { reachable }
        });
        let ints = plan.int_sums.iter().zip(&chunk.int_sums).all(|(slot, sum)| {
            let bound = u128::from(self.ints_present(*slot)) << 63;
            sum.total().unsigned_abs() <= bound
        });
        floats && ints
    }

    fn ranges_are_sound(&self) -> bool {
        let (chunk, plan) = (self.chunk, self.plan);
        let floats = plan.float_ranges.iter().zip(&chunk.float_ranges).all(|(slot, range)| {
            let finite = range.min.is_finite() && range.max.is_finite() && range.min <= range.max;
            let empty = *range == MinMax::<f64>::EMPTY;
            if self.floats_present(*slot) == 0 { empty } else { finite }
        });
        let ints = plan.int_ranges.iter().zip(&chunk.int_ranges).all(|(slot, range)| {
            let empty = *range == MinMax::<i64>::EMPTY;
            if self.ints_present(*slot) == 0 { empty } else { range.min <= range.max }
        });
        floats && ints
    }

    fn ends_are_sound(&self) -> bool {
        let (chunk, plan) = (self.chunk, self.plan);
        let floats = plan.float_ends.iter().zip(&chunk.float_ends).all(|((slot, end), state)| {
            let time = self.end_is_sound(*end, state.time_ms, self.floats_present(*slot));
            let empty = *state == Decided::<f64>::empty(*end);
            time && state.value.is_finite() && (self.floats_present(*slot) > 0 || empty)
        });
        let ints = plan.int_ends.iter().zip(&chunk.int_ends).all(|((slot, end), state)| {
            let time = self.end_is_sound(*end, state.time_ms, self.ints_present(*slot));
            time && (self.ints_present(*slot) > 0 || *state == Decided::<i64>::empty(*end))
        });
        let texts = plan.text_ends.iter().zip(&chunk.text_ends).all(|((slot, end), state)| {
            self.end_is_sound(*end, state.time_ms, self.texts_present(*slot))
        });
        floats && ints && texts
    }

    fn end_is_sound(&self, end: End, time_ms: i64, present: u32) -> bool {
        let quality = &self.chunk.quality[0];
        let range = quality.first_event_time_ms..=quality.last_event_time_ms;
        if present == 0 { time_ms == end.farthest() } else { range.contains(&time_ms) }
    }

    fn counts_are_sound(&self) -> bool {
        let (chunk, plan) = (self.chunk, self.plan);
        let mut flags = plan.flags.iter().zip(&chunk.true_counts);
        let mut codes = plan.codes.iter().zip(&chunk.codes);
        flags.all(|(slot, count)| *count <= self.ints_present(*slot))
            && codes.all(|(code, counts)| {
                let total: u64 = counts.iter().map(|(_, count)| u64::from(count)).sum();
                let known = counts.iter().all(|(offset, _)| u32::from(offset) < code.width);
                known && total == u64::from(self.ints_present(code.slot))
            })
    }
}

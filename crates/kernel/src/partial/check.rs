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
    slots::states::States,
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
    let state = State { states: window.states(plan, 0), plan };
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
    states: States<'a>,
    plan: &'a Plan,
}

impl State<'_> {
    fn floats_present(&self, slot: u16) -> u32 {
        self.states.present(usize::from(slot))
    }

    fn ints_present(&self, slot: u16) -> u32 {
        self.states.present(self.plan.schema().float_count() + usize::from(slot))
    }

    fn texts_present(&self, slot: u16) -> u32 {
        let schema = self.plan.schema();
        self.states.present(schema.float_count() + schema.int_count() + usize::from(slot))
    }

    fn quality_is_sound(&self, end_ms: i64, grid: WindowGrid) -> bool {
        let quality = self.states.quality();
        let Some(start_ms) = end_ms.checked_sub(grid.size_ms()) else {
            return false;
        };
        let is_covered = |time_ms: i64| {
            Timestamp::from_ms(time_ms)
                .is_some_and(|time| quality.coverage.bits() >> grid.slot(start_ms, time) & 1 == 1)
        };
        let (first_ms, last_ms) = (quality.first_event_time_ms, quality.last_event_time_ms);
        // Setting them has held them against the window.
        first_ms <= last_ms && is_covered(first_ms) && is_covered(last_ms)
    }

    fn sums_are_sound(&self) -> bool {
        let floats = self.plan.float_sums.iter().enumerate().all(|(index, slot)| {
            let (hot, cold) = self.states.float_sum(index);
            let present = self.floats_present(*slot);
            let zero = hot == FloatSum::default() && cold.is_none();
            let reachable = cold.is_none_or(|cold| cold.is_reachable(present));
            if present == 0 { zero } else { reachable }
        });
        let ints = self.plan.int_sums.iter().enumerate().all(|(index, slot)| {
            let bound = u128::from(self.ints_present(*slot)) << 63;
            self.states.int_sum(index).total().unsigned_abs() <= bound
        });
        floats && ints
    }

    fn ranges_are_sound(&self) -> bool {
        let floats = self.plan.float_ranges.iter().enumerate().all(|(index, slot)| {
            let range = self.states.float_range(index);
            let finite = range.min.is_finite() && range.max.is_finite() && range.min <= range.max;
            let empty = range == MinMax::<f64>::EMPTY;
            if self.floats_present(*slot) == 0 { empty } else { finite }
        });
        let ints = self.plan.int_ranges.iter().enumerate().all(|(index, slot)| {
            let range = self.states.int_range(index);
            let empty = range == MinMax::<i64>::EMPTY;
            if self.ints_present(*slot) == 0 { empty } else { range.min <= range.max }
        });
        floats && ints
    }

    fn ends_are_sound(&self) -> bool {
        let floats = self.plan.float_ends.iter().enumerate().all(|(index, (slot, end))| {
            let state = self.states.float_end(index);
            let time = self.end_is_sound(*end, state.time_ms, self.floats_present(*slot));
            let empty = state == Decided::<f64>::empty(*end);
            time && state.value.is_finite() && (self.floats_present(*slot) > 0 || empty)
        });
        let ints = self.plan.int_ends.iter().enumerate().all(|(index, (slot, end))| {
            let state = self.states.int_end(index);
            let time = self.end_is_sound(*end, state.time_ms, self.ints_present(*slot));
            time && (self.ints_present(*slot) > 0 || state == Decided::<i64>::empty(*end))
        });
        let texts = self.plan.text_ends.iter().enumerate().all(|(index, (slot, end))| {
            let (time_ms, _) = self.states.text_end(index);
            self.end_is_sound(*end, time_ms, self.texts_present(*slot))
        });
        floats && ints && texts
    }

    fn end_is_sound(&self, end: End, time_ms: i64, present: u32) -> bool {
        let quality = self.states.quality();
        let range = quality.first_event_time_ms..=quality.last_event_time_ms;
        if present == 0 { time_ms == end.farthest() } else { range.contains(&time_ms) }
    }

    fn counts_are_sound(&self) -> bool {
        let mut flags = self.plan.flags.iter().enumerate();
        let mut codes = self.plan.codes.iter().enumerate();
        flags.all(|(index, slot)| self.states.true_count(index) <= self.ints_present(*slot))
            && codes.all(|(index, code)| {
                let counts = || self.states.codes(index);
                let total: u64 = counts().map(|(_, count)| u64::from(count)).sum();
                let known = counts().all(|(offset, _)| u32::from(offset) < code.width);
                known && total == u64::from(self.ints_present(code.slot))
            })
    }
}

//! Folding a message into a row: what happens for every message, so what decides the speed.
//!
//! A complete message between the first and the last of its device changes no first or last value,
//! and nearly every message is one. What few messages need is kept out of the way, in functions of
//! its own. Measured by benches/fold.rs, counted by bench/check.py.

use super::{
    CARRY_EVERY, Chunk, Moment, append,
    layout::{COUNTS, COVERAGE, HEADER, KEY, MIXED, TIMES, span, unspan},
};
use crate::{
    aggregate::{
        first_last::{End, rank_of},
        most_frequent::{count_in_place, counted_in_place},
        sum,
    },
    event::{Message, Text},
    plan::Plan,
    processor::row::{All, Left},
};

impl Chunk {
    /// Folds an event into a row; returns false, and changes nothing, if the row is not that of its
    /// key, or if it counts 2^32 - 1 messages already.
    #[inline]
    #[must_use]
    pub(crate) fn fold(
        &mut self,
        plan: &Plan,
        row: usize,
        event: &Message<'_>,
        moment: Moment,
    ) -> bool {
        let layout = &plan.layout;
        let words = &mut self.words[self.skip + row * self.row_words..];
        let header = words.first_chunk_mut::<HEADER>().expect("every row has a header");
        let (start, length) = unspan(header[KEY]);
        let key = event.key_place();
        if length != key.len() || !key.stands_at(&self.bytes[start..]) {
            return false;
        }
        let Some(record_count) = (header[COUNTS] as u32).checked_add(1) else {
            return false;
        };
        let invalid_count = ((header[COUNTS] >> 32) as u32).saturating_add(event.invalid_count());
        header[COUNTS] = u64::from(invalid_count) << 32 | u64::from(record_count);
        let (first_ms, last_ms) = (header[TIMES] as u32, (header[TIMES] >> 32) as u32);
        header[TIMES] = u64::from(last_ms.max(moment.offset_ms)) << 32
            | u64::from(first_ms.min(moment.offset_ms));
        // Nearly every message stands between the first and the last one of its device.
        let decides = (layout.has_first_ends & (moment.offset_ms <= first_ms))
            | (layout.has_last_ends & (moment.offset_ms >= last_ms))
            | (header[COVERAGE] & MIXED != 0);
        header[COVERAGE] |= 1 << moment.coverage_slot;
        let (floats, ints) = event.numbers_on();
        let left = Left::DECIDES
            .when(decides)
            .and(Left::CARRIES.when(record_count.is_multiple_of(CARRY_EVERY)));
        let left = left.and(if event.is_complete() {
            plan.folder.fold(words, floats, ints, All)
        } else {
            plan.folder.fold(words, floats, ints, event.presence()).and(Left::INCOMPLETE)
        });
        if left != Left::NOTHING {
            self.fold_rest(plan, row, event, moment, left);
        }
        true
    }

    /// Does what few messages need.
    #[inline(never)]
    fn fold_rest(
        &mut self,
        plan: &Plan,
        row: usize,
        event: &Message<'_>,
        moment: Moment,
        left: Left,
    ) {
        if left.has(Left::INCOMPLETE) {
            let counts = self.absent_mut(row);
            event.absent().for_each(|bit| counts[bit] += 1);
        }
        if left.has(Left::DECIDES) {
            // Where most messages are the first of their device and minute, this is most of it.
            if !left.has(Left::INCOMPLETE) && self.row(row)[COUNTS] as u32 == 1 {
                self.begin_ends(plan, row, event, moment);
            } else {
                self.fold_ends(plan, row, event, moment);
            }
        }
        if left.has(Left::RARE) {
            self.fold_rare(plan, row, event, left);
        }
    }

    /// Sets the first and last values of a row whose first message it is, and lacks none.
    fn begin_ends(&mut self, plan: &Plan, row: usize, event: &Message<'_>, moment: Moment) {
        let ranks = [End::First, End::Last].map(|end| rank_of(end, moment.offset_ms));
        let (floats, ints) = (event.floats(), event.ints());
        let words = &mut self.words[self.skip + row * self.row_words..][..self.row_words];
        let (ends, _) = words[plan.layout.float_ends.clone()].as_chunks_mut::<2>();
        for (state, (slot, end)) in ends.iter_mut().zip(&plan.float_ends) {
            *state = [ranks[*end as usize], floats[usize::from(*slot)].to_bits()];
        }
        let (ends, _) = words[plan.layout.int_ends.clone()].as_chunks_mut::<2>();
        for (state, (slot, end)) in ends.iter_mut().zip(&plan.int_ends) {
            *state = [ranks[*end as usize], ints[usize::from(*slot)] as u64];
        }
        let (ends, _) = words[plan.layout.text_ends.clone()].as_chunks_mut::<2>();
        for (state, (slot, end)) in ends.iter_mut().zip(&plan.text_ends) {
            let text = event.text_place(*slot).expect("a complete message has all texts");
            let start = append(&mut self.bytes, text);
            *state = [(text.len() as u64) << 32 | ranks[*end as usize], span(start, text.len())];
        }
    }

    /// Folds the first and last values; notes where the message lacks one.
    fn fold_ends(&mut self, plan: &Plan, row: usize, event: &Message<'_>, moment: Moment) {
        let ranks = [End::First, End::Last].map(|end| rank_of(end, moment.offset_ms));
        let mut lacks = false;
        let words = self.row_mut(row);
        let (ends, _) = words[plan.layout.float_ends.clone()].as_chunks_mut::<2>();
        for (state, (slot, end)) in ends.iter_mut().zip(&plan.float_ends) {
            let rank = ranks[*end as usize];
            match event.float(*slot) {
                Some(value) => {
                    if rank > state[0] || (rank == state[0] && value < f64::from_bits(state[1])) {
                        *state = [rank, value.to_bits()];
                    }
                }
                None => lacks = true,
            }
        }
        let (ends, _) = words[plan.layout.int_ends.clone()].as_chunks_mut::<2>();
        for (state, (slot, end)) in ends.iter_mut().zip(&plan.int_ends) {
            let rank = ranks[*end as usize];
            match event.int(*slot) {
                Some(value) => {
                    if rank > state[0] || (rank == state[0] && value < state[1] as i64) {
                        *state = [rank, value as u64];
                    }
                }
                None => lacks = true,
            }
        }
        for (index, (slot, end)) in plan.text_ends.iter().enumerate() {
            match event.text_place(*slot) {
                Some(text) => self.add_text(plan, row, index, ranks[*end as usize], text),
                None => lacks = true,
            }
        }
        if lacks {
            self.row_mut(row)[COVERAGE] |= MIXED;
        }
    }

    /// Sees to values outside of the hot domain, codes without a place, and so on.
    #[cold]
    fn fold_rare(&mut self, plan: &Plan, row: usize, event: &Message<'_>, left: Left) {
        if left.has(Left::OUTSIDE) {
            self.move_to_cold(plan, row, event);
        }
        if left.has(Left::WRAPPED) {
            self.unwrap_ints(plan, row, event);
        }
        if left.has(Left::UNPLACED) {
            self.spill_codes(plan, row, event);
        }
        if left.has(Left::CARRIES) {
            (0..plan.float_sums.len()).for_each(|at| self.carry(plan, row, at));
        }
    }

    /// Moves integer sums that have wrapped to where there is room.
    fn unwrap_ints(&mut self, plan: &Plan, row: usize, event: &Message<'_>) {
        for (index, slot) in plan.int_sums.iter().enumerate() {
            let value = event.ints()[usize::from(*slot)];
            let state = &mut self.row_mut(row)[plan.layout.int_sums.start + index];
            // The sum has wrapped if it is not what adding exactly gives.
            let sum = *state as i64;
            let before = sum.wrapping_sub(value);
            if before.checked_add(value).is_none() {
                *state = value as u64;
                *self.cold_ints.entry((row as u16, index as u16)).or_default() +=
                    i128::from(before);
            }
        }
    }

    /// Counts codes that found no place.
    fn spill_codes(&mut self, plan: &Plan, row: usize, event: &Message<'_>) {
        for (index, code) in plan.codes.iter().enumerate() {
            if let Some(code) = event.int(code.slot).and_then(|value| code.offset(value)) {
                let places = self.code_places(plan, row, index);
                let is_placed = counted_in_place(places).any(|(known, _)| known == code);
                if !is_placed {
                    self.add_code(plan, row, index, code, 1);
                }
            }
        }
    }

    /// Takes the values outside of the hot domain out of the limbs again.
    fn move_to_cold(&mut self, plan: &Plan, row: usize, event: &Message<'_>) {
        let count = plan.float_sums.len();
        for (index, slot) in plan.float_sums.iter().enumerate() {
            let value = event.floats()[usize::from(*slot)];
            let split = sum::split(value);
            if !split.inside {
                let at = plan.layout.float_sums.start + index;
                let words = self.row_mut(row);
                words[at] = words[at].wrapping_sub(split.high);
                words[at + count] = words[at + count].wrapping_sub(split.low);
                self.cold.entry((row as u16, index as u16)).or_default().add(value);
            }
        }
    }

    /// Makes the limbs of a sum small; what does not fit goes to the wide sum.
    fn carry(&mut self, plan: &Plan, row: usize, index: usize) {
        let at = plan.layout.float_sums.start + index;
        let count = plan.float_sums.len();
        let words = self.row_mut(row);
        let units = sum::units(words[at], words[at + count]);
        let limbs = sum::limbs(units);
        (words[at], words[at + count]) = limbs.unwrap_or((0, 0));
        if limbs.is_none() {
            self.cold.entry((row as u16, index as u16)).or_default().add_units(units);
        }
    }

    /// Returns how many messages of a row lack each value.
    #[inline]
    pub(super) fn absent_mut(&mut self, row: usize) -> &mut [u32] {
        let start = row * self.presence_bits;
        if start >= self.absent.len() {
            // Not for all rows that there is room for: few devices may lack anything.
            let rows = (row + 1).next_power_of_two();
            self.absent.resize(rows * self.presence_bits, 0);
        }
        &mut self.absent[start..][..self.presence_bits]
    }

    pub(super) fn add_code(
        &mut self,
        plan: &Plan,
        row: usize,
        index: usize,
        code: u16,
        count: u32,
    ) {
        let places = &mut self.row_mut(row)[plan.layout.code(index)];
        if !count_in_place(places, code, count) {
            let spilled = self.spilled_codes.entry((row as u16, index as u16)).or_default();
            spilled.add(code, count);
        }
    }

    /// Returns the places of a code.
    pub(super) fn code_places(&self, plan: &Plan, row: usize, index: usize) -> &[u64] {
        &self.row(row)[plan.layout.code(index)]
    }

    /// Takes a text in, by the rule of [`Decided`](crate::aggregate::first_last::Decided) for
    /// values of any length.
    #[inline]
    pub(super) fn add_text(
        &mut self,
        plan: &Plan,
        row: usize,
        index: usize,
        rank: u64,
        text: Text<'_>,
    ) {
        let at = self.skip + row * self.row_words + plan.layout.text_ends.start + 2 * index;
        let [state, known] = &mut self.words[at..at + 2] else {
            unreachable!("two words were taken");
        };
        let known_rank = u64::from(*state as u32);
        if rank < known_rank {
            return;
        }
        let (start, length) = unspan(*known);
        if length == text.len() && text.stands_at(&self.bytes[start..]) {
            // Attributes hardly ever change.
            *state = *state >> 32 << 32 | rank;
        } else if rank > known_rank || text.as_bytes() < &self.bytes[start..][..length] {
            self.replace_text(at, rank, text.as_bytes());
        }
    }

    /// Sets the text whose state stands at a word.
    #[inline(never)]
    fn replace_text(&mut self, at: usize, rank: u64, text: &[u8]) {
        let (mut start, _) = unspan(self.words[at + 1]);
        let mut capacity = (self.words[at] >> 32) as usize;
        if text.len() > capacity {
            // Doubling bounds what replaced texts leave behind to the longest one twice.
            capacity = text.len().max(capacity * 2);
            start = append(&mut self.bytes, text.into());
            self.bytes.resize(start + capacity, 0);
        } else {
            self.bytes[start..][..text.len()].copy_from_slice(text);
        }
        self.words[at] = (capacity as u64) << 32 | rank;
        self.words[at + 1] = span(start, text.len());
    }
}

//! What a message changes in the row of its device: a list of places, checked once against the
//! length of a row and the numbers of a message, so that the processor's vectors may go through
//! them without asking again for every message.
//!
//! Which processor there is decides the speed, never a result: `portable.rs` does the same
//! without unsafe code, and is what runs where there is no AVX2.

use alloc::vec::Vec;

use crate::event::Presence;

mod portable;

/// Numbers next to each other that are added to words next to each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// The first number.
    pub(crate) from: usize,
    /// The first word.
    pub(crate) to: usize,
    pub(crate) count: usize,
}

/// A number and the first of the words that it changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// Groups cells of ascending places into runs of neighbours.
pub(crate) fn runs(cells: &[Cell]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for Cell { from, to } in cells.iter().copied() {
        match runs.last_mut() {
            Some(run) if (run.from + run.count, run.to + run.count) == (from, to) => run.count += 1,
            _ => runs.push(Run { from, to, count: 1 }),
        }
    }
    runs
}

/// A code: the number, the places where it is counted, and the smallest code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodeCell {
    pub(crate) from: usize,
    /// The first word of the first group of [`PLACES`](crate::aggregate::most_frequent::PLACES).
    pub(crate) to: usize,
    pub(crate) groups: usize,
    pub(crate) low: i64,
}

/// Which numbers a message has, asked for only where a 0 in place of an absent one would count.
pub(crate) trait Has: Copy {
    /// Returns whether a number is there, by its presence bit.
    fn bit(self, bit: usize) -> bool;
}

/// A message that lacks nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct All;

impl Has for All {
    #[inline(always)]
    fn bit(self, _: usize) -> bool {
        true
    }
}

impl Has for Presence<'_> {
    #[inline(always)]
    fn bit(self, bit: usize) -> bool {
        Presence::bit(self, bit)
    }
}

/// The places of all states that messages change but for first and last values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// High limbs; the low ones are `limbs` words behind.
    pub(crate) float_sums: Vec<Run>,
    pub(crate) limbs: usize,
    pub(crate) int_sums: Vec<Run>,
    pub(crate) flags: Vec<Cell>,
    /// Least and greatest, a word each.
    pub(crate) float_ranges: Vec<Cell>,
    /// Least and greatest, a word each.
    pub(crate) int_ranges: Vec<Cell>,
    pub(crate) codes: Vec<CodeCell>,
    /// The presence bit of the first integer; that of the first float is 0.
    pub(crate) int_bit: usize,
}

/// What of a message is left to be seen to elsewhere, a bit each: one look says that there is
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left(u8);

impl Left {
    /// There is nothing.
    pub(crate) const NOTHING: Left = Left(0);
    /// A float was outside of the hot domain of [`sum`](crate::aggregate::sum). What it added is
    /// what `sum::split` says.
    pub(crate) const OUTSIDE: Left = Left(1);
    /// An integer sum has wrapped.
    pub(crate) const WRAPPED: Left = Left(1 << 1);
    /// A code found no place.
    pub(crate) const UNPLACED: Left = Left(1 << 2);
    /// The message lacks fields.
    pub(crate) const INCOMPLETE: Left = Left(1 << 3);
    /// A first or last value may be the message's.
    pub(crate) const DECIDES: Left = Left(1 << 4);
    /// The limbs of sums are to be made small.
    pub(crate) const CARRIES: Left = Left(1 << 5);
    /// Any of what few messages leave.
    pub(crate) const RARE: Left =
        Left(Left::OUTSIDE.0 | Left::WRAPPED.0 | Left::UNPLACED.0 | Left::CARRIES.0);

    /// Returns this if it is so, nothing otherwise.
    #[inline]
    pub(crate) fn when(self, is_so: bool) -> Left {
        if is_so { self } else { Left::NOTHING }
    }

    /// Returns both.
    #[inline]
    pub(crate) fn and(self, other: Left) -> Left {
        Left(self.0 | other.0)
    }

    #[inline]
    pub(crate) fn has(self, part: Left) -> bool {
        self.0 & part.0 != 0
    }
}

/// Folds messages of one schema into rows of one layout.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowFolder {
    places: Places,
    /// The length of a row.
    words: usize,
    /// How many numbers a message has.
    floats: usize,
    ints: usize,
    #[cfg(target_arch = "x86_64")]
    avx2: Option<avx2::Avx2>,
}

impl RowFolder {
    /// Returns a folder for rows of so many words and messages of so many floats and integers.
    ///
    /// # Panics
    /// If any place is beyond one of them.
    pub(crate) fn new(places: Places, words: usize, floats: usize, ints: usize) -> RowFolder {
        let within = |first: usize, count: usize, length: usize| {
            let end = first.checked_add(count).expect("places are small numbers");
            assert!(end <= length, "a place beyond its row or message: {end} of {length}");
        };
        for run in &places.float_sums {
            within(run.from, run.count, floats);
            within(run.to, run.count, words);
            within(run.to + places.limbs, run.count, words);
        }
        for run in &places.int_sums {
            within(run.from, run.count, ints);
            within(run.to, run.count, words);
        }
        places.flags.iter().for_each(|cell| within(cell.to, 1, words));
        let ranges = || places.float_ranges.iter().chain(&places.int_ranges);
        ranges().for_each(|cell| within(cell.to, 2, words));
        places.float_ranges.iter().for_each(|cell| within(cell.from, 1, floats));
        let int_cells = places.flags.iter().chain(&places.int_ranges);
        int_cells.for_each(|cell| within(cell.from, 1, ints));
        for code in &places.codes {
            within(code.from, 1, ints);
            within(code.to, code.groups * crate::aggregate::most_frequent::PLACES, words);
        }
        RowFolder {
            places,
            words,
            floats,
            ints,
            #[cfg(target_arch = "x86_64")]
            avx2: avx2::Avx2::detect(),
        }
    }

    /// Folds a message's numbers into a row. Absent ones are 0, which sums and flags take as it is.
    ///
    /// # Panics
    /// If the row or the numbers are fewer than this was made for, or if a code is none.
    #[inline]
    pub(crate) fn fold(
        &self,
        row: &mut [u64],
        floats: &[f64],
        ints: &[i64],
        has: impl Has,
    ) -> Left {
        let fits = row.len() >= self.words && floats.len() >= self.floats;
        assert!(fits && ints.len() >= self.ints, "a row or message of another schema");
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = self.avx2 {
            return avx2.fold(self, row, floats, ints, has);
        }
        portable::fold(&self.places, row, floats, ints, has)
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! Sound because `RowFolder::new` has compared every place with the lengths, and
    //! `RowFolder::fold`, which alone comes here, the lengths with those of what it was given. All
    //! loads and stores are unaligned ones.
    #![expect(unsafe_code, reason = "see above")]

    use core::arch::x86_64::*;

    use super::{CodeCell, Has, Left, RowFolder};
    use crate::aggregate::{
        most_frequent::{COUNT_BITS, PLACES},
        sum::{COARSE, FINE},
    };

    cpufeatures::new!(has_avx2, "avx2");

    /// The proof that this processor has AVX2.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Avx2(());

    impl Avx2 {
        pub(super) fn detect() -> Option<Avx2> {
            has_avx2::get().then_some(Avx2(()))
        }

        #[inline]
        pub(super) fn fold(
            self,
            folder: &RowFolder,
            row: &mut [u64],
            floats: &[f64],
            ints: &[i64],
            has: impl Has,
        ) -> Left {
            debug_assert!(row.len() >= folder.words && floats.len() >= folder.floats);
            // SAFETY: `detect` saw AVX2; for the places see above.
            unsafe { fold(folder, row.as_mut_ptr(), floats.as_ptr(), ints.as_ptr(), has) }
        }
    }

    #[target_feature(enable = "avx2")]
    unsafe fn fold(
        folder: &RowFolder,
        row: *mut u64,
        floats: *const f64,
        ints: *const i64,
        has: impl Has,
    ) -> Left {
        let places = &folder.places;
        // SAFETY: see above.
        unsafe {
            let mut left = add_floats(folder, row, floats).and(add_ints(folder, row, ints));
            for flag in &places.flags {
                *row.add(flag.to) += u64::from(*ints.add(flag.from) != 0);
            }
            for range in &places.float_ranges {
                if has.bit(range.from) {
                    let state = row.add(range.to).cast::<f64>();
                    let value = _mm_load_sd(floats.add(range.from));
                    _mm_store_sd(state, _mm_min_sd(value, _mm_load_sd(state)));
                    let state = state.add(1);
                    _mm_store_sd(state, _mm_max_sd(value, _mm_load_sd(state)));
                }
            }
            for range in &places.int_ranges {
                if has.bit(places.int_bit + range.from) {
                    let state = row.add(range.to).cast::<i64>();
                    let value = *ints.add(range.from);
                    *state = value.min(*state);
                    *state.add(1) = value.max(*state.add(1));
                }
            }
            for code in &places.codes {
                if has.bit(places.int_bit + code.from) {
                    left = left.and(count_code(code, row, *ints.add(code.from)));
                }
            }
            left
        }
    }

    /// See [`sum`](crate::aggregate::sum).
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn add_floats(folder: &RowFolder, row: *mut u64, floats: *const f64) -> Left {
        let (coarse_unit, fine_unit) = (_mm256_set1_pd(COARSE), _mm256_set1_pd(FINE));
        let (mut inexact, mut changed) = (_mm256_setzero_pd(), _mm256_setzero_pd());
        // Returns what the limbs of four values grow by.
        let mut split = |value: __m256d| {
            let coarse = _mm256_add_pd(value, coarse_unit);
            let rest = _mm256_sub_pd(value, _mm256_sub_pd(coarse, coarse_unit));
            let fine = _mm256_add_pd(rest, fine_unit);
            let left = _mm256_sub_pd(rest, _mm256_sub_pd(fine, fine_unit));
            inexact = _mm256_or_pd(inexact, left);
            changed = _mm256_or_pd(changed, _mm256_xor_pd(coarse, coarse_unit));
            let above =
                |part, unit| _mm256_sub_epi64(_mm256_castpd_si256(part), _mm256_castpd_si256(unit));
            [above(coarse, coarse_unit), above(fine, fine_unit)]
        };
        let limbs = folder.places.limbs;
        for run in &folder.places.float_sums {
            // SAFETY: see above; each step is within the run.
            unsafe {
                let (mut value, mut high) = (floats.add(run.from), row.add(run.to));
                for _ in 0..run.count / 4 {
                    let grown = split(_mm256_loadu_pd(value));
                    for (state, by) in [high, high.add(limbs)].into_iter().zip(grown) {
                        let state = state.cast::<__m256i>();
                        _mm256_storeu_si256(state, _mm256_add_epi64(_mm256_loadu_si256(state), by));
                    }
                    (value, high) = (value.add(4), high.add(4));
                }
                if run.count & 2 != 0 {
                    let grown = split(_mm256_zextpd128_pd256(_mm_loadu_pd(value)));
                    for (state, by) in [high, high.add(limbs)].into_iter().zip(grown) {
                        let (state, by) = (state.cast::<__m128i>(), _mm256_castsi256_si128(by));
                        _mm_storeu_si128(state, _mm_add_epi64(_mm_loadu_si128(state), by));
                    }
                    (value, high) = (value.add(2), high.add(2));
                }
                if run.count & 1 != 0 {
                    let grown = split(_mm256_zextpd128_pd256(_mm_load_sd(value)));
                    for (state, by) in [high, high.add(limbs)].into_iter().zip(grown) {
                        let by = _mm_cvtsi128_si64(_mm256_castsi256_si128(by)) as u64;
                        *state = (*state).wrapping_add(by);
                    }
                }
            }
        }
        let exponents = _mm256_castsi256_pd(_mm256_set1_epi64x((0xfff_u64 << 52) as i64));
        let outside = _mm256_castpd_si256(_mm256_or_pd(inexact, _mm256_and_pd(changed, exponents)));
        Left::OUTSIDE.when(_mm256_testz_si256(outside, outside) == 0)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn add_ints(folder: &RowFolder, row: *mut u64, ints: *const i64) -> Left {
        let mut wrapped = _mm256_setzero_si256();
        let mut last_wrapped = 0;
        for run in &folder.places.int_sums {
            // SAFETY: see above; each step is within the run.
            unsafe {
                let (mut value, mut state) = (ints.add(run.from), row.add(run.to));
                for _ in 0..run.count / 4 {
                    let vector = state.cast::<__m256i>();
                    let (by, before) =
                        (_mm256_loadu_si256(value.cast()), _mm256_loadu_si256(vector));
                    let sum = _mm256_add_epi64(before, by);
                    // Both had the sign that the sum has not.
                    let turned =
                        _mm256_and_si256(_mm256_xor_si256(before, sum), _mm256_xor_si256(by, sum));
                    wrapped = _mm256_or_si256(wrapped, turned);
                    _mm256_storeu_si256(vector, sum);
                    (value, state) = (value.add(4), state.add(4));
                }
                for _ in 0..run.count % 4 {
                    let before = *state as i64;
                    let sum = before.wrapping_add(*value);
                    last_wrapped |= (before ^ sum) & (*value ^ sum);
                    *state = sum as u64;
                    (value, state) = (value.add(1), state.add(1));
                }
            }
        }
        let has_wrapped = _mm256_movemask_pd(_mm256_castsi256_pd(wrapped)) != 0;
        Left::WRAPPED.when(has_wrapped | (last_wrapped < 0))
    }

    /// See [`most_frequent`](crate::aggregate::most_frequent).
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn count_code(code: &CodeCell, row: *mut u64, value: i64) -> Left {
        let offset = u16::try_from(value.wrapping_sub(code.low));
        let known = u64::from(offset.expect("decoding checks code ranges")) << COUNT_BITS;
        // SAFETY: see above.
        let is_placed = (0..code.groups)
            .any(|group| unsafe { count_in_group(row.add(code.to + group * PLACES), known) });
        Left::UNPLACED.when(!is_placed)
    }

    /// Counts one more of a code in these places if one of them has it or is free.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn count_in_group(places: *mut u64, known: u64) -> bool {
        // SAFETY: see above.
        unsafe {
            // A place has the code above its count: either half may be what is looked for.
            let wanted = _mm256_set1_epi64x(known as i64);
            let equal = _mm256_cmpeq_epi32(_mm256_loadu_si256(places.cast()), wanted);
            let halves = _mm256_movemask_ps(_mm256_castsi256_ps(equal)) as u32;
            if halves == 0 {
                return false;
            }
            let place = places.add(halves.trailing_zeros() as usize / 2);
            *place = known | u64::from((*place as u32).saturating_add(1));
            true
        }
    }
}

#[cfg(test)]
mod tests;

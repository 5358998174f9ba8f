//! The end of a walk: staged numbers become the floats and integers of a row, four at a time.
//!
//! A number without digits, with a leading zero or of a shape that is none has a mantissa below
//! the least of its shape. That and the fields' ranges are compared for all numbers of all lanes,
//! and asked for once.

use std::{arch::x86_64::*, ops::Range};

use tidemill_kernel::{event::Rows, time::Timestamp};

use super::{
    Lane,
    long::sixteen_digits,
    plan::{KEY_PARTS_MAX, QuickPlan},
    settle::settle,
    simd::{load_floats, load_ints, load_pairs, load16, load32, store_floats, store_ints},
    table::Scale,
    walk::{KeyPart, Keys},
    work::{SLOTS, Stage, Work},
};
use crate::time;

/// Returns the mantissas of four staged numbers in the order 0, 2, 1, 3, each below 10^15.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn mantissas(digits: &[[u8; 16]; 4]) -> Option<__m256i> {
    let pairs = _mm256_set1_epi16(0x010a);
    let fours = _mm256_set1_epi32(0x0001_0064);
    let (low, high) = digits.as_flattened().split_first_chunk::<32>()?;
    let digit = _mm256_set1_epi8(15);
    let low = _mm256_and_si256(load32(low), digit);
    let low = _mm256_madd_epi16(_mm256_maddubs_epi16(low, pairs), fours);
    let high = _mm256_and_si256(load32(high.first_chunk()?), digit);
    let high = _mm256_madd_epi16(_mm256_maddubs_epi16(high, pairs), fours);
    // Each 64 bits hold a number's upper eight digits, then its lower eight.
    let eights = _mm256_madd_epi16(_mm256_packus_epi32(low, high), _mm256_set1_epi32(0x0001_2710));
    let upper = _mm256_mul_epu32(eights, _mm256_set1_epi64x(100_000_000));
    Some(_mm256_add_epi64(upper, _mm256_srli_epi64::<32>(eights)))
}

/// Returns integers below 2^52 as floats.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn as_floats(integers: __m256i) -> __m256d {
    // The bits of 2^52, whose last place is worth 1.
    let base = _mm256_set1_epi64x(0x4330_0000_0000_0000);
    let sum = _mm256_castsi256_pd(_mm256_or_si256(integers, base));
    _mm256_sub_pd(sum, _mm256_castsi256_pd(base))
}

/// Returns what four numbers are scaled by and their least mantissas, in the order 0, 2, 1, 3.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn scales(scales: &[Scale; 4]) -> (__m256d, __m256d) {
    let [first, second, third, fourth] = *scales;
    let (low, high) = (load_pairs(&[first, second]), load_pairs(&[third, fourth]));
    (_mm256_unpacklo_pd(low, high), _mm256_unpackhi_pd(low, high))
}

/// Converts the numbers of all lanes into their rows and ends these; `None` if some number is none.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline(never)]
pub(super) fn finish<const L: usize>(
    plan: &QuickPlan,
    lanes: &[Lane; L],
    keys: &Keys<L>,
    work: &mut Work<'_>,
    rows: &mut Rows<'_>,
) -> Option<()> {
    let zero = _mm256_setzero_pd();
    let mut faults = Faults { invalid: zero, beyond: zero };
    let stages = work.stages.first_chunk::<L>()?;
    convert_floats(plan, stages, rows.all_floats::<L>(), &mut faults)?;
    convert_ints(plan, stages, rows.all_ints::<L>(), &mut faults)?;
    if plan.groups > plan.first_other {
        for lane in 0..L {
            check_others(&work.stages[lane], plan.first_other..plan.groups, &mut faults)?;
        }
    }
    if _mm256_movemask_pd(faults.invalid) != 0 {
        return None;
    }
    let mut is_beyond = _mm256_movemask_pd(faults.beyond) != 0;
    for long in &work.memory.long_floats {
        let value = long.value.value(work.buffer)?;
        let (group, place) = (usize::from(long.slot) / 4, usize::from(long.slot) % 4);
        // Numbers that nobody wants have to be some, too.
        if let Some([low, high]) = plan.float_ranges.get(group) {
            is_beyond |= !(low[place] <= value && value <= high[place]);
            rows.floats(long.lane)[group][place] = value;
        }
    }
    rows.set_presence(L, &plan.presence);
    for (lane, keys) in keys.iter().enumerate() {
        end_row::<L>(plan, lane, keys, work, rows)?;
    }
    if is_beyond || !work.memory.odd.is_empty() {
        settle(plan, lanes, is_beyond, work, rows);
    }
    Some(())
}

/// Writes what else a row has: its time and its key. One copy per number of
/// lanes has one caller each, and is inlined.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn end_row<const L: usize>(
    plan: &QuickPlan,
    lane: usize,
    keys: &[KeyPart; KEY_PARTS_MAX],
    work: &Work<'_>,
    rows: &mut Rows<'_>,
) -> Option<()> {
    let mut time = Timestamp::from_ms(work.times_ms[lane]);
    if plan.time_is_number && time.is_none() {
        let (slot, stage) = (usize::from(plan.time_stage), &work.stages[lane]);
        let [sign, least] = stage.scales[slot];
        let digits = _mm_and_si128(load16(&stage.digits[slot]), _mm_set1_epi8(15));
        let number = sixteen_digits(digits);
        if (number as f64) < f64::from_bits(least) {
            return None;
        }
        time = time::parse_number(sign != 0, number, 0, plan.time_unit);
    }
    let parts = keys.iter().take(plan.key_parts);
    let parts = parts.map(|(start, size)| (&work.buffer[*start..], *size));
    rows.finish(lane, time?, parts, plan.is_complete);
    Some(())
}

/// What was found wrong, as masks over four numbers.
struct Faults {
    /// Some number is none.
    invalid: __m256d,
    /// Some number is beyond its field's range.
    beyond: __m256d,
}

impl Faults {
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[inline]
    fn compare(&mut self, mantissa: __m256d, least: __m256d) {
        let is_less = _mm256_cmp_pd::<_CMP_NGE_UQ>(mantissa, least);
        self.invalid = _mm256_or_pd(self.invalid, is_less);
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn convert_floats<const L: usize>(
    plan: &QuickPlan,
    stages: &[Stage; L],
    mut rows: [&mut [[f64; 4]]; L],
    faults: &mut Faults,
) -> Option<()> {
    let count = plan.float_ranges.len();
    // Said before, no place is asked for in the loop.
    if count > SLOTS / 4 || rows.iter().any(|row| row.len() != count) {
        return None;
    }
    for (at, [low, high]) in plan.float_ranges.iter().enumerate() {
        for (stage, row) in stages.iter().zip(&mut rows) {
            let mantissa = as_floats(mantissas(stage.digits.as_chunks().0.get(at)?)?);
            let (divisor, least) = scales(stage.scales.as_chunks().0.get(at)?);
            faults.compare(mantissa, least);
            // Both operands are exact, so the one division rounds correctly. Adding 0 turns -0
            // to 0.
            let value = _mm256_add_pd(_mm256_div_pd(mantissa, divisor), _mm256_setzero_pd());
            let value = _mm256_permute4x64_pd::<0xd8>(value);
            let under = _mm256_cmp_pd::<_CMP_NGE_UQ>(value, load_floats(low));
            let over = _mm256_cmp_pd::<_CMP_NLE_UQ>(value, load_floats(high));
            faults.beyond = _mm256_or_pd(faults.beyond, _mm256_or_pd(under, over));
            store_floats(row.get_mut(at)?, value);
        }
    }
    Some(())
}

#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn convert_ints<const L: usize>(
    plan: &QuickPlan,
    stages: &[Stage; L],
    mut rows: [&mut [[i64; 4]]; L],
    faults: &mut Faults,
) -> Option<()> {
    let (first, count) = (plan.float_ranges.len(), plan.int_ranges.len());
    let are_there = first <= SLOTS / 4 && count <= SLOTS / 4 - first;
    if !are_there || rows.iter().any(|row| row.len() != count) {
        return None;
    }
    for (at, [low, high]) in plan.int_ranges.iter().enumerate() {
        for (stage, row) in stages.iter().zip(&mut rows) {
            let mantissa = mantissas(stage.digits.as_chunks().0.get(first + at)?)?;
            let (sign, least) = scales(stage.scales.as_chunks().0.get(first + at)?);
            faults.compare(as_floats(mantissa), least);
            let sign = _mm256_castpd_si256(sign);
            let value = _mm256_sub_epi64(_mm256_xor_si256(mantissa, sign), sign);
            let value = _mm256_permute4x64_epi64::<0xd8>(value);
            let under = _mm256_cmpgt_epi64(load_ints(low), value);
            let over = _mm256_cmpgt_epi64(value, load_ints(high));
            let out = _mm256_castsi256_pd(_mm256_or_si256(under, over));
            faults.beyond = _mm256_or_pd(faults.beyond, out);
            store_ints(row.get_mut(at)?, value);
        }
    }
    Some(())
}

/// Looks for what is no number among those that nobody wants.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn check_others(stage: &Stage, groups: Range<usize>, faults: &mut Faults) -> Option<()> {
    let digits = stage.digits.as_chunks::<4>().0.get(groups.clone())?;
    let scale = stage.scales.as_chunks::<4>().0.get(groups)?;
    for (digits, scale) in digits.iter().zip(scale) {
        let (_, least) = scales(scale);
        faults.compare(as_floats(mantissas(digits)?), least);
    }
    Some(())
}

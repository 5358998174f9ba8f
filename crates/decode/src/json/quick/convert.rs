//! The end of a walk: staged numbers become the floats and integers of a row, four at a time.
//!
//! A number without digits, with a leading zero or of a shape that is none has a mantissa below
//! the least of its shape. That and the fields' ranges are compared for all numbers, and asked
//! for once.

use std::arch::x86_64::*;

use tidemill_kernel::{event::Rows, time::Timestamp};

use super::{
    Lane,
    long::sixteen_digits,
    plan::{KEY_PARTS_MAX, QuickPlan},
    settle::settle,
    simd::{load_floats, load_ints, load_pairs, load16, load32, store_floats, store_ints},
    table::Scale,
    walk::KeyPart,
    work::{Stage, Work},
};
use crate::time;

/// Returns the mantissas of four staged numbers in the order 0, 2, 1, 3, each below 10^15.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn mantissas(digits: &[[u8; 16]; 4]) -> Option<__m256i> {
    let pairs = _mm256_set1_epi16(0x010a);
    let fours = _mm256_set1_epi32(0x0001_0064);
    let (low, high) = digits.as_flattened().split_first_chunk::<32>()?;
    let low = _mm256_madd_epi16(_mm256_maddubs_epi16(load32(low), pairs), fours);
    let high = load32(high.first_chunk()?);
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

/// What was found wrong, as masks over four numbers.
struct Faults {
    /// Some number is none.
    invalid: __m256d,
    /// Some number is beyond its field's range.
    beyond: __m256d,
}

/// Converts the numbers of a lane into its row and ends it.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
pub(super) fn finish(
    plan: &QuickPlan,
    lane: usize,
    from: Lane,
    keys: &[KeyPart; KEY_PARTS_MAX],
    work: &mut Work<'_>,
    rows: &mut Rows<'_>,
) -> Option<()> {
    let stage = &work.memory.stages[lane];
    let zero = _mm256_setzero_pd();
    let mut faults = Faults { invalid: zero, beyond: zero };
    convert_floats(plan, stage, rows.floats(lane), &mut faults)?;
    let mut is_beyond = false;
    for long in work.memory.long_floats.iter().filter(|long| long.lane == lane) {
        let value = long.value.value(work.buffer)?;
        let (group, place) = (usize::from(long.slot) / 4, usize::from(long.slot) % 4);
        // Numbers that nobody wants have to be some, too.
        if let Some([low, high]) = plan.float_ranges.get(group) {
            is_beyond |= !(low[place] <= value && value <= high[place]);
            rows.floats(lane)[group][place] = value;
        }
    }
    convert_ints(plan, stage, rows.ints(lane), &mut faults)?;
    if plan.groups > plan.first_other {
        let (digits, scale) = (stage.digits.as_chunks::<4>().0, stage.scales.as_chunks::<4>().0);
        let others = plan.first_other..plan.groups;
        for (digits, scale) in digits.get(others.clone())?.iter().zip(scale.get(others)?) {
            let (_, least) = scales(scale);
            faults.compare(as_floats(mantissas(digits)?), least);
        }
    }
    let mut time_ms = work.times_ms[lane];
    if plan.time_is_number && time_ms < 0 {
        let slot = usize::from(plan.time_stage);
        let [sign, least] = stage.scales[slot];
        let number = sixteen_digits(load16(&stage.digits[slot]));
        if (number as f64) < f64::from_bits(least) {
            return None;
        }
        time_ms = time::parse_number(sign != 0, number, 0, plan.time_unit)?.as_ms();
    }
    if _mm256_movemask_pd(faults.invalid) != 0 {
        return None;
    }
    let time = Timestamp::from_ms(time_ms)?;
    let parts = keys.iter().take(plan.key_parts);
    let parts = parts.map(|(start, size)| (&work.buffer[*start..], *size));
    match (rows.presence(lane), &plan.presence[..]) {
        // Most schemas have no more than 64 fields; this spares them a call.
        ([word], [present]) => *word = *present,
        (words, presence) => words.copy_from_slice(presence),
    }
    rows.finish(lane, time, parts, plan.is_complete);
    is_beyond |= _mm256_movemask_pd(faults.beyond) != 0;
    if is_beyond || !work.memory.odd.is_empty() {
        settle(plan, lane, from, is_beyond, work, rows);
    }
    Some(())
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
fn convert_floats(
    plan: &QuickPlan,
    stage: &Stage,
    row: &mut [[f64; 4]],
    faults: &mut Faults,
) -> Option<()> {
    let (digits, scale) = (stage.digits.as_chunks::<4>().0, stage.scales.as_chunks::<4>().0);
    let count = row.len();
    let (ranges, digits) = (plan.float_ranges.get(..count)?, digits.get(..count)?);
    let scale = scale.get(..count)?;
    for at in 0..count {
        let mantissa = as_floats(mantissas(&digits[at])?);
        let (divisor, least) = scales(&scale[at]);
        let [low, high] = &ranges[at];
        faults.compare(mantissa, least);
        // Both operands are exact, so the one division rounds correctly. Adding 0 turns -0 to 0.
        let value = _mm256_add_pd(_mm256_div_pd(mantissa, divisor), _mm256_setzero_pd());
        let value = _mm256_permute4x64_pd::<0xd8>(value);
        let under = _mm256_cmp_pd::<_CMP_NGE_UQ>(value, load_floats(low));
        let over = _mm256_cmp_pd::<_CMP_NLE_UQ>(value, load_floats(high));
        faults.beyond = _mm256_or_pd(faults.beyond, _mm256_or_pd(under, over));
        store_floats(&mut row[at], value);
    }
    Some(())
}

#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn convert_ints(
    plan: &QuickPlan,
    stage: &Stage,
    row: &mut [[i64; 4]],
    faults: &mut Faults,
) -> Option<()> {
    let (digits, scale) = (stage.digits.as_chunks::<4>().0, stage.scales.as_chunks::<4>().0);
    let (first, count) = (plan.float_ranges.len(), row.len());
    let (ranges, digits) = (plan.int_ranges.get(..count)?, digits.get(first..)?.get(..count)?);
    let scale = scale.get(first..)?.get(..count)?;
    for at in 0..count {
        let mantissa = mantissas(&digits[at])?;
        let (sign, least) = scales(&scale[at]);
        let [low, high] = &ranges[at];
        faults.compare(as_floats(mantissa), least);
        let sign = _mm256_castpd_si256(sign);
        let value = _mm256_sub_epi64(_mm256_xor_si256(mantissa, sign), sign);
        let value = _mm256_permute4x64_epi64::<0xd8>(value);
        let under = _mm256_cmpgt_epi64(load_ints(low), value);
        let over = _mm256_cmpgt_epi64(value, load_ints(high));
        let out = _mm256_castsi256_pd(_mm256_or_si256(under, over));
        faults.beyond = _mm256_or_pd(faults.beyond, out);
        store_ints(&mut row[at], value);
    }
    Some(())
}

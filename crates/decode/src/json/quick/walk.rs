//! The walk along a plan with several messages in lock step: each step's literal is compared in
//! all lanes, then its values are read in all lanes. One message alone is a chain in which each
//! value's end gives the next one's place; a second and third hide that wait.
//!
//! Numbers are not converted on the way: their digits are staged, right-aligned, with what they
//! are to be divided by and the least mantissa that has no leading zero (`table.rs`), and are
//! converted four at a time behind the last step. What a literal does not match goes to
//! `repair.rs`. Nothing here is unsafe: a step looks at one window of 64 bytes per lane, and
//! where there is no such window the walk ends without a verdict.

use std::arch::x86_64::*;

use tidemill_kernel::{event::Rows, time::Timestamp};

use super::{
    Lane,
    plan::{KEY_PARTS_MAX, Kind, QuickPlan},
    repair::{any_value, long_text, repair, settle, text_time},
    simd::{load_floats, load_ints, load_pairs, load16, load32, store_floats, store_ints, store16},
    table::{BOOLS, FLOATS, INTS, SHAPES, Scale, Shape},
    work::{Stage, Work},
};
use crate::time;

/// What a step looks at in each lane: a literal of at most 31 bytes and 32 bytes of value.
const WINDOW: usize = 64;

/// A part of the key: where it starts in the payload, and its length.
pub(super) type KeyPart = (u32, u32);

/// Reads messages of a plan's shape into rows; `None` if any has another shape, or may have.
#[target_feature(enable = "avx2,bmi1,bmi2")]
pub(super) fn read<const L: usize>(
    plan: &QuickPlan,
    lanes: &[Lane<'_>; L],
    work: &mut Work<'_>,
    rows: &mut Rows<'_>,
) -> Option<()> {
    let mut rest = lanes.map(|lane| lane.open);
    let mut starts = [0; L];
    let mut keys = [[(0, 0); KEY_PARTS_MAX]; L];
    for lane in 0..L {
        for slot in &plan.unused {
            work.memory.stages[lane].neutralise(*slot, plan.groups_of_rows());
        }
    }
    for (index, step) in plan.steps.iter().enumerate() {
        let literal = load32(&step.literal);
        loop {
            let mut differs = _mm256_setzero_si256();
            for text in rest {
                let there = load32(text.first_chunk::<WINDOW>()?.first_chunk()?);
                differs = _mm256_or_si256(differs, _mm256_xor_si256(there, literal));
            }
            if _mm256_testz_si256(differs, load32(&step.mask)) == 1 {
                break;
            }
            rest = repair(plan, index, lanes, rest, &starts, work)?;
        }
        let length = usize::from(step.length) & 31;
        macro_rules! number {
            ($stage:ident) => {
                for lane in 0..L {
                    let window = rest[lane].first_chunk::<WINDOW>()?;
                    starts[lane] = rest[lane].len();
                    let stage = &mut work.memory.stages[lane];
                    let advance = $stage(window[length..].first_chunk()?, stage, step.stage);
                    rest[lane] = &rest[lane][length + advance..];
                }
            };
        }
        match step.kind {
            Kind::Float => number!(stage_float),
            Kind::Int | Kind::TimeNumber => number!(stage_int),
            Kind::Bool => number!(stage_bool),
            Kind::Text | Kind::OtherText | Kind::Key => {
                for lane in 0..L {
                    let window = rest[lane].first_chunk::<WINDOW>()?;
                    let text: &[u8; 32] = window[length..].first_chunk()?;
                    let size = plain_length(text);
                    // Without any end `size` is 32, and the byte looked at is no quote either.
                    let is_ended = window[length + (size & 31)] == b'"';
                    if !is_ended || (step.kind == Kind::Key && size == 0) {
                        rest[lane] = long_text(
                            plan,
                            index,
                            lane,
                            &lanes[lane],
                            rest[lane],
                            &mut keys[lane],
                            work,
                            rows,
                        )?;
                        continue;
                    }
                    if step.kind == Kind::Text {
                        rows.set_short_text(lane, step.slot, text, size);
                    } else if step.kind == Kind::Key {
                        let start = lanes[lane].open.len() - rest[lane].len() + length;
                        keys[lane][usize::from(step.slot) % KEY_PARTS_MAX] =
                            (start as u32, size as u32);
                    }
                    rest[lane] = &rest[lane][length + size + 1..];
                }
            }
            Kind::TimeText => {
                for lane in 0..L {
                    let window = rest[lane].first_chunk::<WINDOW>()?;
                    let found = work.memory.times.read(window[length..].first_chunk()?);
                    rest[lane] = match found {
                        Some(time_ms) if window[length + 24] == b'"' => {
                            work.times_ms[lane] = time_ms;
                            &rest[lane][length + 25..]
                        }
                        _ => text_time(plan, index, lane, &lanes[lane], rest[lane], work)?,
                    };
                }
            }
            Kind::Any => {
                for lane in 0..L {
                    rest[lane] = any_value(plan, index, lane, &lanes[lane], rest[lane], work)?;
                }
            }
            Kind::More | Kind::End => {
                for text in &mut rest {
                    *text = &text[length..];
                }
            }
        }
    }
    for lane in 0..L {
        if rest[lane].len() != lanes[lane].open.len() - lanes[lane].payload.len() {
            return None;
        }
        finish(plan, lane, &lanes[lane], &keys[lane], work, rows)?;
    }
    Some(())
}

/// Marks the characters that are no decimal digits.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn others(text: __m128i) -> u32 {
    // Moved so, digits are the ten largest of the signed bytes.
    let moved = _mm_add_epi8(text, _mm_set1_epi8(0x46));
    _mm_movemask_epi8(_mm_cmpgt_epi8(_mm_set1_epi8(0x76), moved)) as u32
}

#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn stage(text: __m128i, stage: &mut Stage, slot: u8, shape: &Shape) {
    let digits = _mm_and_si128(text, _mm_set1_epi8(15));
    let digits = _mm_shuffle_epi8(digits, load16(&shape.shuffle));
    store16(&mut stage.digits[usize::from(slot)], digits);
    stage.scales[usize::from(slot)] = shape.scale;
}

/// Stages the number that starts the text, if it has less than 16 characters; returns its length.
/// What is no such number is staged as invalid, or cut short where no literal follows.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn stage_float(text: &[u8; 16], staged: &mut Stage, slot: u8) -> usize {
    let vector = load16(text);
    let negative = u32::from(text[0] == b'-');
    // An end is set where the table ends.
    let marks = (others(vector) & !negative) | 0x8000;
    let whole = marks.trailing_zeros();
    let behind = (marks & marks.wrapping_sub(1)) | 0x1_0000;
    let has_point = text[whole as usize & 15] == b'.';
    let length = if has_point { behind.trailing_zeros() } else { whole };
    let shape = (negative << 8 | whole << 4 | length) as usize & 0x1ff;
    stage(vector, staged, slot, &SHAPES[FLOATS + shape]);
    length as usize
}

/// [`stage_float`] for a number without a point.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn stage_int(text: &[u8; 16], staged: &mut Stage, slot: u8) -> usize {
    let vector = load16(text);
    let negative = u32::from(text[0] == b'-');
    let length = ((others(vector) & !negative) | 0x8000).trailing_zeros();
    let shape = (negative << 4 | length) as usize & 0x1f;
    stage(vector, staged, slot, &SHAPES[INTS + shape]);
    length as usize
}

/// Stages true as 1 and false as 0; returns the length.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn stage_bool(text: &[u8; 16], staged: &mut Stage, slot: u8) -> usize {
    let word = u128::from_le_bytes(*text) as u64;
    let is_true = word as u32 == u32::from_le_bytes(*b"true");
    let is_false = word & 0xff_ffff_ffff == u64::from_le_bytes(*b"false\0\0\0");
    let (value, length) = match (is_true, is_false) {
        (true, _) => (1, 4),
        (_, true) => (0, 5),
        _ => (2, 0),
    };
    let (digits, scale) = BOOLS[value];
    staged.digits[usize::from(slot)] = digits;
    staged.scales[usize::from(slot)] = scale;
    length
}

/// Returns how many bytes the text starts with that are ASCII and neither quote nor backslash
/// nor control character; 32 if all are.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn plain_length(text: &[u8; 32]) -> usize {
    let vector = load32(text);
    let quotes = _mm256_cmpeq_epi8(vector, _mm256_set1_epi8(b'"' as i8));
    let slashes = _mm256_cmpeq_epi8(vector, _mm256_set1_epi8(b'\\' as i8));
    // Signed, so that what is beyond ASCII is less, too.
    let others = _mm256_cmpgt_epi8(_mm256_set1_epi8(0x20), vector);
    let ends = _mm256_or_si256(_mm256_or_si256(quotes, slashes), others);
    (_mm256_movemask_epi8(ends) as u32).trailing_zeros() as usize
}

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

/// Converts the numbers of a lane into its row and ends it.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn finish(
    plan: &QuickPlan,
    lane: usize,
    from: &Lane<'_>,
    keys: &[KeyPart; KEY_PARTS_MAX],
    work: &mut Work<'_>,
    rows: &mut Rows<'_>,
) -> Option<()> {
    let stage = &work.memory.stages[lane];
    let (digits, scale) = (stage.digits.as_chunks::<4>().0, stage.scales.as_chunks::<4>().0);
    let mut numbers = digits.iter().zip(scale).take(plan.groups);
    let mut invalid = _mm256_setzero_pd();
    let mut beyond = _mm256_setzero_pd();
    for (group, [low, high]) in rows.floats(lane).iter_mut().zip(&plan.float_ranges) {
        let (digits, scale) = numbers.next()?;
        let mantissa = as_floats(mantissas(digits)?);
        let (divisor, least) = scales(scale);
        invalid = _mm256_or_pd(invalid, _mm256_cmp_pd::<_CMP_NGE_UQ>(mantissa, least));
        // Both operands are exact, so the one division rounds correctly. Adding 0 turns -0 to 0.
        let value = _mm256_add_pd(_mm256_div_pd(mantissa, divisor), _mm256_setzero_pd());
        let value = _mm256_permute4x64_pd::<0xd8>(value);
        let under = _mm256_cmp_pd::<_CMP_NGE_UQ>(value, load_floats(low));
        let over = _mm256_cmp_pd::<_CMP_NLE_UQ>(value, load_floats(high));
        beyond = _mm256_or_pd(beyond, _mm256_or_pd(under, over));
        store_floats(group, value);
    }
    for (group, [low, high]) in rows.ints(lane).iter_mut().zip(&plan.int_ranges) {
        let (digits, scale) = numbers.next()?;
        let mantissa = mantissas(digits)?;
        let (sign, least) = scales(scale);
        let sign = _mm256_castpd_si256(sign);
        invalid = _mm256_or_pd(invalid, _mm256_cmp_pd::<_CMP_NGE_UQ>(as_floats(mantissa), least));
        let value = _mm256_sub_epi64(_mm256_xor_si256(mantissa, sign), sign);
        let value = _mm256_permute4x64_epi64::<0xd8>(value);
        let under = _mm256_cmpgt_epi64(load_ints(low), value);
        let over = _mm256_cmpgt_epi64(value, load_ints(high));
        let out = _mm256_castsi256_pd(_mm256_or_si256(under, over));
        beyond = _mm256_or_pd(beyond, out);
        store_ints(group, value);
    }
    let mut time_ms = work.times_ms[lane];
    let mut is_first = true;
    for (digits, scale) in numbers {
        let mantissa = mantissas(digits)?;
        let (_, least) = scales(scale);
        invalid = _mm256_or_pd(invalid, _mm256_cmp_pd::<_CMP_NGE_UQ>(as_floats(mantissa), least));
        if is_first && plan.time_is_number && time_ms < 0 {
            let number = _mm256_extract_epi64::<0>(mantissa) as u64;
            let is_negative = scale[0][0] != 0;
            time_ms = time::parse_number(is_negative, number, 0, plan.time_unit)?.as_ms();
        }
        is_first = false;
    }
    if _mm256_movemask_pd(invalid) != 0 {
        return None;
    }
    let time = Timestamp::from_ms(time_ms)?;
    let parts = keys.iter().take(plan.key_parts);
    let parts = parts.map(|(start, size)| &from.payload[*start as usize..][..*size as usize]);
    rows.presence(lane).copy_from_slice(&plan.presence);
    rows.finish(lane, time, parts, plan.is_complete);
    if _mm256_movemask_pd(beyond) != 0 || !work.memory.odd.is_empty() {
        settle(plan, lane, from, work, rows);
    }
    Some(())
}

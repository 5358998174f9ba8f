//! Single values of the walk: numbers to the stage, the length of texts.
//!
//! A number's digits are staged right-aligned with what they are to be divided by and the least
//! mantissa that has no leading zero, all found in one table by the number's shape. No branch
//! depends on a value; what is no number is found by its mantissa when it is converted.

use std::arch::x86_64::*;

use super::{
    simd::{Window, load16, load32, store16},
    table::{BOOLS, FLOATS, INTS, NEGATIVE_FLOAT, NEGATIVE_INT, SHAPES, Shape},
    work::Stage,
};

/// Marks the characters that are no decimal digits.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn others(text: __m128i) -> u32 {
    // Moved so, digits are the ten largest of the signed bytes; what is less becomes negative.
    let moved = _mm_add_epi8(text, _mm_set1_epi8(0x46));
    _mm_movemask_epi8(_mm_subs_epi8(moved, _mm_set1_epi8(0x76))) as u32
}

/// Takes the first mark away if it is a point. By masks and not by a look at that character: the
/// place of the next value waits for this one's length (140 and 133 to 139 ns a message).
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn behind_point(text: __m128i, marks: u32) -> u32 {
    let points = _mm_movemask_epi8(_mm_cmpeq_epi8(text, _mm_set1_epi8(b'.' as i8))) as u32;
    marks ^ (_blsi_u32(marks) & points)
}

#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn stage(text: __m128i, stage: &mut Stage, slot: u8, shape: &Shape) {
    let digits = _mm_shuffle_epi8(text, load16(&shape.shuffle));
    let (place, scale) = stage.place(slot);
    store16(place, digits);
    *scale = shape.scale;
}

/// Stages the number without sign that starts the text, if it has less than 16 characters;
/// returns its length. What is no such number is staged as invalid, or is cut short where no
/// literal follows.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
pub(super) fn stage_float(text: &[u8; 16], staged: &mut Stage, slot: u8) -> usize {
    let vector = load16(text);
    let marks = others(vector);
    let whole = marks.trailing_zeros() as usize;
    let length = behind_point(vector, marks).trailing_zeros() as usize;
    stage(vector, staged, slot, &SHAPES[FLOATS + 16 * whole + length]);
    length
}

/// [`stage_float`] for a number with a point behind its first digits; `None` if there is none.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
pub(super) fn stage_decimal(text: &[u8; 33], staged: &mut Stage, slot: u8) -> Option<usize> {
    let vector = load16(text.first_chunk()?);
    let marks = others(vector);
    let whole = marks.trailing_zeros() as usize;
    let length = _blsr_u32(marks).trailing_zeros() as usize;
    if text[whole] != b'.' {
        return None;
    }
    stage(vector, staged, slot, &SHAPES[FLOATS + 16 * whole + length]);
    Some(length)
}

/// [`stage_decimal`] for a number with or without sign.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
pub(super) fn stage_signed_decimal(text: &[u8; 33], staged: &mut Stage, slot: u8) -> Option<usize> {
    let vector = load16(text.first_chunk()?);
    let negative = u32::from(text[0] == b'-');
    let marks = others(vector) & !negative;
    let whole = marks.trailing_zeros() as usize;
    let length = _blsr_u32(marks).trailing_zeros() as usize;
    if text[whole] != b'.' {
        return None;
    }
    let sign = negative as usize * NEGATIVE_FLOAT;
    stage(vector, staged, slot, &SHAPES[FLOATS + sign + 16 * whole + length]);
    Some(length)
}

/// [`stage_float`] for a number with or without sign.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
pub(super) fn stage_any_float(text: &[u8; 16], staged: &mut Stage, slot: u8) -> usize {
    let vector = load16(text);
    let negative = u32::from(text[0] == b'-');
    let marks = others(vector) & !negative;
    let whole = marks.trailing_zeros() as usize;
    let length = behind_point(vector, marks).trailing_zeros() as usize;
    let sign = negative as usize * NEGATIVE_FLOAT;
    stage(vector, staged, slot, &SHAPES[FLOATS + sign + 16 * whole + length]);
    length
}

/// [`stage_float`] for a number without sign and point.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
pub(super) fn stage_int(text: &[u8; 16], staged: &mut Stage, slot: u8) -> usize {
    let vector = load16(text);
    let length = others(vector).trailing_zeros() as usize;
    stage(vector, staged, slot, &SHAPES[INTS + length]);
    length
}

/// [`stage_float`] for a number without point, with or without sign.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
pub(super) fn stage_signed_int(text: &[u8; 16], staged: &mut Stage, slot: u8) -> usize {
    let vector = load16(text);
    let negative = u32::from(text[0] == b'-');
    let length = (others(vector) & !negative).trailing_zeros() as usize;
    stage(vector, staged, slot, &SHAPES[INTS + negative as usize * NEGATIVE_INT + length]);
    length
}

/// [`stage_any_float`] where `points` is all ones, [`stage_signed_int`] where it is 0, without a
/// branch between them.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
pub(super) fn stage_number(
    text: &[u8; 16],
    staged: &mut Stage,
    slot: u8,
    points: u32,
) -> Option<usize> {
    let vector = load16(text);
    let negative = u32::from(text[0] == b'-');
    let marks = others(vector) & !negative;
    let whole = marks.trailing_zeros();
    let there = _mm_movemask_epi8(_mm_cmpeq_epi8(vector, _mm_set1_epi8(b'.' as i8))) as u32;
    let length = (marks ^ (_blsi_u32(marks) & there & points)).trailing_zeros();
    let float = FLOATS as u32 + negative * NEGATIVE_FLOAT as u32 + 16 * whole + length;
    let int = INTS as u32 + negative * NEGATIVE_INT as u32 + whole;
    stage(vector, staged, slot, SHAPES.get((float & points | int & !points) as usize)?);
    Some(length as usize)
}

/// Stages true as 1 and false as 0; returns the length.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
pub(super) fn stage_bool(text: &[u8; 16], staged: &mut Stage, slot: u8) -> usize {
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

/// Returns the length of the text that starts at `from` and that a quote ends: at most 32 bytes
/// of ASCII without backslash and control character.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
pub(super) fn quoted_length(window: &Window, from: usize) -> Option<usize> {
    let size = text_ends(window[from..].first_chunk()?).trailing_zeros() as usize;
    // Without any end the size is 32; that of a text with an end at once behind, too.
    (window[(from & 31) + size] == b'"').then_some(size)
}

/// Returns whether all of it is text of ASCII without quote, backslash and control character.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
pub(super) fn is_plain(text: &[u8; 32]) -> bool {
    text_ends(text) == 0
}

/// Marks quotes, backslashes, control characters and what is beyond ASCII.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn text_ends(text: &[u8; 32]) -> u32 {
    let vector = load32(text);
    let quotes = _mm256_cmpeq_epi8(vector, _mm256_set1_epi8(b'"' as i8));
    let slashes = _mm256_cmpeq_epi8(vector, _mm256_set1_epi8(b'\\' as i8));
    // Signed, so that what is beyond ASCII is less, too.
    let others = _mm256_cmpgt_epi8(_mm256_set1_epi8(0x20), vector);
    _mm256_movemask_epi8(_mm256_or_si256(_mm256_or_si256(quotes, slashes), others)) as u32
}

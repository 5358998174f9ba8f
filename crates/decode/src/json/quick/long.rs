//! Floats of more digits than a stage holds: up to 19, with a point among the first 17
//! characters. The walk only finds where they end; behind it their digits are read by registers
//! and not one by one, and converted without a branch on how many there are. What has an exponent
//! or no point, or is longer still, is read by the judge's reader.

use std::arch::x86_64::*;

use super::{
    super::{nearest::nearest, number::scan_number},
    plan::Kind,
    repair::Spot,
    simd::{Window, load16, load32},
    stage::stage_any_float,
    work::{Digits, Long, Work},
};

/// So many digits make a mantissa; fewer are followed by zeros.
const DIGITS: usize = 19;

/// From a place on so many lanes are zeros, and all behind them ones.
static STAIR: [u8; 64] = stair();

const fn stair() -> [u8; 64] {
    let mut stair = [0; 64];
    let mut at = 32;
    while at < 64 {
        stair[at] = 0xff;
        at += 1;
    }
    stair
}

/// Returns the mask of the lanes from `first` (at most 31) on.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn lanes_from(first: u32) -> Option<__m256i> {
    Some(load32(STAIR[32 - (first as usize & 31)..].first_chunk()?))
}

/// Returns the number that sixteen digits write.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
pub(super) fn sixteen_digits(digits: __m128i) -> u64 {
    let twos = _mm_maddubs_epi16(digits, _mm_set1_epi16(0x010a));
    let fours = _mm_madd_epi16(twos, _mm_set1_epi32(0x0001_0064));
    let eights = _mm_madd_epi16(_mm_packus_epi32(fours, fours), _mm_set1_epi32(0x0001_2710));
    let halves = _mm_cvtsi128_si64(eights) as u64;
    (halves & 0xffff_ffff) * 100_000_000 + (halves >> 32)
}

impl Long {
    /// Returns the float, if it is one.
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[inline]
    pub(super) fn value(self, buffer: &[u8]) -> Option<f64> {
        match self {
            Long::Value(value) => Some(value),
            Long::Digits(start, digits) => digits.convert(buffer.get(start..)?.first_chunk()?),
        }
    }
}

/// Finds the end of the number that starts the text; returns it with the digits before it, and
/// where they start. `None` means "not that simple or not valid", and nothing else.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
pub(super) fn find_long(text: &[u8; 32]) -> Option<(Digits, usize, usize)> {
    let negative = u32::from(text[0] == b'-');
    let values = _mm256_xor_si256(load32(text), _mm256_set1_epi8(b'0' as i8));
    let is_digit = _mm256_cmpeq_epi8(_mm256_min_epu8(values, _mm256_set1_epi8(9)), values);
    let marks = !(_mm256_movemask_epi8(is_digit) as u32 | negative);
    // Without another mark this is 32, which is too long, too.
    let (point, end) = (marks.trailing_zeros(), _blsr_u32(marks).trailing_zeros());
    let (whole, length) = (point - negative, end - negative);
    if whole > 16 || length > DIGITS as u32 + 1 || text[point as usize & 31] != b'.' {
        return None;
    }
    if text[end as usize & 31] | 0x20 == b'e' {
        return None;
    }
    let digits = Digits { negative: negative != 0, whole: whole as u8, length: length as u8 };
    Some((digits, negative as usize, end as usize))
}

impl Digits {
    /// Returns the nearest float; `None` if there are no digits on one side of the point or a
    /// leading zero. `text` starts with the digits.
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[inline]
    fn convert(self, text: &[u8; 32]) -> Option<f64> {
        let (whole, length) = (u32::from(self.whole), u32::from(self.length));
        if whole == 0 || length < whole + 2 || (whole > 1 && text[0] == b'0') {
            return None;
        }
        let values = _mm256_xor_si256(load32(text), _mm256_set1_epi8(b'0' as i8));
        // Zeros from the end on; then what stands behind the point moves over it.
        let values = _mm256_andnot_si256(lanes_from(length)?, values);
        let start = _mm256_castsi256_si128(values);
        let rest = _mm256_extracti128_si256::<1>(values);
        let moved = _mm_alignr_epi8::<1>(rest, start);
        let behind = _mm256_castsi256_si128(lanes_from(whole)?);
        let first = sixteen_digits(_mm_blendv_epi8(start, moved, behind));
        // The last three stand in the places 17 to 19.
        let weights = load16(&[0, 100, 10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let last = _mm_madd_epi16(_mm_maddubs_epi16(rest, weights), _mm_set1_epi16(1));
        let mantissa = first * 1000 + u64::from(_mm_cvtsi128_si32(last) as u32);
        // At most 19, whatever the text is.
        Some(nearest(self.negative, mantissa, DIGITS.checked_sub(whole as usize)?))
    }
}

/// Returns whether a float, staged up to `advance` in the window, may go on there.
#[inline(always)]
pub(super) fn is_cut(window: &Window, length: usize, advance: usize) -> bool {
    advance >= length + 16 || window[advance & 63] | 0x20 == b'e'
}

impl Spot<'_> {
    /// Reads a float that is not as long as others were here; returns where it ends. `at` is
    /// where the step's literal stands.
    #[cold]
    #[inline(never)]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    pub(super) fn other_float(
        &self,
        at: usize,
        window: &Window,
        work: &mut Work<'_>,
    ) -> Option<usize> {
        let (length, slot) = (usize::from(self.step().length), self.step().stage);
        let number = window.get(length..)?.first_chunk()?;
        let advance = length + stage_any_float(number, &mut work.stages[self.lane], slot);
        if is_cut(window, length, advance) {
            return self.long_float(at, window, work);
        }
        Some(at.wrapping_add(advance))
    }

    /// Reads a float that has no end where the walk saw one; returns where it ends. `at` is
    /// where the step's literal stands.
    #[inline(never)]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    pub(super) fn long_float(
        &self,
        at: usize,
        window: &Window,
        work: &mut Work<'_>,
    ) -> Option<usize> {
        let step = self.step();
        if work.detours[self.lane] == self.index {
            return None;
        }
        let length = usize::from(step.length);
        let number = window.get(length..)?.first_chunk()?;
        if let Some((digits, first, end)) = find_long(number) {
            // The next one will be as long.
            step.kind.set(Kind::LongFloat);
            work.take_long(step, self.lane, Long::Digits(at + length + first, digits));
            return Some(at + length + end);
        }
        let bytes = work.buffer.get(self.from.start..self.from.end)?;
        let start = (at + length).checked_sub(self.from.start)?;
        let (number, end) = scan_number(bytes, start)?;
        work.take_long(step, self.lane, Long::Value(number.to_float(bytes)));
        Some(self.from.start + end)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::simd::Avx2, *};

    /// Texts as programs write floats, and such as they do not.
    fn random_text(mut random: impl FnMut(u64) -> u64) -> String {
        let digits = match random(4) {
            0 => random(25) + 1,
            _ => random(5) + 15,
        };
        let mut text: String = (0..digits).map(|_| (b'0' + random(10) as u8) as char).collect();
        match random(8) {
            // As a middle between two floats would be written, or nearly.
            0 => {
                let middle = (1 << 53 | random(1 << 53)) * 2 + 1;
                text = format!("{}", (middle >> random(12)) * 5_u64.pow(random(4) as u32));
            }
            1 => text = format!("{}", 1_u64 << random(64)),
            2 => text.replace_range(..text.len() / 2, &"0".repeat(text.len() / 2)),
            3 => text.replace_range(text.len() / 2.., &"0".repeat(text.len() - text.len() / 2)),
            _ => {}
        }
        if random(16) > 0 {
            let whole = if random(2) == 0 { random(4) } else { random(text.len() as u64 + 1) };
            text.insert((whole as usize).min(text.len()), '.');
        }
        if random(2) == 0 {
            text.insert(0, '-');
        }
        match random(24) {
            0 => text.push_str("e-7"),
            1 => text.push_str("E5"),
            2 => text.push('.'),
            3 => text.push('-'),
            _ => {}
        }
        text
    }

    #[test]
    fn long_floats_are_those_of_the_standard_library() {
        let Some(avx2) = Avx2::detect() else { return };
        let mut state = 5_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_889);
            ((u128::from(state ^ state >> 29) * u128::from(below)) >> 64) as u64
        };
        let (mut read_count, mut most_digits) = (0, 0);
        for round in 0..3_000_000_u64 {
            let number = match round % 3 {
                0 => format!("{}", f64::from_bits((1023 - 3 + random(16)) << 52 | random(1 << 52))),
                _ => random_text(&mut random),
            };
            let mut text = [b','; 64];
            let length = number.len().min(64);
            text[..length].copy_from_slice(&number.as_bytes()[..length]);
            let Some((value, end)) = avx2.read_long(&text) else {
                assert!(!is_simple(&number), "{number}");
                continue;
            };
            let written = str::from_utf8(&text[..end]).expect("ASCII");
            // What a number is only so far is seen by what stands behind it.
            assert!(end == number.len() || matches!(text[end], b'.' | b'-'), "{number}");
            let scanned = scan_number(written.as_bytes(), 0).map(|(_, end)| end);
            assert_eq!(scanned, Some(end), "{number}");
            let expected = written.parse::<f64>().expect("a number") + 0.0;
            assert_eq!(value.to_bits(), expected.to_bits(), "{number}");
            read_count += 1;
            most_digits = most_digits.max(end);
        }
        assert!(read_count > 1_500_000 && most_digits == 21, "{read_count}, {most_digits}");
    }

    /// Returns whether a text is a number with a point and at most 19 digits, 16 before it.
    fn is_simple(text: &str) -> bool {
        let size = text.strip_prefix('-').unwrap_or(text);
        let Some((whole, rest)) = size.split_once('.') else { return false };
        let digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let has_zero = whole.len() > 1 && whole.starts_with('0');
        let is_short = whole.len() <= 16 && whole.len() + rest.len() <= DIGITS;
        digits(whole) && digits(rest) && !has_zero && is_short
    }
}

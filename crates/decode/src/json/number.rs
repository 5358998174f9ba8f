//! Numbers as JSON writes them: strict scanning, the nearest `f64`, the exact integer.
//!
//! A scanned number keeps its first 19 or 20 digits in 64 bits and says whether that is all of
//! it. What neither one exact operation nor `nearest.rs` converts goes to the standard library's
//! parser, which rounds correctly; nothing here rounds twice.

use super::{
    nearest::{PLACES_MAX, nearest},
    scan::{byte_at, digit_run, eight_digits, other_marks, padded_word_at},
};

/// A number of the text. If `exact`, it is `mantissa` × 10^`exponent`; if not, it is larger in
/// size by less than one unit of the mantissa.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number {
    pub(crate) negative: bool,
    pub(crate) mantissa: u64,
    pub(crate) exponent: i64,
    exact: bool,
    start: u32,
    end: u32,
}

/// Written exponents beyond this are taken as this: no payload has digits enough to balance it.
const EXPONENT_MAX: i64 = 1_000_000_000;

/// The powers of ten that an `f64` holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// The powers of ten up to 10^8.
const SMALL_POWERS: [u64; 9] =
    [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// Reads `[-]d.d` with one to seven digits on each side (the point and what follows may lack).
/// Returns the mantissa, the digits behind the point and the end; `None` means "not that simple
/// or not valid", and nothing else.
#[inline(always)]
pub(crate) fn short_decimal(bytes: &[u8], at: usize) -> Option<(i64, usize, usize)> {
    // Places are bounded by the payload's length, so they may wrap without being checked.
    let negative = byte_at(bytes, at) == b'-';
    let at = at.wrapping_add(usize::from(negative));
    let word = padded_word_at(bytes, at);
    let marks = other_marks(word);
    let whole = marks.trailing_zeros() as usize / 8;
    if whole.wrapping_sub(1) >= 7 || (word as u8 == b'0' && whole > 1) {
        return None;
    }
    let next = (word >> (8 * whole)) as u8;
    if next != b'.' {
        let value = signed(eight_digits(word, whole), negative);
        return if next | 0x20 == b'e' { None } else { Some((value, 0, at.wrapping_add(whole))) };
    }
    // The point makes no carry, so the mark behind it is right too.
    let rest = marks & marks.wrapping_sub(1);
    if rest == 0 {
        return long_decimal(bytes, at, word, whole, negative);
    }
    let length = rest.trailing_zeros() as usize / 8;
    let places = length.wrapping_sub(whole).wrapping_sub(1);
    if places == 0 || (word >> (8 * length)) as u8 | 0x20 == b'e' {
        return None;
    }
    let before = (1_u64 << (8 * whole)).wrapping_sub(1);
    let digits = (word & before) | (word >> 8 & !before);
    let value = signed(eight_digits(digits, length.wrapping_sub(1)), negative);
    Some((value, places, at.wrapping_add(length)))
}

/// [`short_decimal`] for more than seven characters.
#[inline]
fn long_decimal(
    bytes: &[u8],
    at: usize,
    word: u64,
    whole: usize,
    negative: bool,
) -> Option<(i64, usize, usize)> {
    let start = at + whole + 1;
    let tail = padded_word_at(bytes, start);
    let places = other_marks(tail).trailing_zeros() as usize / 8;
    if places.wrapping_sub(1) >= 7 || (tail >> (8 * places)) as u8 | 0x20 == b'e' {
        return None;
    }
    let mantissa = eight_digits(word, whole) * SMALL_POWERS[places & 7];
    Some((signed(mantissa + eight_digits(tail, places), negative), places, start + places))
}

#[inline(always)]
fn signed(size: u64, negative: bool) -> i64 {
    if negative { (size as i64).wrapping_neg() } else { size as i64 }
}

/// Returns the nearest `f64` of what [`short_decimal`] read; zero has no sign.
#[inline(always)]
pub(crate) fn short_float(mantissa: i64, digits: usize) -> f64 {
    // Both operands are exact (mantissa below 10^14), so the one division rounds correctly.
    mantissa as f64 / POWERS[digits & 7]
}

/// Reads a number by the grammar of RFC 8259. Returns it and its end, or `None`.
pub(crate) fn scan_number(bytes: &[u8], start: usize) -> Option<(Number, usize)> {
    let negative = byte_at(bytes, start) == b'-';
    let mut at = start + usize::from(negative);
    let mut digits = Digits::default();
    let first = at;
    at = digits.take_run(bytes, at);
    if at == first || (bytes[first] == b'0' && at > first + 1) {
        return None;
    }
    let mut exponent = digits.dropped;
    if byte_at(bytes, at) == b'.' {
        let point = at;
        at = digits.take_run(bytes, at + 1);
        if at == point + 1 {
            return None;
        }
        exponent = digits.dropped - (at - point - 1) as i64;
    }
    if byte_at(bytes, at) | 0x20 == b'e' {
        let (written, end) = scan_exponent(bytes, at + 1)?;
        exponent += written;
        at = end;
    }
    let number = Number {
        negative,
        mantissa: digits.mantissa,
        exponent,
        exact: !digits.lost,
        start: start as u32,
        end: at as u32,
    };
    Some((number, at))
}

fn scan_exponent(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let sign = byte_at(bytes, at);
    let mut at = at + usize::from(sign == b'-' || sign == b'+');
    let first = at;
    let mut size = 0_i64;
    while byte_at(bytes, at).is_ascii_digit() {
        size = (size * 10 + i64::from(bytes[at] - b'0')).min(EXPONENT_MAX);
        at += 1;
    }
    if at == first {
        return None;
    }
    Some((if sign == b'-' { -size } else { size }, at))
}

/// The significant digits met so far.
#[derive(Default)]
struct Digits {
    mantissa: u64,
    /// Digits that found no room, zeros included: each is a factor of ten.
    dropped: i64,
    /// Whether a digit other than zero found no room.
    lost: bool,
}

impl Digits {
    /// Takes all digits from `at` on and returns where they end.
    fn take_run(&mut self, bytes: &[u8], mut at: usize) -> usize {
        // Below this eight more digits find room.
        while self.mantissa < 100_000_000_000 && self.dropped == 0 {
            let word = padded_word_at(bytes, at);
            let count = digit_run(word);
            if count == 0 {
                return at;
            }
            self.mantissa = self.mantissa * SMALL_POWERS[count] + eight_digits(word, count);
            at += count;
            if count < 8 {
                return at;
            }
        }
        while let Some(byte) = bytes.get(at).copied().filter(u8::is_ascii_digit) {
            let digit = u64::from(byte - b'0');
            let longer = self.mantissa.checked_mul(10).and_then(|tens| tens.checked_add(digit));
            match longer {
                Some(mantissa) if self.dropped == 0 => self.mantissa = mantissa,
                _ => {
                    self.dropped += 1;
                    self.lost |= digit != 0;
                }
            }
            at += 1;
        }
        at
    }
}

impl Number {
    /// Returns the nearest `f64`, infinite beyond its range; zero has no sign.
    pub(crate) fn to_float(self, bytes: &[u8]) -> f64 {
        if self.mantissa == 0 {
            return 0.0;
        }
        if self.exact && self.mantissa <= 1 << 53 && self.exponent.abs() <= 22 {
            let power = POWERS[self.exponent.unsigned_abs() as usize];
            let size = self.mantissa as f64;
            let size = if self.exponent < 0 { size / power } else { size * power };
            return if self.negative { -size } else { size };
        }
        if self.exact && (-(PLACES_MAX as i64)..=0).contains(&self.exponent) {
            return nearest(self.negative, self.mantissa, self.exponent.unsigned_abs() as usize);
        }
        let text = &bytes[self.start as usize..self.end as usize];
        let text = str::from_utf8(text).expect("a number is ASCII");
        text.parse::<f64>().expect("a JSON number is a Rust number") + 0.0
    }

    /// Returns the value if it is a whole number in `i64::MIN..=u64::MAX`.
    pub(crate) fn to_integer(self) -> Option<i128> {
        if self.mantissa == 0 {
            return Some(0);
        }
        if !self.exact || self.exponent.abs() > 20 {
            return None;
        }
        let power = 10_u128.pow(self.exponent.unsigned_abs() as u32);
        let mantissa = u128::from(self.mantissa);
        let size = if self.exponent >= 0 {
            mantissa.checked_mul(power)?
        } else if mantissa % power == 0 {
            mantissa / power
        } else {
            return None;
        };
        let value = i128::try_from(size).ok()?;
        let value = if self.negative { -value } else { value };
        (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(text: &str) -> Option<i128> {
        let (number, end) = scan_number(text.as_bytes(), 0)?;
        assert_eq!(end, text.len(), "{text}");
        number.to_integer()
    }

    #[test]
    fn whole_numbers_are_exact_however_they_are_written() {
        for text in ["3", "3.0", "3e0", "30e-1", "0.3E+1", "3.00000000000000000000000000"] {
            assert_eq!(integer(text), Some(3), "{text}");
        }
        assert_eq!(integer("-9223372036854775808"), Some(i128::from(i64::MIN)));
        assert_eq!(integer("-9223372036854775809"), None);
        assert_eq!(integer("18446744073709551615.000"), Some(i128::from(u64::MAX)));
        assert_eq!(integer("18446744073709551616"), None);
        assert_eq!(integer("1844674407370955161500000e-5"), Some(i128::from(u64::MAX)));
        assert_eq!(integer("3.00000000000000000000000001"), None);
        assert_eq!(integer("1e19"), Some(10_000_000_000_000_000_000));
        assert_eq!(integer("1e20"), None);
        assert_eq!(integer("0e99999999999999999999"), Some(0));
        assert_eq!(integer("-0.0"), Some(0));
        assert_eq!(integer("5e-1"), None);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", "+1", ".5", "5.", "01", "-01", "1e", "1e+", "1.e5", "00"] {
            let whole = scan_number(text.as_bytes(), 0).is_some_and(|(_, end)| end == text.len());
            assert!(!whole, "{text}");
        }
    }

    #[test]
    fn short_decimals_leave_everything_else_to_the_judge() {
        let read = |text: &str| short_decimal(text.as_bytes(), 0);
        assert_eq!(read("22.50,        "), Some((2250, 2, 5)));
        assert_eq!(read("-7}           "), Some((-7, 0, 2)));
        for text in ["01,          ", "1e5,          ", "1.,         ", "-,         ", ""] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read("12"), Some((12, 0, 2)));
        assert_eq!(read("-1.25"), Some((-125, 2, 5)));
        assert_eq!(read("12345678,          "), None);
        assert_eq!(read("1.5E3,          "), None);
    }
}

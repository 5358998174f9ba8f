//! The words of JSON: strings, literals, scalars, white space. Strict, without recursion, eight
//! bytes at a time where that helps. It says where things are; what they mean is decided in
//! `value.rs`, and how objects nest in `strict.rs`.

use super::number::{Number, scan_number};

/// A string of the text: the bytes between its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) escaped: bool,
}

impl Text {
    /// Returns the bytes as written, escapes and all.
    #[inline]
    pub(crate) fn raw(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start..self.end]
    }
}

/// A value as written, before any field gives it a meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Number(Number),
    Text(Text),
    /// One of the bare words NaN, Infinity and -Infinity.
    NotFinite,
    /// An object or an array, for fields that want neither.
    Composite,
}

/// Returns the byte at `at`, or 0 (valid nowhere outside of strings) behind the end.
#[inline(always)]
pub(crate) fn byte_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// Returns the eight bytes from `at` on, the first one lowest, if there are eight.
#[inline(always)]
pub(crate) fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk::<8>().map(|chunk| u64::from_le_bytes(*chunk))
}

/// Returns the eight bytes from `at` on, zeros behind the end.
#[inline(always)]
pub(crate) fn padded_word_at(bytes: &[u8], at: usize) -> u64 {
    word_at(bytes, at).unwrap_or_else(|| {
        let mut chunk = [0; 8];
        let rest = bytes.get(at..).unwrap_or_default();
        chunk[..rest.len()].copy_from_slice(rest);
        u64::from_le_bytes(chunk)
    })
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Marks the high bits of the bytes that are no decimal digits. The lowest mark is right, and so
/// is each one behind ASCII.
#[inline(always)]
pub(crate) fn other_marks(word: u64) -> u64 {
    let offsets = word ^ (ONES * 0x30);
    // A byte above 9 reaches the high bit; only one above 0x89 carries into the next.
    (offsets.wrapping_add(ONES * 0x76) | offsets) & HIGHS
}

/// Returns how many of the word's first bytes are decimal digits.
#[inline(always)]
pub(crate) fn digit_run(word: u64) -> usize {
    other_marks(word).trailing_zeros() as usize / 8
}

/// Returns the number that the word's first `count` bytes (1 to 8 digits) write.
#[inline(always)]
pub(crate) fn eight_digits(word: u64, count: usize) -> u64 {
    let digits = (word ^ (ONES * 0x30)) << (64_usize.wrapping_sub(8 * count) & 63);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let low = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(100 + (1_000_000 << 32));
    let high = ((pairs >> 16) & 0x0000_00ff_0000_00ff).wrapping_mul(1 + (10_000 << 32));
    low.wrapping_add(high) >> 32
}

/// Marks the bytes that end or interrupt a string: quote, backslash, control. The lowest mark is
/// right; higher ones may not be.
#[inline(always)]
fn string_marks(word: u64) -> u64 {
    let quotes = word ^ (ONES * b'"' as u64);
    let slashes = word ^ (ONES * b'\\' as u64);
    let quotes = quotes.wrapping_sub(ONES) & !quotes;
    let slashes = slashes.wrapping_sub(ONES) & !slashes;
    let controls = word.wrapping_sub(ONES * 0x20) & !word;
    (quotes | slashes | controls) & HIGHS
}

/// Reads a string whose opening quote stands before `start`. Returns `None` unless it is closed,
/// UTF-8, free of control characters, and its escapes are whole and spell no lone surrogate.
#[inline]
pub(crate) fn scan_string(bytes: &[u8], start: usize) -> Option<Text> {
    let mut at = start;
    let mut escaped = false;
    let mut high_bits = 0_u64;
    loop {
        if let Some(word) = word_at(bytes, at) {
            high_bits |= word;
            let marks = string_marks(word);
            if marks == 0 {
                at += 8;
                continue;
            }
            at += marks.trailing_zeros() as usize / 8;
        } else {
            let byte = *bytes.get(at)?;
            high_bits |= u64::from(byte);
            if byte != b'"' && byte != b'\\' && byte >= 0x20 {
                at += 1;
                continue;
            }
        }
        match bytes[at] {
            b'"' => break,
            b'\\' => {
                escaped = true;
                at = scan_escape(bytes, at + 1)?;
            }
            _ => return None,
        }
    }
    if high_bits & HIGHS != 0 && str::from_utf8(&bytes[start..at]).is_err() {
        return None;
    }
    Some(Text { start, end: at, escaped })
}

/// Checks the escape whose backslash stands before `at`; returns where it ends.
#[cold]
fn scan_escape(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 1),
        b'u' => {
            let unit = hex_unit(bytes, at + 1)?;
            match unit {
                0xd800..0xdc00 => {
                    let pair = bytes.get(at + 5..at + 7)? == b"\\u";
                    let low = hex_unit(bytes, at + 7)?;
                    (pair && (0xdc00..0xe000).contains(&low)).then_some(at + 11)
                }
                0xdc00..0xe000 => None,
                _ => Some(at + 5),
            }
        }
        _ => None,
    }
}

fn hex_unit(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?;
    let mut unit = 0;
    for digit in digits {
        unit = unit * 16 + char::from(*digit).to_digit(16)?;
    }
    Some(unit)
}

/// Appends a string's text without its escapes. The string was scanned before.
pub(crate) fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < raw.len() {
        let run = raw[at..].iter().position(|byte| *byte == b'\\').unwrap_or(raw.len() - at);
        out.extend_from_slice(&raw[at..at + run]);
        at += run;
        if at == raw.len() {
            break;
        }
        let simple = match raw[at + 1] {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let (letter, length) = unescape_unit(raw, at);
                let mut buffer = [0; 4];
                out.extend_from_slice(letter.encode_utf8(&mut buffer).as_bytes());
                at += length;
                continue;
            }
            same => same,
        };
        out.push(simple);
        at += 2;
    }
}

fn unescape_unit(raw: &[u8], at: usize) -> (char, usize) {
    let whole = "escapes were checked when the string was scanned";
    let unit = hex_unit(raw, at + 2).expect(whole);
    if (0xd800..0xdc00).contains(&unit) {
        let low = hex_unit(raw, at + 8).expect(whole);
        let code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
        (char::from_u32(code).expect(whole), 12)
    } else {
        (char::from_u32(unit).expect(whole), 6)
    }
}

/// Returns the place of the first byte that is no white space.
#[inline(always)]
pub(crate) fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
        at += 1;
    }
    at
}

/// Reads the value at `at` unless it is an object or an array. Returns it and its end.
pub(crate) fn scan_scalar(bytes: &[u8], at: usize) -> Option<(Scalar, usize)> {
    let word = |text: &str, scalar| {
        let end = at + text.len();
        (bytes.get(at..end)? == text.as_bytes()).then_some((scalar, end))
    };
    match byte_at(bytes, at) {
        b'"' => {
            let text = scan_string(bytes, at + 1)?;
            Some((Scalar::Text(text), text.end + 1))
        }
        b'0'..=b'9' => scan_number(bytes, at).map(|(number, end)| (Scalar::Number(number), end)),
        b'-' if byte_at(bytes, at + 1) == b'I' => word("-Infinity", Scalar::NotFinite),
        b'-' => scan_number(bytes, at).map(|(number, end)| (Scalar::Number(number), end)),
        b't' => word("true", Scalar::Bool(true)),
        b'f' => word("false", Scalar::Bool(false)),
        b'n' => word("null", Scalar::Null),
        b'N' => word("NaN", Scalar::NotFinite),
        b'I' => word("Infinity", Scalar::NotFinite),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_counted_and_read_at_every_length() {
        for count in 1..=8 {
            let mut text = *b"12345678";
            for byte in &mut text[count..] {
                *byte = b'.';
            }
            let word = u64::from_le_bytes(text);
            assert_eq!(digit_run(word), count);
            let expected = 12_345_678 / 10_u64.pow(8 - count as u32);
            assert_eq!(eight_digits(word, count), expected);
        }
        for byte in (0..=255_u8).filter(|byte| !byte.is_ascii_digit()) {
            assert_eq!(digit_run(u64::from_le_bytes([b'7', b'0', byte, b'9', b'9', 255, 0, 1])), 2);
        }
    }

    #[test]
    fn every_byte_that_ends_a_string_is_found_at_every_place() {
        for length in 0..20 {
            for byte in 0..=255_u8 {
                let mut text = vec![b'x'; length];
                text.push(byte);
                text.extend_from_slice(b"yyyyyyyyyyyyyyyy\"");
                let plain = (0x20..0x80).contains(&byte) && byte != b'\\';
                let found = scan_string(&text, 0).map(|text| text.end);
                let expected = match byte {
                    b'"' => Some(length),
                    _ if plain => Some(text.len() - 1),
                    _ => None,
                };
                assert_eq!(found, expected, "byte {byte:#x} at {length}");
            }
        }
    }

    #[test]
    fn escapes_become_their_characters() {
        let text = br#"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00z""#;
        let found = scan_string(text, 0).expect("valid");
        let mut out = Vec::new();
        unescape(found.raw(text), &mut out);
        assert_eq!(out, "a\"\\/\u{8}\u{c}\n\r\té😀z".as_bytes());
    }
}

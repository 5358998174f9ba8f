//! Group keys as bytes: each part is a LEB128 length and its UTF-8 text.
//!
//! The encoding is injective, so two keys are equal exactly when their bytes are; it orders keys
//! by length first, which is an order, not the alphabet.

use alloc::vec::Vec;

/// The most bytes of one part of a group key that any configuration may allow.
pub const KEY_PART_BYTES_MAX: usize = 65_535;

/// The most bytes that the length of a part takes.
pub(crate) const LENGTH_BYTES_MAX: usize = 5;

/// Appends the encoding of one part, which is UTF-8.
#[inline]
pub fn push_part(out: &mut Vec<u8>, part: &[u8]) {
    let mut used = out.len();
    out.resize(used + part.len() + LENGTH_BYTES_MAX, 0);
    write_part(out, &mut used, part);
    out.truncate(used);
}

/// Writes the encoding of one part to `used`, where there is room for it.
#[inline]
pub(crate) fn write_part(out: &mut [u8], used: &mut usize, part: &[u8]) {
    debug_assert!(core::str::from_utf8(part).is_ok(), "keys are checked when decoded");
    let (mut at, mut length) = (*used, part.len());
    while length >= 0x80 {
        out[at] = (length as u8 & 0x7f) | 0x80;
        at += 1;
        length >>= 7;
    }
    out[at] = length as u8;
    let end = at + 1 + part.len();
    out[at + 1..end].copy_from_slice(part);
    *used = end;
}

/// The parts of an encoded key.
///
/// ```
/// use tidemill_kernel::key::{parts, push_part};
/// let mut key = Vec::new();
/// push_part(&mut key, b"site-7");
/// push_part(&mut key, b"");
/// assert_eq!(parts(&key).collect::<Vec<_>>(), ["site-7", ""]);
/// ```
pub fn parts(key: &[u8]) -> Parts<'_> {
    Parts { rest: key }
}

/// See [`parts`].
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Returns the next part as bytes; ends at the first byte that is no whole part.
    #[inline]
    pub(crate) fn next_bytes(&mut self) -> Option<&'a [u8]> {
        let mut length = 0_usize;
        let mut at = 0;
        loop {
            let byte = *self.rest.get(at)?;
            length |= usize::from(byte & 0x7f).checked_shl(7 * at as u32)?;
            at += 1;
            if byte < 0x80 {
                break;
            }
            if at == 4 {
                return None;
            }
        }
        let part = self.rest.get(at..at.checked_add(length)?)?;
        self.rest = &self.rest[at + length..];
        Some(part)
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a str;

    /// Returns the next part; ends at the first byte that is no whole part of UTF-8.
    fn next(&mut self) -> Option<&'a str> {
        self.next_bytes().and_then(|part| core::str::from_utf8(part).ok())
    }
}

//! Whole rows of messages begun last, for decoders that know before what a message holds: no
//! value is looked at twice and nothing is cleared first. Nothing is checked here but places.

use super::block::{EventBlock, Head, Span, Widths, push_bytes};
use crate::{key, time::Timestamp};

/// The rows of the messages begun last, numbered from 0. Every row must be written whole: all
/// groups of its floats and integers, its presence and its end.
#[derive(Debug)]
pub struct Rows<'b> {
    widths: Widths,
    heads: &'b mut [Head],
    floats: &'b mut [[f64; 4]],
    ints: &'b mut [[i64; 4]],
    texts: &'b mut [Span],
    presence: &'b mut [u64],
    bytes: &'b mut [u8],
    used: &'b mut usize,
}

impl<'b> Rows<'b> {
    /// Returns the rows of a block from `first` on. The block has grown.
    #[inline]
    pub(super) fn new(block: &'b mut EventBlock, first: usize) -> Rows<'b> {
        let widths = block.widths;
        Rows {
            widths,
            heads: &mut block.heads[first..],
            floats: &mut block.floats[first * widths.float_groups..],
            ints: &mut block.ints[first * widths.int_groups..],
            texts: &mut block.texts[first * widths.texts..],
            presence: &mut block.presence[first * widths.words..],
            bytes: &mut block.bytes,
            used: &mut block.used,
        }
    }

    /// Returns the floats of a row, the groups' unused places included. Absent ones must be 0,
    /// none may be −0.
    #[inline]
    pub fn floats(&mut self, row: usize) -> &mut [[f64; 4]] {
        &mut self.floats[row * self.widths.float_groups..][..self.widths.float_groups]
    }

    /// Returns the integers of a row, the groups' unused places included. Absent ones must be 0.
    #[inline]
    pub fn ints(&mut self, row: usize) -> &mut [[i64; 4]] {
        &mut self.ints[row * self.widths.int_groups..][..self.widths.int_groups]
    }

    /// Returns the presence bits of a row: floats first, then integers, then texts.
    #[inline]
    pub fn presence(&mut self, row: usize) -> &mut [u64] {
        &mut self.presence[row * self.widths.words..][..self.widths.words]
    }

    /// Sets a text that is the first `length` (at most 32) bytes of `chunk`, without marking it
    /// as present. It is UTF-8. Needs 32 bytes of room.
    #[inline]
    pub fn set_short_text(&mut self, row: usize, slot: u16, chunk: &[u8; 32], length: usize) {
        debug_assert!(core::str::from_utf8(&chunk[..length]).is_ok(), "checked when decoded");
        let start = *self.used;
        let place = self.bytes.get_mut(start..).and_then(<[u8]>::first_chunk_mut::<32>);
        *place.expect("room was made for all texts") = *chunk;
        *self.used = start + length;
        self.texts[row * self.widths.texts + usize::from(slot)] =
            Span { start: start as u32, length: length as u32 };
    }

    /// Sets a text of any length that there is room for.
    #[inline]
    pub fn set_text(&mut self, row: usize, slot: u16, text: &[u8]) {
        debug_assert!(core::str::from_utf8(text).is_ok(), "texts are checked when decoded");
        self.texts[row * self.widths.texts + usize::from(slot)] =
            push_bytes(self.bytes, self.used, text);
    }

    /// Ends a row as an event without invalid values. `is_complete` says whether all presence
    /// bits are set.
    #[inline]
    pub fn finish<'p>(
        &mut self,
        row: usize,
        time: Timestamp,
        key_parts: impl IntoIterator<Item = &'p [u8]>,
        is_complete: bool,
    ) {
        let start = *self.used;
        for part in key_parts {
            key::write_part(self.bytes, self.used, part);
        }
        let head = &mut self.heads[row];
        head.time = time;
        head.key = Span { start: start as u32, length: (*self.used - start) as u32 };
        head.is_complete = is_complete;
    }

    /// Says again, after [`finish`](Rows::finish), whether all presence bits of a row are set,
    /// and how many of its values were invalid.
    pub fn amend(&mut self, row: usize, is_complete: bool, invalid_count: u32) {
        let head = &mut self.heads[row];
        head.is_complete = is_complete;
        head.invalid_count = invalid_count;
    }
}

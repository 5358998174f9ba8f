//! Whole rows of messages begun last, for decoders that know before what a message holds: no
//! value is looked at twice and nothing is cleared first. Nothing is checked here but places.

use super::block::{EventBlock, Span, push_bytes};
use crate::{key, time::Timestamp};

/// The rows of the messages begun last, numbered from 0. Every row must be written whole: all
/// groups of its floats and integers, its presence and its end.
#[derive(Debug)]
pub struct Rows<'b> {
    block: &'b mut EventBlock,
    /// The message that row 0 is of, and the first of its texts.
    first: usize,
    first_text: usize,
}

impl<'b> Rows<'b> {
    /// Returns the rows of a block from `first` on. The block has grown.
    #[inline]
    pub(super) fn new(block: &'b mut EventBlock, first: usize) -> Rows<'b> {
        let first_text = first * block.widths.texts;
        Rows { block, first, first_text }
    }

    /// Returns the floats of the first `L` rows, as [`floats`](Rows::floats) does of one.
    #[inline]
    pub fn all_floats<const L: usize>(&mut self) -> [&mut [[f64; 4]]; L] {
        let width = self.block.widths.float_groups;
        split(&mut self.block.floats[self.first * width..], width)
    }

    /// Returns the integers of the first `L` rows, as [`ints`](Rows::ints) does of one.
    #[inline]
    pub fn all_ints<const L: usize>(&mut self) -> [&mut [[i64; 4]]; L] {
        let width = self.block.widths.int_groups;
        split(&mut self.block.ints[self.first * width..], width)
    }

    /// Sets the presence bits of the first `count` rows, the same for all.
    #[inline(always)]
    pub fn set_presence(&mut self, count: usize, bits: &[u64]) {
        let width = self.block.widths.words;
        let all = &mut self.block.presence[self.first * width..][..count * width];
        match bits {
            // Most schemas have no more than 64 fields; this spares them a call.
            [word] if width == 1 => all.iter_mut().for_each(|place| *place = *word),
            // A schema may have a key and a time alone, and so no bit at all.
            _ => (0..count).for_each(|row| all[row * width..][..width].copy_from_slice(bits)),
        }
    }

    /// Returns the floats of a row, the groups' unused places included. Absent ones must be 0,
    /// none may be −0.
    #[inline]
    pub fn floats(&mut self, row: usize) -> &mut [[f64; 4]] {
        let width = self.block.widths.float_groups;
        &mut self.block.floats[(self.first + row) * width..][..width]
    }

    /// Returns the integers of a row, the groups' unused places included. Absent ones must be 0.
    #[inline]
    pub fn ints(&mut self, row: usize) -> &mut [[i64; 4]] {
        let width = self.block.widths.int_groups;
        &mut self.block.ints[(self.first + row) * width..][..width]
    }

    /// Returns the presence bits of a row: floats first, then integers, then texts.
    #[inline]
    pub fn presence(&mut self, row: usize) -> &mut [u64] {
        let width = self.block.widths.words;
        &mut self.block.presence[(self.first + row) * width..][..width]
    }

    /// Sets a text that is the first `length` (at most 32) bytes of `chunk`, without marking it
    /// as present. It is UTF-8. Needs 32 bytes of room.
    #[inline]
    pub fn set_short_text(&mut self, row: usize, slot: u16, chunk: &[u8; 32], length: usize) {
        debug_assert!(core::str::from_utf8(&chunk[..length]).is_ok(), "checked when decoded");
        let start = self.used();
        let place = self.block.bytes.get_mut(start..start + 32).and_then(|all| all.as_mut_array());
        *place.expect("room was made for all texts") = *chunk;
        self.block.used = start + length;
        *self.text(row, slot) = Span { start: start as u32, length: length as u32 };
    }

    /// Sets a text of any length that there is room for.
    #[inline]
    pub fn set_text(&mut self, row: usize, slot: u16, text: &[u8]) {
        debug_assert!(core::str::from_utf8(text).is_ok(), "texts are checked when decoded");
        let span = push_bytes(&mut self.block.bytes, &mut self.block.used, text);
        *self.text(row, slot) = span;
    }

    /// Returns how many of the block's bytes are used.
    #[inline]
    fn used(&self) -> usize {
        // A block holds less than 4 GiB. Said so, ends of texts are seen not to overflow.
        self.block.used as u32 as usize
    }

    #[inline]
    fn text(&mut self, row: usize, slot: u16) -> &mut Span {
        let of_row = row * self.block.widths.texts;
        &mut self.block.texts[self.first_text + of_row + usize::from(slot)]
    }

    /// Ends a row as an event without invalid values. A part of the key is the first bytes of
    /// what may be looked at, and their number. `is_complete` says whether all presence bits are
    /// set.
    #[inline]
    pub fn finish<'p>(
        &mut self,
        row: usize,
        time: Timestamp,
        key_parts: impl IntoIterator<Item = (&'p [u8], usize)>,
        is_complete: bool,
    ) {
        let start = self.used();
        for (part, length) in key_parts {
            let at = self.used();
            let place =
                self.block.bytes.get_mut(at..at + 33).and_then(|all| all.as_mut_array::<33>());
            match (part.first_chunk::<32>(), place) {
                // Copies of one size need no call.
                (Some(chunk), Some([before, place @ ..])) if length <= 32 => {
                    debug_assert!(core::str::from_utf8(&part[..length]).is_ok(), "checked");
                    *before = length as u8;
                    *place = *chunk;
                    self.block.used = at + 1 + length;
                }
                _ => key::write_part(&mut self.block.bytes, &mut self.block.used, &part[..length]),
            }
        }
        let length = self.block.used - start;
        let head = &mut self.block.heads[self.first + row];
        head.time = time;
        head.key = Span { start: start as u32, length: length as u32 };
        head.is_complete = is_complete;
    }

    /// Says again, after [`finish`](Rows::finish), whether all presence bits of a row are set,
    /// and how many of its values were invalid.
    pub fn amend(&mut self, row: usize, is_complete: bool, invalid_count: u32) {
        let head = &mut self.block.heads[self.first + row];
        head.is_complete = is_complete;
        head.invalid_count = invalid_count;
    }
}

/// Returns the first `L` rows of that width.
#[inline]
fn split<const L: usize, T>(mut rest: &mut [T], width: usize) -> [&mut [T]; L] {
    core::array::from_fn(|_| {
        let (row, behind) = core::mem::take(&mut rest).split_at_mut(width);
        rest = behind;
        row
    })
}

//! The block's memory, what writes it value by value, and what reads it. Whole rows at once are
//! written through `rows.rs`.
//!
//! Floats and integers stand in groups of four, so that a row can be written four values at a
//! time; what fills up the last group is never read. The arrays grow ahead of the messages and
//! keep old rows: whoever begins a message clears its row, or writes all of it.

use alloc::vec::Vec;

use super::{Position, Reason, presence::Presence, rows::Rows, text::Text};
use crate::{key, schema::Schema, time::Timestamp};

/// A range of the block's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) length: u32,
}

/// What is known of one message beside its values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    position: Position,
    publish_time_ms: i64,
    pub(super) time: Timestamp,
    pub(super) key: Span,
    pub(super) invalid_count: u32,
    reject: Option<Reason>,
    /// Whether every field is present.
    pub(super) is_complete: bool,
}

impl Head {
    pub(super) fn new(position: Position, publish_time_ms: i64) -> Head {
        Head {
            position,
            publish_time_ms,
            time: Timestamp::MIN,
            key: Span::default(),
            invalid_count: 0,
            reject: None,
            is_complete: false,
        }
    }
}

/// How many of everything a row has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Widths {
    pub(super) floats: usize,
    pub(super) ints: usize,
    pub(super) texts: usize,
    /// Groups of four floats.
    pub(super) float_groups: usize,
    /// Groups of four integers.
    pub(super) int_groups: usize,
    /// Words of presence bits.
    pub(super) words: usize,
}

impl Widths {
    fn total(&self) -> usize {
        self.floats + self.ints + self.texts
    }
}

/// Decoded messages in log order.
///
/// A decoder calls [`begin`](EventBlock::begin), sets what it finds, then
/// [`finish`](EventBlock::finish) or [`reject`](EventBlock::reject); or it writes whole
/// [`rows`](EventBlock::rows).
#[derive(Clone, Debug)]
pub struct EventBlock {
    pub(super) widths: Widths,
    pub(super) heads: Vec<Head>,
    pub(super) floats: Vec<[f64; 4]>,
    pub(super) ints: Vec<[i64; 4]>,
    pub(super) texts: Vec<Span>,
    pub(super) presence: Vec<u64>,
    /// How many rows there is memory for.
    row_count: usize,
    /// Texts and keys up to `used`, then room.
    pub(super) bytes: Vec<u8>,
    pub(super) used: usize,
}

/// A state of a block to go back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    len: usize,
    used: usize,
}

impl EventBlock {
    /// Returns an empty block for events of that schema.
    pub fn new(schema: &Schema) -> EventBlock {
        let (floats, ints, texts) = (schema.float_count(), schema.int_count(), schema.text_count());
        EventBlock {
            widths: Widths {
                floats,
                ints,
                texts,
                float_groups: floats.div_ceil(4),
                int_groups: ints.div_ceil(4),
                words: (floats + ints + texts).div_ceil(64),
            },
            heads: Vec::new(),
            floats: Vec::new(),
            ints: Vec::new(),
            texts: Vec::new(),
            presence: Vec::new(),
            row_count: 0,
            bytes: Vec::new(),
            used: 0,
        }
    }

    /// Empties the block and keeps its memory.
    pub fn clear(&mut self) {
        self.heads.clear();
        self.used = 0;
    }

    /// Returns the number of messages, rejected ones included.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Returns whether the block holds no message.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Returns the present state, to go back to.
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark { len: self.heads.len(), used: self.used }
    }

    /// Forgets the messages that were begun behind the mark.
    #[inline]
    pub fn rewind(&mut self, mark: Mark) {
        self.heads.truncate(mark.len);
        self.used = mark.used;
    }

    /// Starts the next message with nothing present.
    #[inline]
    pub fn begin(&mut self, position: Position, publish_time_ms: i64) {
        self.heads.push(Head::new(position, publish_time_ms));
        self.grow(0);
        let (row, widths) = (self.heads.len() - 1, self.widths);
        self.floats[row * widths.float_groups..][..widths.float_groups].fill([0.0; 4]);
        self.ints[row * widths.int_groups..][..widths.int_groups].fill([0; 4]);
        self.presence[row * widths.words..][..widths.words].fill(0);
    }

    /// Starts one message per position, for rows that are then written whole. There is room for
    /// `text_bytes` of texts and keys.
    #[inline]
    pub fn rows(
        &mut self,
        positions: impl IntoIterator<Item = (Position, i64)>,
        text_bytes: usize,
    ) -> Rows<'_> {
        let first = self.heads.len();
        for (position, publish_time_ms) in positions {
            self.heads.push(Head::new(position, publish_time_ms));
        }
        self.grow(text_bytes);
        Rows::new(self, first)
    }

    /// Makes room for the messages begun and for so many bytes.
    #[inline]
    pub(super) fn grow(&mut self, text_bytes: usize) {
        let count = self.heads.len();
        if count > self.row_count {
            self.grow_rows(count.next_power_of_two().max(16));
        }
        if self.bytes.len() - self.used < text_bytes {
            self.grow_bytes(text_bytes);
        }
    }

    #[cold]
    fn grow_rows(&mut self, count: usize) {
        self.floats.resize(count * self.widths.float_groups, [0.0; 4]);
        self.ints.resize(count * self.widths.int_groups, [0; 4]);
        self.texts.resize(count * self.widths.texts, Span::default());
        self.presence.resize(count * self.widths.words, 0);
        self.row_count = count;
    }

    #[cold]
    fn grow_bytes(&mut self, text_bytes: usize) {
        let needed = self.used + text_bytes;
        let most = u32::MAX as usize;
        assert!(needed <= most, "a block holds less than 4 GiB of text");
        let length = needed.next_power_of_two().min(most);
        self.bytes.resize(length, 0);
    }

    /// Sets a float of the message begun last. The value must be finite; −0 becomes 0.
    #[inline]
    pub fn set_float(&mut self, slot: u16, value: f64) {
        debug_assert!(value.is_finite(), "invalid values are counted, never set");
        let at = (self.heads.len() - 1) * self.widths.float_groups * 4 + usize::from(slot);
        self.floats.as_flattened_mut()[at] = value + 0.0;
        self.set_present(usize::from(slot));
    }

    /// Sets an integer of the message begun last.
    #[inline]
    pub fn set_int(&mut self, slot: u16, value: i64) {
        let at = (self.heads.len() - 1) * self.widths.int_groups * 4 + usize::from(slot);
        self.ints.as_flattened_mut()[at] = value;
        self.set_present(self.widths.floats + usize::from(slot));
    }

    /// Sets all floats of the message begun last, in the order of their slots; `None` is absent.
    /// What [`set_float`](EventBlock::set_float) does one by one, at a third of the instructions.
    #[inline]
    pub fn set_floats(&mut self, values: impl IntoIterator<Item = Option<f64>>) {
        let (row, widths) = (self.heads.len() - 1, self.widths);
        let places = &mut self.floats[row * widths.float_groups..][..widths.float_groups];
        let presence = &mut self.presence[row * widths.words..][..widths.words];
        set_row(places.as_flattened_mut(), presence, 0, values);
    }

    /// Sets all integers of the message begun last, in the order of their slots; `None` is absent.
    #[inline]
    pub fn set_ints(&mut self, values: impl IntoIterator<Item = Option<i64>>) {
        let (row, widths) = (self.heads.len() - 1, self.widths);
        let places = &mut self.ints[row * widths.int_groups..][..widths.int_groups];
        let presence = &mut self.presence[row * widths.words..][..widths.words];
        set_row(places.as_flattened_mut(), presence, widths.floats, values);
    }

    /// Sets a text of the message begun last. It is UTF-8: whoever decodes has checked that.
    #[inline]
    pub fn set_text(&mut self, slot: u16, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        debug_assert!(core::str::from_utf8(value).is_ok(), "texts are checked when decoded");
        let at = (self.heads.len() - 1) * self.widths.texts + usize::from(slot);
        self.grow(value.len());
        self.texts[at] = push_bytes(&mut self.bytes, &mut self.used, value);
        self.set_present(self.widths.floats + self.widths.ints + usize::from(slot));
    }

    /// Counts so many metrics of the message begun last as invalid.
    #[inline]
    pub fn count_invalid(&mut self, count: u32) {
        if let Some(head) = self.heads.last_mut() {
            head.invalid_count += count;
        }
    }

    /// Returns the publish time of the message begun last as an event time, if it can be one.
    pub fn publish_time(&self) -> Option<Timestamp> {
        self.heads.last().and_then(|head| Timestamp::from_ms(head.publish_time_ms))
    }

    /// Ends the message begun last as an event. The key's parts come in the schema's order, and
    /// are UTF-8.
    #[inline]
    pub fn finish<P>(&mut self, time: Timestamp, key_parts: impl IntoIterator<Item = P>)
    where
        P: AsRef<[u8]>,
    {
        let start = self.used;
        for part in key_parts {
            let part = part.as_ref();
            self.grow(part.len() + key::LENGTH_BYTES_MAX);
            key::write_part(&mut self.bytes, &mut self.used, part);
        }
        let (row, words) = (self.heads.len() - 1, self.widths.words);
        let presence = &self.presence[row * words..][..words];
        let present = presence.iter().map(|word| word.count_ones() as usize).sum::<usize>();
        let head = &mut self.heads[row];
        head.time = time;
        head.key = Span { start: start as u32, length: (self.used - start) as u32 };
        head.is_complete = present == self.widths.total();
    }

    /// Ends the message begun last as rejected; what was set of it does not count.
    #[inline]
    pub fn reject(&mut self, reason: Reason) {
        if let Some(head) = self.heads.last_mut() {
            head.reject = Some(reason);
        }
    }

    /// Returns the message at `index`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](EventBlock::len).
    #[inline]
    pub fn message(&self, index: usize) -> Message<'_> {
        Message { block: self, index, head: &self.heads[index] }
    }

    #[inline]
    fn set_present(&mut self, bit: usize) {
        let at = (self.heads.len() - 1) * self.widths.words + bit / 64;
        self.presence[at] |= 1 << (bit % 64);
    }
}

/// Writes a text into the room behind `used`, which must suffice.
#[inline]
pub(super) fn push_bytes(bytes: &mut [u8], used: &mut usize, text: &[u8]) -> Span {
    let start = *used;
    bytes[start..start + text.len()].copy_from_slice(text);
    *used = start + text.len();
    // `grow_bytes` keeps all places below 2^32.
    Span { start: start as u32, length: text.len() as u32 }
}

/// Writes the present values of a row, and their presence bits from `first_bit` on.
#[inline]
fn set_row<T: Copy + core::ops::Add<Output = T> + Default>(
    row: &mut [T],
    presence: &mut [u64],
    first_bit: usize,
    values: impl IntoIterator<Item = Option<T>>,
) {
    let (mut word, mut bits) = (first_bit / 64, 0_u64);
    for (bit, (place, value)) in (first_bit..).zip(row.iter_mut().zip(values)) {
        if bit / 64 != word {
            presence[word] |= bits;
            (word, bits) = (bit / 64, 0);
        }
        if let Some(value) = value {
            // Adding 0 turns -0 into 0.
            *place = value + T::default();
            bits |= 1 << (bit % 64);
        }
    }
    if bits != 0 {
        presence[word] |= bits;
    }
}

/// One message of a block.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    block: &'a EventBlock,
    index: usize,
    head: &'a Head,
}

impl<'a> Message<'a> {
    /// Returns where the message stands in the log.
    #[inline]
    pub fn position(&self) -> Position {
        self.head.position
    }

    /// Returns when the message was published, in milliseconds since the epoch.
    #[inline]
    pub fn publish_time_ms(&self) -> i64 {
        self.head.publish_time_ms
    }

    /// Returns why decoding refused the message, if it did.
    #[inline]
    pub fn reject(&self) -> Option<Reason> {
        self.head.reject
    }

    /// Returns the event time; meaningless for rejected messages.
    #[inline]
    pub fn time(&self) -> Timestamp {
        self.head.time
    }

    /// Returns the encoded group key.
    #[inline]
    pub fn key(&self) -> &'a [u8] {
        self.key_place().as_bytes()
    }

    /// Returns how many metrics of the message were invalid.
    #[inline]
    pub fn invalid_count(&self) -> u32 {
        self.head.invalid_count
    }

    /// Returns all floats; absent ones are 0.
    #[inline]
    pub fn floats(&self) -> &'a [f64] {
        let (width, count) = (self.block.widths.float_groups, self.block.widths.floats);
        &self.block.floats[self.index * width..][..width].as_flattened()[..count]
    }

    /// Returns all integers; absent ones are 0.
    #[inline]
    pub fn ints(&self) -> &'a [i64] {
        let (width, count) = (self.block.widths.int_groups, self.block.widths.ints);
        &self.block.ints[self.index * width..][..width].as_flattened()[..count]
    }

    /// Returns floats and integers with what fills up the last group of four of each, and with
    /// those of the messages behind.
    #[inline]
    pub(crate) fn numbers_on(&self) -> (&'a [f64], &'a [i64]) {
        let Widths { float_groups, int_groups, .. } = self.block.widths;
        let floats = &self.block.floats[self.index * float_groups..];
        let ints = &self.block.ints[self.index * int_groups..];
        (floats.as_flattened(), ints.as_flattened())
    }

    /// Returns whether a float is present.
    #[inline]
    pub fn has_float(&self, slot: u16) -> bool {
        self.is_present(usize::from(slot))
    }

    /// Returns whether an integer is present.
    #[inline]
    pub fn has_int(&self, slot: u16) -> bool {
        self.is_present(self.block.widths.floats + usize::from(slot))
    }

    /// Returns a float, if present.
    #[inline]
    pub fn float(&self, slot: u16) -> Option<f64> {
        self.has_float(slot).then(|| self.floats()[usize::from(slot)])
    }

    /// Returns an integer, if present.
    #[inline]
    pub fn int(&self, slot: u16) -> Option<i64> {
        self.has_int(slot).then(|| self.ints()[usize::from(slot)])
    }

    /// Returns a text's bytes (UTF-8), if present.
    #[inline]
    pub fn text(&self, slot: u16) -> Option<&'a [u8]> {
        self.text_place(slot).map(|text| text.as_bytes())
    }

    /// Returns a text, if present, to be compared.
    #[inline]
    pub(crate) fn text_place(&self, slot: u16) -> Option<Text<'a>> {
        let bit = self.block.widths.floats + self.block.widths.ints + usize::from(slot);
        let at = self.index * self.block.widths.texts + usize::from(slot);
        self.is_present(bit).then(|| self.place(self.block.texts[at]))
    }

    /// Returns the encoded group key, to be compared.
    #[inline]
    pub(crate) fn key_place(&self) -> Text<'a> {
        self.place(self.head.key)
    }

    /// Returns whether every field is present.
    #[inline]
    pub fn is_complete(&self) -> bool {
        self.head.is_complete
    }

    /// Returns the presence bits that are missing: floats first, then integers, then texts.
    #[inline]
    pub fn absent(&self) -> impl Iterator<Item = usize> + use<'a> {
        self.presence().absent()
    }

    /// Returns the presence bits, to be asked for many of them.
    #[inline]
    pub(crate) fn presence(&self) -> Presence<'a> {
        let (total, words) = (self.block.widths.total(), self.block.widths.words);
        Presence::new(&self.block.presence[self.index * words..][..words], total)
    }

    #[inline]
    fn is_present(&self, bit: usize) -> bool {
        let at = self.index * self.block.widths.words + bit / 64;
        self.block.presence[at] >> (bit % 64) & 1 == 1
    }

    #[inline]
    fn place(&self, span: Span) -> Text<'a> {
        Text::new(&self.block.bytes[span.start as usize..], span.length as usize)
    }
}

//! Decoded messages in blocks: what the decoder writes and the roll-up folds.
//!
//! A block holds one row of values per message, in log order, rejected ones included, because
//! every message has an ordinal. Rows stand one behind the other in a few flat arrays, so a block
//! of some hundred messages stays in the cache and allocates nothing once it has grown. A block
//! keeps no payloads: letters name a message by its index and the caller still has the bytes.

use alloc::vec::Vec;

use crate::{key, schema::Schema, time::Timestamp};

/// Where a message stands in its partition's log. Compared, never subtracted.
///
/// Pulsar: (ledger, entry, batch index). Kafka: (0, offset, 0). Files: (file, byte offset, 0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The ledger, segment or file.
    pub segment: u64,
    /// The entry or offset in it.
    pub offset: u64,
    /// The message in the entry.
    pub index: u32,
}

impl Position {
    /// Returns a position.
    pub const fn new(segment: u64, offset: u64, index: u32) -> Position {
        Position { segment, offset, index }
    }
}

/// Why a message is in the dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The payload is empty.
    Empty,
    /// The payload is larger than the limit.
    TooLarge,
    /// Not one JSON object by RFC 8259, or not UTF-8.
    Malformed,
    /// Nested deeper than the limit.
    TooDeep,
    /// A part of the group key is absent or null.
    MissingKey,
    /// A part of the group key stands in the message twice.
    DuplicateKey,
    /// A part of the group key is no text or integer, is empty, or is longer than the limit.
    InvalidKey,
    /// The time is absent or null.
    MissingTime,
    /// The time stands there twice, cannot be read, or is before 1970 or after 2106.
    InvalidTime,
    /// The event time is further ahead of the publish time than the limit.
    Future,
    /// The window of the event was closed before the message came.
    Late,
    /// The window holds as many devices as the limit allows, and this is another one; or the
    /// device has 2^32 - 1 messages in the window already.
    DeviceLimit,
    /// The entry's checksum does not match.
    ChecksumMismatch,
    /// The entry is compressed with a codec that is not supported.
    UnsupportedCodec,
    /// The entry cannot be decompressed or cut into messages.
    CorruptEntry,
    /// The message is one chunk of a larger one.
    Chunked,
    /// The message is encrypted.
    Encrypted,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 17] = [
        Reason::Empty,
        Reason::TooLarge,
        Reason::Malformed,
        Reason::TooDeep,
        Reason::MissingKey,
        Reason::DuplicateKey,
        Reason::InvalidKey,
        Reason::MissingTime,
        Reason::InvalidTime,
        Reason::Future,
        Reason::Late,
        Reason::DeviceLimit,
        Reason::ChecksumMismatch,
        Reason::UnsupportedCodec,
        Reason::CorruptEntry,
        Reason::Chunked,
        Reason::Encrypted,
    ];

    /// Returns the name used in stores and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Empty => "empty",
            Reason::TooLarge => "too_large",
            Reason::Malformed => "malformed",
            Reason::TooDeep => "too_deep",
            Reason::MissingKey => "missing_key",
            Reason::DuplicateKey => "duplicate_key",
            Reason::InvalidKey => "invalid_key",
            Reason::MissingTime => "missing_time",
            Reason::InvalidTime => "invalid_time",
            Reason::Future => "future",
            Reason::Late => "late",
            Reason::DeviceLimit => "device_limit",
            Reason::ChecksumMismatch => "checksum_mismatch",
            Reason::UnsupportedCodec => "unsupported_codec",
            Reason::CorruptEntry => "corrupt_entry",
            Reason::Chunked => "chunked",
            Reason::Encrypted => "encrypted",
        }
    }
}

/// A range of the block's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    length: u32,
}

/// What is known of one message beside its values.
#[derive(Clone, Copy, Debug)]
struct Head {
    position: Position,
    publish_time_ms: i64,
    time: Timestamp,
    key: Span,
    invalid_count: u32,
    reject: Option<Reason>,
}

/// Decoded messages in log order.
///
/// A decoder calls [`begin`](EventBlock::begin), sets what it finds, then
/// [`finish`](EventBlock::finish) or [`reject`](EventBlock::reject).
#[derive(Clone, Debug)]
pub struct EventBlock {
    float_count: usize,
    int_count: usize,
    text_count: usize,
    presence_words: usize,
    heads: Vec<Head>,
    floats: Vec<f64>,
    ints: Vec<i64>,
    texts: Vec<Span>,
    presence: Vec<u64>,
    bytes: Vec<u8>,
}

impl EventBlock {
    /// Returns an empty block for events of that schema.
    pub fn new(schema: &Schema) -> EventBlock {
        let (float_count, int_count) = (schema.float_count(), schema.int_count());
        let text_count = schema.text_count();
        EventBlock {
            float_count,
            int_count,
            text_count,
            presence_words: (float_count + int_count + text_count).div_ceil(64),
            heads: Vec::new(),
            floats: Vec::new(),
            ints: Vec::new(),
            texts: Vec::new(),
            presence: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Empties the block and keeps its memory.
    pub fn clear(&mut self) {
        self.heads.clear();
        self.floats.clear();
        self.ints.clear();
        self.texts.clear();
        self.presence.clear();
        self.bytes.clear();
    }

    /// Returns the number of messages, rejected ones included.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Returns whether the block holds no message.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Starts the next message with nothing present.
    #[inline]
    pub fn begin(&mut self, position: Position, publish_time_ms: i64) {
        self.heads.push(Head {
            position,
            publish_time_ms,
            time: Timestamp::MIN,
            key: Span::default(),
            invalid_count: 0,
            reject: None,
        });
        let count = self.heads.len();
        self.floats.resize(count * self.float_count, 0.0);
        self.ints.resize(count * self.int_count, 0);
        self.texts.resize(count * self.text_count, Span::default());
        self.presence.resize(count * self.presence_words, 0);
    }

    /// Sets a float of the message begun last. The value must be finite; −0 becomes 0.
    #[inline]
    pub fn set_float(&mut self, slot: u16, value: f64) {
        debug_assert!(value.is_finite(), "invalid values are counted, never set");
        let at = self.floats.len() - self.float_count + usize::from(slot);
        self.floats[at] = value + 0.0;
        self.set_present(usize::from(slot));
    }

    /// Sets an integer of the message begun last.
    #[inline]
    pub fn set_int(&mut self, slot: u16, value: i64) {
        let at = self.ints.len() - self.int_count + usize::from(slot);
        self.ints[at] = value;
        self.set_present(self.float_count + usize::from(slot));
    }

    /// Sets all floats of the message begun last, in the order of their slots; `None` is absent.
    /// What [`set_float`](EventBlock::set_float) does one by one, at a third of the instructions.
    #[inline]
    pub fn set_floats(&mut self, values: impl IntoIterator<Item = Option<f64>>) {
        let start = self.floats.len() - self.float_count;
        let presence = self.presence.len() - self.presence_words;
        set_row(&mut self.floats[start..], &mut self.presence[presence..], 0, values);
    }

    /// Sets all integers of the message begun last, in the order of their slots; `None` is absent.
    #[inline]
    pub fn set_ints(&mut self, values: impl IntoIterator<Item = Option<i64>>) {
        let start = self.ints.len() - self.int_count;
        let presence = self.presence.len() - self.presence_words;
        let row = &mut self.ints[start..];
        set_row(row, &mut self.presence[presence..], self.float_count, values);
    }

    /// Sets a text of the message begun last. It is UTF-8: whoever decodes has checked that.
    #[inline]
    pub fn set_text(&mut self, slot: u16, value: impl AsRef<[u8]>) {
        let at = self.texts.len() - self.text_count + usize::from(slot);
        self.texts[at] = self.append(value.as_ref());
        self.set_present(self.float_count + self.int_count + usize::from(slot));
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
        let start = self.bytes.len();
        for part in key_parts {
            key::push_part(&mut self.bytes, part.as_ref());
        }
        let key = span(start, self.bytes.len());
        if let Some(head) = self.heads.last_mut() {
            head.time = time;
            head.key = key;
        }
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
        let at = self.presence.len() - self.presence_words + bit / 64;
        self.presence[at] |= 1 << (bit % 64);
    }

    #[inline]
    fn append(&mut self, text: &[u8]) -> Span {
        debug_assert!(core::str::from_utf8(text).is_ok(), "texts are checked when decoded");
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        span(start, self.bytes.len())
    }
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

#[inline]
fn span(start: usize, end: usize) -> Span {
    let bound = "a block holds less than 4 GiB of text";
    Span {
        start: u32::try_from(start).expect(bound),
        length: u32::try_from(end - start).expect(bound),
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
        self.bytes(self.head.key)
    }

    /// Returns how many metrics of the message were invalid.
    #[inline]
    pub fn invalid_count(&self) -> u32 {
        self.head.invalid_count
    }

    /// Returns all floats; absent ones are 0.
    #[inline]
    pub fn floats(&self) -> &'a [f64] {
        let width = self.block.float_count;
        &self.block.floats[self.index * width..][..width]
    }

    /// Returns all integers; absent ones are 0.
    #[inline]
    pub fn ints(&self) -> &'a [i64] {
        let width = self.block.int_count;
        &self.block.ints[self.index * width..][..width]
    }

    /// Returns whether a float is present.
    #[inline]
    pub fn has_float(&self, slot: u16) -> bool {
        self.is_present(usize::from(slot))
    }

    /// Returns whether an integer is present.
    #[inline]
    pub fn has_int(&self, slot: u16) -> bool {
        self.is_present(self.block.float_count + usize::from(slot))
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
        let bit = self.block.float_count + self.block.int_count + usize::from(slot);
        let at = self.index * self.block.text_count + usize::from(slot);
        self.is_present(bit).then(|| self.bytes(self.block.texts[at]))
    }

    /// Returns whether every field is present.
    #[inline]
    pub fn is_complete(&self) -> bool {
        let block = self.block;
        let total = block.float_count + block.int_count + block.text_count;
        let words = &block.presence[self.index * block.presence_words..][..block.presence_words];
        words.iter().map(|word| word.count_ones() as usize).sum::<usize>() == total
    }

    /// Returns the presence bits that are missing: floats first, then integers, then texts.
    #[inline]
    pub fn absent(&self) -> impl Iterator<Item = usize> + '_ {
        let block = self.block;
        let total = block.float_count + block.int_count + block.text_count;
        let words = &block.presence[self.index * block.presence_words..][..block.presence_words];
        words.iter().enumerate().flat_map(move |(word, present)| {
            let width = (total - word * 64).min(64);
            let mut absent = !present & (u64::MAX >> (64 - width));
            core::iter::from_fn(move || {
                let bit = absent.trailing_zeros() as usize;
                absent &= absent.wrapping_sub(1);
                (bit < 64).then_some(word * 64 + bit)
            })
        })
    }

    #[inline]
    fn is_present(&self, bit: usize) -> bool {
        let at = self.index * self.block.presence_words + bit / 64;
        self.block.presence[at] >> (bit % 64) & 1 == 1
    }

    #[inline]
    fn bytes(&self, span: Span) -> &'a [u8] {
        &self.block.bytes[span.start as usize..][..span.length as usize]
    }
}

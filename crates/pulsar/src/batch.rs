//! Batches: splits a received one into messages, builds one to be sent.
//!
//! ```text
//! message of a batch:  u32 size of its metadata | metadata (protobuf) | payload
//! ```
//! Splitting reads the protobuf by hand: no allocation, no copy, one pass. A field that is not
//! needed is skipped by its wire type. Where the bytes stop making sense, all remaining messages
//! of the batch are reported as bad, so that the count never changes.

use bytes::{BufMut, Bytes, BytesMut};

use crate::entry::{Body, Entry, RejectReason};
use crate::proto::KeyValue;

/// The messages of a batch that had been acknowledged one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckSet {
    // One bit for each message; a set bit means not acknowledged. Bits that are absent are clear.
    words: Vec<i64>,
}

impl AckSet {
    pub(crate) fn from_words(words: Vec<i64>) -> Option<Self> {
        (!words.is_empty()).then_some(Self { words })
    }

    /// Reports whether the message with this index in the batch was acknowledged before.
    pub fn is_acked(&self, batch_index: u32) -> bool {
        let word = self.words.get(batch_index as usize / 64).copied().unwrap_or(0);
        word >> (batch_index % 64) & 1 == 0
    }

    pub(crate) fn unacked_count(&self, message_count: u32) -> u32 {
        let (full, rest) = (message_count as usize / 64, message_count % 64);
        let whole: u32 = self.words.iter().take(full).map(|word| word.count_ones()).sum();
        let last = self.words.get(full).copied().unwrap_or(0) as u64;
        whole + (last & ((1u64 << rest) - 1)).count_ones()
    }
}

/// One message of an entry; borrows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Index in the batch; 0 where there is no batch.
    pub batch_index: u32,
    /// What the producer sent.
    pub payload: &'a [u8],
    /// The key as it stands on the wire.
    pub key: Option<&'a [u8]>,
    /// True where the producer encoded a binary key as base64.
    pub key_is_base64: bool,
    /// Names and values that the producer added.
    pub properties: Properties<'a>,
    /// Time set by the producer's application, in ms since 1970.
    pub event_time_ms: Option<u64>,
    /// The producer's clock at sending of the entry, in ms since 1970.
    pub publish_time_ms: u64,
    /// The broker holds an acknowledgement of this message.
    pub acked: bool,
    /// The producer sent no value (a tombstone); the payload is empty.
    pub null_payload: bool,
    /// The broker's compaction has removed the value; there is nothing to process.
    pub compacted_out: bool,
}

/// The properties of a message, looked up when they are asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Properties<'a>(PropertiesOf<'a>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum PropertiesOf<'a> {
    /// The whole metadata of a message in a batch.
    Batched(&'a [u8]),
    Single(&'a [KeyValue]),
}

impl<'a> Properties<'a> {
    /// Returns the value of a name; of several the last, as other clients have it.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        match self.0 {
            PropertiesOf::Batched(metadata) => {
                let mut found = None;
                read_fields(metadata, |property| {
                    let (key, value) = read_property(property).unwrap_or_default();
                    if key == name.as_bytes() {
                        found = Some(value);
                    }
                });
                found
            }
            PropertiesOf::Single(properties) => {
                let named = |property: &&KeyValue| property.key == name.as_bytes();
                properties.iter().rev().find(named).map(|property| &property.value[..])
            }
        }
    }
}

impl Eq for Properties<'_> {}

/// A message that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message {batch_index} of the entry: {reason}")]
pub struct BadMessage {
    /// Index in the batch.
    pub batch_index: u32,
    /// Why.
    pub reason: RejectReason,
    /// The broker holds an acknowledgement of this message.
    pub acked: bool,
}

/// Iterator over the messages of an entry; yields exactly `message_count` items.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    entry: &'a Entry,
    /// What is left of the batch; `None` once it stopped making sense.
    rest: Result<&'a [u8], RejectReason>,
    next_index: u32,
}

impl<'a> Messages<'a> {
    pub(crate) fn new(entry: &'a Entry) -> Self {
        let rest = match &entry.body {
            Body::Batch(data) => Ok(&data[..]),
            Body::Single(_) => Ok(&[][..]),
            Body::Rejected(rejected) => Err(rejected.reason),
        };
        Self { entry, rest, next_index: 0 }
    }

    fn read(&mut self, batch_index: u32, acked: bool) -> Result<Message<'a>, RejectReason> {
        let publish_time_ms = self.entry.publish_time_ms;
        if let Body::Single(single) = &self.entry.body {
            return Ok(Message {
                batch_index,
                payload: &single.payload,
                key: single.key.as_deref(),
                key_is_base64: single.key_is_base64,
                properties: Properties(PropertiesOf::Single(&single.properties)),
                event_time_ms: single.event_time_ms,
                publish_time_ms,
                acked,
                null_payload: single.null_payload,
                compacted_out: false,
            });
        }
        let split = split_first(self.rest?);
        let Some((fields, payload, rest)) = split else {
            self.rest = Err(RejectReason::MalformedBatch);
            return Err(RejectReason::MalformedBatch);
        };
        self.rest = Ok(rest);
        Ok(Message {
            batch_index,
            payload,
            key: fields.key,
            key_is_base64: fields.key_is_base64,
            properties: Properties(PropertiesOf::Batched(fields.metadata)),
            event_time_ms: (fields.event_time_ms != 0).then_some(fields.event_time_ms),
            publish_time_ms,
            acked,
            null_payload: fields.null_payload,
            compacted_out: fields.compacted_out,
        })
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, BadMessage>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.next_index >= self.entry.message_count {
            return None;
        }
        let batch_index = self.next_index;
        self.next_index += 1;
        let acked = self.entry.ack_set.as_ref().is_some_and(|set| set.is_acked(batch_index));
        let message = self.read(batch_index, acked);
        Some(message.map_err(|reason| BadMessage { batch_index, reason, acked }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.entry.message_count - self.next_index) as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Messages<'_> {}

#[derive(Default)]
struct Fields<'a> {
    /// All of them.
    metadata: &'a [u8],
    key: Option<&'a [u8]>,
    key_is_base64: bool,
    payload_bytes: Option<u64>,
    event_time_ms: u64,
    null_payload: bool,
    compacted_out: bool,
}

/// Returns the metadata and payload of the first message and what follows it.
#[inline]
fn split_first(data: &[u8]) -> Option<(Fields<'_>, &[u8], &[u8])> {
    let (head, rest) = data.split_first_chunk::<4>()?;
    let (metadata, rest) = rest.split_at_checked(u32::from_be_bytes(*head) as usize)?;
    let fields = Fields { metadata, ..read_fields(metadata, |_| {})? };
    // A negative size arrives as a huge one and fails here.
    let payload_bytes = usize::try_from(fields.payload_bytes?).ok()?;
    let (payload, rest) = rest.split_at_checked(payload_bytes)?;
    Some((fields, payload, rest))
}

#[inline]
fn read_fields<'a>(mut data: &'a [u8], mut property: impl FnMut(&'a [u8])) -> Option<Fields<'a>> {
    let mut fields = Fields::default();
    while !data.is_empty() {
        let tag = varint(&mut data)?;
        match (tag >> 3, tag & 7) {
            (1, 2) => property(sized(&mut data)?),
            (2, 2) => fields.key = Some(sized(&mut data)?),
            (3, 0) => fields.payload_bytes = Some(varint(&mut data)?),
            (4, 0) => fields.compacted_out = varint(&mut data)? != 0,
            (5, 0) => fields.event_time_ms = varint(&mut data)?,
            (6, 0) => fields.key_is_base64 = varint(&mut data)? != 0,
            (9, 0) => fields.null_payload = varint(&mut data)? != 0,
            (0, _) => return None,
            (_, 0) => {
                varint(&mut data)?;
            }
            (_, 1) => data = data.get(8..)?,
            (_, 2) => {
                sized(&mut data)?;
            }
            (_, 5) => data = data.get(4..)?,
            _ => return None,
        }
    }
    Some(fields)
}

/// Returns name and value.
fn read_property(mut data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut key, mut value) = (None, None);
    while !data.is_empty() {
        match varint(&mut data)? {
            0x0a => key = Some(sized(&mut data)?),
            0x12 => value = Some(sized(&mut data)?),
            _ => return None,
        }
    }
    key.zip(value)
}

#[inline]
fn sized<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let size = usize::try_from(varint(data)?).ok()?;
    let (part, rest) = data.split_at_checked(size)?;
    *data = rest;
    Some(part)
}

#[inline]
fn varint(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (at, &byte) in data.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            *data = &data[at + 1..];
            return Some(value);
        }
    }
    None
}

/// One message to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// Key, which should be UTF-8: other clients read it as text.
    pub key: Option<Bytes>,
    /// The value.
    pub payload: Bytes,
    /// Time set by the application, in ms since 1970.
    pub event_time_ms: Option<u64>,
}

impl OutgoingMessage {
    /// Creates a message without an event time.
    pub fn new(key: Option<impl Into<Bytes>>, payload: impl Into<Bytes>) -> Self {
        Self { key: key.map(Into::into), payload: payload.into(), event_time_ms: None }
    }

    /// Returns an upper bound of what the message adds to a batch.
    pub(crate) fn batched_bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 40;
        OVERHEAD_BYTES + self.key.as_ref().map_or(0, Bytes::len) + self.payload.len()
    }
}

/// Encodes the body of a batch, not yet compressed.
pub(crate) fn encode_batch(messages: &[OutgoingMessage]) -> Bytes {
    let bytes = messages.iter().map(OutgoingMessage::batched_bytes).sum();
    let mut data = BytesMut::with_capacity(bytes);
    let mut metadata = Vec::with_capacity(64);
    for message in messages {
        metadata.clear();
        if let Some(key) = &message.key {
            metadata.push(2 << 3 | 2);
            put_varint(&mut metadata, key.len() as u64);
            metadata.extend_from_slice(key);
        }
        metadata.push(3 << 3);
        put_varint(&mut metadata, message.payload.len() as u64);
        if let Some(time) = message.event_time_ms {
            metadata.push(5 << 3);
            put_varint(&mut metadata, time);
        }
        data.put_u32(u32::try_from(metadata.len()).expect("keys are bounded by the batch limit"));
        data.put_slice(&metadata);
        data.put_slice(&message.payload);
    }
    data.freeze()
}

fn put_varint(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buffer.push(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.push(value as u8);
}

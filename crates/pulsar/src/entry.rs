//! A whole entry of the broker: where it stands, when it was published, and its opened body.
//!
//! Opening an entry checks the checksum and decompresses; it does not split. An entry that cannot
//! be opened keeps its place in the log and is handed out with a reason and the first bytes of
//! what was received, so that no message ever vanishes. Chunked and encrypted messages are not
//! opened.

use std::fmt;

use bytes::Bytes;

use crate::batch::{AckSet, Messages};
use crate::codec;
use crate::frame::{Payload, split_payload};
use crate::proto::{KeyValue, MessageMetadata};

/// Place of an entry in the log of a partition. Compared, never subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Ledger, growing along the log.
    pub ledger_id: u64,
    /// Entry in the ledger, from 0.
    pub entry_id: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.ledger_id, self.entry_id)
    }
}

/// Bounds on what an entry may make this process hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryLimits {
    /// Largest decompressed body; a larger one is rejected. Default 64 MiB.
    pub entry_bytes_max: usize,
    /// How many bytes of a rejected entry are kept. Default 64 KiB.
    pub rejected_bytes_max: usize,
}

impl Default for EntryLimits {
    fn default() -> Self {
        Self { entry_bytes_max: 64 << 20, rejected_bytes_max: 64 << 10 }
    }
}

/// Why an entry, or a message of it, cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum RejectReason {
    /// The checksum does not fit what was received.
    #[error("checksum mismatch")]
    ChecksumMismatch,
    /// The metadata in front of the body cannot be read.
    #[error("unreadable entry metadata")]
    MalformedMetadata,
    /// The decompressed body would be larger than the limit.
    #[error("decompressed body of {bytes} bytes exceeds the limit")]
    TooLarge {
        /// Size announced by the producer.
        bytes: u64,
    },
    /// The body is compressed with a codec that is not supported.
    #[error("unsupported compression codec {0}")]
    UnsupportedCodec(
        /// Number of the codec in the protocol.
        i32,
    ),
    /// The body does not decompress to the announced size.
    #[error("body does not decompress to the announced size")]
    MalformedCompression,
    /// The messages of the batch cannot be told apart, from some message on.
    #[error("malformed batch")]
    MalformedBatch,
    /// The entry is one piece of a chunked message.
    #[error("chunked message")]
    Chunked,
    /// The body is encrypted.
    #[error("encrypted message")]
    Encrypted,
}

/// An entry that was not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Why.
    pub reason: RejectReason,
    /// The body as received, cut at `EntryLimits::rejected_bytes_max`.
    pub raw: Bytes,
}

/// The opened body.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Batch(Bytes),
    Single(Single),
    Rejected(Rejected),
}

/// A message that was sent without a batch around it.
#[derive(Clone, Debug)]
pub(crate) struct Single {
    pub(crate) payload: Bytes,
    pub(crate) key: Option<Bytes>,
    pub(crate) key_is_base64: bool,
    pub(crate) properties: Vec<KeyValue>,
    pub(crate) event_time_ms: Option<u64>,
    pub(crate) null_payload: bool,
}

/// One entry of the broker.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Place in the log.
    pub position: Position,
    /// Index of the partition; -1 where the topic is not partitioned.
    pub partition: i32,
    /// The producer's clock at sending, in ms since 1970; 0 where the metadata is unreadable.
    pub publish_time_ms: u64,
    /// The broker's clock at storing, where the broker adds it.
    pub broker_timestamp_ms: Option<u64>,
    /// How many messages the entry counts for; at least 1. Rejected entries have a count, too: a
    /// claimed count beyond 1,048,576, or beyond what the announced size can hold, counts as 1.
    pub message_count: u32,
    /// How many permits of `flow` the broker has charged for this entry.
    pub permits: u32,
    /// How often the broker says it has delivered the entry before.
    pub redelivery_count: u32,
    /// Which messages of the batch had been acknowledged one by one.
    pub ack_set: Option<AckSet>,
    pub(crate) body: Body,
}

impl Entry {
    /// Opens an entry from what stands behind the command in a frame. Never fails and never
    /// panics; what cannot be opened becomes a rejected entry.
    pub fn open(position: Position, payload: Bytes, limits: &EntryLimits) -> Self {
        Self::open_with(position, -1, 0, None, payload, limits)
    }

    pub(crate) fn open_with(
        position: Position,
        partition: i32,
        redelivery_count: u32,
        ack_set: Option<AckSet>,
        payload: Bytes,
        limits: &EntryLimits,
    ) -> Self {
        let parts = split_payload(payload);
        let broker_timestamp_ms = parts.broker_entry.as_ref().and_then(|e| e.broker_timestamp);
        let publish_time_ms = parts.metadata.as_ref().map_or(0, |m| m.publish_time);
        let (message_count, permits, body) = open_body(parts, limits);
        let permits = ack_set.as_ref().map_or(permits, |set| set.unacked_count(permits));
        Self {
            position,
            partition,
            publish_time_ms,
            broker_timestamp_ms,
            message_count,
            permits,
            redelivery_count,
            ack_set,
            body,
        }
    }

    /// Iterates over exactly `message_count` messages, readable or not, in log order.
    pub fn messages(&self) -> Messages<'_> {
        Messages::new(self)
    }

    /// Returns why the entry was not opened; `None` where it was.
    pub fn rejected(&self) -> Option<&Rejected> {
        match &self.body {
            Body::Rejected(rejected) => Some(rejected),
            Body::Batch(_) | Body::Single(_) => None,
        }
    }

    /// Returns the time that the skew guard compares event times with: the broker's where there
    /// is one, else the producer's.
    pub fn message_time_ms(&self) -> u64 {
        self.broker_timestamp_ms.unwrap_or(self.publish_time_ms)
    }

    /// Returns the decompressed body that the payloads of the messages are slices of, or the kept
    /// part of a rejected one.
    pub fn body(&self) -> Bytes {
        match &self.body {
            Body::Batch(data) => data.clone(),
            Body::Single(single) => single.payload.clone(),
            Body::Rejected(rejected) => rejected.raw.clone(),
        }
    }

    /// Returns the size of the decompressed body, or of the kept part of a rejected one.
    pub fn body_bytes(&self) -> usize {
        match &self.body {
            Body::Batch(data) => data.len(),
            Body::Single(single) => single.payload.len(),
            Body::Rejected(rejected) => rejected.raw.len(),
        }
    }
}

/// More messages in one entry are taken for forged.
const MESSAGE_COUNT_MAX: u32 = 1 << 20;
/// The smallest message of a batch: its size field and a metadata with a payload size.
const BATCHED_MESSAGE_BYTES_MIN: u64 = 6;

/// Returns message count, claimed count and body.
fn open_body(parts: Payload, limits: &EntryLimits) -> (u32, u32, Body) {
    let Payload { metadata, checksum_ok, body, .. } = parts;
    let Some(metadata) = metadata else {
        let reason = if checksum_ok {
            RejectReason::MalformedMetadata
        } else {
            RejectReason::ChecksumMismatch
        };
        return (1, 1, reject(reason, &body, limits));
    };
    let compression = metadata.compression.unwrap_or(0);
    let announced = u64::from(metadata.uncompressed_size.unwrap_or(0));
    let size = if compression == 0 { body.len() as u64 } else { announced };
    let claimed = u32::try_from(metadata.num_messages_in_batch.unwrap_or(1)).unwrap_or(1).max(1);
    let batched = metadata.num_messages_in_batch.is_some();
    // A count that nothing backs would make one forged entry yield billions of messages.
    let count_max = u64::from(MESSAGE_COUNT_MAX).min(size / BATCHED_MESSAGE_BYTES_MIN);
    let plausible = !batched || u64::from(claimed) <= count_max;
    let message_count = if plausible { claimed } else { 1 };
    let reason = if !checksum_ok {
        Some(RejectReason::ChecksumMismatch)
    } else if !metadata.encryption_keys.is_empty() {
        Some(RejectReason::Encrypted)
    } else if metadata.chunk_id.is_some() || metadata.num_chunks_from_msg.is_some_and(|n| n > 1) {
        Some(RejectReason::Chunked)
    } else if size > limits.entry_bytes_max as u64 {
        Some(RejectReason::TooLarge { bytes: size })
    } else if !plausible {
        Some(RejectReason::MalformedBatch)
    } else {
        None
    };
    if let Some(reason) = reason {
        return (message_count, claimed, reject(reason, &body, limits));
    }
    match decompress(compression, &body, size) {
        Ok(data) if batched => (message_count, claimed, Body::Batch(data)),
        Ok(data) => (message_count, claimed, Body::Single(single(metadata, data))),
        Err(reason) => (message_count, claimed, reject(reason, &body, limits)),
    }
}

fn decompress(compression: i32, body: &Bytes, size: u64) -> Result<Bytes, RejectReason> {
    let size = usize::try_from(size).map_err(|_| RejectReason::TooLarge { bytes: size })?;
    match compression {
        0 => Ok(body.clone()),
        codec::LZ4 => codec::decompress_lz4(body, size).ok_or(RejectReason::MalformedCompression),
        codec::ZSTD => codec::decompress_zstd(body, size).ok_or(RejectReason::MalformedCompression),
        codec::ZLIB => codec::decompress_zlib(body, size).ok_or(RejectReason::MalformedCompression),
        codec::SNAPPY => {
            codec::decompress_snappy(body, size).ok_or(RejectReason::MalformedCompression)
        }
        other => Err(RejectReason::UnsupportedCodec(other)),
    }
}

fn single(metadata: MessageMetadata, payload: Bytes) -> Single {
    Single {
        payload,
        key: metadata.partition_key,
        properties: metadata.properties,
        key_is_base64: metadata.partition_key_b64_encoded.unwrap_or(false),
        event_time_ms: metadata.event_time.filter(|&time| time != 0),
        null_payload: metadata.null_value.unwrap_or(false),
    }
}

fn reject(reason: RejectReason, body: &Bytes, limits: &EntryLimits) -> Body {
    // Copied, because a slice would keep the whole read buffer alive.
    let raw = Bytes::copy_from_slice(&body[..body.len().min(limits.rejected_bytes_max)]);
    Body::Rejected(Rejected { reason, raw })
}

//! Decoded messages in blocks: what the decoder writes and the roll-up folds.
//!
//! A block holds one row of values per message, in log order, rejected ones included, because
//! every message has an ordinal. Rows stand one behind the other in a few flat arrays, so a block
//! of some hundred messages stays in the cache and allocates nothing once it has grown. A block
//! keeps no payloads: letters name a message by its index and the caller still has the bytes.

mod block;
mod presence;
mod rows;
mod text;

pub use self::{
    block::{EventBlock, Mark, Message},
    rows::Rows,
};
pub(crate) use self::{presence::Presence, text::Text};

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

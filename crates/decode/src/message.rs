//! Messages as they lie in a buffer, before anything is known of them.

use tidemill_kernel::event::{Position, Reason};

/// A message as it came, inside of a buffer of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawMessage {
    /// Its place in the partition's log.
    pub position: Position,
    /// Where its payload starts in the buffer.
    pub start: u32,
    /// The payload's length in bytes.
    pub length: u32,
    /// When it was published, ms since the epoch.
    pub publish_time_ms: i64,
    /// Why it cannot be decoded, if the transport already knows.
    pub reject: Option<Reason>,
}

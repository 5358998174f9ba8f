//! How far a lane is, in the terms of a commit record; and the revisions that order what is stored.

use crate::{event::Position, ledger::Ledger};

/// Ordinals take the low bits of a revision, generations the high ones.
pub const ORDINAL_BITS: u32 = 44;
/// The largest ordinal (17.6 million million messages of one partition).
pub const ORDINAL_MAX: u64 = (1 << ORDINAL_BITS) - 1;
/// The largest generation; with it, revisions stay below 2^63, which every store can hold.
pub const GENERATION_MAX: u32 = (1 << (63 - ORDINAL_BITS)) - 1;
/// Returns `generation << 44 | ordinal`: what a row or record with a higher one gives way to.
///
/// # Panics
/// If either is beyond its bits, which no log reaches.
pub fn revision(generation: u32, ordinal: u64) -> u64 {
    assert!(generation <= GENERATION_MAX && ordinal <= ORDINAL_MAX, "revision out of bounds");
    u64::from(generation) << ORDINAL_BITS | ordinal
}

/// How far a lane is: what a commit record holds of the roll-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How many messages were processed.
    pub ordinal: u64,
    /// All windows that end at or before this instant (ms) are closed; `i64::MIN` if none.
    pub closed_until_ms: i64,
    /// The highest event time (ms) that counted; `i64::MIN` if none.
    pub highest_event_time_ms: i64,
    /// The last processed position.
    pub processed: Option<Position>,
    /// The first message of the oldest open window; `None` if no window is open.
    pub resume: Option<Position>,
    /// Where the messages went.
    pub ledger: Ledger,
}

impl Progress {
    /// Before the first message.
    pub const BIRTH: Progress = Progress {
        ordinal: 0,
        closed_until_ms: i64::MIN,
        highest_event_time_ms: i64::MIN,
        processed: None,
        resume: None,
        ledger: Ledger { messages: 0, aggregated: 0, open: 0, late: 0, rejected: 0, lost: 0 },
    };
}

/// What the log held when it was read again is not what the record says of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "reading again up to {processed:?} found {found} messages of open windows, \
     but the record says {expected}: the log has changed, or the rules for what counts"
)]
pub struct ReplayError {
    /// The last processed position of the record.
    pub processed: Position,
    /// The record's number of messages in open windows.
    pub expected: u64,
    /// What was folded.
    pub found: u64,
}

//! What a step of the roll-up asks its surroundings to do.
//!
//! Effects are data; nothing here writes or sends. They pile up over steps until the caller takes
//! them into a commit.

use alloc::vec::Vec;

use crate::{
    event::{Position, Reason},
    row::RowBlock,
};

/// A message that goes to the dead letters. The caller adds the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The message's index in the block of this step.
    pub index: usize,
    /// Its place in the log.
    pub position: Position,
    /// How many messages of the lane stand up to here.
    pub ordinal: u64,
    /// Why.
    pub reason: Reason,
}

/// A message that counts for a window that is closed, where such messages correct the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateEvent {
    /// The message's index in the block of this step.
    pub index: usize,
    /// Its place in the log.
    pub position: Position,
    /// How many messages of the lane stand up to here.
    pub ordinal: u64,
    /// The end of its window in ms.
    pub window_end_ms: i64,
    /// The encoded group key.
    pub key: Vec<u8>,
    /// The message alone as a partial state.
    pub state: Vec<u8>,
}

/// A window that closed, for the log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedWindow {
    /// Its end in ms.
    pub end_ms: i64,
    /// How many keys it held.
    pub device_count: usize,
    /// How many messages were folded in.
    pub message_count: u64,
    /// The index in [`Effects::rows`] of its first piece.
    pub first_piece: usize,
    /// How many pieces it has.
    pub piece_count: usize,
}

impl ClosedWindow {
    /// Returns the rows of this window among those that its closing was asked for with.
    pub fn pieces<'r>(&self, rows: &'r [RowBlock]) -> &'r [RowBlock] {
        &rows[self.first_piece..][..self.piece_count]
    }
}

/// Everything asked for since the effects were last taken.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Rows to store, in pieces of at most `piece_rows_max`.
    pub rows: Vec<RowBlock>,
    /// Letters of the last step.
    pub letters: Vec<Letter>,
    /// Late messages of the last step that correct rows.
    pub late: Vec<LateEvent>,
    /// Windows that closed.
    pub closed: Vec<ClosedWindow>,
    /// Sums that did not fit their column and were stored as the nearest value that does.
    pub saturated_count: u64,
}

impl Effects {
    /// Returns whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.letters.is_empty()
            && self.late.is_empty()
            && self.closed.is_empty()
    }
}

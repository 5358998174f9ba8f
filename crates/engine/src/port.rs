//! The ports: what the engine asks of stores and sources.
//!
//! A store writes rows, letters and the record of a commit, each durable before the next (or all
//! in one transaction), idempotently by row key and revision. A source yields whole entries with
//! positions. Each port has a real and a simulated implementation.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
pub use tidemill_decode::RawMessage;
pub use tidemill_kernel::amend::StoredState;
use tidemill_kernel::{
    event::{Position, Reason},
    row::RowBlock,
};

use crate::record::{CommitId, CommitRecord, LaneId};

/// A message that is in no row, with what is needed to find and repair it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The partition of its lane.
    pub partition: Arc<str>,
    /// Where the message stands; with the lane this is the letter's identity.
    pub position: Position,
    /// How many messages of the lane stand up to here.
    pub ordinal: u64,
    /// The ordinal with the generation above it; a higher one replaces a letter.
    pub revision: u64,
    /// Why it is here.
    pub reason: Reason,
    /// When it was published (ms).
    pub publish_time_ms: i64,
    /// Its event time (ms), if it could be read.
    pub event_time_ms: Option<i64>,
    /// The parts of its group key, joined by `/`, if they could be read.
    pub key: Option<String>,
    /// The payload's first bytes, at most `dead_letter_bytes_max`.
    pub payload: Bytes,
    /// The whole payload's length in bytes.
    pub payload_bytes: u64,
}

/// What is written at one position of a lane.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The record that this commit follows; the fence of stores with transactions. `None` for a
    /// birth record.
    pub previous: Option<CommitId>,
    /// Rows, in pieces of bounded size.
    pub rows: Vec<RowBlock>,
    /// Letters.
    pub letters: Vec<DeadLetter>,
    /// The record.
    pub record: CommitRecord,
}

/// Names a row of a lane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// The end of its window (ms).
    pub end_ms: i64,
    /// The parts of its group key.
    pub key: Vec<String>,
}

/// Why a store did not answer with success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Not now, or unknown whether it is written: the same bytes again, later.
    #[error("{0}")]
    Retry(String),
    /// The store refuses this data, and would again: the lane stops, others go on.
    #[error("{0}")]
    Refused(String),
    /// Another owner has committed: this one drops the lane.
    #[error("{lane} was committed by another writer: expected {expected:?}, found {found:?}")]
    Fenced {
        /// The lane.
        lane: LaneId,
        /// The commit this owner built on.
        expected: Option<CommitId>,
        /// The commit that is stored.
        found: Option<CommitId>,
    },
}

/// Where rows, letters and records are kept.
pub trait Store: Send {
    /// Reads the newest record of a lane. `None` means that there surely is none: the read is
    /// consistent.
    ///
    /// # Errors
    /// `Retry` if it could not be read.
    fn load(&mut self, lane: &LaneId) -> Result<Option<CommitRecord>, StoreError>;

    /// Writes a commit: rows, then letters, then the record, each durable before the next, or all
    /// in one transaction. Writing the same commit again changes nothing.
    ///
    /// # Errors
    /// See [`StoreError`]. After `Retry` any part may or may not be written.
    fn commit(&mut self, commit: &Commit) -> Result<(), StoreError>;

    /// Reads what is stored of these rows of a lane, in their order; `None` where there is no row.
    /// Every commit that this store has answered is seen. Only where rows can be amended.
    ///
    /// # Errors
    /// `Retry` if it could not be read; `Refused` where rows have no such columns or the store
    /// cannot be read.
    fn stored(
        &mut self,
        lane: &LaneId,
        keys: &[RowKey],
    ) -> Result<Vec<Option<StoredState>>, StoreError>;

    /// Writes rows and nothing else, no letter and no record. As in a commit, a stored row gives
    /// way to one of an equal or higher revision only, so rows that are true do no harm beside a
    /// running owner. It is not fenced.
    ///
    /// # Errors
    /// `Retry` and `Refused` as for a commit; `Refused` also where rows cannot be replaced.
    fn write_rows(&mut self, rows: &[RowBlock]) -> Result<(), StoreError>;
}

/// The unit of reading and acknowledging: a broker's batch, or a piece of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The position of its first message, or the one that it would have.
    pub position: Position,
    /// What the payloads lie in, decompressed.
    pub buffer: Bytes,
    /// The messages in log order; none if the entry is empty.
    pub messages: Vec<RawMessage>,
    /// What goes back to the source when the entry is processed.
    pub credit: u32,
}

impl Entry {
    /// Returns the payload of a message of this entry.
    pub fn payload(&self, message: &RawMessage) -> &[u8] {
        &self.buffer[message.start as usize..][..message.length as usize]
    }
}

/// How entries of a log follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// Offsets of a segment grow by one, and a segment starts at 0: a jump means that a foreign
    /// acknowledgement or a trim took entries away.
    Counted,
    /// Offsets only grow: the source itself knows that it leaves nothing out.
    Growing,
}

/// What a source tells the engine.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    /// These partitions there are: told before any is assigned, and again when there are more.
    Partitions(Vec<Arc<str>>),
    /// This process now owns the partition; nothing is delivered before
    /// [`SourceControl::read_from`]. Also after every loss of the connection: the lane starts
    /// again from its record.
    Assigned(Arc<str>),
    /// The partition is lost or its connection broke; what is unsent of its lane is dropped. Also
    /// for one that stood by, whose connection broke.
    Revoked(Arc<str>),
    /// Another process has the partition; this one stands by.
    Standby(Arc<str>),
    /// The next entry of a partition.
    Entry(Arc<str>, Entry),
    /// The partition has ended and will not grow: all its windows close.
    End(Arc<str>),
    /// The partition cannot be read, and trying again would not help.
    Failed(Arc<str>, String),
    /// All partitions have ended.
    Exhausted,
}

/// Takes what a source tells, from any thread.
pub trait Inbox: Send + Sync {
    /// Takes an event; those of one partition are put in their order. Returns false once no more
    /// is wanted; it then took nothing. Never waits for the event to be processed.
    fn put(&self, event: SourceEvent) -> bool;
}

/// Where entries come from. It delivers to whoever owns it and is steered from other threads.
pub trait Source: Send {
    /// Offers to take events from the source's own threads, without the way through [`next`] and
    /// the thread that calls it, which a source for which that is worth it takes from now on; what
    /// it had to tell before goes there first. Others leave it.
    ///
    /// [`next`]: Source::next
    fn push_to(&mut self, inbox: Arc<dyn Inbox>) {
        drop(inbox);
    }

    /// Waits for the next event, at most that long.
    ///
    /// # Errors
    /// If the source as a whole cannot go on; the text names place, value and remedy.
    fn next(&mut self, timeout: Duration) -> Result<Option<SourceEvent>, String>;

    /// Returns the handle that steers the source.
    fn control(&self) -> Arc<dyn SourceControl>;

    /// Returns how entries of this source follow each other.
    fn continuity(&self) -> Continuity;
}

/// Steers a source; calls return at once and take effect in their order.
pub trait SourceControl: Send + Sync {
    /// Starts delivery of a partition, at `from` or before it. With `seek`, what the source would
    /// deliver next lies behind `from`: it must go back.
    fn read_from(&self, partition: &str, from: Option<Position>, seek: bool);

    /// Gives back the credit of processed entries, so that as much more may be delivered.
    fn credit(&self, partition: &str, credit: u32);

    /// Gives a partition back and asks for it again; it is assigned anew, and until then nothing
    /// of it is delivered. Where nobody else can have it, nothing happens.
    fn assign_again(&self, partition: &str);

    /// Tells that the partition is committed up to and with this entry; a lower bound for others.
    fn acknowledge(&self, partition: &str, through: Position);
}

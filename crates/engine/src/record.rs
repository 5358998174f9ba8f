//! The commit record: the truth about how far a lane is, stored beside its rows.
//!
//! Byte layout and columns: docs/formats.md. The broker's cursor is only a lower bound of it.

use std::sync::Arc;

use tidemill_kernel::event::Position;
pub use tidemill_kernel::held::Closing;
pub use tidemill_kernel::rollup::{GENERATION_MAX, ORDINAL_BITS, ORDINAL_MAX, revision};

use crate::{ledger::Ledger, settings::Transition};

/// The version of the record's meaning, written into every record.
pub const RECORD_FORMAT: u32 = 3;

/// The version of a record of a lane that goes over to other values of time. A program that does
/// not know of that must not go on from it.
pub const TRANSITION_FORMAT: u32 = 4;

/// The partition of a record that stands for all lanes of a pipeline, and of the rows that are
/// merged from them.
pub const ALL_PARTITIONS: &str = "*";

/// Commits that an owner of merged lanes may make in a second without a later owner's being taken
/// for older.
pub const TURN_COMMITS_BITS: u32 = 12;

/// Which lane: a partition as one pipeline reads it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId {
    /// The pipeline's name from the configuration.
    pub pipeline: Arc<str>,
    /// The partition's name; for one partitioned topic its number.
    pub partition: Arc<str>,
}

impl LaneId {
    /// Returns the identity of a lane.
    pub fn new(pipeline: &str, partition: &str) -> LaneId {
        LaneId { pipeline: pipeline.into(), partition: partition.into() }
    }
}

impl std::fmt::Display for LaneId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pipeline {:?} partition {:?}", self.pipeline, self.partition)
    }
}

/// Names one written record: who wrote it and the how-many-th it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId {
    /// Counts the commits of the lane over all its owners.
    pub number: u64,
    /// A random number drawn when an owner takes the lane.
    pub writer: u64,
}

/// How far a lane is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitRecord {
    /// The lane.
    pub lane: LaneId,
    /// This record's own name.
    pub id: CommitId,
    /// Raised by the operator to change what a row means.
    pub generation: u32,
    /// Settings that decide what a row means, as `key=value` lines, sorted.
    pub fingerprint: String,
    /// How the lane goes over to other values of time than those of the fingerprint.
    pub transition: Transition,
    /// How many messages of the lane are processed.
    pub ordinal: u64,
    /// All windows that end at or before this instant are closed (ms; `i64::MIN` if none).
    pub closed_until_ms: i64,
    /// The highest event time of the lane that counts (ms; `i64::MIN` if none).
    pub highest_event_time_ms: i64,
    /// The message that the lane began with, or went on with behind an accepted loss; `None`
    /// until one comes.
    pub birth: Option<Position>,
    /// How many messages were counted before `birth`: none, but for an accepted loss.
    pub birth_ordinal: u64,
    /// The generation in which counting began; rows and letters of earlier ones are not in the
    /// ledger.
    pub birth_generation: u32,
    /// The last processed position; `None` in a birth record.
    pub processed: Option<Position>,
    /// The first position a new owner has to read; `None`: the one behind `processed`, or in a
    /// birth record the first that the source delivers.
    pub resume: Option<Position>,
    /// Where the messages up to `ordinal` went.
    pub ledger: Ledger,
    /// What the lane closed and no row holds yet; empty unless lanes are merged.
    pub closings: Vec<Closing>,
    /// The lanes that this record is the sum of; empty in the record of one lane.
    pub lanes: Vec<CommitRecord>,
    /// Orders the records of merged lanes, whose ordinals do not; 0 in the record of one lane. It
    /// grows with each commit, and an owner begins above the time (s) shifted by
    /// [`TURN_COMMITS_BITS`].
    pub turn: u64,
}

impl CommitRecord {
    /// Returns the record of a lane of which nothing is known.
    pub fn unborn(lane: LaneId) -> CommitRecord {
        CommitRecord {
            lane,
            id: CommitId::default(),
            generation: 0,
            fingerprint: String::new(),
            transition: Transition::default(),
            ordinal: 0,
            closed_until_ms: i64::MIN,
            highest_event_time_ms: i64::MIN,
            birth: None,
            birth_ordinal: 0,
            birth_generation: 0,
            processed: None,
            resume: None,
            ledger: Ledger::default(),
            closings: Vec::new(),
            lanes: Vec::new(),
            turn: 0,
        }
    }

    /// Returns the revision that orders records: generation, then ordinal as in rows and letters,
    /// or the turn where lanes are merged.
    pub fn revision(&self) -> u64 {
        let order = if self.lanes.is_empty() { self.ordinal } else { self.turn };
        revision(self.generation, order)
    }

    /// Returns the keys of the lines that differ between this record's fingerprint and another.
    pub fn changed_keys(&self, fingerprint: &str) -> Vec<String> {
        let key = |line: &str| line.split('=').next().unwrap_or(line).to_owned();
        let only = |a: &str, b: &str| {
            let known: Vec<&str> = b.lines().collect();
            a.lines().filter(|line| !known.contains(line)).map(key).collect::<Vec<_>>()
        };
        let mut keys = only(&self.fingerprint, fingerprint);
        keys.extend(only(fingerprint, &self.fingerprint));
        keys.sort();
        keys.dedup();
        keys
    }
}

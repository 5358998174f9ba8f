//! Why a lane stops.

use tidemill_kernel::{event::Position, rollup::ReplayError};

use crate::{ledger::Ledger, record::LaneId};

/// Whose turn it is to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// The operator: configuration, permissions, a decision.
    User,
    /// Something outside: broker, database, disk.
    External,
    /// A fault in this program.
    Internal,
}

/// Why a lane stopped. Other lanes go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{lane}: {kind}")]
pub struct LaneError {
    /// The lane.
    pub lane: LaneId,
    /// The reason.
    pub kind: LaneErrorKind,
}

/// The reasons why a lane stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaneErrorKind {
    /// The configuration means something else than the one the stored record was made with.
    #[error(
        "the configuration changed in {keys:?} while {open} messages are in open windows; \
         put the old values back, or raise pipeline.generation to let rows of the new \
         configuration replace those of the old one"
    )]
    Fingerprint {
        /// The keys that differ.
        keys: Vec<String>,
        /// How many messages would be counted under other rules than they were.
        open: u64,
    },
    /// Another process was told by a reload to go over to other values.
    #[error(
        "the stored commit record goes over to other values of {keys:?} than this process has, at \
         a window's edge: another process was told to by a reload; reload or restart this one \
         with the same configuration"
    )]
    Reloaded {
        /// The keys that differ.
        keys: Vec<String>,
    },
    /// The record was written by a newer program or under a higher generation.
    #[error(
        "the stored commit record has {what} {found}, this run has {expected}: \
         it never falls, raise it to {found} at least"
    )]
    Newer {
        /// What is newer.
        what: &'static str,
        /// What is stored.
        found: u32,
        /// What this run has.
        expected: u32,
    },
    /// The stored record contradicts itself.
    #[error(
        "the stored commit record does not balance: {0:?}; it was changed by somebody else: \
         restore the store, or raise pipeline.generation and run \"tidemill reset CONFIG\""
    )]
    Unbalanced(Ledger),
    /// The log no longer holds what the record needs.
    #[error(
        "the log goes on at entry {}:{}, but {} {}:{} is needed: the messages between are gone \
         (the topic was made anew, retention, or an acknowledgement by somebody else); restore \
         them, or go on without them, counted as lost: raise pipeline.generation and run \
         \"tidemill reset CONFIG --accept-loss\" for this partition",
        found.segment, found.offset, if *from_next { "what follows entry" } else { "entry" },
        expected.segment, expected.offset
    )]
    Gap {
        /// The entry that is needed, or the last one that is not.
        expected: Position,
        /// The first entry that there is.
        found: Position,
        /// Whether what is needed begins behind `expected`.
        from_next: bool,
    },
    /// The log holds other messages than the record says.
    #[error(
        "{0}; restore the log or the configuration, or go on without the messages of windows that \
         are open, counted as lost: raise pipeline.generation and run \
         \"tidemill reset CONFIG --accept-loss\" for this partition"
    )]
    Replay(#[from] ReplayError),
    /// The store refuses the data of a commit.
    #[error("the store refuses a commit: {0}")]
    Refused(String),
    /// Another process has committed for this lane.
    #[error("{0}")]
    Fenced(String),
    /// The source no longer has a partition whose messages are in no row yet.
    #[error(
        "the source no longer has this partition, and {open} of its messages are in windows that \
         are not merged: put it back, or raise pipeline.generation and run \
         \"tidemill reset CONFIG\""
    )]
    PartitionGone {
        /// How many messages would be in no row.
        open: u64,
    },
    /// A device has more messages in one window than can be counted.
    #[error("{0}; make window.size smaller, or the device's messages fewer")]
    Uncountable(String),
    /// Open windows have reached the limit of memory, and nothing else can come free.
    #[error(
        "open windows take {open} bytes, limits.memory_max = {max}, and this lane has most of \
         them; raise memory_max, or bound the devices of a window by limits.devices_max"
    )]
    Memory {
        /// What the open windows of all lanes take.
        open: u64,
        /// The limit.
        max: u64,
    },
    /// The source cannot deliver this partition.
    #[error("the source failed: {0}")]
    Source(String),
}

impl LaneErrorKind {
    /// Returns whose turn it is to act.
    pub fn domain(&self) -> Domain {
        match self {
            LaneErrorKind::Fingerprint { .. }
            | LaneErrorKind::Reloaded { .. }
            | LaneErrorKind::Newer { .. }
            | LaneErrorKind::PartitionGone { .. }
            | LaneErrorKind::Uncountable(_)
            | LaneErrorKind::Memory { .. } => Domain::User,
            LaneErrorKind::Replay(_) => Domain::Internal,
            _ => Domain::External,
        }
    }
}

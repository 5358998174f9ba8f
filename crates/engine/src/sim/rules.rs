//! The protocol's rules that the simulated surroundings can break, one at a time.
//!
//! Production code has no such switch: a broken rule is a shell, a store or a source that does
//! something else than the port demands. A simulator that does not notice proves nothing.

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Rows are durable before the record is written (rule 6).
    RowsBeforeRecord,
    /// Dead letters are durable before the record is written (rule 6).
    LettersBeforeRecord,
    /// Only what a durable record covers is acknowledged (rule 8).
    RecordBeforeAck,
    /// The entry that holds the resume position is not acknowledged (rule 8).
    AckBeforeResume,
    /// After an unknown outcome the same bytes are written again (rule 8).
    RetryUntilSuccess,
    /// The transaction compares the commit id (rule 8).
    Fence,
    /// The ordinal counts the messages of the log, not those that were read (rule 1).
    CountOnce,
    /// A new owner reads from the resume position, not from where the old one was (rule 3).
    ResumeAtOpenWindow,
    /// A stored row gives way only to an equal or higher revision (rule 7).
    RevisionCompare,
    /// What is stored of a row is read behind all earlier commits, where late messages correct rows
    /// (rule 6).
    LookBehindCommits,
    /// A late message is merged only into a row that does not hold it, which the row's revision
    /// says (rule 7).
    MergeOnce,
    /// "No record" is the answer of a consistent read (rule 2).
    ConfirmedAbsence,
    /// A jump inside of a ledger restarts the lane (rule 5).
    GapCheck,
    /// A jump from the midst of a ledger to the next one restarts the lane (rule 5). The lane
    /// cannot see it, because it does not know where a ledger ends: the source has to.
    RollOverCheck,
}

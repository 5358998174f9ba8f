//! The reading port: what `query` and `verify` ask of a store.
//!
//! Readers see each row once, in its newest revision. Reading changes nothing, needs no lane, and
//! uses a connection of its own.

use std::ops::AddAssign;

use tidemill_engine::record::CommitRecord;
use tidemill_kernel::{event::Reason, time::WindowGrid};

use crate::{error::SinkError, value::Value};

/// The most rows that a query gives unless told otherwise.
pub const ROWS_DEFAULT_MAX: usize = 1_000;

/// Reads a store.
pub trait StoreReader: Send {
    /// Returns the newest record of each lane, of one pipeline or of all, ordered by lane.
    ///
    /// # Errors
    /// The store cannot be read, or holds a record of another format.
    fn records(&mut self, pipeline: Option<&str>) -> Result<Vec<CommitRecord>, SinkError>;

    /// Returns rows, ordered by time, then group keys.
    ///
    /// # Errors
    /// The store cannot be read, or a column is not there.
    fn rows(&mut self, query: &RowQuery) -> Result<Table, SinkError>;

    /// Returns dead letters, ordered by publish time, then position.
    ///
    /// # Errors
    /// The store cannot be read.
    fn dead_letters(&mut self, query: &LetterQuery) -> Result<Table, SinkError>;

    /// Returns what is stored of each partition of a pipeline, for comparing with its ledger.
    ///
    /// # Errors
    /// The store cannot be read.
    fn totals(&mut self, pipeline: &str) -> Result<Vec<PartitionTotals>, SinkError>;

    /// Returns how many devices of a pipeline have rows of several partitions, and how many device
    /// windows therefore have several rows.
    ///
    /// # Errors
    /// The store cannot be read.
    fn several_partitions(&mut self, pipeline: &str) -> Result<[u64; 2], SinkError>;

    /// Returns the windows that have such rows, ordered by time.
    ///
    /// # Errors
    /// The store cannot be read.
    fn windows(&mut self, rows: &LaneRows) -> Result<Vec<WindowRows>, SinkError>;

    /// Returns such rows of one window with all columns, ordered by group keys: at most `limit`
    /// behind the first `skip`.
    ///
    /// # Errors
    /// The store cannot be read.
    fn rows_of_window(
        &mut self,
        rows: &LaneRows,
        end_ms: i64,
        skip: u64,
        limit: u64,
    ) -> Result<Table, SinkError>;

    /// Counts and names rows that no run can have written: two of one key (of any revision), or
    /// one whose window is not on the grid.
    ///
    /// # Errors
    /// The store cannot be read.
    fn misfits(&mut self, rows: &LaneRows, grid: WindowGrid) -> Result<Misfits, SinkError>;

    /// Returns the commits of a lane that the store still keeps.
    ///
    /// # Errors
    /// The store cannot be read, or holds a record of another format.
    fn commits(&mut self, pipeline: &str, partition: &str) -> Result<CommitRing, SinkError>;

    /// Returns what such rows are made of.
    ///
    /// # Errors
    /// The store cannot be read.
    fn quality(&mut self, rows: &LaneRows) -> Result<Quality, SinkError>;
}

/// Which rows of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRows {
    /// The pipeline.
    pub pipeline: String,
    /// The partition.
    pub partition: String,
    /// The earliest window end (ms), included.
    pub from_ms: Option<i64>,
    /// The latest window end (ms), excluded.
    pub to_ms: Option<i64>,
    /// Only windows that end at or before this (ms).
    pub closed_until_ms: Option<i64>,
    /// Only rows of this revision or a higher one.
    pub first_revision: u64,
}

/// The rows of one window of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowRows {
    /// The end of the window (ms).
    pub end_ms: i64,
    /// How many rows it has.
    pub row_count: u64,
    /// How many messages are in them.
    pub message_count: u64,
}

/// Rows that no run can have written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Misfits {
    /// Row keys that readers see more than once.
    pub duplicate_row_keys: u64,
    /// Rows whose window does not end on the grid, or is not as long as the grid says.
    pub off_grid_rows: u64,
    /// A few of either, by what is wrong, time and keys.
    pub examples: Vec<String>,
}

/// The newest commits of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitRing {
    /// How many the store keeps.
    pub slots: u64,
    /// Those that are there, by their number.
    pub records: Vec<CommitRecord>,
}

/// What rows are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// How many rows.
    pub row_count: u64,
    /// Messages in them.
    pub message_count: u64,
    /// The fewest messages of a row.
    pub record_count_min: u64,
    /// The most messages of a row.
    pub record_count_max: u64,
    /// Rows with less than half, or more than twice, the mean number of messages.
    pub outlier_count: u64,
    /// Values that were out of range or no numbers.
    pub invalid_count: u64,
    /// Rows of windows in which the device was silent for a sixtieth or longer.
    pub rows_with_gaps: u64,
    /// Columns that may be NULL, and how many rows have them so.
    pub nulls: Vec<(String, u64)>,
}

impl AddAssign for Quality {
    fn add_assign(&mut self, other: Quality) {
        if other.row_count == 0 {
            return;
        }
        let first = self.row_count == 0;
        let min = self.record_count_min.min(other.record_count_min);
        self.record_count_min = if first { other.record_count_min } else { min };
        self.record_count_max = self.record_count_max.max(other.record_count_max);
        self.row_count += other.row_count;
        self.message_count += other.message_count;
        self.outlier_count += other.outlier_count;
        self.invalid_count += other.invalid_count;
        self.rows_with_gaps += other.rows_with_gaps;
        if first {
            self.nulls = other.nulls;
            return;
        }
        for ((_, count), (_, more)) in self.nulls.iter_mut().zip(other.nulls) {
            *count += more;
        }
    }
}

/// Which rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowQuery {
    /// Text columns and the value each must have.
    pub keys: Vec<(String, String)>,
    /// The earliest window end (ms), included.
    pub from_ms: Option<i64>,
    /// The latest window end (ms), excluded.
    pub to_ms: Option<i64>,
    /// The columns, in this order; `None`: all.
    pub columns: Option<Vec<String>>,
    /// The most rows.
    pub limit: usize,
    /// Whether the latest windows come first.
    pub newest_first: bool,
}

impl Default for RowQuery {
    fn default() -> RowQuery {
        RowQuery {
            keys: Vec::new(),
            from_ms: None,
            to_ms: None,
            columns: None,
            limit: ROWS_DEFAULT_MAX,
            newest_first: false,
        }
    }
}

/// Which dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterQuery {
    /// Of one pipeline.
    pub pipeline: Option<String>,
    /// Of one partition.
    pub partition: Option<String>,
    /// With one reason.
    pub reason: Option<Reason>,
    /// With one group key, its parts joined by `/`.
    pub key: Option<String>,
    /// The most letters.
    pub limit: usize,
    /// Whether the last published come first.
    pub newest_first: bool,
}

impl Default for LetterQuery {
    fn default() -> LetterQuery {
        LetterQuery {
            pipeline: None,
            partition: None,
            reason: None,
            key: None,
            limit: ROWS_DEFAULT_MAX,
            newest_first: false,
        }
    }
}

/// What a query gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows, each as long as `columns`.
    pub rows: Vec<Vec<Value>>,
}

/// What is stored of one partition, to be held against its ledger:
/// `messages = record_count_closed + open + late + rejected + lost`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionTotals {
    /// The partition.
    pub partition: String,
    /// Its newest record; `None` if there are rows but no record.
    pub record: Option<CommitRecord>,
    /// All rows but those of forgotten commits.
    pub row_count: u64,
    /// Rows that were written before a reset and not replaced since.
    pub rows_of_forgotten_commits: u64,
    /// Rows of windows that the record calls closed.
    pub row_count_closed: u64,
    /// Those of them that were written behind the record's commit: only late messages that amend
    /// rows do that.
    pub row_count_ahead: u64,
    /// Messages in rows of closed windows.
    pub record_count_closed: u64,
    /// Messages in rows of windows that are open: early emissions, or rows whose record was never
    /// written. At most the ledger's `open` plus what came after the record.
    pub record_count_open: u64,
    /// Late letters since the record's counting began, up to its ordinal.
    pub late: u64,
    /// Other letters since then, up to its ordinal.
    pub rejected: u64,
    /// The letters counted in `late` and `rejected`, by reason.
    pub letters_by_reason: Vec<(String, u64)>,
    /// Letters up to the ordinal that were written before a reset and not replaced since.
    pub letters_of_earlier_generations: u64,
    /// Windows that are closed and have rows.
    pub window_count: u64,
    /// The fewest rows of a closed window.
    pub rows_per_window_min: u64,
    /// The most rows of a closed window.
    pub rows_per_window_max: u64,
}

impl PartitionTotals {
    /// Returns totals in which nothing is counted yet.
    pub(crate) fn of(partition: &str, record: Option<CommitRecord>) -> PartitionTotals {
        PartitionTotals { partition: partition.into(), record, ..PartitionTotals::default() }
    }
}

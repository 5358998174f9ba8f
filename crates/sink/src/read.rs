//! The reading port: what `query` and `verify` ask of a store.
//!
//! Readers see each row once, in its newest revision. Reading changes nothing, needs no lane, and
//! uses a connection of its own.

use tidemill_engine::record::CommitRecord;
use tidemill_kernel::event::Reason;

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
    fn totals(
        &mut self,
        pipeline: &str,
        window_size_ms: i64,
    ) -> Result<Vec<PartitionTotals>, SinkError>;

    /// Returns how many devices of a pipeline have rows of several partitions, and how many device
    /// windows therefore have several rows.
    ///
    /// # Errors
    /// The store cannot be read.
    fn several_partitions(&mut self, pipeline: &str) -> Result<[u64; 2], SinkError>;
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
    /// Row keys that readers see more than once.
    pub duplicate_row_keys: u64,
    /// Rows of the record's generation whose window is not as long as the configuration says.
    pub off_grid_rows: u64,
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

//! What can go wrong outside of a commit: opening, comparing tables, reading back.
//!
//! Commits answer with the engine's `StoreError`; the stores translate into it.

pub use tidemill_engine::error::Domain;
use tidemill_engine::port::StoreError;
use tidemill_kernel::schema::AMEND_COLUMNS;

/// Why a store could not be opened or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// A setting is not usable.
    #[error("{key}: {problem}")]
    Config {
        /// The key in the sink's section.
        key: &'static str,
        /// What is wrong, with the value.
        problem: String,
    },
    /// A table that has to be there is not.
    #[error(
        "{missing} is not there: set create = true, or create it with the statements of \
         `tidemill ddl`"
    )]
    Missing {
        /// The table or view.
        missing: String,
    },
    /// A table that statements are made for is not there.
    #[error("{table} is not there: write the database.table of the old job's rows")]
    Absent {
        /// The table.
        table: String,
    },
    /// The name that readers use belongs to a table instead of a view.
    #[error(
        "{table} is a table, but must be the view over {table}_rows: set another name, and \
         `tidemill ddl --migrate {table}` prints how to change from one to the other"
    )]
    NotAView {
        /// The name from the configuration.
        table: String,
    },
    /// Tables do not look as this configuration needs them.
    #[error(
        "{table} differs from the configuration: {}{}",
        .differences.join("; "),
        remedy(.differences)
    )]
    Columns {
        /// The table.
        table: String,
        /// One text per difference.
        differences: Vec<String>,
    },
    /// The columns given are no roll-up row. A mistake of the caller.
    #[error("columns: {0}")]
    Layout(String),
    /// The store cannot be reached, or not now.
    #[error("{0}")]
    Unavailable(String),
    /// The store answered with a refusal.
    #[error("{0}")]
    Refused(String),
    /// What is stored cannot be understood.
    #[error("{table}: {problem}")]
    Stored {
        /// The table.
        table: String,
        /// What was found.
        problem: String,
    },
}

/// Returns what to do about columns that only one setting needs.
fn remedy(differences: &[String]) -> &'static str {
    let is_of_amending = |difference: &String| {
        let missing = |(name, _): &(&str, _)| *difference == missing_column(name);
        AMEND_COLUMNS.iter().any(missing)
    };
    if !differences.iter().any(is_of_amending) {
        return "";
    }
    "; window.late = \"amend\" needs these columns: add them, set another table, or set late = \
     \"dead_letter\""
}

/// Returns the difference of a table without a column.
pub(crate) fn missing_column(name: &str) -> String {
    format!("column {name:?} is missing")
}

impl SinkError {
    /// Returns who has to act.
    pub fn domain(&self) -> Domain {
        match self {
            SinkError::Config { .. }
            | SinkError::Missing { .. }
            | SinkError::Absent { .. }
            | SinkError::NotAView { .. }
            | SinkError::Columns { .. } => Domain::User,
            SinkError::Layout(_) => Domain::Internal,
            SinkError::Unavailable(_) | SinkError::Refused(_) | SinkError::Stored { .. } => {
                Domain::External
            }
        }
    }

    /// Returns whether the same call may succeed later.
    pub fn retry(&self) -> bool {
        matches!(self, SinkError::Unavailable(_))
    }
}

impl From<SinkError> for StoreError {
    fn from(error: SinkError) -> StoreError {
        if error.retry() {
            StoreError::Retry(error.to_string())
        } else {
            StoreError::Refused(error.to_string())
        }
    }
}

//! Settings of the embedded store.

use std::{path::PathBuf, time::Duration};

use crate::error::SinkError;

/// The longest name of a table.
const TABLE_NAME_BYTES_MAX: usize = 64;

/// Where the embedded store is and what its tables are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// The file. It is made if it is not there; its directory must be.
    pub path: PathBuf,
    /// The name that readers use; letters, digits and `_`, at most 64.
    pub table: String,
    /// How long a commit waits for another writer before it answers with `Retry`.
    pub busy_timeout: Duration,
}

impl EmbeddedConfig {
    /// Returns a config with the default wait of 5 s.
    pub fn new(path: impl Into<PathBuf>, table: &str) -> EmbeddedConfig {
        EmbeddedConfig {
            path: path.into(),
            table: table.into(),
            busy_timeout: Duration::from_secs(5),
        }
    }

    /// Checks the table's name.
    ///
    /// # Errors
    /// `Config` with the key and the value.
    pub fn check(&self) -> Result<(), SinkError> {
        let name = &self.table;
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let starts_well = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if plain && starts_well && name.len() <= TABLE_NAME_BYTES_MAX && !name.starts_with("sqlite")
        {
            return Ok(());
        }
        let problem = format!(
            "{name:?} must be 1 to {TABLE_NAME_BYTES_MAX} letters, digits or _, not begin with a \
             digit or with \"sqlite\"; there are no databases within the file, so no dot"
        );
        Err(SinkError::Config { key: "table", problem })
    }
}

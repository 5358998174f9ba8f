//! Settings of the ClickHouse store.

use std::{fmt, path::PathBuf, time::Duration};

use crate::{error::SinkError, select::quote_clickhouse};

const NAME_BYTES_MAX: usize = 64;

/// How the tables are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TableEngine {
    /// On one server.
    #[default]
    Plain,
    /// On a cluster: rows on the shard of their device, records and letters on every server, each
    /// insert on at least [`QUORUM_DEFAULT`] replicas.
    Replicated {
        /// The cluster's name in the servers' `remote_servers`.
        cluster: String,
    },
}

/// The replicas that must have an insert, unless the configuration says otherwise.
pub const QUORUM_DEFAULT: u32 = 2;

/// Where ClickHouse is and what the tables are called.
#[derive(Clone, PartialEq, Eq)]
pub struct ClickHouseConfig {
    /// `http://host:8123` or `https://host:8443`, without credentials.
    pub url: String,
    /// The user; `None` is the server's default user.
    pub user: Option<String>,
    /// The password. Never shown.
    pub password: Option<String>,
    /// A PEM file with the CA of the server's certificate; `None`: the system's roots.
    pub ca_file: Option<PathBuf>,
    /// The name that readers use: `database.table`, or `table` in the database `default`.
    pub table: String,
    /// How the tables are kept.
    pub engine: TableEngine,
    /// Whether missing databases, tables and views are made at the start.
    pub create: bool,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// How long one insert may take as a whole, the server's answer included.
    pub insert_timeout: Duration,
    /// How long one statement that is no insert may take.
    pub query_timeout: Duration,
    /// The most rows of one insert.
    pub piece_rows_max: usize,
    /// The most bytes of one insert before compression; a single larger row goes alone.
    pub piece_bytes_max: usize,
    /// How many replicas must have an insert before it counts; `None`: [`QUORUM_DEFAULT`] for
    /// replicated tables, else the server's setting.
    pub insert_quorum: Option<u32>,
    /// Further settings of inserts, by name.
    pub insert_settings: Vec<(String, String)>,
}

impl ClickHouseConfig {
    /// Returns a config with the defaults: connect 5 s, insert and query 60 s, pieces of at most
    /// 100,000 rows or 32 MiB, nothing created.
    pub fn new(url: &str, table: &str) -> ClickHouseConfig {
        ClickHouseConfig {
            url: url.into(),
            user: None,
            password: None,
            ca_file: None,
            table: table.into(),
            engine: TableEngine::Plain,
            create: false,
            connect_timeout: Duration::from_secs(5),
            insert_timeout: Duration::from_secs(60),
            query_timeout: Duration::from_secs(60),
            piece_rows_max: 100_000,
            piece_bytes_max: 32 << 20,
            insert_quorum: None,
            insert_settings: Vec::new(),
        }
    }

    /// Checks URL and names.
    ///
    /// # Errors
    /// `Config` with the key; a URL with credentials in it is not repeated.
    pub fn check(&self) -> Result<(), SinkError> {
        let fail = |key, problem: String| Err(SinkError::Config { key, problem });
        let rest = self.url.strip_prefix("http://").or_else(|| self.url.strip_prefix("https://"));
        let Some(rest) = rest else {
            return fail("url", "must begin with http:// or https://".into());
        };
        if rest.contains('@') {
            return fail("url", "credentials belong into the keys user and password".into());
        }
        let host = rest.split('/').next().unwrap_or_default();
        if host.is_empty() || host.starts_with(':') || rest.contains(['?', '#', ' ']) {
            return fail("url", format!("{:?} is no http://host:port", self.url));
        }
        if self.ca_file.is_some() && !self.url.starts_with("https://") {
            return fail("ca_file", format!("{:?} is not https, no CA is asked for", self.url));
        }
        if self.piece_rows_max == 0 || self.piece_bytes_max == 0 {
            return fail("piece_rows_max", "pieces of no rows".into());
        }
        self.engine.check()?;
        Names::parse(&self.table).map(|_| ())
    }

    /// Returns how many replicas must have an insert; `None`: the server's setting.
    pub(super) fn quorum(&self) -> Option<u32> {
        match self.engine {
            TableEngine::Plain => self.insert_quorum,
            TableEngine::Replicated { .. } => Some(self.insert_quorum.unwrap_or(QUORUM_DEFAULT)),
        }
    }
}

impl TableEngine {
    /// Returns the cluster of replicated tables.
    pub fn cluster(&self) -> Option<&str> {
        match self {
            TableEngine::Plain => None,
            TableEngine::Replicated { cluster } => Some(cluster),
        }
    }

    pub(super) fn check(&self) -> Result<(), SinkError> {
        let Some(cluster) = self.cluster() else {
            return Ok(());
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if cluster.is_empty() || cluster.len() > NAME_BYTES_MAX || !cluster.bytes().all(plain) {
            let problem = format!(
                "{cluster:?} must be 1 to {NAME_BYTES_MAX} letters, digits or _ - . as in the \
                 servers' remote_servers"
            );
            return Err(SinkError::Config { key: "cluster", problem });
        }
        Ok(())
    }
}

impl fmt::Debug for ClickHouseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL could hold credentials when it has not been checked yet.
        let url = if self.url.contains('@') { "..." } else { &self.url };
        f.debug_struct("ClickHouseConfig")
            .field("url", &url)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "..."))
            .field("ca_file", &self.ca_file)
            .field("table", &self.table)
            .field("engine", &self.engine)
            .field("create", &self.create)
            .field("connect_timeout", &self.connect_timeout)
            .field("insert_timeout", &self.insert_timeout)
            .field("query_timeout", &self.query_timeout)
            .field("piece_rows_max", &self.piece_rows_max)
            .field("piece_bytes_max", &self.piece_bytes_max)
            .field("insert_quorum", &self.insert_quorum)
            .field("insert_settings", &self.insert_settings)
            .finish()
    }
}

/// The names of the tables, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) database: String,
    pub(super) view: String,
    pub(super) rows: String,
    /// Holds the rows of one shard where `rows` is Distributed.
    pub(super) rows_shard: String,
    pub(super) letters: String,
    pub(super) records: String,
}

impl Names {
    pub(super) fn parse(table: &str) -> Result<Names, SinkError> {
        let (database, view) = table.split_once('.').unwrap_or(("default", table));
        for name in [database, view] {
            let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let starts_well = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
            if !plain || !starts_well || name.len() > NAME_BYTES_MAX {
                let problem = format!(
                    "{table:?} must be database.table or table, each 1 to {NAME_BYTES_MAX} \
                     letters, digits or _, not beginning with a digit"
                );
                return Err(SinkError::Config { key: "table", problem });
            }
        }
        Ok(Names {
            database: database.into(),
            view: view.into(),
            rows: format!("{view}_rows"),
            rows_shard: format!("{view}_rows_shard"),
            letters: format!("{view}_dead_letters"),
            records: format!("{view}_commits"),
        })
    }

    /// Returns a table's name with its database, quoted.
    pub(super) fn full(&self, name: &str) -> String {
        format!("{}.{}", quote_clickhouse(&self.database), quote_clickhouse(name))
    }

    /// Returns a table's name with its database, as people write it.
    pub(super) fn plain(&self, name: &str) -> String {
        format!("{}.{name}", self.database)
    }
}

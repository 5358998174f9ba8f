//! The stores under test: each case gets a fresh one.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicU64, Ordering},
};

use tempfile::TempDir;
use tidemill_engine::port::Store;
use tidemill_kernel::row::Column;
use tidemill_sink::{
    ClickHouseConfig, ClickHouseReader, ClickHouseStore, EmbeddedConfig, EmbeddedReader,
    EmbeddedStore, SinkError, StoreReader, clickhouse::TableEngine,
};

use crate::{
    fixture::{columns, keys},
    services::{
        self,
        clickhouse_replicas::{CLUSTER, Replicas},
    },
};

/// Where a case keeps its rows.
pub(crate) enum Target {
    Embedded(TempDir),
    ClickHouse(Box<ClickHouseConfig>),
}

impl Target {
    pub(crate) fn embedded() -> Target {
        Target::Embedded(tempfile::tempdir().unwrap())
    }

    pub(crate) fn legacy() -> Target {
        Target::ClickHouse(fresh(&services::legacy_url()).into())
    }

    pub(crate) fn modern() -> Target {
        Target::ClickHouse(fresh(&services::modern_url()).into())
    }

    pub(crate) fn cluster() -> Target {
        Target::ClickHouse(fresh_replicated(services::replicas()).into())
    }

    /// Whether the store refuses a commit that does not follow the stored one.
    pub(crate) fn is_fenced(&self) -> bool {
        matches!(self, Target::Embedded(_))
    }

    pub(crate) fn store(&self) -> Box<dyn Store> {
        self.open(&columns()).unwrap()
    }

    pub(crate) fn open(&self, columns: &[Column]) -> Result<Box<dyn Store>, SinkError> {
        Ok(match self {
            Target::Embedded(directory) => {
                let config = EmbeddedConfig::new(directory.path().join("s.db"), "sensors_local");
                Box::new(EmbeddedStore::open(config, columns, &keys())?)
            }
            Target::ClickHouse(config) => {
                Box::new(ClickHouseStore::connect((**config).clone(), columns, &keys())?)
            }
        })
    }

    /// Adds the columns that amending needs, as a person would.
    pub(crate) fn add_amend_columns(&self) {
        match self {
            Target::Embedded(directory) => {
                let store = rusqlite::Connection::open(directory.path().join("s.db")).unwrap();
                for column in [
                    "late_count INTEGER NOT NULL DEFAULT 0",
                    "finality TEXT NOT NULL DEFAULT ''",
                    "partial_state TEXT NOT NULL DEFAULT ''",
                ] {
                    let sql = format!("ALTER TABLE sensors_local_rows ADD COLUMN {column}");
                    store.execute(&sql, []).unwrap();
                }
            }
            Target::ClickHouse(config) => {
                // A distributed table is changed server by server.
                let tables: &[&str] = match &config.engine {
                    TableEngine::Plain => &["_rows"],
                    TableEngine::Replicated { .. } => &["_rows_shard ON CLUSTER main", "_rows"],
                };
                let columns = "ADD COLUMN late_count UInt32, ADD COLUMN finality String, \
                               ADD COLUMN partial_state String";
                for table in tables {
                    ask(config, &format!("ALTER TABLE {}{table} {columns}", config.table));
                }
            }
        }
    }

    pub(crate) fn reader(&self) -> Box<dyn StoreReader> {
        self.reader_of(&columns())
    }

    pub(crate) fn reader_of(&self, columns: &[Column]) -> Box<dyn StoreReader> {
        match self {
            Target::Embedded(directory) => {
                let config = EmbeddedConfig::new(directory.path().join("s.db"), "sensors_local");
                Box::new(EmbeddedReader::open(config, columns, &keys()).unwrap())
            }
            Target::ClickHouse(config) => {
                Box::new(ClickHouseReader::connect((**config).clone(), columns, &keys()).unwrap())
            }
        }
    }
}

/// A config with a database of its own.
pub(crate) fn fresh(url: &str) -> ClickHouseConfig {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let database = format!("contract_{}_{number}", std::process::id());
    let mut config = ClickHouseConfig::new(url, &format!("{database}.sensors_local"));
    config.create = true;
    // An earlier program may have had this number.
    ask(&config, &format!("DROP DATABASE IF EXISTS {database}"));
    config
}

/// A config with a database of its own on a cluster, by its first server.
pub(crate) fn fresh_replicated(cluster: &Replicas) -> ClickHouseConfig {
    let mut config = fresh(cluster.server(0).url());
    config.engine = TableEngine::Replicated { cluster: CLUSTER.into() };
    config
}

/// Runs a statement outside of the stores and returns its answer.
pub(crate) fn ask(config: &ClickHouseConfig, sql: &str) -> String {
    let address = config.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    let length = sql.len();
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\
         \r\n\r\n{sql}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{sql}: {answer}");
    // A chunked answer has its length before it.
    let chunked = head.to_ascii_lowercase().contains("chunked");
    let body = if chunked { body.split("\r\n").nth(1).unwrap_or_default() } else { body };
    body.trim_end().to_string()
}

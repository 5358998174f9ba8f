//! The connection: one HTTP client, statements and inserts with a limit on their time, and what an
//! error means for the one who asked.

use std::{fmt, future::Future, path::PathBuf, time::Duration};

use bytes::Bytes;
use clickhouse::{Client, error::Error};
use tidemill_engine::port::StoreError;
use tidemill_kernel::row::Column;
use tokio::runtime::Runtime;

use super::{
    config::{ClickHouseConfig, TableEngine},
    connection::{certificate_remedy, client},
    ddl::Dialect,
    row_binary::Reader,
};
use crate::{error::SinkError, value::Value};

/// The longest statement that a server takes unasked.
const SQL_BYTES_DEFAULT: usize = 256 * 1024;
/// The most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// What a replica says that has not got all that a quorum has.
const BEHIND_QUORUM: u32 = 289;
/// The longest text of an error that is passed on.
const ERROR_CHARS_MAX: usize = 1_000;

/// A ClickHouse server.
pub(super) struct Server {
    runtime: Runtime,
    client: Client,
    url: String,
    password: Option<String>,
    ca_file: Option<PathBuf>,
    query_timeout: Duration,
    insert_timeout: Duration,
    insert_settings: Vec<(String, String)>,
    pub(super) dialect: Dialect,
    /// As the server says it.
    pub(super) version: String,
}

impl Server {
    /// Connects and asks for the version.
    pub(super) fn connect(config: &ClickHouseConfig) -> Result<Server, SinkError> {
        config.check()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| SinkError::Unavailable(format!("clickhouse: no runtime: {error}")))?;
        let mut server = Server {
            runtime,
            client: client(config)?,
            url: config.url.clone(),
            password: config.password.clone(),
            ca_file: config.ca_file.clone(),
            query_timeout: config.query_timeout,
            insert_timeout: config.insert_timeout,
            insert_settings: config.insert_settings.clone(),
            dialect: Dialect::Legacy,
            version: String::new(),
        };
        let version = Column::new("version", tidemill_kernel::row::ColumnKind::Text, false);
        let answer = server.select("SELECT version()", &[version])?;
        let version = answer.first().and_then(|row| row[0].as_text()).unwrap_or_default();
        server.dialect = Dialect::of_version(version);
        server.version = version.to_owned();
        if server.dialect == Dialect::Modern {
            server.insert_settings.push(("async_insert".into(), "0".into()));
        }
        if config.engine != TableEngine::Plain {
            // A row has to be on its shard before the record that says so.
            server.insert_settings.push(("insert_distributed_sync".into(), "1".into()));
            // Else what was deleted by hand could not be written again: it would be taken for a
            // repeat. Repeats change nothing here anyway.
            server.insert_settings.push(("insert_deduplicate".into(), "0".into()));
        }
        if let Some(quorum) = config.quorum() {
            server.insert_settings.push(("insert_quorum".into(), quorum.to_string()));
            // The server's own limit is ten minutes. It must answer before we stop waiting.
            let timeout_ms = (config.insert_timeout.as_millis() / 2).max(1);
            server.insert_settings.push(("insert_quorum_timeout".into(), timeout_ms.to_string()));
            if server.dialect == Dialect::Modern {
                // Parallel quorum inserts are not seen by select_sequential_consistency.
                server.insert_settings.push(("insert_quorum_parallel".into(), "0".into()));
            }
        }
        Ok(server)
    }

    /// Runs a statement that gives nothing back.
    pub(super) fn execute(&self, sql: &str) -> Result<(), Failure> {
        self.run(self.query_timeout, self.client.query_raw(sql).execute())
    }

    /// Runs a SELECT whose answer has these columns. It sees all that a quorum confirmed; a
    /// replica that is behind answers with [`BEHIND_QUORUM`] instead.
    pub(super) fn select(&self, sql: &str, columns: &[Column]) -> Result<Vec<Vec<Value>>, Failure> {
        self.select_with(sql, columns, "1")
    }

    /// Runs a SELECT as [`select`](Server::select); where an old server can never say again that it
    /// has everything, what it has will do. 18.16 goes on asking for the newest part of a
    /// partition that was dropped, so this is for tables whose days are dropped when they are old.
    pub(super) fn select_of_days(
        &self,
        sql: &str,
        columns: &[Column],
    ) -> Result<Vec<Vec<Value>>, Failure> {
        match self.select(sql, columns) {
            Err(failure)
                if failure.code == Some(BEHIND_QUORUM) && self.dialect == Dialect::Legacy =>
            {
                self.select_with(sql, columns, "0")
            }
            other => other,
        }
    }

    fn select_with(
        &self,
        sql: &str,
        columns: &[Column],
        consistency: &str,
    ) -> Result<Vec<Vec<Value>>, Failure> {
        let mut query =
            self.client.query_raw(sql).with_setting("select_sequential_consistency", consistency);
        if sql.len() >= SQL_BYTES_DEFAULT {
            query = query.with_setting("max_query_size", (sql.len() + 1).to_string());
        }
        let query = query.fetch_bytes("RowBinary");
        let answer = self.run(self.query_timeout, async {
            let mut cursor = query?;
            let mut answer = Vec::new();
            while let Some(chunk) = cursor.next().await? {
                if answer.len() + chunk.len() > ANSWER_BYTES_MAX {
                    let problem = format!("the answer is larger than {ANSWER_BYTES_MAX} bytes");
                    return Err(Error::Custom(problem));
                }
                answer.extend_from_slice(&chunk);
            }
            Ok(answer)
        })?;
        let mut reader = Reader::new(&answer);
        let mut rows = Vec::new();
        while reader.left() > 0 {
            let row: Option<Vec<Value>> =
                columns.iter().map(|column| reader.value(column)).collect();
            rows.push(row.ok_or_else(|| self.failure(None, "the answer is cut"))?);
        }
        Ok(rows)
    }

    /// Sends one piece and waits until the server has it. `table` is quoted, with its database.
    pub(super) fn insert(
        &self,
        table: &str,
        columns: &[Column],
        body: Bytes,
    ) -> Result<(), Failure> {
        let names: Vec<String> =
            columns.iter().map(|column| crate::select::quote_clickhouse(&column.name)).collect();
        let sql = format!("INSERT INTO {table} ({}) FORMAT RowBinary", names.join(", "));
        let mut insert = self.client.insert_formatted_with(sql);
        for (name, value) in &self.insert_settings {
            insert = insert.with_setting(name, value);
        }
        self.run(self.insert_timeout, async {
            // One call is one frame: an old server takes it whole or not at all.
            insert.send(body).await?;
            insert.end().await
        })
    }

    fn run<T>(
        &self,
        timeout: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        let outcome = self.runtime.block_on(async { tokio::time::timeout(timeout, work).await });
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.failure(Some(&error), "")),
            Err(_) => {
                let text = format!("no answer within {} s", timeout.as_secs_f64());
                Err(self.failure(None, &text))
            }
        }
    }

    fn failure(&self, error: Option<&Error>, text: &str) -> Failure {
        let code = match error {
            Some(Error::BadResponse(answer)) => code_of(answer),
            _ => None,
        };
        let remedy = error.and_then(|error| certificate_remedy(error, self.ca_file.as_deref()));
        let untrusted = remedy.is_some();
        let mut text = error.map_or_else(|| text.to_string(), with_causes);
        if let Some(remedy) = remedy {
            text = format!("{remedy} ({text})");
        }
        if let Some(password) = self.password.as_ref().filter(|password| password.len() > 2) {
            text = text.replace(password.as_str(), "...");
        }
        if let Some((end, _)) = text.char_indices().nth(ERROR_CHARS_MAX) {
            text.truncate(end);
        }
        Failure { code, untrusted, text: format!("clickhouse at {}: {text}", self.url) }
    }
}

/// Returns an error's text with its causes, which alone say "connection refused".
fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

/// Returns the number behind `Code: ` in a server's answer.
pub(super) fn code_of(answer: &str) -> Option<u32> {
    let rest = answer.split_once("Code:")?.1.trim_start();
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Why a statement or insert did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The server's error code; `None` if it gave no answer, or a proxy did.
    pub(super) code: Option<u32>,
    /// Whether the server's certificate was refused. It may be renewed while a store is open, so
    /// only opening one ends here.
    pub(super) untrusted: bool,
    pub(super) text: String,
}

/// What the server would say again to the same bytes: values that cannot be parsed or do not fit,
/// tables of other columns, rights that are missing. Everything else may pass: network, time,
/// 5xx of a proxy, too many parts, memory, read-only tables, a table that is being replaced.
const REFUSED_CODES: [u32; 37] = [
    6, 8, 10, 16, 20, 25, 26, 27, 32, 33, 36, 38, 41, 43, 44, 46, 47, 50, 53, 62, 69, 70, 72, 115,
    117, 130, 131, 192, 193, 194, 195, 291, 321, 349, 469, 497, 516,
];

impl Failure {
    /// Returns whether the same bytes would fail again.
    pub(super) fn is_refused(&self) -> bool {
        self.code.is_some_and(|code| REFUSED_CODES.contains(&code))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> StoreError {
        if failure.is_refused() {
            StoreError::Refused(failure.text)
        } else {
            StoreError::Retry(failure.text)
        }
    }
}

impl From<Failure> for SinkError {
    fn from(failure: Failure) -> SinkError {
        if failure.is_refused() || failure.untrusted {
            SinkError::Refused(failure.text)
        } else {
            SinkError::Unavailable(failure.text)
        }
    }
}

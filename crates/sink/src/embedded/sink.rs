//! Writing: one transaction per commit, fenced by the record that the commit follows.

use std::path::Path;

use rusqlite::{
    CachedStatement, Connection, ErrorCode, OpenFlags, ToSql, Transaction, TransactionBehavior,
    types::{ToSqlOutput, ValueRef},
};
use tidemill_engine::{
    port::{Commit, RowKey, Store, StoreError, StoredState},
    record::{CommitId, CommitRecord, LaneId},
};
use tidemill_kernel::row::{Cell, Column, RowBlock};

use super::{
    config::EmbeddedConfig,
    log,
    read::read_values,
    tables::{Tables, create_and_compare},
};
use crate::{
    error::SinkError,
    layout::{
        LETTER_KEY, Layout, letter_columns, letter_values, record_columns, record_from_values,
        record_values,
    },
    select::{Dialect, quote_sqlite, stored},
    value::Value,
};

/// Revisions are compared as signed integers. The kernel's stay below this by construction
/// (generations below 2^19); it is checked because a wrong order would lose rows.
const REVISION_MAX: u64 = i64::MAX as u64;

/// Rows, letters and records in one SQLite file.
pub struct EmbeddedStore {
    pub(super) connection: Connection,
    layout: Layout,
    /// The rows' table, quoted.
    rows_table: String,
    revision_index: usize,
    sql: Statements,
}

impl EmbeddedStore {
    /// Opens the file, makes file and tables where they are missing, and compares the tables.
    ///
    /// # Errors
    /// A bad name of a table; a table that differs, with each difference; a file that cannot be
    /// opened or is no database; `Unavailable` if another process holds its lock.
    pub fn open(
        config: EmbeddedConfig,
        columns: &[Column],
        key_columns: &[String],
    ) -> Result<EmbeddedStore, SinkError> {
        config.check()?;
        let layout = Layout::new(columns, key_columns)?;
        let tables = Tables::new(&config.table);
        let mut connection = connect(&config, OpenFlags::SQLITE_OPEN_CREATE)?;
        let place = || format!("open {}", config.path.display());
        let pragmas = || -> rusqlite::Result<()> {
            connection.pragma_update(None, "journal_mode", "wal")?;
            // A commit waits until the log is on the disk: an acknowledged message must survive a
            // loss of power. One sync per commit; NORMAL would sync at checkpoints only.
            connection.pragma_update(None, "synchronous", "full")
        };
        pragmas().map_err(|error| sink_error(&place(), &error))?;
        log::renew(&mut connection, &config.path)?;
        create_and_compare(&mut connection, &tables, &layout)?;
        connection.set_prepared_statement_cache_capacity(16);
        let revision_index = layout.index_of("revision");
        let sql = Statements::new(&tables, &layout);
        let rows_table = quote_sqlite(&tables.rows);
        Ok(EmbeddedStore { connection, layout, rows_table, revision_index, sql })
    }
}

pub(super) fn connect(config: &EmbeddedConfig, extra: OpenFlags) -> Result<Connection, SinkError> {
    let place = || format!("open {}", config.path.display());
    let directory = config.path.parent().filter(|path| !path.as_os_str().is_empty());
    let needed = if extra == OpenFlags::SQLITE_OPEN_READ_ONLY {
        Some(config.path.as_path())
    } else {
        directory
    };
    if let Some(missing) = needed.filter(|path| !path.exists()) {
        let problem = format!("{} is not there", missing.display());
        return Err(SinkError::Config { key: "path", problem });
    }
    let access = if extra == OpenFlags::SQLITE_OPEN_READ_ONLY {
        extra
    } else {
        extra | OpenFlags::SQLITE_OPEN_READ_WRITE
    };
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let path: &Path = &config.path;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| sink_error(&place(), &error))?;
    connection.busy_timeout(config.busy_timeout).map_err(|error| sink_error(&place(), &error))?;
    Ok(connection)
}

impl Store for EmbeddedStore {
    fn load(&mut self, lane: &LaneId) -> Result<Option<CommitRecord>, StoreError> {
        let read = || -> rusqlite::Result<Option<Vec<Value>>> {
            let mut statement = self.connection.prepare_cached(&self.sql.load)?;
            let mut rows = statement.query([&*lane.pipeline, &*lane.partition])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            read_values(row, &record_columns()).map(Some)
        };
        let values = read().map_err(|error| store_error("load the commit record", &error))?;
        values.map(record_from_values).transpose().map_err(StoreError::Refused)
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| store_error("begin a commit", &error))?;
        let stored = stored_id(&transaction, &self.sql.stored_id, &commit.record.lane)?;
        if stored == Some(commit.record.id) {
            return Ok(());
        }
        if stored != commit.previous {
            return Err(StoreError::Fenced {
                lane: commit.record.lane.clone(),
                expected: commit.previous,
                found: stored,
            });
        }
        for block in &commit.rows {
            write_rows(&transaction, &self.sql.row, &self.layout, self.revision_index, block)?;
        }
        write_letters(&transaction, &self.sql.letter, commit)?;
        let changed = write_record(&transaction, &self.sql.record, &commit.record)?;
        if changed == 0 {
            let (lane, ordinal) = (&commit.record.lane, commit.record.ordinal);
            return Err(StoreError::Refused(format!(
                "{lane}: commit {} at ordinal {ordinal} is before the one it follows",
                commit.record.id.number
            )));
        }
        transaction.commit().map_err(|error| store_error("end a commit", &error))
    }

    fn stored(
        &mut self,
        lane: &LaneId,
        keys: &[RowKey],
    ) -> Result<Vec<Option<StoredState>>, StoreError> {
        let (layout, table) = (&self.layout, &self.rows_table);
        stored(Dialect::Sqlite, layout, table, lane, keys, |sql, columns| {
            let read = || -> rusqlite::Result<Vec<Vec<Value>>> {
                let mut statement = self.connection.prepare(sql)?;
                let rows = statement.query_map([], |row| read_values(row, columns))?;
                rows.collect()
            };
            read().map_err(|error| store_error("read rows to amend", &error))
        })
    }

    fn write_rows(&mut self, rows: &[RowBlock]) -> Result<(), StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| store_error("begin to write rows", &error))?;
        for block in rows {
            write_rows(&transaction, &self.sql.row, &self.layout, self.revision_index, block)?;
        }
        transaction.commit().map_err(|error| store_error("end to write rows", &error))
    }
}

fn stored_id(
    transaction: &Transaction<'_>,
    sql: &str,
    lane: &LaneId,
) -> Result<Option<CommitId>, StoreError> {
    let read = || -> rusqlite::Result<Option<CommitId>> {
        let mut statement = transaction.prepare_cached(sql)?;
        let mut rows = statement.query([&*lane.pipeline, &*lane.partition])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (number, writer): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok(Some(CommitId { number: number as u64, writer: writer as u64 }))
    };
    read().map_err(|error| store_error("read the last commit", &error))
}

fn write_rows(
    transaction: &Transaction<'_>,
    sql: &str,
    layout: &Layout,
    revision_index: usize,
    block: &RowBlock,
) -> Result<(), StoreError> {
    let failed = |error| store_error("write rows", &error);
    let mut statement = transaction.prepare_cached(sql).map_err(failed)?;
    let mut reader = block.reader(&layout.columns);
    let mut cells = Vec::with_capacity(layout.columns.len());
    while reader.next_row(&mut cells) {
        if let Cell::UInt(revision) = cells[revision_index]
            && revision > REVISION_MAX
        {
            return Err(revision_refused(revision));
        }
        for (index, cell) in cells.iter().enumerate() {
            statement.raw_bind_parameter(index + 1, BoundCell(*cell)).map_err(failed)?;
        }
        statement.raw_execute().map_err(failed)?;
    }
    Ok(())
}

fn write_letters(
    transaction: &Transaction<'_>,
    sql: &str,
    commit: &Commit,
) -> Result<(), StoreError> {
    let failed = |error| store_error("write dead letters", &error);
    let mut statement = transaction.prepare_cached(sql).map_err(failed)?;
    for letter in &commit.letters {
        if letter.revision > REVISION_MAX {
            return Err(revision_refused(letter.revision));
        }
        bind_values(&mut statement, &letter_values(&commit.record.lane, letter)).map_err(failed)?;
        statement.raw_execute().map_err(failed)?;
    }
    Ok(())
}

fn write_record(
    transaction: &Transaction<'_>,
    sql: &str,
    record: &CommitRecord,
) -> Result<usize, StoreError> {
    let write = || -> rusqlite::Result<usize> {
        let mut statement = transaction.prepare_cached(sql)?;
        bind_values(&mut statement, &record_values(record))?;
        statement.raw_execute()
    };
    write().map_err(|error| store_error("write the commit record", &error))
}

fn bind_values(statement: &mut CachedStatement<'_>, values: &[Value]) -> rusqlite::Result<()> {
    for (index, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(index + 1, BoundValue(value))?;
    }
    Ok(())
}

/// A cell as SQLite keeps it: unsigned integers as their bits.
struct BoundCell<'a>(Cell<'a>);

impl ToSql for BoundCell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Cell::Null => ValueRef::Null,
            Cell::Float(value) => ValueRef::Real(value),
            Cell::Int(value) => ValueRef::Integer(value),
            Cell::UInt(value) => ValueRef::Integer(value as i64),
            Cell::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// A value as SQLite keeps it.
struct BoundValue<'a>(&'a Value);

impl ToSql for BoundValue<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Float(value) => ValueRef::Real(*value),
            Value::Int(value) | Value::Millisecond(value) => ValueRef::Integer(*value),
            Value::Second(value_ms) => ValueRef::Integer(value_ms / 1000),
            Value::UInt(value) => ValueRef::Integer(*value as i64),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// The statements of commits, made once.
struct Statements {
    load: String,
    stored_id: String,
    row: String,
    letter: String,
    record: String,
}

impl Statements {
    fn new(tables: &Tables, layout: &Layout) -> Statements {
        let of_lane = "\"pipeline\" = ?1 AND \"partition\" = ?2";
        let records = quote_sqlite(&tables.records);
        let record_names: Vec<String> =
            record_columns().iter().map(|column| quote_sqlite(&column.name)).collect();
        let names = record_names.join(", ");
        let newer = "excluded.\"revision\" >= \"revision\"";
        let newer_record = "(excluded.\"revision\", excluded.\"commit_number\") >= \
                            (\"revision\", \"commit_number\")";
        Statements {
            load: format!("SELECT {names} FROM {records} WHERE {of_lane}"),
            stored_id: format!("SELECT commit_number, writer FROM {records} WHERE {of_lane}"),
            row: upsert(&tables.rows, &layout.columns, &layout.row_key(), newer),
            letter: upsert(&tables.letters, &letter_columns(), &LETTER_KEY, newer),
            record: upsert(
                &tables.records,
                &record_columns(),
                &["pipeline", "partition"],
                newer_record,
            ),
        }
    }
}

fn upsert(table: &str, columns: &[Column], key: &[&str], condition: &str) -> String {
    let names: Vec<String> = columns.iter().map(|column| quote_sqlite(&column.name)).collect();
    let places: Vec<String> = (1..=columns.len()).map(|index| format!("?{index}")).collect();
    let mut updates = Vec::new();
    for column in columns.iter().filter(|column| !key.contains(&column.name.as_str())) {
        let name = quote_sqlite(&column.name);
        updates.push(format!("{name} = excluded.{name}"));
    }
    let key: Vec<String> = key.iter().map(|name| quote_sqlite(name)).collect();
    format!(
        "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {} WHERE {condition}",
        quote_sqlite(table),
        names.join(", "),
        places.join(", "),
        key.join(", "),
        updates.join(", "),
    )
}

fn revision_refused(revision: u64) -> StoreError {
    StoreError::Refused(format!("embedded store: revision {revision} is beyond {REVISION_MAX}"))
}

/// Translates an error of a commit.
pub(super) fn store_error(doing: &str, error: &rusqlite::Error) -> StoreError {
    let text = format!("embedded store: cannot {doing}: {error}");
    if passes(error) { StoreError::Retry(text) } else { StoreError::Refused(text) }
}

/// Translates an error of opening or reading.
pub(super) fn sink_error(doing: &str, error: &rusqlite::Error) -> SinkError {
    let text = format!("embedded store: cannot {doing}: {error}");
    if passes(error) { SinkError::Unavailable(text) } else { SinkError::Refused(text) }
}

/// Returns whether the same call may succeed later: full disk, locks, and what the disk or the
/// machine did not give. What is wrong with data, statement or file will be wrong again.
fn passes(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::OutOfMemory
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OperationInterrupted
                | ErrorCode::OperationAborted
                | ErrorCode::SchemaChanged
        )
    )
}

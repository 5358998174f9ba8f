//! Reading back, over a connection of its own that cannot write.

use rusqlite::{Connection, OpenFlags, Row, types::ValueRef};
use tidemill_kernel::row::{Column, ColumnKind};

use super::{
    config::EmbeddedConfig,
    sink::{connect, sink_error},
    tables::{Tables, compare_only},
};
use crate::{
    error::SinkError,
    layout::Layout,
    select::{Dialect, Select},
    value::Value,
};

/// Reads an embedded store, also while another process writes it.
pub struct EmbeddedReader {
    connection: Connection,
    layout: Layout,
    tables: Tables,
}

impl EmbeddedReader {
    /// Opens the file for reading.
    ///
    /// # Errors
    /// The file or a table is missing or differs from `columns`; it cannot be opened.
    pub fn open(
        config: EmbeddedConfig,
        columns: &[Column],
        key_columns: &[String],
    ) -> Result<EmbeddedReader, SinkError> {
        config.check()?;
        let layout = Layout::new(columns, key_columns)?;
        let tables = Tables::new(&config.table);
        let connection = connect(&config, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        compare_only(&connection, &tables, &layout)?;
        Ok(EmbeddedReader { connection, layout, tables })
    }

    /// Opens the file as [`open`](EmbeddedReader::open) does, and leaves nothing beside it: a
    /// reader of a file that nobody has open would make the files of the write-ahead log.
    ///
    /// # Errors
    /// As [`open`](EmbeddedReader::open).
    pub(super) fn open_at_rest(
        config: &EmbeddedConfig,
        columns: &[Column],
        key_columns: &[String],
    ) -> Result<EmbeddedReader, SinkError> {
        let mut log = config.path.as_os_str().to_owned();
        log.push("-wal");
        if std::path::Path::new(&log).exists() {
            return EmbeddedReader::open(config.clone(), columns, key_columns);
        }
        config.check()?;
        let layout = Layout::new(columns, key_columns)?;
        let tables = Tables::new(&config.table);
        let path = config.path.display().to_string();
        let path = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(format!("file:{path}?immutable=1"), flags)
            .map_err(|error| sink_error(&format!("open {path}"), &error))?;
        compare_only(&connection, &tables, &layout)?;
        Ok(EmbeddedReader { connection, layout, tables })
    }
}

impl Select for EmbeddedReader {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn rows_table(&self) -> String {
        Dialect::Sqlite.quote(&self.tables.rows)
    }

    fn letters_table(&self) -> String {
        Dialect::Sqlite.quote(&self.tables.letters)
    }

    fn records_table(&self) -> String {
        Dialect::Sqlite.quote(&self.tables.records)
    }

    fn record_slots(&self) -> u64 {
        1
    }

    fn select(&mut self, sql: &str, columns: &[Column]) -> Result<Vec<Vec<Value>>, SinkError> {
        let read = || -> rusqlite::Result<Vec<Vec<Value>>> {
            let mut statement = self.connection.prepare(sql)?;
            let rows = statement.query_map([], |row| read_values(row, columns))?;
            rows.collect()
        };
        read().map_err(|error| sink_error("read", &error))
    }
}

/// Reads the values of one row. What does not fit its column's kind becomes the nearest value.
pub(super) fn read_values(row: &Row<'_>, columns: &[Column]) -> rusqlite::Result<Vec<Value>> {
    let mut values = Vec::with_capacity(columns.len());
    for (index, column) in columns.iter().enumerate() {
        values.push(match row.get_ref(index)? {
            ValueRef::Null => Value::Null,
            ValueRef::Real(value) => Value::Float(value),
            ValueRef::Text(text) => Value::from_bytes(text),
            ValueRef::Blob(bytes) => Value::Bytes(bytes.into()),
            ValueRef::Integer(value) => integer(value, column.kind),
        });
    }
    Ok(values)
}

fn integer(value: i64, kind: ColumnKind) -> Value {
    match kind {
        ColumnKind::Seconds => Value::Second(value.saturating_mul(1000)),
        ColumnKind::Milliseconds => Value::Millisecond(value),
        ColumnKind::UInt64 | ColumnKind::UInt32 | ColumnKind::UInt8 => Value::UInt(value as u64),
        ColumnKind::Int64 | ColumnKind::Float64 | ColumnKind::Text => Value::Int(value),
    }
}

//! The tables of the embedded store: statements that make them, and the comparison at opening.
//!
//! Instants are integers in `<table>_rows` (seconds, or milliseconds for `first_event_time` and
//! `last_event_time`), so that comparing and indexing is plain arithmetic. The view `<table>` shows
//! them as `YYYY-MM-DD HH:MM:SS[.mmm]` in UTC. Unsigned 64-bit integers are stored as their bits:
//! values from 2^63 on look negative; revisions stay below that, since they are compared.

use std::collections::BTreeSet;

use rusqlite::Connection;
use tidemill_kernel::row::{Column, ColumnKind};

use super::sink::sink_error;
use crate::{
    error::{SinkError, missing_column},
    layout::{LETTER_KEY, Layout, letter_columns, record_columns},
    select::{quote_sqlite, text_sqlite},
};

pub(super) struct Tables {
    pub(super) view: String,
    pub(super) rows: String,
    pub(super) letters: String,
    pub(super) records: String,
}

impl Tables {
    pub(super) fn new(table: &str) -> Tables {
        Tables {
            view: table.into(),
            rows: format!("{table}_rows"),
            letters: format!("{table}_dead_letters"),
            records: format!("{table}_commits"),
        }
    }
}

/// A table as it has to be.
struct Expected {
    name: String,
    columns: Vec<Column>,
    key: Vec<String>,
}

fn expected(tables: &Tables, layout: &Layout) -> [Expected; 3] {
    let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    [
        Expected {
            name: tables.rows.clone(),
            columns: layout.columns.clone(),
            key: owned(&layout.row_key()),
        },
        Expected {
            name: tables.letters.clone(),
            columns: letter_columns(),
            key: owned(&LETTER_KEY),
        },
        Expected {
            name: tables.records.clone(),
            columns: record_columns(),
            key: owned(&["pipeline", "partition"]),
        },
    ]
}

/// Makes what is missing, in one transaction, then compares what is there.
pub(super) fn create_and_compare(
    connection: &mut Connection,
    tables: &Tables,
    layout: &Layout,
) -> Result<(), SinkError> {
    refuse_names_that_differ_in_case_only(tables, layout)?;
    let failed = |error| sink_error("create tables", &error);
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(failed)?;
    match object_type(&transaction, &tables.view)?.as_deref() {
        None | Some("view") => {}
        Some(_) => return Err(SinkError::NotAView { table: tables.view.clone() }),
    }
    for table in expected(tables, layout) {
        if object_type(&transaction, &table.name)?.is_none() {
            transaction.execute_batch(&create_table(&table)).map_err(failed)?;
        }
        compare(&transaction, &table)?;
    }
    if object_type(&transaction, &tables.view)?.is_none() {
        transaction.execute_batch(&create_view(tables, layout)).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

/// Compares what is there and makes nothing.
pub(super) fn compare_only(
    connection: &Connection,
    tables: &Tables,
    layout: &Layout,
) -> Result<(), SinkError> {
    for table in expected(tables, layout) {
        if object_type(connection, &table.name)?.is_none() {
            return Err(SinkError::Missing { missing: table.name });
        }
        compare(connection, &table)?;
    }
    Ok(())
}

/// SQLite compares names of columns without regard to case, the rest of the system does not.
fn refuse_names_that_differ_in_case_only(
    tables: &Tables,
    layout: &Layout,
) -> Result<(), SinkError> {
    let mut seen = BTreeSet::new();
    let mut differences = Vec::new();
    for column in &layout.columns {
        if !seen.insert(column.name.to_ascii_lowercase()) {
            differences.push(format!(
                "column {:?} differs from another one in upper and lower case only, \
                 which SQLite does not tell apart",
                column.name
            ));
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(SinkError::Columns { table: tables.rows.clone(), differences })
}

fn object_type(connection: &Connection, name: &str) -> Result<Option<String>, SinkError> {
    let sql = "SELECT type FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE";
    let mut statement =
        connection.prepare_cached(sql).map_err(|error| sink_error("read the schema", &error))?;
    let mut rows =
        statement.query([name]).map_err(|error| sink_error("read the schema", &error))?;
    let row = rows.next().map_err(|error| sink_error("read the schema", &error))?;
    row.map(|row| row.get(0)).transpose().map_err(|error| sink_error("read the schema", &error))
}

fn storage_type(column: &Column) -> &'static str {
    match column.kind {
        ColumnKind::Float64 => "REAL",
        // Payloads are TEXT where they are UTF-8, so that they can be read, and BLOB where not.
        ColumnKind::Text if column.name == "payload" => "ANY",
        ColumnKind::Text => "TEXT",
        ColumnKind::Seconds
        | ColumnKind::Milliseconds
        | ColumnKind::Int64
        | ColumnKind::UInt64
        | ColumnKind::UInt32
        | ColumnKind::UInt8 => "INTEGER",
    }
}

fn create_table(table: &Expected) -> String {
    let mut lines: Vec<String> = Vec::new();
    for column in &table.columns {
        let null = if column.nullable { "" } else { " NOT NULL" };
        lines.push(format!("  {} {}{null}", quote_sqlite(&column.name), storage_type(column)));
    }
    let key: Vec<String> = table.key.iter().map(|name| quote_sqlite(name)).collect();
    lines.push(format!("  PRIMARY KEY ({})", key.join(", ")));
    let name = quote_sqlite(&table.name);
    format!("CREATE TABLE {name} (\n{}\n) STRICT, WITHOUT ROWID", lines.join(",\n"))
}

fn create_view(tables: &Tables, layout: &Layout) -> String {
    let mut selected = Vec::new();
    for column in &layout.columns {
        let name = quote_sqlite(&column.name);
        selected.push(match column.kind {
            ColumnKind::Seconds => format!("  datetime({name}, 'unixepoch') AS {name}"),
            ColumnKind::Milliseconds => {
                format!("  strftime('%Y-%m-%d %H:%M:%f', {name} / 1000.0, 'unixepoch') AS {name}")
            }
            _ => format!("  {name}"),
        });
    }
    let (view, rows) = (quote_sqlite(&tables.view), quote_sqlite(&tables.rows));
    format!("CREATE VIEW {view} AS SELECT\n{}\nFROM {rows}", selected.join(",\n"))
}

/// A column as it is.
struct Found {
    name: String,
    storage_type: String,
    not_null: bool,
    has_default: bool,
    /// Its place in the primary key, from 1; 0 if it is not part of it.
    key_place: u32,
}

fn compare(connection: &Connection, table: &Expected) -> Result<(), SinkError> {
    let found = read_columns(connection, &table.name)?;
    let mut differences = Vec::new();
    for column in &table.columns {
        let Some(there) = found.iter().find(|there| there.name == column.name) else {
            differences.push(missing_column(&column.name));
            continue;
        };
        let wanted = storage_type(column);
        if !there.storage_type.eq_ignore_ascii_case(wanted) {
            let type_there = &there.storage_type;
            differences.push(format!("column {:?} is {type_there}, not {wanted}", column.name));
        }
        if there.not_null && column.nullable {
            differences.push(format!("column {:?} is NOT NULL, but may be NULL", column.name));
        }
    }
    for there in &found {
        let wanted = table.columns.iter().any(|column| column.name == there.name);
        if !wanted && there.not_null && !there.has_default {
            let name = &there.name;
            differences.push(format!("column {name:?} is not written and has no default"));
        }
    }
    let mut key: Vec<&Found> = found.iter().filter(|there| there.key_place > 0).collect();
    key.sort_by_key(|there| there.key_place);
    let key: Vec<&str> = key.iter().map(|there| there.name.as_str()).collect();
    if key != table.key {
        let (key, wanted) = (key.join(", "), table.key.join(", "));
        differences.push(format!("the primary key is ({key}), not ({wanted})"));
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(SinkError::Columns { table: table.name.clone(), differences })
}

fn read_columns(connection: &Connection, table: &str) -> Result<Vec<Found>, SinkError> {
    let sql = format!(
        "SELECT name, type, \"notnull\", dflt_value IS NOT NULL, pk FROM pragma_table_info({})",
        text_sqlite(table)
    );
    let read = || -> rusqlite::Result<Vec<Found>> {
        let mut statement = connection.prepare(&sql)?;
        let rows = statement.query_map([], |row| {
            Ok(Found {
                name: row.get(0)?,
                storage_type: row.get(1)?,
                not_null: row.get(2)?,
                has_default: row.get(3)?,
                key_place: row.get(4)?,
            })
        })?;
        rows.collect()
    };
    read().map_err(|error| sink_error("read the schema", &error))
}

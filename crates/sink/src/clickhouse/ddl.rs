//! The statements that make the tables, in two dialects of one schema.
//!
//! `Legacy` uses what ClickHouse 18.16 has; `Modern` adds `DateTime64`, `LowCardinality` and
//! codecs. RowBinary is the same for both, so the rows' encoding does not depend on the dialect.

use tidemill_kernel::row::{Column, ColumnKind};

use super::config::Names;
use crate::{
    error::SinkError,
    layout::{LETTER_KEY, Layout, letter_columns, record_columns},
    select::quote_clickhouse,
};

/// Which statements a server understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Before 22.3; tested on 18.16.
    Legacy,
    /// From 22.3 on; tested on 26.9.
    Modern,
}

impl Dialect {
    /// Returns the dialect of the server that answers `SELECT version()` with this text.
    pub fn of_version(version: &str) -> Dialect {
        let mut parts = version.trim().split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        if version >= (22, 3) { Dialect::Modern } else { Dialect::Legacy }
    }
}

/// How many slots the ring of a lane's records has. Records that share a slot are this many
/// commits apart, so the newest is never the one that a merge drops.
pub(super) const RECORD_SLOTS: u64 = 64;

/// Returns the columns of the commit table: the slot, then the record's.
pub(super) fn stored_record_columns() -> Vec<Column> {
    let mut columns = vec![Column::new("slot", ColumnKind::UInt8, false)];
    columns.extend(record_columns());
    columns
}

/// A table as it has to be.
pub(super) struct Expected {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    pub(super) sorting_key: Vec<String>,
    partition_by: Option<String>,
}

pub(super) fn expected(dialect: Dialect, names: &Names, layout: &Layout) -> [Expected; 3] {
    let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    let mut row_key = layout.key_columns.clone();
    row_key.extend(["time", "pipeline", "source_partition"].map(str::to_string));
    let publish_day = match dialect {
        Dialect::Legacy => "toYYYYMMDD(toDateTime(intDiv(`publish_time`, 1000)))",
        Dialect::Modern => "toYYYYMMDD(`publish_time`)",
    };
    [
        Expected {
            name: names.rows.clone(),
            columns: layout.columns.clone(),
            sorting_key: row_key,
            partition_by: Some("toYYYYMMDD(`time`)".into()),
        },
        Expected {
            name: names.letters.clone(),
            columns: letter_columns(),
            sorting_key: owned(&LETTER_KEY),
            partition_by: Some(publish_day.into()),
        },
        Expected {
            name: names.records.clone(),
            columns: stored_record_columns(),
            sorting_key: owned(&["pipeline", "partition", "slot"]),
            partition_by: None,
        },
    ]
}

/// Returns the statements that make database, tables and view, each only if it is not there.
///
/// # Errors
/// `Config` for a bad name, `Layout` for columns that are no roll-up row.
pub fn ddl(
    dialect: Dialect,
    table: &str,
    columns: &[Column],
    key_columns: &[String],
) -> Result<Vec<String>, SinkError> {
    let names = Names::parse(table)?;
    Ok(statements(dialect, &names, &Layout::new(columns, key_columns)?))
}

pub(super) fn statements(dialect: Dialect, names: &Names, layout: &Layout) -> Vec<String> {
    let database = quote_clickhouse(&names.database);
    let mut statements = vec![format!("CREATE DATABASE IF NOT EXISTS {database}")];
    for table in expected(dialect, names, layout) {
        statements.push(create_table(dialect, names, &table));
    }
    statements.push(create_view(names, layout));
    statements
}

fn create_table(dialect: Dialect, names: &Names, table: &Expected) -> String {
    let key = &table.sorting_key;
    let lines: Vec<String> = table
        .columns
        .iter()
        .map(|column| {
            let (name, is_key) = (quote_clickhouse(&column.name), key.contains(&column.name));
            let codec = codec_of(dialect, column.kind);
            format!("    {name} {}{codec}", type_of(dialect, column, is_key))
        })
        .collect();
    let partition_by =
        table.partition_by.as_ref().map_or(String::new(), |by| format!("PARTITION BY {by}\n"));
    let key: Vec<String> = key.iter().map(|name| quote_clickhouse(name)).collect();
    format!(
        "CREATE TABLE IF NOT EXISTS {}\n(\n{}\n)\nENGINE = ReplacingMergeTree(`revision`)\n\
         {partition_by}ORDER BY ({})",
        names.full(&table.name),
        lines.join(",\n"),
        key.join(", "),
    )
}

fn create_view(names: &Names, layout: &Layout) -> String {
    let columns: Vec<String> =
        layout.columns.iter().map(|column| quote_clickhouse(&column.name)).collect();
    format!(
        "CREATE VIEW IF NOT EXISTS {} AS SELECT {} FROM {} FINAL",
        names.full(&names.view),
        columns.join(", "),
        names.full(&names.rows),
    )
}

/// Returns a column's type. Texts that repeat are dictionaries where the server has them; group
/// keys and payloads may be all different and stay plain.
pub(super) fn type_of(dialect: Dialect, column: &Column, is_key: bool) -> String {
    let plain = match column.kind {
        ColumnKind::Seconds => "DateTime('UTC')",
        ColumnKind::Milliseconds if dialect == Dialect::Modern => "DateTime64(3, 'UTC')",
        ColumnKind::Milliseconds | ColumnKind::Int64 => "Int64",
        ColumnKind::Float64 => "Float64",
        ColumnKind::UInt64 => "UInt64",
        ColumnKind::UInt32 => "UInt32",
        ColumnKind::UInt8 => "UInt8",
        ColumnKind::Text => "String",
    };
    let plain = if column.nullable { format!("Nullable({plain})") } else { plain.to_string() };
    let lineage = ["pipeline", "source_partition", "partition", "reason"];
    let repeats = lineage.contains(&column.name.as_str())
        || (!is_key && !["payload", "fingerprint", "key"].contains(&column.name.as_str()));
    if column.kind == ColumnKind::Text && dialect == Dialect::Modern && repeats {
        return format!("LowCardinality({plain})");
    }
    plain
}

fn codec_of(dialect: Dialect, kind: ColumnKind) -> &'static str {
    if dialect == Dialect::Legacy {
        return "";
    }
    match kind {
        ColumnKind::Seconds | ColumnKind::Milliseconds => " CODEC(DoubleDelta, ZSTD(1))",
        ColumnKind::Float64 => " CODEC(Gorilla, ZSTD(1))",
        ColumnKind::Int64 | ColumnKind::UInt64 | ColumnKind::UInt32 => " CODEC(T64, ZSTD(1))",
        ColumnKind::UInt8 | ColumnKind::Text => " CODEC(ZSTD(1))",
    }
}

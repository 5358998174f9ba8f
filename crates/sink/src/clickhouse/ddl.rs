//! The statements that make the tables, in two dialects of one schema.
//!
//! `Legacy` uses what ClickHouse 18.16 has; `Modern` adds `DateTime64`, `LowCardinality` and
//! codecs. RowBinary is the same for both, so the rows' encoding does not depend on the dialect.

use tidemill_kernel::row::{Column, ColumnKind};

use super::config::{Names, TableEngine};
use crate::{
    error::SinkError,
    layout::{LETTER_KEY, Layout, letter_columns, record_columns},
    select::{quote_clickhouse, text_clickhouse},
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
    pub(super) storage: Storage,
    partition_by: Option<String>,
}

/// What a table stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// One server.
    Plain,
    /// The replicas that meet at a path in ZooKeeper or Keeper.
    Replicated { path: String, replica: &'static str },
    /// Nothing of its own: the tables of all shards. The arguments of the engine.
    Distributed { arguments: String },
}

/// Returns the tables in the order in which they have to be made.
pub(super) fn expected(
    dialect: Dialect,
    engine: &TableEngine,
    names: &Names,
    layout: &Layout,
) -> Vec<Expected> {
    let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    let mut row_key = layout.key_columns.clone();
    row_key.extend(["time", "pipeline", "source_partition"].map(str::to_string));
    let publish_day = match dialect {
        Dialect::Legacy => "toYYYYMMDD(toDateTime(intDiv(`publish_time`, 1000)))",
        Dialect::Modern => "toYYYYMMDD(`publish_time`)",
    };
    let storage = |name: &str| match engine {
        TableEngine::Plain => Storage::Plain,
        // Records have to be the same whichever server is asked, and letters belong to no device:
        // every server of the cluster is a replica of these two.
        TableEngine::Replicated { .. } => Storage::Replicated {
            path: format!("/clickhouse/tables/every_shard/{}/{name}", names.database),
            replica: "{shard}-{replica}",
        },
    };
    let rows = |name: &str, storage: Storage| Expected {
        name: name.into(),
        columns: layout.columns.clone(),
        sorting_key: row_key.clone(),
        storage,
        partition_by: Some("toYYYYMMDD(`time`)".into()),
    };
    let mut tables = match engine {
        TableEngine::Plain => vec![rows(&names.rows, Storage::Plain)],
        TableEngine::Replicated { cluster } => {
            let path = format!("/clickhouse/tables/{{shard}}/{}", names.database);
            let path = format!("{path}/{}", names.rows_shard);
            let keys = layout.key_columns.iter().map(|name| quote_clickhouse(name));
            let arguments = format!(
                "{}, {}, {}, cityHash64({})",
                text_clickhouse(cluster),
                text_clickhouse(&names.database),
                text_clickhouse(&names.rows_shard),
                keys.collect::<Vec<String>>().join(", "),
            );
            vec![
                rows(&names.rows_shard, Storage::Replicated { path, replica: "{replica}" }),
                rows(&names.rows, Storage::Distributed { arguments }),
            ]
        }
    };
    tables.push(Expected {
        name: names.letters.clone(),
        columns: letter_columns(),
        sorting_key: owned(&LETTER_KEY),
        storage: storage(&names.letters),
        partition_by: Some(publish_day.into()),
    });
    tables.push(Expected {
        name: names.records.clone(),
        columns: stored_record_columns(),
        sorting_key: owned(&["pipeline", "partition", "slot"]),
        storage: storage(&names.records),
        partition_by: None,
    });
    tables
}

/// Returns the statements that make database, tables and view, each only if it is not there.
///
/// # Errors
/// `Config` for a bad name, `Layout` for columns that are no roll-up row.
pub fn ddl(
    dialect: Dialect,
    engine: &TableEngine,
    table: &str,
    columns: &[Column],
    key_columns: &[String],
) -> Result<Vec<String>, SinkError> {
    let names = Names::parse(table)?;
    engine.check()?;
    let layout = Layout::new(columns, key_columns)?;
    let mut made = vec![create_database(engine, &names)];
    let objects = create_objects(dialect, engine, &names, &layout);
    made.extend(objects.into_iter().map(|(_, statement)| statement));
    Ok(made)
}

/// Returns each table and, last, the view, with the statement that makes it.
pub(super) fn create_objects(
    dialect: Dialect,
    engine: &TableEngine,
    names: &Names,
    layout: &Layout,
) -> Vec<(String, String)> {
    let tables = expected(dialect, engine, names, layout).into_iter();
    let mut made: Vec<(String, String)> = tables
        .map(|table| (table.name.clone(), create_table(dialect, engine, names, &table)))
        .collect();
    made.push((names.view.clone(), create_view(engine, names, layout)));
    made
}

pub(super) fn create_database(engine: &TableEngine, names: &Names) -> String {
    let database = quote_clickhouse(&names.database);
    format!("CREATE DATABASE IF NOT EXISTS {database}{}", on_cluster(engine))
}

/// Returns what stands behind a name to do something on every server.
pub(super) fn on_cluster(engine: &TableEngine) -> String {
    let cluster = engine.cluster().map(quote_clickhouse);
    cluster.map_or(String::new(), |cluster| format!(" ON CLUSTER {cluster}"))
}

fn create_table(dialect: Dialect, engine: &TableEngine, names: &Names, table: &Expected) -> String {
    let key = &table.sorting_key;
    let stores = !matches!(table.storage, Storage::Distributed { .. });
    let lines: Vec<String> = table
        .columns
        .iter()
        .map(|column| {
            let (name, is_key) = (quote_clickhouse(&column.name), key.contains(&column.name));
            let codec = if stores { codec_of(dialect, column.kind) } else { "" };
            format!("    {name} {}{codec}", type_of(dialect, column, is_key))
        })
        .collect();
    let head = format!(
        "CREATE TABLE IF NOT EXISTS {}{}\n(\n{}\n)\nENGINE = ",
        names.full(&table.name),
        on_cluster(engine),
        lines.join(",\n"),
    );
    let kept = match &table.storage {
        Storage::Distributed { arguments } => return format!("{head}Distributed({arguments})"),
        Storage::Plain => "ReplacingMergeTree(`revision`)".to_owned(),
        Storage::Replicated { path, replica } => {
            format!("ReplicatedReplacingMergeTree('{path}', '{replica}', `revision`)")
        }
    };
    let partition_by =
        table.partition_by.as_ref().map_or(String::new(), |by| format!("PARTITION BY {by}\n"));
    let key: Vec<String> = key.iter().map(|name| quote_clickhouse(name)).collect();
    format!("{head}{kept}\n{partition_by}ORDER BY ({})", key.join(", "))
}

fn create_view(engine: &TableEngine, names: &Names, layout: &Layout) -> String {
    let columns: Vec<String> =
        layout.columns.iter().map(|column| quote_clickhouse(&column.name)).collect();
    format!(
        "CREATE VIEW IF NOT EXISTS {}{} AS SELECT {} FROM {} FINAL",
        names.full(&names.view),
        on_cluster(engine),
        columns.join(", "),
        names.full(&names.rows),
    )
}

/// Texts of which hardly two are the same.
const UNIQUE_TEXTS: [&str; 4] = ["payload", "fingerprint", "key", "partial_state"];

/// Returns a column's type. Texts that repeat are dictionaries where the server has them; group
/// keys, payloads and states may be all different and stay plain.
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
        || (!is_key && !UNIQUE_TEXTS.contains(&column.name.as_str()));
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

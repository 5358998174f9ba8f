//! The comparison at the start: what the server has against what the rows need.
//!
//! RowBinary carries no types, so a column of another type would take wrong bytes without an
//! error; and a table of another engine or key would show rows twice or lose them.

use tidemill_kernel::row::{Column, ColumnKind};

use super::{
    config::{ClickHouseConfig, Names},
    ddl::{Expected, Storage, create_database, create_objects, expected, type_of},
    server::Server,
};
use crate::{
    error::{SinkError, missing_column},
    layout::Layout,
    select::text_clickhouse,
};

/// Makes what is missing if `create` says so, then compares.
pub(super) fn prepare(
    server: &Server,
    config: &ClickHouseConfig,
    names: &Names,
    layout: &Layout,
    create: bool,
) -> Result<(), SinkError> {
    let found = read_tables(server, names)?;
    let find = |name: &str| found.iter().find(|table| table.name == name);
    if find(&names.view).is_some_and(|view| view.engine != "View") {
        return Err(SinkError::NotAView { table: names.plain(&names.view) });
    }
    let mut missing = create_objects(server.dialect, &config.engine, names, layout);
    missing.retain(|(name, _)| find(name).is_none());
    if let Some((first, _)) = missing.first()
        && !create
    {
        return Err(SinkError::Missing { missing: names.plain(first) });
    }
    if !missing.is_empty() && !database_exists(server, names)? {
        server.execute(&create_database(&config.engine, names))?;
    }
    for (_, statement) in &missing {
        server.execute(statement)?;
    }
    let found = if missing.is_empty() { found } else { read_tables(server, names)? };
    for table in expected(server.dialect, &config.engine, names, layout) {
        let differences = compare(server, names, &table, &found)?;
        if !differences.is_empty() {
            return Err(SinkError::Columns { table: names.plain(&table.name), differences });
        }
    }
    Ok(())
}

/// Refuses to write to several replicas without a quorum: a replica that is behind could then not
/// be told from one that has everything, and the absence of a record would mean nothing.
pub(super) fn check_quorum(
    server: &Server,
    config: &ClickHouseConfig,
    names: &Names,
) -> Result<(), SinkError> {
    let tables = [&names.rows, &names.rows_shard, &names.letters, &names.records];
    let tables: Vec<String> = tables.iter().map(|name| text_clickhouse(name)).collect();
    let sql = format!(
        "SELECT toString(max(total_replicas)) FROM system.replicas \
         WHERE database = {} AND table IN ({})",
        text_clickhouse(&names.database),
        tables.join(", "),
    );
    let replicas = texts::<1>(server, &sql)?.pop().map_or(0, |[count]| count.parse().unwrap_or(0));
    let quorum = match config.quorum() {
        Some(quorum) => quorum.to_string(),
        None => {
            let sql = "SELECT value FROM system.settings WHERE name = 'insert_quorum'";
            texts::<1>(server, sql)?.pop().map_or_else(String::new, |[value]| value)
        }
    };
    if replicas > 1 && matches!(quorum.as_str(), "" | "0" | "1") {
        return Err(SinkError::Config {
            key: "insert_quorum",
            problem: format!(
                "{quorum} is too few for tables with {replicas} replicas: a record could be \
                 missing where it is read; write 2 or more"
            ),
        });
    }
    Ok(())
}

/// A table or view of the server.
pub(super) struct FoundTable {
    pub(super) name: String,
    pub(super) engine: String,
    engine_full: String,
    sorting_key: String,
}

fn text_columns<const COUNT: usize>() -> [Column; COUNT] {
    std::array::from_fn(|_| Column::new("text", ColumnKind::Text, false))
}

/// Runs a SELECT of texts.
pub(super) fn texts<const COUNT: usize>(
    server: &Server,
    sql: &str,
) -> Result<Vec<[String; COUNT]>, SinkError> {
    let mut texts = Vec::new();
    for row in server.select(sql, &text_columns::<COUNT>())? {
        let row: Vec<String> = row.iter().map(ToString::to_string).collect();
        texts.extend(<[String; COUNT]>::try_from(row).ok());
    }
    Ok(texts)
}

fn database_exists(server: &Server, names: &Names) -> Result<bool, SinkError> {
    let sql = format!(
        "SELECT name FROM system.databases WHERE name = {}",
        text_clickhouse(&names.database)
    );
    Ok(!texts::<1>(server, &sql)?.is_empty())
}

/// Reads which of the tables and the view are there.
pub(super) fn read_tables(server: &Server, names: &Names) -> Result<Vec<FoundTable>, SinkError> {
    let wanted = [&names.view, &names.rows, &names.rows_shard, &names.letters, &names.records];
    let wanted: Vec<String> = wanted.iter().map(|name| text_clickhouse(name)).collect();
    let sql = format!(
        "SELECT name, engine, engine_full, sorting_key FROM system.tables \
         WHERE database = {} AND name IN ({})",
        text_clickhouse(&names.database),
        wanted.join(", "),
    );
    let found = texts::<4>(server, &sql)?.into_iter();
    Ok(found
        .map(|[name, engine, engine_full, sorting_key]| FoundTable {
            name,
            engine,
            engine_full,
            sorting_key,
        })
        .collect())
}

/// Returns each difference between a table that is there and the one that has to be.
pub(super) fn compare(
    server: &Server,
    names: &Names,
    table: &Expected,
    found: &[FoundTable],
) -> Result<Vec<String>, SinkError> {
    let mut differences = Vec::new();
    if let Some(there) = found.iter().find(|there| there.name == table.name) {
        differences.extend(engine_difference(&table.storage, there));
        differences.extend(key_difference(table, &there.sorting_key));
    }
    let sql = format!(
        "SELECT name, type, default_kind FROM system.columns WHERE database = {} AND table = {}",
        text_clickhouse(&names.database),
        text_clickhouse(&table.name),
    );
    let columns = texts::<3>(server, &sql)?;
    for column in &table.columns {
        let Some([_, type_there, _]) = columns.iter().find(|[name, ..]| *name == column.name)
        else {
            differences.push(missing_column(&column.name));
            continue;
        };
        let wanted = type_of(server.dialect, column, true);
        if wire_type(type_there) != wire_type(&wanted) {
            differences.push(format!("column {:?} is {type_there}, not {wanted}", column.name));
        }
    }
    for [name, _, default_kind] in &columns {
        let is_ours = table.columns.iter().any(|column| column.name == *name);
        if !is_ours && default_kind.is_empty() {
            differences.push(format!("column {name:?} is not written and has no default"));
        }
    }
    Ok(differences)
}

/// Rows replace one another by revision only in this engine (also Replicated or Shared).
fn engine_difference(storage: &Storage, there: &FoundTable) -> Option<String> {
    let arguments = there.engine_full.split(" PARTITION BY ").next().unwrap_or_default();
    let arguments = arguments.split(" ORDER BY ").next().unwrap_or_default();
    if let Storage::Distributed { arguments: wanted } = storage {
        let plain = |text: &str| text.replace(['`', ' '], "");
        let wanted = format!("Distributed({wanted})");
        let same = plain(arguments) == plain(&wanted);
        return (!same).then(|| format!("the engine is {arguments}, not {wanted}"));
    }
    if there.engine == "Distributed" {
        return Some(format!(
            "the engine is {arguments}: set engine = \"replicated\" and the cluster's name"
        ));
    }
    let on_replicas = there.engine.starts_with("Replicated") || there.engine.starts_with("Shared");
    if *storage != Storage::Plain && !on_replicas {
        return Some(format!("the engine is {arguments}, which is not replicated"));
    }
    if there.engine.ends_with("ReplacingMergeTree") && arguments.contains("revision") {
        return None;
    }
    Some(format!("the engine is {arguments}, not ReplacingMergeTree(revision)"))
}

/// The order may be another, but a column too few would make two rows one.
fn key_difference(table: &Expected, sorting_key: &str) -> Option<String> {
    let mut there: Vec<&str> =
        sorting_key.split(',').map(|name| name.trim().trim_matches('`')).collect();
    let mut wanted: Vec<&str> = table.sorting_key.iter().map(String::as_str).collect();
    there.sort_unstable();
    wanted.sort_unstable();
    if there == wanted || sorting_key.is_empty() {
        return None;
    }
    let wanted = table.sorting_key.join(", ");
    Some(format!("it is ordered by ({sorting_key}), not by ({wanted})"))
}

/// Returns a type without what does not change its bytes: dictionaries, time zones, names.
pub(super) fn wire_type(name: &str) -> String {
    let inner = |prefix: &str| name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(')'));
    if let Some(inner) = inner("LowCardinality(") {
        return wire_type(inner);
    }
    if let Some(inner) = inner("Nullable(") {
        return format!("Nullable({})", wire_type(inner));
    }
    if name == "DateTime64(3)" || name.starts_with("DateTime64(3,") {
        return "Int64".into();
    }
    match name {
        "Bool" => "UInt8".into(),
        _ if name.starts_with("DateTime(") => "DateTime".into(),
        _ => name.into(),
    }
}

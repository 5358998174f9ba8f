//! The comparison at the start: what the server has against what the rows need.
//!
//! RowBinary carries no types, so a column of another type would take wrong bytes without an
//! error; and a table of another engine or key would show rows twice or lose them.

use tidemill_kernel::row::{Column, ColumnKind};

use super::{
    config::Names,
    ddl::{Expected, expected, statements, type_of},
    server::Server,
};
use crate::{error::SinkError, layout::Layout, select::text_clickhouse};

/// Makes what is missing if `create` says so, then compares.
pub(super) fn prepare(
    server: &Server,
    names: &Names,
    layout: &Layout,
    create: bool,
) -> Result<(), SinkError> {
    let found = read_tables(server, names)?;
    let find = |name: &str| found.iter().find(|table| table.name == name);
    if find(&names.view).is_some_and(|view| view.engine != "View") {
        return Err(SinkError::NotAView { table: names.plain(&names.view) });
    }
    let wanted = [&names.rows, &names.letters, &names.records, &names.view];
    let missing: Vec<usize> = (0..wanted.len()).filter(|at| find(wanted[*at]).is_none()).collect();
    if let Some(first) = missing.first()
        && !create
    {
        return Err(SinkError::Missing { missing: names.plain(wanted[*first]) });
    }
    let statements = statements(server.dialect, names, layout);
    if !missing.is_empty() && !database_exists(server, names)? {
        server.execute(&statements[0])?;
    }
    for at in &missing {
        server.execute(&statements[at + 1])?;
    }
    let found = if missing.is_empty() { found } else { read_tables(server, names)? };
    for table in expected(server.dialect, names, layout) {
        compare(server, names, &table, &found)?;
    }
    Ok(())
}

struct FoundTable {
    name: String,
    engine: String,
    engine_full: String,
    sorting_key: String,
}

fn text_columns<const COUNT: usize>() -> [Column; COUNT] {
    std::array::from_fn(|_| Column::new("text", ColumnKind::Text, false))
}

fn texts<const COUNT: usize>(
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

fn read_tables(server: &Server, names: &Names) -> Result<Vec<FoundTable>, SinkError> {
    let wanted = [&names.view, &names.rows, &names.letters, &names.records];
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

fn compare(
    server: &Server,
    names: &Names,
    table: &Expected,
    found: &[FoundTable],
) -> Result<(), SinkError> {
    let mut differences = Vec::new();
    if let Some(there) = found.iter().find(|there| there.name == table.name) {
        differences.extend(engine_difference(there));
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
            differences.push(format!("column {:?} is missing", column.name));
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
    if differences.is_empty() {
        return Ok(());
    }
    Err(SinkError::Columns { table: names.plain(&table.name), differences })
}

/// Rows replace one another by revision only in this engine (also Replicated or Shared).
fn engine_difference(there: &FoundTable) -> Option<String> {
    let arguments = there.engine_full.split(" PARTITION BY ").next().unwrap_or_default();
    let arguments = arguments.split(" ORDER BY ").next().unwrap_or_default();
    let by_revision = arguments.contains("revision");
    if there.engine.ends_with("ReplacingMergeTree") && by_revision {
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

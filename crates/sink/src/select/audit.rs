//! What `verify` asks beyond the totals: windows, rows by their place, rows that no run can have
//! written, the ring of commits, and what rows are made of.
//!
//! Nothing is judged here; numbers and rows are read as they stand.

use tidemill_kernel::{
    row::{Column, ColumnKind},
    time::WindowGrid,
};

use super::{Dialect, Select, names, numbers};
use crate::{
    error::SinkError,
    layout::{record_columns, record_from_values},
    read::{CommitRing, LaneRows, Misfits, Quality, Table, WindowRows},
    value::Value,
};

/// Rows of one kind that are named.
const EXAMPLES_MAX: usize = 3;

/// Returns the condition that rows are these, to stand behind WHERE.
fn condition(dialect: Dialect, rows: &LaneRows) -> String {
    let time = dialect.quote("time");
    let mut parts = vec![
        format!("{} = {}", dialect.quote("pipeline"), dialect.text(&rows.pipeline)),
        format!("{} = {}", dialect.quote("source_partition"), dialect.text(&rows.partition)),
        format!("{} >= {}", dialect.quote("revision"), rows.first_revision),
    ];
    let rounded_up = |ms: i64| ms.div_euclid(1000) + i64::from(ms.rem_euclid(1000) > 0);
    if let Some(from_ms) = rows.from_ms {
        parts.push(format!("{time} >= {}", dialect.seconds(rounded_up(from_ms))));
    }
    if let Some(to_ms) = rows.to_ms {
        parts.push(format!("{time} < {}", dialect.seconds(rounded_up(to_ms))));
    }
    if let Some(until_ms) = rows.closed_until_ms {
        let until = dialect.seconds(until_ms.div_euclid(1000));
        // Nothing is closed yet: the end of the first window is after 1970.
        parts.push(format!("{time} <= {until} AND {until_ms} >= 0"));
    }
    parts.join(" AND ")
}

pub(super) fn windows<S: Select>(
    store: &mut S,
    rows: &LaneRows,
) -> Result<Vec<WindowRows>, SinkError> {
    let dialect = store.dialect();
    let time = dialect.quote("time");
    let sql = format!(
        "SELECT {time}, {}, {} FROM {} WHERE {} GROUP BY {time} ORDER BY {time}",
        dialect.unsigned("count(*)"),
        dialect.unsigned(&format!("sum({})", dialect.quote("record_count"))),
        store.rows_table(),
        condition(dialect, rows),
    );
    let columns = [
        Column::new("time", ColumnKind::Seconds, false),
        Column::new("rows", ColumnKind::UInt64, false),
        Column::new("messages", ColumnKind::UInt64, false),
    ];
    let found = store.select(&sql, &columns)?;
    let window = |row: &Vec<Value>| match row.as_slice() {
        [Value::Second(end_ms), Value::UInt(row_count), Value::UInt(message_count)] => {
            Some(WindowRows {
                end_ms: *end_ms,
                row_count: *row_count,
                message_count: *message_count,
            })
        }
        _ => None,
    };
    Ok(found.iter().filter_map(window).collect())
}

pub(super) fn rows_of_window<S: Select>(
    store: &mut S,
    rows: &LaneRows,
    end_ms: i64,
    skip: u64,
    limit: u64,
) -> Result<Table, SinkError> {
    let dialect = store.dialect();
    let columns = store.layout().columns.clone();
    let keys: Vec<String> =
        store.layout().key_columns.iter().map(|name| dialect.quote(name)).collect();
    let sql = format!(
        "SELECT {} FROM {} WHERE {} AND {} = {} ORDER BY {} LIMIT {skip}, {limit}",
        names(dialect, &columns),
        store.rows_table(),
        condition(dialect, rows),
        dialect.quote("time"),
        dialect.seconds(end_ms.div_euclid(1000)),
        keys.join(", "),
    );
    let rows = store.select(&sql, &columns)?;
    Ok(Table { columns: columns.into_iter().map(|column| column.name).collect(), rows })
}

pub(super) fn misfits<S: Select>(
    store: &mut S,
    rows: &LaneRows,
    grid: WindowGrid,
) -> Result<Misfits, SinkError> {
    let (dialect, table) = (store.dialect(), store.rows_table());
    let mut key = vec!["time".to_owned()];
    key.extend(store.layout().key_columns.iter().cloned());
    let quoted: Vec<String> = key.iter().map(|name| dialect.quote(name)).collect();
    let key_columns: Vec<Column> = key
        .iter()
        .map(|name| {
            let kind = if name == "time" { ColumnKind::Seconds } else { ColumnKind::Text };
            Column::new(name, kind, false)
        })
        .collect();
    let every_revision = LaneRows { first_revision: 0, ..rows.clone() };
    let twice = format!(
        "SELECT {keys} FROM {table} WHERE {} GROUP BY {keys} HAVING count(*) > 1",
        condition(dialect, &every_revision),
        keys = quoted.join(", "),
    );
    let (end, start) = (dialect.as_seconds("time"), dialect.as_seconds("window_start"));
    let (size, offset) = (grid.size_ms() / 1000, grid.offset_ms() / 1000);
    // With an offset the first window of 1970 starts before 0, which stores cannot say.
    let off = format!(
        "SELECT {} FROM {table} WHERE {} AND (({end} - {offset}) % {size} <> 0 \
         OR {end} <> {start} + {size} AND NOT ({start} = 0 AND {end} < {size}))",
        quoted.join(", "),
        condition(dialect, rows),
    );
    let mut misfits = Misfits::default();
    let mut count = |sql: &str, what: &str, examples: &mut Vec<String>| {
        let counted = format!("SELECT {} FROM ({sql}) AS m", dialect.unsigned("count(*)"));
        let [count] = numbers(store, &counted)?;
        if count > 0 {
            let named = store.select(&format!("{sql} LIMIT {EXAMPLES_MAX}"), &key_columns)?;
            let named = named.iter().map(|row| format!("{what}: {}", shown(row)));
            examples.extend(named);
        }
        Ok::<u64, SinkError>(count)
    };
    misfits.duplicate_row_keys = count(&twice, "more than once", &mut misfits.examples)?;
    misfits.off_grid_rows = count(&off, "off the grid", &mut misfits.examples)?;
    Ok(misfits)
}

/// Returns a row's time and keys as a reader writes them.
fn shown(row: &[Value]) -> String {
    let parts: Vec<String> = row.iter().map(ToString::to_string).collect();
    parts.join(" ")
}

pub(super) fn commits<S: Select>(
    store: &mut S,
    pipeline: &str,
    partition: &str,
) -> Result<CommitRing, SinkError> {
    let (dialect, table) = (store.dialect(), store.records_table());
    let columns = record_columns();
    let sql = format!(
        "SELECT {} FROM {table} WHERE {} = {} AND {} = {} ORDER BY {}",
        names(dialect, &columns),
        dialect.quote("pipeline"),
        dialect.text(pipeline),
        dialect.quote("partition"),
        dialect.text(partition),
        dialect.quote("commit_number"),
    );
    let mut records = Vec::new();
    for values in store.select(&sql, &columns)? {
        let record = record_from_values(values)
            .map_err(|problem| SinkError::Stored { table: table.clone(), problem })?;
        records.push(record);
    }
    Ok(CommitRing { slots: store.record_slots(), records })
}

pub(super) fn quality<S: Select>(store: &mut S, rows: &LaneRows) -> Result<Quality, SinkError> {
    let (dialect, table) = (store.dialect(), store.rows_table());
    let condition = condition(dialect, rows);
    let count = dialect.quote("record_count");
    let layout = store.layout();
    let has = |name: &str| layout.columns.iter().any(|column| column.name == name);
    let of = |name: &str, sql: String| if has(name) { sql } else { "0".to_owned() };
    let share = |what: &str| format!("sum(CASE WHEN {what} THEN 1 ELSE 0 END)");
    let mut wanted = vec![
        "count(*)".to_owned(),
        format!("sum({count})"),
        format!("min({count})"),
        format!("max({count})"),
        of("invalid_count", format!("sum({})", dialect.quote("invalid_count"))),
        of("coverage", share(&format!("{} < 1", dialect.quote("coverage")))),
    ];
    let nullable: Vec<String> =
        layout.columns.iter().filter(|c| c.nullable).map(|c| c.name.clone()).collect();
    wanted.extend(nullable.iter().map(|name| share(&format!("{} IS NULL", dialect.quote(name)))));
    let wanted: Vec<String> = wanted.iter().map(|sql| dialect.unsigned(sql)).collect();
    let columns = vec![Column::new("n", ColumnKind::UInt64, false); wanted.len()];
    let sql = format!("SELECT {} FROM {table} WHERE {condition}", wanted.join(", "));
    let answer = store.select(&sql, &columns)?;
    let first = answer.first().map(Vec::as_slice).unwrap_or_default();
    let number = |at: usize| first.get(at).and_then(Value::as_u64).unwrap_or(0);
    let mut quality = Quality {
        row_count: number(0),
        message_count: number(1),
        record_count_min: number(2),
        record_count_max: number(3),
        invalid_count: number(4),
        rows_with_gaps: number(5),
        outlier_count: 0,
        nulls: nullable.into_iter().zip((6..).map(number)).collect(),
    };
    if let Some(mean) = quality.message_count.checked_div(quality.row_count) {
        let outliers = format!(
            "SELECT {} FROM {table} WHERE {condition} AND ({count} * 2 < {mean} OR {count} > {})",
            dialect.unsigned("count(*)"),
            mean.saturating_mul(2),
        );
        [quality.outlier_count] = numbers(store, &outliers)?;
    }
    Ok(quality)
}

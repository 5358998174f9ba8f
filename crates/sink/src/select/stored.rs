//! Reading what is stored of single rows, so that late messages can be merged into them.
//!
//! One SQL for both databases: a list of row values behind IN, cut into statements of bounded size.

use std::collections::HashMap;

use tidemill_engine::{
    port::{RowKey, StoreError, StoredState},
    record::LaneId,
};
use tidemill_kernel::row::{Column, ColumnKind};

use super::Dialect;
use crate::{layout::Layout, value::Value};

/// Bytes of row values in one statement; ClickHouse parses 256 KiB by default.
const LIST_BYTES_MAX: usize = 64 * 1024;
/// Row values in one statement.
const LIST_ROWS_MAX: usize = 500;

/// Reads rows of a lane from `table`, as readers must see it; `select` runs a statement.
///
/// # Errors
/// What `select` answers; `Refused` if rows have no such columns.
pub(crate) fn stored(
    dialect: Dialect,
    layout: &Layout,
    table: &str,
    lane: &LaneId,
    keys: &[RowKey],
    mut select: impl FnMut(&str, &[Column]) -> Result<Vec<Vec<Value>>, StoreError>,
) -> Result<Vec<Option<StoredState>>, StoreError> {
    let mut columns = vec![Column::new("time", ColumnKind::Seconds, false)];
    columns.extend(layout.key_columns.iter().map(|key| Column::new(key, ColumnKind::Text, false)));
    let key_width = columns.len();
    for name in ["revision", "late_count", "partial_state"] {
        let column = layout.columns.iter().find(|column| column.name == name);
        let column = column.ok_or_else(|| {
            StoreError::Refused(format!("rows have no column {name:?}, so none can be amended"))
        })?;
        columns.push(column.clone());
    }
    let names: Vec<String> = columns.iter().map(|column| dialect.quote(&column.name)).collect();
    let select_from = format!(
        "SELECT {} FROM {table} WHERE {} = {} AND {} = {} AND ({}) IN ",
        names.join(", "),
        dialect.quote("pipeline"),
        dialect.text(&lane.pipeline),
        dialect.quote("source_partition"),
        dialect.text(&lane.partition),
        names[..key_width].join(", "),
    );
    let mut found = HashMap::new();
    for list in lists(dialect, keys) {
        for values in select(&format!("{select_from}{list}"), &columns)? {
            let (key, state) = row(values, key_width).map_err(StoreError::Refused)?;
            found.insert(key, state);
        }
    }
    Ok(keys.iter().map(|key| found.remove(&(key.end_ms, key.key.clone()))).collect())
}

/// Returns the row values of keys as lists to stand behind IN.
fn lists(dialect: Dialect, keys: &[RowKey]) -> Vec<String> {
    let (open, close) = match dialect {
        Dialect::Sqlite => ("(VALUES ", ")"),
        Dialect::ClickHouse => ("(", ")"),
    };
    let mut lists = Vec::new();
    let (mut list, mut count) = (String::new(), 0);
    for key in keys {
        let mut cells = vec![dialect.seconds(key.end_ms.div_euclid(1000))];
        cells.extend(key.key.iter().map(|part| dialect.text(part)));
        let value = format!("({})", cells.join(", "));
        if count == LIST_ROWS_MAX || (count > 0 && list.len() + value.len() > LIST_BYTES_MAX) {
            lists.push(format!("{open}{}{close}", std::mem::take(&mut list)));
            count = 0;
        }
        if count > 0 {
            list.push_str(", ");
        }
        list.push_str(&value);
        count += 1;
    }
    if count > 0 {
        lists.push(format!("{open}{list}{close}"));
    }
    lists
}

/// Returns the key and the state of a row; else what is wrong with it.
fn row(values: Vec<Value>, key_width: usize) -> Result<((i64, Vec<String>), StoredState), String> {
    let text = |value: &Value| match value {
        Value::Text(text) => Ok(text.clone()),
        other => Err(format!("a stored row has {other:?} where text belongs")),
    };
    let count = |value: &Value| {
        value.as_u64().ok_or_else(|| format!("a stored row has {value:?} where a count belongs"))
    };
    let time = values[0].as_i64().ok_or("a stored row has no time")?;
    let key = values[1..key_width].iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let state = StoredState {
        revision: count(&values[key_width])?,
        late_count: u32::try_from(count(&values[key_width + 1])?).unwrap_or(u32::MAX),
        partial_state: text(&values[key_width + 2])?,
    };
    Ok(((time, key), state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let key = |at: usize| RowKey { end_ms: 60_000, key: vec![format!("{at}'")] };
        let keys: Vec<RowKey> = (0..1_201).map(key).collect();
        assert_eq!(lists(Dialect::Sqlite, &keys).len(), 3);
        assert_eq!(lists(Dialect::Sqlite, &keys[..2])[0], "(VALUES (60, '0'''), (60, '1'''))");
        assert_eq!(lists(Dialect::ClickHouse, &keys[..1])[0], "((toDateTime(60), '0\\''))");
        let long = RowKey { end_ms: 0, key: vec!["k".repeat(LIST_BYTES_MAX)] };
        assert_eq!(lists(Dialect::ClickHouse, &[long.clone(), long]).len(), 2);
    }
}

//! The reading port written once, in the SQL that both databases understand.
//!
//! A store gives its tables and runs a statement; quoting and the few differences are in
//! [`Dialect`]. Statements are built from checked names and quoted texts only.

use tidemill_engine::record::{CommitRecord, ORDINAL_BITS};
use tidemill_kernel::{
    row::{Column, ColumnKind},
    time::WindowGrid,
};

use crate::{
    error::SinkError,
    layout::{Layout, letter_columns, record_columns, record_from_values},
    read::{
        CommitRing, LaneRows, LetterQuery, Misfits, PartitionTotals, Quality, RowQuery,
        StoreReader, Table, WindowRows,
    },
    value::Value,
};

mod audit;
mod stored;

pub(crate) use stored::stored;

/// Whose SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// The embedded store's.
    Sqlite,
    /// ClickHouse's, any version.
    ClickHouse,
}

/// Returns a name in double quotes.
pub(crate) fn quote_sqlite(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns a text literal. SQLite ends a statement at a NUL, so such texts are given as bytes.
pub(crate) fn text_sqlite(text: &str) -> String {
    if !text.contains('\0') {
        return format!("'{}'", text.replace('\'', "''"));
    }
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("CAST(x'{hex}' AS TEXT)")
}

/// Returns a name in backticks.
pub(crate) fn quote_clickhouse(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// Returns a text literal.
pub(crate) fn text_clickhouse(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('\'', "\\'").replace('\0', "\\0");
    format!("'{text}'")
}

impl Dialect {
    pub(crate) fn quote(self, name: &str) -> String {
        match self {
            Dialect::Sqlite => quote_sqlite(name),
            Dialect::ClickHouse => quote_clickhouse(name),
        }
    }

    fn text(self, text: &str) -> String {
        match self {
            Dialect::Sqlite => text_sqlite(text),
            Dialect::ClickHouse => text_clickhouse(text),
        }
    }

    /// Returns whole seconds as the database compares them with a `Seconds` column.
    fn seconds(self, seconds: i64) -> String {
        let seconds = seconds.clamp(0, u32::MAX.into());
        match self {
            Dialect::Sqlite => seconds.to_string(),
            Dialect::ClickHouse => format!("toDateTime({seconds})"),
        }
    }

    /// Returns a `Seconds` column as a number of seconds.
    fn as_seconds(self, column: &str) -> String {
        match self {
            Dialect::Sqlite => self.quote(column),
            Dialect::ClickHouse => format!("toInt64(toUnixTimestamp({}))", self.quote(column)),
        }
    }

    /// Returns an expression that is an unsigned 64-bit integer in the answer, 0 for nothing.
    fn unsigned(self, expression: &str) -> String {
        match self {
            Dialect::Sqlite => format!("coalesce({expression}, 0)"),
            Dialect::ClickHouse => format!("toUInt64({expression})"),
        }
    }
}

/// What a store gives to be read.
pub(crate) trait Select: Send {
    fn dialect(&self) -> Dialect;
    fn layout(&self) -> &Layout;
    /// The rows as readers must see them, to stand behind FROM.
    fn rows_table(&self) -> String;
    fn letters_table(&self) -> String;
    fn records_table(&self) -> String;
    /// How many of the newest commits of a lane are kept.
    fn record_slots(&self) -> u64;
    /// Runs a SELECT whose answer has these columns.
    fn select(&mut self, sql: &str, columns: &[Column]) -> Result<Vec<Vec<Value>>, SinkError>;
}

impl<S: Select> StoreReader for S {
    fn records(&mut self, pipeline: Option<&str>) -> Result<Vec<CommitRecord>, SinkError> {
        let dialect = self.dialect();
        let condition = pipeline.map_or(String::new(), |pipeline| {
            format!(" WHERE {} = {}", dialect.quote("pipeline"), dialect.text(pipeline))
        });
        let columns = record_columns();
        let table = self.records_table();
        let sql = format!("SELECT {} FROM {table}{condition}", names(dialect, &columns));
        let mut newest: Vec<CommitRecord> = Vec::new();
        for values in self.select(&sql, &columns)? {
            let record = record_from_values(values)
                .map_err(|problem| SinkError::Stored { table: table.clone(), problem })?;
            newest.push(record);
        }
        Ok(newest_per_lane(newest))
    }

    fn rows(&mut self, query: &RowQuery) -> Result<Table, SinkError> {
        let dialect = self.dialect();
        let columns = selected_columns(self.layout(), query.columns.as_deref())?;
        let mut conditions = vec!["1 = 1".to_string()];
        for (name, value) in &query.keys {
            check_text_column(self.layout(), name)?;
            conditions.push(format!("{} = {}", dialect.quote(name), dialect.text(value)));
        }
        let time = dialect.quote("time");
        if let Some(from_ms) = query.from_ms {
            let from = from_ms.div_euclid(1000) + i64::from(from_ms.rem_euclid(1000) > 0);
            conditions.push(format!("{time} >= {}", dialect.seconds(from)));
        }
        if let Some(to_ms) = query.to_ms {
            let to = to_ms.div_euclid(1000) + i64::from(to_ms.rem_euclid(1000) > 0);
            conditions.push(format!("{time} < {}", dialect.seconds(to)));
        }
        let direction = if query.newest_first { " DESC" } else { "" };
        let mut order = Vec::new();
        for name in self.layout().row_key() {
            let direction = if name == "time" { direction } else { "" };
            order.push(format!("{}{direction}", dialect.quote(name)));
        }
        let sql = format!(
            "SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT {}",
            names(dialect, &columns),
            self.rows_table(),
            conditions.join(" AND "),
            order.join(", "),
            query.limit,
        );
        let rows = self.select(&sql, &columns)?;
        Ok(Table { columns: columns.into_iter().map(|column| column.name).collect(), rows })
    }

    fn dead_letters(&mut self, query: &LetterQuery) -> Result<Table, SinkError> {
        let dialect = self.dialect();
        let columns = letter_columns();
        let mut conditions = vec!["1 = 1".to_string()];
        let wanted = [
            ("pipeline", query.pipeline.as_deref()),
            ("partition", query.partition.as_deref()),
            ("reason", query.reason.map(tidemill_kernel::event::Reason::name)),
            ("key", query.key.as_deref()),
        ];
        for (name, value) in wanted {
            if let Some(value) = value {
                conditions.push(format!("{} = {}", dialect.quote(name), dialect.text(value)));
            }
        }
        let direction = if query.newest_first { " DESC" } else { "" };
        let order: Vec<String> = ["publish_time", "segment", "offset", "batch_index"]
            .iter()
            .map(|name| format!("{}{direction}", dialect.quote(name)))
            .collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT {}",
            names(dialect, &columns),
            self.letters_table(),
            conditions.join(" AND "),
            order.join(", "),
            query.limit,
        );
        let rows = self.select(&sql, &columns)?;
        Ok(Table { columns: columns.into_iter().map(|column| column.name).collect(), rows })
    }

    fn totals(&mut self, pipeline: &str) -> Result<Vec<PartitionTotals>, SinkError> {
        let mut totals: Vec<PartitionTotals> = Vec::new();
        for record in self.records(Some(pipeline))? {
            totals.push(PartitionTotals::of(&record.lane.partition.clone(), Some(record)));
        }
        for partition in partitions_with_rows(self, pipeline)? {
            if !totals.iter().any(|known| known.partition == partition) {
                totals.push(PartitionTotals::of(&partition, None));
            }
        }
        for partition in &mut totals {
            count_rows(self, pipeline, partition)?;
            count_letters(self, pipeline, partition)?;
        }
        Ok(totals)
    }

    fn several_partitions(&mut self, pipeline: &str) -> Result<[u64; 2], SinkError> {
        let (dialect, table) = (self.dialect(), self.rows_table());
        let of_pipeline = format!("{} = {}", dialect.quote("pipeline"), dialect.text(pipeline));
        let device = self.layout().key_columns.clone();
        let device_window = [vec!["time".to_owned()], device.clone()].concat();
        let mut counts = [0; 2];
        for (count, key) in counts.iter_mut().zip([device, device_window]) {
            let key: Vec<String> = key.iter().map(|name| dialect.quote(name)).collect();
            let partition = dialect.quote("source_partition");
            let sql = format!(
                "SELECT {} FROM (SELECT min({partition}) AS a, max({partition}) AS b FROM {table} \
                 WHERE {of_pipeline} GROUP BY {}) AS k WHERE a <> b",
                dialect.unsigned("count(*)"),
                key.join(", "),
            );
            [*count] = numbers(self, &sql)?;
        }
        Ok(counts)
    }

    fn windows(&mut self, rows: &LaneRows) -> Result<Vec<WindowRows>, SinkError> {
        audit::windows(self, rows)
    }

    fn rows_of_window(
        &mut self,
        rows: &LaneRows,
        end_ms: i64,
        skip: u64,
        limit: u64,
    ) -> Result<Table, SinkError> {
        audit::rows_of_window(self, rows, end_ms, skip, limit)
    }

    fn misfits(&mut self, rows: &LaneRows, grid: WindowGrid) -> Result<Misfits, SinkError> {
        audit::misfits(self, rows, grid)
    }

    fn commits(&mut self, pipeline: &str, partition: &str) -> Result<CommitRing, SinkError> {
        audit::commits(self, pipeline, partition)
    }

    fn quality(&mut self, rows: &LaneRows) -> Result<Quality, SinkError> {
        audit::quality(self, rows)
    }
}

fn names(dialect: Dialect, columns: &[Column]) -> String {
    let names: Vec<String> = columns.iter().map(|column| dialect.quote(&column.name)).collect();
    names.join(", ")
}

/// Keeps, of each lane, the record that is furthest: by revision, then by the windows it calls
/// closed (the end of an input closes windows without a further message), then commit number.
pub(crate) fn newest_per_lane(mut records: Vec<CommitRecord>) -> Vec<CommitRecord> {
    let rank = |record: &CommitRecord| {
        (record.revision(), record.closed_until_ms, record.id.number, record.id.writer)
    };
    records.sort_by(|a, b| a.lane.cmp(&b.lane).then(rank(b).cmp(&rank(a))));
    records.dedup_by(|later, first| later.lane == first.lane);
    records
}

fn selected_columns(layout: &Layout, wanted: Option<&[String]>) -> Result<Vec<Column>, SinkError> {
    let Some(wanted) = wanted else { return Ok(layout.columns.clone()) };
    let find = |name: &String| {
        let found = layout.columns.iter().find(|column| column.name == *name);
        found.cloned().ok_or_else(|| no_column(layout, name))
    };
    wanted.iter().map(find).collect()
}

fn check_text_column(layout: &Layout, name: &str) -> Result<(), SinkError> {
    match layout.columns.iter().find(|column| column.name == name) {
        Some(column) if column.kind == ColumnKind::Text => Ok(()),
        Some(_) => Err(SinkError::Config {
            key: "column",
            problem: format!("{name:?} is no text, rows can be chosen by text columns only"),
        }),
        None => Err(no_column(layout, name)),
    }
}

fn no_column(layout: &Layout, name: &str) -> SinkError {
    let known: Vec<&str> = layout.columns.iter().map(|column| column.name.as_str()).collect();
    let problem = format!("no column {name:?}; there are {}", known.join(", "));
    SinkError::Config { key: "column", problem }
}

fn partitions_with_rows<S: Select>(
    store: &mut S,
    pipeline: &str,
) -> Result<Vec<String>, SinkError> {
    let dialect = store.dialect();
    let sql = format!(
        "SELECT DISTINCT {name} FROM {} WHERE {} = {} ORDER BY {name}",
        store.rows_table(),
        dialect.quote("pipeline"),
        dialect.text(pipeline),
        name = dialect.quote("source_partition"),
    );
    let rows = store.select(&sql, &[Column::new("source_partition", ColumnKind::Text, false)])?;
    let text = |row: &Vec<Value>| row.first().and_then(Value::as_text).map(str::to_string);
    Ok(rows.iter().filter_map(text).collect())
}

/// Runs a SELECT of `COUNT` unsigned numbers that gives one row.
fn numbers<S: Select, const COUNT: usize>(
    store: &mut S,
    sql: &str,
) -> Result<[u64; COUNT], SinkError> {
    let columns = vec![Column::new("n", ColumnKind::UInt64, false); COUNT];
    let rows = store.select(sql, &columns)?;
    let values: Option<Vec<u64>> =
        rows.first().map(|row| row.iter().map(|value| value.as_u64().unwrap_or(0)).collect());
    let values = values.and_then(|values| values.try_into().ok());
    values.ok_or_else(|| SinkError::Stored {
        table: store.rows_table(),
        problem: format!("no answer to {sql}"),
    })
}

fn count_rows<S: Select>(
    store: &mut S,
    pipeline: &str,
    totals: &mut PartitionTotals,
) -> Result<(), SinkError> {
    let (dialect, table) = (store.dialect(), store.rows_table());
    let of_lane = format!(
        "{} = {} AND {} = {}",
        dialect.quote("pipeline"),
        dialect.text(pipeline),
        dialect.quote("source_partition"),
        dialect.text(&totals.partition),
    );
    let closed_until = totals.record.as_ref().map_or(i64::MIN, |record| record.closed_until_ms);
    // Rows of forgotten commits are not in the ledger.
    let first_revision = first_revision(totals.record.as_ref());
    let counted = format!("{of_lane} AND {} >= {first_revision}", dialect.quote("revision"));
    let closed = format!(
        "{counted} AND {} <= {} AND {closed_until} >= 0",
        dialect.quote("time"),
        dialect.seconds(closed_until.div_euclid(1000)),
    );
    let counts = format!(
        "{}, {}",
        dialect.unsigned("count(*)"),
        dialect.unsigned(&format!("sum({})", dialect.quote("record_count"))),
    );
    let [rows, messages] =
        numbers(store, &format!("SELECT {counts} FROM {table} WHERE {counted}"))?;
    let [closed_rows, closed_messages] =
        numbers(store, &format!("SELECT {counts} FROM {table} WHERE {closed}"))?;
    totals.row_count = rows;
    [totals.rows_of_forgotten_commits] = numbers(
        store,
        &format!(
            "SELECT {} FROM {table} WHERE {of_lane} AND {} < {first_revision}",
            dialect.unsigned("count(*)"),
            dialect.quote("revision"),
        ),
    )?;
    totals.row_count_closed = closed_rows;
    totals.record_count_closed = closed_messages;
    totals.record_count_open = messages.saturating_sub(closed_messages);

    [totals.window_count, totals.rows_per_window_min, totals.rows_per_window_max] = numbers(
        store,
        &format!(
            "SELECT {}, {}, {} FROM (SELECT {time}, count(*) AS n FROM {table} WHERE {closed} \
             GROUP BY {time}) AS w",
            dialect.unsigned("count(*)"),
            dialect.unsigned("min(n)"),
            dialect.unsigned("max(n)"),
            time = dialect.quote("time"),
        ),
    )?;
    Ok(())
}

/// Returns the lowest revision that the ledger of a record counts.
fn first_revision(record: Option<&CommitRecord>) -> u64 {
    record.map_or(0, |record| u64::from(record.birth_generation) << ORDINAL_BITS)
}

fn count_letters<S: Select>(
    store: &mut S,
    pipeline: &str,
    totals: &mut PartitionTotals,
) -> Result<(), SinkError> {
    let Some(record) = totals.record.clone() else { return Ok(()) };
    // Letters are of single lanes, also where rows are merged.
    if record.lanes.is_empty() {
        return count_letters_of(store, pipeline, &record, totals);
    }
    record.lanes.iter().try_for_each(|lane| count_letters_of(store, pipeline, lane, totals))
}

fn count_letters_of<S: Select>(
    store: &mut S,
    pipeline: &str,
    record: &CommitRecord,
    totals: &mut PartitionTotals,
) -> Result<(), SinkError> {
    let dialect = store.dialect();
    let first_revision = first_revision(Some(record));
    let sql = format!(
        "SELECT {reason}, {older} AS older, {count} FROM {table} \
         WHERE {pipeline_name} = {pipeline} AND {partition_name} = {partition} \
         AND {ordinal} <= {last} AND {revision} <= {newest} \
         GROUP BY {reason}, older ORDER BY {reason}",
        reason = dialect.quote("reason"),
        older = dialect.unsigned(&format!("{} < {first_revision}", dialect.quote("revision"))),
        count = dialect.unsigned("count(*)"),
        table = store.letters_table(),
        pipeline_name = dialect.quote("pipeline"),
        pipeline = dialect.text(pipeline),
        partition_name = dialect.quote("partition"),
        partition = dialect.text(&record.lane.partition),
        ordinal = dialect.quote("ordinal"),
        last = record.ordinal,
        revision = dialect.quote("revision"),
        newest = record.revision(),
    );
    let columns = [
        Column::new("reason", ColumnKind::Text, false),
        Column::new("older", ColumnKind::UInt64, false),
        Column::new("n", ColumnKind::UInt64, false),
    ];
    for row in store.select(&sql, &columns)? {
        let [Value::Text(reason), Value::UInt(older), Value::UInt(count)] = row.as_slice() else {
            continue;
        };
        if *older != 0 {
            totals.letters_of_earlier_generations += count;
            continue;
        }
        let is_late = reason == tidemill_kernel::event::Reason::Late.name();
        *(if is_late { &mut totals.late } else { &mut totals.rejected }) += count;
        match totals.letters_by_reason.iter_mut().find(|(known, _)| known == reason) {
            Some((_, known)) => *known += count,
            None => totals.letters_by_reason.push((reason.clone(), *count)),
        }
    }
    Ok(())
}

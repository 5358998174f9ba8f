//! Rows, letters and records for the contract, small enough to be written by hand.

use bytes::Bytes;
use tidemill_engine::{
    ledger::Ledger,
    port::{Commit, DeadLetter},
    record::{CommitId, CommitRecord, LaneId},
};
use tidemill_kernel::{
    event::{Position, Reason},
    row::{Cell, Column, ColumnKind, RowBlock},
    schema::{AMEND_COLUMNS, QUALITY_COLUMNS},
};
use tidemill_sink::{RowQuery, StoreReader, Value};

/// 2026-11-22T00:00:00Z.
pub(crate) const DAY_S: u64 = 1_795_305_600;
pub(crate) const WINDOW_MS: i64 = 60_000;

pub(crate) fn keys() -> Vec<String> {
    vec!["device_id".into(), "line".into()]
}

pub(crate) fn columns() -> Vec<Column> {
    let mut columns = vec![
        Column::new("time", ColumnKind::Seconds, false),
        Column::new("device_id", ColumnKind::Text, false),
        Column::new("line", ColumnKind::Text, false),
        Column::new("site", ColumnKind::Text, true),
        Column::new("temperature", ColumnKind::Float64, true),
        Column::new("packets_sent", ColumnKind::Int64, true),
        Column::new("motion", ColumnKind::UInt8, true),
        Column::new("temperature_count", ColumnKind::UInt64, false),
    ];
    columns.extend(QUALITY_COLUMNS.iter().map(|(name, kind)| Column::new(name, *kind, false)));
    columns
}

/// The columns of rows that late messages may correct.
pub(crate) fn amendable_columns() -> Vec<Column> {
    let mut columns = columns();
    columns.extend(AMEND_COLUMNS.iter().map(|(name, kind)| Column::new(name, *kind, false)));
    columns
}

/// A roll-up row; what is not here follows from it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// The window's end in minutes of the day.
    pub(crate) minute: u64,
    pub(crate) device: String,
    pub(crate) site: Option<String>,
    pub(crate) temperature: Option<f64>,
    pub(crate) packets_sent: Option<i64>,
    pub(crate) motion: Option<bool>,
    pub(crate) temperature_count: u64,
    pub(crate) record_count: u64,
    pub(crate) revision: u64,
}

impl Row {
    pub(crate) fn new(minute: u64, device: &str, temperature: f64, revision: u64) -> Row {
        Row {
            minute,
            device: device.into(),
            site: Some("north".into()),
            temperature: Some(temperature),
            packets_sent: Some(-3),
            motion: Some(true),
            temperature_count: 2,
            record_count: 10,
            revision,
        }
    }

    pub(crate) fn values(&self, lane: &LaneId) -> Vec<Value> {
        let end_ms = (DAY_S + self.minute * 60) as i64 * 1000;
        vec![
            Value::Second(end_ms),
            Value::Text(self.device.clone()),
            Value::Text("a".into()),
            self.site.clone().map_or(Value::Null, Value::Text),
            self.temperature.map_or(Value::Null, Value::Float),
            self.packets_sent.map_or(Value::Null, Value::Int),
            self.motion.map_or(Value::Null, |motion| Value::UInt(motion.into())),
            Value::UInt(self.temperature_count),
            Value::Second(end_ms - WINDOW_MS),
            Value::UInt(self.record_count),
            Value::UInt(0),
            Value::Millisecond(end_ms - 59_877),
            Value::Millisecond(end_ms - 1),
            Value::Float(0.5),
            Value::UInt(7),
            Value::Text(lane.pipeline.to_string()),
            Value::Text(lane.partition.to_string()),
            Value::UInt(self.revision),
        ]
    }
}

pub(crate) fn lane() -> LaneId {
    LaneId::new("sensors", "0")
}

/// Encodes rows as one piece.
pub(crate) fn block(lane: &LaneId, rows: &[Row]) -> RowBlock {
    encode(&columns(), rows.iter().map(|row| row.values(lane)))
}

/// Encodes the values of rows as one piece.
pub(crate) fn encode(columns: &[Column], rows: impl Iterator<Item = Vec<Value>>) -> RowBlock {
    let mut block = RowBlock::new();
    for row in rows {
        for (column, value) in columns.iter().zip(&row) {
            block.push(
                column,
                match value {
                    Value::Null => Cell::Null,
                    Value::Float(value) => Cell::Float(*value),
                    Value::Int(value) | Value::Millisecond(value) => Cell::Int(*value),
                    Value::UInt(value) => Cell::UInt(*value),
                    Value::Second(at_ms) => Cell::UInt((at_ms / 1000) as u64),
                    Value::Text(text) => Cell::Text(text),
                    Value::Bytes(_) => unreachable!("rows hold no bytes"),
                },
            );
        }
        block.end_row();
    }
    block
}

pub(crate) fn record(number: u64, ordinal: u64, closed_minute: u64) -> CommitRecord {
    CommitRecord {
        id: CommitId { number, writer: 0xfeed_0000_0000_0001 },
        fingerprint: "window.size=1m\nwindow.offset='0s'\\".into(),
        ordinal,
        closed_until_ms: (DAY_S + closed_minute * 60) as i64 * 1000,
        highest_event_time_ms: (DAY_S + closed_minute * 60) as i64 * 1000 + 5_001,
        birth: Some(Position::new(1, 2, 3)),
        processed: Some(Position::new(u64::MAX, ordinal, u32::MAX)),
        ledger: Ledger { messages: ordinal, aggregated: ordinal, ..Ledger::default() },
        ..CommitRecord::unborn(lane())
    }
}

pub(crate) fn letter(ordinal: u64, reason: Reason) -> DeadLetter {
    DeadLetter {
        partition: lane().partition,
        position: Position::new(7, ordinal, 0),
        ordinal,
        revision: ordinal,
        reason,
        publish_time_ms: DAY_S as i64 * 1000 + 123,
        event_time_ms: (reason == Reason::Late).then_some(DAY_S as i64 * 1000 - 1),
        key: (reason == Reason::Late).then(|| "sensor_\u{fc}/a".into()),
        payload: Bytes::from_static(b"{\"a\":\xff\0'"),
        payload_bytes: u64::MAX,
    }
}

pub(crate) fn commit(
    previous: Option<CommitId>,
    rows: &[Row],
    letters: Vec<DeadLetter>,
    record: CommitRecord,
) -> Commit {
    Commit { previous, rows: vec![block(&record.lane, rows)], letters, record }
}

/// Reads all rows back and compares them bit by bit with `expected` (in any order).
pub(crate) fn assert_rows(reader: &mut dyn StoreReader, lane: &LaneId, expected: &[Row]) {
    let query = RowQuery {
        keys: vec![("source_partition".into(), lane.partition.to_string())],
        limit: 1_000_000,
        ..RowQuery::default()
    };
    let table = reader.rows(&query).unwrap();
    let names: Vec<String> = columns().into_iter().map(|column| column.name).collect();
    assert_eq!(table.columns, names);
    let mut wanted: Vec<Vec<Value>> = expected.iter().map(|row| row.values(lane)).collect();
    let order = |values: &Vec<Value>| (values[0].as_i64(), values[1].to_string());
    wanted.sort_by_key(order);
    assert_eq!(table.rows.len(), wanted.len(), "number of rows");
    for (found, wanted) in table.rows.iter().zip(&wanted) {
        assert_eq!(format!("{found:?}"), format!("{wanted:?}"));
    }
}

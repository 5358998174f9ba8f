//! What the stores keep beside the rows: columns of letters and records, and the names of tables.
//!
//! Both stores build their tables, writes and reads from these lists, so they cannot drift apart.

use std::sync::Arc;

use tidemill_engine::{
    ledger::Ledger,
    port::DeadLetter,
    record::{CommitId, CommitRecord, LaneId, ORDINAL_MAX, RECORD_FORMAT, TRANSITION_FORMAT},
};
use tidemill_kernel::{
    event::Position,
    row::{Column, ColumnKind},
};

use crate::{error::SinkError, lanes, transition, value::Value};

/// The columns of the rows, checked for what the stores rely on.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The columns in the order of the rows' encoding.
    pub columns: Vec<Column>,
    /// The names of the group keys.
    pub key_columns: Vec<String>,
}

const NEEDED: [(&str, ColumnKind); 6] = [
    ("time", ColumnKind::Seconds),
    ("window_start", ColumnKind::Seconds),
    ("record_count", ColumnKind::UInt64),
    ("pipeline", ColumnKind::Text),
    ("source_partition", ColumnKind::Text),
    ("revision", ColumnKind::UInt64),
];

impl Layout {
    /// Checks columns and keys.
    ///
    /// # Errors
    /// `Layout` if a column that every row has is missing, nullable or of another kind, or a key
    /// is no text column.
    pub fn new(columns: &[Column], key_columns: &[String]) -> Result<Layout, SinkError> {
        let keys = key_columns.iter().map(|key| (key.as_str(), ColumnKind::Text));
        for (name, kind) in NEEDED.into_iter().chain(keys) {
            let found = columns.iter().find(|column| column.name == name);
            if found.is_none_or(|column| column.kind != kind || column.nullable) {
                let problem = format!("{name:?} must be there as {kind:?}, never NULL");
                return Err(SinkError::Layout(problem));
            }
        }
        if key_columns.is_empty() {
            return Err(SinkError::Layout("no group key".into()));
        }
        Ok(Layout { columns: columns.to_vec(), key_columns: key_columns.to_vec() })
    }

    /// Returns where a column that every row has stands.
    pub(crate) fn index_of(&self, name: &str) -> usize {
        let index = self.columns.iter().position(|column| column.name == name);
        index.expect("columns that every row has are checked in new")
    }

    /// Returns the names that identify a row, time first.
    pub(crate) fn row_key(&self) -> Vec<&str> {
        let mut names = vec!["time"];
        names.extend(self.key_columns.iter().map(String::as_str));
        names.extend(["pipeline", "source_partition"]);
        names
    }
}

/// The columns that identify a letter.
pub(crate) const LETTER_KEY: [&str; 5] =
    ["pipeline", "partition", "segment", "offset", "batch_index"];

/// Returns the columns of dead letters.
pub fn letter_columns() -> Vec<Column> {
    use ColumnKind::{Milliseconds, Text, UInt32, UInt64};
    vec![
        Column::new("pipeline", Text, false),
        Column::new("partition", Text, false),
        Column::new("segment", UInt64, false),
        Column::new("offset", UInt64, false),
        Column::new("batch_index", UInt32, false),
        Column::new("ordinal", UInt64, false),
        Column::new("revision", UInt64, false),
        Column::new("reason", Text, false),
        Column::new("publish_time", Milliseconds, false),
        Column::new("event_time", Milliseconds, true),
        Column::new("key", Text, true),
        Column::new("payload", Text, false),
        Column::new("payload_bytes", UInt64, false),
    ]
}

/// Returns the values of a letter, in the order of [`letter_columns`].
pub(crate) fn letter_values(lane: &LaneId, letter: &DeadLetter) -> Vec<Value> {
    vec![
        Value::Text(lane.pipeline.to_string()),
        Value::Text(letter.partition.to_string()),
        Value::UInt(letter.position.segment),
        Value::UInt(letter.position.offset),
        Value::UInt(letter.position.index.into()),
        Value::UInt(letter.ordinal),
        Value::UInt(letter.revision),
        Value::Text(letter.reason.name().into()),
        Value::Millisecond(letter.publish_time_ms),
        letter.event_time_ms.map_or(Value::Null, Value::Millisecond),
        letter.key.clone().map_or(Value::Null, Value::Text),
        Value::from_bytes(&letter.payload),
        Value::UInt(letter.payload_bytes),
    ]
}

/// Returns the columns of commit records.
pub fn record_columns() -> Vec<Column> {
    use ColumnKind::{Int64, Text, UInt32, UInt64};
    let mut columns = vec![
        Column::new("pipeline", Text, false),
        Column::new("partition", Text, false),
        Column::new("revision", UInt64, false),
        Column::new("commit_number", UInt64, false),
        Column::new("writer", UInt64, false),
        Column::new("format", UInt32, false),
        Column::new("generation", UInt32, false),
        Column::new("fingerprint", Text, false),
        Column::new("ordinal", UInt64, false),
        Column::new("closed_until_ms", Int64, false),
        Column::new("highest_event_time_ms", Int64, false),
    ];
    for position in ["birth", "processed", "resume"] {
        columns.push(Column::new(&format!("{position}_segment"), UInt64, true));
        columns.push(Column::new(&format!("{position}_offset"), UInt64, true));
        columns.push(Column::new(&format!("{position}_index"), UInt32, true));
    }
    for name in ["messages", "aggregated", "open", "late", "rejected", "lost"] {
        columns.push(Column::new(name, UInt64, false));
    }
    columns.push(Column::new("birth_ordinal", UInt64, false));
    columns.push(Column::new("birth_generation", UInt32, false));
    columns.push(Column::new("lanes", Text, false));
    columns
}

/// Returns the values of a record, in the order of [`record_columns`].
pub(crate) fn record_values(record: &CommitRecord) -> Vec<Value> {
    let is_settled = record.transition.is_none();
    let mut values = vec![
        Value::Text(record.lane.pipeline.to_string()),
        Value::Text(record.lane.partition.to_string()),
        Value::UInt(record.revision()),
        Value::UInt(record.id.number),
        Value::UInt(record.id.writer),
        Value::UInt(if is_settled { RECORD_FORMAT } else { TRANSITION_FORMAT }.into()),
        Value::UInt(record.generation.into()),
        Value::Text(record.fingerprint.clone()),
        Value::UInt(record.ordinal),
        Value::Int(record.closed_until_ms),
        Value::Int(record.highest_event_time_ms),
    ];
    for position in [record.birth, record.processed, record.resume] {
        let [segment, offset, index] = position.map_or([const { Value::Null }; 3], |position| {
            [
                Value::UInt(position.segment),
                Value::UInt(position.offset),
                Value::UInt(position.index.into()),
            ]
        });
        values.extend([segment, offset, index]);
    }
    let ledger = record.ledger;
    let Ledger { messages, aggregated, open, late, rejected, lost } = ledger;
    for count in [messages, aggregated, open, late, rejected, lost, record.birth_ordinal] {
        values.push(Value::UInt(count));
    }
    values.push(Value::UInt(record.birth_generation.into()));
    values.push(Value::Text(match is_settled {
        true => lanes::to_json(&record.lanes),
        false => transition::to_json(&record.transition),
    }));
    values
}

/// Returns the record that `values` hold.
///
/// # Errors
/// The problem as text: another format, or a value that is no such column's.
pub(crate) fn record_from_values(values: Vec<Value>) -> Result<CommitRecord, String> {
    let mut values = Stored { values: values.into_iter() };
    let lane = LaneId { pipeline: values.text()?, partition: values.text()? };
    let order = values.unsigned()? & ORDINAL_MAX;
    let id = CommitId { number: values.unsigned()?, writer: values.unsigned()? };
    let format = values.unsigned()?;
    let has_transition = format == u64::from(TRANSITION_FORMAT);
    if format != u64::from(RECORD_FORMAT) && !has_transition {
        return Err(format!(
            "{lane} has a commit record of format {format}, this program knows {RECORD_FORMAT} \
             and {TRANSITION_FORMAT}"
        ));
    }
    let mut record = CommitRecord {
        id,
        generation: values.small()?,
        fingerprint: values.text()?.to_string(),
        ordinal: values.unsigned()?,
        closed_until_ms: values.signed()?,
        highest_event_time_ms: values.signed()?,
        birth: values.position()?,
        processed: values.position()?,
        resume: values.position()?,
        ledger: Ledger {
            messages: values.unsigned()?,
            aggregated: values.unsigned()?,
            open: values.unsigned()?,
            late: values.unsigned()?,
            rejected: values.unsigned()?,
            lost: values.unsigned()?,
        },
        ..CommitRecord::unborn(lane)
    };
    record.birth_ordinal = values.unsigned()?;
    record.birth_generation = values.small()?;
    let text = values.text()?;
    if has_transition {
        record.transition = transition::from_json(&text, record.closed_until_ms)
            .ok_or_else(|| format!("{} has a transition that cannot be read", record.lane))?;
        return Ok(record);
    }
    record.lanes = lanes::from_json(&record, &text)?;
    if !record.lanes.is_empty() {
        record.turn = order;
    }
    Ok(record)
}

struct Stored {
    values: std::vec::IntoIter<Value>,
}

impl Stored {
    fn next(&mut self) -> Result<Value, String> {
        self.values.next().ok_or_else(|| "the commit record is cut".into())
    }

    fn text(&mut self) -> Result<Arc<str>, String> {
        match self.next()? {
            Value::Text(text) => Ok(text.into()),
            other => Err(format!("expected text in a commit record, found {other:?}")),
        }
    }

    fn unsigned(&mut self) -> Result<u64, String> {
        let value = self.next()?;
        value.as_u64().ok_or_else(|| format!("expected a count in a record, found {value:?}"))
    }

    fn small(&mut self) -> Result<u32, String> {
        let value = self.unsigned()?;
        u32::try_from(value).map_err(|_| format!("{value} in a commit record is beyond 32 bits"))
    }

    fn signed(&mut self) -> Result<i64, String> {
        let value = self.next()?;
        value.as_i64().ok_or_else(|| format!("expected an integer in a record, found {value:?}"))
    }

    fn position(&mut self) -> Result<Option<Position>, String> {
        let (segment, offset, index) = (self.next()?, self.next()?, self.next()?);
        let index = index.as_u64().map(u32::try_from);
        match (segment.as_u64(), offset.as_u64(), index) {
            (Some(segment), Some(offset), Some(Ok(index))) => {
                Ok(Some(Position { segment, offset, index }))
            }
            (None, None, None) => Ok(None),
            found => Err(format!("{found:?} is no position")),
        }
    }
}

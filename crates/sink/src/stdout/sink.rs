//! Writing rows and letters as lines of JSON.

use std::io::Write;

use serde_json::{Map, Value as Json};
use tidemill_engine::{
    port::{Commit, DeadLetter, RowKey, Store, StoreError, StoredState},
    record::{CommitRecord, LaneId},
};
use tidemill_kernel::row::{Cell, Column, ColumnKind, RowBlock};

use crate::{
    layout::{letter_columns, letter_values},
    time_text::format_ms,
    value::Value,
};

/// Prints rows to one writer and dead letters to another.
pub struct StdoutStore<R, L> {
    columns: Vec<Column>,
    rows: R,
    letters: L,
}

impl<R: Write + Send, L: Write + Send> StdoutStore<R, L> {
    /// Returns a store that prints rows of these columns to `rows` and letters to `letters`.
    pub fn new(columns: &[Column], rows: R, letters: L) -> StdoutStore<R, L> {
        StdoutStore { columns: columns.to_vec(), rows, letters }
    }

    fn print_rows(&mut self, commit: &Commit) -> std::io::Result<()> {
        let names: Vec<String> = self
            .columns
            .iter()
            .map(|column| Json::from(column.name.as_str()).to_string())
            .collect();
        let mut text = String::new();
        for block in &commit.rows {
            let mut reader = block.reader(&self.columns);
            let mut cells = Vec::with_capacity(self.columns.len());
            while reader.next_row(&mut cells) {
                text.clear();
                for (index, (column, cell)) in self.columns.iter().zip(&cells).enumerate() {
                    text.push(if index == 0 { '{' } else { ',' });
                    text.push_str(&names[index]);
                    text.push(':');
                    text.push_str(&cell_json(column, *cell).to_string());
                }
                text.push_str("}\n");
                self.rows.write_all(text.as_bytes())?;
            }
        }
        self.rows.flush()
    }

    fn print_letters(&mut self, commit: &Commit) -> std::io::Result<()> {
        for letter in &commit.letters {
            let object = letter_json(&commit.record.lane, letter);
            let line = Map::from_iter([("dead_letter".to_string(), Json::Object(object))]);
            writeln!(self.letters, "{}", Json::Object(line))?;
        }
        self.letters.flush()
    }
}

impl<R: Write + Send, L: Write + Send> Store for StdoutStore<R, L> {
    fn load(&mut self, _lane: &LaneId) -> Result<Option<CommitRecord>, StoreError> {
        Ok(None)
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let refused = |what: &str, error: &std::io::Error| {
            StoreError::Refused(format!("stdout store: cannot print {what}: {error}"))
        };
        self.print_rows(commit).map_err(|error| refused("rows", &error))?;
        self.print_letters(commit).map_err(|error| refused("dead letters", &error))
    }

    fn stored(
        &mut self,
        _lane: &LaneId,
        _keys: &[RowKey],
    ) -> Result<Vec<Option<StoredState>>, StoreError> {
        let text = "stdout store: a printed row cannot be amended; use another sink";
        Err(StoreError::Refused(text.to_owned()))
    }

    fn write_rows(&mut self, _rows: &[RowBlock]) -> Result<(), StoreError> {
        let text = "stdout store: a printed row cannot be replaced; use another sink";
        Err(StoreError::Refused(text.to_owned()))
    }
}

fn cell_json(column: &Column, cell: Cell<'_>) -> Json {
    let at_ms = match (column.kind, cell) {
        (ColumnKind::Seconds, Cell::UInt(seconds)) => {
            i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000)
        }
        (ColumnKind::Milliseconds, Cell::Int(at_ms)) => at_ms,
        (_, Cell::Null) => return Json::Null,
        (_, Cell::Float(value)) => return Json::from(value),
        (_, Cell::Int(value)) => return Json::from(value),
        (_, Cell::UInt(value)) => return Json::from(value),
        (_, Cell::Text(text)) => return Json::from(text),
    };
    rfc3339(at_ms, column.kind == ColumnKind::Milliseconds)
}

fn rfc3339(at_ms: i64, with_ms: bool) -> Json {
    Json::from(format!("{}Z", format_ms(at_ms, 'T', with_ms)))
}

fn letter_json(lane: &LaneId, letter: &DeadLetter) -> Map<String, Json> {
    let mut object = Map::new();
    for (column, value) in letter_columns().into_iter().zip(letter_values(lane, letter)) {
        let value = match value {
            Value::Null => Json::Null,
            Value::Int(value) => Json::from(value),
            Value::UInt(value) => Json::from(value),
            Value::Float(value) => Json::from(value),
            Value::Text(text) => Json::from(text),
            Value::Bytes(bytes) => Json::from(String::from_utf8_lossy(&bytes)),
            Value::Second(at_ms) => rfc3339(at_ms, false),
            Value::Millisecond(at_ms) => rfc3339(at_ms, true),
        };
        object.insert(column.name, value);
    }
    object
}

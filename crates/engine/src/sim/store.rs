//! The simulated stores: rows, letters and records with the real ones' rules of replacement.
//!
//! One kind writes all of a commit in one fenced transaction, the other piece by piece, each piece
//! with an outcome of its own. Which write happens when, and what is answered, the world decides.

use std::collections::BTreeMap;

use tidemill_kernel::{
    event::{Position, Reason},
    row::{Cell, Column},
};

use super::reference::{RowKey, Value};
use crate::{
    port::{self, Commit, DeadLetter, StoredState},
    record::{CommitId, CommitRecord},
};

/// Records are kept in so many places, by the commit's number.
const RING_SLOTS: u64 = 64;
/// How many of the newest records a stale read may still see.
const HISTORY_MAX: usize = 12;

/// A row as stored.
#[derive(Clone, Debug)]
pub(super) struct StoredRow {
    pub(super) key: RowKey,
    pub(super) revision: u64,
    pub(super) record_count: u64,
    pub(super) cells: Vec<Value>,
}

/// One write that is done or not done as a whole.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Rows(Vec<StoredRow>),
    Letters(Vec<DeadLetter>),
    Record(Box<CommitRecord>),
}

impl Write {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Write::Rows(_) => "rows",
            Write::Letters(_) => "letters",
            Write::Record(_) => "record",
        }
    }
}

/// What is durable.
#[derive(Debug, Default)]
pub(super) struct SimStore {
    pub(super) rows: BTreeMap<RowKey, StoredRow>,
    pub(super) letters: BTreeMap<Position, (u64, Reason)>,
    ring: BTreeMap<u64, CommitRecord>,
    /// What the newest record was, over time.
    history: Vec<CommitRecord>,
    /// One record, which the fence protects, instead of the ring.
    has_one_record: bool,
    /// Whether a row of a lower revision is refused.
    compares_revisions: bool,
}

impl SimStore {
    pub(super) fn new(has_one_record: bool, compares_revisions: bool) -> SimStore {
        SimStore { has_one_record, compares_revisions, ..SimStore::default() }
    }

    /// Writes a row; returns whether it took the place of one with a higher revision.
    pub(super) fn put_row(&mut self, row: StoredRow) -> bool {
        let stored = self.rows.get(&row.key).map_or(0, |stored| stored.revision);
        if row.revision >= stored || !self.compares_revisions {
            self.rows.insert(row.key.clone(), row.clone());
        }
        row.revision < stored && !self.compares_revisions
    }

    pub(super) fn put_letter(&mut self, letter: &DeadLetter) {
        let new = (letter.revision, letter.reason);
        let stored = self.letters.entry(letter.position).or_insert(new);
        if new.0 >= stored.0 {
            *stored = new;
        }
    }

    pub(super) fn put_record(&mut self, record: &CommitRecord) {
        let slot = record.id.number % RING_SLOTS;
        if self.has_one_record {
            self.ring.clear();
        }
        let stored = self.ring.get(&slot).map_or(0, CommitRecord::revision);
        if record.revision() >= stored {
            self.ring.insert(slot, record.clone());
        }
        self.history.extend(self.newest().cloned());
        if self.history.len() > HISTORY_MAX {
            self.history.remove(0);
        }
    }

    /// Returns the record that counts.
    pub(super) fn newest(&self) -> Option<&CommitRecord> {
        self.ring.values().max_by_key(|record| (record.revision(), record.id.number))
    }

    /// Returns what is stored of rows that carry their state.
    pub(super) fn stored(&self, keys: &[port::RowKey]) -> Vec<Option<StoredState>> {
        let state = |row: &StoredRow| match &row.cells[row.cells.len() - 3..] {
            [Value::UInt(late_count), Value::Text(_), Value::Text(state)] => StoredState {
                revision: row.revision,
                late_count: *late_count as u32,
                partial_state: state.clone(),
            },
            cells => unreachable!("a row without a state: {cells:?}"),
        };
        let row = |key: &port::RowKey| self.rows.get(&(key.end_ms, key.key.join("/")));
        keys.iter().map(|key| row(key).map(state)).collect()
    }

    /// Returns the id that the fence compares.
    pub(super) fn newest_id(&self) -> Option<CommitId> {
        self.newest().map(|record| record.id)
    }

    /// Returns what a replica that lags behind answers.
    pub(super) fn stale(&self, chosen: usize) -> Option<&CommitRecord> {
        self.history.get(chosen % self.history.len().max(1))
    }
}

/// Returns the writes of a commit: rows piece by piece, letters, record.
pub(super) fn writes_of(commit: &Commit, columns: &[Column]) -> Vec<Write> {
    let mut writes = Vec::with_capacity(commit.rows.len() + 2);
    for piece in &commit.rows {
        let mut rows = Vec::with_capacity(piece.row_count());
        let mut reader = piece.reader(columns);
        let mut cells = Vec::new();
        while reader.next_row(&mut cells) {
            rows.push(stored_row(&cells, columns));
        }
        writes.push(Write::Rows(rows));
    }
    if !commit.letters.is_empty() {
        writes.push(Write::Letters(commit.letters.clone()));
    }
    writes.push(Write::Record(Box::new(commit.record.clone())));
    writes
}

fn stored_row(cells: &[Cell<'_>], columns: &[Column]) -> StoredRow {
    let number = |name: &str| {
        let at = columns.iter().position(|column| column.name == name);
        match cells[at.expect("rows have the quality columns")] {
            Cell::UInt(value) => value,
            other => unreachable!("column {name} holds {other:?}"),
        }
    };
    let device = match cells[1] {
        Cell::Text(device) => device.to_owned(),
        other => unreachable!("the second column holds {other:?}"),
    };
    StoredRow {
        key: (number("time") as i64 * 1000, device),
        revision: number("revision"),
        record_count: number("record_count"),
        cells: cells.iter().map(|cell| value(*cell)).collect(),
    }
}

fn value(cell: Cell<'_>) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Float(value) => Value::Float(value.to_bits()),
        Cell::Int(value) => Value::Int(value),
        Cell::UInt(value) => Value::UInt(value),
        Cell::Text(text) => Value::Text(text.to_owned()),
    }
}

//! Computes rows again from raw messages: the product's own decoder and roll-up over the log of a
//! lane from its birth on, of which only the wanted rows are kept.
//!
//! A stored row with revision R holds exactly what the first R messages of its lane gave it, so it
//! is held against the state after message R; if its window has closed since, also against the row
//! that closing gives. Memory: the open windows of one lane, and the wanted rows. It does not
//! check the roll-up itself; for that the tests have another calculation, `tests/oracle`.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_decode::JsonDecoder;
use tidemill_engine::{
    port::{Entry, RawMessage},
    record::{CommitRecord, ORDINAL_MAX},
};
use tidemill_kernel::{
    effect::{ClosedWindow, Effects},
    event::EventBlock,
    ledger::Ledger,
    rollup::{Progress, Rollup},
    row::{Cell, Column, RowBlock},
};
use tidemill_sink::Value;

use super::{
    log::Visit,
    row::{REVISION, value_of},
};
use crate::config::Config;

/// Messages decoded and folded together.
pub(super) const BLOCK_MESSAGES: usize = 256;
/// Windows with too many or too few rows whose keys are kept.
const NAMED_WINDOWS_MAX: usize = 3;

/// A stored row, and what comes of its messages.
#[derive(Clone, Debug)]
pub struct Target {
    /// The row as it is stored, with all columns.
    pub stored: Vec<Value>,
    /// The end of its window (ms).
    pub end_ms: i64,
    /// Its group key.
    pub key: Vec<String>,
    /// Its revision.
    pub revision: u64,
    /// The row after as many messages as its revision says.
    pub at_revision: Option<Vec<Value>>,
    /// The row that the closing of its window gives.
    pub at_close: Option<Vec<Value>>,
}

/// A window that has wanted rows.
#[derive(Clone, Debug, Default)]
struct WantedWindow {
    /// How many rows of it are stored.
    stored_rows: u64,
    /// Which targets are its rows, by their key.
    targets: BTreeMap<Vec<String>, usize>,
}

/// A window that has not as many rows as its messages give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowCount {
    /// The end of the window (ms).
    pub end_ms: i64,
    /// How many are stored.
    pub stored: u64,
    /// How many the messages give.
    pub computed: u64,
    /// Their keys; of the first such windows only.
    pub keys: BTreeSet<Vec<String>>,
}

/// The product's decoder and roll-up, without anything that is written.
pub(super) struct Fold {
    decoder: JsonDecoder,
    block: EventBlock,
    rollup: Rollup,
    effects: Effects,
}

impl Fold {
    /// Begins a lane whose log begins behind `before` messages.
    pub(super) fn new(config: &Config, record: &CommitRecord, before: u64) -> Fold {
        let mut rollup = config.rollup(&record.lane.partition, 0);
        rollup.generation = record.generation;
        let progress = Progress {
            ordinal: before,
            ledger: Ledger { messages: before, lost: before, ..Ledger::default() },
            ..Progress::BIRTH
        };
        Fold {
            decoder: JsonDecoder::new(config.schema.clone(), config.limits.decode),
            block: EventBlock::new(&config.schema),
            rollup: Rollup::new(rollup, &progress),
            effects: Effects::default(),
        }
    }

    /// Folds a few messages of an entry.
    pub(super) fn step(&mut self, entry: &Entry, messages: &[RawMessage]) -> Result<(), String> {
        self.block.clear();
        self.decoder.decode_all(&entry.buffer, messages, &mut self.block);
        let stepped = self.rollup.step(&self.block, &mut self.effects);
        self.effects.letters.clear();
        stepped.map_err(|error| error.to_string())
    }

    /// Closes all windows if the record calls one closed that is not: its input had an end.
    pub(super) fn finish(&mut self, record: &CommitRecord) {
        if record.closed_until_ms > self.rollup.progress().closed_until_ms {
            self.rollup.finish(&mut self.effects).expect("nothing is read again");
        }
    }

    /// Takes the windows that have closed, and their rows.
    pub(super) fn take_closed(&mut self) -> (Vec<ClosedWindow>, Vec<RowBlock>) {
        (std::mem::take(&mut self.effects.closed), std::mem::take(&mut self.effects.rows))
    }

    /// Returns where the messages went.
    pub(super) fn ledger(&self) -> Ledger {
        self.rollup.progress().ledger
    }
}

/// A lane's log on its way through the roll-up.
pub struct Recomputation {
    columns: Vec<Column>,
    key_indexes: Vec<usize>,
    fold: Fold,
    targets: Vec<Target>,
    wanted: BTreeMap<i64, WantedWindow>,
    /// Ordinals at which rows were emitted, the next one last.
    stops: Vec<u64>,
    row_counts: Vec<RowCount>,
}

impl Recomputation {
    /// Returns the recomputation of a lane whose log begins behind `before` messages.
    /// `stored_rows` has the number of stored rows of each window.
    pub fn new(
        config: &Config,
        record: &CommitRecord,
        before: u64,
        targets: Vec<Target>,
        stored_rows: &BTreeMap<i64, u64>,
    ) -> Recomputation {
        let columns = config.schema.columns().to_vec();
        let mut wanted: BTreeMap<i64, WantedWindow> = BTreeMap::new();
        for (at, target) in targets.iter().enumerate() {
            let window = wanted.entry(target.end_ms).or_default();
            window.stored_rows = stored_rows.get(&target.end_ms).copied().unwrap_or(0);
            window.targets.insert(target.key.clone(), at);
        }
        let stops: BTreeSet<u64> =
            targets.iter().map(|target| target.revision & ORDINAL_MAX).collect();
        Recomputation {
            key_indexes: key_indexes(config),
            fold: Fold::new(config, record, before),
            targets,
            wanted,
            stops: stops.into_iter().rev().filter(|stop| *stop > before).collect(),
            row_counts: Vec::new(),
            columns,
        }
    }

    /// Takes what the closing of windows gave.
    fn collect(&mut self) {
        let (closed, rows) = self.fold.take_closed();
        for window in &closed {
            let Some(wanted) = self.wanted.get(&window.end_ms) else { continue };
            let computed = window.device_count as u64;
            let differs = computed != wanted.stored_rows;
            let mut keys = BTreeSet::new();
            each_row(window.pieces(&rows), &self.columns, |cells| {
                let key = key_of(cells, &self.key_indexes);
                if let Some(target) = wanted.targets.get(&key) {
                    self.targets[*target].at_close = Some(values_of(cells, &self.columns));
                }
                if differs && self.row_counts.len() < NAMED_WINDOWS_MAX {
                    keys.insert(key);
                }
            });
            if differs {
                let (end_ms, stored) = (window.end_ms, wanted.stored_rows);
                self.row_counts.push(RowCount { end_ms, stored, computed, keys });
            }
        }
    }

    /// Notes the rows as they stand after message `ordinal`, where a stored row was emitted.
    fn note_rows_at(&mut self, ordinal: u64) {
        let due = |target: &Target| {
            target.revision & ORDINAL_MAX == ordinal && target.at_revision.is_none()
        };
        let place = self.columns.iter().position(|column| column.name == REVISION);
        let revision_of = |row: &Vec<Value>| place.and_then(|at| row[at].as_u64());
        for target in self.targets.iter_mut().filter(|target| due(target)) {
            let now = |row: &&Vec<Value>| revision_of(row) == Some(target.revision);
            target.at_revision = target.at_close.as_ref().filter(now).cloned();
        }
        if !self.targets.iter().any(due) {
            return;
        }
        let mut emitted = Effects::default();
        self.fold.rollup.clone().emit_open(&mut emitted);
        each_row(&emitted.rows, &self.columns, |cells| {
            let Some(Cell::UInt(end_s)) = cells.first() else { return };
            let Some(wanted) = self.wanted.get(&(*end_s as i64 * 1000)) else { return };
            let Some(at) = wanted.targets.get(&key_of(cells, &self.key_indexes)) else { return };
            if due(&self.targets[*at]) {
                self.targets[*at].at_revision = Some(values_of(cells, &self.columns));
            }
        });
    }

    /// Ends the walk. Windows are closed that the record calls closed: its input had an end.
    pub fn finish(mut self, record: &CommitRecord) -> Recomputed {
        self.fold.finish(record);
        self.collect();
        let ledger = self.fold.ledger();
        Recomputed { targets: self.targets, row_counts: self.row_counts, ledger }
    }
}

impl Visit for Recomputation {
    fn visit(&mut self, entry: &Entry, messages: &[RawMessage]) -> Result<(), String> {
        let mut rest = messages;
        while !rest.is_empty() {
            let ordinal = self.fold.rollup.progress().ordinal;
            let until_stop = self.stops.last().map_or(u64::MAX, |stop| stop - ordinal);
            let count = usize::try_from(until_stop).unwrap_or(usize::MAX);
            let count = count.min(BLOCK_MESSAGES).min(rest.len());
            let (block, behind) = rest.split_at(count);
            rest = behind;
            self.fold.step(entry, block)?;
            self.collect();
            let ordinal = self.fold.rollup.progress().ordinal;
            if self.stops.last() == Some(&ordinal) {
                self.stops.pop();
                self.note_rows_at(ordinal);
            }
        }
        Ok(())
    }
}

/// What a recomputation has found.
#[derive(Clone, Debug)]
pub struct Recomputed {
    /// The wanted rows.
    pub targets: Vec<Target>,
    /// The windows of wanted rows that have more or fewer rows than their messages give.
    pub row_counts: Vec<RowCount>,
    /// Where the messages went.
    pub ledger: Ledger,
}

/// Calls with the cells of each row of some pieces.
pub(super) fn each_row(pieces: &[RowBlock], columns: &[Column], mut call: impl FnMut(&[Cell<'_>])) {
    for piece in pieces {
        let mut cells = Vec::with_capacity(columns.len());
        let mut reader = piece.reader(columns);
        while reader.next_row(&mut cells) {
            call(&cells);
        }
    }
}

pub(super) fn values_of(cells: &[Cell<'_>], columns: &[Column]) -> Vec<Value> {
    cells.iter().zip(columns).map(|(cell, column)| value_of(*cell, column.kind)).collect()
}

pub(super) fn key_of(cells: &[Cell<'_>], key_indexes: &[usize]) -> Vec<String> {
    let text = |at: &usize| match cells[*at] {
        Cell::Text(text) => text.to_owned(),
        _ => String::new(),
    };
    key_indexes.iter().map(text).collect()
}

/// Returns where the group keys stand in a row.
pub fn key_indexes(config: &Config) -> Vec<usize> {
    let columns = config.schema.columns();
    let place = |name: &&str| columns.iter().position(|column| column.name == *name);
    config.key_columns().iter().filter_map(place).collect()
}

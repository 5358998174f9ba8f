//! The checkers: rows hold what all logs say up to where each lane closed the window, the record
//! covers what it says, nothing is acknowledged that it needs, and at the end all is counted once.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_kernel::{
    event::{Position, Reason},
    rollup::{ORDINAL_MAX, revision},
};

use super::{World, shell::Pending};
use crate::{
    record::CommitRecord,
    sim::{
        check,
        reference::{Reference, RowKey, Verdict},
        store::{StoredRow, Write},
    },
};

/// A number of messages of each partition.
pub(super) type Vector = Vec<u64>;

/// Letters by partition and position, with revision and reason.
pub(super) type Letters = BTreeMap<(usize, Position), (u64, Reason)>;

impl World {
    /// Makes a write durable and checks it.
    pub(super) fn apply(&mut self, pending: &Pending) -> Result<(), String> {
        match &pending.write {
            Write::Rows(rows) => {
                for row in rows {
                    self.check_row(row, &pending.processed)?;
                    self.store.put_row(row.clone());
                }
            }
            Write::Letters(letters) => {
                for letter in letters {
                    let lane = self.index(&letter.partition);
                    if !self.shape.gives_up {
                        let generation = self.scenario.lane.rollup.generation;
                        check::letter(&self.references[lane], generation, letter)?;
                    }
                    self.letters.insert((lane, letter.position), (letter.revision, letter.reason));
                }
            }
            Write::Record(record) => {
                self.store.put_record(record);
                self.check_record(record)?;
            }
        }
        Ok(())
    }

    fn index(&self, partition: &str) -> usize {
        let at = self.partitions.iter().position(|name| **name == *partition);
        at.expect("a known partition")
    }

    /// Returns how many messages of each log a row of that window may hold, if so many are
    /// processed.
    fn vector(&self, window_end_ms: i64, processed: &[u64]) -> Vector {
        let logs = self.references.iter().zip(processed);
        logs.map(|(log, processed)| {
            let closes = |at: &u64| log.messages[*at as usize - 1].closed_until_ms >= window_end_ms;
            (1..=*processed).find(closes).unwrap_or(*processed)
        })
        .collect()
    }

    fn check_row(&self, row: &StoredRow, processed: &[u64]) -> Result<(), String> {
        if self.shape.gives_up {
            return Ok(());
        }
        let vector = self.vector(row.key.0, processed);
        let generation = self.scenario.lane.rollup.generation;
        let ordinal: u64 = vector.iter().sum();
        if row.revision != revision(generation, ordinal) {
            let found = row.revision & ORDINAL_MAX;
            return Err(format!("T1: row {:?} has {found}, not {vector:?}", row.key));
        }
        let expected = Reference::merged_row(&self.references, &row.key, &vector, row.revision);
        if expected.as_ref() != Some(&row.cells) {
            return Err(format!(
                "T1: row {:?} at {vector:?} is\n    {:?}, should be\n    {expected:?}",
                row.key, row.cells
            ));
        }
        Ok(())
    }

    fn check_record(&self, record: &CommitRecord) -> Result<(), String> {
        if !record.ledger.balances() || record.lanes.iter().any(|part| !part.ledger.balances()) {
            return Err(format!("record: the ledger does not balance: {record:?}"));
        }
        for part in record.lanes.iter().filter(|_| !self.shape.gives_up) {
            let log = &self.references[self.index(&part.lane.partition)];
            let (open, first) = log.open(part.ordinal, record.closed_until_ms);
            if part.ledger.open != open || first.is_some() && part.resume != first {
                return Err(format!("record: {open} open from {first:?}, not as in {part:?}"));
            }
            for judged in &log.messages[..part.ordinal as usize] {
                if let Verdict::Letter(reason) = judged.verdict {
                    let key = (self.index(&part.lane.partition), judged.position);
                    if self.letters.get(&key).is_none_or(|letter| letter.1 != reason) {
                        return Err(format!("T2: no letter of {key:?}, but durable is {part:?}"));
                    }
                }
            }
        }
        self.check_covered(record)
    }

    /// T2: all messages of merged windows are in durable rows.
    fn check_covered(&self, record: &CommitRecord) -> Result<(), String> {
        if self.shape.gives_up {
            return Ok(());
        }
        for key in self.keys() {
            if key.0 > record.closed_until_ms {
                continue;
            }
            let mut processed = vec![0; self.partitions.len()];
            for part in &record.lanes {
                processed[self.index(&part.lane.partition)] = part.ordinal;
            }
            let vector = self.vector(key.0, &processed);
            let expected = Reference::merged_row(&self.references, &key, &vector, 0);
            let needed = revision(record.generation, vector.iter().sum());
            let stored = self.store.rows.get(&key).map(|row| row.revision);
            if expected.is_some() && stored.is_none_or(|stored| stored < needed) {
                return Err(format!("T2: row {key:?} is {stored:?}, not {vector:?}: {record:?}"));
            }
        }
        Ok(())
    }

    fn keys(&self) -> BTreeSet<RowKey> {
        self.references.iter().flat_map(|log| log.rows.keys().cloned()).collect()
    }

    /// The newest durable record has to be readable still.
    pub(super) fn check_acknowledgement(&self, lane: usize, through: usize) -> Result<(), String> {
        let part = self.store.newest().and_then(|record| {
            record.lanes.iter().find(|part| part.lane.partition == self.partitions[lane])
        });
        let needed = part.map_or(0, |part| check::first_needed(&self.brokers[lane], part));
        // Where the rule itself is broken, the loss has to show.
        if through >= needed && self.broken.is_none() {
            return Err(format!("ack: {lane}#{through} acknowledged, #{needed} still needed"));
        }
        Ok(())
    }

    /// At the end each message is counted once, and rows and letters are those of the logs.
    pub(super) fn check_end(&self) -> Result<(), String> {
        let totals: Vector = self.references.iter().map(|log| log.messages.len() as u64).collect();
        let counted: u64 = self.store.rows.values().map(|row| row.record_count).sum();
        let total: u64 = totals.iter().sum();
        let letters = self.letters.len() as u64;
        if counted + letters != total {
            return Err(format!(
                "end: {counted} in rows + {letters} letters, not {total} messages"
            ));
        }
        if self.shape.gives_up {
            return Ok(());
        }
        let keys = self.keys();
        for key in &keys {
            let Some(stored) = self.store.rows.get(key) else {
                return Err(format!("end: row {key:?} is missing"));
            };
            self.check_row(stored, &totals)?;
        }
        if self.store.rows.len() != keys.len() {
            return Err(format!("end: {} rows, not {}", self.store.rows.len(), keys.len()));
        }
        for (lane, log) in self.references.iter().enumerate() {
            for judged in &log.messages {
                let stored = self.letters.get(&(lane, judged.position)).map(|letter| letter.1);
                let expected = match judged.verdict {
                    Verdict::Letter(reason) => Some(reason),
                    Verdict::Counts { .. } => None,
                };
                if stored != expected {
                    let at = judged.position;
                    return Err(format!("end: {lane}/{at:?} has {stored:?}, not {expected:?}"));
                }
            }
        }
        Ok(())
    }
}

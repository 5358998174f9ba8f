//! A toy lane: what it sends to the store, and what has to be found there.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use rusqlite::Connection;
use tidemill_engine::{
    ledger::Ledger,
    port::{Commit, DeadLetter},
    record::{CommitId, CommitRecord, LaneId},
};
use tidemill_kernel::{
    event::{Position, Reason},
    row::{Cell, Column, ColumnKind, RowBlock},
    schema::QUALITY_COLUMNS,
};

use crate::disk::Random;

const DAY_S: u64 = 1_795_305_600;

pub(crate) fn keys() -> Vec<String> {
    vec!["device_id".into()]
}

pub(crate) fn columns() -> Vec<Column> {
    let mut columns = vec![
        Column::new("time", ColumnKind::Seconds, false),
        Column::new("device_id", ColumnKind::Text, false),
        Column::new("temperature", ColumnKind::Float64, true),
    ];
    columns.extend(QUALITY_COLUMNS.iter().map(|(name, kind)| Column::new(name, *kind, false)));
    columns
}

/// Rows (revision and value by window and device) and letters (payload by ordinal) of a lane.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Content {
    rows: BTreeMap<(u64, String), (u64, f64)>,
    letters: BTreeMap<u64, Bytes>,
}

/// A commit, and what is stored of the lane when it is.
pub(crate) struct Sent {
    pub(crate) commit: Commit,
    after: Content,
}

/// What was sent of a lane: the commits that must be there, and one that may be.
pub(crate) struct Lane {
    pub(crate) id: LaneId,
    writer: u64,
    /// The newest that the store answered for, or showed to a new owner.
    pub(crate) record: Option<CommitRecord>,
    content: Content,
    /// Sent, and not answered for.
    pub(crate) doubtful: Option<Sent>,
    /// Once in doubt, not found by an owner who began behind it, and not yet followed by a commit:
    /// that of its bytes which reached the log may be found whole after the next loss of power.
    given_up: Vec<Sent>,
    /// The number of the newest commit that the store answered for.
    answered_number: u64,
}

impl Lane {
    pub(crate) fn new(partition: &str) -> Lane {
        Lane {
            id: LaneId::new("p", partition),
            writer: 0,
            record: None,
            content: Content::default(),
            doubtful: None,
            given_up: Vec::new(),
            answered_number: 0,
        }
    }

    /// Returns the commit to send: the one in doubt, else a new one.
    pub(crate) fn next(&mut self, random: &mut Random, large: bool) -> &Commit {
        if self.doubtful.is_none() {
            self.doubtful = Some(self.make(random, large));
        }
        &self.doubtful.as_ref().expect("just made").commit
    }

    /// Learns that the store answered for the commit that was in doubt.
    pub(crate) fn answered(&mut self) {
        if let Some(sent) = self.doubtful.take() {
            self.answered_number = sent.commit.record.id.number;
            self.take(sent);
        }
    }

    fn take(&mut self, sent: Sent) {
        self.record = Some(sent.commit.record);
        self.content = sent.after;
        self.given_up.clear();
    }

    /// Goes on as a new owner with the record that is stored.
    ///
    /// # Errors
    /// The record is none that may be there.
    pub(crate) fn found(
        &mut self,
        stored: Option<&CommitRecord>,
        random: &mut Random,
    ) -> Result<(), String> {
        self.writer = random.next() >> 1;
        self.expected(stored)?;
        self.given_up.extend(self.doubtful.take());
        let found = self.given_up.iter().position(|sent| stored == Some(&sent.commit.record));
        if let Some(index) = found {
            let sent = self.given_up.remove(index);
            self.take(sent);
        }
        Ok(())
    }

    /// Returns what has to be stored beside a record.
    fn expected(&self, stored: Option<&CommitRecord>) -> Result<&Content, String> {
        if stored == self.record.as_ref() {
            return Ok(&self.content);
        }
        let mut may_be = self.given_up.iter().chain(&self.doubtful);
        if let Some(sent) = may_be.find(|sent| stored == Some(&sent.commit.record)) {
            return Ok(&sent.after);
        }
        let number = |record: &CommitRecord| (record.id.number, record.id.writer);
        Err(format!(
            "{}: stored is commit {:?}, durable must be {:?}, answered was {}, in doubt is {:?}",
            self.id,
            stored.map(number),
            self.record.as_ref().map(number),
            self.answered_number,
            self.doubtful.as_ref().map(|sent| number(&sent.commit.record)),
        ))
    }

    /// Compares rows and letters with those of the record that is stored.
    ///
    /// # Errors
    /// They differ, cannot be read, or the record is none that may be there.
    pub(crate) fn compare(
        &self,
        stored: Option<&CommitRecord>,
        connection: &Connection,
    ) -> Result<(), String> {
        let expected = self.expected(stored)?;
        let found = self.read(connection).map_err(|error| format!("{}: {error}", self.id))?;
        if found == *expected {
            return Ok(());
        }
        let lengths = |content: &Content| (content.rows.len(), content.letters.len());
        Err(format!(
            "{}: stored are other rows or letters than those up to the record: {:?}, not {:?}",
            self.id,
            lengths(&found),
            lengths(expected)
        ))
    }

    fn read(&self, connection: &Connection) -> rusqlite::Result<Content> {
        let mut content = Content::default();
        let partition = &*self.id.partition;
        let mut rows = connection.prepare_cached(
            "SELECT time, device_id, revision, temperature FROM sensors_rows \
             WHERE source_partition = ?1",
        )?;
        let mut rows = rows.query([partition])?;
        while let Some(row) = rows.next()? {
            let (time, revision): (i64, i64) = (row.get(0)?, row.get(2)?);
            content.rows.insert((time as u64, row.get(1)?), (revision as u64, row.get(3)?));
        }
        let mut letters = connection.prepare_cached(
            "SELECT ordinal, payload FROM sensors_dead_letters WHERE partition = ?1",
        )?;
        let mut letters = letters.query([partition])?;
        while let Some(row) = letters.next()? {
            let payload = Bytes::copy_from_slice(row.get_ref(1)?.as_bytes()?);
            let ordinal: i64 = row.get(0)?;
            content.letters.insert(ordinal as u64, payload);
        }
        Ok(content)
    }

    fn make(&self, random: &mut Random, large: bool) -> Sent {
        let previous = self.record.as_ref().map(|record| record.id);
        let before = self.record.as_ref().map_or(0, |record| record.ordinal);
        let mut after = self.content.clone();
        let (mut rows, mut letters) = (Vec::new(), Vec::new());
        let mut ordinal = before;
        // A birth record has neither.
        if previous.is_some() {
            ordinal += 1 + random.below(50);
            for _ in 0..random.below(8) {
                let key = (DAY_S + 60 * random.below(20), format!("sensor_{}", random.below(6)));
                after.rows.insert(key.clone(), (ordinal, random.below(1000) as f64 / 8.0));
                rows.push(key);
            }
            for place in 0..random.below(4).min(ordinal - before) {
                let bytes = if large && random.chance(300) {
                    random.pick(&[60_000, 400_000, 900_000])
                } else {
                    random.pick(&[1, 20, 300, 6_000])
                };
                let letter = self.letter(before + 1 + place, bytes, random.next() as u8);
                after.letters.insert(letter.ordinal, letter.payload.clone());
                letters.push(letter);
            }
        }
        rows.sort();
        rows.dedup();
        let number = self.record.as_ref().map_or(0, |record| record.id.number) + 1;
        let record = CommitRecord {
            id: CommitId { number, writer: self.writer },
            fingerprint: "window.size=1m".into(),
            ordinal,
            closed_until_ms: 0,
            processed: Some(Position::new(1, ordinal, 0)),
            ledger: Ledger { messages: ordinal, aggregated: ordinal, ..Ledger::default() },
            ..CommitRecord::unborn(self.id.clone())
        };
        let rows = vec![self.block(&rows, &after)];
        Sent { commit: Commit { previous, rows, letters, record }, after }
    }

    fn letter(&self, ordinal: u64, bytes: usize, byte: u8) -> DeadLetter {
        DeadLetter {
            partition: Arc::clone(&self.id.partition),
            position: Position::new(1, ordinal, 0),
            ordinal,
            revision: ordinal,
            reason: Reason::Late,
            publish_time_ms: 0,
            event_time_ms: None,
            key: None,
            payload: vec![byte; bytes].into(),
            payload_bytes: bytes as u64,
        }
    }

    fn block(&self, keys: &[(u64, String)], content: &Content) -> RowBlock {
        let columns = columns();
        let mut block = RowBlock::new();
        for key in keys {
            let (revision, value) = content.rows[key];
            let cells = [
                Cell::UInt(key.0),
                Cell::Text(&key.1),
                Cell::Float(value),
                Cell::UInt(key.0 - 60),
                Cell::UInt(3),
                Cell::UInt(0),
                Cell::Int(7),
                Cell::Int(9),
                Cell::Float(1.0),
                Cell::UInt(0),
                Cell::Text(&self.id.pipeline),
                Cell::Text(&self.id.partition),
                Cell::UInt(revision),
            ];
            columns.iter().zip(cells).for_each(|(column, cell)| block.push(column, cell));
            block.end_row();
        }
        block
    }
}

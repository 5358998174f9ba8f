//! Drives a lane over a case's log into a store in memory, and lets it die on the way.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidemill_engine::{
    lane::{Action, Lane},
    ledger::Ledger,
    port::{Commit, Entry, RawMessage, RowKey, StoredState},
    record::CommitRecord,
};
use tidemill_kernel::{
    event::Position,
    row::{Cell, Column},
};

use crate::case::{Case, Line, Value};

pub(crate) type StoredRow = Vec<Value>;

/// What is durable: rows and letters by identity, the record, and the broker's cursor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    /// By time, group keys, pipeline and partition.
    pub(crate) rows: BTreeMap<String, StoredRow>,
    /// `ordinal reason`, by position.
    pub(crate) letters: BTreeMap<Position, String>,
    record: Option<CommitRecord>,
    acknowledged: Option<Position>,
}

impl Stored {
    pub(crate) fn ledger(&self) -> String {
        let ledger = self.record.as_ref().map_or(Ledger::default(), |record| record.ledger);
        let Ledger { messages, aggregated, open, late, rejected, lost: _ } = ledger;
        let folded = format!("messages={messages} aggregated={aggregated} open={open}");
        format!("{folded} late={late} rejected={rejected}")
    }

    /// Returns the contents that do not depend on when they were written.
    pub(crate) fn without_revisions(
        &self,
        columns: &[Column],
    ) -> (Vec<StoredRow>, Vec<String>, String) {
        let revision = place(columns, "revision");
        let row = |row: &StoredRow| [&row[..revision], &row[revision + 1..]].concat();
        let letters = self.letters.values().cloned().collect();
        (self.rows.values().map(row).collect(), letters, self.ledger())
    }

    fn put_row(
        &mut self,
        columns: &[Column],
        key_count: usize,
        row: StoredRow,
    ) -> Result<(), String> {
        let key = format!("{:?}", &row[..=key_count]);
        let place = place(columns, "revision");
        let revision = |row: &StoredRow| match row[place] {
            Value::Whole(revision) => revision,
            ref other => unreachable!("the revision is a whole number: {other:?}"),
        };
        if let Some(known) = self.rows.get(&key) {
            if revision(known) == revision(&row) && *known != row {
                return Err(format!("one revision, two rows: {known:?} and {row:?}"));
            }
            if revision(known) > revision(&row) {
                return Ok(());
            }
        }
        self.rows.insert(key, row);
        Ok(())
    }
}

impl Stored {
    /// Returns what is stored of rows that late messages correct.
    fn states(&self, columns: &[Column], keys: &[RowKey]) -> Vec<Option<StoredState>> {
        let [revision, late, state] =
            ["revision", "late_count", "partial_state"].map(|name| place(columns, name));
        let find = |key: &RowKey| {
            let time = Cell::UInt(key.end_ms as u64 / 1000);
            let parts = key.key.iter().map(|part| Cell::Text(part));
            let cells = std::iter::once(time).chain(parts);
            let cells: Vec<Value> =
                columns.iter().zip(cells).map(|(column, cell)| Value::of(column, &cell)).collect();
            let row = self.rows.get(&format!("{cells:?}"))?;
            match (&row[revision], &row[late], &row[state]) {
                (Value::Whole(revision), Value::Whole(late), Value::Text(state)) => {
                    Some(StoredState {
                        revision: *revision as u64,
                        late_count: *late as u32,
                        partial_state: state.clone(),
                    })
                }
                other => unreachable!("a row without a state: {other:?}"),
            }
        };
        keys.iter().map(find).collect()
    }
}

fn place(columns: &[Column], name: &str) -> usize {
    columns.iter().position(|column| column.name == name).expect("a column of every row")
}

const COMMIT_INTERVAL_MS: u64 = 1;

/// What a lane is fed, in order.
#[derive(Clone, Debug)]
enum Feed {
    Entry(Entry),
    Idle,
    End,
}

/// Cuts the input into entries, at `!block` and at commands, or behind every message.
fn feed(case: &Case, single: bool) -> Vec<Feed> {
    let mut feed = Vec::new();
    let mut messages: Vec<(&[u8], i64)> = Vec::new();
    let mut offset = 0;
    let mut cut = |messages: &mut Vec<(&[u8], i64)>, feed: &mut Vec<Feed>| {
        if !messages.is_empty() {
            feed.push(Feed::Entry(entry(offset, messages)));
            messages.clear();
            offset += 1;
        }
    };
    for line in &case.input {
        if let Line::Message { payload, publish_time_ms } = line {
            messages.push((payload, *publish_time_ms));
            if !single {
                continue;
            }
        }
        cut(&mut messages, &mut feed);
        match line {
            Line::Idle => feed.push(Feed::Idle),
            Line::End => feed.push(Feed::End),
            Line::Message { .. } | Line::Block => {}
        }
    }
    cut(&mut messages, &mut feed);
    feed
}

fn entry(offset: u64, messages: &[(&[u8], i64)]) -> Entry {
    let mut buffer = Vec::new();
    let mut raw = Vec::new();
    for (index, (payload, publish_time_ms)) in messages.iter().enumerate() {
        raw.push(RawMessage {
            position: Position::new(0, offset, index as u32),
            start: buffer.len() as u32,
            length: payload.len() as u32,
            publish_time_ms: *publish_time_ms,
            reject: None,
        });
        buffer.extend_from_slice(payload);
    }
    let position = Position::new(0, offset, 0);
    Entry { position, buffer: Bytes::from(buffer), messages: raw, credit: 0 }
}

/// Runs a case; with `crash_after`, the first owner dies behind so many effects and another one
/// goes on from what is stored. Returns what is stored and how many effects there were.
pub(crate) fn run(
    case: &Case,
    single: bool,
    crash_after: Option<usize>,
) -> Result<(Stored, usize), String> {
    let feed = feed(case, single);
    let mut stored = Stored::default();
    let mut owner = Owner::new(case, 1, crash_after);
    let mut effect_count = 0;
    let ended = owner.own(&feed, single, &mut stored)?;
    effect_count += owner.effect_count;
    if !ended {
        owner = Owner::new(case, 2, None);
        owner.own(&feed, single, &mut stored)?;
        effect_count += owner.effect_count;
    }
    Ok((stored, effect_count))
}

/// One process that owns the lane.
struct Owner<'a> {
    columns: &'a [Column],
    key_count: usize,
    lane: Lane,
    idle_timeout_ms: u64,
    now_ms: u64,
    crash_after: Option<usize>,
    effect_count: usize,
}

impl<'a> Owner<'a> {
    fn new(case: &'a Case, writer: u64, crash_after: Option<usize>) -> Owner<'a> {
        let mut config = case.config.lane(writer);
        config.rollup.source_partition = "0".into();
        // A commit for every entry must not need so much time that the lane looks idle.
        config.commit_interval_ms = COMMIT_INTERVAL_MS;
        Owner {
            columns: case.config.schema.columns(),
            key_count: case.config.schema.key_count(),
            idle_timeout_ms: config.idle_timeout_ms,
            lane: Lane::new(config, writer, 0),
            now_ms: 0,
            crash_after,
            effect_count: 0,
        }
    }

    /// Processes the log from the cursor on; returns false if it died on the way.
    fn own(&mut self, feed: &[Feed], commits: bool, stored: &mut Stored) -> Result<bool, String> {
        let mut actions = Vec::new();
        self.lane.start(stored.record.clone(), self.now_ms, &mut actions);
        let cursor = stored.acknowledged;
        let is_read = |feed: &Feed| match feed {
            Feed::Entry(entry) => cursor.is_some_and(|cursor| entry.position <= cursor),
            Feed::Idle | Feed::End => false,
        };
        // Commands in front of the first unread entry took place; those behind it do so again.
        let done = feed.iter().rposition(is_read).map_or(0, |last| last + 1);
        for one in &feed[done..] {
            match one {
                Feed::Entry(entry) => {
                    self.lane.take(entry, self.now_ms, &mut actions);
                    if commits {
                        self.pass(COMMIT_INTERVAL_MS, &mut actions);
                    }
                }
                Feed::Idle => self.pass(self.idle_timeout_ms, &mut actions),
                Feed::End => self.lane.end(self.now_ms, &mut actions),
            }
            if !self.perform(&mut actions, stored)? {
                return Ok(false);
            }
        }
        self.lane.drain(self.now_ms, &mut actions);
        self.perform(&mut actions, stored)
    }

    fn pass(&mut self, ms: u64, actions: &mut Vec<Action>) {
        self.now_ms += ms;
        self.lane.tick(self.now_ms, actions);
    }

    fn perform(&mut self, actions: &mut Vec<Action>, stored: &mut Stored) -> Result<bool, String> {
        while !actions.is_empty() {
            match actions.remove(0) {
                Action::Read { seek: false, .. } => {}
                Action::Read { from, seek: true } => {
                    return Err(format!("the lane misses what lies behind {from:?}"));
                }
                Action::Failed(error) => return Err(format!("the lane stopped: {error}")),
                Action::Commit { commit, .. } => {
                    if !self.write(&commit, stored)? {
                        return Ok(false);
                    }
                    self.lane.committed(Ok(()), actions);
                }
                Action::Look { keys } => {
                    let found = stored.states(self.columns, &keys);
                    self.lane.looked(Ok(found), actions);
                }
                Action::Acknowledge(through) => {
                    if self.is_dead() {
                        return Ok(false);
                    }
                    stored.acknowledged = stored.acknowledged.max(Some(through));
                }
            }
        }
        Ok(true)
    }

    /// Rows, then letters, then the record: each is an effect of its own.
    fn write(&mut self, commit: &Commit, stored: &mut Stored) -> Result<bool, String> {
        let mut cells = Vec::new();
        for piece in &commit.rows {
            if self.is_dead() {
                return Ok(false);
            }
            let mut reader = piece.reader(self.columns);
            while reader.next_row(&mut cells) {
                let values = self.columns.iter().zip(&cells);
                let row = values.map(|(column, cell)| Value::of(column, cell)).collect();
                stored.put_row(self.columns, self.key_count, row)?;
            }
        }
        if !commit.letters.is_empty() {
            if self.is_dead() {
                return Ok(false);
            }
            for letter in &commit.letters {
                let text = format!("{} {}", letter.ordinal, letter.reason.name());
                let known = stored.letters.insert(letter.position, text.clone());
                if known.is_some_and(|known| known != text) {
                    return Err(format!("a letter changed into {text}"));
                }
            }
        }
        if self.is_dead() {
            return Ok(false);
        }
        stored.record = Some(commit.record.clone());
        Ok(true)
    }

    /// Counts an effect; returns whether the owner dies before it.
    fn is_dead(&mut self) -> bool {
        let dead = self.crash_after == Some(self.effect_count);
        self.effect_count += usize::from(!dead);
        dead
    }
}

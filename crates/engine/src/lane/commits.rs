//! From a snapshot to a commit.
//!
//! A snapshot is a commit in the making. Where late messages correct rows, it first has to know
//! what is stored of them; until the answer is here, it and those behind it wait, and the lane goes
//! on reading. What is stored is asked for when all earlier commits are on their way, so the answer
//! holds what they write.

use std::collections::BTreeMap;

use tidemill_kernel::{
    amend::StoredState,
    effect::{ClosedWindow, LateEvent},
    event::Position,
    key,
    rollup::Progress,
    row::RowBlock,
};

use super::{Action, Lane, Phase};
use crate::{
    error::{LaneError, LaneErrorKind},
    memory::letters_bytes,
    port::{Commit, DeadLetter, RowKey, StoreError},
    record::{CommitId, CommitRecord},
};

/// A late message that is to correct a row, and the letter that it becomes if it cannot.
#[derive(Clone, Debug)]
pub(super) struct LateMessage {
    pub(super) event: LateEvent,
    pub(super) letter: DeadLetter,
}

/// A snapshot that is not sent yet.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    commit: Box<Commit>,
    closed: Vec<ClosedWindow>,
    acknowledge: Option<Position>,
    late: Vec<LateMessage>,
    /// Whether what is stored was asked for.
    has_looked: bool,
}

/// A commit that is not yet known to be durable.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    id: CommitId,
    pub(super) acknowledge: Option<Position>,
}

/// How many late messages went where since the last call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LateCounts {
    /// Late messages that a snapshot has brought into their rows, or found there.
    pub merged: u64,
    /// Rows written for them.
    pub rows: u64,
    /// Late messages whose stored row could not take them: they are dead letters.
    pub refused: u64,
}

/// The late messages of a draft by device-window, in the order in which rows are asked for.
fn by_row(late: &[LateMessage]) -> BTreeMap<(i64, &[u8]), Vec<&LateMessage>> {
    let mut rows: BTreeMap<_, Vec<&LateMessage>> = BTreeMap::new();
    for message in late {
        let event = &message.event;
        rows.entry((event.window_end_ms, event.key.as_slice())).or_default().push(message);
    }
    rows
}

impl Lane {
    /// Takes a snapshot at the present position: rows, letters and record become a commit.
    pub(super) fn snapshot(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        self.committed_at_ms = now_ms;
        self.rollup.settle(&mut self.effects);
        let mut progress = self.rollup.progress();
        if progress.resume.is_none() {
            let unread = self.birth.filter(|_| progress.processed.is_none());
            progress.resume = self.cursor.rest().or(unread);
        }
        self.committed_ordinal = progress.ordinal;
        let acknowledge = self.cursor.acknowledgeable(progress.resume);
        self.push_commit(progress, acknowledge, actions);
    }

    pub(super) fn push_commit(
        &mut self,
        progress: Progress,
        acknowledge: Option<Position>,
        actions: &mut Vec<Action>,
    ) {
        self.commit_number += 1;
        let id = CommitId { number: self.commit_number, writer: self.writer };
        let (fingerprint, transition) = self.recorded_timing();
        let record = CommitRecord {
            lane: self.id.clone(),
            id,
            generation: self.config.rollup.generation,
            fingerprint,
            transition,
            ordinal: progress.ordinal,
            closed_until_ms: progress.closed_until_ms,
            highest_event_time_ms: progress.highest_event_time_ms,
            birth: self.birth,
            birth_ordinal: self.birth_ordinal,
            birth_generation: self.birth_generation,
            processed: progress.processed,
            resume: progress.resume,
            ledger: progress.ledger,
            closings: self.rollup.closings().to_vec(),
            lanes: Vec::new(),
            turn: 0,
        };
        let rows = std::mem::take(&mut self.effects.rows);
        let letters = std::mem::take(&mut self.letters);
        let previous = self.previous.replace(id);
        self.drafts.push_back(Draft {
            commit: Box::new(Commit { previous, rows, letters, record }),
            closed: std::mem::take(&mut self.effects.closed),
            acknowledge,
            late: std::mem::take(&mut self.late),
            has_looked: false,
        });
        self.send_drafts(actions);
    }

    /// Sends what is complete, oldest first; asks for what the first incomplete one needs.
    fn send_drafts(&mut self, actions: &mut Vec<Action>) {
        while let Some(mut draft) = self.drafts.pop_front() {
            if draft.late.is_empty() {
                let id = draft.commit.record.id;
                self.pending.push_back(Pending { id, acknowledge: draft.acknowledge });
                actions.push(Action::Commit { commit: draft.commit, closed: draft.closed });
                continue;
            }
            if !std::mem::replace(&mut draft.has_looked, true) {
                let parts = |key| key::parts(key).map(str::to_owned).collect();
                let keys = by_row(&draft.late).into_keys();
                let keys = keys.map(|(end_ms, key)| RowKey { end_ms, key: parts(key) });
                actions.push(Action::Look { keys: keys.collect() });
            }
            self.drafts.push_front(draft);
            return;
        }
    }

    /// Learns what is stored of the rows that the last [`Action::Look`] named, in that order.
    pub fn looked(
        &mut self,
        found: Result<Vec<Option<StoredState>>, StoreError>,
        actions: &mut Vec<Action>,
    ) {
        let Some(mut draft) = self.drafts.pop_front() else {
            return;
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                return self.fail(LaneErrorKind::Refused(error.to_string()), actions);
            }
        };
        let refused = self.amend(&mut draft, &found);
        let count = refused.len() as u64;
        draft.commit.letters.extend(refused);
        self.drafts.push_front(draft);
        for draft in &mut self.drafts {
            draft.commit.record.ledger.aggregated -= count;
            draft.commit.record.ledger.late += count;
        }
        self.rollup.refuse_late(count);
        self.send_drafts(actions);
    }

    /// Merges a draft's late messages into rows; returns the letters of those that cannot be.
    fn amend(&mut self, draft: &mut Draft, found: &[Option<StoredState>]) -> Vec<DeadLetter> {
        let amender = self.amender.as_mut().expect("late messages only where they amend");
        let ordinal = draft.commit.record.ordinal;
        let late = std::mem::take(&mut draft.late);
        let rows = by_row(&late);
        assert_eq!(rows.len(), found.len(), "an answer for each row asked for");
        let (mut piece, mut refused) = (RowBlock::new(), Vec::new());
        for (messages, stored) in rows.values().zip(found) {
            let events: Vec<&LateEvent> = messages.iter().map(|message| &message.event).collect();
            let birth_generation = self.birth_generation;
            let row_count = piece.row_count();
            match amender.amend(stored.as_ref(), birth_generation, ordinal, &events, &mut piece) {
                Ok(()) => {
                    self.late_counts.merged += events.len() as u64;
                    self.late_counts.rows += (piece.row_count() - row_count) as u64;
                }
                Err(_) => refused.extend(messages.iter().map(|message| message.letter.clone())),
            }
            if piece.row_count() >= self.config.rollup.piece_rows_max {
                draft.commit.rows.push(std::mem::take(&mut piece));
            }
        }
        if !piece.is_empty() {
            draft.commit.rows.push(piece);
        }
        self.late_counts.refused += refused.len() as u64;
        refused
    }

    /// Learns what became of the oldest commit in flight.
    pub fn committed(&mut self, outcome: Result<(), StoreError>, actions: &mut Vec<Action>) {
        let Some(done) = self.pending.pop_front() else {
            return;
        };
        match outcome {
            Ok(()) => {
                self.reloads.awaited = self.reloads.awaited.filter(|awaited| *awaited != done.id);
                if let Some(through) = done.acknowledge {
                    actions.push(Action::Acknowledge(through));
                    self.cursor.acknowledged(through);
                }
            }
            Err(StoreError::Fenced { .. }) => {
                let text = outcome.expect_err("matched as an error").to_string();
                self.fail(LaneErrorKind::Fenced(text), actions);
            }
            Err(StoreError::Refused(text) | StoreError::Retry(text)) => {
                self.fail(LaneErrorKind::Refused(text), actions);
            }
        }
    }

    /// Stops the lane: what is in flight is no longer waited for.
    pub fn fail(&mut self, kind: LaneErrorKind, actions: &mut Vec<Action>) {
        self.phase = Phase::Stopped;
        self.forget_commits();
        actions.push(Action::Failed(LaneError { lane: self.id.clone(), kind }));
    }

    /// Waits no longer for what is not durable.
    pub(super) fn forget_commits(&mut self) {
        self.pending.clear();
        self.drafts.clear();
    }

    /// Returns the commits that wait for the store, oldest first.
    pub fn in_flight(&self) -> impl Iterator<Item = CommitId> + '_ {
        let drafts = self.drafts.iter().map(|draft| draft.commit.record.id);
        self.pending.iter().map(|pending| pending.id).chain(drafts)
    }

    /// Returns what became of late messages since the last call.
    pub fn take_late_counts(&mut self) -> LateCounts {
        std::mem::take(&mut self.late_counts)
    }

    /// Returns about how many bytes letters, late messages and drafts take.
    pub(super) fn unsent_bytes(&self) -> usize {
        let drafts = self.drafts.iter().map(|draft| {
            let rows: usize = draft.commit.rows.iter().map(|piece| piece.bytes().len()).sum();
            rows + letters_bytes(&draft.commit.letters) + late_bytes(&draft.late)
        });
        letters_bytes(&self.letters) + late_bytes(&self.late) + drafts.sum::<usize>()
    }
}

fn late_bytes(late: &[LateMessage]) -> usize {
    let heap = |message: &LateMessage| {
        let event = &message.event;
        event.key.capacity() + event.state.capacity() + message.letter.payload.len()
    };
    late.iter().map(heap).sum::<usize>() + size_of_val(late)
}

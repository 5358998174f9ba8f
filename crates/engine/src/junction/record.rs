//! Commits of all lanes: what each lane says of itself, and the sum.

use std::sync::Arc;

use super::{Action, Junction, merge::Merged};
use crate::{
    lane,
    port::Commit,
    record::{CommitId, CommitRecord},
};

impl Junction {
    /// Takes a snapshot of every lane that is not reading again, and commits it with these rows.
    pub(super) fn snapshot_all(&mut self, merged: Merged, now_ms: u64, actions: &mut Vec<Action>) {
        let mut own = Vec::new();
        for strand in self.strands.values_mut().filter(|strand| !strand.lane.is_replaying()) {
            strand.lane.take_part(now_ms, &mut own);
        }
        let parts = own.into_iter().filter_map(|action| match action {
            lane::Action::Commit { commit, .. } => Some(*commit),
            _ => None,
        });
        let parts = parts.collect();
        self.push_commit(parts, merged, now_ms, actions);
    }

    /// Makes a commit of all lanes out of new parts of some.
    pub(super) fn push_commit(
        &mut self,
        parts: Vec<Commit>,
        merged: Merged,
        now_ms: u64,
        actions: &mut Vec<Action>,
    ) {
        let mut letters = Vec::new();
        let mut partitions: Vec<Arc<str>> = Vec::with_capacity(parts.len());
        for part in parts {
            let partition = part.record.lane.partition.clone();
            letters.extend(part.letters);
            if let Some(strand) = self.strands.get_mut(&partition) {
                strand.part = Some(part.record);
            }
            partitions.push(partition);
        }
        self.committed_at_ms = now_ms;
        self.commit_number += 1;
        self.turn += 1;
        let id = CommitId { number: self.commit_number, writer: self.writer };
        let record = self.sum(id);
        let previous = self.previous.replace(id);
        self.pending.push_back(partitions);
        let commit = Box::new(Commit { previous, rows: merged.rows, letters, record });
        actions.push(Action::Commit { commit, closed: merged.closed });
    }

    /// Returns the record that stands for all lanes.
    fn sum(&self, id: CommitId) -> CommitRecord {
        let parts = self.strands.values().filter_map(|strand| strand.part.as_ref());
        let lanes: Vec<CommitRecord> = parts.chain(&self.retired).cloned().collect();
        let config = &self.config.lane;
        let highest = lanes.iter().map(|lane| lane.highest_event_time_ms).max();
        CommitRecord {
            id,
            generation: config.rollup.generation,
            fingerprint: config.fingerprint.to_string(),
            ordinal: lanes.iter().map(|lane| lane.ordinal).sum(),
            closed_until_ms: self.merged_until_ms,
            highest_event_time_ms: highest.unwrap_or(i64::MIN),
            birth_ordinal: lanes.iter().map(|lane| lane.birth_ordinal).sum(),
            birth_generation: lanes.iter().map(|lane| lane.birth_generation).min().unwrap_or(0),
            ledger: lanes.iter().map(|lane| lane.ledger).sum(),
            lanes,
            turn: self.turn,
            ..CommitRecord::unborn(self.id.clone())
        }
    }
}

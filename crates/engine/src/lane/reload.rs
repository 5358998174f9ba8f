//! How a lane goes over to other settings, and on from records whose settings are not its own.
//!
//! Values of time hold for windows beyond an edge: the end of the newest open one. The edge stands
//! in the record, durable before the next message is taken, so it is part of what rows follow from
//! and a restart goes on with it (rules 3, 4 and 13).
//!
//! An owner before this one may have written rows of a commit whose record was never stored. It
//! closed no window beyond those of the first entry that closes any, so a lane that began with a
//! record closes a window by the old values before it chooses an edge. Until then its record says
//! what it is about to do.

use tidemill_kernel::rollup::{Change, Timing};

use super::{Action, Lane, Phase};
use crate::{
    error::LaneErrorKind,
    record::{CommitId, CommitRecord},
    settings::{Edge, LaneSettings, TIMING_KEYS, Transition, remember, timing_of, with_timing},
};

/// What a lane knows of changed settings.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    /// Values that this process went by before, newest last.
    earlier: Vec<Timing>,
    /// The commit that has to be durable before the next message.
    pub(super) awaited: Option<CommitId>,
    /// The values that the last record says are wanted.
    told: Option<Timing>,
    /// Whether no row can stand in the store that a lane before this one wrote without a record.
    pub(super) is_alone: bool,
    /// Whether the lane was stopped because of another configuration.
    refused: bool,
}

impl Lane {
    /// Remembers values that this process went by earlier: their records are gone on from.
    pub fn know_earlier(&mut self, timings: &[Timing]) {
        timings.iter().for_each(|timing| remember(&mut self.reloads.earlier, *timing));
    }

    /// Goes by other settings: at once where they decide no row, else as soon as it can choose an
    /// edge.
    pub fn reload(&mut self, settings: &LaneSettings, now_ms: u64, actions: &mut Vec<Action>) {
        self.know_earlier(&[self.config.rollup.timing()]);
        self.config.adopt(settings);
        self.settle_timing(now_ms, actions);
    }

    /// Returns from when on the newest values of time hold.
    pub fn edge(&self) -> Edge {
        let newest = self.rollup.newest_timing();
        if self.phase != Phase::Running || newest != self.config.rollup.timing() {
            return Edge::Pending;
        }
        self.rollup.changes().last().map_or(Edge::Passed, |change| Edge::At(change.edge_ms))
    }

    /// Returns whether the lane has stopped because its record asks for another configuration.
    pub(crate) fn was_refused(&self) -> bool {
        self.reloads.refused
    }

    /// Chooses an edge for values that have none yet, if it can.
    pub(super) fn settle_timing(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let wanted = self.config.rollup.timing();
        if !self.accepts() || self.rollup.is_replaying() || self.merged_until_ms.is_some() {
            return;
        }
        if self.rollup.newest_timing() == wanted {
            self.reloads.told = None;
            return;
        }
        if self.reloads.is_alone {
            self.rollup.change_timing(wanted);
        } else if self.reloads.told.replace(wanted) == Some(wanted) {
            return;
        }
        // Nothing was committed before the birth record, which has the new values then.
        if self.commit_number > 0 {
            self.snapshot(now_ms, actions);
            self.reloads.awaited = self.previous;
        }
    }

    /// Returns what the next record says of values of time: fingerprint, and what is under way.
    pub(super) fn recorded_timing(&self) -> (String, Transition) {
        let wanted = self.config.rollup.timing();
        let fingerprint = match self.rollup.timing() {
            timing if timing == wanted => self.config.fingerprint.to_string(),
            timing => with_timing(&self.config.fingerprint, timing),
        };
        let wanted = (self.rollup.newest_timing() != wanted).then_some(wanted);
        (fingerprint, Transition { changes: self.rollup.changes().to_vec(), wanted })
    }

    /// Returns the values and changes with which the lane goes on from a record, or why it cannot.
    pub(super) fn check_record(
        &mut self,
        record: &CommitRecord,
    ) -> Result<(Timing, Vec<Change>), LaneErrorKind> {
        if !record.ledger.balances() {
            return Err(LaneErrorKind::Unbalanced(record.ledger));
        }
        let expected = self.config.rollup.generation;
        if record.generation > expected {
            let found = record.generation;
            return Err(LaneErrorKind::Newer { what: "generation", found, expected });
        }
        let wanted = self.config.rollup.timing();
        let Transition { changes, wanted: announced } = &record.transition;
        let before = timing_of(&record.fingerprint);
        let newest = changes.last().map(|change| change.timing).or(before);
        // As if all changes that have an edge were passed.
        let keys = match newest {
            Some(newest) => {
                let passed = with_timing(&record.fingerprint, newest);
                CommitRecord { fingerprint: passed, ..CommitRecord::unborn(record.lane.clone()) }
                    .changed_keys(&self.config.fingerprint)
            }
            None => record.changed_keys(&self.config.fingerprint),
        };
        let of_time = keys.iter().all(|key| TIMING_KEYS.contains(&key.as_str()));
        let is_known = newest.is_some_and(|newest| self.reloads.earlier.contains(&newest));
        let goes_over = of_time && (*announced == Some(wanted) || is_known);
        if keys.is_empty() || (record.ledger.open > 0 && goes_over) {
            return Ok((before.unwrap_or(wanted), changes.clone()));
        }
        if record.ledger.open == 0 || record.generation < expected {
            return Ok((wanted, Vec::new()));
        }
        self.reloads.refused = true;
        Err(match record.transition.is_none() {
            true => LaneErrorKind::Fingerprint { keys, open: record.ledger.open },
            false => LaneErrorKind::Reloaded { keys },
        })
    }
}

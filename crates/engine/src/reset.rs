//! Records that an operator's decision puts in the place of a lane's last one: forget what was
//! committed, or go on without messages that the log no longer holds.
//!
//! Nothing is deleted. Each is an ordinary commit without rows of a higher generation, so it wins
//! in every store, and a process that still runs is fenced or writes what loses. Asking, showing
//! and writing is not done here.

use tidemill_kernel::{
    ledger::Ledger,
    time::{Timestamp, WindowGrid},
};

use crate::{
    record::{CommitId, CommitRecord},
    settings::Transition,
};

/// What the records of a reset have in common.
#[derive(Clone, Copy, Debug)]
pub struct Reset<'a> {
    /// The generation from here on; above that of the record.
    pub generation: u32,
    /// The fingerprint of the present configuration.
    pub fingerprint: &'a str,
    /// A random number that names this decision.
    pub writer: u64,
}

impl Reset<'_> {
    /// Returns the record of a lane that begins anew, wherever its source begins.
    ///
    /// # Panics
    /// If the generation is not above the record's.
    pub fn forget(self, last: &CommitRecord) -> CommitRecord {
        CommitRecord {
            ordinal: 0,
            closed_until_ms: i64::MIN,
            highest_event_time_ms: i64::MIN,
            birth_ordinal: 0,
            birth_generation: self.generation,
            processed: None,
            ledger: Ledger::default(),
            lanes: Vec::new(),
            ..self.next(last)
        }
    }

    /// Returns the record of a lane that goes on behind what it has processed, with whatever
    /// message the log has next. Windows that the missing messages may belong to are closed: what
    /// comes for them is late. Of the messages that were in open windows, `emitted_count` are in
    /// stored rows; the others are lost, and counted so. `emitted_until_ms` is the end of the
    /// newest window that has a row.
    ///
    /// # Panics
    /// If the generation is not above the record's.
    pub fn accept_loss(
        self,
        last: &CommitRecord,
        grid: WindowGrid,
        emitted_count: u64,
        emitted_until_ms: Option<i64>,
    ) -> CommitRecord {
        if !last.lanes.is_empty() {
            return self.accept_loss_of_lanes(last, grid, emitted_count, emitted_until_ms);
        }
        let highest = Timestamp::from_ms(last.highest_event_time_ms);
        let touched = highest.map_or(i64::MIN, |highest| grid.window_end(highest));
        // Rows may hold messages that no record speaks of: written, and then nothing more.
        let beyond = emitted_count.saturating_sub(last.ledger.open);
        let ordinal = last.ordinal + beyond;
        CommitRecord {
            ordinal,
            closed_until_ms: last
                .closed_until_ms
                .max(touched)
                .max(emitted_until_ms.unwrap_or(i64::MIN)),
            birth_ordinal: ordinal,
            ledger: Ledger {
                messages: last.ledger.messages + beyond,
                aggregated: last.ledger.aggregated + emitted_count,
                open: 0,
                lost: last.ledger.lost + last.ledger.open.saturating_sub(emitted_count),
                ..last.ledger
            },
            ..self.next(last)
        }
    }

    /// Rows of several lanes do not tell which lane their messages came from, and only the sum of
    /// what the lanes have aggregated means anything: the first lanes get as much as they have.
    fn accept_loss_of_lanes(
        self,
        last: &CommitRecord,
        grid: WindowGrid,
        emitted_count: u64,
        emitted_until_ms: Option<i64>,
    ) -> CommitRecord {
        let mut rest = emitted_count;
        let mut lanes: Vec<CommitRecord> = Vec::with_capacity(last.lanes.len());
        for (at, lane) in last.lanes.iter().enumerate() {
            let is_last = at + 1 == last.lanes.len();
            let share = if is_last { rest } else { rest.min(lane.ledger.open) };
            rest -= share;
            lanes.push(self.accept_loss(lane, grid, share, emitted_until_ms));
        }
        let closed_until_ms = lanes.iter().map(|lane| lane.closed_until_ms).max();
        let closed_until_ms = closed_until_ms.unwrap_or(last.closed_until_ms);
        for lane in &mut lanes {
            (lane.closed_until_ms, lane.closings) = (closed_until_ms, Vec::new());
        }
        CommitRecord {
            ordinal: lanes.iter().map(|lane| lane.ordinal).sum(),
            closed_until_ms,
            birth_ordinal: lanes.iter().map(|lane| lane.birth_ordinal).sum(),
            ledger: lanes.iter().map(|lane| lane.ledger).sum(),
            lanes,
            turn: last.turn + 1,
            ..self.next(last)
        }
    }

    fn next(self, last: &CommitRecord) -> CommitRecord {
        assert!(self.generation > last.generation, "a reset raises the generation");
        CommitRecord {
            id: CommitId { number: last.id.number + 1, writer: self.writer },
            generation: self.generation,
            fingerprint: self.fingerprint.to_owned(),
            transition: Transition::default(),
            birth: None,
            resume: None,
            ..last.clone()
        }
    }
}

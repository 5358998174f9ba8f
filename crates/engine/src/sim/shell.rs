//! A process around the real lane: performs its actions in order, one commit at a time, repeats
//! what failed, and can be stopped between any two effects.

use std::collections::VecDeque;

use super::{
    check,
    random::Random,
    rules::Rule,
    sending::{Door, Sending},
    store::{SimStore, Write, writes_of},
    world::World,
};
use crate::{
    error::LaneErrorKind,
    lane::{Action, Lane},
    port::{Commit, RowKey},
    record::{CommitRecord, ORDINAL_MAX},
};

/// What the source tells a worker; the number is the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Assigned(u64),
    Revoked(u64),
    Entry(u64, usize),
}

/// A process with at most one lane of the partition.
#[derive(Debug, Default)]
pub(super) struct Worker {
    pub(super) inbox: VecDeque<Delivery>,
    pub(super) lane: Option<Lane>,
    pub(super) session: u64,
    pub(super) todo: Vec<Action>,
    pub(super) commits: VecDeque<Sending<Write>>,
    /// Rows that the lane waits to know.
    pub(super) look: Option<Vec<RowKey>>,
    /// Commits of lanes that are gone, still being written.
    pub(super) detached: Vec<Sending<Write>>,
    /// Whether the broker hears this process.
    pub(super) is_connected: bool,
    is_draining: bool,
}

impl Worker {
    pub(super) fn is_idle(&self) -> bool {
        self.inbox.is_empty() && self.lane.is_none() && self.detached.is_empty()
    }

    fn is_sending(&self) -> bool {
        !self.commits.is_empty() || !self.detached.is_empty() || self.look.is_some()
    }

    /// Drops what is not sent; what is being sent may be finished by the store's thread.
    pub(super) fn drop_unsent(&mut self, random: &mut Random) {
        self.todo.clear();
        self.look = None;
        self.is_draining = false;
        let first = self.commits.pop_front().filter(|sending| sending.is_begun);
        self.commits.clear();
        self.detached.extend(first.filter(|_| random.chance(500)));
    }
}

impl World {
    /// Lets a worker do one small thing; returns whether there was one.
    pub(super) fn work(&mut self, at: usize) -> Result<bool, String> {
        let worker = &self.workers[at];
        if !worker.todo.is_empty() && (self.is_quiet || self.random.chance(800)) {
            self.perform(at)?;
            return Ok(true);
        }
        if self.workers[at].is_sending() && self.random.chance(500) {
            self.send(at)?;
            return Ok(true);
        }
        if let Some(delivery) = self.workers[at].inbox.front().copied()
            && self.handle(at, delivery)?
        {
            return Ok(true);
        }
        if self.workers[at].is_sending() {
            self.send(at)?;
            return Ok(true);
        }
        self.leave_if_drained(at);
        Ok(false)
    }

    fn leave_if_drained(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        if worker.is_draining && worker.todo.is_empty() {
            worker.is_draining = false;
            worker.lane = None;
            self.leave(at);
        }
    }

    /// Closes the worker's consumer.
    fn leave(&mut self, at: usize) {
        if self.broker.active == Some(at) && self.broker.session == self.workers[at].session {
            self.broker.close_session();
        }
    }

    /// Handles what the source says; returns false if it has to wait.
    fn handle(&mut self, at: usize, delivery: Delivery) -> Result<bool, String> {
        let worker = &mut self.workers[at];
        match delivery {
            Delivery::Assigned(session) => {
                if self.is_store_down() || self.fault(80, "load failed") {
                    return Ok(true);
                }
                let worker = &mut self.workers[at];
                worker.inbox.pop_front();
                worker.drop_unsent(&mut self.random);
                worker.session = session;
                worker.is_connected = true;
                self.start_lane(at);
            }
            Delivery::Revoked(session) => {
                worker.inbox.pop_front();
                if worker.session == session && worker.lane.is_some() {
                    worker.drop_unsent(&mut self.random);
                    worker.lane = None;
                    self.note(|| format!("w{at} learns that it lost session {session}"));
                }
            }
            Delivery::Entry(session, index) => {
                let lane = worker.lane.as_mut().filter(|lane| !lane.is_stopped());
                let Some(lane) = lane.filter(|_| worker.session == session) else {
                    worker.inbox.pop_front();
                    return Ok(true);
                };
                if !lane.accepts() {
                    return Ok(false);
                }
                worker.inbox.pop_front();
                let entry = &self.broker.entries[index];
                lane.take(entry, self.now_ms, &mut worker.todo);
                let (ledger, count) = (lane.ledger(), lane.in_flight().count());
                let of_entry = 1 + entry.messages.len().div_ceil(256);
                let limit = self.scenario.lane.commits_in_flight_max + of_entry;
                if count > limit {
                    return Err(format!("bounds: {count} commits in flight, at most {limit}"));
                }
                let bytes = lane.memory_bytes();
                let most = self.scenario.memory_bytes_max(of_entry);
                if bytes > most {
                    return Err(format!("bounds: a lane takes {bytes} bytes, at most {most}"));
                }
                self.note(|| format!("w{at} takes entry #{index}: {ledger:?}"));
            }
        }
        Ok(true)
    }

    fn start_lane(&mut self, at: usize) {
        let seek_count = self.workers[at].lane.as_ref().map_or(0, Lane::seek_count);
        let record = self.load();
        let known = record.as_ref().map(|record| (record.ordinal, record.id.number));
        let mut lane = Lane::new(self.scenario.lane.clone(), self.random.next() >> 1, seek_count);
        let worker = &mut self.workers[at];
        lane.start(record, self.now_ms, &mut worker.todo);
        worker.lane = Some(lane);
        let session = worker.session;
        self.note(|| {
            format!("w{at} starts in session {session} from {known:?}, {seek_count} seeks")
        });
    }

    /// Reads the record as the store answers it.
    fn load(&mut self) -> Option<CommitRecord> {
        if self.breaks(Rule::ConfirmedAbsence) && !self.is_quiet && self.random.chance(150) {
            return None;
        }
        let lags = !self.is_quiet && !self.scenario.is_transactional && self.random.chance(200);
        let chosen = self.random.below(1 << 20);
        let stale = self.store.stale(chosen).filter(|_| lags).cloned();
        if stale.is_some() && stale.as_ref() != self.store.newest() {
            self.count("stale record read");
        }
        let mut record = stale.or_else(|| self.store.newest().cloned())?;
        if self.breaks(Rule::CountOnce)
            && let (Some(resume), Some(processed)) = (record.resume, record.processed)
        {
            let again = |position| resume <= position && position <= processed;
            let messages = &self.reference.messages;
            record.ordinal +=
                messages.iter().filter(|judged| again(judged.position)).count() as u64;
        }
        if self.breaks(Rule::ResumeAtOpenWindow) && record.processed.is_some() {
            record.resume = None;
        }
        Some(record)
    }

    /// Performs the oldest action.
    fn perform(&mut self, at: usize) -> Result<(), String> {
        let worker = &mut self.workers[at];
        match worker.todo.remove(0) {
            Action::Read { from, seek: false } => {
                self.broker.read_from(worker.session, from);
                if let Some(from) = from.filter(|_| self.has_ended) {
                    self.broker.go_back(from);
                }
            }
            Action::Read { from, seek: true } => {
                let from = from.ok_or("a lane seeks to nowhere")?;
                worker.drop_unsent(&mut self.random);
                if worker.is_connected {
                    self.count("gap, source sent back");
                    self.note(|| format!("w{at} seeks to {from:?}"));
                    self.broker.seek(from);
                }
            }
            Action::Commit { commit, .. } => self.enqueue(at, commit)?,
            Action::Look { keys } => worker.look = Some(keys),
            Action::Acknowledge(through) => {
                let mut through = self.broker.index_of(through);
                if self.breaks(Rule::AckBeforeResume) {
                    through = (through + 1).min(self.broker.entries.len() - 1);
                }
                self.acknowledge(at, through)?;
            }
            Action::Failed(error) => self.failed(at, &error.kind)?,
        }
        Ok(())
    }

    fn enqueue(&mut self, at: usize, commit: Box<Commit>) -> Result<(), String> {
        let letter_count = commit.letters.len();
        if letter_count >= self.scenario.lane.letters_per_commit_max + 256 {
            return Err(format!("bounds: {letter_count} letters in a commit"));
        }
        let mut writes = writes_of(&commit, self.scenario.lane.rollup.plan.schema().columns());
        if self.breaks(Rule::RowsBeforeRecord) {
            writes.reverse();
        }
        if self.breaks(Rule::LettersBeforeRecord) && letter_count > 0 {
            let end = writes.len() - 1;
            writes.swap(end, end - 1);
        }
        let early = self.breaks(Rule::RecordBeforeAck);
        let (record, row_pieces) = (&commit.record, commit.rows.len());
        let text = format!(
            "w{at} commits {} at ordinal {}, closed until {}, resume {:?}, {row_pieces} pieces, \
             {letter_count} letters",
            record.id.number, record.ordinal, record.closed_until_ms, record.resume
        );
        let worker = &mut self.workers[at];
        worker.commits.push_back(Sending {
            commit,
            writes: writes.into(),
            is_begun: false,
            is_answered: early,
        });
        if let Some(lane) = worker.lane.as_mut().filter(|_| early) {
            lane.committed(Ok(()), &mut worker.todo);
        }
        self.note(|| text);
        Ok(())
    }

    fn acknowledge(&mut self, at: usize, through: usize) -> Result<(), String> {
        if !self.workers[at].is_connected {
            return Ok(());
        }
        if self.broker.active != Some(at) {
            self.count("acknowledged by another");
        }
        // Where the rule itself is broken, the loss has to show.
        let checks = !self.breaks(Rule::AckBeforeResume) && !self.breaks(Rule::RecordBeforeAck);
        if checks && through >= self.needed_from {
            let needed = self.needed_from;
            return Err(format!("ack: #{through} acknowledged, #{needed} still needed"));
        }
        self.note(|| format!("w{at} acknowledges through #{through}"));
        self.broker.acknowledge(through);
        Ok(())
    }

    /// A lane has stopped; whoever watches it starts it again, if there is hope.
    fn failed(&mut self, at: usize, kind: &LaneErrorKind) -> Result<(), String> {
        match kind {
            LaneErrorKind::Fenced(_) => self.count("fenced"),
            LaneErrorKind::Gap { expected, .. } if !self.is_quiet => {
                let holds = self.broker.holds(*expected);
                self.count(if holds { "stopped for a second jump" } else { "stopped for a gap" });
            }
            other => return Err(format!("w{at} stops: {other}")),
        }
        self.note(|| format!("w{at} stops: {kind}"));
        let worker = &mut self.workers[at];
        worker.drop_unsent(&mut self.random);
        worker.lane = None;
        self.leave(at);
        Ok(())
    }

    /// Tells the lane what is stored of the rows that it waits to know.
    fn look(&mut self, at: usize) {
        if self.is_store_down() || self.fault(80, "look failed") {
            return;
        }
        let keys = self.workers[at].look.take().expect("the lane waits for rows");
        let mut found = self.store.stored(&keys);
        if self.breaks(Rule::MergeOnce) {
            let known = found.iter_mut().flatten();
            known.for_each(|stored| stored.revision &= !ORDINAL_MAX);
        }
        let known = found.iter().flatten().count();
        self.note(|| format!("w{at} finds {known} of {} rows", keys.len()));
        let worker = &mut self.workers[at];
        if let Some(lane) = worker.lane.as_mut() {
            lane.looked(Ok(found), &mut worker.todo);
            let counts = lane.take_late_counts();
            for _ in 0..counts.merged.min(1) {
                self.count("late messages merged");
            }
            for _ in 0..u64::from(counts.merged > 0 && counts.rows == 0) {
                self.count("late messages were merged already");
            }
        }
    }

    /// Tries to write something of a commit, of the lane's or of one that is gone.
    fn send(&mut self, at: usize) -> Result<(), String> {
        let worker = &mut self.workers[at];
        let is_first = worker.commits.is_empty() || self.broken == Some(Rule::LookBehindCommits);
        if worker.look.is_some() && is_first && (self.is_quiet || self.random.chance(500)) {
            self.look(at);
            return Ok(());
        }
        let worker = &mut self.workers[at];
        if worker.commits.is_empty() && worker.detached.is_empty() {
            return Ok(());
        }
        let own =
            !worker.commits.is_empty() && (worker.detached.is_empty() || self.random.chance(500));
        let mut sending = match own {
            true => worker.commits.pop_front(),
            false => worker.detached.pop(),
        }
        .expect("the worker is sending");
        sending.is_begun = true;
        let answer = self.attempt(&mut sending)?;
        let worker = &mut self.workers[at];
        match answer {
            Some(outcome) => {
                let ok = outcome.is_ok();
                let number = sending.commit.record.id.number;
                if let Some(lane) = worker.lane.as_mut().filter(|_| own && !sending.is_answered) {
                    lane.committed(outcome, &mut worker.todo);
                }
                self.count("commit done");
                self.note(|| format!("w{at} commit {number} done: {ok}"));
            }
            None if own => worker.commits.push_front(sending),
            None => worker.detached.push(sending),
        }
        Ok(())
    }

    /// Lets a worker's lane see the time.
    pub(super) fn tick(&mut self, at: usize) -> Result<(), String> {
        let worker = &mut self.workers[at];
        let Some(lane) = worker.lane.as_mut() else {
            return Ok(());
        };
        let before = worker.todo.len();
        lane.tick(self.now_ms, &mut worker.todo);
        let count = lane.in_flight().count();
        if worker.todo.len() > before && count > self.scenario.lane.commits_in_flight_max {
            return Err(format!("bounds: a tick made {count} commits be in flight"));
        }
        match worker.todo.get(before) {
            Some(Action::Commit { commit, .. }) if !commit.rows.is_empty() => {
                self.count("idle lane emitted");
            }
            Some(_) => self.count("snapshot by the clock"),
            None => {}
        }
        Ok(())
    }

    /// Tells a worker to end in good order.
    pub(super) fn drain(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        if let Some(lane) = worker.lane.as_mut().filter(|lane| !lane.is_stopped()) {
            lane.drain(self.now_ms, &mut worker.todo);
            worker.is_draining = true;
            self.count("drained");
            self.note(|| format!("w{at} drains"));
        }
    }

    /// Checks that the lane of a worker has nothing left to do.
    pub(super) fn is_settled(&self, at: usize) -> bool {
        let worker = &self.workers[at];
        let is_done = worker.lane.as_ref().is_none_or(Lane::is_settled);
        is_done && worker.todo.is_empty() && worker.inbox.is_empty() && !worker.is_sending()
    }

    /// Returns the check at the end of all.
    pub(super) fn check_end(&self) -> Result<(), String> {
        check::end(&self.reference, &self.store, self.scenario.lane.rollup.generation)
    }
}

impl Door for World {
    type Write = Write;

    fn store(&self) -> &SimStore {
        &self.store
    }

    fn is_store_down(&self) -> bool {
        World::is_store_down(self)
    }

    fn is_transactional(&self) -> bool {
        self.scenario.is_transactional
    }

    fn ignores_fence(&self) -> bool {
        self.breaks(Rule::Fence)
    }

    fn gives_up(&self) -> bool {
        self.breaks(Rule::RetryUntilSuccess)
    }

    fn fault(&mut self, per_mille: u64, name: &'static str) -> bool {
        let happens = !self.is_quiet && self.scenario.is_noisy && self.random.chance(per_mille);
        if happens {
            self.count(name);
            self.note(|| name.to_owned());
        }
        happens
    }

    fn apply(&mut self, write: &Write) -> Result<(), String> {
        World::apply(self, write)
    }

    fn delay(&mut self, write: Write) {
        self.limbo.push(write);
    }

    fn part_of(&mut self, write: &Write) -> Option<Write> {
        let Write::Rows(rows) = write else {
            return None;
        };
        if rows.len() < 2 || !self.fault(100, "half of an insert applied") {
            return None;
        }
        let count = 1 + self.random.below(rows.len() - 1);
        Some(Write::Rows(rows[..count].to_vec()))
    }
}

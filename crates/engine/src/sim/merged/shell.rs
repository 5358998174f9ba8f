//! A process around the real junction: performs its actions in order, one commit at a time, repeats
//! what failed, and can be stopped between any two effects.

use super::{Line, Rule, World, check::Vector};
use crate::{
    error::LaneErrorKind,
    junction::{Action, Junction},
    port::Commit,
    record::CommitRecord,
    sim::{
        random::Random,
        sending::{Door, Sending},
        store::{SimStore, Write, writes_of},
    },
};

/// What the source tells a worker of all partitions; the number is the session.
#[derive(Clone, Copy, Debug)]
pub(super) enum Control {
    Assigned(u64),
    Revoked(u64),
}

/// A write with how many messages of each partition its record covers.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) write: Write,
    pub(super) processed: Vector,
}

/// A process with at most one junction.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) control: Line<Control>,
    pub(super) entries: Vec<Line<(u64, usize)>>,
    pub(super) junction: Option<Junction>,
    session: u64,
    todo: Line<Action>,
    commits: Line<Sending<Pending>>,
    pub(super) detached: Vec<Sending<Pending>>,
    pub(super) is_connected: bool,
    is_draining: bool,
}

impl Worker {
    pub(super) fn new(partition_count: usize) -> Worker {
        Worker {
            control: Line::new(),
            entries: vec![Line::new(); partition_count],
            junction: None,
            session: 0,
            todo: Line::new(),
            commits: Line::new(),
            detached: Vec::new(),
            is_connected: false,
            is_draining: false,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.control.is_empty() && self.junction.is_none() && self.detached.is_empty()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.junction.as_ref().is_none_or(Junction::is_settled)
            && self.todo.is_empty()
            && self.commits.is_empty()
            && self.detached.is_empty()
    }

    /// Drops what is not sent; what is being sent may be finished by the store's thread.
    pub(super) fn drop_unsent(&mut self, random: &mut Random) {
        self.todo.clear();
        self.is_draining = false;
        let first = self.commits.pop_front().filter(|sending| sending.is_begun);
        self.commits.clear();
        self.detached.extend(first.filter(|_| random.chance(500)));
    }
}

impl World {
    /// Lets a worker do one small thing; returns whether there was one.
    pub(super) fn work(&mut self, at: usize) -> Result<bool, String> {
        if !self.workers[at].todo.is_empty() && (self.is_quiet || self.random.chance(800)) {
            self.perform(at)?;
            return Ok(true);
        }
        let worker = &self.workers[at];
        let is_sending = !worker.commits.is_empty() || !worker.detached.is_empty();
        if is_sending && self.random.chance(500) {
            self.send(at)?;
            return Ok(true);
        }
        if let Some(control) = self.workers[at].control.front().copied() {
            self.obey(at, control);
            return Ok(true);
        }
        if self.take(at)? {
            return Ok(true);
        }
        if is_sending {
            self.send(at)?;
            return Ok(true);
        }
        let worker = &mut self.workers[at];
        if worker.is_draining && worker.todo.is_empty() {
            worker.is_draining = false;
            worker.junction = None;
            if self.owner == Some(at) && self.session == self.workers[at].session {
                self.close_session();
            }
        }
        Ok(false)
    }

    fn obey(&mut self, at: usize, control: Control) {
        match control {
            Control::Assigned(session) => {
                if self.is_store_down() || self.fault(80, "load failed") {
                    return;
                }
                let worker = &mut self.workers[at];
                worker.control.pop_front();
                worker.drop_unsent(&mut self.random);
                worker.session = session;
                worker.is_connected = true;
                self.start(at);
            }
            Control::Revoked(session) => {
                let worker = &mut self.workers[at];
                worker.control.pop_front();
                if worker.session == session && worker.junction.is_some() {
                    worker.drop_unsent(&mut self.random);
                    worker.junction = None;
                    self.note(|| format!("w{at} learns that it lost session {session}"));
                }
            }
        }
    }

    fn start(&mut self, at: usize) {
        let old = self.workers[at].junction.take();
        let seeks = |partition: &str| old.as_ref().map_or(0, |old| old.seek_count(partition));
        let record = self.load();
        let known = record.as_ref().map(|record| (record.ordinal, record.id.number));
        let writer = self.random.next() >> 1;
        // Seconds are long here; a commit takes some milliseconds.
        let begun_at = if self.breaks(Rule::LaterOwnerWins) { 0 } else { self.now_ms };
        let mut junction =
            Junction::new(self.junction.clone(), writer, begun_at, &self.partitions, seeks);
        let mut actions = Vec::new();
        junction.start(record, self.now_ms, &mut actions);
        let worker = &mut self.workers[at];
        worker.todo.extend(actions);
        worker.junction = Some(junction);
        self.note(|| format!("w{at} starts from {known:?}"));
    }

    /// Reads the record, as consistent reads give it.
    fn load(&mut self) -> Option<CommitRecord> {
        let lags = self.breaks(Rule::ConsistentRead) && !self.is_quiet && self.random.chance(200);
        let chosen = self.random.below(1 << 20);
        let stale = self.store.stale(chosen).filter(|_| lags).cloned();
        let mut record = stale.or_else(|| self.store.newest().cloned())?;
        for (lane, part) in record.lanes.iter_mut().enumerate() {
            if self.broken == Some(Rule::Closings) {
                part.closings.clear();
            }
            if self.broken == Some(Rule::ResumeOfHeldWindows) && part.processed.is_some() {
                let (open, first) = self.references[lane].open(part.ordinal, part.closed_until_ms);
                (part.resume, part.ledger.open) = (first, open);
                part.ledger.aggregated = part.ledger.messages
                    - part.ledger.open
                    - part.ledger.late
                    - part.ledger.rejected;
            }
        }
        Some(record)
    }

    /// Takes an entry of some partition in; returns whether there was one to take.
    fn take(&mut self, at: usize) -> Result<bool, String> {
        let first = self.random.below(self.brokers.len());
        for lane in (0..self.brokers.len()).map(|step| (first + step) % self.brokers.len()) {
            let partition = self.partitions[lane].clone();
            let worker = &mut self.workers[at];
            let Some((session, index)) = worker.entries[lane].front().copied() else {
                continue;
            };
            let junction = worker.junction.as_mut().filter(|junction| !junction.is_stopped());
            let Some(junction) = junction.filter(|_| worker.session == session) else {
                worker.entries[lane].pop_front();
                return Ok(true);
            };
            if !junction.accepts(&partition) {
                continue;
            }
            worker.entries[lane].pop_front();
            let mut actions = Vec::new();
            let entry = &self.brokers[lane].entries[index];
            junction.take(&partition, entry, self.now_ms, &mut actions);
            let (ledger, held) =
                (junction.ledger(&partition), junction.held_window_count(&partition));
            self.queue(at, actions);
            self.note(|| format!("w{at} takes {lane}#{index}: {ledger:?}, {held} held"));
            return Ok(true);
        }
        Ok(false)
    }

    pub(super) fn queue(&mut self, at: usize, actions: Vec<Action>) {
        for action in &actions {
            match action {
                Action::Silent { .. } => self.count("closed for the silent"),
                Action::Commit { closed, .. } if !closed.is_empty() => self.count("merged"),
                Action::Commit { commit, .. } if !commit.rows.is_empty() => {
                    self.count("emitted early");
                }
                _ => {}
            }
        }
        self.workers[at].todo.extend(actions);
    }

    fn perform(&mut self, at: usize) -> Result<(), String> {
        let worker = &mut self.workers[at];
        let Some(action) = worker.todo.pop_front() else {
            return Ok(());
        };
        let index = |partition: &str| partition.parse::<usize>().expect("partitions are numbers");
        match action {
            Action::Read { partition, from, seek: false } => {
                let (lane, session) = (index(&partition), worker.session);
                if session == self.session {
                    let broker = &mut self.brokers[lane];
                    broker.read_from(broker.session, from);
                    if let Some(from) = from.filter(|_| self.has_ended) {
                        broker.go_back(from);
                    }
                }
            }
            Action::Read { partition, from, seek: true } => {
                let from = from.ok_or("a lane seeks to nowhere")?;
                worker.drop_unsent(&mut self.random);
                let session = worker.session;
                if session == self.session {
                    self.count("gap, source sent back");
                    self.brokers[index(&partition)].seek(from);
                    self.close_session();
                    self.assign(at);
                }
            }
            Action::Commit { commit, .. } => self.enqueue(at, commit),
            Action::Acknowledge { partition, through } => {
                let lane = index(&partition);
                let mut through = self.brokers[lane].index_of(through);
                if self.breaks(Rule::AckBeforeResume) {
                    through = (through + 1).min(self.brokers[lane].entries.len() - 1);
                }
                // The subscription is exclusive: nobody else's word counts.
                let worker = &self.workers[at];
                if worker.is_connected && worker.session == self.session {
                    self.check_acknowledgement(lane, through)?;
                    self.brokers[lane].acknowledge(through);
                }
            }
            Action::Silent { partitions, until_ms } => {
                self.note(|| format!("w{at} closes {partitions:?} until {until_ms}"));
            }
            Action::Failed(error) => self.failed(at, &error.kind)?,
        }
        Ok(())
    }

    fn enqueue(&mut self, at: usize, commit: Box<Commit>) {
        let columns = self.scenario.lane.rollup.plan.schema().columns();
        let mut processed = vec![0; self.partitions.len()];
        for part in &commit.record.lanes {
            let lane = self.partitions.iter().position(|name| *name == part.lane.partition);
            processed[lane.expect("a known partition")] = part.ordinal;
        }
        let writes = writes_of(&commit, columns).into_iter();
        let mut writes: Line<Pending> =
            writes.map(|write| Pending { write, processed: processed.clone() }).collect();
        if self.breaks(Rule::RowsBeforeRecord) {
            writes = writes.into_iter().rev().collect();
        }
        let record = &commit.record;
        let text = format!(
            "w{at} commits {} at {processed:?}, merged until {}, {} pieces, {} letters",
            record.id.number,
            record.closed_until_ms,
            commit.rows.len(),
            commit.letters.len()
        );
        self.workers[at].commits.push_back(Sending {
            commit,
            writes,
            is_begun: false,
            is_answered: false,
        });
        self.note(|| text);
    }

    fn failed(&mut self, at: usize, kind: &LaneErrorKind) -> Result<(), String> {
        match kind {
            LaneErrorKind::Fenced(_) => self.count("fenced"),
            LaneErrorKind::Gap { .. } if !self.is_quiet => self.count("stopped for a gap"),
            other => return Err(format!("w{at} stops: {other}")),
        }
        let worker = &mut self.workers[at];
        worker.drop_unsent(&mut self.random);
        worker.junction = None;
        if self.owner == Some(at) && self.session == self.workers[at].session {
            self.close_session();
        }
        Ok(())
    }

    fn send(&mut self, at: usize) -> Result<(), String> {
        let worker = &mut self.workers[at];
        let own =
            !worker.commits.is_empty() && (worker.detached.is_empty() || self.random.chance(500));
        let sending = if own { worker.commits.pop_front() } else { worker.detached.pop() };
        let Some(mut sending) = sending else {
            return Ok(());
        };
        sending.is_begun = true;
        let answer = self.attempt(&mut sending)?;
        let worker = &mut self.workers[at];
        match answer {
            Some(outcome) => {
                let mut actions = Vec::new();
                if let Some(junction) = worker.junction.as_mut().filter(|_| own) {
                    junction.committed(outcome, &mut actions);
                }
                self.queue(at, actions);
                self.count("commit done");
            }
            None if own => worker.commits.push_front(sending),
            None => worker.detached.push(sending),
        }
        Ok(())
    }

    /// Lets a worker's junction see the time.
    pub(super) fn tick(&mut self, at: usize) -> Result<(), String> {
        let worker = &mut self.workers[at];
        let Some(junction) = worker.junction.as_mut() else {
            return Ok(());
        };
        let waiting: Vec<bool> = worker.entries.iter().map(|entries| !entries.is_empty()).collect();
        let waits = |partition: &str| waiting[partition.parse::<usize>().expect("a number")];
        let mut actions = Vec::new();
        junction.tick(self.now_ms, waits, &mut actions);
        self.queue(at, actions);
        Ok(())
    }

    pub(super) fn drain(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        let mut actions = Vec::new();
        if let Some(junction) = worker.junction.as_mut().filter(|junction| !junction.is_stopped()) {
            junction.drain(self.now_ms, &mut actions);
            worker.is_draining = true;
            self.count("drained");
        }
        self.queue(at, actions);
    }
}

impl Door for World {
    type Write = Pending;

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
        false
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

    fn apply(&mut self, pending: &Pending) -> Result<(), String> {
        World::apply(self, pending)
    }

    fn delay(&mut self, pending: Pending) {
        self.limbo.push(pending);
    }

    /// Rows in part are the other simulation's.
    fn part_of(&mut self, _: &Pending) -> Option<Pending> {
        None
    }
}

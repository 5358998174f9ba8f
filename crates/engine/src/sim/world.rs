//! The scheduler: what happens next, and everything that happens to a process from outside.

use std::collections::{BTreeMap, VecDeque};

use super::{
    broker::{Broker, Next},
    check,
    random::Random,
    reference::Reference,
    rules::Rule,
    shell::{Delivery, Worker},
    store::{SimStore, Write},
    workload::{Producer, Scenario},
};
use crate::{port::Continuity, record::CommitRecord};

/// Entries that a source delivers ahead of the lane.
const INBOX_MAX: usize = 6;

/// Messages that make the beginning of a log.
const EARLY_MESSAGES: usize = 20;

/// Draws whether late messages correct rows.
const AMEND_SEED: u64 = 0x6d65_6e64;

/// What happened, as text and as one number.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) lines: VecDeque<String>,
    pub(super) digest: u64,
    lines_max: usize,
}

impl Trace {
    pub(super) fn new(lines_max: usize) -> Trace {
        Trace { lines: VecDeque::new(), digest: 0xcbf2_9ce4_8422_2325, lines_max }
    }

    pub(super) fn push(&mut self, line: String) {
        for byte in line.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.lines.len() >= self.lines_max {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

/// One simulated run.
pub(super) struct World {
    pub(super) random: Random,
    pub(super) broken: Option<Rule>,
    pub(super) scenario: Scenario,
    producer: Producer,
    pub(super) broker: Broker,
    pub(super) store: SimStore,
    pub(super) reference: Reference,
    pub(super) workers: Vec<Worker>,
    /// Writes that are under way and arrive some time.
    pub(super) limbo: Vec<Write>,
    /// Revocations that have not reached their worker yet.
    notices: Vec<(usize, u64)>,
    pub(super) now_ms: u64,
    store_down_until_ms: u64,
    /// No faults any more; a lane that stops now has a reason that counts.
    pub(super) is_quiet: bool,
    /// The input was told to have ended.
    pub(super) has_ended: bool,
    /// The first entry that the most advanced durable record needs.
    pub(super) needed_from: usize,
    pub(super) trace: Trace,
    pub(super) events: BTreeMap<&'static str, u64>,
}

impl World {
    pub(super) fn new(seed: u64, broken: Option<Rule>, trace_lines: usize) -> World {
        let mut random = Random::new(seed);
        let continuity = match broken {
            Some(Rule::GapCheck) => Continuity::Growing,
            _ => Continuity::Counted,
        };
        let mut scenario = Scenario::draw(&mut random, continuity);
        match broken {
            Some(Rule::Fence) => scenario.is_transactional = true,
            Some(
                Rule::RowsBeforeRecord
                | Rule::LettersBeforeRecord
                | Rule::RevisionCompare
                | Rule::ConfirmedAbsence
                | Rule::GapCheck
                | Rule::RollOverCheck,
            ) => scenario.is_transactional = false,
            _ => {}
        }
        let amends = matches!(broken, Some(Rule::LookBehindCommits | Rule::MergeOnce));
        // Its own stream: what else a seed means does not hang on it.
        if amends || Random::new(seed ^ AMEND_SEED).chance(400) {
            scenario.amend();
        }
        // A store that is down at the start lets several lanes believe they are the first.
        let is_down = scenario.is_noisy && random.chance(250);
        let store_down_until_ms = if is_down { random.next() % 30_000 } else { 0 };
        let store = SimStore::new(scenario.is_transactional, broken != Some(Rule::RevisionCompare));
        World {
            broken,
            producer: Producer::new(),
            broker: Broker::new(),
            store,
            reference: Reference::new(&scenario.lane.rollup),
            workers: (0..scenario.worker_count).map(|_| Worker::default()).collect(),
            limbo: Vec::new(),
            notices: Vec::new(),
            now_ms: 0,
            store_down_until_ms,
            is_quiet: false,
            has_ended: false,
            needed_from: 0,
            trace: Trace::new(trace_lines),
            events: BTreeMap::new(),
            random,
            scenario,
        }
    }

    /// Runs to the end.
    pub(super) fn run(&mut self) -> Result<(), String> {
        // What was there before the subscription is not the lane's business.
        for _ in 0..self.random.below(3) {
            let (entry, _) = self.producer.entry(&mut self.random, &self.scenario);
            self.broker.entries.push(entry);
        }
        self.broker.subscribe();
        for _ in 0..self.scenario.step_count {
            if self.random.chance(100) {
                self.produce();
            } else {
                self.step()?;
            }
        }
        self.finish()
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        let line = format!("{:>7} {}", self.now_ms, line());
        self.trace.push(line);
    }

    pub(super) fn count(&mut self, event: &'static str) {
        *self.events.entry(event).or_insert(0) += 1;
    }

    pub(super) fn breaks(&self, rule: Rule) -> bool {
        self.broken == Some(rule)
    }

    fn produce(&mut self) {
        let (entry, truths) = self.producer.entry(&mut self.random, &self.scenario);
        let (position, count) = (entry.position, entry.messages.len());
        self.broker.entries.push(entry);
        truths.into_iter().for_each(|truth| self.reference.push(truth));
        let total = self.reference.messages.len();
        self.note(|| {
            format!("produced {}:{} with {count}, now {total}", position.segment, position.offset)
        });
    }

    /// Lets one thing happen that is no new message.
    pub(super) fn step(&mut self) -> Result<(), String> {
        self.now_ms += self.random.next() % 300;
        let worker = self.random.below(self.workers.len());
        let turmoil_per_mille = match self.reference.messages.len() {
            0..EARLY_MESSAGES => self.scenario.early_turmoil_per_mille,
            _ => self.scenario.turmoil_per_mille,
        };
        if self.random.chance(turmoil_per_mille) {
            match self.random.below(11) {
                0..3 => self.move_ownership(),
                3..5 => self.crash(worker),
                5 => self.crash_broker(),
                6 => self.drain(worker),
                7 => self.redeliver(),
                8 => self.lose_store(),
                _ => self.trim(),
            }
            return Ok(());
        }
        match self.random.below(1000) {
            0..30 => self.broker.persist_cursor(),
            30..60 => self.deliver_notice(),
            60..100 => self.arrive()?,
            100..170 => self.tick(worker)?,
            170..330 => self.deliver()?,
            // The owner gets most of the time; zombies some.
            330..800 => match self.broker.active {
                Some(owner) => self.work(owner).map(drop)?,
                None => self.move_ownership(),
            },
            800..990 => self.work(worker).map(drop)?,
            _ => self.burst(worker)?,
        }
        Ok(())
    }

    /// Lets one process run while all others stand still.
    fn burst(&mut self, worker: usize) -> Result<(), String> {
        for _ in 0..self.random.below(80) {
            if !self.work(worker)? {
                break;
            }
        }
        Ok(())
    }

    /// Gives the partition to some worker; the old owner learns of it now, later, or never.
    pub(super) fn move_ownership(&mut self) {
        let to = self.random.below(self.workers.len());
        let (old, session) = (self.broker.active, self.broker.session);
        if let Some(old) = old {
            self.count("ownership moved");
            match self.random.below(10) {
                0..4 => self.workers[old].inbox.push_back(Delivery::Revoked(session)),
                4..7 => {
                    self.count("owner not told");
                    self.notices.push((old, session));
                }
                _ => {
                    self.count("connection lost");
                    self.workers[old].is_connected = false;
                    self.notices.push((old, session));
                }
            }
        }
        self.assign(to);
    }

    pub(super) fn assign(&mut self, worker: usize) {
        let session = self.broker.assign(worker);
        self.workers[worker].inbox.push_back(Delivery::Assigned(session));
        let (mark, available) = (self.broker.mark, self.broker.available);
        self.note(|| {
            format!("session {session} for w{worker}, cursor #{mark}, available from #{available}")
        });
    }

    /// Ends a process between any two of its effects.
    pub(super) fn crash(&mut self, worker: usize) {
        if self.workers[worker].is_idle() {
            return;
        }
        self.count("worker crashed");
        self.note(|| format!("w{worker} crashes"));
        self.workers[worker] = Worker::default();
        if self.broker.active == Some(worker) {
            self.broker.close_session();
        }
    }

    fn crash_broker(&mut self) {
        self.count("broker crashed");
        let session = self.broker.session;
        if let Some(owner) = self.broker.active {
            self.notices.push((owner, session));
        }
        let before = self.broker.mark;
        self.broker.crash();
        let mark = self.broker.mark;
        if mark < before {
            self.count("acknowledgements lost");
        }
        self.workers.iter_mut().for_each(|worker| worker.is_connected = false);
        self.note(|| format!("broker crashes, cursor #{before} becomes #{mark}"));
    }

    /// Makes the store fail for everybody for a while.
    fn lose_store(&mut self) {
        if self.scenario.is_noisy {
            self.count("store down");
            self.store_down_until_ms = self.now_ms + self.random.next() % 20_000;
            self.note(|| "store down".to_owned());
        }
    }

    /// Returns whether the store answers nobody at present.
    pub(super) fn is_store_down(&self) -> bool {
        !self.is_quiet && self.now_ms < self.store_down_until_ms
    }

    /// Delivers again, in the same session, what is not acknowledged.
    fn redeliver(&mut self) {
        if self.broker.active.is_some() && self.broker.read > self.broker.mark {
            self.broker.read = self.broker.mark;
            self.count("redelivered");
            self.note(|| "redelivery from the cursor".to_owned());
        }
    }

    pub(super) fn trim(&mut self) {
        let kept = if self.scenario.has_retention { 40 } else { 0 };
        if self.broker.trim(kept) {
            self.count("ledgers trimmed");
            let available = self.broker.available;
            self.note(|| format!("trimmed up to #{available}"));
        }
    }

    fn deliver_notice(&mut self) {
        if !self.notices.is_empty() {
            let at = self.random.below(self.notices.len());
            let (worker, session) = self.notices.swap_remove(at);
            self.workers[worker].inbox.push_back(Delivery::Revoked(session));
        }
    }

    /// Lets a delayed write arrive, in any order.
    pub(super) fn arrive(&mut self) -> Result<(), String> {
        if self.limbo.is_empty() {
            return Ok(());
        }
        let at = self.random.below(self.limbo.len());
        let write = self.limbo.swap_remove(at);
        self.note(|| format!("delayed {} arrive", write.name()));
        self.apply(&write)
    }

    /// Hands the next entry to the owner.
    pub(super) fn deliver(&mut self) -> Result<(), String> {
        let Some(owner) = self.broker.active else {
            return Ok(());
        };
        if self.workers[owner].inbox.len() >= INBOX_MAX {
            return Ok(());
        }
        match self.broker.peek(!self.breaks(Rule::RollOverCheck)) {
            None => {}
            Some(Next::Entry(at)) => {
                let session = self.broker.session;
                self.workers[owner].inbox.push_back(Delivery::Entry(session, at));
                self.broker.delivered(at);
            }
            Some(Next::Jumped(from)) => {
                self.count("jump over a ledger's end");
                self.note(|| format!("source of w{owner} sees a jump behind {from:?}, goes back"));
                self.broker.seek(from);
                self.assign(owner);
            }
        }
        Ok(())
    }

    /// Makes a write durable and checks it.
    pub(super) fn apply(&mut self, write: &Write) -> Result<(), String> {
        let generation = self.scenario.lane.rollup.generation;
        match write {
            Write::Rows(rows) => {
                for row in rows {
                    check::row(&self.reference, generation, row)?;
                    if self.store.put_row(row.clone())
                        && let Some(record) = self.store.newest()
                    {
                        check::covered(&self.reference, &self.store, record)?;
                    }
                }
            }
            Write::Letters(letters) => {
                for letter in letters {
                    check::letter(&self.reference, generation, letter)?;
                    self.store.put_letter(letter);
                }
            }
            Write::Record(record) => {
                let stored = self.store.newest().map_or(0, CommitRecord::revision);
                if self.scenario.is_transactional && record.revision() < stored {
                    return Err(format!("the record falls from revision {stored}: {record:?}"));
                }
                self.store.put_record(record);
                if self.broker.is_inside_an_entry(record) {
                    self.count("commit inside of an entry");
                }
                check::record(&self.reference, &self.store, record, self.has_ended)?;
                let needed = check::first_needed(&self.broker, record);
                self.needed_from = self.needed_from.max(needed);
            }
        }
        Ok(())
    }
}

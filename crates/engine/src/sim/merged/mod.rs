//! The simulation of a pipeline whose lanes are merged: several partitions, one owner of all, the
//! real junction between them and a store.
//!
//! Broker, producer, stores and the naive reference of each partition are those of the simulation
//! of a lane. What a row has to hold follows from all references: of each partition, the messages
//! up to where its lane closed the window.

mod check;
mod finale;
mod shell;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::{
    Report, Violation,
    broker::{Broker, Next},
    caught,
    random::Random,
    reference::Reference,
    store::SimStore,
    workload::{Producer, Scenario},
    world::Trace,
};
use crate::{junction::JunctionConfig, port::Continuity};
use shell::{Control, Pending, Worker};

/// Entries of a partition that a source delivers ahead.
const INBOX_MAX: usize = 6;

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Rows are durable before the record is written.
    RowsBeforeRecord,
    /// The entry that holds the resume position of a lane is not acknowledged.
    AckBeforeResume,
    /// After an unknown outcome the same bytes are written again.
    RetryUntilSuccess,
    /// A lane reads again what it closed itself and the others have not.
    ResumeOfHeldWindows,
    /// The record keeps when each lane closed what is not merged.
    Closings,
    /// The newest record is read, never one that was the newest before: records of owners that
    /// began from different ones do not follow each other.
    ConsistentRead,
    /// What a later owner commits wins over what an earlier one still has on its way.
    LaterOwnerWins,
}

/// How lanes and messages are spread.
#[derive(Clone, Debug)]
struct Shape {
    /// How often each partition gets an entry, relative to the others.
    weights: Vec<usize>,
    /// Whether lanes that are silent are given up at some point.
    gives_up: bool,
}

/// One simulated run.
struct World {
    random: Random,
    broken: Option<Rule>,
    scenario: Scenario,
    shape: Shape,
    junction: JunctionConfig,
    partitions: Vec<Arc<str>>,
    producers: Vec<Producer>,
    brokers: Vec<Broker>,
    references: Vec<Reference>,
    store: SimStore,
    /// Letters by partition and position, with revision and reason.
    letters: check::Letters,
    workers: Vec<Worker>,
    limbo: Vec<Pending>,
    notices: Vec<(usize, u64)>,
    session: u64,
    owner: Option<usize>,
    now_ms: u64,
    store_down_until_ms: u64,
    is_quiet: bool,
    has_ended: bool,
    trace: Trace,
    events: BTreeMap<&'static str, u64>,
}

/// Runs one seed, with one rule broken on purpose if `broken` says so.
pub fn run(seed: u64, broken: Option<Rule>, trace_lines: usize) -> Report {
    let mut world = World::new(seed, broken, trace_lines);
    let result = caught(|| world.run());
    let trace: Vec<String> = world.trace.lines.iter().cloned().collect();
    let message_count = world.references.iter().map(|log| log.messages.len() as u64).sum();
    Report {
        digest: world.trace.digest,
        message_count,
        events: std::mem::take(&mut world.events),
        violation: result.err().map(|text| Violation {
            seed,
            text,
            test: "replay_merged",
            trace: trace.clone(),
        }),
        trace,
    }
}

impl World {
    fn new(seed: u64, broken: Option<Rule>, trace_lines: usize) -> World {
        let mut random = Random::new(seed);
        let mut scenario = Scenario::draw(&mut random, Continuity::Counted);
        if matches!(
            broken,
            Some(Rule::RowsBeforeRecord | Rule::ConsistentRead | Rule::LaterOwnerWins)
        ) {
            scenario.is_transactional = false;
        }
        scenario.step_count = scenario.step_count.min(2_000);
        let gives_up = broken.is_none() && random.chance(250);
        let weights: Vec<usize> = match random.below(4) {
            0 => vec![1, 1],
            1 => vec![5, 1],
            2 if gives_up => vec![3, 2, 0],
            _ => vec![2, 1, 1],
        };
        // Where lanes are given up, what is late does not follow from the logs alone, and a zombie
        // may judge otherwise: only a fence keeps it out.
        scenario.is_transactional |= gives_up;
        let junction = JunctionConfig {
            lane: scenario.lane.clone(),
            held_windows_max: if gives_up { 3 } else { 100_000 },
        };
        let names = (0..weights.len()).map(|number| number.to_string());
        let references = names.clone().map(|name| {
            let mut config = scenario.lane.rollup.clone();
            config.source_partition = name;
            Reference::new(&config)
        });
        let store = SimStore::new(scenario.is_transactional, true);
        World {
            broken,
            junction,
            references: references.collect(),
            partitions: names.map(Arc::from).collect(),
            producers: weights.iter().map(|_| Producer::new()).collect(),
            brokers: weights.iter().map(|_| Broker::new()).collect(),
            store,
            letters: check::Letters::new(),
            workers: (0..scenario.worker_count).map(|_| Worker::new(weights.len())).collect(),
            limbo: Vec::new(),
            notices: Vec::new(),
            session: 0,
            owner: None,
            now_ms: 0,
            store_down_until_ms: 0,
            is_quiet: false,
            has_ended: false,
            trace: Trace::new(trace_lines),
            events: BTreeMap::new(),
            shape: Shape { weights, gives_up },
            random,
            scenario,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        self.brokers.iter_mut().for_each(Broker::subscribe);
        for _ in 0..self.scenario.step_count {
            if self.random.chance(150) {
                self.produce();
            } else {
                self.step()?;
            }
        }
        self.finish()
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        let line = format!("{:>7} {}", self.now_ms, line());
        self.trace.push(line);
    }

    fn count(&mut self, event: &'static str) {
        *self.events.entry(event).or_insert(0) += 1;
    }

    fn breaks(&self, rule: Rule) -> bool {
        self.broken == Some(rule)
    }

    fn produce(&mut self) {
        let total = self.shape.weights.iter().sum();
        let mut drawn = self.random.below(total);
        let mut lane = 0;
        while drawn >= self.shape.weights[lane] {
            drawn -= self.shape.weights[lane];
            lane += 1;
        }
        let (entry, truths) = self.producers[lane].entry(&mut self.random, &self.scenario);
        let (position, count) = (entry.position, entry.messages.len());
        self.brokers[lane].entries.push(entry);
        truths.into_iter().for_each(|truth| self.references[lane].push(truth));
        self.note(|| format!("produced {lane}/{position:?} with {count}"));
    }

    /// Lets one thing happen that is no new message.
    fn step(&mut self) -> Result<(), String> {
        self.now_ms += self.random.next() % 300;
        let worker = self.random.below(self.workers.len());
        let lane = self.random.below(self.brokers.len());
        if self.random.chance(self.scenario.turmoil_per_mille) {
            match self.random.below(11) {
                0..3 => self.move_ownership(),
                3..5 => self.crash(worker),
                5 => self.crash_broker(lane),
                6 => self.drain(worker),
                7 => self.redeliver(lane),
                8 => self.lose_store(),
                _ => self.trim(lane),
            }
            return Ok(());
        }
        match self.random.below(1000) {
            0..30 => self.brokers[lane].persist_cursor(),
            30..60 => self.deliver_notice(),
            60..100 => self.arrive()?,
            100..170 => self.tick(worker)?,
            170..400 => self.deliver(lane)?,
            400..850 => match self.owner {
                Some(owner) => self.work(owner).map(drop)?,
                None => self.move_ownership(),
            },
            _ => self.work(worker).map(drop)?,
        }
        Ok(())
    }

    /// Gives all partitions to some worker; the old owner learns of it now, later, or never.
    fn move_ownership(&mut self) {
        let to = self.random.below(self.workers.len());
        let session = self.session;
        if let Some(old) = self.owner {
            self.count("ownership moved");
            match self.random.below(10) {
                0..4 => self.workers[old].control.push_back(Control::Revoked(session)),
                4..7 => self.notices.push((old, session)),
                _ => {
                    self.workers[old].is_connected = false;
                    self.notices.push((old, session));
                }
            }
        }
        self.assign(to);
    }

    fn assign(&mut self, worker: usize) {
        self.session += 1;
        self.owner = Some(worker);
        for broker in &mut self.brokers {
            broker.assign(worker);
        }
        self.workers[worker].control.push_back(Control::Assigned(self.session));
        let session = self.session;
        self.note(|| format!("session {session} for w{worker}"));
    }

    fn close_session(&mut self) {
        self.session += 1;
        self.owner = None;
        self.brokers.iter_mut().for_each(Broker::close_session);
    }

    fn crash(&mut self, worker: usize) {
        if self.workers[worker].is_idle() {
            return;
        }
        self.count("worker crashed");
        self.note(|| format!("w{worker} crashes"));
        self.workers[worker] = Worker::new(self.brokers.len());
        if self.owner == Some(worker) {
            self.close_session();
        }
    }

    fn crash_broker(&mut self, lane: usize) {
        self.count("broker crashed");
        self.note(|| format!("broker of {lane} crashes"));
        self.brokers[lane].crash();
        if let Some(owner) = self.owner {
            self.notices.push((owner, self.session));
        }
        self.workers.iter_mut().for_each(|worker| worker.is_connected = false);
        self.close_session();
    }

    fn lose_store(&mut self) {
        if self.scenario.is_noisy {
            self.count("store down");
            self.store_down_until_ms = self.now_ms + self.random.next() % 20_000;
        }
    }

    fn is_store_down(&self) -> bool {
        !self.is_quiet && self.now_ms < self.store_down_until_ms
    }

    fn redeliver(&mut self, lane: usize) {
        let broker = &mut self.brokers[lane];
        if broker.active.is_some() && broker.read > broker.mark {
            broker.read = broker.mark;
            self.count("redelivered");
        }
    }

    fn trim(&mut self, lane: usize) {
        let kept = if self.scenario.has_retention { 40 } else { 0 };
        if self.brokers[lane].trim(kept) {
            self.count("ledgers trimmed");
        }
    }

    fn deliver_notice(&mut self) {
        if !self.notices.is_empty() {
            let at = self.random.below(self.notices.len());
            let (worker, session) = self.notices.swap_remove(at);
            self.workers[worker].control.push_back(Control::Revoked(session));
        }
    }

    fn arrive(&mut self) -> Result<(), String> {
        if self.limbo.is_empty() {
            return Ok(());
        }
        let at = self.random.below(self.limbo.len());
        let pending = self.limbo.swap_remove(at);
        self.apply(&pending)
    }

    /// Hands the next entry of a partition to the owner.
    fn deliver(&mut self, lane: usize) -> Result<(), String> {
        let Some(owner) = self.owner else {
            return Ok(());
        };
        if self.workers[owner].entries[lane].len() >= INBOX_MAX {
            return Ok(());
        }
        match self.brokers[lane].peek(true) {
            None => {}
            Some(Next::Entry(at)) => {
                let session = self.session;
                self.workers[owner].entries[lane].push_back((session, at));
                self.brokers[lane].delivered(at);
            }
            Some(Next::Jumped(from)) => {
                self.count("jump over a ledger's end");
                self.brokers[lane].seek(from);
                self.close_session();
                self.assign(owner);
            }
        }
        Ok(())
    }
}

/// Sends of all sorts wait in line.
type Line<T> = VecDeque<T>;

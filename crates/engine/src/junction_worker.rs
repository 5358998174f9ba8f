//! The worker thread of a pipeline whose lanes are merged: all partitions, their waiting entries,
//! one junction.
//!
//! It begins when all partitions are assigned, and when one is lost it begins anew: what the
//! junction knows is then that of the record, for every lane.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tracing::{error, info, warn};

use crate::{
    error::LaneErrorKind,
    junction::{Action, Junction, JunctionConfig},
    memory::{Hold, Turn},
    metrics::Queued,
    record::{ALL_PARTITIONS, CommitRecord, LaneId},
    settings::Settings,
    window_log::utc,
    worker::{ToWorker, WorkerContext},
    writer::{Reply, Request, ToStore},
};

/// How often the junction learns the time.
const TICK: Duration = Duration::from_millis(100);

enum Waiting {
    Entry(Queued),
    End,
    /// The source cannot go on behind what waits before this.
    Failed(String),
}

/// Whose a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holding {
    /// Somebody else's, or nobody's.
    Away,
    /// This process's; nothing is delivered yet.
    Assigned,
    /// The junction reads it.
    Reading,
}

struct Place {
    holding: Holding,
    waiting: VecDeque<Waiting>,
    /// Credit that was not given back yet for want of memory.
    owed_credit: u32,
    has_ended: bool,
}

/// The worker of merged lanes.
pub(crate) struct JunctionWorker {
    context: WorkerContext,
    held_windows_max: usize,
    places: BTreeMap<Arc<str>, Place>,
    junction: Option<Junction>,
    /// Whether the record was asked for.
    is_loading: bool,
    /// Why the source cannot go on; told when all that it gave before is durable.
    failure: Option<String>,
    /// How often the source of each partition was sent back in vain; survives the junctions.
    seek_counts: BTreeMap<Arc<str>, u32>,
    /// The name that commits of all lanes go by.
    whole: Arc<str>,
    epoch: u64,
    dropped: Arc<AtomicBool>,
    started_at: Instant,
    has_failed: bool,
    stopping: bool,
}

impl JunctionWorker {
    pub(crate) fn new(context: WorkerContext, held_windows_max: usize) -> JunctionWorker {
        JunctionWorker {
            context,
            held_windows_max,
            places: BTreeMap::new(),
            junction: None,
            is_loading: false,
            failure: None,
            seek_counts: BTreeMap::new(),
            whole: ALL_PARTITIONS.into(),
            epoch: 0,
            dropped: Arc::default(),
            started_at: Instant::now(),
            has_failed: false,
            stopping: false,
        }
    }

    /// Runs until told to end and all is durable, or given up.
    pub(crate) fn run(mut self, events: &Receiver<ToWorker>) {
        let mut ticked_at = Instant::now();
        while !self.is_done() {
            match events.recv_timeout(TICK) {
                Ok(event) => self.handle(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if ticked_at.elapsed() >= TICK {
                ticked_at = Instant::now();
                self.tick();
                self.work();
            }
        }
        self.note_status();
    }

    fn tick(&mut self) {
        let waiting: Vec<Arc<str>> = self
            .places
            .iter()
            .filter(|(_, place)| !place.waiting.is_empty())
            .map(|(partition, _)| partition.clone())
            .collect();
        let waits = |partition: &str| waiting.iter().any(|name| **name == *partition);
        self.with_junction(|junction, now_ms, actions| junction.tick(now_ms, waits, actions));
        self.note_memory();
        let partitions: Vec<Arc<str>> = self.places.keys().cloned().collect();
        partitions.iter().for_each(|partition| self.give_credit(partition, 0));
        self.note_status();
    }

    fn is_done(&self) -> bool {
        let ended = || self.places.values().all(|place| place.has_ended);
        let settled = match &self.junction {
            Some(junction) => junction.is_settled() && (junction.is_stopped() || ended()),
            None => self.has_failed || self.places.is_empty(),
        };
        self.stopping && (settled || self.context.give_up.load(Relaxed))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn handle(&mut self, event: ToWorker) {
        match event {
            ToWorker::Partitions(partitions) => {
                for partition in partitions {
                    self.places.entry(partition).or_insert_with(|| Place {
                        holding: Holding::Away,
                        waiting: VecDeque::new(),
                        owed_credit: 0,
                        has_ended: false,
                    });
                }
            }
            ToWorker::Assigned(partition) => self.assign(&partition),
            ToWorker::Revoked(partition) => {
                info!(%partition, "partition revoked");
                self.set(&partition, Holding::Away);
                self.begin_anew();
                self.context.metrics.remove_lane(&partition);
            }
            ToWorker::Entry(partition, entry) => {
                // What comes before the junction reads is not meant for it.
                self.wait(&partition, Waiting::Entry(entry));
                self.work_at(&partition);
            }
            ToWorker::End(partition) => {
                self.wait(&partition, Waiting::End);
                self.work_at(&partition);
            }
            ToWorker::Failed(partition, text) => {
                if self.junction.as_ref().is_some_and(Junction::is_running) {
                    self.wait(&partition, Waiting::Failed(text));
                    self.work_at(&partition);
                } else {
                    self.fail_all(&format!("partition {partition:?}: {text}"));
                }
            }
            ToWorker::Store { epoch, answer, .. } if epoch == self.epoch => {
                match *answer {
                    Reply::Loaded(Ok(record)) => self.start(record.map(|record| *record)),
                    Reply::Loaded(Err(error)) => self.fail_all(&error.to_string()),
                    // Nobody looks: merged rows are not amended.
                    Reply::Looked(_) => {}
                    Reply::Committed { outcome, commit, closed, hold: _hold } => {
                        if outcome.is_ok() {
                            self.context.count_commit(&self.whole, &commit, &closed);
                        }
                        self.with_junction(|junction, _, actions| {
                            junction.committed(outcome, actions);
                        });
                        self.fail_if_settled();
                    }
                }
                self.work();
            }
            ToWorker::Store { .. } => {}
            ToWorker::Reload(reload) => self.reload(&reload.settings),
            ToWorker::Finish => self.stopping = true,
            ToWorker::Drain => {
                self.stopping = true;
                self.places.values_mut().for_each(|place| place.waiting.clear());
                self.with_junction(|junction, now_ms, actions| junction.drain(now_ms, actions));
                self.has_failed |= self.junction.is_none();
            }
        }
    }

    fn reload(&mut self, settings: &Settings) {
        self.context.adopt(settings);
        let now_ms = self.now_ms();
        if let Some(junction) = &mut self.junction {
            junction.reload(&settings.lane, now_ms);
        }
    }

    fn wait(&mut self, partition: &Arc<str>, waiting: Waiting) {
        let place = self.places.get_mut(partition);
        if let Some(place) = place.filter(|place| place.holding == Holding::Reading) {
            place.waiting.push_back(waiting);
        }
    }

    fn set(&mut self, partition: &Arc<str>, holding: Holding) {
        if let Some(place) = self.places.get_mut(partition) {
            place.holding = holding;
            place.waiting.clear();
            place.owed_credit = 0;
            place.has_ended = false;
        }
    }

    fn assign(&mut self, partition: &Arc<str>) {
        let was_read =
            self.places.get(partition).is_some_and(|place| place.holding == Holding::Reading);
        self.set(partition, Holding::Assigned);
        if was_read {
            self.begin_anew();
        }
        if self.junction.as_ref().is_some_and(Junction::is_running) {
            info!(%partition, "one more partition");
            self.set(partition, Holding::Reading);
            self.with_junction(|junction, now_ms, actions| {
                junction.add(partition, now_ms, actions);
            });
        }
        self.load_if_complete();
    }

    /// Drops the junction; partitions that it read have to be assigned again, so that they are read
    /// again from where the record says.
    fn begin_anew(&mut self) {
        self.dropped.store(true, Relaxed);
        self.junction = None;
        self.is_loading = false;
        self.epoch += 1;
        let read = self.places.iter().filter(|(_, place)| place.holding == Holding::Reading);
        let read: Vec<Arc<str>> = read.map(|(partition, _)| partition.clone()).collect();
        for partition in read {
            self.set(&partition, Holding::Away);
            self.context.metrics.remove_lane(&partition);
            self.context.control.assign_again(&partition);
        }
    }

    fn load_if_complete(&mut self) {
        let complete = self.places.values().all(|place| place.holding == Holding::Assigned);
        if !complete || self.is_loading || self.junction.is_some() || self.has_failed {
            return;
        }
        self.is_loading = true;
        self.epoch += 1;
        self.dropped = Arc::default();
        let pipeline = &self.context.lane.rollup.pipeline;
        self.request(Request::Load(LaneId::new(pipeline, ALL_PARTITIONS)));
    }

    fn request(&self, request: Request) {
        // The writer ends only after all workers have.
        let _ = self.context.store.send(ToStore {
            request,
            partition: self.whole.clone(),
            epoch: self.epoch,
            dropped: self.dropped.clone(),
            reply: self.context.own.clone(),
        });
    }

    fn start(&mut self, record: Option<CommitRecord>) {
        if !std::mem::take(&mut self.is_loading) {
            return;
        }
        let ordinal = record.as_ref().map_or(0, |record| record.ordinal);
        info!(partitions = self.places.len(), ordinal, "merged lanes start");
        let partitions: Vec<Arc<str>> = self.places.keys().cloned().collect();
        let config = JunctionConfig {
            lane: self.context.lane.clone(),
            held_windows_max: self.held_windows_max,
        };
        let writer = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0) >> 1;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seeks = |partition: &str| self.seek_counts.get(partition).copied().unwrap_or(0);
        let junction = Junction::new(config, writer, unix.as_secs(), &partitions, seeks);
        self.junction = Some(junction);
        partitions.iter().for_each(|partition| self.set(partition, Holding::Reading));
        self.with_junction(|junction, now_ms, actions| junction.start(record, now_ms, actions));
    }

    /// Gives waiting entries of all partitions to the junction as long as it takes them.
    fn work(&mut self) {
        let partitions: Vec<Arc<str>> = self.places.keys().cloned().collect();
        partitions.iter().for_each(|partition| self.work_at(partition));
    }

    fn work_at(&mut self, partition: &Arc<str>) {
        loop {
            let (Some(place), Some(junction)) =
                (self.places.get_mut(partition), self.junction.as_ref())
            else {
                return;
            };
            let takes_entry = matches!(place.waiting.front(), Some(Waiting::Entry(_)));
            if !junction.accepts(partition) || (takes_entry && !self.has_room()) {
                return;
            }
            let (Some(place), Some(junction)) =
                (self.places.get_mut(partition), self.junction.as_ref())
            else {
                return;
            };
            match place.waiting.pop_front() {
                None => return,
                Some(Waiting::Entry(queued)) => {
                    let entry = &queued.entry;
                    let before = junction.ledger(partition).messages;
                    self.with_junction(|junction, now_ms, actions| {
                        junction.take(partition, entry, now_ms, actions);
                    });
                    let after = self.junction.as_ref().map(|j| j.ledger(partition).messages);
                    let fresh = after.unwrap_or(before).saturating_sub(before);
                    self.context.count_entry(partition, fresh, entry);
                    let credit = entry.credit;
                    drop(queued);
                    self.note_memory();
                    self.give_credit(partition, credit);
                }
                Some(Waiting::End) => {
                    place.has_ended = true;
                    self.with_junction(|junction, now_ms, actions| {
                        junction.end(partition, now_ms, actions);
                    });
                }
                Some(Waiting::Failed(text)) => {
                    self.failure = Some(format!("partition {partition:?}: {text}"));
                    self.with_junction(|junction, now_ms, actions| {
                        junction.drain(now_ms, actions);
                    });
                    self.fail_if_settled();
                }
            }
        }
    }

    fn note_memory(&self) {
        let bytes = self.junction.as_ref().map_or(0, Junction::memory_bytes);
        self.context.metrics.memory.note_lane(&self.whole, bytes);
    }

    /// Returns whether there is memory for an entry; stops where there never will be.
    fn has_room(&mut self) -> bool {
        match self.context.metrics.memory.turn(&self.whole) {
            Turn::Take => true,
            Turn::Wait => false,
            Turn::Stop { open } => {
                let max = self.context.metrics.memory.max();
                self.with_junction(|junction, now_ms, actions| {
                    if !junction.commit_letters(now_ms, actions) {
                        junction.fail(LaneErrorKind::Memory { open, max }, actions);
                    }
                });
                self.note_memory();
                false
            }
        }
    }

    /// Gives credit back, or keeps it until there is room.
    fn give_credit(&mut self, partition: &Arc<str>, credit: u32) {
        let memory = &self.context.metrics.memory;
        let Some(place) = self.places.get_mut(partition) else {
            return;
        };
        if memory.is_full() {
            memory.waits.fetch_add(u64::from(credit > 0), Relaxed);
            place.owed_credit = place.owed_credit.saturating_add(credit);
        } else {
            let credit = credit.saturating_add(std::mem::take(&mut place.owed_credit));
            if credit > 0 {
                self.context.control.credit(partition, credit);
            }
        }
    }

    /// Stops all lanes if the source of one cannot go on, once all that it gave is durable.
    fn fail_if_settled(&mut self) {
        if self.junction.as_ref().is_some_and(Junction::is_settled)
            && let Some(text) = self.failure.take()
        {
            self.with_junction(|junction, _, actions| {
                junction.fail(LaneErrorKind::Source(text), actions);
            });
        }
    }

    /// Lets the junction act and performs what it asks for.
    fn with_junction(&mut self, act: impl FnOnce(&mut Junction, u64, &mut Vec<Action>)) {
        let now_ms = self.now_ms();
        let Some(junction) = self.junction.as_mut() else {
            return;
        };
        let mut actions = Vec::new();
        act(junction, now_ms, &mut actions);
        for partition in self.places.keys() {
            self.seek_counts.insert(partition.clone(), junction.seek_count(partition));
        }
        let saturated = junction.take_saturated_count();
        self.context.metrics.saturated.fetch_add(saturated, Relaxed);
        for action in actions {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Read { partition, from, seek } => {
                self.context.control.read_from(&partition, from, seek);
                if seek {
                    warn!(%partition, ?from, "entries are missing, going back");
                    // The source assigns this one again by itself.
                    self.set(&partition, Holding::Away);
                    self.begin_anew();
                }
            }
            Action::Commit { commit, closed } => {
                let hold = Hold::commit(&commit, &self.context.metrics);
                self.request(Request::Commit { commit, closed, hold });
            }
            Action::Acknowledge { partition, through } => {
                self.context.control.acknowledge(&partition, through);
            }
            Action::Silent { partitions, until_ms } => warn!(
                ?partitions,
                until = %utc(until_ms),
                "partitions are silent while others wait for them, their windows are closed"
            ),
            Action::Failed(failure) => self.fail_all(&failure.to_string()),
        }
    }

    fn fail_all(&mut self, failure: &str) {
        error!(failure, "merged lanes stopped");
        self.has_failed = true;
        self.junction = None;
        self.note_memory();
        self.dropped.store(true, Relaxed);
        for (partition, place) in &mut self.places {
            place.waiting.clear();
            self.context.metrics.update_lane(partition, |status| {
                status.failure = Some(failure.to_owned());
                status.running = false;
            });
        }
    }

    fn note_status(&self) {
        let Some(junction) = &self.junction else {
            return;
        };
        for partition in self.places.keys() {
            self.context.metrics.update_lane(partition, |status| {
                status.ledger = junction.ledger(partition);
                status.watermark_ms = junction.watermark_ms(partition);
                status.running = junction.is_running();
            });
        }
    }
}

//! A worker thread: some lanes, their waiting entries, and the performing of their actions.
//!
//! Entries wait here while a lane waits for its store; the credit of a source bounds how many.
//! One lane that has stopped, or waits, does not hold up the others.

mod reload;
mod room;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use tidemill_kernel::rollup::Timing;
use tracing::{error, info, warn};

use crate::{
    error::LaneErrorKind,
    key_homes::KeyHomes,
    lane::{Action, Lane, LaneConfig},
    memory::Hold,
    metrics::{Metrics, Queued},
    port::SourceControl,
    record::CommitRecord,
    settings::{Reload, Settings},
    writer::{Reply, Request, ToStore},
};

/// How often lanes learn the time.
const TICK: Duration = Duration::from_millis(100);

/// What a worker is told.
pub(crate) enum ToWorker {
    /// These partitions there are; all of them, before any other event, where lanes are merged.
    Partitions(Vec<Arc<str>>),
    Assigned(Arc<str>),
    Revoked(Arc<str>),
    Entry(Arc<str>, Queued),
    End(Arc<str>),
    Failed(Arc<str>, String),
    Store {
        partition: Arc<str>,
        epoch: u64,
        answer: Box<Reply>,
    },
    /// Do otherwise from now on.
    Reload(Reload),
    /// Process what waits, then end.
    Finish,
    /// Take a last snapshot of every lane, then end.
    Drain,
}

/// What a worker shares with its surroundings.
pub(crate) struct WorkerContext {
    pub(crate) lane: LaneConfig,
    pub(crate) control: Arc<dyn SourceControl>,
    pub(crate) store: Sender<ToStore>,
    pub(crate) own: Sender<ToWorker>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) log_windows: bool,
    /// Where the devices of all workers were seen.
    pub(crate) key_homes: Arc<KeyHomes>,
    /// Set when a drain has run out of time.
    pub(crate) give_up: Arc<AtomicBool>,
}

impl WorkerContext {
    /// Takes other settings over, for lanes that are yet to begin.
    pub(crate) fn adopt(&mut self, settings: &Settings) {
        self.lane.adopt(&settings.lane);
        self.log_windows = settings.log_windows;
    }
}

enum Waiting {
    Entry(Queued),
    End,
    /// The source cannot go on behind what waits before this.
    Failed(String),
}

struct Place {
    lane: Lane,
    waiting: VecDeque<Waiting>,
    /// Credit that was not given back yet for want of memory.
    owed_credit: u32,
    /// Whether the lane waits for memory.
    waits_for_room: bool,
    epoch: u64,
    dropped: Arc<AtomicBool>,
    ended: bool,
    /// Why the source cannot go on; told when all that it gave before is durable.
    failure: Option<String>,
    absence: Absence,
}

/// Whether it is sure that no record exists. Between the first look and the first entry another
/// owner may have begun the lane, so a second look decides (rule 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absence {
    Unconfirmed,
    Asked,
    Confirmed,
}

/// A worker with its lanes.
pub(crate) struct Worker {
    context: WorkerContext,
    places: BTreeMap<Arc<str>, Place>,
    /// How often the source of each partition was sent back in vain; survives the lanes.
    seek_counts: BTreeMap<Arc<str>, u32>,
    /// Values of time that this process went by before.
    earlier: Vec<Timing>,
    started_at: Instant,
    epoch: u64,
    random: u64,
    stopping: bool,
}

impl Worker {
    pub(crate) fn new(context: WorkerContext) -> Worker {
        Worker {
            context,
            places: BTreeMap::new(),
            seek_counts: BTreeMap::new(),
            earlier: Vec::new(),
            started_at: Instant::now(),
            epoch: 0,
            random: std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0),
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
                let partitions: Vec<_> = self.places.keys().cloned().collect();
                for partition in &partitions {
                    self.with_lane(partition, |lane, now_ms, actions| lane.tick(now_ms, actions));
                    self.make_room(partition);
                    self.note_status(partition);
                }
            }
        }
        let partitions: Vec<_> = self.places.keys().cloned().collect();
        partitions.iter().for_each(|partition| self.note_status(partition));
    }

    fn is_done(&self) -> bool {
        let settled = self
            .places
            .values()
            .all(|place| place.lane.is_settled() && (place.lane.is_stopped() || place.ended));
        self.stopping && (settled || self.context.give_up.load(Relaxed))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn handle(&mut self, event: ToWorker) {
        match event {
            ToWorker::Partitions(_) => {}
            ToWorker::Assigned(partition) => self.assign(&partition),
            ToWorker::Revoked(partition) => {
                if let Some(place) = self.places.get(&partition) {
                    place.dropped.store(true, Relaxed);
                    info!(%partition, "partition revoked");
                }
                self.places.remove(&partition);
                self.context.metrics.remove_lane(&partition);
                self.context.metrics.memory.forget_lane(&partition);
            }
            ToWorker::Entry(partition, entry) => {
                if let Some(place) = self.places.get_mut(&partition) {
                    place.waiting.push_back(Waiting::Entry(entry));
                }
                self.work(&partition);
            }
            ToWorker::End(partition) => {
                if let Some(place) = self.places.get_mut(&partition) {
                    place.waiting.push_back(Waiting::End);
                }
                self.work(&partition);
            }
            ToWorker::Failed(partition, text) => {
                match self.places.get_mut(&partition) {
                    Some(place) if place.lane.is_running() => {
                        place.waiting.push_back(Waiting::Failed(text));
                    }
                    _ => self.with_lane(&partition, |lane, _, actions| {
                        lane.fail(LaneErrorKind::Source(text), actions);
                    }),
                }
                self.work(&partition);
            }
            ToWorker::Store { partition, epoch, answer } => {
                self.answer(&partition, epoch, *answer);
                self.work(&partition);
            }
            ToWorker::Reload(reload) => self.reload(&reload),
            ToWorker::Finish => self.stopping = true,
            ToWorker::Drain => {
                self.stopping = true;
                let partitions: Vec<_> = self.places.keys().cloned().collect();
                for partition in partitions {
                    if let Some(place) = self.places.get_mut(&partition) {
                        place.waiting.clear();
                    }
                    self.with_lane(&partition, |lane, now, actions| lane.drain(now, actions));
                }
            }
        }
    }

    fn assign(&mut self, partition: &Arc<str>) {
        if let Some(place) = self.places.get(partition) {
            place.dropped.store(true, Relaxed);
        }
        let seek_count = self.seek_counts.get(partition).copied().unwrap_or(0);
        self.epoch += 1;
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut config = self.context.lane.clone();
        config.rollup.source_partition = partition.to_string();
        let mut lane = Lane::new(config, self.random >> 1, seek_count);
        lane.know_earlier(&self.earlier);
        let request = Request::Load(lane.id().clone());
        let place = Place {
            lane,
            waiting: VecDeque::new(),
            owed_credit: 0,
            waits_for_room: false,
            epoch: self.epoch,
            dropped: Arc::new(AtomicBool::new(false)),
            ended: false,
            failure: None,
            absence: Absence::Unconfirmed,
        };
        self.places.insert(partition.clone(), place);
        self.context.metrics.update_lane(partition, |status| status.failure = None);
        self.request(partition, request);
    }

    fn request(&self, partition: &Arc<str>, request: Request) {
        let Some(place) = self.places.get(partition) else {
            return;
        };
        // The writer ends only after all workers have.
        let _ = self.context.store.send(ToStore {
            request,
            partition: partition.clone(),
            epoch: place.epoch,
            dropped: place.dropped.clone(),
            reply: self.context.own.clone(),
        });
    }

    fn answer(&mut self, partition: &Arc<str>, epoch: u64, answer: Reply) {
        if self.places.get(partition).is_none_or(|place| place.epoch != epoch) {
            return;
        }
        match answer {
            Reply::Loaded(Ok(record)) => self.loaded(partition, record.map(|record| *record)),
            Reply::Loaded(Err(error)) => {
                let kind = LaneErrorKind::Refused(error.to_string());
                self.with_lane(partition, |lane, _, actions| lane.fail(kind, actions));
            }
            Reply::Looked(found) => {
                self.with_lane(partition, |lane, _, actions| lane.looked(found, actions));
            }
            Reply::Committed { outcome, commit, closed, hold: _hold } => {
                if outcome.is_ok() {
                    self.context.count_commit(partition, &commit, &closed);
                    self.context.note_homes(partition, &commit);
                }
                self.with_lane(partition, |lane, _, actions| lane.committed(outcome, actions));
                self.fail_if_settled(partition);
            }
        }
    }

    /// Starts a lane from its record, or believes at the second look that there is none.
    fn loaded(&mut self, partition: &Arc<str>, record: Option<CommitRecord>) {
        let Some(place) = self.places.get_mut(partition) else {
            return;
        };
        if place.absence == Absence::Asked {
            place.absence = Absence::Confirmed;
            if record.is_none() {
                return;
            }
            warn!(%partition, "another process has begun this lane, starting from its record");
        }
        if place.lane.is_stopped() {
            return;
        }
        let ordinal = record.as_ref().map_or(0, |record| record.ordinal);
        info!(%partition, ordinal, "lane starts");
        self.with_lane(partition, |lane, now, actions| lane.start(record, now, actions));
    }

    /// Gives waiting entries to a lane as long as it takes them.
    fn work(&mut self, partition: &Arc<str>) {
        while let Some(place) = self.places.get_mut(partition) {
            if !place.lane.accepts() {
                return;
            }
            if place.lane.is_unborn() && !place.waiting.is_empty() {
                match place.absence {
                    Absence::Confirmed => {}
                    Absence::Asked => return,
                    Absence::Unconfirmed => {
                        place.absence = Absence::Asked;
                        let request = Request::Load(place.lane.id().clone());
                        self.request(partition, request);
                        return;
                    }
                }
            }
            if !self.has_room(partition) {
                return;
            }
            let Some(place) = self.places.get_mut(partition) else {
                return;
            };
            match place.waiting.pop_front() {
                None => return,
                Some(Waiting::Entry(queued)) => {
                    let entry = &queued.entry;
                    let before = place.lane.ledger().messages;
                    self.with_lane(partition, |lane, now, actions| lane.take(entry, now, actions));
                    let after =
                        self.places.get(partition).map(|place| place.lane.ledger().messages);
                    self.context.count_entry(partition, after.unwrap_or(before) - before, entry);
                    let credit = entry.credit;
                    drop(queued);
                    self.give_credit(partition, credit);
                }
                Some(Waiting::End) => {
                    place.ended = true;
                    self.with_lane(partition, |lane, now, actions| lane.end(now, actions));
                }
                Some(Waiting::Failed(text)) => {
                    place.failure = Some(text);
                    self.with_lane(partition, |lane, now, actions| lane.drain(now, actions));
                    self.fail_if_settled(partition);
                }
            }
        }
    }

    /// Stops a lane whose source cannot go on, once all that it gave is durable.
    fn fail_if_settled(&mut self, partition: &Arc<str>) {
        let place = self.places.get_mut(partition).filter(|place| place.lane.is_settled());
        if let Some(text) = place.and_then(|place| place.failure.take()) {
            self.with_lane(partition, |lane, _, actions| {
                lane.fail(LaneErrorKind::Source(text), actions);
            });
        }
    }

    fn note_status(&self, partition: &Arc<str>) {
        let Some(place) = self.places.get(partition) else {
            return;
        };
        self.context.metrics.update_lane(partition, |status| {
            status.ledger = place.lane.ledger();
            status.watermark_ms = place.lane.watermark_ms();
            status.running = place.lane.is_running();
        });
    }

    /// Lets a lane act and performs what it asks for.
    fn with_lane(
        &mut self,
        partition: &Arc<str>,
        act: impl FnOnce(&mut Lane, u64, &mut Vec<Action>),
    ) {
        let now_ms = self.now_ms();
        let Some(place) = self.places.get_mut(partition) else {
            return;
        };
        let mut actions = Vec::new();
        act(&mut place.lane, now_ms, &mut actions);
        let seek_count = place.lane.seek_count();
        self.seek_counts.insert(partition.clone(), seek_count);
        let saturated = place.lane.take_saturated_count();
        self.context.metrics.saturated.fetch_add(saturated, Relaxed);
        let late = place.lane.take_late_counts();
        self.context.metrics.late_merged.fetch_add(late.merged, Relaxed);
        self.context.metrics.rows_amended.fetch_add(late.rows, Relaxed);
        for action in actions {
            self.perform(partition, action);
        }
    }

    fn perform(&mut self, partition: &Arc<str>, action: Action) {
        match action {
            Action::Read { from, seek } => {
                if seek {
                    warn!(%partition, ?from, "entries are missing, going back");
                }
                self.context.control.read_from(partition, from, seek);
            }
            Action::Look { keys } => {
                let lane = self.places.get(partition).map(|place| place.lane.id().clone());
                if let Some(lane) = lane {
                    self.request(partition, Request::Look { lane, keys });
                }
            }
            Action::Commit { commit, closed } => {
                let hold = Hold::commit(&commit, &self.context.metrics);
                self.request(partition, Request::Commit { commit, closed, hold });
            }
            Action::Acknowledge(through) => self.context.control.acknowledge(partition, through),
            Action::Failed(failure) => {
                error!(%partition, %failure, "lane stopped");
                if let Some(place) = self.places.get_mut(partition) {
                    place.dropped.store(true, Relaxed);
                    place.waiting.clear();
                    place.lane.forget_windows();
                }
                self.context.metrics.memory.forget_lane(partition);
                self.context.metrics.update_lane(partition, |status| {
                    status.failure = Some(failure.to_string());
                    status.running = false;
                });
            }
        }
    }
}

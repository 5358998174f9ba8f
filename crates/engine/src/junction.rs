//! All lanes of a pipeline together, for topics whose partitions know nothing of devices: a row is
//! merged from the windows of every lane (`routing = "any"`, rule 15).
//!
//! Each lane decides by its own messages what is late and when it closes a window. A window is
//! merged once all lanes have closed it. Rows, letters of all lanes and one record for all of them
//! make a commit, so what the lanes have done is durable together or not at all. Like a lane it is
//! a machine without clock, threads and connections.

mod merge;
mod record;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use foldhash::fast::FixedState;
use tidemill_kernel::{effect::ClosedWindow, event::Position};

use crate::{
    error::{LaneError, LaneErrorKind},
    lane::{self, Lane, LaneConfig},
    ledger::Ledger,
    port::{Commit, Entry, StoreError},
    record::{ALL_PARTITIONS, CommitId, CommitRecord, LaneId, TURN_COMMITS_BITS},
    settings::LaneSettings,
};
use merge::Merged;

/// What a junction needs to know.
#[derive(Clone, Debug)]
pub struct JunctionConfig {
    /// The configuration of each lane; the junction gives them their partitions.
    pub lane: LaneConfig,
    /// Closed windows of a lane that may wait for other lanes. A lane with so many takes nothing
    /// more, until the others have caught up or count as silent.
    pub held_windows_max: usize,
}

/// What the surroundings are asked to do, in this order.
#[derive(Clone, Debug)]
pub enum Action {
    /// Deliver a partition from here, as [`lane::Action::Read`]. After one with `seek` the
    /// junction is done for, and starts anew when all partitions are assigned again.
    Read {
        /// The partition.
        partition: Arc<str>,
        /// The first position that is needed; `None`: wherever the source begins.
        from: Option<Position>,
        /// Whether the source must go back.
        seek: bool,
    },
    /// Write to the store, one after the other.
    Commit {
        /// What to write.
        commit: Box<Commit>,
        /// The windows that were merged with it.
        closed: Vec<ClosedWindow>,
    },
    /// Acknowledge a partition up to and with this entry.
    Acknowledge {
        /// The partition.
        partition: Arc<str>,
        /// The entry.
        through: Position,
    },
    /// Tell the operator: these partitions were silent while another one could not go on, so their
    /// windows were closed for them.
    Silent {
        /// The partitions.
        partitions: Vec<Arc<str>>,
        /// All their windows that end at or before this instant (ms) are closed.
        until_ms: i64,
    },
    /// The junction has stopped.
    Failed(LaneError),
}

/// A lane with what the others need to know of it.
#[derive(Debug)]
struct Strand {
    lane: Lane,
    /// Its part of the newest commit.
    part: Option<CommitRecord>,
    /// When it last had anything to take.
    busy_at_ms: u64,
}

/// The lanes of a pipeline whose rows need all of them.
#[derive(Debug)]
pub struct Junction {
    id: LaneId,
    config: JunctionConfig,
    hasher: FixedState,
    strands: BTreeMap<Arc<str>, Strand>,
    /// Parts of lanes that the source no longer has; nothing of them is open.
    retired: Vec<CommitRecord>,
    merged_until_ms: i64,
    writer: u64,
    commit_number: u64,
    /// The turn of the last commit, or above what the first one has to be.
    turn: u64,
    previous: Option<CommitId>,
    /// For each commit in flight: which lanes have a part in it.
    pending: VecDeque<Vec<Arc<str>>>,
    committed_at_ms: u64,
    emitted_at_ms: u64,
    /// How many messages were in the rows of a window when it was last emitted early.
    emitted: BTreeMap<i64, u64>,
    saturated_count: u64,
    is_running: bool,
    is_stopped: bool,
}

impl Junction {
    /// Returns a junction of these partitions that waits for its record. `writer` is a random
    /// number for this ownership; `begun_at_s` is when it began, by the clock that all hosts share:
    /// what a process that lost the partitions still has on its way must not be taken for newer
    /// than what is committed here. `seek_count` tells what [`Junction::seek_count`] of its
    /// predecessor in this process said.
    pub fn new(
        config: JunctionConfig,
        writer: u64,
        begun_at_s: u64,
        partitions: &[Arc<str>],
        seek_count: impl Fn(&str) -> u32,
    ) -> Junction {
        let mut junction = Junction {
            id: LaneId::new(&config.lane.rollup.pipeline, ALL_PARTITIONS),
            hasher: FixedState::with_seed(config.lane.rollup.hash_seed),
            config,
            strands: BTreeMap::new(),
            retired: Vec::new(),
            merged_until_ms: i64::MIN,
            writer,
            commit_number: 0,
            turn: begun_at_s << TURN_COMMITS_BITS,
            previous: None,
            pending: VecDeque::new(),
            committed_at_ms: 0,
            emitted_at_ms: 0,
            emitted: BTreeMap::new(),
            saturated_count: 0,
            is_running: false,
            is_stopped: false,
        };
        for partition in partitions {
            let count = seek_count(partition);
            junction.insert(partition, partitions.len(), count);
        }
        junction
    }

    fn insert(&mut self, partition: &Arc<str>, lane_count: usize, seek_count: u32) {
        let mut config = self.config.lane.clone();
        config.rollup.source_partition = partition.to_string();
        // A commit holds the letters of all lanes.
        config.letters_per_commit_max = config.letters_per_commit_max.div_ceil(lane_count.max(1));
        let lane = Lane::new(config, self.writer, seek_count);
        self.strands.insert(partition.clone(), Strand { lane, part: None, busy_at_ms: 0 });
    }

    /// Goes by other settings. Those of time must be the old ones: an edge is a lane's own.
    pub(crate) fn reload(&mut self, settings: &LaneSettings, now_ms: u64) {
        self.config.lane.adopt(settings);
        let lane_count = self.strands.len().max(1);
        let letters_per_commit_max = settings.letters_per_commit_max.div_ceil(lane_count);
        let own = LaneSettings { letters_per_commit_max, ..*settings };
        for strand in self.strands.values_mut() {
            strand.lane.reload(&own, now_ms, &mut Vec::new());
        }
    }

    /// Returns the identity of the record.
    pub fn id(&self) -> &LaneId {
        &self.id
    }

    /// Returns where the messages of a partition went so far.
    pub fn ledger(&self, partition: &str) -> Ledger {
        self.strands.get(partition).map_or_else(Ledger::default, |strand| strand.lane.ledger())
    }

    /// Returns the watermark of a partition in ms, once there was an event.
    pub fn watermark_ms(&self, partition: &str) -> Option<i64> {
        self.strands.get(partition)?.lane.watermark_ms()
    }

    /// Returns how many closed windows of a partition wait for other lanes.
    pub fn held_window_count(&self, partition: &str) -> usize {
        self.strands.get(partition).map_or(0, Strand::held_count)
    }

    /// Returns about how many bytes the windows and letters of all lanes take.
    pub fn memory_bytes(&self) -> u64 {
        self.strands.values().map(|strand| strand.lane.memory_bytes()).sum()
    }

    /// Returns how often the source of a partition was sent back for a gap without a good entry
    /// since.
    pub fn seek_count(&self, partition: &str) -> u32 {
        self.strands.get(partition).map_or(0, |strand| strand.lane.seek_count())
    }

    /// Returns whether an entry of a partition would be taken now; if not, it has to wait for
    /// commits or for the other lanes.
    pub fn accepts(&self, partition: &str) -> bool {
        self.has_room()
            && self.strands.get(partition).is_some_and(|strand| {
                let has_place = strand.held_count() < self.config.held_windows_max;
                // What it has to read again was within the bound before.
                strand.lane.accepts() && (has_place || strand.lane.is_replaying())
            })
    }

    fn has_room(&self) -> bool {
        self.is_running()
            && !self.is_stopped
            && self.pending.len() < self.config.lane.commits_in_flight_max
    }

    /// Returns whether it reads.
    pub fn is_running(&self) -> bool {
        self.is_running && !self.is_stopped
    }

    /// Returns whether it has stopped for good.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Returns whether it reads and nothing was ever committed.
    pub fn is_unborn(&self) -> bool {
        self.is_running() && self.commit_number == 0
    }

    /// Returns whether all that was taken is durable.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// Returns how many sums were saturated since the last call.
    pub fn take_saturated_count(&mut self) -> u64 {
        std::mem::take(&mut self.saturated_count)
    }

    /// Continues all lanes from the stored record, or begins where none exists.
    pub fn start(&mut self, record: Option<CommitRecord>, now_ms: u64, actions: &mut Vec<Action>) {
        self.committed_at_ms = now_ms;
        self.emitted_at_ms = now_ms;
        self.is_running = true;
        let mut parts = Vec::new();
        if let Some(record) = record {
            self.commit_number = record.id.number;
            self.previous = Some(record.id);
            self.turn = self.turn.max(record.turn);
            self.merged_until_ms = record.closed_until_ms;
            parts = record.lanes;
        }
        for part in parts {
            match self.strands.get_mut(&part.lane.partition) {
                Some(strand) => strand.part = Some(part),
                None if part.ledger.open == 0 => self.retired.push(part),
                None => {
                    let open = part.ledger.open;
                    return self.stop(part.lane, LaneErrorKind::PartitionGone { open }, actions);
                }
            }
        }
        let partitions: Vec<Arc<str>> = self.strands.keys().cloned().collect();
        for partition in partitions {
            self.begin(&partition, now_ms, actions);
        }
    }

    /// Adds a partition that was not there before.
    pub fn add(&mut self, partition: &Arc<str>, now_ms: u64, actions: &mut Vec<Action>) {
        self.insert(partition, self.strands.len() + 1, 0);
        let known = self.retired.iter().position(|part| part.lane.partition == *partition);
        let part = known.map(|at| self.retired.remove(at));
        if let Some(strand) = self.strands.get_mut(partition) {
            strand.part = part;
        }
        self.begin(partition, now_ms, actions);
    }

    fn begin(&mut self, partition: &Arc<str>, now_ms: u64, actions: &mut Vec<Action>) {
        let merged_until_ms = self.merged_until_ms;
        self.with_lane(partition, now_ms, actions, |strand, own| {
            strand.busy_at_ms = now_ms;
            strand.lane.start_holding(strand.part.clone(), merged_until_ms, now_ms, own);
        });
    }

    /// Takes an entry of a partition in.
    pub fn take(
        &mut self,
        partition: &Arc<str>,
        entry: &Entry,
        now_ms: u64,
        actions: &mut Vec<Action>,
    ) {
        if !self.is_running() {
            return;
        }
        self.with_lane(partition, now_ms, actions, |strand, own| {
            strand.busy_at_ms = now_ms;
            strand.lane.take(entry, now_ms, own);
        });
        self.merge_if_due(now_ms, actions);
    }

    /// Lets time pass. `waits` tells whether entries of a partition wait to be taken.
    pub fn tick(&mut self, now_ms: u64, waits: impl Fn(&str) -> bool, actions: &mut Vec<Action>) {
        for (_, strand) in self.strands.iter_mut().filter(|(partition, _)| waits(partition)) {
            strand.busy_at_ms = now_ms;
        }
        if !self.has_room() || self.is_replaying() {
            return;
        }
        self.close_for_the_silent(now_ms, actions);
        self.merge_if_due(now_ms, actions);
        let early = self.emit_early(now_ms);
        let read = self.strands.values().any(|strand| strand.lane.has_news());
        let waited_ms = now_ms.saturating_sub(self.committed_at_ms);
        let due = read && waited_ms >= self.config.lane.commit_interval_ms;
        if !early.is_empty() || due {
            let merged = Merged { rows: early, closed: Vec::new() };
            self.snapshot_all(merged, now_ms, actions);
        }
    }

    /// Commits the letters that lanes hold before that is due; returns whether there were any.
    pub(crate) fn commit_letters(&mut self, now_ms: u64, actions: &mut Vec<Action>) -> bool {
        let partitions: Vec<_> = self.strands.keys().cloned().collect();
        let mut any = false;
        for partition in &partitions {
            self.with_lane(partition, now_ms, actions, |strand, own| {
                any |= strand.lane.commit_letters(now_ms, own);
            });
        }
        any
    }

    /// Ends a finite partition: it closes all its windows.
    pub fn end(&mut self, partition: &Arc<str>, now_ms: u64, actions: &mut Vec<Action>) {
        if self.is_running() {
            self.with_lane(partition, now_ms, actions, |strand, own| strand.lane.end(now_ms, own));
            self.merge_if_due(now_ms, actions);
        }
    }

    /// Takes a last snapshot if anything was read, and takes nothing more.
    pub fn drain(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        if self.is_running() && self.strands.values().any(|strand| strand.lane.has_news()) {
            self.snapshot_all(Merged::default(), now_ms, actions);
        }
        self.is_stopped = true;
    }

    /// Learns what became of the oldest commit in flight.
    pub fn committed(&mut self, outcome: Result<(), StoreError>, actions: &mut Vec<Action>) {
        let Some(partitions) = self.pending.pop_front() else {
            return;
        };
        let kind = match outcome {
            Ok(()) => {
                for partition in partitions {
                    self.acknowledge(&partition, actions);
                }
                return;
            }
            Err(error @ StoreError::Fenced { .. }) => LaneErrorKind::Fenced(error.to_string()),
            Err(StoreError::Refused(text) | StoreError::Retry(text)) => {
                LaneErrorKind::Refused(text)
            }
        };
        self.fail(kind, actions);
    }

    fn acknowledge(&mut self, partition: &Arc<str>, actions: &mut Vec<Action>) {
        let mut own = Vec::new();
        if let Some(strand) = self.strands.get_mut(partition) {
            strand.lane.committed(Ok(()), &mut own);
        }
        actions.extend(own.into_iter().filter_map(|action| match action {
            lane::Action::Acknowledge(through) => {
                Some(Action::Acknowledge { partition: partition.clone(), through })
            }
            _ => None,
        }));
    }

    /// Stops all lanes: what is in flight is no longer waited for.
    pub fn fail(&mut self, kind: LaneErrorKind, actions: &mut Vec<Action>) {
        self.stop(self.id.clone(), kind, actions);
    }

    fn stop(&mut self, lane: LaneId, kind: LaneErrorKind, actions: &mut Vec<Action>) {
        self.is_stopped = true;
        self.pending.clear();
        actions.push(Action::Failed(LaneError { lane, kind }));
    }

    /// Lets a lane act. A commit of its own (its birth, many letters) becomes one of all lanes, in
    /// which the others are as they were.
    fn with_lane(
        &mut self,
        partition: &Arc<str>,
        now_ms: u64,
        actions: &mut Vec<Action>,
        act: impl FnOnce(&mut Strand, &mut Vec<lane::Action>),
    ) {
        let Some(strand) = self.strands.get_mut(partition) else {
            return;
        };
        let mut own = Vec::new();
        act(strand, &mut own);
        self.saturated_count += strand.lane.take_saturated_count();
        for action in own {
            match action {
                lane::Action::Read { from, seek } => {
                    if seek {
                        self.is_stopped = true;
                        self.pending.clear();
                    }
                    actions.push(Action::Read { partition: partition.clone(), from, seek });
                }
                lane::Action::Look { .. } => {
                    unreachable!("rows that are merged from several lanes are not amended")
                }
                lane::Action::Commit { commit, .. } => {
                    self.push_commit(vec![*commit], Merged::default(), now_ms, actions);
                }
                lane::Action::Acknowledge(through) => {
                    actions.push(Action::Acknowledge { partition: partition.clone(), through });
                }
                lane::Action::Failed(LaneError { lane, kind }) => self.stop(lane, kind, actions),
            }
        }
    }

    fn is_replaying(&self) -> bool {
        self.strands.values().any(|strand| strand.lane.is_replaying())
    }

    /// Merges what all lanes have closed, if anything, into a commit.
    fn merge_if_due(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        if self.is_stopped || self.is_replaying() {
            return;
        }
        match self.merge_closed() {
            Ok(Some(merged)) => self.snapshot_all(merged, now_ms, actions),
            Ok(None) => {}
            Err(kind) => self.fail(kind, actions),
        }
    }
}

impl Strand {
    fn held_count(&self) -> usize {
        let closed_until_ms = self.lane.closed_until_ms();
        let is_held = |end_ms: i64| end_ms <= closed_until_ms;
        self.lane.rollup().unmerged().filter(|window| is_held(window.end_ms())).count()
    }
}

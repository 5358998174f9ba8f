//! One partition's processing as a deterministic machine: entries, times and commit outcomes go
//! in, actions come out.
//!
//! It holds the commit protocol's rules for one lane (birth, restart, gap check, snapshots, what
//! may be acknowledged). It reads no clock, opens no connection and starts no thread: the pipeline
//! and the simulator perform its actions. Times are milliseconds of any steady clock.

use std::{collections::VecDeque, sync::Arc};

use tidemill_decode::{DecodeLimits, JsonDecoder};
use tidemill_kernel::{
    amend::{Amender, LatePolicy},
    effect::{ClosedWindow, Effects, Letter},
    event::{EventBlock, Position, Reason},
    rollup::{Progress, Rollup, RollupConfig},
};

use crate::{
    cursor::{Cursor, Verdict},
    error::{LaneError, LaneErrorKind},
    ledger::Ledger,
    letter::dead_letter,
    port::{Commit, Continuity, DeadLetter, Entry, RawMessage, RowKey},
    record::{CommitId, CommitRecord, LaneId},
};

mod commits;
mod held;
mod reload;
mod room;

pub use commits::LateCounts;
use commits::{Draft, LateMessage, Pending};

/// Messages decoded and folded together. Blocks this small stay in the second-level cache.
const BLOCK_MESSAGES: usize = 256;

/// What a lane needs to know, beside the roll-up's own configuration.
#[derive(Clone, Debug)]
pub struct LaneConfig {
    /// Windows, lateness, aggregates, limits; pipeline and partition name the lane.
    pub rollup: RollupConfig,
    /// Limits of decoding.
    pub decode: DecodeLimits,
    /// Settings that decide what a row means, as sorted `key=value` lines.
    pub fingerprint: Arc<str>,
    /// How entries follow each other.
    pub continuity: Continuity,
    /// A snapshot is taken this long after the last one if anything was read.
    pub commit_interval_ms: u64,
    /// Open windows are emitted when the watermark stood still this long.
    pub idle_timeout_ms: u64,
    /// Commits that may wait for the store; a lane with so many takes no further entry.
    pub commits_in_flight_max: usize,
    /// Letters that force a snapshot.
    pub letters_per_commit_max: usize,
    /// Payload bytes kept of a dead letter.
    pub dead_letter_bytes_max: usize,
}

/// What the surroundings are asked to do, in this order.
#[derive(Clone, Debug)]
pub enum Action {
    /// Deliver from here; see [`crate::port::SourceControl::read_from`]. With `seek` the lane is
    /// done for: the source assigns the partition again and a new lane starts from the record.
    Read {
        /// The first position that is needed; `None`: wherever the source begins.
        from: Option<Position>,
        /// Whether the source must go back.
        seek: bool,
    },
    /// Write to the store; commits of a lane strictly one after the other.
    Commit {
        /// What to write.
        commit: Box<Commit>,
        /// The windows that closed with it.
        closed: Vec<ClosedWindow>,
    },
    /// Read what is stored of these rows of the lane, behind all commits asked for so far, and tell
    /// it by [`Lane::looked`].
    Look {
        /// Each once.
        keys: Vec<RowKey>,
    },
    /// Acknowledge up to and with this entry.
    Acknowledge(Position),
    /// The lane has stopped.
    Failed(LaneError),
}

/// Where a lane is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waits for its record.
    Loading,
    /// Reads.
    Running,
    /// Will take nothing more.
    Stopped,
}

/// The processing of one partition.
#[derive(Debug)]
pub struct Lane {
    id: LaneId,
    config: LaneConfig,
    rollup: Rollup,
    decoder: JsonDecoder,
    block: EventBlock,
    effects: Effects,
    letters: Vec<DeadLetter>,
    /// Late messages that are to correct rows.
    late: Vec<LateMessage>,
    late_counts: LateCounts,
    /// Merges them; none where late messages are letters.
    amender: Option<Box<Amender>>,
    phase: Phase,
    writer: u64,
    commit_number: u64,
    previous: Option<CommitId>,
    /// Snapshots that are not sent yet, behind those in `pending`.
    drafts: VecDeque<Draft>,
    pending: VecDeque<Pending>,
    birth: Option<Position>,
    birth_ordinal: u64,
    birth_generation: u32,
    cursor: Cursor,
    committed_at_ms: u64,
    committed_ordinal: u64,
    watermark_moved_at_ms: u64,
    watermark_seen_ms: i64,
    /// Up to when windows are merged, where a row needs several lanes.
    merged_until_ms: Option<i64>,
    has_ended: bool,
    reloads: reload::Reloads,
}

impl Lane {
    /// Returns a lane that waits for its record. `writer` is a random number for this ownership;
    /// `seek_count` is what [`Lane::seek_count`] of its predecessor in this process said, else 0.
    pub fn new(config: LaneConfig, writer: u64, seek_count: u32) -> Lane {
        let cursor = Cursor::new(config.continuity, seek_count);
        let schema = config.rollup.plan.schema().clone();
        let rollup = &config.rollup;
        let config_generation = rollup.generation;
        let amends = rollup.late == LatePolicy::Amend;
        let amender = amends.then(|| Box::new(Amender::new(rollup.clone())));
        Lane {
            id: LaneId::new(&rollup.pipeline, &rollup.source_partition),
            rollup: Rollup::new(rollup.clone(), &Progress::BIRTH),
            decoder: JsonDecoder::new(schema.clone(), config.decode),
            block: EventBlock::new(&schema),
            config,
            effects: Effects::default(),
            letters: Vec::new(),
            late: Vec::new(),
            late_counts: LateCounts::default(),
            amender,
            phase: Phase::Loading,
            writer,
            commit_number: 0,
            previous: None,
            drafts: VecDeque::new(),
            pending: VecDeque::new(),
            birth: None,
            birth_ordinal: 0,
            birth_generation: config_generation,
            cursor,
            committed_at_ms: 0,
            committed_ordinal: 0,
            watermark_moved_at_ms: 0,
            watermark_seen_ms: i64::MIN,
            merged_until_ms: None,
            has_ended: false,
            reloads: reload::Reloads::default(),
        }
    }

    /// Returns the lane's identity.
    pub fn id(&self) -> &LaneId {
        &self.id
    }

    /// Returns where its messages went so far, committed or not.
    pub fn ledger(&self) -> Ledger {
        self.rollup.progress().ledger
    }

    /// Returns the watermark in ms, once there was an event.
    pub fn watermark_ms(&self) -> Option<i64> {
        self.rollup.watermark().value_ms()
    }

    /// Returns how many windows are open.
    pub fn open_window_count(&self) -> usize {
        self.rollup.windows().len()
    }

    /// Returns whether an entry would be taken now; if not, it has to wait for commits.
    pub fn accepts(&self) -> bool {
        let in_flight = self.pending.len() + self.drafts.len();
        let has_place = in_flight < self.config.commits_in_flight_max;
        self.phase == Phase::Running && has_place && self.reloads.awaited.is_none()
    }

    /// Returns whether the lane reads.
    pub fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Returns how many sums were saturated since the last call.
    pub fn take_saturated_count(&mut self) -> u64 {
        std::mem::take(&mut self.effects.saturated_count)
    }

    /// Returns whether the lane has stopped for good.
    pub fn is_stopped(&self) -> bool {
        self.phase == Phase::Stopped
    }

    /// Returns how often the source was sent back for a gap without a good entry since.
    pub fn seek_count(&self) -> u32 {
        self.cursor.seek_count()
    }

    /// Returns whether the lane reads and has no record yet: nothing of it was ever committed.
    pub fn is_unborn(&self) -> bool {
        self.phase == Phase::Running && self.commit_number == 0
    }

    /// Returns whether all that was taken is durable.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.drafts.is_empty()
    }

    /// Continues from the stored record, or begins where none exists (rules 2 to 4). A lane that
    /// was stopped while the record was asked for stays so: it has taken nothing.
    pub fn start(&mut self, record: Option<CommitRecord>, now_ms: u64, actions: &mut Vec<Action>) {
        if self.phase == Phase::Stopped {
            return;
        }
        self.committed_at_ms = now_ms;
        self.watermark_moved_at_ms = now_ms;
        self.phase = Phase::Running;
        let Some(record) = record else {
            self.rollup = self.rollup_at(&Progress::BIRTH, Vec::new());
            self.reloads.is_alone = true;
            actions.push(Action::Read { from: None, seek: false });
            return;
        };
        let (timing, changes) = match self.check_record(&record) {
            Ok(timing) => timing,
            Err(kind) => return self.fail(kind, actions),
        };
        self.commit_number = record.id.number;
        self.previous = Some(record.id);
        self.birth = record.birth;
        self.birth_ordinal = record.birth_ordinal;
        self.birth_generation = record.birth_generation;
        self.committed_ordinal = record.ordinal;
        // In a birth record the resume position is the first entry, and nothing is open.
        let open = record.processed.and(record.resume);
        let progress = Progress {
            ordinal: record.ordinal,
            closed_until_ms: record.closed_until_ms,
            highest_event_time_ms: record.highest_event_time_ms,
            processed: record.processed,
            resume: open,
            ledger: record.ledger,
        };
        self.rollup = self.rollup_at(&progress, record.closings.clone());
        self.rollup.restore_timing(timing, changes);
        self.watermark_seen_ms = record.highest_event_time_ms;
        self.cursor.restore(&record);
        actions.push(Action::Read { from: self.cursor.from(), seek: false });
    }

    /// Takes an entry in. Repeats are dropped; a jump sends the source back once, then stops the
    /// lane (rule 5).
    pub fn take(&mut self, entry: &Entry, now_ms: u64, actions: &mut Vec<Action>) {
        if self.phase != Phase::Running || !self.is_expected(entry, actions) {
            return;
        }
        let fresh = self.first_fresh(entry);
        if !self.begin_if_unborn(entry, fresh, actions) {
            return;
        }
        let messages = &entry.messages[fresh..];
        for (index, chunk) in messages.chunks(BLOCK_MESSAGES).enumerate() {
            self.block.clear();
            self.decoder.decode_all(&entry.buffer, chunk, &mut self.block);
            if let Err(error) = self.rollup.step(&self.block, &mut self.effects) {
                self.fail(error.into(), actions);
                return;
            }
            self.address_letters(entry, chunk);
            let rest = messages.get((index + 1) * BLOCK_MESSAGES).map(|message| message.position);
            self.cursor.processed(entry.position, rest);
            if self.letters.len() + self.late.len() >= self.config.letters_per_commit_max {
                self.snapshot(now_ms, actions);
            }
        }
        self.cursor.processed(entry.position, None);
        self.note_watermark(now_ms);
        if !self.effects.closed.is_empty() || !self.effects.rows.is_empty() {
            self.reloads.is_alone |= !self.effects.closed.is_empty();
            self.snapshot(now_ms, actions);
        }
    }

    /// Returns the index of the entry's first message that is no repeat.
    fn first_fresh(&self, entry: &Entry) -> usize {
        let processed = self.rollup.progress().processed;
        let fresh = |message: &RawMessage| match self.cursor.replay_from() {
            Some(from) if self.rollup.is_replaying() => message.position >= from,
            _ => processed.is_none_or(|processed| message.position > processed),
        };
        entry.messages.iter().position(fresh).unwrap_or(entry.messages.len())
    }

    /// Returns whether the entry is the next one; answers a jump.
    fn is_expected(&mut self, entry: &Entry, actions: &mut Vec<Action>) -> bool {
        let found = entry.position;
        match self.cursor.judge(found) {
            Verdict::Next => return true,
            Verdict::Repeat => {}
            Verdict::GoBack(to) => {
                self.phase = Phase::Stopped;
                self.forget_commits();
                actions.push(Action::Read { from: Some(to), seek: true });
            }
            Verdict::Gap { expected, from_next } => {
                self.fail(LaneErrorKind::Gap { expected, found, from_next }, actions);
            }
        }
        false
    }

    /// The first entry ever, or the first since a reset: a birth record goes before anything else
    /// (rule 2). Returns false for an entry that the lane cannot begin with.
    fn begin_if_unborn(&mut self, entry: &Entry, fresh: usize, actions: &mut Vec<Action>) -> bool {
        if self.birth.is_some() {
            return true;
        }
        // Behind an accepted loss, the entry may be one that is processed, or half of it.
        let first = match (entry.messages.get(fresh), self.rollup.progress().processed) {
            (Some(message), Some(_)) => message.position,
            (None, Some(_)) => return false,
            (_, None) => entry.position,
        };
        self.birth = Some(first);
        let birth = Progress { resume: Some(first), ..self.rollup.progress() };
        self.push_commit(birth, None, actions);
        true
    }

    /// Turns the kernel's letters of this block into dead letters with their payloads.
    fn address_letters(&mut self, entry: &Entry, messages: &[RawMessage]) {
        for letter in self.effects.letters.drain(..) {
            let message = &messages[letter.index];
            self.letters.push(dead_letter(&self.config, &self.block, entry, message, letter));
        }
        for event in self.effects.late.drain(..) {
            let message = &messages[event.index];
            let (index, position, ordinal) = (event.index, event.position, event.ordinal);
            let letter = Letter { index, position, ordinal, reason: Reason::Late };
            let letter = dead_letter(&self.config, &self.block, entry, message, letter);
            self.late.push(LateMessage { event, letter });
        }
    }

    fn note_watermark(&mut self, now_ms: u64) {
        let highest = self.rollup.progress().highest_event_time_ms;
        if highest != self.watermark_seen_ms {
            self.watermark_seen_ms = highest;
            self.watermark_moved_at_ms = now_ms;
        }
    }

    /// Lets time pass: takes the periodic snapshot, emits open windows of an idle lane (rule 9).
    pub fn tick(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        if !self.accepts() || self.rollup.is_replaying() {
            return;
        }
        self.settle_timing(now_ms, actions);
        if self.is_quiet(now_ms) {
            self.rollup.emit_open(&mut self.effects);
            self.watermark_moved_at_ms = now_ms;
        }
        let read = self.rollup.progress().ordinal > self.committed_ordinal;
        let due = now_ms.saturating_sub(self.committed_at_ms) >= self.config.commit_interval_ms;
        if !self.effects.rows.is_empty() || (read && due) {
            self.snapshot(now_ms, actions);
        }
    }

    /// Ends a finite input: closes all windows.
    pub fn end(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        if self.phase != Phase::Running {
            return;
        }
        if let Err(error) = self.rollup.finish(&mut self.effects) {
            self.fail(error.into(), actions);
            return;
        }
        self.has_ended = true;
        self.drain(now_ms, actions);
    }

    /// Takes a last snapshot if anything was read, and takes nothing more. Windows stay open: the
    /// next owner rebuilds them.
    pub fn drain(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let read = self.rollup.progress().ordinal > self.committed_ordinal;
        let writes = !self.effects.rows.is_empty() || !self.effects.closed.is_empty();
        if self.phase == Phase::Running && !self.rollup.is_replaying() && (read || writes) {
            self.snapshot(now_ms, actions);
        }
        self.phase = Phase::Stopped;
    }
}

//! A lane's roll-up: blocks of messages in log order go in, effects come out.
//!
//! Everything follows from the messages and the configuration: the same log gives the same rows,
//! letters and progress, wherever blocks are cut. The roll-up does not know how it is stored; it
//! tells its [`Progress`] and can be continued from one.

use alloc::{string::String, sync::Arc, vec::Vec};

use foldhash::fast::FixedState;

use crate::{
    amend::LatePolicy,
    effect::{ClosedWindow, Effects, Letter},
    event::{EventBlock, Message, Position, Reason},
    held::{Closing, Held},
    ledger::Ledger,
    plan::Plan,
    row::KeptRows,
    time::{DurationMs, Timestamp, WindowGrid},
    watermark::Watermark,
    window::{Finality, Lineage, Window, reuse::WindowMemory},
};

mod ahead;
mod late;
mod progress;
mod timing;

use ahead::Ahead;
use late::Amending;
pub use progress::{GENERATION_MAX, ORDINAL_BITS, ORDINAL_MAX, Progress, ReplayError, revision};
pub use timing::{Change, Timing, open_windows_max};

/// The most windows a configuration may hold open at once.
pub const OPEN_WINDOWS_MAX: i64 = 1_000;

/// What decides the rows of a lane.
#[derive(Clone, Debug)]
pub struct RollupConfig {
    /// What is kept of the messages.
    pub plan: Arc<Plan>,
    /// The windows.
    pub grid: WindowGrid,
    /// How far events may be behind the highest event time without being late.
    pub max_out_of_orderness: DurationMs,
    /// How much longer a window stays open for stragglers.
    pub allowed_lateness: DurationMs,
    /// What becomes of events whose window is closed.
    pub late: LatePolicy,
    /// How far an event may be ahead of its message's publish time.
    pub max_future_skew: DurationMs,
    /// The most keys of one window; messages of further keys are rejected.
    pub devices_max: usize,
    /// The most rows of one piece.
    pub piece_rows_max: usize,
    /// Raised by the operator to change what a row means.
    pub generation: u32,
    /// Lineage written into the rows.
    pub pipeline: String,
    /// Lineage written into the rows.
    pub source_partition: String,
    /// Seed of the key tables: random in a process, fixed in tests. No result depends on it.
    pub hash_seed: u64,
}

/// The roll-up of one lane.
#[derive(Clone, Debug)]
pub struct Rollup {
    config: RollupConfig,
    hasher: FixedState,
    watermark: Watermark,
    /// Open windows, oldest first.
    windows: Vec<Window>,
    ordinal: u64,
    processed: Option<Position>,
    ledger: Ledger,
    /// While reading again what a record covers: its last position, and what was folded so far.
    replay: Option<(Position, u64)>,
    /// Where closed windows wait to be merged with those of other lanes; else they become rows.
    held: Option<Held>,
    /// Where late messages correct rows; else they become letters.
    amending: Option<Amending>,
    /// Memory for the rows of the next window that closes.
    kept: KeptRows,
    /// Memory for the next window that opens.
    spare: Option<WindowMemory>,
    /// Other values for later windows; `config` has those of the oldest.
    changes: Vec<Change>,
    /// Memory for what is found ahead in a block.
    ahead: Ahead,
}

impl Rollup {
    /// Returns the roll-up of a lane that continues from `progress`.
    ///
    /// If `progress` has open windows, messages from its resume position on are to be stepped
    /// again; up to the processed position they only rebuild the open windows.
    pub fn new(config: RollupConfig, progress: &Progress) -> Rollup {
        assert!(progress.ledger.balances(), "ledger of a record: {:?}", progress.ledger);
        let mut watermark =
            Watermark::new(config.grid, config.max_out_of_orderness, config.allowed_lateness);
        watermark.restore(progress.highest_event_time_ms, progress.closed_until_ms);
        let replay = match (progress.resume, progress.processed) {
            (Some(_), Some(processed)) => Some((processed, 0)),
            _ => None,
        };
        Rollup {
            hasher: FixedState::with_seed(config.hash_seed),
            amending: Amending::of(&config),
            config,
            watermark,
            windows: Vec::new(),
            ordinal: progress.ordinal,
            processed: progress.processed,
            ledger: progress.ledger,
            replay,
            held: None,
            kept: KeptRows::default(),
            spare: None,
            changes: Vec::new(),
            ahead: Ahead::default(),
        }
    }

    /// Returns the roll-up of a lane whose closed windows do not become rows: they are held until
    /// [`Rollup::release`] takes them. All windows up to `merged_until_ms` are; `closings` are
    /// those beyond it.
    ///
    /// # Panics
    /// If late messages are to amend rows, which are not this lane's own.
    pub fn holding(
        config: RollupConfig,
        progress: &Progress,
        merged_until_ms: i64,
        closings: Vec<Closing>,
    ) -> Rollup {
        assert!(config.late == LatePolicy::DeadLetter, "merged rows are not amended");
        let mut rollup = Rollup::new(config, progress);
        rollup.watermark.close_until(merged_until_ms);
        rollup.held = Some(Held::new(merged_until_ms, closings));
        rollup
    }

    /// Returns how far the lane is. While it reads again, that is what the record said, but for
    /// the resume position.
    pub fn progress(&self) -> Progress {
        Progress {
            ordinal: self.ordinal,
            closed_until_ms: self.watermark.closed_until_ms(),
            highest_event_time_ms: self.watermark.highest_event_time_ms(),
            processed: self.processed,
            resume: self.unmerged().map(Window::first_position).min(),
            ledger: self.ledger,
        }
    }

    /// Returns whether the lane still reads again what its record covers.
    pub fn is_replaying(&self) -> bool {
        self.replay.is_some()
    }

    /// Returns the watermark.
    pub fn watermark(&self) -> &Watermark {
        &self.watermark
    }

    /// Returns the open windows, oldest first.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Returns the windows that are in no final row: those that are held and those that are open.
    pub fn unmerged(&self) -> impl Iterator<Item = &Window> {
        self.held.iter().flat_map(Held::windows).chain(&self.windows)
    }

    /// Returns the closings beyond what is merged; none if closed windows become rows at once.
    pub fn closings(&self) -> &[Closing] {
        self.held.as_ref().map_or(&[], Held::closings)
    }

    /// Returns how many messages had been processed when the window that ends then was closed; if
    /// it is open, how many are now.
    pub fn ordinal_of(&self, window_end_ms: i64) -> u64 {
        let closing = self.held.as_ref().and_then(|held| held.closing_of(window_end_ms));
        closing.map_or(self.ordinal, |closing| closing.ordinal)
    }

    /// Closes all windows up to an instant, whatever was seen. The caller has to make that durable
    /// before anything that follows from it.
    pub fn close_until(&mut self, edge_ms: i64, effects: &mut Effects) {
        if self.watermark.close_until(edge_ms) {
            self.close_windows(effects);
        }
    }

    /// Gives out the windows held up to an instant; their messages now count as aggregated.
    pub fn release(&mut self, until_ms: i64) -> Vec<Window> {
        let held = self.held.as_mut().expect("only a roll-up that holds windows releases them");
        let windows = held.release(until_ms);
        let count: u64 = windows.iter().map(Window::message_count).sum();
        self.ledger.open -= count;
        self.ledger.aggregated += count;
        windows
    }

    /// Processes a block of messages in log order. Letters name messages of this block.
    ///
    /// # Errors
    /// If the log that was read again is not the one the record speaks of.
    pub fn step(&mut self, block: &EventBlock, effects: &mut Effects) -> Result<(), ReplayError> {
        let mut index = self.step_replay(block)?;
        let mut ahead = core::mem::take(&mut self.ahead);
        self.look_ahead(block, index..block.len(), &mut ahead);
        while index < block.len() {
            index += self.step_run(block, index, &mut ahead);
            if index < block.len() {
                self.step_message(block, index, ahead.guess(index), effects);
                index += 1;
            }
        }
        self.ahead = ahead;
        assert!(self.ledger.balances(), "ledger: {:?}", self.ledger);
        Ok(())
    }

    fn step_message(
        &mut self,
        block: &EventBlock,
        index: usize,
        guess: Option<usize>,
        effects: &mut Effects,
    ) {
        let message = block.message(index);
        let position = message.position();
        self.ordinal += 1;
        self.processed = Some(position);
        self.ledger.messages += 1;
        if let Err(reason) = self.take(&message, guess, effects) {
            if reason == Reason::Late && self.take_late(&message, index, effects) {
                return;
            }
            let late = reason == Reason::Late;
            self.ledger.late += u64::from(late);
            self.ledger.rejected += u64::from(!late);
            effects.letters.push(Letter { index, position, ordinal: self.ordinal, reason });
        }
    }

    /// Folds messages that the record covers; returns the index of the first that it does not.
    fn step_replay(&mut self, block: &EventBlock) -> Result<usize, ReplayError> {
        let Some((processed, mut folded)) = self.replay else {
            return Ok(0);
        };
        let mut index = 0;
        while index < block.len() && block.message(index).position() <= processed {
            let message = block.message(index);
            folded += u64::from(self.fold_again(&message));
            index += 1;
        }
        let reached = |index: usize| block.message(index).position() == processed;
        let ended = index < block.len() || index.checked_sub(1).is_some_and(reached);
        self.replay = Some((processed, folded));
        if ended && folded != self.ledger.open {
            // The replay never ends then, so nothing of a wrong state can leave.
            return Err(ReplayError { processed, expected: self.ledger.open, found: folded });
        }
        if ended {
            self.replay = None;
            let count = self.closed_count();
            if let Some(held) = &mut self.held {
                held.restore(self.windows.drain(..count));
            }
        }
        Ok(index)
    }

    /// Folds a message that the record covers, unless it was refused or is in a row.
    fn fold_again(&mut self, message: &Message<'_>) -> bool {
        if self.was_beyond(message) {
            return false;
        }
        if let (Some(held), None) = (&self.held, message.reject()) {
            let end_ms = self.config.grid.window_end(message.time());
            if held.was_closed(end_ms, message.position()) {
                return false;
            }
        }
        self.admit(message).is_ok_and(|at| self.fold(at, message, None))
    }

    /// Folds a message and closes what its time closes, or tells why it is refused.
    #[inline]
    fn take(
        &mut self,
        message: &Message<'_>,
        guess: Option<usize>,
        effects: &mut Effects,
    ) -> Result<(), Reason> {
        let at = self.admit(message)?;
        if !self.fold(at, message, guess) {
            return Err(Reason::DeviceLimit);
        }
        self.ledger.open += 1;
        if self.watermark.observe(message.time()) {
            self.pass_edges();
            self.close_windows(effects);
        }
        if self.amending.is_some() {
            self.emit_passed(effects);
        }
        Ok(())
    }

    /// Returns the place of the open window of a message, a new one if need be, or why the message
    /// is refused.
    #[inline]
    fn admit(&mut self, message: &Message<'_>) -> Result<usize, Reason> {
        if let Some(reason) = message.reject() {
            return Err(reason);
        }
        let time = message.time();
        let skew = self.max_future_skew_at(time);
        let latest = message.publish_time_ms().saturating_add(skew.as_ms());
        if time.as_ms() > latest {
            return Err(Reason::Future);
        }
        // An open window is never a closed one, so only the first message of a window divides.
        if let Some(at) = self.find_open(time) {
            return Ok(at);
        }
        let end_ms = self.config.grid.window_end(time);
        if self.is_closed(end_ms) {
            return Err(Reason::Late);
        }
        let at = self.windows.partition_point(|window| window.end_ms() < end_ms);
        let window = Window::new(self.config.grid, end_ms, message.position());
        self.windows.insert(at, window.with_memory(self.spare.take().unwrap_or_default()));
        Ok(at)
    }

    fn is_closed(&self, window_end_ms: i64) -> bool {
        match (&self.held, self.replay) {
            // What is held is rebuilt as well.
            (Some(held), Some(_)) => window_end_ms <= held.merged_until_ms(),
            _ => self.watermark.is_closed(window_end_ms),
        }
    }

    /// Returns the place of the open window that a time belongs to: nearly always the newest one
    /// or the one before it.
    #[inline]
    fn find_open(&self, time: Timestamp) -> Option<usize> {
        self.windows.iter().rposition(|window| window.contains(time))
    }

    #[inline]
    fn fold(&mut self, at: usize, message: &Message<'_>, guess: Option<usize>) -> bool {
        let config = &self.config;
        self.windows[at].fold_guessed(
            &config.plan,
            &self.hasher,
            config.devices_max,
            message,
            guess,
        )
    }

    /// Returns how many of `windows` are closed: the first ones.
    fn closed_count(&self) -> usize {
        self.windows.partition_point(|window| self.watermark.is_closed(window.end_ms()))
    }

    fn close_windows(&mut self, effects: &mut Effects) {
        let count = self.closed_count();
        let windows = self.windows.drain(..count);
        if let Some(held) = &mut self.held {
            let until_ms = self.watermark.closed_until_ms();
            let closing = Closing { until_ms, ordinal: self.ordinal, processed: self.processed };
            return held.close(closing, windows);
        }
        for mut window in windows.collect::<Vec<_>>() {
            let first_piece = effects.rows.len();
            if self.amending.is_some() {
                // Rows that were provisional become final.
                window.forget_emissions();
            }
            self.emit(&mut window, Finality::Final, effects);
            self.ledger.open -= window.message_count();
            self.ledger.aggregated += window.message_count();
            effects.closed.push(ClosedWindow {
                end_ms: window.end_ms(),
                device_count: window.device_count(),
                message_count: window.message_count(),
                first_piece,
                piece_count: effects.rows.len() - first_piece,
            });
            match &mut self.amending {
                Some(amending) => amending.keep(window),
                None => self.spare = Some(window.into_memory()),
            }
        }
    }

    fn emit(&mut self, window: &mut Window, finality: Finality, effects: &mut Effects) {
        let lineage = Lineage {
            pipeline: &self.config.pipeline,
            source_partition: &self.config.source_partition,
            revision: revision(self.config.generation, self.ordinal),
            finality,
        };
        let (plan, most) = (&self.config.plan, self.config.piece_rows_max);
        let (first, rows) = (effects.rows.len(), &mut effects.rows);
        effects.saturated_count += window.emit_kept(plan, lineage, most, rows, &mut self.kept);
        if finality == Finality::Final {
            self.kept.keep(&effects.rows[first..]);
        }
    }

    /// Emits the open windows as they stand and keeps them open: what an idle lane does. Rows that
    /// have not changed since their last emission are left out. Nothing where windows are held: a
    /// row needs all lanes.
    pub fn emit_open(&mut self, effects: &mut Effects) {
        if self.is_replaying() || self.held.is_some() {
            return;
        }
        let mut windows = core::mem::take(&mut self.windows);
        for window in &mut windows {
            self.emit(window, Finality::Provisional, effects);
        }
        self.windows = windows;
    }

    /// Returns how many bytes of memory are kept for windows to come and their rows, beside those
    /// that somebody still has.
    pub fn kept_bytes(&self) -> usize {
        self.kept.memory_bytes() + self.spare.as_ref().map_or(0, WindowMemory::memory_bytes)
    }

    /// Gives that memory back. The next window that closes leaves some again.
    pub fn give_back(&mut self) {
        self.kept = KeptRows::default();
        self.spare = None;
    }

    /// Closes all windows: the end of a finite input.
    ///
    /// # Errors
    /// If the input ended while it was still read again: messages are gone.
    pub fn finish(&mut self, effects: &mut Effects) -> Result<(), ReplayError> {
        if let Some((processed, found)) = self.replay {
            return Err(ReplayError { processed, expected: self.ledger.open, found });
        }
        if let Some(newest) = self.windows.last().map(Window::end_ms) {
            self.watermark.close_until(newest);
            self.pass_edges();
            self.close_windows(effects);
        }
        Ok(())
    }
}

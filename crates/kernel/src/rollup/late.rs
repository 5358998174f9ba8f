//! What a roll-up does where late messages correct rows.
//!
//! A window's rows are written when the watermark passes its end, again when it closes, and a late
//! message changes its device's row alone: in memory if the window closed since the last snapshot,
//! else by way of what is stored ([`crate::amend`]). Late messages move no watermark and open no
//! window.

use alloc::vec::Vec;

use super::{Rollup, RollupConfig};
use crate::{
    amend::LatePolicy,
    effect::{Effects, LateEvent},
    event::{Message, Position},
    partial,
    time::DurationMs,
    window::{Finality, Window},
};

/// What a roll-up keeps so that late messages can correct rows.
#[derive(Clone, Debug)]
pub(super) struct Amending {
    /// Windows that closed since the last snapshot: their rows are not stored yet.
    closed: Vec<Window>,
    /// Whether a window stays open behind its end.
    waits: bool,
    /// The watermark at which the rows of a next window are first written (ms).
    next_edge_ms: i64,
    /// A late message alone.
    single: Window,
    /// The shape of the plan.
    shape: u64,
}

impl Amending {
    pub(super) fn of(config: &RollupConfig) -> Option<Amending> {
        (config.late == LatePolicy::Amend).then(|| Amending {
            closed: Vec::new(),
            waits: config.allowed_lateness.as_ms() > 0,
            next_edge_ms: i64::MIN,
            single: Window::new(config.grid, 0, Position::default()),
            shape: partial::shape(&config.plan),
        })
    }

    /// Goes by another allowed lateness.
    pub(super) fn go_by(&mut self, allowed_lateness: DurationMs) {
        self.waits = allowed_lateness.as_ms() > 0;
    }

    /// Returns up to which time of events no rows become due.
    pub(super) fn passed_until_ms(&self, max_out_of_orderness_ms: i64) -> i64 {
        if self.waits {
            self.next_edge_ms.saturating_add(max_out_of_orderness_ms).saturating_sub(1)
        } else {
            i64::MAX
        }
    }

    pub(super) fn keep(&mut self, window: Window) {
        self.closed.push(window);
    }
}

impl Rollup {
    /// Takes a message whose window is closed; returns false if it has to become a letter.
    #[cold]
    pub(super) fn take_late(
        &mut self,
        message: &Message<'_>,
        index: usize,
        effects: &mut Effects,
    ) -> bool {
        let (plan, hasher) = (&self.config.plan, &self.hasher);
        let Some(amending) = &mut self.amending else {
            return false;
        };
        let key = message.key();
        let closed = &mut amending.closed;
        if let Some(window) = closed.iter_mut().find(|window| window.contains(message.time())) {
            // No limit of devices: whether a window is still here must decide nothing.
            if !window.fold(plan, hasher, usize::MAX, message) {
                return false;
            }
            window.count_late(hasher, key, 1);
        } else {
            let window_end_ms = self.config.grid.window_end(message.time());
            let single = &mut amending.single;
            single.clear(window_end_ms);
            let is_folded = single.fold(plan, hasher, 1, message);
            assert!(is_folded, "there is room for one message of one device");
            effects.late.push(LateEvent {
                index,
                position: message.position(),
                ordinal: self.ordinal,
                window_end_ms,
                key: key.to_vec(),
                state: partial::encode_slot(single, plan, amending.shape, 0),
            });
        }
        self.ledger.aggregated += 1;
        true
    }

    /// Writes the rows of windows whose end the watermark has passed, and what changed since in
    /// those that it passed before; once for each edge.
    pub(super) fn emit_passed(&mut self, effects: &mut Effects) {
        let size_ms = self.config.grid.size_ms();
        let watermark_ms = self.watermark.value_ms().unwrap_or(i64::MIN);
        let Some(amending) = &mut self.amending else {
            return;
        };
        if !amending.waits || watermark_ms < amending.next_edge_ms {
            return;
        }
        let edge_ms = self.config.grid.edge_at_or_before(watermark_ms);
        amending.next_edge_ms = edge_ms + size_ms;
        let mut windows = core::mem::take(&mut self.windows);
        for window in windows.iter_mut().filter(|window| window.end_ms() <= edge_ms) {
            self.emit(window, Finality::Provisional, effects);
        }
        self.windows = windows;
    }

    /// Writes the rows that late messages changed since their windows closed; to be called before
    /// every snapshot. From then on late messages for these windows need what is stored.
    pub fn settle(&mut self, effects: &mut Effects) {
        let Some(amending) = &mut self.amending else {
            return;
        };
        for mut window in core::mem::take(&mut amending.closed) {
            self.emit(&mut window, Finality::Amended, effects);
            self.spare = Some(window.into_memory());
        }
    }

    /// Counts late messages that cannot correct their rows, and so become letters.
    ///
    /// # Panics
    /// If there were not so many.
    pub fn refuse_late(&mut self, count: u64) {
        assert!(count <= self.ledger.aggregated, "{count} late of {:?}", self.ledger);
        self.ledger.aggregated -= count;
        self.ledger.late += count;
    }
}

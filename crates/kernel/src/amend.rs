//! Merging late messages into rows that are stored already.
//!
//! A stored row with revision R holds the messages of its device-window among the first R of the
//! lane, so a late message that stands behind R is the only kind that may be merged in, and doing
//! it again changes nothing. The row carries its partial state, which makes merging exact. Reading
//! and writing rows is the caller's.

use alloc::{string::String, sync::Arc, vec::Vec};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use foldhash::fast::FixedState;

use crate::{
    effect::LateEvent,
    event::Position,
    partial::{Merger, PartialError},
    rollup::{ORDINAL_BITS, ORDINAL_MAX, RollupConfig, revision},
    row::RowBlock,
    window::{Finality, Lineage, Window},
};

/// What becomes of an event whose window is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LatePolicy {
    /// It becomes a letter, and the row stays as it is.
    #[default]
    DeadLetter,
    /// The row is written again with it.
    Amend,
}

impl LatePolicy {
    /// Returns the name used in configuration.
    pub fn name(self) -> &'static str {
        match self {
            LatePolicy::DeadLetter => "dead_letter",
            LatePolicy::Amend => "amend",
        }
    }
}

/// A row as it is stored: what merging needs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredState {
    /// Generation and ordinal.
    pub revision: u64,
    /// How many late messages it holds.
    pub late_count: u32,
    /// Its partial state as text (base64).
    pub partial_state: String,
}

/// Why late messages cannot be merged into a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmendError {
    /// The row carries no state, or none as text.
    #[error("the stored row carries no partial state")]
    NoState,
    /// The state is not one of this schema and window.
    #[error("the stored row's {0}")]
    State(#[from] PartialError),
}

/// Merges late messages into stored rows of one lane.
#[derive(Clone, Debug)]
pub struct Amender {
    config: RollupConfig,
    hasher: FixedState,
    merger: Merger,
    window: Window,
}

impl Amender {
    /// Returns the amender of a lane.
    pub fn new(config: RollupConfig) -> Amender {
        let hasher = FixedState::with_seed(config.hash_seed);
        Amender {
            merger: Merger::new(config.grid, Arc::clone(&config.plan), hasher.clone()),
            window: Window::new(config.grid, 0, Position::default()),
            hasher,
            config,
        }
    }

    /// Merges late events of one device-window into its stored row and appends the new row, as of
    /// the lane's first `ordinal` messages, to `out`; nothing if the row holds all of them already.
    /// `birth_generation` is the generation in which the lane's counting began: rows of earlier
    /// ones know other ordinals, so they count as none.
    ///
    /// # Errors
    /// If the row's state is missing or not of this schema, or its device has more messages than
    /// can be counted; nothing is appended then.
    ///
    /// # Panics
    /// If the events are not of one device-window.
    pub fn amend(
        &mut self,
        stored: Option<&StoredState>,
        birth_generation: u32,
        ordinal: u64,
        events: &[&LateEvent],
        out: &mut RowBlock,
    ) -> Result<(), AmendError> {
        let Some(first) = events.first() else {
            return Ok(());
        };
        let is_same = |event: &&LateEvent| {
            (event.window_end_ms, &event.key) == (first.window_end_ms, &first.key)
        };
        assert!(events.iter().all(is_same), "events of several device-windows");
        let counted =
            |stored: &&StoredState| stored.revision >> ORDINAL_BITS >= u64::from(birth_generation);
        let stored = stored.filter(counted);
        let known = stored.map_or(0, |stored| self.known_ordinal(stored.revision));
        let fresh: Vec<&LateEvent> =
            events.iter().copied().filter(|event| event.ordinal > known).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        self.window.clear(first.window_end_ms);
        if let Some(stored) = stored {
            let state = BASE64_STANDARD_NO_PAD.decode(&stored.partial_state);
            let state = state.ok().filter(|state| !state.is_empty()).ok_or(AmendError::NoState)?;
            self.merger.merge(&mut self.window, &state)?;
        }
        for event in &fresh {
            self.merger.merge(&mut self.window, &event.state)?;
        }
        let late_count = u32::try_from(fresh.len()).unwrap_or(u32::MAX);
        let late_count = stored.map_or(0, |stored| stored.late_count).saturating_add(late_count);
        self.window.count_late(&self.hasher, &first.key, late_count);
        self.emit(ordinal, out);
        Ok(())
    }

    /// Returns how many messages of the lane a row of that revision knows: all there can be, if
    /// it is of a later generation, to which this lane's rows would give way.
    fn known_ordinal(&self, revision: u64) -> u64 {
        if revision >> ORDINAL_BITS > u64::from(self.config.generation) {
            return ORDINAL_MAX;
        }
        revision & ORDINAL_MAX
    }

    fn emit(&mut self, ordinal: u64, out: &mut RowBlock) {
        let lineage = Lineage {
            pipeline: &self.config.pipeline,
            source_partition: &self.config.source_partition,
            revision: revision(self.config.generation, ordinal),
            finality: Finality::Amended,
        };
        // What saturates did so, or did not, when the row was written before.
        let _ = self.window.emit_into(&self.config.plan, lineage, out);
    }
}

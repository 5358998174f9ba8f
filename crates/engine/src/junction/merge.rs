//! Rows of all lanes: final ones where all have closed a window, early ones where some are silent.
//!
//! The revision of a row is the sum of how many messages of each lane it may hold: as many as were
//! processed when the lane closed the window, or until now. A later emission of a window never
//! knows less of any lane, so of two rows of it, the higher revision is the later one.

use std::{collections::BTreeMap, sync::Arc};

use tidemill_kernel::{
    effect::ClosedWindow,
    partial::merge_window,
    rollup::revision,
    row::RowBlock,
    window::{Finality, Lineage, Window},
};

use super::{Action, Junction, Strand};
use crate::{error::LaneErrorKind, record::ALL_PARTITIONS};

/// Rows of a commit and the windows that are final with it.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) rows: Vec<RowBlock>,
    pub(super) closed: Vec<ClosedWindow>,
}

impl Junction {
    /// Takes out and merges the windows that all lanes have closed; `None` if nothing is new.
    pub(super) fn merge_closed(&mut self) -> Result<Option<Merged>, LaneErrorKind> {
        let closed = self.strands.values().map(|strand| strand.lane.closed_until_ms()).min();
        let ends = || {
            let windows = self.strands.values().flat_map(|strand| strand.lane.rollup().unmerged());
            windows.map(Window::end_ms)
        };
        let until_ms = match closed {
            // All have ended.
            Some(i64::MAX) => ends().max().unwrap_or(self.merged_until_ms),
            Some(until_ms) => until_ms,
            None => return Ok(None),
        };
        let mut windows: BTreeMap<i64, (u64, Vec<Window>)> = ends()
            .filter(|end_ms| *end_ms <= until_ms)
            .map(|end_ms| (end_ms, (self.ordinal_sum(end_ms), Vec::new())))
            .collect();
        if windows.is_empty() {
            return Ok(None);
        }
        self.merged_until_ms = self.merged_until_ms.max(until_ms);
        for strand in self.strands.values_mut() {
            for window in strand.lane.release(until_ms) {
                let (_, parts) = windows.get_mut(&window.end_ms()).expect("listed before");
                parts.push(window);
            }
        }
        self.emitted = self.emitted.split_off(&until_ms.saturating_add(1));
        let mut merged = Merged::default();
        for (end_ms, (ordinal_sum, parts)) in windows {
            let first_piece = merged.rows.len();
            let mut whole = self.join(parts)?;
            self.emit(&mut whole, ordinal_sum, &mut merged.rows);
            merged.closed.push(ClosedWindow {
                end_ms,
                device_count: whole.device_count(),
                message_count: whole.message_count(),
                first_piece,
                piece_count: merged.rows.len() - first_piece,
            });
        }
        Ok(Some(merged))
    }

    /// Returns rows of windows that only silent lanes hold back, as they stand. They stay open.
    pub(super) fn emit_early(&mut self, now_ms: u64) -> Vec<RowBlock> {
        let mut rows = Vec::new();
        let lane = &self.config.lane;
        if now_ms.saturating_sub(self.emitted_at_ms) < lane.idle_timeout_ms {
            return rows;
        }
        let active = self.strands.values().filter(|strand| !strand.lane.is_quiet(now_ms));
        let until_ms = active.map(|strand| strand.lane.closed_until_ms()).min();
        let until_ms = until_ms.unwrap_or(i64::MAX);
        let mut counts = BTreeMap::<i64, u64>::new();
        for window in self.strands.values().flat_map(|strand| strand.lane.rollup().unmerged()) {
            if window.end_ms() <= until_ms {
                *counts.entry(window.end_ms()).or_default() += window.message_count();
            }
        }
        counts.retain(|end_ms, count| self.emitted.get(end_ms) != Some(count));
        for (end_ms, count) in counts {
            let windows = self.strands.values().flat_map(|strand| strand.lane.rollup().unmerged());
            let parts = windows.filter(|window| window.end_ms() == end_ms).cloned().collect();
            // A sum too large now is too large at the end, where it is told.
            if let Ok(mut whole) = self.join(parts) {
                self.emit(&mut whole, self.ordinal_sum(end_ms), &mut rows);
            }
            self.emitted.insert(end_ms, count);
            self.emitted_at_ms = now_ms;
        }
        rows
    }

    /// Where a lane can hold no more because others are silent, closes windows for those: half of
    /// what the lane holds. That is a decision of this run and not of the log, so the record that
    /// says so goes before anything that follows from it.
    pub(super) fn close_for_the_silent(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let (idle_timeout_ms, held_max) =
            (self.config.lane.idle_timeout_ms, self.config.held_windows_max);
        let is_full = |strand: &Strand| strand.held_count() >= held_max;
        let is_silent = |strand: &Strand| {
            !is_full(strand) && now_ms.saturating_sub(strand.busy_at_ms) >= idle_timeout_ms
        };
        let full = self.strands.values().filter(|strand| is_full(strand));
        let middle = |strand: &Strand| {
            let mut ends = strand.lane.rollup().unmerged().map(Window::end_ms);
            ends.nth(held_max / 2)
        };
        let Some(limit_ms) = full.filter_map(middle).min() else {
            return;
        };
        let active = self.strands.values().filter(|strand| !is_silent(strand));
        let until_ms = active.map(|strand| strand.lane.closed_until_ms()).min();
        let until_ms = until_ms.map_or(limit_ms, |until_ms| until_ms.min(limit_ms));
        let mut partitions: Vec<Arc<str>> = Vec::new();
        for (partition, strand) in &mut self.strands {
            if is_silent(strand) && strand.lane.closed_until_ms() < until_ms {
                strand.lane.close_until(until_ms);
                partitions.push(partition.clone());
            }
        }
        if !partitions.is_empty() {
            actions.push(Action::Silent { partitions, until_ms });
        }
    }

    /// Returns how many messages of all lanes a row of that window may hold.
    fn ordinal_sum(&self, window_end_ms: i64) -> u64 {
        let lanes = self.strands.values();
        let of_lanes: u64 =
            lanes.map(|strand| strand.lane.rollup().ordinal_of(window_end_ms)).sum();
        of_lanes + self.retired.iter().map(|part| part.ordinal).sum::<u64>()
    }

    fn join(&self, parts: Vec<Window>) -> Result<Window, LaneErrorKind> {
        let plan = &self.config.lane.rollup.plan;
        let mut parts = parts.into_iter();
        let mut whole = parts.next().expect("a window that some lane holds");
        for part in parts {
            merge_window(&mut whole, &part, plan, &self.hasher)
                .map_err(|error| LaneErrorKind::Uncountable(error.to_string()))?;
        }
        Ok(whole)
    }

    fn emit(&mut self, window: &mut Window, ordinal_sum: u64, rows: &mut Vec<RowBlock>) {
        let rollup = &self.config.lane.rollup;
        let lineage = Lineage {
            pipeline: &rollup.pipeline,
            source_partition: ALL_PARTITIONS,
            revision: revision(rollup.generation, ordinal_sum),
            finality: Finality::Final,
        };
        self.saturated_count += window.emit(&rollup.plan, lineage, rollup.piece_rows_max, rows);
    }
}

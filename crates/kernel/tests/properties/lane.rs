//! A lane as the engine runs it: blocks in, decoded rows and letters out.

use std::sync::Arc;

use tidemill_kernel::{
    amend::LatePolicy,
    effect::Effects,
    event::Reason,
    plan::Plan,
    rollup::{Progress, ReplayError, Rollup, RollupConfig},
    row::RowBlock,
    schema::Schema,
    time::{DurationMs, WindowGrid},
};

use crate::{
    naive::{Naive, Owned, PARTITION, PIPELINE, Row, Rules, Sent},
    scenario::{Scenario, block},
};

/// All that a lane gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Output {
    /// Rows, each with all its cells.
    pub(crate) rows: Vec<Row>,
    /// The same rows as they are stored.
    pub(crate) bytes: Vec<u8>,
    pub(crate) letters: Vec<(u64, Reason)>,
    pub(crate) saturated_count: u64,
}

impl Output {
    fn take(&mut self, schema: &Schema, effects: &mut Effects) {
        for piece in effects.rows.drain(..) {
            self.bytes.extend_from_slice(piece.bytes());
            self.rows.extend(rows(schema, &piece));
        }
        self.letters.extend(effects.letters.drain(..).map(|l| (l.ordinal, l.reason)));
        self.saturated_count += std::mem::take(&mut effects.saturated_count);
    }

    /// The rows in an order that is the same for kernel and reference.
    pub(crate) fn sorted(mut self) -> Output {
        self.rows.sort();
        self.bytes.clear();
        self
    }
}

pub(crate) fn rows(schema: &Schema, piece: &RowBlock) -> Vec<Row> {
    let mut reader = piece.reader(schema.columns());
    let (mut rows, mut cells) = (Vec::new(), Vec::new());
    while reader.next_row(&mut cells) {
        rows.push(cells.iter().map(Owned::of).collect());
    }
    assert_eq!(rows.len(), piece.row_count());
    rows
}

pub(crate) fn grid(rules: &Rules) -> WindowGrid {
    WindowGrid::new(rules.size_ms, rules.offset_ms).expect("a grid")
}

pub(crate) fn config(scenario: &Scenario) -> RollupConfig {
    let rules = &scenario.rules;
    RollupConfig {
        plan: Arc::new(Plan::new(scenario.schema.clone())),
        grid: grid(rules),
        max_out_of_orderness: DurationMs::from_ms(rules.max_out_of_orderness_ms),
        allowed_lateness: DurationMs::from_ms(rules.allowed_lateness_ms),
        max_future_skew: DurationMs::from_ms(rules.max_future_skew_ms),
        late: LatePolicy::DeadLetter,
        devices_max: rules.devices_max,
        piece_rows_max: 2,
        generation: rules.generation,
        pipeline: PIPELINE.into(),
        source_partition: PARTITION.into(),
        hash_seed: 7,
    }
}

/// A roll-up with what it has given so far.
pub(crate) struct Lane<'a> {
    scenario: &'a Scenario,
    pub(crate) rollup: Rollup,
    pub(crate) output: Output,
}

impl<'a> Lane<'a> {
    pub(crate) fn new(scenario: &'a Scenario, progress: &Progress) -> Lane<'a> {
        let rollup = Rollup::new(config(scenario), progress);
        Lane { scenario, rollup, output: Output::default() }
    }

    pub(crate) fn step(&mut self, messages: &[Sent]) -> Result<(), ReplayError> {
        let mut effects = Effects::default();
        let block = block(&self.scenario.schema, messages);
        self.rollup.step(&block, &mut effects)?;
        for letter in &effects.letters {
            assert_eq!(letter.position, messages[letter.index].position);
        }
        self.output.take(&self.scenario.schema, &mut effects);
        Ok(())
    }

    pub(crate) fn idle(&mut self) {
        let mut effects = Effects::default();
        self.rollup.emit_open(&mut effects);
        self.output.take(&self.scenario.schema, &mut effects);
    }

    pub(crate) fn finish(&mut self) -> Result<(), ReplayError> {
        let mut effects = Effects::default();
        self.rollup.finish(&mut effects)?;
        self.output.take(&self.scenario.schema, &mut effects);
        Ok(())
    }
}

/// Runs the whole log in blocks of at most `cut` messages.
pub(crate) fn straight(scenario: &Scenario, cut: usize) -> (Output, Progress) {
    let mut lane = Lane::new(scenario, &Progress::BIRTH);
    for messages in scenario.log.chunks(cut) {
        lane.step(messages).expect("no replay");
    }
    lane.finish().expect("no replay");
    (lane.output, lane.rollup.progress())
}

/// Runs the reference over the whole log, with an idle emission after the messages of `idle`.
pub(crate) fn naive<'a>(scenario: &'a Scenario, idle: &[usize]) -> (Output, Naive<'a>) {
    let mut naive = Naive::new(&scenario.schema, scenario.rules);
    let mut output = Output::default();
    for (index, sent) in scenario.log.iter().enumerate() {
        let (reason, rows) = naive.step(sent);
        output.letters.extend(reason.map(|reason| (index as u64 + 1, reason)));
        output.rows.extend(rows);
        if idle.contains(&index) {
            output.rows.extend(naive.idle());
        }
    }
    output.rows.extend(naive.finish());
    output.saturated_count = naive.saturated_count;
    (output, naive)
}

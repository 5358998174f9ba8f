//! Partial states: any split, any order of merging, and hostile bytes.

use std::sync::Arc;

use foldhash::fast::FixedState;
use proptest::{collection::vec, prelude::*, sample::Index, strategy::ValueTree};
use tidemill_kernel::{
    event::{EventBlock, Position},
    partial::{self, MergeError, Merger, merge_window},
    plan::Plan,
    schema::{Field, Role, Schema, ValueType},
    time::{Timestamp, WindowGrid},
    window::{Finality, Lineage, Window},
};

use crate::{
    lane::{grid, rows},
    naive::{Owned, PARTITION, PIPELINE, Row, Sent},
    scenario::{Scenario, block, cases, one_window},
};

fn window(scenario: &Scenario) -> Window {
    let grid = grid(&scenario.rules);
    let time = Timestamp::from_ms(scenario.log[0].time_ms);
    Window::new(grid, grid.window_end(time.expect("in range")), Position::default())
}

fn fold(window: &mut Window, scenario: &Scenario, plan: &Plan, log: &[Sent], seed: u64) {
    let block = block(&scenario.schema, log);
    for index in 0..block.len() {
        let hasher = FixedState::with_seed(seed);
        assert!(window.fold(plan, &hasher, usize::MAX, &block.message(index)));
    }
}

fn merger(scenario: &Scenario, plan: &Arc<Plan>) -> Merger {
    Merger::new(grid(&scenario.rules), plan.clone(), FixedState::with_seed(7))
}

fn emitted(window: &mut Window, scenario: &Scenario, plan: &Plan) -> (Vec<Row>, u64) {
    let lineage = Lineage {
        pipeline: PIPELINE,
        source_partition: PARTITION,
        revision: 5,
        finality: Finality::Final,
    };
    let mut pieces = Vec::new();
    let saturated_count = window.emit(plan, lineage, 100, &mut pieces);
    (pieces.iter().flat_map(|piece| rows(&scenario.schema, piece)).collect(), saturated_count)
}

proptest! {
    #![proptest_config(cases(400, 11))]

    #[test]
    fn any_split_merged_in_any_order_is_the_whole(
        scenario in one_window(80),
        shares in vec(0_usize..5, 80),
        order in vec(any::<Index>(), 400),
        kept in any::<bool>(),
        folded_last in any::<bool>(),
    ) {
        let plan = Arc::new(Plan::new(scenario.schema.clone()));
        let mut whole = window(&scenario);
        fold(&mut whole, &scenario, &plan, &scenario.log, 1);
        let mut states = Vec::new();
        // One share may stay where it is: states of others are merged into a window in use.
        let mut merged = window(&scenario);
        // Another one may be folded into what was merged.
        let mut last = Vec::new();
        for share in 0..5 {
            let in_share = |at: &usize| shares[*at] == share;
            let kept_here = (0..scenario.log.len()).filter(in_share);
            let log: Vec<Sent> = kept_here.map(|at| scenario.log[at].clone()).collect();
            if share == 0 && kept {
                fold(&mut merged, &scenario, &plan, &log, 99);
                continue;
            }
            if share == 1 && folded_last {
                last = log;
                continue;
            }
            let mut part = window(&scenario);
            fold(&mut part, &scenario, &plan, &log, share as u64);
            states.extend(partial::encode(&part, &plan));
        }
        let mut merger = merger(&scenario, &plan);
        for pick in &order {
            if states.is_empty() {
                break;
            }
            let state = states.swap_remove(pick.index(states.len()));
            prop_assert_eq!(partial::window_end_ms(&state, &plan), Ok(merged.end_ms()));
            merger.merge(&mut merged, &state).expect("our own");
        }
        fold(&mut merged, &scenario, &plan, &last, 7);
        prop_assert_eq!(whole.message_count(), merged.message_count());
        prop_assert_eq!(whole.device_count(), merged.device_count());
        prop_assert_eq!(partial::encode(&whole, &plan), partial::encode(&merged, &plan));
        let expected = emitted(&mut whole, &scenario, &plan);
        prop_assert_eq!(expected, emitted(&mut merged, &scenario, &plan));
    }

    #[test]
    fn merged_windows_are_their_merged_states_and_the_whole(
        scenario in one_window(80),
        shares in vec(0_usize..4, 80),
    ) {
        let plan = Arc::new(Plan::new(scenario.schema.clone()));
        let mut whole = window(&scenario);
        fold(&mut whole, &scenario, &plan, &scenario.log, 1);
        let (mut windows, mut states) = (window(&scenario), window(&scenario));
        let mut merger = merger(&scenario, &plan);
        for share in 0..4 {
            let log = scenario.log.iter().zip(&shares).filter(|(_, of)| **of == share);
            let log: Vec<Sent> = log.map(|(sent, _)| sent.clone()).collect();
            let mut part = window(&scenario);
            fold(&mut part, &scenario, &plan, &log, share as u64);
            let before = part.clone();
            merge_window(&mut windows, &part, &plan, &FixedState::with_seed(9)).expect("counted");
            prop_assert_eq!(partial::encode(&before, &plan), partial::encode(&part, &plan));
            for state in partial::encode(&part, &plan) {
                merger.merge(&mut states, &state).expect("our own");
            }
            prop_assert_eq!(partial::encode(&windows, &plan), partial::encode(&states, &plan));
            prop_assert_eq!(windows.message_count(), states.message_count());
        }
        prop_assert_eq!(whole.message_count(), windows.message_count());
        prop_assert_eq!(whole.device_count(), windows.device_count());
        prop_assert_eq!(partial::encode(&whole, &plan), partial::encode(&windows, &plan));
        let expected = emitted(&mut whole, &scenario, &plan);
        prop_assert_eq!(expected, emitted(&mut windows, &scenario, &plan));
    }

    #[test]
    fn order_of_the_events_changes_no_byte_of_a_state(
        scenario in one_window(80),
        order in vec(any::<u64>(), 80),
    ) {
        let plan = Arc::new(Plan::new(scenario.schema.clone()));
        let (mut one, mut other) = (window(&scenario), window(&scenario));
        fold(&mut one, &scenario, &plan, &scenario.log, 1);
        let (mut log, mut keys) = (scenario.log.clone(), order.into_iter());
        log.sort_by_cached_key(|_| keys.next());
        fold(&mut other, &scenario, &plan, &log, 2);
        prop_assert_eq!(partial::encode(&one, &plan), partial::encode(&other, &plan));
    }
}

/// A small generator of its own: the mutations are the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound as u64) as usize
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len().max(1));
            match self.below(12) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), self.below(256) as u8),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                3 => bytes
                    .splice(at.min(bytes.len()).., other[other.len().min(at)..].to_vec())
                    .for_each(drop),
                4 => {
                    let run = [0x00, 0xff, 0x7f, 0x80][self.below(4)];
                    let end = (at + 1 + self.below(17)).min(bytes.len());
                    bytes[at.min(end)..end].fill(run);
                }
                // Behind the header, where the states are.
                _ if bytes.len() > 18 => {
                    let at = 17 + self.below(bytes.len() - 17);
                    bytes[at] ^= 1 << self.below(8);
                }
                _ => bytes.push(0),
            }
        }
    }
}

#[test]
fn hostile_bytes_never_panic_and_leave_states_that_can_be_emitted() {
    let mut runner = proptest::test_runner::TestRunner::new(cases(1, 12));
    let mut random = Random(20_261_122);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..100 {
        let scenario = one_window(40).new_tree(&mut runner).expect("a scenario").current();
        let plan = Arc::new(Plan::new(scenario.schema.clone()));
        let mut honest = window(&scenario);
        fold(&mut honest, &scenario, &plan, &scenario.log, 0);
        let states = partial::encode(&honest, &plan);
        let (mut merged, mut merger) = (honest.clone(), merger(&scenario, &plan));
        for round in 0..2_000 {
            let mut bytes = states[random.below(states.len())].clone();
            let other = random.below(states.len());
            random.mutate(&mut bytes, &states[other]);
            let _ = partial::window_end_ms(&bytes, &plan);
            let before = merged.message_count();
            match merger.merge(&mut merged, &bytes) {
                Ok(()) => accepted += 1,
                Err(error) => {
                    assert!(error.at <= bytes.len());
                    assert_eq!(before, merged.message_count(), "an error left something behind");
                    refused += 1;
                }
            }
            if round % 100 == 99 {
                emitted(&mut merged, &scenario, &plan);
                for state in partial::encode(&merged, &plan) {
                    let mut again = window(&scenario);
                    let result = merger.merge(&mut again, &state);
                    assert!(result.is_ok() || merged.message_count() > 1 << 29, "{result:?}");
                }
                fold(&mut merged, &scenario, &plan, &scenario.log[..1], 0);
                if round % 500 == 499 {
                    merged = honest.clone();
                }
            }
        }
    }
    assert!(accepted > 5_000 && refused > 50_000, "{accepted} accepted, {refused} refused");
}

#[test]
fn errors_leave_the_window_as_it_was() {
    let mut runner = proptest::test_runner::TestRunner::new(cases(1, 13));
    for _ in 0..50 {
        let scenario = one_window(30).new_tree(&mut runner).expect("a scenario").current();
        let plan = Arc::new(Plan::new(scenario.schema.clone()));
        let mut honest = window(&scenario);
        fold(&mut honest, &scenario, &plan, &scenario.log, 0);
        let states = partial::encode(&honest, &plan);
        let mut merger = merger(&scenario, &plan);
        for cut in 0..states[0].len() {
            let result = merger.merge(&mut honest, &states[0][..cut]);
            assert!(result.is_err(), "a state cut at {cut} was taken");
        }
        assert_eq!(states, partial::encode(&honest, &plan));
    }
}

#[test]
fn counts_beyond_32_bits_are_refused() {
    let fields = vec![
        Field::new("id", ValueType::Text, Role::Key),
        Field::new("time", ValueType::Int, Role::Time),
    ];
    let schema = Arc::new(Schema::new(fields).expect("a schema"));
    let plan = Arc::new(Plan::new(schema.clone()));
    let grid = WindowGrid::new(60_000, 0).expect("a minute");
    let mut block = EventBlock::new(&schema);
    block.begin(Position::default(), 0);
    block.finish(Timestamp::MIN, ["d"]);
    let mut one = Window::new(grid, 60_000, Position::default());
    assert!(one.fold(&plan, &FixedState::with_seed(0), 1, &block.message(0)));
    let mut state = partial::encode(&one, &plan).remove(0);
    // Behind version, shape, window end and key (1 + 1 + 1 bytes) stands the count: one byte, 1.
    let count_at = 1 + 8 + 8 + 3;
    assert_eq!(state[count_at], 1);
    state.splice(count_at..=count_at, [0xff, 0xff, 0xff, 0xff, 0x03]);
    let mut merger = Merger::new(grid, plan.clone(), FixedState::with_seed(0));
    let mut other = Window::new(grid, 60_000, Position::default());
    merger.merge(&mut other, &state).expect("a quarter fits");
    for _ in 0..4 {
        merger.merge(&mut one, &state).expect("four quarters fit");
    }
    let error = merger.merge(&mut one, &state).expect_err("one quarter too many");
    assert_eq!(error.problem, "more messages than a device-window can count");
    let held = partial::encode(&one, &plan);
    let result = merge_window(&mut one, &other, &plan, &FixedState::with_seed(0));
    let message_count = u64::from(u32::MAX) - 2 + (1 << 30) - 1;
    assert_eq!(result, Err(MergeError { device: "d".into(), message_count }));
    assert_eq!(held, partial::encode(&one, &plan));
    assert_eq!(one.message_count(), u64::from(u32::MAX) - 2);
    for _ in 0..2 {
        assert!(one.fold(&plan, &FixedState::with_seed(0), 1, &block.message(0)));
    }
    assert!(!one.fold(&plan, &FixedState::with_seed(0), 1, &block.message(0)), "full");
    let lineage = Lineage {
        pipeline: PIPELINE,
        source_partition: PARTITION,
        revision: 1,
        finality: Finality::Final,
    };
    let mut pieces = Vec::new();
    one.emit(&plan, lineage, 10, &mut pieces);
    let count = Owned::UInt(one.message_count());
    assert!(rows(&schema, &pieces[0])[0].contains(&count));
}

proptest! {
    #![proptest_config(cases(150, 14))]

    #[test]
    fn merging_into_an_emitted_window_emits_the_changed_rows_alone(
        scenario in one_window(40),
        cut in any::<Index>(),
    ) {
        let plan = Arc::new(Plan::new(scenario.schema.clone()));
        let (early, later) = scenario.log.split_at(cut.index(scenario.log.len()));
        let (mut whole, mut merged, mut part) =
            (window(&scenario), window(&scenario), window(&scenario));
        fold(&mut whole, &scenario, &plan, &scenario.log, 1);
        fold(&mut merged, &scenario, &plan, early, 2);
        fold(&mut part, &scenario, &plan, later, 3);
        emitted(&mut merged, &scenario, &plan);
        let mut merger = merger(&scenario, &plan);
        for state in partial::encode(&part, &plan) {
            merger.merge(&mut merged, &state).expect("our own");
        }
        let key = |row: &Row| row[..=scenario.schema.key_count()].to_vec();
        let changed: Vec<Row> = emitted(&mut part, &scenario, &plan).0.iter().map(key).collect();
        let mut expected = emitted(&mut whole, &scenario, &plan).0;
        expected.retain(|row| changed.contains(&key(row)));
        prop_assert_eq!(expected, emitted(&mut merged, &scenario, &plan).0);
        prop_assert!(emitted(&mut merged, &scenario, &plan).0.is_empty());
    }
}

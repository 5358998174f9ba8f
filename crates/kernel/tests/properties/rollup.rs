//! The roll-up: any log, any block cut, any order, any restart.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::Index, strategy::ValueTree};
use tidemill_kernel::{rollup::Progress, time::Timestamp};

use crate::{
    lane::{Lane, Output, grid, naive, straight},
    naive::{Naive, Owned, Row, Sent},
    scenario::{Scenario, cases, scenarios},
};

/// Rows by everything but their values: what a store keeps is the highest revision of each.
fn stored(scenario: &Scenario, rows: &[Row]) -> BTreeMap<Row, Row> {
    let mut stored = BTreeMap::<Row, Row>::new();
    for row in rows {
        let key = row[..=scenario.schema.key_count()].to_vec();
        let older = stored.get(&key).is_some_and(|known| known.last() > row.last());
        if !older {
            let known = stored.insert(key, row.clone());
            let equal =
                known.as_ref().is_none_or(|known| known.last() != row.last() || known == row);
            assert!(equal, "equal revision, other values: {known:?} and {row:?}");
        }
    }
    stored
}

/// The same without the revision, which an idle emission may leave lower.
fn values(scenario: &Scenario, rows: &[Row]) -> Vec<Row> {
    let rows = stored(scenario, rows).into_values();
    rows.map(|row| row[..row.len() - 1].to_vec()).collect()
}

/// Runs in blocks cut at those places.
fn cut_at(scenario: &Scenario, cuts: &[Index]) -> (Output, Progress) {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(scenario.log.len())).collect();
    places.extend([0, scenario.log.len()]);
    places.sort_unstable();
    let mut lane = Lane::new(scenario, &Progress::BIRTH);
    for place in places.windows(2) {
        lane.step(&scenario.log[place[0]..place[1]]).expect("no replay");
    }
    lane.finish().expect("no replay");
    (lane.output, lane.rollup.progress())
}

proptest! {
    #![proptest_config(cases(1_500, 1))]

    #[test]
    fn rows_letters_and_progress_are_those_of_the_reference(scenario in scenarios(150)) {
        let mut lane = Lane::new(&scenario, &Progress::BIRTH);
        let mut reference = Naive::new(&scenario.schema, scenario.rules);
        for sent in &scenario.log {
            lane.step(std::slice::from_ref(sent)).expect("no replay");
            reference.step(sent);
            prop_assert_eq!(lane.rollup.progress(), reference.progress());
        }
        lane.finish().expect("no replay");
        let (expected, reference) = naive(&scenario, &[]);
        prop_assert_eq!(lane.rollup.progress(), reference.progress());
        prop_assert_eq!(lane.output.sorted(), expected.sorted());
    }

    #[test]
    fn where_blocks_are_cut_changes_nothing(
        scenario in scenarios(150),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let whole = straight(&scenario, usize::MAX);
        prop_assert_eq!(&whole, &straight(&scenario, 1));
        prop_assert_eq!(&whole, &cut_at(&scenario, &cuts));
    }

    #[test]
    fn order_within_the_lateness_changes_no_bit(
        scenario in scenarios(150),
        order in vec(any::<u64>(), 150),
    ) {
        let mut scenario = scenario;
        scenario.rules.max_out_of_orderness_ms = 1 << 40;
        scenario.rules.devices_max = usize::MAX;
        scenario.log.iter_mut().for_each(|sent| sent.publish_time_ms = sent.time_ms);
        let mut shuffled = scenario.clone();
        let mut keys = order.into_iter();
        shuffled.log.sort_by_cached_key(|_| keys.next());
        let positions: Vec<_> = scenario.log.iter().map(|sent| sent.position).collect();
        for (sent, position) in shuffled.log.iter_mut().zip(positions) {
            sent.position = position;
        }
        let (expected, given) = (straight(&scenario, 64).0, straight(&shuffled, 64).0);
        prop_assert_eq!(expected.bytes, given.bytes);
    }

    #[test]
    fn idle_emission_gives_the_rows_of_the_log_so_far(
        scenario in scenarios(120),
        idle in vec(any::<Index>(), 1..8),
    ) {
        let idle: Vec<usize> = idle.iter().map(|at| at.index(scenario.log.len())).collect();
        let mut lane = Lane::new(&scenario, &Progress::BIRTH);
        for (index, sent) in scenario.log.iter().enumerate() {
            lane.step(std::slice::from_ref(sent)).expect("no replay");
            if idle.contains(&index) {
                let before = lane.rollup.progress();
                lane.idle();
                let count = lane.output.rows.len();
                lane.idle();
                prop_assert_eq!(count, lane.output.rows.len(), "unchanged rows came again");
                prop_assert_eq!(before, lane.rollup.progress());
            }
        }
        lane.finish().expect("no replay");
        let (expected, _) = naive(&scenario, &idle);
        let quiet = straight(&scenario, 64).0.rows;
        prop_assert_eq!(values(&scenario, &quiet), values(&scenario, &lane.output.rows));
        prop_assert_eq!(lane.output.sorted(), expected.sorted());
    }
}

/// Where an owner dies, and how much of what it did before is in its last record.
type Death = (Index, Index);

/// Runs the log with an owner after each death that continues from the last record.
fn with_restarts(scenario: &Scenario, deaths: &[Death], cut: usize, idle: bool) -> Output {
    let log = &scenario.log;
    let mut ends: Vec<(usize, usize)> = deaths
        .iter()
        .map(|(end, record)| {
            let end = end.index(log.len() + 1);
            (end, record.index(end + 1))
        })
        .collect();
    ends.sort_unstable();
    ends.push((log.len(), log.len()));
    let mut all = Output::default();
    let mut progress = Progress::BIRTH;
    for (end, record_at) in ends {
        let from = progress.resume.or(progress.processed);
        let skip = |sent: &&Sent| match (progress.resume, from) {
            (Some(resume), _) => sent.position < resume,
            (None, Some(processed)) => sent.position <= processed,
            (None, None) => false,
        };
        let start = log.iter().take_while(skip).count();
        let done = progress.ordinal as usize;
        let mut lane = Lane::new(scenario, &progress);
        let mut at = start;
        while at < end.max(start) {
            // Records are taken between blocks, so a block ends at the record's place.
            let mut next = (at + cut).min(end);
            if at < record_at {
                next = next.min(record_at);
            }
            let replayed = next <= done;
            lane.step(&log[at..next]).expect("the log is whole");
            if idle && !replayed && next.is_multiple_of(3) {
                lane.idle();
            }
            at = next;
            assert_eq!(lane.rollup.is_replaying(), at < done && progress.resume.is_some());
            if replayed {
                assert_eq!(lane.output, Output::default(), "something left the replay");
                assert_eq!(lane.rollup.progress().ordinal, progress.ordinal);
            }
            if at == record_at && at > done {
                progress = lane.rollup.progress();
            }
        }
        if end == log.len() && !lane.rollup.is_replaying() {
            lane.finish().expect("the replay is over");
        }
        all.rows.append(&mut lane.output.rows);
        all.letters.append(&mut lane.output.letters);
    }
    all.letters.sort();
    all.letters.dedup();
    all
}

proptest! {
    #![proptest_config(cases(1_000, 2))]

    #[test]
    fn restart_from_any_record_gives_the_rows_of_a_straight_run(
        scenario in scenarios(120),
        deaths in vec(any::<Death>(), 1..4),
        cut in 1_usize..20,
    ) {
        let (expected, _) = straight(&scenario, 64);
        let given = with_restarts(&scenario, &deaths, cut, false);
        prop_assert_eq!(stored(&scenario, &expected.rows), stored(&scenario, &given.rows));
        prop_assert_eq!(expected.letters, given.letters);
    }

    #[test]
    fn restart_with_idle_emissions_gives_the_values_of_a_straight_run(
        scenario in scenarios(120),
        deaths in vec(any::<Death>(), 1..4),
        cut in 1_usize..20,
    ) {
        let (expected, _) = straight(&scenario, 64);
        let given = with_restarts(&scenario, &deaths, cut, true);
        prop_assert_eq!(values(&scenario, &expected.rows), values(&scenario, &given.rows));
        prop_assert_eq!(expected.letters, given.letters);
    }

    #[test]
    fn message_missing_from_an_open_window_is_noticed(
        scenario in scenarios(80),
        stop in any::<Index>(),
        lost in any::<Index>(),
    ) {
        let mut lane = Lane::new(&scenario, &Progress::BIRTH);
        let stop = stop.index(scenario.log.len()) + 1;
        lane.step(&scenario.log[..stop]).expect("no replay");
        let progress = lane.rollup.progress();
        let letters: Vec<u64> = lane.output.letters.iter().map(|letter| letter.0).collect();
        let end_ms = |sent: &Sent| {
            grid(&scenario.rules).window_end(
                Timestamp::from_ms(sent.time_ms).expect("in range"))
        };
        let open: Vec<usize> = (0..stop)
            .filter(|at| !letters.contains(&(*at as u64 + 1)))
            .filter(|at| end_ms(&scenario.log[*at]) > progress.closed_until_ms)
            .collect();
        prop_assume!(!open.is_empty());
        prop_assert_eq!(open.len() as u64, progress.ledger.open);
        let mut log = scenario.log.clone();
        log.remove(*lost.get(&open));
        // With a device limit, another device may take the lost one's place.
        prop_assume!(scenario.rules.devices_max > 100);
        let mut again = Lane::new(&scenario, &progress);
        let result = again.step(&log).and_then(|()| again.finish());
        prop_assert!(result.is_err(), "{:?}", progress);
        prop_assert!(again.rollup.is_replaying() && again.finish().is_err(), "it forgot");
        prop_assert_eq!(again.output, Output::default());
    }
}

#[test]
fn every_column_of_the_reference_has_its_place() {
    let mut runner = proptest::test_runner::TestRunner::new(cases(50, 3));
    let check = |scenario: Scenario| {
        let rows = straight(&scenario, 64).0.rows;
        for row in rows {
            prop_assert_eq!(row.len(), scenario.schema.columns().len());
            prop_assert!(matches!(row.last(), Some(Owned::UInt(_))));
        }
        Ok(())
    };
    runner.run(&scenarios(60), check).expect("each row has a cell per column");
}

#[test]
fn random_logs_hold_every_kind_of_trouble() {
    let mut runner = proptest::test_runner::TestRunner::new(cases(300, 4));
    let mut seen = BTreeMap::<&str, usize>::new();
    for _ in 0..300 {
        let scenario = scenarios(150).new_tree(&mut runner).expect("a scenario").current();
        let (output, naive) = naive(&scenario, &[]);
        for (_, reason) in &output.letters {
            *seen.entry(reason.name()).or_default() += 1;
        }
        let cells = output.rows.iter().flatten();
        *seen.entry("null").or_default() += cells.filter(|cell| **cell == Owned::Null).count();
        *seen.entry("saturated").or_default() += output.saturated_count as usize;
        *seen.entry("row").or_default() += output.rows.len();
        let several = output.rows.len() < naive.progress().ledger.aggregated as usize;
        *seen.entry("row of several messages").or_default() += usize::from(several);
    }
    for name in ["late", "future", "device_limit", "malformed", "null", "saturated", "row"] {
        assert!(seen.get(name).copied().unwrap_or_default() > 50, "{name}: {seen:?}");
    }
    assert!(seen["row of several messages"] > 100, "{seen:?}");
}

#[test]
fn empty_block_in_a_replay_changes_nothing() {
    let mut runner = proptest::test_runner::TestRunner::new(cases(1, 5));
    let scenario = crate::scenario::one_window(20).new_tree(&mut runner).expect("one").current();
    let mut lane = Lane::new(&scenario, &Progress::BIRTH);
    lane.step(&scenario.log).expect("no replay");
    let progress = lane.rollup.progress();
    let mut again = Lane::new(&scenario, &progress);
    again.step(&[]).expect("nothing was read");
    assert!(again.rollup.is_replaying());
    again.step(&scenario.log).expect("the log is whole");
    again.step(&[]).expect("nothing was read");
    assert_eq!(again.rollup.progress(), progress);
}

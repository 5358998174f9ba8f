//! What an operator's reset does to a lane: it forgets, or goes on behind messages that are gone,
//! and in both cases every message is in exactly one place of the ledger.

use tidemill_engine::{
    error::LaneErrorKind,
    lane::{Action, Lane},
    ledger::Ledger,
    record::{ALL_PARTITIONS, CommitRecord, LaneId, ORDINAL_BITS},
    reset::Reset,
};
use tidemill_kernel::{event::Position, time::WindowGrid};

use crate::harness::{MINUTE_MS, START_MS, config, entry, run};

fn reset() -> Reset<'static> {
    Reset { generation: 1, fingerprint: "a=1", writer: 9 }
}

fn grid() -> WindowGrid {
    WindowGrid::new(MINUTE_MS, 0).expect("a grid")
}

/// One minute closed with two messages, the next one open with three; entry 2 is half processed
/// by what counts as open.
fn before() -> CommitRecord {
    let entries = [entry(5, 0, &[1, 2]), entry(5, 1, &[61]), entry(5, 2, &[62, 119])];
    let record = run(0, None, &entries).last().clone();
    let ledger = Ledger { messages: 5, aggregated: 2, open: 3, ..Ledger::default() };
    assert_eq!(record.ledger, ledger);
    record
}

#[test]
fn log_that_was_made_anew_stops_a_lane_whose_windows_are_open() {
    let record = before();
    let anew = [entry(9, 0, &[130])];
    assert!(run(0, Some(&record), &anew).went_back, "the source is sent back first");
    let mut lane = Lane::new(config(0), 7, 4);
    let mut actions = Vec::new();
    lane.start(Some(record), 0, &mut actions);
    lane.take(&anew[0], 0, &mut actions);
    let Some(Action::Failed(error)) = actions.pop() else { panic!("{actions:?}") };
    assert!(matches!(error.kind, LaneErrorKind::Gap { .. }), "{error}");
    assert!(error.to_string().contains("tidemill reset CONFIG --accept-loss"), "{error}");
}

#[test]
fn accepted_loss_counts_what_was_open_and_goes_on_with_the_log_made_anew() {
    let record = reset().accept_loss(&before(), grid(), 0, None);
    let lost = Ledger { messages: 5, aggregated: 2, lost: 3, ..Ledger::default() };
    assert_eq!((record.ledger, record.ledger.balances()), (lost, true));
    assert_eq!(record.closed_until_ms, START_MS + 2 * MINUTE_MS);
    // A message for the window that was given up is late; nothing is mixed into it.
    let anew = [entry(9, 0, &[118, 130]), entry(9, 1, &[181])];
    let done = run(1, Some(&record), &anew);
    assert_eq!(done.failure, None);
    let birth = &done.commits[0].record;
    assert_eq!((birth.birth, birth.birth_ordinal), (Some(Position::new(9, 0, 0)), 5));
    let ledger = Ledger { messages: 8, aggregated: 3, open: 1, late: 1, rejected: 0, lost: 3 };
    assert_eq!(done.last().ledger, ledger);
    assert_eq!(done.last().ordinal, 8);
    // And from each of its records a restart comes to the same.
    for commit in &done.commits {
        let again = run(1, Some(&commit.record), &anew);
        assert_eq!((again.failure, again.went_back), (None, false));
        if let Some(last) = again.commits.last() {
            assert_eq!(last.record.ledger, ledger);
        }
    }
}

#[test]
fn accepted_loss_goes_on_behind_a_gap_and_counts_nothing_twice() {
    let record = reset().accept_loss(&before(), grid(), 0, None);
    // Entry 1 and 2 are still there, 3 and 4 are gone.
    let rest = [entry(5, 1, &[61]), entry(5, 2, &[62, 119]), entry(5, 5, &[150])];
    let done = run(1, Some(&record), &rest);
    assert_eq!((done.failure.as_ref(), done.went_back), (None, false));
    assert_eq!(done.last().ledger.messages, 6);
    assert_eq!(done.last().birth, Some(Position::new(5, 5, 0)));
    // Behind the first entry gaps count again.
    let gap = [rest[2].clone(), entry(5, 7, &[151])];
    assert!(run(1, Some(&record), &gap).went_back);
}

#[test]
fn rows_of_open_windows_that_were_emitted_are_not_lost() {
    let emitted = reset().accept_loss(&before(), grid(), 2, Some(START_MS + 2 * MINUTE_MS));
    let ledger = Ledger { messages: 5, aggregated: 4, lost: 1, ..Ledger::default() };
    assert_eq!(emitted.ledger, ledger);
    // Rows may hold more than the record speaks of, if it was never written.
    let beyond = reset().accept_loss(&before(), grid(), 7, Some(START_MS + 3 * MINUTE_MS));
    let ledger = Ledger { messages: 9, aggregated: 9, ..Ledger::default() };
    assert_eq!((beyond.ledger, beyond.ordinal), (ledger, 9));
    assert_eq!(beyond.closed_until_ms, START_MS + 3 * MINUTE_MS);
}

#[test]
fn forgotten_lane_counts_anew_and_its_rows_replace_the_old_ones() {
    let record = reset().forget(&before());
    let log = [entry(5, 0, &[1, 2]), entry(5, 1, &[61])];
    let done = run(1, Some(&record), &log);
    let ledger = Ledger { messages: 3, aggregated: 2, open: 1, ..Ledger::default() };
    assert_eq!(done.last().ledger, ledger);
    assert_eq!((done.last().birth_ordinal, done.last().birth_generation), (0, 1));
    assert!(done.last().revision() >> ORDINAL_BITS == 1);
    // A process that was not stopped builds on a record that is no longer the last one.
    assert_eq!(done.commits[0].previous, Some(record.id));
    assert!(record.revision() > before().revision());
}

#[test]
fn a_lower_generation_than_that_of_the_reset_is_refused() {
    let record = reset().forget(&before());
    let done = run(0, Some(&record), &[entry(5, 0, &[1])]);
    assert!(matches!(done.failure, Some(LaneErrorKind::Newer { .. })));
    assert!(done.commits.is_empty());
}

/// The record of two merged lanes: of the first minute two messages are merged, of the next one
/// three are open, two of them in lane 0.
fn before_of_two() -> CommitRecord {
    let part = |partition: &str, ledger: Ledger| CommitRecord {
        lane: LaneId::new("p", partition),
        ordinal: ledger.messages,
        ledger,
        ..before()
    };
    let one = Ledger { messages: 3, aggregated: 1, open: 2, ..Ledger::default() };
    let two = Ledger { messages: 2, aggregated: 1, open: 1, ..Ledger::default() };
    let lanes = vec![part("0", one), part("1", two)];
    CommitRecord {
        lane: LaneId::new("p", ALL_PARTITIONS),
        ledger: lanes.iter().map(|lane| lane.ledger).sum(),
        lanes,
        turn: 77,
        ..before()
    }
}

#[test]
fn accepted_loss_of_merged_lanes_balances_in_each_and_in_all() {
    let last = before_of_two();
    // Of the three open messages two are in early rows.
    let record = reset().accept_loss(&last, grid(), 2, Some(START_MS + 2 * MINUTE_MS));
    let ledger = Ledger { messages: 5, aggregated: 4, lost: 1, ..Ledger::default() };
    assert_eq!((record.ledger, record.turn), (ledger, 78));
    assert!(record.revision() > last.revision());
    assert!(record.lanes.iter().all(|lane| lane.ledger.balances() && lane.ledger.open == 0));
    let until_ms = START_MS + 2 * MINUTE_MS;
    assert!(record.lanes.iter().all(|lane| lane.closed_until_ms == until_ms));
    assert_eq!(record.closed_until_ms, until_ms);
}

#[test]
fn merged_lanes_that_are_forgotten_begin_without_parts() {
    let last = before_of_two();
    let record = reset().forget(&last);
    assert!(record.lanes.is_empty() && record.ledger == Ledger::default());
    assert_eq!((record.closed_until_ms, record.birth_generation), (i64::MIN, 1));
    assert!(record.revision() > last.revision(), "{record:?}");
}

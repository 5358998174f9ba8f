//! Late messages that correct rows: what a lane asks for, and what it does with the answer.

use std::sync::Arc;

use tidemill_engine::{
    lane::{Action, Lane, LaneConfig},
    ledger::Ledger,
    port::{Commit, RowKey, StoredState},
};
use tidemill_kernel::{
    amend::LatePolicy,
    event::Reason,
    plan::Plan,
    row::{Cell, RowBlock},
};

use crate::harness::{MINUTE_MS, START_MS, config, entry};

fn amending(generation: u32) -> LaneConfig {
    let mut config = config(generation);
    let schema = config.rollup.plan.schema().as_ref().clone().amendable().expect("free names");
    config.rollup.plan = Arc::new(Plan::new(Arc::new(schema)));
    config.rollup.late = LatePolicy::Amend;
    config
}

/// A lane with a clock of its own that performs nothing by itself.
struct Harness {
    lane: Lane,
    now_ms: u64,
    commits: Vec<Commit>,
    looks: Vec<Vec<RowKey>>,
}

impl Harness {
    fn new() -> Harness {
        Harness::of_generation(0)
    }

    fn of_generation(generation: u32) -> Harness {
        let mut harness = Harness {
            lane: Lane::new(amending(generation), 7, 0),
            now_ms: 0,
            commits: Vec::new(),
            looks: Vec::new(),
        };
        harness.act(|lane, now_ms, actions| lane.start(None, now_ms, actions));
        harness
    }

    fn act(&mut self, act: impl FnOnce(&mut Lane, u64, &mut Vec<Action>)) {
        self.now_ms += 1;
        let mut actions = Vec::new();
        act(&mut self.lane, self.now_ms, &mut actions);
        for action in actions {
            match action {
                Action::Commit { commit, .. } => self.commits.push(*commit),
                Action::Look { keys } => self.looks.push(keys),
                Action::Read { .. } | Action::Acknowledge(_) => {}
                Action::Failed(error) => panic!("{error}"),
            }
        }
    }

    /// Takes an entry of messages of device "a", and a snapshot behind it.
    fn take(&mut self, offset: u64, times_s: &[i64]) {
        let entry = entry(1, offset, times_s);
        self.act(|lane, now_ms, actions| {
            lane.take(&entry, now_ms, actions);
            lane.tick(now_ms + 1, actions);
        });
        self.now_ms += 1;
    }

    fn answer(&mut self, found: Vec<Option<StoredState>>) {
        self.act(|lane, _, actions| lane.looked(Ok(found), actions));
    }

    fn rows(&self, commit: &Commit) -> Vec<Vec<String>> {
        let plan = amending(0).rollup.plan;
        let columns = plan.schema().columns();
        let names = ["time", "record_count", "late_count", "finality", "revision"];
        let places = names.map(|name| {
            columns.iter().position(|column| column.name == name).expect("a column of every row")
        });
        let mut rows = Vec::new();
        for piece in &commit.rows {
            let (mut reader, mut cells) = (piece.reader(columns), Vec::new());
            while reader.next_row(&mut cells) {
                let text = |at: &usize| match cells[*at] {
                    Cell::UInt(value) => value.to_string(),
                    Cell::Text(text) => text.to_owned(),
                    other => panic!("{other:?}"),
                };
                rows.push(places.iter().map(text).collect());
            }
        }
        rows
    }

    /// The state of the only row of a commit.
    fn state(&self, commit: &Commit) -> StoredState {
        let plan = amending(0).rollup.plan;
        let piece: &RowBlock = commit.rows.last().expect("a commit with a row");
        let mut cells = Vec::new();
        piece.reader(plan.schema().columns()).next_row(&mut cells);
        match cells[cells.len() - 4..] {
            [Cell::UInt(revision), Cell::UInt(late), Cell::Text(_), Cell::Text(state)] => {
                StoredState { revision, late_count: late as u32, partial_state: state.to_owned() }
            }
            ref other => panic!("{other:?}"),
        }
    }
}

#[test]
fn commit_waits_for_the_stored_row_while_the_lane_reads_on() {
    let mut harness = Harness::new();
    harness.take(0, &[30, 130]);
    let closed = harness.commits.last().expect("the first minute has closed").clone();
    let known = harness.state(&closed);
    let count = harness.commits.len();
    harness.take(1, &[31]);
    harness.take(2, &[131]);
    assert_eq!(harness.commits.len(), count, "both commits wait for the answer");
    assert_eq!(
        harness.looks,
        [vec![RowKey { end_ms: START_MS + MINUTE_MS, key: vec!["a".to_owned()] }]]
    );
    harness.answer(vec![Some(known)]);
    let [amended, next] = &harness.commits[count..] else { panic!("{:?}", harness.commits) };
    assert_eq!(harness.rows(amended), [["1700000100", "2", "1", "amended", "3"]]);
    let ledger = Ledger { messages: 3, aggregated: 2, open: 1, ..Ledger::default() };
    assert_eq!(amended.record.ledger, ledger);
    assert!(next.rows.is_empty() && next.previous == Some(amended.record.id));
}

#[test]
fn message_that_the_row_holds_already_is_not_merged_again() {
    let mut harness = Harness::new();
    harness.take(0, &[30, 130]);
    harness.take(1, &[31]);
    harness.answer(vec![None]);
    // As if another owner had come as far before its record was written.
    let known = harness.state(harness.commits.last().expect("an amended row"));
    assert_eq!(known.revision, 3);
    let mut again = Harness::new();
    again.take(0, &[30, 130]);
    again.take(1, &[31]);
    again.answer(vec![Some(known)]);
    let last = again.commits.last().expect("a commit");
    assert!(last.rows.is_empty());
    assert_eq!(last.record.ledger.aggregated, 2);
}

#[test]
fn row_without_a_state_makes_its_late_messages_letters() {
    let mut harness = Harness::new();
    harness.take(0, &[30, 130]);
    let count = harness.commits.len();
    harness.take(1, &[31, 32, 132]);
    harness.take(2, &[133]);
    let partial_state = String::new();
    harness.answer(vec![Some(StoredState { revision: 2, late_count: 0, partial_state })]);
    for commit in &harness.commits[count..] {
        assert!(commit.rows.is_empty() && commit.record.ledger.balances());
        assert_eq!((commit.record.ledger.late, commit.record.ledger.aggregated), (2, 1));
    }
    let letters = &harness.commits[count].letters;
    let known: Vec<_> = letters.iter().map(|letter| (letter.ordinal, letter.reason)).collect();
    assert_eq!(known, [(3, Reason::Late), (4, Reason::Late)]);
    assert_eq!(harness.lane.ledger().late, 2);
}

#[test]
fn row_of_a_later_generation_is_left_alone() {
    let later = StoredState { revision: 5 << 44, late_count: 0, partial_state: String::new() };
    let mut harness = Harness::new();
    harness.take(0, &[30, 130]);
    let count = harness.commits.len();
    harness.take(1, &[31]);
    harness.answer(vec![Some(later)]);
    assert!(harness.commits[count].rows.is_empty(), "it would give way to what is stored");
    assert_eq!(harness.commits[count].record.ledger.aggregated, 2);
}

#[test]
fn row_of_an_earlier_count_is_none() {
    let mut harness = Harness::of_generation(2);
    harness.take(0, &[30, 130]);
    let mut known = harness.state(harness.commits.last().expect("a commit"));
    // Its ordinals are those of another count, so what it holds says nothing of this one.
    known.revision = 1 << 44 | 9;
    let count = harness.commits.len();
    harness.take(1, &[31]);
    harness.answer(vec![Some(known)]);
    let revision = (2_u64 << 44 | 3).to_string();
    let expected = [["1700000100", "1", "1", "amended", revision.as_str()]];
    assert_eq!(harness.rows(&harness.commits[count]), expected);
}

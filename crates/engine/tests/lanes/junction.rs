//! Merged lanes: what is written while one is silent, how long others wait for it, and partitions
//! that come and go.

use std::sync::Arc;

use tidemill_engine::{
    error::LaneErrorKind,
    junction::{Action, Junction, JunctionConfig},
    port::Commit,
    record::CommitRecord,
};
use tidemill_kernel::row::Cell;

use crate::harness::{MINUTE_MS, START_MS, config, entry};

const IDLE_MS: u64 = 1_000;

/// Some lanes that are fed by hand; every commit succeeds at once.
struct Lanes {
    junction: Junction,
    now_ms: u64,
    commits: Vec<Commit>,
    silent: Vec<Vec<Arc<str>>>,
    failure: Option<LaneErrorKind>,
}

impl Lanes {
    fn start(partitions: &[&str], record: Option<CommitRecord>) -> Lanes {
        let mut lane = config(0);
        (lane.idle_timeout_ms, lane.commit_interval_ms) = (IDLE_MS, 1_000_000);
        let partitions: Vec<Arc<str>> = partitions.iter().map(|name| Arc::from(*name)).collect();
        let config = JunctionConfig { lane, held_windows_max: 4 };
        let mut lanes = Lanes {
            junction: Junction::new(config, 7, 0, &partitions, |_| 0),
            now_ms: 0,
            commits: Vec::new(),
            silent: Vec::new(),
            failure: None,
        };
        lanes.act(|junction, now_ms, actions| junction.start(record, now_ms, actions));
        lanes
    }

    fn act(&mut self, act: impl FnOnce(&mut Junction, u64, &mut Vec<Action>)) {
        let mut actions = Vec::new();
        act(&mut self.junction, self.now_ms, &mut actions);
        while !actions.is_empty() {
            match actions.remove(0) {
                Action::Commit { commit, .. } => {
                    self.commits.push(*commit);
                    self.junction.committed(Ok(()), &mut actions);
                }
                Action::Silent { partitions, .. } => self.silent.push(partitions),
                Action::Failed(error) => self.failure = Some(error.kind),
                Action::Read { .. } | Action::Acknowledge { .. } => {}
            }
        }
    }

    /// Feeds a partition with an entry of events at these seconds.
    fn feed(&mut self, partition: &str, offset: u64, seconds: &[i64]) {
        let partition = Arc::from(partition);
        let entry = entry(1, offset, seconds);
        self.act(|junction, now, actions| junction.take(&partition, &entry, now, actions));
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.act(|junction, now_ms, actions| junction.tick(now_ms, |_| false, actions));
    }

    /// The rows of all commits: minute, messages, revision.
    fn rows(&self) -> Vec<(u64, u64, u64)> {
        let columns = config(0).rollup.plan.schema().columns().to_vec();
        let at = |name: &str| columns.iter().position(|column| column.name == name).expect("there");
        let (time, count, revision) = (at("time"), at("record_count"), at("revision"));
        let number = |cell: &Cell<'_>| match cell {
            Cell::UInt(number) => *number,
            other => panic!("{other:?} is no number"),
        };
        let mut rows = Vec::new();
        for piece in self.commits.iter().flat_map(|commit| &commit.rows) {
            let (mut reader, mut cells) = (piece.reader(&columns), Vec::new());
            while reader.next_row(&mut cells) {
                let minute = (number(&cells[time]) * 1000 - START_MS as u64) / MINUTE_MS as u64;
                rows.push((minute, number(&cells[count]), number(&cells[revision])));
            }
        }
        rows
    }

    fn record(&self) -> CommitRecord {
        self.commits.last().expect("there was a commit").record.clone()
    }
}

#[test]
fn window_is_merged_when_the_last_lane_has_closed_it() {
    let mut lanes = Lanes::start(&["0", "1"], None);
    lanes.feed("0", 0, &[1, 2, 61]);
    assert_eq!(lanes.rows(), []);
    lanes.feed("1", 0, &[3]);
    assert_eq!(lanes.rows(), []);
    lanes.feed("1", 1, &[70]);
    // Three messages of the first lane, two of the second.
    assert_eq!(lanes.rows(), [(1, 3, 5)]);
    let ledger = lanes.record().ledger;
    assert_eq!((ledger.aggregated, ledger.open, ledger.balances()), (3, 2, true));
    lanes.feed("1", 2, &[4]);
    assert_eq!(lanes.junction.ledger("1").late, 1);
}

#[test]
fn silent_lane_holds_rows_back_until_the_idle_timeout_only() {
    let mut lanes = Lanes::start(&["0", "1"], None);
    lanes.feed("1", 0, &[3]);
    lanes.feed("0", 0, &[1, 61]);
    lanes.wait(IDLE_MS - 1);
    lanes.feed("0", 1, &[121]);
    assert_eq!(lanes.rows(), []);
    lanes.wait(1);
    // What only the silent lane has not closed; its early row is no closing.
    assert_eq!(lanes.rows(), [(1, 2, 3), (2, 1, 4)]);
    assert_eq!(lanes.record().ledger.aggregated, 0);
    lanes.wait(10 * IDLE_MS);
    let early = lanes.rows();
    lanes.feed("1", 1, &[5, 200]);
    let last = &lanes.rows()[early.len()..];
    // A straggler is still counted in, under a higher revision.
    assert_eq!(last[0], (1, 3, 5), "{last:?}");
    assert_eq!(lanes.junction.ledger("1").late, 0);
}

#[test]
fn lane_that_can_hold_no_more_waits_and_then_the_silent_one_is_closed() {
    let mut lanes = Lanes::start(&["0", "1"], None);
    lanes.feed("1", 0, &[3]);
    lanes.feed("0", 0, &[1, 61, 121, 181, 241]);
    assert_eq!(lanes.junction.held_window_count("0"), 4);
    assert!(!lanes.junction.accepts("0") && lanes.junction.accepts("1"));
    assert!(lanes.silent.is_empty());
    lanes.wait(IDLE_MS);
    assert_eq!(lanes.silent, [[Arc::from("1")]]);
    assert!(lanes.junction.accepts("0"));
    let record = lanes.record();
    assert_eq!(record.closed_until_ms, START_MS + 3 * MINUTE_MS);
    // That it was closed is in the record, before anything is late because of it.
    lanes.feed("1", 1, &[4, 190]);
    assert_eq!(lanes.junction.ledger("1").late, 1);
    let mut again = Lanes::start(&["0", "1"], Some(record));
    again.feed("1", 1, &[4, 190]);
    assert_eq!(again.junction.ledger("1").late, 1);
    assert!(again.failure.is_none());
}

#[test]
fn partition_that_comes_later_is_merged_from_then_on() {
    let mut lanes = Lanes::start(&["0"], None);
    lanes.feed("0", 0, &[1, 61]);
    assert_eq!(lanes.rows(), [(1, 1, 2)]);
    let partition = Arc::from("1");
    lanes.act(|junction, now_ms, actions| junction.add(&partition, now_ms, actions));
    lanes.feed("1", 0, &[2, 62]);
    assert_eq!(lanes.junction.ledger("1").late, 1, "its window has a final row");
    lanes.feed("0", 1, &[121]);
    assert_eq!(lanes.rows().len(), 1);
    lanes.feed("1", 1, &[125]);
    assert_eq!(lanes.rows()[1], (2, 2, 6));
}

#[test]
fn partition_that_is_gone_matters_only_if_something_of_it_is_open() {
    let mut lanes = Lanes::start(&["0", "1"], None);
    lanes.feed("0", 0, &[1]);
    lanes.feed("1", 0, &[2]);
    lanes.act(|junction, now_ms, actions| junction.drain(now_ms, actions));
    let gone = Lanes::start(&["0"], Some(lanes.record()));
    assert_eq!(gone.failure, Some(LaneErrorKind::PartitionGone { open: 1 }));

    let mut lanes = Lanes::start(&["0", "1"], None);
    lanes.feed("0", 0, &[1]);
    lanes.feed("1", 0, &[2]);
    for partition in ["1", "0"] {
        let partition = Arc::from(partition);
        lanes.act(|junction, now_ms, actions| junction.end(&partition, now_ms, actions));
    }
    let record = lanes.record();
    assert_eq!((record.ledger.aggregated, record.ledger.open), (2, 0));
    let mut rest = Lanes::start(&["0"], Some(record));
    assert!(rest.failure.is_none());
    rest.feed("0", 1, &[61, 121]);
    assert_eq!(rest.rows(), [(2, 1, 4)], "the ordinals of the one that is gone still count");
    assert_eq!(rest.record().ledger.messages, 4);
}

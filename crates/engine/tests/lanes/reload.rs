//! Values of time that change while a lane runs: windows up to the edge go by the old ones, later
//! ones by the new, whoever owns the lane and wherever it starts again.

use std::collections::BTreeMap;

use tidemill_engine::{
    error::LaneErrorKind,
    lane::{Action, Lane, LaneConfig},
    port::{Commit, Entry},
    record::CommitRecord,
    settings::{Edge, LaneSettings, TIMING_KEYS, with_timing},
};
use tidemill_kernel::{
    event::Position,
    rollup::{Change, Timing},
    row::Cell,
    time::DurationMs,
};

use crate::harness::{MINUTE_MS, START_MS, config, entry, payloads};

/// Seconds of out-of-orderness, lateness and skew.
pub(crate) fn timing([orderness, lateness, skew]: [i64; 3]) -> Timing {
    let length = |seconds: i64| DurationMs::from_ms(seconds * 1_000);
    Timing {
        max_out_of_orderness: length(orderness),
        allowed_lateness: length(lateness),
        max_future_skew: length(skew),
    }
}

pub(crate) fn config_of(timing: Timing) -> LaneConfig {
    let lines: Vec<String> = TIMING_KEYS.iter().map(|key| format!("{key}=0")).collect();
    let mut config = config(0);
    config.fingerprint = with_timing(&format!("a=1\n{}", lines.join("\n")), timing).into();
    config.rollup.set_timing(timing);
    config
}

fn settings(timing: Timing) -> LaneSettings {
    LaneSettings { timing, ..config(0).settings() }
}

/// What stands in a store.
#[derive(Clone, Debug, Default, PartialEq)]
struct Stored {
    /// By the window's end: revision, how many messages, and the whole row.
    rows: BTreeMap<i64, (u64, u64, String)>,
    letters: BTreeMap<Position, &'static str>,
    record: Option<CommitRecord>,
}

impl Stored {
    fn write(&mut self, commit: &Commit) {
        let config = config(0);
        let columns = config.rollup.plan.schema().columns();
        let at = |name: &str| columns.iter().position(|column| column.name == name);
        let unsigned = |cells: &[Cell<'_>], name: &str| match cells[at(name).expect("a column")] {
            Cell::UInt(value) => value,
            ref other => panic!("{other:?}"),
        };
        let mut cells = Vec::new();
        for piece in &commit.rows {
            let mut reader = piece.reader(columns);
            while reader.next_row(&mut cells) {
                let end_ms = unsigned(&cells, "time") as i64 * 1_000;
                let (revision, count) =
                    (unsigned(&cells, "revision"), unsigned(&cells, "record_count"));
                let row = (revision, count, format!("{cells:?}"));
                let known = self.rows.get(&end_ms).filter(|known| known.0 >= revision);
                assert!(
                    known.is_none_or(|known| known.0 > revision || *known == row),
                    "T1: {row:?}"
                );
                if known.is_none() {
                    self.rows.insert(end_ms, row);
                }
            }
        }
        for letter in &commit.letters {
            let before = self.letters.insert(letter.position, letter.reason.name());
            assert!(before.is_none_or(|before| before == letter.reason.name()), "{letter:?}");
        }
        self.record = Some(commit.record.clone());
    }

    fn record(&self) -> &CommitRecord {
        self.record.as_ref().expect("there was a commit")
    }

    fn counts(&self) -> BTreeMap<i64, u64> {
        self.rows.iter().map(|(end_ms, row)| (*end_ms, row.1)).collect()
    }
}

/// A process with a store: every commit is durable at once.
struct Owner {
    lane: Lane,
    now_ms: u64,
    stored: Stored,
    /// The store after each commit.
    history: Vec<Stored>,
    failure: Option<LaneErrorKind>,
}

impl Owner {
    fn start(config: LaneConfig, earlier: &[Timing], stored: Stored) -> Owner {
        let mut lane = Lane::new(config, 7, 0);
        lane.know_earlier(earlier);
        let record = stored.record.clone();
        let mut owner = Owner { lane, now_ms: 0, stored, history: Vec::new(), failure: None };
        owner.act(|lane, now_ms, actions| lane.start(record, now_ms, actions));
        owner
    }

    fn act(&mut self, act: impl FnOnce(&mut Lane, u64, &mut Vec<Action>)) {
        let mut actions = Vec::new();
        self.now_ms += 1;
        act(&mut self.lane, self.now_ms, &mut actions);
        while !actions.is_empty() {
            match actions.remove(0) {
                Action::Commit { commit, .. } => {
                    self.stored.write(&commit);
                    self.history.push(self.stored.clone());
                    self.lane.committed(Ok(()), &mut actions);
                }
                Action::Failed(error) => self.failure = Some(error.kind),
                Action::Read { seek, .. } => assert!(!seek, "nothing is missing"),
                Action::Acknowledge(_) => {}
                Action::Look { .. } => panic!("nothing is amended"),
            }
        }
    }

    fn take(&mut self, entry: &Entry) {
        self.act(|lane, now_ms, actions| lane.take(entry, now_ms, actions));
        self.act(|lane, now_ms, actions| lane.tick(now_ms, actions));
    }

    fn reload(&mut self, timing: Timing) {
        self.act(|lane, now_ms, actions| lane.reload(&settings(timing), now_ms, actions));
    }

    fn end(mut self) -> (Stored, Option<LaneErrorKind>) {
        self.act(|lane, now_ms, actions| lane.end(now_ms, actions));
        (self.stored, self.failure)
    }
}

fn minute(number: i64) -> i64 {
    START_MS + number * MINUTE_MS
}

#[test]
fn window_opened_under_the_old_values_closes_under_them() {
    let (old, new) = (timing([0, 0, 0]), timing([30, 0, 0]));
    let mut owner = Owner::start(config_of(old), &[], Stored::default());
    owner.take(&entry(1, 0, &[10, 50]));
    owner.reload(new);
    assert_eq!(owner.lane.edge(), Edge::At(minute(1)));
    let change = Change { edge_ms: minute(1), since: Position::new(1, 0, 1), timing: new };
    let record = owner.stored.record();
    assert_eq!(record.transition.changes, [change]);
    assert_eq!(record.fingerprint, config_of(old).fingerprint.as_ref());
    // The new values would keep the first minute open for the second message of this entry.
    owner.take(&entry(1, 1, &[65, 30]));
    assert_eq!(owner.stored.counts(), [(minute(1), 2)].into());
    assert_eq!(owner.stored.letters.values().collect::<Vec<_>>(), [&"late"]);
    assert_eq!(owner.lane.edge(), Edge::Passed);
    let record = owner.stored.record();
    assert!(record.transition.is_none());
    assert_eq!(record.fingerprint, config_of(new).fingerprint.as_ref());
    // The old values would have closed the second minute before its second message.
    owner.take(&entry(1, 2, &[149, 110, 150]));
    assert_eq!(owner.stored.counts(), [(minute(1), 2), (minute(2), 2)].into());
}

#[test]
fn lane_takes_nothing_before_the_edge_is_durable() {
    let mut lane = Lane::new(config_of(timing([0, 0, 0])), 7, 0);
    let mut actions = Vec::new();
    lane.start(None, 0, &mut actions);
    lane.take(&entry(1, 0, &[10]), 1, &mut actions);
    lane.reload(&settings(timing([9, 0, 0])), 1, &mut actions);
    let commits = actions.iter().filter(|action| matches!(action, Action::Commit { .. }));
    assert_eq!(commits.count(), 2, "birth and edge");
    lane.committed(Ok(()), &mut actions);
    assert!(!lane.accepts(), "the birth record alone is durable");
    lane.committed(Ok(()), &mut actions);
    assert!(lane.accepts());
}

#[test]
fn process_with_other_values_refuses_a_lane_that_goes_over() {
    let (old, new) = (timing([0, 0, 0]), timing([30, 20, 0]));
    let mut owner = Owner::start(config_of(old), &[], Stored::default());
    owner.take(&entry(1, 0, &[10]));
    owner.reload(new);
    let record = owner.stored.record().clone();
    for other in [old, timing([30, 0, 0])] {
        let refused = Owner::start(config_of(other), &[], owner.stored.clone());
        let Some(LaneErrorKind::Reloaded { keys }) = refused.failure else {
            panic!("{:?}", refused.failure);
        };
        assert!(keys.iter().all(|key| TIMING_KEYS.contains(&key.as_str())) && !keys.is_empty());
    }
    let known = Owner::start(config_of(new), &[], owner.stored.clone());
    assert_eq!((known.failure, known.lane.edge()), (None, Edge::At(minute(1))));
    // Without an edge in the record it is the configuration that was changed, as ever.
    let settled = CommitRecord { transition: Default::default(), ..record };
    let stored = Stored { record: Some(settled), ..Stored::default() };
    let changed = Owner::start(config_of(new), &[], stored.clone());
    assert!(matches!(changed.failure, Some(LaneErrorKind::Fingerprint { open: 1, .. })));
    // A process that was reloaded knows what the lane went by, and goes over itself.
    let mut reloaded = Owner::start(config_of(new), &[old], stored);
    assert_eq!((reloaded.failure.clone(), reloaded.lane.edge()), (None, Edge::Pending));
    // The end of what is read again comes with the last entry that the record covers.
    reloaded.take(&entry(1, 0, &[10]));
    assert_eq!(reloaded.stored.record().transition.wanted, Some(new));
    reloaded.take(&entry(1, 1, &[61]));
    assert_eq!(reloaded.lane.edge(), Edge::At(minute(2)));
}

#[test]
fn lane_with_a_predecessor_says_what_it_will_do_and_closes_a_window_first() {
    let (old, new) = (timing([0, 0, 0]), timing([30, 0, 0]));
    let mut first = Owner::start(config_of(old), &[], Stored::default());
    first.take(&entry(1, 0, &[10]));
    let mut second = Owner::start(config_of(old), &[], first.stored);
    second.take(&entry(1, 0, &[10]));
    second.reload(new);
    assert_eq!(second.lane.edge(), Edge::Pending);
    assert_eq!(second.stored.record().transition.wanted, Some(new));
    let commits = second.history.len();
    second.act(|lane, now_ms, actions| lane.tick(now_ms, actions));
    assert_eq!(second.history.len(), commits, "said once");
    // Killed here, the next process has the new configuration alone.
    let mut third = Owner::start(config_of(new), &[], second.stored);
    assert_eq!(third.failure, None);
    third.take(&entry(1, 0, &[10]));
    third.take(&entry(1, 1, &[70, 20, 125]));
    assert_eq!(third.stored.counts(), [(minute(1), 1), (minute(2), 1)].into());
    assert_eq!(third.lane.edge(), Edge::At(minute(3)));
    assert_eq!(third.stored.letters.len(), 1, "the old values close the first minute");
}

#[test]
fn values_that_no_window_has_gone_by_leave_no_trace() {
    let (old, between, new) = (timing([0, 0, 0]), timing([90, 0, 0]), timing([30, 0, 0]));
    let mut owner = Owner::start(config_of(old), &[], Stored::default());
    owner.take(&entry(1, 0, &[10]));
    owner.reload(between);
    owner.reload(new);
    let changes = &owner.stored.record().transition.changes;
    assert_eq!(changes.iter().map(|change| change.timing).collect::<Vec<_>>(), [new]);
    owner.take(&entry(1, 1, &[65, 149, 110]));
    owner.take(&entry(1, 2, &[150]));
    assert_eq!(owner.stored.counts(), [(minute(1), 1), (minute(2), 2)].into());
}

/// A small generator of numbers (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as i64
    }

    fn timing(&mut self) -> Timing {
        let mut pick = |of: [i64; 4]| of[self.below(4) as usize];
        timing([pick([0, 5, 30, 90]), pick([0, 0, 20, 60]), pick([0, 20, 60, 150])])
    }
}

/// Entries of messages (event second, publish second), and before which of them the values change.
struct Script {
    entries: Vec<Vec<(i64, i64)>>,
    first: Timing,
    reloads: Vec<(usize, Timing)>,
}

impl Script {
    fn new(seed: u64) -> Script {
        let mut random = Random(seed);
        let first = random.timing();
        let mut now = 100;
        let entries = (0..30).map(|_| {
            let message = |_| {
                now += random.below(30);
                let ahead = if random.below(6) == 0 { random.below(180) } else { 0 };
                (now + ahead - random.below(100), now)
            };
            (0..4).map(message).collect()
        });
        let entries: Vec<_> = entries.collect();
        let mut reloads: Vec<(usize, Timing)> = Vec::new();
        for _ in 0..=random.below(3) {
            reloads.push((1 + random.below(25) as usize, random.timing()));
        }
        reloads.sort_by_key(|(at, _)| *at);
        Script { entries, first, reloads }
    }

    fn entry(&self, at: usize) -> Entry {
        let payload = |(second, _): &(i64, i64)| {
            let time_ms = START_MS + second * 1_000;
            format!("{{\"device\":\"a\",\"time\":{time_ms}}}").into_bytes()
        };
        let messages = &self.entries[at];
        let bytes: Vec<_> = messages.iter().map(payload).collect();
        let mut entry = payloads(1, at as u64, &bytes);
        for (message, (_, publish)) in entry.messages.iter_mut().zip(messages) {
            message.publish_time_ms = START_MS + publish * 1_000;
        }
        entry
    }

    fn last(&self) -> Timing {
        self.reloads.last().expect("at least one").1
    }

    /// Rows and letters by the rules alone, message by message.
    fn expected(&self) -> (BTreeMap<i64, u64>, BTreeMap<Position, &'static str>) {
        let (mut counts, mut letters) = (BTreeMap::new(), BTreeMap::new());
        let (mut highest_ms, mut closed_ms) = (i64::MIN, i64::MIN);
        let (mut base, mut changes) = (self.first, Vec::<(i64, Timing)>::new());
        let floor = |ms: i64| ms - ms.rem_euclid(MINUTE_MS);
        for (at, messages) in self.entries.iter().enumerate() {
            for (_, timing) in self.reloads.iter().filter(|(before, _)| *before == at) {
                match counts.keys().last().copied().filter(|end_ms| *end_ms > closed_ms) {
                    None => base = *timing,
                    Some(edge_ms) => {
                        changes.retain(|(before, _)| *before < edge_ms);
                        changes.push((edge_ms, *timing));
                    }
                }
            }
            for (index, (second, publish)) in messages.iter().enumerate() {
                let time_ms = START_MS + second * 1_000;
                let end_ms = floor(time_ms) + MINUTE_MS;
                let own = changes.iter().rev().find(|(edge_ms, _)| end_ms > *edge_ms);
                let own = own.map_or(base, |(_, timing)| *timing);
                let mut refuse =
                    |why| letters.insert(Position::new(1, at as u64, index as u32), why);
                if time_ms > START_MS + publish * 1_000 + own.max_future_skew.as_ms() {
                    refuse("future");
                    continue;
                }
                if end_ms <= closed_ms {
                    refuse("late");
                    continue;
                }
                *counts.entry(end_ms).or_insert(0) += 1;
                if time_ms <= highest_ms {
                    continue;
                }
                highest_ms = time_ms;
                loop {
                    let held = base.max_out_of_orderness.as_ms() + base.allowed_lateness.as_ms();
                    let edge_ms = changes.first().map_or(i64::MAX, |(edge_ms, _)| *edge_ms);
                    closed_ms = closed_ms.max(floor(highest_ms - held).min(edge_ms));
                    if closed_ms < edge_ms {
                        break;
                    }
                    base = changes.remove(0).1;
                }
            }
        }
        (counts, letters)
    }
}

/// Runs a script; returns the store and all its states since the last reload.
fn run(script: &Script) -> (Stored, Vec<Stored>) {
    let mut owner = Owner::start(config_of(script.first), &[], Stored::default());
    let mut settled_at = 0;
    for at in 0..script.entries.len() {
        for (_, timing) in script.reloads.iter().filter(|(before, _)| *before == at) {
            settled_at = owner.history.len();
            owner.reload(*timing);
        }
        owner.take(&script.entry(at));
    }
    let history = owner.history.split_off(settled_at);
    let (stored, failure) = owner.end();
    assert_eq!(failure, None);
    (stored, history)
}

#[test]
fn rows_and_letters_are_those_of_the_rules_whenever_values_change() {
    for seed in 0..400 {
        let script = Script::new(seed);
        let (stored, _) = run(&script);
        let (counts, letters) = script.expected();
        assert_eq!(stored.counts(), counts, "rows of seed {seed}");
        assert_eq!(stored.letters, letters, "letters of seed {seed}");
        assert!(stored.record().ledger.balances());
    }
}

#[test]
fn restart_from_any_record_of_a_transition_gives_the_rows_of_a_straight_run() {
    let mut under_way = 0;
    for seed in 0..400 {
        let script = Script::new(seed);
        let (straight, history) = run(&script);
        for stored in history {
            under_way += usize::from(!stored.record().transition.changes.is_empty());
            let mut owner = Owner::start(config_of(script.last()), &[], stored);
            for at in 0..script.entries.len() {
                owner.take(&script.entry(at));
            }
            let (again, failure) = owner.end();
            assert_eq!(failure, None, "seed {seed}");
            assert_eq!(
                (again.rows, again.letters),
                (straight.rows.clone(), straight.letters.clone())
            );
            let ledger = again.record.map(|record| record.ledger);
            assert_eq!(ledger, Some(straight.record().ledger), "seed {seed}");
        }
    }
    assert!(under_way > 500, "{under_way} restarts within a transition");
}

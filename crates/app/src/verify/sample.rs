//! Which stored rows are computed again, and what is said of them afterwards.
//!
//! The choice is uniform over the closed device-windows of a span, without repeats, and the same
//! for the same store and seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::AddAssign,
};

use tidemill_engine::{record::CommitRecord, window_log::utc};
use tidemill_kernel::row::Column;
use tidemill_sink::{LaneRows, SinkError, StoreReader, Value, WindowRows};

use super::{
    amended,
    recompute::{Recomputed, RowCount, key_indexes},
    row::{REVISION, difference},
};
use crate::{config::Config, ledger_check::Finding};

pub use super::recompute::Target;

/// The most rows of a sample: each takes some kilobytes of memory.
pub const SAMPLE_MAX: u64 = 100_000;
/// Differences that are told one by one.
const TOLD_MAX: usize = 10;
/// Missing rows of a window that are named.
const MISSING_NAMED_MAX: usize = 5;

/// A generator of random numbers (splitmix64): a choice can be repeated from its seed.
struct Random(u64);

impl Random {
    /// Returns a number from 0 to `last`.
    fn up_to(&mut self, last: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The high half of the product: less than one in 2^40 off uniform for any store.
        ((u128::from(mixed) * (u128::from(last) + 1)) >> 64) as u64
    }
}

/// Chooses `count` of `total` numbers, each set of them equally likely (Floyd's way).
fn choose(seed: u64, count: u64, total: u64) -> BTreeSet<u64> {
    let mut random = Random(seed);
    let mut chosen = BTreeSet::new();
    for last in total.saturating_sub(count)..total {
        let number = random.up_to(last);
        if !chosen.insert(number) {
            chosen.insert(last);
        }
    }
    chosen
}

/// A run of neighbouring rows of one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which of the lanes.
    pub lane: usize,
    /// The end of the window (ms).
    pub end_ms: i64,
    /// How many rows of the window stand before it.
    pub skip: u64,
    /// How many rows.
    pub count: u64,
}

/// Chooses rows; `windows` has those of each lane.
pub fn pick(windows: &[Vec<WindowRows>], count: u64, seed: u64) -> Vec<Run> {
    let total = windows.iter().flatten().map(|window| window.row_count).sum();
    let mut chosen = choose(seed, count, total).into_iter().peekable();
    let mut runs: Vec<Run> = Vec::new();
    let mut before = 0;
    for (lane, window) in
        windows.iter().enumerate().flat_map(|(lane, of)| of.iter().map(move |w| (lane, w)))
    {
        let end = before + window.row_count;
        while let Some(number) = chosen.next_if(|number| *number < end) {
            let (end_ms, skip) = (window.end_ms, number - before);
            match runs.last_mut().filter(|run| (run.lane, run.end_ms) == (lane, end_ms)) {
                Some(run) if run.skip + run.count == skip => run.count += 1,
                _ => runs.push(Run { lane, end_ms, skip, count: 1 }),
            }
        }
        before = end;
    }
    runs
}

/// Reads the rows of runs.
///
/// # Errors
/// If the store cannot be read.
pub fn load(
    config: &Config,
    reader: &mut dyn StoreReader,
    rows: &LaneRows,
    runs: impl Iterator<Item = Run>,
) -> Result<Vec<Target>, SinkError> {
    let columns = config.schema.columns();
    let key_indexes = key_indexes(config);
    let revision_index = columns.iter().position(|column| column.name == REVISION);
    let mut targets = Vec::new();
    for run in runs {
        let found = reader.rows_of_window(rows, run.end_ms, run.skip, run.count)?;
        targets.extend(found.rows.into_iter().map(|stored| Target {
            end_ms: run.end_ms,
            key: text_key(&stored, &key_indexes),
            revision: revision_index.and_then(|at| stored[at].as_u64()).unwrap_or(0),
            stored,
            at_revision: None,
            at_close: None,
        }));
    }
    Ok(targets)
}

fn text_key(row: &[Value], key_indexes: &[usize]) -> Vec<String> {
    key_indexes.iter().map(|at| row[*at].as_text().unwrap_or_default().to_owned()).collect()
}

/// What became of the rows of a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rows that were to be computed again.
    pub picked: u64,
    /// Rows that are, bit for bit, what their messages give.
    pub equal: u64,
    /// Rows that differ.
    pub different: u64,
    /// Rows whose messages are not all there any more, or cannot be read again.
    pub not_checkable: u64,
    /// Those of them that were written behind the commit of the record.
    pub ahead: u64,
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Outcome) {
        self.picked += other.picked;
        self.equal += other.equal;
        self.different += other.different;
        self.not_checkable += other.not_checkable;
        self.ahead += other.ahead;
    }
}

/// What is known of the log that rows were computed from.
#[derive(Clone, Copy, Debug)]
pub struct LogState {
    /// Windows that start before this (ms) may have had messages that are gone.
    pub whole_from_ms: i64,
    /// The size of the windows (ms).
    pub size_ms: i64,
    /// Whether the input may have ended once, which closed windows, and gone on later: files.
    pub may_have_ended: bool,
}

impl LogState {
    /// Reports whether the log has all messages of a window by its end.
    pub fn is_whole(&self, end_ms: i64) -> bool {
        end_ms - self.size_ms >= self.whole_from_ms
    }
}

/// Judges recomputed rows; what differs goes into `finding`.
pub fn judge(
    columns: &[Column],
    record: &CommitRecord,
    recomputed: &Recomputed,
    log: LogState,
    finding: &mut Finding,
) -> Outcome {
    let mut outcome = Outcome { picked: recomputed.targets.len() as u64, ..Outcome::default() };
    // An end of the input closes windows that the log alone would not: what comes for them later
    // is late, though nothing in the log says so.
    let ended_before =
        log.may_have_ended && !recomputed.amends && recomputed.ledger.late < record.ledger.late;
    let mut told = Vec::new();
    for target in &recomputed.targets {
        let verdict = match recomputed.amends {
            true if amended::is_ahead(columns, &target.stored, record) => {
                outcome.not_checkable += 1;
                outcome.ahead += 1;
                continue;
            }
            true => amended_verdict(columns, target, log),
            false => verdict(columns, target, ended_before),
        };
        match verdict {
            None => outcome.equal += 1,
            Some(_) if !log.is_whole(target.end_ms) => outcome.not_checkable += 1,
            Some(_) if may_lack_late(columns, target, record, recomputed) => {
                outcome.not_checkable += 1;
            }
            Some(text) => {
                outcome.different += 1;
                told.push(format!("row {} {}: {text}", utc(target.end_ms), target.key.join("/")));
            }
        }
    }
    let counts = recomputed.row_counts.iter().filter(|window| log.is_whole(window.end_ms));
    if !ended_before {
        let stored = stored_keys(&recomputed.targets);
        told.extend(counts.map(|window| row_count_text(window, &stored)));
    }
    if ended_before {
        finding.notes.push(
            "the input has ended once and went on later: rows are held against the messages up \
             to their revision only"
                .to_owned(),
        );
    }
    let more = told.len().saturating_sub(TOLD_MAX);
    finding.differences.extend(told.into_iter().take(TOLD_MAX));
    if more > 0 {
        finding.differences.push(format!("and {more} more rows and windows"));
    }
    outcome
}

/// Returns what is wrong with a row.
fn verdict(columns: &[Column], target: &Target, ended_before: bool) -> Option<String> {
    let stored = &target.stored;
    match (&target.at_revision, &target.at_close) {
        (Some(computed), _) if difference(columns, stored, computed, &[]).is_some() => {
            difference(columns, stored, computed, &[])
        }
        (Some(_), Some(closed)) if !ended_before => {
            difference(columns, stored, closed, &[REVISION])
                .map(|text| format!("more messages came before its window closed: {text}"))
        }
        (Some(_), _) => None,
        (None, Some(closed)) => Some(
            difference(columns, stored, closed, &[])
                .unwrap_or_else(|| "its revision is none at which it could be written".to_owned()),
        ),
        (None, None) => Some("no message of the log is of this device and window".to_owned()),
    }
}

/// Returns what is wrong with a row that late messages may have changed.
fn amended_verdict(columns: &[Column], target: &Target, log: LogState) -> Option<String> {
    let Some(made) = &target.at_close else {
        return Some("no message of the log is of this device and window".to_owned());
    };
    let difference = amended::difference_of(columns, &target.stored, made, log.may_have_ended);
    let revision = || amended::revision_difference(columns, &target.stored, made);
    difference.or_else(|| if log.may_have_ended { None } else { revision() })
}

/// Reports whether late messages that are dead letters may be what a row lacks.
fn may_lack_late(
    columns: &[Column],
    target: &Target,
    record: &CommitRecord,
    recomputed: &Recomputed,
) -> bool {
    let made = target.at_close.as_ref().filter(|_| recomputed.amends);
    made.is_some_and(|made| amended::may_lack_late(columns, &target.stored, made, record))
}

/// Returns the keys of the wanted rows by window.
fn stored_keys(targets: &[Target]) -> BTreeMap<i64, BTreeSet<&Vec<String>>> {
    let mut keys: BTreeMap<i64, BTreeSet<&Vec<String>>> = BTreeMap::new();
    for target in targets {
        keys.entry(target.end_ms).or_default().insert(&target.key);
    }
    keys
}

fn row_count_text(
    window: &RowCount,
    stored_keys: &BTreeMap<i64, BTreeSet<&Vec<String>>>,
) -> String {
    let RowCount { end_ms, stored, computed, keys } = window;
    let text = format!("window {}: {stored} rows stored, {computed} by the messages", utc(*end_ms));
    let known = stored_keys.get(end_ms);
    // Only where every stored row is in the sample is it known which are missing.
    let missing: Vec<String> = match known {
        Some(known) if known.len() as u64 == *stored => {
            keys.iter().filter(|key| !known.contains(key)).map(|key| key.join("/")).collect()
        }
        _ => Vec::new(),
    };
    if missing.is_empty() {
        return text;
    }
    let named: Vec<&str> = missing.iter().take(MISSING_NAMED_MAX).map(String::as_str).collect();
    let more = missing.len().saturating_sub(named.len());
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{text}; missing: {}{more}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use tidemill_engine::{ledger::Ledger, record::LaneId};
    use tidemill_kernel::row::ColumnKind;

    use super::*;

    fn window(minute: i64, row_count: u64) -> WindowRows {
        WindowRows { end_ms: minute * 60_000, row_count, message_count: row_count }
    }

    #[test]
    fn sample_takes_no_row_twice_and_is_the_same_for_the_same_seed() {
        let windows = [vec![window(1, 3), window(2, 1)], vec![window(1, 4)]];
        let runs = pick(&windows, 5, 7);
        assert_eq!(runs.iter().map(|run| run.count).sum::<u64>(), 5);
        assert_eq!(runs, pick(&windows, 5, 7));
        assert!((0..20).any(|seed| pick(&windows, 5, seed) != runs));
        for run in &runs {
            let of = &windows[run.lane].iter().find(|window| window.end_ms == run.end_ms);
            assert!(run.skip + run.count <= of.expect("a window").row_count, "{run:?}");
        }
        let run = |lane, minute: i64, count| Run { lane, end_ms: minute * 60_000, skip: 0, count };
        assert_eq!(pick(&windows, 8, 1), [run(0, 1, 3), run(0, 2, 1), run(1, 1, 4)], "all");
        assert_eq!(pick(&windows, 0, 1), []);
    }

    #[test]
    fn every_row_has_the_same_chance() {
        let windows = [vec![window(1, 3), window(2, 2)], vec![window(9, 5)]];
        let mut counts: BTreeMap<(usize, i64, u64), u32> = BTreeMap::new();
        for run in (0..4_000).flat_map(|seed| pick(&windows, 2, seed)) {
            for skip in run.skip..run.skip + run.count {
                *counts.entry((run.lane, run.end_ms, skip)).or_default() += 1;
            }
        }
        assert_eq!(counts.len(), 10);
        // 800 each; five standard deviations are 126.
        assert!(counts.values().all(|count| (674..926).contains(count)), "{counts:?}");
    }

    fn target(
        stored: [u64; 2],
        at_revision: Option<[u64; 2]>,
        at_close: Option<[u64; 2]>,
    ) -> Target {
        let values = |numbers: [u64; 2]| numbers.map(Value::UInt).to_vec();
        Target {
            stored: values(stored),
            end_ms: 600_000,
            key: vec!["a".into(), "b".into()],
            revision: stored[1],
            at_revision: at_revision.map(values),
            at_close: at_close.map(values),
        }
    }

    fn judged(target: Target, whole_from_ms: i64, late: u64) -> (Outcome, Finding) {
        let record = CommitRecord {
            ordinal: 10,
            closed_until_ms: 0,
            ledger: Ledger { late, ..Ledger::default() },
            ..CommitRecord::unborn(LaneId::new("p", "0"))
        };
        let columns = ["record_count", REVISION];
        let columns = columns.map(|name| Column::new(name, ColumnKind::UInt64, false));
        let row_counts = vec![RowCount {
            end_ms: 600_000,
            stored: 1,
            computed: 2,
            keys: [vec!["a".into(), "b".into()], vec!["c".into(), "d".into()]].into(),
        }];
        let recomputed = Recomputed {
            targets: vec![target],
            row_counts,
            ledger: Ledger::default(),
            amends: false,
        };
        let log = LogState { whole_from_ms, size_ms: 60_000, may_have_ended: true };
        let mut finding = Finding::default();
        let outcome = judge(&columns, &record, &recomputed, log, &mut finding);
        (outcome, finding)
    }

    #[test]
    fn each_kind_of_difference_of_a_row_is_told_with_its_name() {
        let kinds = [
            (target([5, 9], Some([6, 9]), Some([6, 9])), "record_count is 5 stored, 6 by the mess"),
            (target([5, 7], Some([5, 7]), Some([6, 9])), "more messages came before its window"),
            (target([5, 8], None, Some([5, 9])), "revision is 8 stored, 9 by the messages"),
            (target([5, 8], None, None), "no message of the log is of this device and window"),
        ];
        for (target, text) in kinds {
            let (outcome, finding) = judged(target, i64::MIN, 0);
            assert_eq!((outcome.equal, outcome.different, outcome.not_checkable), (0, 1, 0));
            let told = &finding.differences[0];
            assert!(
                told.starts_with("row 1970-01-01 00:10:00 a/b: ") && told.contains(text),
                "{told}"
            );
            let missing =
                "window 1970-01-01 00:10:00: 1 rows stored, 2 by the messages; missing: c/d";
            assert_eq!(finding.differences[1], missing);
        }
        for equal in [
            target([5, 9], Some([5, 9]), Some([5, 9])),
            target([5, 7], Some([5, 7]), Some([5, 9])),
            target([5, 7], Some([5, 7]), None),
        ] {
            assert_eq!(judged(equal, i64::MIN, 0).0.equal, 1);
        }
    }

    #[test]
    fn window_that_may_lack_messages_is_not_judged_and_an_ended_input_only_up_to_the_revision() {
        let early = || target([5, 9], Some([4, 9]), Some([4, 9]));
        let (outcome, finding) = judged(early(), 540_001, 0);
        assert_eq!((outcome.not_checkable, finding.differences.len()), (1, 0), "{finding:?}");
        assert_eq!(judged(early(), 540_000, 0).0.different, 1);
        let (outcome, finding) = judged(target([5, 7], Some([5, 7]), Some([6, 9])), i64::MIN, 1);
        assert_eq!((outcome.equal, finding.differences.len(), finding.notes.len()), (1, 0, 1));
    }
}

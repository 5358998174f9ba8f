//! The proof that every message is accounted for: broker, ledger, rows and letters held against
//! each other, partition by partition, and rows computed again from raw messages.
//!
//! It reads and changes nothing, and may run beside the job. What is whole and what a span of time
//! restricts: the ledger, the letters and the count of the log are always whole; misfits, gaps,
//! sample and checklist look at windows that end within the span.

pub mod amended;
pub mod checklist;
pub mod commits;
pub mod log;
pub mod recompute;
pub mod replay;
pub mod report;
pub mod row;
pub mod sample;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, thread, time::Duration};

use tidemill_engine::{
    record::{CommitRecord, ORDINAL_BITS},
    window_log::utc,
};
use tidemill_sink::{
    LaneRows, Misfits, PartitionTotals, Quality, SinkError, StoreReader, WindowRows,
};

use self::{
    checklist::Minutes,
    log::{Walk, walk},
    recompute::{Recomputation, Recomputed},
    sample::{LogState, Outcome, Run, Target},
};
use crate::{
    config::{Config, Source},
    ledger_check::{Finding, check},
};

/// How often the totals are read until no row is ahead of its commit, and how long it waits.
const TOTALS_READ_MAX: usize = 10;
const TOTALS_PAUSE: Duration = Duration::from_millis(300);
/// Stretches of windows without rows that are named.
const GAPS_NAMED_MAX: usize = 5;

/// What is to be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Do not read the log; hold the store against its own records only.
    pub store_only: bool,
    /// The earliest window end (ms), included.
    pub from_ms: Option<i64>,
    /// The latest window end (ms), excluded.
    pub to_ms: Option<i64>,
    /// How many rows to compute again.
    pub sample: Option<u64>,
    /// What chooses them.
    pub seed: u64,
    /// Whether to go through the checklist of the sensor job.
    pub checklist: bool,
}

/// What was found of one partition.
#[derive(Clone, Debug)]
pub struct Lane {
    /// What is stored of it.
    pub totals: PartitionTotals,
    /// Differences, what could not be checked, and notes.
    pub finding: Finding,
    /// What its log holds, where it was read.
    pub walk: Option<Walk>,
    /// Which of its rows the present configuration can make.
    rows: LaneRows,
    windows: Vec<WindowRows>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// By partition.
    pub lanes: Vec<Lane>,
    /// What became of the sample, and of how many rows it was taken.
    pub sample: Option<(Outcome, u64)>,
    /// Devices with rows of several partitions, and how many of their windows have several rows.
    pub several_partitions: [u64; 2],
    /// What is true of no single partition, and no difference.
    pub notes: Vec<String>,
    /// What could not be checked of no single partition.
    pub unchecked: Vec<String>,
    /// The checklist.
    pub checklist: Vec<checklist::Line>,
}

impl Verification {
    /// Reports whether anything differs.
    pub fn has_difference(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.finding.differences.is_empty())
    }

    /// Reports whether anything could not be checked; a store without anything proves nothing.
    pub fn is_incomplete(&self) -> bool {
        self.lanes.is_empty()
            || !self.unchecked.is_empty()
            || self.lanes.iter().any(|lane| !lane.finding.unchecked.is_empty())
    }
}

/// Verifies what a pipeline has stored.
///
/// # Errors
/// If the store cannot be read.
pub fn verify(
    config: &Config,
    reader: &mut dyn StoreReader,
    request: Request,
) -> Result<Verification, SinkError> {
    let name = &config.pipeline.name;
    let mut verification = Verification::default();
    let mut misfits = Vec::new();
    for totals in totals_at_rest(config, reader)? {
        let rows = lane_rows(config, &totals, request);
        let every = LaneRows { closed_until_ms: None, ..rows.clone() };
        misfits.push(reader.misfits(&every, config.window.grid)?);
        let windows = reader.windows(&rows)?;
        let finding = Finding { partition: totals.partition.clone(), ..Finding::default() };
        verification.lanes.push(Lane { totals, finding, walk: None, rows, windows });
    }
    let lanes = &mut verification.lanes;
    let windows: Vec<Vec<WindowRows>> = lanes.iter().map(|lane| lane.windows.clone()).collect();
    let total = windows.iter().flatten().map(|window| window.row_count).sum();
    let runs = request.sample.map(|count| sample::pick(&windows, count.min(total), request.seed));
    drop(windows);
    let mut outcome = Outcome::default();
    for (at, lane) in lanes.iter_mut().enumerate() {
        let runs = runs.iter().flatten().filter(|run| run.lane == at).copied();
        outcome += prove(config, reader, request, lane, runs)?;
        lane.finding.differences.extend(misfit_texts(&misfits[at]));
        let ring = reader.commits(name, &lane.totals.partition)?;
        lane.finding.differences.extend(commits::differences(&ring));
    }
    if lanes.len() > 1 {
        verification.several_partitions = reader.several_partitions(name)?;
    }
    if runs.is_some() {
        verification.note_sample(outcome, total);
    }
    let minutes = checklist::minutes(verification.lanes.iter().flat_map(|lane| &lane.windows));
    verification.notes.extend(gaps(config, &minutes));
    if request.checklist {
        verification.checklist = checklist_of(config, reader, &verification.lanes, &minutes)?;
    }
    Ok(verification)
}

/// Reads the totals. Where late messages amend rows, a running job may have written rows whose
/// commit is not there yet; that takes a moment only.
fn totals_at_rest(
    config: &Config,
    reader: &mut dyn StoreReader,
) -> Result<Vec<PartitionTotals>, SinkError> {
    let mut totals = reader.totals(&config.pipeline.name)?;
    for _ in 1..TOTALS_READ_MAX {
        if !amended::amends(config) || totals.iter().all(|lane| lane.row_count_ahead == 0) {
            break;
        }
        thread::sleep(TOTALS_PAUSE);
        totals = reader.totals(&config.pipeline.name)?;
    }
    Ok(totals)
}

impl Verification {
    fn note_sample(&mut self, outcome: Outcome, total: u64) {
        self.sample = Some((outcome, total));
        if total == 0 {
            self.notes.push("no window has closed: nothing to compute again".to_owned());
        } else if outcome.not_checkable > 0 && outcome.equal + outcome.different == 0 {
            self.unchecked.push("no row of the sample could be computed again".to_owned());
        }
    }
}

/// Returns which rows of a lane the present configuration can make: those of closed windows and of
/// the record's generation.
fn lane_rows(config: &Config, totals: &PartitionTotals, request: Request) -> LaneRows {
    let record = totals.record.as_ref();
    LaneRows {
        pipeline: config.pipeline.name.clone(),
        partition: totals.partition.clone(),
        from_ms: request.from_ms,
        to_ms: request.to_ms,
        closed_until_ms: Some(record.map_or(i64::MIN, |record| record.closed_until_ms)),
        first_revision: record.map_or(0, |record| u64::from(record.generation) << ORDINAL_BITS),
    }
}

fn misfit_texts(misfits: &Misfits) -> Vec<String> {
    let mut texts = Vec::new();
    if misfits.duplicate_row_keys > 0 {
        let count = misfits.duplicate_row_keys;
        texts.push(format!("{count} row keys stand there more than once"));
    }
    if misfits.off_grid_rows > 0 {
        texts.push(format!("{} rows are of no window of the grid", misfits.off_grid_rows));
    }
    texts.extend(misfits.examples.iter().cloned());
    texts
}

/// Reads the log of a lane, once or twice, and holds it against ledger and sampled rows.
fn prove(
    config: &Config,
    reader: &mut dyn StoreReader,
    request: Request,
    lane: &mut Lane,
    runs: impl Iterator<Item = Run>,
) -> Result<Outcome, SinkError> {
    let targets = sample::load(config, reader, &lane.rows, runs)?;
    let Some(record) = lane.totals.record.clone() else {
        lane.finding = check(&lane.totals, None);
        return Ok(Outcome::default());
    };
    let picked = targets.len() as u64;
    let none = Outcome { picked, not_checkable: picked, ..Outcome::default() };
    let is_needed = match config.source {
        Source::Pulsar(_) | Source::File(_) => !request.store_only,
        Source::Generate(_) | Source::Stdin => picked > 0,
    };
    if !is_needed {
        lane.finding = check(&lane.totals, None);
        return Ok(none);
    }
    if !record.lanes.is_empty() {
        prove_merged(config, &record, lane, picked > 0);
        return Ok(none);
    }
    let changed = record.changed_keys(&config.fingerprint());
    let targets = if changed.is_empty() { targets } else { Vec::new() };
    let windows = lane.windows.iter().map(|window| (window.end_ms, window.row_count)).collect();
    let read = read_log(config, &record, targets, &windows);
    let (count, note) = count_of(&record, read.as_ref());
    lane.finding = check(&lane.totals, count);
    lane.finding.notes.extend(note);
    if picked > 0 && !changed.is_empty() {
        let keys = changed.join(", ");
        let text = format!("the sample: the configuration has changed since the commit: {keys}");
        lane.finding.unchecked.push(text);
    }
    let Ok(read) = read else { return Ok(none) };
    lane.walk = read.as_ref().map(|(walk, _)| walk.clone());
    let Some((walk, Some(recomputed))) = read else { return Ok(none) };
    let log = log_state(config, &record, &walk);
    lane.finding.differences.extend(ledger_difference(&record, &recomputed, log));
    let columns = config.schema.columns();
    let outcome = sample::judge(columns, &record, &recomputed, log, &mut lane.finding);
    let gone = outcome.not_checkable - outcome.ahead;
    if gone > 0 {
        let why = match recomputed.amends && record.ledger.late > 0 {
            true => "that are not all in the log any more, or are dead letters",
            false => "that are not all in the log any more",
        };
        let text = format!("{gone} rows of the sample are of windows with messages {why}");
        lane.finding.notes.push(text);
    }
    if outcome.ahead > 0 {
        let ahead = outcome.ahead;
        let text = format!("{ahead} rows of the sample hold late messages behind the last commit");
        lane.finding.notes.push(text);
    }
    Ok(outcome)
}

/// Counts the logs of all lanes that a record is the sum of. Their rows are not computed again:
/// which messages a row holds, its revision does not say.
fn prove_merged(config: &Config, record: &CommitRecord, lane: &mut Lane, is_sampled: bool) {
    let (mut sum, mut whole, mut notes, mut unchecked) = (0, true, Vec::new(), Vec::new());
    let mut walks = Walk::default();
    for part in &record.lanes {
        let partition = &part.lane.partition;
        let read = read_log(config, part, Vec::new(), &BTreeMap::new());
        let (count, note) = count_of(part, read.as_ref());
        match count {
            Some(Ok(count)) => sum += count,
            Some(Err(why)) => unchecked.push(format!("lane {partition}: {why}")),
            None => sum += part.ordinal,
        }
        whole &= note.is_none();
        notes.extend(note.map(|note| format!("lane {partition}: {note}")));
        if let Ok(Some((walk, _))) = read {
            walks.entries += walk.entries;
            walks.messages += walk.messages;
            walks.began_late_at = walks.began_late_at.or(walk.began_late_at);
        }
    }
    let count = Some(Ok(sum)).filter(|_| whole && unchecked.is_empty());
    lane.finding = check(&lane.totals, count);
    lane.finding.notes.extend(notes);
    lane.finding.unchecked.extend(unchecked);
    if is_sampled {
        let text = "the sample: rows of merged lanes (routing = \"any\") are not computed again";
        lane.finding.unchecked.push(text.to_owned());
    }
    lane.walk = Some(walks);
}

/// Holds what the messages come to against the record, where the log is whole and nothing but the
/// log has closed windows.
fn ledger_difference(
    record: &CommitRecord,
    recomputed: &Recomputed,
    log: LogState,
) -> Option<String> {
    let is_comparable = log.whole_from_ms == i64::MIN
        && !log.may_have_ended
        && record.generation == record.birth_generation;
    let (mut found, mut expected) = (recomputed.ledger, record.ledger);
    if recomputed.amends {
        // Late messages whose row had no state are letters, which the messages do not say.
        for ledger in [&mut found, &mut expected] {
            ledger.aggregated += std::mem::take(&mut ledger.late);
        }
    }
    (is_comparable && found != expected).then(|| {
        format!(
            "by the present configuration the messages come to {found:?}, the record says \
             {expected:?}"
        )
    })
}

/// Returns from when on the log has all messages of a window.
fn log_state(config: &Config, record: &CommitRecord, walk: &Walk) -> LogState {
    let is_whole = walk.began_late_at.is_none() && record.birth_ordinal == 0;
    let skew_ms = config.window.max_future_skew.as_ms();
    LogState {
        whole_from_ms: match is_whole {
            true => i64::MIN,
            // What is gone was published before this, and no event is further ahead.
            false => walk.first_publish_ms.saturating_add(skew_ms),
        },
        size_ms: config.window.grid.size_ms(),
        may_have_ended: !matches!(config.source, Source::Pulsar(_)),
    }
}

type Read = Option<(Walk, Option<Recomputed>)>;

/// Reads the log of a lane and computes the wanted rows.
fn read_log(
    config: &Config,
    record: &CommitRecord,
    targets: Vec<Target>,
    stored_rows: &BTreeMap<i64, u64>,
) -> Result<Read, String> {
    let found = walk_log(config, record, |before| {
        let wanted = (!targets.is_empty()).then(|| targets.clone());
        wanted.map(|targets| Recomputation::new(config, record, before, targets, stored_rows))
    })?;
    let Some((walk, computed)) = found else { return Ok(None) };
    let computed = computed.map(|computed| computed.finish(record)).transpose()?;
    Ok(Some((walk, computed)))
}

/// Walks through the log of a lane with what `make` gives for a log that begins behind so many
/// messages; `None` if the record covers no message. Where the log begins late, the first walk
/// tells how many messages are gone, and a second one is made.
fn walk_log<V: log::Visit>(
    config: &Config,
    record: &CommitRecord,
    make: impl Fn(u64) -> Option<V>,
) -> Result<Option<(Walk, Option<V>)>, String> {
    let Some(span) = log::span(record) else { return Ok(None) };
    let partition = &record.lane.partition;
    let mut visitor = make(record.birth_ordinal);
    let mut log = log::open(config, partition, *span.start())?;
    let found = walk(&mut *log, &span, visitor.as_mut().map(|to| to as &mut dyn log::Visit))?;
    let before = record.ordinal.checked_sub(found.messages);
    let Some((first, before)) = found.began_late_at.zip(before).filter(|_| visitor.is_some())
    else {
        return Ok(Some((found, visitor)));
    };
    let mut visitor = make(before);
    let mut log = log::open(config, partition, first)?;
    let to = visitor.as_mut().map(|to| to as &mut dyn log::Visit);
    let second = walk(&mut *log, &(first..=*span.end()), to)?;
    if second != (Walk { began_late_at: None, ..found.clone() }) {
        return Err("the log lost more messages while it was read".to_owned());
    }
    Ok(Some((found, visitor)))
}

/// Returns what the ledger is to be held against, or a note where the log begins late.
fn count_of(
    record: &CommitRecord,
    read: Result<&Read, &String>,
) -> (Option<Result<u64, String>>, Option<String>) {
    let walk = match read {
        Err(why) => return (Some(Err(why.clone())), None),
        Ok(None) => return (Some(Ok(record.ordinal)), None),
        Ok(Some((walk, _))) => walk,
    };
    let count = record.birth_ordinal + walk.messages;
    let Some(first) = walk.began_late_at.filter(|_| count <= record.ordinal) else {
        return (Some(Ok(count)), None);
    };
    let gone = record.ordinal - count;
    let birth = record.birth.map(log::shown).unwrap_or_default();
    let note = format!(
        "the log begins at {}, the lane was born at {birth}: the {gone} messages before are held \
         against the store alone",
        log::shown(first)
    );
    (None, Some(note))
}

/// Names windows without a row between the first and the last one. A fleet that is silent has
/// such windows, so they are no difference.
fn gaps(config: &Config, minutes: &Minutes) -> Option<String> {
    let (size_ms, mut stretches, mut missing) = (config.window.grid.size_ms(), Vec::new(), 0);
    let ends: Vec<i64> = minutes.keys().copied().collect();
    for pair in ends.windows(2).filter(|pair| pair[1] - pair[0] > size_ms) {
        missing += (pair[1] - pair[0]) / size_ms - 1;
        let (first, last) = (pair[0] + size_ms, pair[1] - size_ms);
        stretches.push(match first == last {
            true => utc(first),
            false => format!("{} to {}", utc(first), utc(last)),
        });
    }
    let count = checklist::window_count(minutes, config.window.grid);
    let more = match stretches.len().saturating_sub(GAPS_NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} stretches more"),
    };
    stretches.truncate(GAPS_NAMED_MAX);
    (missing > 0).then(|| {
        format!("{missing} of {count} windows have no row: {}{more}", stretches.join(", "))
    })
}

fn checklist_of(
    config: &Config,
    reader: &mut dyn StoreReader,
    lanes: &[Lane],
    minutes: &Minutes,
) -> Result<Vec<checklist::Line>, SinkError> {
    let mut quality = Quality::default();
    for lane in lanes {
        let of_lane = reader.quality(&lane.rows)?;
        quality += of_lane;
    }
    let totals: Vec<PartitionTotals> = lanes.iter().map(|lane| lane.totals.clone()).collect();
    let http = Some(config.http.listen).filter(|_| config.http.enabled);
    Ok(checklist::lines(minutes, config.window.grid, &totals, &quality, http))
}

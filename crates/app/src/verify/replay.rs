//! The rows of a span, made again from raw messages and held against the stored ones.
//!
//! It shares log, decoder and roll-up with the sample of `verify`, and takes every row of the span
//! instead of some: also those that are not stored. It tells which rows would repair the store and
//! writes none of them itself.

use std::collections::BTreeMap;

use tidemill_engine::{
    port::{Entry, RawMessage},
    record::CommitRecord,
    window_log::utc,
};
use tidemill_kernel::row::Column;
use tidemill_sink::{LaneRows, SinkError, StoreReader, Value};

use super::{
    Request, lane_rows,
    log::Visit,
    log_state,
    recompute::{Fold, each_row, key_indexes, key_of, values_of},
    row::{REVISION, difference},
    sample::SAMPLE_MAX,
    walk_log,
};
use crate::config::Config;

/// Rows by the end of their window (ms) and their group key.
type Rows = BTreeMap<(i64, Vec<String>), Vec<Value>>;

/// Which rows are made again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The earliest window end (ms), included.
    pub from_ms: Option<i64>,
    /// The latest window end (ms), excluded.
    pub to_ms: Option<i64>,
    /// The group key of the only device; `None`: all.
    pub device: Option<Vec<String>>,
}

impl Span {
    fn holds(&self, end_ms: i64, key: &[String]) -> bool {
        self.from_ms.is_none_or(|from_ms| end_ms >= from_ms)
            && self.to_ms.is_none_or(|to_ms| end_ms < to_ms)
            && self.device.as_ref().is_none_or(|device| device == key)
    }
}

/// What the comparison is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To tell what differs.
    Tell,
    /// To put true rows in the place of those that differ.
    Repair,
}

/// A true row to be written, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Repair {
    /// Window, device, and what differs.
    pub text: String,
    /// All columns; the revision is that of the closing of its window.
    pub row: Vec<Value>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Rows that are stored as their messages give them.
    pub equal: u64,
    /// Rows that are not, by name; of a repair only those that it leaves.
    pub different: Vec<String>,
    /// Rows that repair the store; at most [`SAMPLE_MAX`], more are left as differences.
    pub repairs: Vec<Repair>,
    /// Rows of windows whose messages are not all in the log any more.
    pub not_checkable: u64,
    /// Partitions that could not be read, and why.
    pub unchecked: Vec<String>,
}

/// Makes the closed rows of a span again and compares them with the stored ones.
///
/// # Errors
/// If the store cannot be read.
pub fn compare(
    config: &Config,
    reader: &mut dyn StoreReader,
    span: &Span,
    purpose: Purpose,
) -> Result<Comparison, SinkError> {
    let mut comparison = Comparison::default();
    let request = Request { from_ms: span.from_ms, to_ms: span.to_ms, ..Request::default() };
    let totals = reader.totals(&config.pipeline.name)?;
    if totals.is_empty() {
        comparison.unchecked.push(format!("nothing stored by {:?}", config.pipeline.name));
    }
    for totals in totals {
        let rows = lane_rows(config, &totals, request);
        let Some(record) = &totals.record else {
            comparison.unchecked.push(format!("partition {}: no commit record", totals.partition));
            continue;
        };
        let compared = match stored(config, reader, &rows, span)? {
            Ok(_) if purpose == Purpose::Repair && is_of_several_generations(record) => {
                Err(SEVERAL_GENERATIONS.to_owned())
            }
            Ok(stored) => one_lane(config, record, span, stored, purpose, &mut comparison),
            Err(why) => Err(why),
        };
        if let Err(why) = compared {
            comparison.unchecked.push(format!("partition {}: {why}", totals.partition));
        }
    }
    Ok(comparison)
}

const SEVERAL_GENERATIONS: &str = "the generation was raised without beginning anew: what of an \
    earlier one stands in which row, the record does not say; nothing is written";

/// Reports whether the record goes on from one of an earlier generation: older windows were closed
/// with its revisions, perhaps by another configuration, or have lost messages.
fn is_of_several_generations(record: &CommitRecord) -> bool {
    record.generation != record.birth_generation
}

/// Reads the stored rows of a lane.
fn stored(
    config: &Config,
    reader: &mut dyn StoreReader,
    rows: &LaneRows,
    span: &Span,
) -> Result<Result<Rows, String>, SinkError> {
    let key_indexes = key_indexes(config);
    let mut found = Rows::new();
    for window in reader.windows(rows)? {
        for row in reader.rows_of_window(rows, window.end_ms, 0, window.row_count)?.rows {
            let text = |at: &usize| row[*at].as_text().unwrap_or_default().to_owned();
            let key: Vec<String> = key_indexes.iter().map(text).collect();
            if span.holds(window.end_ms, &key) {
                found.insert((window.end_ms, key), row);
            }
        }
        if found.len() as u64 > SAMPLE_MAX {
            return Ok(Err(too_many()));
        }
    }
    Ok(Ok(found))
}

fn too_many() -> String {
    format!("more than {SAMPLE_MAX} rows; choose a shorter span, or a device")
}

fn one_lane(
    config: &Config,
    record: &CommitRecord,
    span: &Span,
    mut stored: Rows,
    purpose: Purpose,
    comparison: &mut Comparison,
) -> Result<(), String> {
    if !record.lanes.is_empty() {
        return Err("rows of merged lanes (routing = \"any\") are not made again".to_owned());
    }
    let changed = record.changed_keys(&config.fingerprint());
    if !changed.is_empty() {
        let keys = changed.join(", ");
        return Err(format!("the configuration has changed since the commit: {keys}"));
    }
    let make = |before| Some(Collector::new(config, record, span, before));
    let Some((walk, Some(collector))) = walk_log(config, record, make)? else { return Ok(()) };
    let (made, late) = collector.finish(record)?;
    let log = log_state(config, record, &walk);
    if log.may_have_ended && late < record.ledger.late {
        return Err("the input has ended once and went on later: what that end closed is not in \
                    the log"
            .to_owned());
    }
    let columns = config.schema.columns();
    for ((end_ms, key), made) in made.into_iter().filter(|row| row.0.0 <= record.closed_until_ms) {
        let found = stored.remove(&(end_ms, key.clone()));
        let (difference, gives_way) = judge(columns, found.as_deref(), &made);
        let row = (gives_way && purpose == Purpose::Repair).then_some(made);
        comparison.add(log.is_whole(end_ms), end_ms, &key, difference, row);
    }
    for (end_ms, key) in stored.into_keys() {
        let text = "no message of the log is of this device and window; rows are not removed";
        comparison.add(log.is_whole(end_ms), end_ms, &key, Some(text.to_owned()), None);
    }
    Ok(())
}

/// Returns what differs, and whether the store would take the row that was made.
fn judge(columns: &[Column], stored: Option<&[Value]>, made: &[Value]) -> (Option<String>, bool) {
    let Some(stored) = stored else { return (Some("is not stored".to_owned()), true) };
    let place = columns.iter().position(|column| column.name == REVISION);
    let revision = |row: &[Value]| place.and_then(|at| row[at].as_u64());
    // A lower one may be right: rows that were emitted early and did not change are not written
    // again. A higher one never is.
    let is_higher = revision(stored) > revision(made);
    let mut difference = difference(columns, stored, made, is_higher);
    if let Some(text) = difference.as_mut().filter(|_| is_higher) {
        text.push_str(
            "; its revision is too high for any true row to replace it: raise \
             pipeline.generation and reset",
        );
    }
    (difference, !is_higher)
}

impl Comparison {
    /// Counts a row; `row` is what repairs it.
    fn add(
        &mut self,
        is_whole: bool,
        end_ms: i64,
        key: &[String],
        difference: Option<String>,
        row: Option<Vec<Value>>,
    ) {
        let Some(text) = difference else {
            self.equal += 1;
            return;
        };
        if !is_whole {
            self.not_checkable += 1;
            return;
        }
        let text = format!("{} {}: {text}", utc(end_ms), key.join("/"));
        match row {
            Some(row) if (self.repairs.len() as u64) < SAMPLE_MAX => {
                self.repairs.push(Repair { text, row });
            }
            Some(_) => self.different.push(format!("{text}; not in this run, begin it again")),
            None => self.different.push(text),
        }
    }
}

/// Keeps the rows of the span that closing windows give.
struct Collector<'s> {
    fold: Fold,
    columns: Vec<Column>,
    key_indexes: Vec<usize>,
    span: &'s Span,
    rows: Rows,
}

impl<'s> Collector<'s> {
    fn new(config: &Config, record: &CommitRecord, span: &'s Span, before: u64) -> Collector<'s> {
        Collector {
            fold: Fold::new(config, record, before),
            columns: config.schema.columns().to_vec(),
            key_indexes: key_indexes(config),
            span,
            rows: Rows::new(),
        }
    }

    fn collect(&mut self) -> Result<(), String> {
        let (closed, pieces) = self.fold.take_closed();
        for window in &closed {
            each_row(window.pieces(&pieces), &self.columns, |cells| {
                let key = key_of(cells, &self.key_indexes);
                if self.span.holds(window.end_ms, &key) {
                    self.rows.insert((window.end_ms, key), values_of(cells, &self.columns));
                }
            });
        }
        if self.rows.len() as u64 > SAMPLE_MAX { Err(too_many()) } else { Ok(()) }
    }

    /// Returns the rows, and how many messages were late.
    fn finish(mut self, record: &CommitRecord) -> Result<(Rows, u64), String> {
        self.fold.finish(record);
        self.collect()?;
        Ok((self.rows, self.fold.ledger().late))
    }
}

impl Visit for Collector<'_> {
    fn visit(&mut self, entry: &Entry, messages: &[RawMessage]) -> Result<(), String> {
        for block in messages.chunks(super::recompute::BLOCK_MESSAGES) {
            self.fold.step(entry, block)?;
            self.collect()?;
        }
        Ok(())
    }
}

//! Rows of closed windows that late messages change, made again, and how they are judged.
//!
//! The messages come from the same roll-up and are merged by the same amender as in the job; only
//! what is stored is taken from the recomputation itself. At which ordinal the job wrote such a row
//! depends on its commits, so a revision is held against bounds: not before the last message that
//! the row holds, not behind the record.

use std::collections::BTreeMap;

use tidemill_engine::record::CommitRecord;
use tidemill_kernel::{
    amend::{Amender, StoredState},
    effect::LateEvent,
    key,
    rollup::RollupConfig,
    row::{Cell, Column, RowBlock},
};
use tidemill_sink::Value;

use super::{
    recompute::{each_row, key_of, values_of},
    row::{REVISION, difference},
};
use crate::config::Config;

/// The columns that say how late messages came into a row.
const LATENESS: [&str; 2] = [LATE_COUNT, "finality"];
const LATE_COUNT: &str = "late_count";

/// What is to be said of rows that were written behind the commit of the record.
pub const AHEAD: &str = "rows of closed windows hold late messages behind the last commit: a job \
    was writing, or was killed while it did; run this again, after the job if none runs";

/// The end of a row's window (ms) and its group key.
pub(super) type RowName = (i64, Vec<String>);

/// What merges late messages into rows that were made again.
pub(super) struct Amending {
    amender: Amender,
    columns: Vec<Column>,
    key_indexes: Vec<usize>,
}

impl Amending {
    pub(super) fn new(config: RollupConfig, key_indexes: Vec<usize>) -> Amending {
        let columns = config.plan.schema().columns().to_vec();
        Amending { amender: Amender::new(config), columns, key_indexes }
    }

    /// Returns the wanted ones of the rows that changed in the step in which their window closed.
    pub(super) fn settled(
        &self,
        pieces: &[RowBlock],
        look: impl Fn(&RowName) -> Option<Option<Vec<Value>>>,
    ) -> Vec<(RowName, Vec<Value>)> {
        let mut rows = Vec::new();
        each_row(pieces, &self.columns, |cells| {
            let Some(Cell::UInt(end_s)) = cells.first() else { return };
            let name = (*end_s as i64 * 1000, key_of(cells, &self.key_indexes));
            if look(&name).is_some() {
                rows.push((name, values_of(cells, &self.columns)));
            }
        });
        rows
    }

    /// Returns the wanted rows of windows that closed before, with late messages merged into them.
    pub(super) fn merged(
        &mut self,
        ordinal: u64,
        late: &[LateEvent],
        look: impl Fn(&RowName) -> Option<Option<Vec<Value>>>,
    ) -> Result<Vec<(RowName, Vec<Value>)>, String> {
        let mut by_row: BTreeMap<(i64, &[u8]), Vec<&LateEvent>> = BTreeMap::new();
        for event in late {
            by_row.entry((event.window_end_ms, &event.key)).or_default().push(event);
        }
        let mut rows = Vec::new();
        for ((end_ms, key), events) in by_row {
            let name = (end_ms, key::parts(key).map(str::to_owned).collect());
            let Some(before) = look(&name) else { continue };
            let state = before.as_ref().map(|row| self.state(row));
            let mut out = RowBlock::new();
            // All rows made here are of this counting.
            let merged = self.amender.amend(state.as_ref(), 0, ordinal, &events, &mut out);
            merged.map_err(|error| error.to_string())?;
            each_row(&[out], &self.columns, |cells| {
                rows.push((name.clone(), values_of(cells, &self.columns)));
            });
        }
        Ok(rows)
    }

    fn state(&self, row: &[Value]) -> StoredState {
        let number = |name| number_of(&self.columns, row, name);
        let state = value(&self.columns, row, "partial_state").and_then(Value::as_text);
        StoredState {
            revision: number(REVISION),
            late_count: u32::try_from(number(LATE_COUNT)).unwrap_or(u32::MAX),
            partial_state: state.unwrap_or_default().to_owned(),
        }
    }
}

fn value<'r>(columns: &[Column], row: &'r [Value], name: &str) -> Option<&'r Value> {
    columns.iter().position(|column| column.name == name).map(|at| &row[at])
}

fn number_of(columns: &[Column], row: &[Value], name: &str) -> u64 {
    value(columns, row, name).and_then(Value::as_u64).unwrap_or(0)
}

/// Reports whether the lane of a record amends rows.
pub fn amends(config: &Config) -> bool {
    config.schema.is_amendable()
}

/// Returns what is wrong with a row that late messages may have changed, if its messages up to the
/// record give `made`. Where the input may have ended once, what was late then is not known.
pub(super) fn difference_of(
    columns: &[Column],
    stored: &[Value],
    made: &[Value],
    may_have_ended: bool,
) -> Option<String> {
    let mut ignored = vec![REVISION];
    if may_have_ended {
        ignored.extend(LATENESS);
    }
    difference(columns, stored, made, &ignored)
}

/// Returns what is wrong with the revision of a row that holds the right messages: one that is
/// lower says that the row does not hold all of them, so they would be merged in again.
pub(super) fn revision_difference(
    columns: &[Column],
    stored: &[Value],
    made: &[Value],
) -> Option<String> {
    let [stored, made] = [stored, made].map(|row| number_of(columns, row, REVISION));
    (stored < made).then(|| {
        format!("revision is {stored} stored, and the messages of the row stand up to {made}")
    })
}

/// Reports whether a row was written behind the commit of the record: by a job that runs, or that
/// was killed before its commit was whole. It holds more than the record covers.
pub(super) fn is_ahead(columns: &[Column], stored: &[Value], record: &CommitRecord) -> bool {
    number_of(columns, stored, REVISION) > record.revision()
}

/// Reports whether a row may lack late messages that are dead letters: it had no state.
pub(super) fn may_lack_late(
    columns: &[Column],
    stored: &[Value],
    made: &[Value],
    record: &CommitRecord,
) -> bool {
    let late_count = |row| number_of(columns, row, LATE_COUNT);
    record.ledger.late > 0 && late_count(stored) < late_count(made)
}

/// Gives a made row the revision of the stored one, if that is the higher one: both are true.
pub(super) fn raise_revision(columns: &[Column], made: &mut [Value], stored: &[Value]) {
    let revision = number_of(columns, stored, REVISION).max(number_of(columns, made, REVISION));
    if let Some(at) = columns.iter().position(|column| column.name == REVISION) {
        made[at] = Value::UInt(revision);
    }
}

//! Holds what is stored against the ledger, partition by partition.
//!
//! `messages = record_count of closed rows + open + late + rejected + lost`, each side counted
//! on its own: the left one from the commit record (and the broker), the right one from rows and
//! letters.

use tidemill_engine::record::CommitRecord;
use tidemill_sink::PartitionTotals;

use crate::verify::amended::AHEAD;

/// What was found of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// The partition.
    pub partition: String,
    /// What does not agree; empty if all does.
    pub differences: Vec<String>,
    /// What could not be checked, and why.
    pub unchecked: Vec<String>,
    /// What is worth knowing and no difference.
    pub notes: Vec<String>,
}

/// Checks one partition; `broker_count` is how many messages the log holds from the birth
/// position up to the processed one, or why that could not be counted.
pub fn check(totals: &PartitionTotals, broker_count: Option<Result<u64, String>>) -> Finding {
    let mut finding = Finding {
        partition: totals.partition.clone(),
        differences: Vec::new(),
        unchecked: Vec::new(),
        notes: Vec::new(),
    };
    let Some(record) = &totals.record else {
        finding.differences.push(format!("{} rows, but no commit record", totals.row_count));
        return finding;
    };
    let ledger = &record.ledger;
    let mut equal = |what: &str, stored: u64, expected: u64| {
        if stored != expected {
            finding.differences.push(format!("{what}: {stored} stored, {expected} in the ledger"));
        }
    };
    let is_ahead = totals.row_count_ahead > 0 && record_amends(record);
    if !is_ahead {
        equal("messages in closed rows", totals.record_count_closed, ledger.aggregated);
    }
    equal("late letters", totals.late, ledger.late);
    equal("rejected letters", totals.rejected, ledger.rejected);
    equal("messages", ledger.messages, record.ordinal);
    if !ledger.balances() {
        finding.differences.push(format!("the ledger does not balance: {ledger:?}"));
    }
    if is_ahead {
        finding.unchecked.push(format!("{} {}", totals.row_count_ahead, AHEAD));
    }
    match broker_count {
        None => {}
        Some(Ok(count)) if count == record.ordinal => {}
        Some(Ok(count)) => finding.differences.push(format!(
            "the log holds {count} messages up to the processed position, the record says {}",
            record.ordinal
        )),
        Some(Err(why)) => finding.unchecked.push(why),
    }
    finding
}

/// Reports whether the configuration of a record amends rows: only then the row of a closed window
/// may be written again.
fn record_amends(record: &CommitRecord) -> bool {
    record.fingerprint.lines().any(|line| line == "window.late=amend")
}

#[cfg(test)]
mod tests {
    use tidemill_engine::{
        ledger::Ledger,
        record::{CommitRecord, LaneId},
    };

    use super::*;

    fn totals() -> PartitionTotals {
        let ledger = Ledger { messages: 10, aggregated: 6, open: 2, late: 1, rejected: 1, lost: 0 };
        PartitionTotals {
            partition: "0".into(),
            record: Some(CommitRecord {
                ordinal: 10,
                closed_until_ms: 0,
                ledger,
                ..CommitRecord::unborn(LaneId::new("p", "0"))
            }),
            record_count_closed: 6,
            late: 1,
            rejected: 1,
            ..PartitionTotals::default()
        }
    }

    #[test]
    fn balanced_partition_has_no_difference() {
        let finding = check(&totals(), Some(Ok(10)));
        assert!(finding.differences.is_empty() && finding.unchecked.is_empty(), "{finding:?}");
    }

    #[test]
    fn row_behind_the_commit_is_a_difference_only_where_rows_are_never_amended() {
        let mut totals = totals();
        (totals.row_count_ahead, totals.record_count_closed) = (1, 7);
        assert_eq!(check(&totals, None).differences.len(), 1);
        let record = totals.record.as_mut().expect("a record");
        record.fingerprint = "window.size_ms=60000\nwindow.late=amend\n".to_owned();
        let finding = check(&totals, None);
        assert!(finding.differences.is_empty() && finding.unchecked[0].starts_with("1 rows of"));
    }

    #[test]
    fn each_kind_of_loss_is_a_difference() {
        let broken: [fn(&mut PartitionTotals); 6] = [
            |totals| totals.record_count_closed -= 1,
            |totals| totals.late = 0,
            |totals| totals.rejected = 2,
            |totals| totals.record.as_mut().expect("a record").ordinal = 11,
            |totals| totals.record.as_mut().expect("a record").ledger.lost = 1,
            |totals| totals.record = None,
        ];
        for (at, break_it) in broken.iter().enumerate() {
            let mut totals = totals();
            break_it(&mut totals);
            assert_eq!(check(&totals, None).differences.len(), 1, "case {at}");
        }
        assert_eq!(check(&totals(), Some(Ok(11))).differences.len(), 1);
        assert_eq!(check(&totals(), Some(Err("trimmed".into()))).unchecked, ["trimmed"]);
    }
}

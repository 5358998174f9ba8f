//! Whether the commits of a lane follow each other without a gap, as far as the store keeps them.
//!
//! A late owner may have written commits of its own with the same numbers, and they are true ones;
//! so only commits of one writer are held against each other.

use std::collections::BTreeSet;

use tidemill_engine::record::CommitRecord;
use tidemill_sink::CommitRing;

/// Returns what is wrong with the commits that are kept.
pub fn differences(ring: &CommitRing) -> Vec<String> {
    let rank = |record: &&CommitRecord| (record.revision(), record.closed_until_ms, record.id);
    let Some(newest) = ring.records.iter().max_by_key(rank) else { return Vec::new() };
    let newest = newest.id.number;
    let oldest = newest.saturating_sub(ring.slots.saturating_sub(1)).max(1);
    let there: BTreeSet<u64> = ring.records.iter().map(|record| record.id.number).collect();
    let is_gone = |number: &u64| {
        // Of two commits in one slot the higher revision stays: a late owner's may be ahead.
        let taken =
            |other: &u64| *other > newest && (other - number).is_multiple_of(ring.slots.max(1));
        !there.contains(number) && !there.iter().any(taken)
    };
    let gone: Vec<String> =
        (oldest..=newest).filter(is_gone).map(|number| number.to_string()).collect();
    let mut found = Vec::new();
    if !gone.is_empty() {
        let (count, gone) = (gone.len(), gone[..gone.len().min(8)].join(", "));
        found.push(format!("{count} commits of {oldest} to {newest} are gone: {gone}"));
    }
    for record in ring.records.iter().filter(|record| !record.ledger.balances()) {
        let (number, ledger) = (record.id.number, record.ledger);
        found.push(format!("the ledger of commit {number} does not balance: {ledger:?}"));
    }
    let mut by_writer: Vec<&CommitRecord> = ring.records.iter().collect();
    by_writer.sort_by_key(|record| (record.id.writer, record.id.number));
    for pair in by_writer.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        if before.id.writer == after.id.writer && falls(before, after) {
            let (first, second) = (before.id.number, after.id.number);
            found.push(format!("commit {second} is behind commit {first}, which it follows"));
        }
    }
    found
}

/// Reports whether anything falls that never does.
fn falls(before: &CommitRecord, after: &CommitRecord) -> bool {
    let rising = |record: &CommitRecord| {
        [record.revision(), record.ledger.messages, record.ledger.late, record.ledger.rejected]
    };
    let fell = rising(before).iter().zip(rising(after)).any(|(before, after)| after < *before);
    fell || after.closed_until_ms < before.closed_until_ms || after.processed < before.processed
}

#[cfg(test)]
mod tests {
    use tidemill_engine::{
        ledger::Ledger,
        record::{CommitId, LaneId},
    };

    use super::*;

    fn record(number: u64, writer: u64, messages: u64) -> CommitRecord {
        CommitRecord {
            id: CommitId { number, writer },
            ordinal: messages,
            closed_until_ms: messages as i64,
            ledger: Ledger { messages, aggregated: messages, ..Ledger::default() },
            ..CommitRecord::unborn(LaneId::new("p", "0"))
        }
    }

    fn ring(slots: u64, records: &[CommitRecord]) -> CommitRing {
        CommitRing { slots, records: records.to_vec() }
    }

    #[test]
    fn whole_ring_also_of_several_owners_has_no_difference() {
        let whole: Vec<_> = (5..=8).map(|number| record(number, 1, number * 10)).collect();
        assert!(differences(&ring(4, &whole)).is_empty());
        assert!(differences(&ring(64, &[record(1, 1, 0)])).is_empty());
        // An owner that was late wrote a commit 6 of its own, further than ours.
        let mut late = whole.clone();
        late[1] = record(6, 2, 75);
        assert!(differences(&ring(4, &late)).is_empty());
        // Or even one of a number that has not come yet, in the slot of commit 5.
        late[0] = record(9, 2, 76);
        assert!(differences(&ring(4, &late)).is_empty());
    }

    #[test]
    fn commit_that_is_gone_or_falls_back_or_does_not_balance_is_a_difference() {
        let mut records: Vec<_> = (1..=4).map(|number| record(number, 1, number * 10)).collect();
        let gone = [records[0].clone(), records[1].clone(), records[3].clone()];
        assert_eq!(differences(&ring(64, &gone)), ["1 commits of 1 to 4 are gone: 3"]);
        records[2].ledger.late = 1;
        let found = differences(&ring(64, &records));
        assert!(found[0].starts_with("the ledger of commit 3 does not balance"), "{found:?}");
        records[2] = record(3, 1, 19);
        let found = differences(&ring(64, &records));
        assert_eq!(found, ["commit 3 is behind commit 2, which it follows"]);
    }
}

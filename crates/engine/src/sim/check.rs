//! The checkers: what must hold after every durable write, every acknowledgement, and at the end.
//!
//! The two sentences of the protocol, T1 (a row is a fold of a log prefix) and T2 (a record covers
//! what it says), are checked against the naive reference; nothing here asks the lane.

use tidemill_kernel::{
    event::Position,
    rollup::{ORDINAL_BITS, ORDINAL_MAX, revision},
};

use super::{
    broker::Broker,
    reference::{Reference, Value, Verdict},
    store::{SimStore, StoredRow},
};
use crate::{port::DeadLetter, record::CommitRecord};

/// T1: the row holds exactly what the first R messages say of its key, bit for bit.
pub(super) fn row(reference: &Reference, generation: u32, row: &StoredRow) -> Result<(), String> {
    let ordinal = row.revision & ORDINAL_MAX;
    if row.revision >> ORDINAL_BITS != u64::from(generation) {
        return Err(format!("T1: row {:?} has revision {:#x}", row.key, row.revision));
    }
    if ordinal > reference.messages.len() as u64 {
        return Err(format!("T1: row {:?} has ordinal {ordinal}, beyond the log", row.key));
    }
    let expected = reference.row(&row.key, ordinal, row.revision);
    let (key, cells) = (&row.key, &row.cells);
    let width = expected.as_ref().map_or(0, Vec::len);
    if let Some([Value::UInt(late), Value::Text(finality), Value::Text(_)]) = cells.get(width..) {
        let (late_count, names) = reference.finality(key, ordinal);
        if *late != late_count || !names.contains(&finality.as_str()) {
            return Err(format!(
                "T1: row {key:?} at ordinal {ordinal} is {finality} with {late} late, should be \
                 {names:?} with {late_count}"
            ));
        }
    }
    if expected.as_deref() != cells.get(..width) || width == 0 {
        return Err(format!(
            "T1: row {key:?} at ordinal {ordinal} is\n    {cells:?}, should be\n    {expected:?}"
        ));
    }
    Ok(())
}

/// A letter has the ordinal and the reason that the log gives it.
pub(super) fn letter(
    reference: &Reference,
    generation: u32,
    letter: &DeadLetter,
) -> Result<(), String> {
    let judged = (letter.ordinal as usize).checked_sub(1);
    let judged = judged.and_then(|at| reference.messages.get(at));
    let right = judged.is_some_and(|judged| {
        let reason = match judged.verdict {
            Verdict::Letter(reason) => Some(reason),
            Verdict::Counts { .. } => None,
        };
        judged.position == letter.position && reason == Some(letter.reason)
    });
    if right && letter.revision == revision(generation, letter.ordinal) {
        return Ok(());
    }
    Err(format!("letter {letter:?} does not follow from the log: {judged:?}"))
}

/// T2, and that every part of the record follows from the log. `ended` allows the closing of all
/// windows at the end of the input.
pub(super) fn record(
    reference: &Reference,
    store: &SimStore,
    record: &CommitRecord,
    ended: bool,
) -> Result<(), String> {
    let ordinal = record.ordinal;
    if ordinal > reference.messages.len() as u64 {
        return Err(format!("record at ordinal {ordinal} beyond the log: {record:?}"));
    }
    let last = (ordinal > 0).then(|| &reference.messages[ordinal as usize - 1]);
    let closed_until_ms = last.map_or(i64::MIN, |last| last.closed_until_ms);
    let is_final = ended && record.ledger.open == 0 && record.closed_until_ms > closed_until_ms;
    let (open, resume) = reference.open(ordinal, record.closed_until_ms);
    let (late, rejected) = last.map_or((0, 0), |last| (last.late_count, last.rejected_count));
    let ledger = record.ledger;
    let facts = [
        ("the ledger balances", ledger.balances()),
        ("messages", ledger.messages == ordinal),
        ("late", ledger.late == late),
        ("rejected", ledger.rejected == rejected),
        ("open", ledger.open == open),
        ("closed until", is_final || record.closed_until_ms == closed_until_ms),
        ("processed", record.processed == last.map(|last| last.position)),
        (
            "highest event time",
            record.highest_event_time_ms == last.map_or(i64::MIN, |last| last.highest_ms),
        ),
        ("resume", is_resume(reference, record, resume)),
    ];
    if let Some((what, _)) = facts.iter().find(|(_, holds)| !holds) {
        return Err(format!("record: {what} does not follow from the log: {record:?}"));
    }
    covered(reference, store, record)
}

fn is_resume(reference: &Reference, record: &CommitRecord, open: Option<Position>) -> bool {
    match (open, record.processed) {
        (Some(open), _) => record.resume == Some(open),
        (None, None) => record.resume.is_some(),
        (None, Some(processed)) => {
            let next = reference.messages.get(record.ordinal as usize);
            let same_entry = next.map(|next| next.position).filter(|next| {
                (next.segment, next.offset) == (processed.segment, processed.offset)
            });
            record.resume == same_entry
        }
    }
}

/// T2: what the record says is processed and closed is durable.
pub(super) fn covered(
    reference: &Reference,
    store: &SimStore,
    record: &CommitRecord,
) -> Result<(), String> {
    let processed = &reference.messages[..record.ordinal as usize];
    let mut next = std::collections::BTreeMap::new();
    for (key, ordinals) in &reference.rows {
        if key.0 <= record.closed_until_ms {
            let last = ordinals.iter().take_while(|at| **at <= record.ordinal).last();
            last.map(|last| next.insert(key, *last));
        }
    }
    for (key, ordinal) in next {
        let stored = store.rows.get(key).map(|row| row.revision);
        if stored.is_none_or(|stored| stored < revision(record.generation, ordinal)) {
            return Err(format!(
                "T2: message {ordinal} of row {key:?} is in no row (revision {stored:?}), but \
                 durable is {record:?}"
            ));
        }
    }
    for judged in processed {
        if let Verdict::Letter(reason) = judged.verdict
            && store.letters.get(&judged.position).is_none_or(|letter| letter.1 != reason)
        {
            let position = judged.position;
            return Err(format!("T2: no letter of {position:?}, but durable is {record:?}"));
        }
    }
    Ok(())
}

/// Returns the first entry that the record still needs.
pub(super) fn first_needed(broker: &Broker, record: &CommitRecord) -> usize {
    match (record.resume, record.processed) {
        (Some(resume), _) => broker.index_of(resume),
        (None, Some(processed)) => {
            let mut at = broker.index_of(processed) + 1;
            // Entries without messages are nobody's need.
            while broker.entries.get(at).is_some_and(|entry| entry.messages.is_empty()) {
                at += 1;
            }
            at
        }
        (None, None) => 0,
    }
}

/// At the end: rows and letters are those of the single pass, and all messages are accounted for.
pub(super) fn end(reference: &Reference, store: &SimStore, generation: u32) -> Result<(), String> {
    let total = reference.messages.len() as u64;
    for (key, ordinals) in &reference.rows {
        let Some(stored) = store.rows.get(key) else {
            return Err(format!("end: row {key:?} is missing"));
        };
        // The revision may be any from the last message of the row on.
        let last = ordinals.last().copied().unwrap_or(0);
        if stored.revision < revision(generation, last) {
            return Err(format!("end: row {key:?} lacks message {last}: {stored:?}"));
        }
        row(reference, generation, stored)?;
    }
    if store.rows.len() != reference.rows.len() {
        return Err(format!("end: {} rows, not {}", store.rows.len(), reference.rows.len()));
    }
    let letters = reference.messages.iter().filter_map(|judged| match judged.verdict {
        Verdict::Letter(reason) => Some((judged.position, reason)),
        Verdict::Counts { .. } => None,
    });
    let stored = store.letters.iter().map(|(position, letter)| (*position, letter.1));
    if !letters.eq(stored) {
        return Err("end: the letters are not those of the single pass".to_owned());
    }
    let counted: u64 = store.rows.values().map(|row| row.record_count).sum();
    if counted + store.letters.len() as u64 != total {
        let letters = store.letters.len();
        return Err(format!("end: {counted} in rows + {letters} letters, not {total} messages"));
    }
    Ok(())
}

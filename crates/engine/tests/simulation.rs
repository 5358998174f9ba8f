//! Runs the simulator over seeds, and proves that it finds what it should.
//!
//! `TIDEMILL_SEEDS=N` runs more seeds, `TIDEMILL_FIRST_SEED=S` other ones, and `TIDEMILL_SEED=S`
//! makes the test `replay` show the whole trace of one.

use std::{collections::BTreeMap, time::Instant};

use tidemill_engine::sim::{Rule, merged, run, run_traced};

/// Lines of a trace that a violation shows.
const TRACE_LINES: usize = 60;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn no_seed_breaks_the_protocol() {
    let count = number("TIDEMILL_SEEDS").unwrap_or(1_000);
    let first = number("TIDEMILL_FIRST_SEED").unwrap_or(0);
    let began = Instant::now();
    let mut events = BTreeMap::new();
    let mut message_count = 0;
    let mut failed = Vec::new();
    for seed in first..first + count {
        let report = run(seed, None);
        message_count += report.message_count;
        for (name, times) in report.events {
            *events.entry(name).or_insert(0) += times;
        }
        failed.extend(report.violation);
    }
    println!("{count} seeds, {message_count} messages, {:?}", began.elapsed());
    events.iter().for_each(|(name, times)| println!("{times:>9} {name}"));
    for violation in &failed {
        println!("seed {}: {}", violation.seed, violation.text);
    }
    if let Some(violation) = failed.first() {
        panic!("{} of {count} seeds failed, the first:\n{violation}", failed.len());
    }
}

/// Shows the whole trace of the seed in `TIDEMILL_SEED`; does nothing without one.
#[test]
fn replay() {
    let Some(seed) = number("TIDEMILL_SEED") else {
        return;
    };
    let report = run_traced(seed, None, usize::MAX);
    if let Some(violation) = report.violation {
        panic!("{violation}");
    }
    report.trace.iter().for_each(|line| println!("{line}"));
    println!("{:?}", report.events);
}

#[test]
fn two_runs_of_a_seed_are_equal() {
    for seed in 0..20 {
        let (one, two) = (run(seed, None), run(seed, None));
        assert_eq!(one.digest, two.digest, "seed {seed}");
        assert_eq!(one.events, two.events, "seed {seed}");
        assert_eq!(one.trace, two.trace, "seed {seed}");
    }
    assert_ne!(run(1, None).digest, run(2, None).digest);
}

/// Every kind of fault happens in the seeds that are run by default; a fault that never happens
/// protects nothing.
#[test]
fn every_fault_happens() {
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..200 {
        for (name, times) in run(seed, None).events {
            *seen.entry(name).or_insert(0) += times;
        }
    }
    let expected = [
        "acknowledged by another",
        "acknowledgements lost",
        "broker crashed",
        "commit inside of an entry",
        "connection lost",
        "drained",
        "fenced",
        "gap, source sent back",
        "half of an insert applied",
        "idle lane emitted",
        "insert applied later",
        "insert applied, answer lost",
        "insert failed",
        "jump over a ledger's end",
        "late messages merged",
        "late messages were merged already",
        "ledgers trimmed",
        "load failed",
        "look failed",
        "owner not told",
        "ownership moved",
        "redelivered",
        "snapshot by the clock",
        "stale record read",
        "transaction applied, answer lost",
        "transaction failed",
        "worker crashed",
    ];
    for name in expected {
        assert!(seen.get(name).is_some_and(|times| *times >= 10), "{name}: {seen:?}");
    }
}

/// Breaks a rule and expects that one of so many seeds notices.
fn assert_found(rule: Rule, seeds: u64) {
    let found = (0..seeds).any(|seed| run(seed, Some(rule)).violation.is_some());
    assert!(found, "the simulator does not see that {rule:?} is broken");
}

#[test]
fn record_before_its_rows_is_found() {
    assert_found(Rule::RowsBeforeRecord, 100);
}

#[test]
fn record_before_its_letters_is_found() {
    assert_found(Rule::LettersBeforeRecord, 100);
}

#[test]
fn ack_before_the_record_is_found() {
    assert_found(Rule::RecordBeforeAck, 300);
}

#[test]
fn ack_of_the_resume_entry_is_found() {
    assert_found(Rule::AckBeforeResume, 300);
}

#[test]
fn unknown_outcome_taken_for_success_is_found() {
    assert_found(Rule::RetryUntilSuccess, 100);
}

#[test]
fn missing_fence_is_found() {
    assert_found(Rule::Fence, 100);
}

#[test]
fn messages_counted_again_are_found() {
    assert_found(Rule::CountOnce, 100);
}

#[test]
fn restart_behind_open_windows_is_found() {
    assert_found(Rule::ResumeAtOpenWindow, 100);
}

#[test]
fn row_that_gives_way_to_an_older_one_is_found() {
    assert_found(Rule::RevisionCompare, 300);
}

#[test]
fn row_read_before_its_commit_is_found() {
    assert_found(Rule::LookBehindCommits, 300);
}

#[test]
fn late_message_merged_twice_is_found() {
    assert_found(Rule::MergeOnce, 100);
}

#[test]
fn absence_that_is_not_confirmed_is_found() {
    assert_found(Rule::ConfirmedAbsence, 300);
}

#[test]
fn jump_in_a_ledger_is_found() {
    assert_found(Rule::GapCheck, 300);
}

/// Rare: a zombie has to acknowledge up to exactly the end of a ledger while another lane stands
/// in the midst of it.
#[test]
fn jump_over_the_end_of_a_ledger_is_found() {
    assert_found(Rule::RollOverCheck, 2_000);
}

#[test]
fn no_seed_breaks_the_protocol_of_merged_lanes() {
    let count = number("TIDEMILL_SEEDS").unwrap_or(400);
    let first = number("TIDEMILL_FIRST_SEED").unwrap_or(0);
    let (mut events, mut message_count, mut failed) = (BTreeMap::new(), 0, Vec::new());
    for seed in first..first + count {
        let report = merged::run(seed, None, TRACE_LINES);
        message_count += report.message_count;
        for (name, times) in report.events {
            *events.entry(name).or_insert(0) += times;
        }
        failed.extend(report.violation);
    }
    println!("{count} seeds of merged lanes, {message_count} messages");
    events.iter().for_each(|(name, times)| println!("{times:>9} {name}"));
    failed.iter().for_each(|violation| println!("seed {}: {}", violation.seed, violation.text));
    if let Some(violation) = failed.first() {
        panic!("{} of {count} seeds failed, the first:\n{violation}", failed.len());
    }
    for name in ["merged", "emitted early", "closed for the silent", "fenced", "worker crashed"] {
        let times = events.get(name).copied().unwrap_or_default();
        assert!(times >= count / 100, "{name} happened {times} times: {events:?}");
    }
}

/// As [`replay`], of merged lanes.
#[test]
fn replay_merged() {
    let Some(seed) = number("TIDEMILL_SEED") else {
        return;
    };
    let report = merged::run(seed, None, usize::MAX);
    if let Some(violation) = report.violation {
        panic!("{violation}");
    }
    report.trace.iter().for_each(|line| println!("{line}"));
}

#[test]
fn each_broken_rule_of_merged_lanes_is_found() {
    use merged::Rule;
    for (rule, seeds) in [
        (Rule::RowsBeforeRecord, 100),
        (Rule::AckBeforeResume, 300),
        (Rule::RetryUntilSuccess, 100),
        (Rule::ResumeOfHeldWindows, 100),
        (Rule::Closings, 100),
        (Rule::ConsistentRead, 300),
    ] {
        let found = (0..seeds).any(|seed| merged::run(seed, Some(rule), 1).violation.is_some());
        assert!(found, "the simulator does not see that {rule:?} is broken");
    }
    // Rare: a commit on its way has to arrive between two of the later owner's.
    let found = merged::run(19_097, Some(Rule::LaterOwnerWins), 1).violation;
    assert!(found.is_some(), "no later owner loses, or the seed means something else by now");
}

//! Runs the simulator over seeds, and proves that it finds what it should.
//!
//! `TIDEMILL_SEEDS=N` runs more seeds, `TIDEMILL_FIRST_SEED=S` other ones, and `TIDEMILL_SEED=S`
//! makes the test `replay` print the whole trace of one.

use std::{collections::BTreeMap, time::Instant};

use tidemill_engine::sim::{Rule, run, run_traced};

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

/// Runs the seed of `TIDEMILL_SEED` with its whole trace; does nothing without one.
#[test]
fn replay() {
    let Some(seed) = number("TIDEMILL_SEED") else {
        return;
    };
    let report = run_traced(seed, None, usize::MAX);
    println!("{:?}", report.events);
    report.trace.iter().for_each(|line| println!("{line}"));
    if let Some(violation) = report.violation {
        panic!("{violation}");
    }
}

#[test]
fn two_runs_of_a_seed_are_equal() {
    for seed in 0..20 {
        let (one, two) = (run(seed, None), run(seed, None));
        assert_eq!(one.digest, two.digest, "seed {seed}");
        assert_eq!(one.events, two.events, "seed {seed}");
    }
    assert_ne!(run(1, None).digest, run(2, None).digest);
}

/// Returns how many of the seeds find the broken rule.
fn found(rule: Rule, seeds: u64) -> u64 {
    let found: Vec<_> = (0..seeds).filter_map(|seed| run(seed, Some(rule)).violation).collect();
    if std::env::var_os("TIDEMILL_LIST").is_some() {
        found.iter().for_each(|violation| println!("{}: {}", violation.seed, violation.text));
    }
    if let Some(first) = found.first() {
        println!("{rule:?}: {} of {seeds}, e.g. seed {}: {}", found.len(), first.seed, first.text);
    }
    found.len() as u64
}

macro_rules! broken_rule_is_found {
    ($($name:ident: $rule:ident in $seeds:literal,)*) => {
        $(#[test]
        fn $name() {
            let seeds = number("TIDEMILL_SEEDS").unwrap_or($seeds);
            assert!(found(Rule::$rule, seeds) > 0, "the simulator does not see {:?}", Rule::$rule);
        })*

        #[test]
        fn every_rule_is_broken_once() {
            let tested = [$(Rule::$rule),*];
            assert!(Rule::ALL.iter().all(|rule| tested.contains(rule)));
        }
    };
}

broken_rule_is_found! {
    record_before_its_rows_is_found: RowsBeforeRecord in 100,
    record_before_its_letters_is_found: LettersBeforeRecord in 100,
    ack_before_the_record_is_found: RecordBeforeAck in 300,
    ack_of_the_resume_entry_is_found: AckBeforeResume in 300,
    unknown_outcome_taken_for_success_is_found: RetryUntilSuccess in 100,
    missing_fence_is_found: Fence in 300,
    messages_counted_again_are_found: CountOnce in 100,
    restart_behind_open_windows_is_found: ResumeAtOpenWindow in 100,
    row_that_gives_way_to_an_older_one_is_found: RevisionCompare in 300,
    absence_that_is_not_confirmed_is_found: ConfirmedAbsence in 300,
    jump_in_a_ledger_is_found: GapCheck in 300,
    jump_over_the_end_of_a_ledger_is_found: RollOverCheck in 300,
}

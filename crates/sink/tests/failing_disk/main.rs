//! The embedded store on a disk that fails: writes, reads and syncs with errors, a full disk, kills
//! and losses of power between any two calls, by seed.
//!
//! What was answered survives, what is stored is whole, and a disk that works again is used again.
//! `TIDEMILL_DISK_SEEDS=N` runs more seeds, `TIDEMILL_FIRST_SEED=S` other ones. What it does not
//! do: damage what a disk said is durable.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]
#![allow(unsafe_code, reason = "SQLite calls its file system through C, argued in vfs and shared")]

mod disk;
mod lane;
mod run;
mod shared;
mod vfs;

use std::{collections::BTreeMap, time::Instant};

use run::{Report, Sabotage, run};

const SEEDS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn no_seed_of_a_failing_disk_loses_or_halves_a_commit() {
    let first = number("TIDEMILL_FIRST_SEED").unwrap_or(0);
    let count = number("TIDEMILL_DISK_SEEDS").unwrap_or(SEEDS);
    let began = Instant::now();
    let mut events: BTreeMap<&str, u64> = BTreeMap::new();
    let mut failed = Vec::new();
    for seed in first..first + count {
        let Report { counts, violation } = run(seed, Sabotage::None);
        counts.iter().for_each(|(what, times)| *events.entry(what).or_insert(0) += times);
        failed.extend(violation.map(|text| format!("seed {seed}: {text}")));
    }
    println!("{count} seeds, {:?}", began.elapsed());
    events.iter().for_each(|(what, times)| println!("{times:>9} {what}"));
    failed.iter().for_each(|text| println!("{text}"));
    assert!(
        failed.is_empty(),
        "{} of {count} seeds failed, the first: {}",
        failed.len(),
        failed[0]
    );
    if count >= SEEDS {
        for what in [
            "commits",
            "commits failed",
            "kills",
            "losses of power",
            "looks",
            "openings failed",
            "other calls failed",
            "reads failed",
            "syncs failed",
            "writes failed",
            "writes to a full disk",
        ] {
            assert!(events.get(what).is_some_and(|times| *times >= SEEDS / 10), "too few: {what}");
        }
    }
}

#[test]
fn two_runs_of_a_seed_are_equal() {
    for seed in 0..10 {
        let (once, again) = (run(seed, Sabotage::None), run(seed, Sabotage::None));
        assert_eq!((once.counts, once.violation), (again.counts, again.violation), "seed {seed}");
    }
}

/// Returns what is found in the first seeds with something broken on purpose.
fn found(sabotage: Sabotage) -> Vec<String> {
    (0..100).filter_map(|seed| run(seed, sabotage).violation).collect()
}

#[test]
fn disk_that_does_not_keep_what_it_synced_is_found() {
    let found = found(Sabotage::LyingDisk);
    assert!(found.iter().any(|text| text.contains("durable must be")), "{found:#?}");
}

#[test]
fn commit_in_two_transactions_is_found() {
    let found = found(Sabotage::SplitCommit);
    assert!(found.iter().any(|text| text.contains("other rows or letters")), "{found:#?}");
}

/// The defect that these seeds found: SQLite appended to commits whose sync had failed before the
/// process died, and a loss of power then took answered commits.
#[test]
fn log_that_is_trusted_at_an_opening_is_found() {
    let found = found(Sabotage::TrustedLog);
    assert!(found.iter().any(|text| text.contains("durable must be")), "{found:#?}");
}

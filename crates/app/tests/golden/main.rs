//! The golden cases of `tests/cases`, each run straight and with a crash after every effect.
//!
//! A case goes through the real configuration, decoder, lane and kernel; only the log and the store
//! are in memory. The format is described in `tests/cases/README.md`.

mod case;
mod runner;

use std::path::PathBuf;

use case::Case;
use runner::{Stored, run};

fn cases() -> Vec<Case> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases");
    let entries = std::fs::read_dir(&folder).expect("the folder of cases");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "case"));
    paths.sort();
    paths.iter().map(|path| Case::read(path)).collect()
}

/// Runs each case that way; collects what is wrong, so that one run shows everything.
fn check_all(check: impl Fn(&Case) -> Result<(), String>) {
    let cases = cases();
    assert!(cases.len() >= 55, "only {} cases", cases.len());
    let failed: Vec<String> = cases
        .iter()
        .filter_map(|case| check(case).err().map(|text| format!("{}: {text}", case.name)))
        .collect();
    assert!(failed.is_empty(), "{} cases failed\n{}", failed.len(), failed.join("\n"));
}

/// Compares everything but revisions, which say when a row was written.
fn same(case: &Case, expected: &Stored, given: &Stored, how: &str) -> Result<(), String> {
    let columns = case.config.schema.columns();
    let (expected, given) = (expected.without_revisions(columns), given.without_revisions(columns));
    if expected == given {
        return Ok(());
    }
    Err(format!("{how}: the store differs\n  straight {expected:?}\n  {how} {given:?}"))
}

#[test]
fn every_case_gives_its_rows_letters_and_ledger() {
    check_all(|case| case.check(&run(case, false, None)?.0));
}

#[test]
fn every_message_as_an_entry_and_commit_of_its_own_gives_the_same() {
    check_all(|case| {
        let (stored, _) = run(case, true, None)?;
        case.check(&stored)?;
        same(case, &run(case, false, None)?.0, &stored, "in single messages")
    });
}

#[test]
fn every_case_survives_a_crash_after_every_effect() {
    check_all(|case| {
        for single in [false, true] {
            let (straight, effect_count) = run(case, single, None)?;
            for crash_after in 0..effect_count {
                let (stored, _) = run(case, single, Some(crash_after))?;
                let how = format!("crashed after effect {crash_after}");
                case.check(&stored).map_err(|text| format!("{how}: {text}"))?;
                same(case, &straight, &stored, &how)?;
            }
        }
        Ok(())
    });
}

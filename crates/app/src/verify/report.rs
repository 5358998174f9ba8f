//! What a verification comes to, as text for people: a table of partitions, then what differs,
//! what could not be checked and what is worth knowing, then sample and checklist.

use std::fmt::Write as _;

use super::{Lane, Request, Verification};
use crate::{
    config::{Config, Source},
    table::render,
};

/// Returns the whole report.
pub fn text(config: &Config, request: Request, verification: &Verification) -> String {
    let lanes = &verification.lanes;
    let mut text = table(lanes, matches!(config.source, Source::Pulsar(_)));
    for lane in lanes {
        let (partition, record) = (&lane.totals.partition, lane.totals.record.as_ref());
        let lost = record.map_or(0, |record| record.ledger.lost);
        if lost > 0 {
            let _ = writeln!(text, "partition {partition}: + {lost} accepted as lost");
        }
        if lane.totals.rows_of_forgotten_commits > 0 {
            let count = lane.totals.rows_of_forgotten_commits;
            let _ = writeln!(text, "partition {partition}: {count} rows from before a reset");
        }
    }
    for lane in lanes {
        let finding = &lane.finding;
        let kinds = [
            ("DIFFERENCE: ", &finding.differences),
            ("not checked: ", &finding.unchecked),
            ("", &finding.notes),
        ];
        for (kind, lines) in kinds {
            for line in lines {
                let _ = writeln!(text, "partition {}: {kind}{line}", finding.partition);
            }
        }
    }
    for line in &verification.unchecked {
        let _ = writeln!(text, "not checked: {line}");
    }
    for note in &verification.notes {
        let _ = writeln!(text, "{note}");
    }
    let [devices, device_windows] = verification.several_partitions;
    if devices > 0 {
        let _ = writeln!(
            text,
            "{devices} devices have rows of several partitions, {device_windows} of their windows \
             more than one row: key the topic by device, or use routing = \"any\""
        );
    }
    if let Some((outcome, total)) = verification.sample {
        let seed = request.seed;
        let _ = writeln!(
            text,
            "sample, seed {seed}: {} of {total} rows computed again from raw messages: {} equal in \
             every bit, {} different, {} not checkable",
            outcome.picked, outcome.equal, outcome.different, outcome.not_checkable
        );
    }
    if !verification.checklist.is_empty() {
        text.push('\n');
        text.push_str(&checklist(verification));
    }
    if lanes.is_empty() {
        let name = &config.pipeline.name;
        let _ = writeln!(text, "nothing stored by pipeline {name:?}: nothing to check");
    }
    text
}

/// Pieces of a file are as large as a read gave, so only a broker's entries are worth counting.
fn table(lanes: &[Lane], with_entries: bool) -> String {
    let with_log = lanes.iter().any(|lane| lane.walk.is_some());
    let mut header = vec![
        "partition",
        "messages",
        "=",
        "aggregated",
        "+ open",
        "+ late",
        "+ rejected",
        "rows",
        "windows",
    ];
    if with_log && with_entries {
        header.push("entries");
    }
    if with_log {
        header.push("in the log");
    }
    header.push("verdict");
    let rows: Vec<Vec<String>> =
        lanes.iter().map(|lane| cells(lane, with_log, with_entries)).collect();
    let header: Vec<String> = header.into_iter().map(str::to_owned).collect();
    render(&header, &rows)
}

fn cells(lane: &Lane, with_log: bool, with_entries: bool) -> Vec<String> {
    let totals = &lane.totals;
    let ledger = totals.record.as_ref().map(|record| record.ledger).unwrap_or_default();
    let mut cells = vec![
        totals.partition.clone(),
        ledger.messages.to_string(),
        "=".into(),
        totals.record_count_closed.to_string(),
        ledger.open.to_string(),
        totals.late.to_string(),
        totals.rejected.to_string(),
        totals.row_count.to_string(),
        totals.window_count.to_string(),
    ];
    let of_log = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
    if with_log && with_entries {
        cells.push(of_log(lane.walk.as_ref().map(|walk| walk.entries)));
    }
    if with_log {
        cells.push(of_log(lane.walk.as_ref().map(|walk| walk.messages)));
    }
    let began_late = lane.walk.as_ref().is_some_and(|walk| walk.began_late_at.is_some());
    let finding = &lane.finding;
    let verdict = match (finding.differences.is_empty(), finding.unchecked.is_empty()) {
        (false, _) => "DIFFERENCE",
        (true, false) => "not checked",
        (true, true) if began_late => "proved, the log in part",
        (true, true) => "proved",
    };
    cells.push(verdict.into());
    cells
}

fn checklist(verification: &Verification) -> String {
    let header = ["checklist", "verdict", "found"].map(str::to_owned);
    let lines = verification.checklist.iter();
    let rows: Vec<Vec<String>> = lines
        .map(|line| vec![line.item.to_owned(), line.verdict.to_owned(), line.found.clone()])
        .collect();
    render(&header, &rows)
}

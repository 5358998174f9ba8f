//! `tidemill verify`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use tidemill_engine::record::CommitRecord;
use tidemill_pulsar::{Client, ConsumerConfig, ConsumerEvent, Position, StartAt};
use tidemill_sink::PartitionTotals;

use super::{Failure, run};
use crate::{
    assemble::{open_reader, pulsar_client},
    config::{Config, PulsarSource, Source},
    exit::USAGE,
    ledger_check::{Finding, check},
    table::render,
};

/// How long the broker may be silent while its messages are counted.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Permits granted to the counting reader at once.
const PERMITS: u32 = 20_000;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The configuration file.
    config: PathBuf,
    /// Do not ask the broker; hold the store against its own records only.
    #[arg(long)]
    store_only: bool,
}

pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let config = run::load(&arguments.config)?;
    let mut reader = open_reader(&config).map_err(Failure::usage)?;
    let size_ms = config.window.grid.size_ms();
    let totals = reader.totals(&config.pipeline.name, size_ms).map_err(Failure::usage)?;
    let mut findings = Vec::new();
    for partition in &totals {
        let broker_count = match &config.source {
            Source::Pulsar(source) if !arguments.store_only => {
                partition.record.as_ref().map(|record| count_at_broker(source, record))
            }
            _ => None,
        };
        findings.push(check(partition, broker_count));
    }
    super::print(&report(&config, &totals, &findings));
    if totals.len() > 1 {
        let several = reader.several_partitions(&config.pipeline.name).map_err(Failure::usage)?;
        super::print(&routing(several));
    }
    Ok(if findings.iter().any(|finding| !finding.differences.is_empty()) {
        ExitCode::FAILURE
    } else if totals.is_empty() || findings.iter().any(|finding| !finding.unchecked.is_empty()) {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    })
}

/// Returns what there is to say about devices with rows of several partitions.
fn routing([devices, device_windows]: [u64; 2]) -> String {
    if devices == 0 {
        return String::new();
    }
    format!(
        "{devices} devices have rows of several partitions, {device_windows} of their windows more \
         than one row: key the topic by device\n"
    )
}

/// Returns the table of a check and what it comes to.
pub(super) fn report(config: &Config, totals: &[PartitionTotals], findings: &[Finding]) -> String {
    let header = [
        "partition",
        "messages",
        "=",
        "aggregated",
        "+ open",
        "+ late",
        "+ rejected",
        "rows",
        "windows",
        "verdict",
    ];
    let rows: Vec<Vec<String>> = totals
        .iter()
        .zip(findings)
        .map(|(totals, finding)| {
            let ledger = totals.record.as_ref().map(|record| record.ledger).unwrap_or_default();
            let verdict = match (finding.differences.is_empty(), finding.unchecked.is_empty()) {
                (false, _) => "DIFFERENCE",
                (true, false) => "not checked",
                (true, true) => "proved",
            };
            vec![
                totals.partition.clone(),
                ledger.messages.to_string(),
                "=".into(),
                totals.record_count_closed.to_string(),
                ledger.open.to_string(),
                totals.late.to_string(),
                totals.rejected.to_string(),
                totals.row_count.to_string(),
                totals.window_count.to_string(),
                verdict.into(),
            ]
        })
        .collect();
    let mut text = render(&header.map(str::to_owned), &rows);
    for totals in totals {
        let (partition, record) = (&totals.partition, totals.record.as_ref());
        let lost = record.map_or(0, |record| record.ledger.lost);
        if lost > 0 {
            text.push_str(&format!("partition {partition}: + {lost} accepted as lost\n"));
        }
        if totals.rows_of_forgotten_commits > 0 {
            let count = totals.rows_of_forgotten_commits;
            text.push_str(&format!("partition {partition}: {count} rows from before a reset\n"));
        }
    }
    for finding in findings {
        for line in &finding.differences {
            text.push_str(&format!("partition {}: DIFFERENCE: {line}\n", finding.partition));
        }
        for line in &finding.unchecked {
            text.push_str(&format!("partition {}: not checked: {line}\n", finding.partition));
        }
    }
    if totals.is_empty() {
        let name = &config.pipeline.name;
        text.push_str(&format!("nothing stored by pipeline {name:?}: nothing to check\n"));
    }
    text
}

/// Counts the messages of a partition from its birth to its processed position, by a reader of
/// its own that moves no cursor.
fn count_at_broker(source: &PulsarSource, record: &CommitRecord) -> Result<u64, String> {
    let Some((birth, processed)) = record.birth.zip(record.processed) else {
        return Ok(record.ordinal);
    };
    if processed < birth {
        // Reset, and nothing was processed since.
        return Ok(record.ordinal);
    }
    let topic = source.topics.topic_of_lane(&record.lane.partition)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let client = Client::new(pulsar_client(source)).map_err(|error| error.to_string())?;
        let first = Position { ledger_id: birth.segment, entry_id: birth.offset };
        let start = StartAt::Position(first);
        let mut reader = client.subscribe(ConsumerConfig::reader(topic, "tidemill-verify", start));
        // What was counted before an accepted loss is not there to be counted again.
        let (mut count, mut last) = (record.birth_ordinal, None);
        let end = Position { ledger_id: processed.segment, entry_id: processed.offset };
        loop {
            let event = tokio::time::timeout(SILENCE_MAX, reader.next()).await;
            match event.map_err(|_| format!("the broker was silent for {SILENCE_MAX:?}"))? {
                ConsumerEvent::Connected => {
                    reader.flow(PERMITS).await.map_err(|error| error.to_string())?;
                }
                ConsumerEvent::Entry(entry) if last.is_some_and(|last| entry.position <= last) => {}
                ConsumerEvent::Entry(entry) => {
                    if last.is_none() && entry.position != first {
                        return Err(format!(
                            "the broker's log begins at {:?}, the lane was born at {first:?}: \
                             retention has taken what lies between",
                            entry.position
                        ));
                    }
                    if last.is_none() && entry.message_count < birth.index {
                        return Err(format!("entry {first:?} has another content than it had"));
                    }
                    let before = if last.is_none() { birth.index } else { 0 };
                    last = Some(entry.position);
                    if entry.position < end {
                        count += u64::from(entry.message_count - before);
                    } else if entry.position == end {
                        return Ok(count + u64::from(processed.index - before) + 1);
                    } else {
                        return Err(format!("the processed entry {end:?} is gone"));
                    }
                    reader.flow(entry.permits).await.map_err(|error| error.to_string())?;
                }
                ConsumerEvent::Failed { reason } => return Err(reason.to_string()),
                ConsumerEvent::EndOfTopic => return Err(format!("the topic ends before {end:?}")),
                _ => {}
            }
        }
    })
}

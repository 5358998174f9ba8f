//! `tidemill reset`: puts an operator's decision in the place of a pipeline's commit records.
//!
//! It deletes nothing, moves no cursor of the broker and starts no lane; the next `run` goes on
//! from what is written here.

use std::{
    io::{BufRead as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use tidemill_engine::{
    port::{Commit, Store, StoreError},
    record::{CommitRecord, GENERATION_MAX},
    reset::Reset,
    window_log::utc,
};
use tidemill_sink::{PartitionTotals, RowQuery, StoreReader, Value};

use super::{Failure, run};
use crate::{
    assemble::{lock_store, open_reader, open_writer, random},
    config::{Config, Source},
    table::render,
};

/// How often a write is tried.
const ATTEMPTS: usize = 5;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The configuration file, with pipeline.generation raised.
    config: PathBuf,
    /// Keep positions and counts, and go on with whatever message the log has next: what was in
    /// open windows and is gone is counted as lost.
    #[arg(long)]
    accept_loss: bool,
    /// Only these partitions [default: all that have a commit].
    #[arg(long = "partition", value_name = "NAME")]
    partitions: Vec<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let config = run::load(&arguments.config)?;
    let _lock = lock_store(&config).map_err(Failure::failed)?;
    // Where a table is missing there is nothing to reset either; the reader says so.
    let mut reader = open_reader(&config).map_err(Failure::usage)?;
    let totals = choose(&config, &mut *reader, &arguments.partitions)?;
    check_generation(&config, &totals)?;
    let fingerprint = config.fingerprint();
    let reset = Reset {
        generation: config.pipeline.generation,
        fingerprint: &fingerprint,
        writer: random() >> 1,
    };
    let mut changes = Vec::new();
    for (totals, last) in &totals {
        let next = match arguments.accept_loss {
            true => {
                let until_ms = newest_row(&config, &mut *reader, &totals.partition)?;
                let emitted = totals.record_count_open;
                let until_ms = until_ms.filter(|_| emitted > 0);
                reset.accept_loss(last, config.window.grid, emitted, until_ms)
            }
            false => reset.forget(last),
        };
        changes.push((last.clone(), next));
    }
    drop(reader);
    super::print(&plan(&config, &changes, arguments.accept_loss));
    if !arguments.yes && !confirm(&config.pipeline.name).map_err(Failure::failed)? {
        return Err(Failure::failed("nothing was changed"));
    }
    let mut store = open_writer(&config).map_err(Failure::failed)?;
    for (last, next) in &changes {
        write(&mut *store, last, next).map_err(Failure::failed)?;
        super::print(&format!("partition {}: reset\n", last.lane.partition));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the partitions that are to be reset, each with its record.
fn choose(
    config: &Config,
    reader: &mut dyn StoreReader,
    wanted: &[String],
) -> Result<Vec<(PartitionTotals, CommitRecord)>, Failure> {
    let name = &config.pipeline.name;
    let mut totals = reader.totals(name).map_err(Failure::usage)?;
    if let Some(missing) =
        wanted.iter().find(|name| totals.iter().all(|known| known.partition != **name))
    {
        return Err(Failure::usage(format!("partition {missing:?} has no commit")));
    }
    totals.retain(|known| wanted.is_empty() || wanted.contains(&known.partition));
    let with_record = totals.into_iter().filter_map(|totals| {
        let record = totals.record.clone()?;
        Some((totals, record))
    });
    let chosen: Vec<_> = with_record.collect();
    if chosen.is_empty() {
        return Err(Failure::usage(format!("pipeline {name:?} has no commit: nothing to reset")));
    }
    Ok(chosen)
}

/// Only a higher generation lets new records and rows win over the old ones.
fn check_generation(
    config: &Config,
    totals: &[(PartitionTotals, CommitRecord)],
) -> Result<(), Failure> {
    let stored = totals.iter().map(|(_, record)| record.generation).max().unwrap_or(0);
    if config.pipeline.generation > stored {
        return Ok(());
    }
    let remedy = match stored < GENERATION_MAX {
        true => format!("write generation = {} into [pipeline] first", stored + 1),
        false => "there is none above it: use another pipeline.name".to_owned(),
    };
    Err(Failure::usage(format!(
        "pipeline.generation is {}, the commits have {stored}; {remedy}",
        config.pipeline.generation
    )))
}

/// Returns the end of the newest window that has a row of the partition.
fn newest_row(
    config: &Config,
    reader: &mut dyn StoreReader,
    partition: &str,
) -> Result<Option<i64>, Failure> {
    let query = RowQuery {
        keys: vec![
            ("pipeline".into(), config.pipeline.name.clone()),
            ("source_partition".into(), partition.into()),
        ],
        columns: Some(vec!["time".into()]),
        limit: 1,
        newest_first: true,
        ..RowQuery::default()
    };
    let table = reader.rows(&query).map_err(Failure::failed)?;
    Ok(table.rows.first().and_then(|row| row.first()).and_then(Value::as_i64))
}

/// Returns what will happen, in a table and in words.
fn plan(config: &Config, changes: &[(CommitRecord, CommitRecord)], accept_loss: bool) -> String {
    let header = ["partition", "messages", "open", "lost by this", "closed until", "then until"];
    let until = |record: &CommitRecord| match record.closed_until_ms {
        i64::MIN => "none".to_owned(),
        until_ms => utc(until_ms),
    };
    let lines: Vec<Vec<String>> = changes
        .iter()
        .map(|(last, next)| {
            let lost = next.ledger.lost.saturating_sub(last.ledger.lost);
            vec![
                last.lane.partition.to_string(),
                last.ledger.messages.to_string(),
                last.ledger.open.to_string(),
                lost.to_string(),
                until(last),
                until(next),
            ]
        })
        .collect();
    let mut text = render(&header.map(str::to_owned), &lines);
    text.push_str(match accept_loss {
        true => {
            "Counting goes on behind the last processed message, with whatever the log has next.\n\
             The windows that were open are given up: rows of them that are stored stay as they\n\
             are, their other messages are counted as lost, what still comes for them is late.\n\
             Messages that nobody had read yet and that are gone are in no count.\n"
        }
        false => {
            "The next run begins as if nothing was ever committed: messages and ledgers are 0.\n\
             Rows and dead letters that are stored stay; where a window is read again, its row is\n\
             replaced, also by one of fewer messages if the log no longer holds them all.\n"
        }
    });
    if !accept_loss {
        text.push_str(match &config.source {
            Source::Pulsar(_) => {
                "It reads from where the subscription stands: what is acknowledged is not read\n\
                 again. To read all that the broker still has, also write the name of a new\n\
                 subscription and start = \"earliest\".\n"
            }
            _ => "It reads the source from its beginning.\n",
        });
    }
    text
}

/// Asks for the pipeline's name.
fn confirm(name: &str) -> std::io::Result<bool> {
    eprint!("Type the pipeline's name to go on: ");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim() == name)
}

/// Writes a record in the place of `last`, which has to be still the newest.
fn write(store: &mut dyn Store, last: &CommitRecord, next: &CommitRecord) -> Result<(), String> {
    let lane = &last.lane;
    let commit = Commit {
        previous: Some(last.id),
        rows: Vec::new(),
        letters: Vec::new(),
        record: next.clone(),
    };
    let mut problem = String::new();
    for _ in 0..ATTEMPTS {
        let written = store.load(lane).and_then(|found| match found {
            Some(found) if found.id == next.id => Ok(()),
            Some(found) if found.id == last.id => store.commit(&commit),
            _ => Err(StoreError::Refused(format!(
                "{lane} was committed meanwhile: stop the process that runs it, and begin again"
            ))),
        });
        match written {
            Ok(()) => return Ok(()),
            Err(StoreError::Retry(text)) => problem = text,
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(problem)
}

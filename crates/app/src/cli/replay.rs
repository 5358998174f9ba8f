//! `tidemill replay`.

use std::{path::PathBuf, process::ExitCode, thread, time::Duration};

use clap::{ArgGroup, Args};
use tidemill_engine::port::StoreError;
use tidemill_kernel::row::RowBlock;

use super::{Failure, query, run};
use crate::{
    assemble::{lock_store, open_reader, open_writer},
    config::Config,
    exit::USAGE,
    verify::{
        replay::{Comparison, Purpose, Repair, Span, compare},
        row::append_row,
    },
};

/// Differences, and rows to write, that are printed one by one.
const PRINTED_MAX: usize = 100;
/// How often the rows are written, if the store does not take them.
const ATTEMPTS: u32 = 5;
/// How long to wait before the next attempt.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("purpose").required(true).args(["diff", "write"])))]
pub(super) struct Arguments {
    /// The configuration file.
    config: PathBuf,
    /// Compare with the stored rows and print what differs; nothing is written.
    #[arg(long)]
    diff: bool,
    /// Write rows that are missing or differ again, as their messages give them.
    #[arg(long)]
    write: bool,
    /// Only windows that end at or after this time, such as 2026-01-01T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only windows that end before this time.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only rows of this device: a group key, or its parts joined by `/`.
    #[arg(long)]
    device: Option<String>,
}

pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let config = run::load(&arguments.config)?;
    let keys = query::device_keys(arguments.device.as_deref(), &config)?;
    let span = Span {
        from_ms: query::time("--from", arguments.from.as_deref())?,
        to_ms: query::time("--to", arguments.to.as_deref())?,
        device: arguments.device.is_some().then(|| keys.into_iter().map(|key| key.1).collect()),
    };
    let _lock = match arguments.write {
        true => lock_store(&config).map_err(Failure::failed)?,
        false => None,
    };
    let purpose = if arguments.write { Purpose::Repair } else { Purpose::Tell };
    let mut reader = open_reader(&config).map_err(Failure::usage)?;
    let found = compare(&config, &mut *reader, &span, purpose).map_err(Failure::usage)?;
    drop(reader);
    super::print(&text(&found));
    if arguments.write {
        super::print(&format!("rows to write: {}\n", found.repairs.len()));
        write(&config, &found.repairs).map_err(Failure::failed)?;
        super::print(&format!("{} rows written\n", found.repairs.len()));
    }
    super::print(&summary(&config, &found));
    Ok(if !found.different.is_empty() {
        ExitCode::FAILURE
    } else if !found.unchecked.is_empty() || (found.not_checkable > 0 && found.equal == 0) {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    })
}

/// Writes the rows, all with one call: where a store has transactions, all or none of them.
fn write(config: &Config, repairs: &[Repair]) -> Result<(), String> {
    if repairs.is_empty() {
        return Ok(());
    }
    let columns = config.schema.columns();
    let pieces = repairs.chunks(config.limits.piece_rows_max);
    let blocks: Vec<RowBlock> = pieces
        .map(|piece| {
            let mut block = RowBlock::new();
            piece.iter().for_each(|repair| append_row(&mut block, columns, &repair.row));
            block
        })
        .collect();
    let mut store = open_writer(config)?;
    let mut attempt = 1;
    loop {
        match store.write_rows(&blocks) {
            Err(StoreError::Retry(_)) if attempt < ATTEMPTS => attempt += 1,
            outcome => {
                return outcome.map_err(|error| {
                    format!("{error}; rows may be written in part: begin again, it does no harm")
                });
            }
        }
        thread::sleep(PAUSE);
    }
}

/// Returns the rows, one by one, and what could not be checked.
fn text(found: &Comparison) -> String {
    let repairs = found.repairs.iter().map(|repair| &repair.text);
    let mut text = listed("to write", repairs) + &listed("DIFFERENCE", found.different.iter());
    text.extend(found.unchecked.iter().map(|line| format!("not checked: {line}\n")));
    text
}

fn listed<'t>(what: &str, lines: impl ExactSizeIterator<Item = &'t String>) -> String {
    let more = lines.len().saturating_sub(PRINTED_MAX);
    let mut text: String =
        lines.take(PRINTED_MAX).map(|line| format!("{what}: {line}\n")).collect();
    if more > 0 {
        text.push_str(&format!("and {more} rows more\n"));
    }
    text
}

fn summary(config: &Config, found: &Comparison) -> String {
    format!(
        "rows of pipeline {:?}: {} as their messages give them, {} different, {} not checkable\n",
        config.pipeline.name,
        found.equal,
        found.different.len(),
        found.not_checkable
    )
}

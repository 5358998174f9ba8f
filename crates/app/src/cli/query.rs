//! `tidemill query`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use tidemill_decode::time::parse_text;
use tidemill_kernel::{event::Reason, schema::TimeUnit};
use tidemill_sink::{LetterQuery, RowQuery, Table};

use super::{Failure, run};
use crate::{assemble::open_reader, config::Config, table::render};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The configuration file.
    config: PathBuf,
    /// Only rows or letters of this device: a group key, or its parts joined by `/`.
    #[arg(long)]
    device: Option<String>,
    /// Only windows that end at or after this time, such as 2026-01-01T12:00:00Z.
    #[arg(long)]
    from: Option<String>,
    /// Only windows that end before this time.
    #[arg(long)]
    to: Option<String>,
    /// The columns, separated by commas [default: all].
    #[arg(long, value_delimiter = ',')]
    columns: Option<Vec<String>>,
    /// The most rows; the latest ones are shown.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Show dead letters instead of rows.
    #[arg(long)]
    dead_letters: bool,
    /// Only dead letters with this reason.
    #[arg(long, requires = "dead_letters")]
    reason: Option<String>,
}

pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let config = run::load(&arguments.config)?;
    let mut reader = open_reader(&config).map_err(Failure::failed)?;
    let table = if arguments.dead_letters {
        reader.dead_letters(&letter_query(arguments, &config)?)
    } else {
        reader.rows(&row_query(arguments, &config)?)
    };
    super::print(&text(table.map_err(Failure::failed)?));
    Ok(ExitCode::SUCCESS)
}

fn row_query(arguments: &Arguments, config: &Config) -> Result<RowQuery, Failure> {
    Ok(RowQuery {
        keys: device_keys(arguments.device.as_deref(), config)?,
        from_ms: time("--from", arguments.from.as_deref())?,
        to_ms: time("--to", arguments.to.as_deref())?,
        columns: arguments.columns.clone(),
        limit: arguments.limit,
        newest_first: true,
    })
}

/// Returns the columns of the group key with the parts of a device's; none for no device.
pub(super) fn device_keys(
    device: Option<&str>,
    config: &Config,
) -> Result<Vec<(String, String)>, Failure> {
    let Some(device) = device else { return Ok(Vec::new()) };
    let names = config.key_columns();
    let parts: Vec<&str> = device.splitn(names.len(), '/').collect();
    if parts.len() != names.len() {
        return Err(Failure::usage(format!(
            "--device {device:?}: write the {} parts of the key ({}) joined by /",
            names.len(),
            names.join(", ")
        )));
    }
    Ok(names.iter().zip(parts).map(|(name, part)| ((*name).to_owned(), part.to_owned())).collect())
}

fn letter_query(arguments: &Arguments, config: &Config) -> Result<LetterQuery, Failure> {
    let reason = match arguments.reason.as_deref() {
        None => None,
        Some(name) => {
            let known = Reason::ALL.into_iter().find(|reason| reason.name() == name);
            Some(known.ok_or_else(|| {
                let names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
                Failure::usage(format!("--reason {name:?}: write one of {}", names.join(", ")))
            })?)
        }
    };
    Ok(LetterQuery {
        pipeline: Some(config.pipeline.name.clone()),
        partition: None,
        reason,
        key: arguments.device.clone(),
        limit: arguments.limit,
        newest_first: true,
    })
}

pub(super) fn time(option: &str, text: Option<&str>) -> Result<Option<i64>, Failure> {
    let Some(text) = text else {
        return Ok(None);
    };
    match parse_text(text.as_bytes(), TimeUnit::Auto) {
        Some(time) => Ok(Some(time.as_ms())),
        None => Err(Failure::usage(format!(
            "{option} {text:?}: write a time such as 2026-01-01T12:00:00Z"
        ))),
    }
}

/// Returns a result as text, oldest first, with its number of rows.
pub(super) fn text(mut table: Table) -> String {
    table.rows.reverse();
    let rows: Vec<Vec<String>> =
        table.rows.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect();
    format!("{}{} rows\n", render(&table.columns, &rows), rows.len())
}

//! `tidemill replay`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{Failure, query, run};
use crate::{
    assemble::open_reader,
    config::Config,
    exit::USAGE,
    verify::replay::{Comparison, Span, compare},
};

/// Differences that are printed one by one.
const PRINTED_MAX: usize = 100;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The configuration file.
    config: PathBuf,
    /// Compare with the stored rows and print what differs; nothing is written.
    #[arg(long, required = true)]
    diff: bool,
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
    let mut reader = open_reader(&config).map_err(Failure::usage)?;
    let found = compare(&config, &mut *reader, &span).map_err(Failure::usage)?;
    super::print(&text(&config, &found));
    Ok(if !found.different.is_empty() {
        ExitCode::FAILURE
    } else if !found.unchecked.is_empty() || (found.not_checkable > 0 && found.equal == 0) {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    })
}

fn text(config: &Config, found: &Comparison) -> String {
    let printed = found.different.iter().take(PRINTED_MAX);
    let mut text: String = printed.map(|line| format!("DIFFERENCE: {line}\n")).collect();
    let more = found.different.len().saturating_sub(PRINTED_MAX);
    if more > 0 {
        text.push_str(&format!("and {more} rows more\n"));
    }
    text.extend(found.unchecked.iter().map(|line| format!("not checked: {line}\n")));
    text.push_str(&format!(
        "rows of pipeline {:?}: {} as their messages give them, {} different, {} not checkable\n",
        config.pipeline.name,
        found.equal,
        found.different.len(),
        found.not_checkable
    ));
    text
}

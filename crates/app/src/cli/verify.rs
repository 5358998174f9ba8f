//! `tidemill verify`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{Failure, query, run};
use crate::{
    assemble::{open_reader, random},
    exit::USAGE,
    verify::{Request, report, sample::SAMPLE_MAX, verify},
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The configuration file.
    config: PathBuf,
    /// Do not read the log; hold the store against its own records only.
    #[arg(long)]
    store_only: bool,
    /// Look at rows of windows that end at or after this time, such as 2026-01-01T12:00:00Z. The
    /// ledger, the dead letters and the log are held against each other as a whole all the same.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Look at rows of windows that end before this time.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Compute so many random device-windows again from raw messages and compare every bit; at
    /// most 100000.
    #[arg(long, value_name = "ROWS", conflicts_with = "store_only")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=SAMPLE_MAX))]
    sample: Option<u64>,
    /// Choose the sample by this number, which every report prints [default: random].
    #[arg(long, value_name = "NUMBER", requires = "sample")]
    seed: Option<u64>,
    /// Also go through the checklist of the sensor job: throughput, windows, writes, warnings,
    /// values.
    #[arg(long)]
    checklist: bool,
}

pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let config = run::load(&arguments.config)?;
    let request = Request {
        store_only: arguments.store_only,
        from_ms: query::time("--from", arguments.from.as_deref())?,
        to_ms: query::time("--to", arguments.to.as_deref())?,
        sample: arguments.sample,
        seed: arguments.seed.unwrap_or_else(|| random() % 1_000_000),
        checklist: arguments.checklist,
    };
    let mut reader = open_reader(&config).map_err(Failure::usage)?;
    let found = verify(&config, &mut *reader, request).map_err(Failure::usage)?;
    super::print(&report::text(&config, request, &found));
    Ok(if found.has_difference() {
        ExitCode::FAILURE
    } else if found.is_incomplete() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    })
}

//! `tidemill check`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{Failure, run};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The configuration file.
    config: PathBuf,
}

pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let config = run::load(&arguments.config)?;
    super::print(&format!(
        "{}: ok: pipeline {:?}, source {}, sink {}, {} fields, {} columns\n",
        arguments.config.display(),
        config.pipeline.name,
        config.source.name(),
        config.sink.name(),
        config.schema.fields().len(),
        config.schema.columns().len(),
    ));
    Ok(ExitCode::SUCCESS)
}

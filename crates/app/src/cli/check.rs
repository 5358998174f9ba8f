//! `tidemill check`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use tidemill_sink::check::Verdict;

use super::{Failure, run};
use crate::connect;

#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 all is well, or there are warnings; 1 --connect found an error; \
                        2 the configuration is wrong."
)]
pub(super) struct Arguments {
    /// The configuration file.
    config: PathBuf,
    /// Look at source and sink, too: are they there and as the configuration needs them. Changes
    /// nothing.
    #[arg(long)]
    connect: bool,
    /// The broker's admin interface, such as http://127.0.0.1:8080, for what only that can tell.
    #[arg(long, requires = "connect")]
    admin: Option<String>,
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
    if !arguments.connect {
        return Ok(ExitCode::SUCCESS);
    }
    let admin = arguments.admin.as_deref();
    if let Some(admin) = admin.filter(|admin| !admin.starts_with("http://")) {
        return Err(Failure::usage(format!("--admin {admin:?}: write http://host:port")));
    }
    let checks = connect::look(&config, admin);
    for check in &checks {
        super::print(&format!("{check}\n"));
    }
    let failed = checks.iter().any(|check| check.verdict == Verdict::Error);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

//! `tidemill run`.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::Args;
use tidemill_engine::{metrics::Metrics, pipeline::Outcome};
use tracing::{error, info, warn};

use super::Failure;
use crate::{
    assemble::{self, HttpFailure, Reloads},
    config::Config,
    reload::Reloader,
    signals,
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The configuration file.
    config: PathBuf,
    /// Log a line for each device of a closed window.
    #[arg(long)]
    log_windows: bool,
}

/// Reads a configuration with the process's environment.
pub(super) fn load(path: &std::path::Path) -> Result<Config, Failure> {
    Config::load(path, &|name| std::env::var(name).ok()).map_err(Failure::usage)
}

pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut config = load(&arguments.config)?;
    config.pipeline.log_windows |= arguments.log_windows;
    let shutdown = signals::shutdown_flag().map_err(Failure::failed)?;
    let metrics = Arc::new(Metrics::default());
    let (path, log_windows) = (arguments.config.clone(), arguments.log_windows);
    let (reloader, orders) = Reloader::new(path, config.clone(), log_windows, metrics.clone());
    let reloader = Arc::new(reloader);
    let by_signal = reloader.clone();
    signals::on_hangup(move || drop(by_signal.reload("SIGHUP"))).map_err(Failure::failed)?;
    let reloads = Some(Reloads { reloader, orders });
    let outcome = assemble::run(&config, None, HttpFailure::Fatal, &metrics, &shutdown, reloads)
        .map_err(Failure::usage)?;
    Ok(conclude(&outcome, &metrics))
}

/// Logs how a run ended; returns its exit status.
pub(super) fn conclude(outcome: &Outcome, metrics: &Metrics) -> ExitCode {
    let ledger = metrics.ledger();
    info!(
        messages = ledger.messages,
        aggregated = ledger.aggregated,
        open = ledger.open,
        late = ledger.late,
        rejected = ledger.rejected,
        "ledger"
    );
    match outcome {
        Outcome::Finished => info!("finished, all input is processed and stored"),
        Outcome::Drained => info!("stopped, all that was read is stored"),
        Outcome::DrainedLate => {
            warn!("stopped before the store answered; the next start reads that part again");
        }
        Outcome::Failed(failures) => {
            for failure in failures {
                error!(%failure, "failed");
            }
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

//! The binary: logs to standard error, then the command.

use std::process::ExitCode;

use clap::Parser as _;
use tidemill::{cli::Cli, logging};

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.log_format(), cli.log_level());
    cli.execute()
}

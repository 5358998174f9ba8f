//! The binary: logs to standard error, then the command.

use std::process::ExitCode;

use clap::Parser as _;
use tidemill::{cli::Cli, logging};

/// Beside musl, whose own allocator takes one lock for all threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.log_format(), cli.log_level());
    cli.execute()
}

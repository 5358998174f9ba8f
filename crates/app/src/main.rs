//! The binary: logs to standard error, then the command.

use std::process::ExitCode;

use clap::Parser as _;
use tidemill::{cli::Cli, logging, memory::LargePages};

/// Beside musl, whose own allocator takes one lock for all threads.
#[cfg(target_env = "musl")]
use mimalloc::MiMalloc as Allocator;
#[cfg(not(target_env = "musl"))]
use std::alloc::System as Allocator;

#[global_allocator]
static ALLOCATOR: LargePages<Allocator> = LargePages(Allocator);

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.log_format(), cli.log_level());
    cli.execute()
}

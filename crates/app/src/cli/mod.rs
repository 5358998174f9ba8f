//! The commands. Each file here is one command: it reads its arguments, calls the library, prints.
//!
//! Exit status: 0 done; 1 it failed, or `verify` found a difference, or `check` an error; 2 wrong
//! usage or configuration, or `verify` could not check.

mod check;
mod ddl;
mod demo;
mod generate;
mod query;
mod run;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Roll-up engine for sensor fleets: device messages in, exact device-minutes out.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a pipeline until it is stopped or its input ends.
    Run(run::Arguments),
    /// Run the sensor job on generated messages into an embedded store, and show what came of it.
    Demo(demo::Arguments),
    /// Check a configuration and print what is wrong, with file, line, key and remedy.
    Check(check::Arguments),
    /// Write sensor messages to a file, to standard output or to Pulsar.
    Generate(generate::Arguments),
    /// Print the statements that make the tables of a configuration in ClickHouse.
    Ddl(ddl::Arguments),
    /// Print stored rows or dead letters as a table.
    Query(query::Arguments),
    /// Prove that every message is accounted for.
    Verify(verify::Arguments),
}

/// The command could not begin: wrong usage or configuration, or nothing to check.
const USAGE: u8 = 2;

/// Why a command ended badly.
#[derive(Debug)]
pub struct Failure {
    status: u8,
    text: String,
}

impl Failure {
    /// The command failed.
    fn failed(text: impl ToString) -> Failure {
        Failure { status: 1, text: text.to_string() }
    }

    /// Wrong usage or configuration.
    fn usage(text: impl ToString) -> Failure {
        Failure { status: USAGE, text: text.to_string() }
    }
}

impl Cli {
    /// Returns the log level unless `TIDEMILL_LOG` says otherwise: only a pipeline tells how it is
    /// doing, the answers of other commands stand alone.
    pub fn log_level(&self) -> &'static str {
        match self.command {
            Command::Run(_) | Command::Demo(_) => "info",
            _ => "warn",
        }
    }

    /// Carries the command out; errors go to standard error.
    pub fn execute(self) -> ExitCode {
        let outcome = match self.command {
            Command::Run(arguments) => run::execute(&arguments),
            Command::Demo(arguments) => demo::execute(&arguments),
            Command::Check(arguments) => check::execute(&arguments),
            Command::Generate(arguments) => generate::execute(&arguments),
            Command::Ddl(arguments) => ddl::execute(&arguments),
            Command::Query(arguments) => query::execute(&arguments),
            Command::Verify(arguments) => verify::execute(&arguments),
        };
        match outcome {
            Ok(status) => status,
            Err(failure) => {
                eprintln!("tidemill: {}", failure.text);
                ExitCode::from(failure.status)
            }
        }
    }
}

/// Prints to standard output; a reader that has gone away is no error.
fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

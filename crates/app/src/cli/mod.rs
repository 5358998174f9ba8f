//! The commands. Each file here is one command: it reads its arguments, calls the library, prints.
//! How they end is listed in `exit.rs`.

mod broker;
mod check;
mod completions;
mod ddl;
mod demo;
mod examples;
mod explain;
mod generate;
mod init;
mod man;
mod query;
mod replay;
mod reset;
mod run;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    exit::{self, FAILED, USAGE},
    logging::{self, LogFormat},
    version,
};

/// Roll-up engine for sensor fleets: device messages in, exact device-minutes out.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version = version::line(), about, max_term_width = 100)]
#[command(after_help = after_help(), arg_required_else_help = true)]
pub struct Cli {
    /// How log lines look on standard error: text, or json (an object per line).
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    #[arg(value_name = "FORMAT", hide_possible_values = true)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a pipeline until it is stopped or its input ends.
    #[command(after_help = examples::RUN)]
    Run(run::Arguments),
    /// Run the sensor job on generated messages into an embedded store, and show what came of it.
    #[command(after_help = examples::DEMO)]
    Demo(demo::Arguments),
    /// Check a configuration and print what is wrong, with file, line, key and remedy.
    #[command(after_help = examples::CHECK)]
    Check(check::Arguments),
    /// Write a commented configuration from a sample of messages.
    #[command(after_help = examples::INIT)]
    Init(init::Arguments),
    /// Tell in words what a configuration does: lanes, windows, replays, rows, memory.
    #[command(after_help = examples::EXPLAIN)]
    Explain(explain::Arguments),
    /// Write sensor messages to a file, to standard output or to Pulsar.
    #[command(after_help = examples::GENERATE)]
    Generate(generate::Arguments),
    /// Print the statements that make the tables of a configuration in ClickHouse.
    #[command(after_help = examples::DDL)]
    Ddl(ddl::Arguments),
    /// Print stored rows or dead letters as a table.
    #[command(after_help = examples::QUERY)]
    Query(query::Arguments),
    /// Forget what a pipeline has committed, or accept that messages are gone.
    #[command(after_help = examples::RESET)]
    Reset(reset::Arguments),
    /// Prove that every message is accounted for.
    #[command(after_help = examples::VERIFY)]
    Verify(verify::Arguments),
    /// Make rows again from raw messages, compare them with the stored ones, and repair those.
    #[command(after_help = examples::REPLAY)]
    Replay(replay::Arguments),
    /// Print the completion script of a shell.
    #[command(after_help = examples::COMPLETIONS)]
    Completions(completions::Arguments),
    /// Print the manual page, or write one for every command.
    #[command(after_help = examples::MAN)]
    Man(man::Arguments),
}

fn after_help() -> String {
    format!(
        "{}\nTIDEMILL_LOG sets what is logged: error, warn, info, debug, trace, off, or by \
         module.\n\
         Documents: docs/tutorial.md to begin with, docs/operations.md to run it.",
        exit::help()
    )
}

/// Why a command ended badly.
#[derive(Debug)]
pub struct Failure {
    status: u8,
    text: String,
}

impl Failure {
    /// The command failed.
    fn failed(text: impl ToString) -> Failure {
        Failure { status: FAILED, text: text.to_string() }
    }

    /// Wrong usage or configuration.
    fn usage(text: impl ToString) -> Failure {
        Failure { status: USAGE, text: text.to_string() }
    }
}

impl Cli {
    /// Returns how log lines look.
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }

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
            Command::Init(arguments) => init::execute(&arguments),
            Command::Explain(arguments) => explain::execute(&arguments),
            Command::Generate(arguments) => generate::execute(&arguments),
            Command::Ddl(arguments) => ddl::execute(&arguments),
            Command::Query(arguments) => query::execute(&arguments),
            Command::Reset(arguments) => reset::execute(&arguments),
            Command::Verify(arguments) => verify::execute(&arguments),
            Command::Replay(arguments) => replay::execute(&arguments),
            Command::Completions(arguments) => completions::execute(&arguments),
            Command::Man(arguments) => man::execute(&arguments),
        };
        match outcome {
            Ok(status) => status,
            Err(failure) => {
                logging::tell(&failure.text);
                ExitCode::from(failure.status)
            }
        }
    }
}

/// Returns a text as a TOML string that `${` does not make a variable.
pub(crate) fn toml_text(text: &str) -> String {
    toml_quoted(text).replace("${", "$${")
}

/// Returns a text as a TOML string in which `${NAME}` is a variable.
fn toml_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Prints to standard output; a reader that has gone away is no error.
fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests;

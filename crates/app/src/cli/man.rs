//! `tidemill man`: the manual pages, made from the same definitions as `--help`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory as _};

use super::{Cli, Failure};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Write a page for every command into this folder, instead of the first page to standard
    /// output.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    // `help` is no page of its own.
    let command = Cli::command().disable_help_subcommand(true);
    let Some(folder) = &arguments.out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).map_err(Failure::failed)?;
        super::print(&String::from_utf8_lossy(&page));
        return Ok(ExitCode::SUCCESS);
    };
    clap_mangen::generate_to(command, folder)
        .map_err(|error| Failure::failed(format!("{}: {error}", folder.display())))?;
    Ok(ExitCode::SUCCESS)
}

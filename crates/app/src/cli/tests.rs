//! The definitions of the commands: that they agree with themselves, and that examples are right.

use std::process::Command as Process;

use clap::{CommandFactory as _, Parser as _};

use super::*;
use crate::exit::EXIT_STATUSES;

#[test]
fn definitions_hold_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_ends_its_help_with_examples_that_parse() {
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples = help.lines().filter_map(|line| line.strip_prefix("  tidemill "));
        let mut count = 0;
        for example in examples {
            // What stands behind a redirection is the shell's.
            let arguments = example.split(" > ").next().expect("there is a first part");
            let words = std::iter::once("tidemill").chain(arguments.split_whitespace());
            let parsed = Cli::try_parse_from(words);
            assert!(parsed.is_ok(), "tidemill {example}: {}", parsed.expect_err("it failed"));
            assert!(example.contains(name), "an example of {name}: {example}");
            count += 1;
        }
        assert!(count > 0, "{name} has no example");
    }
}

#[test]
fn wrong_commands_and_options_name_the_nearest_one() {
    for (words, nearest) in [
        (["tidemill", "qurey"].as_slice(), "'query'"),
        (&["tidemill", "run", "a.toml", "--log-window"], "'--log-windows'"),
        (&["tidemill", "completions", "bahs"], "'bash'"),
    ] {
        let error = Cli::try_parse_from(words).expect_err("it is wrong");
        assert_eq!(error.exit_code(), i32::from(USAGE));
        assert!(error.to_string().contains(nearest), "{error}");
    }
}

#[test]
fn exit_statuses_are_in_help_and_manual() {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).expect("a buffer takes all");
    let texts = [Cli::command().render_help().to_string(), String::from_utf8_lossy(&page).into()];
    for status in EXIT_STATUSES {
        for text in &texts {
            let text = text.replace('\\', "");
            let said = text.lines().any(|line| {
                line.trim().starts_with(&status.code.to_string()) && line.ends_with(status.meaning)
            });
            assert!(said, "{}: {text}", status.code);
        }
    }
}

#[test]
fn version_names_the_package() {
    assert!(version::line().starts_with(version::VERSION));
    assert_eq!(Cli::command().get_version(), Some(version::line()));
}

/// Runs a tool on standard input if the machine has it.
fn accepts(tool: &str, options: &[&str], text: &str) -> Option<bool> {
    use std::{io::Write as _, process::Stdio};
    let mut process = Process::new(tool);
    process.args(options).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = process.spawn().ok()?;
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(text.as_bytes()).expect("the tool reads");
    drop(stdin);
    Some(child.wait().expect("a child can be waited for").success())
}

#[test]
fn scripts_are_what_the_shells_accept() {
    for (tool, shell, begins) in [
        ("bash", clap_complete::Shell::Bash, "_tidemill() {"),
        ("zsh", clap_complete::Shell::Zsh, "#compdef tidemill"),
        ("fish", clap_complete::Shell::Fish, "# Print an optspec"),
    ] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "tidemill", &mut script);
        let script = String::from_utf8(script).expect("it is text");
        assert!(script.starts_with(begins), "{tool}: {}", &script[..100]);
        let accepted = accepts(tool, &["-n"], &script);
        assert!(accepted == Some(true) || (accepted.is_none() && tool != "bash"), "{tool}");
    }
}

//! A folder with a file of messages, and commands that are run to their end. What a test writes
//! beside the messages it knows itself: it adds its own methods.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use super::TIDEMILL;

/// A folder of one's own.
pub(crate) struct Place {
    pub(crate) directory: TempDir,
}

impl Place {
    /// Generates so many messages into `messages.ndjson`, one of a thousand late and one of a
    /// thousand malformed, with these further options.
    pub(crate) fn of_messages(messages: usize, options: &[&str]) -> Place {
        let place = Place { directory: tempfile::tempdir().expect("a temporary folder") };
        let output = Command::new(TIDEMILL)
            .args(["generate", "--messages", &messages.to_string()])
            .args(["--late-ratio", "0.001", "--malformed-ratio", "0.001"])
            .args(options)
            .arg("--out")
            .arg(place.path("messages.ndjson"))
            .output()
            .expect("tidemill can be run");
        assert!(output.status.success(), "{output:?}");
        place
    }

    /// Returns where a file of that name is, or would be.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Runs a command on a configuration to its end.
pub(crate) fn tidemill(command: &str, config: &Path, more: &[&str]) -> Output {
    let mut process = Command::new(TIDEMILL);
    process.arg(command).arg(config).args(more).output().expect("tidemill can be run")
}

/// Returns what was written, as far as it is text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns what a command wrote: results, then errors.
pub(crate) fn said(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

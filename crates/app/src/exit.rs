//! How the process ends: the one table of exit statuses.
//!
//! The code returns these numbers; `--help`, the manual pages and `docs/reference/exit-codes.md`
//! are written from the table. It does not decide which of them a command ends with.

use std::fmt::Write as _;

/// It did what it was asked to do.
pub const DONE: u8 = 0;
/// It began and failed, or `verify` found a difference.
pub const FAILED: u8 = 1;
/// It could not begin, or `verify` could not check.
pub const USAGE: u8 = 2;
/// A defect: the process ended by a panic. Rust's own number.
pub const DEFECT: u8 = 101;
/// A second signal ended it at once, as shells number an interrupt.
pub const INTERRUPTED: u8 = 130;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct ExitStatus {
    /// What the process ends with.
    pub code: u8,
    /// What it means, in a few words.
    pub meaning: &'static str,
    /// When it comes, by command.
    pub when: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Every status, in their order.
pub const EXIT_STATUSES: [ExitStatus; 5] = [
    ExitStatus {
        code: DONE,
        meaning: "done; verify: proved",
        when: "`run`, `demo`: the input ended and all of it is stored, or a first SIGTERM or \
               SIGINT stopped it. `verify`: every message is accounted for. `check`: the \
               configuration is right.",
        remedy: "Nothing.",
    },
    ExitStatus {
        code: FAILED,
        meaning: "it failed; verify: a difference",
        when: "`run`: a lane stopped, or the source cannot go on; what was committed stays. \
               `verify`: stored rows, letters, commits or the log are not what the ledger says, or \
               a row is not what its messages give; `replay`: the latter, with `--write` where \
               that cannot repair it. `generate`: the broker did not confirm every message. Other \
               commands: store, broker or file cannot be read or written.",
        remedy: "The last ERROR lines name place and remedy. Starting again is safe: it goes on \
                 from the last commit.",
    },
    ExitStatus {
        code: USAGE,
        meaning: "wrong usage or configuration; verify: could not check",
        when: "Options that are wrong or missing, a configuration with errors, an address for \
               HTTP that is taken, a store or a source that refuses its settings. `verify`: the \
               store or the log could not be read, nothing is stored, or no row of a sample could \
               be computed again.",
        remedy: "Starting again changes nothing. Correct what the message names.",
    },
    ExitStatus {
        code: DEFECT,
        meaning: "a defect in Tidemill",
        when: "A panic; its message is the last thing in the log.",
        remedy: "Starting again is safe. Report it with the message.",
    },
    ExitStatus {
        code: INTERRUPTED,
        meaning: "ended at once by a second signal",
        when: "A second SIGTERM or SIGINT before the first one's drain was over.",
        remedy: "Nothing: the next start reads again what was not committed.",
    },
];

/// Returns the table as it stands under `--help`.
pub fn help() -> String {
    let mut text = "Exit status:\n".to_owned();
    for status in EXIT_STATUSES {
        let _ = writeln!(text, "  {:>3}  {}", status.code, status.meaning);
    }
    text
}

//! What is wrong with a config file: one entry per problem, each with its place and remedy.
//!
//! Nothing here holds a secret: values that came from the environment or a file are shown as they
//! were written, never as what they stand for.

use std::{cmp::Ordering, fmt};

/// The most problems that are listed; the rest is counted.
pub const ERRORS_MAX: usize = 100;

/// One problem of a config file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The full key, such as `window.size`; empty where the problem is not that of one key.
    pub key: String,
    /// What is wrong, with the offending value.
    pub problem: String,
    /// What to do, or the nearest known key or value; may be empty.
    pub remedy: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if !self.key.is_empty() {
            write!(f, "key \"{}\" ", self.key)?;
        }
        f.write_str(&self.problem)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a config file, in the order of its lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    /// The problems, at most [`ERRORS_MAX`].
    pub errors: Vec<ConfigError>,
    /// How many more there are.
    pub left_out_count: usize,
}

impl ConfigErrors {
    pub(super) fn new(mut errors: Vec<ConfigError>, dropped_count: usize) -> ConfigErrors {
        errors.sort_by(by_place);
        errors.dedup();
        let left_out_count = errors.len().saturating_sub(ERRORS_MAX) + dropped_count;
        errors.truncate(ERRORS_MAX);
        ConfigErrors { errors, left_out_count }
    }

    /// Returns whose fault it is: always the user's. Trying again does not help.
    pub fn domain(&self) -> &'static str {
        "user"
    }
}

fn by_place(a: &ConfigError, b: &ConfigError) -> Ordering {
    a.line.cmp(&b.line).then_with(|| a.key.cmp(&b.key))
}

impl fmt::Display for ConfigErrors {
    /// Writes one problem per line, without a line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let line_break = if index > 0 { "\n" } else { "" };
            write!(f, "{line_break}{error}")?;
        }
        if self.left_out_count > 0 {
            write!(f, "\nand {} more problems", self.left_out_count)?;
        }
        Ok(())
    }
}

/// A problem without its place, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) text: String,
    pub(super) remedy: String,
}

impl Problem {
    pub(super) fn new(text: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem { text: text.into(), remedy: remedy.into() }
    }
}

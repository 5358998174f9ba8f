//! What a look at a store or a source found: one line per question, with a remedy.
//!
//! A look changes nothing and creates nothing. What it cannot find out it says.

use std::fmt;

/// How a question was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Could not be asked, or not answered; the text says why.
    NotChecked,
    /// It works, but somebody should know.
    Warning,
    /// It will not work.
    Error,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was asked, in a word or two.
    pub what: &'static str,
    /// The answer.
    pub verdict: Verdict,
    /// What was found, and the remedy where there is one.
    pub text: String,
}

impl Check {
    /// Returns an answer.
    pub fn new(what: &'static str, verdict: Verdict, text: impl Into<String>) -> Check {
        Check { what, verdict, text: text.into() }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::NotChecked => "not checked",
            Verdict::Warning => "warning",
            Verdict::Error => "error",
        };
        write!(f, "{verdict:<12} {:<12} {}", self.what, self.text)
    }
}

//! The stdout store: rows as NDJSON, for looking and piping.
//!
//! Rows go to the output, one object per line: keys in the order of the columns, instants in
//! RFC 3339, NULL as `null`. Dead letters go to the second writer (stderr) as
//! `{"dead_letter":{...}}`. Commit records are kept nowhere, so every start begins anew, and a
//! failed write ends the lane: what was printed cannot be taken back and printed again.

mod sink;
#[cfg(test)]
mod tests;

pub use sink::StdoutStore;

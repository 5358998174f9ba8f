//! A deterministic simulation of one partition with everything that can go wrong around it.
//!
//! The real lane (decoding, roll-up, commit rules) runs between a simulated broker, simulated
//! stores and a simulated shell; one seed decides every event, fault and interleaving, so a run
//! can be repeated exactly. After each durable effect the checkers compare it with a naive single
//! pass. Not covered: the pipeline's threads, the real stores and sources, several partitions
//! (lanes share nothing), other generations and fingerprints than the first.

mod broker;
mod check;
mod finale;
pub mod merged;
mod random;
mod reference;
mod rules;
mod sending;
mod shell;
mod store;
mod workload;
mod world;

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

pub use rules::Rule;

/// A rule of the protocol that did not hold.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The seed of the run.
    pub seed: u64,
    /// What did not hold.
    pub text: String,
    /// The test that runs the seed again.
    test: &'static str,
    /// The last steps, oldest first.
    trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "seed {}: {}", self.seed, self.text)?;
        write!(
            f,
            "replay: TIDEMILL_SEED={} cargo test -p tidemill-engine --test simulation -- {}",
            self.seed, self.test
        )
    }
}

/// How a run went.
#[derive(Clone, Debug)]
pub struct Report {
    /// Follows from every step: equal runs have equal digests.
    pub digest: u64,
    /// Messages in the log.
    pub message_count: u64,
    /// How often each event and fault happened.
    pub events: BTreeMap<&'static str, u64>,
    /// The last steps, oldest first.
    pub trace: Vec<String>,
    /// What went wrong, if anything.
    pub violation: Option<Violation>,
}

/// Runs one seed, with one rule broken on purpose if `broken` says so. A panic of the code under
/// test is a violation.
pub fn run(seed: u64, broken: Option<Rule>) -> Report {
    run_traced(seed, broken, TRACE_LINES)
}

/// As [`run`], keeping so many lines of the trace.
pub fn run_traced(seed: u64, broken: Option<Rule>, trace_lines: usize) -> Report {
    let mut world = world::World::new(seed, broken, trace_lines);
    let result = caught(|| world.run());
    let trace: Vec<String> = world.trace.lines.iter().cloned().collect();
    Report {
        digest: world.trace.digest,
        message_count: world.reference.messages.len() as u64,
        events: std::mem::take(&mut world.events),
        violation: result.err().map(|text| Violation {
            seed,
            text,
            test: "replay",
            trace: trace.clone(),
        }),
        trace,
    }
}

/// Runs a world; a panic is what went wrong.
fn caught(run: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().map(String::as_str);
        let text = text.or(cause.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("without a text")))
    })
}

/// Lines of the trace that a violation shows.
const TRACE_LINES: usize = 60;

//! What the end-to-end tests share: real services, topics with a known content, running jobs, the
//! oracle. Each test program uses its part. Nothing here decides what is right; the oracle does.

#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod job;
pub(crate) mod place;
pub(crate) mod proxy;
pub(crate) mod replicas;
pub(crate) mod services;
pub(crate) mod topic;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// The program under test.
pub(crate) const TIDEMILL: &str = env!("CARGO_BIN_EXE_tidemill");
/// How long anything may take that takes seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Tests of one program that share a service, or the machine, run one after the other.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // A test that failed must not fail the others.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks again and again until there is an answer.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

/// A seeded generator of numbers (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    /// Returns a generator for that seed.
    pub(crate) fn with(seed: u64) -> Random {
        Random(seed)
    }

    /// The seed is `TIDEMILL_E2E_SEED`, or one that is the same in every run.
    pub(crate) fn new() -> Random {
        let seed = std::env::var("TIDEMILL_E2E_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(20_260_727);
        eprintln!("TIDEMILL_E2E_SEED={seed}");
        Random(seed)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

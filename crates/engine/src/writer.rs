//! The thread that talks to a store: one request after the other, repeated until it succeeds.
//!
//! A commit whose outcome is unknown is written again with the same bytes (rule 8 of the commit
//! protocol). Only a lane that was taken away, or a drain that ran out of time, ends the repeats.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use tidemill_kernel::effect::ClosedWindow;
use tracing::warn;

use crate::{
    memory::Hold,
    metrics::Metrics,
    port::{Commit, RowKey, Store, StoreError, StoredState},
    record::{CommitRecord, LaneId},
    settings::Pauses,
    worker::ToWorker,
};

/// What a lane asks of its store.
pub(crate) enum Request {
    Load(LaneId),
    Look { lane: LaneId, keys: Vec<RowKey> },
    Commit { commit: Box<Commit>, closed: Vec<ClosedWindow>, hold: Hold },
}

/// A request with the lane it is for.
pub(crate) struct ToStore {
    pub(crate) request: Request,
    pub(crate) partition: Arc<str>,
    /// Tells this ownership of the partition from earlier and later ones.
    pub(crate) epoch: u64,
    /// Set when the lane is taken away: what is not sent yet is dropped.
    pub(crate) dropped: Arc<AtomicBool>,
    pub(crate) reply: Sender<ToWorker>,
}

/// What the store said.
pub(crate) enum Reply {
    Loaded(Result<Option<Box<CommitRecord>>, StoreError>),
    Looked(Result<Vec<Option<StoredState>>, StoreError>),
    Committed {
        outcome: Result<(), StoreError>,
        commit: Box<Commit>,
        closed: Vec<ClosedWindow>,
        hold: Hold,
    },
}

/// How repeats are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// The first pause in ms; each further one is twice as long.
    pub pause_min_ms: u64,
    /// The longest pause in ms.
    pub pause_max_ms: u64,
}

impl Default for RetryConfig {
    fn default() -> RetryConfig {
        RetryConfig { pause_min_ms: 100, pause_max_ms: 5_000 }
    }
}

impl RetryConfig {
    /// Returns the pause before the repeat `attempt` (from 0): half of it fixed, half by `random`.
    fn pause(&self, attempt: u32, random: u64) -> Duration {
        let doubled = self.pause_min_ms.saturating_mul(1 << attempt.min(20));
        let pause_ms = doubled.clamp(1, self.pause_max_ms.max(1));
        Duration::from_millis(pause_ms / 2 + random % (pause_ms / 2 + 1))
    }
}

/// Serves requests until all lanes are gone.
pub(crate) fn serve(
    mut store: Box<dyn Store>,
    requests: &Receiver<ToStore>,
    retry: &Pauses,
    metrics: &Metrics,
    give_up: &AtomicBool,
) {
    let mut random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    while let Ok(to_store) = requests.recv() {
        let ToStore { request, partition, epoch, dropped, reply } = to_store;
        let ended = || dropped.load(Relaxed) || give_up.load(Relaxed);
        let mut repeat = |attempt: &mut dyn FnMut() -> Option<StoreError>| {
            for count in 0.. {
                if ended() {
                    return;
                }
                let begun_at = Instant::now();
                let failure = attempt();
                let busy_us = u64::try_from(begun_at.elapsed().as_micros()).unwrap_or(u64::MAX);
                metrics.store_busy_us.fetch_add(busy_us, Relaxed);
                let Some(error) = failure else {
                    return;
                };
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let pause = retry.get().pause(count, random >> 33);
                metrics.store_failures.fetch_add(1, Relaxed);
                warn!(%partition, %error, attempt = count + 1, ?pause, "store failed, repeating");
                pause_unless(pause, &ended);
            }
        };
        let answer = match request {
            Request::Load(lane) => {
                let mut loaded = None;
                repeat(&mut || take_retry(store.load(&lane), &mut loaded));
                loaded.map(|loaded| Reply::Loaded(loaded.map(|record| record.map(Box::new))))
            }
            Request::Look { lane, keys } => {
                let mut looked = None;
                repeat(&mut || take_retry(store.stored(&lane, &keys), &mut looked));
                looked.map(Reply::Looked)
            }
            Request::Commit { commit, closed, hold } => {
                let mut outcome = None;
                repeat(&mut || take_retry(store.commit(&commit), &mut outcome));
                outcome.map(|outcome| Reply::Committed { outcome, commit, closed, hold })
            }
        };
        if let Some(answer) = answer {
            // The worker may be gone already when the process ends.
            let _ = reply.send(ToWorker::Store { partition, epoch, answer: Box::new(answer) });
        }
    }
}

/// Keeps a final result; returns the error of one that has to be repeated.
fn take_retry<T>(
    result: Result<T, StoreError>,
    kept: &mut Option<Result<T, StoreError>>,
) -> Option<StoreError> {
    match result {
        Err(error @ StoreError::Retry(_)) => Some(error),
        other => {
            *kept = Some(other);
            None
        }
    }
}

fn pause_unless(pause: Duration, ended: &impl Fn() -> bool) {
    let step = Duration::from_millis(50);
    let mut left = pause;
    while !left.is_zero() && !ended() {
        let now = left.min(step);
        thread::sleep(now);
        left -= now;
    }
}

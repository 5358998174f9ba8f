//! How much the pipeline holds by its own books, and what happens at `limits.memory_max`.
//!
//! Counted is what grows with the load: entries that wait, open windows, dead letters and rows on
//! their way to the store. Not counted is what does not: code, threads, buffers of clients, and
//! what the allocator keeps. Nothing here asks the allocator or the system.
//!
//! What lanes keep of rows that were written, for the next ones, makes nobody wait: from half of
//! the limit on, all of it together, they give it back, whether they have work or not.
//!
//! At the limit sources get no credit back, and lanes take nothing while commits are under way,
//! whose memory comes free. No row depends on it: what waits is processed later. Open windows alone
//! cannot be made smaller without giving messages up, so where they reach the limit, the lane that
//! has most of them stops.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tidemill_decode::RawMessage;

use crate::{
    metrics::Metrics,
    port::{Commit, DeadLetter, Entry},
};

/// The books of a pipeline. By default there is no limit.
#[derive(Debug)]
pub struct Memory {
    max: AtomicU64,
    waiting: AtomicU64,
    committing: AtomicU64,
    lanes: Bytes,
    /// The sum of `lanes`.
    open: AtomicU64,
    /// What each lane keeps and could give back.
    keeping: Bytes,
    /// The sum of `keeping`.
    kept: AtomicU64,
    /// How often a lane had to wait, or credit was kept back.
    pub(crate) waits: AtomicU64,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            max: AtomicU64::new(u64::MAX),
            waiting: AtomicU64::new(0),
            committing: AtomicU64::new(0),
            lanes: Mutex::default(),
            open: AtomicU64::new(0),
            keeping: Mutex::default(),
            kept: AtomicU64::new(0),
            waits: AtomicU64::new(0),
        }
    }
}

/// What a lane does with the entry that it would take next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Takes it.
    Take,
    /// Waits: memory is about to come free.
    Wait,
    /// Stops: open windows alone have reached the limit, and it has most of them.
    Stop {
        /// The open windows of all lanes, in bytes.
        open: u64,
    },
}

impl Memory {
    /// Sets the limit in bytes.
    pub fn set_max(&self, bytes: u64) {
        self.max.store(bytes, Relaxed);
    }

    /// Returns the limit in bytes.
    pub fn max(&self) -> u64 {
        self.max.load(Relaxed)
    }

    /// Returns the bytes of entries that wait.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    /// Returns the bytes of open windows and of what lanes have not given to the store yet.
    pub fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// Returns the bytes that lanes keep for rows to come, and could give back.
    pub fn kept(&self) -> u64 {
        self.kept.load(Relaxed)
    }

    /// Returns the bytes of commits that are not durable yet.
    pub fn committing(&self) -> u64 {
        self.committing.load(Relaxed)
    }

    /// Returns whether no more should be asked of the source.
    pub(crate) fn is_full(&self) -> bool {
        self.held() >= self.max()
    }

    /// Returns whether lanes should give back what they keep.
    pub(crate) fn is_tight(&self) -> bool {
        self.held().saturating_add(self.kept()) >= self.max() / 2
    }

    fn held(&self) -> u64 {
        self.waiting().saturating_add(self.open()).saturating_add(self.committing())
    }

    /// Notes what a lane holds; 0 if it is gone.
    pub(crate) fn note_lane(&self, partition: &Arc<str>, bytes: u64) {
        note(&self.lanes, &self.open, partition, bytes);
    }

    /// Notes what a lane keeps and could give back.
    pub(crate) fn note_kept(&self, partition: &Arc<str>, bytes: u64) {
        note(&self.keeping, &self.kept, partition, bytes);
    }

    /// Notes that a lane is gone, with all that it held and kept.
    pub(crate) fn forget_lane(&self, partition: &Arc<str>) {
        self.note_lane(partition, 0);
        self.note_kept(partition, 0);
    }

    /// Says what a lane does with its next entry.
    pub(crate) fn turn(&self, partition: &Arc<str>) -> Turn {
        if !self.is_full() {
            return Turn::Take;
        }
        if self.committing() > 0 {
            return Turn::Wait;
        }
        let open = self.open();
        if open < self.max() {
            // Taking what waits is what makes room.
            return Turn::Take;
        }
        let lanes = lock(&self.lanes);
        let own = lanes.get(partition);
        let is_largest = own.is_some() && lanes.values().max() == own;
        if is_largest { Turn::Stop { open } } else { Turn::Wait }
    }
}

/// Bytes by partition.
type Bytes = Mutex<BTreeMap<Arc<str>, u64>>;

/// Notes the bytes of a partition, and their sum.
fn note(bytes_of: &Bytes, sum: &AtomicU64, partition: &Arc<str>, bytes: u64) {
    let mut bytes_of = lock(bytes_of);
    let before = match bytes {
        0 => bytes_of.remove(partition),
        _ => bytes_of.insert(partition.clone(), bytes),
    };
    sum.fetch_add(bytes, Relaxed);
    sum.fetch_sub(before.unwrap_or(0), Relaxed);
}

fn lock(bytes_of: &Bytes) -> MutexGuard<'_, BTreeMap<Arc<str>, u64>> {
    bytes_of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What somebody holds, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    bytes: u64,
    of: fn(&Memory) -> &AtomicU64,
    metrics: Arc<Metrics>,
}

impl Hold {
    /// Counts an entry that waits.
    pub(crate) fn entry(entry: &Entry, metrics: &Arc<Metrics>) -> Hold {
        let bytes = entry.buffer.len() + entry.messages.capacity() * size_of::<RawMessage>();
        Hold::new(bytes, |memory| &memory.waiting, metrics)
    }

    /// Counts a commit on its way to the store.
    pub(crate) fn commit(commit: &Commit, metrics: &Arc<Metrics>) -> Hold {
        let rows: usize = commit.rows.iter().map(|piece| piece.bytes().len()).sum();
        let bytes = size_of::<Commit>() + rows + letters_bytes(&commit.letters);
        Hold::new(bytes, |memory| &memory.committing, metrics)
    }

    fn new(bytes: usize, of: fn(&Memory) -> &AtomicU64, metrics: &Arc<Metrics>) -> Hold {
        of(&metrics.memory).fetch_add(bytes as u64, Relaxed);
        Hold { bytes: bytes as u64, of, metrics: metrics.clone() }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        (self.of)(&self.metrics.memory).fetch_sub(self.bytes, Relaxed);
    }
}

/// Returns about how many bytes letters take.
pub(crate) fn letters_bytes(letters: &[DeadLetter]) -> usize {
    let key = |letter: &DeadLetter| letter.key.as_ref().map_or(0, String::capacity);
    let bytes = letters.iter().map(|letter| letter.payload.len() + key(letter));
    bytes.sum::<usize>() + size_of_val(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lane_with_most_windows_stops_when_nothing_else_can_come_free() {
        let memory = Memory::default();
        let [small, large]: [Arc<str>; 2] = ["a".into(), "b".into()];
        memory.note_lane(&small, 1_000);
        memory.note_lane(&large, 3_000);
        assert_eq!(memory.turn(&large), Turn::Take, "no limit, no stop");
        memory.set_max(4_000);
        assert_eq!(memory.turn(&small), Turn::Wait);
        assert_eq!(memory.turn(&large), Turn::Stop { open: 4_000 });
        memory.note_lane(&large, 0);
        assert_eq!((memory.turn(&small), memory.open()), (Turn::Take, 1_000));
    }

    #[test]
    fn what_lanes_keep_makes_nobody_wait_and_is_given_back_from_half_of_the_limit_on() {
        let memory = Memory::default();
        let [idle, busy]: [Arc<str>; 2] = ["a".into(), "b".into()];
        memory.set_max(4_000);
        memory.note_lane(&busy, 1_000);
        memory.note_kept(&idle, 900);
        assert!(!memory.is_tight());
        memory.note_kept(&busy, 9_000);
        assert_eq!((memory.is_tight(), memory.is_full()), (true, false));
        assert_eq!((memory.turn(&busy), memory.kept()), (Turn::Take, 9_900));
        memory.note_kept(&busy, 0);
        memory.note_kept(&idle, 0);
        assert_eq!((memory.is_tight(), memory.kept(), memory.open()), (false, 0, 1_000));
    }

    #[test]
    fn lanes_wait_for_the_store_and_then_take_what_waits() {
        let metrics = Arc::new(Metrics::default());
        let lane: Arc<str> = "a".into();
        metrics.memory.set_max(1_000);
        metrics.memory.note_lane(&lane, 500);
        let waiting = Hold::new(600, |memory| &memory.waiting, &metrics);
        let commit = Hold::new(10, |memory| &memory.committing, &metrics);
        assert_eq!(metrics.memory.turn(&lane), Turn::Wait);
        drop(commit);
        assert_eq!(metrics.memory.turn(&lane), Turn::Take);
        assert!(metrics.memory.is_full(), "the source gets no credit before it is taken");
        drop(waiting);
        assert!(!metrics.memory.is_full());
        assert_eq!(metrics.memory.waiting() + metrics.memory.committing(), 0);
    }
}

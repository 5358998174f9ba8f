//! A source made of readers that are asked for the next entry: files, generators.
//!
//! It reads on the thread that calls it, one partition after the other, and only as far ahead as
//! the bytes that are not processed yet stay below a bound. Brokers that push are not for it.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tidemill_engine::port::{Continuity, Entry, Source, SourceControl, SourceEvent};
use tidemill_kernel::event::Position;

/// What a reader has to give.
#[derive(Debug)]
pub enum Pull {
    /// The next entry.
    Entry(Entry),
    /// Nothing yet; ask again after a pause.
    Wait,
    /// Nothing yet, but it gets ahead: ask again at once.
    Again,
    /// Nothing any more.
    End,
}

/// Reads one partition.
pub trait PartitionReader: Send {
    /// Goes to a position; `None` is the beginning.
    ///
    /// # Errors
    /// If there is no such position; the text names place, value and remedy.
    fn open(&mut self, from: Option<Position>) -> Result<(), String>;

    /// Returns the next entry.
    ///
    /// # Errors
    /// If it cannot be read.
    fn pull(&mut self) -> Result<Pull, String>;
}

/// A source of pulled partitions.
pub struct PullSource {
    readers: Vec<Partition>,
    shared: Arc<Shared>,
    /// Whose turn it is.
    turn: usize,
    /// A reader wants to be asked again at once.
    is_busy: bool,
    has_told: bool,
    exhausted: bool,
}

struct Partition {
    name: Arc<str>,
    reader: Box<dyn PartitionReader>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    Assigned,
    Reading,
    Ended,
}

struct Shared {
    names: Vec<Arc<str>>,
    queue_bytes_max: u64,
    state: Mutex<Vec<State>>,
    changed: Condvar,
}

#[derive(Default, Clone)]
struct State {
    read_from: Option<Option<Position>>,
    unprocessed_bytes: u64,
    /// Reading waits until half of what it read ahead is processed. If it went on at once, each
    /// entry would put two threads to sleep and wake them.
    is_ahead: bool,
}

impl State {
    /// Returns whether reading has to wait.
    fn waits(&mut self, bytes_max: u64) -> bool {
        let limit = if self.is_ahead { bytes_max / 2 } else { bytes_max };
        self.is_ahead = self.unprocessed_bytes > 0 && self.unprocessed_bytes >= limit;
        self.is_ahead
    }
}

impl PullSource {
    /// Returns a source of these partitions that reads at most about `queue_bytes_max` bytes of
    /// each ahead of what is processed.
    pub fn new(
        readers: Vec<(Arc<str>, Box<dyn PartitionReader>)>,
        queue_bytes_max: u64,
    ) -> PullSource {
        let names: Vec<_> = readers.iter().map(|(name, _)| name.clone()).collect();
        let state = Mutex::new(vec![State::default(); names.len()]);
        let readers =
            readers.into_iter().map(|(name, reader)| Partition { name, reader, phase: Phase::New });
        PullSource {
            readers: readers.collect(),
            shared: Arc::new(Shared { names, queue_bytes_max, state, changed: Condvar::new() }),
            turn: 0,
            is_busy: false,
            has_told: false,
            exhausted: false,
        }
    }

    /// Lets the partition `at` act; returns what came of it, if anything.
    fn poll(&mut self, at: usize) -> Option<SourceEvent> {
        let partition = &mut self.readers[at];
        let name = partition.name.clone();
        if partition.phase == Phase::New {
            partition.phase = Phase::Assigned;
            return Some(SourceEvent::Assigned(name));
        }
        let (command, waits) = {
            let state = &mut self.shared.lock()[at];
            (state.read_from.take(), state.waits(self.shared.queue_bytes_max))
        };
        let opened = match command {
            Some(from) => partition.reader.open(from).map(|()| partition.phase = Phase::Reading),
            None => Ok(()),
        };
        if partition.phase != Phase::Reading || waits {
            return opened.err().map(|text| self.fail(at, text));
        }
        match opened.and_then(|()| partition.reader.pull()) {
            Ok(Pull::Wait) => None,
            Ok(Pull::Again) => {
                self.is_busy = true;
                None
            }
            Ok(Pull::Entry(entry)) => {
                self.shared.lock()[at].unprocessed_bytes += u64::from(entry.credit);
                Some(SourceEvent::Entry(name, entry))
            }
            Ok(Pull::End) => {
                partition.phase = Phase::Ended;
                Some(SourceEvent::End(name))
            }
            Err(text) => Some(self.fail(at, text)),
        }
    }

    fn fail(&mut self, at: usize, text: String) -> SourceEvent {
        self.readers[at].phase = Phase::Ended;
        SourceEvent::Failed(self.readers[at].name.clone(), text)
    }
}

impl Source for PullSource {
    fn next(&mut self, timeout: Duration) -> Result<Option<SourceEvent>, String> {
        if !std::mem::replace(&mut self.has_told, true) {
            return Ok(Some(SourceEvent::Partitions(self.shared.names.clone())));
        }
        let deadline = Instant::now() + timeout;
        loop {
            for _ in 0..self.readers.len() {
                self.turn = (self.turn + 1) % self.readers.len();
                if let Some(event) = self.poll(self.turn) {
                    return Ok(Some(event));
                }
            }
            let ended = self.readers.iter().all(|partition| partition.phase == Phase::Ended);
            if ended && !self.exhausted {
                self.exhausted = true;
                return Ok(Some(SourceEvent::Exhausted));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            if std::mem::take(&mut self.is_busy) {
                continue;
            }
            // Readers that wait for time to pass are asked again soon, commands wake at once.
            let pause = left.min(Duration::from_millis(5));
            let state = self.shared.lock();
            drop(self.shared.changed.wait_timeout(state, pause));
        }
    }

    fn control(&self) -> Arc<dyn SourceControl> {
        self.shared.clone()
    }

    fn continuity(&self) -> Continuity {
        Continuity::Growing
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state of a partition; wakes the reading thread if that says so.
    fn change(&self, partition: &str, change: impl FnOnce(&mut State) -> bool) {
        if let Some(at) = self.names.iter().position(|name| **name == *partition)
            && change(&mut self.lock()[at])
        {
            self.changed.notify_all();
        }
    }
}

impl SourceControl for Shared {
    fn read_from(&self, partition: &str, from: Option<Position>, _seek: bool) {
        self.change(partition, |state| {
            state.read_from = Some(from);
            true
        });
    }

    fn credit(&self, partition: &str, credit: u32) {
        self.change(partition, |state| {
            state.unprocessed_bytes = state.unprocessed_bytes.saturating_sub(credit.into());
            state.is_ahead && !state.waits(self.queue_bytes_max)
        });
    }

    fn assign_again(&self, _partition: &str) {}

    fn acknowledge(&self, _partition: &str, _through: Position) {}
}

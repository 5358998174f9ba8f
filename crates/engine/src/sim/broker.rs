//! One partition as the broker sees it: ledgers of entries, a durable cursor that lags behind what
//! was acknowledged, one active consumer, and trims of what lies behind the cursor.
//!
//! It hands out sessions; what a session delivers goes into its worker's inbox. Entries are known
//! by their index in the whole log; trimmed ones are kept here, for the checkers only.

use tidemill_kernel::event::Position;

use crate::{port::Entry, record::CommitRecord};

/// The broker's side of the source.
#[derive(Debug)]
pub(super) struct Broker {
    pub(super) entries: Vec<Entry>,
    /// The first entry that is not trimmed.
    pub(super) available: usize,
    /// The first entry that is not acknowledged.
    pub(super) mark: usize,
    /// What is left of `mark` after a crash.
    durable_mark: usize,
    /// The next entry to deliver.
    pub(super) read: usize,
    /// Counts the assignments.
    pub(super) session: u64,
    /// The worker that the session belongs to.
    pub(super) active: Option<usize>,
    /// Whether the session was told to deliver.
    is_reading: bool,
    /// The entry behind which the session goes on, as far as its source knows.
    known: Option<usize>,
}

/// What a session gets next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This entry.
    Entry(usize),
    /// Nothing: messages behind this position, at the end of a ledger, were jumped over.
    Jumped(Position),
}

impl Broker {
    pub(super) fn new() -> Broker {
        Broker {
            entries: Vec::new(),
            available: 0,
            mark: 0,
            durable_mark: 0,
            read: 0,
            session: 0,
            active: None,
            is_reading: false,
            known: None,
        }
    }

    /// Creates the subscription: it begins behind what is in the log.
    pub(super) fn subscribe(&mut self) {
        self.mark = self.entries.len();
        self.durable_mark = self.mark;
    }

    /// Returns the index of the entry at or after a position.
    pub(super) fn index_of(&self, position: Position) -> usize {
        let entry = Position { index: 0, ..position };
        self.entries.partition_point(|other| other.position < entry)
    }

    /// Makes a worker the active consumer, in a new session.
    pub(super) fn assign(&mut self, worker: usize) -> u64 {
        self.session += 1;
        self.active = Some(worker);
        self.is_reading = false;
        self.read = self.mark.max(self.available);
        self.session
    }

    /// Ends the session; nothing more is delivered.
    pub(super) fn close_session(&mut self) {
        self.session += 1;
        self.active = None;
        self.is_reading = false;
    }

    /// Starts delivery for a session.
    pub(super) fn read_from(&mut self, session: u64, from: Option<Position>) {
        if session == self.session && self.active.is_some() {
            self.is_reading = true;
            self.known = from.map(|from| self.index_of(from));
        }
    }

    /// Goes on at this entry, whatever is acknowledged: only a finite input ends, a file, and a
    /// file has no cursor.
    pub(super) fn go_back(&mut self, from: Position) {
        self.read = self.read.min(self.index_of(from));
    }

    /// Moves the cursor back; all sessions end.
    pub(super) fn seek(&mut self, from: Position) {
        self.mark = self.index_of(from).max(self.available);
        self.durable_mark = self.mark;
        self.close_session();
    }

    /// Returns what the session would get next.
    ///
    /// With `checks_roll_over` it notices messages that were jumped over at the end of a ledger,
    /// which a lane cannot. It looks them up in the log; a real source has to ask the broker where
    /// the cursor stood.
    pub(super) fn peek(&self, checks_roll_over: bool) -> Option<Next> {
        if !self.is_reading || self.active.is_none() {
            return None;
        }
        let at = self.read.max(self.available);
        let entry = self.entries.get(at)?;
        let jumped = self.known.filter(|known| {
            let known = *known;
            let ends_ledger = self.entries[known].position.segment != entry.position.segment;
            let between = self.entries.get(known + 1..at).unwrap_or_default();
            ends_ledger && between.iter().any(|entry| !entry.messages.is_empty())
        });
        let jumped = jumped.filter(|_| checks_roll_over);
        Some(match jumped {
            Some(known) => Next::Jumped(self.entries[known].position),
            None => Next::Entry(at),
        })
    }

    /// Notes that an entry was delivered.
    pub(super) fn delivered(&mut self, at: usize) {
        self.read = at + 1;
        self.known = Some(at);
    }

    /// Acknowledges all entries up to and with this one, whoever asks for it.
    pub(super) fn acknowledge(&mut self, through: usize) {
        self.mark = self.mark.max(through + 1);
        // What is acknowledged is not delivered any more, also not to the active consumer.
        self.read = self.read.max(self.mark);
    }

    /// Writes the cursor to disk.
    pub(super) fn persist_cursor(&mut self) {
        self.durable_mark = self.mark;
    }

    /// Fails over: acknowledgements since the last write of the cursor are lost.
    pub(super) fn crash(&mut self) {
        self.mark = self.durable_mark;
        self.close_session();
    }

    /// Deletes ledgers that are acknowledged as a whole, but for the newest one; with retention,
    /// also spares the last `kept` entries. Returns whether any was deleted.
    pub(super) fn trim(&mut self, kept: usize) -> bool {
        let limit = self.mark.min(self.entries.len().saturating_sub(kept));
        let Some(segment) = self.entries.get(limit).or(self.entries.last()) else {
            return false;
        };
        let segment = segment.position.segment;
        let first = self.entries.partition_point(|entry| entry.position.segment < segment);
        let before = self.available;
        self.available = before.max(first);
        self.available > before
    }

    /// Returns whether more messages of the entry follow those that the record covers.
    pub(super) fn is_inside_an_entry(&self, record: &CommitRecord) -> bool {
        record.processed.is_some_and(|processed| {
            let last = self.entries[self.index_of(processed)].messages.last();
            last.is_some_and(|last| last.position > processed)
        })
    }

    /// Returns whether a position's entry, or what follows it, can still be read.
    pub(super) fn holds(&self, position: Position) -> bool {
        self.index_of(position) >= self.available
    }
}

//! A commit on its way into a simulated store: in one transaction, or write by write, with
//! everything that can become of an attempt. Which faults happen the world around it decides.

use std::collections::VecDeque;

use super::store::SimStore;
use crate::port::{Commit, StoreError};

/// A commit on its way into the store.
#[derive(Debug)]
pub(super) struct Sending<W> {
    pub(super) commit: Box<Commit>,
    /// What is not known to be durable.
    pub(super) writes: VecDeque<W>,
    pub(super) is_begun: bool,
    /// The lane has its answer already (only where a rule is broken).
    pub(super) is_answered: bool,
}

/// What a world gives its processes to write to.
pub(super) trait Door {
    /// A write that is done or not done as a whole.
    type Write: Clone;

    fn store(&self) -> &SimStore;
    fn is_store_down(&self) -> bool;
    /// Whether all of a commit is one fenced transaction.
    fn is_transactional(&self) -> bool;
    /// Whether the fence is broken on purpose.
    fn ignores_fence(&self) -> bool;
    /// Whether an unknown outcome is taken for success, on purpose.
    fn gives_up(&self) -> bool;
    /// Draws whether a fault happens, and notes it.
    fn fault(&mut self, per_mille: u64, name: &'static str) -> bool;
    /// Makes a write durable and checks it.
    fn apply(&mut self, write: &Self::Write) -> Result<(), String>;
    /// Takes a write that will arrive some time.
    fn delay(&mut self, write: Self::Write);
    /// Draws whether only a part of a write is done, and which.
    fn part_of(&mut self, write: &Self::Write) -> Option<Self::Write>;

    /// Returns the outcome of the whole commit, once it has one.
    fn attempt(
        &mut self,
        sending: &mut Sending<Self::Write>,
    ) -> Result<Option<Result<(), StoreError>>, String> {
        if self.is_store_down() {
            return Ok(None);
        }
        let is_unknown = if self.is_transactional() {
            if self.is_fenced(&sending.commit) {
                return Ok(Some(Err(StoreError::Fenced {
                    lane: sending.commit.record.lane.clone(),
                    expected: sending.commit.previous,
                    found: self.store().newest_id(),
                })));
            }
            self.transact(sending)?
        } else {
            self.insert(sending)?
        };
        if is_unknown && self.gives_up() {
            sending.writes.pop_front();
        }
        Ok(sending.writes.is_empty().then_some(Ok(())))
    }

    fn is_fenced(&self, commit: &Commit) -> bool {
        let stored = self.store().newest_id();
        let follows = stored == commit.previous || stored == Some(commit.record.id);
        !follows && !self.ignores_fence()
    }

    /// Writes all or nothing; returns whether the answer was lost or bad.
    fn transact(&mut self, sending: &mut Sending<Self::Write>) -> Result<bool, String> {
        if self.fault(80, "transaction failed") {
            return Ok(true);
        }
        if self.store().newest_id() != Some(sending.commit.record.id) {
            for write in &sending.writes {
                self.apply(write)?;
            }
        }
        if self.fault(80, "transaction applied, answer lost") {
            return Ok(true);
        }
        sending.writes.clear();
        Ok(false)
    }

    /// Tries the next write; returns whether the answer was lost or bad.
    fn insert(&mut self, sending: &mut Sending<Self::Write>) -> Result<bool, String> {
        let write = sending.writes.front().expect("a commit has a record to write").clone();
        if self.fault(60, "insert failed") {
            return Ok(true);
        }
        if self.fault(60, "insert applied, answer lost") {
            self.apply(&write)?;
            return Ok(true);
        }
        if self.fault(60, "insert applied later") {
            self.delay(write);
            return Ok(true);
        }
        if let Some(part) = self.part_of(&write) {
            self.apply(&part)?;
            return Ok(true);
        }
        self.apply(&write)?;
        sending.writes.pop_front();
        Ok(false)
    }
}

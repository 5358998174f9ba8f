//! What a worker does about memory: lanes wait or stop, credit is kept back and given later.
//!
//! What is held, and whose turn it is, the books say (`memory.rs`).

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{Waiting, Worker};
use crate::{error::LaneErrorKind, memory::Turn};

impl Worker {
    /// Returns whether the lane may take what waits next. An end is always taken: it makes room.
    pub(super) fn has_room(&mut self, partition: &Arc<str>) -> bool {
        let waiting = self.places.get(partition).and_then(|place| place.waiting.front());
        if !matches!(waiting, Some(Waiting::Entry(_))) {
            return true;
        }
        let turn = self.context.metrics.memory.turn(partition);
        if let Some(place) = self.places.get_mut(partition) {
            let waited = std::mem::replace(&mut place.waits_for_room, turn == Turn::Wait);
            if place.waits_for_room && !waited {
                self.context.metrics.memory.waits.fetch_add(1, Relaxed);
            }
        }
        match turn {
            Turn::Take => true,
            Turn::Wait => false,
            Turn::Stop { open } => {
                self.stop_for_room(partition, open);
                false
            }
        }
    }

    /// Gives the credit of a processed entry back, or keeps it until there is room.
    pub(super) fn give_credit(&mut self, partition: &Arc<str>, credit: u32) {
        self.note_memory(partition);
        let memory = &self.context.metrics.memory;
        let Some(place) = self.places.get_mut(partition) else {
            return;
        };
        if memory.is_full() {
            memory.waits.fetch_add(1, Relaxed);
            place.owed_credit = place.owed_credit.saturating_add(credit);
        } else {
            self.context.control.credit(partition, credit);
        }
    }

    /// Goes on where there is room again; stops the lane if there never will be.
    pub(super) fn make_room(&mut self, partition: &Arc<str>) {
        self.note_memory(partition);
        if let Turn::Stop { open } = self.context.metrics.memory.turn(partition) {
            self.stop_for_room(partition, open);
        }
        if let Some(place) = self.places.get_mut(partition)
            && place.owed_credit > 0
            && !self.context.metrics.memory.is_full()
        {
            let credit = std::mem::take(&mut place.owed_credit);
            self.context.control.credit(partition, credit);
        }
        self.work(partition);
    }

    fn note_memory(&mut self, partition: &Arc<str>) {
        let memory = &self.context.metrics.memory;
        let Some(place) = self.places.get_mut(partition) else {
            return memory.forget_lane(partition);
        };
        memory.note_lane(partition, place.lane.memory_bytes());
        memory.note_kept(partition, place.lane.kept_bytes());
        if memory.is_tight() && place.lane.kept_bytes() > 0 {
            place.lane.give_back();
            memory.note_kept(partition, 0);
        }
    }

    /// Stops a lane, unless it has letters to give to the store first.
    fn stop_for_room(&mut self, partition: &Arc<str>, open: u64) {
        let max = self.context.metrics.memory.max();
        self.with_lane(partition, |lane, now_ms, actions| {
            if !lane.commit_letters(now_ms, actions) {
                lane.fail(LaneErrorKind::Memory { open, max }, actions);
            }
        });
        self.note_memory(partition);
    }
}

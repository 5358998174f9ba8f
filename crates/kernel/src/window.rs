//! One open window: its devices, their states, and the rows they become.

use alloc::{collections::BTreeMap, vec::Vec};
use core::hash::BuildHasher;

use foldhash::fast::FixedState;

use crate::{
    event::{Message, Position, Text},
    key_table::{self, KeyTable, SLOTS_MAX},
    plan::Plan,
    row::{KeptRows, RowBlock},
    slots::{
        Chunk, Moment,
        states::{Span, States, StatesMut},
    },
    time::{COVERAGE_SLOTS, Timestamp, WindowGrid},
};

mod order;
pub(crate) mod reuse;
mod rows;

pub(crate) use order::sort_by_key;
use rows::RowWriter;

/// How many rows before it is encoded a row's states are fetched, and its key.
const STATES_AHEAD: usize = 6;
const KEY_AHEAD: usize = 2;

/// What rows say of where they come from; the same for all rows of an emission.
#[derive(Clone, Copy, Debug)]
pub struct Lineage<'a> {
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// The partition's name.
    pub source_partition: &'a str,
    /// Generation and ordinal at emission.
    pub revision: u64,
    /// Written only where rows can be amended.
    pub finality: Finality,
}

/// Whether a row may still change, and why it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finality {
    /// Its window is open.
    Provisional,
    /// Written when its window closed.
    Final,
    /// Late messages were merged in after that.
    Amended,
}

impl Finality {
    /// Returns the name that stands in rows.
    pub fn name(self) -> &'static str {
        match self {
            Finality::Provisional => "provisional",
            Finality::Final => "final",
            Finality::Amended => "amended",
        }
    }
}

/// The devices of one window of one lane.
#[derive(Clone, Debug)]
pub struct Window {
    end_ms: i64,
    size_ms: i64,
    first_position: Position,
    message_count: u64,
    table: KeyTable,
    /// What the keys in `table` were hashed with: the first hasher that came.
    hasher: Option<FixedState>,
    chunks: Vec<Chunk>,
    device_count: usize,
    /// Devices changed since the last emission, a bit each; kept only after a first emission.
    changed: Option<Vec<u64>>,
    /// How many late messages each slot has, where it has any.
    late: BTreeMap<usize, u32>,
}

impl Window {
    /// Returns an empty window whose first message stands there.
    pub fn new(grid: WindowGrid, end_ms: i64, first_position: Position) -> Window {
        Window {
            end_ms,
            size_ms: grid.size_ms(),
            first_position,
            message_count: 0,
            table: KeyTable::default(),
            hasher: None,
            chunks: Vec::new(),
            device_count: 0,
            changed: None,
            late: BTreeMap::new(),
        }
    }

    /// Makes this the empty window of that end, and keeps its memory for the devices to come.
    pub(crate) fn clear(&mut self, end_ms: i64) {
        self.end_ms = end_ms;
        self.message_count = 0;
        self.table.clear();
        self.chunks.iter_mut().for_each(Chunk::clear);
        self.device_count = 0;
        self.changed = None;
        self.late.clear();
    }

    /// Makes the next emission one of all rows.
    pub(crate) fn forget_emissions(&mut self) {
        self.changed = None;
    }

    /// Counts late messages of a key that the window holds.
    pub(crate) fn count_late(&mut self, hasher: &FixedState, key: &[u8], count: u32) {
        let slot = self.find(hasher, key).expect("only keys that were folded are late");
        let counted = self.late.entry(slot).or_default();
        *counted = counted.saturating_add(count);
    }

    /// Returns whether both windows are of the same time.
    pub(crate) fn is_same_time_as(&self, other: &Window) -> bool {
        (self.end_ms, self.size_ms) == (other.end_ms, other.size_ms)
    }

    /// Returns the end of the window in ms.
    pub fn end_ms(&self) -> i64 {
        self.end_ms
    }

    /// Returns whether an event of that time belongs here.
    #[inline]
    pub fn contains(&self, time: Timestamp) -> bool {
        time.as_ms() < self.end_ms && time.as_ms() >= self.end_ms - self.size_ms
    }

    /// Returns where the first message that belongs here stands.
    pub fn first_position(&self) -> Position {
        self.first_position
    }

    /// Returns how many messages were folded in.
    pub fn message_count(&self) -> u64 {
        self.message_count
    }

    /// Returns about how many bytes of memory the window takes.
    pub fn memory_bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(Chunk::memory_bytes).sum();
        let changed = self.changed.as_ref().map_or(0, Vec::capacity);
        chunks + self.table.memory_bytes() + changed * size_of::<u64>()
    }

    /// Returns how many keys the window holds.
    pub fn device_count(&self) -> usize {
        self.device_count
    }

    /// Folds an event in; returns false, and changes nothing, if its key would be one too many, or
    /// if the key has 2^32 - 1 messages already.
    #[inline]
    #[must_use]
    pub fn fold(
        &mut self,
        plan: &Plan,
        hasher: &FixedState,
        devices_max: usize,
        event: &Message<'_>,
    ) -> bool {
        let tag = self.tag(hasher, event.key());
        self.fold_tagged(plan, hasher, devices_max, event, tag)
    }

    /// Folds an event in as [`fold`](Window::fold) does; `tag` is that of its key.
    pub(crate) fn fold_tagged(
        &mut self,
        plan: &Plan,
        hasher: &FixedState,
        devices_max: usize,
        event: &Message<'_>,
        tag: u32,
    ) -> bool {
        debug_assert_eq!(tag, self.tag(hasher, event.key()), "the tag of another key");
        let slot = self.find_or_add(plan, hasher, devices_max, event.key_place(), tag);
        slot.is_some_and(|slot| self.fold_known(plan, slot, event))
    }

    /// Folds an event in as [`fold`](Window::fold) does; looks at the slot first that
    /// [`guess`](Window::guess) gave for its key.
    pub(crate) fn fold_guessed(
        &mut self,
        plan: &Plan,
        hasher: &FixedState,
        devices_max: usize,
        event: &Message<'_>,
        guess: Option<usize>,
    ) -> bool {
        guess.is_some_and(|slot| self.fold_known(plan, slot, event))
            || self.fold(plan, hasher, devices_max, event)
    }

    /// Folds an event into a slot; returns false, and changes nothing, if the slot is not the one
    /// that its key has, or if it is full.
    #[inline]
    pub(crate) fn fold_known(&mut self, plan: &Plan, slot: usize, event: &Message<'_>) -> bool {
        let (chunk, row) = Chunk::of_slot(slot);
        debug_assert!(self.contains(event.time()), "event of another window");
        // At most 3,600,000 ms, so 32 bits hold sixty times that, and divide faster than 64.
        let offset_ms = (event.time().as_ms() - (self.end_ms - self.size_ms)) as u32;
        let coverage_slot = offset_ms * COVERAGE_SLOTS / self.size_ms as u32;
        let moment = Moment { offset_ms, coverage_slot };
        let Some(chunk) = self.chunks.get_mut(chunk).filter(|_| slot < self.device_count) else {
            return false;
        };
        if !chunk.fold(plan, row, event, moment) {
            return false;
        }
        self.message_count += 1;
        self.mark_changed(slot);
        true
    }

    #[inline]
    fn hash(&self, hasher: &FixedState, key: &[u8]) -> u64 {
        self.hasher.as_ref().unwrap_or(hasher).hash_one(key)
    }

    /// Returns what the table keeps of a key's hash.
    #[inline]
    pub(crate) fn tag(&self, hasher: &FixedState, key: &[u8]) -> u32 {
        key_table::tag(self.hash(hasher, key))
    }

    /// Fetches the place where a key's slot is looked up.
    #[inline]
    pub(crate) fn prefetch_slot(&self, tag: u32) {
        self.table.prefetch(tag);
    }

    /// Returns a slot that a key of that tag may have, without a look at the key.
    #[inline]
    pub(crate) fn guess(&self, tag: u32) -> Option<usize> {
        self.table.find(tag, |_| true)
    }

    /// Fetches the states of a slot that an event will change.
    #[inline]
    pub(crate) fn prefetch_states(&self, slot: usize, event: &Message<'_>) {
        let (chunk, row) = Chunk::of_slot(slot);
        if let Some(chunk) = self.chunks.get(chunk) {
            chunk.prefetch(row);
            if !event.is_complete() {
                chunk.prefetch_absent(row, event.presence());
            }
        }
    }

    /// Fetches the key and the texts of a slot, whose states should be there already.
    #[inline]
    pub(crate) fn prefetch_key(&self, slot: usize) {
        let (chunk, row) = Chunk::of_slot(slot);
        if let Some(chunk) = self.chunks.get(chunk) {
            chunk.prefetch_key(row);
        }
    }

    /// Returns the slot of a key, if the window holds it. A key keeps its slot.
    pub(crate) fn find(&self, hasher: &FixedState, key: &[u8]) -> Option<usize> {
        self.table.find(self.tag(hasher, key), |slot| self.key(slot) == key)
    }

    /// Returns the slot of a key of that tag, a new one if there is room.
    pub(crate) fn find_or_add(
        &mut self,
        plan: &Plan,
        hasher: &FixedState,
        devices_max: usize,
        key: Text<'_>,
        tag: u32,
    ) -> Option<usize> {
        let known = self.table.find(tag, |slot| self.key(slot) == key.as_bytes());
        if known.is_some() {
            return known;
        }
        self.hasher.get_or_insert_with(|| hasher.clone());
        let slot = self.device_count;
        if slot >= devices_max.min(SLOTS_MAX) {
            return None;
        }
        let (chunk, _) = Chunk::of_slot(slot);
        if chunk == self.chunks.len() {
            self.chunks.push(Chunk::new(plan, chunk == 0));
        }
        self.chunks[chunk].push_key(plan, key);
        self.table.insert(tag, slot);
        self.device_count += 1;
        Some(slot)
    }

    #[inline]
    fn mark_changed(&mut self, slot: usize) {
        if let Some(changed) = &mut self.changed {
            changed.resize(self.device_count.div_ceil(64), 0);
            changed[slot / 64] |= 1 << (slot % 64);
        }
    }

    /// Encodes the rows that changed since the last emission (all, the first time), in the order
    /// of their keys, into pieces of at most `piece_rows_max`. Returns how many sums saturated.
    pub fn emit(
        &mut self,
        plan: &Plan,
        lineage: Lineage<'_>,
        piece_rows_max: usize,
        pieces: &mut Vec<RowBlock>,
    ) -> u64 {
        self.emit_kept(plan, lineage, piece_rows_max, pieces, &mut KeptRows::default())
    }

    /// Does what [`emit`](Window::emit) does, in memory that was kept.
    pub(crate) fn emit_kept(
        &mut self,
        plan: &Plan,
        lineage: Lineage<'_>,
        piece_rows_max: usize,
        pieces: &mut Vec<RowBlock>,
        kept: &mut KeptRows,
    ) -> u64 {
        let all = 0..self.device_count;
        let mut slots: Vec<usize> = match &self.changed {
            None => all.collect(),
            Some(changed) => {
                let words = |slot: &usize| changed.get(slot / 64).copied().unwrap_or(0);
                all.filter(|slot| words(slot) >> (slot % 64) & 1 == 1).collect()
            }
        };
        sort_by_key(&mut slots, |slot| self.key_place(slot));
        let mut writer = RowWriter::new(self, plan, lineage);
        let mut saturated_count = 0;
        for slots in slots.chunks(piece_rows_max.max(1)) {
            let mut piece = kept.take();
            let mut rows = piece.encoder();
            for (index, slot) in slots.iter().enumerate() {
                // By the order of their keys rows lie anywhere.
                if let Some(slot) = slots.get(index + STATES_AHEAD) {
                    let (chunk, row) = Chunk::of_slot(*slot);
                    self.chunks[chunk].prefetch(row);
                }
                if let Some(slot) = slots.get(index + KEY_AHEAD) {
                    self.prefetch_key(*slot);
                }
                saturated_count += writer.write(self, *slot, &mut rows);
                if index == 0 {
                    // Rows of one schema are about as long.
                    rows.reserve(slots.len());
                }
            }
            pieces.push(piece);
        }
        self.changed = Some(alloc::vec![0; self.device_count.div_ceil(64)]);
        saturated_count
    }

    /// Encodes all rows into one piece, in the order in which their keys came. Returns how many
    /// sums saturated.
    pub(crate) fn emit_into(&self, plan: &Plan, lineage: Lineage<'_>, out: &mut RowBlock) -> u64 {
        let mut writer = RowWriter::new(self, plan, lineage);
        let mut rows = out.encoder();
        (0..self.device_count).map(|slot| writer.write(self, slot, &mut rows)).sum()
    }

    #[inline]
    pub(crate) fn key(&self, slot: usize) -> &[u8] {
        let (chunk, row) = Chunk::of_slot(slot);
        self.chunks[chunk].key(row)
    }

    /// Returns the key of a slot, to be compared.
    #[inline]
    pub(crate) fn key_place(&self, slot: usize) -> Text<'_> {
        let (chunk, row) = Chunk::of_slot(slot);
        self.chunks[chunk].key_place(row)
    }

    fn span(&self) -> Span {
        // Whoever decodes a state may name a window that no event can have.
        Span { start_ms: self.end_ms.saturating_sub(self.size_ms), size_ms: self.size_ms }
    }

    /// Returns the states of a slot.
    pub(crate) fn states<'a>(&'a self, plan: &'a Plan, slot: usize) -> States<'a> {
        let (chunk, row) = Chunk::of_slot(slot);
        States::new(&self.chunks[chunk], plan, row, self.span())
    }

    /// Returns the states of a slot, to be changed.
    pub(crate) fn states_mut<'a>(&'a mut self, plan: &'a Plan, slot: usize) -> StatesMut<'a> {
        self.mark_changed(slot);
        let ((chunk, row), span) = (Chunk::of_slot(slot), self.span());
        StatesMut { chunk: &mut self.chunks[chunk], plan, row, span }
    }

    pub(crate) fn count_messages(&mut self, count: u64) {
        self.message_count += count;
    }
}

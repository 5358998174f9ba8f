//! One open window: its devices, their states, and the rows they become.

use alloc::vec::Vec;
use core::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::{
    aggregate::{majority, mean},
    event::{Message, Position},
    key,
    plan::{Output, Plan},
    row::{Cell, RowBlock},
    slots::{CHUNK_ROWS, Chunk},
    time::{COVERAGE_SLOTS, Timestamp, WindowGrid},
};

/// What rows say of where they come from; the same for all rows of an emission.
#[derive(Clone, Copy, Debug)]
pub struct Lineage<'a> {
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// The partition's name.
    pub source_partition: &'a str,
    /// Generation and ordinal at emission.
    pub revision: u64,
}

/// The devices of one window of one lane.
#[derive(Clone, Debug)]
pub struct Window {
    end_ms: i64,
    size_ms: i64,
    first_position: Position,
    message_count: u64,
    table: HashTable<u32>,
    /// What the keys in `table` were hashed with: the first hasher that came.
    hasher: Option<FixedState>,
    chunks: Vec<Chunk>,
    device_count: usize,
    /// Devices changed since the last emission, a bit each; kept only after a first emission.
    changed: Option<Vec<u64>>,
}

impl Window {
    /// Returns an empty window whose first message stands there.
    pub fn new(grid: WindowGrid, end_ms: i64, first_position: Position) -> Window {
        Window {
            end_ms,
            size_ms: grid.size_ms(),
            first_position,
            message_count: 0,
            table: HashTable::new(),
            hasher: None,
            chunks: Vec::new(),
            device_count: 0,
            changed: None,
        }
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
        let Some(slot) = self.find_or_add(plan, hasher, devices_max, event.key()) else {
            return false;
        };
        self.fold_at(plan, slot, event)
    }

    /// Folds an event into the slot that [`find`](Window::find) gave for its key.
    #[inline]
    pub(crate) fn fold_at(&mut self, plan: &Plan, slot: usize, event: &Message<'_>) -> bool {
        if self.chunks[slot / CHUNK_ROWS].quality[slot % CHUNK_ROWS].record_count == u32::MAX {
            return false;
        }
        self.mark_changed(slot);
        debug_assert!(self.contains(event.time()), "event of another window");
        // At most 3,600,000 ms, so 32 bits hold sixty times that, and divide faster than 64.
        let offset_ms = (event.time().as_ms() - (self.end_ms - self.size_ms)) as u32;
        let coverage_slot = offset_ms * COVERAGE_SLOTS / self.size_ms as u32;
        self.chunks[slot / CHUNK_ROWS].fold(plan, slot % CHUNK_ROWS, event, coverage_slot);
        self.message_count += 1;
        true
    }

    /// Reads what folding into a slot will touch; see [`Chunk::touch`].
    #[inline]
    pub(crate) fn touch(&self, plan: &Plan, slot: usize) -> u64 {
        self.chunks[slot / CHUNK_ROWS].touch(plan, slot % CHUNK_ROWS)
    }

    /// Returns the slot of a key, if the window holds it. A key keeps its slot.
    #[inline]
    pub(crate) fn find(&self, hasher: &FixedState, key: &[u8]) -> Option<u32> {
        self.find_hashed(self.hasher.as_ref().unwrap_or(hasher).hash_one(key), key)
    }

    #[inline]
    fn find_hashed(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let is_key = |slot: &u32| self.key(*slot as usize) == key;
        self.table.find(hash, is_key).copied()
    }

    /// Returns the slot of a key, a new one if there is room.
    pub(crate) fn find_or_add(
        &mut self,
        plan: &Plan,
        hasher: &FixedState,
        devices_max: usize,
        key: &[u8],
    ) -> Option<usize> {
        let hasher = self.hasher.get_or_insert_with(|| hasher.clone()).clone();
        let hash = hasher.hash_one(key);
        let slot = match self.find_hashed(hash, key) {
            Some(slot) => slot as usize,
            None => {
                if self.device_count >= devices_max {
                    return None;
                }
                let chunks = &self.chunks;
                let rehash = |slot: &u32| {
                    let slot = *slot as usize;
                    hasher.hash_one(chunks[slot / CHUNK_ROWS].key(slot % CHUNK_ROWS))
                };
                self.table.insert_unique(hash, self.device_count as u32, rehash);
                self.add(plan, key)
            }
        };
        Some(slot)
    }

    #[inline]
    fn mark_changed(&mut self, slot: usize) {
        if let Some(changed) = &mut self.changed {
            changed.resize(self.device_count.div_ceil(64), 0);
            changed[slot / 64] |= 1 << (slot % 64);
        }
    }

    fn add(&mut self, plan: &Plan, key: &[u8]) -> usize {
        let slot = self.device_count;
        if slot.is_multiple_of(CHUNK_ROWS) {
            self.chunks.push(Chunk::new(plan));
        }
        self.chunks[slot / CHUNK_ROWS].push_key(key);
        self.device_count += 1;
        slot
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
        let is_changed = |slot: &usize| match &self.changed {
            None => true,
            Some(changed) => {
                changed.get(slot / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
            }
        };
        let mut slots: Vec<usize> = (0..self.device_count).filter(is_changed).collect();
        slots.sort_unstable_by(|a, b| self.key(*a).cmp(self.key(*b)));
        let mut saturated_count = 0;
        for slots in slots.chunks(piece_rows_max.max(1)) {
            let mut piece = RowBlock::new();
            for slot in slots {
                saturated_count += self.emit_row(plan, lineage, *slot, &mut piece);
            }
            pieces.push(piece);
        }
        self.changed = Some(alloc::vec![0; self.device_count.div_ceil(64)]);
        saturated_count
    }

    pub(crate) fn key(&self, slot: usize) -> &[u8] {
        self.chunks[slot / CHUNK_ROWS].key(slot % CHUNK_ROWS)
    }

    pub(crate) fn chunk(&self, slot: usize) -> (&Chunk, usize) {
        (&self.chunks[slot / CHUNK_ROWS], slot % CHUNK_ROWS)
    }

    /// Returns the states of a slot, to be changed.
    pub(crate) fn chunk_mut(&mut self, slot: usize) -> (&mut Chunk, usize) {
        self.mark_changed(slot);
        (&mut self.chunks[slot / CHUNK_ROWS], slot % CHUNK_ROWS)
    }

    pub(crate) fn count_messages(&mut self, count: u64) {
        self.message_count += count;
    }

    fn emit_row(&self, plan: &Plan, lineage: Lineage<'_>, slot: usize, out: &mut RowBlock) -> u64 {
        let (chunk, row) = self.chunk(slot);
        let quality = &chunk.quality[row];
        let start_ms = self.end_ms - self.size_ms;
        // Stores' seconds have no sign: with an offset, the first window of 1970 starts before 0.
        let seconds = |ms: i64| Cell::UInt(ms.max(0) as u64 / 1000);
        let columns = plan.schema().columns();
        let mut columns = columns.iter();
        let mut saturated_count = 0;
        let mut push = |cell: Cell<'_>| {
            out.push(columns.next().expect("a column for each cell of the plan"), cell);
        };
        push(seconds(self.end_ms));
        key::parts(chunk.key(row)).for_each(|part| push(Cell::Text(part)));
        for output in &plan.outputs {
            let (cell, saturated) = cell(chunk, plan, row, *output);
            saturated_count += u64::from(saturated);
            push(cell);
        }
        push(seconds(start_ms));
        push(Cell::UInt(quality.record_count.into()));
        push(Cell::UInt(quality.invalid_count.into()));
        push(Cell::Int(quality.first_event_time_ms));
        push(Cell::Int(quality.last_event_time_ms));
        push(Cell::Float(quality.coverage.ratio()));
        push(Cell::UInt(quality.coverage.max_gap_ms(self.size_ms).into()));
        push(Cell::Text(lineage.pipeline));
        push(Cell::Text(lineage.source_partition));
        push(Cell::UInt(lineage.revision));
        assert!(columns.next().is_none(), "a cell for each column");
        out.end_row();
        saturated_count
    }
}

/// Returns the cell of an output and whether it had to be saturated.
fn cell<'a>(chunk: &'a Chunk, plan: &Plan, row: usize, output: Output) -> (Cell<'a>, bool) {
    let count =
        |bit: usize| chunk.quality[row].record_count - chunk.absent[row * plan.presence_bits + bit];
    let float_sum = |sum: usize| {
        let cold = chunk.cold.get(&(row as u16, sum as u16)).map(|cold| &**cold);
        (chunk.float_sums[row * plan.float_sums.len() + sum], cold)
    };
    let int_sum = |sum: usize| chunk.int_sums[row * plan.int_sums.len() + sum];
    let float_range = |range: usize| chunk.float_ranges[row * plan.float_ranges.len() + range];
    let int_range = |range: usize| chunk.int_ranges[row * plan.int_ranges.len() + range];
    let int_end =
        |end: usize| chunk.int_ends[row * plan.int_ends.len() + end].get(plan.int_ends[end].1);
    let float = |value: Option<f64>| (value.map_or(Cell::Null, Cell::Float), false);
    let int = |value: Option<i64>| (value.map_or(Cell::Null, Cell::Int), false);
    let flag = |value: Option<bool>| (value.map_or(Cell::Null, |v| Cell::UInt(v.into())), false);
    match output {
        Output::FloatMean { sum, bit } => {
            let (sum, cold) = float_sum(sum);
            mean::of_floats(sum, cold, count(bit))
                .map_or((Cell::Null, false), |mean| (Cell::Float(mean.value), mean.saturated))
        }
        Output::FloatTotal { sum, bit } if count(bit) > 0 => {
            let (sum, cold) = float_sum(sum);
            let sum = sum.round(cold);
            (Cell::Float(sum.value), sum.saturated)
        }
        Output::FloatMin { range, bit } => float((count(bit) > 0).then(|| float_range(range).min)),
        Output::FloatMax { range, bit } => float((count(bit) > 0).then(|| float_range(range).max)),
        Output::FloatEnd { end } => {
            let state = chunk.float_ends[row * plan.float_ends.len() + end];
            float(state.get(plan.float_ends[end].1))
        }
        Output::IntMean { sum, bit } => float(mean::of_ints(int_sum(sum), count(bit))),
        Output::IntTotal { sum, bit } if count(bit) > 0 => {
            let (sum, saturated) = int_sum(sum).saturate();
            (Cell::Int(sum), saturated)
        }
        Output::FloatTotal { .. } | Output::IntTotal { .. } => (Cell::Null, false),
        Output::IntMin { range, bit } => int((count(bit) > 0).then(|| int_range(range).min)),
        Output::IntMax { range, bit } => int((count(bit) > 0).then(|| int_range(range).max)),
        Output::IntEnd { end } => int(int_end(end)),
        Output::BoolEnd { end } => flag(int_end(end).map(|value| value != 0)),
        Output::TextEnd { end } => {
            let text = chunk.text(row * plan.text_ends.len() + end, plan.text_ends[end].1);
            let cell = text.map_or(Cell::Null, |text| {
                Cell::Text(core::str::from_utf8(text).expect("decoding checks UTF-8"))
            });
            (cell, false)
        }
        Output::Count { bit } => (Cell::UInt(count(bit).into()), false),
        Output::Majority { flag: index, bit } => {
            let true_count = chunk.true_counts[row * plan.flags.len() + index];
            flag(majority::of(true_count, count(bit)))
        }
        Output::MostFrequent { code } => {
            let counts = &chunk.codes[row * plan.codes.len() + code];
            int(counts.most_frequent().map(|c| plan.codes[code].low + i64::from(c)))
        }
    }
}

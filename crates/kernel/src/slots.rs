//! The states of some thousand device-windows: a row of words each, and what is rare beside them.
//!
//! A window grows by whole chunks, so that no growth copies what is there, but for its first chunk,
//! which starts small; memory of rows that no device uses yet is asked for and not touched. Which
//! device has which row, the window knows. Times in a row count from the window's start; [`states`]
//! reads and sets single states.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

use crate::{
    aggregate::{most_frequent::CodeCounts, sum, wide::WideSum},
    event::{Presence, Text},
    plan::Plan,
    processor,
};

mod fold;
pub(crate) mod layout;
pub(crate) mod states;

use layout::{KEY, LINE_WORDS, span, unspan};

/// Device-windows of one chunk: a power of two, so many that a chunk takes a dozen huge pages (with
/// a quarter of it and a million devices, messages took a sixth longer).
pub(crate) const CHUNK_ROWS: usize = 1 << 16;

/// What the first chunk of a window has room for at first: 500 devices waste little.
const FIRST_ROWS: usize = 512;

/// After so many messages the limbs of float sums are made small again.
const CARRY_EVERY: u32 = sum::ADDITIONS_MAX;

/// When a message happened in its window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// From the window's start.
    pub(crate) offset_ms: u32,
    /// The slot of the coverage bitmap.
    pub(crate) coverage_slot: u32,
}

/// The states of [`CHUNK_ROWS`] device-windows.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    /// The rows; the first begins a cache line, `skip` words in.
    words: Vec<u64>,
    skip: usize,
    row_words: usize,
    /// How many pairs of cache lines a row takes.
    row_line_pairs: usize,
    rows: usize,
    /// For how many rows there is room.
    room: usize,
    presence_bits: usize,
    /// How many messages lacked a field, by row and presence bit; nothing while all were complete.
    absent: Vec<u32>,
    /// Float sums outside of the hot domain or grown out of their limbs, by (row, sum).
    cold: BTreeMap<(u16, u16), Box<WideSum>>,
    /// What integer sums had when they outgrew 64 bits, by (row, sum).
    cold_ints: BTreeMap<(u16, u16), i128>,
    /// Codes that found no place in the row, by (row, code).
    spilled_codes: BTreeMap<(u16, u16), CodeCounts>,
    /// Keys and texts.
    bytes: Vec<u8>,
}

/// Returns how many bytes one row takes, without its key, its texts and what incomplete messages
/// need.
pub(crate) fn row_bytes(plan: &Plan) -> usize {
    plan.layout.words() * size_of::<u64>()
}

impl Chunk {
    /// Returns a chunk with room for so many rows, or for a few if it is the first one of a window.
    pub(crate) fn new(plan: &Plan, is_first: bool) -> Chunk {
        let row_words = plan.layout.words();
        let mut chunk = Chunk {
            words: Vec::new(),
            skip: 0,
            row_words,
            row_line_pairs: row_words.div_ceil(2 * LINE_WORDS),
            rows: 0,
            room: 0,
            presence_bits: plan.presence_bits,
            absent: Vec::new(),
            cold: BTreeMap::new(),
            cold_ints: BTreeMap::new(),
            spilled_codes: BTreeMap::new(),
            bytes: Vec::new(),
        };
        chunk.make_room(if is_first { FIRST_ROWS } else { CHUNK_ROWS });
        chunk
    }

    /// Moves the rows to where there is room for so many.
    fn make_room(&mut self, rows: usize) {
        let mut words: Vec<u64> = Vec::with_capacity(rows * self.row_words + LINE_WORDS - 1);
        let skip = words.as_ptr().align_offset(LINE_WORDS * size_of::<u64>()).min(LINE_WORDS - 1);
        words.resize(skip, 0);
        words.extend_from_slice(&self.words[self.skip..]);
        (self.words, self.skip, self.room) = (words, skip, rows);
    }

    /// Forgets all rows; the memory stays, unless the rows would fit into a quarter of it.
    pub(crate) fn clear(&mut self) {
        let counted = self.absent.len().min(self.rows * self.presence_bits);
        self.absent[..counted].fill(0);
        if self.rows * 4 < self.words.len() / self.row_words {
            (self.words, self.skip) = (Vec::new(), 0);
            self.make_room(self.rows.next_power_of_two().max(FIRST_ROWS));
            (self.absent, self.bytes) = (Vec::new(), Vec::new());
        }
        self.rows = 0;
        self.cold.clear();
        self.cold_ints.clear();
        self.spilled_codes.clear();
        self.bytes.clear();
    }

    /// Returns about how many bytes all of it takes that were ever used.
    pub(crate) fn memory_bytes(&self) -> usize {
        let cold = self.cold.len() * size_of::<WideSum>() + self.cold_ints.len() * 64;
        self.words.len() * size_of::<u64>()
            + self.absent.capacity() * size_of::<u32>()
            + self.bytes.capacity()
            + cold
            + self.spilled_codes.len() * size_of::<CodeCounts>()
    }

    /// Gives the next row to a key; rows are used in order.
    pub(crate) fn push_key(&mut self, plan: &Plan, key: Text<'_>) {
        assert!(self.rows < CHUNK_ROWS, "a chunk's rows are counted by its window");
        let start = append(&mut self.bytes, key);
        if self.rows == self.room {
            self.make_room(2 * self.room);
        }
        let at = self.skip + self.rows * self.row_words;
        self.rows += 1;
        if at == self.words.len() {
            self.words.extend_from_slice(&plan.layout.empty);
        } else {
            self.words[at..][..self.row_words].copy_from_slice(&plan.layout.empty);
        }
        self.words[at + KEY] = span(start, key.len());
    }

    #[inline]
    pub(crate) fn key(&self, row: usize) -> &[u8] {
        self.key_place(row).as_bytes()
    }

    /// Returns the key of a row, to be compared.
    #[inline]
    pub(crate) fn key_place(&self, row: usize) -> Text<'_> {
        let (start, length) = unspan(self.row(row)[KEY]);
        Text::new(&self.bytes[start..], length)
    }

    /// Fetches the lines of a row.
    #[inline]
    pub(crate) fn prefetch(&self, row: usize) {
        let first = self.skip + row * self.row_words;
        processor::prefetch_line_pairs(&self.words, first, self.row_line_pairs);
    }

    /// Fetches where the first absent field of a row is counted, which is far from the row (5 % of
    /// all time where one message in five lacks a field).
    #[inline(never)]
    pub(crate) fn prefetch_absent(&self, row: usize, has: Presence<'_>) {
        let bits = self.presence_bits;
        has.absent().take(1).for_each(|bit| {
            processor::prefetch_element(&self.absent, row * bits + bit);
        });
    }

    /// Fetches the key of a row, if there is one, and the texts behind it: they were appended
    /// together.
    #[inline]
    pub(crate) fn prefetch_key(&self, row: usize) {
        let Some(key) = self.words.get(self.skip + row * self.row_words + KEY) else {
            return;
        };
        let (start, _) = unspan(*key);
        processor::prefetch_element(&self.bytes, start);
        processor::prefetch_element(&self.bytes, start + LINE_WORDS * size_of::<u64>());
    }

    #[inline]
    fn row(&self, row: usize) -> &[u64] {
        &self.words[self.skip + row * self.row_words..][..self.row_words]
    }

    #[inline]
    fn row_mut(&mut self, row: usize) -> &mut [u64] {
        &mut self.words[self.skip + row * self.row_words..][..self.row_words]
    }
}

/// What is copied of a text at once, as nearly every one is shorter.
const TEXT_STEP: usize = 32;

/// Appends a text; returns where it starts.
#[inline]
fn append(to: &mut Vec<u8>, text: Text<'_>) -> usize {
    let start = to.len();
    match text.place().first_chunk::<TEXT_STEP>() {
        // A copy of one size needs no call.
        Some(bytes) if text.len() <= TEXT_STEP => {
            to.extend_from_slice(bytes);
            to.truncate(start + text.len());
        }
        _ => to.extend_from_slice(text.as_bytes()),
    }
    start
}

//! The memory of a window that has closed, for one that opens: asking the system for new pages
//! costs more than filling them (a third of all time where most messages are the first of their
//! device and minute).
//!
//! What a window did not use it does not pass on, so memory for devices that are gone lasts two
//! windows more.

use alloc::vec::Vec;

use super::Window;
use crate::{key_table::KeyTable, slots::Chunk};

/// The memory of a window, without any device in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct WindowMemory {
    table: KeyTable,
    chunks: Vec<Chunk>,
}

impl WindowMemory {
    /// Returns about how many bytes it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.table.memory_bytes() + self.chunks.iter().map(Chunk::memory_bytes).sum::<usize>()
    }
}

impl Window {
    /// Takes memory for the devices to come; a window that has none.
    pub(crate) fn with_memory(self, memory: WindowMemory) -> Window {
        debug_assert!(self.chunks.is_empty(), "the memory of a window that has some");
        Window { table: memory.table, chunks: memory.chunks, ..self }
    }

    /// Returns the memory that the devices took.
    pub(crate) fn into_memory(self) -> WindowMemory {
        let Window { mut table, mut chunks, device_count, .. } = self;
        chunks.truncate(Chunk::count_for(device_count));
        chunks.iter_mut().for_each(Chunk::clear);
        table.clear();
        WindowMemory { table, chunks }
    }
}

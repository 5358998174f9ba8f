//! Which slot a key has: open addressing over eight bytes per key.
//!
//! An entry is 32 bits of the key's hash and the slot. Their order is that of the hashes, so the
//! table grows without reading a key, and its places can be fetched before they are looked at. It
//! stores no keys: who asks compares them.

use alloc::vec::Vec;

use crate::processor;

const FREE: u64 = 0;
const CAPACITY_MIN: usize = 16;
/// The most slots: an entry holds the slot plus one in 32 bits.
pub(crate) const SLOTS_MAX: usize = u32::MAX as usize - 1;

/// Slots by the hashes of their keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyTable {
    /// A power of two, none at first; at most half are used, so that most keys are found at once:
    /// how many steps a search takes nothing can predict.
    entries: Vec<u64>,
    count: usize,
}

impl KeyTable {
    /// Fetches the place where a tag is looked for.
    #[inline]
    pub(crate) fn prefetch(&self, tag: u32) {
        processor::prefetch_element(&self.entries, self.home(tag));
    }

    /// Returns the first slot whose key has that tag, and that `is_key` accepts.
    #[inline]
    pub(crate) fn find(&self, tag: u32, mut is_key: impl FnMut(usize) -> bool) -> Option<usize> {
        let mut at = self.home(tag);
        // Half of the entries is free, so this ends; an empty table has no entry at all.
        while let Some(entry) = self.entries.get(at).copied().filter(|entry| *entry != FREE) {
            let slot = (entry as u32 - 1) as usize;
            if (entry >> 32) as u32 == tag && is_key(slot) {
                return Some(slot);
            }
            at = (at + 1) & (self.entries.len() - 1);
        }
        None
    }

    /// Returns how many bytes it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<u64>()
    }

    /// Adds a slot whose key is not there yet.
    ///
    /// # Panics
    /// If the slot is beyond [`SLOTS_MAX`].
    pub(crate) fn insert(&mut self, tag: u32, slot: usize) {
        assert!(slot <= SLOTS_MAX, "the limit of devices is below 2^32");
        if (self.count + 1) * 2 > self.entries.len() {
            self.grow();
        }
        self.count += 1;
        self.place(u64::from(tag) << 32 | (slot as u64 + 1));
    }

    /// Forgets all slots; the memory stays, unless the slots would fit into a quarter of it.
    pub(crate) fn clear(&mut self) {
        if self.count * 8 < self.entries.len() {
            self.entries = Vec::new();
        }
        self.entries.fill(FREE);
        self.count = 0;
    }

    fn grow(&mut self) {
        let capacity = (self.entries.len() * 2).max(CAPACITY_MIN);
        let old = core::mem::replace(&mut self.entries, alloc::vec![FREE; capacity]);
        old.into_iter().filter(|entry| *entry != FREE).for_each(|entry| self.place(entry));
    }

    fn place(&mut self, entry: u64) {
        let mut at = self.home((entry >> 32) as u32);
        while self.entries[at] != FREE {
            at = (at + 1) & (self.entries.len() - 1);
        }
        self.entries[at] = entry;
    }

    /// The upper bits of the tag, so that growing needs nothing but the tag.
    #[inline]
    fn home(&self, tag: u32) -> usize {
        ((u64::from(tag) * self.entries.len() as u64) >> 32) as usize
    }
}

/// Returns what is kept of a hash.
#[inline]
pub(crate) fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_keeps_its_slot_while_the_table_grows() {
        let tag = |key: u64| tag(key.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut table = KeyTable::default();
        assert_eq!(table.find(tag(0), |_| true), None);
        for slot in 0..5_000 {
            table.insert(tag(slot as u64), slot);
        }
        for slot in 0..5_000 {
            assert_eq!(table.find(tag(slot as u64), |found| found == slot), Some(slot));
        }
        assert!((5_000..20_000).all(|key| table.find(tag(key), |_| false).is_none()));
    }

    #[test]
    fn keys_of_one_hash_are_told_apart_by_who_asks() {
        let mut table = KeyTable::default();
        for slot in 0..100 {
            table.insert(u32::MAX, slot);
        }
        assert_eq!(table.find(u32::MAX, |slot| slot == 77), Some(77));
        assert_eq!(table.find(u32::MAX, |slot| slot == 100), None);
        assert_eq!(table.find(0, |_| true), None);
    }
}

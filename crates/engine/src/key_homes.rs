//! Notices a device whose rows come from two partitions: the topic is not keyed by device, and
//! each of its minutes has a row per partition.
//!
//! It looks at rows that are durable, within one process, and remembers a hash and a partition per
//! device. It changes no result: `verify` asks the store for the whole truth.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
};

use tidemill_kernel::row::{Cell, Column, ColumnKind, RowBlock};

/// The mark of a device that was noticed.
const NOTICED: u32 = u32::MAX;

/// Where the devices of a process were seen.
#[derive(Debug)]
pub(crate) struct KeyHomes {
    hasher: RandomState,
    keys_max: usize,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    partitions: Vec<Arc<str>>,
    /// The index of the partition, by the hash of the group key.
    homes: HashMap<u64, u32>,
}

/// A device on two partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visitor {
    /// The parts of its group key, joined by `/`.
    pub(crate) key: String,
    /// Where it was first seen.
    pub(crate) home: Arc<str>,
}

impl KeyHomes {
    /// Returns a memory of at most so many devices; 0 watches none. When it is full it begins
    /// anew: a device that is on two partitions all the time is then noticed at its next rows.
    pub(crate) fn new(keys_max: usize) -> KeyHomes {
        KeyHomes { hasher: RandomState::new(), keys_max, seen: Mutex::default() }
    }

    /// Takes the rows of a partition in; returns the devices that are new on a second one.
    pub(crate) fn note(
        &self,
        columns: &[Column],
        key_count: usize,
        partition: &Arc<str>,
        pieces: &[RowBlock],
    ) -> Vec<Visitor> {
        let mut visitors = Vec::new();
        if self.keys_max == 0 || pieces.is_empty() {
            return visitors;
        }
        debug_assert!(columns[1..=key_count].iter().all(|key| key.kind == ColumnKind::Text));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let here = seen.index_of(partition);
        let mut cells = Vec::new();
        for piece in pieces {
            let mut reader = piece.reader(columns);
            while reader.next_row(&mut cells) {
                // The columns of the key stand behind the time.
                let parts = cells[1..=key_count].iter().map(|cell| match cell {
                    Cell::Text(text) => *text,
                    _ => "",
                });
                let parts: Vec<&str> = parts.collect();
                let hash = self.hasher.hash_one(&parts);
                if seen.homes.len() >= self.keys_max && !seen.homes.contains_key(&hash) {
                    seen.homes.clear();
                }
                let home = seen.homes.entry(hash).or_insert(here);
                let first = std::mem::replace(home, if *home == here { here } else { NOTICED });
                if first != here && first != NOTICED {
                    let home = seen.partitions[first as usize].clone();
                    visitors.push(Visitor { key: parts.join("/"), home });
                }
            }
        }
        visitors
    }
}

impl Seen {
    fn index_of(&mut self, partition: &Arc<str>) -> u32 {
        let known = self.partitions.iter().position(|known| known == partition);
        let at = known.unwrap_or_else(|| {
            self.partitions.push(partition.clone());
            self.partitions.len() - 1
        });
        at as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(keys: &[&str]) -> [RowBlock; 1] {
        let mut block = RowBlock::new();
        for key in keys {
            block.push(&columns()[0], Cell::UInt(60));
            block.push(&columns()[1], Cell::Text(key));
            block.end_row();
        }
        [block]
    }

    fn columns() -> [Column; 2] {
        let time = Column::new("time", ColumnKind::Seconds, false);
        [time, Column::new("device_id", ColumnKind::Text, false)]
    }

    fn note(homes: &KeyHomes, partition: &str, keys: &[&str]) -> Vec<String> {
        let visitors = homes.note(&columns(), 1, &partition.into(), &rows(keys));
        visitors.iter().map(|visitor| format!("{} of {}", visitor.key, visitor.home)).collect()
    }

    #[test]
    fn device_on_two_partitions_is_noticed_once() {
        let homes = KeyHomes::new(10);
        assert!(note(&homes, "0", &["a", "b", "a"]).is_empty());
        assert!(note(&homes, "1", &["c"]).is_empty());
        assert_eq!(note(&homes, "1", &["a", "c"]), ["a of 0"]);
        assert!(note(&homes, "0", &["a", "b"]).is_empty());
        assert_eq!(note(&homes, "0", &["c"]), ["c of 1"]);
    }

    #[test]
    fn full_memory_begins_anew_and_stays_bounded() {
        let homes = KeyHomes::new(2);
        note(&homes, "0", &["a", "b", "c"]);
        assert_eq!(homes.seen.lock().expect("not poisoned").homes.len(), 1);
        assert!(note(&homes, "1", &["a"]).is_empty(), "forgotten");
        assert_eq!(note(&homes, "0", &["a"]), ["a of 1"], "and noticed at the next row");
        assert!(note(&KeyHomes::new(0), "0", &["a"]).is_empty());
    }
}

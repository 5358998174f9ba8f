//! The memory that the connections to one file share in WAL mode, and the locks in it.
//!
//! Its content is SQLite's alone; here it is made, handed out and locked. It is the only unsafe
//! code beside the functions that SQLite calls.

use std::{
    cell::UnsafeCell,
    collections::BTreeMap,
    ffi::{c_int, c_void},
    sync::Arc,
};

use rusqlite::ffi;

/// The size of a region that SQLite asks for.
pub(crate) const REGION_BYTES: usize = 32 * 1024;

/// A piece of shared memory, zeroed and aligned for 64-bit words.
pub(crate) struct Region(UnsafeCell<[u64; REGION_BYTES / 8]>);

// SAFETY: no Rust code reads or writes the cell. SQLite alone does, through the raw pointer, under
// the locks below and its own barriers, as it does with memory that processes share.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    pub(crate) fn pointer(&self) -> *mut c_void {
        self.0.get().cast()
    }
}

/// Slots that a handle has locked, as bits.
#[derive(Clone, Copy, Default)]
struct Slots {
    shared: u32,
    exclusive: u32,
}

/// The regions of one file and who has what locked.
#[derive(Default)]
pub(crate) struct Shared {
    regions: Vec<Arc<Region>>,
    slots: BTreeMap<u64, Slots>,
}

impl Shared {
    /// Returns a region, made where it is missing if `extend`.
    pub(crate) fn region(&mut self, id: u64, index: usize, extend: bool) -> Option<Arc<Region>> {
        self.slots.entry(id).or_default();
        while extend && self.regions.len() <= index {
            self.regions.push(Arc::new(Region(UnsafeCell::new([0; REGION_BYTES / 8]))));
        }
        self.regions.get(index).cloned()
    }

    /// Takes or gives back `count` slots from `first` on.
    pub(crate) fn lock(
        &mut self,
        id: u64,
        first: c_int,
        count: c_int,
        flags: c_int,
    ) -> Result<(), c_int> {
        let mask = ((1_u32 << count) - 1) << first;
        let mut others = Slots::default();
        for slots in self.slots.iter().filter(|(other, _)| **other != id).map(|(_, slots)| slots) {
            others.shared |= slots.shared;
            others.exclusive |= slots.exclusive;
        }
        let own = self.slots.entry(id).or_default();
        if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
            own.shared &= !mask;
            own.exclusive &= !mask;
        } else if flags & ffi::SQLITE_SHM_SHARED != 0 {
            if others.exclusive & mask != 0 {
                return Err(ffi::SQLITE_BUSY);
            }
            own.shared |= mask;
        } else {
            if (others.exclusive | others.shared) & mask != 0 {
                return Err(ffi::SQLITE_BUSY);
            }
            own.exclusive |= mask;
        }
        Ok(())
    }

    /// Ends the use by a handle. Behind the last one nothing is left: the first who comes clears
    /// what was there.
    pub(crate) fn leave(&mut self, id: u64) {
        self.slots.remove(&id);
        if self.slots.is_empty() {
            self.regions.clear();
        }
    }
}

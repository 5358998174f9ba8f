//! A disk in memory, as a machine with a page cache sees it, with faults by seed.
//!
//! What is written is seen at once and durable only after a sync. At a loss of power, what is not
//! synced is kept or lost sector by sector, a later write also without an earlier one; names of
//! files likewise. A sync that fails may leave its sectors looking written for good, though they
//! are not, as Linux does. It does not lie: what it called durable stays, what it reads is what
//! was written, and a sector is written whole or not at all. Of [`Disk::lies`] the last does not
//! hold: that is for proving the tests.

use std::{collections::BTreeMap, ffi::c_int};

use rusqlite::ffi;

use crate::shared::Shared;

/// What survives or is lost as one.
const SECTOR_BYTES: usize = 512;

/// A sequence of numbers that follows from its seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5bf0_3635)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// How often, of a thousand calls, which kind fails; none by default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) read: u64,
    pub(crate) write: u64,
    pub(crate) sync: u64,
    /// Opening, deleting, looking for, measuring and cutting files.
    pub(crate) other: u64,
    /// No file grows: `ENOSPC`.
    pub(crate) full: bool,
}

/// What a disk is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Delete,
    Access,
    Size,
    Cut,
    Share,
    Read,
    Write,
    Sync,
}

impl Call {
    fn error(self) -> c_int {
        match self {
            Call::Open => ffi::SQLITE_CANTOPEN,
            Call::Delete => ffi::SQLITE_IOERR_DELETE,
            Call::Access => ffi::SQLITE_IOERR_ACCESS,
            Call::Size => ffi::SQLITE_IOERR_FSTAT,
            Call::Cut => ffi::SQLITE_IOERR_TRUNCATE,
            Call::Share => ffi::SQLITE_IOERR_SHMMAP,
            Call::Read => ffi::SQLITE_IOERR_READ,
            Call::Write => ffi::SQLITE_IOERR_WRITE,
            Call::Sync => ffi::SQLITE_IOERR_FSYNC,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Call::Read => "reads failed",
            Call::Write => "writes failed",
            Call::Sync => "syncs failed",
            _ => "other calls failed",
        }
    }
}

/// A change that is not synced.
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Cut(usize),
}

#[derive(Default)]
struct File {
    /// What the running machine reads.
    content: Vec<u8>,
    /// What is there after a loss of power, but for `unsynced`.
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    /// Levels by handle.
    locks: BTreeMap<u64, c_int>,
    shared: Shared,
}

/// A file as one connection has it open; of no use after a restart of the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handle {
    pub(crate) id: u64,
    file: u64,
    life: u64,
}

/// The disk, its machine's page cache, and the locks on its files.
#[derive(Default)]
pub(crate) struct Disk {
    random: Option<Random>,
    pub(crate) faults: Faults,
    /// A sync answers well and does nothing.
    pub(crate) lies: bool,
    /// The process or the machine dies in that many calls.
    pub(crate) dies_in: Option<u64>,
    pub(crate) dead: bool,
    life: u64,
    last_id: u64,
    files: BTreeMap<u64, File>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

type Answer<T> = Result<T, c_int>;

impl Disk {
    pub(crate) fn new(seed: u64) -> Disk {
        Disk { random: Some(Random::new(seed)), ..Disk::default() }
    }

    fn random(&mut self) -> &mut Random {
        self.random.get_or_insert_with(|| Random::new(0))
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_insert(0) += 1;
    }

    /// Ends the process, or with `power_lost` the machine, and starts it anew.
    pub(crate) fn restart(&mut self, power_lost: bool) {
        self.life += 1;
        (self.dead, self.dies_in) = (false, None);
        for file in self.files.values_mut() {
            file.locks.clear();
            file.shared = Shared::default();
        }
        if !power_lost {
            return self.count("kills");
        }
        self.count("losses of power");
        let mut random = self.random().clone();
        for file in self.files.values_mut() {
            file.settle(&mut random);
            file.content.clone_from(&file.durable);
        }
        let mut names = BTreeMap::new();
        for name in self.names.keys().chain(self.durable_names.keys()) {
            let kept = if random.chance(500) { &self.names } else { &self.durable_names };
            // Seen twice if it is in both, and then decided twice, which does no harm.
            names.remove(name);
            kept.get(name).map(|file| names.insert(name.clone(), *file));
        }
        self.files.retain(|id, _| names.values().any(|named| named == id));
        self.durable_names.clone_from(&names);
        self.names = names;
        self.random = Some(random);
    }

    /// Begins a call: it may die in it, or fail.
    fn call(&mut self, life: u64, call: Call) -> Answer<()> {
        if self.dead || life != self.life {
            return Err(call.error());
        }
        if let Some(left) = &mut self.dies_in {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.dead = true;
                return Err(call.error());
            }
        }
        let chance = match call {
            Call::Read => self.faults.read,
            Call::Write => self.faults.write,
            Call::Sync => self.faults.sync,
            _ => self.faults.other,
        };
        if chance > 0 && self.random().chance(chance) {
            self.count(call.name());
            return Err(call.error());
        }
        Ok(())
    }

    fn on(&mut self, handle: Handle, call: Call) -> Answer<&mut File> {
        self.call(handle.life, call)?;
        self.files.get_mut(&handle.file).ok_or(call.error())
    }

    pub(crate) fn open(&mut self, name: &str, create: bool) -> Answer<Handle> {
        self.call(self.life, Call::Open)?;
        self.last_id += 2;
        let (id, new) = (self.last_id, self.last_id + 1);
        let file = match self.names.get(name) {
            _ if name.is_empty() => new,
            Some(file) => *file,
            None if create => *self.names.entry(name.to_owned()).or_insert(new),
            None => return Err(ffi::SQLITE_CANTOPEN),
        };
        self.files.entry(file).or_default();
        Ok(Handle { id, file, life: self.life })
    }

    pub(crate) fn close(&mut self, handle: Handle) {
        if let Some(file) = self.files.get_mut(&handle.file).filter(|_| handle.life == self.life) {
            file.locks.remove(&handle.id);
            file.shared.leave(handle.id);
        }
        // SQLite's own, without a name.
        if self.names.is_empty() && self.durable_names.is_empty() {
            self.files.remove(&handle.file);
        }
    }

    pub(crate) fn delete(&mut self, name: &str, sync: bool) -> Answer<()> {
        self.call(self.life, Call::Delete)?;
        self.names.remove(name).ok_or(ffi::SQLITE_IOERR_DELETE_NOENT)?;
        if sync && !self.lies {
            self.durable_names.clone_from(&self.names);
        }
        Ok(())
    }

    pub(crate) fn exists(&mut self, name: &str) -> Answer<bool> {
        self.call(self.life, Call::Access)?;
        // An empty file is none, as in SQLite's own file system: it asks for journals to roll back.
        let file = self.names.get(name).and_then(|file| self.files.get(file));
        Ok(file.is_some_and(|file| !file.content.is_empty()))
    }

    pub(crate) fn size(&mut self, handle: Handle) -> Answer<usize> {
        self.on(handle, Call::Size).map(|file| file.content.len())
    }

    pub(crate) fn cut(&mut self, handle: Handle, bytes: usize) -> Answer<()> {
        let file = self.on(handle, Call::Cut)?;
        file.content.resize(bytes, 0);
        file.unsynced.push(Change::Cut(bytes));
        Ok(())
    }

    /// Reads what is there, and returns how much that is.
    pub(crate) fn read(&mut self, handle: Handle, at: usize, into: &mut [u8]) -> Answer<usize> {
        let file = self.on(handle, Call::Read)?;
        let rest = file.content.get(at..).unwrap_or_default();
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    /// Writes all of it, or a part and an error.
    pub(crate) fn write(&mut self, handle: Handle, at: usize, bytes: &[u8]) -> Answer<()> {
        let was_dead = self.dead || handle.life != self.life;
        let begun = self.call(handle.life, Call::Write);
        if was_dead {
            return begun;
        }
        let some = self.random().below(bytes.len() as u64 + 1) as usize;
        let full = self.faults.full;
        let Some(file) = self.files.get_mut(&handle.file) else {
            return Err(ffi::SQLITE_IOERR_WRITE);
        };
        let room = file.content.len().saturating_sub(at).min(bytes.len());
        let (length, answer) = match begun {
            Err(error) => (some, Err(error)),
            Ok(()) if full && room < bytes.len() => (room, Err(ffi::SQLITE_FULL)),
            Ok(()) => (bytes.len(), Ok(())),
        };
        if length > 0 {
            put(&mut file.content, at, &bytes[..length], 0);
            file.unsynced.push(Change::Write { at, bytes: bytes[..length].to_vec() });
        }
        if answer == Err(ffi::SQLITE_FULL) {
            self.count("writes to a full disk");
        }
        answer
    }

    /// Makes what is written to a file durable, and all names with it.
    pub(crate) fn sync(&mut self, handle: Handle) -> Answer<()> {
        let began = self.call(handle.life, Call::Sync);
        if self.lies {
            return began;
        }
        if began.is_err() {
            // Half of the systems forget that anything was left to be written.
            let mut random = self.random().clone();
            let file = self.files.get_mut(&handle.file);
            if let Some(file) = file.filter(|_| handle.life == self.life && !self.dead)
                && random.chance(500)
            {
                file.settle(&mut random);
            }
            self.random = Some(random);
            return began;
        }
        let file = self.files.get_mut(&handle.file).ok_or(ffi::SQLITE_IOERR_FSYNC)?;
        for change in std::mem::take(&mut file.unsynced) {
            match change {
                Change::Write { at, bytes } => put(&mut file.durable, at, &bytes, 0),
                Change::Cut(bytes) => file.durable.resize(bytes, 0),
            }
        }
        self.durable_names.clone_from(&self.names);
        Ok(())
    }

    /// Writes a file's bytes again and syncs them.
    pub(crate) fn renew(&mut self, name: &str) -> Answer<()> {
        let Some(file) = self.names.get(name).copied() else { return Ok(()) };
        let content = self.files.get(&file).map(|file| file.content.clone()).unwrap_or_default();
        let handle = Handle { id: 0, file, life: self.life };
        self.write(handle, 0, &content)?;
        self.sync(handle)
    }

    /// Takes a lock on a whole file, as SQLite's levels are.
    pub(crate) fn lock(&mut self, handle: Handle, level: c_int) -> Answer<()> {
        if self.dead || handle.life != self.life {
            return Err(ffi::SQLITE_IOERR_LOCK);
        }
        let file = self.files.get_mut(&handle.file).ok_or(ffi::SQLITE_IOERR_LOCK)?;
        let own = file.locks.get(&handle.id).copied().unwrap_or(0);
        let others = file.locks.iter().filter(|(id, _)| **id != handle.id);
        let highest = others.map(|(_, level)| *level).max().unwrap_or(0);
        let (granted, answer) = match level {
            _ if level <= own => (own, Ok(())),
            ffi::SQLITE_LOCK_SHARED if highest < ffi::SQLITE_LOCK_PENDING => (level, Ok(())),
            ffi::SQLITE_LOCK_RESERVED if highest < ffi::SQLITE_LOCK_RESERVED => (level, Ok(())),
            ffi::SQLITE_LOCK_EXCLUSIVE if highest == 0 => (level, Ok(())),
            ffi::SQLITE_LOCK_EXCLUSIVE if highest == ffi::SQLITE_LOCK_SHARED => {
                (ffi::SQLITE_LOCK_PENDING, Err(ffi::SQLITE_BUSY))
            }
            _ => (own, Err(ffi::SQLITE_BUSY)),
        };
        file.locks.insert(handle.id, granted);
        answer
    }

    pub(crate) fn unlock(&mut self, handle: Handle, level: c_int) {
        if let Some(file) = self.files.get_mut(&handle.file).filter(|_| handle.life == self.life) {
            let own = file.locks.entry(handle.id).or_insert(0);
            *own = level.min(*own);
        }
    }

    pub(crate) fn is_reserved(&self, handle: Handle) -> bool {
        let file = self.files.get(&handle.file).filter(|_| handle.life == self.life);
        let reserved = |level: &c_int| *level >= ffi::SQLITE_LOCK_RESERVED;
        file.is_some_and(|file| file.locks.values().any(reserved))
    }

    /// Returns the shared memory beside a file.
    pub(crate) fn shared(&mut self, handle: Handle) -> Answer<&mut Shared> {
        self.on(handle, Call::Share).map(|file| &mut file.shared)
    }

    /// Returns the same where it must not fail; `None` if its machine is gone.
    pub(crate) fn shared_still(&mut self, handle: Handle) -> Option<&mut Shared> {
        let there = !self.dead && handle.life == self.life;
        self.files.get_mut(&handle.file).filter(|_| there).map(|file| &mut file.shared)
    }
}

impl File {
    /// Decides for each sector that is not synced whether it reaches the disk.
    fn settle(&mut self, random: &mut Random) {
        let any = random.below(1000);
        let kept = random.pick(&[0, 1000, 950, 500, any]);
        let between = random.pick(&[0, 0, 0xa5]);
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Change::Write { at, bytes } => {
                    let mut from = 0;
                    while from < bytes.len() {
                        let sector = SECTOR_BYTES - (at + from) % SECTOR_BYTES;
                        let end = bytes.len().min(from + sector);
                        if random.chance(kept) {
                            put(&mut self.durable, at + from, &bytes[from..end], between);
                        }
                        from = end;
                    }
                }
                Change::Cut(bytes) if random.chance(kept) => self.durable.resize(bytes, 0),
                Change::Cut(_) => {}
            }
        }
    }
}

/// Writes bytes at a place, and fills what lies between the end and it.
fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8], between: u8) {
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, between);
    }
    content[at..end].copy_from_slice(bytes);
}

//! One seed: two lanes commit to one file on a disk that fails, and what is stored is compared
//! after every restart.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rusqlite::Connection;
use tidemill_engine::port::{Commit, Store, StoreError};
use tidemill_sink::{EmbeddedConfig, EmbeddedStore};

use crate::{
    disk::{Disk, Faults, Random},
    lane::{Lane, columns, keys},
    vfs::Mounted,
};

const LANES: usize = 2;
/// Commits, restarts and looks of one seed.
const STEPS: usize = 60;
/// How often a disk that works again may be asked before it has to be used.
const TRIES: usize = 3;

/// What is broken on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    None,
    /// The disk does not do what it says is done, as with `synchronous = OFF`.
    LyingDisk,
    /// Rows are written before letters and record, each in a transaction of its own.
    SplitCommit,
    /// What is in the log at an opening is taken for durable.
    TrustedLog,
}

/// What happened, and what should not have.
pub(crate) struct Report {
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) violation: Option<String>,
}

/// Runs a seed.
pub(crate) fn run(seed: u64, sabotage: Sabotage) -> Report {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let mut disk = Disk::new(seed);
    disk.lies = sabotage == Sabotage::LyingDisk;
    let name = format!("{seed}-{}", RUNS.fetch_add(1, Ordering::Relaxed));
    let mut random = Random::new(!seed);
    let faults = profile(&mut random);
    let mut world = World {
        mounted: Mounted::new(&name, disk),
        large: random.chance(120),
        random,
        faults,
        sabotage,
        lanes: [Lane::new("0"), Lane::new("1")],
        stores: [None, None],
    };
    let violation = world.run().err();
    world.stores = [None, None];
    let counts = world.mounted.disk().counts.clone();
    Report { counts, violation }
}

fn profile(random: &mut Random) -> Faults {
    let per_mille = random.pick(&[0, 1, 5, 30, 200]);
    let faults = Faults { write: per_mille, sync: per_mille, ..Faults::default() };
    match random.below(5) {
        0 => Faults::default(),
        1 => Faults { sync: 300, ..Faults::default() },
        2 => Faults { read: per_mille, other: per_mille, ..faults },
        3 => Faults { read: per_mille, ..Faults::default() },
        _ => faults,
    }
}

struct World {
    mounted: Mounted,
    random: Random,
    faults: Faults,
    large: bool,
    sabotage: Sabotage,
    lanes: [Lane; LANES],
    stores: [Option<EmbeddedStore>; LANES],
}

impl World {
    fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.open_all()?;
            self.mounted.disk().faults = self.faults;
            if self.random.chance(80) {
                self.mounted.disk().faults.full = true;
            }
            if self.random.chance(80) {
                let calls = 1 + self.random.below(60);
                self.mounted.disk().dies_in = Some(calls);
            }
            let lane = self.random.below(LANES as u64) as usize;
            match self.random.below(20) {
                0 => self.stores = [None, None],
                1 => self.stores[lane] = None,
                2 => self.mounted.disk().dead = true,
                3 => self.look()?,
                _ => self.commit(lane)?,
            }
            self.mounted.disk().faults.full = false;
            self.restart_if_dead();
        }
        self.end()
    }

    /// The disk works again: what is open goes on, and survives a last loss of power.
    fn end(&mut self) -> Result<(), String> {
        self.open_all()?;
        self.calm();
        for lane in 0..LANES {
            let wanted = self.lanes[lane].record.as_ref().map_or(0, |record| record.id.number) + 1;
            let is = |lane: &Lane| lane.record.as_ref().map_or(0, |record| record.id.number);
            for _ in 0..TRIES {
                if is(&self.lanes[lane]) < wanted {
                    self.commit(lane)?;
                }
            }
            if is(&self.lanes[lane]) < wanted {
                return Err("the disk works again, and no commit succeeds".into());
            }
        }
        self.look()?;
        self.mounted.disk().dead = true;
        self.stores = [None, None];
        self.mounted.disk().restart(true);
        self.open_all()
    }

    fn calm(&mut self) {
        let mut disk = self.mounted.disk();
        (disk.faults, disk.dies_in) = (Faults::default(), None);
    }

    fn restart_if_dead(&mut self) {
        if self.mounted.disk().dead {
            self.stores = [None, None];
            let power_lost = self.random.chance(500);
            self.mounted.disk().restart(power_lost);
        }
    }

    /// Opens what is closed, in the end on a disk that works, and compares if anything was.
    fn open_all(&mut self) -> Result<(), String> {
        let mut opened = [false; LANES];
        for (lane, opened) in opened.iter_mut().enumerate() {
            let mut tries = 0;
            while self.stores[lane].is_none() {
                tries += 1;
                if tries > 2 * TRIES {
                    return Err("the disk works again, and the store cannot be opened".into());
                }
                if tries > TRIES {
                    self.calm();
                }
                self.open(lane)?;
                *opened = true;
                if self.mounted.disk().dead {
                    self.restart_if_dead();
                    return self.open_all();
                }
            }
        }
        if opened.contains(&true) {
            self.calm();
            self.resume(opened)?;
        }
        Ok(())
    }

    fn open(&mut self, lane: usize) -> Result<(), String> {
        // The store does this itself, to files, which this disk has not: see embedded/log.rs.
        if self.sabotage != Sabotage::TrustedLog {
            let log = format!("{}-wal", self.mounted.path());
            let mut disk = self.mounted.disk();
            if disk.renew(&log).is_err() {
                disk.count("openings failed");
                return Ok(());
            }
        }
        let mut config = EmbeddedConfig::new(self.mounted.path(), "sensors");
        config.busy_timeout = Duration::from_millis(1);
        match EmbeddedStore::open(config, &columns(), &keys()) {
            Ok(store) => self.stores[lane] = Some(store),
            Err(error) if error.retry() => self.mounted.disk().count("openings failed"),
            Err(error) => return Err(format!("opening: {error}")),
        }
        Ok(())
    }

    /// A new owner loads the record and goes on from it.
    fn resume(&mut self, opened: [bool; LANES]) -> Result<(), String> {
        for at in (0..LANES).filter(|at| opened[*at]) {
            let (lane, Some(store)) = (&mut self.lanes[at], &mut self.stores[at]) else { continue };
            let stored = store.load(&lane.id).map_err(|error| format!("load: {error}"))?;
            lane.found(stored.as_ref(), &mut self.random)?;
        }
        self.look()
    }

    /// Compares what is stored, by another connection and on a disk that works.
    fn look(&mut self) -> Result<(), String> {
        let (faults, dies_in) = {
            let mut disk = self.mounted.disk();
            disk.count("looks");
            (std::mem::take(&mut disk.faults), disk.dies_in.take())
        };
        let failed = |error: rusqlite::Error| format!("look: {error}");
        let connection = Connection::open(self.mounted.path()).map_err(failed)?;
        let check: String =
            connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(failed)?;
        if check != "ok" {
            return Err(format!("integrity_check: {check}"));
        }
        for (lane, store) in self.lanes.iter().zip(&mut self.stores) {
            let Some(store) = store else { continue };
            let stored = store.load(&lane.id).map_err(|error| format!("load: {error}"))?;
            lane.compare(stored.as_ref(), &connection)?;
        }
        drop(connection);
        let mut disk = self.mounted.disk();
        (disk.faults, disk.dies_in) = (faults, dies_in);
        Ok(())
    }

    fn commit(&mut self, at: usize) -> Result<(), String> {
        let (lane, Some(store)) = (&mut self.lanes[at], &mut self.stores[at]) else {
            return Ok(());
        };
        let again = lane.record.is_some() && self.random.chance(100);
        let commit = lane.next(&mut self.random, self.large).clone();
        match send(store, &commit, self.sabotage) {
            Ok(()) => {
                lane.answered();
                self.mounted.disk().count("commits");
                if again {
                    // It may fail; that it changes nothing is seen by the next look.
                    check_error(store.commit(&commit))?;
                }
            }
            Err(error) => {
                check_error(Err(error))?;
                self.mounted.disk().count("commits failed");
            }
        }
        let Some(store) = self.stores[at].as_mut().filter(|_| self.random.chance(100)) else {
            return Ok(());
        };
        check_error(store.load(&self.lanes[at].id).map(drop))
    }
}

/// What a disk does passes: any other answer stops the lane.
fn check_error(answer: Result<(), StoreError>) -> Result<(), String> {
    match answer {
        Ok(()) | Err(StoreError::Retry(_)) => Ok(()),
        Err(error) => Err(format!("a failing disk is answered by {error:?}")),
    }
}

fn send(store: &mut EmbeddedStore, commit: &Commit, sabotage: Sabotage) -> Result<(), StoreError> {
    if sabotage != Sabotage::SplitCommit {
        return store.commit(commit);
    }
    store.write_rows(&commit.rows)?;
    store.commit(&Commit { rows: Vec::new(), ..commit.clone() })
}

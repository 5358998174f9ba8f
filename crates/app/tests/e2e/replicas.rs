//! Three processes of a job under a load that does not wait for them: one is killed again and
//! again, one is paused, one is restarted in a loop. Counts what was done to them and how long
//! the others took to go on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    PATIENCE, Random,
    job::{Job, Run},
    topic::now_ms,
    until,
};

/// How long the broker does without a sign of life before it takes the partitions away is half a
/// minute to a minute; so a pause of a minute is one that others notice.
const PAUSE: Duration = Duration::from_secs(60);
/// A pause that nobody notices but those who wait for rows.
const PAUSE_SHORT: Duration = Duration::from_secs(5);
/// The jobs' `max_out_of_orderness`.
const OUT_OF_ORDERNESS_MS: u64 = 5_000;
/// How often the driver looks.
const LOOK: Duration = Duration::from_millis(50);

/// What was done, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) kills: AtomicU64,
    pub(crate) pauses: AtomicU64,
    /// From SIGTERM to the end of the process.
    pub(crate) ends: Mutex<Vec<Duration>>,
    pub(crate) recoveries: Mutex<Vec<Recovery>>,
    /// The window's size.
    window: Duration,
    paused: AtomicBool,
    done: AtomicBool,
}

/// How the others went on after a process was killed.
#[derive(Clone, Debug)]
pub(crate) struct Recovery {
    /// The partitions that the process had.
    pub(crate) partitions: usize,
    /// Whether another process was paused meanwhile, so that partitions moved to one that slept.
    pub(crate) beside_a_pause: bool,
    /// From the kill to the first new commit of one of its partitions.
    pub(crate) first_commit: Duration,
    /// From the kill to the first new row of one of its partitions.
    pub(crate) first_row: Duration,
    /// The same, from the moment when the row was due: when the message came that closes its
    /// window.
    pub(crate) first_row_late: Duration,
    /// From the kill until all its partitions had new rows.
    pub(crate) all_rows: Duration,
}

impl Tally {
    /// Returns the tally of a job with windows of that size.
    pub(crate) fn new(window: Duration) -> Tally {
        Tally { window, ..Tally::default() }
    }

    /// Ends what is being done, at the next occasion.
    pub(crate) fn end(&self) {
        self.done.store(true, SeqCst);
    }

    /// Waits between the two numbers of milliseconds; returns false if it is to end.
    fn wait(&self, random: &mut Random, least_ms: u64, most_ms: u64) -> bool {
        self.wait_for(Duration::from_millis(least_ms + random.below(most_ms - least_ms + 1)))
    }

    fn wait_for(&self, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        while Instant::now() < deadline {
            if self.done.load(SeqCst) {
                return false;
            }
            thread::sleep(LOOK);
        }
        !self.done.load(SeqCst)
    }

    /// Kills a process, waits until others have written rows of its partitions, starts it again.
    pub(crate) fn kill_in_a_loop(&self, job: &Job<'_>, name: &str, mut run: Run) -> Run {
        let mut random = Random::with(1);
        while self.wait(&mut random, 4_000, 15_000) {
            run.must_run();
            let owned = owned(&run.logged());
            let paused_before = self.paused.load(SeqCst);
            let killed_at = Instant::now();
            run.kill();
            self.kills.fetch_add(1, SeqCst);
            if let Some(recovery) = self.recovery(job, &owned, killed_at) {
                let beside_a_pause = paused_before || recovery.beside_a_pause;
                let recovery = Recovery { beside_a_pause, ..recovery };
                eprintln!(
                    "{:>6.1} s after a kill: {recovery:?}",
                    killed_at.elapsed().as_secs_f64()
                );
                self.recoveries.lock().expect("no panic").push(recovery);
            }
            run = job.start_replica(name);
        }
        run
    }

    /// Waits for the new rows of the partitions; `None` if there were none or the load has ended.
    fn recovery(
        &self,
        job: &Job<'_>,
        owned: &BTreeSet<String>,
        killed_at: Instant,
    ) -> Option<Recovery> {
        // What the process had sent is written a moment later or never.
        thread::sleep(Duration::from_millis(100));
        let (rows, commits) = (job.newest_rows(), job.ordinals());
        let (mut first_commit, mut first_row, mut beside_a_pause) = (None, None, false);
        let deadline = Instant::now() + PATIENCE;
        while !self.done.load(SeqCst) && !owned.is_empty() {
            beside_a_pause |= self.paused.load(SeqCst);
            let moved = |now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>| {
                owned.iter().filter(|name| now.get(*name) > before.get(*name)).count()
            };
            if first_commit.is_none() && moved(&job.ordinals(), &commits) > 0 {
                first_commit = Some(killed_at.elapsed());
            }
            let newest = job.newest_rows();
            let with_rows = moved(&newest, &rows);
            if with_rows > 0 && first_row.is_none() {
                let newest = owned.iter().filter_map(|name| newest.get(name).copied()).max();
                let due_ms = newest.unwrap_or(0) * 1000 + OUT_OF_ORDERNESS_MS;
                let late_ms = u64::try_from(now_ms()).unwrap_or(0).saturating_sub(due_ms);
                first_row = Some((killed_at.elapsed(), Duration::from_millis(late_ms)));
            }
            if with_rows == owned.len() {
                let (first_row, first_row_late) = first_row?;
                return Some(Recovery {
                    partitions: owned.len(),
                    beside_a_pause,
                    first_commit: first_commit.unwrap_or_else(|| killed_at.elapsed()),
                    first_row,
                    first_row_late,
                    all_rows: killed_at.elapsed(),
                });
            }
            assert!(Instant::now() < deadline, "nobody went on with {owned:?} in {PATIENCE:?}");
            thread::sleep(LOOK);
        }
        None
    }

    /// Stops a process with SIGSTOP and lets it go on, for a minute and for moments.
    pub(crate) fn pause_in_a_loop(&self, mut run: Run) -> Run {
        let mut random = Random::with(2);
        let mut pauses = [PAUSE, PAUSE_SHORT].into_iter().cycle();
        // Long enough for kills beside which nobody is paused.
        let calm_ms = u64::try_from(self.window.as_millis()).expect("short") * 2;
        while self.wait(&mut random, 8_000, 20_000 + calm_ms) {
            run.must_run();
            self.paused.store(true, SeqCst);
            run.signal("STOP");
            self.wait_for(pauses.next().expect("endless"));
            run.signal("CONT");
            self.paused.store(false, SeqCst);
            self.pauses.fetch_add(1, SeqCst);
        }
        run
    }

    /// Asks a process to end, waits for its end and starts it again.
    pub(crate) fn restart_in_a_loop(&self, job: &Job<'_>, name: &str, mut run: Run) -> Run {
        let mut random = Random::with(3);
        while self.wait(&mut random, 2_000, 10_000) {
            run.must_run();
            let asked_at = Instant::now();
            run.terminate();
            self.ends.lock().expect("no panic").push(asked_at.elapsed());
            run = job.start_replica(name);
        }
        run
    }
}

/// Returns the partitions that a process has, by what it logged.
pub(crate) fn owned(logged: &str) -> BTreeSet<String> {
    let mut owned = BTreeSet::new();
    for line in logged.lines() {
        let partition = |text: &str| {
            let (_, rest) = line.split_once(text)?;
            let (_, rest) = rest.split_once("partition=")?;
            Some(rest.split(' ').next().unwrap_or(rest).to_owned())
        };
        if let Some(name) = partition("lane starts") {
            owned.insert(name);
        } else if let Some(name) = partition("partition revoked") {
            owned.remove(&name);
        }
    }
    owned
}

/// Waits until the processes have all partitions among them.
pub(crate) fn until_shared(runs: &mut [&mut Run], partitions: usize) {
    until("each partition has a process", || {
        let lists = runs.iter_mut().map(|run| {
            run.must_run();
            owned(&run.logged())
        });
        let lists: Vec<_> = lists.collect();
        let all: usize = lists.iter().map(BTreeSet::len).sum();
        (all == partitions && lists.iter().all(|list| !list.is_empty())).then_some(())
    });
}

//! Holds what the consumers reported against the log.
//!
//! Nothing is judged while the soak runs: every line carries its time, and an acknowledgement is
//! noted before it is sent, so whatever it made the broker do was noted later.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Mutex;

use tidemill_pulsar::Position;

/// One entry of the log: its messages are numbered `first`, `first + 1`, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Logged {
    pub(crate) position: Position,
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// A line of a consumer.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    at_us: u64,
    instance: usize,
    partition: usize,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Connected,
    Disconnected,
    Active,
    Passive,
    Entry(Logged),
    Ack(Position),
    Acked(Position),
}

impl Seen {
    /// Reads a line; `None` for one that a kill cut short.
    pub(crate) fn parse(instance: usize, line: &str) -> Option<Seen> {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        let position = || Some(Position { ledger_id: number(3)?, entry_id: number(4)? });
        let what = match *words.get(2)? {
            "connected" => What::Connected,
            "disconnected" => What::Disconnected,
            "active" => What::Active,
            "passive" => What::Passive,
            "entry" => {
                let (first, count) = (number(5)?, number(6)?);
                What::Entry(Logged { position: position()?, first, count })
            }
            "ack" => What::Ack(position()?),
            "acked" => What::Acked(position()?),
            _ => return None,
        };
        Some(Seen { at_us: number(0)?, instance, partition: number(1)? as usize, what })
    }
}

/// Everything that was noted.
#[derive(Default)]
pub(crate) struct Report {
    /// Consumer processes so far.
    pub(crate) instances: usize,
    pub(crate) seen: Vec<Seen>,
    /// Partition, first number and place of each batch with a receipt.
    pub(crate) confirmed: Vec<(u32, u64, Option<Position>)>,
    /// The same, with the error, of each that failed for good.
    pub(crate) unconfirmed: Vec<(u32, u64, String)>,
    pub(crate) faults: Vec<(u64, String)>,
    /// Time, partition and cursor (entry -1 stands before a ledger).
    pub(crate) cursors: Vec<(u64, u32, (i64, i64))>,
}

impl Report {
    /// Tells in a few lines what happened.
    pub(crate) fn summary(&self, log: &[Vec<Logged>]) -> String {
        let faults = |name: &str| self.faults.iter().filter(|fault| fault.1 == name).count();
        let seen = |kind: fn(&What) -> bool| self.seen.iter().filter(|s| kind(&s.what)).count();
        let entries = seen(|what| matches!(what, What::Entry(_)));
        let logged: usize = log.iter().map(Vec::len).sum();
        let messages: u64 = log.iter().flatten().map(|entry| entry.count).sum();
        format!(
            "faults: {} unloads of the topic, {} of a partition, {} kills of a consumer, \
             {} of the broker\n\
             log: {logged} entries, {messages} messages; {} batches confirmed, {} failed\n\
             consumers: {} processes, {} subscriptions, {} assignments, {} deliveries of entries \
             ({} again), {} acknowledgements, {} with a receipt, {} looks at cursors\n\
             activity: {} times active while active, {} entries to a consumer that is not active",
            faults("unload topic"),
            faults("unload partition"),
            faults("kill consumer"),
            faults("kill broker"),
            self.confirmed.len(),
            self.unconfirmed.len(),
            self.instances,
            seen(|what| *what == What::Connected),
            seen(|what| *what == What::Active),
            entries,
            entries.saturating_sub(logged),
            seen(|what| matches!(what, What::Ack(_))),
            seen(|what| matches!(what, What::Acked(_))),
            self.cursors.len(),
            self.surplus(true),
            self.surplus(false),
        )
    }

    /// Counts reports of activity that changed nothing, or entries that came to a consumer which
    /// was not active.
    fn surplus(&self, activity: bool) -> usize {
        let mut seen: Vec<&Seen> = self.seen.iter().collect();
        seen.sort_by_key(|seen| seen.at_us);
        let mut active = HashMap::new();
        let found = seen.into_iter().filter(|seen| {
            let state = active.entry((seen.instance, seen.partition)).or_insert(false);
            match seen.what {
                What::Connected | What::Disconnected | What::Passive => *state = false,
                What::Active if *state => return activity,
                What::Active => *state = true,
                What::Entry(_) => return !activity && !*state,
                What::Ack(_) | What::Acked(_) => {}
            }
            false
        });
        found.count()
    }
}

/// Counts the entries of the log that no consumer was given.
pub(crate) fn missing(report: &Mutex<Report>, log: &[Vec<Logged>]) -> usize {
    let report = report.lock().expect("no holder panics");
    let delivered: std::collections::HashSet<_> = report
        .seen
        .iter()
        .filter_map(|seen| match seen.what {
            What::Entry(entry) => Some((seen.partition, entry.position)),
            _ => None,
        })
        .collect();
    let all = log.iter().enumerate().flat_map(|(partition, entries)| {
        entries.iter().map(move |entry| (partition, entry.position))
    });
    all.filter(|entry| !delivered.contains(entry)).count()
}

/// Returns what contradicts the promises.
pub(crate) fn check(report: &Report, log: &[Vec<Logged>]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut seen = report.seen.clone();
    seen.sort_by_key(|seen| seen.at_us);
    for (partition, entries) in log.iter().enumerate() {
        let mine: Vec<&Seen> = seen.iter().filter(|seen| seen.partition == partition).collect();
        let found = Partition::new(report, entries).check(&mine);
        problems.extend(found.into_iter().map(|text| format!("partition {partition}: {text}")));
        problems.extend(check_producer(report, partition, entries));
    }
    problems
}

fn check_producer(report: &Report, partition: usize, log: &[Logged]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut next = 0;
    for entry in log {
        // A batch that was sent again after a lost receipt stands in the log twice.
        if entry.first > next {
            problems.push(format!("partition {partition}: {next} is not before {}", entry.first));
        }
        next = next.max(entry.first + entry.count);
    }
    let places: HashMap<Position, u64> = log.iter().map(|e| (e.position, e.first)).collect();
    for (_, first, place) in report.confirmed.iter().filter(|c| c.0 as usize == partition) {
        if place.is_none_or(|place| places.get(&place) != Some(first)) {
            problems.push(format!("partition {partition}: {first} was confirmed at {place:?}"));
        }
    }
    problems
}

/// Lines that are shown with a problem.
const RECENT: usize = 40;

/// The judgement of one partition.
struct Partition<'a> {
    report: &'a Report,
    log: &'a [Logged],
    at: HashMap<Position, usize>,
    /// How many entries of the log lie before what was asked to be acknowledged, itself included.
    asked: usize,
    /// The same for what has a receipt, with the receipt's time.
    acked: (usize, u64),
    /// Which entry each consumer process has to get next, where it can be told.
    due: HashMap<usize, usize>,
    /// Processes that are not active, or not yet. The broker goes back to its cursor when it tells
    /// a consumer that it is active; what it sends before begins anywhere and is not theirs.
    passive: HashSet<usize>,
    /// The last lines, to be shown with a problem.
    recent: VecDeque<String>,
    delivered: Vec<bool>,
    problems: Vec<String>,
}

impl<'a> Partition<'a> {
    fn new(report: &'a Report, log: &'a [Logged]) -> Self {
        let at = log.iter().enumerate().map(|(index, entry)| (entry.position, index)).collect();
        let delivered = vec![false; log.len()];
        Self {
            report,
            log,
            at,
            asked: 0,
            acked: (0, 0),
            due: HashMap::new(),
            passive: HashSet::new(),
            recent: VecDeque::new(),
            delivered,
            problems: Vec::new(),
        }
    }

    fn check(mut self, seen: &[&Seen]) -> Vec<String> {
        let mut asks = Vec::new();
        for seen in seen {
            self.recent.push_back(format!("{} {} {:?}", seen.at_us, seen.instance, seen.what));
            if self.recent.len() > RECENT {
                self.recent.pop_front();
            }
            match seen.what {
                What::Connected | What::Disconnected | What::Active | What::Passive => {
                    self.due.remove(&seen.instance);
                    if seen.what == What::Active {
                        self.passive.remove(&seen.instance);
                    } else {
                        self.passive.insert(seen.instance);
                    }
                }
                What::Entry(entry) => self.entry(seen, entry),
                What::Ack(position) => {
                    self.asked = self.asked.max(self.behind(position));
                    asks.push((seen.at_us, self.asked));
                }
                What::Acked(position) => {
                    let behind = self.behind(position);
                    if behind >= self.acked.0 {
                        self.acked = (behind, seen.at_us);
                    }
                }
            }
        }
        let missing = self.delivered.iter().filter(|delivered| !**delivered).count();
        if missing > 0 {
            self.problems.push(format!("{missing} entries were never delivered"));
        }
        let number = seen.first().map_or(0, |seen| seen.partition);
        self.check_cursors(number, &asks);
        self.problems
    }

    fn behind(&self, position: Position) -> usize {
        self.log.partition_point(|entry| entry.position <= position)
    }

    fn entry(&mut self, seen: &Seen, entry: Logged) {
        let Some(&index) = self.at.get(&entry.position) else {
            self.problems.push(format!("{entry:?} is not in the log"));
            return;
        };
        if self.log[index] != entry {
            self.problems.push(format!("{entry:?} stands in the log as {:?}", self.log[index]));
        }
        self.delivered[index] = true;
        match self.due.insert(seen.instance, index + 1) {
            Some(due) if due != index => {
                self.problems.push(format!("entry {due} was due to {}: {index}", seen.instance));
            }
            Some(_) => {}
            None if self.passive.contains(&seen.instance) => {}
            None => self.first_entry(seen, index),
        }
    }

    /// Judges where an assignment begins.
    fn first_entry(&mut self, seen: &Seen, index: usize) {
        let at_us = seen.at_us;
        if index > self.asked {
            let asked = self.asked;
            let recent = Vec::from(self.recent.clone()).join("\n  ");
            let text = format!("{at_us}: began at {index}, acknowledged before: {asked}");
            self.problems.push(format!("{text}\n  {recent}"));
        }
        // Only a kill of the broker may take back what has a receipt. One second of grace: what
        // was on its way when the receipt came belongs to the assignment before.
        let (acked, acked_at_us) = self.acked;
        let broker = |fault: &&(u64, String)| fault.1.contains("broker");
        let excused = self.report.faults.iter().filter(broker).any(|f| f.0 >= acked_at_us);
        if index < acked && !excused && at_us > acked_at_us + 1_000_000 {
            self.problems.push(format!("{at_us}: began at {index}, receipt up to {acked}"));
        }
    }

    fn check_cursors(&mut self, partition: usize, asks: &[(u64, usize)]) {
        let mut last = 0;
        for (at_us, _, place) in self.report.cursors.iter().filter(|c| c.1 as usize == partition) {
            let stands = |entry: &Logged| {
                (entry.position.ledger_id as i64, entry.position.entry_id as i64) <= *place
            };
            let cursor = self.log.partition_point(stands);
            let asked = asks.iter().take_while(|ask| ask.0 <= *at_us).map(|ask| ask.1).max();
            if cursor > asked.unwrap_or(0) {
                self.problems.push(format!("{at_us}: cursor at {cursor}, asked {asked:?}"));
            }
            last = cursor;
        }
        if last != self.log.len() {
            let all = self.log.len();
            self.problems.push(format!("at the end the cursor stands at {last} of {all}"));
        }
    }
}

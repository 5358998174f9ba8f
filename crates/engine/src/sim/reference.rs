//! The naive single pass: what each prefix of the log amounts to, worked out message by message
//! from what the messages mean. It shares no code with the kernel but positions and reasons.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_kernel::{
    amend::LatePolicy,
    event::{Position, Reason},
    rollup::RollupConfig,
};

use super::workload::{DEVICES, Event, Truth, WINDOW_MS};
use crate::record::ALL_PARTITIONS;

/// A row's key: end of the window, device.
pub(super) type RowKey = (i64, String);

/// A cell that can be compared bit for bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Float(u64),
    Int(i64),
    UInt(u64),
    Text(String),
}

/// Where a message goes.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Counts { window_end_ms: i64, event: Event },
    Letter(Reason),
}

/// A message with what is true right behind it.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) position: Position,
    pub(super) verdict: Verdict,
    pub(super) closed_until_ms: i64,
    pub(super) highest_ms: i64,
    /// Late messages that are letters.
    pub(super) late_count: u64,
    pub(super) rejected_count: u64,
}

/// The messages since the birth position; the n-th has ordinal n + 1.
#[derive(Debug)]
pub(super) struct Reference {
    hold_back_ms: i64,
    skew_ms: i64,
    devices_max: usize,
    /// Whether late messages count for their rows.
    amends: bool,
    pipeline: String,
    partition: String,
    pub(super) messages: Vec<Judged>,
    /// The ordinals that count for a row, ascending.
    pub(super) rows: BTreeMap<RowKey, Vec<u64>>,
    devices: BTreeMap<i64, BTreeSet<usize>>,
    /// The ordinals of late messages that count for their rows.
    late: BTreeSet<u64>,
}

impl Reference {
    pub(super) fn new(config: &RollupConfig) -> Reference {
        Reference {
            hold_back_ms: config.max_out_of_orderness.as_ms() + config.allowed_lateness.as_ms(),
            skew_ms: config.max_future_skew.as_ms(),
            devices_max: config.devices_max,
            amends: config.late == LatePolicy::Amend,
            pipeline: config.pipeline.clone(),
            partition: config.source_partition.clone(),
            messages: Vec::new(),
            rows: BTreeMap::new(),
            devices: BTreeMap::new(),
            late: BTreeSet::new(),
        }
    }

    /// Takes the next message of the log.
    pub(super) fn push(&mut self, truth: Truth) {
        let last = self.messages.last();
        let mut judged = Judged {
            position: truth.position,
            verdict: Verdict::Letter(Reason::Empty),
            closed_until_ms: last.map_or(i64::MIN, |last| last.closed_until_ms),
            highest_ms: last.map_or(i64::MIN, |last| last.highest_ms),
            late_count: last.map_or(0, |last| last.late_count),
            rejected_count: last.map_or(0, |last| last.rejected_count),
        };
        judged.verdict = match self.refusal(&truth, judged.closed_until_ms) {
            Ok(event) => {
                judged.highest_ms = judged.highest_ms.max(event.time_ms);
                let edge = (judged.highest_ms - self.hold_back_ms).div_euclid(WINDOW_MS);
                judged.closed_until_ms = judged.closed_until_ms.max(edge * WINDOW_MS);
                let window_end_ms = window_end(event.time_ms);
                let key = (window_end_ms, DEVICES[event.device].to_owned());
                self.rows.entry(key).or_default().push(self.messages.len() as u64 + 1);
                self.devices.entry(window_end_ms).or_default().insert(event.device);
                Verdict::Counts { window_end_ms, event }
            }
            Err(Reason::Late) if self.amends => {
                let event = truth.content.expect("a late message is an event");
                let window_end_ms = window_end(event.time_ms);
                let key = (window_end_ms, DEVICES[event.device].to_owned());
                let ordinal = self.messages.len() as u64 + 1;
                self.rows.entry(key).or_default().push(ordinal);
                self.late.insert(ordinal);
                Verdict::Counts { window_end_ms, event }
            }
            Err(reason) => {
                judged.late_count += u64::from(reason == Reason::Late);
                judged.rejected_count += u64::from(reason != Reason::Late);
                Verdict::Letter(reason)
            }
        };
        self.messages.push(judged);
    }

    fn refusal(&self, truth: &Truth, closed_until_ms: i64) -> Result<Event, Reason> {
        let event = truth.content.clone()?;
        if event.time_ms > truth.publish_time_ms + self.skew_ms {
            return Err(Reason::Future);
        }
        let end_ms = window_end(event.time_ms);
        if end_ms <= closed_until_ms {
            return Err(Reason::Late);
        }
        let known = self.devices.get(&end_ms);
        let is_known = known.is_some_and(|known| known.contains(&event.device));
        if !is_known && known.map_or(0, BTreeSet::len) >= self.devices_max {
            return Err(Reason::DeviceLimit);
        }
        Ok(event)
    }

    /// Returns the row of `key` as the first `ordinal` messages make it, with that revision;
    /// `None` if none of them counts for it.
    pub(super) fn row(&self, key: &RowKey, ordinal: u64, revision: u64) -> Option<Vec<Value>> {
        let events: Vec<&Event> = self.events(key, ordinal).collect();
        let partition = &self.partition;
        (!events.is_empty()).then(|| self.fold(key, &events, partition, revision))
    }

    /// Returns how many late messages a row holds, and what it may say of its finality. At the end
    /// of the log, the end of the input may have closed its window.
    pub(super) fn finality(&self, key: &RowKey, ordinal: u64) -> (u64, &'static [&'static str]) {
        let ordinals = self.rows.get(key).into_iter().flatten();
        let held = ordinals.take_while(|at| **at <= ordinal);
        let late_count = held.filter(|at| self.late.contains(at)).count() as u64;
        let is_closed = |ordinal: u64| {
            let last = (ordinal as usize).checked_sub(1).map(|at| &self.messages[at]);
            last.is_some_and(|last| key.0 <= last.closed_until_ms)
        };
        let names: &[&str] = match (is_closed(ordinal), is_closed(ordinal.saturating_sub(1))) {
            (true, true) => &["amended"],
            (true, false) => &["final"],
            _ if ordinal == self.messages.len() as u64 => &["provisional", "final"],
            _ => &["provisional"],
        };
        (late_count, names)
    }

    /// Returns the row of `key` that is merged from several logs, of each so many messages.
    pub(super) fn merged_row(
        logs: &[Reference],
        key: &RowKey,
        ordinals: &[u64],
        revision: u64,
    ) -> Option<Vec<Value>> {
        let parts = logs.iter().zip(ordinals);
        let events: Vec<&Event> =
            parts.flat_map(|(log, ordinal)| log.events(key, *ordinal)).collect();
        (!events.is_empty()).then(|| logs[0].fold(key, &events, ALL_PARTITIONS, revision))
    }

    /// Returns the events that count for a row among the first `ordinal` messages.
    fn events(&self, key: &RowKey, ordinal: u64) -> impl Iterator<Item = &Event> {
        let ordinals = self.rows.get(key).into_iter().flatten();
        ordinals.take_while(move |at| **at <= ordinal).map(|at| {
            match &self.messages[*at as usize - 1].verdict {
                Verdict::Counts { event, .. } => event,
                Verdict::Letter(_) => unreachable!("rows list messages that count"),
            }
        })
    }

    fn fold(&self, key: &RowKey, events: &[&Event], partition: &str, revision: u64) -> Vec<Value> {
        let (end_ms, device) = key;
        let start_ms = end_ms - WINDOW_MS;
        let or_null = |value: Option<Value>| value.unwrap_or(Value::Null);
        let mut row = vec![Value::UInt(*end_ms as u64 / 1000), Value::Text(device.clone())];
        row.extend(gauge(events));
        let pulses: Vec<i64> = events.iter().filter_map(|event| event.pulses).collect();
        row.push(or_null((!pulses.is_empty()).then(|| Value::Int(pulses.iter().sum()))));
        row.push(or_null(most_frequent(events).map(Value::Int)));
        let sites = events.iter().filter_map(|event| event.site.map(|site| (event.time_ms, site)));
        row.push(or_null(sites.min().map(|(_, site)| Value::Text(site.to_owned()))));
        let times = || events.iter().map(|event| event.time_ms);
        let slots: BTreeSet<i64> = times().map(|time| (time - start_ms) * 60 / WINDOW_MS).collect();
        let mut gap = 0;
        let mut next = 0;
        for slot in slots.iter().copied().chain([60]) {
            gap = gap.max(slot - next);
            next = slot + 1;
        }
        row.extend([
            Value::UInt(start_ms as u64 / 1000),
            Value::UInt(events.len() as u64),
            Value::UInt(events.iter().map(|event| event.invalid_count).sum()),
            Value::Int(times().min().unwrap_or(0)),
            Value::Int(times().max().unwrap_or(0)),
            Value::Float((slots.len() as f64 / 60.0).to_bits()),
            Value::UInt((gap * WINDOW_MS / 60) as u64),
            Value::Text(self.pipeline.clone()),
            Value::Text(partition.to_owned()),
            Value::UInt(revision),
        ]);
        row
    }

    /// Returns how many of the first `ordinal` messages count in windows that end after
    /// `closed_until_ms`, and the first of them.
    pub(super) fn open(&self, ordinal: u64, closed_until_ms: i64) -> (u64, Option<Position>) {
        let mut count = 0;
        let mut first = None;
        for judged in &self.messages[..ordinal as usize] {
            if let Verdict::Counts { window_end_ms, .. } = judged.verdict
                && window_end_ms > closed_until_ms
            {
                count += 1;
                first = first.or(Some(judged.position));
            }
        }
        (count, first)
    }
}

fn window_end(time_ms: i64) -> i64 {
    time_ms.div_euclid(WINDOW_MS) * WINDOW_MS + WINDOW_MS
}

/// Mean, smallest, largest, sum and count. The sum is exact: each value is a multiple of 2^-70,
/// which `i128` holds; the conversion rounds once, to the nearest.
fn gauge(events: &[&Event]) -> [Value; 5] {
    let values: Vec<f64> = events.iter().filter_map(|event| event.temperature).collect();
    let float = |value: f64| Value::Float((value + 0.0).to_bits());
    if values.is_empty() {
        return [Value::Null, Value::Null, Value::Null, Value::Null, Value::UInt(0)];
    }
    let scale = 2_f64.powi(70);
    let total: i128 = values.iter().map(|value| (value * scale) as i128).sum();
    let sum = total as f64 / scale;
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let count = values.len();
    [float(sum / count as f64), float(least), float(most), float(sum), Value::UInt(count as u64)]
}

fn most_frequent(events: &[&Event]) -> Option<i64> {
    let mut counts = BTreeMap::new();
    for state in events.iter().filter_map(|event| event.state) {
        *counts.entry(state).or_insert(0_u64) += 1;
    }
    let best = counts.iter().max_by_key(|(state, count)| (**count, -**state));
    best.map(|(state, _)| *state)
}

//! The naive reference: what rows, letters and progress a log must give.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use tidemill_kernel::{
    event::{Position, Reason},
    ledger::Ledger,
    rollup::Progress,
    row::Cell,
    schema::{Aggregate, Field, Role, Schema, ValueType},
};

use crate::exact::{nearest, units, units_of_int};

/// A value of a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Float(f64),
    Int(i64),
    Text(String),
}

/// A message as the decoder would hand it over.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) position: Position,
    pub(crate) publish_time_ms: i64,
    pub(crate) time_ms: i64,
    pub(crate) reject: Option<Reason>,
    pub(crate) key: Vec<String>,
    /// One per field of the schema; nothing for keys and time.
    pub(crate) values: Vec<Option<Value>>,
    pub(crate) invalid_count: u32,
}

/// The settings that decide rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) size_ms: i64,
    pub(crate) offset_ms: i64,
    pub(crate) max_out_of_orderness_ms: i64,
    pub(crate) allowed_lateness_ms: i64,
    pub(crate) max_future_skew_ms: i64,
    pub(crate) devices_max: usize,
    pub(crate) generation: u32,
}

pub(crate) const PIPELINE: &str = "p";
pub(crate) const PARTITION: &str = "topic-0";

/// A cell that compares floats by their bits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owned {
    Null,
    Float(u64),
    Int(i64),
    UInt(u64),
    Text(String),
}

impl Owned {
    pub(crate) fn of(cell: &Cell<'_>) -> Owned {
        match cell {
            Cell::Null => Owned::Null,
            Cell::Float(value) => Owned::Float(value.to_bits()),
            Cell::Int(value) => Owned::Int(*value),
            Cell::UInt(value) => Owned::UInt(*value),
            Cell::Text(value) => Owned::Text((*value).into()),
        }
    }
}

pub(crate) type Row = Vec<Owned>;

/// The lane by brute force.
#[derive(Clone, Debug)]
pub(crate) struct Naive<'a> {
    schema: &'a Schema,
    rules: Rules,
    highest_ms: Option<i64>,
    finished: bool,
    /// Open windows by end, keys in them, events of those.
    open: BTreeMap<i64, BTreeMap<Vec<String>, Vec<&'a Sent>>>,
    /// How many events a row had when it was last emitted.
    emitted: BTreeMap<(i64, Vec<String>), usize>,
    closed_until_ms: i64,
    processed: Option<Position>,
    ledger: Ledger,
    pub(crate) saturated_count: u64,
}

impl<'a> Naive<'a> {
    pub(crate) fn new(schema: &'a Schema, rules: Rules) -> Naive<'a> {
        Naive {
            schema,
            rules,
            highest_ms: None,
            finished: false,
            open: BTreeMap::new(),
            emitted: BTreeMap::new(),
            closed_until_ms: i64::MIN,
            processed: None,
            ledger: Ledger::default(),
            saturated_count: 0,
        }
    }

    /// Takes the next message; returns the reason of its letter and the rows that close.
    pub(crate) fn step(&mut self, sent: &'a Sent) -> (Option<Reason>, Vec<Row>) {
        self.ledger.messages += 1;
        self.processed = Some(sent.position);
        if let Some(reason) = self.refusal(sent) {
            let late = reason == Reason::Late;
            self.ledger.late += u64::from(late);
            self.ledger.rejected += u64::from(!late);
            return (Some(reason), Vec::new());
        }
        self.ledger.open += 1;
        let window = self.open.entry(self.window_end(sent.time_ms)).or_default();
        window.entry(sent.key.clone()).or_default().push(sent);
        self.highest_ms = self.highest_ms.max(Some(sent.time_ms));
        (None, self.close())
    }

    fn refusal(&self, sent: &Sent) -> Option<Reason> {
        if sent.reject.is_some() {
            return sent.reject;
        }
        if sent.time_ms - sent.publish_time_ms > self.rules.max_future_skew_ms {
            return Some(Reason::Future);
        }
        let end_ms = self.window_end(sent.time_ms);
        if self.is_closed(end_ms) {
            return Some(Reason::Late);
        }
        let keys = self.open.get(&end_ms);
        let known = keys.is_some_and(|keys| keys.contains_key(&sent.key));
        let full = keys.map_or(0, BTreeMap::len) >= self.rules.devices_max;
        (!known && full).then_some(Reason::DeviceLimit)
    }

    /// The window [start, start + size) with start = offset modulo size.
    fn window_end(&self, time_ms: i64) -> i64 {
        let Rules { size_ms, offset_ms, .. } = self.rules;
        (time_ms - offset_ms).div_euclid(size_ms) * size_ms + offset_ms + size_ms
    }

    /// A window is closed when the watermark has reached its end plus the allowed lateness.
    fn is_closed(&self, end_ms: i64) -> bool {
        let rules = &self.rules;
        let by_watermark = self.highest_ms.is_some_and(|highest_ms| {
            highest_ms - rules.max_out_of_orderness_ms >= end_ms + rules.allowed_lateness_ms
        });
        by_watermark || (self.finished && end_ms <= self.closed_until_ms)
    }

    fn close(&mut self) -> Vec<Row> {
        let ends: Vec<i64> = self.open.keys().copied().filter(|end| self.is_closed(*end)).collect();
        if let Some(highest_ms) = self.highest_ms {
            let reach = highest_ms
                - self.rules.max_out_of_orderness_ms
                - self.rules.allowed_lateness_ms
                - self.rules.offset_ms;
            let edge = reach.div_euclid(self.rules.size_ms) * self.rules.size_ms;
            self.closed_until_ms = self.closed_until_ms.max(edge + self.rules.offset_ms);
        }
        let mut rows = Vec::new();
        for end_ms in ends {
            rows.extend(self.changed_rows(end_ms));
            let window = self.open.remove(&end_ms).expect("at least one event");
            let count: usize = window.values().map(Vec::len).sum();
            self.ledger.open -= count as u64;
            self.ledger.aggregated += count as u64;
        }
        rows
    }

    /// Emits what has changed in the open windows and keeps them open.
    pub(crate) fn idle(&mut self) -> Vec<Row> {
        let ends: Vec<i64> = self.open.keys().copied().collect();
        ends.into_iter().flat_map(|end_ms| self.changed_rows(end_ms)).collect()
    }

    /// The end of the input.
    pub(crate) fn finish(&mut self) -> Vec<Row> {
        self.finished = true;
        if let Some(newest) = self.open.keys().next_back() {
            self.closed_until_ms = self.closed_until_ms.max(*newest);
        }
        self.close()
    }

    pub(crate) fn progress(&self) -> Progress {
        let events = self.open.values().flat_map(BTreeMap::values).flatten();
        Progress {
            ordinal: self.ledger.messages,
            closed_until_ms: self.closed_until_ms,
            highest_event_time_ms: self.highest_ms.unwrap_or(i64::MIN),
            processed: self.processed,
            resume: events.map(|sent| sent.position).min(),
            ledger: self.ledger,
        }
    }

    fn changed_rows(&mut self, end_ms: i64) -> Vec<Row> {
        let mut rows = Vec::new();
        for (key, events) in &self.open[&end_ms] {
            let before = self.emitted.insert((end_ms, key.clone()), events.len());
            if before != Some(events.len()) {
                let (row, saturated_count) = self.row(end_ms, key, events);
                self.saturated_count += saturated_count;
                rows.push(row);
            }
        }
        rows
    }

    /// Works a row out from the events it is to hold.
    pub(crate) fn row(&self, end_ms: i64, key: &[String], events: &[&Sent]) -> (Row, u64) {
        let size_ms = self.rules.size_ms;
        let start_ms = end_ms - size_ms;
        let mut row = vec![Owned::UInt(end_ms as u64 / 1000)];
        row.extend(key.iter().cloned().map(Owned::Text));
        let mut saturated_count = 0;
        for (index, field) in self.schema.fields().iter().enumerate() {
            let carried: Vec<(i64, Value)> = events
                .iter()
                .filter_map(|sent| Some((sent.time_ms, sent.values[index].clone()?)))
                .collect();
            for aggregate in &field.aggregates {
                let (cell, saturated) = aggregate_cell(field, *aggregate, &carried);
                saturated_count += u64::from(saturated);
                row.push(cell);
            }
        }
        let mut slots = [false; 60];
        for sent in events {
            slots[((sent.time_ms - start_ms) * 60 / size_ms) as usize] = true;
        }
        let filled = slots.iter().filter(|slot| **slot).count();
        let gap =
            slots.split(|slot| *slot).map(<[bool]>::len).max().expect("at least one event") as i64;
        let invalid_count: u64 = events.iter().map(|sent| u64::from(sent.invalid_count)).sum();
        let times = || events.iter().map(|sent| sent.time_ms);
        let revision = u64::from(self.rules.generation) << 44 | self.ledger.messages;
        row.extend([
            // The stores' seconds have no sign; only the first window of 1970 can start before.
            Owned::UInt(start_ms.max(0) as u64 / 1000),
            Owned::UInt(events.len() as u64),
            Owned::UInt(invalid_count),
            Owned::Int(times().min().expect("at least one event")),
            Owned::Int(times().max().expect("at least one event")),
            Owned::Float((filled as f64 / 60.0).to_bits()),
            Owned::UInt((gap * size_ms / 60) as u64),
            Owned::Text(PIPELINE.into()),
            Owned::Text(PARTITION.into()),
            Owned::UInt(revision),
        ]);
        (row, saturated_count)
    }
}

/// Returns the cell of an aggregate over (event time, value), and whether it was saturated.
fn aggregate_cell(field: &Field, aggregate: Aggregate, carried: &[(i64, Value)]) -> (Owned, bool) {
    if aggregate == Aggregate::Count {
        return (Owned::UInt(carried.len() as u64), false);
    }
    if carried.is_empty() {
        return (Owned::Null, false);
    }
    let values = || carried.iter().map(|(_, value)| value);
    match aggregate {
        Aggregate::Avg | Aggregate::Sum => sum_cell(field, aggregate, carried),
        Aggregate::Min => (cell(field, smallest(values())), false),
        Aggregate::Max => (cell(field, largest(values())), false),
        Aggregate::First | Aggregate::Last => {
            let times = carried.iter().map(|(time_ms, _)| *time_ms);
            let first = aggregate == Aggregate::First;
            let at = if first { times.min() } else { times.max() }.expect("at least one event");
            let tied = carried.iter().filter(|(time_ms, _)| *time_ms == at);
            (cell(field, smallest(tied.map(|(_, value)| value))), false)
        }
        Aggregate::Majority => {
            let trues = values().filter(|value| **value == Value::Int(1)).count();
            (Owned::UInt(u64::from(trues > carried.len() - trues)), false)
        }
        Aggregate::MostFrequent => {
            let mut counts = BTreeMap::<i64, usize>::new();
            values().for_each(|value| *counts.entry(int(value)).or_default() += 1);
            let most = *counts.values().max().expect("at least one event");
            let code =
                counts.iter().find(|(_, count)| **count == most).expect("at least one event");
            (Owned::Int(*code.0), false)
        }
        Aggregate::Count => unreachable!("taken above"),
    }
}

fn sum_cell(field: &Field, aggregate: Aggregate, carried: &[(i64, Value)]) -> (Owned, bool) {
    let mean = |sum: f64| Owned::Float((sum / carried.len() as f64).to_bits());
    if field.value_type == ValueType::Float {
        let sum: BigInt = carried.iter().map(|(_, value)| units(float(value))).sum();
        let (sum, saturated) = nearest(&sum);
        let is_mean = aggregate == Aggregate::Avg;
        return (if is_mean { mean(sum) } else { Owned::Float(sum.to_bits()) }, saturated);
    }
    let sum: i128 = carried.iter().map(|(_, value)| i128::from(int(value))).sum();
    if aggregate == Aggregate::Avg {
        return (mean(nearest(&units_of_int(sum)).0), false);
    }
    let clamped = sum.clamp(i64::MIN.into(), i64::MAX.into());
    (Owned::Int(clamped as i64), clamped != sum)
}

fn float(value: &Value) -> f64 {
    match value {
        Value::Float(value) => *value,
        other => panic!("{other:?} is no float"),
    }
}

fn int(value: &Value) -> i64 {
    match value {
        Value::Int(value) => *value,
        other => panic!("{other:?} is no integer"),
    }
}

fn order(a: &Value, b: &Value) -> std::cmp::Ordering {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        other => panic!("{other:?} are of two types"),
    }
}

fn smallest<'v>(values: impl Iterator<Item = &'v Value>) -> &'v Value {
    values.min_by(|a, b| order(a, b)).expect("at least one event")
}

fn largest<'v>(values: impl Iterator<Item = &'v Value>) -> &'v Value {
    values.max_by(|a, b| order(a, b)).expect("at least one event")
}

fn cell(field: &Field, value: &Value) -> Owned {
    match (field.value_type, value) {
        (ValueType::Bool, Value::Int(value)) => Owned::UInt(*value as u64),
        (_, Value::Float(value)) => Owned::Float(value.to_bits()),
        (_, Value::Int(value)) => Owned::Int(*value),
        (_, Value::Text(value)) => Owned::Text(value.clone()),
    }
}

/// Returns whether a field has values at all.
pub(crate) fn has_values(field: &Field) -> bool {
    !matches!(field.role, Role::Key | Role::Time)
}

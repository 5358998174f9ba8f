//! Partial states that earlier versions wrote: what they hold stays readable, byte for byte.
//!
//! Each line of a file in `tests/fixtures` is a state as hex and the row that is made of it. A new
//! version of the format adds a file; none that is there changes.

use std::sync::Arc;

use foldhash::fast::FixedState;
use tidemill_kernel::{
    event::Position,
    partial::{self, Merger},
    plan::Plan,
    schema::{Aggregate, Field, Role, Schema, ValueType},
    time::{Timestamp, WindowGrid},
    window::{Finality, Lineage, Window},
};

use crate::{
    lane::rows,
    naive::{PARTITION, PIPELINE, Sent, Value},
    scenario::block,
};

const VERSION_1: &str = include_str!("../fixtures/partial-1.txt");
const START_MS: i64 = 1_767_225_600_000;

/// Every kind of value with every aggregate that it can have.
fn schema() -> Arc<Schema> {
    let mut fields = vec![
        Field::new("time", ValueType::Int, Role::Time),
        Field::new("site", ValueType::Text, Role::Key),
        Field::new("device", ValueType::Text, Role::Key),
        Field::new("temperature", ValueType::Float, Role::Gauge),
        Field::new("level", ValueType::Int, Role::Gauge),
        Field::new("motion", ValueType::Bool, Role::Flag),
        Field::new("status", ValueType::Int, Role::Code),
        Field::new("errors", ValueType::Int, Role::Counter),
        Field::new("model", ValueType::Text, Role::Attribute),
    ];
    for field in &mut fields[3..] {
        let has_codes = field.role == Role::Code;
        field.range = has_codes.then_some((0.0, 9.0));
        let fits = |kept: &&Aggregate| {
            kept.accepts(field.value_type) && (has_codes || **kept != Aggregate::MostFrequent)
        };
        field.aggregates = Aggregate::ALL.iter().filter(fits).copied().collect();
    }
    Arc::new(Schema::new(fields).expect("a schema"))
}

fn window() -> Window {
    let grid = WindowGrid::new(60_000, 0).expect("a grid");
    let start = Timestamp::from_ms(START_MS).expect("in range");
    Window::new(grid, grid.window_end(start), Position::default())
}

/// A message of some device; `kind` chooses what it carries.
fn sent(index: u32, kind: u32) -> Sent {
    let step = i64::from(index);
    let float = if kind == 1 { 1e300 } else { 20.1 + step as f64 / 10.0 };
    let values = [
        Some(Value::Float(float)),
        Some(Value::Int(i64::MAX - step)),
        Some(Value::Int(step % 2)),
        Some(Value::Int(step % 3)),
        Some(Value::Int(-7 * step)),
        Some(Value::Text(format!("Straße {index}"))),
    ];
    let kept = values.into_iter().filter(|_| kind < 2);
    let missing = (0..6).map(|_| None).take(if kind < 2 { 0 } else { 6 });
    Sent {
        position: Position::new(1, 2, index),
        publish_time_ms: START_MS,
        time_ms: START_MS + step * 7_001,
        reject: None,
        key: vec!["north".into(), format!("d{kind}")],
        values: [None, None, None].into_iter().chain(kept).chain(missing).collect(),
        invalid_count: kind,
    }
}

fn states() -> Vec<Vec<u8>> {
    let (schema, mut window) = (schema(), window());
    let plan = Plan::new(schema.clone());
    let log: Vec<Sent> = (0..8).map(|index| sent(index, index % 3)).collect();
    let block = block(&schema, &log);
    for index in 0..block.len() {
        let hasher = FixedState::with_seed(1);
        assert!(window.fold(&plan, &hasher, usize::MAX, &block.message(index)));
    }
    let mut states = partial::encode(&window, &plan);
    states.sort();
    states
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("hex"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect()
}

/// Reads a state back; returns the row and the state as it is written now.
fn read(state: &[u8]) -> (String, Vec<u8>) {
    let (schema, mut window) = (schema(), window());
    let plan = Arc::new(Plan::new(schema.clone()));
    let grid = WindowGrid::new(60_000, 0).expect("a grid");
    let mut merger = Merger::new(grid, plan.clone(), FixedState::with_seed(7));
    merger.merge(&mut window, state).expect("it is readable");
    let again = partial::encode(&window, &plan).remove(0);
    let lineage = Lineage {
        pipeline: PIPELINE,
        source_partition: PARTITION,
        revision: 5,
        finality: Finality::Final,
    };
    let mut pieces = Vec::new();
    window.emit(&plan, lineage, 100, &mut pieces);
    (format!("{:?}", rows(&schema, &pieces[0])[0]), again)
}

#[test]
fn states_of_version_1_stay_readable() {
    let mut count = 0;
    for line in VERSION_1.lines() {
        let (state, row) = line.split_once(' ').expect("a state and its row");
        let (found, again) = read(&bytes(state));
        assert_eq!(found, row);
        assert_eq!(hex(&again), state, "the format is still that of version 1");
        count += 1;
    }
    assert_eq!(count, 3);
}

#[test]
fn same_messages_still_give_the_states_of_version_1() {
    let written = states();
    let written: Vec<String> = written.iter().map(|state| hex(state)).collect();
    let stored = VERSION_1.lines().map(|line| line.split(' ').next().unwrap_or(""));
    assert_eq!(written, stored.collect::<Vec<_>>());
}

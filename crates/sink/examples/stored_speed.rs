//! Measures how long a store takes to give what is stored of 500 rows among a million:
//! `cargo run -p tidemill-sink --example stored_speed -- sensors.db`, or with
//! `http://127.0.0.1:8123` for a ClickHouse server, where it makes the database `stored_speed`.

#![allow(clippy::print_stdout, reason = "it prints what it measures")]

use std::{
    error::Error,
    time::{Duration, Instant},
};

use tidemill_engine::{
    port::{RowKey, Store},
    record::LaneId,
};
use tidemill_kernel::{
    row::{Cell, Column, ColumnKind, RowBlock},
    schema::{AMEND_COLUMNS, QUALITY_COLUMNS},
};
use tidemill_sink::{ClickHouseConfig, ClickHouseStore, EmbeddedConfig, EmbeddedStore};

const DEVICES: u64 = 500;
const MINUTES: u64 = 2_000;
/// 2026-01-01T00:00:00Z.
const START_S: u64 = 1_767_225_600;
/// Like a state of the sensor preset: the text is as long, and no two are alike.
const STATE_CHARS: usize = 605;
const KEYS: u64 = 500;
const ROUNDS: u64 = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let place = std::env::args().nth(1).ok_or("where? a file or http://host:port")?;
    let mut columns = vec![
        Column::new("time", ColumnKind::Seconds, false),
        Column::new("device_id", ColumnKind::Text, false),
        Column::new("temperature", ColumnKind::Float64, false),
    ];
    let more = QUALITY_COLUMNS.iter().chain(&AMEND_COLUMNS);
    columns.extend(more.map(|(name, kind)| Column::new(name, *kind, false)));
    let keys = ["device_id".to_owned()];
    let mut store: Box<dyn Store> = if place.starts_with("http") {
        let mut config = ClickHouseConfig::new(&place, "stored_speed.sensors");
        config.create = true;
        Box::new(ClickHouseStore::connect(config, &columns, &keys)?)
    } else {
        Box::new(EmbeddedStore::open(EmbeddedConfig::new(place, "sensors"), &columns, &keys)?)
    };
    let began = Instant::now();
    let mut random = 1;
    for minutes in (1..=MINUTES).collect::<Vec<u64>>().chunks(40) {
        store.write_rows(&[rows(&columns, minutes, &mut random)])?;
    }
    println!("{} rows written in {:.1?}", DEVICES * MINUTES, began.elapsed());
    let lane = LaneId::new("p", "0");
    for (what, minutes) in [("of a minute", 1), ("of all minutes", MINUTES)] {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let keys: Vec<RowKey> = (0..KEYS).map(|at| key(at, minutes, &mut random)).collect();
            let began = Instant::now();
            let found = store.stored(&lane, &keys)?;
            times.push(began.elapsed());
            assert!(found.iter().all(Option::is_some), "every row is there");
        }
        times.sort_unstable();
        let [least, median, most]: [Duration; 3] =
            [times[0], times[times.len() / 2], times[times.len() - 1]];
        println!("{KEYS} rows {what}: median {median:.1?}, from {least:.1?} to {most:.1?}");
    }
    Ok(())
}

fn next(random: &mut u64) -> u64 {
    *random =
        random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *random >> 33
}

fn device(number: u64) -> String {
    format!("sensor_{number:03}")
}

/// Returns the key of a row of the last minutes.
fn key(at: u64, minutes: u64, random: &mut u64) -> RowKey {
    let minute = MINUTES - next(random) % minutes;
    RowKey { end_ms: ((START_S + minute * 60) * 1000) as i64, key: vec![device(at % DEVICES)] }
}

fn rows(columns: &[Column], minutes: &[u64], random: &mut u64) -> RowBlock {
    let mut block = RowBlock::new();
    for (minute, number) in minutes.iter().flat_map(|m| (0..DEVICES).map(move |d| (m, d))) {
        let (end_s, device) = (START_S + minute * 60, device(number));
        let state: String =
            (0..STATE_CHARS).map(|_| char::from(b'A' + (next(random) % 26) as u8)).collect();
        for column in columns {
            let cell = match column.name.as_str() {
                "time" => Cell::UInt(end_s),
                "window_start" => Cell::UInt(end_s - 60),
                "device_id" => Cell::Text(&device),
                "pipeline" => Cell::Text("p"),
                "source_partition" => Cell::Text("0"),
                "finality" => Cell::Text("final"),
                "partial_state" => Cell::Text(&state),
                "first_event_time" | "last_event_time" => Cell::Int(end_s as i64 * 1000 - 7),
                "temperature" => Cell::Float(next(random) as f64),
                "coverage" => Cell::Float(1.0),
                _ => Cell::UInt(1),
            };
            block.push(column, cell);
        }
        block.end_row();
    }
    block
}

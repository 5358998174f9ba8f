//! What a message costs with a typed parser, sonic-rs into a struct, and our fold and rows behind
//! it: `typed-parser-bench FILE REPEATS`, sets a, b, d and e of the kernel's benchmark.
//!
//! The struct is known when this is compiled, and every field must be there; ranges are not looked
//! at. Prints one line of JSON as `kernel_speed` does.

use std::{error::Error, fs, sync::Arc};

use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use tidemill_kernel::{
    amend::LatePolicy,
    effect::Effects,
    event::{EventBlock, Position},
    plan::Plan,
    rollup::{Progress, Rollup, RollupConfig},
    schema::{Aggregate, Field, Role, Schema, ValueType},
    time::{DurationMs, Timestamp, WindowGrid},
};

const MINUTE_MS: i64 = 60_000;
const BLOCK_MESSAGES: usize = 256;
/// Messages between two readings of the clock.
const STRETCH_MESSAGES: usize = 1_000;
const PUBLISH_MS: i64 = 1_800_000_000_000;

#[derive(Deserialize)]
struct Sensor<'a> {
    device_id: &'a str,
    time: i64,
    device_type: &'a str,
    customer_id: &'a str,
    site_id: &'a str,
    latitude: f64,
    longitude: f64,
    altitude: f64,
    temperature: f64,
    humidity: f64,
    pressure: f64,
    co2_level: f64,
    noise_level: f64,
    light_level: f64,
    battery_level: f64,
    signal_strength: f64,
    memory_usage: f64,
    cpu_usage: f64,
    motion_detected: i64,
    status: i64,
    error_count: i64,
    packets_sent: i64,
    packets_received: i64,
    bytes_sent: i64,
    bytes_received: i64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [data, repeats] = &arguments[..] else {
        return Err("usage: typed-parser-bench FILE REPEATS".into());
    };
    let file = fs::read(data)?;
    let lines: Vec<&[u8]> =
        file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let (mut passes, mut least, mut rows) = (Vec::new(), Vec::new(), 0);
    for _ in 0..repeats.parse::<usize>()?.max(1) {
        let (spent_ns, row_count) = pass(&lines)?;
        passes.push(spent_ns.iter().sum::<u64>() as f64 / 1e9);
        if least.is_empty() {
            least.clone_from(&spent_ns);
        }
        least.iter_mut().zip(&spent_ns).for_each(|(least, spent)| *least = *spent.min(least));
        rows = row_count;
    }
    let least_s = least.iter().sum::<u64>() as f64 / 1e9;
    println!(
        "{{\"messages\":{},\"rows\":{rows},\"least_s\":{least_s},\"passes\":{passes:?}}}",
        lines.len()
    );
    Ok(())
}

/// Parses and folds all lines; returns what each stretch took, the end as the last, and the rows.
fn pass(lines: &[&[u8]]) -> Result<(Vec<u64>, usize), Box<dyn Error>> {
    let schema = Arc::new(sensor_schema()?);
    let (mut block, mut effects) = (EventBlock::new(&schema), Effects::default());
    let mut rollup = Rollup::new(config(&schema), &Progress::BIRTH);
    let (mut spent_ns, mut rows, mut number) = (Vec::new(), 0, 0);
    for stretch in lines.chunks(STRETCH_MESSAGES) {
        let start_ns = cpu_ns();
        for chunk in stretch.chunks(BLOCK_MESSAGES) {
            block.clear();
            for line in chunk {
                push(&mut block, &sonic_rs::from_slice(line)?, number);
                number += 1;
            }
            rollup.step(&block, &mut effects)?;
        }
        rows += take_rows(&mut effects);
        spent_ns.push(cpu_ns() - start_ns);
    }
    let start_ns = cpu_ns();
    rollup.finish(&mut effects)?;
    rows += take_rows(&mut effects);
    spent_ns.push(cpu_ns() - start_ns);
    Ok((spent_ns, rows))
}

fn take_rows(effects: &mut Effects) -> usize {
    effects.closed.clear();
    effects.rows.drain(..).map(|piece| piece.row_count()).sum()
}

#[inline]
fn push(block: &mut EventBlock, sensor: &Sensor<'_>, number: u64) {
    block.begin(Position::new(0, number, 0), PUBLISH_MS);
    block.set_floats(
        [
            sensor.latitude,
            sensor.longitude,
            sensor.altitude,
            sensor.temperature,
            sensor.humidity,
            sensor.pressure,
            sensor.co2_level,
            sensor.noise_level,
            sensor.light_level,
            sensor.battery_level,
            sensor.signal_strength,
            sensor.memory_usage,
            sensor.cpu_usage,
        ]
        .map(Some),
    );
    block.set_ints(
        [
            sensor.motion_detected,
            sensor.status,
            sensor.error_count,
            sensor.packets_sent,
            sensor.packets_received,
            sensor.bytes_sent,
            sensor.bytes_received,
        ]
        .map(Some),
    );
    block.set_text(0, sensor.device_type);
    block.set_text(1, sensor.customer_id);
    block.set_text(2, sensor.site_id);
    let time = Timestamp::from_ms(sensor.time).expect("the generator's times are in range");
    block.finish(time, [sensor.device_id]);
}

/// The preset's fields in the order of the slots that [`push`] fills.
fn sensor_schema() -> Result<Schema, Box<dyn Error>> {
    let mut fields = vec![
        Field::new("device_id", ValueType::Text, Role::Key),
        Field::new("time", ValueType::Int, Role::Time),
    ];
    let mut add = |names: &str, value_type, role| {
        fields.extend(names.split(' ').map(|name| Field::new(name, value_type, role)));
    };
    add("device_type customer_id site_id", ValueType::Text, Role::Attribute);
    add("latitude longitude altitude", ValueType::Float, Role::Attribute);
    add("temperature humidity pressure co2_level noise_level", ValueType::Float, Role::Gauge);
    add("light_level battery_level signal_strength", ValueType::Float, Role::Gauge);
    add("memory_usage cpu_usage", ValueType::Float, Role::Gauge);
    add("motion_detected", ValueType::Bool, Role::Flag);
    add("status", ValueType::Int, Role::Code);
    add("error_count packets_sent packets_received", ValueType::Int, Role::Counter);
    add("bytes_sent bytes_received", ValueType::Int, Role::Counter);
    let temperature = fields.iter_mut().find(|field| field.name == "temperature");
    temperature.expect("just added").aggregates =
        vec![Aggregate::Avg, Aggregate::Min, Aggregate::Max, Aggregate::Sum, Aggregate::Count];
    Ok(Schema::new(fields)?)
}

fn config(schema: &Arc<Schema>) -> RollupConfig {
    RollupConfig {
        plan: Arc::new(Plan::new(schema.clone())),
        grid: WindowGrid::new(MINUTE_MS, 0).expect("a minute"),
        max_out_of_orderness: DurationMs::from_ms(5_000),
        allowed_lateness: DurationMs::ZERO,
        late: LatePolicy::DeadLetter,
        max_future_skew: DurationMs::from_ms(5 * MINUTE_MS),
        devices_max: 2_000_000,
        piece_rows_max: 50_000,
        generation: 0,
        pipeline: "bench".into(),
        source_partition: "0".into(),
        hash_seed: 7,
    }
}

fn cpu_ns() -> u64 {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    spent.tv_sec as u64 * 1_000_000_000 + spent.tv_nsec as u64
}

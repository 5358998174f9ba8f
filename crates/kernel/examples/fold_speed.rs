//! Measures the roll-up alone: CPU time per message and resident bytes per open device-minute.
//!
//! `cargo run --release -p tidemill-kernel --example fold_speed -- [DEVICES [MESSAGES]]`; with
//! callgrind, `bench/check.py` counts the instructions of `fold`. Blocks are filled outside of the
//! measured stretches; decoding, emitting and storing are not in the figures.

#![expect(clippy::print_stdout, reason = "it prints figures")]

use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use tidemill_kernel::{
    amend::LatePolicy,
    effect::Effects,
    event::{EventBlock, Position},
    plan::Plan,
    rollup::{Progress, Rollup, RollupConfig},
    schema::{Aggregate, Field, Role, Schema, Slot, ValueType},
    time::{DurationMs, Timestamp, WindowGrid},
};

const MINUTE_MS: i64 = 60_000;
const BLOCK_MESSAGES: usize = 256;
/// Blocks between two readings of the clock; they stay in the second-level cache's reach.
const POOL_BLOCKS: usize = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let number = |index| std::env::args().nth(index).map(|text| text.parse()).transpose();
    let (only, messages): (Option<usize>, Option<usize>) = (number(1)?, number(2)?);
    for devices in [500, 10_000, 1_000_000] {
        if only.is_none_or(|only| only == devices) {
            measure(devices, messages.unwrap_or(4_000_000))?;
        }
    }
    Ok(())
}

fn measure(devices: usize, messages: usize) -> Result<(), Box<dyn std::error::Error>> {
    let schema = Arc::new(sensor_schema()?);
    let mut pool: Vec<EventBlock> = (0..POOL_BLOCKS).map(|_| EventBlock::new(&schema)).collect();
    let mut load = Load { random: 7, sent: 0, devices };
    fill(&mut pool, &schema, &mut load);
    load.sent = 0;
    let mut rollup = Rollup::new(config(&schema, devices), &Progress::BIRTH);
    let mut effects = Effects::default();
    let before_bytes = resident_bytes()?;
    let (mut first, mut later, mut after_bytes) = (Vec::new(), Vec::new(), None);
    while load.sent < messages {
        let is_first = load.sent < devices;
        fill(&mut pool, &schema, &mut load);
        let start_ns = cpu_ns();
        fold(&mut rollup, &pool, &mut effects)?;
        let spent_ns = (cpu_ns() - start_ns) as f64 / (POOL_BLOCKS * BLOCK_MESSAGES) as f64;
        if is_first {
            first.push(spent_ns)
        } else {
            later.push(spent_ns)
        }
        if load.sent >= devices && after_bytes.is_none() {
            after_bytes = Some(resident_bytes()? - before_bytes);
        }
    }
    let open: usize = rollup.windows().iter().map(|window| window.device_count()).sum();
    let bytes = after_bytes.unwrap_or_default() as f64 / devices as f64;
    println!(
        "{devices} devices: ns/message {}, first of a device-minute {}; \
         {bytes:.0} bytes/device-minute ({open} open)",
        spread(&mut later),
        spread(&mut first),
    );
    Ok(())
}

/// Folds blocks; a function of its own, so that its instructions can be counted.
#[inline(never)]
fn fold(
    rollup: &mut Rollup,
    pool: &[EventBlock],
    effects: &mut Effects,
) -> Result<(), Box<dyn std::error::Error>> {
    for block in pool {
        rollup.step(block, effects)?;
    }
    Ok(())
}

/// The quietest tenth and the median of the stretches: on a shared machine the median tells more
/// of the neighbours.
fn spread(stretches: &mut [f64]) -> String {
    stretches.sort_unstable_by(f64::total_cmp);
    let at = |share: usize| stretches.get(stretches.len() * share / 100).copied();
    format!("{:.0} (median {:.0})", at(10).unwrap_or_default(), at(50).unwrap_or_default())
}

fn sensor_schema() -> Result<Schema, Box<dyn std::error::Error>> {
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

fn config(schema: &Arc<Schema>, devices: usize) -> RollupConfig {
    RollupConfig {
        plan: Arc::new(Plan::new(schema.clone())),
        grid: WindowGrid::new(MINUTE_MS, 0).expect("a minute"),
        max_out_of_orderness: DurationMs::from_ms(5_000),
        allowed_lateness: DurationMs::ZERO,
        max_future_skew: DurationMs::from_ms(5 * MINUTE_MS),
        late: LatePolicy::DeadLetter,
        devices_max: devices,
        piece_rows_max: 10_000,
        generation: 0,
        pipeline: "sensors".into(),
        source_partition: "0".into(),
        hash_seed: 7,
    }
}

/// Messages of one minute: first one of each device in a mixed order, then devices at random.
struct Load {
    random: u64,
    sent: usize,
    devices: usize,
}

impl Load {
    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn device(&mut self) -> usize {
        // A prime that divides none of the device counts visits each device once.
        let drawn = if self.sent < self.devices {
            (self.sent * 7_919) % self.devices
        } else {
            self.next() as usize % self.devices
        };
        self.sent += 1;
        drawn
    }

    fn hundredths(&mut self, low: f64, high: f64) -> f64 {
        let steps = ((high - low) * 100.0) as u64;
        low + (self.next() % steps) as f64 / 100.0
    }
}

fn fill(pool: &mut [EventBlock], schema: &Schema, load: &mut Load) {
    for block in pool {
        block.clear();
        for _ in 0..BLOCK_MESSAGES {
            push_message(block, schema, load);
        }
    }
}

fn push_message(block: &mut EventBlock, schema: &Schema, load: &mut Load) {
    let device = load.device();
    let time_ms = 1_700_000_040_000 + (load.next() % MINUTE_MS as u64) as i64;
    block.begin(Position::new(0, load.sent as u64, 0), time_ms);
    for (field, slot) in schema.fields().iter().zip(schema.slots()) {
        match *slot {
            Slot::Float(slot) => block.set_float(slot, load.hundredths(-40.0, 1100.0)),
            Slot::Int(slot) if field.role == Role::Flag => {
                block.set_int(slot, (load.next() & 1) as i64);
            }
            Slot::Int(slot) if field.role == Role::Code => {
                // Nearly always one status, now and then another.
                block.set_int(slot, load.next().is_multiple_of(50).into());
            }
            Slot::Int(slot) => block.set_int(slot, (load.next() % 100_000) as i64),
            Slot::Text(slot) if slot == 0 => block.set_text(slot, "temperature_sensor"),
            Slot::Text(slot) => block.set_text(slot, format!("site_{:03}", device % 400)),
            Slot::Key(_) | Slot::Time => {}
        }
    }
    let time = Timestamp::from_ms(time_ms).expect("a time in range");
    block.finish(time, [format!("sensor_{device:07}").as_str()]);
}

fn cpu_ns() -> u64 {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    spent.tv_sec as u64 * 1_000_000_000 + spent.tv_nsec as u64
}

fn resident_bytes() -> Result<u64, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split(' ').nth(1).ok_or("no resident pages in statm")?.parse()?;
    Ok(pages * 4096)
}

//! What folding messages into open windows costs on one thread, by the number of devices.
//!
//! `cargo bench -p tidemill-kernel`; `-- fold/500` measures that number alone. An iteration folds
//! 16 blocks, 4,096 messages of known devices, which were made right before. `bench/check.py`
//! counts the instructions of `fold`. First messages of devices, rows and memory are measured by
//! `bench/run.sh kernel`.

use std::sync::Arc;

use divan::{Bencher, counter::ItemsCount};
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
/// Blocks of an iteration; they stay in the second-level cache's reach.
const POOL_BLOCKS: usize = 16;

fn main() {
    divan::main();
}

#[divan::bench(args = [500, 10_000, 1_000_000], sample_count = 200, sample_size = 1)]
fn known_devices(bencher: Bencher<'_, '_>, devices: usize) {
    let schema = Arc::new(sensor_schema().expect("a schema"));
    let mut load = Load { random: 7, sent: 0, devices };
    let mut rollup = Rollup::new(config(&schema, devices), &Progress::BIRTH);
    let mut effects = Effects::default();
    while load.sent < devices {
        let pool = pool(&schema, &mut load);
        pool.iter().for_each(|block| rollup.step(block, &mut effects).expect("no replay"));
    }
    bencher
        .counter(ItemsCount::new(POOL_BLOCKS * BLOCK_MESSAGES))
        .with_inputs(|| pool(&schema, &mut load))
        .bench_local_refs(|pool| fold(&mut rollup, pool, &mut effects));
}

/// Folds blocks; a function of its own, so that its instructions can be counted.
#[inline(never)]
fn fold(rollup: &mut Rollup, pool: &[EventBlock], effects: &mut Effects) {
    pool.iter().for_each(|block| rollup.step(block, effects).expect("no replay"));
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

/// Makes the blocks of an iteration.
fn pool(schema: &Schema, load: &mut Load) -> Vec<EventBlock> {
    let block = |_| {
        let mut block = EventBlock::new(schema);
        (0..BLOCK_MESSAGES).for_each(|_| push_message(&mut block, schema, load));
        block
    };
    (0..POOL_BLOCKS).map(block).collect()
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

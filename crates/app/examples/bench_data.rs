//! Writes the messages that the benchmarks read: NDJSON in named sets, always the same bytes.
//!
//! `cargo run --release -p tidemill --example bench_data -- SET MESSAGES FILE`; the sets are those
//! of [`Set::named`]. 13,468 messages come per second of event time (4 million in 297 s), each up
//! to 3 s out of order, so that the density of a device does not depend on how many are written.

#![expect(clippy::print_stdout, reason = "it says what it wrote")]

use std::{
    error::Error,
    fs::File,
    io::{BufWriter, Write},
};

/// A whole minute.
const START_MS: u64 = 1_700_000_040_000;
const SPREAD_MS: u64 = 3_000;
const MESSAGES_PER_SPAN: u64 = 4_000_000;
const SPAN_MS: u64 = 297_000;
/// What an optional field is, by its place in [`sensor`]: altitude, humidity, pressure, CO2, noise,
/// light, battery, signal.
const OPTIONAL: [usize; 8] = [6, 9, 10, 11, 12, 13, 15, 16];
const KINDS: [&str; 10] = [
    "temperature",
    "humidity",
    "pressure",
    "motion",
    "light",
    "co2",
    "noise",
    "multisensor",
    "air_quality",
    "thermostat",
];

/// In which order members stand.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Fixed,
    /// Four producers, each with its order and members that the schema does not know.
    OfFourProducers,
    /// Drawn for every message.
    Any,
}

/// What sets a data set apart.
#[derive(Clone, Copy)]
struct Set {
    devices: u64,
    id_prefix: &'static str,
    /// Shortest decimals of 32- and 64-bit floats, RFC 3339 and `true`/`false`, as Java writes.
    is_long: bool,
    order: Order,
    /// Percent of the messages in which one of the optional fields lacks.
    lacking_percent: u64,
    /// Whether it is then `null` and not absent.
    is_null: bool,
    /// The twelve fields of [`machine`] instead of those of the preset.
    is_own: bool,
}

impl Set {
    fn named(name: &str) -> Result<Set, String> {
        let a = Set {
            devices: 10_000,
            id_prefix: "sensor_0",
            is_long: false,
            order: Order::Fixed,
            lacking_percent: 0,
            is_null: false,
            is_own: false,
        };
        let lacking = |lacking_percent, is_null| Set { lacking_percent, is_null, ..a };
        Ok(match name {
            "a" => a,
            "b" => Set { devices: 1_000_000, id_prefix: "sensor_", ..a },
            "c" => Set { is_long: true, ..a },
            "d" => Set { order: Order::Any, ..a },
            "e" => Set { order: Order::OfFourProducers, ..a },
            "absent5" => lacking(5, false),
            "absent20" => lacking(20, false),
            "null5" => lacking(5, true),
            "null20" => lacking(20, true),
            // 37 bytes with the five digits of the device.
            "ids37" => Set { id_prefix: "urn:dev:mac:0024befffe80:sensor_", ..a },
            "own" => Set { is_own: true, ..a },
            other => return Err(format!("there is no set {other:?}")),
        })
    }
}

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (self.next() >> 11) as f64 / (1_u64 << 53) as f64 * (high - low)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

/// The members of one message, each `"name":value`.
#[derive(Default)]
struct Members {
    texts: Vec<Vec<u8>>,
    count: usize,
}

impl Members {
    fn add(&mut self, name: &str, value: std::fmt::Arguments<'_>) {
        if self.count == self.texts.len() {
            self.texts.push(Vec::new());
        }
        let text = &mut self.texts[self.count];
        text.clear();
        self.count += 1;
        write!(text, "\"{name}\":{value}").expect("memory takes it");
    }

    fn decimal(&mut self, is_long: bool, name: &str, value: f64, places: usize) {
        if is_long {
            self.add(name, format_args!("{:?}", value as f32));
        } else {
            self.add(name, format_args!("{value:.places$}"));
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, messages, path] = &arguments[..] else {
        return Err("usage: bench_data SET MESSAGES FILE".into());
    };
    let (set, messages) = (Set::named(name)?, messages.parse()?);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut random = Random(42);
    let mut orders = [const { Vec::new() }; 4];
    for (producer, order) in orders.iter_mut().enumerate() {
        order.extend(0..25 + unknown_count(producer));
        random.shuffle(order);
    }
    let (mut members, mut line, mut order, mut bytes) = (Members::default(), Vec::new(), vec![], 0);
    for index in 0..messages {
        let device = random.below(set.devices);
        let time_ms = START_MS + index * SPAN_MS / MESSAGES_PER_SPAN + random.below(SPREAD_MS);
        members.count = 0;
        match set.is_own {
            true => machine(&mut random, device, time_ms, &mut members),
            false => sensor(&set, &mut random, device, time_ms, &mut members),
        }
        order.clear();
        order.extend(0..members.count);
        match set.order {
            Order::Fixed => {}
            Order::Any => random.shuffle(&mut order),
            Order::OfFourProducers => {
                let producer = device as usize % orders.len();
                unknown(producer, &mut random, &mut members);
                order.clone_from(&orders[producer]);
            }
        }
        if random.below(100) < set.lacking_percent {
            let lacking = OPTIONAL[random.below(OPTIONAL.len() as u64) as usize];
            lack(set.is_null, lacking, &mut members, &mut order);
        }
        join(&members, &order, &mut line);
        bytes += line.len();
        file.write_all(&line)?;
    }
    file.flush()?;
    println!("{path}: {messages} messages of set {name}, {bytes} bytes");
    Ok(())
}

/// Lets a member be `null`, or not be at all.
fn lack(is_null: bool, lacking: usize, members: &mut Members, order: &mut Vec<usize>) {
    if is_null {
        let text = &mut members.texts[lacking];
        let colon = text.iter().position(|byte| *byte == b':').expect("a member has a colon");
        text.truncate(colon + 1);
        text.extend(b"null");
    } else {
        order.retain(|at| *at != lacking);
    }
}

fn join(members: &Members, order: &[usize], line: &mut Vec<u8>) {
    line.clear();
    for at in order {
        line.push(if line.is_empty() { b'{' } else { b',' });
        line.extend_from_slice(&members.texts[*at]);
    }
    line.extend_from_slice(b"}\n");
}

/// The 25 fields of preset "sensor".
fn sensor(set: &Set, random: &mut Random, device: u64, time_ms: u64, members: &mut Members) {
    // What is constant for a device is drawn from its number.
    let mut own = Random(device.wrapping_mul(0xd134_2543_de82_ef95) ^ 77);
    let is_long = set.is_long;
    let prefix = set.id_prefix;
    let digits = if set.devices > 100_000 { 6 } else { 5 };
    members.add("device_id", format_args!("\"{prefix}{device:0digits$}\""));
    members.add("device_type", format_args!("\"{}\"", KINDS[own.below(10) as usize]));
    members.add("customer_id", format_args!("\"cust_{:04}\"", own.below(10_000)));
    members.add("site_id", format_args!("\"site_{:03}\"", own.below(1_000)));
    let (latitude, longitude) = (own.between(25.0, 49.0), own.between(-125.0, -67.0));
    if is_long {
        members.add("latitude", format_args!("{latitude:?}"));
        members.add("longitude", format_args!("{longitude:?}"));
        members.decimal(is_long, "altitude", own.between(0.0, 3_000.0), 1);
        members.add("time", format_args!("\"{}\"", rfc3339(time_ms)));
    } else {
        members.decimal(is_long, "latitude", latitude, 4);
        members.decimal(is_long, "longitude", longitude, 4);
        members.decimal(is_long, "altitude", own.between(0.0, 3_000.0), 1);
        members.add("time", format_args!("{time_ms}"));
    }
    // The sign of a temperature is not constant.
    members.decimal(is_long, "temperature", random.between(-5.0, 40.0), 2);
    members.decimal(is_long, "humidity", random.between(20.0, 80.0), 1);
    members.decimal(is_long, "pressure", random.between(980.0, 1_030.0), 2);
    members.decimal(is_long, "co2_level", random.between(400.0, 2_000.0), 1);
    members.decimal(is_long, "noise_level", random.between(30.0, 90.0), 1);
    members.decimal(is_long, "light_level", random.between(0.0, 1_000.0), 1);
    let motion = random.below(2);
    match is_long {
        true => members.add("motion_detected", format_args!("{}", motion == 1)),
        false => members.add("motion_detected", format_args!("{motion}")),
    }
    members.decimal(is_long, "battery_level", random.between(0.0, 100.0), 1);
    members.decimal(is_long, "signal_strength", random.between(-90.0, -40.0), 1);
    members.decimal(is_long, "memory_usage", random.between(10.0, 95.0), 2);
    members.decimal(is_long, "cpu_usage", random.between(0.0, 100.0), 2);
    let status = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 4];
    let status = status[random.below(20) as usize];
    members.add("status", format_args!("{status}"));
    let errors = if status % 2 == 0 { random.below(21) } else { 0 };
    members.add("error_count", format_args!("{errors}"));
    let (sent, received) = (random.below(11_000), random.below(11_000));
    members.add("packets_sent", format_args!("{sent}"));
    members.add("packets_received", format_args!("{received}"));
    members.add("bytes_sent", format_args!("{}", sent * (200 + random.below(1_000))));
    members.add("bytes_received", format_args!("{}", received * (200 + random.below(1_000))));
}

/// The 12 fields of bench/machine.toml: a schema that is no preset.
fn machine(random: &mut Random, device: u64, time_ms: u64, members: &mut Members) {
    members.add("machine", format_args!("\"mill-{device:05}\""));
    members.add("at", format_args!("{time_ms}"));
    members.add("hall", format_args!("\"hall_{:02}\"", device % 40));
    members.decimal(false, "spindle_speed", random.between(0.0, 24_000.0), 1);
    members.decimal(false, "torque", random.between(-5.0, 120.0), 2);
    members.decimal(false, "vibration", random.between(0.0, 20.0), 3);
    members.decimal(false, "coolant_temperature", random.between(15.0, 60.0), 1);
    members.decimal(false, "power", random.between(0.0, 40.0), 2);
    members.add("door_open", format_args!("{}", random.below(2)));
    members.add("mode", format_args!("{}", random.below(5)));
    members.add("parts_made", format_args!("{}", random.below(12)));
    members.add("tool_changes", format_args!("{}", random.below(3)));
}

fn unknown_count(producer: usize) -> usize {
    [1, 2, 2, 3][producer]
}

/// Members of a producer that no schema names.
fn unknown(producer: usize, random: &mut Random, members: &mut Members) {
    let minor = random.below(10);
    members.add("firmware", format_args!("\"2.{minor}.1\""));
    if producer > 0 {
        members.add("uptime_s", format_args!("{}", random.below(1_000_000)));
    }
    if producer > 2 {
        members.add("tags", format_args!("{{\"floor\":{minor},\"room\":\"r-{producer}\"}}"));
    }
}

/// Returns the time in UTC with milliseconds, for the day and the next of [`START_MS`].
fn rfc3339(time_ms: u64) -> String {
    let of_day_ms = time_ms % 86_400_000;
    let day = 14 + (time_ms / 86_400_000 - START_MS / 86_400_000);
    let (hour, minute) = (of_day_ms / 3_600_000, of_day_ms / 60_000 % 60);
    let (second, ms) = (of_day_ms / 1_000 % 60, of_day_ms % 1_000);
    format!("2023-11-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

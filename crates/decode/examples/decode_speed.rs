//! Measures what decoding one sensor message costs on one thread, in two ways: the mean CPU time
//! of all sweeps, and the sum of each slice's least wall time, which leaves out interruptions.
//!
//! `cargo run -p tidemill-decode --example decode_speed`; half a minute; an argument
//! says how many messages to make, instead of 100 000, a second one names the only set to measure,
//! a third one says how often to read them. `bench/check.py` counts the instructions of `sweep`.
#![allow(clippy::print_stdout, reason = "its purpose")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{fs, time::Instant};

use support::{Random, sensor_message, sensor_schema};
use tidemill_decode::{DecodeLimits, JsonDecoder, RawMessage};
use tidemill_kernel::event::{EventBlock, Position};

const MESSAGES: usize = 100_000;
const BLOCK: usize = 256;
/// Every message is read in at least so many sweeps, and so many times in all.
const SWEEPS: usize = 9;
const READINGS: usize = 900_000;

/// The clock of this thread's CPU time where the system shows one, else the wall clock.
fn cpu_ns(start: Instant) -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split(' ').next().and_then(|field| field.parse().ok());
    first.unwrap_or_else(|| start.elapsed().as_nanos() as u64)
}

/// Decodes blocks; a function of its own, so that its instructions can be counted.
#[inline(never)]
fn sweep(
    decoder: &mut JsonDecoder,
    slices: &[(String, Vec<RawMessage>)],
    block: &mut EventBlock,
) -> usize {
    let mut rejected = 0;
    for (buffer, raw) in slices {
        block.clear();
        decoder.decode_all(buffer.as_bytes(), raw, block);
        rejected += usize::from(block.message(block.len() - 1).reject().is_some());
    }
    rejected
}

fn measure(name: &str, messages: &[String]) {
    if std::env::args().nth(2).is_some_and(|only| only != name) {
        return;
    }
    let schema = sensor_schema();
    let mut block = EventBlock::new(&schema);
    let mut decoder = JsonDecoder::new(schema, DecodeLimits::default());
    let bytes: usize = messages.iter().map(String::len).sum();
    let start = Instant::now();
    let mut buffers = Vec::new();
    for slice in messages.chunks(BLOCK) {
        let (mut buffer, mut raw) = (String::new(), Vec::new());
        for text in slice {
            raw.push(RawMessage {
                position: Position::default(),
                start: buffer.len() as u32,
                length: text.len() as u32,
                publish_time_ms: 0,
                reject: None,
            });
            buffer += text;
            buffer.push('\n');
        }
        buffers.push((buffer, raw));
    }
    let slices = buffers;
    let mut least = vec![u64::MAX; slices.len().div_ceil(4)];
    let mut rejected = 0;
    let cpu_before = cpu_ns(start);
    let asked = std::env::args().nth(3).and_then(|text| text.parse().ok());
    let sweeps: usize = asked.unwrap_or(SWEEPS.max(READINGS / messages.len()));
    for _ in 0..sweeps {
        for (group, slices) in slices.chunks(4).enumerate() {
            let before = start.elapsed().as_nanos() as u64;
            rejected += sweep(&mut decoder, slices, &mut block);
            least[group] = least[group].min(start.elapsed().as_nanos() as u64 - before);
        }
    }
    let cpu = (cpu_ns(start) - cpu_before) as f64 / (messages.len() * sweeps) as f64;
    let ns = least.iter().sum::<u64>() as f64 / messages.len() as f64;
    println!(
        "{name:22} {:4} bytes  CPU {cpu:6.1} ns/message {:5.2} M/s  least {ns:6.1} ns {:5.2} M/s  \
         {rejected} rejected, {:?}",
        bytes / messages.len(),
        1000.0 / cpu,
        1000.0 / ns,
        decoder.tally()
    );
}

fn main() {
    let mut random = Random(7);
    let mut fixed = Vec::new();
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok());
    for _ in 0..count.unwrap_or(MESSAGES) {
        let mut text = String::new();
        sensor_message(&mut random, &mut text);
        fixed.push(text);
    }
    let plain: Vec<String> = (0..fixed.len()).map(|_| short_message(&mut random)).collect();
    measure("short decimals", &plain);
    measure("one order", &fixed);
    let spaced: Vec<String> =
        fixed.iter().map(|text| text.replace(',', ", ").replace("\":", "\": ")).collect();
    measure("one order, spaced", &spaced);
    let absent: Vec<String> = fixed
        .iter()
        .map(|text| match random.below(8) {
            0 => without(text, "humidity").replacen("true", "null", 1),
            1 => without(text, "altitude"),
            2 => without(text, "pressure"),
            _ => text.clone(),
        })
        .collect();
    measure("three fields may lack", &absent);
    let ids: Vec<String> = plain
        .iter()
        .map(|text| text.replacen("sensor_", "urn:dev:mac:0024befffe804ff1:unit:", 1))
        .collect();
    measure("ids of 37 bytes", &ids);
    let mut orders = [(); 4].map(|()| (0..25).collect::<Vec<usize>>());
    orders.iter_mut().for_each(|order| random.shuffle(order));
    let four: Vec<String> = plain
        .iter()
        .map(|text| {
            let members: Vec<&str> = text[1..text.len() - 1].split(',').collect();
            let order = &orders[random.below(4)];
            let members: Vec<&str> = order.iter().map(|at| members[*at]).collect();
            format!("{{{}}}", members.join(","))
        })
        .collect();
    measure("four orders", &four);
    let random_order: Vec<String> = fixed
        .iter()
        .map(|text| {
            let mut members: Vec<&str> = text[1..text.len() - 1].split(',').collect();
            random.shuffle(&mut members);
            format!("{{{}}}", members.join(","))
        })
        .collect();
    measure("every order", &random_order);
    let long: Vec<String> = fixed
        .iter()
        .map(|text| {
            let digits = format!("{:09}", random.below(1_000_000_000));
            text.replace(",\"hum", &format!("{digits},\"hum"))
                .replace(",\"pre", &format!("{digits},\"pre"))
                .replace(",\"co2", &format!("{digits},\"co2"))
        })
        .collect();
    measure("three long numbers", &long);
}

/// Returns a message whose numbers are all short, with an epoch time and 0 or 1 for motion.
fn short_message(random: &mut Random) -> String {
    let (device, ms) = (random.below(10_000), random.below(60_000));
    let mut text = format!(
        "{{\"device_id\":\"sensor_{device:05}\",\"device_type\":\"{}\",\
         \"customer_id\":\"cust_{:03}\",\"site_id\":\"site_{:02}\",",
        ["temperature", "motion", "air_quality", "multi"][device % 4],
        device % 100,
        device % 20,
    );
    let mut decimal = |name: &str, low: i64, high: i64, places: usize| {
        let value = low + random.below((high - low) as usize) as i64;
        let power = 10_i64.pow(places as u32);
        let sign = if value < 0 { "-" } else { "" };
        let (whole, rest) = (value.abs() / power, value.abs() % power);
        text += &format!("\"{name}\":{sign}{whole}.{rest:0places$},");
    };
    decimal("latitude", 300_000, 400_000, 4);
    decimal("longitude", -1_200_000, -1_000_000, 4);
    decimal("altitude", 0, 20_000, 1);
    decimal("temperature", -500, 4500, 2);
    decimal("humidity", 2000, 9000, 2);
    decimal("pressure", 98_000, 104_000, 2);
    decimal("co2_level", 40_000, 120_000, 2);
    decimal("noise_level", 3000, 9000, 2);
    decimal("light_level", 0, 100_000, 2);
    decimal("battery_level", 500, 10_000, 2);
    decimal("signal_strength", -900, -400, 1);
    decimal("memory_usage", 0, 10_000, 2);
    decimal("cpu_usage", 0, 1_000, 1);
    text + &format!(
        "\"time\":{},\"motion_detected\":{},\"status\":{},\"error_count\":{},\
         \"packets_sent\":{},\"packets_received\":{},\"bytes_sent\":{},\"bytes_received\":{}}}",
        1_760_000_000_000 + ms as u64,
        random.below(2),
        1 + random.below(4),
        random.below(3),
        100 + random.below(900),
        100 + random.below(900),
        10_000 + random.below(1_000_000),
        10_000 + random.below(1_000_000),
    )
}

/// Returns the message without one member that is not its first.
fn without(text: &str, name: &str) -> String {
    let start = text.find(&format!(",\"{name}\"")).expect("the generator writes it");
    let length = text[start + 1..].find(',').expect("it is not the last") + 1;
    format!("{}{}", &text[..start], &text[start + length..])
}

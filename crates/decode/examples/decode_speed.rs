//! Measures what decoding one sensor message costs on one thread, in two ways: the mean CPU time
//! of all sweeps, and the sum of each slice's least wall time, which leaves out interruptions.
//!
//! `cargo run -p tidemill-decode --example decode_speed`; half a minute; an argument
//! says how many messages to make, instead of 100 000, a second one names the only set to measure.
#![allow(clippy::print_stdout, reason = "its purpose")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{fs, time::Instant};

use support::{Random, sensor_message, sensor_schema};
use tidemill_decode::{DecodeLimits, JsonDecoder, RawMessage};
use tidemill_kernel::event::{EventBlock, Position};

const MESSAGES: usize = 100_000;
const BLOCK: usize = 256;
const SWEEPS: usize = 9;

/// The clock of this thread's CPU time where the system shows one, else the wall clock.
fn cpu_ns(start: Instant) -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split(' ').next().and_then(|field| field.parse().ok());
    first.unwrap_or_else(|| start.elapsed().as_nanos() as u64)
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
    let mut least = vec![u64::MAX; slices.len().div_ceil(16)];
    let mut rejected = 0;
    let cpu_before = cpu_ns(start);
    for _ in 0..SWEEPS {
        for (group, slices) in slices.chunks(16).enumerate() {
            let before = start.elapsed().as_nanos() as u64;
            for (buffer, raw) in slices {
                block.clear();
                decoder.decode_all(buffer.as_bytes(), raw, &mut block);
                rejected += usize::from(block.message(block.len() - 1).reject().is_some());
            }
            least[group] = least[group].min(start.elapsed().as_nanos() as u64 - before);
        }
    }
    let cpu = (cpu_ns(start) - cpu_before) as f64 / (messages.len() * SWEEPS) as f64;
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

/// Returns the message without one member that is not its first.
fn without(text: &str, name: &str) -> String {
    let start = text.find(&format!(",\"{name}\"")).expect("the generator writes it");
    let length = text[start + 1..].find(',').expect("it is not the last") + 1;
    format!("{}{}", &text[..start], &text[start + length..])
}

//! Measures what this machine can do at most with the bytes of a file of messages: sum them up,
//! copy them, change one cache line at random per message.
//!
//! `cargo run --release -p tidemill-kernel --example machine_limits -- FILE REPEATS`. One thread,
//! its CPU time; memory is mapped before. Prints one line of JSON with the nanoseconds per message
//! of each repeat; `bench/run.sh limits` sets them beside the kernel's. Nothing is fetched ahead by
//! hand: the processor overlaps the updates of lines as far as it can by itself.

#![expect(clippy::print_stdout, reason = "it prints figures")]

use std::{fs, hint::black_box};

use rustix::time::{ClockId, clock_gettime};

/// A line of the processor's caches.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u64; 8]);

/// The states of 10,000 devices, and of 1,000,000.
const TABLES_BYTES: [usize; 2] = [5_000_000, 470_000_000];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [data, repeats] = &arguments[..] else {
        return Err("usage: machine_limits FILE REPEATS".into());
    };
    let (bytes, repeats) = (fs::read(data)?, repeats.parse::<usize>()?.max(1));
    let messages = bytes.iter().filter(|byte| **byte == b'\n').count();
    if messages == 0 {
        return Err(format!("{data} has no line").into());
    }
    let measured = |work: &mut dyn FnMut()| -> String {
        // The first one maps what it needs and is not counted.
        work();
        let spent = (0..repeats).map(|_| {
            let start_ns = cpu_ns();
            work();
            format!("{:.2}", (cpu_ns() - start_ns) as f64 / messages as f64)
        });
        format!("[{}]", spent.collect::<Vec<_>>().join(", "))
    };
    let sum = measured(&mut || {
        black_box(sum_of(black_box(&bytes)));
    });
    let mut copied = vec![0; bytes.len()];
    let copy = measured(&mut || {
        copied.copy_from_slice(black_box(&bytes));
        black_box(&copied);
    });
    drop(copied);
    let mut random = 0x9E37_79B9_7F4A_7C15;
    let [small, large] = TABLES_BYTES.map(|table_bytes| {
        let mut table = vec![Line([1; 8]); table_bytes / size_of::<Line>()];
        measured(&mut || {
            random = update(&mut table, messages, random);
            black_box(&table);
        })
    });
    println!(
        "{{\"messages\": {messages}, \"bytes\": {}, \"sum_ns\": {sum}, \"copy_ns\": {copy}, \
         \"update_5_mb_ns\": {small}, \"update_470_mb_ns\": {large}}}",
        bytes.len()
    );
    Ok(())
}

/// Eight bytes at a time.
fn sum_of(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().fold(0_u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    rest.iter().fold(words, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}

/// Adds to one word of a line drawn at random, as often as there are messages.
fn update(table: &mut [Line], messages: usize, mut random: u64) -> u64 {
    let lines = table.len() as u128;
    for _ in 0..messages {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let at = ((u128::from(random) * lines) >> 64) as usize;
        table[at].0[random as usize % 8] += random >> 32;
    }
    random
}

fn cpu_ns() -> u64 {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    spent.tv_sec as u64 * 1_000_000_000 + spent.tv_nsec as u64
}

//! Prints how many messages per second one thread generates and how long they are.
//! Run it with `cargo run -p tidemill-source --example generate_throughput [DEVICES]`.

use std::io::Write;
use std::time::Instant;

use tidemill_source::generate::{GenerateConfig, Generator};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const MESSAGES: u64 = 3_000_000;
    let devices = std::env::args().nth(1).map_or(Ok(500), |text| text.parse())?;
    let mut generator = Generator::new(GenerateConfig { devices, ..GenerateConfig::default() })?;
    let (mut block, mut bytes) = (Vec::new(), 0);
    let started = Instant::now();
    for index in 0..MESSAGES {
        generator.next(&mut block);
        block.push(b'\n');
        if index % 100 == 99 {
            bytes += block.len();
            std::hint::black_box(&block);
            block.clear();
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let mean_bytes = bytes as f64 / MESSAGES as f64;
    let rate = MESSAGES as f64 / seconds / 1e6;
    writeln!(
        std::io::stdout(),
        "{devices} devices: {rate:.2} M messages/s, {:.0} ns and {mean_bytes:.0} bytes each",
        seconds / MESSAGES as f64 * 1e9
    )?;
    Ok(())
}

//! What decoding sensor messages costs on one thread, by the shape of the messages.
//!
//! `cargo bench -p tidemill-decode`; `-- "every order"` measures that set alone. An iteration reads
//! 20,000 messages in blocks. `bench/check.py` counts the instructions of `sweep`.

#[path = "../tests/support/mod.rs"]
mod support;

use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
use support::{Random, sensor_message, sensor_schema};
use tidemill_decode::{DecodeLimits, JsonDecoder, RawMessage};
use tidemill_kernel::event::{EventBlock, Position};

const MESSAGES: usize = 20_000;
const BLOCK: usize = 256;
const SETS: [&str; 8] = [
    "short decimals",
    "one order",
    "one order, spaced",
    "three fields may lack",
    "ids of 37 bytes",
    "four orders",
    "every order",
    "three long numbers",
];

fn main() {
    divan::main();
}

#[divan::bench(args = SETS, sample_count = 50, sample_size = 1)]
fn json(bencher: Bencher<'_, '_>, set: &str) {
    let slices = blocks(&messages(set));
    let bytes: usize = slices.iter().map(|(buffer, _)| buffer.len()).sum();
    let schema = sensor_schema();
    let mut block = EventBlock::new(&schema);
    let mut decoder = JsonDecoder::new(schema, DecodeLimits::default());
    bencher
        .counter(ItemsCount::new(MESSAGES))
        .counter(BytesCount::new(bytes))
        .bench_local(|| sweep(&mut decoder, &slices, &mut block));
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

/// Lays messages out as a source does.
fn blocks(messages: &[String]) -> Vec<(String, Vec<RawMessage>)> {
    let block = |slice: &[String]| {
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
        (buffer, raw)
    };
    messages.chunks(BLOCK).map(block).collect()
}

/// Makes the messages of a set.
fn messages(set: &str) -> Vec<String> {
    let mut random = Random(7);
    let random = &mut random;
    let mut orders = [(); 4].map(|()| (0..25).collect::<Vec<usize>>());
    orders.iter_mut().for_each(|order| random.shuffle(order));
    let message = |_| match set {
        "short decimals" => short_message(random),
        "one order" => fixed_message(random),
        "one order, spaced" => fixed_message(random).replace(',', ", ").replace("\":", "\": "),
        "three fields may lack" => {
            let text = fixed_message(random);
            match random.below(8) {
                0 => without(&text, "humidity").replacen("true", "null", 1),
                1 => without(&text, "altitude"),
                2 => without(&text, "pressure"),
                _ => text,
            }
        }
        "ids of 37 bytes" => {
            short_message(random).replacen("sensor_", "urn:dev:mac:0024befffe804ff1:unit:", 1)
        }
        "four orders" => {
            let order = &orders[random.below(4)];
            reordered(&short_message(random), order)
        }
        "every order" => {
            let mut order: Vec<usize> = (0..25).collect();
            random.shuffle(&mut order);
            reordered(&fixed_message(random), &order)
        }
        "three long numbers" => {
            let digits = format!("{:09}", random.below(1_000_000_000));
            let text = fixed_message(random).replace(",\"hum", &format!("{digits},\"hum"));
            let text = text.replace(",\"pre", &format!("{digits},\"pre"));
            text.replace(",\"co2", &format!("{digits},\"co2"))
        }
        _ => unreachable!("a set has no messages: {set}"),
    };
    (0..MESSAGES).map(message).collect()
}

/// Returns a message as the reference tests make it.
fn fixed_message(random: &mut Random) -> String {
    let mut text = String::new();
    sensor_message(random, &mut text);
    text
}

/// Returns the message with its members in another order.
fn reordered(text: &str, order: &[usize]) -> String {
    let members: Vec<&str> = text[1..text.len() - 1].split(',').collect();
    let members: Vec<&str> = order.iter().map(|at| members[*at]).collect();
    format!("{{{}}}", members.join(","))
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

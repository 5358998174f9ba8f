//! Every way of decoding against the judge alone: the same verdict, the same values to the bit.
//!
//! Messages lie side by side in one buffer, as in an entry, so that some are read in lock step.
//! `TIDEMILL_DIFFERENTIAL_MESSAGES=20000000 cargo test -p tidemill-decode --test differential`
//! runs as many as you like; 200 000 by default.

#[path = "support/messages.rs"]
mod messages;
mod support;

use std::sync::Arc;

use messages::{Member, flat_template, mutate, template, write_members};
use support::{Random, sensor_message, sensor_schema};
use tidemill_decode::{DecodeLimits, JsonDecoder, RawMessage, json::Speed};
use tidemill_kernel::event::{EventBlock, Message, Position, Reason};
use tidemill_kernel::schema::{Field, Role, Schema, TimeUnit, ValueType};

const CHUNK: usize = 64;

/// A schema of other sizes: two parts of a key, more than 64 fields, ranges without 0, a pinned
/// unit of time.
fn plant_schema() -> Arc<Schema> {
    let mut fields = vec![
        Field::new("site", ValueType::Text, Role::Key),
        Field::new("machine", ValueType::Text, Role::Key),
        Field::new("at", ValueType::Int, Role::Time),
        Field::new("operator", ValueType::Text, Role::Attribute),
        Field::new("running", ValueType::Bool, Role::Flag),
    ];
    fields[2].time_unit = TimeUnit::Milliseconds;
    for number in 0..66 {
        let mut field =
            Field::new(&format!("measurement_of_channel_{number}"), ValueType::Float, Role::Gauge);
        field.range = [None, Some((1.0, 900.0)), Some((-5000.0, 0.5))][number % 3];
        fields.push(field);
    }
    for number in 0..7 {
        let mut field = Field::new(&format!("n{number}"), ValueType::Int, Role::Counter);
        field.range = [None, Some((1.0, 500.0))][number % 2];
        fields.push(field);
    }
    Arc::new(Schema::new(fields).expect("a valid schema"))
}

/// What one run of messages is made of.
struct Stream {
    random: Random,
    shapes: Vec<Vec<Member>>,
    /// How many of a hundred messages are damaged, and are of a shape other than the last.
    damaged_percent: usize,
    restless_percent: usize,
    /// How many have another value in place of one.
    odd_percent: usize,
    shape: usize,
    /// The text between members that come in any order.
    scattered: Option<&'static str>,
    /// Whether messages are of the other schema.
    is_plant: bool,
}

impl Stream {
    fn new(seed: u64, schema: &Schema) -> Stream {
        let mut random = Random(seed);
        let is_plant = schema.key_count() > 1;
        let count = random.pick(&[0, 0, 0, 1, 1, 2, 3]) + usize::from(is_plant);
        let scattered = [(",", ":"), (", ", ": "), (",\n   ", ":")];
        let scattered = random.chance(25).then(|| random.pick(&scattered));
        let shapes = match scattered {
            Some((_, colon)) => vec![flat_template(schema, colon)],
            None => (0..count).map(|_| template(&mut random, schema)).collect(),
        };
        let damaged_percent = random.pick(&[0, 1, 3, 10, 40]);
        let restless_percent = random.pick(&[0, 5, 50]);
        let odd_percent = random.pick(&[1, 10, 30]);
        Stream {
            random,
            shapes,
            damaged_percent,
            restless_percent,
            odd_percent,
            shape: 0,
            scattered: scattered.map(|(between, _)| between),
            is_plant,
        }
    }

    fn message(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        if self.scattered.is_some() {
            random.shuffle(&mut self.shapes[0]);
        } else if random.chance(self.restless_percent) {
            self.shape = random.below(self.shapes.len() + usize::from(!self.is_plant));
        }
        let mut text = String::new();
        match self.shapes.get(self.shape) {
            Some(shape) => write_members(random, shape, self.scattered.unwrap_or(","), &mut text),
            None => sensor_message(random, &mut text),
        }
        if let Some(between) = self.scattered
            && random.chance(5)
        {
            // A name that comes twice.
            let twin = random.below(self.shapes[0].len());
            let mut again = String::new();
            write_members(random, &self.shapes[0][twin..=twin], between, &mut again);
            text.pop();
            text = format!("{text}{between}{}", &again[1..]);
        }
        let mut bytes = text.into_bytes();
        if random.chance(self.odd_percent) {
            // Another number, of any kind and length, in place of one.
            let places = bytes.iter().enumerate().filter(|(_, byte)| **byte == b':');
            let places: Vec<usize> = places.map(|(at, _)| at + 1).collect();
            if !places.is_empty() {
                let at = random.pick(&places);
                let end = bytes[at..].iter().position(|byte| b",}".contains(byte));
                let number = odd_value(random);
                bytes.splice(at..end.map_or(at, |end| at + end), number.bytes());
            }
        }
        if random.chance(self.damaged_percent) {
            mutate(random, &mut bytes);
        }
        bytes
    }
}

fn odd_value(random: &mut Random) -> String {
    let digits = random.next().to_string();
    let length = 1 + random.below(digits.len());
    let sign = random.pick(&["", "", "-"]);
    let point = random.below(length + 1);
    match random.below(8) {
        0 => format!("{sign}{}", &digits[..length]),
        1 | 2 if point > 0 && point < length => {
            format!("{sign}{}.{}", &digits[..point], &digits[point..length])
        }
        3 => format!("{sign}0.{}", &digits[..length]),
        4 => random.pick(&["-0", "-0.0", "0", "00", "-", ".5", "5.", "1e3", "1E-3", "0e0"]).into(),
        5 => {
            random.pick(&["null", "true", "false", "NaN", "-Infinity", "\"\"", "tru", "nul"]).into()
        }
        6 => format!("\"{}\"", "x".repeat(random.below(90))),
        _ => {
            random.pick(&["{}", "[1,{\"a\":[]}]", "\"ONLINE\"", "\"\\u00e9\"", "\"é\"", ""]).into()
        }
    }
}

/// Returns whether two messages answer every question alike.
fn are_same(one: Message<'_>, other: Message<'_>, schema: &Schema) -> bool {
    let place = |message: Message<'_>| (message.position(), message.publish_time_ms());
    if one.reject() != other.reject() || place(one) != place(other) {
        return false;
    }
    let bits =
        |message: Message<'_>| message.floats().iter().map(|value| value.to_bits()).collect();
    let (ones, others): (Vec<u64>, Vec<u64>) = (bits(one), bits(other));
    one.reject().is_some()
        || one.time() == other.time()
            && one.key() == other.key()
            && ones == others
            && one.ints() == other.ints()
            && one.absent().eq(other.absent())
            && one.is_complete() == other.is_complete()
            && one.invalid_count() == other.invalid_count()
            && (0..schema.text_count() as u16).all(|slot| one.text(slot) == other.text(slot))
}

fn show(message: Message<'_>) -> String {
    format!(
        "{:?} {:?} {:?} {:?} {:?} absent {:?} invalid {}",
        message.reject(),
        message.time(),
        message.key(),
        message.floats(),
        message.ints(),
        message.absent().collect::<Vec<_>>(),
        message.invalid_count()
    )
}

#[test]
fn every_way_of_decoding_finds_the_same() {
    let wanted = std::env::var("TIDEMILL_DIFFERENTIAL_MESSAGES").ok();
    let wanted = wanted.and_then(|text| text.parse().ok()).unwrap_or(200_000);
    let schemas = [sensor_schema(), sensor_schema(), plant_schema()];
    let limits = DecodeLimits { text_bytes_max: 60, key_bytes_max: 60, ..Default::default() };
    let (mut seed, mut done, mut together, mut guessed, mut events) = (0, 0, 0, 0, 0);
    let (mut scattered, mut found) = (0, 0);
    while done < wanted {
        seed += 1;
        let schema = &schemas[seed as usize % 3];
        let decoder = |speed| JsonDecoder::new(Arc::clone(schema), limits).with_speed(speed);
        let mut stream = Stream::new(seed, schema);
        let mut decoders = [Speed::Strict, Speed::Portable, Speed::Quick].map(decoder);
        let mut blocks = [(); 3].map(|()| EventBlock::new(schema));
        for round in 0..16 {
            let (mut buffer, mut raw) = (Vec::new(), Vec::new());
            for index in 0..CHUNK {
                let message = stream.message();
                raw.push(RawMessage {
                    position: Position::new(seed, round, index as u32),
                    start: buffer.len() as u32,
                    length: message.len() as u32,
                    publish_time_ms: index as i64,
                    reject: stream.random.chance(1).then_some(Reason::CorruptEntry),
                });
                buffer.extend_from_slice(&message);
                buffer.extend_from_slice(
                    stream.random.pick(&["\n", "\n", "", "7,\"", "}"]).as_bytes(),
                );
            }
            for (decoder, block) in decoders.iter_mut().zip(&mut blocks) {
                block.clear();
                decoder.decode_all(&buffer, &raw, block);
                assert_eq!(block.len(), raw.len(), "one message each");
            }
            for (index, raw) in raw.iter().enumerate() {
                let strict = blocks[0].message(index);
                for (name, block) in ["portable", "quick"].iter().zip(&blocks[1..]) {
                    let found = block.message(index);
                    if !are_same(strict, found, schema) {
                        let payload = &buffer[raw.start as usize..][..raw.length as usize];
                        let text = String::from_utf8_lossy(payload);
                        let (strict, found) = (show(strict), show(found));
                        panic!("{name}, seed {seed}: {text}\n{strict}\n{found}");
                    }
                }
                events += u64::from(strict.reject().is_none());
            }
            done += CHUNK as u64;
        }
        together += decoders[2].tally().together;
        guessed += decoders[2].tally().guessed;
        if stream.scattered.is_some() {
            scattered += 16 * CHUNK as u64;
            found += decoders[2].tally().guessed;
        }
    }
    println!("{done} messages, {events} events; {together} in lock step, {guessed} more by shape");
    println!("{scattered} in any order, {found} of them by their names");
    assert!(events * 2 > done, "only {events} events of {done}");
    if cfg!(target_arch = "x86_64") && std::is_x86_feature_detected!("avx2") {
        assert!(found * 5 > scattered, "only {found} of {scattered} by their names");
        assert!(together * 12 > done, "only {together} of {done} in lock step");
    }
}

//! Every way of decoding against the judge alone: the same verdict, the same values to the bit.
//!
//! Messages lie side by side in one buffer, as in an entry, so that some are read in lock step.
//! `TIDEMILL_DIFFERENTIAL_MESSAGES=20000000 cargo test -p tidemill-decode --test differential`
//! runs as many as you like; 400 000 by default.

#[path = "support/messages.rs"]
mod messages;
mod support;

use std::sync::Arc;

use messages::{Member, mutate, template, write_members};
use support::{Random, sensor_message, sensor_schema};
use tidemill_decode::{DecodeLimits, JsonDecoder, RawMessage, json::Speed};
use tidemill_kernel::event::{EventBlock, Message, Position, Reason};
use tidemill_kernel::schema::Schema;

const CHUNK: usize = 64;

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
}

impl Stream {
    fn new(seed: u64, schema: &Schema) -> Stream {
        let mut random = Random(seed);
        let count = random.pick(&[0, 0, 0, 1, 1, 2, 3]);
        let shapes = (0..count).map(|_| template(&mut random, schema)).collect();
        let damaged_percent = random.pick(&[0, 1, 3, 10, 40]);
        let restless_percent = random.pick(&[0, 5, 50]);
        let odd_percent = random.pick(&[1, 10, 30]);
        Stream { random, shapes, damaged_percent, restless_percent, odd_percent, shape: 0 }
    }

    fn message(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        if random.chance(self.restless_percent) {
            self.shape = random.below(self.shapes.len() + 1);
        }
        let mut text = String::new();
        match self.shapes.get(self.shape) {
            Some(shape) => write_members(random, shape, &mut text),
            None => sensor_message(random, &mut text),
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

/// Everything that can be asked of a message.
#[derive(Debug, PartialEq)]
struct Said {
    reject: Option<Reason>,
    time_ms: i64,
    key: Vec<u8>,
    floats: Vec<u64>,
    ints: Vec<i64>,
    texts: Vec<Option<Vec<u8>>>,
    absent: Vec<usize>,
    is_complete: bool,
    invalid_count: u32,
    position: Position,
    publish_time_ms: i64,
}

fn said(message: Message<'_>, schema: &Schema) -> Said {
    let is_event = message.reject().is_none();
    let texts = 0..schema.text_count() as u16;
    let when = |there: bool| if there { 1 } else { 0 };
    Said {
        reject: message.reject(),
        time_ms: message.time().as_ms() * when(is_event),
        key: if is_event { message.key().to_vec() } else { Vec::new() },
        floats: message
            .floats()
            .iter()
            .take(when(is_event) as usize * 999)
            .map(|value| value.to_bits())
            .collect(),
        ints: message.ints().iter().take(when(is_event) as usize * 999).copied().collect(),
        texts: texts
            .filter(|_| is_event)
            .map(|slot| message.text(slot).map(<[u8]>::to_vec))
            .collect(),
        absent: message.absent().filter(|_| is_event).collect(),
        is_complete: is_event && message.is_complete(),
        invalid_count: if is_event { message.invalid_count() } else { 0 },
        position: message.position(),
        publish_time_ms: message.publish_time_ms(),
    }
}

/// Decodes messages that lie in one buffer; returns them with what they say.
fn decode(
    decoder: &mut JsonDecoder,
    block: &mut EventBlock,
    buffer: &[u8],
    raw: &[RawMessage],
) -> Vec<Said> {
    block.clear();
    decoder.decode_all(buffer, raw, block);
    assert_eq!(block.len(), raw.len(), "one message each");
    let schema = Arc::clone(decoder.schema());
    (0..block.len()).map(|index| said(block.message(index), &schema)).collect()
}

#[test]
fn every_way_of_decoding_finds_the_same() {
    let wanted = std::env::var("TIDEMILL_DIFFERENTIAL_MESSAGES").ok();
    let wanted = wanted.and_then(|text| text.parse().ok()).unwrap_or(400_000);
    let schema = sensor_schema();
    let limits = DecodeLimits { text_bytes_max: 60, key_bytes_max: 60, ..Default::default() };
    let decoder = |speed| JsonDecoder::new(Arc::clone(&schema), limits).with_speed(speed);
    let (mut seed, mut done, mut together, mut guessed, mut events) = (0, 0, 0, 0, 0);
    while done < wanted {
        seed += 1;
        let mut stream = Stream::new(seed, &schema);
        let mut decoders = [Speed::Strict, Speed::Portable, Speed::Quick].map(decoder);
        let mut block = EventBlock::new(&schema);
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
            let [strict, portable, quick] =
                decoders.each_mut().map(|decoder| decode(decoder, &mut block, &buffer, &raw));
            for (index, strict) in strict.iter().enumerate() {
                let range =
                    raw[index].start as usize..(raw[index].start + raw[index].length) as usize;
                let text = String::from_utf8_lossy(&buffer[range]);
                assert_eq!(strict, &portable[index], "portable, seed {seed}: {text}");
                assert_eq!(strict, &quick[index], "quick, seed {seed}: {text}");
                events += u64::from(strict.reject.is_none());
            }
            done += CHUNK as u64;
        }
        together += decoders[2].tally().together;
        guessed += decoders[2].tally().guessed;
    }
    println!("{done} messages, {events} events; {together} in lock step, {guessed} more by shape");
    assert!(events * 2 > done, "only {events} events of {done}");
    if cfg!(target_arch = "x86_64") && std::is_x86_feature_detected!("avx2") {
        assert!(together * 8 > done, "only {together} of {done} in lock step");
    }
}

//! Random and damaged messages against `serde_json`: the same verdict, the same values.

#[path = "support/messages.rs"]
mod messages;
#[path = "support/reference.rs"]
mod reference;
mod support;

use std::{fmt::Write, sync::Arc};

use messages::{flat_template, mutate, template, write_members};
use reference::{Judgement, compare, judge};
use support::{Random, sensor_message, sensor_schema};
use tidemill_decode::{DecodeLimits, JsonDecoder};
use tidemill_kernel::event::{EventBlock, Position, Reason};
use tidemill_kernel::schema::{Field, Role, Schema, ValueType};

/// Decodes a payload and compares it with the reference; returns whether it is an event.
fn check(decoder: &mut JsonDecoder, block: &mut EventBlock, payload: &[u8]) -> bool {
    block.clear();
    decoder.decode(payload, Position::default(), 0, block);
    let text = String::from_utf8_lossy(payload);
    let message = block.message(0);
    match judge(payload) {
        Judgement::Valid(tree) => compare(&decoder.schema().clone(), &tree, message, &text),
        Judgement::Malformed => {
            let blank = payload.iter().all(|byte| b" \t\r\n".contains(byte));
            let expected = if blank { Reason::Empty } else { Reason::Malformed };
            assert_eq!(message.reject(), Some(expected), "{text}");
            false
        }
        Judgement::OutOfRange => {
            // `IgnoredAny` looks into no escape and no UTF-8, so only plain text proves anything.
            if !text.contains("\\u") && text.is_ascii() {
                assert_ne!(message.reject(), Some(Reason::Malformed), "{text}");
            }
            message.reject().is_none()
        }
    }
}

#[test]
fn random_messages_have_the_values_that_serde_json_reads() {
    let schema = sensor_schema();
    let mut block = EventBlock::new(&schema);
    let mut decoder = JsonDecoder::new(Arc::clone(&schema), DecodeLimits::default());
    let mut random = Random(1);
    let mut events = 0;
    for _ in 0..3_000 {
        let members = template(&mut random, &schema);
        for _ in 0..12 {
            let mut text = String::new();
            write_members(&mut random, &members, ",", &mut text);
            assert!(!matches!(judge(text.as_bytes()), Judgement::Malformed), "{text}");
            events += usize::from(check(&mut decoder, &mut block, text.as_bytes()));
        }
    }
    assert!(events > 20_000, "only {events} events of 36000");
}

#[test]
fn messages_in_any_order_have_the_values_that_serde_json_reads() {
    let schema = sensor_schema();
    let mut block = EventBlock::new(&schema);
    let mut decoder = JsonDecoder::new(Arc::clone(&schema), DecodeLimits::default());
    let mut random = Random(3);
    let mut members = flat_template(&schema, ":");
    let mut events = 0;
    for _ in 0..30_000 {
        let mut text = String::new();
        random.shuffle(&mut members);
        write_members(&mut random, &members, ",", &mut text);
        events += usize::from(check(&mut decoder, &mut block, text.as_bytes()));
    }
    assert!(events > 20_000, "only {events} events of 30000");
}

#[test]
fn damaged_messages_are_refused_exactly_when_serde_json_refuses_them() {
    let schema = sensor_schema();
    let mut block = EventBlock::new(&schema);
    let mut decoder = JsonDecoder::new(Arc::clone(&schema), DecodeLimits::default());
    let mut random = Random(2);
    let (mut events, mut members) = (0, Vec::new());
    for round in 0..320_000 {
        let mut text = String::new();
        if round % 40 < 30 {
            sensor_message(&mut random, &mut text);
        } else {
            if round % 40 == 30 {
                members = template(&mut random, &schema);
            }
            write_members(&mut random, &members, ",", &mut text);
        }
        // The whole one before keeps the decoder guessing.
        block.clear();
        decoder.decode(text.as_bytes(), Position::default(), 0, &mut block);
        let mut bytes = text.into_bytes();
        mutate(&mut random, &mut bytes);
        events += usize::from(check(&mut decoder, &mut block, &bytes));
    }
    assert!((40_000..200_000).contains(&events), "{events} of 320000 were still events");
}

#[test]
fn floats_are_the_nearest_to_what_is_written() {
    let fields = vec![
        Field::new("k", ValueType::Text, Role::Key),
        Field::new("t", ValueType::Int, Role::Time),
        Field::new("f", ValueType::Float, Role::Gauge),
    ];
    let schema = Arc::new(Schema::new(fields).expect("a valid schema"));
    let mut block = EventBlock::new(&schema);
    let mut decoder = JsonDecoder::new(schema, DecodeLimits::default());
    let mut random = Random(3);
    let (mut number, mut text) = (String::new(), String::new());
    for _ in 0..1_000_000 {
        number.clear();
        let bits = random.next();
        let places = random.below(8);
        let _ = match random.below(6) {
            0 => write!(number, "{:.places$}", (bits % 100_000_000) as f64 / 1e4 - 5e3),
            1 => write!(number, "{:?}", f64::from_bits(bits)),
            2 => write!(number, "{}.{}", bits % 1000, bits >> random.below(60)),
            3 => write!(number, "{}e{}", bits >> random.below(60), random.below(80) as i32 - 40),
            4 => write!(number, "{:?}", (bits % (1 << 53)) as f64 / 1e13),
            // Halfway between two floats, and a little beyond.
            _ => write!(number, "{}{}", (1_u64 << 53) + bits % (1 << 53), random.pick(&["", ".5"])),
        };
        if number.contains(['N', 'i']) {
            continue;
        }
        text.clear();
        let _ = write!(text, "{{\"k\":\"a\",\"t\":1,\"f\":{number},\"padding\":\"0123456789\"}}");
        block.clear();
        decoder.decode(text.as_bytes(), Position::default(), 0, &mut block);
        let expected = number.parse::<f64>().expect("a number") + 0.0;
        let found = block.message(0).float(0);
        assert_eq!(found.map(f64::to_bits), Some(expected.to_bits()), "{number}");
    }
}

//! Random and damaged messages against `serde_json`: the same verdict, the same values.

#[path = "support/reference.rs"]
mod reference;
mod support;

use std::{fmt::Write, sync::Arc};

use reference::{Judgement, compare, judge};
use support::{Random, sensor_message, sensor_schema};
use tidemill_decode::{DecodeLimits, JsonDecoder};
use tidemill_kernel::event::{EventBlock, Position, Reason};
use tidemill_kernel::schema::{Field, Role, Schema, ValueType};

/// One name of a template with the white space around it.
struct Member {
    before: String,
    value: Value,
    after: &'static str,
}

enum Value {
    Of(ValueType),
    Key,
    Time,
    Any,
    Group(Vec<Member>),
}

const SPACES: [&str; 8] = ["", "", "", "", " ", "\n", "\t ", "  \r\n"];

fn write_string(random: &mut Random, text: &str, out: &mut String) {
    out.push('"');
    let escape = random.chance(15);
    for letter in text.chars() {
        if escape && random.chance(30) {
            let mut units = [0; 2];
            for unit in letter.encode_utf16(&mut units) {
                write!(out, "\\u{unit:04x}").expect("memory takes every write");
            }
        } else if letter == '"' || letter == '\\' {
            out.push('\\');
            out.push(letter);
        } else {
            out.push(letter);
        }
    }
    out.push('"');
}

fn member(random: &mut Random, name: &str, value: Value) -> Member {
    let mut before = random.pick(&SPACES).to_string();
    write_string(random, name, &mut before);
    before += random.pick(&SPACES);
    before.push(':');
    before += random.pick(&SPACES);
    Member { before, value, after: random.pick(&SPACES) }
}

/// Returns the members of one message shape: any order, any source, unknown and repeated ones.
fn template(random: &mut Random, schema: &Schema) -> Vec<Member> {
    let mut members = Vec::new();
    let mut nested = Vec::new();
    for field in schema.fields() {
        if random.chance(10) && field.role != Role::Key {
            continue;
        }
        let mut paths: Vec<&Vec<String>> = vec![&field.path];
        paths.extend(&field.aliases);
        let copies = if random.chance(2) { 2 } else { 1 };
        for _ in 0..copies {
            let path = if random.chance(80) { paths[0] } else { random.pick(&paths) };
            let value = match field.role {
                Role::Key => Value::Key,
                Role::Time => Value::Time,
                _ => Value::Of(field.value_type),
            };
            match &path[..] {
                [name] => members.push(member(random, name, value)),
                [_, name] => nested.push(member(random, name, value)),
                _ => panic!("no deeper paths in this schema"),
            }
        }
    }
    for name in ["extra", "tags", "überflüssig", "latitude2", "metadata2"] {
        if random.chance(20) {
            members.push(member(random, name, Value::Any));
        }
    }
    if !nested.is_empty() || random.chance(20) {
        nested.push(member(random, "other", Value::Any));
        random.shuffle(&mut nested);
        members.push(member(random, "metadata", Value::Group(nested)));
    }
    random.shuffle(&mut members);
    members
}

fn write_number(random: &mut Random, out: &mut String) {
    let bits = random.next();
    let _ = match random.below(12) {
        0..5 => write!(out, "{:.2}", (bits % 2_000_000) as f64 / 100.0 - 5000.0),
        5 => write!(out, "{}", bits % 1000),
        6 => write!(out, "{:?}", (bits % (1 << 40)) as f64 / 8_191.0),
        7 => write!(out, "{}", bits as i64),
        8 => write!(out, "{}.0", bits as i32),
        9 => write!(out, "-{}e{}", bits % 1000, bits % 7),
        10 => {
            let value = f64::from_bits(bits);
            write!(out, "{:e}", if value.is_finite() { value } else { 0.5 })
        }
        _ => write!(out, "{}.{:020}E-{}", bits % 100, bits, bits % 30),
    };
}

fn write_value(random: &mut Random, value: &Value, out: &mut String) {
    if random.chance(3) {
        *out +=
            random.pick(&["null", "NaN", "-Infinity", "true", "0", "\"\"", "[]", "{}", "\"7\""]);
        return;
    }
    match value {
        Value::Of(ValueType::Float) => write_number(random, out),
        Value::Of(ValueType::Int) if random.chance(20) => {
            let words = ["ONLINE", "ERROR", "nonsense"];
            write_string(random, words[random.0 as usize % 3], out);
        }
        Value::Of(ValueType::Int) if random.chance(70) => {
            let _ = write!(out, "{}", random.next() >> (random.below(60) + 3));
        }
        Value::Of(ValueType::Int) => write_number(random, out),
        Value::Of(ValueType::Bool) => *out += random.pick(&["true", "false", "1", "0", "1.0"]),
        Value::Of(ValueType::Text) | Value::Key => {
            if random.chance(10) {
                let _ = write!(out, "{}", random.below(100_000));
            } else {
                let text =
                    format!("{}{}", random.pick(&["dev", "Füß", "x\"y", "😀"]), random.0 % 99);
                write_string(random, &text, out);
            }
        }
        Value::Time if random.chance(30) => {
            let _ = write!(out, "{}", 1_700_000_000_000 + random.below(1 << 30));
        }
        Value::Time => {
            let text = format!(
                "2025-0{}-1{}T1{}:00:00.{}Z",
                1 + random.below(9),
                random.below(9),
                random.below(9),
                random.below(99_999)
            );
            write_string(random, &text, out);
        }
        Value::Any if random.chance(60) => write_number(random, out),
        Value::Any => {
            *out += "[{\"device_id\": [1, {\"time\":2}], \"x\\u0041\":";
            write_number(random, out);
            *out += "}, null, [ ], \"]}\\\"\" ] ";
        }
        Value::Group(members) => write_members(random, members, out),
    }
}

fn write_members(random: &mut Random, members: &[Member], out: &mut String) {
    out.push('{');
    let mut first = true;
    for member in members {
        if random.chance(2) {
            continue;
        }
        if !first {
            out.push(',');
        }
        first = false;
        *out += &member.before;
        write_value(random, &member.value, out);
        *out += member.after;
    }
    out.push('}');
}

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
            write_members(&mut random, &members, &mut text);
            assert!(!matches!(judge(text.as_bytes()), Judgement::Malformed), "{text}");
            events += usize::from(check(&mut decoder, &mut block, text.as_bytes()));
        }
    }
    assert!(events > 20_000, "only {events} events of 36000");
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    const TOKENS: [&str; 26] = [
        "NaN",
        "Infinity",
        "-",
        "\\u",
        "\\ud800",
        "\\",
        "\"",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "e5",
        ".",
        "0",
        "null",
        "true",
        " ",
        "\t",
        "\u{1}",
        "é",
        "1e400",
        "\"device_id\":",
        "{}",
        "\\n",
    ];
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len().max(1)).min(bytes.len());
        let end = (at + random.below(12)).min(bytes.len());
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] = random.next() as u8,
            1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 if at < bytes.len() => bytes[at] = random.pick(b"0123456789.-+eE,:\"{}[] \\atn"),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.truncate(at),
            5 => {
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            6 => drop(bytes.splice(at..end, random.pick(&TOKENS).bytes())),
            _ => drop(bytes.splice(at..at, random.pick(&TOKENS).bytes())),
        }
    }
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
            write_members(&mut random, &members, &mut text);
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

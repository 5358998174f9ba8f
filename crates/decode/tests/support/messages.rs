//! Random messages for a schema: any order, any source, any spelling, and damage.
#![allow(unreachable_pub, reason = "included by some tests")]

use std::fmt::Write;

use tidemill_kernel::schema::{Role, Schema, ValueType};

use crate::support::Random;

/// One name of a template with the white space around it.
pub struct Member {
    before: String,
    value: Value,
    after: &'static str,
}

pub enum Value {
    Of(ValueType),
    Key,
    /// A key as devices write it.
    PlainKey,
    Time,
    /// A time as text.
    TextTime,
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
pub fn template(random: &mut Random, schema: &Schema) -> Vec<Member> {
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

/// Returns the members of messages that are written alike throughout: all names once, in one
/// object, each with the same text behind it.
pub fn flat_template(schema: &Schema, colon: &str) -> Vec<Member> {
    let fields = schema.fields().iter().map(|field| {
        let value = match field.role {
            Role::Key => Value::PlainKey,
            Role::Time => Value::TextTime,
            _ => Value::Of(field.value_type),
        };
        (field.path[0].as_str(), value)
    });
    let unknown = [("extra", ValueType::Float), ("überflüssig", ValueType::Text)];
    let unknown = unknown.map(|(name, of)| (name, Value::Of(of)));
    let members = fields.chain(unknown).map(|(name, value)| {
        let before = format!("\"{name}\"{colon}");
        Member { before, value, after: "" }
    });
    members.collect()
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
        Value::PlainKey => write!(out, "\"device-{}\"", random.below(1_000)).expect("memory"),
        Value::Time if random.chance(30) => {
            let _ = write!(out, "{}", 1_700_000_000_000 + random.below(1 << 30));
        }
        Value::Time | Value::TextTime => {
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
        Value::Group(members) => write_members(random, members, ",", out),
    }
}

/// Appends an object of these members, nearly all of them, with that text between them.
pub fn write_members(random: &mut Random, members: &[Member], between: &str, out: &mut String) {
    out.push('{');
    let mut first = true;
    for member in members {
        if random.chance(2) {
            continue;
        }
        if !first {
            *out += between;
        }
        first = false;
        *out += &member.before;
        write_value(random, &member.value, out);
        *out += member.after;
    }
    out.push('}');
}

/// Damages a message in one to three places.
pub fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
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

//! What a message means, said again in the slow and obvious way on top of `serde_json`.
#![allow(unreachable_pub, reason = "included by one test")]

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use tidemill_decode::time::{parse_number, parse_text};
use tidemill_kernel::event::{Message, Reason};
use tidemill_kernel::schema::{Field, Role, Schema, Slot, ValueType};
use tidemill_kernel::time::Timestamp;

/// A JSON value that keeps repeated names.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    Array,
    Object(Vec<(String, Tree)>),
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any JSON value")
    }
    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Int(value.into()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Int(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Float(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.into()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        while items.next_element::<Tree>()?.is_some() {}
        Ok(Tree::Array)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Tree, A::Error> {
        let mut out = Vec::new();
        while let Some(member) = members.next_entry::<String, Tree>()? {
            out.push(member);
        }
        Ok(Tree::Object(out))
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

/// What `serde_json` makes of a payload once the merciful words are arrays, which mean the same.
pub enum Judgement {
    Valid(Tree),
    /// Valid, but with a number that `serde_json` cannot represent.
    OutOfRange,
    Malformed,
}

pub fn judge(payload: &[u8]) -> Judgement {
    let text = without_mercy(payload);
    match serde_json::from_slice::<Tree>(&text) {
        Ok(tree @ Tree::Object(_)) => Judgement::Valid(tree),
        Ok(_) => Judgement::Malformed,
        Err(error) if error.to_string().starts_with("number out of range") => {
            match serde_json::from_slice::<serde::de::IgnoredAny>(&text) {
                Ok(_) if text.trim_ascii().starts_with(b"{") => Judgement::OutOfRange,
                _ => Judgement::Malformed,
            }
        }
        Err(_) => Judgement::Malformed,
    }
}

fn without_mercy(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len());
    let (mut at, mut in_string) = (0, false);
    'bytes: while at < payload.len() {
        if !in_string {
            for word in [&b"-Infinity"[..], b"Infinity", b"NaN"] {
                if payload[at..].starts_with(word) {
                    out.extend_from_slice(b"[]");
                    at += word.len();
                    continue 'bytes;
                }
            }
        }
        if in_string && payload[at] == b'\\' {
            out.push(b'\\');
            at += 1;
        } else if payload[at] == b'"' {
            in_string = !in_string;
        }
        out.extend(payload.get(at));
        at += 1;
    }
    out
}

/// What a field says in a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Nothing,
    Duplicate,
    Invalid,
    Float(f64),
    Int(i128),
    Text(String),
    Time(Timestamp),
    /// The reference cannot tell.
    Unsure,
}

fn occurrences<'t>(tree: &'t Tree, path: &[String]) -> Vec<&'t Tree> {
    let mut found = vec![tree];
    for name in path {
        found = found
            .into_iter()
            .filter_map(|tree| if let Tree::Object(members) = tree { Some(members) } else { None })
            .flatten()
            .filter_map(|(member, value)| (member == name).then_some(value))
            .collect();
    }
    found
}

pub fn said(tree: &Tree, field: &Field) -> Said {
    for path in std::iter::once(&field.path).chain(&field.aliases) {
        match occurrences(tree, path)[..] {
            [] | [Tree::Null] => {}
            [value] => return meaning(field, value),
            _ => return Said::Duplicate,
        }
    }
    Said::Nothing
}

fn whole(value: &Tree) -> Option<Option<i128>> {
    match value {
        Tree::Int(value) => Some(Some(*value)),
        Tree::Float(value) if value.abs() >= 9e15 => None,
        // Digits that an f64 does not hold may have been lost.
        Tree::Float(value) if value.fract() == 0.0 => {
            if *value == 0.0 {
                None
            } else {
                Some(Some(*value as i128))
            }
        }
        _ => Some(None),
    }
}

fn in_range(field: &Field, value: f64) -> bool {
    field.range.is_none_or(|(low, high)| low <= value && value <= high)
}

fn meaning(field: &Field, value: &Tree) -> Said {
    match (field.role, field.value_type, value) {
        (Role::Time, _, Tree::Text(text)) => {
            parse_text(text.as_bytes(), field.time_unit).map_or(Said::Invalid, Said::Time)
        }
        (Role::Time, _, Tree::Int(number)) => {
            let size = u64::try_from(number.unsigned_abs()).expect("64 bits at most");
            parse_number(*number < 0, size, 0, field.time_unit).map_or(Said::Invalid, Said::Time)
        }
        (Role::Time, _, Tree::Float(_)) => Said::Unsure,
        (Role::Key, _, Tree::Text(text)) if text.is_empty() || text.len() > 256 => Said::Invalid,
        (Role::Key, _, Tree::Text(text)) | (_, ValueType::Text, Tree::Text(text)) => {
            Said::Text(text.clone())
        }
        (Role::Key, _, _) | (_, ValueType::Text, _) => match whole(value) {
            Some(Some(number)) => Said::Text(number.to_string()),
            Some(None) => Said::Invalid,
            None => Said::Unsure,
        },
        (_, ValueType::Float, Tree::Int(number)) if in_range(field, *number as f64) => {
            Said::Float(*number as f64)
        }
        (_, ValueType::Float, Tree::Float(number)) if in_range(field, *number) => {
            Said::Float(*number)
        }
        (_, ValueType::Int, Tree::Text(text)) => {
            let word = field.words.iter().find(|(word, _)| word == text);
            word.map_or(Said::Invalid, |(_, number)| Said::Int((*number).into()))
        }
        (_, ValueType::Int, _) => match whole(value) {
            Some(Some(n)) if i64::try_from(n).is_ok() && in_range(field, n as f64) => Said::Int(n),
            Some(_) => Said::Invalid,
            None => Said::Unsure,
        },
        (_, ValueType::Bool, Tree::Bool(value)) => Said::Int(i128::from(*value)),
        (_, ValueType::Bool, _) => match whole(value) {
            Some(Some(number @ (0 | 1))) => Said::Int(number),
            Some(_) => Said::Invalid,
            None => Said::Unsure,
        },
        _ => Said::Invalid,
    }
}

/// Compares a decoded message with what the tree says; returns whether it is an event.
pub fn compare(schema: &Schema, tree: &Tree, message: Message<'_>, text: &str) -> bool {
    let said: Vec<Said> = schema.fields().iter().map(|field| said(tree, field)).collect();
    let find = |role| schema.fields().iter().position(|field| field.role == role).expect("has it");
    let (key, time) = (find(Role::Key), find(Role::Time));
    let expected = match (&said[key], &said[time]) {
        (Said::Unsure, _) | (_, Said::Unsure) => return message.reject().is_none(),
        (Said::Nothing, _) => Some(Reason::MissingKey),
        (Said::Duplicate, _) => Some(Reason::DuplicateKey),
        (Said::Invalid, _) => Some(Reason::InvalidKey),
        (_, Said::Nothing) => Some(Reason::MissingTime),
        (_, Said::Duplicate | Said::Invalid) => Some(Reason::InvalidTime),
        _ => None,
    };
    assert_eq!(message.reject(), expected, "{text}");
    if expected.is_some() {
        return false;
    }
    let part = tidemill_kernel::key::parts(message.key()).next().expect("one part");
    assert_eq!(Said::Text(part.into()), said[key], "{text}");
    assert_eq!(Said::Time(message.time()), said[time], "{text}");
    let (mut invalid, mut unsure) = (0, 0);
    for ((field, slot), said) in schema.fields().iter().zip(schema.slots()).zip(&said) {
        let found = match *slot {
            Slot::Float(slot) => message.float(slot).map(Said::Float),
            Slot::Int(slot) => message.int(slot).map(|value| Said::Int(value.into())),
            Slot::Text(slot) => message
                .text(slot)
                .map(|text| Said::Text(str::from_utf8(text).expect("UTF-8").into())),
            Slot::Key(_) | Slot::Time => continue,
        };
        match (said, found) {
            (Said::Unsure, _) => unsure += 1,
            (Said::Duplicate | Said::Invalid, found) => {
                invalid += 1;
                assert_eq!(found, None, "{} in {text}", field.name);
            }
            (Said::Float(expected), Some(Said::Float(found))) => {
                let same = (expected + 0.0).to_bits() == found.to_bits();
                assert!(same, "{}: {expected} is not {found} in {text}", field.name);
            }
            (said, found) => {
                assert_eq!(found.unwrap_or(Said::Nothing), *said, "{} in {text}", field.name);
            }
        }
    }
    let counted = message.invalid_count();
    assert!((invalid..=invalid + unsure).contains(&counted), "{counted} invalid in {text}");
    true
}

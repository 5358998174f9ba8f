//! Counts what stands at each place of the sampled messages. It decides nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tidemill_decode::time::parse_text;
use tidemill_kernel::schema::TimeUnit;

use super::Sampled;

/// Places that are told apart; further ones are left out.
const PLACES_MAX: usize = 512;
/// Levels of nesting that are looked into.
const LEVELS_MAX: usize = 8;
/// Different values of a place that are kept.
pub(super) const VALUES_MAX: usize = 2_048;
/// Bytes of a text that are kept of each.
const TEXT_BYTES_MAX: usize = 256;

/// A value in a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List,
    Object(Vec<(String, Value)>),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        let end = text.floor_char_boundary(TEXT_BYTES_MAX);
        Ok(Value::Text(text[..end].to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            object.push(entry);
        }
        Ok(Value::Object(object))
    }
}

/// What stood at one place.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) path: Vec<String>,
    pub(super) null_count: usize,
    pub(super) bool_count: usize,
    pub(super) int_count: usize,
    pub(super) float_count: usize,
    pub(super) text_count: usize,
    pub(super) list_count: usize,
    /// Texts that read as a time.
    pub(super) time_text_count: usize,
    /// Smallest and largest number.
    pub(super) range: Option<(f64, f64)>,
    /// Different texts and whole numbers, at most [`VALUES_MAX`].
    pub(super) values: BTreeSet<String>,
}

impl Place {
    /// Returns how many messages have a value here.
    pub(super) fn count(&self) -> usize {
        self.bool_count + self.int_count + self.float_count + self.text_count + self.list_count
    }

    fn note(&mut self, value: &Value) {
        let mut number = |number: f64| {
            let (low, high) = self.range.unwrap_or((number, number));
            self.range = Some((low.min(number), high.max(number)));
        };
        match value {
            Value::Null => self.null_count += 1,
            Value::Bool(_) => self.bool_count += 1,
            Value::Int(whole) => {
                number(*whole as f64);
                self.int_count += 1;
                self.keep(whole.to_string());
            }
            Value::Float(float) => {
                number(*float);
                self.float_count += 1;
            }
            Value::Text(text) => {
                self.text_count += 1;
                let time = parse_text(text.as_bytes(), TimeUnit::Auto);
                self.time_text_count += usize::from(time.is_some());
                self.keep(text.clone());
            }
            Value::List | Value::Object(_) => self.list_count += 1,
        }
    }

    fn keep(&mut self, value: String) {
        if self.values.len() < VALUES_MAX {
            self.values.insert(value);
        }
    }
}

/// What was seen in a sample.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub(super) places: Vec<Place>,
    /// Of each readable message its values by place.
    pub(super) messages: Vec<Vec<(usize, Value)>>,
    /// Of each readable message its partition and when it was published (ms).
    pub(super) origins: Vec<(u32, i64)>,
    /// Messages that are no JSON object.
    pub unreadable_count: usize,
}

impl Observed {
    /// Returns how many messages are JSON objects.
    pub fn readable_count(&self) -> usize {
        self.messages.len()
    }
}

/// Looks at each message of a sample.
pub fn observe(sample: &[Sampled]) -> Observed {
    let mut observed = Observed::default();
    let mut index = BTreeMap::new();
    for message in sample {
        let Ok(Value::Object(object)) = serde_json::from_slice(&message.payload) else {
            observed.unreadable_count += 1;
            continue;
        };
        let mut values = Vec::new();
        flatten(&mut Vec::new(), object, &mut |path, value| {
            let next = observed.places.len();
            let at = match index.get(path) {
                Some(at) => *at,
                None if next < PLACES_MAX => {
                    index.insert(path.to_vec(), next);
                    observed.places.push(Place { path: path.to_vec(), ..Place::default() });
                    next
                }
                None => return,
            };
            observed.places[at].note(&value);
            values.push((at, value));
        });
        observed.messages.push(values);
        observed.origins.push((message.partition, message.publish_time_ms));
    }
    observed
}

fn flatten(
    path: &mut Vec<String>,
    object: Vec<(String, Value)>,
    take: &mut impl FnMut(&[String], Value),
) {
    for (name, value) in object {
        path.push(name);
        match value {
            Value::Object(below) if path.len() < LEVELS_MAX => flatten(path, below, take),
            value => take(path, value),
        }
        path.pop();
    }
}

//! Guesses from what was observed: which field is the key, which the time, what the others are
//! for. Every guess says what it rests on. No guess looks at anything but the sample.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_kernel::schema::{QUALITY_COLUMNS, TimeUnit};

use super::{
    observe::{Observed, Place, VALUES_MAX, Value},
    order::{Order, order},
};

/// A field that every message should have may be missing in this share of them.
const MISSING_SHARE_MAX: f64 = 0.05;
/// Texts with at most so many values that change within a device are words for numbers.
const WORDS_MAX: usize = 16;
/// The largest whole number that may be a code, and how many different ones there may be.
const CODE_MAX: f64 = 255.0;
const CODES_MAX: usize = 32;
/// Numbers from 1990 to 2100 in seconds since the epoch.
const EPOCH_S: (f64, f64) = (631_152_000.0, 4_102_444_800.0);

/// What a field is taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldGuess {
    /// Name of the column.
    pub name: String,
    /// Where it stands.
    pub path: Vec<String>,
    /// The role used in configuration.
    pub role: &'static str,
    /// The type, if it is not the role's default.
    pub value_type: Option<&'static str>,
    /// Further keys of the entry and their values as TOML.
    pub settings: Vec<(&'static str, String)>,
    /// What the guess rests on.
    pub evidence: String,
}

/// Everything that is guessed of a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guesses {
    /// Key, time if there is one, then the others in the order of the messages.
    pub fields: Vec<FieldGuess>,
    /// What is not used, and why.
    pub notes: Vec<String>,
    /// No field is a usable time: when a message was published counts.
    pub time_is_published: bool,
    /// What the times of the messages are to each other.
    pub order: Order,
}

/// Guesses a schema.
///
/// # Errors
/// If no field can be the key; the text says what was looked for.
pub fn guess(observed: &Observed) -> Result<Guesses, String> {
    if observed.messages.is_empty() {
        let count = observed.unreadable_count;
        return Err(format!("none of {count} messages is a JSON object; nothing can be guessed"));
    }
    let time = time(observed);
    let at_time = time.as_ref().map(|(at, ..)| *at);
    let (key, key_evidence, others) = key(observed, at_time)?;
    let devices = Devices::new(observed, key);
    let mut names = Names::default();
    let mut notes = others;
    let mut fields = vec![field(&mut names, observed, key, "key", key_evidence)];
    let place_of_time = time.as_ref().map(|(at, unit, _)| (*at, *unit));
    if let Some((at, unit, evidence)) = time {
        let mut time = field(&mut names, observed, at, "time", evidence);
        time.settings.push(("time_unit", format!("{:?}", unit_name(unit))));
        fields.push(time);
    }
    let used = [Some(key), at_time];
    for (at, place) in
        observed.places.iter().enumerate().filter(|(at, _)| !used.contains(&Some(*at)))
    {
        let shown = place.path.join(".");
        if place.count() == 0 {
            notes.push(format!("{shown} is not used: always null"));
        } else if place.list_count * 2 > place.count() {
            notes.push(format!("{shown} is not used: lists are not read"));
        } else if place.path.iter().any(String::is_empty) {
            notes.push(format!("{shown:?} is not used: a level has no name"));
        } else {
            fields.push(metric(&mut names, observed, at, &devices));
        }
    }
    let order = order(observed, place_of_time);
    Ok(Guesses { fields, notes, time_is_published: place_of_time.is_none(), order })
}

fn field(
    names: &mut Names,
    observed: &Observed,
    at: usize,
    role: &'static str,
    evidence: String,
) -> FieldGuess {
    let path = observed.places[at].path.clone();
    let (value_type, settings) = (None, Vec::new());
    FieldGuess { name: names.take(&path), path, role, value_type, settings, evidence }
}

/// Returns whether enough messages have a value there.
fn is_everywhere(observed: &Observed, place: &Place) -> bool {
    let missing = observed.messages.len().saturating_sub(place.count());
    missing as f64 <= observed.messages.len() as f64 * MISSING_SHARE_MAX
}

fn nearly_all(count: usize, place: &Place) -> bool {
    count > 0 && count * 100 >= place.count() * 99
}

fn last_name(place: &Place) -> String {
    let name = place.path.last().map(String::as_str).unwrap_or_default();
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

/// Returns place, unit and evidence of the time: what nearly every message has and reads as one.
fn time(observed: &Observed) -> Option<(usize, TimeUnit, String)> {
    let mut best: Option<(u32, usize, TimeUnit, String)> = None;
    for (at, place) in observed.places.iter().enumerate() {
        if !is_everywhere(observed, place) {
            continue;
        }
        let count = place.count();
        let found = if nearly_all(place.time_text_count, place) {
            Some((
                TimeUnit::Auto,
                format!("{} of {count} texts read as a time", place.time_text_count),
            ))
        } else if nearly_all(place.int_count + place.float_count, place) {
            place.range.and_then(epoch_unit).map(|unit| {
                let (low, high) = place.range.expect("numbers have a range");
                (unit, format!("numbers from {low} to {high} are {} since 1970", unit_word(unit)))
            })
        } else {
            None
        };
        let Some((unit, evidence)) = found else {
            continue;
        };
        let named = match last_name(place).as_str() {
            "time" | "timestamp" | "ts" | "eventtime" | "datetime" => 3,
            name if name.contains("time") || name.ends_with("ts") || name.ends_with("at") => 2,
            _ => u32::from(unit == TimeUnit::Auto),
        };
        // The first of equals: further times are mostly of something else.
        if best.as_ref().is_none_or(|best| named > best.0) {
            best = Some((named, at, unit, evidence));
        }
    }
    best.map(|(_, at, unit, evidence)| (at, unit, evidence))
}

/// Returns the unit in which all of these numbers lie between 1990 and 2100.
fn epoch_unit((low, high): (f64, f64)) -> Option<TimeUnit> {
    let units = [
        (TimeUnit::Seconds, 1.0),
        (TimeUnit::Milliseconds, 1e3),
        (TimeUnit::Microseconds, 1e6),
        (TimeUnit::Nanoseconds, 1e9),
    ];
    let fits = |scale: f64| low >= EPOCH_S.0 * scale && high <= EPOCH_S.1 * scale;
    units.into_iter().find(|(_, scale)| fits(*scale)).map(|(unit, _)| unit)
}

fn unit_name(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Auto => "auto",
        TimeUnit::Seconds => "s",
        TimeUnit::Milliseconds => "ms",
        TimeUnit::Microseconds => "us",
        TimeUnit::Nanoseconds => "ns",
    }
}

fn unit_word(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Auto => "times",
        TimeUnit::Seconds => "seconds",
        TimeUnit::Milliseconds => "milliseconds",
        TimeUnit::Microseconds => "microseconds",
        TimeUnit::Nanoseconds => "nanoseconds",
    }
}

/// How much a name sounds like that of a device.
fn device_score(place: &Place) -> u32 {
    match last_name(place).as_str() {
        "deviceid" | "sensorid" => 6,
        "device" | "sensor" | "hostname" | "host" | "imei" | "mac" | "serial" | "serialnumber"
        | "nodeid" | "machineid" | "assetid" | "vehicleid" | "meterid" | "devicename" => 5,
        "id" => 3,
        name if ["type", "model", "class", "kind"].iter().any(|end| name.ends_with(end)) => 0,
        name if name.contains("device") || name.contains("sensor") => 3,
        name if name.ends_with("id") => 2,
        _ => 1,
    }
}

/// Returns place and evidence of the key, and a note on each other candidate.
fn key(observed: &Observed, time: Option<usize>) -> Result<(usize, String, Vec<String>), String> {
    let mut candidates = Vec::new();
    for (at, place) in observed.places.iter().enumerate() {
        let score = device_score(place);
        // Of a few messages anything may be wrong.
        let is_text =
            nearly_all(place.text_count, place) && place.time_text_count * 2 < place.count();
        let is_whole = nearly_all(place.int_count, place) && score >= 2;
        let different = place.values.len();
        // What differs in every message names the message, not the device.
        let repeats = different < VALUES_MAX && different * 2 <= place.count().max(3);
        if Some(at) == time || !is_everywhere(observed, place) || !(is_text || is_whole) || !repeats
        {
            continue;
        }
        let counts = score >= 2 || (is_text && different > 1);
        if counts && score > 0 {
            candidates.push((score, different, std::cmp::Reverse(at)));
        }
    }
    candidates.sort_unstable();
    let (_, different, best) = candidates.pop().ok_or(
        "no field can be the key: a text, or a whole number named like an id, that nearly every \
         message has and that is the same in several of them",
    )?;
    let count = observed.places[best.0].count();
    let named =
        if device_score(&observed.places[best.0]) >= 3 { ", named like a device" } else { "" };
    let evidence = format!("different values: {different}, in {count} messages{named}");
    let like_ids = candidates.into_iter().rev().filter(|(score, ..)| *score >= 2);
    let others = like_ids.map(|(_, different, at)| {
        let path = observed.places[at.0].path.join(".");
        format!(
            "{path} could be the key too, or a second part of it; different values: {different}"
        )
    });
    Ok((best.0, evidence, others.take(5).collect()))
}

/// What places do within a device.
struct Devices {
    count: usize,
    /// Places that have one value in each device.
    constant: BTreeSet<usize>,
    /// Places of numbers that never fall within a device, and mostly grow.
    growing: BTreeSet<usize>,
}

impl Devices {
    fn new(observed: &Observed, key: usize) -> Devices {
        let mut last: BTreeMap<(String, usize), &Value> = BTreeMap::new();
        let mut devices = BTreeSet::new();
        let (mut changes, mut falls) = (BTreeMap::new(), BTreeMap::new());
        let mut repeats: BTreeMap<usize, usize> = BTreeMap::new();
        for message in &observed.messages {
            let of_device = message.iter().find(|(at, _)| *at == key).map(|(_, value)| value);
            let device = match of_device {
                Some(Value::Text(text)) => text.clone(),
                Some(Value::Int(whole)) => whole.to_string(),
                _ => continue,
            };
            for (at, value) in message.iter().filter(|(_, value)| *value != Value::Null) {
                let Some(before) = last.insert((device.clone(), *at), value) else {
                    continue;
                };
                *repeats.entry(*at).or_default() += 1;
                *changes.entry(*at).or_insert(0) += usize::from(before != value);
                if let (Value::Int(before), Value::Int(value)) = (before, value) {
                    *falls.entry(*at).or_insert(0) += usize::from(value < before);
                }
            }
            devices.insert(device);
        }
        let changed = |at: usize| changes.get(&at).copied().unwrap_or(0);
        let places = repeats.iter();
        let constant = places.clone().filter(|(at, _)| changed(**at) == 0).map(|(at, _)| *at);
        let growing = places.filter(|(at, steps)| {
            falls.get(*at) == Some(&0) && **steps >= 10 && changed(**at) * 2 > **steps
        });
        Devices {
            count: devices.len(),
            constant: constant.collect(),
            growing: growing.map(|(at, _)| *at).collect(),
        }
    }
}

fn metric(names: &mut Names, observed: &Observed, at: usize, devices: &Devices) -> FieldGuess {
    let place = &observed.places[at];
    let mut guess = field(names, observed, at, "gauge", String::new());
    let is_constant = devices.constant.contains(&at);
    let each = match devices.count {
        1 => "the only device".to_owned(),
        count => format!("each of {count} devices"),
    };
    let numbers = place.int_count + place.float_count;
    if place.bool_count * 2 > place.count() {
        guess.role = "flag";
        guess.evidence = format!("true or false in {} messages", place.bool_count);
    } else if place.text_count * 2 > place.count() {
        text(&mut guess, place, is_constant, &each);
    } else if is_constant && !is_measured(place) {
        guess.role = "attribute";
        guess.value_type = Some(if place.float_count > 0 { "float" } else { "int" });
        guess.evidence = format!("one value in {each}");
    } else if place.float_count == 0 {
        whole(&mut guess, place, devices.growing.contains(&at));
    } else {
        guess.evidence = "numbers".to_owned();
    }
    if let Some((low, high)) = place.range.filter(|_| numbers * 2 > place.count()) {
        guess.evidence = format!("{}, {low} to {high}", guess.evidence);
        if let Some((range, why)) = range(place, low, high) {
            guess.settings.push(("range", range.to_owned()));
            guess.evidence = format!("{}; range: {why}", guess.evidence);
        }
    }
    let lacking = observed.messages.len() - place.count().min(observed.messages.len());
    if lacking > 0 {
        guess.evidence = format!("{}; missing in {lacking} messages", guess.evidence);
    }
    guess
}

/// Returns whether the name is that of a measured quantity, which may stand still for a while.
fn is_measured(place: &Place) -> bool {
    let name = last_name(place);
    let known =
        ["temp", "humid", "press", "level", "usage", "load", "volt", "current", "power", "count"];
    known.iter().any(|part| name.contains(part)) || is_state(&name)
}

fn is_state(name: &str) -> bool {
    ["status", "state", "mode", "code"].iter().any(|part| name.contains(part))
}

fn text(guess: &mut FieldGuess, place: &Place, is_constant: bool, each: &str) {
    let different = place.values.len();
    if different <= WORDS_MAX && (is_state(&last_name(place)) || !is_constant) {
        guess.role = "code";
        let words = place.values.iter().zip(1..);
        let words = words.map(|(word, number)| format!("{} = {number}", quoted(word)));
        guess.settings.push(("words", format!("{{ {} }}", words.collect::<Vec<_>>().join(", "))));
        guess.evidence = format!("a text with {different} values; the numbers are free to choose");
        return;
    }
    guess.role = "attribute";
    guess.evidence = if is_constant {
        format!("one text in {each}; different values: {different}")
    } else {
        format!("{different} texts that change within a device; the earliest is kept")
    };
}

fn whole(guess: &mut FieldGuess, place: &Place, is_growing: bool) {
    let name = last_name(place);
    let (low, high) = place.range.unwrap_or_default();
    let counts = ["count", "packets", "bytes", "errors", "total", "sent", "received", "events"];
    if is_growing {
        guess.value_type = Some("int");
        guess.settings.push(("aggregates", "[\"min\", \"max\"]".to_owned()));
        guess.evidence = "whole numbers that only grow within a device: no sum of them".to_owned();
    } else if low >= 0.0 && high <= CODE_MAX && place.values.len() <= CODES_MAX && is_state(&name) {
        guess.role = "code";
        guess.evidence = format!("{} small whole numbers, named like a state", place.values.len());
    } else if low >= 0.0 && counts.iter().any(|part| name.contains(part)) {
        guess.role = "counter";
        guess.evidence = "whole numbers, named like a count per message".to_owned();
    } else {
        guess.evidence = "whole numbers".to_owned();
    }
}

/// Returns a range that follows from the meaning of the quantity, if the values are within it.
fn range(place: &Place, low: f64, high: f64) -> Option<(&'static str, &'static str)> {
    let name = last_name(place);
    let (bounds, text, why) = match name.as_str() {
        "latitude" | "lat" => ((-90.0, 90.0), "[-90, 90]", "degrees of latitude"),
        "longitude" | "lon" | "lng" => ((-180.0, 180.0), "[-180, 180]", "degrees of longitude"),
        "humidity" | "battery" | "batterylevel" => ((0.0, 100.0), "[0, 100]", "percent"),
        _ => return None,
    };
    (low >= bounds.0 && high <= bounds.1).then_some((text, why))
}

/// Returns a name or word as it is written in TOML.
pub(super) fn quoted(text: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !text.is_empty() && text.chars().all(is_bare) {
        return text.to_owned();
    }
    crate::cli::toml_text(text)
}

/// Column names given so far, in small letters.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    /// Returns a free column name for a path.
    fn take(&mut self, path: &[String]) -> String {
        let last = snake(path.last().map(String::as_str).unwrap_or_default());
        let whole = path.iter().map(|level| snake(level)).collect::<Vec<_>>().join("_");
        let mut name = last.clone();
        for number in 2.. {
            let is_taken = QUALITY_COLUMNS.iter().any(|(column, _)| *column == name);
            if !is_taken && !self.0.contains(&name) {
                break;
            }
            name = match number {
                2 if whole != last => cut(&whole),
                _ => format!("{}_{number}", cut(&whole)),
            };
        }
        self.0.insert(name.clone());
        name
    }
}

/// Leaves room for a number and the suffix of an aggregate.
fn cut(name: &str) -> String {
    name.chars().take(40).collect()
}

/// Returns a name as that of a column: small letters, digits and `_`.
fn snake(name: &str) -> String {
    let mut text = String::new();
    let mut before = '_';
    for c in name.chars().filter(|c| c.is_ascii_alphanumeric() || "_-. ".contains(*c)) {
        let is_start =
            c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit());
        if is_start {
            text.push('_');
        }
        text.push(if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
        before = c;
    }
    let text = cut(text.trim_matches('_'));
    match text.chars().next() {
        None => "field".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("field_{text}"),
        Some(_) => text,
    }
}

//! Guesses on samples whose meaning is known.

use super::{Sampled, guess, guess::quoted, observe};
use crate::cli::toml_text;

const PUBLISHED_MS: i64 = 1_767_225_700_000;

fn sample(lines: impl IntoIterator<Item = String>) -> Vec<Sampled> {
    let message = |line: String| Sampled {
        payload: line.into(),
        publish_time_ms: PUBLISHED_MS,
        partition: 0,
    };
    lines.into_iter().map(message).collect()
}

/// Guesses, and returns of each field: name, role, evidence and settings.
fn guessed(lines: impl IntoIterator<Item = String>) -> Vec<(String, &'static str, String)> {
    let guesses = guess(&observe(&sample(lines))).expect("a schema");
    let field = |field: super::FieldGuess| {
        let settings = field.settings.iter().map(|(name, value)| format!("{name} = {value}"));
        let settings: Vec<String> = settings.collect();
        (field.name, field.role, format!("{}: {}", settings.join(" "), field.evidence))
    };
    guesses.fields.into_iter().map(field).collect()
}

#[test]
fn a_mixed_fleet_is_told_apart() {
    let lines = (0..200).map(|n| {
        let (device, at) = (n % 8, 1_767_225_600 + n);
        let state = ["idle", "busy", "down"][n % 3];
        format!(
            "{{\"msgId\":\"m{n}\",\"ts\":{at},\"meterId\":\"meter-{device}\",\"site\":\"s{}\",\
             \"geo\":{{\"lat\":{}.5,\"lon\":8.25}},\"volts\":{}.5,\"state\":\"{state}\",\
             \"errorCount\":{},\"uptime\":{},\"open\":{},\"tags\":[1],\"none\":null}}",
            device / 2,
            40 + device,
            220 + n % 7,
            n % 4,
            n * 10,
            n % 2 == 0
        )
    });
    let fields = guessed(lines);
    let role = |name: &str| {
        let found = fields.iter().find(|field| field.0 == name);
        found.unwrap_or_else(|| panic!("no {name} in {fields:?}"))
    };
    assert_eq!(fields[0].0, "meter_id");
    assert_eq!((fields[1].0.as_str(), fields[1].1), ("ts", "time"));
    assert!(fields[1].2.starts_with("time_unit = \"s\""), "{fields:?}");
    for (name, expected) in [
        ("meter_id", "key"),
        ("site", "attribute"),
        ("lat", "attribute"),
        ("volts", "gauge"),
        ("state", "code"),
        ("error_count", "counter"),
        ("uptime", "gauge"),
        ("open", "flag"),
        ("msg_id", "attribute"),
    ] {
        assert_eq!(role(name).1, expected, "{:?}", role(name));
    }
    assert!(role("lat").2.contains("range = [-90, 90]"), "{:?}", role("lat"));
    assert!(role("state").2.contains("words = { busy = 1, down = 2, idle = 3 }"));
    assert!(role("uptime").2.contains("only grow within a device"));
    assert!(fields.iter().all(|field| !["tags", "none"].contains(&field.0.as_str())));
}

#[test]
fn a_few_broken_messages_change_no_guess() {
    let line = |n: i64| match n {
        17 => "{\"device\":{\"id\":1},\"time\":1767225600,\"x\":1.5}".to_owned(),
        18 => "{\"device\":false,\"time\":\"yesterday\",\"x\":1.5}".to_owned(),
        19 => "{\"device\":\"d1\"".to_owned(),
        _ => format!("{{\"device\":\"d{}\",\"time\":{},\"x\":1.5}}", n % 3, 1_767_225_600 + n),
    };
    let fields = guessed((0..1_000).map(line));
    assert_eq!((fields[0].0.as_str(), fields[0].1), ("device", "key"), "{fields:?}");
    assert_eq!((fields[1].0.as_str(), fields[1].1), ("time", "time"), "{fields:?}");
}

#[test]
fn units_of_times_are_told_by_their_magnitude() {
    let units = [("s", 1), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000_i64)];
    for (unit, scale) in units {
        let line = |n: i64| format!("{{\"id\":\"a\",\"when\":{}}}", (1_767_225_600 + n) * scale);
        let fields = guessed((0..10).map(line));
        assert!(fields[1].2.starts_with(&format!("time_unit = \"{unit}\"")), "{fields:?}");
    }
    let line = |n: i64| format!("{{\"id\":\"a\",\"when\":\"2026-01-01 00:00:0{n}\"}}");
    let fields = guessed((0..10).map(line));
    assert!(fields[1].2.starts_with("time_unit = \"auto\""), "{fields:?}");
}

#[test]
fn disorder_is_measured_and_outliers_are_told() {
    let line = |n: i64| {
        let late = if n == 500 { 3_600_000 } else { n % 3 * 1_000 };
        format!("{{\"id\":\"a\",\"time\":{}}}", 1_767_225_600_000 + n * 10 - late)
    };
    let guesses = guess(&observe(&sample((0..2_000).map(line)))).expect("a schema");
    assert!((3_590_000..3_610_000).contains(&guesses.order.disorder_ms), "{guesses:?}");
    assert!((1_900..2_100).contains(&guesses.order.usual_disorder_ms), "{guesses:?}");
    assert_eq!(guesses.order.ahead_ms, 0);
}

#[test]
fn disorder_is_that_within_a_partition() {
    let line = |n: i64| format!("{{\"id\":\"a\",\"time\":{}}}", 1_767_225_600_000 + n % 500 * 100);
    let mut messages = sample((0..1_000).map(line));
    messages.iter_mut().skip(500).for_each(|message| message.partition = 1);
    let order = guess(&observe(&messages)).expect("a schema").order;
    assert_eq!((order.disorder_ms, order.usual_disorder_ms), (0, 0));
    messages[700].publish_time_ms -= 90_000;
    let ahead_ms = 1_767_225_620_000 - (PUBLISHED_MS - 90_000);
    assert_eq!(guess(&observe(&messages)).expect("a schema").order.ahead_ms, ahead_ms);
}

#[test]
fn publish_time_counts_where_no_field_is_a_time() {
    for line in ["{\"id\":\"a\",\"x\":#}", "{\"id\":\"a\",\"x\":#,\"time\":\"soon\"}"] {
        let mut messages = sample((0..100).map(|n| line.replace('#', &n.to_string())));
        for (message, n) in messages.iter_mut().zip(0..) {
            message.publish_time_ms += if n == 50 { -7_000 } else { n };
        }
        let guesses = guess(&observe(&messages)).expect("a schema");
        assert!(guesses.time_is_published);
        assert!(guesses.fields.iter().all(|field| field.role != "time"), "{guesses:?}");
        assert_eq!((guesses.order.disorder_ms, guesses.order.ahead_ms), (7_049, 0));
    }
}

#[test]
fn sample_without_a_key_says_what_is_missing() {
    let why = |line: &str| {
        let lines = (0..9).map(|n| line.replace('#', &n.to_string()));
        guess(&observe(&sample(lines))).expect_err("no schema")
    };
    assert!(why("{\"x\":#,\"time\":17672256#0}").contains("can be the key"));
    assert!(why("no json #").contains("none of 9 messages is a JSON object"));
}

#[test]
fn texts_are_written_so_that_toml_reads_them_back() {
    for text in ["plain", "a b", "quote\" back\\slash", "line\nbreak\u{7f}", "", "${HOME}", "é"] {
        let document = format!("x = {}\n{} = 1", toml_text(text), quoted(text));
        let root = toml::de::DeTable::parse(&document).expect("TOML").into_inner();
        let read = root.get("x").and_then(|value| value.get_ref().as_str().map(str::to_owned));
        assert_eq!(read.as_deref(), Some(text.replace("${", "$${").as_str()));
    }
}

//! Faults of a fleet and other shapes: their shares, and that they leave everything else alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{messages, mixed, object, parse_rfc3339};
use crate::generate::{GenerateConfig, Generated, Generator, Kind, Shape, TimeFormat};

/// A stream with every fault.
fn faulty() -> GenerateConfig {
    GenerateConfig {
        missing_ratio: 0.05,
        duplicate_ratio: 0.1,
        silent_ratio: 0.2,
        silent_for_ms: 5_000,
        wrong_clock_ratio: 0.3,
        wrong_clock_by_ms: 4_000,
        burst_every_ms: 2_000,
        burst_ratio: 0.25,
        ..mixed()
    }
}

fn with(change: impl FnOnce(&mut GenerateConfig)) -> GenerateConfig {
    let mut config = mixed();
    change(&mut config);
    config
}

/// Guards the promise over versions and machines for every fault and shape.
#[test]
fn bytes_of_a_seed_with_faults_never_change() {
    let digests = [Shape::Sensor, Shape::Nested, Shape::Cpu].map(|shape| {
        let mut digest = 0xcbf2_9ce4_8422_2325_u64; // FNV-1a
        for (_, bytes) in messages(&GenerateConfig { shape, ..faulty() }, 0, 20_000) {
            for byte in bytes {
                digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        digest
    });
    let expected = [0x270b_f0f7_276b_705d, 0x9308_08b8_e890_1617, 0xca31_6eaa_2355_f491];
    assert_eq!(digests, expected, "they are now {digests:#x?}");
}

#[test]
fn faulty_stream_resumes_at_any_index() {
    let straight = messages(&faulty(), 0, 1_000);
    for from in [1, 50, 333, 998] {
        assert_eq!(messages(&faulty(), from as u64, 1_000 - from), straight[from..]);
    }
    assert_eq!(messages(&faulty(), u64::MAX - 1, 3).len(), 3);
}

#[test]
fn missing_fields_are_left_out_and_all_else_is_as_without() {
    for shape in [Shape::Sensor, Shape::Nested, Shape::Cpu] {
        let whole = messages(&with(|c| c.shape = shape), 0, 20_000);
        let config = with(|c| (c.missing_ratio, c.shape) = (0.1, shape));
        let mut lacking_count = 0;
        for ((found, bytes), (_, expected)) in messages(&config, 0, 20_000).iter().zip(&whole) {
            if found.missing_count == 0 {
                assert_eq!(bytes, expected);
                continue;
            }
            lacking_count += 1;
            let leaves = |bytes: &[u8]| {
                let mut leaves = BTreeMap::new();
                for (name, value) in object(bytes) {
                    match value.as_object() {
                        Some(below) => leaves.extend(below.clone()),
                        None => drop(leaves.insert(name, value)),
                    }
                }
                leaves
            };
            let (present, all) = (leaves(bytes), leaves(expected));
            assert_eq!(all.len() - present.len(), usize::from(found.missing_count));
            assert!(present.iter().all(|(name, value)| all[name] == *value));
            let config = &config;
            assert!(["device_id", "sensorId", "hostname"].iter().any(|n| present.contains_key(*n)));
            assert!(["time", "timestamp"].iter().any(|n| present.contains_key(*n)), "{config:?}");
        }
        // 3 % are malformed, and lack nothing more.
        assert!((1_700..2_200).contains(&lacking_count), "{shape:?}: {lacking_count}");
    }
}

#[test]
fn duplicate_is_the_message_before_byte_for_byte() {
    let found = messages(&with(|c| c.duplicate_ratio = 0.2), 0, 20_000);
    let without = messages(&mixed(), 0, 20_000);
    let mut duplicate_count = 0;
    for at in 0..found.len() {
        assert_eq!(found[at].0.publish_time_ms, without[at].0.publish_time_ms);
        if found[at].0.is_duplicate {
            duplicate_count += 1;
            assert_eq!(found[at].1, found[at - 1].1);
            assert_eq!(found[at].0.device, found[at - 1].0.device);
        } else {
            assert_eq!(found[at], without[at]);
        }
    }
    assert!((3_700..4_300).contains(&duplicate_count), "{duplicate_count}");
}

#[test]
fn silent_devices_say_nothing_for_their_time_and_others_step_in() {
    let config = with(|c| (c.silent_ratio, c.silent_for_ms) = (0.3, 10_000));
    let mut heard: BTreeMap<i64, BTreeSet<u32>> = BTreeMap::new();
    for (found, _) in messages(&config, 0, 60_000) {
        heard.entry(found.publish_time_ms / 10_000).or_default().insert(found.device);
    }
    let counts: Vec<usize> = heard.values().map(BTreeSet::len).collect();
    assert_eq!(counts.len(), 6);
    assert!(counts.iter().all(|count| (25..46).contains(count)), "of 50: {counts:?}");
    let all: BTreeSet<u32> = heard.values().flatten().copied().collect();
    assert_eq!(all.len(), 50, "nobody is silent for ever");
    let sets: BTreeSet<&BTreeSet<u32>> = heard.values().collect();
    assert!(sets.len() > 1, "others are silent later");
}

#[test]
fn wrong_clock_is_wrong_by_the_same_amount_all_the_time() {
    let config = with(|c| {
        (c.wrong_clock_ratio, c.wrong_clock_by_ms) = (0.4, 5_000);
        c.out_of_orderness_ms = 0;
    });
    let mut errors: BTreeMap<u32, BTreeSet<i64>> = BTreeMap::new();
    for (found, bytes) in messages(&config, 0, 10_000) {
        if found.kind == Kind::Normal {
            let error_ms = found.event_time_ms - found.publish_time_ms;
            errors.entry(found.device).or_default().insert(error_ms);
            let written = object(&bytes)["time"].as_str().and_then(parse_rfc3339);
            assert_eq!(written, Some(found.event_time_ms));
        }
    }
    assert!(errors.values().all(|errors| errors.len() == 1), "{errors:?}");
    let wrong: Vec<i64> = errors.values().flatten().copied().filter(|error| *error != 0).collect();
    assert!((10..31).contains(&wrong.len()), "of 50: {wrong:?}");
    assert!(wrong.iter().all(|error| error.abs() <= 5_000));
    assert!(wrong.iter().any(|error| *error > 0) && wrong.iter().any(|error| *error < 0));
}

#[test]
fn bursts_come_at_the_beginning_of_their_period_and_lose_nothing() {
    let config = with(|c| (c.burst_every_ms, c.burst_ratio) = (2_000, 0.25));
    let found = messages(&config, 0, 10_000);
    let mut before = i64::MIN;
    let mut periods: BTreeMap<i64, u32> = BTreeMap::new();
    for (Generated { publish_time_ms, .. }, _) in &found {
        let after_ms = publish_time_ms - config.start_ms;
        assert!(*publish_time_ms >= before, "publish times never fall");
        before = *publish_time_ms;
        assert!(after_ms % 2_000 < 500, "{after_ms}");
        *periods.entry(after_ms / 2_000).or_default() += 1;
    }
    assert!(periods.values().all(|count| *count == 2_000), "{periods:?}");
}

#[test]
fn faults_out_of_their_bounds_are_named() {
    type Change = fn(&mut GenerateConfig);
    let cases: [(Change, &str); 8] = [
        (|c| c.missing_ratio = 1.1, "missing_ratio = 1.1: give"),
        (|c| c.duplicate_ratio = 0.91, "duplicate_ratio = 0.91: give a share from 0.0 to 0.9"),
        (|c| c.silent_ratio = f64::NAN, "silent_ratio = NaN: give"),
        (|c| c.silent_for_ms = 0, "silent_for_ms = 0: give"),
        (|c| c.wrong_clock_ratio = -0.1, "wrong_clock_ratio = -0.1: give"),
        (|c| c.wrong_clock_by_ms = u64::MAX, "wrong_clock_by_ms = 18446744073709551615: give"),
        (|c| c.burst_every_ms = u64::MAX, "burst_every_ms = 18446744073709551615: give"),
        (|c| c.burst_ratio = 0.0, "burst_ratio = 0: give a share above 0.0"),
    ];
    for (change, expected) in cases {
        let text = Generator::new(with(change)).expect_err("out of bounds").to_string();
        assert!(text.starts_with(expected), "{text}");
    }
}

#[test]
fn malformed_message_of_any_shape_has_no_key_with_a_time() {
    for (shape, key, time) in
        [(Shape::Nested, "sensorId", "timestamp"), (Shape::Cpu, "hostname", "time")]
    {
        let config = with(|c| {
            (c.shape, c.malformed_ratio) = (shape, 1.0);
            (c.late_ratio, c.future_ratio) = (0.0, 0.0);
        });
        for (_, bytes) in messages(&config, 0, 5_000) {
            let Ok(serde_json::Value::Object(fields)) = serde_json::from_slice(&bytes) else {
                continue;
            };
            let keys = String::from_utf8_lossy(&bytes).matches(&format!("\"{key}\":")).count();
            let has_key = keys == 1 && fields[key].is_string();
            let written = fields.get(time).and_then(|time| time.as_str());
            let has_time = written.and_then(parse_rfc3339).is_some();
            assert!(!(has_key && has_time), "{fields:?}");
        }
    }
}

#[test]
fn shapes_have_the_fields_of_their_presets() {
    let config = with(|c| c.shape = Shape::Nested);
    let (mut words, mut count) = (BTreeSet::new(), 0);
    for (found, bytes) in messages(&config, 0, 50_000) {
        if found.kind == Kind::Malformed {
            continue;
        }
        count += 1;
        let object = object(&bytes);
        assert_eq!(object.len(), 21);
        assert_eq!(object["metadata"].as_object().map(|below| below.len()), Some(5));
        let written = object["timestamp"].as_str().and_then(parse_rfc3339);
        assert_eq!(written, Some(found.event_time_ms));
        words.insert(object["status"].as_str().expect("a word").to_owned());
    }
    assert!(count > 40_000);
    assert!(words.contains("ONLINE") && words.contains("ERROR"), "{words:?}");
    let config = with(|c| (c.shape, c.time_format) = (Shape::Cpu, TimeFormat::EpochMs));
    for (found, bytes) in messages(&config, 0, 5_000) {
        if found.kind == Kind::Malformed {
            continue;
        }
        let object = object(&bytes);
        assert_eq!(object.len(), 11);
        assert_eq!(object["time"].as_i64(), Some(found.event_time_ms));
        let usage = ["usage_user", "usage_system", "usage_idle", "usage_iowait"];
        let sum: f64 = usage.iter().map(|name| object[*name].as_f64().expect("a number")).sum();
        assert!((sum - 100.0).abs() < 1e-9, "{sum}");
    }
}

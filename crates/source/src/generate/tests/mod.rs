//! The stream as its readers see it: bytes, fields, shares, order.

mod faults;

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::*;

/// A stream with something of everything.
fn mixed() -> GenerateConfig {
    GenerateConfig {
        seed: 42,
        rate_per_s: 1_000.0,
        devices: 50,
        out_of_orderness_ms: 3_000,
        late_ratio: 0.02,
        malformed_ratio: 0.03,
        future_ratio: 0.01,
        ..GenerateConfig::default()
    }
}

fn messages(config: &GenerateConfig, from: u64, count: usize) -> Vec<(Generated, Vec<u8>)> {
    let mut generator = Generator::at(config.clone(), from).unwrap();
    let write = |_| {
        let mut bytes = Vec::new();
        (generator.next(&mut bytes), bytes)
    };
    (0..count).map(write).collect()
}

/// Reads a time as the test needs it, without the code under test.
fn parse_rfc3339(text: &str) -> Option<i64> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let part = |from: usize, to: usize| digits.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before: i64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let length = *lengths.get(usize::try_from(month - 1).ok()?)?;
    if !(1..=length).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let months: i64 = lengths.iter().take((month - 1) as usize).sum();
    let days = before + months + day - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + part(14, 17)?)
}

fn object(bytes: &[u8]) -> Map<String, Value> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => object,
        other => panic!("{other:?}: {}", String::from_utf8_lossy(bytes)),
    }
}

#[test]
fn same_seed_gives_same_bytes() {
    assert_eq!(messages(&mixed(), 0, 5_000), messages(&mixed(), 0, 5_000));
}

/// Guards the promise over versions and machines; a change here is a change for users.
#[test]
fn bytes_of_a_seed_never_change() {
    let mut digest = 0xcbf2_9ce4_8422_2325_u64; // FNV-1a
    for (_, bytes) in messages(&mixed(), 0, 20_000) {
        for byte in bytes {
            digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    assert_eq!(digest, 0xb1bf_0387_3bbb_4fdb, "the digest of the stream is now {digest:#x}");
}

#[test]
fn different_seeds_give_different_values() {
    let other = GenerateConfig { seed: 43, ..mixed() };
    let (ours, theirs) = (messages(&mixed(), 0, 1_000), messages(&other, 0, 1_000));
    let equal = ours.iter().zip(&theirs).filter(|(a, b)| !a.1.is_empty() && a.1 == b.1).count();
    assert_eq!(equal, 0);
}

#[test]
fn stream_resumes_at_any_index() {
    let straight = messages(&mixed(), 0, 2_000);
    for from in [0, 1, 49, 50, 51, 777, 1_999] {
        assert_eq!(messages(&mixed(), from as u64, 2_000 - from), straight[from..]);
    }
    let mut generator = Generator::new(mixed()).unwrap();
    generator.seek(1_234);
    assert_eq!(generator.index(), 1_234);
    let mut bytes = Vec::new();
    assert_eq!((generator.next(&mut bytes), bytes), straight[1_234].clone());
    let far = messages(&mixed(), u64::MAX - 1, 3); // wraps, does not panic
    assert_eq!(far[2], straight[0]);
    assert_eq!(far[0].0.publish_time_ms, PUBLISH_MS_MAX);
}

#[test]
fn bytes_do_not_depend_on_kept_devices() {
    let few = GenerateConfig { devices: KEPT_DEVICES_MAX, ..mixed() };
    let mut with = Generator::new(few.clone()).unwrap();
    let mut without = Generator::new(few).unwrap();
    without.kept = Vec::new();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..10_000 {
        with.next(&mut ours);
        without.next(&mut theirs);
    }
    assert!(ours == theirs);
}

#[test]
fn normal_message_has_25_fields_in_order_and_range() {
    let ranges = [
        ("latitude", -90.0, 90.0),
        ("longitude", -180.0, 180.0),
        ("altitude", 0.0, 900.0),
        ("temperature", 10.0, 35.0),
        ("humidity", 5.0, 95.0),
        ("pressure", 900.0, 1050.0),
        ("co2_level", 380.0, 2000.0),
        ("noise_level", 20.0, 80.0),
        ("light_level", 0.0, 1500.0),
        ("battery_level", 0.0, 100.0),
        ("signal_strength", -90.0, -30.0),
        ("memory_usage", 0.0, 100.0),
        ("cpu_usage", 0.0, 100.0),
        ("status", 1.0, 4.0),
        ("error_count", 0.0, 8.0),
        ("packets_sent", 0.0, 100.0),
        ("packets_received", 0.0, 100.0),
        ("bytes_sent", 0.0, 25_000.0),
        ("bytes_received", 0.0, 15_000.0),
    ];
    // A slow stream over many devices: three weeks, all hours, several sites.
    let config = GenerateConfig { rate_per_s: 0.01, devices: 300, ..mixed() };
    for (generated, bytes) in messages(&config, 0, 20_000) {
        if generated.kind == Kind::Malformed {
            continue;
        }
        let fields = object(&bytes);
        let text = String::from_utf8(bytes).unwrap();
        let places: Vec<_> = FIELDS.map(|name| text.find(&format!("\"{name}\":"))).into();
        assert!(places.is_sorted() && places[0].is_some(), "{text}");
        assert_eq!(fields.len(), 25, "{text}");
        assert_eq!(fields["device_id"], format!("sensor_{:03}", generated.device));
        let time = parse_rfc3339(fields["time"].as_str().unwrap());
        assert_eq!(time, Some(generated.event_time_ms), "{text}");
        for name in ["device_type", "customer_id", "site_id"] {
            assert!(fields[name].is_string(), "{text}");
        }
        assert!(fields["motion_detected"].is_boolean(), "{text}");
        for (name, low, high) in ranges {
            let value = fields[name].as_f64().unwrap();
            assert!((low..=high).contains(&value), "{name} = {value}: {text}");
        }
        for name in &FIELDS[19..] {
            assert!(fields[*name].is_u64(), "{name}: {text}");
        }
    }
}

#[test]
fn attributes_are_constant_per_device() {
    let mut seen: HashMap<u32, Vec<Value>> = HashMap::new();
    for (generated, bytes) in messages(&mixed(), 0, 5_000) {
        if generated.kind != Kind::Malformed {
            let fields = object(&bytes);
            let values: Vec<_> = FIELDS[2..8].iter().map(|name| fields[*name].clone()).collect();
            assert_eq!(seen.entry(generated.device).or_insert_with(|| values.clone()), &values);
        }
    }
    assert_eq!(seen.len(), 50);
    let places: HashSet<_> = seen.values().map(|values| values[3].to_string()).collect();
    assert!(places.len() > 25, "devices differ: {places:?}");
}

#[test]
fn mean_size_is_near_500_bytes() {
    for time_format in [TimeFormat::Rfc3339, TimeFormat::EpochMs] {
        let config = GenerateConfig { time_format, ..GenerateConfig::default() };
        let mut generator = Generator::new(config).unwrap();
        let mut bytes = Vec::new();
        for _ in 0..10_000 {
            generator.next(&mut bytes);
        }
        let mean = bytes.len() / 10_000;
        assert!((450..=560).contains(&mean), "{mean} bytes");
    }
}

#[test]
fn longest_message_fits_the_reserved_room() {
    let config = GenerateConfig {
        device_prefix: "p".repeat(DEVICE_PREFIX_BYTES_MAX),
        device_digits: 10,
        devices: 1_000,
        first_device: u32::MAX - 999,
        malformed_ratio: 0.2,
        ..GenerateConfig::default()
    };
    let longest = messages(&config, 0, 20_000).iter().map(|(_, bytes)| bytes.len()).max();
    assert!(longest < Some(message::MESSAGE_BYTES_MAX - 200), "{longest:?}");
}

#[test]
fn epoch_times_are_whole_milliseconds() {
    let config = GenerateConfig { time_format: TimeFormat::EpochMs, ..mixed() };
    for (generated, bytes) in messages(&config, 0, 1_000) {
        if generated.kind != Kind::Malformed {
            assert_eq!(object(&bytes)["time"].as_i64(), Some(generated.event_time_ms));
        }
    }
}

#[test]
fn shares_of_kinds_are_as_configured() {
    let mut counts: HashMap<Kind, f64> = HashMap::new();
    let mut defects: HashMap<Defect, u32> = HashMap::new();
    for (generated, _) in messages(&mixed(), 0, 100_000) {
        *counts.entry(generated.kind).or_default() += 1.0;
        assert_eq!(generated.defect.is_some(), generated.kind == Kind::Malformed);
        if let Some(defect) = generated.defect {
            *defects.entry(defect).or_default() += 1;
        }
    }
    let shares =
        [(Kind::Normal, 0.94), (Kind::Late, 0.02), (Kind::Malformed, 0.03), (Kind::Future, 0.01)];
    for (kind, share) in shares {
        let found = counts[&kind] / 100_000.0;
        assert!((found - share).abs() < 0.002, "{kind:?}: {found}");
    }
    for defect in Defect::ALL {
        let count = defects.get(&defect).copied().unwrap_or(0);
        assert!((250..500).contains(&count), "{defect:?}: {count} of 3000");
    }
}

#[test]
fn shares_of_zero_and_one_hold_exactly() {
    let none = GenerateConfig::default();
    assert!(messages(&none, 0, 5_000).iter().all(|(found, _)| found.kind == Kind::Normal));
    let all = GenerateConfig { late_ratio: 1.0, ..none };
    assert!(messages(&all, 0, 5_000).iter().all(|(found, _)| found.kind == Kind::Late));
}

#[test]
fn sensor_job_has_3600_messages_per_device_and_minute() {
    let mut generator = Generator::new(GenerateConfig::default()).unwrap();
    let mut counts = vec![[0u32; 500]; 2];
    let mut bytes = Vec::new();
    for _ in 0..2 * 1_800_000 {
        bytes.clear();
        let generated = generator.next(&mut bytes);
        let minute = (generated.publish_time_ms - generator.config().start_ms) / 60_000;
        counts[minute as usize][(generated.device - 1) as usize] += 1;
    }
    assert!(counts.iter().flatten().all(|count| *count == 3_600));
}

#[test]
fn each_cycle_visits_every_device_once_in_changing_order() {
    for devices in [1, 2, 6, 210, 997] {
        let config = GenerateConfig { devices, first_device: 0, ..mixed() };
        let order: Vec<_> = messages(&config, 0, 4 * devices as usize)
            .iter()
            .map(|(generated, _)| generated.device)
            .collect();
        for cycle in order.chunks(devices as usize) {
            let visited: HashSet<_> = cycle.iter().copied().collect();
            assert_eq!(visited.len(), devices as usize);
            assert!(visited.iter().all(|device| *device < devices));
        }
        if devices > 200 {
            assert_ne!(order[..devices as usize], order[devices as usize..][..devices as usize]);
        }
    }
}

#[test]
fn event_times_keep_to_their_distances() {
    let config = mixed();
    let (mut least, mut most, mut before) = (i64::MAX, i64::MIN, i64::MIN);
    for (found, _) in messages(&config, 0, 100_000) {
        assert_eq!(found.publish_time_ms, config.start_ms + found.index as i64);
        assert!(found.publish_time_ms >= before);
        before = found.publish_time_ms;
        let behind_ms = found.publish_time_ms - found.event_time_ms;
        match found.kind {
            Kind::Late => assert_eq!(behind_ms, config.late_by_ms as i64),
            Kind::Future => assert_eq!(-behind_ms, config.future_by_ms as i64),
            Kind::Normal | Kind::Malformed => {
                (least, most) = (least.min(behind_ms), most.max(behind_ms));
            }
        }
    }
    assert_eq!((least, most), (0, 3_000), "the whole span is used, and no more");
    let ordered = GenerateConfig { out_of_orderness_ms: 0, ..GenerateConfig::default() };
    let mut found = messages(&ordered, 0, 1_000).into_iter().map(|(found, _)| found);
    assert!(found.all(|found| found.event_time_ms == found.publish_time_ms));
}

#[test]
fn publish_times_follow_uneven_rates() {
    let config = GenerateConfig { rate_per_s: 7.5, start_ms: START_MS_MIN, ..mixed() };
    let generator = Generator::new(config).unwrap();
    let after = |index| generator.publish_time_ms(index) - START_MS_MIN;
    assert_eq!([0, 1, 2, 15, 7_500].map(after), [0, 133, 266, 2_000, 1_000_000]);
    let slow = GenerateConfig { rate_per_s: 0.001, ..mixed() };
    let slow = Generator::new(slow).unwrap();
    assert_eq!(slow.publish_time_ms(2) - slow.publish_time_ms(0), 2_000_000);
}

#[test]
fn malformed_message_never_yields_a_key_and_a_time() {
    let config = GenerateConfig { malformed_ratio: 1.0, late_ratio: 0.0, ..mixed() };
    let config = GenerateConfig { future_ratio: 0.0, ..config };
    for time_format in [TimeFormat::Rfc3339, TimeFormat::EpochMs] {
        let config = GenerateConfig { time_format, ..config.clone() };
        for (generated, bytes) in messages(&config, 0, 20_000) {
            let defect = generated.defect.expect("all are malformed");
            check_defect(defect, &String::from_utf8(bytes).unwrap());
        }
    }
}

fn check_defect(defect: Defect, text: &str) {
    assert!(!text.contains('\n'), "{text}");
    let parsed = serde_json::from_str::<Value>(text);
    let fields = match &parsed {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return assert_eq!(defect, Defect::NotAnObject, "{text}"),
        Err(_) => {
            let expected = match text.as_bytes().first() {
                None => Defect::Empty,
                Some(b'{') => Defect::Truncated,
                Some(_) => Defect::NotAnObject,
            };
            return assert_eq!(defect, expected, "{text}");
        }
    };
    let key = fields.get("device_id");
    let time = fields.get("time");
    let keys = text.matches("\"device_id\":").count();
    if let (2, Some(Value::String(last))) = (keys, key) {
        assert_eq!(text.matches(&format!(":\"{last}\"")).count(), 1, "values differ: {text}");
    }
    let time_readable = match time {
        Some(Value::String(time)) => parse_rfc3339(time).is_some(),
        Some(Value::Number(_)) => true,
        _ => false,
    };
    let expected = match (key, time) {
        (None | Some(Value::Null), _) => Defect::MissingKey,
        (Some(Value::String(_)), _) if keys == 2 => Defect::DuplicateKey,
        (Some(Value::String(_)), None | Some(Value::Null)) => Defect::MissingTime,
        (Some(Value::String(_)), _) if !time_readable => Defect::UnreadableTime,
        (Some(Value::String(_)), _) => panic!("a valid event: {text}"),
        _ => Defect::KeyOfWrongType,
    };
    assert_eq!(defect, expected, "{text}");
    let alone = matches!(key, Some(Value::String(_))) || time_readable;
    assert!(alone, "one defect at a time: {text}");
}

#[test]
fn device_names_have_at_least_the_configured_digits() {
    let config = GenerateConfig { first_device: 998, devices: 3, ..mixed() };
    let generator = Generator::new(config).unwrap();
    let name = |device| {
        let mut out = Vec::new();
        generator.push_key(device, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!([7, 998, 1000].map(name), ["sensor_007", "sensor_998", "sensor_1000"]);
}

#[test]
fn unusable_config_names_key_value_and_remedy() {
    type Change = fn(&mut GenerateConfig);
    let cases: [(Change, &str); 16] = [
        (|c| c.rate_per_s = 0.0, "rate_per_s = 0: give"),
        (|c| c.rate_per_s = f64::NAN, "rate_per_s = NaN: give"),
        (|c| c.rate_per_s = 1e9, "rate_per_s = 1000000000: give"),
        (|c| c.devices = 0, "devices = 0: give"),
        (|c| c.devices = DEVICES_MAX + 1, "devices = 10000001: give"),
        (|c| c.first_device = u32::MAX, "first_device = 4294967295: the last"),
        (|c| c.device_prefix.clear(), "device_prefix = \"\": give"),
        (|c| c.device_prefix.push('"'), "device_prefix = \"sensor_\\\"\": give"),
        (|c| c.device_prefix = "x".repeat(65), "device_prefix = \"xxxxx"),
        (|c| c.device_digits = 0, "device_digits = 0: give"),
        (|c| c.start_ms = 1_767_225_600, "start_ms = 1767225600: give"),
        (|c| c.late_ratio = -0.1, "late_ratio = -0.1: give"),
        (|c| c.malformed_ratio = 1.5, "malformed_ratio = 1.5: give"),
        (|c| c.future_ratio = 0.99, "future_ratio = 0.99: late_ratio, malformed_ratio"),
        (|c| c.future_by_ms = u64::MAX, "future_by_ms = 18446744073709551615: give"),
        (|c| c.late_by_ms = 3_000, "late_by_ms = 3000: must exceed out_of_orderness_ms = 3000"),
    ];
    for (change, expected) in cases {
        let mut config = mixed();
        change(&mut config);
        let text = Generator::new(config).unwrap_err().to_string();
        assert!(text.starts_with(expected), "{text}");
    }
}

#[test]
fn extreme_configs_generate_without_panic() {
    let extreme = GenerateConfig {
        seed: u64::MAX,
        devices: DEVICES_MAX,
        first_device: u32::MAX - (DEVICES_MAX - 1),
        out_of_orderness_ms: u32::MAX,
        late_by_ms: DISTANCE_MS_MAX,
        future_by_ms: DISTANCE_MS_MAX,
        ..mixed()
    };
    for (start_ms, rate_per_s) in [(START_MS_MIN, RATE_PER_S_MAX), (START_MS_MAX, RATE_PER_S_MIN)] {
        let config = GenerateConfig { start_ms, rate_per_s, ..extreme.clone() };
        for from in [0, 1 << 32, 1 << 53, u64::MAX - 500] {
            assert_eq!(messages(&config, from, 1_000).len(), 1_000);
        }
    }
}

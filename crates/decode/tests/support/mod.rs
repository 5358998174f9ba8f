//! The sensor schema of the tests, a generator of its messages, and small seeded randomness.
#![allow(dead_code, unreachable_pub, reason = "each test and example takes what it needs")]

use std::{fmt::Write, sync::Arc};

use tidemill_kernel::schema::{Aggregate, Field, Role, Schema, ValueType};

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index + 1));
        }
    }
}

fn alias(mut field: Field, paths: &[&[&str]]) -> Field {
    for path in paths {
        field.aliases.push(path.iter().map(|name| (*name).into()).collect());
    }
    field
}

/// The fields of the sensor job.
pub fn sensor_fields() -> Vec<Field> {
    use Role::{Attribute, Code, Counter, Flag, Gauge, Key, Time};
    use ValueType::{Bool, Float, Int, Text};
    let mut fields = vec![
        alias(Field::new("device_id", Text, Key), &[&["deviceId"], &["sensorId"]]),
        alias(Field::new("time", Text, Time), &[&["timestamp"]]),
        alias(Field::new("device_type", Text, Attribute), &[&["deviceType"], &["sensorType"]]),
        Field::new("customer_id", Text, Attribute),
        Field::new("site_id", Text, Attribute),
        alias(Field::new("latitude", Float, Attribute), &[&["metadata", "latitude"]]),
        alias(Field::new("longitude", Float, Attribute), &[&["metadata", "longitude"]]),
        Field::new("altitude", Float, Attribute),
    ];
    for name in [
        "temperature",
        "humidity",
        "pressure",
        "co2_level",
        "noise_level",
        "light_level",
        "battery_level",
        "signal_strength",
        "memory_usage",
        "cpu_usage",
    ] {
        fields.push(Field::new(name, Float, Gauge));
    }
    let temperature = &mut fields[8];
    temperature.aggregates = vec![Aggregate::Avg, Aggregate::Min, Aggregate::Max];
    temperature.range = Some((-90.0, 150.0));
    fields[14] = alias(fields[14].clone(), &[&["batteryLevel"]]);
    fields[15] = alias(fields[15].clone(), &[&["signalStrength"]]);
    fields.push(Field::new("motion_detected", Bool, Flag));
    let mut status = Field::new("status", Int, Code);
    for (number, word) in ["ONLINE", "OFFLINE", "MAINTENANCE", "ERROR"].iter().enumerate() {
        status.words.push(((*word).into(), number as i64 + 1));
    }
    fields.push(status);
    for name in ["error_count", "packets_sent", "packets_received", "bytes_sent", "bytes_received"]
    {
        fields.push(Field::new(name, Int, Counter));
    }
    fields
}

/// The sensor job's schema.
pub fn sensor_schema() -> Arc<Schema> {
    Arc::new(Schema::new(sensor_fields()).expect("a valid schema"))
}

/// Appends one message of 25 fields and about 514 bytes as a device would write it.
pub fn sensor_message(random: &mut Random, out: &mut String) {
    let device = random.below(500);
    let second = random.below(60);
    write!(
        out,
        "{{\"device_id\":\"sensor_{device:03}\",\"device_type\":\"{}\",\
         \"customer_id\":\"cust_{:02}\",\"site_id\":\"site_{:02}\",",
        ["temperature", "motion", "air_quality", "multi"][device % 4],
        device % 50,
        device % 20,
    )
    .expect("memory takes every write");
    write!(
        out,
        "\"latitude\":{:.4},\"longitude\":-{:.4},\"altitude\":{:.1},\
         \"time\":\"2025-10-01T12:00:{second:02}.{:03}Z\"",
        30.0 + random.below(100_000) as f64 / 10_000.0,
        100.0 + random.below(200_000) as f64 / 10_000.0,
        random.below(20_000) as f64 / 10.0,
        random.below(1000),
    )
    .expect("memory takes every write");
    for (name, low, high) in [
        ("temperature", -500, 4500),
        ("humidity", 2000, 9000),
        ("pressure", 98_000, 104_000),
        ("co2_level", 40_000, 120_000),
        ("noise_level", 3000, 9000),
        ("light_level", 0, 100_000),
        ("battery_level", 500, 10_000),
    ] {
        let value = low + random.below((high - low) as usize) as i64;
        write!(out, ",\"{name}\":{}", value as f64 / 100.0).expect("memory takes every write");
    }
    write!(
        out,
        ",\"signal_strength\":-{},\"motion_detected\":{},\"memory_usage\":{:.2},\
         \"cpu_usage\":{:.1},\"status\":{},\"error_count\":{},\"packets_sent\":{},\
         \"packets_received\":{},\"bytes_sent\":{},\"bytes_received\":{}}}",
        40 + random.below(50),
        random.chance(30),
        random.below(10_000) as f64 / 100.0,
        random.below(1_000) as f64 / 10.0,
        1 + random.below(4),
        random.below(3),
        100 + random.below(900),
        100 + random.below(900),
        10_000 + random.below(1_000_000),
        10_000 + random.below(1_000_000),
    )
    .expect("memory takes every write");
}

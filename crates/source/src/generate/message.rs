//! Writes one message as compact JSON without a newline: in the shape `sensor` the 25 fields in the
//! order of [`FIELDS`], else those of `shapes.rs`. In pieces, so that a malformed message can
//! replace exactly the piece that it breaks.

use super::config::{GenerateConfig, Shape, TimeFormat};
use super::digits::{
    push_hundredths, push_i32, push_padded, push_rfc3339, push_ten_thousandths, push_tenths,
    push_u32,
};
use super::physics::{Profile, Reading};
use super::shapes::{self, Names};

/// The fields of a normal message in the order in which they are written.
pub const FIELDS: [&str; 25] = [
    "device_id",
    "time",
    "device_type",
    "customer_id",
    "site_id",
    "latitude",
    "longitude",
    "altitude",
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
    "motion_detected",
    "status",
    "error_count",
    "packets_sent",
    "packets_received",
    "bytes_sent",
    "bytes_received",
];

/// Room for any message: 440 bytes of names, 180 of values, a prefix of 64 and slack.
pub(super) const MESSAGE_BYTES_MAX: usize = 1024;

/// Appends a device's name, which needs no escaping in JSON.
pub(super) fn push_name(out: &mut Vec<u8>, config: &GenerateConfig, device: u32) {
    out.extend_from_slice(config.device_prefix.as_bytes());
    push_padded(out, u64::from(device), usize::from(config.device_digits));
}

/// Returns the fields that a message may lack: all but key and time.
pub(super) fn optional_fields(shape: Shape) -> &'static [&'static str] {
    match shape {
        Shape::Sensor => &FIELDS[2..],
        Shape::Nested => &shapes::NESTED_FIELDS,
        Shape::Cpu => &shapes::CPU_FIELDS,
    }
}

/// Appends `"device_id":"NAME"`, or what the key is called.
pub(super) fn push_key(out: &mut Vec<u8>, config: &GenerateConfig, device: u32) {
    out.extend_from_slice(Names::of(config.shape).key);
    out.push(b'"');
    push_name(out, config, device);
    out.push(b'"');
}

/// Appends `"time":VALUE`, or what the time is called.
pub(super) fn push_time(out: &mut Vec<u8>, config: &GenerateConfig, at_ms: i64) {
    out.extend_from_slice(Names::of(config.shape).time);
    match config.time_format {
        TimeFormat::Rfc3339 => {
            out.push(b'"');
            push_rfc3339(out, at_ms);
            out.push(b'"');
        }
        TimeFormat::EpochMs => {
            let at_ms = u64::try_from(at_ms).expect("validated times lie after 1970");
            push_padded(out, at_ms, 1);
        }
    }
}

/// Appends the attributes, each with a comma before it.
pub(super) fn push_attributes(out: &mut Vec<u8>, shape: Shape, profile: &Profile) {
    match shape {
        Shape::Sensor => {}
        Shape::Nested => return shapes::push_nested_attributes(out, profile),
        Shape::Cpu => return shapes::push_cpu_attributes(out, profile),
    }
    let names: [&[u8]; 3] =
        [b",\"device_type\":\"", b"\",\"customer_id\":\"", b"\",\"site_id\":\""];
    push_sensor_attributes(out, names, profile);
}

/// Appends what belongs to a sensor, with these pieces before type, customer and site.
pub(super) fn push_sensor_attributes(out: &mut Vec<u8>, names: [&[u8]; 3], profile: &Profile) {
    let [device_type, customer, site] = names;
    out.extend_from_slice(device_type);
    out.extend_from_slice(profile.device_type.as_bytes());
    out.extend_from_slice(customer);
    out.extend_from_slice(b"cust_");
    push_padded(out, u64::from(profile.customer), 4);
    out.extend_from_slice(site);
    out.extend_from_slice(b"site_");
    push_padded(out, u64::from(profile.site), 4);
    out.extend_from_slice(b"\",\"latitude\":");
    push_ten_thousandths(out, profile.latitude_e4);
    out.extend_from_slice(b",\"longitude\":");
    push_ten_thousandths(out, profile.longitude_e4);
    out.extend_from_slice(b",\"altitude\":");
    push_tenths(out, profile.altitude_e1);
}

/// Appends gauges, flag, code and counters, each with a comma before it, and the closing brace.
pub(super) fn push_reading(out: &mut Vec<u8>, shape: Shape, reading: &Reading) {
    match shape {
        Shape::Sensor => push_sensor_reading(out, reading),
        Shape::Nested => shapes::push_nested_reading(out, reading),
        Shape::Cpu => shapes::push_cpu_reading(out, reading),
    }
}

fn push_sensor_reading(out: &mut Vec<u8>, reading: &Reading) {
    out.extend_from_slice(b",\"temperature\":");
    push_hundredths(out, reading.temperature_e2);
    out.extend_from_slice(b",\"humidity\":");
    push_hundredths(out, reading.humidity_e2);
    out.extend_from_slice(b",\"pressure\":");
    push_hundredths(out, reading.pressure_e2);
    out.extend_from_slice(b",\"co2_level\":");
    push_tenths(out, reading.co2_level_e1);
    out.extend_from_slice(b",\"noise_level\":");
    push_tenths(out, reading.noise_level_e1);
    out.extend_from_slice(b",\"light_level\":");
    push_tenths(out, reading.light_level_e1);
    out.extend_from_slice(b",\"battery_level\":");
    push_hundredths(out, reading.battery_level_e2);
    out.extend_from_slice(b",\"signal_strength\":");
    push_i32(out, reading.signal_strength);
    out.extend_from_slice(b",\"memory_usage\":");
    push_hundredths(out, reading.memory_usage_e2);
    out.extend_from_slice(b",\"cpu_usage\":");
    push_hundredths(out, reading.cpu_usage_e2);
    let motion: &[u8] = if reading.motion_detected { b"true" } else { b"false" };
    out.extend_from_slice(b",\"motion_detected\":");
    out.extend_from_slice(motion);
    out.extend_from_slice(b",\"status\":");
    push_u32(out, reading.status);
    out.extend_from_slice(b",\"error_count\":");
    push_u32(out, reading.error_count);
    out.extend_from_slice(b",\"packets_sent\":");
    push_u32(out, reading.packets_sent);
    out.extend_from_slice(b",\"packets_received\":");
    push_u32(out, reading.packets_received);
    out.extend_from_slice(b",\"bytes_sent\":");
    push_u32(out, reading.bytes_sent);
    out.extend_from_slice(b",\"bytes_received\":");
    push_u32(out, reading.bytes_received);
    out.push(b'}');
}

//! The other shapes of a message: the sensor job's values nested and in camel case, and the load
//! of hosts. Like `message.rs`, in pieces that a malformed message can replace.

use super::config::Shape;
use super::digits::{push_hundredths, push_i32, push_tenths, push_u32};
use super::message::push_sensor_attributes;
use super::physics::{Profile, Reading};

/// Fields of the nested shape besides key and time, those of `metadata` too.
pub(super) const NESTED_FIELDS: [&str; 22] = [
    "sensorType",
    "siteId",
    "latitude",
    "longitude",
    "altitude",
    "temperature",
    "humidity",
    "pressure",
    "co2Level",
    "noiseLevel",
    "lightLevel",
    "batteryLevel",
    "signalStrength",
    "memoryUsage",
    "cpuUsage",
    "motionDetected",
    "status",
    "errorCount",
    "packetsSent",
    "packetsReceived",
    "bytesSent",
    "bytesReceived",
];

/// Fields of the shape `cpu` besides key and time.
pub(super) const CPU_FIELDS: [&str; 9] = [
    "region",
    "datacenter",
    "usage_user",
    "usage_system",
    "usage_idle",
    "usage_iowait",
    "load1",
    "load5",
    "load15",
];

/// The words of `status`, for 1 to 4.
const STATUS_WORDS: [&[u8]; 4] = [b"\"ONLINE\"", b"\"OFFLINE\"", b"\"MAINTENANCE\"", b"\"ERROR\""];

const REGIONS: [&str; 4] = ["eu-central", "eu-west", "us-east", "ap-south"];

/// What key and time are called, with quotes and colon.
pub(super) struct Names {
    pub(super) key: &'static [u8],
    pub(super) time: &'static [u8],
}

impl Names {
    pub(super) const fn of(shape: Shape) -> Names {
        match shape {
            Shape::Sensor => Names { key: b"\"device_id\":", time: b"\"time\":" },
            Shape::Nested => Names { key: b"\"sensorId\":", time: b"\"timestamp\":" },
            Shape::Cpu => Names { key: b"\"hostname\":", time: b"\"time\":" },
        }
    }
}

/// Appends type and `metadata`, each with a comma before it.
pub(super) fn push_nested_attributes(out: &mut Vec<u8>, profile: &Profile) {
    let customer = b"\",\"metadata\":{\"customerId\":\"";
    push_sensor_attributes(out, [b",\"sensorType\":\"", customer, b"\",\"siteId\":\""], profile);
    out.push(b'}');
}

/// Appends gauges, flag, code and counters, each with a comma before it, and the closing brace.
pub(super) fn push_nested_reading(out: &mut Vec<u8>, reading: &Reading) {
    let hundredths = [
        ("temperature", reading.temperature_e2),
        ("humidity", reading.humidity_e2),
        ("pressure", reading.pressure_e2),
        ("batteryLevel", reading.battery_level_e2),
        ("memoryUsage", reading.memory_usage_e2),
        ("cpuUsage", reading.cpu_usage_e2),
    ];
    for (name, value) in hundredths {
        push_name(out, name);
        push_hundredths(out, value);
    }
    let tenths = [
        ("co2Level", reading.co2_level_e1),
        ("noiseLevel", reading.noise_level_e1),
        ("lightLevel", reading.light_level_e1),
    ];
    for (name, value) in tenths {
        push_name(out, name);
        push_tenths(out, value);
    }
    push_name(out, "signalStrength");
    push_i32(out, reading.signal_strength);
    push_name(out, "motionDetected");
    let motion: &[u8] = if reading.motion_detected { b"true" } else { b"false" };
    out.extend_from_slice(motion);
    push_name(out, "status");
    let word = reading.status.saturating_sub(1).min(3);
    out.extend_from_slice(STATUS_WORDS[word as usize]);
    let counters = [
        ("errorCount", reading.error_count),
        ("packetsSent", reading.packets_sent),
        ("packetsReceived", reading.packets_received),
        ("bytesSent", reading.bytes_sent),
        ("bytesReceived", reading.bytes_received),
    ];
    for (name, value) in counters {
        push_name(out, name);
        push_u32(out, value);
    }
    out.push(b'}');
}

/// Appends where a host stands, each with a comma before it.
pub(super) fn push_cpu_attributes(out: &mut Vec<u8>, profile: &Profile) {
    let region = REGIONS[profile.customer as usize % REGIONS.len()];
    push_name(out, "region");
    out.push(b'"');
    out.extend_from_slice(region.as_bytes());
    out.push(b'"');
    push_name(out, "datacenter");
    out.push(b'"');
    out.extend_from_slice(region.as_bytes());
    out.extend_from_slice(&[b'-', b'a' + (profile.site % 3) as u8, b'"']);
}

/// Appends usage in percent of a host of eight processors and its load, and the closing brace.
pub(super) fn push_cpu_reading(out: &mut Vec<u8>, reading: &Reading) {
    let busy = reading.cpu_usage_e2;
    let (user, system) = (busy * 7 / 10, busy / 5);
    let values = [
        ("usage_user", user),
        ("usage_system", system),
        ("usage_idle", 10_000 - busy),
        ("usage_iowait", busy - user - system),
        ("load1", busy * 8 / 100),
        ("load5", busy * 7 / 100),
        ("load15", busy * 6 / 100),
    ];
    for (name, value) in values {
        push_name(out, name);
        push_hundredths(out, value);
    }
    out.push(b'}');
}

/// Appends `,"name":`.
fn push_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

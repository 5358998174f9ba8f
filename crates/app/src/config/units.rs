//! Durations and sizes as people write them: a whole number and a unit, which is never left out.

use std::time::Duration;

use super::error::Problem;

const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Reads `250ms`, `5s`, `1m`, `1h` or `2d` as milliseconds.
pub(super) fn parse_duration_ms(text: &str) -> Result<u64, Problem> {
    parse(text, &DURATION_UNITS).ok_or_else(|| {
        let remedy = match text.trim().parse::<u64>() {
            Ok(number) => format!("add the unit, such as \"{number}s\""),
            Err(_) => "write a whole number and ms, s, m, h or d, such as \"5s\"".into(),
        };
        Problem::new("is no duration", remedy)
    })
}

/// Reads `512B`, `4KiB`, `64MB` or `1GiB` as bytes.
pub(super) fn parse_size_bytes(text: &str) -> Result<u64, Problem> {
    parse(text, &SIZE_UNITS).ok_or_else(|| {
        let remedy = match text.trim().parse::<u64>() {
            Ok(number) => format!("add the unit, such as \"{number}B\""),
            Err(_) => {
                "write a whole number and B, KiB, MiB, GiB, KB, MB or GB, such as \"4KiB\"".into()
            }
        };
        Problem::new("is no size", remedy)
    })
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Writes milliseconds with the largest unit that leaves a whole number.
pub(super) fn duration_text(ms: u64) -> String {
    text(ms, &DURATION_UNITS, "0s")
}

/// Writes bytes with the largest unit that leaves a whole number.
pub(super) fn size_text(bytes: u64) -> String {
    text(bytes, &SIZE_UNITS, "0B")
}

fn text(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    let unit = units.iter().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    unit.map_or_else(|| zero.into(), |(name, factor)| format!("{}{name}", value / factor))
}

/// Returns whole milliseconds; durations of the config fit easily.
pub(super) fn as_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_with_their_unit() {
        for (text, ms) in
            [("5s", 5_000), ("1m", 60_000), ("250ms", 250), ("1h", 3_600_000), ("2 d", 172_800_000)]
        {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
        for (text, bytes) in [("4KiB", 4096), ("1MiB", 1 << 20), ("64MB", 64_000_000), ("7B", 7)] {
            assert_eq!(parse_size_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "5", "s", "-5s", "1.5s", "5S", "5 s ", "99999999999999999999s", "5µs"] {
            assert!(parse_duration_ms(text).is_err(), "{text}");
            assert!(parse_size_bytes(text).is_err(), "{text}");
        }
        assert!(parse_duration_ms("18446744073709551615h").is_err(), "overflow");
    }

    #[test]
    fn what_is_written_is_read_back() {
        for value in [0, 1, 999, 1_000, 1_024, 60_000, 65_536, 86_400_000, 90_061_001, 1 << 40] {
            assert_eq!(parse_duration_ms(&duration_text(value)), Ok(value));
            assert_eq!(parse_size_bytes(&size_text(value)), Ok(value));
        }
        assert_eq!(duration_text(90_000), "90s");
        assert_eq!(size_text(64 << 20), "64MiB");
    }
}

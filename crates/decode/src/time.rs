//! Times as messages write them: RFC 3339 and its looser relatives, and epoch numbers.
//!
//! Everything becomes whole milliseconds of UTC, rounded down; what lies before 1970 or beyond
//! what the stores hold is no time. There are no time zones by name and no locale formats.
//!
//! Texts are `YYYY-MM-DD`, one of `T`, `t` or a blank, `HH:MM:SS`, a fraction of any length, and
//! `Z`, `z`, an offset `±HH:MM` or nothing, which means UTC. A leap second, 23:59:60 of UTC, is
//! taken as the last millisecond before it (…59.999), so it stays in its minute; any other :60 is
//! refused. Texts of 1 to 19 digits are epoch numbers. A pinned unit takes epoch numbers only.

use tidemill_kernel::{schema::TimeUnit, time::Timestamp};

/// Below this an epoch number is seconds (until the year 5138).
pub const AUTO_SECONDS_BELOW: u64 = 100_000_000_000;
/// Below this an epoch number is milliseconds (from 1973-03-03), if it is no seconds.
pub const AUTO_MILLISECONDS_BELOW: u64 = 100_000_000_000_000;
/// Below this an epoch number is microseconds, if it is neither; from here on nanoseconds.
pub const AUTO_MICROSECONDS_BELOW: u64 = 100_000_000_000_000_000;

/// Returns the instant that a text writes, or `None`.
///
/// ```
/// use tidemill_decode::time::parse_text;
/// use tidemill_kernel::schema::TimeUnit;
/// let time = parse_text(b"2023-11-14T23:13:20.9999+01:00", TimeUnit::Auto);
/// assert_eq!(time.map(|time| time.as_ms()), Some(1_700_000_000_999));
/// ```
pub fn parse_text(text: &[u8], unit: TimeUnit) -> Option<Timestamp> {
    if text.iter().all(u8::is_ascii_digit) {
        if text.is_empty() || text.len() > 19 {
            return None;
        }
        let number = text.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        return parse_number(false, number, 0, unit);
    }
    if unit == TimeUnit::Auto { parse_date_time(text) } else { None }
}

/// Returns the instant that ±`mantissa` × 10^`exponent` writes in that unit, or `None`. A
/// mantissa that was cut off behind 19 digits gives the same instant as the whole one.
#[inline(always)]
pub fn parse_number(
    negative: bool,
    mantissa: u64,
    exponent: i64,
    unit: TimeUnit,
) -> Option<Timestamp> {
    // What most messages have, without a logarithm and 128 bits.
    let is_ms = (AUTO_SECONDS_BELOW..AUTO_MILLISECONDS_BELOW).contains(&mantissa)
        && matches!(unit, TimeUnit::Auto | TimeUnit::Milliseconds);
    if is_ms && exponent == 0 && !negative {
        return Timestamp::from_ms(mantissa as i64);
    }
    parse_any_number(negative, mantissa, exponent, unit)
}

#[inline(never)]
fn parse_any_number(
    negative: bool,
    mantissa: u64,
    exponent: i64,
    unit: TimeUnit,
) -> Option<Timestamp> {
    if mantissa == 0 {
        return Timestamp::from_ms(0);
    }
    if negative {
        return None;
    }
    let to_ms = match unit {
        TimeUnit::Seconds => 3,
        TimeUnit::Milliseconds => 0,
        TimeUnit::Microseconds => -3,
        TimeUnit::Nanoseconds => -6,
        TimeUnit::Auto => match exponent.saturating_add(i64::from(mantissa.ilog10())) {
            ..11 => 3,
            11..14 => 0,
            14..17 => -3,
            _ => -6,
        },
    };
    let shift = exponent.saturating_add(to_ms);
    let power = |size: i64| 10_u128.pow(size.unsigned_abs() as u32);
    let ms = match shift {
        ..-20 => 0,
        -20..0 => u128::from(mantissa) / power(shift),
        0..=13 => u128::from(mantissa) * power(shift),
        _ => return None,
    };
    Timestamp::from_ms(i64::try_from(ms).ok()?)
}

fn parse_date_time(text: &[u8]) -> Option<Timestamp> {
    let (fixed, rest) = text.split_first_chunk::<19>()?;
    let marks = [fixed[4], fixed[7], fixed[13], fixed[16]];
    if marks != *b"--::" || !matches!(fixed[10], b'T' | b't' | b' ') {
        return None;
    }
    let year = two(fixed, 0)? * 100 + two(fixed, 2)?;
    let (month, day) = (two(fixed, 5)?, two(fixed, 8)?);
    let (hour, minute, second) = (two(fixed, 11)?, two(fixed, 14)?, two(fixed, 17)?);
    let day_number = day_number(year, month, day)?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction_ms, rest) = fraction(rest)?;
    let minute_count = day_number * 1440 + hour * 60 + minute - offset_minutes(rest)?;
    if second == 60 {
        let last = minute_count.rem_euclid(1440) == 1439;
        return if last { Timestamp::from_ms(minute_count * 60_000 + 59_999) } else { None };
    }
    Timestamp::from_ms(minute_count * 60_000 + second * 1000 + fraction_ms)
}

#[inline]
fn two(text: &[u8; 19], at: usize) -> Option<i64> {
    let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens * 10 + ones))
}

/// The days of the 2369 years from -400 to 1969, the first of them (no leap day) left out.
const DAYS_TO_EPOCH: i64 = 2369 * 365 + 2369 / 4 - 2369 / 100 + 2369 / 400;

/// Returns the days from 1970-01-01 to a date, or `None` if there is no such date.
fn day_number(year: i64, month: i64, day: i64) -> Option<i64> {
    const BEFORE_MONTH: [i64; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let index = usize::try_from(month - 1).ok().filter(|index| *index < 12)?;
    let days = BEFORE_MONTH[index + 1] - BEFORE_MONTH[index] + i64::from(leap && month == 2);
    if day < 1 || day > days {
        return None;
    }
    // Counted from the year -400, so that nothing is negative where it is divided.
    let past = year + 399;
    let before = past * 365 + past / 4 - past / 100 + past / 400;
    let this = BEFORE_MONTH[index] + i64::from(leap && month > 2) + day - 1;
    Some(before + this - DAYS_TO_EPOCH)
}

/// Takes `.` and digits, if there; returns the whole milliseconds and what follows.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.', digits)) = rest.split_first() else { return Some((0, rest)) };
    let count = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    if count == 0 {
        return None;
    }
    let mut ms = 0;
    for place in 0..3 {
        let digit = digits[..count].get(place).map_or(0, |digit| digit - b'0');
        ms = ms * 10 + i64::from(digit);
    }
    Some((ms, &digits[count..]))
}

fn offset_minutes(zone: &[u8]) -> Option<i64> {
    match zone {
        b"" | b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let digits = [h1, h2, m1, m2];
            if !digits.iter().all(|digit| digit.is_ascii_digit()) {
                return None;
            }
            let [h1, h2, m1, m2] = digits.map(|digit| i64::from(digit - b'0'));
            let (hours, minutes) = (h1 * 10 + h2, m1 * 10 + m2);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let size = hours * 60 + minutes;
            Some(if *sign == b'-' { -size } else { size })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Option<i64> {
        parse_text(text.as_bytes(), TimeUnit::Auto).map(Timestamp::as_ms)
    }

    #[test]
    fn every_day_of_the_range_has_its_number() {
        let mut expected = 0;
        for year in 1970..=2105 {
            for month in 1..=12 {
                for day in 1..=31 {
                    if let Some(number) = day_number(year, month, day) {
                        assert_eq!(number, expected, "{year}-{month}-{day}");
                        expected += 1;
                    }
                }
            }
        }
        // 136 years, 33 leap days (2100 has none).
        assert_eq!(expected, 136 * 365 + 33);
        assert_eq!(day_number(2000, 2, 30), None);
        assert_eq!(day_number(2100, 2, 29), None);
        assert_eq!(day_number(2023, 13, 1), None);
        assert_eq!(day_number(2023, 0, 1), None);
        assert_eq!(day_number(0, 1, 1), Some(-719_528));
        assert_eq!(day_number(2023, 11, 14), Some(19_675));
    }

    #[test]
    fn date_times_are_utc_unless_they_say_otherwise() {
        let base = 1_700_000_000_000;
        assert_eq!(text("2023-11-14T22:13:20Z"), Some(base));
        assert_eq!(text("2023-11-14t22:13:20z"), Some(base));
        assert_eq!(text("2023-11-14 22:13:20"), Some(base));
        assert_eq!(text("2023-11-14T22:13:20"), Some(base));
        assert_eq!(text("2023-11-14 22:13:20.5"), Some(base + 500));
        assert_eq!(text("2023-11-14T22:13:20.123999999999999999Z"), Some(base + 123));
        assert_eq!(text("2023-11-15T03:43:20.001+05:30"), Some(base + 1));
        assert_eq!(text("2023-11-14T21:43:20-00:30"), Some(base));
        assert_eq!(text("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(text("1970-01-01T01:00:00+02:00"), None);
        assert_eq!(text("1969-12-31T23:30:00-01:00"), Some(1_800_000));
        assert_eq!(text("2106-02-07T06:28:15Z"), None);
    }

    #[test]
    fn leap_second_stays_in_its_minute() {
        assert_eq!(text("2016-12-31T23:59:60Z"), Some(1_483_228_799_999));
        assert_eq!(text("2017-01-01T00:59:60.7+01:00"), Some(1_483_228_799_999));
        assert_eq!(text("2016-12-31T22:59:60Z"), None);
        assert_eq!(text("2016-12-31T23:59:61Z"), None);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in [
            "",
            "now",
            "2023-11-14",
            "2023-11-14T22:13",
            "2023-11-14T22:13:20.",
            "-1",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20+0100",
            "2023-11-14T22:13:20 Z",
            "2023-11-14T22:13:20+24:00",
            "2023-11-14T22:13:20+01:60",
            "2023-02-29T00:00:00Z",
            "2023-11-14T24:00:00Z",
            "2023-11-14T22:60:00Z",
            "2023-11-14_22:13:20Z",
            "1.5",
            "2023/11/14 22:13:20",
            "12023-11-14T22:13:20Z",
            "2023-11-14T22:13:20,5Z",
            "99999999999999999999",
            "2023-11-14T22:13:2aZ",
            "2023-11-14T22:13:20Zx",
        ] {
            assert_eq!(text(bad), None, "{bad}");
        }
    }

    #[test]
    fn units_of_epoch_numbers_follow_from_their_size() {
        let number = |mantissa, exponent| {
            parse_number(false, mantissa, exponent, TimeUnit::Auto).map(Timestamp::as_ms)
        };
        let base = 1_700_000_000_000;
        assert_eq!(number(1_700_000_000, 0), Some(base));
        assert_eq!(number(17, 8), Some(base));
        assert_eq!(number(17_000_000_009_996, -4), Some(base + 999));
        assert_eq!(number(1_700_000_000_123, 0), Some(base + 123));
        assert_eq!(number(1_700_000_000_123_999, 0), Some(base + 123));
        assert_eq!(number(1_700_000_000_123_999_999, 0), Some(base + 123));
        assert_eq!(number(AUTO_SECONDS_BELOW - 1, 0), None);
        assert_eq!(number(AUTO_SECONDS_BELOW, 0), Some(100_000_000_000));
        assert_eq!(number(AUTO_MILLISECONDS_BELOW, 0), Some(100_000_000_000));
        assert_eq!(number(AUTO_MICROSECONDS_BELOW, 0), Some(100_000_000_000));
        assert_eq!(number(1, -400), Some(0));
        assert_eq!(number(1, 400), None);
        assert_eq!(number(1, i64::MAX), None);
        assert_eq!(number(1, i64::MIN), Some(0));
        assert_eq!(parse_number(true, 1, -9, TimeUnit::Auto), None);
        assert_eq!(parse_number(true, 0, 0, TimeUnit::Auto), Some(Timestamp::MIN));
    }

    #[test]
    fn pinned_units_take_numbers_only() {
        let pinned = |text: &str, unit| parse_text(text.as_bytes(), unit).map(Timestamp::as_ms);
        assert_eq!(pinned("1700000000000", TimeUnit::Seconds), None);
        assert_eq!(pinned("1700000000", TimeUnit::Milliseconds), Some(1_700_000_000));
        assert_eq!(pinned("0001700000000", TimeUnit::Seconds), Some(1_700_000_000_000));
        assert_eq!(pinned("1700000000999999", TimeUnit::Microseconds), Some(1_700_000_000_999));
        assert_eq!(pinned("1700000000", TimeUnit::Nanoseconds), Some(1_700));
        assert_eq!(pinned("2023-11-14T22:13:20Z", TimeUnit::Milliseconds), None);
    }
}

//! Writes numbers and times as text from whole numbers, without the formatting machinery and
//! without floats, so that the bytes are the same on every machine.

/// All pairs of decimal digits, `00` to `99`.
const PAIRS: [[u8; 2]; 100] = pairs();

const fn pairs() -> [[u8; 2]; 100] {
    let mut pairs = [[b'0'; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
}

/// Appends a number with at least `width` digits; `width` beyond 20 counts as 20.
pub(super) fn push_padded(out: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while number >= 100 {
        start -= 2;
        digits[start..start + 2].copy_from_slice(&PAIRS[(number % 100) as usize]);
        number /= 100;
    }
    if number >= 10 {
        start -= 2;
        digits[start..start + 2].copy_from_slice(&PAIRS[number as usize]);
    } else {
        start -= 1;
        digits[start] = b'0' + number as u8;
    }
    let start = start.min(digits.len().saturating_sub(width));
    out.extend_from_slice(&digits[start..]);
}

/// Appends a whole number below 2^32.
pub(super) fn push_u32(out: &mut Vec<u8>, number: u32) {
    if number < 10 {
        out.push(b'0' + number as u8);
    } else if number < 100 {
        out.extend_from_slice(&PAIRS[number as usize]);
    } else {
        push_padded(out, u64::from(number), 1);
    }
}

/// Appends a signed whole number.
pub(super) fn push_i32(out: &mut Vec<u8>, number: i32) {
    push_sign(out, number);
    push_u32(out, number.unsigned_abs());
}

/// Appends a number given in tenths with one decimal.
pub(super) fn push_tenths(out: &mut Vec<u8>, tenths: i32) {
    push_sign(out, tenths);
    let size = tenths.unsigned_abs();
    push_u32(out, size / 10);
    out.extend_from_slice(&[b'.', b'0' + (size % 10) as u8]);
}

/// Appends a number given in hundredths with two decimals.
pub(super) fn push_hundredths(out: &mut Vec<u8>, hundredths: i32) {
    push_sign(out, hundredths);
    let size = hundredths.unsigned_abs();
    push_u32(out, size / 100);
    let pair = PAIRS[(size % 100) as usize];
    out.extend_from_slice(&[b'.', pair[0], pair[1]]);
}

/// Appends a number given in ten-thousandths with four decimals.
pub(super) fn push_ten_thousandths(out: &mut Vec<u8>, number: i32) {
    push_sign(out, number);
    let size = number.unsigned_abs();
    push_u32(out, size / 10_000);
    let (high, low) = (PAIRS[(size / 100 % 100) as usize], PAIRS[(size % 100) as usize]);
    out.extend_from_slice(&[b'.', high[0], high[1], low[0], low[1]]);
}

/// Appends an instant in ms since 1970 as `2026-01-01T00:00:00.000Z`; needs a year of 0..=9999.
pub(super) fn push_rfc3339(out: &mut Vec<u8>, at_ms: i64) {
    let (year, month, day) = civil(at_ms.div_euclid(86_400_000));
    let ms_of_day = at_ms.rem_euclid(86_400_000) as u32;
    let second_of_day = ms_of_day / 1000;
    let (hour, minute) = (second_of_day / 3600, second_of_day / 60 % 60);
    let millis = ms_of_day % 1000;
    let mut text = *b"0000-00-00T00:00:00.000Z";
    text[0..2].copy_from_slice(&PAIRS[(year / 100 % 100) as usize]);
    text[2..4].copy_from_slice(&PAIRS[(year % 100) as usize]);
    text[5..7].copy_from_slice(&PAIRS[month as usize]);
    text[8..10].copy_from_slice(&PAIRS[day as usize]);
    text[11..13].copy_from_slice(&PAIRS[hour as usize]);
    text[14..16].copy_from_slice(&PAIRS[minute as usize]);
    text[17..19].copy_from_slice(&PAIRS[(second_of_day % 60) as usize]);
    text[20] = b'0' + (millis / 100) as u8;
    text[21..23].copy_from_slice(&PAIRS[(millis % 100) as usize]);
    out.extend_from_slice(&text);
}

fn push_sign(out: &mut Vec<u8>, number: i32) {
    if number < 0 {
        out.push(b'-');
    }
}

/// Year, month and day of a day count since 1970-01-01 in the Gregorian calendar.
///
/// Years are taken to start in March, so that the leap day is the last of its year and month
/// lengths follow one line: month m (March = 0) starts at day (153 m + 2) / 5.
fn civil(days: i64) -> (u32, u32, u32) {
    const DAYS_PER_ERA: i64 = 146_097; // 400 years
    const DAYS_TO_1970: i64 = 719_468; // from 0000-03-01
    let shifted = days + DAYS_TO_1970;
    let era = shifted.div_euclid(DAYS_PER_ERA);
    let day_of_era = shifted.rem_euclid(DAYS_PER_ERA) as u32;
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let (month, carry) = if march_month < 10 { (march_month + 3, 0) } else { (march_month - 9, 1) };
    ((era * 400) as u32 + year_of_era + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_keep_sign_zeros_and_width() {
        assert_eq!(text(|out| push_padded(out, 7, 3)), "007");
        assert_eq!(text(|out| push_padded(out, 12_345, 3)), "12345");
        assert_eq!(text(|out| push_padded(out, u64::MAX, 1)), u64::MAX.to_string());
        assert_eq!(text(|out| push_padded(out, 5, 99)), "00000000000000000005");
        assert_eq!(text(|out| push_hundredths(out, -5)), "-0.05");
        assert_eq!(text(|out| push_hundredths(out, 2250)), "22.50");
        assert_eq!(text(|out| push_tenths(out, 9)), "0.9");
        assert_eq!(text(|out| push_ten_thousandths(out, -1_234_005)), "-123.4005");
        assert_eq!(text(|out| push_i32(out, i32::MIN)), i32::MIN.to_string());
        for number in [0, 9, 10, 99, 100, 101, 999, 1000, 65_536, u32::MAX] {
            assert_eq!(text(|out| push_u32(out, number)), number.to_string());
        }
    }

    #[test]
    fn instants_follow_the_gregorian_calendar() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_767_225_600_000, "2026-01-01T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ];
        for (at_ms, expected) in cases {
            assert_eq!(text(|out| push_rfc3339(out, at_ms)), expected);
        }
    }
}

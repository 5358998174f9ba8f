//! Instants as text, without a clock and without time zones: everything is UTC.

/// Returns `YYYY-MM-DDTHH:MM:SS` with `separator` for the `T`, and `.mmm` if `with_ms`.
pub(crate) fn format_ms(at_ms: i64, separator: char, with_ms: bool) -> String {
    let seconds = at_ms.div_euclid(1000);
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text =
        format!("{year:04}-{month:02}-{day:02}{separator}{hour:02}:{minute:02}:{second:02}");
    if with_ms {
        text.push_str(&format!(".{:03}", at_ms.rem_euclid(1000)));
    }
    text
}

/// Days since 1970-01-01 to year, month, day: eras of 400 years that begin on the 1st of March.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA_DAYS: i64 = 146_097;
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(ERA_DAYS), shifted.rem_euclid(ERA_DAYS));
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / (ERA_DAYS - 1);
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::format_ms;

    #[test]
    fn known_instants_are_written_as_calendar_dates() {
        assert_eq!(format_ms(0, ' ', false), "1970-01-01 00:00:00");
        assert_eq!(format_ms(951_782_399_999, 'T', true), "2000-02-28T23:59:59.999");
        assert_eq!(format_ms(951_782_400_000, ' ', false), "2000-02-29 00:00:00");
        assert_eq!(format_ms(1_767_225_599_000, ' ', false), "2025-12-31 23:59:59");
        assert_eq!(format_ms(4_294_967_295_000, ' ', false), "2106-02-07 06:28:15");
        assert_eq!(format_ms(-1, ' ', true), "1969-12-31 23:59:59.999");
    }
}

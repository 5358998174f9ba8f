//! The log line per device of a closed window, in the words of the job that came before.

use tidemill_kernel::{
    plan::Plan,
    row::{Cell, RowBlock},
    schema::{Aggregate, Role},
};
use tracing::info;

/// Logs a line for each row: `Aggregated window: device=…, count=…, avg_…=…`, with the mean of
/// the schema's first gauge.
pub(crate) fn log_devices(plan: &Plan, pieces: &[RowBlock]) {
    let schema = plan.schema();
    let columns = schema.columns();
    let gauge = schema
        .fields()
        .iter()
        .find(|field| field.role == Role::Gauge && field.aggregates.contains(&Aggregate::Avg));
    let at = |name: &str| columns.iter().position(|column| column.name == name);
    let gauge = gauge.and_then(|field| Some((field.name.as_str(), at(&field.name)?)));
    let Some(count) = at("record_count") else {
        return;
    };
    let mut cells = Vec::new();
    for piece in pieces {
        let mut reader = piece.reader(columns);
        while reader.next_row(&mut cells) {
            let keys: Vec<&str> = cells[1..=schema.key_count()].iter().filter_map(text).collect();
            let (device, count) = (keys.join("/"), show(cells[count]));
            match gauge {
                Some((name, at)) => {
                    let mean = show(cells[at]);
                    info!("Aggregated window: device={device}, count={count}, avg_{name}={mean}");
                }
                None => info!("Aggregated window: device={device}, count={count}"),
            }
        }
    }
}

fn text<'a>(cell: &Cell<'a>) -> Option<&'a str> {
    match cell {
        Cell::Text(text) => Some(text),
        _ => None,
    }
}

fn show(cell: Cell<'_>) -> String {
    match cell {
        Cell::Null => "null".to_owned(),
        Cell::Float(value) => value.to_string(),
        Cell::Int(value) => value.to_string(),
        Cell::UInt(value) => value.to_string(),
        Cell::Text(text) => text.to_owned(),
    }
}

/// Returns an instant as `YYYY-MM-DD HH:MM:SS` (UTC), by the civil calendar of days since 1970
/// (Hinnant, "chrono-compatible low-level date algorithms").
pub fn utc(ms: i64) -> String {
    let seconds = ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02}", second % 60)
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn instants_are_written_in_utc() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(1_700_000_040_000), "2023-11-14 22:14:00");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00");
    }
}

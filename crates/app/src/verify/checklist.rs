//! What someone looks at who took the sensor job over: throughput, a window every minute, how many
//! writes are saved, warnings, what the values are like.
//!
//! All but the warnings comes from what is stored. These are hints: they prove nothing and change
//! no exit status.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use tidemill_kernel::time::WindowGrid;
use tidemill_sink::{PartitionTotals, Quality, WindowRows};

/// How long a running process may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// The most bytes of its answer.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// Metrics that stand for a warning.
const WARNINGS: [&str; 4] = [
    "tidemill_lane_failed",
    "tidemill_store_failures_total",
    "tidemill_devices_on_two_partitions_total",
    "tidemill_saturated_sums_total",
];

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What was looked at.
    pub item: &'static str,
    /// What was found.
    pub found: String,
    /// `ok`, `look`, or `not checked`.
    pub verdict: &'static str,
}

impl Line {
    fn new(item: &'static str, is_ok: bool, found: String) -> Line {
        Line { item, found, verdict: if is_ok { "ok" } else { "look" } }
    }
}

/// The rows of all lanes, by the end of their window (ms).
pub type Minutes = BTreeMap<i64, WindowRows>;

/// Adds up the windows of lanes.
pub fn minutes<'w>(windows: impl Iterator<Item = &'w WindowRows>) -> Minutes {
    let mut minutes = Minutes::new();
    for window in windows {
        let sum = minutes.entry(window.end_ms).or_insert(WindowRows {
            row_count: 0,
            message_count: 0,
            ..*window
        });
        sum.row_count += window.row_count;
        sum.message_count += window.message_count;
    }
    minutes
}

/// Returns how many windows there are from the first to the last, with those without a row.
pub fn window_count(minutes: &Minutes, grid: WindowGrid) -> i64 {
    match (minutes.first_key_value(), minutes.last_key_value()) {
        (Some((first, _)), Some((last, _))) => (last - first) / grid.size_ms() + 1,
        _ => 0,
    }
}

/// Returns the list.
pub fn lines(
    minutes: &Minutes,
    grid: WindowGrid,
    totals: &[PartitionTotals],
    quality: &Quality,
    http: Option<SocketAddr>,
) -> Vec<Line> {
    let count = window_count(minutes, grid);
    let seconds = (count * grid.size_ms()) as f64 / 1000.0;
    let (rows, messages) = (quality.row_count as f64, quality.message_count as f64);
    if count == 0 || rows == 0.0 {
        return vec![Line::new("windows", false, "no window has closed".to_owned())];
    }
    let saved = 100.0 * (1.0 - rows / messages.max(1.0));
    vec![
        Line::new(
            "throughput",
            messages > 0.0,
            format!("{:.0} messages/s over {count} windows, {seconds:.0} s", messages / seconds),
        ),
        Line::new(
            "windows",
            minutes.len() as i64 == count,
            format!("{} of {count} from the first to the last have rows", minutes.len()),
        ),
        Line::new(
            "writes",
            saved > 50.0,
            format!(
                "{:.2} rows/s, {:.1} messages a row, {saved:.2} % fewer writes",
                rows / seconds,
                messages / rows
            ),
        ),
        warnings(http),
        devices(minutes),
        Line::new(
            "messages a row",
            quality.outlier_count == 0,
            format!(
                "{} to {}; {} rows are beyond half or twice the mean; {} have a gap",
                quality.record_count_min,
                quality.record_count_max,
                quality.outlier_count,
                quality.rows_with_gaps
            ),
        ),
        values(quality),
        letters(totals),
    ]
}

/// The first and the last window may be cut by the beginning and the end of the log.
fn devices(minutes: &Minutes) -> Line {
    let whole: Vec<u64> = minutes.values().map(|window| window.row_count).collect();
    let whole = if whole.len() > 2 { &whole[1..whole.len() - 1] } else { &whole[..] };
    let (min, max) = (whole.iter().min().unwrap_or(&0), whole.iter().max().unwrap_or(&0));
    Line::new("rows a window", min == max, format!("{min} to {max}, but for the first and last"))
}

fn values(quality: &Quality) -> Line {
    let never: Vec<&str> = quality
        .nulls
        .iter()
        .filter(|(_, count)| *count == quality.row_count)
        .map(|(name, _)| name.as_str())
        .collect();
    let some = quality.nulls.iter().filter(|(_, count)| *count > 0).count() - never.len();
    let mut found = format!("{} invalid; {some} columns NULL in some rows", quality.invalid_count);
    if !never.is_empty() {
        found.push_str(&format!(", NULL in all: {}", never.join(" ")));
    }
    Line::new("values", quality.invalid_count == 0 && never.is_empty(), found)
}

fn letters(totals: &[PartitionTotals]) -> Line {
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for (reason, count) in totals.iter().flat_map(|totals| &totals.letters_by_reason) {
        *reasons.entry(reason).or_default() += count;
    }
    let count: u64 = reasons.values().sum();
    let records = totals.iter().filter_map(|totals| totals.record.as_ref());
    let messages: u64 = records.map(|record| record.ledger.messages).sum();
    let share = 100.0 * count as f64 / (messages as f64).max(1.0);
    let named: Vec<String> =
        reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    let named = if named.is_empty() { String::new() } else { format!(": {}", named.join(", ")) };
    // The bound of the alert TidemillDeadLetters.
    Line::new("dead letters", share <= 1.0, format!("{share:.3} % of all messages{named}"))
}

/// Asks the running process, if there is one.
fn warnings(http: Option<SocketAddr>) -> Line {
    let not_checked = |found: String| Line { item: "warnings", found, verdict: "not checked" };
    let Some(address) = http else {
        return not_checked("[http] is not enabled; look for WARN in the log".to_owned());
    };
    match ask(address) {
        Ok(page) => {
            let raised = raised(&page);
            let found = match raised.is_empty() {
                true => format!("none at {address}"),
                false => format!("{address}: {}", raised.join(", ")),
            };
            Line::new("warnings", raised.is_empty(), found)
        }
        Err(_) => not_checked(format!("no process answers at {address}; look into its log")),
    }
}

fn ask(address: SocketAddr) -> Result<String, ureq::Error> {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(ANSWER_MAX)).build().into();
    let answer = agent.get(format!("http://{address}/metrics")).call()?;
    answer.into_body().with_config().limit(ANSWER_BYTES_MAX).read_to_string()
}

/// Returns the metrics of warnings that are not 0.
fn raised(page: &str) -> Vec<String> {
    let is_raised = |line: &&str| {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        WARNINGS.contains(&name) && value.is_some_and(|value| value != 0.0)
    };
    page.lines().filter(is_raised).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(minute: i64, row_count: u64) -> WindowRows {
        WindowRows { end_ms: minute * 60_000, row_count, message_count: row_count * 3_600 }
    }

    fn verdicts(windows: &[WindowRows], quality: &Quality) -> BTreeMap<&'static str, Line> {
        let grid = WindowGrid::new(60_000, 0).expect("a grid");
        let lines = lines(&minutes(windows.iter()), grid, &[], quality, None);
        lines.into_iter().map(|line| (line.item, line)).collect()
    }

    fn quality() -> Quality {
        let (row_count, message_count) = (1_500, 1_500 * 3_600);
        let nulls = vec![("a".into(), 0), ("b".into(), 2)];
        Quality { row_count, message_count, nulls, ..Quality::default() }
    }

    #[test]
    fn sensor_job_has_its_figures() {
        let windows = [window(1, 250), window(1, 250), window(2, 500), window(3, 500)];
        let lines = verdicts(&windows, &quality());
        assert_eq!(lines["throughput"].found, "30000 messages/s over 3 windows, 180 s");
        assert_eq!(lines["windows"].found, "3 of 3 from the first to the last have rows");
        let writes = "8.33 rows/s, 3600.0 messages a row, 99.97 % fewer writes";
        assert_eq!(lines["writes"].found, writes);
        assert_eq!(lines["warnings"].verdict, "not checked");
        let ok = |item: &str| lines[item].verdict == "ok";
        assert!(["throughput", "windows", "writes", "rows a window", "values"].into_iter().all(ok));
    }

    #[test]
    fn what_is_unlike_the_rest_is_to_be_looked_at() {
        let windows = [window(1, 500), window(2, 499), window(3, 500), window(5, 500)];
        let mut quality = quality();
        quality.outlier_count = 1;
        quality.nulls[0].1 = 1_500;
        let lines = verdicts(&windows, &quality);
        let look = |item: &str| lines[item].verdict == "look";
        assert!(["windows", "rows a window", "messages a row", "values"].into_iter().all(look));
        assert!(lines["values"].found.ends_with("1 columns NULL in some rows, NULL in all: a"));
        assert_eq!(verdicts(&[], &Quality::default()).len(), 1);
    }

    #[test]
    fn metrics_that_stand_for_warnings_are_found() {
        let page = "# HELP tidemill_lane_failed x\ntidemill_lane_failed{partition=\"0\"} 0\n\
                    tidemill_lane_failed{partition=\"1\"} 1\ntidemill_rows_total 7\n";
        assert_eq!(raised(page), ["tidemill_lane_failed{partition=\"1\"} 1"]);
    }
}

//! The checks of the job that came before, as its report lists them ("Verification Checklist"),
//! on both ClickHouse engines. The queries are the report's, but for `now()`: the messages carry
//! event times of their own, so `now()` is half a minute behind the end of the last whole window,
//! where a reader of a running job stands on average.

mod e2e;

use e2e::{
    alone,
    job::{Job, Store},
    services::{Version, ask},
    topic::{Content, Topic},
    until,
};

const DEVICES: u64 = 500;

const WRITES_PER_SECOND: &str = "
SELECT count() / 60 as writes_per_second
FROM benchmark.sensors_local
WHERE time >= now() - INTERVAL 1 MINUTE
";

const DATA_QUALITY: &str = "
SELECT 
    device_id,
    count() as windows,
    avg(temperature) as avg_temp,
    sum(error_count) as total_errors
FROM benchmark.sensors_local
WHERE time >= now() - INTERVAL 5 MINUTE
GROUP BY device_id
LIMIT 5
";

#[test]
fn checks_of_the_sensor_job_hold_on_both_engines() {
    let _alone = alone();
    // Seven minutes, each device twice a second, nothing wrong with any message.
    let content = Content { messages: 420_000, rate: 1_000, ratios: [0.0; 3] };
    let topic = Topic::new("checks", &content);
    for version in Version::ALL {
        let url = version.url();
        let name = format!("checks_{version:?}").to_lowercase();
        let mut job = Job::new(&name, &topic, Store::server(&url));
        job.use_database("benchmark");
        job.run_options = vec!["--log-windows"];
        let mut run = job.start();
        job.until_done(&mut [&mut run]);
        // Whole windows only: the first one began before the first message.
        let query = "SELECT toUInt32(max(time)) FROM benchmark.sensors_local \
                     WHERE device_id LIKE 'sensor_%'";
        let last_s: u64 = until("rows", || ask(&url, query).ok()?.parse().ok());
        let last_s = last_s - 60;
        five_minutes_are_complete(&url, last_s);
        queries_of_the_report(&url, last_s);
        run.terminate();
        log_lines(&job.logged(), &url);
        job.prove();
    }
}

fn five_minutes_are_complete(url: &str, last_s: u64) {
    let minutes = ask(
        url,
        &format!(
            "SELECT toUInt32(time) AS t, count(), uniqExact(device_id) \
             FROM benchmark.sensors_local WHERE t > {} AND t <= {last_s} GROUP BY t ORDER BY t",
            last_s - 300
        ),
    )
    .expect("the server answers");
    let expected: Vec<String> = (0..5)
        .map(|minute| format!("{}\t{DEVICES}\t{DEVICES}", last_s - 240 + minute * 60))
        .collect();
    assert_eq!(minutes, expected.join("\n"), "one row per device and minute");
    let rows = minutes.lines().count() as f64 * DEVICES as f64;
    let (rows_per_s, expected) = (rows / 300.0, DEVICES as f64 / 60.0);
    assert!((rows_per_s / expected - 1.0).abs() < 0.01, "{rows_per_s} rows/s over five minutes");
}

fn queries_of_the_report(url: &str, last_s: u64) {
    let ask_at = |query: &str| {
        let now = format!("toDateTime({})", last_s + 30);
        ask(url, &query.replace("now()", &now)).unwrap_or_else(|error| panic!("{query}: {error}"))
    };
    let writes: f64 = ask_at(&only_until(WRITES_PER_SECOND, last_s)).parse().expect("a number");
    assert!((writes / 8.0 - 1.0).abs() < 0.05, "about 8 writes per second: {writes}");
    let quality = ask_at(&only_until(DATA_QUALITY, last_s));
    assert_eq!(quality.lines().count(), 5, "{quality}");
    for line in quality.lines() {
        let cells: Vec<&str> = line.split('\t').collect();
        assert!(cells[0].starts_with("sensor_"), "{line}");
        assert_eq!(cells[1], "5", "a row a minute for five minutes: {line}");
        let temperature: f64 = cells[2].parse().expect("a temperature");
        assert!((-50.0..60.0).contains(&temperature), "{line}");
        assert!(cells[3].parse::<u64>().is_ok(), "{line}");
    }
}

/// What a reader at that time would not see yet is left out.
fn only_until(query: &str, last_s: u64) -> String {
    query.replace("WHERE ", &format!("WHERE time <= toDateTime({last_s}) AND "))
}

/// `grep "Aggregated window"`, `grep "Transaction"` and no warning.
fn log_lines(logged: &str, url: &str) {
    let lines: Vec<&str> = logged
        .lines()
        .filter_map(|line| line.split_once("Aggregated window: ").map(|(_, rest)| rest))
        .collect();
    let closed: usize = logged
        .lines()
        .filter(|line| line.contains("window closed"))
        .filter_map(|line| line.split("rows=").nth(1)?.split(' ').next()?.parse::<usize>().ok())
        .sum();
    assert_eq!(lines.len(), closed, "a line for each row of the closed windows");
    assert!(closed >= 7 * DEVICES as usize, "{closed} rows");
    let line = lines.iter().find(|line| line.starts_with("device=sensor_001, "));
    let line = line.expect("a line of the first device");
    let parts: Vec<&str> = line.split(", ").collect();
    let value = |at: usize, name: &str| {
        let value = parts[at].strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
        value.unwrap_or_else(|| panic!("{name} in {line}")).to_owned()
    };
    let (count, mean) = (value(1, "count"), value(2, "avg_temperature"));
    assert_eq!(parts.len(), 3, "{line}");
    let stored = ask(
        url,
        &format!(
            "SELECT count() FROM benchmark.sensors_local WHERE device_id = 'sensor_001' \
             AND record_count = {count} AND temperature = toFloat64('{mean}')"
        ),
    );
    assert_eq!(stored.as_deref(), Ok("1"), "{line}");
    assert!(!logged.contains("Transaction"), "no transaction warnings");
    let warnings: Vec<&str> =
        logged.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
    assert!(warnings.is_empty(), "{}", warnings.join("\n"));
}

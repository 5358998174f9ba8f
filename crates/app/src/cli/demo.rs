//! `tidemill demo`: the sensor job without a broker and without a server.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use tidemill_engine::metrics::Metrics;
use tidemill_sink::RowQuery;

use super::{Failure, query, run};
use crate::{
    assemble::{self, HttpFailure, open_reader},
    config::Config,
    signals,
    verify::{Request, report, verify},
};

/// Columns shown of the last rows.
const COLUMNS: [&str; 8] = [
    "time",
    "device_id",
    "record_count",
    "temperature",
    "humidity",
    "status",
    "error_count",
    "coverage",
];

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// End after this long, such as 30s or 5m [default: until Ctrl-C].
    #[arg(long = "for")]
    run_for: Option<String>,
    /// Messages per second of event time.
    #[arg(long, default_value_t = 30_000)]
    rate: u32,
    /// Number of devices.
    #[arg(long, default_value_t = 500)]
    devices: u32,
    /// The database file; it is made anew.
    #[arg(long, default_value = "tidemill-demo.db")]
    path: PathBuf,
}

impl Arguments {
    fn config(&self) -> Result<Config, Failure> {
        let (rate, devices) = (self.rate, self.devices);
        // Debug formatting of text is a TOML basic string for every path that is UTF-8.
        let text = format!(
            r#"[pipeline]
name = "demo"

[source.generate]
rate_per_s = {rate}
devices = {devices}
pace = "real"
backfill = "10m"
late_ratio = 0.0001
malformed_ratio = 0.0001

[schema]
preset = "sensor"

[sink.embedded]
path = {path:?}
table = "sensors"
"#,
            path = self.path.display().to_string()
        );
        Config::parse("demo", &text, &|_| None).map_err(Failure::usage)
    }

    fn run_for(&self) -> Result<Option<Duration>, Failure> {
        let Some(text) = &self.run_for else {
            return Ok(None);
        };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit_s = match &text[digits.len()..] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => 0,
        };
        match digits.parse::<u64>() {
            Ok(number) if unit_s > 0 && number > 0 && number < 1 << 32 => {
                Ok(Some(Duration::from_secs(number * unit_s)))
            }
            _ => Err(Failure::usage(format!("--for {text:?}: write a time such as 30s or 5m"))),
        }
    }
}

pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let config = arguments.config()?;
    let run_for = arguments.run_for()?;
    for suffix in ["", "-wal", "-shm"] {
        let mut path = arguments.path.clone().into_os_string();
        path.push(suffix);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::failed(format!("{}: {error}", arguments.path.display())));
            }
            _ => {}
        }
    }
    super::print(&format!(
        "The sensor job: {} devices, {} messages/s; first the past ten minutes as fast as it \
         goes, then as time passes.\nStop it with Ctrl-C.\n",
        arguments.devices, arguments.rate
    ));
    let shutdown = signals::shutdown_flag().map_err(Failure::failed)?;
    let metrics = Arc::new(Metrics::default());
    let started_at = Instant::now();
    let outcome = assemble::run(&config, run_for, HttpFailure::Warn, &metrics, &shutdown, None)
        .map_err(Failure::failed)?;
    let seconds = started_at.elapsed().as_secs_f64();
    let status = run::conclude(&outcome, &metrics);
    super::print(&summary(arguments, &config, seconds)?);
    Ok(status)
}

fn summary(arguments: &Arguments, config: &Config, seconds: f64) -> Result<String, Failure> {
    let mut reader = open_reader(config).map_err(Failure::failed)?;
    let request = Request { store_only: true, ..Request::default() };
    let found = verify(config, &mut *reader, request).map_err(Failure::failed)?;
    let rows: u64 = found.lanes.iter().map(|lane| lane.totals.row_count).sum();
    let messages: u64 = found
        .lanes
        .iter()
        .filter_map(|lane| lane.totals.record.as_ref())
        .map(|record| record.ledger.messages)
        .sum();
    let reduction = 100.0 * (1.0 - rows as f64 / (messages as f64).max(1.0));
    let device = format!("sensor_{:03}", 1);
    let last = reader
        .rows(&RowQuery {
            keys: vec![("device_id".to_owned(), device.clone())],
            columns: Some(COLUMNS.map(str::to_owned).to_vec()),
            limit: 5,
            newest_first: true,
            ..RowQuery::default()
        })
        .map_err(Failure::failed)?;
    let path = arguments.path.display();
    Ok(format!(
        "\n{messages} messages in {seconds:.1} s: {:.0} messages/s\n\
         {rows} rows: {:.1} rows/s, {reduction:.2} % fewer writes\n\n\
         The last rows of {device}:\n{}\n\
         The ledger, held against the rows and dead letters that are stored:\n{}\n\
         The rows are in {path}. Look into them:\n  \
         sqlite3 {path} 'SELECT time, device_id, temperature FROM sensors ORDER BY time DESC \
         LIMIT 5'\n  \
         sqlite3 {path} 'SELECT reason, count(*) FROM sensors_dead_letters GROUP BY reason'\n",
        messages as f64 / seconds,
        rows as f64 / seconds,
        query::text(last),
        report::text(config, request, &found),
    ))
}

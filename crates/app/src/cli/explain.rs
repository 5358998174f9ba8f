//! `tidemill explain`: what a configuration does, in words. It opens nothing and asks nobody, so
//! rates and numbers of devices are told to it or assumed.

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use clap::Args;
use tidemill_kernel::{
    amend::LatePolicy,
    plan::Plan,
    row::ColumnKind,
    schema::{Aggregate, Field, Role},
};

use super::{Failure, run};
use crate::{
    config::{Config, FilePartitions, PulsarStart, Routing, Sink, Source},
    table::render,
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The configuration file.
    config: PathBuf,
    /// Messages per second of all lanes, for the estimates [default: 30000, or that of
    /// source.generate].
    #[arg(long)]
    rate: Option<f64>,
    /// Devices of all lanes, for the estimates [default: 500, or that of source.generate].
    #[arg(long)]
    devices: Option<u64>,
}

/// What the estimates rest on.
struct Load {
    rate_per_s: f64,
    devices: u64,
    origin: &'static str,
}

impl Load {
    fn of(arguments: &Arguments, config: &Config) -> Result<Load, Failure> {
        let (rate, devices, origin) = match &config.source {
            Source::Generate(from) => {
                (from.config.rate_per_s, u64::from(from.config.devices), "of source.generate")
            }
            _ => (30_000.0, 500, "assumed; see --rate and --devices"),
        };
        let is_told = arguments.rate.is_some() && arguments.devices.is_some();
        let rate_per_s = arguments.rate.unwrap_or(rate);
        if !(rate_per_s.is_finite() && rate_per_s > 0.0) {
            return Err(Failure::usage(format!("--rate {rate_per_s}: write a number above 0")));
        }
        let devices = arguments.devices.unwrap_or(devices).max(1);
        Ok(Load { rate_per_s, devices, origin: if is_told { "as told" } else { origin } })
    }

    fn messages(&self, ms: i64) -> u64 {
        (ms as f64 * self.rate_per_s / 1000.0).ceil() as u64
    }
}

pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let config = run::load(&arguments.config)?;
    let load = Load::of(arguments, &config)?;
    let mut text = format!("Pipeline {:?}, {}\n", config.pipeline.name, arguments.config.display());
    let parts = [
        ("Lanes", lanes(&config)),
        ("Windows", windows(&config)),
        ("After a crash", replay(&config, &load)),
        ("What becomes of a message", fates(&config)),
        ("Memory", memory(&config, &load)),
        ("Writes", writes(&config, &load)),
    ];
    for (title, lines) in parts {
        let _ = write!(text, "\n{title}\n");
        lines.iter().for_each(|line| text.push_str(&wrapped(line)));
    }
    text.push_str("\nRow\n");
    text.push_str(&row_table(&config));
    super::print(&text);
    Ok(ExitCode::SUCCESS)
}

/// Returns a paragraph with two blanks before each line, at most 100 characters wide.
fn wrapped(paragraph: &str) -> String {
    let mut text = String::new();
    let mut width = 0;
    for word in paragraph.split(' ') {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > 100 {
            text.push('\n');
            width = 0;
        }
        text.push_str(if width == 0 { "  " } else { " " });
        width += length + if width == 0 { 2 } else { 1 };
        text.push_str(word);
    }
    text + "\n"
}

fn lanes(config: &Config) -> Vec<String> {
    let source = match &config.source {
        Source::File(from) => {
            let count = from.paths.len();
            match from.partitions {
                _ if count == 1 => "The file is one lane.".to_owned(),
                FilePartitions::Single => format!("All {count} files, in order, are one lane."),
                FilePartitions::PerFile => format!("{count} files, a lane each."),
            }
        }
        Source::Stdin => "Standard input is one lane, named stdin.".to_owned(),
        Source::Generate(from) => {
            format!("The generator's {} partitions, a lane each.", from.partitions)
        }
        Source::Pulsar(from) => {
            let start = if from.start == PulsarStart::Latest {
                "behind the newest entry"
            } else {
                "as `start` says"
            };
            let kind = match config.pipeline.routing {
                Routing::Key => "Failover",
                Routing::Any => "Exclusive",
            };
            format!(
                "Pulsar at {}: each partition is a lane, read through the {kind} subscription \
                 {:?}. Where nothing was ever committed, it begins {start}; everywhere else, at \
                 the commit record.",
                from.url, from.subscription
            )
        }
    };
    if config.pipeline.routing == Routing::Any {
        return vec![source, merged(config)];
    }
    let threads = config.pipeline.worker_threads;
    vec![
        source,
        format!(
            "Each lane has its own windows, watermark and commit record; {threads} worker \
             threads share the lanes. A device has to stay in one lane, or it has a row per lane \
             and window."
        ),
    ]
}

fn merged(config: &Config) -> String {
    let held = config.limits.held_windows_max;
    format!(
        "routing = \"any\": one process reads all lanes, one thread folds them, and one commit \
         record stands for all. A window becomes rows (source_partition \"*\") when every lane has \
         closed it. A lane may be {held} closed windows ahead; then it waits for the others, and \
         those that have nothing to read are closed by decision."
    )
}

/// How long after its end a window is kept open, in event time.
fn hold_back_ms(config: &Config) -> i64 {
    config.window.max_out_of_orderness.as_ms() + config.window.allowed_lateness.as_ms()
}

fn windows(config: &Config) -> Vec<String> {
    let window = &config.window;
    let time = config.schema.fields().iter().find(|field| field.role == Role::Time);
    let clock = match time {
        Some(field) => format!("the time in the message ({})", field.path.join(".")),
        None => format!("time = {:?}", window.time.name()),
    };
    let keys = config.key_columns().join(", ");
    vec![
        format!(
            "One row per {keys} and {}, by {clock}; edges in UTC{}. `time` of a row is the \
             window's end.",
            span(window.grid.size_ms()),
            match window.grid.offset_ms() {
                0 => String::new(),
                offset => format!(", moved by {}", span(offset)),
            }
        ),
        format!(
            "A window closes, and its rows are written, when a message {} or more behind its end \
             comes by in the lane (max_out_of_orderness {} + allowed_lateness {}).",
            span(hold_back_ms(config)),
            span(window.max_out_of_orderness.as_ms()),
            span(window.allowed_lateness.as_ms())
        ),
        format!(
            "If nothing moves the lane's clock for {}, its open windows are written as they are; \
             they stay open and are written again when more comes.",
            span(window.idle_timeout.as_millis() as i64)
        ),
    ]
}

fn replay(config: &Config, load: &Load) -> Vec<String> {
    let window = &config.window;
    let open_ms = window.grid.size_ms() + hold_back_ms(config);
    let commit_ms = config.pipeline.commit_interval.as_millis() as i64;
    let usual_ms = open_ms + commit_ms;
    let worst_ms = usual_ms + window.max_future_skew.as_ms();
    let counted = |ms| format!("{} = {} messages", span(ms), load.messages(ms));
    let kept = match (&config.source, &config.sink) {
        (_, Sink::Stdout) => {
            "sink.stdout keeps no commit record: a restart begins again, whatever was printed."
        }
        (Source::Stdin, _) => {
            "Standard input cannot be read again: feed the same stream from its first byte, or \
             the open windows are lost. Another stream is refused."
        }
        _ => "Nothing is counted twice and nothing is lost.",
    };
    let oldest = match config.pipeline.routing {
        Routing::Key => "open window",
        Routing::Any => "window that is not merged, in every lane",
    };
    vec![
        format!(
            "The next process reads again from the first message of the oldest {oldest}: as a \
             rule at most the window and what it waits for ({}) and what came since the last \
             commit ({}): {}.",
            span(open_ms),
            span(commit_ms),
            counted(usual_ms)
        ),
        format!(
            "If a clock ran ahead by as much as max_future_skew allows ({}), its window was begun \
             so much earlier: at most {}.",
            span(window.max_future_skew.as_ms()),
            counted(worst_ms)
        ),
        format!(
            "({:.0} messages/s {}.) While a store cannot be reached, a lane goes on for {} \
             commits, and then waits. {kept}",
            load.rate_per_s, load.origin, config.limits.commits_in_flight_max
        ),
    ]
}

fn fates(config: &Config) -> Vec<String> {
    let window = &config.window;
    let limits = &config.limits;
    let letters = match &config.sink {
        Sink::Embedded(sink) => format!("{}_dead_letters", sink.table),
        Sink::ClickHouse(sink) => format!("{}_dead_letters", sink.table),
        Sink::Stdout => "standard error".to_owned(),
    };
    let nullable = "NULL where no message of the window carried a value, never 0";
    vec![
        match window.late {
            LatePolicy::DeadLetter => format!(
                "late (its window has closed): late = {:?}; dead letters go to {letters}, with \
                 reason, position and the payload's first {} bytes.",
                window.late.name(),
                limits.dead_letter_bytes_max
            ),
            LatePolicy::Amend => "late (its window has closed): late = \"amend\"; the stored row \
                 is read, the message merged into it, and the row written again. Columns finality \
                 and late_count tell."
                .to_owned(),
        },
        format!(
            "future (more than {} ahead of its publish time): a dead letter that moves no clock.",
            span(window.max_future_skew.as_ms())
        ),
        format!(
            "bad (no JSON object, no key, no time, above {} bytes or {} levels): a dead letter \
             with its reason.",
            limits.decode.payload_bytes_max, limits.decode.depth_max
        ),
        format!(
            "a value of the wrong type or out of its range: counted in invalid_count, never \
             added; the rest of the message counts. A missing value: {nullable}."
        ),
        format!(
            "device number {} of one window of a lane: a dead letter.",
            limits.devices_max.saturating_add(1)
        ),
    ]
}

fn memory(config: &Config, load: &Load) -> Vec<String> {
    let plan = Plan::new(config.schema.clone());
    let texts = config.schema.text_count();
    let device_bytes = plan.device_window_bytes() as u64;
    let size_ms = config.window.grid.size_ms();
    let open_count = (hold_back_ms(config) / size_ms + 2) as u64;
    let total = device_bytes * load.devices * open_count;
    vec![
        format!(
            "{device_bytes} bytes per device and open window, and its key and {texts} texts. At \
             most {open_count} windows of a lane are open at once: {} for {} devices ({}).",
            size(total),
            load.devices,
            load.origin
        ),
        format!(
            "At most {} of a lane are read ahead, and {} commits wait for the store. At {} \
             (limits.memory_max) by its own books, all lanes together, the source has to wait.",
            size(config.limits.queue_bytes_max as u64),
            config.limits.commits_in_flight_max,
            size(config.limits.memory_max as u64)
        ),
    ]
}

fn writes(config: &Config, load: &Load) -> Vec<String> {
    let size_s = config.window.grid.size_ms() as f64 / 1000.0;
    let rows_per_s = load.devices as f64 / size_s;
    let fewer = 100.0 * (1.0 - rows_per_s / load.rate_per_s);
    let place = match &config.sink {
        Sink::Embedded(sink) => {
            format!("SQLite file {}, view {}", sink.path.display(), sink.table)
        }
        Sink::ClickHouse(sink) => format!("ClickHouse at {}, view {}", sink.url, sink.table),
        Sink::Stdout => "standard output".to_owned(),
    };
    let fewer = if fewer > 0.0 { format!(", {fewer:.2} % fewer writes") } else { String::new() };
    vec![format!(
        "To {place}: {rows_per_s:.1} rows/s for {} devices, in place of {:.0} messages/s{fewer}.",
        load.devices, load.rate_per_s
    )]
}

fn row_table(config: &Config) -> String {
    let rows = config.schema.columns().iter().map(|column| {
        let null = if column.nullable { "NULL" } else { "" };
        let kind = match config.sink {
            Sink::Embedded(_) => sqlite_type(column.kind),
            _ => clickhouse_type(column.kind),
        };
        let meaning = meaning(config, &column.name);
        vec![format!("  {}", column.name), kind.to_owned(), null.to_owned(), meaning]
    });
    render(&["  column", "type", "", "value"].map(str::to_owned), &rows.collect::<Vec<_>>())
}

fn clickhouse_type(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Seconds => "DateTime",
        ColumnKind::Milliseconds => "DateTime64(3)",
        ColumnKind::Float64 => "Float64",
        ColumnKind::Int64 => "Int64",
        ColumnKind::UInt64 => "UInt64",
        ColumnKind::UInt32 => "UInt32",
        ColumnKind::UInt8 => "UInt8",
        ColumnKind::Text => "String",
    }
}

fn sqlite_type(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Float64 => "REAL",
        ColumnKind::Text => "TEXT",
        _ => "INTEGER",
    }
}

/// Says what stands in a column.
fn meaning(config: &Config, column: &str) -> String {
    for field in config.schema.fields() {
        if field.role == Role::Key && field.name == column {
            return format!("key, from {}", place(field));
        }
        for aggregate in &field.aggregates {
            if field.column_name(*aggregate) == column {
                return format!("{} of {}", words(*aggregate), place(field));
            }
        }
    }
    let fixed = match column {
        "time" => "end of the window",
        "window_start" => "start of the window",
        "record_count" => "messages folded in",
        "invalid_count" => "values that were invalid",
        "first_event_time" => "time of the earliest message",
        "last_event_time" => "time of the latest message",
        "coverage" => "share of sixty equal slots of the window that hold a message",
        "max_gap_ms" => "longest run of empty slots",
        "pipeline" => "name of the pipeline",
        "source_partition" => "name of the lane",
        "revision" => "how much of the log is in it; a higher one replaces a lower",
        _ => "",
    };
    fixed.to_owned()
}

fn place(field: &Field) -> String {
    let paths = std::iter::once(&field.path).chain(&field.aliases).map(|path| path.join("."));
    let mut text = paths.collect::<Vec<_>>().join(" or ");
    if let Some((low, high)) = field.range {
        let _ = write!(text, " within {low} to {high}");
    }
    text
}

fn words(aggregate: Aggregate) -> &'static str {
    match aggregate {
        Aggregate::Avg => "mean",
        Aggregate::Sum => "sum",
        Aggregate::Count => "number of values",
        Aggregate::Min => "smallest",
        Aggregate::Max => "largest",
        Aggregate::First => "earliest",
        Aggregate::Last => "latest",
        Aggregate::Majority => "majority (1 or 0)",
        Aggregate::MostFrequent => "most frequent",
    }
}

/// Returns a span in the units in which it is whole.
fn span(ms: i64) -> String {
    let mut left = ms;
    let mut text = String::new();
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if left >= unit {
            let _ = write!(text, "{}{name}", left / unit);
            left %= unit;
        }
    }
    if left > 0 || text.is_empty() {
        let _ = write!(text, "{left}ms");
    }
    text
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

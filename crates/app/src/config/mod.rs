//! The configuration: a TOML file becomes checked values, or a list of everything that is wrong
//! with it, each with file, line, key and remedy.
//!
//! It reads one file and the environment that it is given. It opens no connection, makes no source
//! or sink and does not look whether what it names exists.
//!
//! ```
//! use tidemill::config::Config;
//!
//! let text = r#"
//! pipeline.name = "sensors"
//! schema.preset = "sensor"
//! source.file.paths = ["a.ndjson"]
//! sink.stdout = {}
//! [window]
//! sise = "1m"
//! "#;
//! let errors = Config::parse("t.toml", text, &|_| None).unwrap_err();
//! assert_eq!(
//!     errors.to_string(),
//!     "t.toml:7: key \"window.sise\" is unknown; did you mean \"window.size\"?"
//! );
//! ```

use std::{fs::File, io::Read, path::Path, sync::Arc, thread::available_parallelism};

use tidemill_decode::DecodeLimits;
use tidemill_engine::{
    lane::LaneConfig, pipeline::PipelineConfig, port::Continuity, writer::RetryConfig,
};
use tidemill_kernel::{
    amend::LatePolicy,
    plan::Plan,
    rollup::{OPEN_WINDOWS_MAX, RollupConfig, open_windows_max},
    schema::{Role, Schema},
    time::{DurationMs, WindowGrid},
};
use toml::de::{DeTable, Error as TomlError};

use self::{
    error::Problem,
    reader::{Reader, Section},
    units::{as_ms, duration_text},
};

mod error;
mod fingerprint;
pub mod keys;
mod pulsar;
mod reader;
mod schema;
mod secret;
mod sections;
mod sink;
mod source;
mod units;
mod values;

#[cfg(test)]
mod tests;

pub use error::{ConfigError, ConfigErrors, ERRORS_MAX};
pub use fingerprint::ROW_SEMANTICS;
pub use schema::PRESETS;
pub use secret::{Environment, Secret};
pub use sections::{
    ClickHouseSink, EmbeddedSink, FilePartitions, FileSource, GenerateSource, Http, Limits, Pace,
    Pipeline, PulsarSource, PulsarStart, Routing, Sink, Source, TimeMode, Window,
};
pub use values::KeyValues;

/// The largest config file in bytes.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;
const PIPELINE_NAME_BYTES_MAX: usize = 64;

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who writes the rows, and how.
    pub pipeline: Pipeline,
    /// Where messages come from.
    pub source: Source,
    /// What messages carry and what is kept of it.
    pub schema: Arc<Schema>,
    /// Windows and lateness.
    pub window: Window,
    /// Where rows go.
    pub sink: Sink,
    /// Health, metrics and API.
    pub http: Http,
    /// What is bounded, and by how much.
    pub limits: Limits,
    /// Every key's value, to tell configurations apart.
    pub values: KeyValues,
}

impl Config {
    /// Reads and checks a file. `environment` looks up the variables that it names.
    ///
    /// # Errors
    /// Everything that is wrong with it, or that it cannot be read.
    pub fn load(path: &Path, environment: &Environment<'_>) -> Result<Config, ConfigErrors> {
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        let read = File::open(path)
            .and_then(|file| file.take(CONFIG_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
        if let Err(error) = read {
            let problem = Problem::new(format!("cannot be read: {error}"), "");
            return Err(whole_file(&name, 1, problem));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Config::parse(&name, &text, environment),
            Err(error) => {
                let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
                let problem = Problem::new("is no UTF-8 text", "save the file as UTF-8");
                Err(whole_file(&name, line, problem))
            }
        }
    }

    /// Checks the text of a file; `name` is what errors call it.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of its lines.
    pub fn parse(
        name: &str,
        text: &str,
        environment: &Environment<'_>,
    ) -> Result<Config, ConfigErrors> {
        if text.len() > CONFIG_BYTES_MAX {
            let problem = Problem::new("is larger than 1MiB", "");
            return Err(whole_file(name, 1, problem));
        }
        let reader = Reader::new(name, text, environment);
        let (root, syntax_errors) = DeTable::parse_recoverable(text);
        if !syntax_errors.is_empty() {
            // What is left of a broken file says nothing reliable about its keys.
            syntax_errors.iter().for_each(|error| fail_syntax(&reader, error, text.len()));
            return Err(reader.into_errors());
        }
        let config = read(&reader, root.get_ref());
        match (config, reader.error_count()) {
            (Some(config), 0) => Ok(config),
            _ => Err(reader.into_errors()),
        }
    }

    /// Returns everything that decides what a row means, as sorted `key=value` lines.
    pub fn fingerprint(&self) -> String {
        fingerprint::fingerprint(self)
    }

    /// Returns the names of the columns of the group key, in their order.
    pub fn key_columns(&self) -> Vec<&str> {
        let keys = self.schema.fields().iter().filter(|field| field.role == Role::Key);
        keys.map(|field| field.name.as_str()).collect()
    }

    /// Returns the configuration of a partition's roll-up. `hash_seed` is random in a process.
    pub fn rollup(&self, partition: &str, hash_seed: u64) -> RollupConfig {
        RollupConfig {
            plan: Arc::new(Plan::new(self.schema.clone())),
            grid: self.window.grid,
            max_out_of_orderness: self.window.max_out_of_orderness,
            allowed_lateness: self.window.allowed_lateness,
            late: self.window.late,
            max_future_skew: self.window.max_future_skew,
            devices_max: self.limits.devices_max,
            piece_rows_max: self.limits.piece_rows_max,
            generation: self.pipeline.generation,
            pipeline: self.pipeline.name.clone(),
            source_partition: partition.to_owned(),
            hash_seed,
        }
    }

    /// Returns the configuration of a lane; the pipeline fills in partition and continuity.
    pub fn lane(&self, hash_seed: u64) -> LaneConfig {
        LaneConfig {
            rollup: self.rollup("", hash_seed),
            decode: self.limits.decode,
            fingerprint: self.fingerprint().into(),
            continuity: Continuity::Counted,
            commit_interval_ms: as_ms(self.pipeline.commit_interval),
            idle_timeout_ms: as_ms(self.window.idle_timeout),
            commits_in_flight_max: self.limits.commits_in_flight_max,
            letters_per_commit_max: self.limits.letters_per_commit_max,
            dead_letter_bytes_max: self.limits.dead_letter_bytes_max,
        }
    }

    /// Returns the configuration of the engine.
    pub fn engine(&self, hash_seed: u64) -> PipelineConfig {
        PipelineConfig {
            lane: self.lane(hash_seed),
            worker_threads: self.pipeline.worker_threads,
            merge: match self.pipeline.routing {
                Routing::Key => None,
                Routing::Any => Some(self.limits.held_windows_max),
            },
            retry: RetryConfig {
                pause_min_ms: as_ms(self.limits.retry_pause_min),
                pause_max_ms: as_ms(self.limits.retry_pause_max),
            },
            drain_timeout: self.limits.drain_timeout,
            log_windows: self.pipeline.log_windows,
            memory_bytes_max: self.limits.memory_max as u64,
            routed_devices_max: self.limits.routed_devices_max,
        }
    }
}

fn whole_file(name: &str, line: usize, problem: Problem) -> ConfigErrors {
    let reader = Reader::new(name, "", &|_| None);
    reader.fail(line, "", problem);
    reader.into_errors()
}

/// Notes a syntax error by its message alone: the text around it may be a secret.
fn fail_syntax(reader: &Reader<'_>, error: &TomlError, end: usize) {
    let at = error.span().map_or(end, |span| span.start);
    reader.fail(reader.line(at), "", Problem::new(format!("no TOML: {}", error.message()), ""));
}

fn read<'a>(reader: &'a Reader<'a>, root: &'a DeTable<'a>) -> Option<Config> {
    reader.check_names("", root);
    let pipeline = read_pipeline(&reader.section(root, "pipeline"));
    let source = source::read(reader, root);
    let limits = read_limits(&reader.section(root, "limits"));
    let window = read_window(&reader.section(root, "window"), limits.open_windows_max);
    let time = window.map_or(TimeMode::Event, |window| window.time);
    let late = window.map_or(LatePolicy::DeadLetter, |window| window.late);
    let schema = schema::read(reader, root, time, late);
    let sink = sink::read(reader, root, &pipeline.name);
    if late == LatePolicy::Amend {
        check_amend(&reader.section(root, "window"), pipeline.routing, sink.as_ref());
    }
    let http = read_http(&reader.section(root, "http"));
    Some(Config {
        pipeline,
        source: source?,
        schema: Arc::new(schema?),
        window: window?,
        sink: sink?,
        http: http?,
        limits,
        values: KeyValues::of(root, reader.environment),
    })
}

/// Late messages correct rows that one lane wrote and a store gives back.
fn check_amend(section: &Section<'_>, routing: Routing, sink: Option<&Sink>) {
    let fail = |what: &str, remedy: &str| {
        let text = format!("is \"amend\", but {what}");
        section.fail("late", Problem::new(text, remedy));
    };
    if routing == Routing::Any {
        fail(
            "rows that are merged from several lanes are not amended (routing = \"any\")",
            "key the topic by device and write routing = \"key\", or late = \"dead_letter\"",
        );
    }
    if sink == Some(&Sink::Stdout) {
        fail("printed rows cannot be amended", "choose another sink, or late = \"dead_letter\"");
    }
}

fn read_pipeline(section: &Section<'_>) -> Pipeline {
    let name = section.text("name");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let is_name = name.len() <= PIPELINE_NAME_BYTES_MAX && name.bytes().all(plain);
    if !name.is_empty() && !is_name {
        let text = format!("is {}, which is no name", section.shown("name"));
        section.fail("name", Problem::new(text, "write 1 to 64 letters, digits, _ or -"));
    }
    let cores = || available_parallelism().map_or(1, |cores| cores.get().min(256));
    let routing = match section.choice("routing") {
        Some("any") => Routing::Any,
        _ => Routing::Key,
    };
    let worker_threads = section.int_optional("worker_threads");
    if routing == Routing::Any && worker_threads.is_some_and(|count: usize| count > 1) {
        let text = "is more than 1, but merged lanes share one thread (routing = \"any\")";
        section.fail("worker_threads", Problem::new(text, "leave it out"));
    }
    Pipeline {
        name,
        routing,
        worker_threads: match routing {
            Routing::Key => worker_threads.unwrap_or_else(cores),
            Routing::Any => 1,
        },
        log_windows: section.flag("log_windows"),
        generation: section.int("generation"),
        commit_interval: section.duration("commit_interval"),
    }
}

/// Reads `[window]`; `limit` is how many windows of a lane may be open at once.
fn read_window(section: &Section<'_>, limit: i64) -> Option<Window> {
    let errors_before = section.reader.error_count();
    let length = |name| DurationMs::from_ms(section.duration(name).as_millis() as i64);
    let (size, offset) = (length("size"), length("offset"));
    let max_out_of_orderness = length("max_out_of_orderness");
    let allowed_lateness = length("allowed_lateness");
    let late = match section.choice("late") {
        Some("amend") => LatePolicy::Amend,
        _ => LatePolicy::DeadLetter,
    };
    let time = match section.choice("time") {
        Some("publish") => TimeMode::Publish,
        _ => TimeMode::Event,
    };
    let max_future_skew = length("max_future_skew");
    let idle_timeout = section.duration("idle_timeout");
    if section.reader.error_count() > errors_before {
        return None;
    }
    let grid = read_grid(section, size.as_ms(), offset.as_ms())?;
    let hold_back_ms = max_out_of_orderness.as_ms() + allowed_lateness.as_ms();
    let open_windows = open_windows_max(grid, max_out_of_orderness, allowed_lateness);
    if open_windows > limit {
        let text = format!(
            "is {}, too small for max_out_of_orderness + allowed_lateness = \"{}\": \
             {open_windows} windows would be open at once, at most {limit} may",
            shown_duration(size.as_ms()),
            duration_text(hold_back_ms as u64)
        );
        section.fail("size", Problem::new(text, "make windows larger or the others smaller"));
    }
    Some(Window {
        grid,
        max_out_of_orderness,
        allowed_lateness,
        late,
        max_future_skew,
        idle_timeout,
        time,
    })
}

fn read_grid(section: &Section<'_>, size_ms: i64, offset_ms: i64) -> Option<WindowGrid> {
    let whole = |name: &str, ms: i64| {
        if ms % 1000 != 0 {
            let text = format!("is {}, not in whole seconds", shown_duration(ms));
            section.fail(name, Problem::new(text, "write whole seconds, such as \"10s\""));
        }
    };
    whole("size", size_ms);
    whole("offset", offset_ms);
    if offset_ms >= size_ms {
        let text = format!(
            "is {}, not less than the window's size {}",
            shown_duration(offset_ms),
            shown_duration(size_ms)
        );
        section.fail("offset", Problem::new(text, "lower it"));
    }
    WindowGrid::new(size_ms, offset_ms)
}

fn shown_duration(ms: i64) -> String {
    format!("\"{}\"", duration_text(ms.unsigned_abs()))
}

fn read_http(section: &Section<'_>) -> Option<Http> {
    let enabled = section.flag("enabled");
    let listen = section.text("listen");
    let parsed = listen.parse().ok();
    if parsed.is_none() && !listen.is_empty() {
        let text = format!("is {}, which is no address with a port", section.shown("listen"));
        section.fail("listen", Problem::new(text, "write it such as \"127.0.0.1:8787\""));
    }
    Some(Http { listen: parsed?, enabled })
}

fn read_limits(section: &Section<'_>) -> Limits {
    let errors_before = section.reader.error_count();
    let limits = Limits {
        devices_max: section.int("devices_max"),
        open_windows_max: section.int_optional("open_windows_max").unwrap_or(OPEN_WINDOWS_MAX),
        decode: DecodeLimits {
            payload_bytes_max: section.size("payload_bytes_max"),
            key_bytes_max: section.size("key_bytes_max"),
            text_bytes_max: section.size("text_bytes_max"),
            depth_max: section.int("depth_max"),
        },
        dead_letter_bytes_max: section.size("dead_letter_bytes_max"),
        letters_per_commit_max: section.int("letters_per_commit_max"),
        commits_in_flight_max: section.int("commits_in_flight_max"),
        piece_rows_max: section.int("piece_rows_max"),
        routed_devices_max: section.int("routed_devices_max"),
        held_windows_max: section.int("held_windows_max"),
        queue_bytes_max: section.size("queue_bytes_max"),
        memory_max: section.size("memory_max"),
        drain_timeout: section.duration("drain_timeout"),
        retry_pause_min: section.duration("retry_pause_min"),
        retry_pause_max: section.duration("retry_pause_max"),
    };
    let pauses_fit = limits.retry_pause_min <= limits.retry_pause_max;
    if section.reader.error_count() == errors_before && !pauses_fit {
        let text = format!(
            "is \"{}\", more than retry_pause_max = \"{}\"",
            duration_text(as_ms(limits.retry_pause_min)),
            duration_text(as_ms(limits.retry_pause_max))
        );
        section.fail("retry_pause_min", Problem::new(text, "lower it or raise the other"));
    }
    limits
}

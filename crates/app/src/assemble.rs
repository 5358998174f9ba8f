//! From a configuration to a running pipeline: makes the source, the stores and the readers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tidemill_engine::{
    metrics::Metrics,
    pipeline::{self, Outcome},
    port::{Source, Store},
    record::{ALL_PARTITIONS, CommitRecord},
    settings::Reload,
};
use tidemill_pulsar::{Auth, ClientConfig};
use tidemill_sink::{
    ClickHouseConfig, ClickHouseReader, ClickHouseStore, EmbeddedConfig, EmbeddedLock,
    EmbeddedReader, EmbeddedStore, SinkError, StdoutStore, StoreReader, clickhouse::TableEngine,
};
use tidemill_source::{file, generate::source as generate, pull::PullSource, pulsar};
use tracing::{info, warn};

use crate::{
    config::{
        self, ClickHouseSink, Config, EmbeddedSink, FilePartitions, GenerateSource, PulsarStart,
        Routing, Sink,
    },
    http,
    progress::Progress,
    reload::Reloader,
    status::StatusLine,
};

/// What happens when the HTTP address cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpFailure {
    /// The run ends.
    Fatal,
    /// It goes on without.
    Warn,
}

/// What tells a running pipeline to do otherwise.
#[derive(Debug)]
pub struct Reloads {
    /// What HTTP asks to read the configuration again.
    pub reloader: Arc<Reloader>,
    /// What comes of it.
    pub orders: Receiver<Reload>,
}

/// Runs a pipeline until its input ends or `shutdown` is set.
///
/// # Errors
/// If source or store cannot be made; the text names place, value and remedy.
pub fn run(
    config: &Config,
    run_for: Option<Duration>,
    on_http: HttpFailure,
    metrics: &Arc<Metrics>,
    shutdown: &AtomicBool,
    reloads: Option<Reloads>,
) -> Result<Outcome, String> {
    let (reloader, orders) = match reloads {
        Some(reloads) => (Some(reloads.reloader), reloads.orders),
        None => (None, channel().1),
    };
    if config.http.enabled {
        match http::serve(config.http.listen, metrics.clone(), reloader) {
            Ok(address) => info!(%address, "http endpoint"),
            Err(error) if on_http == HttpFailure::Warn => {
                warn!(listen = %config.http.listen, %error, "no http endpoint");
            }
            Err(error) => {
                return Err(format!(
                    "http.listen = \"{}\": {error}; write another address, or enabled = false",
                    config.http.listen
                ));
            }
        }
    }
    let _lock = lock_store(config)?;
    let Some(stores) = open_stores(config, shutdown)? else {
        return Ok(Outcome::Drained);
    };
    check_routing(config)?;
    let source = open_source(config, run_for)?;
    info!(
        pipeline = config.pipeline.name,
        source = config.source.name(),
        sink = config.sink.name(),
        "started"
    );
    let _status = StatusLine::start(metrics.clone());
    let _progress = Progress::start(config, metrics);
    let engine = config.engine(random());
    Ok(pipeline::run_reloadable(&engine, source, stores, metrics, shutdown, &orders))
}

/// Rows of single lanes and rows merged of all lanes must not stand beside each other.
fn check_routing(config: &Config) -> Result<(), String> {
    if config.sink == Sink::Stdout {
        return Ok(());
    }
    let name = &config.pipeline.name;
    let records = open_reader(config)?.records(Some(name)).map_err(|error| error.to_string())?;
    let is_merged = |record: &CommitRecord| *record.lane.partition == *ALL_PARTITIONS;
    let wanted = config.pipeline.routing;
    match records.iter().find(|record| is_merged(record) != (wanted == Routing::Any)) {
        None => Ok(()),
        Some(other) => Err(format!(
            "pipeline.routing = \"{}\", but pipeline {name:?} has commits of {}: each of its \
             windows would have rows of both kinds; write another pipeline.name, or the routing \
             that it had",
            wanted.name(),
            if is_merged(other) { "merged lanes (\"any\")" } else { "single lanes (\"key\")" },
        )),
    }
}

/// Returns a number that differs from process to process.
pub fn random() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8)
}

fn open_source(config: &Config, run_for: Option<Duration>) -> Result<Box<dyn Source>, String> {
    let queue_bytes_max = queue_bytes_max(config);
    match &config.source {
        config::Source::File(_) | config::Source::Generate(_) => {
            Ok(Box::new(open_pulled(config, run_for)?))
        }
        config::Source::Stdin => Ok(Box::new(file::stdin::open(file::stdin::StdinConfig {
            line_bytes_max: config.limits.decode.payload_bytes_max,
            queue_bytes_max,
        }))),
        config::Source::Pulsar(from) => Ok(Box::new(pulsar::open(pulsar_source(config, from))?)),
    }
}

/// Returns how many bytes may wait in all: half of the memory, the rest is for windows and commits.
fn queue_bytes_total_max(config: &Config) -> u64 {
    config.limits.memory_max as u64 / 2
}

/// Returns how many bytes of each partition of a source that is pulled may wait.
fn queue_bytes_max(config: &Config) -> u64 {
    let lanes = match &config.source {
        config::Source::File(from) if from.partitions == FilePartitions::PerFile => {
            from.paths.len() as u64
        }
        config::Source::Generate(from) => u64::from(from.partitions),
        _ => 1,
    };
    (config.limits.queue_bytes_max as u64).min(queue_bytes_total_max(config) / lanes.max(1))
}

/// Opens a source that can be read again: files, or a generator.
///
/// # Errors
/// If it is none of these, or cannot be opened; the text names place, value and remedy.
pub fn open_pulled(config: &Config, run_for: Option<Duration>) -> Result<PullSource, String> {
    let queue_bytes_max = queue_bytes_max(config);
    match &config.source {
        config::Source::File(from) => file::open(&file::FileConfig {
            paths: from.paths.clone(),
            partitions: match from.partitions {
                FilePartitions::Single => file::Partitions::Single,
                FilePartitions::PerFile => file::Partitions::PerFile,
            },
            line_bytes_max: config.limits.decode.payload_bytes_max,
            queue_bytes_max,
        }),
        config::Source::Generate(from) => {
            let source = generate::open(&generate_config(from, run_for, queue_bytes_max));
            source.map_err(|error| format!("source.generate.{error}"))
        }
        other => Err(format!("source.{} is neither files nor a generator", other.name())),
    }
}

/// Returns the settings of a Pulsar source.
pub fn pulsar_source(config: &Config, from: &config::PulsarSource) -> pulsar::PulsarConfig {
    let fields = config.schema.fields().iter();
    let paths = fields.flat_map(|field| field.aliases.iter().chain([&field.path]));
    pulsar::PulsarConfig {
        client: pulsar_client(from),
        consumer_name: from.consumer_name.clone().unwrap_or_default(),
        start: match from.start {
            PulsarStart::Earliest => pulsar::Start::Earliest,
            PulsarStart::Latest => pulsar::Start::Latest,
            PulsarStart::PublishTime(at_ms) => pulsar::Start::PublishTime(at_ms),
        },
        topics: from.topics.clone(),
        envelope: pulsar::Envelope::of_paths(paths.map(Vec::as_slice)),
        is_exclusive: config.pipeline.routing == Routing::Any,
        discovery_interval: from.discovery_interval,
        queue_messages_max: from.receive_messages_max,
        queue_bytes_max: config.limits.queue_bytes_max as u64,
        queue_bytes_total_max: queue_bytes_total_max(config),
        entry_bytes_max: from.entry_bytes_max,
        ..pulsar::PulsarConfig::new(&from.url, "", &from.subscription)
    }
}

/// Returns the client settings of a Pulsar source.
pub fn pulsar_client(from: &config::PulsarSource) -> ClientConfig {
    let auth = match &from.token {
        Some(token) => Auth::Token(token.expose().to_owned()),
        None => Auth::None,
    };
    let tls_ca_file = from.tls_ca_file.clone();
    ClientConfig { auth, tls_ca_file, ..ClientConfig::new(&from.url) }
}

fn generate_config(
    from: &GenerateSource,
    run_for: Option<Duration>,
    queue_bytes_max: u64,
) -> generate::SourceConfig {
    let mut generate = from.config.clone();
    if let Some(start_ms) = from.start_ms {
        generate.start_ms = start_ms;
    } else if from.pace == config::Pace::Real {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start = unix.saturating_sub(from.backfill);
        // A whole minute, so that the first windows are whole ones.
        generate.start_ms = i64::try_from(start.as_secs() / 60 * 60_000).unwrap_or(0);
    }
    generate::SourceConfig {
        partitions: from.partitions,
        messages_per_partition: from
            .messages
            .map(|messages| messages.div_ceil(u64::from(from.partitions.max(1)))),
        run_for,
        pace: match from.pace {
            config::Pace::Real => generate::Pace::Real,
            config::Pace::Fast => generate::Pace::Fast,
        },
        queue_bytes_max,
        generate,
    }
}

/// Makes sure that no other process writes the store, where it can know: in the embedded one. Two
/// writers of ClickHouse do no harm.
///
/// # Errors
/// If another process does; the text names it.
pub fn lock_store(config: &Config) -> Result<Option<EmbeddedLock>, String> {
    match &config.sink {
        Sink::Embedded(sink) => EmbeddedLock::take(&embedded_config(sink))
            .map(Some)
            .map_err(|error| format!("sink.embedded: {error}")),
        _ => Ok(None),
    }
}

/// Opens the stores; one that cannot be reached is waited for. `None`: told to stop meanwhile.
fn open_stores(
    config: &Config,
    shutdown: &AtomicBool,
) -> Result<Option<Vec<Box<dyn Store>>>, String> {
    let count = match &config.sink {
        // One writer at a time is all that SQLite and a stream have.
        Sink::Embedded(_) | Sink::Stdout => 1,
        // A table takes one insert with a quorum at a time.
        Sink::ClickHouse(sink) if sink.engine != TableEngine::Plain => 1,
        Sink::ClickHouse(_) => config.pipeline.worker_threads,
    };
    let mut stores: Vec<Box<dyn Store>> = Vec::new();
    while stores.len() < count {
        match open_store(config) {
            Ok(store) => stores.push(store),
            Err(error) if error.retry() => {
                warn!(sink = config.sink.name(), %error, "store not reached, trying again");
                if !pause(Duration::from_secs(1), shutdown) {
                    return Ok(None);
                }
            }
            Err(error) => return Err(format!("sink.{}: {error}", config.sink.name())),
        }
    }
    Ok(Some(stores))
}

fn open_store(config: &Config) -> Result<Box<dyn Store>, SinkError> {
    let columns = config.schema.columns();
    let keys: Vec<String> = config.key_columns().into_iter().map(str::to_owned).collect();
    match &config.sink {
        Sink::Embedded(sink) => EmbeddedStore::open(embedded_config(sink), columns, &keys)
            .map(|store| Box::new(store) as Box<dyn Store>),
        Sink::ClickHouse(sink) => {
            let sink = clickhouse_config(sink, config.limits.piece_rows_max);
            ClickHouseStore::connect(sink, columns, &keys)
                .map(|store| Box::new(store) as Box<dyn Store>)
        }
        Sink::Stdout => {
            Ok(Box::new(StdoutStore::new(columns, std::io::stdout(), std::io::stderr())))
        }
    }
}

/// Opens a store to put an operator's decision, or repaired rows, into it.
///
/// # Errors
/// If it cannot be reached now, or keeps no records.
pub fn open_writer(config: &Config) -> Result<Box<dyn Store>, String> {
    if config.sink == Sink::Stdout {
        return Err("sink.stdout keeps no commits; there is nothing to reset".to_owned());
    }
    open_store(config).map_err(|error| format!("sink.{}: {error}", config.sink.name()))
}

/// Waits; returns false as soon as `shutdown` is set.
fn pause(pause: Duration, shutdown: &AtomicBool) -> bool {
    let until = Instant::now() + pause;
    while Instant::now() < until && !shutdown.load(SeqCst) {
        thread::sleep(Duration::from_millis(20));
    }
    !shutdown.load(SeqCst)
}

/// Opens what `query` and `verify` read from.
///
/// # Errors
/// If the store cannot be read, or is none that keeps rows.
pub fn open_reader(config: &Config) -> Result<Box<dyn StoreReader>, String> {
    let columns = config.schema.columns();
    let keys: Vec<String> = config.key_columns().into_iter().map(str::to_owned).collect();
    let fail = |error: SinkError| format!("sink.{}: {error}", config.sink.name());
    match &config.sink {
        Sink::Embedded(sink) => EmbeddedReader::open(embedded_config(sink), columns, &keys)
            .map(|reader| Box::new(reader) as Box<dyn StoreReader>)
            .map_err(fail),
        Sink::ClickHouse(sink) => {
            let sink = clickhouse_config(sink, config.limits.piece_rows_max);
            ClickHouseReader::connect(sink, columns, &keys)
                .map(|reader| Box::new(reader) as Box<dyn StoreReader>)
                .map_err(fail)
        }
        Sink::Stdout => Err("sink.stdout keeps no rows; there is nothing to read".to_owned()),
    }
}

/// Returns the settings of an embedded store.
pub fn embedded_config(sink: &EmbeddedSink) -> EmbeddedConfig {
    EmbeddedConfig {
        busy_timeout: sink.busy_timeout,
        ..EmbeddedConfig::new(&sink.path, &sink.table)
    }
}

/// Returns the settings of a ClickHouse store.
pub fn clickhouse_config(sink: &ClickHouseSink, piece_rows_max: usize) -> ClickHouseConfig {
    ClickHouseConfig {
        user: sink.user.clone(),
        password: sink.password.as_ref().map(|password| password.expose().to_owned()),
        ca_file: sink.ca_file.clone(),
        engine: sink.engine.clone(),
        create: sink.create,
        connect_timeout: sink.connect_timeout,
        insert_timeout: sink.insert_timeout,
        query_timeout: sink.query_timeout,
        piece_rows_max,
        piece_bytes_max: sink.piece_bytes_max,
        insert_quorum: sink.insert_quorum,
        ..ClickHouseConfig::new(&sink.url, &sink.table)
    }
}

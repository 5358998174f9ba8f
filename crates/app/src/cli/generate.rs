//! `tidemill generate`.

use std::{
    fs::File,
    io::Write,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use tidemill_pulsar::{
    Client, Compression, OutgoingMessage, PartitionedConfig, PartitionedProducer,
};
use tidemill_source::generate::{GenerateConfig, Generator, Shape, TimeFormat};
use tracing::warn;

use super::{Failure, broker::BrokerAccess};

/// Which fields a message has.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ShapeName {
    /// The 25 flat fields of preset "sensor".
    Sensor,
    /// The same values nested and in camel case, with a word as status: preset "sensor-nested".
    Nested,
    /// Processor usage and load of hosts: preset "cpu".
    Cpu,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum CompressionName {
    Lz4,
    Zstd,
    Zlib,
    Snappy,
    None,
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How many messages.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Number of the first message; the same message has the same bytes in every run.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Messages per second of event time.
    #[arg(long, default_value_t = 30_000.0)]
    rate: f64,
    /// Number of devices.
    #[arg(long, default_value_t = 500)]
    devices: u32,
    /// Number of the first device.
    #[arg(long, default_value_t = 1)]
    first_device: u32,
    /// Same seed, same bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Publish time of the first message, milliseconds since 1970 [default: 2026-01-01].
    #[arg(long)]
    start_ms: Option<i64>,
    /// Write times as epoch milliseconds instead of RFC 3339.
    #[arg(long)]
    epoch_ms: bool,
    /// Event times lie up to so many milliseconds behind the publish time.
    #[arg(long, default_value_t = 2_000)]
    out_of_orderness_ms: u32,
    /// Share of late messages, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    late_ratio: f64,
    /// Share of messages that nobody can read, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    malformed_ratio: f64,
    /// Share of messages from a clock that runs ahead, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    future_ratio: f64,
    /// Which fields a message has.
    #[arg(long, value_enum, default_value = "sensor")]
    shape: ShapeName,
    /// Text before the device number.
    #[arg(long, default_value = "sensor_")]
    device_prefix: String,
    /// Share of messages that lack one to three fields, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    missing_ratio: f64,
    /// Share of messages that are the message before them once more, 0 to 0.9.
    #[arg(long, default_value_t = 0.0)]
    duplicate_ratio: f64,
    /// Share of devices that are silent at any time, 0 to 0.9; others send in their place.
    #[arg(long, default_value_t = 0.0)]
    silent_ratio: f64,
    /// How many milliseconds a device is silent.
    #[arg(long, default_value_t = 600_000)]
    silent_for_ms: u64,
    /// Share of devices whose clock is wrong, each always by the same amount, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    wrong_clock_ratio: f64,
    /// A wrong clock is ahead or behind by 1 to this many milliseconds.
    #[arg(long, default_value_t = 600_000)]
    wrong_clock_by_ms: u64,
    /// All messages of each period of so many milliseconds come at its beginning [default: 0,
    /// which is evenly].
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    burst_every_ms: u64,
    /// The share of the period in which they come.
    #[arg(long, default_value_t = 0.1)]
    burst_ratio: f64,
    /// Send messages without a key to all partitions in turn: a device has no partition of its own.
    #[arg(long, requires = "pulsar")]
    no_key: bool,
    /// Send no faster than the rate.
    #[arg(long)]
    real_pace: bool,
    /// The file to write, or - for standard output.
    #[arg(long, default_value = "-", conflicts_with = "pulsar")]
    out: PathBuf,
    /// Send to this Pulsar broker, such as pulsar://127.0.0.1:6650.
    #[arg(long)]
    pulsar: Option<String>,
    /// The topic to send to.
    #[arg(long, default_value = "persistent://public/default/iot-sensor-data")]
    topic: String,
    /// Messages of one batch.
    #[arg(long, default_value_t = 1_000)]
    batch_messages: usize,
    /// Compression of batches.
    #[arg(long, value_enum, default_value = "lz4")]
    compression: CompressionName,
    #[command(flatten)]
    access: BrokerAccess,
}

impl Arguments {
    fn generator(&self) -> Result<Generator, Failure> {
        let defaults = GenerateConfig::default();
        let config = GenerateConfig {
            seed: self.seed,
            rate_per_s: self.rate,
            devices: self.devices,
            first_device: self.first_device,
            start_ms: self.start_ms.unwrap_or(defaults.start_ms),
            out_of_orderness_ms: self.out_of_orderness_ms,
            late_ratio: self.late_ratio,
            malformed_ratio: self.malformed_ratio,
            future_ratio: self.future_ratio,
            shape: match self.shape {
                ShapeName::Sensor => Shape::Sensor,
                ShapeName::Nested => Shape::Nested,
                ShapeName::Cpu => Shape::Cpu,
            },
            device_prefix: self.device_prefix.clone(),
            missing_ratio: self.missing_ratio,
            duplicate_ratio: self.duplicate_ratio,
            silent_ratio: self.silent_ratio,
            silent_for_ms: self.silent_for_ms,
            wrong_clock_ratio: self.wrong_clock_ratio,
            wrong_clock_by_ms: self.wrong_clock_by_ms,
            burst_every_ms: self.burst_every_ms,
            burst_ratio: self.burst_ratio,
            time_format: if self.epoch_ms { TimeFormat::EpochMs } else { TimeFormat::Rfc3339 },
            ..defaults
        };
        Generator::at(config, self.from).map_err(Failure::usage)
    }

    fn compression(&self) -> Compression {
        match self.compression {
            CompressionName::Lz4 => Compression::Lz4,
            CompressionName::Zstd => Compression::Zstd,
            CompressionName::Zlib => Compression::Zlib,
            CompressionName::Snappy => Compression::Snappy,
            CompressionName::None => Compression::None,
        }
    }
}

/// Holds the writer back: none before its publish time, so bursts are bursts.
struct Pacer {
    started_at: Instant,
    is_real: bool,
    first_ms: i64,
}

impl Pacer {
    /// Returns how long to wait before a message with that publish time.
    fn wait(&self, publish_time_ms: i64) -> Option<Duration> {
        let after_ms = u64::try_from(publish_time_ms - self.first_ms).ok()?;
        let wait = Duration::from_millis(after_ms).checked_sub(self.started_at.elapsed())?;
        (self.is_real && !wait.is_zero()).then_some(wait)
    }
}

pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let generator = arguments.generator()?;
    let pacer = Pacer {
        started_at: Instant::now(),
        is_real: arguments.real_pace,
        first_ms: generator.publish_time_ms(generator.index()),
    };
    match &arguments.pulsar {
        Some(url) => send(arguments, url, generator, &pacer),
        None => write(arguments, generator, &pacer),
    }
}

/// Lines are written in blocks of about so many bytes.
const BLOCK_BYTES: usize = 256 * 1024;

fn write(
    arguments: &Arguments,
    mut generator: Generator,
    pacer: &Pacer,
) -> Result<ExitCode, Failure> {
    let place = arguments.out.display();
    let fail = |error: std::io::Error| Failure::failed(format!("{place}: {error}"));
    let mut out: Box<dyn Write> = if arguments.out.as_os_str() == "-" {
        Box::new(std::io::stdout().lock())
    } else {
        Box::new(File::create(&arguments.out).map_err(fail)?)
    };
    let mut block = Vec::with_capacity(BLOCK_BYTES + 2 * 1024);
    for left in (0..arguments.messages).rev() {
        generator.next(&mut block);
        block.push(b'\n');
        let wait = match left {
            0 => None,
            _ if pacer.is_real => pacer.wait(generator.publish_time_ms(generator.index())),
            _ => None,
        };
        if block.len() >= BLOCK_BYTES || left == 0 || wait.is_some() {
            match out.write_all(&block).and_then(|()| out.flush()) {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
                other => other.map_err(fail)?,
            }
            block.clear();
        }
        if let Some(wait) = wait {
            std::thread::sleep(wait);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn send(
    arguments: &Arguments,
    url: &str,
    mut generator: Generator,
    pacer: &Pacer,
) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let config = PartitionedConfig {
        compression: arguments.compression(),
        batch_messages_max: arguments.batch_messages,
        ..PartitionedConfig::new(&arguments.topic)
    };
    let client = arguments.access.client(url)?;
    runtime.block_on(async {
        let client = Client::new(client).map_err(Failure::usage)?;
        let mut producer =
            PartitionedProducer::new(&client, config).await.map_err(Failure::failed)?;
        for sent in 0..arguments.messages {
            let mut payload = Vec::with_capacity(640);
            let generated = generator.next(&mut payload);
            let mut key = Vec::with_capacity(16);
            generator.push_key(generated.device, &mut key);
            let message = OutgoingMessage::new((!arguments.no_key).then_some(key), payload);
            if let Err(error) = producer.send(message).await {
                warn!(%error, "a batch failed");
            }
            if sent + 1 < arguments.messages
                && let Some(wait) = pacer.wait(generator.publish_time_ms(generator.index()))
            {
                tokio::time::sleep(wait).await;
            }
        }
        if let Err(error) = producer.flush().await {
            warn!(%error, "a batch failed");
        }
        let (confirmed, failed) = (producer.confirmed_count(), producer.failed_count());
        let seconds = pacer.started_at.elapsed().as_secs_f64();
        super::print(&format!(
            "confirmed {confirmed} messages, {failed} without confirmation, {:.0} messages/s\n",
            confirmed as f64 / seconds
        ));
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

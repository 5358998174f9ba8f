//! `tidemill generate`.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use tidemill_pulsar::{
    Client, ClientConfig, Compression, OutgoingMessage, PartitionedConfig, PartitionedProducer,
};
use tidemill_source::generate::{GenerateConfig, Generator, TimeFormat};
use tracing::warn;

use super::Failure;

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
    /// Compression of batches: lz4, zstd or none.
    #[arg(long, default_value = "lz4")]
    compression: String,
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
            time_format: if self.epoch_ms { TimeFormat::EpochMs } else { TimeFormat::Rfc3339 },
            ..defaults
        };
        Generator::at(config, self.from).map_err(Failure::usage)
    }

    fn compression(&self) -> Result<Compression, Failure> {
        match self.compression.as_str() {
            "lz4" => Ok(Compression::Lz4),
            "zstd" => Ok(Compression::Zstd),
            "none" => Ok(Compression::None),
            other => {
                Err(Failure::usage(format!("--compression {other:?}: write lz4, zstd or none")))
            }
        }
    }
}

/// Holds the writer back to the rate.
struct Pacer {
    started_at: Instant,
    per_s: Option<f64>,
}

impl Pacer {
    /// Returns how long message number `sent` has to wait.
    fn wait(&self, sent: u64) -> Option<Duration> {
        let due = Duration::from_secs_f64(sent as f64 / self.per_s?);
        due.checked_sub(self.started_at.elapsed()).filter(|wait| wait.as_millis() > 0)
    }
}

pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let generator = arguments.generator()?;
    let per_s = arguments.real_pace.then_some(arguments.rate);
    let pacer = Pacer { started_at: Instant::now(), per_s };
    match &arguments.pulsar {
        Some(url) => send(arguments, url, generator, &pacer),
        None => write(arguments, generator, &pacer),
    }
}

fn write(
    arguments: &Arguments,
    mut generator: Generator,
    pacer: &Pacer,
) -> Result<ExitCode, Failure> {
    let place = arguments.out.display();
    let fail = |error: std::io::Error| Failure::failed(format!("{place}: {error}"));
    let mut out: Box<dyn Write> = if arguments.out.as_os_str() == "-" {
        Box::new(BufWriter::with_capacity(1 << 18, std::io::stdout().lock()))
    } else {
        let file = File::create(&arguments.out).map_err(fail)?;
        Box::new(BufWriter::with_capacity(1 << 18, file))
    };
    let mut line = Vec::with_capacity(1024);
    for sent in 0..arguments.messages {
        line.clear();
        generator.next(&mut line);
        line.push(b'\n');
        match out.write_all(&line) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
            other => other.map_err(fail)?,
        }
        if let Some(wait) = pacer.wait(sent + 1) {
            out.flush().map_err(fail)?;
            std::thread::sleep(wait);
        }
    }
    match out.flush() {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(fail(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
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
        compression: arguments.compression()?,
        batch_messages_max: arguments.batch_messages,
        ..PartitionedConfig::new(&arguments.topic)
    };
    runtime.block_on(async {
        let client = Client::new(ClientConfig::new(url)).map_err(Failure::usage)?;
        let mut producer =
            PartitionedProducer::new(&client, config).await.map_err(Failure::failed)?;
        for sent in 0..arguments.messages {
            let mut payload = Vec::with_capacity(640);
            let generated = generator.next(&mut payload);
            let mut key = Vec::with_capacity(16);
            generator.push_key(generated.device, &mut key);
            let message = OutgoingMessage::new(Some(key), payload);
            if let Err(error) = producer.send(message).await {
                warn!(%error, "a batch failed");
            }
            if let Some(wait) = pacer.wait(sent + 1) {
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

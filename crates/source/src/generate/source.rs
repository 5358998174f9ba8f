//! The generator as a source in the process: partitions that share the devices among them.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::BytesMut;
use tidemill_engine::port::{Entry, RawMessage};
use tidemill_kernel::event::Position;

use super::{GenerateConfig, Generator, InvalidConfig};
use crate::pull::{PartitionReader, Pull, PullSource};

/// Messages of one entry, as a producer would batch them.
const ENTRY_MESSAGES: u64 = 1_000;

/// How fast messages come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// As fast as they are taken.
    #[default]
    Fast,
    /// None before its publish time: the past at once, then as time goes by.
    Real,
}

/// A generated source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceConfig {
    /// The messages of all partitions together.
    pub generate: GenerateConfig,
    /// How many partitions share the devices; at most as many as there are devices.
    pub partitions: u32,
    /// How many messages each partition has; `None`: no end.
    pub messages_per_partition: Option<u64>,
    /// When all partitions end whatever is left; `None`: never.
    pub run_for: Option<Duration>,
    /// How fast.
    pub pace: Pace,
    /// Bytes of a partition made ahead of what is processed.
    pub queue_bytes_max: u64,
}

/// Returns the messages of partition `index` of `partitions`: its share of devices and rate.
pub fn partition_config(config: &GenerateConfig, index: u32, partitions: u32) -> GenerateConfig {
    let partitions = partitions.clamp(1, config.devices.max(1));
    let share = |at: u32| u64::from(config.devices) * u64::from(at) / u64::from(partitions);
    let (from, until) = (share(index) as u32, share(index + 1) as u32);
    GenerateConfig {
        seed: config.seed.wrapping_add(u64::from(index)),
        devices: until - from,
        first_device: config.first_device + from,
        rate_per_s: config.rate_per_s * f64::from(until - from) / f64::from(config.devices),
        ..config.clone()
    }
}

/// Opens a generated source; partitions are named by their number.
///
/// # Errors
/// What [`GenerateConfig::validate`] finds.
pub fn open(config: &SourceConfig) -> Result<PullSource, InvalidConfig> {
    config.generate.validate()?;
    let partitions = config.partitions.clamp(1, config.generate.devices);
    let ends_at = config.run_for.map(|run_for| Instant::now() + run_for);
    let mut readers = Vec::new();
    for index in 0..partitions {
        let generate = partition_config(&config.generate, index, partitions);
        let reader = GenerateReader {
            generator: Generator::new(generate)?,
            messages_max: config.messages_per_partition.unwrap_or(u64::MAX),
            ends_at,
            pace: config.pace,
        };
        let reader: Box<dyn PartitionReader> = Box::new(reader);
        readers.push((Arc::from(index.to_string()), reader));
    }
    Ok(PullSource::new(readers, config.queue_bytes_max))
}

struct GenerateReader {
    generator: Generator,
    messages_max: u64,
    ends_at: Option<Instant>,
    pace: Pace,
}

impl PartitionReader for GenerateReader {
    fn open(&mut self, from: Option<Position>) -> Result<(), String> {
        self.generator.seek(from.map_or(0, |from| from.offset));
        Ok(())
    }

    fn pull(&mut self) -> Result<Pull, String> {
        let first = self.generator.index();
        let over = self.ends_at.is_some_and(|ends_at| Instant::now() >= ends_at);
        if over || first >= self.messages_max {
            return Ok(Pull::End);
        }
        let last = first.saturating_add(ENTRY_MESSAGES).min(self.messages_max) - 1;
        if self.pace == Pace::Real && self.generator.publish_time_ms(last) > unix_ms() {
            return Ok(Pull::Wait);
        }
        let mut buffer = BytesMut::with_capacity(ENTRY_MESSAGES as usize * 600);
        let mut payload = Vec::with_capacity(1024);
        let mut messages = Vec::with_capacity(ENTRY_MESSAGES as usize);
        for index in first..=last {
            payload.clear();
            let generated = self.generator.next(&mut payload);
            messages.push(RawMessage {
                position: Position::new(0, index, 0),
                start: buffer.len() as u32,
                length: payload.len() as u32,
                publish_time_ms: generated.publish_time_ms,
                reject: None,
            });
            buffer.extend_from_slice(&payload);
        }
        let credit = buffer.len() as u32;
        let position = Position::new(0, first, 0);
        Ok(Pull::Entry(Entry { position, buffer: buffer.freeze(), messages, credit }))
    }
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_share_all_devices_and_the_whole_rate() {
        let config = GenerateConfig { devices: 10, rate_per_s: 100.0, ..Default::default() };
        let parts: Vec<_> = (0..4).map(|index| partition_config(&config, index, 4)).collect();
        assert_eq!(parts.iter().map(|part| part.devices).sum::<u32>(), 10);
        assert_eq!(parts.iter().map(|part| part.rate_per_s).sum::<f64>(), 100.0);
        for pair in parts.windows(2) {
            assert_eq!(pair[0].first_device + pair[0].devices, pair[1].first_device);
        }
    }

    #[test]
    fn partition_goes_on_from_any_index() {
        let generate = GenerateConfig { devices: 5, ..Default::default() };
        let reader = || GenerateReader {
            generator: Generator::new(generate.clone()).expect("valid"),
            messages_max: 2_500,
            ends_at: None,
            pace: Pace::Fast,
        };
        let mut straight = reader();
        straight.open(None).expect("opens");
        let Ok(Pull::Entry(first)) = straight.pull() else { panic!("an entry") };
        let Ok(Pull::Entry(second)) = straight.pull() else { panic!("an entry") };
        let mut resumed = reader();
        resumed.open(Some(second.messages[0].position)).expect("opens");
        let Ok(Pull::Entry(again)) = resumed.pull() else { panic!("an entry") };
        assert_eq!((first.messages.len(), again), (1_000, second));
        let Ok(Pull::Entry(rest)) = resumed.pull() else { panic!("an entry") };
        assert_eq!(rest.messages.len(), 500);
        assert!(matches!(resumed.pull(), Ok(Pull::End)));
    }
}

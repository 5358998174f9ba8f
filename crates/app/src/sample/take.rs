//! Takes the first messages of a file or a topic.

use std::{path::Path, time::Duration};

use tidemill_engine::port::{Source as _, SourceEvent};
use tidemill_pulsar::{
    Client, ClientConfig, ConsumerConfig, ConsumerEvent, StartAt, partition_topic,
};
use tidemill_source::file::{FileConfig, Partitions, open};

use super::{SAMPLE_BYTES_MAX, Sampled};

/// How long a broker may be silent before the next partition is asked.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Messages asked for at once.
const PERMITS: u32 = 1_000;
/// The longest line that is looked at.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Collects messages up to the bounds.
struct Sample {
    messages: Vec<Sampled>,
    messages_max: usize,
    bytes: usize,
}

impl Sample {
    fn new(messages_max: usize) -> Sample {
        Sample { messages: Vec::new(), messages_max, bytes: 0 }
    }

    /// Takes a message; returns false if it is full.
    fn push(&mut self, partition: u32, payload: &[u8], publish_time_ms: i64) -> bool {
        if self.messages.len() >= self.messages_max || self.bytes >= SAMPLE_BYTES_MAX {
            return false;
        }
        // With what the message itself takes, so that empty ones are bounded too.
        self.bytes += payload.len() + size_of::<Sampled>();
        self.messages.push(Sampled { payload: payload.to_vec(), publish_time_ms, partition });
        true
    }
}

/// Returns the first messages of a file: NDJSON, plain or packed.
///
/// # Errors
/// If the file cannot be read; what came before a damaged place is enough.
pub fn from_file(path: &Path, messages_max: usize) -> Result<Vec<Sampled>, String> {
    let mut source = open(&FileConfig {
        paths: vec![path.to_owned()],
        partitions: Partitions::Single,
        line_bytes_max: LINE_BYTES_MAX,
        queue_bytes_max: SAMPLE_BYTES_MAX as u64,
    })?;
    let control = source.control();
    let mut sample = Sample::new(messages_max);
    loop {
        match source.next(Duration::from_secs(1))? {
            Some(SourceEvent::Assigned(partition)) => control.read_from(&partition, None, false),
            Some(SourceEvent::Entry(partition, entry)) => {
                for message in &entry.messages {
                    if !sample.push(0, entry.payload(message), message.publish_time_ms) {
                        return Ok(sample.messages);
                    }
                }
                control.credit(&partition, entry.credit);
            }
            Some(SourceEvent::Failed(_, text)) if sample.messages.is_empty() => return Err(text),
            Some(SourceEvent::Failed(..) | SourceEvent::Exhausted) => return Ok(sample.messages),
            _ => {}
        }
    }
}

/// Returns the oldest messages of a topic, the same number of each partition, through readers of
/// its own that move no cursor.
///
/// # Errors
/// If the broker cannot be reached or there is no such topic.
pub fn from_topic(
    client: ClientConfig,
    topic: &str,
    messages_max: usize,
) -> Result<Vec<Sampled>, String> {
    let url = client.url.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let text = |error: tidemill_pulsar::Error| error.to_string();
        let client = Client::new(client).map_err(text)?;
        let count = tokio::time::timeout(SILENCE_MAX, client.partition_count(topic)).await;
        let silent = |_| format!("the broker at {url} was silent for {SILENCE_MAX:?}");
        let topics: Vec<String> = match count.map_err(silent)?.map_err(text)? {
            0 => vec![topic.to_owned()],
            count => (0..count).map(|number| partition_topic(topic, number)).collect(),
        };
        let share = messages_max.div_ceil(topics.len());
        let mut sample = Sample::new(0);
        for (topic, partition) in topics.iter().zip(0..) {
            sample.messages_max = (sample.messages.len() + share).min(messages_max);
            read(&client, topic, partition, &mut sample).await?;
        }
        Ok(sample.messages)
    })
}

async fn read(
    client: &Client,
    topic: &str,
    partition: u32,
    sample: &mut Sample,
) -> Result<(), String> {
    let config = ConsumerConfig {
        create_topic: false,
        ..ConsumerConfig::reader(topic, "tidemill-init", StartAt::Earliest)
    };
    let mut reader = client.subscribe(config);
    loop {
        // A partition may be empty.
        let Ok(event) = tokio::time::timeout(SILENCE_MAX, reader.next()).await else {
            return Ok(());
        };
        let permits = match event {
            ConsumerEvent::Connected => PERMITS,
            ConsumerEvent::Entry(entry) => {
                let publish_time_ms = i64::try_from(entry.message_time_ms()).unwrap_or(i64::MAX);
                for message in entry.messages().flatten() {
                    if !sample.push(partition, message.payload, publish_time_ms) {
                        return Ok(());
                    }
                }
                entry.permits
            }
            ConsumerEvent::EndOfTopic => return Ok(()),
            ConsumerEvent::Failed { reason } => return Err(format!("{topic}: {reason}")),
            _ => continue,
        };
        reader.flow(permits).await.map_err(|error| error.to_string())?;
    }
}

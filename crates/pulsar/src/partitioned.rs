//! A producer for a whole partitioned topic: routes messages by key and gathers them in batches.
//!
//! A convenience for load generators and tests. It has no task of its own: batches leave when they
//! are full, when a later `send` finds them older than `linger_ms`, and at `flush`. Messages
//! without a key go round the partitions, batch by batch.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::batch::OutgoingMessage;
use crate::client::{Client, partition_topic};
use crate::codec::Compression;
use crate::error::Error;
use crate::producer::{PendingReceipt, Producer, ProducerConfig};
use crate::router::partition_of;

/// Settings of a partitioned producer.
#[derive(Clone, Debug)]
pub struct PartitionedConfig {
    /// Full name of the topic, partitioned or not.
    pub topic: String,
    /// Name; each partition's producer appends `-` and its index. `None` lets the broker choose.
    pub name: Option<String>,
    /// How batches are compressed.
    pub compression: Compression,
    /// Messages in a batch. Default 1,000.
    pub batch_messages_max: usize,
    /// Bytes in a batch before compression; a single larger message is a batch of its own.
    /// Default 1 MiB.
    pub batch_bytes_max: usize,
    /// Age at which a batch is sent although it is not full. Default 10.
    pub linger_ms: u64,
    /// Batches under way in each partition. Default 16.
    pub in_flight_max: usize,
}

impl PartitionedConfig {
    /// Creates the default settings, with LZ4.
    pub fn new(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            name: None,
            compression: Compression::Lz4,
            batch_messages_max: 1000,
            batch_bytes_max: 1 << 20,
            linger_ms: 10,
            in_flight_max: 16,
        }
    }
}

#[derive(Debug)]
struct Lane {
    producer: Producer,
    batch: Vec<OutgoingMessage>,
    batch_bytes: usize,
    since: Option<Instant>,
    receipts: VecDeque<(u64, PendingReceipt)>,
}

/// Routes messages to the partitions of a topic and sends them in batches.
#[derive(Debug)]
pub struct PartitionedProducer {
    lanes: Vec<Lane>,
    config: PartitionedConfig,
    /// The partition that takes messages without a key.
    keyless: usize,
    confirmed_count: u64,
    failed_count: u64,
    first_error: Option<Error>,
}

impl PartitionedProducer {
    /// Creates a producer for each partition.
    ///
    /// # Errors
    /// What the broker answers to the question for the partitions, or refuses for good.
    pub async fn new(client: &Client, config: PartitionedConfig) -> Result<Self, Error> {
        let partition_count = client.partition_count(&config.topic).await?;
        let topics: Vec<String> = match partition_count {
            0 => vec![config.topic.clone()],
            count => (0..count).map(|index| partition_topic(&config.topic, index)).collect(),
        };
        let mut lanes = Vec::with_capacity(topics.len());
        for (index, topic) in topics.into_iter().enumerate() {
            let producer = client
                .producer(ProducerConfig {
                    topic,
                    name: config.name.as_ref().map(|name| format!("{name}-{index}")),
                    compression: config.compression,
                    in_flight_max: config.in_flight_max,
                })
                .await?;
            let receipts = VecDeque::new();
            lanes.push(Lane { producer, batch: Vec::new(), batch_bytes: 0, since: None, receipts });
        }
        let (confirmed_count, failed_count) = (0, 0);
        Ok(Self { lanes, config, keyless: 0, confirmed_count, failed_count, first_error: None })
    }

    /// Returns how many partitions there are; 1 for a topic that is not partitioned.
    pub fn partition_count(&self) -> usize {
        self.lanes.len()
    }

    /// Returns how many messages have been confirmed as stored.
    pub fn confirmed_count(&self) -> u64 {
        self.confirmed_count
    }

    /// Returns how many messages were refused, or are of unknown outcome for good.
    pub fn failed_count(&self) -> u64 {
        self.failed_count
    }

    /// Adds a message to the batch of its partition and sends what is full or old enough; waits
    /// where a partition has `in_flight_max` batches under way.
    ///
    /// # Errors
    /// The first error of any batch so far; each is reported once, counts stay.
    pub async fn send(&mut self, message: OutgoingMessage) -> Result<(), Error> {
        let at = match &message.key {
            // The number of partitions came as u32.
            Some(key) => partition_of(key, self.lanes.len() as u32) as usize,
            None => self.keyless,
        };
        let bytes = message.batched_bytes();
        let keyless = message.key.is_none();
        let lane = &self.lanes[at];
        if !lane.batch.is_empty() && lane.batch_bytes + bytes > self.config.batch_bytes_max {
            self.send_lane(at).await;
        }
        let now = Instant::now();
        let lane = &mut self.lanes[at];
        lane.batch.push(message);
        lane.batch_bytes += bytes;
        lane.since.get_or_insert(now);
        if lane.batch.len() >= self.config.batch_messages_max {
            self.send_lane(at).await;
            if keyless {
                self.keyless = (at + 1) % self.lanes.len();
            }
        }
        let linger = Duration::from_millis(self.config.linger_ms);
        for at in 0..self.lanes.len() {
            let since = self.lanes[at].since;
            if since.is_some_and(|since| now.saturating_duration_since(since) >= linger) {
                self.send_lane(at).await;
            }
        }
        self.take_error()
    }

    /// Sends everything and waits for all receipts.
    ///
    /// # Errors
    /// As `send`.
    pub async fn flush(&mut self) -> Result<(), Error> {
        for at in 0..self.lanes.len() {
            self.send_lane(at).await;
        }
        for at in 0..self.lanes.len() {
            while let Some((count, receipt)) = self.lanes[at].receipts.pop_front() {
                let outcome = receipt.await.map(|_| ());
                self.settle(count, outcome);
            }
        }
        self.take_error()
    }

    /// Flushes and ends all producers.
    ///
    /// # Errors
    /// As `send`.
    pub async fn close(mut self) -> Result<(), Error> {
        self.flush().await?;
        for lane in self.lanes {
            lane.producer.close().await?;
        }
        Ok(())
    }

    async fn send_lane(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        if lane.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut lane.batch);
        (lane.batch_bytes, lane.since) = (0, None);
        let count = batch.len() as u64;
        match lane.producer.send(&batch).await {
            Ok(receipt) => lane.receipts.push_back((count, receipt)),
            Err(error) => self.settle(count, Err(error)),
        }
        // Batches are confirmed in order, so the first open one ends the search.
        while let Some((count, receipt)) = self.lanes[at].receipts.front_mut() {
            let count = *count;
            let Some(outcome) = receipt.try_take() else { break };
            self.lanes[at].receipts.pop_front();
            self.settle(count, outcome.map(|_| ()));
        }
    }

    fn settle(&mut self, count: u64, outcome: Result<(), Error>) {
        match outcome {
            Ok(()) => self.confirmed_count += count,
            Err(error) => {
                self.failed_count += count;
                self.first_error.get_or_insert(error);
            }
        }
    }

    fn take_error(&mut self) -> Result<(), Error> {
        self.first_error.take().map_or(Ok(()), Err)
    }
}

//! Batch-first client of the Apache Pulsar binary protocol.
//!
//! The unit is the broker's entry (a batch of messages): it is read, checked, decompressed and
//! acknowledged whole, and split into messages without an allocation per message. A consumer
//! covers one partition of one subscription, reports each change of its connection as an event,
//! and reads only as far ahead as its caller grants permits. A producer sends whole batches.
//!
//! Deliberately absent: transactions, schemas, Shared and Key_Shared subscriptions, individual
//! acknowledgement, joining of chunked messages, decryption, certificates of clients. The crate
//! knows nothing of the rest of the workspace.

mod batch;
mod client;
mod codec;
mod connection;
mod consumer;
mod dispatch;
mod entry;
mod error;
pub mod frame;
mod partitioned;
mod producer;
mod proto;
mod router;
mod spare;
mod subscription;
#[cfg(test)]
mod tests;
mod tls;

pub use batch::{AckSet, BadMessage, Message, Messages, OutgoingMessage, Properties};
pub use client::{Auth, Client, ClientConfig, partition_topic};
pub use codec::Compression;
pub use consumer::{
    Consumer, ConsumerConfig, ConsumerEvent, ConsumerHandle, StartAt, SubscriptionKind,
};
pub use entry::{Entry, EntryLimits, Position, RejectReason, Rejected};
pub use error::{Domain, Error, ServerError};
pub use partitioned::{PartitionedConfig, PartitionedProducer};
pub use producer::{PendingReceipt, Producer, ProducerConfig, SendReceipt};
pub use router::{key_hash, partition_of};

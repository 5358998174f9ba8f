//! What stands in front of an entry's body, and how entries are named.

use bytes::Bytes;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MessageIdData {
    #[prost(uint64, required, tag = "1")]
    pub(crate) ledger_id: u64,
    #[prost(uint64, required, tag = "2")]
    pub(crate) entry_id: u64,
    #[prost(int32, optional, tag = "3")]
    pub(crate) partition: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    pub(crate) batch_index: Option<i32>,
    #[prost(int64, repeated, packed = "false", tag = "5")]
    pub(crate) ack_set: Vec<i64>,
}

/// A property; bytes, so that one that is not UTF-8 spoils nothing but itself.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValue {
    #[prost(bytes = "bytes", required, tag = "1")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", required, tag = "2")]
    pub(crate) value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EncryptionKeys {
    #[prost(string, required, tag = "1")]
    pub(crate) key: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MessageMetadata {
    #[prost(bytes = "bytes", required, tag = "1")]
    pub(crate) producer_name: Bytes,
    #[prost(uint64, required, tag = "2")]
    pub(crate) sequence_id: u64,
    #[prost(uint64, required, tag = "3")]
    pub(crate) publish_time: u64,
    #[prost(message, repeated, tag = "4")]
    pub(crate) properties: Vec<KeyValue>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub(crate) partition_key: Option<Bytes>,
    #[prost(int32, optional, tag = "8")]
    pub(crate) compression: Option<i32>,
    #[prost(uint32, optional, tag = "9")]
    pub(crate) uncompressed_size: Option<u32>,
    #[prost(int32, optional, tag = "11")]
    pub(crate) num_messages_in_batch: Option<i32>,
    #[prost(uint64, optional, tag = "12")]
    pub(crate) event_time: Option<u64>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) encryption_keys: Vec<EncryptionKeys>,
    #[prost(bool, optional, tag = "17")]
    pub(crate) partition_key_b64_encoded: Option<bool>,
    #[prost(bool, optional, tag = "25")]
    pub(crate) null_value: Option<bool>,
    #[prost(int32, optional, tag = "27")]
    pub(crate) num_chunks_from_msg: Option<i32>,
    #[prost(int32, optional, tag = "29")]
    pub(crate) chunk_id: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BrokerEntryMetadata {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) broker_timestamp: Option<u64>,
}

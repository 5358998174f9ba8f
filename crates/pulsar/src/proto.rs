//! The messages of the protocol, as far as this crate uses them.
//!
//! Field numbers are those of the public `PulsarApi.proto`. Fields that are never used are left
//! out; readers skip them. Names of producers and keys are bytes, so that a name that is not UTF-8
//! spoils nothing but itself. The commands are read as one `oneof`: on the wire that is the same
//! as the optional fields of the original, and the number of each is also its command type.

mod metadata;

use bytes::Bytes;
use prost::{Message, Oneof};

pub(crate) use metadata::{BrokerEntryMetadata, KeyValue, MessageIdData, MessageMetadata};

/// One command; `command` is `None` where the peer sent one that this crate does not know.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct BaseCommand {
    #[prost(int32, required, tag = "1")]
    pub(crate) command_type: i32,
    #[prost(
        oneof = "Command",
        tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, \
                18, 19, 21, 22, 23, 24, 27, 28, 29, 30, 31, 32, 33, 36, 37, 38"
    )]
    pub(crate) command: Option<Command>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Command {
    #[prost(message, tag = "2")]
    Connect(CommandConnect),
    #[prost(message, tag = "3")]
    Connected(CommandConnected),
    #[prost(message, tag = "4")]
    Subscribe(CommandSubscribe),
    #[prost(message, tag = "5")]
    Producer(CommandProducer),
    #[prost(message, tag = "6")]
    Send(CommandSend),
    #[prost(message, tag = "7")]
    SendReceipt(CommandSendReceipt),
    #[prost(message, tag = "8")]
    SendError(CommandSendError),
    #[prost(message, tag = "9")]
    Message(CommandMessage),
    #[prost(message, tag = "10")]
    Ack(CommandAck),
    #[prost(message, tag = "11")]
    Flow(CommandFlow),
    #[prost(message, tag = "12")]
    Unsubscribe(CommandUnsubscribe),
    #[prost(message, tag = "13")]
    Success(CommandSuccess),
    #[prost(message, tag = "14")]
    Error(CommandError),
    #[prost(message, tag = "15")]
    CloseProducer(CommandCloseProducer),
    #[prost(message, tag = "16")]
    CloseConsumer(CommandCloseConsumer),
    #[prost(message, tag = "17")]
    ProducerSuccess(CommandProducerSuccess),
    #[prost(message, tag = "18")]
    Ping(CommandPing),
    #[prost(message, tag = "19")]
    Pong(CommandPong),
    #[prost(message, tag = "21")]
    PartitionedTopicMetadata(CommandPartitionedTopicMetadata),
    #[prost(message, tag = "22")]
    PartitionedTopicMetadataResponse(CommandPartitionedTopicMetadataResponse),
    #[prost(message, tag = "23")]
    LookupTopic(CommandLookupTopic),
    #[prost(message, tag = "24")]
    LookupTopicResponse(CommandLookupTopicResponse),
    #[prost(message, tag = "27")]
    ReachedEndOfTopic(CommandReachedEndOfTopic),
    #[prost(message, tag = "28")]
    Seek(CommandSeek),
    #[prost(message, tag = "29")]
    GetLastMessageId(CommandGetLastMessageId),
    #[prost(message, tag = "30")]
    GetLastMessageIdResponse(CommandGetLastMessageIdResponse),
    #[prost(message, tag = "31")]
    ActiveConsumerChange(CommandActiveConsumerChange),
    #[prost(message, tag = "32")]
    GetTopicsOfNamespace(CommandGetTopicsOfNamespace),
    #[prost(message, tag = "33")]
    GetTopicsOfNamespaceResponse(CommandGetTopicsOfNamespaceResponse),
    #[prost(message, tag = "36")]
    AuthChallenge(CommandAuthChallenge),
    #[prost(message, tag = "37")]
    AuthResponse(CommandAuthResponse),
    #[prost(message, tag = "38")]
    AckResponse(CommandAckResponse),
}

impl Command {
    /// The command type of the protocol.
    pub(crate) fn number(&self) -> i32 {
        match self {
            Self::Connect(_) => 2,
            Self::Connected(_) => 3,
            Self::Subscribe(_) => 4,
            Self::Producer(_) => 5,
            Self::Send(_) => 6,
            Self::SendReceipt(_) => 7,
            Self::SendError(_) => 8,
            Self::Message(_) => 9,
            Self::Ack(_) => 10,
            Self::Flow(_) => 11,
            Self::Unsubscribe(_) => 12,
            Self::Success(_) => 13,
            Self::Error(_) => 14,
            Self::CloseProducer(_) => 15,
            Self::CloseConsumer(_) => 16,
            Self::ProducerSuccess(_) => 17,
            Self::Ping(_) => 18,
            Self::Pong(_) => 19,
            Self::PartitionedTopicMetadata(_) => 21,
            Self::PartitionedTopicMetadataResponse(_) => 22,
            Self::LookupTopic(_) => 23,
            Self::LookupTopicResponse(_) => 24,
            Self::ReachedEndOfTopic(_) => 27,
            Self::Seek(_) => 28,
            Self::GetLastMessageId(_) => 29,
            Self::GetLastMessageIdResponse(_) => 30,
            Self::ActiveConsumerChange(_) => 31,
            Self::GetTopicsOfNamespace(_) => 32,
            Self::GetTopicsOfNamespaceResponse(_) => 33,
            Self::AuthChallenge(_) => 36,
            Self::AuthResponse(_) => 37,
            Self::AckResponse(_) => 38,
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FeatureFlags {
    #[prost(bool, optional, tag = "1")]
    pub(crate) supports_auth_refresh: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    pub(crate) supports_broker_entry_metadata: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandConnect {
    #[prost(string, required, tag = "1")]
    pub(crate) client_version: String,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) auth_data: Option<Bytes>,
    #[prost(int32, optional, tag = "4")]
    pub(crate) protocol_version: Option<i32>,
    #[prost(string, optional, tag = "5")]
    pub(crate) auth_method_name: Option<String>,
    #[prost(string, optional, tag = "6")]
    pub(crate) proxy_to_broker_url: Option<String>,
    #[prost(message, optional, tag = "10")]
    pub(crate) feature_flags: Option<FeatureFlags>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandConnected {
    #[prost(string, required, tag = "1")]
    pub(crate) server_version: String,
    #[prost(int32, optional, tag = "3")]
    pub(crate) max_message_size: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthData {
    #[prost(string, optional, tag = "1")]
    pub(crate) auth_method_name: Option<String>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) auth_data: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandAuthResponse {
    #[prost(string, optional, tag = "1")]
    pub(crate) client_version: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub(crate) response: Option<AuthData>,
    #[prost(int32, optional, tag = "3")]
    pub(crate) protocol_version: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandAuthChallenge {
    #[prost(string, optional, tag = "1")]
    pub(crate) server_version: Option<String>,
    #[prost(int32, optional, tag = "3")]
    pub(crate) protocol_version: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandSubscribe {
    #[prost(string, required, tag = "1")]
    pub(crate) topic: String,
    #[prost(string, required, tag = "2")]
    pub(crate) subscription: String,
    #[prost(int32, required, tag = "3")]
    pub(crate) sub_type: i32,
    #[prost(uint64, required, tag = "4")]
    pub(crate) consumer_id: u64,
    #[prost(uint64, required, tag = "5")]
    pub(crate) request_id: u64,
    #[prost(string, optional, tag = "6")]
    pub(crate) consumer_name: Option<String>,
    #[prost(bool, optional, tag = "8")]
    pub(crate) durable: Option<bool>,
    #[prost(message, optional, tag = "9")]
    pub(crate) start_message_id: Option<MessageIdData>,
    #[prost(int32, optional, tag = "13")]
    pub(crate) initial_position: Option<i32>,
    #[prost(bool, optional, tag = "15")]
    pub(crate) force_topic_creation: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandPartitionedTopicMetadata {
    #[prost(string, required, tag = "1")]
    pub(crate) topic: String,
    #[prost(uint64, required, tag = "2")]
    pub(crate) request_id: u64,
    #[prost(bool, optional, tag = "6")]
    pub(crate) metadata_auto_creation_enabled: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandPartitionedTopicMetadataResponse {
    #[prost(uint32, optional, tag = "1")]
    pub(crate) partitions: Option<u32>,
    #[prost(uint64, required, tag = "2")]
    pub(crate) request_id: u64,
    #[prost(int32, optional, tag = "3")]
    pub(crate) response: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    pub(crate) error: Option<i32>,
    #[prost(string, optional, tag = "5")]
    pub(crate) message: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandLookupTopic {
    #[prost(string, required, tag = "1")]
    pub(crate) topic: String,
    #[prost(uint64, required, tag = "2")]
    pub(crate) request_id: u64,
    #[prost(bool, optional, tag = "3")]
    pub(crate) authoritative: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandLookupTopicResponse {
    #[prost(string, optional, tag = "1")]
    pub(crate) broker_service_url: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(crate) broker_service_url_tls: Option<String>,
    #[prost(int32, optional, tag = "3")]
    pub(crate) response: Option<i32>,
    #[prost(uint64, required, tag = "4")]
    pub(crate) request_id: u64,
    #[prost(bool, optional, tag = "5")]
    pub(crate) authoritative: Option<bool>,
    #[prost(int32, optional, tag = "6")]
    pub(crate) error: Option<i32>,
    #[prost(string, optional, tag = "7")]
    pub(crate) message: Option<String>,
    #[prost(bool, optional, tag = "8")]
    pub(crate) proxy_through_service_url: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandProducer {
    #[prost(string, required, tag = "1")]
    pub(crate) topic: String,
    #[prost(uint64, required, tag = "2")]
    pub(crate) producer_id: u64,
    #[prost(uint64, required, tag = "3")]
    pub(crate) request_id: u64,
    #[prost(string, optional, tag = "4")]
    pub(crate) producer_name: Option<String>,
    #[prost(bool, optional, tag = "9")]
    pub(crate) user_provided_producer_name: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandSend {
    #[prost(uint64, required, tag = "1")]
    pub(crate) producer_id: u64,
    #[prost(uint64, required, tag = "2")]
    pub(crate) sequence_id: u64,
    #[prost(int32, optional, tag = "3")]
    pub(crate) num_messages: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandSendReceipt {
    #[prost(uint64, required, tag = "1")]
    pub(crate) producer_id: u64,
    #[prost(uint64, required, tag = "2")]
    pub(crate) sequence_id: u64,
    #[prost(message, optional, tag = "3")]
    pub(crate) message_id: Option<MessageIdData>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandSendError {
    #[prost(uint64, required, tag = "1")]
    pub(crate) producer_id: u64,
    #[prost(uint64, required, tag = "2")]
    pub(crate) sequence_id: u64,
    #[prost(int32, required, tag = "3")]
    pub(crate) error: i32,
    #[prost(string, required, tag = "4")]
    pub(crate) message: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandMessage {
    #[prost(uint64, required, tag = "1")]
    pub(crate) consumer_id: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) message_id: Option<MessageIdData>,
    #[prost(uint32, optional, tag = "3")]
    pub(crate) redelivery_count: Option<u32>,
    #[prost(int64, repeated, packed = "false", tag = "4")]
    pub(crate) ack_set: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandAck {
    #[prost(uint64, required, tag = "1")]
    pub(crate) consumer_id: u64,
    #[prost(int32, required, tag = "2")]
    pub(crate) ack_type: i32,
    #[prost(message, repeated, tag = "3")]
    pub(crate) message_id: Vec<MessageIdData>,
    #[prost(uint64, optional, tag = "8")]
    pub(crate) request_id: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandAckResponse {
    #[prost(uint64, required, tag = "1")]
    pub(crate) consumer_id: u64,
    #[prost(int32, optional, tag = "4")]
    pub(crate) error: Option<i32>,
    #[prost(string, optional, tag = "5")]
    pub(crate) message: Option<String>,
    #[prost(uint64, optional, tag = "6")]
    pub(crate) request_id: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandActiveConsumerChange {
    #[prost(uint64, required, tag = "1")]
    pub(crate) consumer_id: u64,
    #[prost(bool, optional, tag = "2")]
    pub(crate) is_active: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandFlow {
    #[prost(uint64, required, tag = "1")]
    pub(crate) consumer_id: u64,
    #[prost(uint32, required, tag = "2")]
    pub(crate) message_permits: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandUnsubscribe {
    #[prost(uint64, required, tag = "1")]
    pub(crate) consumer_id: u64,
    #[prost(uint64, required, tag = "2")]
    pub(crate) request_id: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandSeek {
    #[prost(uint64, required, tag = "1")]
    pub(crate) consumer_id: u64,
    #[prost(uint64, required, tag = "2")]
    pub(crate) request_id: u64,
    #[prost(message, optional, tag = "3")]
    pub(crate) message_id: Option<MessageIdData>,
    #[prost(uint64, optional, tag = "4")]
    pub(crate) message_publish_time: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandReachedEndOfTopic {
    #[prost(uint64, required, tag = "1")]
    pub(crate) consumer_id: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandCloseProducer {
    #[prost(uint64, required, tag = "1")]
    pub(crate) producer_id: u64,
    #[prost(uint64, required, tag = "2")]
    pub(crate) request_id: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandCloseConsumer {
    #[prost(uint64, required, tag = "1")]
    pub(crate) consumer_id: u64,
    #[prost(uint64, required, tag = "2")]
    pub(crate) request_id: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandSuccess {
    #[prost(uint64, required, tag = "1")]
    pub(crate) request_id: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandProducerSuccess {
    #[prost(uint64, required, tag = "1")]
    pub(crate) request_id: u64,
    #[prost(string, required, tag = "2")]
    pub(crate) producer_name: String,
    #[prost(int64, optional, tag = "3")]
    pub(crate) last_sequence_id: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandError {
    #[prost(uint64, required, tag = "1")]
    pub(crate) request_id: u64,
    #[prost(int32, required, tag = "2")]
    pub(crate) error: i32,
    #[prost(string, required, tag = "3")]
    pub(crate) message: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandPing {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandPong {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandGetLastMessageId {
    #[prost(uint64, required, tag = "1")]
    pub(crate) consumer_id: u64,
    #[prost(uint64, required, tag = "2")]
    pub(crate) request_id: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandGetLastMessageIdResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) last_message_id: Option<MessageIdData>,
    #[prost(uint64, required, tag = "2")]
    pub(crate) request_id: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandGetTopicsOfNamespace {
    #[prost(uint64, required, tag = "1")]
    pub(crate) request_id: u64,
    #[prost(string, required, tag = "2")]
    pub(crate) namespace: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandGetTopicsOfNamespaceResponse {
    #[prost(uint64, required, tag = "1")]
    pub(crate) request_id: u64,
    #[prost(string, repeated, tag = "2")]
    pub(crate) topics: Vec<String>,
}

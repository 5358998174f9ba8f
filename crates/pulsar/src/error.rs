//! The errors of this crate: whose fault it is and whether a repetition can help.
//!
//! All variants are cloneable, because one lost connection fails many callers at once; sources
//! are therefore kept as text.

/// Reports who has to act on an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// The configuration or the call is wrong.
    User,
    /// The broker or the network failed.
    External,
    /// This crate broke one of its own rules.
    Internal,
}

/// Error codes of the broker, as numbered by the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are those of the protocol")]
pub enum ServerError {
    Unknown,
    Metadata,
    Persistence,
    Authentication,
    Authorization,
    ConsumerBusy,
    ServiceNotReady,
    ProducerBlockedQuotaExceeded,
    Checksum,
    UnsupportedVersion,
    TopicNotFound,
    SubscriptionNotFound,
    ConsumerNotFound,
    TooManyRequests,
    TopicTerminated,
    ProducerBusy,
    InvalidTopicName,
    IncompatibleSchema,
    ConsumerAssign,
    NotAllowed,
    ProducerFenced,
    /// A code that this crate does not know.
    Other(i32),
}

impl ServerError {
    pub(crate) fn from_code(code: i32) -> Self {
        match code {
            0 => Self::Unknown,
            1 => Self::Metadata,
            2 => Self::Persistence,
            3 => Self::Authentication,
            4 => Self::Authorization,
            5 => Self::ConsumerBusy,
            6 => Self::ServiceNotReady,
            7 | 8 => Self::ProducerBlockedQuotaExceeded,
            9 => Self::Checksum,
            10 => Self::UnsupportedVersion,
            11 => Self::TopicNotFound,
            12 => Self::SubscriptionNotFound,
            13 => Self::ConsumerNotFound,
            14 => Self::TooManyRequests,
            15 => Self::TopicTerminated,
            16 => Self::ProducerBusy,
            17 => Self::InvalidTopicName,
            18 => Self::IncompatibleSchema,
            19 => Self::ConsumerAssign,
            22 => Self::NotAllowed,
            25 => Self::ProducerFenced,
            other => Self::Other(other),
        }
    }

    /// Reports whether the same request may succeed later without anybody changing anything.
    pub fn retry(self) -> bool {
        !matches!(
            self,
            Self::Authentication
                | Self::Authorization
                | Self::UnsupportedVersion
                | Self::TopicNotFound
                | Self::SubscriptionNotFound
                | Self::TopicTerminated
                | Self::InvalidTopicName
                | Self::IncompatibleSchema
                | Self::NotAllowed
                | Self::ProducerFenced
        )
    }
}

/// Everything that can go wrong in this crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting cannot be used; never retried.
    #[error("{key} = {value:?}: {problem}")]
    Config {
        /// Name of the setting.
        key: &'static str,
        /// The offending value.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// TLS cannot be set up, or the broker's certificate is not accepted; never retried.
    #[error("{key} = {value:?}: {problem}")]
    Tls {
        /// Name of the setting.
        key: &'static str,
        /// Its value, or the broker's address.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The socket failed.
    #[error("{address}: {problem}")]
    Io {
        /// Host and port of the broker.
        address: String,
        /// Text of the operating system's error.
        problem: String,
    },
    /// The broker refused a request.
    #[error("{what} {place:?}: broker answered {code:?}: {message}")]
    Broker {
        /// The request.
        what: &'static str,
        /// Topic or address that it was about.
        place: String,
        /// Code of the protocol.
        code: ServerError,
        /// The broker's own text, cut at 500 bytes.
        message: String,
    },
    /// The broker sent something that the protocol does not allow.
    #[error("{address}: {problem}")]
    Protocol {
        /// Host and port of the broker.
        address: String,
        /// What was wrong.
        problem: String,
    },
    /// No answer in time; whether the request took effect is unknown.
    #[error("{what}: no answer from {address} in {timeout_ms} ms")]
    Timeout {
        /// The request.
        what: &'static str,
        /// Host and port of the broker.
        address: String,
        /// How long was waited.
        timeout_ms: u64,
    },
    /// The connection or the subscription ended; whether a request under way took effect is
    /// unknown.
    #[error("disconnected from {address}: {reason}")]
    Disconnected {
        /// Host and port of the broker.
        address: String,
        /// Why.
        reason: String,
    },
    /// There is no subscription at present, or a newer one that the event side has not yet seen.
    #[error("{topic:?} is not connected")]
    NotConnected {
        /// The topic.
        topic: String,
    },
    /// A batch exceeds the broker's message size, or 64 MiB before compression.
    #[error("batch of {bytes} bytes exceeds the limit of {bytes_max}")]
    TooLarge {
        /// Size of metadata and payload.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The lookup was sent from broker to broker too often.
    #[error("lookup of {topic:?}: more than {redirects_max} redirects")]
    Redirects {
        /// The topic.
        topic: String,
        /// The limit.
        redirects_max: u32,
    },
    /// The consumer, producer or client was closed by its owner.
    #[error("closed")]
    Closed,
}

impl Error {
    /// Reports who has to act.
    pub fn domain(&self) -> Domain {
        match self {
            Self::Config { .. } | Self::Tls { .. } | Self::TooLarge { .. } | Self::Closed => {
                Domain::User
            }
            Self::Broker { code, .. } if !code.retry() => Domain::User,
            _ => Domain::External,
        }
    }

    /// Reports whether trying again (with back-off) can help.
    pub fn retry(&self) -> bool {
        match self {
            Self::Config { .. } | Self::Tls { .. } | Self::TooLarge { .. } | Self::Closed => false,
            Self::Broker { code, .. } => code.retry(),
            _ => true,
        }
    }

    pub(crate) fn broker(
        what: &'static str,
        place: &str,
        code: Option<i32>,
        message: Option<String>,
    ) -> Self {
        let mut message = message.unwrap_or_default();
        if message.len() > MESSAGE_BYTES_MAX {
            let cut = (0..=MESSAGE_BYTES_MAX).rev().find(|&at| message.is_char_boundary(at));
            message.truncate(cut.unwrap_or(0));
        }
        let code = ServerError::from_code(code.unwrap_or_default());
        Self::Broker { what, place: place.to_owned(), code, message }
    }
}

const MESSAGE_BYTES_MAX: usize = 500;

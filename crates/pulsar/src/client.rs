//! Finds the broker of a topic and keeps one connection to each broker.
//!
//! Connections are opened on demand and shared by all consumers and producers of the client. The
//! client repeats nothing by itself except lookups that are redirected; consumers and producers
//! repeat with back-off.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::debug;

use crate::connection::{Connection, Target};
use crate::error::{Error, ServerError};
use crate::proto::{self, Command};
use crate::tls::Tls;

const REDIRECTS_MAX: u32 = 20;
/// Brokers whose connections are kept; beyond it the ones without a user are forgotten.
const BROKERS_MAX: usize = 1024;
const DEFAULT_PORT: u16 = 6650;
const DEFAULT_PORT_TLS: u16 = 6651;

/// How the client proves who it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// A token (JWT), as the broker's token provider expects it.
    Token(String),
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::None => "None",
            // Secrets are never printed.
            Self::Token(_) => "Token(..)",
        })
    }
}

/// Settings of a client.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `pulsar://host:port`, or several hosts: `pulsar://a:6650,b:6650`. With `pulsar+ssl://` all
    /// connections are made with TLS.
    pub url: String,
    /// PEM file of the authorities that may have signed the brokers' certificates; `None` trusts
    /// those of the operating system. Without meaning where the URL is `pulsar://`.
    pub tls_ca_file: Option<PathBuf>,
    /// Who the client is.
    pub auth: Auth,
    /// Limit for connecting and the handshake. Default 10,000.
    pub connect_timeout_ms: u64,
    /// Limit for the answer to a request. Default 30,000.
    pub request_timeout_ms: u64,
    /// After so long a ping is sent, after twice as long without a byte the connection is given
    /// up. Default 30,000.
    pub keep_alive_ms: u64,
    /// First and longest pause between attempts; each is shortened at random by up to half.
    /// Default 100 and 5,000.
    pub backoff_ms: (u64, u64),
    /// While the consumers of a connection have not taken more than this from it, nothing more is
    /// read from it, answers to acknowledgements included. Permits normally bind long before.
    /// Default 64 MiB.
    pub queue_bytes_max: usize,
}

impl ClientConfig {
    /// Creates the default settings for a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            tls_ca_file: None,
            auth: Auth::None,
            connect_timeout_ms: 10_000,
            request_timeout_ms: 30_000,
            keep_alive_ms: 30_000,
            backoff_ms: (100, 5_000),
            queue_bytes_max: 64 << 20,
        }
    }
}

/// Returns the full name of one partition of a topic.
///
/// ```
/// let topic = "persistent://public/default/iot-sensor-data";
/// assert!(tidemill_pulsar::partition_topic(topic, 3).ends_with("-data-partition-3"));
/// ```
pub fn partition_topic(topic: &str, partition: u32) -> String {
    format!("{topic}-partition-{partition}")
}

/// Returns a topic's name without what `partition_topic` appends.
fn without_partition(topic: &str) -> &str {
    match topic.rsplit_once("-partition-") {
        Some((whole, number)) if number.parse::<u32>().is_ok() => whole,
        _ => topic,
    }
}

/// A client of one cluster; clones share the connections.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

type Slot = Arc<tokio::sync::Mutex<Option<Connection>>>;

#[derive(Debug)]
struct Inner {
    config: ClientConfig,
    tls: Option<Tls>,
    services: Vec<String>,
    next_service: AtomicUsize,
    next_id: AtomicU64,
    /// One slot for each broker of the cluster that was ever used.
    slots: Mutex<HashMap<Target, Slot>>,
    jitter: RandomState,
    jitter_steps: AtomicU64,
}

impl Client {
    /// Creates a client; connects only when something is asked of it.
    ///
    /// # Errors
    /// `Error::Config` where the URL is not `pulsar://host[:port][,host[:port]]` (or
    /// `pulsar+ssl://…`), `Error::Tls` where the authorities cannot be read.
    pub fn new(config: ClientConfig) -> Result<Self, Error> {
        let services = parse_services(&config.url)?;
        let secret = config.url.starts_with(SCHEME_TLS);
        let tls = secret.then(|| Tls::new(config.tls_ca_file.as_deref())).transpose()?;
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                tls,
                services,
                next_service: AtomicUsize::new(0),
                next_id: AtomicU64::new(1),
                slots: Mutex::default(),
                jitter: RandomState::new(),
                jitter_steps: AtomicU64::new(0),
            }),
        })
    }

    /// Asks how many partitions a topic has; 0 where it is not partitioned, also where it does not
    /// exist.
    ///
    /// # Errors
    /// Any; not repeated.
    pub async fn partition_count(&self, topic: &str) -> Result<u32, Error> {
        self.ask_partition_count(topic, None).await
    }

    /// Asks how many partitions a topic has, and that the broker does not make it where it does
    /// not exist. Brokers from 4.0 on then answer with [`TopicNotFound`]; older ones with 0.
    ///
    /// # Errors
    /// Any; not repeated.
    ///
    /// [`TopicNotFound`]: crate::ServerError::TopicNotFound
    pub async fn partition_count_if_there(&self, topic: &str) -> Result<u32, Error> {
        self.ask_partition_count(topic, Some(false)).await
    }

    async fn ask_partition_count(&self, topic: &str, make: Option<bool>) -> Result<u32, Error> {
        let what = "partition count";
        let connection = self.connect(&self.service_target()).await?;
        let request = |request_id| {
            let topic = topic.to_owned();
            Command::PartitionedTopicMetadata(proto::CommandPartitionedTopicMetadata {
                topic,
                request_id,
                metadata_auto_creation_enabled: make,
            })
        };
        match connection.request(what, topic, request).await? {
            Command::PartitionedTopicMetadataResponse(answer) if answer.error.is_none() => {
                Ok(answer.partitions.unwrap_or(0))
            }
            Command::PartitionedTopicMetadataResponse(answer) => {
                Err(Error::broker(what, topic, answer.error, answer.message))
            }
            other => Err(connection.unexpected(what, &other)),
        }
    }

    /// Lists the persistent topics of a namespace (`tenant/name`), sorted, each once: partitioned
    /// ones without the number of a partition.
    ///
    /// # Errors
    /// Any; not repeated.
    pub async fn topics_of_namespace(&self, namespace: &str) -> Result<Vec<String>, Error> {
        let what = "topics of namespace";
        let connection = self.connect(&self.service_target()).await?;
        let request = |request_id| {
            let namespace = namespace.to_owned();
            Command::GetTopicsOfNamespace(proto::CommandGetTopicsOfNamespace {
                request_id,
                namespace,
            })
        };
        match connection.request(what, namespace, request).await? {
            Command::GetTopicsOfNamespaceResponse(answer) => {
                let topics = answer.topics.iter().map(|topic| without_partition(topic));
                Ok(topics.collect::<BTreeSet<&str>>().into_iter().map(str::to_owned).collect())
            }
            other => Err(connection.unexpected(what, &other)),
        }
    }

    /// Returns an id for a consumer or producer, unique in this client.
    pub(crate) fn next_id(&self) -> u64 {
        self.inner.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Connects to the broker that owns a topic.
    pub(crate) async fn connect_to_owner(&self, topic: &str) -> Result<Connection, Error> {
        let service = self.service_target();
        let mut target = service.clone();
        let mut authoritative = false;
        for _ in 0..REDIRECTS_MAX {
            let connection = self.connect(&target).await?;
            let answer = lookup(&connection, topic, authoritative).await?;
            // Never from a secret connection to an open one.
            let url = match self.inner.tls {
                Some(_) => answer.broker_service_url_tls,
                None => answer.broker_service_url,
            };
            let url = url.unwrap_or_default();
            let broker = parse_services(&url)?.swap_remove(0);
            let proxied = answer.proxy_through_service_url.unwrap_or(false);
            target = if proxied {
                Target { address: service.address.clone(), behind_proxy: Some(broker) }
            } else {
                Target { address: broker, behind_proxy: None }
            };
            authoritative = answer.authoritative.unwrap_or(false);
            if answer.response == Some(LOOKUP_CONNECT) {
                return self.connect(&target).await;
            }
            debug!(topic, address = target.address, "lookup redirected");
        }
        Err(Error::Redirects { topic: topic.to_owned(), redirects_max: REDIRECTS_MAX })
    }

    fn service_target(&self) -> Target {
        let services = &self.inner.services;
        let at = self.inner.next_service.load(Ordering::Relaxed) % services.len();
        Target { address: services[at].clone(), behind_proxy: None }
    }

    async fn connect(&self, target: &Target) -> Result<Connection, Error> {
        let slot = {
            let mut slots = self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner);
            if slots.len() >= BROKERS_MAX {
                // A slot that nobody is using now is made again when it is needed.
                slots.retain(|_, slot| Arc::strong_count(slot) > 1);
            }
            Arc::clone(slots.entry(target.clone()).or_default())
        };
        // Held while connecting, so that many consumers open one connection.
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        match Connection::open(target, &self.inner.config, self.inner.tls.as_ref()).await {
            Ok(connection) => {
                *slot = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                *slot = None;
                // Another host of the URL may answer.
                self.inner.next_service.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// Returns a new series of pauses.
    pub(crate) fn backoff(&self) -> Backoff {
        let (first, longest) = self.inner.config.backoff_ms;
        Backoff {
            client: self.clone(),
            next_ms: first,
            first_ms: first,
            longest_ms: longest,
            not_found: 0,
        }
    }

    fn random(&self) -> u64 {
        self.inner.jitter.hash_one(self.inner.jitter_steps.fetch_add(1, Ordering::Relaxed))
    }
}

/// Pauses that double from the first to the longest, each shortened at random by up to half.
#[derive(Debug)]
pub(crate) struct Backoff {
    client: Client,
    next_ms: u64,
    first_ms: u64,
    longest_ms: u64,
    not_found: u32,
}

/// So often a topic may be reported as missing, in a row, before it is believed: while a broker
/// starts it may not know its topics yet.
const TOPIC_NOT_FOUND_MAX: u32 = 5;

impl Backoff {
    pub(crate) fn reset(&mut self) {
        self.next_ms = self.first_ms;
        self.not_found = 0;
    }

    /// Returns how long to wait after a failed attempt; `None` where no other attempt can help.
    pub(crate) fn pause_after(&mut self, error: &Error) -> Option<Duration> {
        let not_found = matches!(error, Error::Broker { code: ServerError::TopicNotFound, .. });
        self.not_found = if not_found { self.not_found + 1 } else { 0 };
        let hope = error.retry() || (not_found && self.not_found < TOPIC_NOT_FOUND_MAX);
        hope.then(|| self.next_pause())
    }

    pub(crate) fn next_pause(&mut self) -> Duration {
        let pause_ms = self.next_ms;
        self.next_ms = self.next_ms.saturating_mul(2).min(self.longest_ms);
        Duration::from_millis(pause_ms - self.client.random() % (pause_ms / 2 + 1))
    }
}

const LOOKUP_REDIRECT: i32 = 0;
const LOOKUP_CONNECT: i32 = 1;

async fn lookup(
    connection: &Connection,
    topic: &str,
    authoritative: bool,
) -> Result<proto::CommandLookupTopicResponse, Error> {
    let what = "lookup";
    let request = |request_id| {
        Command::LookupTopic(proto::CommandLookupTopic {
            topic: topic.to_owned(),
            request_id,
            authoritative: Some(authoritative),
        })
    };
    match connection.request(what, topic, request).await? {
        Command::LookupTopicResponse(answer)
            if matches!(answer.response, Some(LOOKUP_REDIRECT | LOOKUP_CONNECT)) =>
        {
            Ok(answer)
        }
        Command::LookupTopicResponse(answer) => {
            Err(Error::broker(what, topic, answer.error, answer.message))
        }
        other => Err(connection.unexpected(what, &other)),
    }
}

const SCHEME_TLS: &str = "pulsar+ssl://";

/// Returns the hosts of a URL, each with its port; at least one.
fn parse_services(url: &str) -> Result<Vec<String>, Error> {
    let fail = |problem| Error::Config { key: "url", value: url.to_owned(), problem };
    let plain = url.strip_prefix("pulsar://").map(|hosts| (hosts, DEFAULT_PORT));
    let tls = || url.strip_prefix(SCHEME_TLS).map(|hosts| (hosts, DEFAULT_PORT_TLS));
    let Some((hosts, default_port)) = plain.or_else(tls) else {
        return Err(fail("must start with pulsar:// or pulsar+ssl://"));
    };
    let hosts = hosts.trim_end_matches('/');
    let parse = |host: &str| {
        let named = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
        match named {
            _ if host.is_empty() || host.contains(['/', '@', ' ']) => {
                Err(fail("host is missing or malformed"))
            }
            Some(("", _)) => Err(fail("host is missing or malformed")),
            Some((_, port)) if port.parse::<u16>().is_err() => Err(fail("port is not a number")),
            Some(_) => Ok(host.to_owned()),
            None => Ok(format!("{host}:{default_port}")),
        }
    };
    hosts.split(',').map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_may_name_several_hosts_and_leave_the_port_out() {
        let hosts = parse_services("pulsar://a:1,b,[::1]:7,[::1]/").unwrap();
        assert_eq!(hosts, ["a:1", "b:6650", "[::1]:7", "[::1]:6650"]);
        let hosts = parse_services("pulsar+ssl://a:1,b").unwrap();
        assert_eq!(hosts, ["a:1", "b:6651"]);
    }

    #[test]
    fn number_of_a_partition_is_taken_off_the_name_alone() {
        for (topic, whole) in [
            ("persistent://a/b/c-partition-12", "persistent://a/b/c"),
            ("persistent://a/b/c-partition-x", "persistent://a/b/c-partition-x"),
            ("persistent://a/b/c", "persistent://a/b/c"),
        ] {
            assert_eq!(without_partition(topic), whole);
        }
    }

    #[test]
    fn unusable_url_is_refused_with_the_reason() {
        for url in ["", "http://a", "pulsar+ssl://", "pulsar://", "pulsar://a,,b", "pulsar://a:x"] {
            let error = parse_services(url).unwrap_err();
            assert!(!error.retry() && error.to_string().contains(url), "{error}");
        }
    }

    #[test]
    fn backoff_doubles_up_to_the_longest_and_is_jittered() {
        let client = Client::new(ClientConfig::new("pulsar://localhost")).unwrap();
        let mut backoff = client.backoff();
        let pauses: Vec<u128> = (0..10).map(|_| backoff.next_pause().as_millis()).collect();
        assert!((50..=100).contains(&pauses[0]) && (100..=200).contains(&pauses[1]), "{pauses:?}");
        assert!(pauses[7..].iter().all(|pause| (2500..=5000).contains(pause)), "{pauses:?}");
        backoff.reset();
        assert!(backoff.next_pause().as_millis() <= 100);
    }
}

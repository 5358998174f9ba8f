//! The client against a scripted broker, for what a real one does too seldom.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::{batch, frame};
use crate::frame::{FrameDecoder, encode_command};
use crate::proto::{self, Command};
use crate::{
    Client, ClientConfig, Compression, Consumer, ConsumerConfig, ConsumerEvent, Error,
    OutgoingMessage, Position, ProducerConfig, ServerError,
};

const PATIENCE: Duration = Duration::from_secs(20);
const TOPIC: &str = "persistent://public/default/fake";

/// The broker's end of a connection.
struct Peer {
    stream: TcpStream,
    decoder: FrameDecoder,
    proxy_to: Option<String>,
}

struct Broker {
    listener: TcpListener,
    host: String,
}

impl Broker {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        Self { listener, host }
    }

    fn url(&self) -> String {
        format!("pulsar://{}", self.host)
    }

    fn client(&self) -> Client {
        let mut config = ClientConfig::new(self.url());
        config.backoff_ms = (1, 20);
        config.request_timeout_ms = 500;
        Client::new(config).unwrap()
    }

    /// Accepts a connection and its introduction.
    async fn accept(&self) -> Peer {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.unwrap().unwrap();
        let mut peer = Peer { stream, decoder: FrameDecoder::new(8 << 20), proxy_to: None };
        let Command::Connect(connect) = peer.receive().await else { panic!("no introduction") };
        peer.proxy_to = connect.proxy_to_broker_url;
        let server_version = "fake".to_owned();
        let connected = proto::CommandConnected { server_version, max_message_size: None };
        peer.send(Command::Connected(connected)).await;
        peer
    }
}

impl Peer {
    async fn receive(&mut self) -> Command {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return frame.command.expect("a command");
            }
            let read = self.stream.read_buf(self.decoder.buffer_mut());
            assert!(timeout(PATIENCE, read).await.unwrap().unwrap() > 0, "closed by the client");
        }
    }

    async fn send(&mut self, command: Command) {
        self.stream.write_all(&encode_command(command)).await.unwrap();
    }

    async fn send_entry(&mut self, consumer_id: u64, entry_id: u64, payload: &Bytes) {
        let id = proto::MessageIdData { ledger_id: 1, entry_id, ..Default::default() };
        let message_id = Some(id);
        let message = proto::CommandMessage { consumer_id, message_id, ..Default::default() };
        let bytes = frame(Command::Message(message), payload);
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// Answers a lookup; returns what was asked.
    async fn lookup(
        &mut self,
        url: String,
        connect: bool,
        proxied: bool,
    ) -> proto::CommandLookupTopic {
        let Command::LookupTopic(lookup) = self.receive().await else { panic!("no lookup") };
        let answer = proto::CommandLookupTopicResponse {
            broker_service_url: Some(url),
            response: Some(i32::from(connect)),
            request_id: lookup.request_id,
            authoritative: Some(true),
            proxy_through_service_url: Some(proxied),
            ..Default::default()
        };
        self.send(Command::LookupTopicResponse(answer)).await;
        lookup
    }

    async fn subscription(&mut self) -> proto::CommandSubscribe {
        let Command::Subscribe(subscribe) = self.receive().await else { panic!("no subscribe") };
        subscribe
    }

    async fn success(&mut self, request_id: u64) {
        self.send(Command::Success(proto::CommandSuccess { request_id })).await;
    }

    /// Lookup and subscription; returns the consumer id.
    async fn subscribe(&mut self, url: String) -> u64 {
        self.lookup(url, true, false).await;
        let subscribe = self.subscription().await;
        self.success(subscribe.request_id).await;
        subscribe.consumer_id
    }

    async fn flow(&mut self) -> proto::CommandFlow {
        let Command::Flow(flow) = self.receive().await else { panic!("no flow") };
        flow
    }

    async fn refuse(&mut self, request_id: u64, error: i32) {
        let message = "scripted".to_owned();
        self.send(Command::Error(proto::CommandError { request_id, error, message })).await;
    }
}

async fn next(consumer: &mut Consumer) -> ConsumerEvent {
    timeout(PATIENCE, consumer.next()).await.expect("an event in time")
}

async fn expect_connected(consumer: &mut Consumer) {
    let event = next(consumer).await;
    assert!(matches!(event, ConsumerEvent::Connected), "{event:?}");
}

async fn expect_disconnected(consumer: &mut Consumer) -> Error {
    match next(consumer).await {
        ConsumerEvent::Disconnected { reason } => reason,
        event => panic!("{event:?}"),
    }
}

fn config() -> ConsumerConfig {
    ConsumerConfig::new(TOPIC, "s")
}

#[tokio::test]
async fn redirected_lookup_asks_the_other_broker_with_authority() {
    let (first, owner) = (Broker::start().await, Broker::start().await);
    let mut consumer = first.client().subscribe(config());
    let mut peer = first.accept().await;
    let asked = peer.lookup(owner.url(), false, false).await;
    assert_eq!((asked.topic.as_str(), asked.authoritative), (TOPIC, Some(false)));
    let mut peer = owner.accept().await;
    let asked = peer.lookup(owner.url(), true, false).await;
    assert_eq!(asked.authoritative, Some(true));
    let subscribe = peer.subscription().await;
    peer.success(subscribe.request_id).await;
    expect_connected(&mut consumer).await;
}

#[tokio::test]
async fn endless_redirects_are_given_up_and_tried_again() {
    let broker = Broker::start().await;
    let mut consumer = broker.client().subscribe(config());
    let mut peer = broker.accept().await;
    for _ in 0..20 {
        peer.lookup(broker.url(), false, false).await;
    }
    let event = next(&mut consumer).await;
    let ConsumerEvent::Waiting { reason } = event else { panic!("{event:?}") };
    assert!(matches!(reason, Error::Redirects { .. }), "{reason}");
    peer.subscribe(broker.url()).await;
    expect_connected(&mut consumer).await;
}

#[tokio::test]
async fn broker_behind_a_proxy_is_reached_through_it() {
    let proxy = Broker::start().await;
    let mut consumer = proxy.client().subscribe(config());
    let mut peer = proxy.accept().await;
    assert_eq!(peer.proxy_to, None);
    peer.lookup("pulsar://inside:6650".to_owned(), true, true).await;
    let mut peer = proxy.accept().await;
    assert_eq!(peer.proxy_to.as_deref(), Some("inside:6650"));
    let subscribe = peer.subscription().await;
    peer.success(subscribe.request_id).await;
    expect_connected(&mut consumer).await;
}

#[tokio::test]
async fn nothing_of_an_ended_subscription_is_delivered() {
    let broker = Broker::start().await;
    let mut consumer = broker.client().subscribe(config());
    let handle = consumer.handle();
    let payload = batch(3, Compression::Lz4);
    let mut peer = broker.accept().await;
    let old = peer.subscribe(broker.url()).await;
    expect_connected(&mut consumer).await;
    handle.flow(1000).await.unwrap();
    assert_eq!(peer.flow().await.message_permits, 1000);
    for entry_id in 0..5 {
        peer.send_entry(old, entry_id, &payload).await;
    }
    let close = proto::CommandCloseConsumer { consumer_id: old, request_id: 0 };
    peer.send(Command::CloseConsumer(close)).await;
    peer.send_entry(old, 5, &payload).await;
    // The entries wait unread while the end arrives.
    let deadline = Instant::now() + PATIENCE;
    while handle.flow(1).await.is_ok() {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    let at = Position { ledger_id: 1, entry_id: 0 };
    let refused = handle.ack_cumulative(at).await.unwrap_err();
    assert!(matches!(refused, Error::NotConnected { .. }), "{refused}");
    let new = loop {
        // Permits of the old subscription may still be on their way.
        match peer.receive().await {
            Command::LookupTopic(lookup) => {
                let answer = proto::CommandLookupTopicResponse {
                    broker_service_url: Some(broker.url()),
                    response: Some(1),
                    request_id: lookup.request_id,
                    ..Default::default()
                };
                peer.send(Command::LookupTopicResponse(answer)).await;
            }
            Command::Subscribe(subscribe) => {
                peer.success(subscribe.request_id).await;
                break subscribe.consumer_id;
            }
            _ => {}
        }
    };
    assert_ne!(new, old);
    peer.send_entry(old, 6, &payload).await;
    let exists = || {
        let session = handle.shared.session();
        session.as_ref().is_some_and(|session| session.consumer_id == new)
    };
    while !exists() {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    // The new subscription exists, yet the application knows only the old one: no permits.
    assert!(matches!(handle.flow(1).await.unwrap_err(), Error::NotConnected { .. }));
    expect_disconnected(&mut consumer).await;
    expect_connected(&mut consumer).await;
    handle.flow(7).await.unwrap();
    assert_eq!(peer.flow().await, proto::CommandFlow { consumer_id: new, message_permits: 7 });
    peer.send_entry(old, 7, &payload).await;
    peer.send_entry(new, 100, &payload).await;
    let event = next(&mut consumer).await;
    let ConsumerEvent::Entry(entry) = event else { panic!("{event:?}") };
    assert_eq!(entry.position, Position { ledger_id: 1, entry_id: 100 });
}

#[tokio::test]
async fn activity_reported_before_the_answer_follows_connected() {
    let broker = Broker::start().await;
    let mut consumer = broker.client().subscribe(config());
    let mut peer = broker.accept().await;
    peer.lookup(broker.url(), true, false).await;
    let subscribe = peer.subscription().await;
    let consumer_id = subscribe.consumer_id;
    let change = |active| {
        let is_active = Some(active);
        Command::ActiveConsumerChange(proto::CommandActiveConsumerChange { consumer_id, is_active })
    };
    peer.send(change(true)).await;
    peer.success(subscribe.request_id).await;
    expect_connected(&mut consumer).await;
    assert!(matches!(next(&mut consumer).await, ConsumerEvent::Active(true)));
    peer.send(change(false)).await;
    assert!(matches!(next(&mut consumer).await, ConsumerEvent::Active(false)));
    let end = proto::CommandReachedEndOfTopic { consumer_id };
    peer.send(Command::ReachedEndOfTopic(end)).await;
    assert!(matches!(next(&mut consumer).await, ConsumerEvent::EndOfTopic));
}

#[tokio::test]
async fn ack_reports_receipt_refusal_and_silence() {
    let broker = Broker::start().await;
    let mut consumer = broker.client().subscribe(config());
    let handle = consumer.handle();
    let mut peer = broker.accept().await;
    let consumer_id = peer.subscribe(broker.url()).await;
    expect_connected(&mut consumer).await;
    let at = Position { ledger_id: 3, entry_id: 9 };
    for error in [None, Some(1)] {
        let acking = tokio::spawn({
            let handle = handle.clone();
            async move { handle.ack_cumulative(at).await }
        });
        let Command::Ack(ack) = peer.receive().await else { panic!("no ack") };
        assert_eq!((ack.ack_type, ack.message_id.len()), (1, 1));
        assert_eq!((ack.message_id[0].ledger_id, ack.message_id[0].entry_id), (3, 9));
        let request_id = ack.request_id;
        let answer = proto::CommandAckResponse { consumer_id, error, message: None, request_id };
        peer.send(Command::AckResponse(answer)).await;
        let outcome = acking.await.unwrap();
        assert_eq!(outcome.is_ok(), error.is_none());
    }
    let silence = handle.ack_cumulative(at).await.unwrap_err();
    assert!(matches!(silence, Error::Timeout { what: "ack", .. }), "{silence}");
    drop(peer);
    expect_disconnected(&mut consumer).await;
}

#[tokio::test]
async fn refusal_for_good_fails_and_a_busy_subscription_waits() {
    let broker = Broker::start().await;
    let mut consumer = broker.client().subscribe(config());
    let mut peer = broker.accept().await;
    for attempt in 0..3 {
        peer.lookup(broker.url(), true, false).await;
        let subscribe = peer.subscription().await;
        peer.refuse(subscribe.request_id, if attempt < 2 { 5 } else { 4 }).await;
    }
    let event = next(&mut consumer).await;
    let ConsumerEvent::Waiting { reason } = event else { panic!("{event:?}") };
    let code = |error: &Error| match error {
        Error::Broker { code, .. } => *code,
        other => panic!("{other}"),
    };
    assert_eq!(code(&reason), ServerError::ConsumerBusy);
    let event = next(&mut consumer).await;
    let ConsumerEvent::Failed { reason } = event else { panic!("{event:?}") };
    assert_eq!(code(&reason), ServerError::Authorization);
    let event = next(&mut consumer).await;
    assert!(matches!(event, ConsumerEvent::Failed { reason: Error::Closed }), "{event:?}");
}

#[tokio::test]
async fn silent_broker_is_given_up_after_two_keep_alive_periods() {
    let broker = Broker::start().await;
    let mut config = ClientConfig::new(broker.url());
    config.keep_alive_ms = 100;
    let mut consumer = Client::new(config).unwrap().subscribe(self::config());
    let mut peer = broker.accept().await;
    peer.subscribe(broker.url()).await;
    expect_connected(&mut consumer).await;
    assert!(matches!(peer.receive().await, Command::Ping(_)));
    peer.send(Command::Pong(proto::CommandPong {})).await;
    assert!(matches!(peer.receive().await, Command::Ping(_)), "answered, so it goes on");
    let reason = expect_disconnected(&mut consumer).await;
    assert!(reason.to_string().contains("no answer to ping"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn full_queue_stops_the_reading_and_loses_nothing() {
    const ENTRY_BYTES: usize = 100_000;
    const COUNT: u64 = 500;
    let broker = Broker::start().await;
    let mut config = ClientConfig::new(broker.url());
    config.queue_bytes_max = 1 << 20;
    let mut consumer = Client::new(config).unwrap().subscribe(self::config());
    let mut peer = broker.accept().await;
    let consumer_id = peer.subscribe(broker.url()).await;
    expect_connected(&mut consumer).await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let flood = tokio::spawn(async move {
        let mut payload = bytes::BytesMut::from(&batch(1, Compression::None)[..]);
        payload.put_bytes(0, ENTRY_BYTES);
        let payload = payload.freeze();
        for entry_id in 0..COUNT {
            peer.send_entry(consumer_id, entry_id, &payload).await;
            counter.fetch_add(1, Ordering::Relaxed);
        }
        peer
    });
    // The flood stands still when queue and socket buffers are full.
    let deadline = Instant::now() + PATIENCE;
    let mut before = usize::MAX;
    while before != sent.load(Ordering::Relaxed) {
        before = sent.load(Ordering::Relaxed);
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(200)).await;
    }
    assert!((10..400).contains(&before), "{before} of {COUNT} were read ahead");
    for expected in 0..COUNT {
        let event = next(&mut consumer).await;
        let ConsumerEvent::Entry(entry) = event else { panic!("{event:?}") };
        assert_eq!(entry.position.entry_id, expected);
    }
    flood.await.unwrap();
}

async fn accept_producer(peer: &mut Peer, url: String) -> proto::CommandProducer {
    peer.lookup(url, true, false).await;
    let Command::Producer(producer) = peer.receive().await else { panic!("no producer") };
    let answer = proto::CommandProducerSuccess {
        request_id: producer.request_id,
        producer_name: "chosen".to_owned(),
        last_sequence_id: Some(41),
    };
    peer.send(Command::ProducerSuccess(answer)).await;
    producer
}

async fn receive_send(peer: &mut Peer) -> proto::CommandSend {
    let Command::Send(send) = peer.receive().await else { panic!("no send") };
    send
}

async fn send_receipt(peer: &mut Peer, producer_id: u64, sequence_id: u64, ledger_id: u64) {
    let id = proto::MessageIdData { ledger_id, entry_id: sequence_id, ..Default::default() };
    let receipt = proto::CommandSendReceipt { producer_id, sequence_id, message_id: Some(id) };
    peer.send(Command::SendReceipt(receipt)).await;
}

#[tokio::test]
async fn unconfirmed_batches_are_sent_again_under_the_same_name_and_ids() {
    let broker = Broker::start().await;
    let client = broker.client();
    let starting = tokio::spawn(async move { client.producer(ProducerConfig::new(TOPIC)).await });
    let mut peer = broker.accept().await;
    let first = accept_producer(&mut peer, broker.url()).await;
    assert_eq!(first.producer_name, None);
    let producer = starting.await.unwrap().unwrap();
    assert_eq!((producer.name(), producer.last_sequence_id()), ("chosen", Some(41)));
    let mut receipts = Vec::new();
    for number in 0..3 {
        let message = OutgoingMessage::new(Some("k"), format!("{number}"));
        receipts.push(producer.send(&[message]).await.unwrap());
    }
    for expected in 42..45 {
        assert_eq!(receive_send(&mut peer).await.sequence_id, expected);
    }
    send_receipt(&mut peer, first.producer_id, 42, 6).await;
    let mut receipts = receipts.into_iter();
    let receipt = receipts.next().unwrap().await.unwrap();
    assert_eq!(receipt.position, Some(Position { ledger_id: 6, entry_id: 42 }));
    drop(peer);
    let mut peer = broker.accept().await;
    let second = accept_producer(&mut peer, broker.url()).await;
    assert_eq!(second.producer_name.as_deref(), Some("chosen"));
    assert_ne!(second.producer_id, first.producer_id);
    for expected in 43..45 {
        assert_eq!(receive_send(&mut peer).await.sequence_id, expected);
    }
    // A receipt for the old producer id counts for nothing; -1 means stored before.
    send_receipt(&mut peer, first.producer_id, 44, 6).await;
    send_receipt(&mut peer, second.producer_id, 43, u64::MAX).await;
    let receipt = receipts.next().unwrap().await.unwrap();
    assert_eq!((receipt.sequence_id, receipt.position), (43, None));
    let error = proto::CommandSendError {
        producer_id: second.producer_id,
        sequence_id: 44,
        error: 15,
        message: "terminated".to_owned(),
    };
    peer.send(Command::SendError(error)).await;
    let refused = receipts.next().unwrap().await.unwrap_err();
    assert!(!refused.retry(), "{refused}");
    let deadline = Instant::now() + PATIENCE;
    while let Ok(receipt) = producer.send(&[OutgoingMessage::default()]).await {
        assert!(receipt.await.is_err() && Instant::now() < deadline);
    }
}

#[tokio::test]
async fn batch_beyond_the_limit_is_refused_before_it_is_sent() {
    let broker = Broker::start().await;
    let client = broker.client();
    let starting = tokio::spawn(async move { client.producer(ProducerConfig::new(TOPIC)).await });
    let mut peer = broker.accept().await;
    accept_producer(&mut peer, broker.url()).await;
    let producer = starting.await.unwrap().unwrap();
    let mut random = super::Random(1);
    let noise: Vec<u8> = (0..6 << 20).map(|_| random.below(256) as u8).collect();
    let message = OutgoingMessage::new(None::<Bytes>, noise);
    let error = producer.send_batch(&[message]).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    let error = producer.send_batch(&[]).await.unwrap_err();
    assert!(matches!(error, Error::Config { .. }), "{error}");
}

//! One connection to a broker: a task that reads, writes and keeps the connection alive, and the
//! handle through which requests are made.
//!
//! The task ends when the socket fails, when the broker is silent for two keep-alive periods, or
//! when the last handle is dropped. It never reconnects; that is up to whoever uses it. While
//! consumers have more bytes waiting than `queue_bytes_max`, nothing is read from the socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tracing::{debug, info};

use crate::client::{Auth, ClientConfig};
use crate::dispatch::{Dispatch, Reaction};
use crate::error::Error;
use crate::frame::{Frame, FrameDecoder, encode_command, encode_head};
use crate::proto::{self, Command};
use crate::tls::Tls;

const PROTOCOL_VERSION: i32 = 19;
/// The broker's default; used until it has announced its own.
const MESSAGE_BYTES_DEFAULT: usize = 5 << 20;
/// No broker may announce more.
const MESSAGE_BYTES_MAX: usize = 128 << 20;
/// Frames that wait for the connection's task.
const OUTGOING_FRAMES_MAX: usize = 64;
/// Bytes taken over from waiting frames before they are written.
const WRITE_BYTES_MAX: usize = 1 << 20;
const READ_BYTES: usize = 256 << 10;

/// The address of a broker, and of the proxy in front of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// Host and port to connect to.
    pub(crate) address: String,
    /// Host and port that a proxy is asked to pass the connection on to.
    pub(crate) behind_proxy: Option<String>,
}

/// One frame on its way out; the payload is kept apart so that it is never copied twice.
#[derive(Debug)]
struct Outgoing {
    head: Bytes,
    payload: Bytes,
}

/// Handle of a connection; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dispatch: Arc<Dispatch>,
    outgoing: mpsc::Sender<Outgoing>,
    next_request_id: AtomicU64,
    request_timeout: Duration,
    message_bytes_max: usize,
}

impl Connection {
    /// Connects, introduces itself and starts the connection's task.
    pub(crate) async fn open(
        target: &Target,
        config: &ClientConfig,
        tls: Option<&Tls>,
    ) -> Result<Self, Error> {
        let what = "connect";
        let limit = Duration::from_millis(config.connect_timeout_ms);
        let opening = handshake(target, config, tls);
        let (stream, decoder, message_bytes_max) =
            timeout(limit, opening).await.map_err(|_| Error::Timeout {
                what,
                address: target.address.clone(),
                timeout_ms: config.connect_timeout_ms,
            })??;
        info!(address = target.address, "connected to broker");
        let dispatch = Arc::new(Dispatch::new(target.address.clone()));
        let (outgoing, receiver) = mpsc::channel(OUTGOING_FRAMES_MAX);
        let task = Task {
            dispatch: Arc::clone(&dispatch),
            outgoing: receiver,
            decoder,
            auth: config.auth.clone(),
            keep_alive: Duration::from_millis(config.keep_alive_ms.max(1)),
            queue_bytes_max: config.queue_bytes_max,
            write: BytesMut::new(),
        };
        tokio::spawn(task.run(stream));
        let request_timeout = Duration::from_millis(config.request_timeout_ms);
        Ok(Self {
            inner: Arc::new(Inner {
                dispatch,
                outgoing,
                next_request_id: AtomicU64::new(1),
                request_timeout,
                message_bytes_max,
            }),
        })
    }

    pub(crate) fn dispatch(&self) -> &Dispatch {
        &self.inner.dispatch
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.dispatch.is_closed()
    }

    pub(crate) fn message_bytes_max(&self) -> usize {
        self.inner.message_bytes_max
    }

    pub(crate) fn next_request_id(&self) -> u64 {
        self.inner.next_request_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a command; waits while the connection has too much to write.
    pub(crate) async fn send(&self, command: Command) -> Result<(), Error> {
        self.send_parts(Outgoing { head: encode_command(command), payload: Bytes::new() }).await
    }

    /// Sends a command with a payload behind it.
    pub(crate) async fn send_payload(&self, command: Command, payload: Bytes) -> Result<(), Error> {
        let head = encode_head(command, payload.len());
        self.send_parts(Outgoing { head, payload }).await
    }

    async fn send_parts(&self, outgoing: Outgoing) -> Result<(), Error> {
        let sent = self.inner.outgoing.send(outgoing).await;
        sent.map_err(|_| self.inner.dispatch.disconnected("connection closed"))
    }

    /// Sends a command if there is room, without waiting; for use where nobody can wait.
    pub(crate) fn send_now(&self, command: Command) {
        let outgoing = Outgoing { head: encode_command(command), payload: Bytes::new() };
        if self.inner.outgoing.try_send(outgoing).is_err() {
            debug!(address = self.inner.dispatch.address(), "command not sent");
        }
    }

    /// Sends a request and waits for its answer; `CommandError` becomes an error.
    pub(crate) async fn request(
        &self,
        what: &'static str,
        place: &str,
        make: impl FnOnce(u64) -> Command,
    ) -> Result<Command, Error> {
        let request_id = self.next_request_id();
        let answer = self.inner.dispatch.expect_answer(request_id)?;
        let _forget = ForgetAnswer { dispatch: &self.inner.dispatch, request_id };
        let exchange = async {
            self.send(make(request_id)).await?;
            let ended = || self.inner.dispatch.disconnected("connection closed");
            answer.await.map_err(|_| ended())?
        };
        let limit = self.inner.request_timeout;
        match timeout(limit, exchange).await {
            Ok(Ok(Command::Error(error))) => {
                Err(Error::broker(what, place, Some(error.error), Some(error.message)))
            }
            Ok(answer) => answer,
            Err(_) => Err(Error::Timeout {
                what,
                address: self.inner.dispatch.address().to_owned(),
                timeout_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }

    pub(crate) fn unexpected(&self, what: &'static str, answer: &Command) -> Error {
        Error::Protocol {
            address: self.inner.dispatch.address().to_owned(),
            problem: format!("{what} answered by command {}", answer.number()),
        }
    }
}

/// Takes a request out of the waiting ones also where its caller gave up.
struct ForgetAnswer<'a> {
    dispatch: &'a Dispatch,
    request_id: u64,
}

impl Drop for ForgetAnswer<'_> {
    fn drop(&mut self) {
        self.dispatch.forget_answer(self.request_id);
    }
}

fn io_error(address: &str, error: &std::io::Error) -> Error {
    Error::Io { address: address.to_owned(), problem: error.to_string() }
}

fn auth_data(auth: &Auth) -> (Option<String>, Option<Bytes>) {
    match auth {
        Auth::None => (None, None),
        Auth::Token(token) => {
            (Some("token".to_owned()), Some(Bytes::copy_from_slice(token.as_bytes())))
        }
    }
}

fn client_version() -> String {
    concat!("tidemill-", env!("CARGO_PKG_VERSION")).to_owned()
}

/// Writes some bytes, or hands on what TLS holds back; returns whether nothing is left.
async fn write_out(
    writer: &mut (impl AsyncWrite + Unpin),
    bytes: &mut BytesMut,
) -> std::io::Result<bool> {
    if bytes.has_remaining() {
        writer.write_buf(bytes).await.map(|_| false)
    } else {
        writer.flush().await.map(|()| true)
    }
}

/// A socket, with or without TLS around it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn handshake(
    target: &Target,
    config: &ClientConfig,
    tls: Option<&Tls>,
) -> Result<(Box<dyn Stream>, FrameDecoder, usize), Error> {
    let address = &target.address;
    let io = |error: std::io::Error| io_error(address, &error);
    let stream = TcpStream::connect(address).await.map_err(io)?;
    stream.set_nodelay(true).map_err(io)?;
    let mut stream: Box<dyn Stream> = match tls {
        Some(tls) => Box::new(tls.secure(address, stream).await?),
        None => Box::new(stream),
    };
    let (auth_method_name, auth_data) = auth_data(&config.auth);
    let connect = Command::Connect(proto::CommandConnect {
        client_version: client_version(),
        auth_data,
        protocol_version: Some(PROTOCOL_VERSION),
        auth_method_name,
        proxy_to_broker_url: target.behind_proxy.clone(),
        feature_flags: Some(proto::FeatureFlags {
            supports_auth_refresh: Some(true),
            supports_broker_entry_metadata: Some(true),
        }),
    });
    stream.write_all(&encode_command(connect)).await.map_err(io)?;
    stream.flush().await.map_err(io)?;
    let mut decoder = FrameDecoder::new(MESSAGE_BYTES_DEFAULT);
    let answer = loop {
        if let Some(frame) = next_frame(&mut decoder, address)? {
            break frame.command;
        }
        if stream.read_buf(decoder.buffer_mut()).await.map_err(io)? == 0 {
            let reason = "closed during the handshake".to_owned();
            return Err(Error::Disconnected { address: address.clone(), reason });
        }
    };
    match answer {
        Some(Command::Connected(connected)) => {
            let announced = connected.max_message_size.and_then(|size| usize::try_from(size).ok());
            let message_bytes_max = announced
                .filter(|&size| size > 0)
                .map_or(MESSAGE_BYTES_DEFAULT, |size| size.min(MESSAGE_BYTES_MAX));
            decoder.set_message_bytes_max(message_bytes_max);
            Ok((stream, decoder, message_bytes_max))
        }
        Some(Command::Error(error)) => {
            Err(Error::broker("connect", address, Some(error.error), Some(error.message)))
        }
        _ => Err(Error::Protocol {
            address: address.clone(),
            problem: "connect answered by another command".to_owned(),
        }),
    }
}

fn next_frame(decoder: &mut FrameDecoder, address: &str) -> Result<Option<Frame>, Error> {
    decoder.next_frame().map_err(|error| Error::Protocol {
        address: address.to_owned(),
        problem: error.to_string(),
    })
}

/// The task of a connection.
struct Task {
    dispatch: Arc<Dispatch>,
    outgoing: mpsc::Receiver<Outgoing>,
    decoder: FrameDecoder,
    auth: Auth,
    keep_alive: Duration,
    queue_bytes_max: usize,
    write: BytesMut,
}

impl Task {
    async fn run(mut self, stream: Box<dyn Stream>) {
        let reason = match self.serve(stream).await {
            Ok(()) => self.dispatch.disconnected("no longer used"),
            Err(reason) => reason,
        };
        info!(address = self.dispatch.address(), %reason, "connection ended");
        self.dispatch.close(reason);
    }

    async fn serve(&mut self, stream: Box<dyn Stream>) -> Result<(), Error> {
        let dispatch = Arc::clone(&self.dispatch);
        let io = |error: std::io::Error| io_error(dispatch.address(), &error);
        let (mut reader, mut writer) = split(stream);
        // TLS keeps what the socket did not take; a plain socket has nothing to flush.
        let mut unflushed = false;
        let mut ticks = interval_at(Instant::now() + self.keep_alive, self.keep_alive);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ping_unanswered = false;
        self.accept_frames()?;
        loop {
            let queue = &dispatch.queue;
            let paused = queue.bytes() > self.queue_bytes_max;
            self.decoder.buffer_mut().reserve(READ_BYTES / 4);
            tokio::select! {
                read = reader.read_buf(self.decoder.buffer_mut()), if !paused => {
                    if read.map_err(io)? == 0 {
                        return Err(dispatch.disconnected("closed by the peer"));
                    }
                    ping_unanswered = false;
                    self.accept_frames()?;
                }
                () = queue.lowered.notified(), if paused => {}
                flushed = write_out(&mut writer, &mut self.write),
                    if unflushed || self.write.has_remaining() =>
                {
                    unflushed = !flushed.map_err(io)?;
                }
                frame = self.outgoing.recv(), if self.write.len() < WRITE_BYTES_MAX => {
                    let Some(frame) = frame else { return Ok(()) };
                    self.write.extend_from_slice(&frame.head);
                    self.write.extend_from_slice(&frame.payload);
                }
                _ = ticks.tick() => {
                    if ping_unanswered && !paused {
                        return Err(dispatch.disconnected("no answer to ping"));
                    }
                    // While nothing is read no answer can be seen.
                    ping_unanswered = !paused;
                    self.reply(Command::Ping(proto::CommandPing {}));
                }
            }
        }
    }

    fn accept_frames(&mut self) -> Result<(), Error> {
        while let Some(frame) = next_frame(&mut self.decoder, self.dispatch.address())? {
            match self.dispatch.accept(frame) {
                Reaction::Nothing => {}
                Reaction::Reply(command) => self.reply(command),
                Reaction::Challenge => {
                    let (auth_method_name, auth_data) = auth_data(&self.auth);
                    self.reply(Command::AuthResponse(proto::CommandAuthResponse {
                        client_version: Some(client_version()),
                        response: Some(proto::AuthData { auth_method_name, auth_data }),
                        protocol_version: Some(PROTOCOL_VERSION),
                    }));
                }
            }
            // A peer that only pings and never reads must not fill the memory.
            if self.write.len() > 2 * MESSAGE_BYTES_MAX {
                return Err(self.dispatch.disconnected("peer does not read"));
            }
        }
        Ok(())
    }

    fn reply(&mut self, command: Command) {
        self.write.extend_from_slice(&encode_command(command));
    }
}

//! The standard input, or any other stream that comes once: one lane named `stdin`.
//!
//! A stream cannot be read again. Who starts anew behind a commit record has to feed the same
//! stream from its first byte; what is processed is skipped. So that streams are never mixed, a
//! position carries the identity of its stream, a hash of the first line, and a stream of another
//! identity is refused. It does not compare what comes behind the first line.
//!
//! The publish time of a message is its arrival: when its last bytes were read from the stream.

use std::{
    io::{Cursor, Read},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tidemill_kernel::event::Position;

use super::{
    AHEAD_BYTES_MAX,
    archive::{Format, MAGIC_BYTES, Unpack},
    lines::LineCutter,
    reader::{READ_BYTES, entry},
    skip::Skip,
};
use crate::pull::{PartitionReader, Pull, PullSource};

/// Name of the only partition.
pub const PARTITION: &str = "stdin";

/// Pieces that wait between the reading thread and the lane; then the writer has to wait.
const PIECES_MAX: usize = 4;
/// How long one look for a piece takes; then it is seen whether there is something else to do.
const WAIT_MAX: Duration = Duration::from_millis(5);
/// The identity of a stream is taken from its first line, of that at most so many bytes.
const IDENTITY_BYTES_MAX: usize = 64 * 1024;

/// A stream as it comes.
type Stream = Box<dyn Read + Send>;

/// What is known of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StdinConfig {
    /// Bytes of a line that are kept; a longer one is rejected as too large.
    pub line_bytes_max: usize,
    /// Bytes read ahead of what is processed, at most [`AHEAD_BYTES_MAX`].
    pub queue_bytes_max: u64,
}

/// Opens the standard input as a source.
pub fn open(config: StdinConfig) -> PullSource {
    open_stream(Box::new(std::io::stdin()), config)
}

pub(super) fn open_stream(stream: Stream, config: StdinConfig) -> PullSource {
    let reader = StdinReader {
        stream: Some(stream),
        line_bytes_max: config.line_bytes_max,
        from: None,
        pieces: None,
        phase: Phase::Unknown(Vec::new()),
    };
    let reader: Box<dyn PartitionReader> = Box::new(reader);
    let ahead_bytes_max = config.queue_bytes_max.min(AHEAD_BYTES_MAX);
    PullSource::new(vec![(Arc::from(PARTITION), reader)], ahead_bytes_max)
}

/// A part of the content and when it arrived, or why there is no more.
type Piece = Result<(Vec<u8>, i64), String>;

struct StdinReader {
    stream: Option<Stream>,
    line_bytes_max: usize,
    from: Option<Position>,
    pieces: Option<Receiver<Piece>>,
    phase: Phase,
}

enum Phase {
    /// The first line is not complete.
    Unknown(Vec<u8>),
    /// Lines are read.
    Known {
        identity: u64,
        skip: Skip,
        cutter: LineCutter,
    },
    Ended,
}

impl PartitionReader for StdinReader {
    fn open(&mut self, from: Option<Position>) -> Result<(), String> {
        let Some(stream) = self.stream.take() else {
            return Err(
                "stdin cannot be read a second time; start again and feed the same stream \
                        from its beginning"
                    .to_owned(),
            );
        };
        self.from = from;
        let (sender, receiver) = sync_channel(PIECES_MAX);
        let reading = thread::Builder::new().name("stdin".to_owned());
        // A read that blocks cannot be called off: the thread ends with the stream or the process.
        reading.spawn(move || read(stream, &sender)).map_err(|error| error.to_string())?;
        self.pieces = Some(receiver);
        Ok(())
    }

    fn pull(&mut self) -> Result<Pull, String> {
        let Some(pieces) = self.pieces.as_ref().filter(|_| !matches!(self.phase, Phase::Ended))
        else {
            return Ok(Pull::End);
        };
        // Woken by the piece: a pause of that length for each few pieces of 64 KiB, which is what a
        // pipe holds, would bound a fast writer to 130,000 messages a second.
        match pieces.recv_timeout(WAIT_MAX) {
            Ok(piece) => {
                let (bytes, arrived_ms) = piece.map_err(|error| format!("stdin: {error}"))?;
                self.take(&bytes, false, arrived_ms)
            }
            Err(RecvTimeoutError::Timeout) => Ok(Pull::Again),
            Err(RecvTimeoutError::Disconnected) => self.take(&[], true, unix_ms()),
        }
    }
}

impl StdinReader {
    fn take(&mut self, bytes: &[u8], at_end: bool, arrived_ms: i64) -> Result<Pull, String> {
        let mut held = Vec::new();
        let mut bytes = bytes;
        if let Phase::Unknown(first) = &mut self.phase {
            first.extend_from_slice(bytes);
            let Some(identity) = identity(first, at_end) else {
                return Ok(Pull::Again);
            };
            held = std::mem::take(first);
            bytes = &held;
            self.phase = self.known(identity)?;
        }
        let Phase::Known { identity, skip, cutter } = &mut self.phase else {
            return Ok(Pull::End);
        };
        let rest = skip.take(bytes).map_err(|error| format!("stdin: {error}"))?;
        if at_end && !skip.is_done() {
            return Err(format!("stdin: {}", skip.missing()));
        }
        // Reading from memory does not fail.
        cutter.fill(rest, rest.len()).map_err(|error| error.to_string())?;
        let entry = entry(*identity, arrived_ms, cutter, at_end);
        if at_end {
            self.phase = Phase::Ended;
        }
        drop(held);
        Ok(entry.map_or(Pull::Again, Pull::Entry))
    }

    /// Begins to read lines, if this is the stream that was read before.
    fn known(&self, identity: u64) -> Result<Phase, String> {
        let from = self.from.unwrap_or(Position::new(identity, 0, 0));
        if from.segment != identity {
            return Err(format!(
                "stdin: the commit record is of another stream: the first line of this one \
                 differs (identity {identity}, recorded {}); feed the stream of the record again \
                 from its beginning, or give the pipeline another name",
                from.segment
            ));
        }
        Ok(Phase::Known {
            identity,
            skip: Skip::to(from.offset),
            cutter: LineCutter::new(from.offset, self.line_bytes_max),
        })
    }
}

/// Returns the identity of a stream that begins so: the 32-bit FNV-1a hash of its first line
/// without the line end. `None`: the line is not complete.
fn identity(first: &[u8], at_end: bool) -> Option<u64> {
    let length = match memchr::memchr(b'\n', first) {
        Some(end) => end,
        None if at_end || first.len() >= IDENTITY_BYTES_MAX => first.len(),
        None => return None,
    };
    let line = &first[..length.min(IDENTITY_BYTES_MAX)];
    let hash = line
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    Some(hash.into())
}

/// Reads the stream to its end, as fast as the pieces are taken.
fn read(mut stream: Stream, pieces: &SyncSender<Piece>) {
    let mut magic = Vec::with_capacity(MAGIC_BYTES);
    let first = stream.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut magic);
    let format = Format::of(&magic);
    let content = first.and_then(|_| Unpack::new(format, Cursor::new(magic).chain(stream)));
    let mut content = match content {
        Ok(content) => content,
        Err(error) => {
            let _ = pieces.send(Err(error.to_string()));
            return;
        }
    };
    let mut scratch = vec![0; READ_BYTES];
    let mut offset = 0;
    loop {
        let piece = match content.read(&mut scratch) {
            Ok(0) => return,
            Ok(count) => {
                offset += count as u64;
                Ok((scratch[..count].to_vec(), unix_ms()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(content.explain(offset, &error)),
        };
        // The lane may have stopped.
        let ends = piece.is_err();
        if pieces.send(piece).is_err() || ends {
            return;
        }
    }
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

//! Cuts a byte stream into frames and puts frames together; touches no socket.
//!
//! ```text
//! frame:    u32 size of the rest | u32 size of command | command | payload (may be absent)
//! payload:  [0x0e02 | u32 size | broker entry metadata]
//!           [0x0e01 | u32 CRC32C of all that follows]
//!           u32 size of metadata | metadata | body
//! ```
//! All integers are big endian. A frame whose sizes contradict each other ends the connection,
//! because the next boundary is lost; a bad payload does not, it is judged in `entry`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::proto::{BaseCommand, BrokerEntryMetadata, Command, MessageMetadata};

const MAGIC_CHECKSUM: u16 = 0x0e01;
const MAGIC_BROKER_ENTRY: u16 = 0x0e02;
/// A command never needs more; topic names and messages of the broker are far below.
const COMMAND_BYTES_MAX: usize = 1 << 20;
/// Metadata, command and sizes around the largest payload (the broker's own allowance is 10 kB).
const FRAME_OVERHEAD_BYTES: usize = 64 << 10;

/// What makes the rest of a stream unreadable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced size is beyond the limit.
    #[error("frame of {bytes} bytes exceeds the limit of {bytes_max}")]
    TooLarge {
        /// Announced size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The command is larger than its frame or than any command may be.
    #[error("command of {command_bytes} bytes in a frame of {bytes}")]
    CommandSize {
        /// Announced size of the command.
        command_bytes: usize,
        /// Announced size of the frame.
        bytes: usize,
    },
    /// The command is not valid protobuf.
    #[error("unreadable command: {0}")]
    Command(String),
}

/// One frame: a command and, for messages, the payload behind it.
#[derive(Clone, Debug)]
pub struct Frame {
    pub(crate) command: Option<Command>,
    payload: Bytes,
}

impl Frame {
    /// Returns what stands behind the command; empty for all commands but messages.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    pub(crate) fn into_parts(self) -> (Option<Command>, Bytes) {
        (self.command, self.payload)
    }
}

/// Cuts a stream into frames. Holds at most one incomplete frame and what was read beyond it.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    frame_bytes_max: usize,
}

impl FrameDecoder {
    /// Creates a decoder that refuses frames whose payload exceeds `message_bytes_max`.
    pub fn new(message_bytes_max: usize) -> Self {
        let frame_bytes_max = message_bytes_max.saturating_add(FRAME_OVERHEAD_BYTES);
        Self { buffer: BytesMut::new(), frame_bytes_max }
    }

    /// Changes the limit, once the broker has announced its own.
    pub fn set_message_bytes_max(&mut self, message_bytes_max: usize) {
        self.frame_bytes_max = message_bytes_max.saturating_add(FRAME_OVERHEAD_BYTES);
    }

    /// Returns the buffer to which what was read is to be appended.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Takes the next whole frame; `None` where more bytes are needed.
    ///
    /// # Errors
    /// After an error the stream is unusable.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(head) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let bytes = u32::from_be_bytes(*head) as usize;
        let bytes_max = self.frame_bytes_max;
        if bytes > bytes_max {
            return Err(FrameError::TooLarge { bytes, bytes_max });
        }
        if self.buffer.len() < 4 + bytes {
            // One allocation for a large frame instead of many doublings.
            self.buffer.reserve(4 + bytes - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(4);
        let mut frame = self.buffer.split_to(bytes).freeze();
        let command_bytes = frame.try_get_u32().map_or(usize::MAX, |size| size as usize);
        if command_bytes > frame.len() || command_bytes > COMMAND_BYTES_MAX {
            return Err(FrameError::CommandSize { command_bytes, bytes });
        }
        let command = BaseCommand::decode(frame.split_to(command_bytes))
            .map_err(|error| FrameError::Command(error.to_string()))?;
        Ok(Some(Frame { command: command.command, payload: frame }))
    }
}

/// The parts of a payload, before its body is opened.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub(crate) broker_entry: Option<BrokerEntryMetadata>,
    /// False where a checksum is present and wrong.
    pub(crate) checksum_ok: bool,
    /// `None` where the metadata cannot be read.
    pub(crate) metadata: Option<MessageMetadata>,
    pub(crate) body: Bytes,
}

/// Takes a payload apart; never fails, what cannot be read is reported in the parts.
pub(crate) fn split_payload(mut payload: Bytes) -> Payload {
    let mut broker_entry = None;
    if peek_u16(&payload) == Some(MAGIC_BROKER_ENTRY) {
        let mut rest = payload.slice(2..);
        match take_sized(&mut rest) {
            Some(part) => {
                broker_entry = BrokerEntryMetadata::decode(part).ok();
                payload = rest;
            }
            None => {
                return Payload { broker_entry, checksum_ok: true, metadata: None, body: payload };
            }
        }
    }
    let mut checksum_ok = true;
    if peek_u16(&payload) == Some(MAGIC_CHECKSUM) {
        payload.advance(2);
        checksum_ok = payload.try_get_u32().is_ok_and(|crc| crc == crc32c::crc32c(&payload));
    }
    let mut rest = payload.clone();
    let metadata = take_sized(&mut rest).and_then(|part| MessageMetadata::decode(part).ok());
    let body = if metadata.is_some() { rest } else { payload };
    Payload { broker_entry, checksum_ok, metadata, body }
}

fn peek_u16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk::<2>().map(|head| u16::from_be_bytes(*head))
}

fn take_sized(bytes: &mut Bytes) -> Option<Bytes> {
    let size = bytes.try_get_u32().ok()? as usize;
    (size <= bytes.len()).then(|| bytes.split_to(size))
}

/// Encodes a command without payload.
pub(crate) fn encode_command(command: Command) -> Bytes {
    let command = BaseCommand { command_type: command.number(), command: Some(command) };
    let size = command.encoded_len();
    let mut frame = BytesMut::with_capacity(8 + size);
    put_size(&mut frame, size + 4);
    put_size(&mut frame, size);
    command.encode_raw(&mut frame);
    frame.freeze()
}

/// Encodes a command with a payload made by `encode_payload`; the payload is not copied.
pub(crate) fn encode_head(command: Command, payload_bytes: usize) -> Bytes {
    let command = BaseCommand { command_type: command.number(), command: Some(command) };
    let size = command.encoded_len();
    let mut frame = BytesMut::with_capacity(8 + size);
    put_size(&mut frame, size + 4 + payload_bytes);
    put_size(&mut frame, size);
    command.encode_raw(&mut frame);
    frame.freeze()
}

/// Encodes checksum, metadata and body of an entry.
pub(crate) fn encode_payload(metadata: &MessageMetadata, body: &[u8]) -> Bytes {
    let size = metadata.encoded_len();
    let mut payload = BytesMut::with_capacity(10 + size + body.len());
    payload.put_u16(MAGIC_CHECKSUM);
    payload.put_u32(0);
    put_size(&mut payload, size);
    metadata.encode_raw(&mut payload);
    payload.put_slice(body);
    let crc = crc32c::crc32c(&payload[6..]);
    payload[2..6].copy_from_slice(&crc.to_be_bytes());
    payload.freeze()
}

fn put_size(buffer: &mut BytesMut, size: usize) {
    buffer.put_u32(u32::try_from(size).expect("sizes are checked against the broker's limit"));
}

//! A second, tiny client of the Pulsar protocol for tests; included by `#[path]`.
//!
//! It writes and reads protobuf by hand and shares nothing with the client under test. It exists
//! for what that client does not do: forge the metadata of an entry, and acknowledge messages of
//! a batch one by one. One request at a time, one broker, no lookup: the broker must own the topic
//! already.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A connection to the broker.
pub(crate) struct Raw {
    stream: TcpStream,
}

/// Fields of a protobuf message under construction.
#[derive(Clone, Default)]
pub(crate) struct Fields(Vec<u8>);

impl Fields {
    /// Appends a varint field.
    pub(crate) fn int(mut self, tag: u64, value: u64) -> Self {
        put_varint(&mut self.0, tag << 3);
        put_varint(&mut self.0, value);
        self
    }

    /// Appends a field of bytes, text or a message.
    pub(crate) fn bytes(mut self, tag: u64, value: impl AsRef<[u8]>) -> Self {
        put_varint(&mut self.0, tag << 3 | 2);
        put_varint(&mut self.0, value.as_ref().len() as u64);
        self.0.extend_from_slice(value.as_ref());
        self
    }

    /// Returns size, fields and a payload: a message of a batch.
    pub(crate) fn sized(self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (self.0.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.0);
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Appends a message.
    pub(crate) fn message(self, tag: u64, fields: Fields) -> Self {
        self.bytes(tag, fields.0)
    }
}

fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn varint(data: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = data.split_first().expect("a whole varint");
        *data = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            break;
        }
    }
    value
}

/// Returns the first field with this tag: a number, or the bytes of a message.
fn field(mut data: &[u8], wanted: u64) -> Option<(u64, Vec<u8>)> {
    while !data.is_empty() {
        let tag = varint(&mut data);
        let value = match tag & 7 {
            0 => (varint(&mut data), Vec::new()),
            2 => {
                let size = varint(&mut data) as usize;
                let (bytes, rest) = data.split_at(size);
                data = rest;
                (0, bytes.to_vec())
            }
            other => panic!("wire type {other}"),
        };
        if tag >> 3 == wanted {
            return Some(value);
        }
    }
    None
}

/// An entry of a batch: metadata by field numbers of the protocol, and the body as it is.
#[derive(Clone)]
pub(crate) struct RawEntry {
    /// Producer name, sequence id and publish time are the first three fields.
    pub(crate) metadata: Fields,
    pub(crate) body: Vec<u8>,
}

impl RawEntry {
    /// Metadata with a publish time, and nothing else.
    pub(crate) fn new(sequence_id: u64, publish_time_ms: u64, body: impl Into<Vec<u8>>) -> Self {
        let metadata = Fields::default().bytes(1, "raw").int(2, sequence_id);
        Self { metadata: metadata.int(3, publish_time_ms), body: body.into() }
    }

    /// Changes the metadata.
    pub(crate) fn with(mut self, change: impl FnOnce(Fields) -> Fields) -> Self {
        self.metadata = change(self.metadata);
        self
    }
}

impl Raw {
    /// Connects to `pulsar://host:port`.
    pub(crate) fn connect(url: &str) -> Self {
        let address = url.strip_prefix("pulsar://").expect("a plain URL");
        let stream = TcpStream::connect(address).expect("the broker");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        let mut raw = Self { stream };
        raw.send(2, Fields::default().bytes(1, "raw").int(4, 19), &[]);
        raw.expect(3);
        raw
    }

    /// Stores entries on a topic, each with its own frame; returns their places.
    pub(crate) fn produce(&mut self, topic: &str, entries: &[RawEntry]) -> Vec<(u64, u64)> {
        let producer = Fields::default().bytes(1, topic).int(2, 1).int(3, 1);
        self.send(5, producer, &[]);
        self.expect(17);
        let mut places = Vec::new();
        for (sequence_id, entry) in entries.iter().enumerate() {
            // Magic without a checksum is not sent: the checksum may be left out altogether.
            let mut payload = (entry.metadata.0.len() as u32).to_be_bytes().to_vec();
            payload.extend_from_slice(&entry.metadata.0);
            payload.extend_from_slice(&entry.body);
            self.send(6, Fields::default().int(1, 1).int(2, sequence_id as u64), &payload);
            let receipt = self.expect(7);
            let id = field(&receipt, 3).expect("a message id").1;
            places.push((field(&id, 1).expect("ledger").0, field(&id, 2).expect("entry").0));
        }
        self.send(15, Fields::default().int(1, 1).int(2, 2), &[]);
        self.expect(13);
        places
    }

    /// Subscribes (Failover), takes the first entry and acknowledges some messages of it.
    ///
    /// `left` has a bit for each message of the batch that stays unacknowledged.
    pub(crate) fn acknowledge_in_batch(&mut self, topic: &str, subscription: &str, left: u64) {
        const EARLIEST: u64 = 1;
        let subscribe = Fields::default().bytes(1, topic).bytes(2, subscription).int(3, 2);
        self.send(4, subscribe.int(4, 1).int(5, 1).int(13, EARLIEST), &[]);
        self.expect(13);
        self.send(11, Fields::default().int(1, 1).int(2, 100), &[]);
        let message = self.expect(9);
        let id = field(&message, 2).expect("a message id").1;
        let place = |tag| field(&id, tag).expect("ledger and entry").0;
        let id = Fields::default().int(1, place(1)).int(2, place(2)).int(5, left);
        self.send(10, Fields::default().int(1, 1).int(2, 0).message(3, id).int(8, 2), &[]);
        let answer = self.expect(38);
        assert!(field(&answer, 4).is_none(), "the broker refused the acknowledgement");
        self.send(16, Fields::default().int(1, 1).int(2, 3), &[]);
        self.expect(13);
    }

    fn send(&mut self, number: u64, command: Fields, payload: &[u8]) {
        let command = Fields::default().int(1, number).message(number, command).0;
        let mut frame = ((4 + command.len() + payload.len()) as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(&(command.len() as u32).to_be_bytes());
        frame.extend_from_slice(&command);
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).expect("the broker reads");
    }

    /// Waits for a command of this number and returns it.
    fn expect(&mut self, number: u64) -> Vec<u8> {
        loop {
            let mut size = [0; 4];
            self.stream.read_exact(&mut size).expect("the broker answers");
            let mut frame = vec![0; u32::from_be_bytes(size) as usize];
            self.stream.read_exact(&mut frame).expect("the broker answers");
            let size = u32::from_be_bytes(frame[..4].try_into().expect("four bytes")) as usize;
            let command = &frame[4..4 + size];
            let found = field(command, 1).expect("a command type").0;
            if found == number {
                return field(command, number).expect("the command itself").1;
            }
            assert!(!matches!(found, 8 | 14), "the broker refuses: {command:?}");
        }
    }
}

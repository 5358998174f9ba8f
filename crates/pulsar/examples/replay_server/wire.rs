//! As much of protobuf as the commands need: numbers, texts and bytes.

use std::collections::BTreeMap;

/// A field of a message; one of the two is of no meaning.
#[derive(Default)]
pub(crate) struct Field {
    pub(crate) number: u64,
    pub(crate) bytes: Vec<u8>,
}

/// The fields of a message by tag; of several of one tag the last.
pub(crate) type Fields = BTreeMap<u64, Field>;

/// Reads a message that is well formed.
pub(crate) fn read(mut message: &[u8]) -> Fields {
    let mut fields = Fields::new();
    while !message.is_empty() {
        let head = varint(&mut message);
        let mut field = Field::default();
        match head & 7 {
            0 => field.number = varint(&mut message),
            2 => {
                let length = varint(&mut message) as usize;
                field.bytes = message[..length].to_vec();
                message = &message[length..];
            }
            other => panic!("wire type {other} is not of this protocol"),
        }
        fields.insert(head >> 3, field);
    }
    fields
}

/// Returns a number, 0 where it is absent.
pub(crate) fn number(fields: &Fields, tag: u64) -> u64 {
    fields.get(&tag).map_or(0, |field| field.number)
}

/// Returns a text, empty where it is absent.
pub(crate) fn text(fields: &Fields, tag: u64) -> String {
    let bytes = fields.get(&tag).map(|field| field.bytes.as_slice()).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for at in 0.. {
        let byte = bytes[at];
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            *bytes = &bytes[at + 1..];
            break;
        }
    }
    value
}

/// A command that is put together.
pub(crate) struct Answer {
    kind: u64,
    message: Vec<u8>,
}

impl Answer {
    /// Begins the command of a number.
    pub(crate) fn new(kind: u64) -> Answer {
        Answer { kind, message: Vec::new() }
    }

    /// Returns the position of an entry.
    pub(crate) fn id(ledger: u64, entry: u64) -> Vec<u8> {
        Answer::new(0).number(1, ledger).number(2, entry).message
    }

    pub(crate) fn number(mut self, tag: u64, value: u64) -> Answer {
        put_varint(&mut self.message, tag << 3);
        put_varint(&mut self.message, value);
        self
    }

    pub(crate) fn text(self, tag: u64, value: &str) -> Answer {
        self.bytes(tag, value.as_bytes())
    }

    pub(crate) fn bytes(mut self, tag: u64, value: &[u8]) -> Answer {
        put_bytes(&mut self.message, tag, value);
        self
    }

    /// Returns sizes and command, behind which so many bytes of payload are to stand.
    pub(crate) fn frame(self, payload_bytes: usize) -> Vec<u8> {
        let mut command = Answer::new(0).number(1, self.kind).message;
        put_bytes(&mut command, self.kind, &self.message);
        let size = |bytes: usize| u32::try_from(bytes).expect("frames are small").to_be_bytes();
        let mut frame = Vec::with_capacity(8 + command.len());
        frame.extend_from_slice(&size(4 + command.len() + payload_bytes));
        frame.extend_from_slice(&size(command.len()));
        frame.extend_from_slice(&command);
        frame
    }
}

fn put_bytes(out: &mut Vec<u8>, tag: u64, value: &[u8]) {
    put_varint(out, tag << 3 | 2);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

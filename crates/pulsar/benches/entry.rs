//! What opening an entry and telling its messages apart costs, by how it is compressed.
//!
//! `cargo bench -p tidemill-pulsar`. An entry has 1,000 messages that resemble those of sensors;
//! it is laid out as Pulsar's protocol says: checksum, metadata, batch.

use bytes::{BufMut, Bytes, BytesMut};
use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
use lz4::block::{CompressionMode, compress};
use tidemill_pulsar::{Entry, EntryLimits, Position};

const MESSAGES: usize = 1_000;
const LZ4: u8 = 1;

fn main() {
    divan::main();
}

#[divan::bench(args = ["plain", "LZ4"])]
fn open(bencher: Bencher<'_, '_>, compression: &str) {
    let batch = batch();
    let payload = payload(&batch, compression == "LZ4");
    let limits = EntryLimits::default();
    let position = Position { ledger_id: 1, entry_id: 1 };
    let opened = Entry::open(position, payload.clone(), &limits);
    assert_eq!(opened.messages().filter(Result::is_ok).count(), MESSAGES);
    bencher.counter(ItemsCount::new(MESSAGES)).counter(BytesCount::new(batch.len())).bench_local(
        || {
            let entry = Entry::open(position, payload.clone(), &limits);
            entry.messages().filter(Result::is_ok).count()
        },
    );
}

/// Returns what stands behind the command of a frame.
fn payload(batch: &[u8], is_compressed: bool) -> Bytes {
    let mut metadata = Vec::new();
    // Producer, sequence number, publish time: what every entry has.
    metadata.extend_from_slice(b"\x0a\x01p\x10\x01\x18\x01");
    if is_compressed {
        metadata.extend_from_slice(&[8 << 3, LZ4]);
    }
    put_field(&mut metadata, 9, batch.len());
    put_field(&mut metadata, 11, MESSAGES);
    let mut rest = BytesMut::new();
    rest.put_u32(metadata.len() as u32);
    rest.put_slice(&metadata);
    if is_compressed {
        let mode = Some(CompressionMode::DEFAULT);
        rest.put_slice(&compress(batch, mode, false).expect("there is room"));
    } else {
        rest.put_slice(batch);
    }
    let mut payload = BytesMut::new();
    payload.put_u16(0x0e01);
    payload.put_u32(crc32c::crc32c(&rest));
    payload.unsplit(rest);
    payload.freeze()
}

fn batch() -> Bytes {
    let mut batch = BytesMut::new();
    for number in 0..MESSAGES {
        let message = message(number);
        let mut metadata = Vec::new();
        put_field(&mut metadata, 3, message.len());
        batch.put_u32(metadata.len() as u32);
        batch.put_slice(&metadata);
        batch.put_slice(message.as_bytes());
    }
    batch.freeze()
}

/// Returns about 500 bytes.
fn message(number: usize) -> String {
    let mut text = format!("{{\"device_id\":\"sensor_{:05}\"", number * 7_919 % 10_000);
    let mut random = number as u64;
    for field in 0..24 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(field);
        text += &format!(",\"reading_{field}\":{:.2}", (random >> 40) as f64 / 100_000.0);
    }
    text + "}"
}

/// Writes a number as a field of Protocol Buffers.
fn put_field(out: &mut Vec<u8>, field: u8, mut value: usize) {
    out.push(field << 3);
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

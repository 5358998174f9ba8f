//! Frames and entries: round trips, damage, limits, and random mutations of valid bytes.

mod fake_broker;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;

use crate::batch::{AckSet, encode_batch};
use crate::codec;
use crate::entry::{Entry, EntryLimits, Position, RejectReason};
use crate::frame::{FrameDecoder, FrameError, encode_command, encode_head, encode_payload};
use crate::proto::{self, Command};
use crate::{Compression, OutgoingMessage};

const AT: Position = Position { ledger_id: 7, entry_id: 3 };
const HEADROOM: usize = 6;

fn open(payload: Bytes) -> Entry {
    Entry::open(AT, payload, &EntryLimits::default())
}

fn messages(count: usize) -> Vec<OutgoingMessage> {
    (0..count)
        .map(|n| OutgoingMessage {
            key: (n % 3 != 0).then(|| format!("sensor_{n}").into()),
            payload: format!(r#"{{"temperature":{n}.5,"device_id":"sensor_{n}"}}"#).into(),
            event_time_ms: (n % 2 == 0).then_some(1_700_000_000_000 + n as u64),
        })
        .collect()
}

fn metadata(raw: &Bytes, count: usize, compression: Compression) -> proto::MessageMetadata {
    proto::MessageMetadata {
        producer_name: Bytes::from_static(b"p"),
        sequence_id: 1,
        publish_time: 1_700_000_000_500,
        compression: compression.code(),
        uncompressed_size: Some(raw.len() as u32),
        num_messages_in_batch: Some(count as i32),
        ..proto::MessageMetadata::default()
    }
}

fn batch(count: usize, compression: Compression) -> Bytes {
    let raw = encode_batch(&messages(count));
    let metadata = metadata(&raw, count, compression);
    encode_payload(&metadata, &compression.compress(raw))
}

fn batch_with(change: impl FnOnce(&mut proto::MessageMetadata)) -> Bytes {
    let raw = encode_batch(&messages(10));
    let mut metadata = metadata(&raw, 10, Compression::Lz4);
    change(&mut metadata);
    encode_payload(&metadata, &Compression::Lz4.compress(raw))
}

fn reason(entry: &Entry) -> RejectReason {
    assert_eq!(entry.messages().count(), entry.message_count as usize);
    assert!(entry.messages().all(|message| message.is_err()));
    entry.rejected().expect("rejected").reason
}

fn frame(command: Command, payload: &Bytes) -> BytesMut {
    let mut bytes = BytesMut::from(&encode_head(command, payload.len())[..]);
    bytes.put_slice(payload);
    bytes
}

fn message_command() -> Command {
    Command::Message(proto::CommandMessage {
        consumer_id: 5,
        message_id: Some(proto::MessageIdData {
            ledger_id: 7,
            entry_id: 3,
            partition: Some(2),
            ..proto::MessageIdData::default()
        }),
        redelivery_count: None,
        ack_set: vec![-1, 3],
    })
}

#[test]
fn batch_is_split_into_what_was_sent_under_each_codec() {
    for compression in [
        Compression::None,
        Compression::Lz4,
        Compression::Zstd,
        Compression::Zlib,
        Compression::Snappy,
    ] {
        let sent = messages(250);
        let entry = open(batch(250, compression));
        assert_eq!((entry.message_count, entry.permits), (250, 250));
        assert_eq!(entry.publish_time_ms, 1_700_000_000_500);
        assert_eq!(entry.messages().len(), 250);
        for (index, (got, sent)) in entry.messages().zip(&sent).enumerate() {
            let got = got.unwrap();
            assert_eq!(got.batch_index as usize, index);
            assert_eq!(got.payload, &sent.payload[..]);
            assert_eq!(got.key, sent.key.as_deref());
            assert_eq!(got.event_time_ms, sent.event_time_ms);
            assert!(!got.acked && !got.null_payload && !got.compacted_out);
        }
    }
}

#[test]
fn broker_entry_metadata_and_a_missing_checksum_are_read() {
    let plain = batch(4, Compression::Lz4);
    // Behind magic and checksum the same payload is valid without them.
    let without_checksum = plain.slice(HEADROOM..);
    let mut with_broker_entry = BytesMut::new();
    let broker = proto::BrokerEntryMetadata { broker_timestamp: Some(99) };
    with_broker_entry.put_u16(0x0e02);
    with_broker_entry.put_u32(broker.encoded_len() as u32);
    broker.encode(&mut with_broker_entry).unwrap();
    with_broker_entry.put_slice(&plain);
    let entry = open(without_checksum);
    assert!(entry.rejected().is_none());
    assert_eq!((entry.broker_timestamp_ms, entry.message_time_ms()), (None, 1_700_000_000_500));
    let entry = open(with_broker_entry.freeze());
    assert!(entry.rejected().is_none());
    assert_eq!((entry.broker_timestamp_ms, entry.message_time_ms()), (Some(99), 99));
    assert_eq!(entry.messages().filter(Result::is_ok).count(), 4);
}

#[test]
fn every_single_flipped_byte_behind_the_checksum_is_noticed() {
    let plain = batch(3, Compression::None);
    for at in HEADROOM..plain.len() {
        let mut damaged = BytesMut::from(&plain[..]);
        damaged[at] ^= 0x10;
        assert_eq!(reason(&open(damaged.freeze())), RejectReason::ChecksumMismatch, "byte {at}");
    }
}

#[test]
fn rejected_entry_keeps_its_count_and_bounded_bytes() {
    let cases = [
        (batch_with(|m| m.compression = Some(5)), RejectReason::UnsupportedCodec(5)),
        (batch_with(|m| m.compression = Some(-1)), RejectReason::UnsupportedCodec(-1)),
        (batch_with(|m| m.compression = Some(codec::SNAPPY)), RejectReason::MalformedCompression),
        (batch_with(|m| m.compression = Some(codec::ZLIB)), RejectReason::MalformedCompression),
        (batch_with(|m| m.compression = Some(codec::ZSTD)), RejectReason::MalformedCompression),
        (batch_with(|m| m.encryption_keys.push(Default::default())), RejectReason::Encrypted),
        (
            batch_with(|m| m.uncompressed_size = Some(1 << 30)),
            RejectReason::TooLarge { bytes: 1 << 30 },
        ),
        (batch_with(|m| m.uncompressed_size = Some(500)), RejectReason::MalformedCompression),
    ];
    for (payload, expected) in cases {
        let limits = EntryLimits { rejected_bytes_max: 16, ..EntryLimits::default() };
        let entry = Entry::open(AT, payload, &limits);
        assert_eq!(reason(&entry), expected);
        assert_eq!((entry.message_count, entry.permits), (10, 10));
        assert_eq!(entry.body_bytes(), 16);
    }
    let unsupported = open(batch_with(|m| m.compression = Some(9)));
    assert_eq!(reason(&unsupported).to_string(), "unsupported compression codec 9");
}

#[test]
fn piece_of_a_chunked_message_counts_as_one() {
    let entry = open(batch_with(|m| {
        m.num_messages_in_batch = None;
        m.num_chunks_from_msg = Some(3);
        m.chunk_id = Some(0);
    }));
    assert_eq!(reason(&entry), RejectReason::Chunked);
    assert_eq!(entry.message_count, 1);
}

#[test]
fn forged_count_yields_one_bad_message_but_costs_its_permits() {
    for claimed in [i32::MAX, 2_000_000, 1000] {
        let entry = open(batch_with(|m| m.num_messages_in_batch = Some(claimed)));
        assert_eq!(reason(&entry), RejectReason::MalformedBatch);
        assert_eq!((entry.message_count, entry.permits), (1, claimed as u32));
    }
    let negative = open(batch_with(|m| m.num_messages_in_batch = Some(-5)));
    assert_eq!((negative.message_count, negative.permits), (1, 1));
}

#[test]
fn batch_that_breaks_off_yields_its_good_messages_and_the_full_count() {
    let raw = encode_batch(&messages(10));
    let metadata = metadata(&raw, 12, Compression::None);
    let entry = open(encode_payload(&metadata, &raw));
    assert_eq!(entry.messages().filter(Result::is_ok).count(), 10);
    let bad: Vec<_> = entry.messages().filter_map(Result::err).collect();
    assert_eq!(bad.iter().map(|bad| bad.batch_index).collect::<Vec<_>>(), [10, 11]);
    assert!(bad.iter().all(|bad| bad.reason == RejectReason::MalformedBatch));
    let cut = raw.slice(..raw.len() / 2);
    let entry = open(encode_payload(&metadata, &cut));
    let good = entry.messages().take_while(Result::is_ok).count();
    assert!((4..=5).contains(&good));
    assert_eq!(entry.messages().count(), 12);
    assert_eq!(entry.messages().filter(Result::is_ok).count(), good);
}

#[test]
fn ack_set_marks_what_was_acknowledged() {
    // As the research on the real broker saw it: 1111110000, lowest bit first: 0 to 3 are acked.
    let set = AckSet::from_words(vec![0b11_1111_0000]).unwrap();
    assert_eq!((0..10).filter(|&at| set.is_acked(at)).count(), 4);
    assert!(set.is_acked(3) && !set.is_acked(4) && set.is_acked(10) && set.is_acked(70));
    assert_eq!((set.unacked_count(10), set.unacked_count(5), set.unacked_count(4)), (6, 1, 0));
    let full = AckSet::from_words(vec![-1, -1]).unwrap();
    assert_eq!((full.unacked_count(63), full.unacked_count(64)), (63, 64));
    assert_eq!((full.unacked_count(127), full.unacked_count(500)), (127, 128));
    assert!(AckSet::from_words(Vec::new()).is_none());
    let payload = batch(10, Compression::Lz4);
    let entry = Entry::open_with(AT, 0, 0, Some(set), payload, &EntryLimits::default());
    assert_eq!((entry.message_count, entry.permits), (10, 6));
    let acked: Vec<bool> = entry.messages().map(|message| message.unwrap().acked).collect();
    assert_eq!(acked.iter().filter(|&&acked| acked).count(), 4);
    assert!(acked[..4].iter().all(|&acked| acked));
}

#[test]
fn stream_cut_anywhere_gives_the_same_frames() {
    let payload = batch(5, Compression::Lz4);
    let mut stream = BytesMut::new();
    stream.put_slice(&encode_command(Command::Ping(proto::CommandPing {})));
    stream.put_slice(&frame(message_command(), &payload));
    stream.put_slice(&encode_command(Command::Success(proto::CommandSuccess { request_id: 9 })));
    for cut in 0..stream.len() {
        let mut decoder = FrameDecoder::new(1 << 20);
        let mut frames = Vec::new();
        for part in [&stream[..cut], &stream[cut..]] {
            decoder.buffer_mut().put_slice(part);
            while let Some(frame) = decoder.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        assert_eq!(frames.len(), 3, "cut at {cut}");
        assert_eq!(frames[1].command, Some(message_command()));
        assert_eq!(frames[1].payload(), &payload);
        assert!(frames[0].payload().is_empty() && frames[2].payload().is_empty());
    }
}

#[test]
fn impossible_sizes_end_the_stream_without_being_allocated() {
    let next = |bytes: &[u8]| {
        let mut decoder = FrameDecoder::new(1 << 20);
        decoder.buffer_mut().put_slice(bytes);
        let result = decoder.next_frame();
        assert!(decoder.buffer_mut().capacity() < 4 << 20);
        result
    };
    let huge = next(&[0xff, 0xff, 0xff, 0xff, 0, 0]).unwrap_err();
    assert!(matches!(huge, FrameError::TooLarge { .. }), "{huge}");
    assert!(next(&[0, 16, 0, 0, 0, 0]).unwrap().is_none(), "a large frame is awaited");
    for bytes in [&[0u8, 0, 0, 0][..], &[0, 0, 0, 2, 0, 0], &[0, 0, 0, 5, 0, 0, 0, 9, 8]] {
        let error = next(bytes).unwrap_err();
        assert!(matches!(error, FrameError::CommandSize { .. }), "{error}");
    }
    let error = next(&[0, 0, 0, 6, 0, 0, 0, 2, 0xff, 0xff]).unwrap_err();
    assert!(matches!(error, FrameError::Command(_)), "{error}");
}

#[test]
fn command_that_is_not_known_is_passed_over() {
    // Type 60 with a field 60 that holds three bytes.
    let command = [8u8, 60, 0xe2, 3, 3, 1, 2, 3];
    let mut decoder = FrameDecoder::new(1 << 20);
    decoder.buffer_mut().put_u32(4 + command.len() as u32);
    decoder.buffer_mut().put_u32(command.len() as u32);
    decoder.buffer_mut().put_slice(&command);
    assert_eq!(decoder.next_frame().unwrap().unwrap().command, None);
}

/// A small generator (xorshift), so that each run mutates alike.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..1 + self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            match self.below(5) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                2 => bytes.truncate(at),
                3 => bytes.insert(at, self.below(256) as u8),
                _ => {
                    bytes.remove(at);
                }
            }
        }
    }
}

#[test]
fn mutated_frames_and_entries_never_panic_and_keep_their_count() {
    const ROUNDS: usize = 250_000;
    let mut random = Random(0x7469_6465_6d69_6c6c);
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let payload = batch(6, compression);
        seeds.push(frame(message_command(), &payload).to_vec());
        // Without a checksum, so that mutations get beyond it.
        seeds.push(frame(message_command(), &payload.slice(HEADROOM..)).to_vec());
    }
    let (mut opened, mut rejected) = (0u32, 0u32);
    for round in 0..ROUNDS {
        let mut bytes = seeds[round % seeds.len()].clone();
        // Now and then the stream itself, more often only what stands behind the command.
        let from = if random.below(4) == 0 { 0 } else { bytes.len().min(40) };
        let mut tail = bytes.split_off(from);
        random.mutate(&mut tail);
        bytes.extend(tail);
        if from > 0 {
            let size = bytes.len() as u32 - 4;
            bytes[..4].copy_from_slice(&size.to_be_bytes());
        }
        let mut decoder = FrameDecoder::new(1 << 20);
        decoder.buffer_mut().put_slice(&bytes);
        while let Ok(Some(frame)) = decoder.next_frame() {
            let limits = EntryLimits { entry_bytes_max: 1 << 20, rejected_bytes_max: 100 };
            let entry = Entry::open(AT, frame.payload().clone(), &limits);
            assert_eq!(entry.messages().count(), entry.message_count as usize);
            assert!(entry.message_count >= 1);
            match entry.rejected() {
                Some(_) => rejected += 1,
                None => opened += 1,
            }
        }
    }
    assert!(opened > 10_000 && rejected > 10_000, "{opened} opened, {rejected} rejected");
}

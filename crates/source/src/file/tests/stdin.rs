//! Streams that come once: identity, skipping, arrival.

use std::{
    io::{Cursor, Read},
    time::{Duration, Instant},
};

use tidemill_engine::port::{Source as _, SourceEvent};
use tidemill_kernel::event::Position;

use super::of;
use crate::file::stdin::{StdinConfig, open_stream};

const CONFIG: StdinConfig = StdinConfig { line_bytes_max: 1000, queue_bytes_max: 1 << 20 };

/// Gives a byte at a time, as a slow pipe does.
struct Slow(Cursor<Vec<u8>>);

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let end = buffer.len().min(1);
        self.0.read(&mut buffer[..end])
    }
}

/// Reads a stream from `from` to its end or failure; returns positions and payloads.
fn read(bytes: &[u8], from: Option<Position>) -> Result<Vec<(Position, String)>, String> {
    let mut source = open_stream(Box::new(Slow(Cursor::new(bytes.to_vec()))), CONFIG);
    let control = source.control();
    let mut lines = Vec::new();
    loop {
        match source.next(Duration::from_secs(5)).expect("reads") {
            Some(SourceEvent::Partitions(_)) => {}
            Some(SourceEvent::Assigned(partition)) => control.read_from(&partition, from, false),
            Some(SourceEvent::Entry(partition, entry)) => {
                assert_eq!(&*partition, "stdin");
                lines.extend(of(&partition, &entry).into_iter().map(|line| (line.1, line.2)));
                control.credit(&partition, entry.credit);
            }
            Some(SourceEvent::End(_)) => {}
            Some(SourceEvent::Exhausted) => return Ok(lines),
            Some(SourceEvent::Failed(_, text)) => return Err(text),
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[test]
fn same_stream_fed_again_goes_on_where_the_record_is() {
    let text = b"{\"a\":1}\n\n{\"a\":2}\n{\"a\":3}";
    let lines = read(text, None).expect("reads");
    let payloads: Vec<_> = lines.iter().map(|line| line.1.as_str()).collect();
    assert_eq!(payloads, ["{\"a\":1}", "", "{\"a\":2}", "{\"a\":3}"]);
    for at in 0..lines.len() {
        assert_eq!(read(text, Some(lines[at].0)).expect("reads"), lines[at..]);
    }
    // Packed or not, it is the same stream.
    let packed = zstd::encode_all(&text[..], 1).expect("into memory");
    assert_eq!(read(&packed, Some(lines[2].0)).expect("reads"), lines[2..]);
}

#[test]
fn identity_of_a_stream_never_changes() {
    let lines = read(b"{\"a\":1}\n{\"a\":2}\n", None).expect("reads");
    // FNV-1a, 32 bits, of {"a":1}; it is in commit records.
    assert_eq!(lines[1].0, Position::new(2_342_405_393, 8, 0));
}

#[test]
fn another_stream_is_refused_and_never_mixed_in() {
    let lines = read(b"{\"a\":1}\n{\"a\":2}\n", None).expect("reads");
    let from = Some(lines[1].0);
    let failure = read(b"{\"b\":1}\n{\"a\":2}\n", from).expect_err("another first line");
    assert!(failure.contains("the commit record is of another stream"), "{failure}");
    let failure = read(b"{\"a\":1}\n", Some(Position { offset: 16, ..lines[1].0 }));
    let failure = failure.expect_err("too short");
    assert!(failure.contains("has 8 bytes, but the commit record says that 16"), "{failure}");
    let failure = read(b"{\"a\":1}\n{\"a\":22}\n", Some(Position { offset: 16, ..lines[1].0 }));
    let failure = failure.expect_err("no line begins there");
    assert!(failure.contains("no line begins at byte 16"), "{failure}");
    let failure = read(b"", from).expect_err("nothing comes");
    assert!(failure.contains("another stream"), "{failure}");
}

#[test]
fn publish_time_is_the_arrival() {
    let unix_ms = || {
        let since = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
        i64::try_from(since.as_millis()).expect("not that late")
    };
    let before_ms = unix_ms();
    let mut source = open_stream(Box::new(Cursor::new(b"one\ntwo\n".to_vec())), CONFIG);
    source.next(Duration::from_secs(1)).expect("the partitions");
    source.next(Duration::from_secs(1)).expect("assigned");
    source.control().read_from("stdin", None, false);
    let Some(SourceEvent::Entry(_, entry)) = source.next(Duration::from_secs(5)).expect("reads")
    else {
        panic!("no entry");
    };
    let arrived = before_ms..=unix_ms();
    assert!(!entry.messages.is_empty());
    assert!(entry.messages.iter().all(|message| arrived.contains(&message.publish_time_ms)));
}

#[test]
fn stream_of_nothing_ends_and_a_damaged_one_fails() {
    assert_eq!(read(b"", None), Ok(Vec::new()));
    let packed = zstd::encode_all(&b"one\ntwo\n"[..], 1).expect("into memory");
    let failure = read(&packed[..packed.len() - 1], None).expect_err("cut off");
    assert!(failure.contains("stdin: the zstd archive is cut off"), "{failure}");
}

#[test]
fn pieces_are_taken_as_they_come_and_not_after_a_pause() {
    const LINES: usize = 8_000;
    let began = Instant::now();
    let lines = read("x\n".repeat(LINES).as_bytes(), None).expect("reads");
    assert_eq!(lines.len(), LINES);
    // With a pause of 5 ms for each four pieces of a byte it would be 20 s.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

//! Writes a minute of messages again and again to standard output, each time a minute later, for
//! `bench/catch_up.py`: an hour of messages from a file of one minute, for little processor time.
//!
//! `retime FILE ROUNDS` expects lines of `tidemill generate` whose times are RFC 3339 and, with
//! those of all rounds, of one day.

use std::io::{ErrorKind, Write};

/// What stands before the event time in a message.
const FIELD: &[u8] = b"\"time\":\"";
/// Where hour and minute begin in `2026-01-01T00:00:00.000Z`.
const HOUR_AT: usize = 11;
const MINUTE_AT: usize = 14;
/// Bytes that are given to the system at once.
const WRITE_BYTES: usize = 1 << 20;

/// The time of a message.
struct Place {
    /// Where it begins in the file.
    at: usize,
    /// Its minute of the day.
    minute: u32,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [file, rounds] = words.as_slice() else {
        panic!("usage: retime FILE ROUNDS");
    };
    let mut content = std::fs::read(file).expect("the file can be read");
    let places = places(&content);
    let mut out = std::io::stdout().lock();
    for round in 0..rounds.parse().expect("a number of rounds") {
        for place in &places {
            let minute = place.minute + round;
            put(&mut content, place.at + HOUR_AT, minute / 60);
            put(&mut content, place.at + MINUTE_AT, minute % 60);
        }
        for piece in content.chunks(WRITE_BYTES) {
            match out.write_all(piece) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return,
                other => other.expect("somebody reads it"),
            }
        }
    }
}

/// Finds the time of each line.
fn places(content: &[u8]) -> Vec<Place> {
    let mut places = Vec::new();
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', content) {
        let line = &content[start..end];
        let field = line.windows(FIELD.len()).position(|window| window == FIELD);
        let at = start + field.expect("each message has a time") + FIELD.len();
        let minute = 60 * two(content, at + HOUR_AT) + two(content, at + MINUTE_AT);
        places.push(Place { at, minute });
        start = end + 1;
    }
    places
}

/// Reads two digits.
fn two(content: &[u8], at: usize) -> u32 {
    u32::from(content[at] - b'0') * 10 + u32::from(content[at + 1] - b'0')
}

/// Writes two digits.
fn put(content: &mut [u8], at: usize, value: u32) {
    assert!(value < 60, "hours and minutes are below 60");
    content[at] = b'0' + (value / 10) as u8;
    content[at + 1] = b'0' + (value % 10) as u8;
}

//! Bytes from a broker: frames, entries and their messages, however the stream is cut.
//!
//! The first byte says in what pieces the rest arrives. Every frame's payload, and the whole rest,
//! is opened as an entry: it always counts for at least one message and yields as many as it says.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidemill_pulsar::{
    Entry, EntryLimits, Position,
    frame::{FrameDecoder, FrameError},
};

const LIMITS: EntryLimits = EntryLimits { entry_bytes_max: 1 << 20, rejected_bytes_max: 256 };

fuzz_target!(|data: &[u8]| {
    let Some((first, stream)) = data.split_first() else { return };
    let piece_bytes = 1 + usize::from(*first);
    let (frames, error) = cut(stream, piece_bytes);
    let (whole_frames, whole_error) = cut(stream, stream.len().max(1));
    assert_eq!((&frames, &error), (&whole_frames, &whole_error), "pieces change nothing");
    frames.iter().for_each(|payload| open(payload.clone()));
    open(Bytes::copy_from_slice(stream));
});

fn cut(stream: &[u8], piece_bytes: usize) -> (Vec<Bytes>, Option<FrameError>) {
    let mut decoder = FrameDecoder::new(1 << 16);
    let mut payloads = Vec::new();
    for piece in stream.chunks(piece_bytes) {
        decoder.buffer_mut().extend_from_slice(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => payloads.push(frame.payload().clone()),
                Ok(None) => break,
                Err(error) => return (payloads, Some(error)),
            }
        }
    }
    (payloads, None)
}

fn open(payload: Bytes) {
    let entry = Entry::open(Position { ledger_id: 3, entry_id: 9 }, payload, &LIMITS);
    assert!(entry.message_count >= 1 && entry.body_bytes() <= LIMITS.entry_bytes_max);
    let body = entry.body();
    assert_eq!(body.len(), entry.body_bytes());
    let mut index = 0;
    for message in entry.messages() {
        let batch_index = match &message {
            Ok(message) => {
                let inside = body.as_ptr_range().contains(&message.payload.as_ptr());
                assert!(inside || message.payload.is_empty(), "payloads are slices of the body");
                message.batch_index
            }
            Err(bad) => bad.batch_index,
        };
        assert_eq!(batch_index, index);
        assert!(message.is_err() || entry.rejected().is_none());
        index += 1;
    }
    assert_eq!(index, entry.message_count, "exactly as many as it says");
}

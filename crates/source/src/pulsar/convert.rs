//! The broker's entry as the engine's.

use tidemill_engine::port::{Entry, RawMessage};
use tidemill_kernel::event::{Position, Reason};
use tidemill_pulsar as pulsar;

use super::envelope::Writer;

/// Returns the engine's entry; payloads stay where they are.
///
/// Messages that the broker holds an acknowledgement for are delivered like others: whether they
/// were processed, the lane's record says.
pub(super) fn entry(from: &pulsar::Entry) -> Entry {
    let (segment, offset) = (from.position.ledger_id, from.position.entry_id);
    let buffer = from.body();
    let base = buffer.as_ptr() as usize;
    let publish_time_ms = i64::try_from(from.message_time_ms()).unwrap_or(i64::MAX);
    let mut messages = Vec::with_capacity(from.message_count as usize);
    for message in from.messages() {
        let raw = |index, start, length, reject| RawMessage {
            position: Position::new(segment, offset, index),
            start: start as u32,
            length: length as u32,
            publish_time_ms,
            reject,
        };
        messages.push(match message {
            Ok(message) if message.payload.is_empty() => raw(message.batch_index, 0, 0, None),
            Ok(message) => {
                let start = message.payload.as_ptr() as usize - base;
                raw(message.batch_index, start, message.payload.len(), None)
            }
            // The first letter of an entry that cannot be opened shows its bytes.
            Err(bad) => {
                let length = if bad.batch_index == 0 { buffer.len() } else { 0 };
                raw(bad.batch_index, 0, length, Some(reason(bad.reason)))
            }
        });
    }
    Entry { position: Position::new(segment, offset, 0), buffer, messages, credit: from.permits }
}

/// Returns the engine's entry with envelopes around its payloads, copied into a buffer of at most
/// about `bytes_max`; a message beyond that is too large.
pub(super) fn entry_in_envelopes(from: &pulsar::Entry, writer: &Writer, bytes_max: usize) -> Entry {
    let mut entry = entry(from);
    if from.rejected().is_some() {
        return entry;
    }
    let mut buffer = Vec::with_capacity(entry.buffer.len() * 2);
    for (message, raw) in from.messages().zip(&mut entry.messages) {
        let start = buffer.len();
        match message {
            Ok(message) if start <= bytes_max => {
                let property = |name: &str| message.properties.get(name);
                writer.write(message.payload, message.key, property, &mut buffer);
            }
            Ok(_) => raw.reject = Some(Reason::TooLarge),
            Err(_) => {}
        }
        raw.start = start as u32;
        raw.length = (buffer.len() - start) as u32;
    }
    entry.buffer = buffer.into();
    entry
}

fn reason(reason: pulsar::RejectReason) -> Reason {
    match reason {
        pulsar::RejectReason::ChecksumMismatch => Reason::ChecksumMismatch,
        pulsar::RejectReason::UnsupportedCodec(_) => Reason::UnsupportedCodec,
        pulsar::RejectReason::Chunked => Reason::Chunked,
        pulsar::RejectReason::Encrypted => Reason::Encrypted,
        pulsar::RejectReason::TooLarge { .. } => Reason::TooLarge,
        _ => Reason::CorruptEntry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_that_cannot_be_opened_is_one_rejected_message() {
        let position = pulsar::Position { ledger_id: 3, entry_id: 9 };
        let bytes = bytes::Bytes::from_static(b"\0\0\0\xffgarbage");
        let entry = entry(&pulsar::Entry::open(position, bytes, &pulsar::EntryLimits::default()));
        assert_eq!(entry.position, Position::new(3, 9, 0));
        assert_eq!(entry.messages.len(), 1);
        assert_eq!(entry.messages[0].reject, Some(Reason::CorruptEntry));
        assert!(!entry.payload(&entry.messages[0]).is_empty());
    }
}

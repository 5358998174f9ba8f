//! From the kernel's letter, which names a message, to the dead letter that is stored.

use tidemill_kernel::{effect::Letter, event::EventBlock, key};

use crate::{
    lane::LaneConfig,
    port::{DeadLetter, Entry, RawMessage},
    record::revision,
};

/// Returns the dead letter of a message of `block`, with the first bytes of its payload.
pub(crate) fn dead_letter(
    config: &LaneConfig,
    block: &EventBlock,
    entry: &Entry,
    message: &RawMessage,
    letter: Letter,
) -> DeadLetter {
    let event = block.message(letter.index);
    let readable = event.reject().is_none();
    let payload = entry.payload(message);
    let kept = payload.len().min(config.dead_letter_bytes_max);
    let join = |key: &[u8]| key::parts(key).collect::<Vec<_>>().join("/");
    DeadLetter {
        partition: config.rollup.source_partition.as_str().into(),
        position: letter.position,
        ordinal: letter.ordinal,
        revision: revision(config.rollup.generation, letter.ordinal),
        reason: letter.reason,
        publish_time_ms: message.publish_time_ms,
        event_time_ms: readable.then(|| event.time().as_ms()),
        key: readable.then(|| join(event.key())),
        // A copy: a slice would keep the whole entry in memory.
        payload: bytes::Bytes::copy_from_slice(&payload[..kept]),
        payload_bytes: payload.len() as u64,
    }
}

//! The ways in which a malformed message is broken. None of them parses to an event with one
//! usable key and one readable time, whatever the decoder is lenient about.

use super::config::GenerateConfig;
use super::draws::Draws;
use super::message::{push_attributes, push_key, push_name, push_reading, push_time};
use super::physics::{Profile, Reading};
use super::shapes::Names;

/// What is wrong with a malformed message; all are equally frequent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Defect {
    /// The object ends early: a proper prefix of a normal message, at least its first byte.
    Truncated,
    /// No `device_id`, or null.
    MissingKey,
    /// `device_id` is a boolean, an array or an object.
    KeyOfWrongType,
    /// `device_id` occurs twice with different values.
    DuplicateKey,
    /// No `time`, or null.
    MissingTime,
    /// `time` is in no known format, or not an instant at all.
    UnreadableTime,
    /// No byte at all; whoever writes lines must write the empty line too.
    Empty,
    /// A JSON value that is no object, or plain text.
    NotAnObject,
}

impl Defect {
    /// All defects.
    pub const ALL: [Self; 8] = [
        Self::Truncated,
        Self::MissingKey,
        Self::KeyOfWrongType,
        Self::DuplicateKey,
        Self::MissingTime,
        Self::UnreadableTime,
        Self::Empty,
        Self::NotAnObject,
    ];
}

/// Time, device and values of the message that is to be broken.
pub(super) struct Whole<'a> {
    pub(super) config: &'a GenerateConfig,
    pub(super) event_time_ms: i64,
    pub(super) profile: &'a Profile,
    pub(super) reading: &'a Reading,
}

const WRONG_KEYS: [&[u8]; 4] = [b"true", b"false", b"[\"sensor\"]", b"{\"id\":\"sensor\"}"];
const WRONG_TIMES: [&[u8]; 5] =
    [b"\"yesterday\"", b"\"2026-13-45T99:99:99Z\"", b"\"12:00:00\"", b"false", b"[2026,1,1]"];
const NO_OBJECTS: [&[u8]; 5] =
    [b"42", b"null", b"true", b"[\"device_id\",\"time\"]", b"device_id=sensor time=now"];

/// Appends the message broken in one way.
pub(super) fn push_malformed(
    out: &mut Vec<u8>,
    whole: &Whole<'_>,
    defect: Defect,
    draws: &mut Draws,
) {
    let start = out.len();
    match defect {
        Defect::Empty => return,
        Defect::NotAnObject => {
            out.extend_from_slice(pick(&NO_OBJECTS, draws));
            return;
        }
        _ => out.push(b'{'),
    }
    let key_written = push_key_or_defect(out, whole, defect, draws);
    push_time_or_defect(out, whole, defect, key_written, draws);
    // Their first comma follows a key or a time.
    push_attributes(out, whole.config.shape, whole.profile);
    push_reading(out, whole.config.shape, whole.reading);
    if defect == Defect::Truncated {
        let bytes = (out.len() - start) as u32;
        out.truncate(start + 1 + draws.below(bytes - 1) as usize);
    }
}

/// Appends the key's part of the object; says whether there is one.
fn push_key_or_defect(
    out: &mut Vec<u8>,
    whole: &Whole<'_>,
    defect: Defect,
    draws: &mut Draws,
) -> bool {
    let name = Names::of(whole.config.shape).key;
    match defect {
        Defect::MissingKey if draws.below(2) == 0 => return false,
        Defect::MissingKey => {
            out.extend_from_slice(name);
            out.extend_from_slice(b"null");
        }
        Defect::KeyOfWrongType => {
            out.extend_from_slice(name);
            out.extend_from_slice(pick(&WRONG_KEYS, draws));
        }
        Defect::DuplicateKey => {
            push_key(out, whole.config, whole.profile.device);
            out.push(b',');
            out.extend_from_slice(name);
            out.push(b'"');
            push_name(out, whole.config, whole.profile.device);
            out.extend_from_slice(b"_again\"");
        }
        _ => push_key(out, whole.config, whole.profile.device),
    }
    true
}

/// Appends the time's part of the object, with a comma if a key stands before it.
fn push_time_or_defect(
    out: &mut Vec<u8>,
    whole: &Whole<'_>,
    defect: Defect,
    key_written: bool,
    draws: &mut Draws,
) {
    if defect == Defect::MissingTime && draws.below(2) == 0 {
        return;
    }
    if key_written {
        out.push(b',');
    }
    let name = Names::of(whole.config.shape).time;
    match defect {
        Defect::MissingTime => {
            out.extend_from_slice(name);
            out.extend_from_slice(b"null");
        }
        Defect::UnreadableTime => {
            out.extend_from_slice(name);
            out.extend_from_slice(pick(&WRONG_TIMES, draws));
        }
        _ => push_time(out, whole.config, whole.event_time_ms),
    }
}

fn pick<'a>(choices: &[&'a [u8]], draws: &mut Draws) -> &'a [u8] {
    choices[draws.below(choices.len() as u32) as usize]
}

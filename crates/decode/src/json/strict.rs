//! The judge: one pass over a whole message by RFC 8259, without recursion.
//!
//! It validates everything, unknown fields too, and follows only objects whose names lead to
//! fields of the schema. On the way it notes where the values stand, so that `fast.rs` can guess
//! the next message. It alone decides what is malformed; guesses only ever accept.

use tidemill_kernel::event::Reason;

use super::{
    layout::{Layout, ROOT},
    scan::{Scalar, byte_at, scan_scalar, scan_string, skip_space, unescape},
    value::Values,
};
use crate::limits::DEPTH_BOUND;

/// One value that was not followed into: where the text before it starts and ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) literal_start: usize,
    pub(crate) literal_end: usize,
    /// The entry of its name, if the name is known.
    pub(crate) entry: Option<usize>,
    /// Whether the text before it opens and closes nothing.
    pub(crate) plain: bool,
    /// How many objects are open around it.
    pub(crate) depth: usize,
}

/// Where the values of a message stand.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) marks: Vec<Mark>,
    pub(crate) tail_start: usize,
    /// Whether the marks are the whole truth about the message.
    pub(crate) complete: bool,
}

/// More values than this in one message are not noted.
const MARKS_MAX: usize = 1024;

impl Trace {
    fn clear(&mut self) {
        self.marks.clear();
        self.tail_start = 0;
        self.complete = true;
    }

    #[inline]
    fn note(&mut self, mark: Mark, end: usize) {
        if self.marks.len() == MARKS_MAX {
            self.complete = false;
        } else {
            self.marks.push(mark);
        }
        self.tail_start = end;
    }
}

/// The judge's memory, kept from message to message.
#[derive(Debug)]
pub(crate) struct Judge {
    depth_max: usize,
    /// The node of every open object that is followed; never more than `depth_max`.
    open: Vec<u32>,
    pub(crate) trace: Trace,
    plain: bool,
}

impl Judge {
    /// Returns a judge that allows that many levels.
    pub(crate) fn new(depth_max: usize) -> Judge {
        Judge {
            depth_max: depth_max.min(DEPTH_BOUND),
            open: Vec::with_capacity(8),
            trace: Trace::default(),
            plain: false,
        }
    }

    /// Reads a message into the values.
    pub(crate) fn read(
        &mut self,
        layout: &Layout,
        bytes: &[u8],
        values: &mut Values,
    ) -> Result<(), Reason> {
        self.trace.clear();
        self.plain = false;
        self.open.clear();
        let start = skip_space(bytes, 0);
        match bytes.get(start) {
            None => return Err(Reason::Empty),
            Some(b'{') => self.open.push(ROOT),
            Some(_) => return Err(Reason::Malformed),
        }
        let mut at = start + 1;
        let mut just_opened = true;
        loop {
            at = skip_space(bytes, at);
            if !(just_opened && byte_at(bytes, at) == b'}') {
                let open_before = self.open.len();
                at = self.member(layout, bytes, at, values)?;
                just_opened = self.open.len() > open_before;
                if just_opened {
                    continue;
                }
                at = skip_space(bytes, at);
                if byte_at(bytes, at) == b',' {
                    at += 1;
                    continue;
                }
            }
            at = self.close(bytes, at)?;
            just_opened = false;
            if self.open.is_empty() {
                let end = skip_space(bytes, at);
                return if end == bytes.len() { Ok(()) } else { Err(Reason::Malformed) };
            }
        }
    }

    /// Closes objects from `at` on; ends behind the next comma, or with none open.
    fn close(&mut self, bytes: &[u8], mut at: usize) -> Result<usize, Reason> {
        self.plain = false;
        while byte_at(bytes, at) == b'}' {
            self.open.pop();
            at += 1;
            if self.open.is_empty() {
                return Ok(at);
            }
            at = skip_space(bytes, at);
            if byte_at(bytes, at) == b',' {
                return Ok(at + 1);
            }
        }
        Err(Reason::Malformed)
    }

    /// Reads a name and its value, or the name and the opening brace of an object to follow.
    fn member(
        &mut self,
        layout: &Layout,
        bytes: &[u8],
        at: usize,
        values: &mut Values,
    ) -> Result<usize, Reason> {
        let (name, start) = name_and_colon(bytes, at)?;
        let node = *self.open.last().expect("members stand in open objects");
        let entry = if name.escaped {
            let mark = values.scratch.len();
            unescape(name.raw(bytes), &mut values.scratch);
            let found = layout.find(node, &values.scratch[mark..]);
            values.scratch.truncate(mark);
            found
        } else {
            layout.find(node, name.raw(bytes))
        };
        let known = entry.map(|index| layout.entry(index));
        let depth = self.open.len();
        let (scalar, end) = match byte_at(bytes, start) {
            opening @ (b'{' | b'[') => {
                if opening == b'{'
                    && let Some(child) = known.and_then(|entry| entry.child)
                {
                    if depth >= self.depth_max {
                        return Err(Reason::TooDeep);
                    }
                    self.open.push(child);
                    self.plain = false;
                    (Scalar::Composite, start + 1)
                } else {
                    (Scalar::Composite, skip_composite(bytes, start, depth, self.depth_max)?)
                }
            }
            _ => scan_scalar(bytes, start).ok_or(Reason::Malformed)?,
        };
        let sources = known.map_or(&[][..], |entry| &entry.sources);
        for source in sources {
            values.record(layout, *source, scalar, bytes);
        }
        if self.open.len() > depth {
            // An object that is also a (bad) value leaves no mark of being that.
            self.trace.complete &= sources.is_empty();
            return Ok(end);
        }
        let (literal_start, plain) = (self.trace.tail_start, self.plain);
        let mark = Mark { literal_start, literal_end: start, entry, plain, depth };
        self.trace.note(mark, end);
        self.plain = true;
        Ok(end)
    }
}

/// Reads a name and what separates it from its value; returns it and where the value starts.
fn name_and_colon(bytes: &[u8], at: usize) -> Result<(super::scan::Text, usize), Reason> {
    if byte_at(bytes, at) != b'"' {
        return Err(Reason::Malformed);
    }
    let name = scan_string(bytes, at + 1).ok_or(Reason::Malformed)?;
    let colon = skip_space(bytes, name.end + 1);
    if byte_at(bytes, colon) != b':' {
        return Err(Reason::Malformed);
    }
    Ok((name, skip_space(bytes, colon + 1)))
}

/// Validates the object or array at `at` that stands inside of `depth` others; returns its end.
pub(crate) fn skip_composite(
    bytes: &[u8],
    mut at: usize,
    depth: usize,
    depth_max: usize,
) -> Result<usize, Reason> {
    // One bit per open level: whether it is an object.
    let mut objects = [0_u64; DEPTH_BOUND / 64];
    let mut level = 0;
    loop {
        let opening = byte_at(bytes, at);
        if opening == b'{' || opening == b'[' {
            if depth + level >= depth_max.min(DEPTH_BOUND) {
                return Err(Reason::TooDeep);
            }
            let bit = 1 << (level % 64);
            objects[level / 64] &= !bit;
            if opening == b'{' {
                objects[level / 64] |= bit;
            }
            level += 1;
            at = skip_space(bytes, at + 1);
            // In ASCII each closing bracket stands two behind its opening one.
            if byte_at(bytes, at) == opening + 2 {
                level -= 1;
                at += 1;
            } else {
                if opening == b'{' {
                    at = name_and_colon(bytes, at)?.1;
                }
                continue;
            }
        } else {
            at = scan_scalar(bytes, at).ok_or(Reason::Malformed)?.1;
        }
        loop {
            if level == 0 {
                return Ok(at);
            }
            let in_object = objects[(level - 1) / 64] >> ((level - 1) % 64) & 1 == 1;
            at = skip_space(bytes, at);
            match byte_at(bytes, at) {
                b',' if in_object => {
                    at = name_and_colon(bytes, skip_space(bytes, at + 1))?.1;
                    break;
                }
                b',' => {
                    at = skip_space(bytes, at + 1);
                    break;
                }
                b'}' if in_object => level -= 1,
                b']' if !in_object => level -= 1,
                _ => return Err(Reason::Malformed),
            }
            at += 1;
        }
    }
}

//! Cuts a stream of bytes into lines, each with its offset; bounded whatever comes.
//!
//! What was cut goes on in the buffer that it was read into, and the buffer comes back when the
//! last who uses it is done: then it is read into again while the caches still hold it.

use std::{
    io::{ErrorKind, Read},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

/// Buffers that wait to be used again; more are given back to the system.
const SPARE_BUFFERS_MAX: usize = 8;

/// A line without its line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Offset of its first byte in the stream.
    pub(crate) offset: u64,
    /// Where it starts in the buffer.
    pub(crate) start: u32,
    /// Its length, at most the bound.
    pub(crate) length: u32,
    /// Whether it was longer than the bound.
    pub(crate) is_cut: bool,
}

/// Holds what was read and not yet cut.
pub(crate) struct LineCutter {
    /// Read into up to `filled`; what is behind is of no meaning.
    buffer: Vec<u8>,
    filled: usize,
    spare: Spare,
    /// The stream offset of the buffer's first byte.
    offset: u64,
    line_bytes_max: usize,
    /// A line that is too long: the rest of it is skipped.
    skipping: bool,
}

impl LineCutter {
    pub(crate) fn new(offset: u64, line_bytes_max: usize) -> LineCutter {
        LineCutter {
            buffer: Vec::new(),
            filled: 0,
            spare: Spare::default(),
            offset,
            line_bytes_max,
            skipping: false,
        }
    }

    /// Returns the stream offset behind what was read.
    pub(crate) fn end_offset(&self) -> u64 {
        self.offset + self.filled as u64
    }

    /// Reads at most `count` bytes; returns how many, 0 at the end. What was read before an error
    /// is kept.
    pub(crate) fn fill(&mut self, mut from: impl Read, count: usize) -> std::io::Result<usize> {
        let (begin, end) = (self.filled, self.filled + count);
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        while self.filled < end {
            match from.read(&mut self.buffer[self.filled..end]) {
                Ok(0) => break,
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.filled - begin)
    }

    /// Cuts the whole lines off, at the end of the stream also a last line without an end; tells
    /// each, and returns the bytes in which they stand.
    pub(crate) fn cut(&mut self, at_end: bool, mut tell: impl FnMut(Line)) -> Bytes {
        let read = &self.buffer[..self.filled];
        let mut start = 0;
        let mut line = |start: usize, end: usize| {
            if std::mem::take(&mut self.skipping) {
                return;
            }
            tell(Line {
                offset: self.offset + start as u64,
                start: start as u32,
                length: (end - start).min(self.line_bytes_max) as u32,
                is_cut: end - start > self.line_bytes_max,
            });
        };
        for end in memchr::memchr_iter(b'\n', read) {
            line(start, end);
            start = end + 1;
        }
        let rest = read.len() - start;
        let too_long = rest > self.line_bytes_max;
        if rest > 0 && (at_end || too_long) {
            line(start, read.len());
            self.skipping = !at_end;
            start = read.len();
        }
        // What is left is part of a line: copying it costs less than sharing the buffer.
        let rest = &read[start..];
        let mut next = self.spare.take();
        if next.len() < rest.len() {
            next.resize(rest.len(), 0);
        }
        next[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
        self.offset += start as u64;
        let buffer = std::mem::replace(&mut self.buffer, next);
        Bytes::from_owner(Used { buffer, spare: self.spare.clone() }).slice(..start)
    }
}

/// Buffers that nobody uses.
#[derive(Clone, Default)]
struct Spare(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spare {
    /// Returns the one that came back last, or an empty one.
    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }
}

/// A buffer that comes back when it is dropped.
struct Used {
    buffer: Vec<u8>,
    spare: Spare,
}

impl AsRef<[u8]> for Used {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        let mut spare = self.spare.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_BUFFERS_MAX {
            spare.push(std::mem::take(&mut self.buffer));
        }
    }
}

//! Cuts a stream of bytes into lines, each with its offset; bounded whatever comes.

use std::io::Read;

use bytes::Bytes;

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
    buffer: Vec<u8>,
    /// The stream offset of the buffer's first byte.
    offset: u64,
    line_bytes_max: usize,
    /// A line that is too long: the rest of it is skipped.
    skipping: bool,
}

impl LineCutter {
    pub(crate) fn new(offset: u64, line_bytes_max: usize) -> LineCutter {
        LineCutter { buffer: Vec::new(), offset, line_bytes_max, skipping: false }
    }

    /// Returns the stream offset behind what was read.
    pub(crate) fn end_offset(&self) -> u64 {
        self.offset + self.buffer.len() as u64
    }

    /// Reads at most `count` bytes; returns how many, 0 at the end. What was read before an error
    /// is kept.
    pub(crate) fn fill(&mut self, from: impl Read, count: usize) -> std::io::Result<usize> {
        // Into spare capacity, so that nothing is zeroed first.
        self.buffer.reserve_exact(count);
        from.take(count as u64).read_to_end(&mut self.buffer)
    }

    /// Cuts the whole lines off; at the end of the stream also a last line without an end.
    pub(crate) fn cut(&mut self, at_end: bool) -> (Bytes, Vec<Line>) {
        let mut lines = Vec::new();
        let mut start = 0;
        let ends: Vec<usize> = memchr::memchr_iter(b'\n', &self.buffer).collect();
        for end in ends {
            self.push(&mut lines, start, end);
            start = end + 1;
        }
        let rest = self.buffer.len() - start;
        let too_long = rest > self.line_bytes_max;
        if rest > 0 && (at_end || too_long) {
            self.push(&mut lines, start, self.buffer.len());
            self.skipping = !at_end;
            start = self.buffer.len();
        }
        // What is left is part of a line: copying it costs less than sharing the buffer.
        let rest = self.buffer[start..].to_vec();
        let mut bytes = std::mem::replace(&mut self.buffer, rest);
        bytes.truncate(start);
        self.offset += start as u64;
        (bytes.into(), lines)
    }

    fn push(&mut self, lines: &mut Vec<Line>, start: usize, end: usize) {
        if std::mem::take(&mut self.skipping) {
            return;
        }
        lines.push(Line {
            offset: self.offset + start as u64,
            start: start as u32,
            length: (end - start).min(self.line_bytes_max) as u32,
            is_cut: end - start > self.line_bytes_max,
        });
    }
}

//! Goes to a place of a stream that cannot be sought: reads what stands before and drops it.
//!
//! It makes sure that a line begins there, which tells most streams that are not the ones of the
//! commit record. It does not compare contents.

use std::io::Read;

use super::archive::Unpack;

/// Bytes dropped in one step, so that an orderly end need not wait for a whole archive.
const STEP_BYTES: u64 = 16 << 20;

const REMEDY: &str = "put the old content back, or give the pipeline another name";

/// How far a stream has been skipped.
pub(crate) struct Skip {
    to: u64,
    at: u64,
    last_byte: Option<u8>,
    scratch: Vec<u8>,
}

impl Skip {
    pub(crate) fn to(to: u64) -> Skip {
        Skip { to, at: 0, last_byte: None, scratch: Vec::new() }
    }

    /// Notes that the stream was moved to a place at or before the end of the stretch.
    pub(crate) fn jump(&mut self, at: u64) {
        self.at = at;
    }

    pub(crate) fn is_done(&self) -> bool {
        self.at == self.to
    }

    /// Skips a bit more.
    ///
    /// # Errors
    /// If the stream ends before the place, cannot be read, or no line begins there.
    pub(crate) fn step<R: Read>(&mut self, content: &mut Unpack<R>) -> Result<(), String> {
        let until = self.to.min(self.at + STEP_BYTES);
        self.scratch.resize(1 << 18, 0);
        while self.at < until {
            let count = (until - self.at).min(self.scratch.len() as u64) as usize;
            let read = content.read(&mut self.scratch[..count]);
            let read = read.map_err(|error| content.explain(self.at, &error))?;
            if read == 0 {
                return Err(self.missing());
            }
            self.pass(self.scratch[..read].last().copied(), read as u64);
        }
        self.check()
    }

    /// Skips what is in memory; returns the rest of it.
    pub(crate) fn take<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], String> {
        let count = (self.to - self.at).min(bytes.len() as u64) as usize;
        let (skipped, rest) = bytes.split_at(count);
        self.pass(skipped.last().copied(), count as u64);
        self.check().map(|()| rest)
    }

    /// Says that the stream ended too early.
    pub(crate) fn missing(&self) -> String {
        let (has, read) = (self.at, self.to);
        format!("has {has} bytes, but the commit record says that {read} were read; {REMEDY}")
    }

    fn pass(&mut self, last_byte: Option<u8>, count: u64) {
        self.at += count;
        self.last_byte = last_byte.or(self.last_byte);
    }

    fn check(&mut self) -> Result<(), String> {
        if !self.is_done() || self.to == 0 {
            return Ok(());
        }
        self.scratch = Vec::new();
        match self.last_byte {
            Some(b'\n') => Ok(()),
            _ => Err(format!(
                "no line begins at byte {}, where the commit record goes on: this is another \
                 content than the one that was read; {REMEDY}",
                self.to
            )),
        }
    }
}

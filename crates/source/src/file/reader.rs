//! Reads a list of files as one log.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
    time::UNIX_EPOCH,
};

use tidemill_engine::port::{Entry, RawMessage};
use tidemill_kernel::event::{Position, Reason};

use super::{
    archive::{Format, MAGIC_BYTES, Unpack},
    lines::LineCutter,
    skip::Skip,
};
use crate::pull::{PartitionReader, Pull};

/// Bytes read at once. An entry is made of what one read completes. Half and twice of it take a few
/// percent more processor time.
pub(crate) const READ_BYTES: usize = 128 * 1024;

/// Room for messages is made for lines of this length; more lines make more room.
const USUAL_LINE_BYTES: usize = 256;

/// Some files, one behind the other.
pub(crate) struct FileReader {
    paths: Vec<PathBuf>,
    line_bytes_max: usize,
    /// The place of the next file in the list.
    next: usize,
    current: Option<Current>,
    /// What is wrong behind the last entry.
    failure: Option<String>,
}

struct Current {
    content: Unpack<File>,
    skip: Skip,
    segment: u64,
    publish_time_ms: i64,
    cutter: LineCutter,
}

impl FileReader {
    pub(crate) fn new(paths: Vec<PathBuf>, line_bytes_max: usize) -> FileReader {
        FileReader { paths, line_bytes_max, next: 0, current: None, failure: None }
    }

    fn fail(&self, at: usize, error: impl std::fmt::Display) -> String {
        format!("file {}: {error}", self.paths[at].display())
    }

    fn open_at(&mut self, at: usize, offset: u64) -> Result<(), String> {
        self.current = Some(self.opened(at, offset).map_err(|error| self.fail(at, error))?);
        self.next = at + 1;
        Ok(())
    }

    /// Opens a file so that reading goes on at `offset` of its content.
    fn opened(&self, at: usize, offset: u64) -> Result<Current, String> {
        let text = |error: std::io::Error| error.to_string();
        let mut file = File::open(&self.paths[at]).map_err(text)?;
        let metadata = file.metadata().map_err(text)?;
        let mut magic = Vec::with_capacity(MAGIC_BYTES);
        (&file).take(MAGIC_BYTES as u64).read_to_end(&mut magic).map_err(text)?;
        let format = Format::of(&magic);
        let mut skip = Skip::to(offset);
        let mut start = 0;
        if format == Format::Plain && offset <= metadata.len() {
            // All but the byte before the line: it has to end another line.
            start = offset.saturating_sub(1);
            skip.jump(start);
        }
        file.seek(SeekFrom::Start(start)).map_err(text)?;
        let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let modified_ms = modified.and_then(|since| i64::try_from(since.as_millis()).ok());
        Ok(Current {
            content: Unpack::new(format, file).map_err(text)?,
            skip,
            segment: at as u64,
            publish_time_ms: modified_ms.unwrap_or(0),
            cutter: LineCutter::new(offset, self.line_bytes_max),
        })
    }

    /// Reads on in the current file; `None` if nothing is complete yet.
    fn read(&mut self) -> Result<Option<Entry>, String> {
        let Some(current) = &mut self.current else {
            return Ok(None);
        };
        let at = self.next - 1;
        if !current.skip.is_done() {
            let skipped = current.skip.step(&mut current.content);
            return skipped.map(|()| None).map_err(|error| self.fail(at, error));
        }
        let read = current.cutter.fill(&mut current.content, READ_BYTES);
        if let Err(error) = &read {
            let place = current.cutter.end_offset();
            let text = current.content.explain(place, error);
            self.failure = Some(format!("file {}: {text}", self.paths[at].display()));
        }
        let at_end = matches!(read, Ok(0));
        let entry = entry(current.segment, current.publish_time_ms, &mut current.cutter, at_end);
        if at_end || self.failure.is_some() {
            self.current = None;
        }
        Ok(entry)
    }
}

/// Makes an entry of the lines that are complete, if there are any.
pub(crate) fn entry(
    segment: u64,
    publish_time_ms: i64,
    cutter: &mut LineCutter,
    at_end: bool,
) -> Option<Entry> {
    let mut messages = Vec::with_capacity(READ_BYTES / USUAL_LINE_BYTES);
    let buffer = cutter.cut(at_end, |line| {
        messages.push(RawMessage {
            position: Position::new(segment, line.offset, 0),
            start: line.start,
            length: line.length,
            publish_time_ms,
            reject: line.is_cut.then_some(Reason::TooLarge),
        });
    });
    let position = messages.first()?.position;
    let credit = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
    Some(Entry { position, buffer, messages, credit })
}

impl PartitionReader for FileReader {
    fn open(&mut self, from: Option<Position>) -> Result<(), String> {
        let from = from.unwrap_or_default();
        let at = usize::try_from(from.segment).ok().filter(|at| *at < self.paths.len());
        self.failure = None;
        match at {
            Some(at) => self.open_at(at, from.offset),
            None => Err(format!(
                "the commit record is in file number {}, but paths names {} files; put the \
                 missing files back, or give the pipeline another name",
                from.segment + 1,
                self.paths.len()
            )),
        }
    }

    fn pull(&mut self) -> Result<Pull, String> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.current.is_none() {
            if self.next == self.paths.len() {
                return Ok(Pull::End);
            }
            self.open_at(self.next, 0)?;
            return Ok(Pull::Again);
        }
        Ok(self.read()?.map_or(Pull::Again, Pull::Entry))
    }
}

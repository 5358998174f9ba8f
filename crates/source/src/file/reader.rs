//! Reads a list of files as one log.

use std::{
    fs::File,
    io::{Seek as _, SeekFrom},
    path::PathBuf,
    time::UNIX_EPOCH,
};

use tidemill_engine::port::{Entry, RawMessage};
use tidemill_kernel::event::{Position, Reason};

use super::lines::LineCutter;
use crate::pull::{PartitionReader, Pull};

/// Bytes read at once. An entry is made of what one read completes.
const READ_BYTES: usize = 256 * 1024;

/// Some files, one behind the other.
pub(crate) struct FileReader {
    paths: Vec<PathBuf>,
    line_bytes_max: usize,
    /// The place of the next file in the list.
    next: usize,
    current: Option<Current>,
}

struct Current {
    file: File,
    segment: u64,
    publish_time_ms: i64,
    cutter: LineCutter,
}

impl FileReader {
    pub(crate) fn new(paths: Vec<PathBuf>, line_bytes_max: usize) -> FileReader {
        FileReader { paths, line_bytes_max, next: 0, current: None }
    }

    fn fail(&self, at: usize, error: impl std::fmt::Display) -> String {
        format!("file {}: {error}", self.paths[at].display())
    }

    fn open_at(&mut self, at: usize, offset: u64) -> Result<(), String> {
        let mut file = File::open(&self.paths[at]).map_err(|error| self.fail(at, error))?;
        let metadata = file.metadata().map_err(|error| self.fail(at, error))?;
        if metadata.is_file() && offset > metadata.len() {
            let length = metadata.len();
            return Err(self.fail(
                at,
                format_args!(
                    "has {length} bytes, but the commit record says that {offset} were read; \
                     put the old file back, or give the pipeline another name"
                ),
            ));
        }
        if offset > 0 {
            file.seek(SeekFrom::Start(offset)).map_err(|error| self.fail(at, error))?;
        }
        let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let modified_ms = modified.and_then(|since| i64::try_from(since.as_millis()).ok());
        self.current = Some(Current {
            file,
            segment: at as u64,
            publish_time_ms: modified_ms.unwrap_or(0),
            cutter: LineCutter::new(offset, self.line_bytes_max),
        });
        self.next = at + 1;
        Ok(())
    }
}

impl PartitionReader for FileReader {
    fn open(&mut self, from: Option<Position>) -> Result<(), String> {
        let from = from.unwrap_or_default();
        let at = usize::try_from(from.segment).ok().filter(|at| *at < self.paths.len());
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
        let Some(current) = &mut self.current else {
            if self.next == self.paths.len() {
                return Ok(Pull::End);
            }
            self.open_at(self.next, 0)?;
            return Ok(Pull::Wait);
        };
        let read = match current.cutter.fill(&current.file, READ_BYTES) {
            Ok(read) => read,
            Err(error) => {
                let at = self.next - 1;
                return Err(self.fail(at, error));
            }
        };
        let (buffer, lines) = current.cutter.cut(read == 0);
        let (segment, publish_time_ms) = (current.segment, current.publish_time_ms);
        if read == 0 {
            self.current = None;
        }
        let Some(first) = lines.first() else {
            return Ok(Pull::Wait);
        };
        let position = Position::new(segment, first.offset, 0);
        let messages = lines.iter().map(|line| RawMessage {
            position: Position::new(segment, line.offset, 0),
            start: line.start,
            length: line.length,
            publish_time_ms,
            reject: line.is_cut.then_some(Reason::TooLarge),
        });
        let messages = messages.collect();
        let credit = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        Ok(Pull::Entry(Entry { position, buffer, messages, credit }))
    }
}

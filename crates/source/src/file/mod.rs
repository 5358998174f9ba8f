//! Files of one JSON message per line, in the order given, as one lane or a lane each; and the
//! standard input. Both may be packed with gzip or zstd, which their first bytes tell.
//!
//! A position is the file's place in the list and the byte offset of the line in its content, as
//! it is when unpacked. The publish time of every message is the file's modification time. What
//! is appended to a file after its end was reached is not seen by this run.

mod archive;
mod lines;
mod reader;
mod skip;
pub mod stdin;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use crate::pull::{PartitionReader, PullSource};

use reader::FileReader;

pub use archive::ZSTD_WINDOW_LOG_MAX;

/// The most bytes of a partition that are read ahead. The operating system reads ahead anyway, and
/// so little is still in the second-level cache when it is decoded. Together with the reuse of
/// buffers: 2.2 and 2.5 instead of 1.7 million messages per CPU-second, in two pairs of runs on a
/// busy machine with 16 MiB on the other side.
pub const AHEAD_BYTES_MAX: u64 = 1 << 20;

/// How files become partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitions {
    /// All files, in order, are one log.
    #[default]
    Single,
    /// Each file is a log of its own.
    PerFile,
}

/// Which files to read, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileConfig {
    /// The files.
    pub paths: Vec<PathBuf>,
    /// How they become partitions. A partition is named after its (first) file.
    pub partitions: Partitions,
    /// Bytes of a line that are kept; a longer one is rejected as too large.
    pub line_bytes_max: usize,
    /// Bytes of a partition read ahead of what is processed, at most [`AHEAD_BYTES_MAX`].
    pub queue_bytes_max: u64,
}

/// Opens a source of files.
///
/// # Errors
/// If there is no file, or one cannot be opened, or one is no plain file.
pub fn open(config: &FileConfig) -> Result<PullSource, String> {
    if config.paths.is_empty() {
        return Err("source.file: paths is empty, name at least one file".to_owned());
    }
    for path in &config.paths {
        let metadata = std::fs::metadata(path);
        let metadata = metadata.map_err(|error| format!("file {}: {error}", path.display()))?;
        if metadata.is_dir() {
            return Err(format!("file {}: is a folder, name the files in it", path.display()));
        }
        if !metadata.is_file() {
            // It could not be read a second time, which is what exactly once rests on.
            return Err(format!(
                "file {}: is no plain file; feed it to [source.stdin] instead",
                path.display()
            ));
        }
    }
    let groups: Vec<Vec<PathBuf>> = match config.partitions {
        Partitions::Single => vec![config.paths.clone()],
        Partitions::PerFile => config.paths.iter().map(|path| vec![path.clone()]).collect(),
    };
    let short = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let names: Vec<_> = groups.iter().map(|group| short(&group[0])).collect();
    let readers = groups.into_iter().enumerate().map(|(at, group)| {
        let unique = names.iter().filter(|name| **name == names[at]).count() == 1;
        let full = || group[0].to_string_lossy().into_owned();
        let name = names[at].clone().filter(|_| unique).unwrap_or_else(full);
        let reader = FileReader::new(group, config.line_bytes_max);
        (Arc::from(name), Box::new(reader) as Box<dyn PartitionReader>)
    });
    Ok(PullSource::new(readers.collect(), config.queue_bytes_max.min(AHEAD_BYTES_MAX)))
}

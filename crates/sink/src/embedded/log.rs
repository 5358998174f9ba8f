//! Makes durable what the write-ahead log holds when a store is opened.
//!
//! A process that died before the sync of its commit, or whose sync failed, leaves a log that reads
//! well as long as the machine runs. SQLite takes such a commit for stored and appends the next
//! ones behind it; but what a failed sync left unwritten, Linux does not write at the next sync
//! either, and a loss of power would then take answered commits with it. Bytes that are written
//! again are written by the next sync, so the log is. It decides nothing about what is in the log.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    path::Path,
};

use rusqlite::{Connection, TransactionBehavior};

use super::sink::sink_error;
use crate::error::SinkError;

/// How much is read and written at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Writes the log's bytes again and syncs them, while nobody else can write or cut it.
///
/// # Errors
/// `Unavailable` if that failed or another process holds the lock.
pub(super) fn renew(connection: &mut Connection, path: &Path) -> Result<(), SinkError> {
    // The log lies beside what the path stands for; what is not in the file system has none.
    let Ok(path) = fs::canonicalize(path) else { return Ok(()) };
    let mut log = path.into_os_string();
    log.push("-wal");
    let lock = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| sink_error("lock the log", &error))?;
    let renewed = || -> io::Result<()> {
        let mut file = match OpenOptions::new().read(true).write(true).open(&log) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        write_again(&mut file)?;
        file.sync_all()
    };
    renewed().map_err(|error| {
        let place = Path::new(&log).display();
        SinkError::Unavailable(format!("embedded store: cannot write {place} again: {error}"))
    })?;
    lock.rollback().map_err(|error| sink_error("unlock the log", &error))
}

/// Reads a file and writes what was read to where it was.
fn write_again(file: &mut (impl Read + Write + Seek)) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        file.seek(SeekFrom::Start(at))?;
        let count = match file.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&chunk[..count])?;
        at += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A file that reads in pieces and notes what was written.
    struct Noted {
        file: Cursor<Vec<u8>>,
        written: Vec<(u64, usize)>,
    }

    impl Read for Noted {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let length = into.len().min(50_000);
            self.file.read(&mut into[..length])
        }
    }

    impl Write for Noted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.push((self.file.position(), bytes.len()));
            self.file.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Noted {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.file.seek(to)
        }
    }

    #[test]
    fn every_byte_is_written_once_to_where_it_was() {
        let bytes: Vec<u8> = (0..120_001_u32).map(|at| (at % 251) as u8).collect();
        let mut noted = Noted { file: Cursor::new(bytes.clone()), written: Vec::new() };
        write_again(&mut noted).unwrap();
        assert_eq!(noted.file.into_inner(), bytes);
        assert_eq!(noted.written, [(0, 50_000), (50_000, 50_000), (100_000, 20_001)]);
    }
}

//! One process at a time writes the tables of an embedded store.
//!
//! The lock is the operating system's, on a file beside the store, so it ends with the process,
//! however that ends. The file stays; it names the process that took the lock last. It spares
//! the operator a puzzle: without it, two processes would drop each other's lanes by the fence of
//! the commits, and nothing would be counted twice either.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use super::config::EmbeddedConfig;
use crate::error::SinkError;

/// How long to sleep between two looks at a lock that is taken.
const PAUSE: Duration = Duration::from_millis(50);

/// The right to write the tables of a store, until it is dropped.
#[derive(Debug)]
pub struct EmbeddedLock {
    _file: File,
}

impl EmbeddedLock {
    /// Takes the lock; waits for `busy_timeout` if another process has it.
    ///
    /// # Errors
    /// `Refused` if that process still has it, with its number; `Config` if the directory is not
    /// there; `Refused` if the file cannot be opened.
    pub fn take(config: &EmbeddedConfig) -> Result<EmbeddedLock, SinkError> {
        config.check()?;
        let mut path = config.path.clone().into_os_string();
        path.push(format!("-{}.lock", config.table));
        let path = PathBuf::from(path);
        let failed = |error: std::io::Error| {
            let problem = format!("{}: {error}", path.display());
            if error.kind() == std::io::ErrorKind::NotFound {
                return SinkError::Config { key: "path", problem };
            }
            SinkError::Refused(format!("embedded store: cannot lock {problem}"))
        };
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        let deadline = Instant::now() + config.busy_timeout;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => return Err(taken(config, &mut file)),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        let name = format!("{}\n", std::process::id());
        file.set_len(0).and_then(|()| file.write_all(name.as_bytes())).map_err(failed)?;
        Ok(EmbeddedLock { _file: file })
    }
}

fn taken(config: &EmbeddedConfig, file: &mut File) -> SinkError {
    let mut name = String::new();
    // Whoever has just taken the lock may not have written its number yet.
    let read = file.take(32).read_to_string(&mut name);
    let who = match name.trim() {
        pid if read.is_ok() && !pid.is_empty() => format!("process {pid}"),
        _ => "another process".to_owned(),
    };
    SinkError::Refused(format!(
        "embedded store: {who} writes table {:?} of {}: stop it, or write another path or table",
        config.table,
        config.path.display()
    ))
}

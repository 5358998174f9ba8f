//! What `check --connect` asks of the embedded store: can the file be written, is it as it has to
//! be, does another process have it open.
//!
//! Nothing is made and nothing is changed. Who has the file open is read from the kernel's list of
//! locks (Linux); taking a lock to find out would disturb the one who has it.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use tidemill_kernel::row::Column;

use super::{config::EmbeddedConfig, read::EmbeddedReader};
use crate::{
    check::{
        Check,
        Verdict::{Error, NotChecked, Ok as Good, Warning},
    },
    error::SinkError,
    read::StoreReader,
};

/// Looks at the file of a configuration, for one pipeline.
pub fn inspect(
    config: &EmbeddedConfig,
    columns: &[Column],
    key_columns: &[String],
    pipeline: &str,
) -> Vec<Check> {
    let path = config.path.display();
    if !config.path.exists() {
        return vec![directory(&config.path)];
    }
    let mut checks = vec![match OpenOptions::new().append(true).open(&config.path) {
        Ok(_) => Check::new("file", Good, format!("{path} can be written")),
        Err(error) => {
            let text = format!("{path} cannot be written: {error}; change its owner or rights");
            Check::new("file", Error, text)
        }
    }];
    match EmbeddedReader::open_at_rest(config, columns, key_columns) {
        Ok(mut reader) => {
            checks.push(Check::new("columns", Good, "as the configuration needs them"));
            checks.push(writers(&mut reader, pipeline));
        }
        Err(SinkError::Missing { missing }) => {
            let text = format!("{missing} is not there, made at the start");
            checks.push(Check::new("tables", Good, text));
        }
        Err(error) => {
            let text = format!("{error}; write another path or table");
            checks.push(Check::new("columns", Error, text));
        }
    }
    checks.push(holder(config));
    checks
}

/// A file that is not there yet is made in its directory.
fn directory(path: &Path) -> Check {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    match fs::metadata(parent) {
        Ok(found) if !found.is_dir() => {
            let text = format!("{} is no directory; write another path", parent.display());
            Check::new("file", Error, text)
        }
        Ok(found) if found.permissions().readonly() => {
            let text = format!("{} cannot be written; change its rights", parent.display());
            Check::new("file", Error, text)
        }
        Ok(_) => {
            Check::new("file", Good, format!("{} is not there, made at the start", path.display()))
        }
        Err(error) => {
            let text = format!("{}: {error}; make the directory", parent.display());
            Check::new("file", Error, text)
        }
    }
}

fn writers(reader: &mut EmbeddedReader, pipeline: &str) -> Check {
    let records = match reader.records(None) {
        Ok(records) => records,
        Err(error) => return Check::new("writers", Error, error.to_string()),
    };
    let others = records.iter().find(|record| &*record.lane.pipeline != pipeline);
    match others {
        Some(record) => {
            let other = &record.lane.pipeline;
            let text = format!(
                "pipeline {other:?} wrote to this table, too: readers see both; give each a table"
            );
            Check::new("writers", Warning, text)
        }
        None => Check::new("writers", Good, "nobody else writes"),
    }
}

/// Looks for a process that holds a lock on one of the files.
fn holder(config: &EmbeddedConfig) -> Check {
    let locks = match fs::read_to_string("/proc/locks") {
        Ok(locks) => locks,
        Err(error) => {
            let text = format!("whether another process has the file open: /proc/locks: {error}");
            return Check::new("lock", NotChecked, text);
        }
    };
    let lock_file = format!("-{}.lock", config.table);
    for end in ["", "-wal", "-shm", &lock_file] {
        let mut file = config.path.as_os_str().to_owned();
        file.push(end);
        let Ok(inode) = inode(&PathBuf::from(file)) else { continue };
        if let Some(process) = lock_holder(&locks, inode) {
            let text = format!(
                "process {process} has the file open; if it runs a pipeline on this table, stop \
                 it, or write another path"
            );
            return Check::new("lock", Warning, text);
        }
    }
    Check::new("lock", Good, "no other process has the file open")
}

#[cfg(unix)]
fn inode(path: &Path) -> io::Result<u64> {
    Ok(std::os::unix::fs::MetadataExt::ino(&fs::metadata(path)?))
}

#[cfg(not(unix))]
fn inode(_path: &Path) -> io::Result<u64> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// Finds the process in lines like `1: POSIX  ADVISORY  READ 4242 fd:01:1837 123 123`.
fn lock_holder(locks: &str, inode: u64) -> Option<String> {
    let own = std::process::id().to_string();
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| word.matches(':').count() == 2)?;
        let found: u64 = words[at].rsplit(':').next()?.parse().ok()?;
        let process = *words.get(at.checked_sub(1)?)?;
        (found == inode && process != own).then(|| process.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::lock_holder;

    #[test]
    fn holder_is_the_process_of_the_same_inode() {
        let locks = "1: POSIX  ADVISORY  READ 4242 fd:01:1837 123 123\n\
                     2: FLOCK  ADVISORY  WRITE 77 00:2f:18 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 78 00:2f:19 0 EOF\nrubbish\n3:";
        assert_eq!(lock_holder(locks, 1837).as_deref(), Some("4242"));
        assert_eq!(lock_holder(locks, 18).as_deref(), Some("77"));
        assert_eq!(lock_holder(locks, 19).as_deref(), Some("78"));
        assert_eq!(lock_holder(locks, 1), None);
    }
}

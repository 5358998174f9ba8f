//! The embedded store: one SQLite file that holds rows, dead letters and commit records.
//!
//! A commit is one transaction, made durable by a sync of the write-ahead log, so an answered
//! commit survives a kill of the process and a loss of power (if the disk keeps what it said it
//! wrote). Any number of processes may read while one writes. Several lanes may each hold a store
//! on the same file; they wait for each other. The file must be on a local disk, not on NFS.
//! Nothing is ever deleted here, and an existing table is never altered.

mod config;
mod inspect;
mod lock;
mod log;
mod read;
mod sink;
mod tables;
#[cfg(test)]
mod tests;

pub use config::EmbeddedConfig;
pub use inspect::inspect;
pub use lock::EmbeddedLock;
pub use read::EmbeddedReader;
pub use sink::EmbeddedStore;

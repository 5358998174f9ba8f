//! The ClickHouse store: rows, dead letters and commit records over HTTP.
//!
//! Exactly once comes from the tables, not from the transport: every table is a
//! ReplacingMergeTree by key and revision, read with FINAL, so writing the same again, in any
//! order, or by a stale owner, changes nothing that a reader sees. Each piece of an insert lies in
//! one partition of the table and is one LZ4 frame, which also an old server takes whole or not at
//! all. Deduplication tokens and asynchronous inserts are not used. Repeating is the engine's.
//!
//! On a cluster (`TableEngine::Replicated`) an insert counts when a quorum of replicas has it, and
//! a record is read where nothing that a quorum has is missing. Else a replica that is behind would
//! say "no record", and the lane would be born a second time.
//!
//! A store blocks its thread and owns a runtime: it must not be used inside of an asynchronous
//! task. All of a commit goes through one URL, which must lead to one replica at a time.

mod config;
mod connection;
mod ddl;
pub mod inspect;
pub mod migrate;
mod pieces;
mod read;
mod row_binary;
mod server;
mod sink;
mod tables;
#[cfg(test)]
mod tests;

pub use config::{ClickHouseConfig, QUORUM_DEFAULT, TableEngine};
pub use ddl::{Dialect, ddl};
pub use read::ClickHouseReader;
pub use sink::ClickHouseStore;

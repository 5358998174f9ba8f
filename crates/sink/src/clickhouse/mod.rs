//! The ClickHouse store: rows, dead letters and commit records over HTTP.
//!
//! Exactly once comes from the tables, not from the transport: every table is a
//! ReplacingMergeTree by key and revision, read with FINAL, so writing the same again, in any
//! order, or by a stale owner, changes nothing that a reader sees. Each piece of an insert lies in
//! one partition of the table and is one LZ4 frame, which also an old server takes whole or not at
//! all. Deduplication tokens and asynchronous inserts are not used. Repeating is the engine's.
//!
//! A store blocks its thread and owns a runtime: it must not be used inside of an asynchronous
//! task. All of a commit goes through one URL, which must lead to one replica at a time.

mod config;
mod connection;
mod ddl;
mod pieces;
mod read;
mod row_binary;
mod server;
mod sink;
mod tables;
#[cfg(test)]
mod tests;

pub use config::ClickHouseConfig;
pub use ddl::{Dialect, ddl};
pub use read::ClickHouseReader;
pub use sink::ClickHouseStore;

//! Stores: where rows, dead letters and commit records are kept, and how they are read back.
//!
//! Each store is a folder and implements the engine's `Store` port; the two that keep something
//! also implement [`StoreReader`](read::StoreReader). Nothing here decides what is written, when,
//! or again: that is the engine's. Table and column formats: docs/formats.md.

pub mod check;
pub mod clickhouse;
pub mod embedded;
pub mod error;
mod lanes;
pub mod layout;
pub mod read;
mod select;
pub mod stdout;
mod time_text;
mod transition;
pub mod value;

pub use clickhouse::{ClickHouseConfig, ClickHouseReader, ClickHouseStore};
pub use embedded::{EmbeddedConfig, EmbeddedLock, EmbeddedReader, EmbeddedStore};
pub use error::{Domain, SinkError};
pub use read::{
    CommitRing, LaneRows, LetterQuery, Misfits, PartitionTotals, Quality, RowQuery, StoreReader,
    Table, WindowRows,
};
pub use stdout::StdoutStore;
pub use value::Value;

//! Lanes, commits and threads: what stands between the sources, the kernel and the stores.
//!
//! The engine names no broker and no database; it knows them as ports (`port.rs`). Everything that
//! decides is a deterministic machine (`lane.rs`) that the simulator drives as well; threads,
//! clocks and queues are in `pipeline.rs` only.

mod cursor;
pub mod error;
pub mod junction;
mod junction_worker;
mod key_homes;
pub mod lane;
pub mod ledger;
mod letter;
pub mod memory;
pub mod metrics;
pub mod pipeline;
pub mod port;
pub mod record;
pub mod reset;
mod router;
pub mod settings;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod tally;
pub mod window_log;
mod worker;
pub mod writer;

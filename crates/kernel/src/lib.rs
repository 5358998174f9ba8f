//! The roll-up itself: exact, order-free aggregates of device messages in event-time windows.
//!
//! Events go in as blocks, effects come out: rows of closed windows, letters for what cannot be
//! counted. The kernel knows no clock, file, thread, socket, log or random source; the hash seed
//! is handed in. It decides lateness message by message in log order, so where blocks are cut
//! changes nothing. It does not decode, store or deliver: those are other crates.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod aggregate;
pub mod amend;
pub mod effect;
pub mod event;
pub mod held;
pub mod key;
mod key_table;
pub mod ledger;
pub mod partial;
pub mod plan;
mod processor;
pub mod rollup;
pub mod row;
pub mod schema;
mod slots;
pub mod time;
pub mod watermark;
pub mod window;

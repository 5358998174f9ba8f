//! The application behind the binary `tidemill`, as a library so that tests can use it.
//!
//! It joins the other crates: reads the configuration, makes source, engine and sink, and talks to
//! people. Nothing of the roll-up itself is decided here.

pub mod assemble;
pub mod cli;
pub mod config;
pub mod connect;
pub mod exit;
pub mod exposition;
pub mod http;
pub mod ledger_check;
pub mod logging;
pub mod memory;
mod process;
pub mod progress;
pub mod reload;
pub mod sample;
pub mod signals;
pub mod status;
pub mod table;
pub mod verify;
pub mod version;

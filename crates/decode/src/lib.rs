//! From the bytes of a message to a row of values in an event block, or to the reason why not.
//!
//! Decoding is pure: no clock, file, thread, log or random source, and nothing that is received
//! can make it panic, recurse or allocate beyond its limits. It knows the schema's fields but not
//! what becomes of their values: windows, lateness and rows are the kernel's.

pub mod json;
mod limits;
mod message;
pub mod time;

pub use json::JsonDecoder;
pub use limits::DecodeLimits;
pub use message::RawMessage;

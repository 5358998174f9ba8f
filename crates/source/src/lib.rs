//! Sources: where entries with positions come from. Each is a folder of its own.
//!
//! A source knows its broker or medium and nothing of windows, rows or commits; it delivers what
//! the engine asks for, within the credit that the engine gives back.

pub mod file;
pub mod generate;
pub mod pull;
pub mod pulsar;

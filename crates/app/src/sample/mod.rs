//! A sample of messages, and what can be told from it: the fields with their types, the key, the
//! time, what each field is for. Guesses, each with what it rests on; `tidemill init` writes them.
//!
//! It reads a bounded number of messages and bytes, moves no cursor, and stores nothing.

mod guess;
mod observe;
mod order;
mod take;
#[cfg(test)]
mod tests;

pub use guess::{FieldGuess, Guesses, guess};
pub use observe::{Observed, observe};
pub use order::Order;
pub use take::{from_file, from_topic};

/// Bytes of a sample, whatever number of messages is asked for.
pub const SAMPLE_BYTES_MAX: usize = 64 << 20;

/// One message of a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// The message as it came.
    pub payload: Vec<u8>,
    /// When it was published (ms).
    pub publish_time_ms: i64,
    /// The number of its partition; 0 where there are none.
    pub partition: u32,
}

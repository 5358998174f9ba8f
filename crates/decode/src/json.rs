//! JSON messages: one object each, RFC 8259, with one mercy.
//!
//! **Syntax.** The whole payload is judged, fields that nobody asked for too: one object, UTF-8,
//! white space around it and nothing else, or the message is `Malformed`. So is an escape that
//! spells half a surrogate pair (it names no character) and a byte order mark. The mercy: the
//! bare words NaN, Infinity and -Infinity may stand wherever a value may; they are an invalid
//! value to any field that meets them.
//!
//! **Fields.** A field's value is that of the first of its sources (path, then aliases as listed)
//! that is there and not null. The order within the message means nothing. A source that is there
//! twice, with whatever values, also by an object that is there twice, is a repeated value: for a
//! key `DuplicateKey`, for the time `InvalidTime`, else an invalid value. A repeated source
//! behind one that counts is not looked at. Names inside of arrays lead nowhere.
//!
//! **Types.** Floats are numbers, rounded to the nearest `f64`; integers are numbers without
//! fraction in value (3, 3.0, 30e-1) within `i64`, or one of the field's words; booleans are
//! true, false, or a number equal to 1 or 0; texts and keys are strings or whole numbers in
//! `i64::MIN..=u64::MAX` (as decimal text: 3.0 is `3`). Numbers as text, numbers beyond the
//! field's range or beyond `f64`, and everything else are invalid values: counted once per field,
//! never added. Null is as good as absent. Keys are not empty. Times: see [`crate::time`].
//!
//! **Reasons.** If several apply, the first of these counts: `TooLarge`; `Empty` (nothing, or
//! white space only); `Malformed` or `TooDeep`, whichever comes first in the text; the first key
//! part in the schema's order that is missing, repeated or invalid; the time missing or invalid.

mod fast;
mod layout;
mod number;
mod scan;
mod strict;
mod value;

use std::sync::Arc;

use tidemill_kernel::{
    event::{EventBlock, Position, Reason},
    schema::Schema,
};

use self::{fast::Guesses, layout::Layout, strict::Judge, value::Values};
use crate::DecodeLimits;

/// Decodes messages of one schema. It learns the messages' shape as it goes, which changes its
/// speed and never its results. Its memory is bounded by the limits; once it has seen the shapes
/// it allocates nothing. Not shared between threads: each has its own.
///
/// ```
/// use std::sync::Arc;
/// use tidemill_decode::{DecodeLimits, JsonDecoder};
/// use tidemill_kernel::event::{EventBlock, Position};
/// use tidemill_kernel::schema::{Field, Role, Schema, ValueType};
///
/// let schema = Arc::new(Schema::new(vec![
///     Field::new("device_id", ValueType::Text, Role::Key),
///     Field::new("time", ValueType::Int, Role::Time),
///     Field::new("temperature", ValueType::Float, Role::Gauge),
/// ])?);
/// let mut block = EventBlock::new(&schema);
/// let mut decoder = JsonDecoder::new(schema, DecodeLimits::default());
/// let payload = br#"{"device_id":"a","time":1700000000,"temperature":22.5}"#;
/// decoder.decode(payload, Position::new(0, 0, 0), 1_700_000_000_000, &mut block);
/// assert_eq!(block.message(0).float(0), Some(22.5));
/// # Ok::<(), tidemill_kernel::schema::SchemaError>(())
/// ```
#[derive(Debug)]
pub struct JsonDecoder {
    schema: Arc<Schema>,
    layout: Layout,
    limits: DecodeLimits,
    values: Values,
    guesses: Guesses,
    judge: Judge,
}

impl JsonDecoder {
    /// Returns a decoder for messages of that schema. Limits out of their bounds are moved to
    /// the nearest bound.
    pub fn new(schema: Arc<Schema>, limits: DecodeLimits) -> JsonDecoder {
        let limits = limits.bounded();
        let layout = Layout::new(&schema);
        let values = Values::new(layout.field_of.len(), limits);
        let judge = Judge::new(limits.depth_max);
        JsonDecoder { schema, layout, limits, values, guesses: Guesses::default(), judge }
    }

    /// Returns the schema that messages are read by.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Returns the limits that hold.
    pub fn limits(&self) -> DecodeLimits {
        self.limits
    }

    /// Appends exactly one message to the block: an event, or a rejected one with its reason.
    /// The block must have been made for the decoder's schema. `publish_time_ms` is handed on
    /// and only looked at where the schema has no time of its own.
    #[inline]
    pub fn decode(
        &mut self,
        payload: &[u8],
        position: Position,
        publish_time_ms: i64,
        block: &mut EventBlock,
    ) {
        block.begin(position, publish_time_ms);
        let read = self.read(payload);
        if let Err(reason) = read.and_then(|()| self.values.write(&self.layout, payload, block)) {
            block.reject(reason);
        }
    }

    fn read(&mut self, payload: &[u8]) -> Result<(), Reason> {
        if payload.len() > self.limits.payload_bytes_max {
            return Err(Reason::TooLarge);
        }
        let (layout, values) = (&self.layout, &mut self.values);
        if self.guesses.read(layout, payload, values, self.limits.depth_max) {
            return Ok(());
        }
        values.clear();
        self.judge.read(layout, payload, values)?;
        self.guesses.learn(layout, payload, &self.judge.trace, values);
        Ok(())
    }
}

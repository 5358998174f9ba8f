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

// From the surest to the fastest: `strict` judges any message, `fast` reads shapes that the judge
// has seen, `quick` reads shapes that came again, several messages at a time, and names in any
// order, one message at a time. Each gives up without a verdict on what it is not sure of, and
// leaves it to the one before; `guesses` keeps the shapes and says which to try.
mod fast;
mod guesses;
mod layout;
mod nearest;
mod number;
mod quick;
mod scan;
mod strict;
mod value;

use std::sync::Arc;

use tidemill_kernel::{
    event::{EventBlock, Position, Reason},
    schema::Schema,
};

use self::{
    fast::Found,
    guesses::Guesses,
    layout::Layout,
    quick::{Context, LANES, Lane, Quick},
    strict::Judge,
    value::Values,
};
use crate::{DecodeLimits, RawMessage};

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
    quick: Quick,
    judge: Judge,
    /// For as many messages as can be read in lock step, all of the likeliest shape.
    groups: Patience,
    /// For two of any shape.
    pairs: Patience,
    tally: Tally,
}

/// How long to wait, after messages could not be read in lock step, before the next are tried.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// In messages.
    wait: u32,
    /// What that will be after the next disappointment, in lots of messages.
    next: u32,
}

impl Patience {
    const NEW: Patience = Patience { wait: 0, next: 1 };

    fn succeed(&mut self) {
        self.next = 1;
    }

    fn fail(&mut self, messages: usize) {
        self.wait = self.next * messages as u32;
        self.next = (self.next * 2).min(PATIENCE_MAX);
    }

    fn pass(&mut self, messages: usize) {
        self.wait = self.wait.saturating_sub(messages as u32);
    }
}

/// What a decoder may use.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// Everything there is.
    Quick,
    /// Learnt shapes, but no vector instructions.
    Portable,
    /// The judge alone.
    Strict,
}

/// How many messages were read in which way.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// In lock step with others.
    pub together: u64,
    /// By a learnt shape.
    pub guessed: u64,
    /// By the judge.
    pub judged: u64,
}

impl JsonDecoder {
    /// Returns a decoder for messages of that schema. Limits out of their bounds are moved to
    /// the nearest bound.
    pub fn new(schema: Arc<Schema>, limits: DecodeLimits) -> JsonDecoder {
        let limits = limits.bounded();
        let layout = Layout::new(&schema);
        let values = Values::new(layout.field_of.len(), limits);
        let judge = Judge::new(limits.depth_max);
        let quick = Quick::new(&layout);
        JsonDecoder {
            schema,
            layout,
            limits,
            values,
            guesses: Guesses::default(),
            quick,
            judge,
            groups: Patience::NEW,
            pairs: Patience::NEW,
            tally: Tally::default(),
        }
    }

    /// Returns the decoder with less to be fast by, for tests: the results are the same.
    #[doc(hidden)]
    pub fn with_speed(mut self, speed: Speed) -> JsonDecoder {
        if speed != Speed::Quick {
            self.quick.turn_off();
        }
        if speed == Speed::Strict {
            self.guesses.turn_off();
        }
        self
    }

    /// Returns how many messages were read how, for tests.
    #[doc(hidden)]
    pub fn tally(&self) -> Tally {
        self.tally
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
        let whole = Lane { start: 0, end: payload.len() };
        self.decode_one(payload, whole, (position, publish_time_ms), block);
    }

    /// Appends one message to the block for each of these, as [`decode`](JsonDecoder::decode)
    /// does for one, but several at a time. Those that are refused already stay so.
    ///
    /// # Panics
    /// If a message does not lie within the buffer.
    pub fn decode_all(&mut self, buffer: &[u8], messages: &[RawMessage], block: &mut EventBlock) {
        let mut rest = messages;
        while let Some((message, after)) = rest.split_first() {
            if self.groups.wait == 0
                && let Some((group, behind)) = rest.split_first_chunk::<LANES>()
            {
                if self.decode_group(buffer, group, 0, block) {
                    self.groups.succeed();
                    rest = behind;
                    continue;
                }
                self.groups.fail(LANES);
            }
            if self.pairs.wait == 0
                && let Some((pair, behind)) = rest.split_first_chunk::<2>()
                && let Some(shape) = self.shape_of(buffer, pair)
            {
                if self.decode_group(buffer, pair, shape, block) {
                    self.pairs.succeed();
                    self.groups.pass(2);
                    rest = behind;
                    continue;
                }
                self.pairs.fail(2);
            }
            self.groups.pass(1);
            self.pairs.pass(1);
            rest = after;
            let place = (message.position, message.publish_time_ms);
            match message.reject {
                None => self.decode_one(buffer, lane(message), place, block),
                Some(reason) => {
                    block.begin(place.0, place.1);
                    block.reject(reason);
                }
            }
        }
    }

    /// Returns the shape that both messages may have, by how they start.
    #[inline]
    fn shape_of(&self, buffer: &[u8], pair: &[RawMessage; 2]) -> Option<usize> {
        let [first, second] = pair.each_ref().map(lane);
        self.guesses
            .of_both(buffer.get(first.start..first.end)?, buffer.get(second.start..second.end)?)
    }

    /// Reads messages of one of the shapes in lock step; returns whether that could be done.
    #[inline]
    fn decode_group<const L: usize>(
        &mut self,
        buffer: &[u8],
        group: &[RawMessage; L],
        shape: usize,
        block: &mut EventBlock,
    ) -> bool {
        let Some(plan) = self.guesses.quick_plan(shape) else { return false };
        let lanes = group.each_ref().map(lane);
        let fits = |lane: &Lane| {
            lane.is_open(buffer) && lane.end - lane.start <= self.limits.payload_bytes_max
        };
        if !lanes.iter().all(fits) || group.iter().any(|message| message.reject.is_some()) {
            return false;
        }
        let places = group.each_ref().map(|message| (message.position, message.publish_time_ms));
        let mut context = Context {
            layout: &self.layout,
            values: &mut self.values,
            depth_max: self.limits.depth_max,
            buffer,
        };
        let is_read = self.quick.read(plan, &mut context, &lanes, places, block);
        if is_read {
            self.guesses.hit(shape);
            self.tally.together += L as u64;
        }
        is_read
    }

    fn decode_one(
        &mut self,
        buffer: &[u8],
        lane: Lane,
        place: (Position, i64),
        block: &mut EventBlock,
    ) {
        let payload = &buffer[lane.start..lane.end];
        let found = if payload.len() > self.limits.payload_bytes_max {
            Err(Reason::TooLarge)
        } else if lane.is_open(buffer) || !self.quick.is_on() {
            self.read(buffer, lane, place, block)
        } else {
            let padded = self.quick.pad(payload);
            let found = self.read(&padded, Lane { start: 0, end: payload.len() }, place, block);
            self.quick.take_back(padded);
            found
        };
        if found == Ok(Found::Row) {
            return;
        }
        block.begin(place.0, place.1);
        let written = found.and_then(|_| self.values.write(&self.layout, payload, block));
        if let Err(reason) = written {
            block.reject(reason);
        }
    }

    /// Reads a message into the values, or into a row of the block.
    fn read(
        &mut self,
        buffer: &[u8],
        lane: Lane,
        place: (Position, i64),
        block: &mut EventBlock,
    ) -> Result<Found, Reason> {
        let payload = &buffer[lane.start..lane.end];
        let (layout, values) = (&self.layout, &mut self.values);
        let (quick, depth_max) = (&mut self.quick, self.limits.depth_max);
        let limits = quick.is_on().then_some(&self.limits);
        let found =
            self.guesses.read(layout, payload, values, depth_max, limits, |plan, values| {
                let mut context = Context { layout, values, depth_max, buffer };
                quick.read(plan, &mut context, &[lane], [place], block)
            });
        if found != Found::Nothing {
            self.tally.guessed += 1;
            return Ok(found);
        }
        self.tally.judged += 1;
        values.clear();
        self.judge.read(layout, payload, values)?;
        self.guesses.learn(layout, payload, &self.judge.trace, values);
        Ok(Found::Values)
    }
}

/// So many times in a row messages are read one by one, at most, before the next attempt to read
/// some in lock step.
const PATIENCE_MAX: u32 = 16;

#[inline]
fn lane(message: &RawMessage) -> Lane {
    let start = message.start as usize;
    Lane { start, end: start + message.length as usize }
}

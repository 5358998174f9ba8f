//! Partial states as bytes: one device-window, to be merged with others of the same key and window.
//!
//! Layout (docs/formats.md): version, shape of the plan, window end, key, then each state in the
//! plan's order. Equal contents give equal bytes, whatever order the values came in. Decoding
//! checks everything: hostile bytes give an error, never a panic or a state that cannot be.

use alloc::{boxed::Box, vec::Vec};

use foldhash::fast::FixedState;

use crate::{
    aggregate::{
        coverage::Coverage,
        first_last::Decided,
        min_max::MinMax,
        sum::{FloatSum, IntSum},
        wide::WideSum,
    },
    key,
    plan::Plan,
    schema::{CODE_RANGE_MAX, Role},
    slots::states::Quality,
    window::{Window, sort_by_key},
};

mod check;
mod merge;

pub use merge::{MergeError, Merger, merge_window};

/// The version written first.
pub const PARTIAL_FORMAT: u8 = 1;

/// Why bytes are no partial state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("partial state: {problem} at byte {at}")]
pub struct PartialError {
    /// Where reading stopped.
    pub at: usize,
    /// What is wrong there.
    pub problem: &'static str,
}

/// Encodes the states of a window, one per device, in the order of their keys.
pub fn encode(window: &Window, plan: &Plan) -> Vec<Vec<u8>> {
    let mut slots: Vec<usize> = (0..window.device_count()).collect();
    sort_by_key(&mut slots, |slot| window.key_place(slot));
    let shape = shape(plan);
    slots.into_iter().map(|slot| encode_slot(window, plan, shape, slot)).collect()
}

/// Returns the end of the window (ms) of an encoded state.
///
/// # Errors
/// If the bytes are too few or of another version or plan.
pub fn window_end_ms(bytes: &[u8], plan: &Plan) -> Result<i64, PartialError> {
    Reader { bytes, at: 0 }.header(shape(plan))
}

/// Encodes the states of one device of a window.
pub(crate) fn encode_slot(window: &Window, plan: &Plan, shape: u64, slot: usize) -> Vec<u8> {
    let states = window.states(plan, slot);
    let mut out = Vec::with_capacity(512);
    out.push(PARTIAL_FORMAT);
    out.extend_from_slice(&shape.to_le_bytes());
    out.extend_from_slice(&window.end_ms().to_le_bytes());
    put_varint(&mut out, states.key().len() as u64);
    out.extend_from_slice(states.key());
    let quality = states.quality();
    put_varint(&mut out, quality.record_count.into());
    put_varint(&mut out, quality.invalid_count.into());
    out.extend_from_slice(&quality.first_event_time_ms.to_le_bytes());
    out.extend_from_slice(&quality.last_event_time_ms.to_le_bytes());
    out.extend_from_slice(&quality.coverage.bits().to_le_bytes());
    for bit in 0..plan.presence_bits {
        put_varint(&mut out, states.absent(bit).into());
    }
    for index in 0..plan.float_sums.len() {
        let (hot, cold) = states.float_sum(index);
        put_float_sum(&mut out, hot, cold);
    }
    for range in (0..plan.float_ranges.len()).map(|index| states.float_range(index)) {
        out.extend_from_slice(&range.min.to_le_bytes());
        out.extend_from_slice(&range.max.to_le_bytes());
    }
    for state in (0..plan.float_ends.len()).map(|index| states.float_end(index)) {
        out.extend_from_slice(&state.time_ms.to_le_bytes());
        out.extend_from_slice(&state.value.to_le_bytes());
    }
    for sum in (0..plan.int_sums.len()).map(|index| states.int_sum(index)) {
        out.extend_from_slice(&sum.total().to_le_bytes());
    }
    for range in (0..plan.int_ranges.len()).map(|index| states.int_range(index)) {
        out.extend_from_slice(&range.min.to_le_bytes());
        out.extend_from_slice(&range.max.to_le_bytes());
    }
    for state in (0..plan.int_ends.len()).map(|index| states.int_end(index)) {
        out.extend_from_slice(&state.time_ms.to_le_bytes());
        out.extend_from_slice(&state.value.to_le_bytes());
    }
    for (time_ms, text) in (0..plan.text_ends.len()).map(|index| states.text_end(index)) {
        out.extend_from_slice(&time_ms.to_le_bytes());
        put_varint(&mut out, text.len() as u64);
        out.extend_from_slice(text);
    }
    for index in 0..plan.flags.len() {
        put_varint(&mut out, states.true_count(index).into());
    }
    for index in 0..plan.codes.len() {
        let mut counts: Vec<(u16, u32)> = states.codes(index).collect();
        counts.sort_unstable();
        put_varint(&mut out, counts.len() as u64);
        for (code, count) in counts {
            put_varint(&mut out, code.into());
            put_varint(&mut out, count.into());
        }
    }
    out
}

/// A float sum is a 0 and 16 bytes of units, or a 1 and the wide integer where that is too small.
fn put_float_sum(out: &mut Vec<u8>, hot: FloatSum, cold: Option<&WideSum>) {
    let mut wide = cold.cloned();
    if let Some(wide) = &mut wide {
        wide.add_units(hot.units());
    }
    let units = wide.as_ref().map_or(Some(hot.units()), WideSum::to_units);
    match (units, wide) {
        (None, Some(wide)) => {
            out.push(1);
            out.extend_from_slice(&wide.to_bytes());
        }
        (units, _) => {
            out.push(0);
            out.extend_from_slice(&units.unwrap_or_default().to_le_bytes());
        }
    }
}

/// Tells plans apart whose states do not merge: FNV-1a over what is kept of which fields.
pub(crate) fn shape(plan: &Plan) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for field in plan.schema().fields() {
        field.name.bytes().for_each(&mut eat);
        eat(0xff);
        eat(field.value_type as u8);
        eat(u8::from(field.role == Role::Key));
        field.aggregates.iter().for_each(|aggregate| eat(*aggregate as u8));
        eat(0xff);
    }
    // Codes are kept as offsets, which mean something only beside their smallest value.
    for code in &plan.codes {
        code.low.to_le_bytes().into_iter().for_each(&mut eat);
    }
    hash
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn decode(
    window: &mut Window,
    plan: &Plan,
    shape: u64,
    hasher: &FixedState,
    reader: &mut Reader<'_>,
) -> Result<(), PartialError> {
    let end_ms = reader.header(shape)?;
    if end_ms != window.end_ms() {
        return reader.fail("another window");
    }
    let key_bytes = reader.varint()?;
    let key = reader.take(key_bytes)?;
    let parts = key::parts(key).map(|part| part.len());
    let (count, length) = parts.fold((0, 0), |(n, sum), part| (n + 1, sum + part + lead(part)));
    if count != plan.schema().key_count() || length != key.len() {
        return reader.fail("group key of another shape");
    }
    let tag = window.tag(hasher, key);
    let slot = window.find_or_add(plan, hasher, 1, key.into(), tag).expect("the window is empty");
    let quality = reader.quality()?;
    window.count_messages(quality.record_count.into());
    let mut states = window.states_mut(plan, slot);
    if !states.set_quality(&quality) {
        return reader.fail(OTHER_TIMES);
    }
    for bit in 0..plan.presence_bits {
        states.add_absent(bit, reader.count(quality.record_count)?);
    }
    for index in 0..plan.float_sums.len() {
        match reader.float_sum()? {
            Sum::Units(sum) => states.add_units(index, sum),
            Sum::Wide(wide) => states.add_wide(index, &wide),
        }
    }
    for index in 0..plan.float_ranges.len() {
        states.set_float_range(index, MinMax { min: reader.float()?, max: reader.float()? });
    }
    for index in 0..plan.float_ends.len() {
        let state = Decided { time_ms: reader.i64()?, value: reader.float()? };
        reader.demand(states.set_float_end(index, state))?;
    }
    for index in 0..plan.int_sums.len() {
        states.add_int_sum(index, IntSum::from_total(reader.i128()?));
    }
    for index in 0..plan.int_ranges.len() {
        states.set_int_range(index, MinMax { min: reader.i64()?, max: reader.i64()? });
    }
    for index in 0..plan.int_ends.len() {
        let state = Decided { time_ms: reader.i64()?, value: reader.i64()? };
        reader.demand(states.set_int_end(index, state))?;
    }
    for index in 0..plan.text_ends.len() {
        let time_ms = reader.i64()?;
        let length = reader.varint()?;
        let text = reader.take(length)?;
        if core::str::from_utf8(text).is_err() {
            return reader.fail("text that is not UTF-8");
        }
        reader.demand(states.add_text(index, time_ms, text))?;
    }
    for index in 0..plan.flags.len() {
        states.add_true_count(index, reader.count(quality.record_count)?);
    }
    for index in 0..plan.codes.len() {
        reader.codes(quality.record_count, |code, count| states.add_code(index, code, count))?;
    }
    if reader.at != reader.bytes.len() { reader.fail("bytes behind the end") } else { Ok(()) }
}

/// The bytes of a LEB128 length.
fn lead(length: usize) -> usize {
    1 + (length.max(1).ilog2() / 7) as usize
}

/// What a bad time is called wherever it stands.
const OTHER_TIMES: &str = "times outside of the window";

/// A float sum as it is encoded.
enum Sum {
    Units(FloatSum),
    Wide(Box<WideSum>),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn fail<T>(&self, problem: &'static str) -> Result<T, PartialError> {
        Err(PartialError { at: self.at, problem })
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], PartialError> {
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count));
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(bytes) => {
                self.at += bytes.len();
                Ok(bytes)
            }
            None => self.fail("too few bytes"),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PartialError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    fn i64(&mut self) -> Result<i64, PartialError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn i128(&mut self) -> Result<i128, PartialError> {
        Ok(i128::from_le_bytes(self.array()?))
    }

    fn float(&mut self) -> Result<f64, PartialError> {
        let value = f64::from_le_bytes(self.array()?);
        let negative_zero = value == 0.0 && value.is_sign_negative();
        if value.is_nan() || negative_zero { self.fail("NaN or -0") } else { Ok(value) }
    }

    fn varint(&mut self) -> Result<u64, PartialError> {
        let mut value = 0_u64;
        for shift in (0..63).step_by(7) {
            let byte = self.array::<1>()?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        self.fail("varint beyond 63 bits")
    }

    fn count(&mut self, max: u32) -> Result<u32, PartialError> {
        match u32::try_from(self.varint()?) {
            Ok(count) if count <= max => Ok(count),
            _ => self.fail("count beyond its bound"),
        }
    }

    fn header(&mut self, shape: u64) -> Result<i64, PartialError> {
        if self.array::<1>()? != [PARTIAL_FORMAT] {
            return self.fail("unknown version");
        }
        if u64::from_le_bytes(self.array()?) != shape {
            return self.fail("state of another schema");
        }
        self.i64()
    }

    fn quality(&mut self) -> Result<Quality, PartialError> {
        // Merging adds counts; a quarter of the range each leaves room for that.
        let quality = Quality {
            record_count: self.count(u32::MAX / 4)?,
            invalid_count: self.count(u32::MAX)?,
            first_event_time_ms: self.i64()?,
            last_event_time_ms: self.i64()?,
            coverage: self.coverage()?,
        };
        if quality.record_count == 0 {
            return self.fail("no messages");
        }
        Ok(quality)
    }

    fn codes(
        &mut self,
        count_max: u32,
        mut take: impl FnMut(u16, u32),
    ) -> Result<(), PartialError> {
        let mut next = 0;
        for _ in 0..self.count(CODE_RANGE_MAX)? {
            let code = self.count(CODE_RANGE_MAX - 1)?;
            let count = self.count(count_max)?;
            if code < next || count == 0 {
                return self.fail("codes out of order or never counted");
            }
            next = code + 1;
            take(code as u16, count);
        }
        Ok(())
    }

    /// Fails unless a state was of this window.
    fn demand(&self, same_window: bool) -> Result<(), PartialError> {
        if same_window { Ok(()) } else { self.fail(OTHER_TIMES) }
    }

    fn coverage(&mut self) -> Result<Coverage, PartialError> {
        let bits = self.i64()? as u64;
        let coverage = Coverage::from_bits(bits);
        if coverage.bits() == bits {
            Ok(coverage)
        } else {
            self.fail("more slots than a window has")
        }
    }

    fn float_sum(&mut self) -> Result<Sum, PartialError> {
        match self.array::<1>()?[0] {
            0 => Ok(Sum::Units(FloatSum::from_units(self.i128()?))),
            1 => {
                let wide = WideSum::from_bytes(&self.array()?);
                // Equal contents have equal bytes: the short form where there is one.
                match wide.to_units() {
                    None => Ok(Sum::Wide(Box::new(wide))),
                    Some(_) => self.fail("wide sum that has a short form"),
                }
            }
            _ => self.fail("unknown kind of sum"),
        }
    }
}

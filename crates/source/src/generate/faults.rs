//! What goes wrong in a fleet besides late and unreadable messages: fields that are missing,
//! messages sent twice, devices that fall silent, clocks that are wrong, traffic in bursts.
//!
//! Each is a pure function of seed and message number, like the stream itself, and draws from
//! sequences of its own: switching one on leaves the others and all values as they are.

use super::config::{GenerateConfig, Shape};
use super::draws::{Draws, hash};
use super::message::optional_fields;

const PURPOSE_MISSING: u64 = 7;
const PURPOSE_DUPLICATE: u64 = 8;
const PURPOSE_SILENT: u64 = 9;
const PURPOSE_CLOCK: u64 = 10;

/// A message lacks at most so many fields.
const MISSING_FIELDS_MAX: u32 = 3;
/// How many devices are asked for one that is not silent.
const SILENT_TRIES_MAX: u32 = 64;
/// What a share of 1 is on the scale of the draws.
const SCALE: f64 = 4_294_967_296.0;

/// The faults of a stream, ready to be drawn.
#[derive(Debug, Clone)]
pub(super) struct Faults {
    seed: u64,
    missing_end: u64,
    duplicate_end: u64,
    silent_end: u64,
    silent_for_ms: u64,
    clock_end: u64,
    clock_by_ms: u64,
    burst_every_ms: u64,
    burst_length_ms: u64,
    shape: Shape,
}

impl Faults {
    pub(super) fn new(config: &GenerateConfig) -> Faults {
        let end = |share: f64| (share * SCALE).round() as u64;
        let burst_length = config.burst_every_ms as f64 * config.burst_ratio;
        Faults {
            seed: config.seed,
            missing_end: end(config.missing_ratio),
            duplicate_end: end(config.duplicate_ratio),
            silent_end: end(config.silent_ratio),
            silent_for_ms: config.silent_for_ms,
            clock_end: end(config.wrong_clock_ratio),
            clock_by_ms: config.wrong_clock_by_ms,
            burst_every_ms: config.burst_every_ms,
            burst_length_ms: (burst_length.round() as u64).max(1),
            shape: config.shape,
        }
    }

    /// Returns the message that message `index` repeats: itself, unless it is a duplicate.
    pub(super) fn original(&self, mut index: u64) -> u64 {
        while index > 0 && self.is_drawn(PURPOSE_DUPLICATE, index, self.duplicate_end) {
            index -= 1;
        }
        index
    }

    /// Returns the device that sends instead of `slot` at that time: itself, unless it is silent.
    pub(super) fn speaker(&self, slot: u32, devices: u32, at_ms: impl FnOnce() -> i64) -> u32 {
        if self.silent_end == 0 {
            return slot;
        }
        let span = at_ms().unsigned_abs() / self.silent_for_ms;
        let tries = (0..SILENT_TRIES_MAX.min(devices)).map(|step| (slot + step) % devices);
        let is_silent = |slot: &u32| {
            let number = span.wrapping_mul(1 << 32).wrapping_add(u64::from(*slot));
            self.is_drawn(PURPOSE_SILENT, number, self.silent_end)
        };
        { tries }.find(|slot| !is_silent(slot)).unwrap_or(slot)
    }

    /// Returns by how much the clock of a device is ahead; negative: behind.
    pub(super) fn clock_error_ms(&self, device: u32) -> i64 {
        if !self.is_drawn(PURPOSE_CLOCK, device.into(), self.clock_end) {
            return 0;
        }
        let mut draws = Draws::new(self.seed, PURPOSE_CLOCK, u64::from(device) | 1 << 40);
        let error = 1 + draws.below_u64(self.clock_by_ms) as i64;
        if draws.below(2) == 0 { error } else { -error }
    }

    /// Moves the time since the start to where the burst of its period has it.
    pub(super) fn burst_ms(&self, after_ms: u64) -> u64 {
        if self.burst_every_ms == 0 {
            return after_ms;
        }
        let into = u128::from(after_ms % self.burst_every_ms);
        let squeezed = into * u128::from(self.burst_length_ms) / u128::from(self.burst_every_ms);
        after_ms - into as u64 + squeezed as u64
    }

    /// Removes fields from the message that begins at `start`, if it is drawn; returns how many.
    pub(super) fn remove_fields(&self, index: u64, out: &mut Vec<u8>, start: usize) -> u8 {
        if !self.is_drawn(PURPOSE_MISSING, index, self.missing_end) {
            return 0;
        }
        let mut draws = Draws::new(self.seed, PURPOSE_MISSING, index ^ 1 << 63);
        let names = optional_fields(self.shape);
        let mut removed = 0;
        for _ in 0..=draws.below(MISSING_FIELDS_MAX) {
            let name = names[draws.below(names.len() as u32) as usize];
            removed += u8::from(remove_field(out, start, name));
        }
        removed
    }

    fn is_drawn(&self, purpose: u64, number: u64, end: u64) -> bool {
        end > 0 && hash(self.seed, purpose, number) >> 32 < end
    }
}

/// Cuts `,"name":value` out of the message; returns false if it is not there (any more). Values of
/// optional fields hold no comma and no brace.
fn remove_field(out: &mut Vec<u8>, start: usize, name: &str) -> bool {
    let pattern = format!(",\"{name}\":");
    let message = &out[start..];
    let Some(at) = memchr::memmem::find(message, pattern.as_bytes()) else {
        return false;
    };
    let value = at + pattern.len();
    let length = message[value..].iter().position(|byte| b",}".contains(byte));
    let end = value + length.expect("a value is followed by a comma or a brace");
    out.drain(start + at..start + end);
    true
}

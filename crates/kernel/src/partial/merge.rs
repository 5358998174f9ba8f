//! Merging: a state's bytes into a window, or a whole window into another one.
//!
//! Both give what folding the messages of both into one window gives, bit for bit. Neither knows a
//! limit of devices: who folded the messages has held each window to its own, and what is merged
//! was accepted already. So the merged window may hold as many devices as all its parts together.

use alloc::{string::String, sync::Arc, vec::Vec};

use foldhash::fast::FixedState;

use super::{PartialError, Reader, check, decode, shape};
use crate::{event::Position, key, plan::Plan, time::WindowGrid, window::Window};

/// One device of two windows has more messages than a device-window can count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("device {device:?} has {message_count} messages in one window: more than can be counted")]
pub struct MergeError {
    /// The parts of its key, with commas between.
    pub device: String,
    /// How many messages both windows have of the device.
    pub message_count: u64,
}

/// Merges encoded states of one plan into windows. It keeps the memory that decoding takes, so one
/// of them should be used for many states; that is as much as the largest state so far took.
#[derive(Clone, Debug)]
pub struct Merger {
    plan: Arc<Plan>,
    hasher: FixedState,
    shape: u64,
    grid: WindowGrid,
    /// What a state is decoded into: an error must not leave half a state behind.
    single: Window,
}

impl Merger {
    /// Returns a merger for windows of that grid and plan. Windows that have no hasher of their own
    /// yet get `hasher`; its seed should be random in a process.
    pub fn new(grid: WindowGrid, plan: Arc<Plan>, hasher: FixedState) -> Merger {
        let single = Window::new(grid, 0, Position::default());
        Merger { shape: shape(&plan), plan, hasher, grid, single }
    }

    /// Merges an encoded state into the window it belongs to, which may grow by one device beyond
    /// any limit.
    ///
    /// # Errors
    /// If the bytes are no state of that plan and window, or the device has more messages than can
    /// be counted; the window is then as before.
    ///
    /// # Panics
    /// If the window is of another grid.
    pub fn merge(&mut self, window: &mut Window, bytes: &[u8]) -> Result<(), PartialError> {
        let (plan, single) = (&self.plan, &mut self.single);
        single.clear(window.end_ms());
        let mut reader = Reader { bytes, at: 0 };
        decode(single, plan, self.shape, &self.hasher, &mut reader)?;
        check::check(single, self.grid, plan, bytes.len())?;
        check_counts(window, single, plan, &self.hasher).map_err(|_| PartialError {
            at: bytes.len(),
            problem: "more messages than a device-window can count",
        })?;
        merge_devices(window, single, plan, &self.hasher);
        Ok(())
    }
}

/// Merges all devices of one window into another one of the same plan; `into` keeps its first
/// position. The number of devices has no limit here. If `into` is empty, its keys are hashed with
/// `hasher`.
///
/// # Errors
/// If a device has more messages than can be counted; `into` is then as before.
///
/// # Panics
/// If the windows are not of one end and one size.
pub fn merge_window(
    into: &mut Window,
    from: &Window,
    plan: &Plan,
    hasher: &FixedState,
) -> Result<(), MergeError> {
    check_counts(into, from, plan, hasher)?;
    merge_devices(into, from, plan, hasher);
    Ok(())
}

/// Fails if a device has more messages in both windows than its states can count.
fn check_counts(
    into: &Window,
    from: &Window,
    plan: &Plan,
    hasher: &FixedState,
) -> Result<(), MergeError> {
    let countable = u64::from(u32::MAX);
    if into.message_count() + from.message_count() <= countable {
        return Ok(());
    }
    for slot in 0..from.device_count() {
        let other = from.states(plan, slot);
        if let Some(slot) = into.find(hasher, other.key()) {
            let known = into.states(plan, slot).quality().record_count;
            let message_count = u64::from(known) + u64::from(other.quality().record_count);
            if message_count > countable {
                let device = key::parts(other.key()).collect::<Vec<_>>().join(", ");
                return Err(MergeError { device, message_count });
            }
        }
    }
    Ok(())
}

fn merge_devices(into: &mut Window, from: &Window, plan: &Plan, hasher: &FixedState) {
    assert!(into.is_same_time_as(from), "both windows have one end and one size");
    for from_slot in 0..from.device_count() {
        let key = from.key(from_slot);
        let tag = into.tag(hasher, key);
        let slot = into.find_or_add(plan, hasher, usize::MAX, key.into(), tag).expect("no limit");
        merge_slot(into, slot, from, from_slot, plan);
    }
    into.count_messages(from.message_count());
}

fn merge_slot(window: &mut Window, slot: usize, from: &Window, from_slot: usize, plan: &Plan) {
    let other = from.states(plan, from_slot);
    let mut states = window.states_mut(plan, slot);
    let mut quality = states.read().quality();
    quality.merge(&other.quality());
    let mut same_window = states.set_quality(&quality);
    for bit in 0..plan.presence_bits {
        states.add_absent(bit, other.absent(bit));
    }
    for index in 0..plan.float_sums.len() {
        let (hot, cold) = other.float_sum(index);
        states.add_units(index, hot);
        cold.into_iter().for_each(|wide| states.add_wide(index, wide));
    }
    for index in 0..plan.float_ranges.len() {
        let mut range = states.read().float_range(index);
        range.merge(other.float_range(index));
        states.set_float_range(index, range);
    }
    for (index, (_, end)) in plan.float_ends.iter().enumerate() {
        let mut state = states.read().float_end(index);
        state.merge(*end, other.float_end(index));
        same_window &= states.set_float_end(index, state);
    }
    for index in 0..plan.int_sums.len() {
        states.add_int_sum(index, other.int_sum(index));
    }
    for index in 0..plan.int_ranges.len() {
        let mut range = states.read().int_range(index);
        range.merge(other.int_range(index));
        states.set_int_range(index, range);
    }
    for (index, (_, end)) in plan.int_ends.iter().enumerate() {
        let mut state = states.read().int_end(index);
        state.merge(*end, other.int_end(index));
        same_window &= states.set_int_end(index, state);
    }
    for index in 0..plan.text_ends.len() {
        let (time_ms, text) = other.text_end(index);
        same_window &= states.add_text(index, time_ms, text);
    }
    for index in 0..plan.flags.len() {
        states.add_true_count(index, other.true_count(index));
    }
    for index in 0..plan.codes.len() {
        other.codes(index).for_each(|(code, count)| states.add_code(index, code, count));
    }
    assert!(same_window, "both windows have one end and one size");
}

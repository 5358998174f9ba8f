//! What the quick reader needs beside the plan: the staged numbers of each lane, and the list of
//! values that were not as the plan expects.

use super::{
    super::{layout::Layout, value::Values},
    plan::{Kind, QuickPlan, Step},
    table::{NEUTRAL_FLOAT, NEUTRAL_INT, Scale},
};
use crate::{json::value::Cell, time::parse_text};
use tidemill_kernel::schema::TimeUnit;

/// The most messages that are read in lock step.
pub(super) const LANES_MAX: usize = 4;
/// The most numbers of one message. A stage is found by a byte, so no place is out of bounds.
pub(super) const SLOTS: usize = 256;
/// The places of a stage. With as many as slots what is written together would lie 4 KiB apart,
/// so in the same few lines of the first-level cache (1 % of all time).
const PLACES: usize = SLOTS + 32;

/// The digits of one message's numbers, waiting to be converted.
#[derive(Clone, Debug)]
#[repr(C, align(32))]
pub(super) struct Stage {
    /// As characters or numbers: the lower half of a byte counts.
    pub(super) digits: [[u8; 16]; PLACES],
    pub(super) scales: [Scale; PLACES],
}

impl Stage {
    /// Returns where the digits and the scale of a number go.
    #[inline(always)]
    pub(super) fn place(&mut self, slot: u8) -> (&mut [u8; 16], &mut Scale) {
        // In halves, eight bytes each, which the processor can address: places of sixteen bytes
        // were worked out anew in each lane (51 of 2,135 instructions a message).
        let half = 2 * usize::from(slot);
        let (digits, _) = self.digits.as_flattened_mut().as_chunks_mut::<8>();
        let digits = digits[half..half + 2].as_flattened_mut().as_mut_array();
        let scales = self.scales.as_flattened_mut()[half..half + 2].as_mut_array();
        (digits.expect("two halves"), scales.expect("two halves"))
    }

    /// Makes one number 0. `groups` are those of the floats and of the integers.
    pub(super) fn neutralise(&mut self, slot: u8, groups: [usize; 2]) {
        let group = usize::from(slot) / 4;
        let is_int = group >= groups[0] && group < groups[0] + groups[1];
        self.digits[usize::from(slot)] = [0; 16];
        self.scales[usize::from(slot)] = if is_int { NEUTRAL_INT } else { NEUTRAL_FLOAT };
    }
}

/// A value that was not as the plan expects.
#[derive(Clone, Copy, Debug)]
pub(super) struct Odd {
    pub(super) lane: usize,
    pub(super) step: usize,
    pub(super) cell: Cell,
}

/// A float in its text: sign, digits before the point, all characters behind the sign.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digits {
    pub(super) negative: bool,
    pub(super) whole: u8,
    pub(super) length: u8,
}

/// The value of a float that was too long for a stage.
#[derive(Clone, Copy, Debug)]
pub(super) enum Long {
    Value(f64),
    /// Waits for its conversion: where in the buffer its digits start.
    Digits(usize, Digits),
}

/// A float that was too long for a stage.
#[derive(Clone, Copy, Debug)]
pub(super) struct LongFloat {
    pub(super) lane: usize,
    /// Its stage, which is its slot, too, if any field wants it.
    pub(super) slot: u8,
    pub(super) value: Long,
}

/// The stages of a quick reader, one per lane.
#[derive(Debug)]
pub(crate) struct Stages(Box<[Stage; LANES_MAX]>);

impl Stages {
    /// Returns stages for messages of that layout.
    pub(crate) fn new(layout: &Layout) -> Stages {
        let groups = [layout.floats.len().div_ceil(4), layout.ints.len().div_ceil(4)];
        let mut stage = Stage { digits: [[0; 16]; PLACES], scales: [NEUTRAL_FLOAT; PLACES] };
        (0..=255).for_each(|slot| stage.neutralise(slot, groups));
        Stages(Box::new([stage.clone(), stage.clone(), stage.clone(), stage]))
    }
}

/// What else a quick reader keeps from message to message.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(super) odd: Vec<Odd>,
    pub(super) long_floats: Vec<LongFloat>,
    pub(super) times: TimeCache,
}

/// What one reading works with.
#[derive(Debug)]
pub(crate) struct Work<'w> {
    pub(super) layout: &'w Layout,
    pub(super) values: &'w mut Values,
    pub(super) memory: &'w mut Memory,
    pub(super) stages: &'w mut [Stage; LANES_MAX],
    pub(super) depth_max: usize,
    /// The messages' buffer.
    pub(super) buffer: &'w [u8],
    /// The step at which a lane read a stand-in last.
    pub(super) detours: [usize; LANES_MAX],
    /// How many values each lane lacks.
    pub(super) lacking: [u8; LANES_MAX],
    /// The times that are no staged numbers, in milliseconds; negative where there is none.
    pub(super) times_ms: [i64; LANES_MAX],
}

impl<'w> Work<'w> {
    /// Starts a reading.
    #[inline]
    pub(super) fn new(
        layout: &'w Layout,
        values: &'w mut Values,
        stages: &'w mut Stages,
        memory: &'w mut Memory,
        depth_max: usize,
        buffer: &'w [u8],
    ) -> Work<'w> {
        memory.odd.clear();
        memory.long_floats.clear();
        values.scratch.clear();
        Work {
            layout,
            values,
            stages: &mut stages.0,
            memory,
            depth_max,
            buffer,
            detours: [usize::MAX; LANES_MAX],
            lacking: [0; LANES_MAX],
            times_ms: [-1; LANES_MAX],
        }
    }

    /// Takes a float that was too long for a stage, or was read as if it were. Its end is right,
    /// so it is never read again.
    #[inline]
    pub(super) fn take_long(&mut self, step: &Step, lane: usize, value: Long) {
        let stage = &mut self.stages[lane];
        stage.digits[usize::from(step.stage)] = [0; 16];
        stage.scales[usize::from(step.stage)] = NEUTRAL_FLOAT;
        self.memory.long_floats.push(LongFloat { lane, slot: step.stage, value });
    }

    /// Notes what stands in place of a value that the plan expects. Returns `None` if that is
    /// for the judge to say.
    pub(super) fn note_odd(
        &mut self,
        plan: &QuickPlan,
        lane: usize,
        step: usize,
        cell: Cell,
    ) -> Option<()> {
        let of = &plan.steps[step];
        if of.kind.get().is_staged() {
            self.stages[lane].neutralise(of.stage, plan.groups_of_rows());
        }
        match (of.kind.get(), cell) {
            (Kind::Key, _) => return None,
            (Kind::TimeNumber | Kind::TimeText, Cell::Time(time)) => {
                self.times_ms[lane] = time.as_ms();
            }
            (Kind::TimeNumber | Kind::TimeText, _) => return None,
            _ if of.rule.is_some() => self.memory.odd.push(Odd { lane, step, cell }),
            _ => {}
        }
        Some(())
    }
}

/// The minute of the last time that was read as text, as it was written.
#[derive(Debug, Default)]
pub(super) struct TimeCache {
    minute: Option<([u8; 16], i64)>,
}

/// What `:00.000Z` is.
const SECONDS: u64 = u64::from_le_bytes(*b":00.000Z");
const SECONDS_FIXED: u64 = u64::from_le_bytes([0xff, 0, 0, 0xff, 0, 0, 0, 0xff]);

impl TimeCache {
    /// Returns the milliseconds that `YYYY-MM-DDTHH:MM:SS.mmmZ` writes, if the minute is that of
    /// the last one and the rest is as simple as that.
    #[inline(always)]
    pub(super) fn read(&self, text: &[u8; 24]) -> Option<i64> {
        let (minute, base_ms) = self.minute?;
        let (head, tail) = text.split_first_chunk::<16>()?;
        let word = u64::from_le_bytes(*tail.first_chunk()?) ^ SECONDS;
        let beyond_nine = word.wrapping_add(0x7676_7676_7676_7676) | word;
        let is_simple = word & SECONDS_FIXED == 0 && beyond_nine & 0x8080_8080_8080_8080 == 0;
        let digit = |at: u32| (word >> (8 * at) & 0xff) as i64;
        let second = digit(1) * 10 + digit(2);
        if *head != minute || !is_simple || second > 59 {
            return None;
        }
        let ms = digit(4) * 100 + digit(5) * 10 + digit(6);
        Some(base_ms + second * 1000 + ms)
    }

    /// Remembers the minute of a time that was read as text without a pinned unit.
    pub(super) fn learn(&mut self, text: &[u8]) {
        let Some(minute) = text.first_chunk::<16>() else { return };
        let mut start = [0; 20];
        start[..16].copy_from_slice(minute);
        start[16..].copy_from_slice(b":00Z");
        if let Some(time) = parse_text(&start, TimeUnit::Auto) {
            self.minute = Some((*minute, time.as_ms()));
        }
    }
}

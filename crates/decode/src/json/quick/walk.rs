//! The walk along a plan with several messages in lock step: each step's literal is compared in
//! all lanes, then its values are read in all lanes. One message alone is a chain in which each
//! value's end gives the next one's place; a second hides that wait.
//!
//! Numbers are not converted on the way: they are staged (`stage.rs`), and converted four at a
//! time behind the last step (`convert.rs`). What a literal does not match goes to `repair.rs`.
//! A step looks at one window of 64 bytes per lane; where there is none the walk ends without a
//! verdict.

use std::arch::x86_64::*;

use tidemill_kernel::event::Rows;

use super::{
    Lane,
    convert::finish,
    long::{find_long, is_cut},
    plan::{KEY_PARTS_MAX, Kind, QuickPlan, Step},
    repair::{Spot, repair},
    simd::{Text, Window, load32},
    stage::{quoted_length, stage_any_float, stage_bool, stage_float, stage_int, stage_signed_int},
    work::{Long, Work},
};

/// A part of the key: where it starts in the buffer, and its length.
pub(super) type KeyPart = (usize, usize);

/// Where the lanes stand.
pub(super) struct Walk<'w, const L: usize> {
    plan: &'w QuickPlan,
    lanes: &'w [Lane; L],
    pub(super) at: [usize; L],
    /// What they look at.
    pub(super) windows: [&'w Window; L],
    pub(super) keys: [[KeyPart; KEY_PARTS_MAX]; L],
}

/// Reads messages of a plan's shape into rows; `None` if any has another shape, or may have.
#[target_feature(enable = "avx2,bmi1,bmi2")]
pub(super) fn read<'w, const L: usize>(
    plan: &'w QuickPlan,
    text: Text<'w>,
    lanes: &'w [Lane; L],
    work: &mut Work<'_>,
    rows: &mut Rows<'_>,
) -> Option<()> {
    let mut walk = Walk::start(plan, text, lanes, work)?;
    for (index, step) in plan.steps.iter().enumerate() {
        let literal = load32(&step.literal);
        let mut differs = _mm256_setzero_si256();
        let mut windows = walk.windows;
        for (window, at) in windows.iter_mut().zip(walk.at) {
            *window = text.window(at)?;
            let there = load32(window.first_chunk()?);
            differs = _mm256_or_si256(differs, _mm256_xor_si256(there, literal));
        }
        if _mm256_testz_si256(differs, load32(&step.mask)) == 0 {
            // What the lanes looked at before tells where they stood before the last value.
            let before = walk.windows.map(|window| text.place_of(window));
            (walk.at, windows) = repair(plan, index, text, lanes, walk.at, &before, work)?;
        }
        walk.windows = windows;
        walk.values::<true>(index, step, work, rows)?;
    }
    for (lane, from) in lanes.iter().enumerate() {
        if walk.at[lane] != from.end {
            return None;
        }
        finish(plan, lane, *from, &walk.keys[lane], work, rows)?;
    }
    Some(())
}

impl<'w, const L: usize> Walk<'w, L> {
    /// Returns a walk in which each lane stands where its message starts.
    #[inline(always)]
    pub(super) fn start(
        plan: &'w QuickPlan,
        text: Text<'w>,
        lanes: &'w [Lane; L],
        work: &mut Work<'_>,
    ) -> Option<Walk<'w, L>> {
        let at = lanes.map(|lane| lane.start);
        let keys = [[(0, 0); KEY_PARTS_MAX]; L];
        let mut windows = [&[0; 64]; L];
        for lane in 0..L {
            windows[lane] = text.window(at[lane])?;
            for slot in &plan.unused {
                work.memory.stages[lane].neutralise(*slot, plan.groups_of_rows());
            }
        }
        Some(Walk { plan, lanes, at, windows, keys })
    }

    /// Reads the values of a step whose literal stands in all lanes. Each of its two callers has a
    /// copy of its own, which is inlined: shared, four orders took a quarter more instructions.
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[inline]
    pub(super) fn values<const IN_ORDER: bool>(
        &mut self,
        index: usize,
        step: &Step,
        work: &mut Work<'_>,
        rows: &mut Rows<'_>,
    ) -> Option<()> {
        let length = usize::from(step.length) & 31;
        let slot = step.stage;
        macro_rules! staged {
            ($stage:ident) => {
                for lane in 0..L {
                    let number = self.windows[lane][length..].first_chunk()?;
                    let advance = $stage(number, &mut work.memory.stages[lane], slot);
                    self.at[lane] = self.at[lane].wrapping_add(length + advance);
                }
            };
        }
        match step.kind.get() {
            Kind::Float => staged!(stage_float),
            Kind::AnyFloat => {
                let before = self.at;
                staged!(stage_any_float);
                for (lane, before) in before.into_iter().enumerate() {
                    let advance = self.at[lane].wrapping_sub(before) & 63;
                    if is_cut(self.windows[lane], length, advance) {
                        let spot = self.spot(lane, index);
                        self.at[lane] = spot.long_float(before, self.windows[lane], work)?;
                    }
                }
            }
            Kind::LongFloat => return self.long_floats(index, step, work),
            Kind::Int => staged!(stage_int),
            Kind::SignedInt | Kind::TimeNumber => staged!(stage_signed_int),
            Kind::Bool => staged!(stage_bool),
            Kind::Text | Kind::Key | Kind::OtherText => {
                return self.texts(index, step, work, rows);
            }
            Kind::TimeText => {
                for lane in 0..L {
                    let window = self.windows[lane];
                    let found = work.memory.times.read(window[length..].first_chunk()?);
                    self.at[lane] = match found {
                        Some(time_ms) if window[length + 24] == b'"' => {
                            work.times_ms[lane] = time_ms;
                            self.at[lane] + length + 25
                        }
                        _ => self.spot(lane, index).text_time(self.at[lane], work)?,
                    };
                }
            }
            Kind::Any => {
                for lane in 0..L {
                    self.at[lane] = self.spot(lane, index).any_value(self.at[lane], work)?;
                }
            }
            Kind::More | Kind::End => self.at = self.at.map(|at| at + length),
        }
        Some(())
    }

    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[inline]
    fn long_floats(&mut self, index: usize, step: &Step, work: &mut Work<'_>) -> Option<()> {
        let length = usize::from(step.length) & 31;
        for lane in 0..L {
            let (at, window) = (self.at[lane], self.windows[lane]);
            self.at[lane] = match find_long(window[length..].first_chunk()?) {
                Some((digits, first, end)) => {
                    let first = at.wrapping_add(length + first);
                    work.take_long(step, lane, Long::Digits(first, digits));
                    at.wrapping_add(length + end)
                }
                None => self.spot(lane, index).other_float(at, window, work)?,
            };
        }
        Some(())
    }

    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[inline]
    fn texts(
        &mut self,
        index: usize,
        step: &Step,
        work: &mut Work<'_>,
        rows: &mut Rows<'_>,
    ) -> Option<()> {
        let length = usize::from(step.length) & 31;
        let kind = step.kind.get();
        for lane in 0..L {
            let (at, window) = (self.at[lane], self.windows[lane]);
            let size = quoted_length(window, length);
            let Some(size) = size.filter(|size| *size > 0 || kind != Kind::Key) else {
                let spot = self.spot(lane, index);
                self.at[lane] = spot.long_text(at, &mut self.keys[lane], work, rows)?;
                continue;
            };
            if kind == Kind::Text {
                rows.set_short_text(lane, step.slot, window[length..].first_chunk()?, size);
            } else if kind == Kind::Key {
                self.keys[lane][usize::from(step.slot) % KEY_PARTS_MAX] = (at + length, size);
            }
            self.at[lane] = at.wrapping_add(length + size + 1);
        }
        Some(())
    }

    fn spot(&self, lane: usize, index: usize) -> Spot<'w> {
        Spot { plan: self.plan, index, lane, from: self.lanes[lane] }
    }
}

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
    stage::{
        quoted_length, stage_any_float, stage_bool, stage_decimal, stage_float, stage_int,
        stage_signed_decimal, stage_signed_int,
    },
    work::{Long, Work},
};

/// A part of the key: where it starts in the buffer, and its length.
pub(super) type KeyPart = (usize, usize);

/// The parts of each lane's key.
pub(super) type Keys<const L: usize> = [[KeyPart; KEY_PARTS_MAX]; L];

/// What stays the same while the lanes walk. Where they stand is no part of it: that lives in
/// registers, which it cannot if anything borrows it: lanes are told apart by their numbers only.
#[derive(Clone, Copy)]
pub(super) struct Walk<'w, const L: usize> {
    plan: &'w QuickPlan,
    lanes: &'w [Lane; L],
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
    let walk = Walk::start(plan, lanes, work);
    let mut keys = [[(0, 0); KEY_PARTS_MAX]; L];
    let mut at = lanes.map(|lane| lane.start);
    let mut before = [&[0; 64]; L];
    for step in &plan.steps {
        let literal = load32(&step.literal);
        let mut differs = _mm256_setzero_si256();
        let mut windows = [&[0; 64]; L];
        for lane in 0..L {
            windows[lane] = text.window(at[lane])?;
            let there = load32(windows[lane].first_chunk()?);
            differs = _mm256_or_si256(differs, _mm256_xor_si256(there, literal));
        }
        if _mm256_testz_si256(differs, load32(&step.mask)) == 0 {
            let before = before.map(|window| text.place_of(window));
            (at, windows) = repair(plan, step, text, lanes, at, &before, work)?;
        }
        before = windows;
        at = walk.values::<true>(step, at, windows, &mut keys, work, rows)?;
    }
    if (0..L).any(|lane| at[lane] != lanes[lane].end) {
        return None;
    }
    finish(plan, lanes, &keys, work, rows)
}

impl<'w, const L: usize> Walk<'w, L> {
    /// Returns a walk of lanes in which no number stands that is not read on it.
    #[inline(always)]
    pub(super) fn start(
        plan: &'w QuickPlan,
        lanes: &'w [Lane; L],
        work: &mut Work<'_>,
    ) -> Walk<'w, L> {
        for slot in &plan.unused {
            for stage in work.stages.iter_mut().take(L) {
                stage.neutralise(*slot, plan.groups_of_rows());
            }
        }
        Walk { plan, lanes }
    }

    /// Reads the values of a step whose literal stands in all lanes; returns where they end. Each
    /// of its two callers has a copy of its own, which is inlined: shared, four orders took a
    /// quarter more instructions.
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[inline]
    pub(super) fn values<const IN_ORDER: bool>(
        self,
        step: &Step,
        mut at: [usize; L],
        windows: [&Window; L],
        keys: &mut Keys<L>,
        work: &mut Work<'_>,
        rows: &mut Rows<'_>,
    ) -> Option<[usize; L]> {
        let length = usize::from(step.length) & 31;
        macro_rules! each {
            (|$lane:ident| $end:expr) => {
                for $lane in 0..L {
                    at[$lane] = $end;
                }
            };
        }
        macro_rules! staged {
            ($stage:ident) => {
                each!(|lane| {
                    let number = windows[lane][length..].first_chunk()?;
                    match Option::from($stage(number, &mut work.stages[lane], step.stage)) {
                        Some(advance) => at[lane].wrapping_add(length).wrapping_add(advance),
                        None => self.spot(lane, step).no_decimal(at[lane], work)?,
                    }
                })
            };
        }
        macro_rules! texts {
            (|$lane:ident, $size:ident| $is_taken:expr) => {
                each!(|$lane| match quoted_length(windows[$lane], length) {
                    Some($size) if $is_taken => at[$lane].wrapping_add(length + $size + 1),
                    _ => self.spot($lane, step).long_text(at[$lane], keys, work, rows)?,
                })
            };
        }
        match step.kind.get() {
            Kind::Decimal => staged!(stage_decimal),
            Kind::SignedDecimal => staged!(stage_signed_decimal),
            Kind::Float => staged!(stage_float),
            Kind::AnyFloat => {
                let from = at;
                staged!(stage_any_float);
                each!(|lane| {
                    let ends = [from[lane], at[lane]];
                    self.whole(lane, step, windows[lane], ends, work)?
                });
            }
            Kind::LongFloat => each!(|of| self.long(of, step, windows[of], at[of], work)?),
            Kind::Int => staged!(stage_int),
            Kind::SignedInt | Kind::TimeNumber => staged!(stage_signed_int),
            Kind::Bool => staged!(stage_bool),
            Kind::Text => texts!(|lane, size| {
                let text = windows[lane][length..].first_chunk()?;
                rows.set_short_text(lane, step.slot, text, size);
                true
            }),
            Kind::Key => texts!(|lane, size| {
                keys[lane][usize::from(step.slot) % KEY_PARTS_MAX] = (at[lane] + length, size);
                size > 0
            }),
            Kind::OtherText => texts!(|lane, size| true),
            Kind::TimeText => each!(|lane| self.time(lane, step, windows[lane], at[lane], work)?),
            Kind::Any => each!(|lane| self.spot(lane, step).any_value(at[lane], work)?),
            Kind::More | Kind::End => each!(|lane| at[lane].wrapping_add(length)),
        }
        Some(at)
    }

    /// Returns where a float ends that was staged, unless it is longer. It stands between the start
    /// of the step's literal and the end of what was staged.
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[inline]
    fn whole(
        self,
        lane: usize,
        step: &Step,
        window: &Window,
        [from, at]: [usize; 2],
        work: &mut Work<'_>,
    ) -> Option<usize> {
        let length = usize::from(step.length) & 31;
        if is_cut(window, length, at.wrapping_sub(from) & 63) {
            return self.spot(lane, step).long_float(from, window, work);
        }
        Some(at)
    }

    /// Returns where a float of more digits than a stage holds ends. `at` is where the step's
    /// literal stands.
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[inline]
    fn long(
        self,
        lane: usize,
        step: &Step,
        window: &Window,
        at: usize,
        work: &mut Work<'_>,
    ) -> Option<usize> {
        let length = usize::from(step.length) & 31;
        match find_long(window[length..].first_chunk()?) {
            // A stand-in is not in the buffer, from which digits are read later.
            Some((digits, first, end)) if work.detours[lane] != step.index as usize => {
                work.take_long(step, lane, Long::Digits(at.wrapping_add(length + first), digits));
                Some(at.wrapping_add(length + end))
            }
            _ => self.spot(lane, step).other_float(at, window, work),
        }
    }

    /// Returns where a time ends that is text. `at` is where the step's literal stands.
    #[inline(always)]
    fn time(
        self,
        lane: usize,
        step: &Step,
        window: &Window,
        at: usize,
        work: &mut Work<'_>,
    ) -> Option<usize> {
        let length = usize::from(step.length) & 31;
        match work.memory.times.read(window[length..].first_chunk()?) {
            Some(time_ms) if window[length + 24] == b'"' => {
                work.times_ms[lane] = time_ms;
                Some(at + length + 25)
            }
            _ => self.spot(lane, step).text_time(at, work),
        }
    }

    fn spot(&self, lane: usize, step: &Step) -> Spot<'w> {
        Spot { plan: self.plan, index: step.index as usize, lane, from: self.lanes[lane] }
    }
}

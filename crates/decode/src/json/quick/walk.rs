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
    simd::{Place, Text, Window, load32},
    stage::{
        quoted_length, stage_any_float, stage_bool, stage_decimal, stage_float, stage_int,
        stage_signed_decimal, stage_signed_int,
    },
    work::{Long, Work},
};

/// A part of the key: where it starts in the buffer, and its length.
pub(super) type KeyPart = (usize, usize);

/// The most bytes that are fetched ahead.
const FETCHED_MAX: usize = 4096;

/// The parts of each lane's key.
pub(super) type Keys<const L: usize> = [[KeyPart; KEY_PARTS_MAX]; L];

/// Where a lane stands.
pub(super) trait Stand<'w>: Copy {
    /// Returns what is looked at there.
    fn window(self) -> &'w Window;

    /// Returns how many bytes behind the buffer's start it is.
    fn at(self, text: Text<'w>) -> usize;

    /// Returns where the lane stands so many bytes behind, which are no more than a window's.
    fn behind(self, text: Text<'w>, by: usize) -> Option<Self>;

    /// Returns where the lane stands so many bytes behind the buffer's start.
    fn new(text: Text<'w>, at: usize) -> Option<Self>;
}

impl<'w> Stand<'w> for Place<'w> {
    #[inline(always)]
    fn window(self) -> &'w Window {
        Place::window(self)
    }

    #[inline(always)]
    fn at(self, text: Text<'w>) -> usize {
        text.at(self)
    }

    #[inline(always)]
    fn behind(self, text: Text<'w>, by: usize) -> Option<Self> {
        text.behind(self, by)
    }

    #[inline(always)]
    fn new(text: Text<'w>, at: usize) -> Option<Self> {
        text.place(at)
    }
}

/// Where a lane stands that may look at something else than stands there.
#[derive(Clone, Copy)]
pub(super) struct Detour<'w> {
    pub(super) at: usize,
    pub(super) window: &'w Window,
}

impl<'w> Stand<'w> for Detour<'w> {
    #[inline(always)]
    fn window(self) -> &'w Window {
        self.window
    }

    #[inline(always)]
    fn at(self, _: Text<'w>) -> usize {
        self.at
    }

    #[inline(always)]
    fn behind(self, text: Text<'w>, by: usize) -> Option<Self> {
        Detour::new(text, self.at.wrapping_add(by))
    }

    #[inline(always)]
    fn new(_: Text<'w>, at: usize) -> Option<Self> {
        Some(Detour { at, window: &[0; 64] })
    }
}

/// What stays the same while the lanes walk. Where they stand is no part of it: that lives in
/// registers, which it cannot if anything borrows it: lanes are told apart by their numbers only.
#[derive(Clone, Copy)]
pub(super) struct Walk<'w, const L: usize> {
    plan: &'w QuickPlan,
    text: Text<'w>,
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
    let walk = Walk::start(plan, text, lanes, work);
    let mut keys = [[(0, 0); KEY_PARTS_MAX]; L];
    walk.fetch_next();
    let mut places = [text.place(0)?; L];
    for lane in 0..L {
        places[lane] = text.place(lanes[lane].start)?;
    }
    for step in &plan.steps {
        let literal = load32(&step.literal);
        let mut differs = _mm256_setzero_si256();
        for place in places {
            let there = load32(&place.window().as_chunks().0[0]);
            differs = _mm256_or_si256(differs, _mm256_xor_si256(there, literal));
        }
        places = if _mm256_testz_si256(differs, load32(&step.mask)) != 0 {
            walk.values(step, places, &mut keys, work, rows)?
        } else {
            walk.repaired(step, places, &mut keys, work, rows)?
        };
    }
    if (0..L).any(|lane| text.at(places[lane]) != lanes[lane].end) {
        return None;
    }
    finish(plan, lanes, &keys, work, rows)
}

impl<'w, const L: usize> Walk<'w, L> {
    /// Returns a walk of lanes in which no number stands that is not read on it.
    #[inline(always)]
    pub(super) fn start(
        plan: &'w QuickPlan,
        text: Text<'w>,
        lanes: &'w [Lane; L],
        work: &mut Work<'_>,
    ) -> Walk<'w, L> {
        for slot in &plan.unused {
            for stage in work.stages.iter_mut().take(L) {
                stage.neutralise(*slot, plan.groups_of_rows());
            }
        }
        Walk { plan, text, lanes }
    }

    /// Fetches as many bytes behind these messages as they have: those that are read next, which
    /// nearly always lie there.
    #[inline(always)]
    fn fetch_next(self) {
        let (Some(first), Some(last)) = (self.lanes.first(), self.lanes.last()) else { return };
        let length = last.end.saturating_sub(first.start).min(FETCHED_MAX);
        self.text.fetch(last.end..last.end + length);
    }

    /// Repairs a step whose literal does not stand in all lanes, and reads its values.
    #[cold]
    #[inline(never)]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn repaired(
        self,
        step: &Step,
        places: [Place<'w>; L],
        keys: &mut Keys<L>,
        work: &mut Work<'_>,
        rows: &mut Rows<'_>,
    ) -> Option<[Place<'w>; L]> {
        let stands = repair(self.plan, step, self.text, self.lanes, places, work)?;
        let stands = self.values(step, stands, keys, work, rows)?;
        let mut places = places;
        for lane in 0..L {
            places[lane] = self.text.place(stands[lane].at)?;
        }
        Some(places)
    }

    /// Reads the values of a step whose literal stands in all lanes; returns where they end. Each
    /// of its callers has a copy of its own, which is inlined: shared, four orders took a quarter
    /// more instructions.
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[inline]
    pub(super) fn values<S: Stand<'w>>(
        self,
        step: &Step,
        mut stands: [S; L],
        keys: &mut Keys<L>,
        work: &mut Work<'_>,
        rows: &mut Rows<'_>,
    ) -> Option<[S; L]> {
        let text = self.text;
        let (length, stage) = (usize::from(step.length) & 31, step.stage);
        macro_rules! each {
            (|$lane:ident, $stand:ident| $end:expr) => {
                for $lane in 0..L {
                    let $stand = stands[$lane];
                    stands[$lane] = $end;
                }
            };
        }
        // What the walk cannot read is read elsewhere, and ends anywhere.
        macro_rules! elsewhere {
            ($lane:ident, $stand:ident, $name:ident, $($with:expr),*) => {
                S::new(text, self.spot($lane, step).$name($stand.at(text), $($with),*)?)?
            };
        }
        macro_rules! staged {
            ($stage:ident) => {
                each!(|lane, stand| {
                    let number = stand.window()[length..].first_chunk()?;
                    match Option::<usize>::from($stage(number, &mut work.stages[lane], stage)) {
                        Some(advance) => stand.behind(text, length + advance)?,
                        None => elsewhere!(lane, stand, no_decimal, work),
                    }
                })
            };
        }
        macro_rules! texts {
            (|$lane:ident, $stand:ident, $size:ident| $is_taken:expr) => {
                each!(|$lane, $stand| match quoted_length($stand.window(), length) {
                    Some($size) if $is_taken => $stand.behind(text, length + $size + 1)?,
                    _ => elsewhere!($lane, $stand, long_text, keys, work, rows),
                })
            };
        }
        match step.kind.get() {
            Kind::Decimal => staged!(stage_decimal),
            Kind::SignedDecimal => staged!(stage_signed_decimal),
            Kind::Float => staged!(stage_float),
            Kind::AnyFloat => each!(|lane, stand| self.any_float(lane, step, stand, work)?),
            Kind::LongFloat => each!(|lane, stand| self.long(lane, step, stand, work)?),
            Kind::Int => staged!(stage_int),
            Kind::SignedInt | Kind::TimeNumber => staged!(stage_signed_int),
            Kind::Bool => staged!(stage_bool),
            Kind::Text => texts!(|lane, stand, size| {
                let chunk = stand.window()[length..].first_chunk()?;
                rows.set_short_text(lane, step.slot, chunk, size);
                true
            }),
            Kind::Key => texts!(|lane, stand, size| {
                let start = stand.at(text).wrapping_add(length);
                keys[lane][usize::from(step.slot) % KEY_PARTS_MAX] = (start, size);
                size > 0
            }),
            Kind::OtherText => texts!(|lane, stand, size| true),
            Kind::TimeText => each!(|lane, stand| self.time(lane, step, stand, work)?),
            Kind::Any => each!(|lane, stand| elsewhere!(lane, stand, any_value, work)),
            Kind::More | Kind::End => each!(|lane, stand| stand.behind(text, length)?),
        }
        Some(stands)
    }

    /// Returns where a float of any length ends.
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[inline]
    fn any_float<S: Stand<'w>>(
        self,
        lane: usize,
        step: &Step,
        stand: S,
        work: &mut Work<'_>,
    ) -> Option<S> {
        let (length, window) = (usize::from(step.length) & 31, stand.window());
        let number = window[length..].first_chunk()?;
        let end = length + stage_any_float(number, &mut work.stages[lane], step.stage);
        if is_cut(window, length, end) {
            let at = stand.at(self.text);
            return S::new(self.text, self.spot(lane, step).long_float(at, window, work)?);
        }
        stand.behind(self.text, end)
    }

    /// Returns where a float of more digits than a stage holds ends.
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[inline]
    fn long<S: Stand<'w>>(
        self,
        lane: usize,
        step: &Step,
        stand: S,
        work: &mut Work<'_>,
    ) -> Option<S> {
        let (length, window) = (usize::from(step.length) & 31, stand.window());
        let at = stand.at(self.text);
        match find_long(window[length..].first_chunk()?) {
            // A stand-in is not in the buffer, from which digits are read later.
            Some((digits, first, end)) if work.detours[lane] != step.index as usize => {
                work.take_long(step, lane, Long::Digits(at.wrapping_add(length + first), digits));
                stand.behind(self.text, length + end)
            }
            _ => S::new(self.text, self.spot(lane, step).other_float(at, window, work)?),
        }
    }

    /// Returns where a time ends that is text.
    #[inline(always)]
    fn time<S: Stand<'w>>(
        self,
        lane: usize,
        step: &Step,
        stand: S,
        work: &mut Work<'_>,
    ) -> Option<S> {
        let (length, window) = (usize::from(step.length) & 31, stand.window());
        match work.memory.times.read(window[length..].first_chunk()?) {
            Some(time_ms) if window[length + 24] == b'"' => {
                work.times_ms[lane] = time_ms;
                stand.behind(self.text, length + 25)
            }
            _ => {
                let at = stand.at(self.text);
                S::new(self.text, self.spot(lane, step).text_time(at, work)?)
            }
        }
    }

    fn spot(&self, lane: usize, step: &Step) -> Spot<'w> {
        Spot { plan: self.plan, index: step.index as usize, lane, from: self.lanes[lane] }
    }
}

//! Which of the shapes met last the next message is tried with.
//!
//! One after the other, the one that was right last first. Where messages fit none of many, their
//! names probably come in any order, and one shape is made a list of names; where that does not
//! help either the judge reads for a while.

use super::{
    fast::{Found, Plan},
    layout::Layout,
    quick::QuickPlan,
    strict::Trace,
    value::Values,
};
use crate::DecodeLimits;

/// The shapes met last.
#[derive(Debug, Default)]
pub(crate) struct Guesses {
    /// At most `PLANS_MAX`; the one that was right last stands first.
    plans: Vec<Plan>,
    /// How many messages in a row no plan fitted.
    misses: u32,
    /// How many messages are to be left to the judge before the next guess.
    pause: u32,
    /// Reads names in any order, if messages need it.
    any_order: Option<Box<QuickPlan>>,
    /// How many messages are to be tried with that before the plans.
    any_order_first: u32,
    /// Whether nothing is to be learnt.
    is_off: bool,
}

/// How many shapes are remembered.
const PLANS_MAX: usize = 8;
/// After this many misses in a row guessing pauses.
const MISSES_MAX: u32 = 16;
/// For so many messages.
const PAUSE_MESSAGES: u32 = 512;
/// So many messages are tried in any order before one is for the plans or the judge, which learns
/// its order: there may be one again.
const ANY_ORDER_MESSAGES: u32 = 1024;

impl Guesses {
    /// Returns the quick plan at `index`, if there is one and guessing does not pause. The plan
    /// that was right last stands first.
    #[inline]
    pub(crate) fn quick_plan(&self, index: usize) -> Option<&QuickPlan> {
        if self.pause > 0 {
            return None;
        }
        self.plans.get(index)?.quick.as_deref()
    }

    /// Returns which of the plans two messages start as, if names in any order are not tried first.
    #[inline]
    pub(crate) fn of_both(&self, first: &[u8], second: &[u8]) -> Option<usize> {
        if self.pause > 0 || self.any_order_first > 0 {
            return None;
        }
        let mut plans = self.plans.iter().map(|plan| plan.quick.as_deref());
        let begins = |plan: &QuickPlan| plan.begins(first) && plan.begins(second);
        plans.position(|plan| plan.is_some_and(begins))
    }

    /// Learns nothing from now on.
    pub(crate) fn turn_off(&mut self) {
        self.is_off = true;
    }

    /// Notes that a plan was right, and quick.
    #[inline]
    pub(crate) fn hit(&mut self, index: usize) {
        self.misses = 0;
        if let Some(plan) = self.plans.get_mut(index) {
            plan.losses = 0;
        }
    }

    /// Reads a message if it looks like an earlier one: by `quick`, which says whether it could,
    /// where a plan is quick, else into the values. If nothing is found the values are void.
    /// `limits` are those of the quick reader, if there is one.
    #[inline]
    pub(crate) fn read(
        &mut self,
        layout: &Layout,
        bytes: &[u8],
        values: &mut Values,
        depth_max: usize,
        limits: Option<&DecodeLimits>,
        mut quick: impl FnMut(&QuickPlan, &mut Values) -> bool,
    ) -> Found {
        if self.pause > 0 {
            self.pause -= 1;
            return Found::Nothing;
        }
        let in_any_order = self.any_order.as_ref().filter(|_| self.any_order_first > 0);
        if let Some(plan) = in_any_order {
            self.any_order_first -= 1;
            if quick(plan, values) {
                self.misses = self.misses.saturating_sub(1);
                return Found::Row;
            }
        }
        for index in 0..self.plans.len() {
            let found = self.plans[index].guess(layout, bytes, values, depth_max, &mut quick);
            if found != Found::Nothing {
                self.misses = 0;
                if let Some(limits) = limits
                    && !self.plans[index].has_come_again
                {
                    self.plans[index].quicken(layout, limits);
                }
                if index > 0 {
                    self.plans[..=index].rotate_right(1);
                }
                return found;
            }
        }
        if self.any_order.is_some() && self.any_order_first == 0 {
            self.any_order_first = ANY_ORDER_MESSAGES;
        } else {
            self.miss(layout, limits);
        }
        Found::Nothing
    }

    /// Notes that nothing fitted a message.
    fn miss(&mut self, layout: &Layout, limits: Option<&DecodeLimits>) {
        self.misses += 1;
        if self.misses <= MISSES_MAX {
            return;
        }
        self.misses = 0;
        let names_before = self.any_order.as_ref().map_or(0, |plan| plan.step_count());
        self.any_order = limits.and_then(|limits| self.names_of_the_longest(layout, limits));
        self.any_order_first = ANY_ORDER_MESSAGES;
        // The same names again would miss again.
        if self.any_order.as_ref().is_none_or(|plan| plan.step_count() <= names_before) {
            self.pause = PAUSE_MESSAGES;
        }
    }

    /// Returns the shape with the most values as one without an order.
    #[cold]
    fn names_of_the_longest(
        &self,
        layout: &Layout,
        limits: &DecodeLimits,
    ) -> Option<Box<QuickPlan>> {
        let plans = self.plans.iter().filter_map(|plan| plan.for_quick_reader(layout, limits));
        plans.filter_map(QuickPlan::in_any_order).max_by_key(|plan| plan.step_count())
    }

    /// Remembers the shape of a message that the judge accepted.
    pub(crate) fn learn(&mut self, layout: &Layout, bytes: &[u8], trace: &Trace, values: &Values) {
        if self.is_off || self.pause > 0 || !trace.complete || values.has_duplicates() {
            return;
        }
        let mut plan = if self.plans.len() == PLANS_MAX {
            self.plans.pop().unwrap_or_default()
        } else {
            Plan::default()
        };
        if plan.learn(layout, bytes, trace) {
            self.plans.insert(0, plan);
        }
    }
}

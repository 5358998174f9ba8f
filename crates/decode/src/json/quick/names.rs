//! The names of a shape in whatever order they come: a table without collisions, built once, so
//! that a name is found by one look and one comparison.
//!
//! Only for flat objects that are written alike throughout: short names without escapes, the same
//! white space around each. Other shapes have no such table.

use super::plan::{Kind, QuickPlan};

/// The most names: a step is remembered as one bit of so many.
pub(super) const NAMES_MAX: usize = 255;
/// The most places of a table; 2 bytes each.
const PLACES_MAX: usize = 1 << 13;
/// How many tables are tried before there is none.
const TRIES_MAX: u64 = 256;
/// What a place without a name holds.
const NOBODY: u16 = u16::MAX;

/// A name with its quotes and what stands before its value.
#[derive(Clone, Debug)]
#[repr(C, align(32))]
pub(super) struct Head {
    pub(super) text: [u8; 32],
    /// All ones where the text is.
    pub(super) mask: [u8; 32],
    pub(super) length: usize,
    /// The step of the plan that it leads to.
    pub(super) step: usize,
    /// Where a number is staged, and whether it may have a point (all ones or 0).
    pub(super) number: Option<(u8, u32)>,
}

/// What stands between two values, or at an end of the message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gap {
    text: u64,
    mask: u64,
    length: usize,
}

impl Gap {
    fn new(text: &[u8]) -> Option<Gap> {
        let mut bytes = [0; 8];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        let mask = u64::MAX.checked_shr(64 - 8 * text.len() as u32).unwrap_or(0);
        Some(Gap { text: u64::from_le_bytes(bytes), mask, length: text.len() })
    }

    /// Returns its length if it stands at the start of these bytes.
    #[inline(always)]
    pub(super) fn length_in(self, bytes: &[u8; 8]) -> Option<usize> {
        ((u64::from_le_bytes(*bytes) ^ self.text) & self.mask == 0).then_some(self.length)
    }
}

/// The names of one shape.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) opening: Gap,
    pub(super) between: Gap,
    pub(super) closing: Gap,
    /// One per value, in the order of the steps.
    pub(super) heads: Vec<Head>,
    /// The steps of all values.
    pub(super) all: [u64; 4],
    /// Indices of `heads`, or `NOBODY`; as many as a power of two.
    table: Vec<u16>,
    factor: u64,
}

impl Names {
    /// Returns the names of a plan's messages, if they may come in any order.
    pub(super) fn of(plan: &QuickPlan) -> Option<Names> {
        let (last, steps) = plan.steps.split_last()?;
        let mut heads = Vec::with_capacity(steps.len());
        let mut gaps = [None; 2];
        for (index, step) in steps.iter().enumerate() {
            let literal = step.text();
            let quote = literal.iter().position(|byte| *byte == b'"')?;
            let (gap, head) = literal.split_at(quote);
            let is_flat = step.depth == 1 && (index == 0 || step.may_lack);
            let gap_before = gaps[usize::from(index > 0)].get_or_insert(gap);
            let is_whole = step.kind.get() != Kind::More && last.kind.get() == Kind::End;
            if !is_flat || !is_whole || *gap_before != gap || literal.contains(&b'\\') {
                return None;
            }
            let (mut text, mut mask) = ([0; 32], [0; 32]);
            text[..head.len()].copy_from_slice(head);
            mask[..head.len()].fill(0xff);
            let number = match step.kind.get() {
                Kind::Decimal | Kind::SignedDecimal | Kind::Float | Kind::AnyFloat => {
                    Some((step.stage, u32::MAX))
                }
                Kind::Int | Kind::SignedInt | Kind::TimeNumber => Some((step.stage, 0)),
                _ => None,
            };
            heads.push(Head { text, mask, length: head.len(), step: index, number });
        }
        let mut names = Names {
            opening: Gap::new(gaps[0]?)?,
            // One value alone has nothing between; nothing else starts so.
            between: Gap::new(gaps[1].unwrap_or(b","))?,
            closing: Gap::new(last.text())?,
            all: [0; 4],
            heads,
            table: Vec::new(),
            factor: 0,
        };
        if names.heads.len() > NAMES_MAX {
            return None;
        }
        for step in 0..names.heads.len() {
            names.all[step / 64] |= 1 << (step % 64);
        }
        (0..TRIES_MAX).find(|number| names.fill_table(*number)).map(|_| names)
    }

    /// Tries a table; returns whether each name has a place of its own.
    fn fill_table(&mut self, number: u64) -> bool {
        let count = self.heads.len();
        self.table.clear();
        self.table.resize((count * count).next_power_of_two().clamp(16, PLACES_MAX), NOBODY);
        self.factor = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..count).all(|index| {
            let text = &self.heads[index].text;
            let Some(length) = text[1..].iter().position(|byte| *byte == b'"') else {
                return false;
            };
            let mut window = [0; 64];
            window[..32].copy_from_slice(text);
            let place = self.place(&window, length);
            let is_free = self.table[place] == NOBODY;
            self.table[place] = index as u16;
            is_free
        })
    }

    /// Returns the head that a name of that length behind a window's first quote may have.
    #[inline(always)]
    pub(super) fn likely(&self, window: &[u8; 64], length: usize) -> Option<&Head> {
        let index = *self.table.get(self.place(window, length))?;
        self.heads.get(usize::from(index))
    }

    /// Returns the place of a name of at most 31 bytes: by its length, its first eight bytes and
    /// its last.
    #[inline(always)]
    fn place(&self, window: &[u8; 64], length: usize) -> usize {
        let length = length & 31;
        let word = |at: usize| {
            let bytes = window[at & 31..].first_chunk().expect("at least 33 bytes follow");
            u64::from_le_bytes(*bytes)
        };
        let mask = u64::MAX >> (64 - 8 * length.clamp(1, 8));
        let (first, last) = (word(1) & mask, word(1 + length.saturating_sub(8)) & mask);
        let mixed = (first ^ last.rotate_left(29) ^ length as u64).wrapping_mul(self.factor);
        // The upper half of a product is its well-mixed one.
        (mixed >> 40) as usize & (self.table.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_whole_texts_of_at_most_eight_bytes() {
        let gap = Gap::new(b", ").expect("two bytes");
        assert_eq!(gap.length_in(b", \"a\":1,"), Some(2));
        assert_eq!(gap.length_in(b",\"a\":1, "), None);
        let longest = Gap::new(b",\n      ").expect("eight bytes");
        assert_eq!(longest.length_in(b",\n      "), Some(8));
        assert_eq!(longest.length_in(b",\n     \""), None);
        assert!(Gap::new(b",\n       ").is_none());
    }
}

//! The most frequent of a small set of codes.
//!
//! Codes are offsets into the field's valid range, which holds at most
//! [`CODE_RANGE_MAX`](crate::schema::CODE_RANGE_MAX) values; so counting is exact and bounded.

use alloc::{boxed::Box, vec::Vec};

/// Distinct codes kept in place; almost every device-window has one or two.
const INLINE: usize = 2;

/// How often each code was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeCounts {
    /// (code, count); a count of 0 marks a free place.
    inline: [(u16, u32); INLINE],
    /// Further codes, sorted. Boxed: a pointer is all that a device-window without them pays.
    #[expect(clippy::box_collection, reason = "a Vec in place would cost 16 bytes more")]
    spill: Option<Box<Vec<(u16, u32)>>>,
}

impl CodeCounts {
    /// Counts `count` more of `code`.
    #[inline]
    pub fn add(&mut self, code: u16, count: u32) {
        if count == 0 {
            return;
        }
        for place in &mut self.inline {
            if place.1 == 0 {
                *place = (code, count);
                return;
            }
            if place.0 == code {
                place.1 = place.1.saturating_add(count);
                return;
            }
        }
        self.add_spilled(code, count);
    }

    #[cold]
    fn add_spilled(&mut self, code: u16, count: u32) {
        let spill = self.spill.get_or_insert_default();
        match spill.binary_search_by_key(&code, |place| place.0) {
            Ok(at) => spill[at].1 = spill[at].1.saturating_add(count),
            Err(at) => spill.insert(at, (code, count)),
        }
    }

    /// Takes another state in.
    pub fn merge(&mut self, other: &CodeCounts) {
        other.iter().for_each(|(code, count)| self.add(code, count));
    }

    /// Returns the codes with their counts, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u32)> + '_ {
        let inline = self.inline.iter().filter(|place| place.1 > 0);
        inline.chain(self.spill.iter().flat_map(|spill| spill.iter())).copied()
    }

    /// Returns whether no code was counted.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.inline[0].1 == 0
    }

    /// Returns the most frequent code; of equally frequent ones the smallest; `None` of none.
    pub fn most_frequent(&self) -> Option<u16> {
        let better = |a: &(u16, u32), b: &(u16, u32)| a.1.cmp(&b.1).then(b.0.cmp(&a.0));
        self.iter().max_by(better).map(|(code, _)| code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(codes: &[u16]) -> CodeCounts {
        let mut counts = CodeCounts::default();
        codes.iter().for_each(|code| counts.add(*code, 1));
        counts
    }

    #[test]
    fn ties_go_to_the_smallest() {
        assert_eq!(of(&[3, 1, 2, 2, 1, 3]).most_frequent(), Some(1));
        assert_eq!(of(&[9, 8, 7, 6, 5, 9]).most_frequent(), Some(9));
        assert_eq!(of(&[]).most_frequent(), None);
    }

    #[test]
    fn merged_counts_equal_counts_of_all() {
        let mut left = of(&[1, 2, 3, 4]);
        left.merge(&of(&[4, 5, 4]));
        assert_eq!(left.most_frequent(), Some(4));
        assert_eq!(left.iter().map(|(_, count)| count).sum::<u32>(), 7);
    }
}

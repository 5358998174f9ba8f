//! The most frequent of a small set of codes.
//!
//! Codes are offsets into the field's valid range, which holds at most
//! [`CODE_RANGE_MAX`](crate::schema::CODE_RANGE_MAX) values; so counting is exact and bounded.
//!
//! A device-window has a few places for codes, a word each (the code above its count); almost every
//! one needs no more. Further codes are [`CodeCounts`], which the caller keeps elsewhere.

use alloc::vec::Vec;

/// A code stands above so many bits of its count.
pub(crate) const COUNT_BITS: u32 = 32;

/// Codes of a device-window are counted in its row in groups of so many places.
pub(crate) const PLACES: usize = 4;

/// Counts `count` more of `code` if one of the places, whole groups, has it or is free.
#[inline]
#[must_use]
pub(crate) fn count_in_place(places: &mut [u64], code: u16, count: u32) -> bool {
    let (groups, _) = places.as_chunks_mut::<PLACES>();
    groups.iter_mut().any(|group| count_in_group(group, code, count))
}

/// The place is found without a branch: which code comes next nothing can predict.
#[inline]
fn count_in_group(places: &mut [u64; PLACES], code: u16, count: u32) -> bool {
    let mut found = PLACES;
    for index in (0..PLACES).rev() {
        let (known_code, known) = ((places[index] >> COUNT_BITS) as u16, places[index] as u32);
        found = if (known == 0) | (known_code == code) { index } else { found };
    }
    let Some(place) = places.get_mut(found) else {
        return false;
    };
    *place = u64::from(code) << COUNT_BITS | u64::from((*place as u32).saturating_add(count));
    true
}

/// Returns the codes in the places, with their counts.
pub(crate) fn counted_in_place(places: &[u64]) -> impl Iterator<Item = (u16, u32)> + '_ {
    let used = places.iter().filter(|place| **place as u32 > 0);
    used.map(|place| ((place >> COUNT_BITS) as u16, *place as u32))
}

/// Returns the most frequent code; of equally frequent ones the smallest; `None` of none.
pub(crate) fn most_frequent(counts: impl Iterator<Item = (u16, u32)>) -> Option<u16> {
    let better = |a: &(u16, u32), b: &(u16, u32)| a.1.cmp(&b.1).then(b.0.cmp(&a.0));
    counts.max_by(better).map(|(code, _)| code)
}

/// Returns the most frequent of the codes in the places; of equally frequent ones the smallest.
#[inline]
pub(crate) fn most_frequent_in_place(places: &[u64]) -> Option<u16> {
    // The count above what makes a smaller code the larger one.
    let order =
        |place: &u64| (*place << COUNT_BITS) >> 16 | u64::from(!((*place >> COUNT_BITS) as u16));
    let best = places.iter().map(order).max()?;
    (best >> 16 > 0).then_some(!(best as u16))
}

/// How often each code was seen; at most
/// [`CODE_RANGE_MAX`](crate::schema::CODE_RANGE_MAX) of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeCounts {
    /// Sorted by code.
    counts: Vec<(u16, u32)>,
}

impl CodeCounts {
    /// Counts `count` more of `code`.
    pub fn add(&mut self, code: u16, count: u32) {
        match self.counts.binary_search_by_key(&code, |place| place.0) {
            Ok(at) => self.counts[at].1 = self.counts[at].1.saturating_add(count),
            Err(at) => self.counts.insert(at, (code, count)),
        }
    }

    /// Returns the codes with their counts, smallest code first.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u32)> + '_ {
        self.counts.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(codes: &[u16]) -> Option<u16> {
        let (mut places, mut spilled) = ([0; 2 * PLACES], CodeCounts::default());
        for code in codes {
            if !count_in_place(&mut places, *code, 1) {
                spilled.add(*code, 1);
            }
        }
        let counts = || counted_in_place(&places).chain(spilled.iter());
        assert_eq!(counts().map(|(_, count)| count as usize).sum::<usize>(), codes.len());
        assert_eq!(most_frequent_in_place(&places), most_frequent(counted_in_place(&places)));
        most_frequent(counts())
    }

    #[test]
    fn ties_go_to_the_smallest() {
        assert_eq!(of(&[3, 1, 2, 2, 1, 3]), Some(1));
        assert_eq!(of(&[9, 8, 7, 6, 5, 9]), Some(9));
        assert_eq!(of(&[9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 5, 5]), Some(5));
        assert_eq!(of(&[9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]), Some(0));
        assert_eq!(of(&[4, 3, 2, 1, 0, 1]), Some(1));
        assert_eq!(of(&[0]), Some(0));
        assert_eq!(of(&[]), None);
    }
}

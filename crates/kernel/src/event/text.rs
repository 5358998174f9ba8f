//! A text that is compared with another one sixteen bytes at a time, without a call.

/// What is compared at once.
const STEP: usize = 16;

/// Which bytes count of the last step, by their number.
const MASKS: [u128; STEP + 1] = {
    let mut masks = [u128::MAX; STEP + 1];
    let mut count = 0;
    while count < STEP {
        masks[count] = (1 << (8 * count)) - 1;
        count += 1;
    }
    masks
};

/// The first bytes of what may be looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    place: &'a [u8],
    length: usize,
}

impl<'a> Text<'a> {
    /// Returns the first `length` bytes of a place that may go on.
    #[inline]
    pub(crate) fn new(place: &'a [u8], length: usize) -> Text<'a> {
        debug_assert!(length <= place.len(), "a text stands in its place");
        Text { place, length }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Returns the text and what stands behind it.
    #[inline]
    pub(crate) fn place(&self) -> &'a [u8] {
        self.place
    }

    /// Returns the sixteen bytes from `skipped` on as a number that is ordered as they are; zeros
    /// stand for those behind the end.
    #[inline]
    pub(crate) fn head(&self, skipped: usize) -> u128 {
        let length = self.length.saturating_sub(skipped).min(STEP);
        let kept = MASKS[length].swap_bytes();
        match self.place.get(skipped..).and_then(<[u8]>::first_chunk::<STEP>) {
            Some(head) => u128::from_be_bytes(*head) & kept,
            None => {
                let mut head = [0; STEP];
                head[..length].copy_from_slice(&self.place[self.length.min(skipped)..][..length]);
                u128::from_be_bytes(head)
            }
        }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &'a [u8] {
        &self.place[..self.length]
    }

    /// Returns whether another place begins with the same bytes.
    #[inline]
    pub(crate) fn stands_at(&self, place: &[u8]) -> bool {
        match (self.place.first_chunk::<STEP>(), place.first_chunk::<STEP>()) {
            (Some(own), Some(other)) if self.length <= STEP => {
                let differs = u128::from_le_bytes(*own) ^ u128::from_le_bytes(*other);
                differs & MASKS[self.length] == 0
            }
            _ => begin_alike(self.place, place, self.length),
        }
    }
}

/// Returns whether both places begin with the same bytes, so many. Out of the way of short texts,
/// which nearly all are.
#[inline(never)]
fn begin_alike(mut one: &[u8], mut other: &[u8], mut length: usize) -> bool {
    while let (Some((one_step, one_rest)), Some((other_step, other_rest))) =
        (one.split_first_chunk::<STEP>(), other.split_first_chunk::<STEP>())
    {
        let differs = u128::from_le_bytes(*one_step) ^ u128::from_le_bytes(*other_step);
        if length <= STEP {
            return differs & MASKS[length] == 0;
        }
        if differs != 0 {
            return false;
        }
        (one, other, length) = (one_rest, other_rest, length - STEP);
    }
    one.get(..length) == other.get(..length)
}

impl<'a> From<&'a [u8]> for Text<'a> {
    fn from(bytes: &'a [u8]) -> Text<'a> {
        Text::new(bytes, bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn head_is_what_stands_behind_the_skipped_bytes() {
        let bytes: Vec<u8> = (1..=64).collect();
        for (length, skipped, room) in [(0, 0, 0), (0, 3, 9), (5, 2, 0), (5, 2, 40), (40, 9, 1)] {
            let text = Text::new(&bytes[..length + room], length);
            let rest = bytes[..length].iter().skip(skipped).chain([0; 16].iter()).take(16);
            let expected = rest.fold(0, |head: u128, byte| head << 8 | u128::from(*byte));
            assert_eq!(text.head(skipped), expected, "{length} bytes, {skipped} skipped");
        }
    }

    #[test]
    fn texts_are_equal_only_in_every_byte() {
        let bytes: Vec<u8> = (0..64).collect();
        for length in 0..=50 {
            for room in [0, 1, 7, 14] {
                let own = Text::new(&bytes[..length + 14 - room], length);
                let mut other = bytes[..length + room].to_vec();
                assert!(own.stands_at(&other), "{length} bytes, {room} behind");
                // What stands behind the text does not count.
                other[length..].fill(255);
                assert!(own.stands_at(&other), "{length} bytes, {room} behind");
                for index in 0..length {
                    let mut changed = other.clone();
                    changed[index] ^= 0x80;
                    assert!(!own.stands_at(&changed), "byte {index} of {length}");
                }
                if length > 0 {
                    assert!(!own.stands_at(&other[..length - 1]), "{length} bytes, one too few");
                }
            }
        }
    }
}

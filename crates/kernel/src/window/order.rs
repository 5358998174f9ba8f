//! The order of rows: that of their keys' bytes.
//!
//! Keys lie all over a window's memory, and most of what they say is the same in all of them. So
//! what is sorted is a number for each: the bits that differ of the sixteen bytes behind the prefix
//! that all keys share, and below them the slot. Keys are compared only where these bits are equal.

use alloc::vec::Vec;

use crate::event::Text;

/// Of how many keys is looked at first which of their bits differ.
const SAMPLE: usize = 1_024;

/// Sorts slots by their keys, which are all different.
pub(crate) fn sort_by_key<'k>(slots: &mut [usize], key: impl Fn(usize) -> Text<'k>) {
    let (Some(first), Some(last)) = (slots.first(), slots.iter().max()) else {
        return;
    };
    let slot_bits = usize::BITS - last.leading_zeros();
    let step = slots.len().div_ceil(SAMPLE);
    let sample = slots.iter().step_by(step).copied();
    let guess = Packing::new(key(*first), slot_bits, sample.map(&key));
    let packed = guess.pack(slots, &key).or_else(|| {
        let packing = Packing::new(key(*first), slot_bits, slots.iter().copied().map(&key));
        packing.pack(slots, &key)
    });
    let mut packed = packed.expect("the packing that was made of all keys fits them");
    sort_from(&mut packed, slot_bits);
    let slot_mask = (1 << slot_bits) - 1;
    let sorted = packed.iter().map(|number| (number & slot_mask) as usize);
    slots.iter_mut().zip(sorted).for_each(|(slot, sorted)| *slot = sorted);
    let mut rest = slots;
    for equal in packed.chunk_by(|a, b| a >> slot_bits == b >> slot_bits) {
        let (slots, behind) = core::mem::take(&mut rest).split_at_mut(equal.len());
        if slots.len() > 1 {
            slots.sort_unstable_by(|a, b| key(*a).as_bytes().cmp(key(*b).as_bytes()));
        }
        rest = behind;
    }
}

/// Numbers are distributed by so many bits at once: what is written lies in the first-level cache.
const DIGIT_BITS: u32 = 8;
/// Fewer are compared with each other.
const DISTRIBUTED_MIN: usize = 1 << 10;

/// Sorts numbers by their bits from the lowest that counts on: from digit to digit, each time
/// keeping the order of equal ones (Knuth, The Art of Computer Programming 3, 5.2.5).
fn sort_from(numbers: &mut Vec<u64>, lowest: u32) {
    if numbers.len() < DISTRIBUTED_MIN {
        numbers.sort_unstable();
        return;
    }
    let used = numbers.iter().fold(0, |used, number| used | number);
    let mut sorted = alloc::vec![0; numbers.len()];
    for shift in (lowest..u64::BITS - used.leading_zeros()).step_by(DIGIT_BITS as usize) {
        let digit = |number: u64| (number >> shift) as u8 as usize;
        let mut places = [0; 1 << DIGIT_BITS];
        numbers.iter().for_each(|number| places[digit(*number)] += 1);
        let mut next = 0;
        for place in &mut places {
            next += core::mem::replace(place, next);
        }
        for number in &*numbers {
            let place = &mut places[digit(*number)];
            sorted[*place] = *number;
            *place += 1;
        }
        core::mem::swap(numbers, &mut sorted);
    }
}

/// How keys become numbers.
struct Packing<'k> {
    /// The key that others are compared with.
    first: Text<'k>,
    /// How many bytes all keys begin with.
    skipped: usize,
    /// The bits of the head that differ.
    varying: u128,
    /// Those of them that find room, of the upper and the lower half.
    taken: [Taken; 2],
    slot_bits: u32,
}

impl<'k> Packing<'k> {
    fn new(
        first: Text<'k>,
        slot_bits: u32,
        keys: impl Iterator<Item = Text<'k>> + Clone,
    ) -> Packing<'k> {
        let shared = |longest: usize, key: Text<'k>| {
            let pairs = first.as_bytes()[..longest].iter().zip(key.as_bytes());
            pairs.take_while(|(a, b)| a == b).count()
        };
        let skipped = keys.clone().fold(first.len(), shared);
        let head = first.head(skipped);
        let varying = keys.fold(0, |varying, key| varying | key.head(skipped) ^ head);
        // Bits that find no room are left to the comparison of keys.
        let mut fitting = varying;
        while fitting.count_ones() > u64::BITS - slot_bits {
            fitting &= fitting - 1;
        }
        let taken = [(fitting >> 64) as u64, fitting as u64].map(Taken::new);
        Packing { first, skipped, varying, taken, slot_bits }
    }

    /// Returns a number for each slot, or nothing if a key differs elsewhere too.
    fn pack(&self, slots: &[usize], key: impl Fn(usize) -> Text<'k>) -> Option<Vec<u64>> {
        let prefix = &self.first.as_bytes()[..self.skipped];
        let head = self.first.head(self.skipped);
        let [upper, lower] = &self.taken;
        let mut numbers = Vec::with_capacity(slots.len());
        let mut differs = 0;
        for slot in slots {
            let key = key(*slot);
            if self.skipped > 0 && !key.as_bytes().starts_with(prefix) {
                return None;
            }
            let own = key.head(self.skipped);
            differs |= own ^ head;
            let upper = upper.of((own >> 64) as u64).checked_shl(lower.count).unwrap_or(0);
            let bits = upper | lower.of(own as u64);
            numbers.push(bits.checked_shl(self.slot_bits).unwrap_or(0) | *slot as u64);
        }
        (differs & !self.varying == 0).then_some(numbers)
    }
}

/// Some bits of a number, moved together: each of six steps moves those that have further to go by
/// 1, 2, 4 and so on (Warren, Hacker's Delight, 7-4, "compress").
#[derive(Clone, Copy)]
struct Taken {
    mask: u64,
    count: u32,
    /// Which bits each step moves.
    moved: [u64; 6],
}

impl Taken {
    fn new(mask: u64) -> Taken {
        let mut moved = [0; 6];
        let (mut rest, mut place) = (mask, 0);
        // Where each bit stands before the step, by its way: from its place to that of its rank.
        while rest != 0 {
            let from = rest.trailing_zeros();
            let way = from - place;
            let mut at = from;
            for (step, moved) in moved.iter_mut().enumerate() {
                if way >> step & 1 == 1 {
                    *moved |= 1 << at;
                    at -= 1 << step;
                }
            }
            rest &= rest - 1;
            place += 1;
        }
        Taken { mask, count: place, moved }
    }

    #[inline]
    fn of(&self, number: u64) -> u64 {
        let mut bits = number & self.mask;
        for (step, moved) in self.moved.iter().enumerate() {
            let moving = bits & moved;
            bits = (bits ^ moving) | moving >> (1 << step);
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_any_length_are_sorted_by_their_bytes() {
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for round in 0..300 {
            // Few values and a shared start, so that heads are often equal.
            let start = random(20) as usize;
            let count = if round % 50 == 0 { 4 * DISTRIBUTED_MIN as u64 } else { random(60) };
            let mut keys: Vec<Vec<u8>> = (0..count)
                .map(|_| {
                    let mut key = alloc::vec![7; start];
                    key.extend((0..random(24)).map(|_| random(2) as u8));
                    key
                })
                .collect();
            keys.sort_unstable();
            keys.dedup();
            let mut slots: Vec<usize> = (0..keys.len()).collect();
            for index in (1..slots.len()).rev() {
                slots.swap(index, random(index as u64 + 1) as usize);
            }
            sort_by_key(&mut slots, |slot| Text::from(keys[slot].as_slice()));
            assert!(slots.is_sorted(), "{keys:?}");
        }
    }
    #[test]
    fn many_numbers_are_sorted_by_the_bits_that_count() {
        for (lowest, spread) in [(0, 0), (0, 3), (9, 20), (20, 43), (60, 63)] {
            let mut state = 7_u64;
            let mut numbers: Vec<u64> = (0..5_000)
                .map(|slot| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let bits = if lowest > 0 { state >> (63 - spread) << lowest } else { 0 };
                    bits | slot & ((1 << lowest) - 1)
                })
                .collect();
            let mut expected = numbers.clone();
            expected.sort_by_key(|number| number >> lowest);
            sort_from(&mut numbers, lowest);
            assert_eq!(numbers, expected, "from bit {lowest} on, {spread} bits");
        }
    }

    #[test]
    fn bits_of_a_mask_are_moved_together() {
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state ^ state >> 31
        };
        for round in 0..500 {
            let mask = [random(), random() & random() & random(), u64::MAX, 0][round % 4];
            let (taken, number) = (Taken::new(mask), random());
            let bits = (0..64).rev().filter(|bit| mask >> bit & 1 == 1);
            let expected = bits.fold(0, |bits, bit| bits << 1 | number >> bit & 1);
            assert_eq!(taken.of(number), expected, "{mask:b}");
        }
    }
}

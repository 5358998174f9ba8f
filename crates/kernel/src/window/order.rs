//! The order of rows: that of their keys' bytes.
//!
//! Keys lie all over a window's memory, so each is looked at twice and not at every comparison:
//! what is compared are the sixteen bytes behind the prefix that all keys share.

use alloc::vec::Vec;

/// How many bytes are compared without a look at the key.
const HEAD: usize = size_of::<u128>();

/// Sorts slots by their keys, which are all different.
pub(crate) fn sort_by_key<'k>(slots: &mut [usize], key: impl Fn(usize) -> &'k [u8]) {
    let Some(first) = slots.first().map(|slot| key(*slot)) else {
        return;
    };
    let shared = |longest: usize, slot: &usize| {
        let pairs = first[..longest].iter().zip(key(*slot));
        pairs.take_while(|(a, b)| a == b).count()
    };
    let skipped = slots.iter().fold(first.len(), shared);
    let head = |slot: usize| {
        let rest = &key(slot)[skipped..];
        let mut head = [0; HEAD];
        let length = rest.len().min(HEAD);
        head[..length].copy_from_slice(&rest[..length]);
        u128::from_be_bytes(head)
    };
    let mut heads: Vec<(u128, usize)> = slots.iter().map(|slot| (head(*slot), *slot)).collect();
    // Equal heads: the keys are longer, or end with zeros or not.
    heads.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(key(b.1))));
    slots.iter_mut().zip(heads).for_each(|(slot, (_, sorted))| *slot = sorted);
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
        for _ in 0..300 {
            // Few values and a shared start, so that heads are often equal.
            let start = random(20) as usize;
            let mut keys: Vec<Vec<u8>> = (0..random(60))
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
            sort_by_key(&mut slots, |slot| &keys[slot]);
            assert!(slots.is_sorted(), "{keys:?}");
        }
    }
}

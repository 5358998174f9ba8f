//! Which partition a key belongs to.
//!
//! The hash is Murmur3 (32 bit, seed 0) as in the Java client with `Murmur3_32Hash`; producers
//! that use another hash put the same key into another partition.

/// Hashes a key as the Java client's `Murmur3_32Hash` does: never negative.
///
/// ```
/// assert_eq!(tidemill_pulsar::key_hash(b"hello"), 0x248b_fa47);
/// ```
pub fn key_hash(key: &[u8]) -> u32 {
    murmur3(key) & 0x7fff_ffff
}

/// Chooses the partition of a key among `partition_count` partitions; 0 where there is none.
pub fn partition_of(key: &[u8], partition_count: u32) -> u32 {
    key_hash(key) % partition_count.max(1)
}

fn murmur3(key: &[u8]) -> u32 {
    const C1: u32 = 0xcc9e_2d51;
    const C2: u32 = 0x1b87_3593;
    let scramble = |k: u32| k.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
    let (words, rest) = key.as_chunks::<4>();
    let mut hash = 0u32;
    for word in words {
        hash ^= scramble(u32::from_le_bytes(*word));
        hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    if !rest.is_empty() {
        let mut tail = [0u8; 4];
        tail[..rest.len()].copy_from_slice(rest);
        hash ^= scramble(u32::from_le_bytes(tail));
    }
    // The algorithm folds the length in modulo 2^32.
    hash ^= key.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_equals_the_published_vectors() {
        for (key, hash) in [
            (&b""[..], 0u32),
            (b"test", 0xba6b_d213),
            (b"hello", 0x248b_fa47),
            (b"Hello, world!", 0xc036_3e43),
            (b"The quick brown fox jumps over the lazy dog", 0x2e4f_f723),
        ] {
            assert_eq!(murmur3(key), hash, "{key:?}");
        }
    }

    #[test]
    fn partition_is_in_range_also_for_no_partitions() {
        assert_eq!(partition_of(b"device", 0), 0);
        assert!((0..1000u32).all(|n| partition_of(&n.to_le_bytes(), 7) < 7));
    }
}

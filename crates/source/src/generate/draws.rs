//! Random draws that are a pure function of a few numbers: splitmix64 over a mixed identity.
//! No state outlives a message, which is what makes the stream seekable. Not for secrets.

/// Step between the states of splitmix64: 2^64 divided by the golden ratio, odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of splitmix64: every input bit reaches every output bit.
pub(super) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Hashes an identity made of a seed, a purpose and a number; the purpose keeps uses apart.
pub(super) const fn hash(seed: u64, purpose: u64, number: u64) -> u64 {
    let salted = mix(seed.wrapping_add(purpose.wrapping_mul(GOLDEN)));
    mix(salted.wrapping_add(number.wrapping_mul(GOLDEN)))
}

/// A short sequence of draws that starts from one identity.
#[derive(Debug, Clone)]
pub(super) struct Draws {
    state: u64,
}

impl Draws {
    pub(super) const fn new(seed: u64, purpose: u64, number: u64) -> Self {
        Self { state: hash(seed, purpose, number) }
    }

    pub(super) const fn next_u32(&mut self) -> u32 {
        self.state = self.state.wrapping_add(GOLDEN);
        (mix(self.state) >> 32) as u32
    }

    /// Draws from `0..bound`; 0 for a bound of 0. The bias is below 2^-32 times the bound.
    pub(super) const fn below(&mut self, bound: u32) -> u32 {
        ((self.next_u32() as u64 * bound as u64) >> 32) as u32
    }

    /// Draws from `0..bound` for a bound of at most 2^32; 0 for a bound of 0.
    pub(super) const fn below_u64(&mut self, bound: u64) -> u64 {
        ((self.next_u32() as u128 * bound as u128) >> 32) as u64
    }

    /// Draws from `low..=high`; needs `low <= high`.
    pub(super) const fn between(&mut self, low: i32, high: i32) -> i32 {
        low + self.below((high - low + 1) as u32) as i32
    }

    /// Draws noise from `-reach..=reach`, more often near 0 (the mean of two draws).
    pub(super) const fn noise(&mut self, reach: i32) -> i32 {
        (self.between(-reach, reach) + self.between(-reach, reach)) / 2
    }
}

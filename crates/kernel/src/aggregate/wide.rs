//! An exact sum of any finite floats, as one long integer in units of 2^-1074.
//!
//! It is slow (tens of nanoseconds) and large (272 bytes), and only holds what the hot domain of
//! [`FloatSum`](super::sum::FloatSum) does not.

use super::sum::FRACTION_BITS;

/// 2098 bits hold any finite `f64`; the others are room for 2^77 additions and the sign.
const LIMBS: usize = 34;
/// The bit that stands for 2^-76.
const UNIT_SHIFT: u32 = 1074 - FRACTION_BITS;

/// A two's complement integer in units of 2^-1074, lowest limb first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WideSum {
    limbs: [u64; LIMBS],
}

/// A sum rounded to `f64`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounded {
    /// The nearest `f64`, ties to even; ±`f64::MAX` if the sum is beyond the range.
    pub value: f64,
    /// Whether it was beyond the range.
    pub saturated: bool,
}

impl Default for WideSum {
    fn default() -> WideSum {
        WideSum { limbs: [0; LIMBS] }
    }
}

impl WideSum {
    /// The length of [`to_bytes`](WideSum::to_bytes).
    pub const BYTES: usize = LIMBS * 8;

    /// Adds a finite float.
    pub fn add(&mut self, value: f64) {
        debug_assert!(value.is_finite(), "invalid values are never added");
        let bits = value.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as u32;
        let fraction = bits & ((1 << 52) - 1);
        let mantissa = if exponent == 0 { fraction } else { fraction | 1 << 52 };
        let shift = exponent.saturating_sub(1);
        self.add_shifted(u128::from(mantissa), shift, value.is_sign_negative());
    }

    /// Adds so many units of 2^-76.
    pub fn add_units(&mut self, units: i128) {
        self.add_shifted(units.unsigned_abs(), UNIT_SHIFT, units < 0);
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &WideSum) {
        let mut carry = false;
        for (limb, more) in self.limbs.iter_mut().zip(other.limbs) {
            (*limb, carry) = carrying_add(*limb, more, carry);
        }
    }

    /// Returns the sum in units of 2^-76 if it is a whole number of them that fits.
    pub fn to_units(&self) -> Option<i128> {
        let (limb, bit) = ((UNIT_SHIFT / 64) as usize, UNIT_SHIFT % 64);
        let low_is_zero =
            self.limbs[..limb].iter().all(|l| *l == 0) && self.limbs[limb] << (64 - bit) == 0;
        let part =
            |at: usize| self.limbs[limb + at] >> bit | self.limbs[limb + at + 1] << (64 - bit);
        let units = (u128::from(part(1)) << 64 | u128::from(part(0))) as i128;
        let mut back = WideSum::default();
        back.add_units(units);
        (low_is_zero && back == *self).then_some(units)
    }

    /// Returns the bytes of the integer, lowest first.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.limbs) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }

    /// Returns the integer of those bytes.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> WideSum {
        let mut sum = WideSum::default();
        for (chunk, limb) in bytes.chunks_exact(8).zip(&mut sum.limbs) {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            *limb = u64::from_le_bytes(word);
        }
        sum
    }

    /// Returns whether `count` finite floats can have this sum. Sums that can, merged, can again.
    pub fn is_reachable(&self, count: u32) -> bool {
        // The largest float is 2^53 - 1 times the bit 2045, the fourth last of limb 31.
        const LAST_BIT: u32 = 2045;
        let magnitude = if self.is_negative() { self.negated() } else { self.clone() };
        let [low, middle, high] = [31, 32, 33].map(|limb| u128::from(magnitude.limbs[limb]));
        if high >> 32 != 0 {
            return false;
        }
        let multiple = low >> 61 | middle << 3 | high << 67;
        let largest = u128::from(count) * ((1 << 53) - 1);
        multiple < largest || (multiple == largest && !magnitude.any_below(LAST_BIT))
    }

    fn is_negative(&self) -> bool {
        self.limbs[LIMBS - 1] >> 63 == 1
    }

    /// Returns the nearest `f64`, ties to even.
    pub fn round(&self) -> Rounded {
        let negative = self.is_negative();
        let magnitude = if negative { self.negated() } else { self.clone() };
        let bits = magnitude.round_magnitude();
        let saturated = bits >= f64::INFINITY.to_bits();
        let value = if saturated { f64::MAX } else { f64::from_bits(bits) };
        Rounded { value: if negative { -value } else { value }, saturated }
    }

    /// Returns the bits of the nearest `f64`, or of infinity.
    fn round_magnitude(&self) -> u64 {
        let Some(top) = self.limbs.iter().rposition(|limb| *limb != 0) else {
            return 0;
        };
        let length = top as u32 * 64 + 64 - self.limbs[top].leading_zeros();
        if length <= 53 {
            // The integer is the bit pattern: subnormal, or normal with the smallest exponent.
            return self.limbs[0];
        }
        let shift = length - 53;
        let (limb, bit) = ((shift / 64) as usize, shift % 64);
        let mut mantissa = self.limbs[limb] >> bit;
        if bit > 11 {
            mantissa |= self.limbs[limb + 1] << (64 - bit);
        }
        let half = self.bit(shift - 1);
        let below_half = self.any_below(shift - 1);
        // The exponent field counts from 1 at shift 0; the mantissa's leading bit adds the 1.
        let bits = (u64::from(shift) << 52).saturating_add(mantissa);
        let round_up = half && (below_half || mantissa & 1 == 1);
        (bits + u64::from(round_up)).min(f64::INFINITY.to_bits())
    }

    fn bit(&self, index: u32) -> bool {
        self.limbs[(index / 64) as usize] >> (index % 64) & 1 == 1
    }

    fn any_below(&self, index: u32) -> bool {
        let (limb, bit) = ((index / 64) as usize, index % 64);
        self.limbs[..limb].iter().any(|l| *l != 0) || self.limbs[limb] & ((1 << bit) - 1) != 0
    }

    fn negated(&self) -> WideSum {
        let mut result = WideSum::default();
        let mut borrow = false;
        for (limb, from) in result.limbs.iter_mut().zip(self.limbs) {
            (*limb, borrow) = borrowing_sub(0, from, borrow);
        }
        result
    }

    fn add_shifted(&mut self, magnitude: u128, shift: u32, negative: bool) {
        let (limb, bit) = ((shift / 64) as usize, shift % 64);
        let (low, high) = (magnitude as u64, (magnitude >> 64) as u64);
        let spill = |word: u64| if bit == 0 { 0 } else { word >> (64 - bit) };
        let words = [low << bit, high << bit | spill(low), spill(high)];
        let mut carry = false;
        for at in limb..LIMBS {
            let word = words.get(at - limb).copied().unwrap_or(0);
            if at - limb >= words.len() && !carry {
                break;
            }
            let step = if negative { borrowing_sub } else { carrying_add };
            (self.limbs[at], carry) = step(self.limbs[at], word, carry);
        }
    }
}

fn carrying_add(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let (sum, first) = a.overflowing_add(b);
    let (sum, second) = sum.overflowing_add(u64::from(carry));
    (sum, first | second)
}

fn borrowing_sub(a: u64, b: u64, borrow: bool) -> (u64, bool) {
    let (difference, first) = a.overflowing_sub(b);
    let (difference, second) = difference.overflowing_sub(u64::from(borrow));
    (difference, first | second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_is_reachable_by_as_many_floats_as_it_takes_and_not_by_fewer() {
        let mut sum = WideSum::default();
        assert!(sum.is_reachable(0));
        for count in 1..=5 {
            sum.add(-f64::MAX);
            assert!(sum.is_reachable(count) && !sum.is_reachable(count - 1), "{count}");
        }
        sum.add(-5e-324);
        assert!(!sum.is_reachable(5) && sum.is_reachable(6));
        let mut bytes = [0; WideSum::BYTES];
        bytes[266] = 2;
        assert!(!WideSum::from_bytes(&bytes).is_reachable(1), "2^2129");
    }
}

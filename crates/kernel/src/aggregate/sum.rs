//! Exact sums.
//!
//! A float sum is the real sum of the values, rounded once at the end to the nearest `f64` (what
//! Python's `math.fsum` returns). It is an integer in units of 2^-76. Values of the hot domain
//! (magnitude below 2^27 and a multiple of 2^-76, so every `f64` from 6e-8 to 1.3e8) go in by two
//! floating-point additions that split them without rounding; the caller keeps a
//! [`WideSum`](super::wide::WideSum) for the others. The domain decides speed, never the result.
//!
//! While it grows the integer is two limbs, in units of 2^-24 and 2^-76, without a carry between
//! them: so many sums grow at once in the processor's vectors. The caller makes the limbs small
//! again before [`ADDITIONS_MAX`] additions could overflow one.

use super::wide::{Rounded, WideSum};

/// 1.5 · 2^28: adding it leaves multiples of 2^-24 in the low bits of the mantissa.
pub(crate) const COARSE: f64 = 402_653_184.0;
/// 1.5 · 2^-24: the same for multiples of 2^-76.
pub(crate) const FINE: f64 = 1.5 / 16_777_216.0;
/// The unit of a [`FloatSum`] is 2 to the minus this.
pub const FRACTION_BITS: u32 = 76;
/// One unit of a [`FloatSum`]: 2^-76.
const UNIT: f64 = 1.0 / (1_u128 << FRACTION_BITS) as f64;

/// The exact sum of floats of the hot domain, in units of 2^-76.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FloatSum(i128);

/// How many values limbs take from [`limbs`] on.
pub(crate) const ADDITIONS_MAX: u32 = 2048;
/// Below it in magnitude, a high limb has room for [`ADDITIONS_MAX`] values of 2^51 units.
const HIGH_MAX: i128 = 1 << 62;
const LOW_BITS: u32 = 52;

/// What a value adds to each limb, and whether it is in the hot domain at all.
pub(crate) struct Split {
    pub(crate) high: u64,
    pub(crate) low: u64,
    pub(crate) inside: bool,
}

/// Splits a value into limbs.
#[inline]
pub(crate) fn split(value: f64) -> Split {
    let coarse = value + COARSE;
    let rest = value - (coarse - COARSE);
    let fine = rest + FINE;
    let exact = rest - (fine - FINE) == 0.0;
    let inside = (coarse.to_bits() ^ COARSE.to_bits()) >> 52 == 0;
    Split {
        high: coarse.to_bits().wrapping_sub(COARSE.to_bits()),
        low: fine.to_bits().wrapping_sub(FINE.to_bits()),
        inside: exact & inside,
    }
}

/// Returns what limbs hold, in units of 2^-76.
#[inline]
pub(crate) fn units(high: u64, low: u64) -> i128 {
    (i128::from(high as i64) << LOW_BITS) + i128::from(low as i64)
}

/// Returns what limbs hold, rounded once to nearest even.
#[inline]
pub(crate) fn rounded(high: u64, low: u64) -> f64 {
    let (high, low) = (high as i64, low as i64);
    match high.checked_add(low >> LOW_BITS) {
        // Both are whole doubles, so that adding them is the only rounding; 128 bits are converted
        // by a call.
        Some(high) if high.unsigned_abs() < 1 << 53 => {
            let low = low & ((1 << LOW_BITS) - 1);
            high as f64 * (UNIT * (1_u64 << LOW_BITS) as f64) + low as f64 * UNIT
        }
        // Powers of two are exact: the smallest result, 2^-76, is far above the subnormal range.
        _ => rounded_units(units(high as u64, low as u64)),
    }
}

#[cold]
fn rounded_units(units: i128) -> f64 {
    units as f64 * UNIT
}

/// Returns limbs of so many units that take [`ADDITIONS_MAX`] more values, if there are any.
pub(crate) fn limbs(units: i128) -> Option<(u64, u64)> {
    let high = units >> LOW_BITS;
    let low = units as u64 & ((1 << LOW_BITS) - 1);
    (high.abs() < HIGH_MAX).then_some((high as u64, low))
}

impl FloatSum {
    /// Adds a value; returns false and changes nothing if it is outside of the hot domain or the
    /// sum would not fit, and then the caller adds it to a `WideSum`.
    #[must_use]
    pub fn add(&mut self, value: f64) -> bool {
        let split = split(value);
        split.inside && self.merge(FloatSum(units(split.high, split.low)))
    }

    /// Adds another sum; returns false and changes nothing if the result would not fit.
    #[inline]
    #[must_use]
    pub fn merge(&mut self, other: FloatSum) -> bool {
        match self.0.checked_add(other.0) {
            Some(sum) => {
                self.0 = sum;
                true
            }
            None => false,
        }
    }

    /// Returns the sum in units of 2^-76.
    pub const fn units(self) -> i128 {
        self.0
    }

    /// Returns the sum of so many units of 2^-76.
    pub const fn from_units(units: i128) -> FloatSum {
        FloatSum(units)
    }

    /// Returns the sum together with what was outside of the hot domain, rounded once.
    pub fn round(self, cold: Option<&WideSum>) -> Rounded {
        match cold {
            None => Rounded { value: self.0 as f64 * UNIT, saturated: false },
            Some(cold) => {
                let mut total = cold.clone();
                total.add_units(self.0);
                total.round()
            }
        }
    }
}

/// The exact sum of 64-bit integers: 2^64 values of any size fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IntSum(i128);

impl IntSum {
    /// Adds a value.
    #[inline]
    pub fn add(&mut self, value: i64) {
        // Windows hold fewer than 2^32 messages, so 2^95 bounds the sum.
        self.0 += i128::from(value);
    }

    /// Adds another sum.
    #[inline]
    pub fn merge(&mut self, other: IntSum) {
        self.0 = self.0.saturating_add(other.0);
    }

    /// Returns the exact sum.
    pub const fn total(self) -> i128 {
        self.0
    }

    /// Returns a sum of that total.
    pub const fn from_total(total: i128) -> IntSum {
        IntSum(total)
    }

    /// Returns the sum as 64 bits, and whether it had to be moved to the nearest end of the range.
    pub fn saturate(self) -> (i64, bool) {
        match i64::try_from(self.0) {
            Ok(sum) => (sum, false),
            Err(_) if self.0 < 0 => (i64::MIN, true),
            Err(_) => (i64::MAX, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn sum(values: &[f64]) -> f64 {
        let (mut hot, mut cold) = (FloatSum::default(), None);
        for value in values {
            if !hot.add(*value) {
                cold.get_or_insert_with(WideSum::default).add(*value);
            }
        }
        hot.round(cold.as_ref()).value
    }

    #[test]
    fn sums_are_rounded_once() {
        assert_eq!(sum(&[0.1; 10]), 1.0);
        assert_eq!(sum(&[1e16, 1.0, -1e16]), 1.0);
        assert_eq!(sum(&[1e300, 1.0, -1e300, 5e-324]), 1.0);
        assert_eq!(sum(&[5e-324, 5e-324]), 1e-323);
        assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]), f64::MAX);
        assert_eq!(sum(&[]).to_bits(), 0);
        assert_eq!(sum(&[-0.0]).to_bits(), 0);
    }

    #[test]
    fn both_ways_of_rounding_give_the_same_bits() {
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            i128::from(state) << 64 | i128::from(state.rotate_left(29))
        };
        for round in 0..200_000 {
            // Of every size, and with runs of zeros or ones behind so that ties come up.
            let whole = random() >> (16 + round % 112);
            let zeros = round / 128 % 90;
            let below = random() >> (66 + round % 60);
            for whole in [whole, whole >> zeros << zeros, (whole >> zeros << zeros).wrapping_sub(1)]
            {
                // The low limb may hold many carries of either sign.
                let (high, low) =
                    ((whole - below) >> LOW_BITS, (whole - below) & ((1 << LOW_BITS) - 1));
                let (high, low) = (high as u64, (low + below) as u64);
                let rounded = rounded(high, low);
                let units = units(high, low);
                assert_eq!(rounded.to_bits(), (units as f64 * UNIT).to_bits(), "{high} {low}");
            }
        }
    }

    #[test]
    fn values_at_the_edge_of_the_hot_domain_are_exact() {
        let edges = [134_217_728.0, 134_217_727.999_999_99, 6e-8, 5.9e-8, 2e-23, 1.3e-23];
        for edge in edges {
            for sign in [1.0, -1.0] {
                assert_eq!(sum(&[edge * sign]), edge * sign, "{edge}");
                assert_eq!(sum(&[edge * sign, 1e200, -1e200]), edge * sign, "{edge}");
            }
        }
    }

    #[test]
    fn sum_beyond_the_range_saturates() {
        let mut cold = WideSum::default();
        cold.add(f64::MAX);
        cold.add(f64::MAX);
        let rounded = FloatSum::default().round(Some(&cold));
        assert_eq!((rounded.value, rounded.saturated), (f64::MAX, true));
        assert_eq!(IntSum(i128::from(i64::MAX) + 1).saturate(), (i64::MAX, true));
        assert_eq!(IntSum(i128::from(i64::MIN)).saturate(), (i64::MIN, false));
    }

    #[test]
    fn any_order_gives_the_same_bits_as_the_wide_sum() {
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 11
        };
        for round in 0..2_000 {
            let mut values: Vec<f64> = (0..50)
                .map(|_| {
                    let mantissa = (random() as f64 / (1_u64 << 53) as f64) - 0.5;
                    mantissa * f64::powi(2.0, (random() % (4 + round % 200)) as i32 - 40)
                })
                .collect();
            let mut wide = WideSum::default();
            values.iter().for_each(|value| wide.add(*value));
            assert_eq!(sum(&values).to_bits(), wide.round().value.to_bits());
            values.reverse();
            assert_eq!(sum(&values).to_bits(), wide.round().value.to_bits());
        }
    }
}

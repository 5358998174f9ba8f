//! Smallest and largest value.
//!
//! The start values lie beyond every value; whether there was one at all, the window's count says.

/// Both ends of what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinMax<T> {
    /// The smallest value.
    pub min: T,
    /// The largest value.
    pub max: T,
}

impl MinMax<f64> {
    /// Nothing seen.
    pub const EMPTY: MinMax<f64> = MinMax { min: f64::INFINITY, max: f64::NEG_INFINITY };
}

impl MinMax<i64> {
    /// Nothing seen.
    pub const EMPTY: MinMax<i64> = MinMax { min: i64::MAX, max: i64::MIN };
}

impl<T: Copy + PartialOrd> MinMax<T> {
    /// Takes a value in.
    #[inline]
    pub fn add(&mut self, value: T) {
        self.merge(MinMax { min: value, max: value });
    }

    /// Takes another state in.
    #[inline]
    pub fn merge(&mut self, other: MinMax<T>) {
        if other.min < self.min {
            self.min = other.min;
        }
        if other.max > self.max {
            self.max = other.max;
        }
    }
}

/// Takes a float into a range of two words, the least and the greatest value.
#[inline]
pub(crate) fn widen_floats(range: &mut [u64], value: f64) {
    let (min, max) = (f64::from_bits(range[0]), f64::from_bits(range[1]));
    range[0] = (if value < min { value } else { min }).to_bits();
    range[1] = (if value > max { value } else { max }).to_bits();
}

/// Takes an integer into a range of two words, the least and the greatest value.
#[inline]
pub(crate) fn widen_ints(range: &mut [u64], value: i64) {
    range[0] = (range[0] as i64).min(value) as u64;
    range[1] = (range[1] as i64).max(value) as u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_kept() {
        let mut state = MinMax::<f64>::EMPTY;
        [3.0, -1.0, 2.0].into_iter().for_each(|value| state.add(value));
        assert_eq!((state.min, state.max), (-1.0, 3.0));
        let mut one = MinMax::<i64>::EMPTY;
        one.merge(MinMax { min: 5, max: 5 });
        one.merge(MinMax::<i64>::EMPTY);
        assert_eq!((one.min, one.max), (5, 5));
    }
}

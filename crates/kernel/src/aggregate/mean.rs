//! The mean: the exact sum rounded once, then one IEEE division by the count.

use super::{sum::IntSum, wide::Rounded};

/// Returns the mean of `count` floats, `None` of none.
#[inline]
pub fn of_floats(sum: Rounded, count: u32) -> Option<Rounded> {
    (count > 0).then(|| Rounded { value: sum.value / f64::from(count), saturated: sum.saturated })
}

/// Returns the mean of `count` integers, `None` of none.
#[inline]
pub fn of_ints(sum: IntSum, count: u32) -> Option<f64> {
    // 128 bits are converted by a call.
    let total = || i64::try_from(sum.total()).map_or(sum.total() as f64, |total| total as f64);
    (count > 0).then(|| total() / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::sum::FloatSum;

    #[test]
    fn mean_divides_the_rounded_sum() {
        let mut sum = FloatSum::default();
        for value in [22.5, 23.0, 22.8] {
            assert!(sum.add(value));
        }
        let mean = of_floats(sum.round(None), 3).map(|mean| mean.value);
        assert_eq!(mean, Some((22.5 + 23.0 + 22.8) / 3.0));
        assert_eq!(of_floats(sum.round(None), 0), None);
        assert_eq!(of_ints(IntSum::from_total(7), 2), Some(3.5));
    }
}

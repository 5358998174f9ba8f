//! The mean: the exact sum rounded once, then one IEEE division by the count.

use super::{
    sum::{FloatSum, IntSum},
    wide::{Rounded, WideSum},
};

/// Returns the mean of `count` floats, `None` of none.
pub fn of_floats(sum: FloatSum, cold: Option<&WideSum>, count: u32) -> Option<Rounded> {
    (count > 0).then(|| {
        let sum = sum.round(cold);
        Rounded { value: sum.value / f64::from(count), saturated: sum.saturated }
    })
}

/// Returns the mean of `count` integers, `None` of none.
pub fn of_ints(sum: IntSum, count: u32) -> Option<f64> {
    (count > 0).then(|| sum.total() as f64 / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_divides_the_rounded_sum() {
        let mut sum = FloatSum::default();
        for value in [22.5, 23.0, 22.8] {
            assert!(sum.add(value));
        }
        let mean = of_floats(sum, None, 3).map(|mean| mean.value);
        assert_eq!(mean, Some((22.5 + 23.0 + 22.8) / 3.0));
        assert_eq!(of_floats(sum, None, 0), None);
        assert_eq!(of_ints(IntSum::from_total(7), 2), Some(3.5));
    }
}

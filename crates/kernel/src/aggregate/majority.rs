//! The majority of yes/no values.

/// Returns whether more than half of `count` values are true; `None` of none.
pub fn of(true_count: u32, count: u32) -> Option<bool> {
    (count > 0).then(|| u64::from(true_count) * 2 > u64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_no_majority() {
        assert_eq!(of(1, 2), Some(false));
        assert_eq!(of(2, 3), Some(true));
        assert_eq!(of(0, 0), None);
        assert_eq!(of(u32::MAX, u32::MAX), Some(true));
    }
}

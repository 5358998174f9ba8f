//! The only unsafe code of this crate: instructions of the processor that the language does not
//! give as such. Elsewhere than on x86-64 the same is done without them.
//!
//! A prefetch is a hint only: it changes no value and never fails. The vector instructions are of
//! SSE2, which every x86-64 has.
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "see above"))]

/// Bytes that a cache fetches at once.
const LINE_BYTES: usize = 64;

/// Fetches the place of one element; nothing if there is none at `index`.
#[inline]
pub(crate) fn prefetch_element<T>(slice: &[T], index: usize) {
    if let Some(place) = slice.get(index) {
        prefetch_line(place);
    }
}

/// Fetches whole lines of words; the slice begins with one.
#[inline]
pub(crate) fn prefetch_lines(words: &[u64]) {
    for place in words.chunks_exact(LINE_BYTES / size_of::<u64>()) {
        prefetch_line(place);
    }
}

#[inline]
fn prefetch_line<T: ?Sized>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads and writes nothing that the program can see and faults on no
        // address; this one comes from a live reference besides.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(place).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// What floats are split by: see [`sum`](crate::aggregate::sum).
pub(crate) struct Units {
    pub(crate) coarse: f64,
    pub(crate) fine: f64,
}

/// Splits pairs of floats by two units and adds what each part is above its unit, as bits, to
/// `high` and `low`. Returns whether nothing was left over and no part has another exponent than
/// its unit.
#[inline]
pub(crate) fn add_split(
    values: &[[f64; 2]],
    units: Units,
    high: &mut [[u64; 2]],
    low: &mut [[u64; 2]],
) -> bool {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it is compiled for SSE2 only, which every x86-64 has; it takes slices and no pointer.
    return unsafe { sse2::add_split(values, units, high, low) };
    #[cfg(not(target_arch = "x86_64"))]
    return portable::add_split(values, units, high, low);
}

/// What [`add_split`] is on any processor.
#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable {
    use super::Units;

    pub(super) fn add_split(
        values: &[[f64; 2]],
        units: Units,
        high: &mut [[u64; 2]],
        low: &mut [[u64; 2]],
    ) -> bool {
        let (mut inexact, mut changed) = (0, 0);
        for ((values, high), low) in values.iter().zip(high).zip(low) {
            for lane in 0..2 {
                let coarse = values[lane] + units.coarse;
                let rest = values[lane] - (coarse - units.coarse);
                let fine = rest + units.fine;
                inexact |= (rest - (fine - units.fine)).to_bits();
                changed |= coarse.to_bits() ^ units.coarse.to_bits();
                let above = |part: f64, unit: f64| part.to_bits().wrapping_sub(unit.to_bits());
                high[lane] = high[lane].wrapping_add(above(coarse, units.coarse));
                low[lane] = low[lane].wrapping_add(above(fine, units.fine));
            }
        }
        inexact == 0 && changed >> 52 == 0
    }
}

/// Written out because the compiler takes the pairs apart: 24 instead of 29 instructions a pair.
#[cfg(target_arch = "x86_64")]
mod sse2 {
    use core::arch::x86_64::*;

    use super::Units;

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn add_split(
        values: &[[f64; 2]],
        units: Units,
        high: &mut [[u64; 2]],
        low: &mut [[u64; 2]],
    ) -> bool {
        let (coarse_unit, fine_unit) = (_mm_set1_pd(units.coarse), _mm_set1_pd(units.fine));
        let (mut inexact, mut changed) = (_mm_setzero_pd(), _mm_setzero_pd());
        for ((values, high), low) in values.iter().zip(high).zip(low) {
            let value = _mm_set_pd(values[1], values[0]);
            let coarse = _mm_add_pd(value, coarse_unit);
            let rest = _mm_sub_pd(value, _mm_sub_pd(coarse, coarse_unit));
            let fine = _mm_add_pd(rest, fine_unit);
            inexact = _mm_or_pd(inexact, _mm_sub_pd(rest, _mm_sub_pd(fine, fine_unit)));
            changed = _mm_or_pd(changed, _mm_xor_pd(coarse, coarse_unit));
            *high = add_above(*high, coarse, coarse_unit);
            *low = add_above(*low, fine, fine_unit);
        }
        let [inexact, changed] = [inexact, changed].map(|bits| {
            let bits = words(_mm_castpd_si128(bits));
            bits[0] | bits[1]
        });
        (inexact == 0) & (changed >> 52 == 0)
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn add_above(limbs: [u64; 2], part: __m128d, unit: __m128d) -> [u64; 2] {
        let above = _mm_sub_epi64(_mm_castpd_si128(part), _mm_castpd_si128(unit));
        words(_mm_add_epi64(_mm_set_epi64x(limbs[1] as i64, limbs[0] as i64), above))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn words(pair: __m128i) -> [u64; 2] {
        let upper = _mm_unpackhi_epi64(pair, pair);
        [_mm_cvtsi128_si64(pair) as u64, _mm_cvtsi128_si64(upper) as u64]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn both_ways_of_splitting_are_the_same() {
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.rotate_left(20)
        };
        for round in 0..20_000 {
            // Decimals as devices send them; in every other round one of any magnitude.
            let mut values: Vec<[f64; 2]> = (0..random() % 5)
                .map(|_| [0; 2].map(|_| (random() % 2_000_000) as f64 / 100.0 - 10_000.0))
                .collect();
            if let (1, Some(last)) = (round % 2, values.last_mut()) {
                last[(random() % 2) as usize] = f64::from_bits(random());
            }
            let mut limbs: Vec<[u64; 2]> = values.iter().map(|_| [random(), random()]).collect();
            let (mut high, mut low) = (limbs.clone(), limbs.clone());
            let mut low_limbs = limbs.clone();
            let units = || Units { coarse: 402_653_184.0, fine: 1.5 / 16_777_216.0 };
            let inside = add_split(&values, units(), &mut high, &mut low);
            let expected = portable::add_split(&values, units(), &mut limbs, &mut low_limbs);
            if values.iter().flatten().all(|value| value.is_finite()) {
                assert_eq!((inside, &high, &low), (expected, &limbs, &low_limbs), "{values:?}");
            }
        }
    }
}

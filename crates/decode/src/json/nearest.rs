//! The nearest `f64` of a decimal with up to 27 digits behind its point: two multiplications and
//! one rounding, without division. Longer fractions and other exponents are not for this.
//!
//! Multiplying by a reciprocal of 128 bits is from D. Lemire, "Number Parsing at a Gigabyte per
//! Second" (2021). That it always rounds correctly is easy to see for so few powers, and told at
//! [`nearest`].

/// The most digits behind the point.
pub(crate) const PLACES_MAX: usize = 27;

/// A power of ten to divide by.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Power {
    /// A power of two over 5^places, rounded up; of 127 bits.
    reciprocal: u128,
    /// The exponent, as an `f64` holds it, of what the upper half of a product is multiplied by.
    exponent: u64,
}

static POWERS: [Power; PLACES_MAX + 1] = powers();

const fn powers() -> [Power; PLACES_MAX + 1] {
    let mut powers = [Power { reciprocal: 1 << 126, exponent: 1023 + 2 }; PLACES_MAX + 1];
    let mut places = 1;
    while places <= PLACES_MAX {
        let divisor = 5_u64.pow(places as u32);
        let bits = 64 - divisor.leading_zeros();
        let (mut quotient, mut rest) = (0_u128, 1_u64 << (bits - 1));
        let mut bit = 0;
        while bit < 127 {
            let doubled = 2 * rest as u128;
            let fits = doubled >= divisor as u128;
            rest = (if fits { doubled - divisor as u128 } else { doubled }) as u64;
            quotient = quotient << 1 | fits as u128;
            bit += 1;
        }
        let exponent = 1023 + 2 - places as u64 - bits as u64;
        powers[places] = Power { reciprocal: quotient + 1, exponent };
        places += 1;
    }
    powers
}

/// Returns the float nearest to ±`mantissa` / 10^`places`, ties to even; zero has no sign. There
/// are at most [`PLACES_MAX`] places.
///
/// Let q be the quotient, times the power of two that gives `near` its 126 or 127 bits: `near`
/// is q or above it by less than 1, but for its fraction. Which float is nearest to q is decided
/// by the middles m between two floats. If q = m then `near` = m, since q has no fraction, and a
/// tie is seen as one. If not, it lies on the same side of m as q: m is a power of two times an
/// integer below 2^54, so q and m, as fractions over 5^places < 2^63, differ by more than 2^-117
/// of their size, which is at least 2^8.
#[inline(always)]
pub(crate) fn nearest(negative: bool, mantissa: u64, places: usize) -> f64 {
    if mantissa == 0 {
        return 0.0;
    }
    let Power { reciprocal, exponent } = POWERS[places];
    let zeros = mantissa.leading_zeros();
    let shifted = u128::from(mantissa << zeros);
    let upper = shifted * (reciprocal >> 64);
    let lower = shifted * u128::from(reciprocal as u64);
    let near = upper + (lower >> 64);
    // Of the lower half only matters whether it is 0: the rest tips what would be a tie.
    let tips = near as u64 != 0;
    let rounded = ((near >> 64) as u64 | u64::from(tips)) as i64 as f64;
    // This stays far within the normal range, where powers of two are exact factors.
    let scale = (exponent - u64::from(zeros)) << 52 | u64::from(negative) << 63;
    rounded * f64::from_bits(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mantissa: u64, places: usize) {
        let expected: f64 = format!("{mantissa}e-{places}").parse().expect("a number");
        for negative in [false, true] {
            let found = nearest(negative, mantissa, places);
            let expected = if negative && mantissa != 0 { -expected } else { expected };
            assert_eq!(found.to_bits(), expected.to_bits(), "{negative} {mantissa}e-{places}");
        }
    }

    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        *state ^ *state >> 31
    }

    #[test]
    fn mantissas_of_every_length_are_rounded_once() {
        let mut state = 7;
        for round in 0..2_000_000 {
            let mantissa = random(&mut state) >> (round % 64);
            check(mantissa, round % (PLACES_MAX + 1));
        }
        for places in 0..=PLACES_MAX {
            for bit in 0..64 {
                for mantissa in [1_u64 << bit, (1_u64 << bit) - 1, (1_u64 << bit) + 1] {
                    check(mantissa, places);
                }
            }
            for tens in 0..20 {
                let power = 10_u64.pow(tens);
                for mantissa in [power - 1, power, power + 1] {
                    check(mantissa, places);
                }
            }
            check(u64::MAX, places);
        }
    }

    #[test]
    fn ties_and_their_neighbours_are_rounded_once() {
        let mut state = 11;
        for round in 0..300_000 {
            // A middle between two floats, times 5^places, as far as there is room for it.
            let places = round % 5;
            let middle = (1 << 53 | random(&mut state) >> 11) << 1 | 1;
            let odd = middle >> (round / 5 % 12) | 1;
            let Some(mantissa) = odd.checked_mul(5_u64.pow(places as u32)) else { continue };
            for mantissa in [mantissa - 1, mantissa, mantissa + 1] {
                (0..=4).for_each(|places| check(mantissa, places));
            }
        }
    }

    #[test]
    fn the_mantissas_nearest_to_middles_are_rounded_once() {
        let mut state = 13;
        for round in 0..500_000_u64 {
            let places = (round % PLACES_MAX as u64) as usize + 1;
            let power = 5_u128.pow(places as u32);
            // The mantissas around (2·j + 1)·5^places / 2^shift.
            let bits = 55 + places as u32 * 2 + places as u32 / 3 + 1;
            let middle = u128::from((1 << 53 | random(&mut state) >> 11) << 1 | 1);
            let Some(product) = middle.checked_mul(power) else { continue };
            let shift = bits.saturating_sub(64 - (round / 64 % 4) as u32).max(1);
            let Ok(mantissa) = u64::try_from(product >> shift) else { continue };
            check(mantissa, places);
            check(mantissa.saturating_add(1), places);
        }
    }
}

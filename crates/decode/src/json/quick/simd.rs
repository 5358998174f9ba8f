//! The only unsafe code of this crate: loads and stores of vector registers, windows into a
//! buffer at one comparison each, and the step into code that is compiled for AVX2.
//!
//! All are sound by their types. A load or store takes a reference to an array of exactly the
//! register's size, and the unaligned instructions are used. A [`Text`] knows the last place from
//! which a whole window lies in its buffer, and gives out windows up to there. Code for AVX2 is
//! entered with an [`Avx2`] only, which exists only where the processor has what is needed.
#![allow(unsafe_code, reason = "see above; nothing else in the crate may")]

use std::arch::x86_64::*;

use super::{Lane, any_order, plan::QuickPlan, walk, work::Work};
#[cfg(test)]
use super::{long::find_long, work::Long};
use tidemill_kernel::event::Rows;

/// The proof that this processor has AVX2 and the bit instructions that came with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// Returns the proof, if the processor gives it.
    pub(crate) fn detect() -> Option<Avx2> {
        let has_all = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2");
        has_all.then_some(Avx2(()))
    }

    /// Calls [`walk::read`], or [`any_order::read`] for one message of a plan without order.
    #[inline]
    pub(super) fn read<const L: usize>(
        self,
        plan: &QuickPlan,
        text: &[u8],
        lanes: &[Lane; L],
        work: &mut Work<'_>,
        rows: &mut Rows<'_>,
    ) -> Option<()> {
        let text = Text::new(text)?;
        // SAFETY: `detect` saw every feature that both are compiled for.
        unsafe {
            match (&plan.names, lanes.first_chunk::<1>()) {
                (Some(names), Some(lane)) if L == 1 => {
                    any_order::read(plan, names, text, lane, work, rows)
                }
                _ => walk::read(plan, text, lanes, work, rows),
            }
        }
    }
}

#[cfg(test)]
impl Avx2 {
    /// Reads a long float and where it ends.
    pub(super) fn read_long(self, text: &[u8; 64]) -> Option<(f64, usize)> {
        // SAFETY: `detect` saw every feature that both are compiled for.
        unsafe {
            let (digits, first, end) = find_long(text.first_chunk()?)?;
            Some((Long::Digits(first, digits).value(text)?, end))
        }
    }
}

/// What a step looks at: a literal of at most 31 bytes and at least 32 bytes of value.
pub(super) type Window = [u8; 64];

/// A buffer that holds at least one window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'b> {
    bytes: &'b [u8],
    /// The last place of a window: its end is the buffer's.
    last: usize,
}

impl<'b> Text<'b> {
    fn new(bytes: &'b [u8]) -> Option<Text<'b>> {
        let last = bytes.len().checked_sub(size_of::<Window>())?;
        Some(Text { bytes, last })
    }

    /// Returns the window that starts at `at`, if there is one.
    #[inline(always)]
    pub(super) fn window(self, at: usize) -> Option<&'b Window> {
        if at > self.last {
            return None;
        }
        // SAFETY: `at` is at most the length less a window's size, so the window lies within the
        // bytes that are borrowed; bytes need no alignment.
        Some(unsafe { &*self.bytes.as_ptr().add(at).cast::<Window>() })
    }
}

impl Text<'_> {
    /// Returns where a window starts that this text gave out.
    #[inline(always)]
    pub(super) fn place_of(self, window: &Window) -> usize {
        window.as_ptr().addr().wrapping_sub(self.bytes.as_ptr().addr())
    }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load32(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the reference is to 32 readable bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the reference is to 16 readable bytes; the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn store16(bytes: &mut [u8; 16], value: __m128i) {
    // SAFETY: the reference is to 16 writable bytes; the store needs no alignment.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), value) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load_pairs(pairs: &[[u64; 2]; 2]) -> __m256d {
    // SAFETY: the reference is to 32 readable bytes, every pattern of which is a float's.
    unsafe { _mm256_loadu_pd(pairs.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load_floats(values: &[f64; 4]) -> __m256d {
    // SAFETY: the reference is to four readable floats; the load needs no alignment.
    unsafe { _mm256_loadu_pd(values.as_ptr()) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn store_floats(values: &mut [f64; 4], value: __m256d) {
    // SAFETY: the reference is to four writable floats; the store needs no alignment.
    unsafe { _mm256_storeu_pd(values.as_mut_ptr(), value) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load_ints(values: &[i64; 4]) -> __m256i {
    // SAFETY: the reference is to four readable integers; the load needs no alignment.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn store_ints(values: &mut [i64; 4], value: __m256i) {
    // SAFETY: the reference is to four writable integers; the store needs no alignment.
    unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_end_with_their_buffer() {
        let bytes: Vec<u8> = (0..100).collect();
        let text = Text::new(&bytes).expect("more than a window");
        for at in 0..=36 {
            let window = text.window(at).expect("it lies within the buffer");
            assert_eq!((&window[..], text.place_of(window)), (&bytes[at..at + 64], at));
        }
        assert!([37, 38, 99, 100, usize::MAX].iter().all(|at| text.window(*at).is_none()));
        assert!(Text::new(&bytes[..63]).is_none());
        assert!(Text::new(&bytes[..64]).is_some_and(|text| text.window(1).is_none()));
    }
}

//! The only unsafe code of this crate: loads and stores of vector registers, windows into a
//! buffer at one comparison each, and the step into code that is compiled for AVX2.
//!
//! All are sound by their types. A load or store takes a reference to an array of exactly the
//! register's size, and the unaligned instructions are used. A [`Text`] knows the last place from
//! which a whole window lies in its buffer, and gives out places up to there. Code for AVX2 is
//! entered with an [`Avx2`] only, which exists only where the processor has what is needed.
#![allow(unsafe_code, reason = "see above; nothing else in the crate may")]

use std::{arch::x86_64::*, marker::PhantomData, ops::Range};

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
    last: *const u8,
}

/// A place in a buffer at which a window starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'b> {
    start: *const u8,
    of: PhantomData<&'b [u8]>,
}

impl<'b> Place<'b> {
    /// Returns what stands there.
    #[inline(always)]
    pub(super) fn window(self) -> &'b Window {
        // SAFETY: a place is made by a text only, which made sure that the window lies within the
        // bytes that are borrowed; bytes need no alignment.
        unsafe { &*self.start.cast::<Window>() }
    }
}

impl<'b> Text<'b> {
    fn new(bytes: &'b [u8]) -> Option<Text<'b>> {
        let last = bytes.len().checked_sub(size_of::<Window>())?;
        Some(Text { bytes, last: bytes[last..].as_ptr() })
    }

    /// Returns the place `at` bytes behind the start, if there is a window.
    #[inline(always)]
    pub(super) fn place(self, at: usize) -> Option<Place<'b>> {
        let is_there = at <= self.bytes.len() - size_of::<Window>();
        is_there.then(|| Place { start: self.bytes.as_ptr().wrapping_add(at), of: PhantomData })
    }

    /// Returns the place `by` bytes behind one of this text's, at most a window, if there is a
    /// window there, too.
    #[inline(always)]
    pub(super) fn behind(self, place: Place<'b>, by: usize) -> Option<Place<'b>> {
        // The last window ends where the bytes do, so no place leaves them, and none wraps around.
        let start = place.start.wrapping_add(by);
        let is_there = by <= size_of::<Window>() && start <= self.last;
        is_there.then_some(Place { start, of: PhantomData })
    }

    /// Returns how many bytes behind the start one of this text's places is.
    #[inline(always)]
    pub(super) fn at(self, place: Place<'b>) -> usize {
        place.start.addr().wrapping_sub(self.bytes.as_ptr().addr())
    }

    /// Fetches so many bytes into the cache, if they are there.
    #[inline(always)]
    pub(super) fn fetch(self, bytes: Range<usize>) {
        for at in bytes.step_by(64) {
            // SAFETY: a prefetch reads and writes nothing that the program can see, and faults on
            // no address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.bytes.as_ptr().wrapping_add(at).cast()) }
        }
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
            let place = text.place(at).expect("it lies within the buffer");
            assert_eq!((&place.window()[..], text.at(place)), (&bytes[at..at + 64], at));
            for by in 0..=80 {
                let behind = text.behind(place, by).map(|place| text.at(place));
                assert_eq!(behind, (by <= 64 && at + by <= 36).then_some(at + by), "{at} {by}");
            }
        }
        assert!([37, 38, 99, 100, usize::MAX].iter().all(|at| text.place(*at).is_none()));
        assert!(Text::new(&bytes[..63]).is_none());
        assert!(Text::new(&bytes[..64]).is_some_and(|text| text.place(1).is_none()));
    }
}

//! Asks the processor to bring memory into its cache before it is needed.
//!
//! A hint only: it changes no value and never fails, on processors without it it does nothing.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "the instruction takes a raw pointer")
)]

/// Bytes that a cache fetches at once.
const LINE_BYTES: usize = 64;

/// Fetches the place of one element; nothing if there is none at `index`.
#[inline]
pub(crate) fn element<T>(slice: &[T], index: usize) {
    if let Some(place) = slice.get(index) {
        line(place);
    }
}

/// Fetches whole lines of words; the slice begins with one.
#[inline]
pub(crate) fn lines(words: &[u64]) {
    for place in words.chunks_exact(LINE_BYTES / size_of::<u64>()) {
        line(place);
    }
}

#[inline]
fn line<T: ?Sized>(place: &T) {
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

//! Asks the processor to bring memory into its cache before it is needed.
//!
//! A hint only: it changes no value and never fails, on processors without it it does nothing.
#![expect(unsafe_code, reason = "the instruction takes a raw pointer")]

/// Bytes that a cache fetches at once.
const LINE_BYTES: usize = 64;

/// Fetches the place of one element; nothing if there is none at `index`.
#[inline]
pub(crate) fn element<T>(slice: &[T], index: usize) {
    if let Some(place) = slice.get(index) {
        line(place);
    }
}

/// Fetches every line of a slice.
#[inline]
pub(crate) fn all<T>(slice: &[T]) {
    for place in slice.iter().step_by(LINE_BYTES / size_of::<T>()) {
        line(place);
    }
    // The last element may begin a line that no step has met.
    slice.last().into_iter().for_each(line);
}

#[inline]
fn line<T>(place: &T) {
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

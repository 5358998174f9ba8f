//! The only unsafe code of this crate: instructions of the processor that the language does not
//! give as such. Elsewhere than on x86-64 the same is done without them.
//!
//! A prefetch is a hint only: it changes no value and never fails. For the vectors see `row.rs`.

pub(crate) mod row;

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
    const LINE_WORDS: usize = LINE_BYTES / size_of::<u64>();
    let mut pairs = words.chunks_exact(2 * LINE_WORDS);
    for pair in &mut pairs {
        prefetch_line(&pair[0]);
        prefetch_line(&pair[LINE_WORDS]);
    }
    if let Some(last) = pairs.remainder().first() {
        prefetch_line(last);
    }
}

#[inline]
#[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "a hint, see above"))]
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

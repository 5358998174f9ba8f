//! Huge pages for large pieces of memory.
//!
//! Rows of a million devices lie anywhere in hundreds of megabytes, and with pages of 4 KiB the
//! processor has to look up nearly every address anew. Linux gives pages of 2 MiB to who asks for
//! them (`transparent_hugepage` is `madvise` or `always`, which it is nearly everywhere). Where it
//! does not, nothing is different. The sensor job with 1,000,000 devices takes a fifth less time.
//!
//! Small pieces are left to the allocator as they are, so that a small job stays small.
#![allow(unsafe_code, reason = "allocators are; argued at each place")]

use std::alloc::{GlobalAlloc, Layout};

/// A huge page of x86-64, and of ARM with pages of 4 KiB.
const HUGE: usize = 2 << 20;
/// Of a smaller piece too much could be left over.
const LARGE_MIN: usize = 2 * HUGE;

/// An allocator whose large pieces are asked for as huge pages.
#[derive(Debug)]
pub struct LargePages<A>(pub A);

/// Returns the layout that a large piece really gets: it starts with a page.
fn large(layout: Layout) -> Option<Layout> {
    if layout.size() < LARGE_MIN {
        return None;
    }
    layout.align_to(HUGE).ok()
}

// SAFETY: all is passed on to an allocator, each piece always with the same layout: what `large`
// makes of its own, and that depends on nothing else. It has the same size and at least the same
// alignment, so who asked for the piece gets what he asked for.
unsafe impl<A: GlobalAlloc> GlobalAlloc for LargePages<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(layout) = large(layout) else {
            // SAFETY: the caller's promises are the same.
            return unsafe { self.0.alloc(layout) };
        };
        // SAFETY: as large pieces are not empty, the caller's promises are kept.
        let memory = unsafe { self.0.alloc(layout) };
        if !memory.is_null() {
            ask_for_huge_pages(memory, layout.size());
        }
        memory
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if large(layout).is_none() {
            // SAFETY: the caller's promises are the same.
            return unsafe { self.0.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's promises are the same.
        let memory = unsafe { self.alloc(layout) };
        if !memory.is_null() {
            // SAFETY: the piece has that many bytes.
            unsafe { memory.write_bytes(0, layout.size()) };
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the piece was allocated with this layout.
        unsafe { self.0.dealloc(memory, large(layout).unwrap_or(layout)) };
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that this is a layout.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if large(layout).is_none() && large(wanted).is_none() {
            // SAFETY: the caller's promises are the same, and both pieces are as he sees them.
            return unsafe { self.0.realloc(memory, layout, size) };
        }
        // SAFETY: the caller promises that the size is not 0.
        let other = unsafe { self.alloc(wanted) };
        if !other.is_null() {
            // SAFETY: both have as many bytes, and they are two pieces; the old one is given up.
            unsafe {
                other.copy_from_nonoverlapping(memory, layout.size().min(size));
                self.dealloc(memory, layout);
            }
        }
        other
    }
}

#[cfg(target_os = "linux")]
fn ask_for_huge_pages(memory: *mut u8, size: usize) {
    use rustix::mm::{Advice, madvise};
    // SAFETY: the advice changes no byte of the memory, and whole pages are the piece's own: it
    // starts with one. A kernel without huge pages refuses it, and all stays as it is.
    let _ = unsafe { madvise(memory.cast(), size / HUGE * HUGE, Advice::LinuxHugepage) };
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages(_: *mut u8, _: usize) {}

#[cfg(test)]
mod tests {
    use std::alloc::System;

    use super::*;

    fn filled(memory: *mut u8, size: usize, with: u8) {
        assert!(!memory.is_null());
        // SAFETY: each test asks for so many bytes.
        unsafe { memory.write_bytes(with, size) };
    }

    fn bytes<'a>(memory: *mut u8, size: usize) -> &'a [u8] {
        // SAFETY: each test has set so many bytes.
        unsafe { core::slice::from_raw_parts(memory, size) }
    }

    #[test]
    fn pieces_of_any_size_are_whole_and_zeroed_if_asked_for() {
        let allocator = LargePages(System);
        for size in [1, 100, LARGE_MIN - 1, LARGE_MIN, LARGE_MIN + 12_345] {
            let layout = Layout::from_size_align(size, 8).expect("a layout");
            // SAFETY: not empty, and freed with the same layout.
            unsafe {
                let memory = allocator.alloc(layout);
                filled(memory, size, 7);
                assert!(size < LARGE_MIN || memory.addr().is_multiple_of(HUGE), "{size}");
                allocator.dealloc(memory, layout);
                let memory = allocator.alloc_zeroed(layout);
                assert!(bytes(memory, size).iter().all(|byte| *byte == 0), "{size}");
                allocator.dealloc(memory, layout);
            }
        }
    }

    #[test]
    fn pieces_that_grow_and_shrink_keep_what_is_in_them() {
        let allocator = LargePages(System);
        let sizes = [10, 1 << 20, LARGE_MIN + 1, 3 * LARGE_MIN, LARGE_MIN, 1 << 20, 5];
        let layout = |size: usize| Layout::from_size_align(size, 1).expect("a layout");
        // SAFETY: not empty; each layout is that of the size before.
        unsafe {
            let mut memory = allocator.alloc(layout(sizes[0]));
            filled(memory, sizes[0], 0);
            for (step, pair) in sizes.windows(2).enumerate() {
                let [before, size] = [pair[0], pair[1]];
                memory = allocator.realloc(memory, layout(before), size);
                let kept = bytes(memory, before.min(size));
                assert!(kept.iter().all(|byte| usize::from(*byte) == step), "{before} to {size}");
                filled(memory, size, step as u8 + 1);
            }
            allocator.dealloc(memory, layout(5));
        }
    }
}

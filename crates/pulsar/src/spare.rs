//! Buffers of decompressed bodies, used again.
//!
//! An allocator gives memory of this size back to the system and takes it anew for the next entry,
//! page by page, and a new buffer is filled with zeros before it is written. What is kept here is
//! bounded; whatever does not fit is freed as usual.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// The most bytes that wait for their next use, in the whole process.
const SPARE_BYTES_MAX: usize = 4 << 20;
/// The most buffers that do.
const SPARES_MAX: usize = 64;

static SPARE: Mutex<Spare> = Mutex::new(Spare { buffers: Vec::new(), bytes: 0 });

/// The newest last: it is the one that the processor's caches hold.
struct Spare {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Spare {
    /// Returns a buffer of at least `size` bytes, whose content is anything.
    fn take(&mut self, size: usize) -> Vec<u8> {
        let fits = |buffer: &Vec<u8>| buffer.len() >= size && buffer.len() / 4 <= size;
        match self.buffers.iter().rposition(fits) {
            Some(at) => {
                let buffer = self.buffers.remove(at);
                self.bytes -= buffer.len();
                buffer
            }
            None => Vec::new(),
        }
    }

    /// Keeps a buffer, and returns what has to go for it.
    fn keep(&mut self, buffer: Vec<u8>) -> Vec<Vec<u8>> {
        self.bytes += buffer.len();
        self.buffers.push(buffer);
        let mut gone = Vec::new();
        while self.bytes > SPARE_BYTES_MAX || self.buffers.len() > SPARES_MAX {
            let oldest = self.buffers.remove(0);
            self.bytes -= oldest.len();
            gone.push(oldest);
        }
        gone
    }
}

fn spare() -> MutexGuard<'static, Spare> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A buffer on loan, and how much of it is used.
struct Loan {
    buffer: Vec<u8>,
    size: usize,
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.size]
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        if !buffer.is_empty() {
            // What goes is freed when the lock is free again.
            let _gone = spare().keep(buffer);
        }
    }
}

/// Returns `size` bytes that `fill` has written, all of them; `None` if it says that it did not.
pub(crate) fn filled(size: usize, fill: impl FnOnce(&mut [u8]) -> bool) -> Option<Bytes> {
    let mut buffer = spare().take(size);
    if buffer.len() < size {
        buffer = vec![0; size];
    }
    let mut loan = Loan { buffer, size };
    fill(&mut loan.buffer[..size]).then(|| Bytes::from_owner(loan))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spares_are_used_again_and_stay_bounded() {
        let mut spare = Spare { buffers: Vec::new(), bytes: 0 };
        assert_eq!(spare.take(10).len(), 0);
        assert!(spare.keep(vec![1; 1_000]).is_empty());
        assert!(spare.keep(vec![2; 900]).is_empty());
        assert_eq!(spare.take(100).len(), 0, "too large for so little");
        assert_eq!(spare.take(1_001).len(), 0, "too small");
        assert_eq!(spare.take(950), vec![1; 1_000]);
        assert_eq!(spare.take(225), vec![2; 900]);
        assert_eq!((spare.bytes, spare.buffers.len()), (0, 0));
        assert_eq!(spare.keep(vec![0; SPARE_BYTES_MAX + 1]).len(), 1);
        for _ in 0..SPARES_MAX {
            assert!(spare.keep(vec![0; 8]).is_empty());
        }
        assert_eq!(spare.keep(vec![0; SPARE_BYTES_MAX - 80]).len(), SPARES_MAX - 10);
        assert_eq!((spare.bytes, spare.buffers.len()), (SPARE_BYTES_MAX, 11));
    }

    #[test]
    fn bytes_are_those_that_were_written() {
        let one = filled(5_000, |bytes| {
            bytes.fill(7);
            true
        });
        let two = filled(4_000, |bytes| {
            bytes.fill(8);
            true
        });
        assert_eq!(one.as_deref(), Some(&[7; 5_000][..]));
        assert_eq!(two.as_deref(), Some(&[8; 4_000][..]));
        assert_eq!(filled(5_000, |_| false), None);
        assert_eq!(filled(0, |_| true).as_deref(), Some(&[][..]));
    }
}

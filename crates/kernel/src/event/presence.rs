//! Which fields a message has, a bit each: floats first, then integers, then texts.
//!
//! Nearly every message has all of them and is not asked for its bits at all.

/// The presence bits of one message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presence<'a> {
    words: &'a [u64],
    /// Hardly a schema needs another one.
    first: u64,
    /// How many fields there are.
    total: usize,
}

impl<'a> Presence<'a> {
    #[inline]
    pub(crate) fn new(words: &'a [u64], total: usize) -> Presence<'a> {
        Presence { words, first: words.first().copied().unwrap_or(0), total }
    }

    /// Returns whether a field is present.
    #[inline]
    pub(crate) fn bit(self, bit: usize) -> bool {
        let word = if bit < 64 { self.first } else { self.words[bit / 64] };
        word >> (bit % 64) & 1 == 1
    }

    /// Returns the bits of the fields that are absent.
    #[inline]
    pub(crate) fn absent(self) -> impl Iterator<Item = usize> + use<'a> {
        self.words.iter().enumerate().flat_map(move |(word, present)| {
            let width = (self.total - word * 64).min(64);
            let mut absent = !present & (u64::MAX >> (64 - width));
            core::iter::from_fn(move || {
                let bit = absent.trailing_zeros() as usize;
                absent &= absent.wrapping_sub(1);
                (bit < 64).then_some(word * 64 + bit)
            })
        })
    }
}

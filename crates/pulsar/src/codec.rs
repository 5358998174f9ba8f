//! Compression of batch payloads.
//!
//! Reads LZ4 blocks, ZSTD frames and plain bytes, each into a buffer whose size the caller has
//! bounded before. Snappy and ZLIB are recognised and refused.

use bytes::Bytes;
use ruzstd::decoding::FrameDecoder as ZstdDecoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// How a batch is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// One LZ4 block.
    Lz4,
    /// One ZSTD frame, made with the fastest level.
    Zstd,
}

/// Number of the protocol for each codec, also for those that are not read here.
pub(crate) const LZ4: i32 = 1;
pub(crate) const ZLIB: i32 = 2;
pub(crate) const ZSTD: i32 = 3;
pub(crate) const SNAPPY: i32 = 4;

// An LZ4 block cannot grow by more than 255 bytes for each byte it holds.
const LZ4_RATIO_MAX: usize = 255;
const ZSTD_WINDOW_BYTES_MIN: u64 = 8 << 20;

impl Compression {
    pub(crate) fn code(self) -> Option<i32> {
        match self {
            Self::None => None,
            Self::Lz4 => Some(LZ4),
            Self::Zstd => Some(ZSTD),
        }
    }

    pub(crate) fn compress(self, raw: Bytes) -> Bytes {
        match self {
            Self::None => raw,
            Self::Lz4 => lz4_flex::block::compress(&raw).into(),
            Self::Zstd => compress_to_vec(&raw[..], CompressionLevel::Fastest).into(),
        }
    }
}

/// Names a codec of the protocol for messages.
pub(crate) fn name(code: i32) -> &'static str {
    match code {
        0 => "none",
        LZ4 => "lz4",
        ZLIB => "zlib",
        ZSTD => "zstd",
        SNAPPY => "snappy",
        _ => "unknown",
    }
}

/// Decompresses to exactly `size` bytes, or returns `None`. The caller has bounded `size`.
pub(crate) fn decompress_lz4(input: &[u8], size: usize) -> Option<Bytes> {
    if size > input.len().saturating_mul(LZ4_RATIO_MAX) {
        return None;
    }
    let mut output = vec![0; size];
    let written = lz4_flex::block::decompress_into(input, &mut output).ok()?;
    (written == size).then(|| output.into())
}

/// Decompresses to exactly `size` bytes, or returns `None`. The caller has bounded `size`.
pub(crate) fn decompress_zstd(input: &[u8], size: usize) -> Option<Bytes> {
    let mut decoder = ZstdDecoder::new();
    decoder.set_max_window_size((size as u64).max(ZSTD_WINDOW_BYTES_MIN));
    let mut output = vec![0; size];
    let written = decoder.decode_all(input, &mut output).ok()?;
    (written == size).then(|| output.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_codec_returns_what_was_given() {
        let raw = Bytes::from(b"temperature humidity pressure ".repeat(300));
        let lz4 = Compression::Lz4.compress(raw.clone());
        let zstd = Compression::Zstd.compress(raw.clone());
        assert!(lz4.len() < raw.len() / 10 && zstd.len() < raw.len() / 10);
        assert_eq!(decompress_lz4(&lz4, raw.len()), Some(raw.clone()));
        assert_eq!(decompress_zstd(&zstd, raw.len()), Some(raw.clone()));
        for wrong in [0, 1, raw.len() - 1, raw.len() + 1] {
            assert_eq!(decompress_lz4(&lz4, wrong), None, "{wrong}");
            assert_eq!(decompress_zstd(&zstd, wrong), None, "{wrong}");
        }
    }
}

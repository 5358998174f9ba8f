//! Compression of batch payloads.
//!
//! Reads LZ4 and Snappy blocks, ZSTD frames, ZLIB streams and plain bytes, each into a buffer
//! whose size the caller has bounded before. A codec that is not known is not guessed at.

use std::io::Write;

use bytes::Bytes;
use flate2::write::ZlibEncoder;
use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::FrameDecoder as ZstdDecoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::spare::filled;

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
    /// One ZLIB stream, made with the fastest level.
    Zlib,
    /// One Snappy block, without the framing of Snappy files.
    Snappy,
}

/// Number of the protocol for each codec.
pub(crate) const LZ4: i32 = 1;
pub(crate) const ZLIB: i32 = 2;
pub(crate) const ZSTD: i32 = 3;
pub(crate) const SNAPPY: i32 = 4;

// An LZ4 block cannot grow by more than 255 bytes for each byte it holds.
const LZ4_RATIO_MAX: usize = 255;
// The same of a DEFLATE stream, and of a Snappy block.
const ZLIB_RATIO_MAX: usize = 1032;
const SNAPPY_RATIO_MAX: usize = 32;
const ZSTD_WINDOW_BYTES_MIN: u64 = 8 << 20;

impl Compression {
    pub(crate) fn code(self) -> Option<i32> {
        match self {
            Self::None => None,
            Self::Lz4 => Some(LZ4),
            Self::Zstd => Some(ZSTD),
            Self::Zlib => Some(ZLIB),
            Self::Snappy => Some(SNAPPY),
        }
    }

    pub(crate) fn compress(self, raw: Bytes) -> Bytes {
        match self {
            Self::None => raw,
            Self::Lz4 => {
                let compressed = lz4::block::compress(&raw, None, false);
                compressed.expect("a batch is far below 2 GiB").into()
            }
            Self::Zstd => compress_to_vec(&raw[..], CompressionLevel::Fastest).into(),
            Self::Zlib => compress_zlib(&raw),
            Self::Snappy => {
                let compressed = snap::raw::Encoder::new().compress_vec(&raw);
                compressed.expect("a batch is far below 4 GiB").into()
            }
        }
    }
}

fn compress_zlib(raw: &[u8]) -> Bytes {
    let mut stream =
        ZlibEncoder::new(Vec::with_capacity(raw.len() / 2), flate2::Compression::fast());
    let written = stream.write_all(raw).and_then(|()| stream.finish());
    written.expect("memory takes every byte").into()
}

/// Decompresses to exactly `size` bytes, or returns `None`. The caller has bounded `size`.
pub(crate) fn decompress_lz4(input: &[u8], size: usize) -> Option<Bytes> {
    if size > input.len().saturating_mul(LZ4_RATIO_MAX) {
        return None;
    }
    // The library takes lengths as C's int.
    i32::try_from(input.len()).ok()?;
    let signed = Some(i32::try_from(size).ok()?);
    let decompress = lz4::block::decompress_to_buffer;
    filled(size, |output| decompress(input, signed, output).is_ok_and(|written| written == size))
}

/// Decompresses to exactly `size` bytes, or returns `None`. The caller has bounded `size`.
pub(crate) fn decompress_zstd(input: &[u8], size: usize) -> Option<Bytes> {
    let mut decoder = ZstdDecoder::new();
    decoder.set_max_window_size((size as u64).max(ZSTD_WINDOW_BYTES_MIN));
    filled(size, |output| decoder.decode_all(input, output).is_ok_and(|written| written == size))
}

/// Decompresses to exactly `size` bytes, or returns `None`. The caller has bounded `size`.
pub(crate) fn decompress_zlib(input: &[u8], size: usize) -> Option<Bytes> {
    if size > input.len().saturating_mul(ZLIB_RATIO_MAX) {
        return None;
    }
    // One byte more, so that a stream that is too long is seen.
    let mut output = vec![0; size + 1];
    let mut stream = Decompress::new(true);
    let status = stream.decompress(input, &mut output, FlushDecompress::Finish);
    let ended = matches!(status, Ok(Status::StreamEnd)) && stream.total_out() == size as u64;
    output.truncate(size);
    ended.then(|| output.into())
}

/// Decompresses to exactly `size` bytes, or returns `None`. The caller has bounded `size`.
pub(crate) fn decompress_snappy(input: &[u8], size: usize) -> Option<Bytes> {
    let fits = snap::raw::decompress_len(input) == Ok(size);
    if !fits || size > input.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return None;
    }
    let mut decoder = snap::raw::Decoder::new();
    filled(size, |output| decoder.decompress(input, output).is_ok_and(|written| written == size))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Decompressor = fn(&[u8], usize) -> Option<Bytes>;

    const CODECS: [(Compression, Decompressor); 4] = [
        (Compression::Lz4, decompress_lz4),
        (Compression::Zstd, decompress_zstd),
        (Compression::Zlib, decompress_zlib),
        (Compression::Snappy, decompress_snappy),
    ];

    #[test]
    fn each_codec_returns_what_was_given() {
        let text = Bytes::from(b"temperature humidity pressure ".repeat(300));
        let mut state = 1u64;
        let noise = (0..100_000).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        });
        let noise: Bytes = noise.collect::<Vec<u8>>().into();
        for (codec, decompress) in CODECS {
            assert!(codec.compress(text.clone()).len() < text.len() / 10, "{codec:?}");
            for raw in [&text, &noise, &Bytes::new(), &Bytes::from_static(b"x")] {
                let compressed = codec.compress(raw.clone());
                assert_eq!(decompress(&compressed, raw.len()).as_ref(), Some(raw), "{codec:?}");
                for wrong in [raw.len().wrapping_sub(1), raw.len() + 1, raw.len() + 100_000] {
                    let claimed = wrong.min(1 << 20);
                    assert_eq!(decompress(&compressed, claimed), None, "{codec:?} {claimed}");
                }
            }
        }
    }

    #[test]
    fn streams_of_other_programs_are_read() {
        // Python's zlib.compress(b"hello hello hello hello", 9).
        let zlib = b"\x78\xda\xcb\x48\xcd\xc9\xc9\x57\xc8\x40\x27\x01\x68\x03\x08\xb1";
        assert_eq!(decompress_zlib(zlib, 23).as_deref(), Some(&b"hello hello hello hello"[..]));
        // By the format's description: 23 bytes; 6 as they are; 17 copied from 6 bytes before.
        let snappy = b"\x17\x14hello \x42\x06\x00";
        assert_eq!(decompress_snappy(snappy, 23).as_deref(), Some(&b"hello hello hello hello"[..]));
    }

    #[test]
    fn damaged_streams_are_refused_or_keep_their_size() {
        let raw = Bytes::from(b"temperature humidity pressure ".repeat(30));
        for (codec, decompress) in CODECS {
            let compressed = codec.compress(raw.clone());
            for at in 0..compressed.len() {
                for bit in 0..8 {
                    let mut damaged = compressed.to_vec();
                    damaged[at] ^= 1 << bit;
                    let read = decompress(&damaged, raw.len());
                    assert!(read.is_none_or(|read| read.len() == raw.len()), "{codec:?} {at}");
                }
                assert_eq!(decompress(&compressed[..at], raw.len()), None, "{codec:?} {at}");
            }
        }
    }
}

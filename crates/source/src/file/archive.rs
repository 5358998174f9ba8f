//! Unpacks gzip and zstd streams while they are read; plain ones pass through.
//!
//! What a stream is, its first bytes tell, not its name. Members and frames one behind the other
//! are one content. Checksums are looked at where the format has them, at the end of a member or
//! frame: what stands before was handed on by then. Memory is bounded by [`ZSTD_WINDOW_LOG_MAX`].

use std::io::{BufReader, Error, ErrorKind, Read};

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

/// The largest zstd window that is accepted, as a power of two: 128 MiB, the most that `zstd`
/// itself makes and reads without `--long`. It is the most memory that an archive may ask for.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Packed bytes read at once.
const PACKED_READ_BYTES: usize = 64 * 1024;

/// How many bytes tell the format.
pub(crate) const MAGIC_BYTES: usize = 4;

/// How a stream is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Not at all.
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Format {
    /// Tells the format by the first bytes. No JSON text begins with any of these.
    pub(crate) fn of(first: &[u8]) -> Format {
        match first {
            [0x1f, 0x8b, ..] => Format::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Format::Zstd,
            // A frame that decoders skip; parallel compressors begin with one.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Format::Zstd,
            _ => Format::Plain,
        }
    }
}

/// A stream that is unpacked as it is read.
pub(crate) enum Unpack<R: Read> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<BufReader<Counted<R>>>>),
    Zstd(Box<ZstdDecoder<'static, BufReader<Counted<R>>>>),
}

impl<R: Read> Unpack<R> {
    /// Begins at the stream's first byte.
    pub(crate) fn new(format: Format, stream: R) -> std::io::Result<Unpack<R>> {
        let buffered =
            |stream| BufReader::with_capacity(PACKED_READ_BYTES, Counted { stream, read_bytes: 0 });
        Ok(match format {
            Format::Plain => Unpack::Plain(stream),
            Format::Gzip => Unpack::Gzip(Box::new(MultiGzDecoder::new(buffered(stream)))),
            Format::Zstd => {
                let mut decoder = ZstdDecoder::with_buffer(buffered(stream))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Unpack::Zstd(Box::new(decoder))
            }
        })
    }

    /// Says what an error of reading means; `offset` is that of the content's next byte.
    pub(crate) fn explain(&self, offset: u64, error: &Error) -> String {
        let (name, packed) = match self {
            Unpack::Plain(_) => return error.to_string(),
            Unpack::Gzip(decoder) => ("gzip", used_bytes(decoder.get_ref())),
            Unpack::Zstd(decoder) => ("zstd", used_bytes(decoder.get_ref())),
        };
        let place = format!("at byte {offset} of its content (byte {packed} of the archive)");
        let cause = error.to_string();
        if error.raw_os_error().is_some() {
            return format!("{cause}, {place}");
        }
        if cause.contains("too much memory") {
            let mib = (1_u64 << ZSTD_WINDOW_LOG_MAX) >> 20;
            return format!(
                "the zstd archive asks for a window of more than {mib} MiB, {place}; \
                 compress it again without --long"
            );
        }
        let what = match error.kind() {
            ErrorKind::UnexpectedEof => "is cut off",
            _ => "is damaged",
        };
        format!(
            "the {name} archive {what} {place}: {cause}; whole lines before this are processed; \
             put a sound archive of the same content in its place and start again"
        )
    }
}

impl<R: Read> Read for Unpack<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Unpack::Plain(stream) => stream.read(buffer),
            Unpack::Gzip(decoder) => decoder.read(buffer),
            Unpack::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// Counts what is read through it.
pub(crate) struct Counted<R> {
    stream: R,
    read_bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.read_bytes += count as u64;
        Ok(count)
    }
}

/// Returns how many packed bytes the decoder has taken.
fn used_bytes<R: Read>(buffered: &BufReader<Counted<R>>) -> u64 {
    buffered.get_ref().read_bytes - buffered.buffer().len() as u64
}

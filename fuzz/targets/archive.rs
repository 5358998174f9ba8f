//! Packed files: hostile archives end in an error or an end, never in a panic, and what they give
//! has the lines and positions of the plain content, from wherever it is read.
//!
//! The first byte says what the file is: the rest of the input as it stands, or the rest packed
//! here, in two members or frames.
#![no_main]

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use libfuzzer_sys::fuzz_target;
use tidemill_engine::port::{Source as _, SourceEvent};
use tidemill_kernel::event::{Position, Reason};
use tidemill_source::file::{FileConfig, Partitions, open};

/// Content behind this is not looked at: archives can hold a million times their size.
const CONTENT_BYTES_MAX: usize = 1 << 20;
const LINE_BYTES_MAX: usize = 100;

/// Files of this process.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("tidemill-fuzz-archive-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    folder
});

/// Offset, what is kept of the text, and whether it is too long.
type Line = (u64, Vec<u8>, bool);

#[derive(Debug, PartialEq)]
enum End {
    Whole,
    Failed,
    /// There is more content than is looked at.
    Enough,
}

fn read(path: &Path, from: Option<u64>) -> (Vec<Line>, End) {
    let mut source = open(&FileConfig {
        paths: vec![path.to_owned()],
        partitions: Partitions::Single,
        line_bytes_max: LINE_BYTES_MAX,
        queue_bytes_max: 1 << 30,
    })
    .expect("a plain file");
    let control = source.control();
    let mut lines = Vec::new();
    loop {
        match source.next(Duration::from_secs(1)).expect("the source itself does not fail") {
            Some(SourceEvent::Assigned(partition)) => {
                let from = from.map(|offset| Position::new(0, offset, 0));
                control.read_from(&partition, from, false);
            }
            Some(SourceEvent::Entry(_, entry)) => {
                for message in &entry.messages {
                    let is_cut = message.reject == Some(Reason::TooLarge);
                    assert!(is_cut || message.reject.is_none());
                    lines.push((message.position.offset, entry.payload(message).to_vec(), is_cut));
                }
                if lines.last().is_some_and(|line| line.0 >= CONTENT_BYTES_MAX as u64) {
                    return (lines, End::Enough);
                }
            }
            Some(SourceEvent::Failed(_, text)) => {
                assert!(text.starts_with("file "), "{text}");
                return (lines, End::Failed);
            }
            Some(SourceEvent::Exhausted) => return (lines, End::Whole),
            _ => {}
        }
    }
}

/// Unpacks as far as it is looked at and splits into lines, without the code under test.
fn expected(packed: &[u8]) -> (Vec<Line>, End) {
    let mut content = Vec::new();
    let limit = CONTENT_BYTES_MAX as u64 + 1;
    let result = match packed {
        [0x1f, 0x8b, ..] => MultiGzDecoder::new(packed).take(limit).read_to_end(&mut content),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::Decoder::with_buffer(packed).expect("memory");
            decoder.window_log_max(27).expect("a window");
            decoder.take(limit).read_to_end(&mut content)
        }
        plain => plain.take(limit).read_to_end(&mut content),
    };
    let end = match result {
        Err(_) => End::Failed,
        Ok(_) if content.len() > CONTENT_BYTES_MAX => End::Enough,
        Ok(_) => End::Whole,
    };
    let mut lines = Vec::new();
    let mut offset = 0;
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\n");
        // Only the end of the whole content ends a line, too.
        if text.is_some() || end == End::Whole {
            let text = text.unwrap_or(line);
            let kept = text.len().min(LINE_BYTES_MAX);
            lines.push((offset, text[..kept].to_vec(), text.len() > LINE_BYTES_MAX));
        }
        offset += line.len() as u64;
    }
    (lines, end)
}

fn packed(kind: u8, content: &[u8]) -> Vec<u8> {
    let (first, second) = content.split_at(content.len() / 2);
    let member = |part: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(part).expect("into memory");
        encoder.finish().expect("into memory")
    };
    match kind % 4 {
        2 => [member(first), member(second)].concat(),
        3 => [first, second].map(|part| zstd::encode_all(part, 1).expect("into memory")).concat(),
        _ => content.to_vec(),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let archive = packed(*kind, rest);
    let path = FOLDER.join("a");
    fs::write(&path, &archive).expect("written");
    let (lines, end) = read(&path, None);
    let (expected, expected_end) = expected(&archive);
    let common = lines.len().min(expected.len());
    assert!(lines[..common] == expected[..common], "the lines of the content");
    match expected_end {
        End::Whole => {
            assert_eq!(end, End::Whole);
            assert_eq!(lines.len(), expected.len());
        }
        End::Failed => assert_eq!(end, End::Failed),
        End::Enough => {}
    }
    // From the middle on it is the same.
    if let Some((offset, ..)) = lines.get(lines.len() / 2) {
        let (again, again_end) = read(&path, Some(*offset));
        assert!(again == lines[lines.len() / 2..], "from byte {offset}");
        assert_eq!(again_end, end);
    }
});

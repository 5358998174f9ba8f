//! gzip and zstd: the same lines at the same positions as the plain file, and clear errors.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use tidemill_engine::port::{Source as _, SourceEvent};
use tidemill_kernel::event::Position;

use super::{config, of, read};
use crate::file::{FileConfig, open};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("into memory");
    encoder.finish().expect("into memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
    encoder.include_checksum(true).expect("a checksum");
    encoder.write_all(bytes).expect("into memory");
    encoder.finish().expect("into memory")
}

/// A zstd frame that holds nothing and has to be skipped.
const SKIPPABLE: [u8; 11] = [0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, b'a', b'b', b'c'];

/// Some 700 KiB of lines that do not pack to nothing.
fn text() -> Vec<u8> {
    let mut text = Vec::new();
    let mut number = 1_u64;
    while text.len() < 700_000 {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        writeln!(text, "{{\"n\":{number}}}").expect("into memory");
    }
    text
}

fn written(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).expect("written");
    path
}

/// Reads until the source fails; returns the content that came before, and why it failed.
fn read_until_failure(config: &FileConfig, from: Option<Position>) -> (String, String) {
    let mut source = open(config).expect("opens");
    let control = source.control();
    let mut content = String::new();
    loop {
        match source.next(Duration::from_secs(5)).expect("reads") {
            Some(SourceEvent::Partitions(_)) => {}
            Some(SourceEvent::Assigned(partition)) => control.read_from(&partition, from, false),
            Some(SourceEvent::Entry(partition, entry)) => {
                for (_, _, payload, _) in of(&partition, &entry) {
                    content.push_str(&payload);
                    content.push('\n');
                }
                control.credit(&partition, entry.credit);
            }
            Some(SourceEvent::Failed(_, text)) => return (content, text),
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[test]
fn packed_files_have_the_lines_and_positions_of_the_plain_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = text();
    let (first, second) = text.split_at(text.len() / 2 + 5);
    let plain = read(&config(vec![written(folder.path(), "a", &text)]), None);
    assert!(plain.len() > 20_000);
    // The name says nothing: each is called `a`, like the plain one. Members end within a line.
    let forms = [
        gzip(&text),
        [gzip(first), gzip(b""), gzip(second)].concat(),
        zstd(&text),
        [&SKIPPABLE[..], &zstd(first), &SKIPPABLE, &zstd(second)].concat(),
    ];
    for packed in forms {
        assert!(packed.len() < text.len());
        let config = config(vec![written(folder.path(), "a", &packed)]);
        assert!(read(&config, None) == plain, "all lines");
        for at in [1, 77, plain.len() / 2, plain.len() - 1] {
            assert!(read(&config, Some(plain[at].1)) == plain[at..], "from line {at}");
        }
    }
}

#[test]
fn archive_that_is_cut_off_gives_what_it_has_and_names_file_and_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = text();
    for (name, packed) in [("gzip", gzip(&text)), ("zstd", zstd(&text))] {
        for cut in [packed.len() / 2, packed.len() - 3] {
            let path = written(folder.path(), "cut", &packed[..cut]);
            let (content, failure) = read_until_failure(&config(vec![path.clone()]), None);
            assert!(text.starts_with(content.as_bytes()), "{name}");
            assert!(content.len() * 3 > text.len(), "{name}: only {} bytes", content.len());
            assert!(failure.starts_with(&format!("file {}: ", path.display())), "{failure}");
            assert!(failure.contains(&format!("the {name} archive is cut off")), "{failure}");
            let place: usize = failure
                .split("at byte ")
                .nth(1)
                .and_then(|rest| rest.split(' ').next()?.parse().ok())
                .unwrap_or_else(|| panic!("no place in {failure}"));
            let whole =
                text[..place].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            assert_eq!(content.len(), whole, "all whole lines before the place came: {failure}");
            assert!(failure.contains("of the archive"), "{failure}");
        }
    }
}

#[test]
fn damaged_archive_is_an_error_and_no_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = text();
    for mut packed in [gzip(&text), zstd(&text)] {
        // The checksum stands at the end: of four bytes, with gzip before four of the length.
        let at = packed.len() - if packed[0] == 0x1f { 6 } else { 2 };
        packed[at] ^= 1;
        let path = written(folder.path(), "bad", &packed);
        let (_, failure) = read_until_failure(&config(vec![path]), None);
        assert!(failure.contains("is damaged"), "{failure}");
        let junk = [&gzip(&text)[..], b"junk that is no member"].concat();
        let path = written(folder.path(), "junk", &junk);
        let (content, failure) = read_until_failure(&config(vec![path]), None);
        assert_eq!(content.len(), text.len());
        assert!(failure.contains("archive is "), "{failure}");
    }
}

#[test]
fn zstd_window_beyond_the_bound_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
    encoder.window_log(28).expect("a window");
    encoder.write_all(&text()).expect("into memory");
    let path = written(folder.path(), "long", &encoder.finish().expect("into memory"));
    let (content, failure) = read_until_failure(&config(vec![path]), None);
    assert!(failure.contains("asks for a window of more than 128 MiB"), "{failure}");
    assert_eq!(content, "");
}

#[test]
fn other_content_than_the_recorded_is_refused_where_it_can_be_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = b"one\ntwo\nthree\n";
    for bytes in [text.to_vec(), gzip(text), zstd(text)] {
        let config = config(vec![written(folder.path(), "a", &bytes)]);
        let (_, failure) = read_until_failure(&config, Some(Position::new(0, 5, 0)));
        assert!(failure.contains("no line begins at byte 5"), "{failure}");
        let (_, failure) = read_until_failure(&config, Some(Position::new(0, 99, 0)));
        assert!(failure.contains("has 14 bytes, but the commit record says that 99"), "{failure}");
        assert_eq!(read(&config, Some(Position::new(0, 8, 0)))[0].2, "three");
    }
}

//! Positions, bounds and errors of files as a source.

mod packed;
mod stdin;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tidemill_engine::port::{Entry, Source as _, SourceEvent};
use tidemill_kernel::event::{Position, Reason};

use super::{FileConfig, Partitions, open};
use crate::pull::PullSource;

fn config(paths: Vec<PathBuf>) -> FileConfig {
    FileConfig {
        paths,
        partitions: Partitions::Single,
        line_bytes_max: 1000,
        queue_bytes_max: 1 << 20,
    }
}

/// Reads a source to its end from `from`; returns (partition, offset, payload, reject) per line.
fn read(
    config: &FileConfig,
    from: Option<Position>,
) -> Vec<(String, Position, String, Option<Reason>)> {
    let mut source = open(config).expect("opens");
    let control = source.control();
    let mut lines = Vec::new();
    loop {
        match source.next(Duration::from_secs(5)).expect("reads") {
            Some(SourceEvent::Partitions(_)) => {}
            Some(SourceEvent::Assigned(partition)) => control.read_from(&partition, from, false),
            Some(SourceEvent::Entry(partition, entry)) => {
                lines.extend(of(&partition, &entry));
                control.credit(&partition, entry.credit);
            }
            Some(SourceEvent::End(_)) => {}
            Some(SourceEvent::Exhausted) => return lines,
            other => panic!("unexpected {other:?}"),
        }
    }
}

fn of(partition: &str, entry: &Entry) -> Vec<(String, Position, String, Option<Reason>)> {
    let line = |message: &tidemill_engine::port::RawMessage| {
        let payload = String::from_utf8_lossy(entry.payload(message)).into_owned();
        (partition.to_owned(), message.position, payload, message.reject)
    };
    entry.messages.iter().map(line).collect()
}

#[test]
fn files_in_order_are_one_log_and_any_line_can_be_gone_back_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let (a, b) = (folder.path().join("a.ndjson"), folder.path().join("b.ndjson"));
    fs::write(&a, "one\n\ntwo\r\nthree").expect("written");
    fs::write(&b, "four\n").expect("written");
    let config = config(vec![a, b]);
    let lines = read(&config, None);
    let payloads: Vec<_> = lines.iter().map(|line| line.2.as_str()).collect();
    assert_eq!(payloads, ["one", "", "two\r", "three", "four"]);
    assert!(lines.iter().all(|line| line.0 == "a.ndjson"));
    for at in 0..lines.len() {
        assert_eq!(read(&config, Some(lines[at].1)), lines[at..]);
    }
}

#[test]
fn line_beyond_the_bound_is_cut_and_the_next_one_is_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a");
    let long = "x".repeat(3 << 20);
    fs::write(&path, format!("short\n{long}\nafter\n{}", &long[..5000])).expect("written");
    let lines = read(&config(vec![path]), None);
    let seen: Vec<_> = lines.iter().map(|line| (line.2.len(), line.3)).collect();
    let too_large = Some(Reason::TooLarge);
    assert_eq!(seen, [(5, None), (1000, too_large), (5, None), (1000, too_large)]);
    assert_eq!(lines[2].1.offset, 6 + (3 << 20) + 1);
}

#[test]
fn publish_time_is_when_the_file_was_modified() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a");
    fs::write(&path, "one\ntwo\n").expect("written");
    let modified = std::time::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    let file = fs::File::options().write(true).open(&path).expect("the file");
    file.set_modified(modified).expect("a time of one's own");
    let mut source = open(&config(vec![path])).expect("opens");
    source.next(Duration::from_secs(1)).expect("the partitions");
    source.next(Duration::from_secs(1)).expect("assigned");
    source.control().read_from("a", None, false);
    let Some(SourceEvent::Entry(_, entry)) = source.next(Duration::from_secs(5)).expect("reads")
    else {
        panic!("no entry");
    };
    let times: Vec<_> = entry.messages.iter().map(|message| message.publish_time_ms).collect();
    assert_eq!(times, [1_700_000_000_123; 2]);
}

#[test]
fn each_file_is_a_partition_if_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let paths: Vec<_> = ["a", "b"].iter().map(|name| folder.path().join(name)).collect();
    paths.iter().for_each(|path| fs::write(path, "1\n2\n").expect("written"));
    let mut config = config(paths);
    config.partitions = Partitions::PerFile;
    let lines = read(&config, None);
    assert_eq!(lines.iter().filter(|line| line.0 == "a").count(), 2);
    assert_eq!(lines.iter().filter(|line| line.0 == "b").count(), 2);
}

#[test]
fn shorter_file_than_the_record_says_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a");
    fs::write(&path, "1\n").expect("written");
    let mut source = open(&config(vec![path])).expect("opens");
    source.next(Duration::from_secs(1)).expect("the partitions");
    source.next(Duration::from_secs(1)).expect("assigned");
    source.control().read_from("a", Some(Position::new(0, 99, 0)), false);
    match source.next(Duration::from_secs(5)).expect("an event") {
        Some(SourceEvent::Failed(_, text)) => {
            assert!(text.contains("has 2 bytes, but the commit record says that 99"), "{text}");
        }
        other => panic!("unexpected {other:?}"),
    }
}

#[test]
fn reads_no_further_ahead_than_the_bound() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a");
    fs::write(&path, "0123456789\n".repeat(200_000)).expect("written");
    let mut config = config(vec![path]);
    config.queue_bytes_max = 500_000;
    let mut source = open(&config).expect("opens");
    source.next(Duration::from_secs(1)).expect("the partitions");
    source.next(Duration::from_secs(1)).expect("assigned");
    source.control().read_from("a", None, false);
    let mut bytes = 0;
    while let Some(event) = source.next(Duration::from_millis(20)).expect("reads") {
        match event {
            SourceEvent::Entry(_, entry) => bytes += entry.buffer.len(),
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!((500_000..800_000).contains(&bytes), "{bytes}");
    source.control().credit("a", 300_000);
    let next = source.next(Duration::from_secs(5)).expect("reads");
    assert!(matches!(next, Some(SourceEvent::Entry(..))));
}

/// Returns the next entry, if one comes within the time.
fn entry_within(source: &mut PullSource, timeout_ms: u64) -> Option<Entry> {
    match source.next(Duration::from_millis(timeout_ms)).expect("reads") {
        Some(SourceEvent::Entry(_, entry)) => Some(entry),
        Some(other) => panic!("unexpected {other:?}"),
        None => None,
    }
}

/// Opens a file of numbered lines so that its first entry is next.
fn numbered(folder: &Path, lines: usize) -> PullSource {
    let path = folder.join("numbered");
    let text: String = (0..lines).map(|number| format!("{number:099}\n")).collect();
    fs::write(&path, text).expect("written");
    let mut source = open(&config(vec![path])).expect("opens");
    let control = source.control();
    for _ in 0..2 {
        let told = source.next(Duration::from_secs(5)).expect("reads");
        if let Some(SourceEvent::Assigned(partition)) = told {
            control.read_from(&partition, None, false);
        }
    }
    source
}

#[test]
fn held_entry_keeps_its_bytes_while_buffers_of_others_are_used_again() {
    const LINES: usize = 50_000;
    let folder = tempfile::tempdir().expect("a folder");
    let mut source = numbered(folder.path(), LINES);
    let control = source.control();
    let mut held = Vec::new();
    let (mut line, mut count) = (0, 0);
    while line < LINES {
        let entry = entry_within(&mut source, 5000).expect("there is more");
        control.credit("numbered", entry.credit);
        let first = line;
        line += entry.messages.len();
        count += 1;
        if count % 3 == 0 {
            held.push((first, entry));
        }
    }
    assert!(held.len() > 5);
    for (first, entry) in held {
        for (index, message) in entry.messages.iter().enumerate() {
            assert_eq!(entry.payload(message), format!("{:099}", first + index).as_bytes());
        }
    }
}

#[test]
fn reading_goes_on_when_half_of_what_was_read_ahead_is_processed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut source = numbered(folder.path(), 50_000);
    let control = source.control();
    let mut ahead = Vec::new();
    while let Some(entry) = entry_within(&mut source, 50) {
        ahead.push(entry.credit);
    }
    assert!(ahead.iter().sum::<u32>() >= 1 << 20, "{ahead:?}");
    let half = ahead.len() / 2;
    for credit in &ahead[..half - 1] {
        control.credit("numbered", *credit);
        assert!(entry_within(&mut source, 1).is_none());
    }
    for credit in &ahead[half - 1..] {
        control.credit("numbered", *credit);
    }
    assert!(entry_within(&mut source, 5000).is_some());
}

//! Stores that earlier versions wrote: rows, letters and every kind of commit record stay readable,
//! and a commit on top of them works.
//!
//! `fixtures/embedded-N.sqlite` is what a version left behind. A release that changes the format
//! adds a file; none that is there changes. ClickHouse has the same columns and reads them by the
//! same code.

use std::path::Path;

use rusqlite::Connection;
use tempfile::TempDir;
use tidemill_engine::{
    ledger::Ledger,
    port::{Commit, DeadLetter, Store},
    record::{ALL_PARTITIONS, Closing, CommitId, CommitRecord, LaneId},
    settings::Transition,
};
use tidemill_kernel::{
    event::{Position, Reason},
    rollup::{Change, Timing},
    row::{Cell, Column, ColumnKind, RowBlock},
    schema::QUALITY_COLUMNS,
    time::DurationMs,
};
use tidemill_sink::{
    EmbeddedConfig, EmbeddedReader, EmbeddedStore, LetterQuery, RowQuery, StoreReader,
};

const TABLES: [&str; 3] = ["sensors_rows", "sensors_dead_letters", "sensors_commits"];

fn columns() -> Vec<Column> {
    let mut columns = vec![
        Column::new("time", ColumnKind::Seconds, false),
        Column::new("device_id", ColumnKind::Text, false),
        Column::new("temperature", ColumnKind::Float64, true),
    ];
    columns.extend(QUALITY_COLUMNS.iter().map(|(name, kind)| Column::new(name, *kind, false)));
    columns
}

fn config(path: &Path) -> EmbeddedConfig {
    EmbeddedConfig::new(path, "sensors")
}

fn open(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(config(path), &columns(), &["device_id".into()]).expect("a store")
}

fn timing(seconds: i64) -> Timing {
    let length = |seconds: i64| DurationMs::from_ms(seconds * 1_000);
    Timing {
        max_out_of_orderness: length(seconds),
        allowed_lateness: length(seconds + 1),
        max_future_skew: length(300),
    }
}

/// A lane with all that a record of one lane can hold.
fn plain(partition: &str) -> CommitRecord {
    CommitRecord {
        id: CommitId { number: 7, writer: 0x7eed_0000_0000_0001 },
        generation: 2,
        fingerprint: "limits.depth_max=32\nschema.keys=[\"device_id\"]\nwindow.size_ms=60000"
            .into(),
        ordinal: 12,
        closed_until_ms: 1_767_225_660_000,
        highest_event_time_ms: 1_767_225_719_999,
        birth: Some(Position::new(1, 0, 0)),
        birth_ordinal: 2,
        birth_generation: 1,
        processed: Some(Position::new(3, 4, 5)),
        resume: Some(Position::new(u64::MAX, u64::MAX, u32::MAX)),
        ledger: Ledger { messages: 12, aggregated: 5, open: 3, late: 1, rejected: 1, lost: 2 },
        ..CommitRecord::unborn(LaneId::new("p", partition))
    }
}

fn birth() -> CommitRecord {
    CommitRecord {
        id: CommitId { number: 1, writer: 9 },
        fingerprint: "window.size_ms=60000".into(),
        birth: Some(Position::new(1, 2, 0)),
        resume: Some(Position::new(1, 2, 0)),
        ..CommitRecord::unborn(LaneId::new("p", "birth"))
    }
}

fn going_over() -> CommitRecord {
    let change =
        Change { edge_ms: 1_767_225_720_000, since: Position::new(3, 4, 5), timing: timing(30) };
    let later = Change { edge_ms: 1_767_225_780_000, timing: timing(0), ..change };
    let transition = Transition { changes: vec![change, later], wanted: Some(timing(60)) };
    CommitRecord { transition, ..plain("over") }
}

fn merged() -> CommitRecord {
    let closing = |until_ms, ordinal, processed| Closing { until_ms, ordinal, processed };
    let part = |partition: &str| CommitRecord {
        lane: LaneId::new("merged", partition),
        closings: vec![
            closing(1_767_225_720_000, 9, Some(Position::new(3, 4, 4))),
            closing(1_767_225_780_000, 10, None),
        ],
        ..plain(partition)
    };
    let lanes = vec![part("0"), part("persistent://public/default/\"odd\"")];
    CommitRecord {
        lane: LaneId::new("merged", ALL_PARTITIONS),
        ordinal: 24,
        birth: None,
        processed: None,
        resume: None,
        birth_ordinal: 4,
        ledger: lanes.iter().map(|lane| lane.ledger).sum(),
        lanes,
        turn: 1_767_225_600 << 12,
        ..plain("")
    }
}

fn records() -> Vec<CommitRecord> {
    vec![plain("0"), birth(), going_over(), merged()]
}

fn row(lane: &LaneId, device: &str, temperature: Cell<'_>, revision: u64) -> RowBlock {
    let mut block = RowBlock::new();
    let cells = [
        Cell::UInt(1_767_225_660),
        Cell::Text(device),
        temperature,
        Cell::UInt(1_767_225_600),
        Cell::UInt(3),
        Cell::UInt(1),
        Cell::Int(1_767_225_600_007),
        Cell::Int(1_767_225_659_999),
        Cell::Float(0.5),
        Cell::UInt(7),
        Cell::Text(&lane.pipeline),
        Cell::Text(&lane.partition),
        Cell::UInt(revision),
    ];
    for (column, cell) in columns().iter().zip(cells) {
        block.push(column, cell);
    }
    block.end_row();
    block
}

fn letter(lane: &LaneId, offset: u64, payload: &'static [u8]) -> DeadLetter {
    let is_late = offset > 1;
    DeadLetter {
        partition: lane.partition.clone(),
        position: Position::new(7, offset, 0),
        ordinal: offset,
        revision: offset,
        reason: if is_late { Reason::Late } else { Reason::Malformed },
        publish_time_ms: 1_767_225_661_000,
        event_time_ms: is_late.then_some(1_767_225_600_000),
        key: is_late.then(|| "ü/a".into()),
        payload: payload.into(),
        payload_bytes: 99,
    }
}

fn commit(record: CommitRecord) -> Commit {
    let lane = record.lane.clone();
    let revision = record.revision();
    let rows = vec![
        row(&lane, "sensor_1", Cell::Float(24.802236732425673), revision),
        row(&lane, "Straße", Cell::Null, revision),
    ];
    let letters = vec![letter(&lane, 1, b"{\"a\":\xff"), letter(&lane, 2, b"{\"a\":1}")];
    Commit { previous: None, rows, letters, record }
}

/// What today's program leaves behind.
fn written_today(directory: &TempDir) -> std::path::PathBuf {
    let path = directory.path().join("today.db");
    let mut store = open(&path);
    records().into_iter().for_each(|record| store.commit(&commit(record)).expect("it is kept"));
    drop(store);
    path
}

/// A copy of a fixture.
fn fixture(directory: &TempDir, name: &str) -> std::path::PathBuf {
    let path = directory.path().join(name);
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::copy(from, &path).expect("the fixture");
    path
}

/// Every cell of every table, and how the tables were made.
fn content(path: &Path) -> Vec<String> {
    let store = Connection::open(path).expect("a store");
    let read = |query: &str| -> Vec<String> {
        let mut statement = store.prepare(query).expect("a query");
        let count = statement.column_count();
        let cells = statement.query_map([], |row| {
            let cells = (0..count).map(|at| row.get_ref(at).map(|cell| format!("{cell:?}")));
            Ok(cells.collect::<Result<Vec<_>, _>>()?.join(" "))
        });
        cells.expect("a query").map(|row| row.expect("a row")).collect()
    };
    let mut lines = read("SELECT sql FROM sqlite_schema WHERE type = 'table' ORDER BY name");
    for table in TABLES {
        lines.extend(read(&format!("SELECT * FROM {table}")));
    }
    lines
}

#[test]
fn store_of_the_first_format_is_read_and_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let path = fixture(&directory, "embedded-1.sqlite");
    let mut store = open(&path);
    for record in records() {
        assert_eq!(store.load(&record.lane).unwrap().as_ref(), Some(&record));
        let id = CommitId { number: record.id.number + 1, writer: 5 };
        let previous = Some(record.id);
        let transition = Transition::default();
        let mut next = commit(CommitRecord { id, transition, turn: record.turn + 1, ..record });
        if next.record.lanes.is_empty() {
            next.record.turn = 0;
        }
        next.previous = previous;
        store.commit(&next).unwrap();
        assert_eq!(store.load(&next.record.lane).unwrap(), Some(next.record));
    }
    drop(store);
    let keys = ["device_id".to_owned()];
    let mut reader = EmbeddedReader::open(config(&path), &columns(), &keys).unwrap();
    assert_eq!(reader.records(None).unwrap().len(), 4);
    let rows = reader.rows(&RowQuery { limit: 100, ..RowQuery::default() }).unwrap();
    let query = LetterQuery { limit: 100, ..LetterQuery::default() };
    assert_eq!((rows.rows.len(), reader.dead_letters(&query).unwrap().rows.len()), (8, 8));
}

#[test]
fn same_commits_still_leave_the_first_format_behind() {
    let directory = tempfile::tempdir().unwrap();
    let before = content(&fixture(&directory, "embedded-1.sqlite"));
    assert_eq!(content(&written_today(&directory)), before);
    assert_eq!(before.len(), 3 + 8 + 8 + 4);
}

#[test]
fn record_of_a_format_that_nobody_released_is_refused() {
    for format in [1, 2, 5] {
        let directory = tempfile::tempdir().unwrap();
        let path = fixture(&directory, "embedded-1.sqlite");
        let store = Connection::open(&path).unwrap();
        store.execute("UPDATE sensors_commits SET format = ?", [format]).unwrap();
        drop(store);
        let error = open(&path).load(&plain("0").lane).unwrap_err().to_string();
        assert!(error.contains(&format!("format {format}")), "{error}");
    }
}

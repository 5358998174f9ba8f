//! What is particular to the embedded store: error classes, the readers' view, existing files.

use rusqlite::{Connection, ffi};
use tempfile::TempDir;
use tidemill_engine::{
    port::{Commit, Store, StoreError},
    record::{CommitId, CommitRecord, LaneId},
};
use tidemill_kernel::{
    row::{Cell, Column, ColumnKind, RowBlock},
    schema::QUALITY_COLUMNS,
};

use super::{EmbeddedConfig, EmbeddedReader, EmbeddedStore, sink::store_error};
use crate::{error::SinkError, read::StoreReader};

fn columns() -> Vec<Column> {
    let mut columns = vec![
        Column::new("time", ColumnKind::Seconds, false),
        Column::new("device_id", ColumnKind::Text, false),
        Column::new("temperature", ColumnKind::Float64, true),
    ];
    columns.extend(QUALITY_COLUMNS.iter().map(|(name, kind)| Column::new(name, *kind, false)));
    columns
}

fn keys() -> Vec<String> {
    vec!["device_id".into()]
}

fn config(directory: &TempDir) -> EmbeddedConfig {
    EmbeddedConfig::new(directory.path().join("sensors.db"), "sensors")
}

fn open(directory: &TempDir) -> EmbeddedStore {
    EmbeddedStore::open(config(directory), &columns(), &keys()).unwrap()
}

fn commit(previous: Option<CommitId>, number: u64, revision: u64) -> Commit {
    let mut block = RowBlock::new();
    let cells = [
        Cell::UInt(1_795_305_660),
        Cell::Text("s"),
        Cell::Float(0.1),
        Cell::UInt(1_795_305_600),
        Cell::UInt(3),
        Cell::UInt(0),
        Cell::Int(1_795_305_600_007),
        Cell::Int(1_795_305_659_999),
        Cell::Float(1.0),
        Cell::UInt(0),
        Cell::Text("p"),
        Cell::Text("0"),
        Cell::UInt(revision),
    ];
    for (column, cell) in columns().iter().zip(cells) {
        block.push(column, cell);
    }
    block.end_row();
    let record = CommitRecord {
        id: CommitId { number, writer: 1 },
        ordinal: number,
        closed_until_ms: 0,
        ..CommitRecord::unborn(LaneId::new("p", "0"))
    };
    Commit { previous, rows: vec![block], letters: Vec::new(), record }
}

#[test]
fn what_passes_is_retried_and_what_is_wrong_with_the_data_is_refused() {
    let error = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
    for code in [
        ffi::SQLITE_FULL,
        ffi::SQLITE_BUSY,
        ffi::SQLITE_BUSY_SNAPSHOT,
        ffi::SQLITE_LOCKED,
        ffi::SQLITE_IOERR,
        ffi::SQLITE_IOERR_FSYNC,
        ffi::SQLITE_CANTOPEN,
        ffi::SQLITE_READONLY,
        ffi::SQLITE_NOMEM,
    ] {
        let class = store_error("write", &error(code));
        assert!(matches!(class, StoreError::Retry(_)), "{code}: {class:?}");
    }
    for code in [
        ffi::SQLITE_CONSTRAINT,
        ffi::SQLITE_CONSTRAINT_NOTNULL,
        ffi::SQLITE_MISMATCH,
        ffi::SQLITE_TOOBIG,
        ffi::SQLITE_CORRUPT,
        ffi::SQLITE_NOTADB,
        ffi::SQLITE_ERROR,
    ] {
        let class = store_error("write", &error(code));
        assert!(matches!(class, StoreError::Refused(_)), "{code}: {class:?}");
    }
}

#[test]
fn commit_waits_for_another_writer_and_then_asks_for_a_retry() {
    let directory = tempfile::tempdir().unwrap();
    let mut quick = config(&directory);
    quick.busy_timeout = std::time::Duration::from_millis(20);
    let mut store = EmbeddedStore::open(quick, &columns(), &keys()).unwrap();
    let other = Connection::open(config(&directory).path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let outcome = store.commit(&commit(None, 1, 1));
    assert!(matches!(outcome, Err(StoreError::Retry(_))), "{outcome:?}");
    other.execute_batch("COMMIT").unwrap();
    store.commit(&commit(None, 1, 1)).unwrap();
}

#[test]
fn full_file_asks_for_a_retry_and_keeps_nothing_of_the_commit() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(&directory);
    store.commit(&commit(None, 1, 1)).unwrap();
    let pages: i64 = store.connection.query_row("PRAGMA page_count", [], |r| r.get(0)).unwrap();
    store.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    let mut large = commit(Some(CommitId { number: 1, writer: 1 }), 2, 2);
    large.record.fingerprint = "x".repeat(100_000);
    let outcome = store.commit(&large);
    assert!(matches!(outcome, Err(StoreError::Retry(_))), "{outcome:?}");
    assert_eq!(store.load(&large.record.lane).unwrap().unwrap().id.number, 1);
    let raised: i64 = store
        .connection
        .query_row("SELECT revision FROM sensors_rows", [], |row| row.get(0))
        .unwrap();
    assert_eq!(raised, 1);
    store.connection.pragma_update_and_check(None, "max_page_count", 100_000, |_| Ok(())).unwrap();
    store.commit(&large).unwrap();
}

#[test]
fn view_shows_instants_as_utc_text_while_the_store_is_open() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(&directory);
    store.commit(&commit(None, 1, 1)).unwrap();
    let other = Connection::open(config(&directory).path).unwrap();
    let sql = "SELECT time || ', ' || window_start || ', ' || first_event_time || ', ' || \
               temperature FROM sensors";
    let line: String = other.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(line, "2026-11-22 00:01:00, 2026-11-22 00:00:00, 2026-11-22 00:00:00.007, 0.1");
}

#[test]
fn store_is_in_wal_mode_and_syncs_every_commit() {
    let store = open(&tempfile::tempdir().unwrap());
    let mode: String =
        store.connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    let level: i64 =
        store.connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
    assert_eq!((mode.as_str(), level), ("wal", 2));
}

#[test]
fn log_that_a_killed_process_left_is_written_again_before_it_is_trusted() {
    let (lived, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut store = open(&lived);
    store.commit(&commit(None, 1, 1)).unwrap();
    // What is there if the process is killed now.
    for name in ["sensors.db", "sensors.db-wal"] {
        std::fs::copy(lived.path().join(name), left.path().join(name)).unwrap();
    }
    let log = left.path().join("sensors.db-wal");
    let bytes = std::fs::read(&log).unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    std::fs::File::options().write(true).open(&log).unwrap().set_modified(long_ago).unwrap();
    let mut next = open(&left);
    assert_ne!(std::fs::metadata(&log).unwrap().modified().unwrap(), long_ago);
    assert_eq!(std::fs::read(&log).unwrap(), bytes);
    assert_eq!(next.load(&LaneId::new("p", "0")).unwrap().unwrap().id.number, 1);
}

#[test]
fn revision_beyond_63_bits_is_refused() {
    let mut store = open(&tempfile::tempdir().unwrap());
    let outcome = store.commit(&commit(None, 1, 1 << 63));
    assert!(matches!(outcome, Err(StoreError::Refused(_))), "{outcome:?}");
    assert_eq!(store.load(&LaneId::new("p", "0")).unwrap(), None);
}

#[test]
fn record_that_falls_behind_the_one_it_follows_is_refused() {
    let mut store = open(&tempfile::tempdir().unwrap());
    store.commit(&commit(None, 5, 5)).unwrap();
    let outcome = store.commit(&commit(Some(CommitId { number: 5, writer: 1 }), 4, 9));
    assert!(matches!(outcome, Err(StoreError::Refused(_))), "{outcome:?}");
    let kept: i64 = store
        .connection
        .query_row("SELECT revision FROM sensors_rows", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 5);
}

#[test]
fn record_of_a_later_format_is_refused() {
    let mut store = open(&tempfile::tempdir().unwrap());
    store.commit(&commit(None, 1, 1)).unwrap();
    store.connection.execute_batch("UPDATE sensors_commits SET format = 99").unwrap();
    let text = store.load(&LaneId::new("p", "0")).unwrap_err().to_string();
    assert!(text.contains("format 99"), "{text}");
}

#[test]
fn file_that_is_no_database_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(config(&directory).path, "time,device\n".repeat(100)).unwrap();
    let error = EmbeddedStore::open(config(&directory), &columns(), &keys()).err().unwrap();
    assert!(error.to_string().contains("sensors.db"), "{error}");
    assert!(!error.retry());
    assert!(std::fs::read(config(&directory).path).unwrap().starts_with(b"time,device\n"));
}

#[test]
fn table_under_the_readers_name_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let other = Connection::open(config(&directory).path).unwrap();
    other.execute_batch("CREATE TABLE sensors (time TEXT)").unwrap();
    let error = EmbeddedStore::open(config(&directory), &columns(), &keys()).err().unwrap();
    assert_eq!(error, SinkError::NotAView { table: "sensors".into() });
}

#[test]
fn other_primary_key_is_a_difference() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(&directory));
    let error = EmbeddedStore::open(config(&directory), &columns(), &["pipeline".into()]);
    let text = error.err().unwrap().to_string();
    assert!(text.contains("the primary key is (time, device_id, pipeline"), "{text}");
}

#[test]
fn names_that_sqlite_cannot_tell_apart_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut columns = columns();
    columns.push(Column::new("Temperature", ColumnKind::Float64, true));
    let error = EmbeddedStore::open(config(&directory), &columns, &keys()).err().unwrap();
    assert!(error.to_string().contains("\"Temperature\""), "{error}");
}

#[test]
fn names_of_tables_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["", "benchmark.sensors", "1st", "sqlite_x", "a\"b", &"x".repeat(65)] {
        let mut config = config(&directory);
        config.table = name.into();
        let error = EmbeddedStore::open(config, &columns(), &keys()).err().unwrap();
        assert!(matches!(error, SinkError::Config { key: "table", .. }), "{name}: {error}");
    }
}

#[test]
fn directory_that_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(&directory);
    config.path = directory.path().join("nowhere/sensors.db");
    let error = EmbeddedStore::open(config, &columns(), &keys()).err().unwrap();
    assert!(error.to_string().ends_with("nowhere is not there"), "{error}");
}

#[test]
fn reader_makes_no_file_and_cannot_write() {
    let directory = tempfile::tempdir().unwrap();
    let error = EmbeddedReader::open(config(&directory), &columns(), &keys()).err().unwrap();
    assert!(matches!(error, SinkError::Config { key: "path", .. }), "{error}");
    assert!(!config(&directory).path.exists());
    let mut store = open(&directory);
    let mut reader = EmbeddedReader::open(config(&directory), &columns(), &keys()).unwrap();
    store.commit(&commit(None, 1, 1)).unwrap();
    assert_eq!(reader.records(None).unwrap().len(), 1);
}

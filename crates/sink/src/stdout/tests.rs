//! What the stdout store prints.

use std::io::{self, Write};

use bytes::Bytes;
use tidemill_engine::{
    port::{Commit, DeadLetter, Store, StoreError},
    record::{CommitId, CommitRecord, LaneId},
};
use tidemill_kernel::{
    event::{Position, Reason},
    row::{Cell, Column, ColumnKind, RowBlock},
};

use super::StdoutStore;

fn columns() -> Vec<Column> {
    vec![
        Column::new("time", ColumnKind::Seconds, false),
        Column::new("device \"id\"", ColumnKind::Text, false),
        Column::new("temperature", ColumnKind::Float64, true),
        Column::new("first_event_time", ColumnKind::Milliseconds, false),
        Column::new("record_count", ColumnKind::UInt64, false),
    ]
}

fn commit() -> Commit {
    let columns = columns();
    let mut block = RowBlock::new();
    let rows = [
        [Cell::UInt(60), Cell::Text("a\n"), Cell::Float(0.1), Cell::Int(7), Cell::UInt(u64::MAX)],
        [Cell::UInt(120), Cell::Text("ü"), Cell::Null, Cell::Int(61_000), Cell::UInt(2)],
    ];
    for row in rows {
        for (column, cell) in columns.iter().zip(row) {
            block.push(column, cell);
        }
        block.end_row();
    }
    let letter = DeadLetter {
        partition: "0".into(),
        position: Position::new(1, 2, 3),
        ordinal: 4,
        revision: 4,
        reason: Reason::Malformed,
        publish_time_ms: 1_500,
        event_time_ms: None,
        key: None,
        payload: Bytes::from_static(b"{\"a\""),
        payload_bytes: 4,
    };
    let record = CommitRecord {
        id: CommitId { number: 1, writer: 2 },
        ordinal: 4,
        closed_until_ms: 0,
        ..CommitRecord::unborn(LaneId::new("sensors", "0"))
    };
    Commit { previous: None, rows: vec![block], letters: vec![letter], record }
}

#[test]
fn rows_are_json_lines_in_column_order_and_letters_go_elsewhere() {
    let (mut rows, mut letters) = (Vec::new(), Vec::new());
    StdoutStore::new(&columns(), &mut rows, &mut letters).commit(&commit()).unwrap();
    assert_eq!(
        String::from_utf8(rows).unwrap(),
        concat!(
            r#"{"time":"1970-01-01T00:01:00Z","device \"id\"":"a\n","temperature":0.1,"#,
            r#""first_event_time":"1970-01-01T00:00:00.007Z","record_count":18446744073709551615}"#,
            "\n",
            r#"{"time":"1970-01-01T00:02:00Z","device \"id\"":"ü","temperature":null,"#,
            r#""first_event_time":"1970-01-01T00:01:01.000Z","record_count":2}"#,
            "\n",
        )
    );
    let letter: serde_json::Value = serde_json::from_slice(&letters).unwrap();
    assert_eq!(letter["dead_letter"]["reason"], "malformed");
    assert_eq!(letter["dead_letter"]["publish_time"], "1970-01-01T00:00:01.500Z");
    assert_eq!(letter["dead_letter"]["payload"], "{\"a\"");
}

#[test]
fn closed_output_refuses_the_commit() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let outcome = StdoutStore::new(&columns(), Closed, Vec::new()).commit(&commit());
    assert!(matches!(outcome, Err(StoreError::Refused(_))), "{outcome:?}");
}

#[test]
fn rows_that_would_replace_printed_ones_are_refused() {
    let (mut rows, mut letters) = (Vec::new(), Vec::new());
    let outcome = StdoutStore::new(&columns(), &mut rows, &mut letters).write_rows(&commit().rows);
    let Err(StoreError::Refused(text)) = outcome else { panic!("{outcome:?}") };
    assert!(text.contains("cannot be replaced"), "{text}");
    assert_eq!((rows, letters), (Vec::new(), Vec::new()));
}

//! What needs no server: statements, classes of errors, pieces, names.

use bytes::Bytes;
use tidemill_engine::{
    port::{DeadLetter, StoreError},
    record::LaneId,
};
use tidemill_kernel::{
    event::{Position, Reason},
    row::{Cell, Column, ColumnKind, RowBlock},
    schema::{AMEND_COLUMNS, QUALITY_COLUMNS},
};

use super::{
    ClickHouseConfig, Dialect, TableEngine, ddl,
    pieces::{PieceLimits, letter_pieces, row_pieces},
    row_binary::Reader,
    server::{Failure, code_of},
    tables::wire_type,
};
use crate::{
    error::SinkError,
    layout::{Layout, letter_columns},
    value::Value,
};

fn columns() -> Vec<Column> {
    let mut columns = vec![
        Column::new("time", ColumnKind::Seconds, false),
        Column::new("device_id", ColumnKind::Text, false),
        Column::new("site_id", ColumnKind::Text, true),
        Column::new("temperature", ColumnKind::Float64, true),
        Column::new("motion_detected", ColumnKind::UInt8, true),
    ];
    columns.extend(QUALITY_COLUMNS.iter().map(|(name, kind)| Column::new(name, *kind, false)));
    columns
}

fn keys() -> Vec<String> {
    vec!["device_id".into()]
}

const TABLE: &str = "benchmark.sensors_local";

const ROWS_MODERN: &str = "\
CREATE TABLE IF NOT EXISTS `benchmark`.`sensors_local_rows`
(
    `time` DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    `device_id` String CODEC(ZSTD(1)),
    `site_id` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `temperature` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `motion_detected` Nullable(UInt8) CODEC(ZSTD(1)),
    `window_start` DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    `record_count` UInt64 CODEC(T64, ZSTD(1)),
    `invalid_count` UInt64 CODEC(T64, ZSTD(1)),
    `first_event_time` DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    `last_event_time` DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    `coverage` Float64 CODEC(Gorilla, ZSTD(1)),
    `max_gap_ms` UInt32 CODEC(T64, ZSTD(1)),
    `pipeline` LowCardinality(String) CODEC(ZSTD(1)),
    `source_partition` LowCardinality(String) CODEC(ZSTD(1)),
    `revision` UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree(`revision`)
PARTITION BY toYYYYMMDD(`time`)
ORDER BY (`device_id`, `time`, `pipeline`, `source_partition`)";

const ROWS_LEGACY: &str = "\
CREATE TABLE IF NOT EXISTS `benchmark`.`sensors_local_rows`
(
    `time` DateTime('UTC'),
    `device_id` String,
    `site_id` Nullable(String),
    `temperature` Nullable(Float64),
    `motion_detected` Nullable(UInt8),
    `window_start` DateTime('UTC'),
    `record_count` UInt64,
    `invalid_count` UInt64,
    `first_event_time` Int64,
    `last_event_time` Int64,
    `coverage` Float64,
    `max_gap_ms` UInt32,
    `pipeline` String,
    `source_partition` String,
    `revision` UInt64
)
ENGINE = ReplacingMergeTree(`revision`)
PARTITION BY toYYYYMMDD(`time`)
ORDER BY (`device_id`, `time`, `pipeline`, `source_partition`)";

#[test]
fn statements_of_both_dialects_are_as_documented() {
    for (dialect, rows) in [(Dialect::Modern, ROWS_MODERN), (Dialect::Legacy, ROWS_LEGACY)] {
        let made = ddl(dialect, &TableEngine::Plain, TABLE, &columns(), &keys()).unwrap();
        assert_eq!(made.len(), 5);
        assert_eq!(made[0], "CREATE DATABASE IF NOT EXISTS `benchmark`");
        assert_eq!(made[1], rows);
        let letters = "ORDER BY (`pipeline`, `partition`, `segment`, `offset`, `batch_index`)";
        assert!(made[2].ends_with(letters), "{}", made[2]);
        assert!(made[3].ends_with("ORDER BY (`pipeline`, `partition`, `slot`)"), "{}", made[3]);
        assert!(!made[3].contains("PARTITION BY"), "{}", made[3]);
        let view = "CREATE VIEW IF NOT EXISTS `benchmark`.`sensors_local` AS SELECT `time`, ";
        assert!(made[4].starts_with(view), "{}", made[4]);
        assert!(made[4].ends_with(" FROM `benchmark`.`sensors_local_rows` FINAL"), "{}", made[4]);
    }
}

#[test]
fn columns_that_amending_needs_are_small_where_they_repeat_and_plain_where_they_do_not() {
    let mut columns = columns();
    columns.extend(AMEND_COLUMNS.iter().map(|(name, kind)| Column::new(name, *kind, false)));
    let modern = "`revision` UInt64 CODEC(T64, ZSTD(1)),
    `late_count` UInt32 CODEC(T64, ZSTD(1)),
    `finality` LowCardinality(String) CODEC(ZSTD(1)),
    `partial_state` String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(`revision`)";
    let legacy = "`revision` UInt64,
    `late_count` UInt32,
    `finality` String,
    `partial_state` String
)
ENGINE = ReplacingMergeTree(`revision`)";
    let replicated = TableEngine::Replicated { cluster: "main".into() };
    for (dialect, rows) in [(Dialect::Modern, modern), (Dialect::Legacy, legacy)] {
        let made = ddl(dialect, &TableEngine::Plain, TABLE, &columns, &keys()).unwrap();
        assert!(made[1].contains(rows), "{}", made[1]);
        let made = ddl(dialect, &replicated, TABLE, &columns, &keys()).unwrap();
        let (columns, _) = rows.split_once("\n)").unwrap();
        assert!(made[1].contains(columns), "{}", made[1]);
        assert!(made[2].contains("`partial_state` String\n)\nENGINE = Distributed"), "{}", made[2]);
    }
}

#[test]
fn replicated_tables_shard_the_rows_and_keep_records_everywhere() {
    let engine = TableEngine::Replicated { cluster: "main".into() };
    for (dialect, rows) in [(Dialect::Modern, ROWS_MODERN), (Dialect::Legacy, ROWS_LEGACY)] {
        let made = ddl(dialect, &engine, TABLE, &columns(), &keys()).unwrap();
        assert_eq!(made.len(), 6);
        assert!(made.iter().all(|statement| statement.contains(" ON CLUSTER `main`")), "{made:?}");
        let shard = rows
            .replace("sensors_local_rows`", "sensors_local_rows_shard` ON CLUSTER `main`")
            .replace(
                "ReplacingMergeTree(",
                "ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/benchmark/\
                 sensors_local_rows_shard', '{replica}', ",
            );
        assert_eq!(made[1], shard);
        let all = "ENGINE = Distributed('main', 'benchmark', 'sensors_local_rows_shard', \
                   cityHash64(`device_id`))";
        assert!(made[2].ends_with(all) && !made[2].contains("CODEC"), "{}", made[2]);
        for (at, name) in [(3, "dead_letters"), (4, "commits")] {
            let engine = format!(
                "ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/every_shard/benchmark/\
                 sensors_local_{name}', '{{shard}}-{{replica}}', `revision`)"
            );
            assert!(made[at].contains(&engine), "{}", made[at]);
        }
        assert!(made[5].ends_with(" FROM `benchmark`.`sensors_local_rows` FINAL"), "{}", made[5]);
    }
    for cluster in ["", "a'b", "a`b", "a b"] {
        let engine = TableEngine::Replicated { cluster: cluster.into() };
        let error = ddl(Dialect::Modern, &engine, TABLE, &columns(), &keys()).unwrap_err();
        assert!(matches!(error, SinkError::Config { key: "cluster", .. }), "{cluster}: {error}");
    }
}

#[test]
fn dialect_follows_the_version() {
    for (version, dialect) in [
        ("18.16.1", Dialect::Legacy),
        ("22.2.9", Dialect::Legacy),
        ("22.3.1.1\n", Dialect::Modern),
        ("26.9.2.1", Dialect::Modern),
        ("", Dialect::Legacy),
    ] {
        assert_eq!(Dialect::of_version(version), dialect, "{version}");
    }
}

#[test]
fn types_of_equal_bytes_are_equal() {
    for (there, wanted) in [
        ("LowCardinality(String)", "String"),
        ("LowCardinality(Nullable(String))", "Nullable(String)"),
        ("DateTime", "DateTime('UTC')"),
        ("DateTime64(3, 'Europe/Zurich')", "Int64"),
        ("Nullable(DateTime64(3))", "Nullable(Int64)"),
        ("Bool", "UInt8"),
    ] {
        assert_eq!(wire_type(there), wire_type(wanted), "{there}");
    }
    for (there, wanted) in [
        ("Float32", "Float64"),
        ("Nullable(Float64)", "Float64"),
        ("DateTime64(6)", "DateTime64(3)"),
        ("DateTime64(3)", "DateTime"),
        ("UInt64", "Int64"),
    ] {
        assert_ne!(wire_type(there), wire_type(wanted), "{there}");
    }
}

#[test]
fn codes_are_read_from_answers_of_servers_only() {
    let old = "Code: 60, e.displayText() = DB::Exception: Table default.t doesn't exist.";
    let new = "bad response: Code: 516. DB::Exception: default: Authentication failed";
    assert_eq!((code_of(old), code_of(new)), (Some(60), Some(516)));
    for text in ["502 Bad Gateway", "Code: ", "Code: x", "Code: 99999999999"] {
        assert_eq!(code_of(text), None, "{text}");
    }
}

#[test]
fn what_passes_is_retried_and_what_the_data_causes_is_refused() {
    let class = |code| StoreError::from(Failure { code, untrusted: false, text: "t".into() });
    // Too many parts, memory, read-only (two), no table, no database, no time, too many queries,
    // network, no Keeper, quorum, replica behind, table is dropped, unknown, no answer at all.
    for code in
        [252, 241, 164, 242, 60, 81, 159, 202, 210, 999, 285, 286, 289, 218, 1001, 319, 473, 425]
    {
        assert!(matches!(class(Some(code)), StoreError::Retry(_)), "{code}");
    }
    assert!(matches!(class(None), StoreError::Retry(_)));
    // No such column (three), type, cannot parse (three), syntax, access, credentials.
    for code in [10, 16, 47, 53, 6, 27, 33, 62, 497, 516, 193, 131, 117] {
        assert!(matches!(class(Some(code)), StoreError::Refused(_)), "{code}");
        let error =
            SinkError::from(Failure { code: Some(code), untrusted: false, text: "t".into() });
        assert!(!error.retry(), "{code}");
    }
}

fn block(end_times: &[u64]) -> RowBlock {
    let mut block = RowBlock::new();
    for (index, end) in end_times.iter().enumerate() {
        for column in &columns() {
            let cell = match column.kind {
                ColumnKind::Seconds => Cell::UInt(*end),
                ColumnKind::Text if column.nullable => Cell::Null,
                ColumnKind::Text => Cell::Text("some text"),
                ColumnKind::Float64 => Cell::Float(index as f64),
                ColumnKind::Int64 | ColumnKind::Milliseconds => Cell::Int(-1),
                ColumnKind::UInt64 | ColumnKind::UInt32 => Cell::UInt(300),
                ColumnKind::UInt8 => Cell::UInt(1),
            };
            block.push(column, cell);
        }
        block.end_row();
    }
    block
}

const DAY: u64 = 86_400;
const WIDE: PieceLimits = PieceLimits { rows_max: 100, bytes_max: 1 << 20 };

#[test]
fn piece_holds_one_day_and_not_more_than_the_limits() {
    let layout = Layout::new(&columns(), &keys()).unwrap();
    let blocks = [block(&[DAY, DAY - 1, DAY + 5]), block(&[DAY - 1, 2 * DAY])];
    let pieces = row_pieces(&blocks, &layout, WIDE).unwrap();
    let one = block(&[DAY]).bytes().len();
    let sizes: Vec<usize> = pieces.iter().map(|piece| piece.len() / one).collect();
    assert_eq!(sizes, [2, 2, 1]);
    let ends: Vec<i64> = pieces
        .iter()
        .map(|piece| Reader::new(piece).value(&columns()[0]).unwrap().as_i64().unwrap() / 1000)
        .collect();
    assert_eq!(ends, [DAY as i64 - 1, DAY as i64, 2 * DAY as i64]);

    let of = |rows_max, bytes_max| {
        let limits = PieceLimits { rows_max, bytes_max };
        row_pieces(&[block(&[DAY; 5])], &layout, limits).unwrap().len()
    };
    assert_eq!((of(2, 1 << 20), of(100, 2 * one), of(100, 1), of(5, 5 * one)), (3, 3, 5, 1));
    assert_eq!(row_pieces(&[], &layout, WIDE), Some(Vec::new()));
}

#[test]
fn rows_of_other_columns_are_noticed() {
    let layout = Layout::new(&columns(), &keys()).unwrap();
    let mut block = RowBlock::new();
    block.push(&columns()[0], Cell::UInt(1));
    block.end_row();
    assert_eq!(row_pieces(&[block], &layout, WIDE), None);
}

#[test]
fn letters_are_cut_by_the_day_of_publishing_and_read_back() {
    let letter = |publish_time_ms| DeadLetter {
        partition: "0".into(),
        position: Position::new(1, 2, u32::MAX),
        ordinal: 3,
        revision: 3,
        reason: Reason::Late,
        publish_time_ms,
        event_time_ms: Some(-5),
        key: None,
        payload: Bytes::from(vec![0xff; 300]),
        payload_bytes: 300,
    };
    let letters = [letter(1), letter(86_400_000), letter(86_399_999)];
    let pieces = letter_pieces(&LaneId::new("p", "0"), &letters, WIDE);
    assert_eq!(pieces.len(), 2);
    let mut reader = Reader::new(&pieces[1]);
    let values: Vec<Value> =
        letter_columns().iter().map(|column| reader.value(column).unwrap()).collect();
    assert_eq!(reader.left(), 0);
    assert_eq!(
        values[8..11],
        [Value::Millisecond(86_400_000), Value::Millisecond(-5), Value::Null]
    );
    assert_eq!(values[11], Value::Bytes(vec![0xff; 300]));
}

#[test]
fn cut_or_foreign_answers_end_the_reading() {
    let whole = block(&[DAY]);
    for end in 0..whole.bytes().len() {
        let mut reader = Reader::new(&whole.bytes()[..end]);
        let read: Option<Vec<Value>> =
            columns().iter().map(|column| reader.value(column)).collect();
        assert_eq!(read, None, "{end}");
    }
    let text = Column::new("text", ColumnKind::Text, false);
    assert_eq!(Reader::new(&[0xff; 64]).value(&text), None);
    assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1]).value(&text), None);
}

#[test]
fn urls_and_names_are_checked_and_credentials_not_repeated() {
    for url in ["http://h:8123", "https://h", "http://[::1]:8123", "http://h/path/"] {
        ClickHouseConfig::new(url, "benchmark.sensors_local").check().unwrap();
    }
    for url in ["", "h:8123", "tcp://h", "http://", "http://:8123", "http://h?user=x", "http:// h"]
    {
        let error = ClickHouseConfig::new(url, "t").check().unwrap_err();
        assert!(matches!(error, SinkError::Config { key: "url", .. }), "{url}: {error}");
    }
    let config = ClickHouseConfig::new("http://me:pa55@h:8123", "t");
    let shown = format!("{} {config:?}", config.check().unwrap_err());
    assert!(!shown.contains("pa55"), "{shown}");
    for table in ["", "a.b.c", "a.", ".b", "a`b", "1a", "a b"] {
        let error = ClickHouseConfig::new("http://h", table).check().unwrap_err();
        assert!(matches!(error, SinkError::Config { key: "table", .. }), "{table}: {error}");
    }
}

//! What happens to ClickHouse: cut connections, killed servers, tables that are not there.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use tidemill_engine::port::{Commit, Store, StoreError};
use tidemill_kernel::event::Reason;
use tidemill_sink::{
    ClickHouseConfig, ClickHouseReader, ClickHouseStore, LetterQuery, SinkError, StoreReader,
};

use crate::{
    fixture::{Row, assert_rows, columns, commit, keys, lane, letter, record},
    proxy::Proxy,
    services::{clickhouse::ClickHouse, clickhouse_modern, legacy_url, modern_url},
    target::{ask, fresh},
};

fn connect(config: &ClickHouseConfig) -> Result<ClickHouseStore, SinkError> {
    ClickHouseStore::connect(config.clone(), &columns(), &keys())
}

fn reader(config: &ClickHouseConfig) -> ClickHouseReader {
    ClickHouseReader::connect(config.clone(), &columns(), &keys()).unwrap()
}

fn many_rows(revision: u64, count: u64) -> Vec<Row> {
    (0..count)
        .map(|index| {
            // Values that do not compress to nothing, so that cuts fall into the frame.
            let value = (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12) as f64;
            Row::new(1, &format!("sensor_{index}"), value, revision)
        })
        .collect()
}

fn cut_connection_leaves_a_piece_whole_or_absent(url: &str) {
    let proxy = Proxy::before(url);
    let config = fresh(url);
    let mut direct = connect(&config).unwrap();
    let mut through = config.clone();
    through.url = proxy.url.clone();
    let rows = many_rows(1, 2_000);
    let letters = vec![letter(1, Reason::Late)];
    let whole = commit(None, &rows, letters, record(1, 1, 1));
    let (mut failed, mut cut_at) = (0, 100);
    let table = &config.table;
    loop {
        ask(&config, &format!("TRUNCATE TABLE {table}_rows"));
        proxy.cut_after(u64::MAX);
        let mut store = connect(&through).unwrap();
        proxy.cut_after(cut_at);
        let outcome = store.commit(&whole);
        let stored = ask(&config, &format!("SELECT count() FROM {table}_rows"));
        assert!(["0", "2000"].contains(&stored.as_str()), "cut after {cut_at}: {stored} rows");
        if outcome.is_ok() {
            break;
        }
        assert!(matches!(outcome, Err(StoreError::Retry(_))), "{outcome:?}");
        failed += 1;
        direct.commit(&whole).unwrap();
        assert_rows(&mut reader(&config), &lane(), &rows);
        cut_at = cut_at * 2 + 777;
    }
    assert!(failed >= 5, "only {failed} cuts were within the commit");
    assert_eq!(reader(&config).dead_letters(&LetterQuery::default()).unwrap().rows.len(), 1);
}

#[test]
fn legacy_cut_connection_leaves_a_piece_whole_or_absent() {
    cut_connection_leaves_a_piece_whole_or_absent(&legacy_url());
}

#[test]
fn modern_cut_connection_leaves_a_piece_whole_or_absent() {
    cut_connection_leaves_a_piece_whole_or_absent(&modern_url());
}

/// Commits with the same bytes until it succeeds, as the engine does.
fn commit_until_done(store: &mut dyn Store, commit: &Commit) -> u32 {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut retries = 0;
    loop {
        match store.commit(commit) {
            Ok(()) => return retries,
            Err(StoreError::Retry(_)) if Instant::now() < deadline => retries += 1,
            Err(error) => panic!("{error}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn killed_server_loses_and_doubles_nothing(server: &ClickHouse) {
    let config = fresh(server.url());
    let mut store = connect(&config).unwrap();
    let (stop, rounds) = (AtomicBool::new(false), 3);
    let (commits, retries) = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut number, mut retries, mut previous) = (0, 0, None);
            while !stop.load(Ordering::SeqCst) {
                number += 1;
                let next = commit(
                    previous,
                    &many_rows(number, 2_000),
                    vec![letter(number, Reason::Late)],
                    record(number, number, 1),
                );
                retries += commit_until_done(&mut store, &next);
                previous = Some(next.record.id);
            }
            (number, retries)
        });
        let seen = |wanted: u64| {
            let newest = reader(&config).records(None).unwrap();
            newest.first().is_some_and(|record| record.id.number >= wanted)
        };
        for round in 1..=rounds {
            let deadline = Instant::now() + Duration::from_secs(60);
            while !seen(round * 2) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(20));
            }
            server.kill();
            server.up();
        }
        stop.store(true, Ordering::SeqCst);
        writer.join().unwrap()
    });
    assert!(retries > 0, "no commit met the killed server");
    let mut reader = reader(&config);
    assert_rows(&mut reader, &lane(), &many_rows(commits, 2_000));
    let letters = reader.dead_letters(&LetterQuery::default()).unwrap();
    assert_eq!(letters.rows.len() as u64, commits);
    assert_eq!(store.load(&lane()).unwrap(), Some(record(commits, commits, 1)));
}

#[test]
fn legacy_killed_server_loses_and_doubles_nothing() {
    killed_server_loses_and_doubles_nothing(&ClickHouse::start());
}

#[test]
fn modern_killed_server_loses_and_doubles_nothing() {
    killed_server_loses_and_doubles_nothing(&clickhouse_modern::start());
}

fn each_server(check: impl Fn(&str)) {
    for url in [legacy_url(), modern_url()] {
        check(&url);
    }
}

#[test]
fn readers_of_the_view_see_each_row_once_before_and_after_merging() {
    each_server(|url| {
        let config = fresh(url);
        let mut store = connect(&config).unwrap();
        for number in [1, 3, 2] {
            let rows = [Row::new(1, "s", number as f64, number)];
            store.commit(&commit(None, &rows, Vec::new(), record(number, number, 0))).unwrap();
        }
        let sql = format!("SELECT count(), max(temperature) FROM {}", config.table);
        assert_eq!(ask(&config, &sql), "1\t3");
        ask(&config, &format!("OPTIMIZE TABLE {}_rows FINAL", config.table));
        assert_eq!(ask(&config, &sql), "1\t3");
        assert_rows(&mut reader(&config), &lane(), &[Row::new(1, "s", 3.0, 3)]);
    });
}

#[test]
fn missing_tables_are_made_only_if_told() {
    each_server(|url| {
        let mut config = fresh(url);
        config.create = false;
        let error = connect(&config).err().unwrap();
        let missing = format!("{}_rows", config.table);
        assert_eq!(error, SinkError::Missing { missing });
        assert!(error.to_string().contains("tidemill ddl"), "{error}");
        config.create = true;
        connect(&config).unwrap();
        config.create = false;
        connect(&config).unwrap();
        // What the comparison finds equal is exactly what is made; a dropped view is made again.
        ask(&config, &format!("DROP TABLE {}", config.table));
        let missing = config.table.clone();
        assert_eq!(connect(&config).err(), Some(SinkError::Missing { missing }));
        config.create = true;
        connect(&config).unwrap();
        assert_eq!(ask(&config, &format!("SELECT count() FROM {}", config.table)), "0");
    });
}

#[test]
fn table_under_the_readers_name_is_refused_and_left_alone() {
    each_server(|url| {
        let config = fresh(url);
        let database = config.table.split('.').next().unwrap();
        ask(&config, &format!("CREATE DATABASE {database}"));
        ask(&config, &format!("CREATE TABLE {} (a UInt8) ENGINE = Log", config.table));
        let error = connect(&config).err().unwrap();
        assert_eq!(error, SinkError::NotAView { table: config.table.clone() });
        assert!(error.to_string().contains("tidemill ddl --migrate"), "{error}");
        let sql = format!("SELECT count() FROM system.tables WHERE database = '{database}'");
        assert_eq!(ask(&config, &sql), "1");
    });
}

#[test]
fn other_engine_or_key_is_a_difference() {
    each_server(|url| {
        let config = fresh(url);
        connect(&config).unwrap();
        let statements = tidemill_sink::clickhouse::ddl(
            tidemill_sink::clickhouse::Dialect::Legacy,
            &config.engine,
            &config.table,
            &columns(),
            &keys(),
        )
        .unwrap();
        for (from, to, found) in [
            ("ReplacingMergeTree(`revision`)", "MergeTree", "the engine is MergeTree"),
            ("`time`, `pipeline`, `source_partition`)", "`time`, `pipeline`)", "ordered by"),
            ("ReplacingMergeTree(`revision`)", "ReplacingMergeTree", "the engine is Replacing"),
        ] {
            ask(&config, &format!("DROP TABLE {}_rows", config.table));
            assert!(statements[1].contains(from), "{}", statements[1]);
            ask(&config, &statements[1].replace(from, to));
            let text = connect(&config).err().unwrap().to_string();
            assert!(text.contains(found), "{text}");
        }
    });
}

#[test]
fn table_that_vanishes_asks_for_a_retry() {
    each_server(|url| {
        let config = fresh(url);
        let mut store = connect(&config).unwrap();
        ask(&config, &format!("DROP TABLE {}_commits", config.table));
        assert!(matches!(store.load(&lane()), Err(StoreError::Retry(_))));
        let next = commit(None, &[], Vec::new(), record(1, 1, 0));
        assert!(matches!(store.commit(&next), Err(StoreError::Retry(_))));
        connect(&config).unwrap();
        store.commit(&next).unwrap();
        assert_eq!(store.load(&lane()).unwrap(), Some(next.record));
    });
}

#[test]
fn column_that_vanishes_refuses_the_commit() {
    each_server(|url| {
        let config = fresh(url);
        let mut store = connect(&config).unwrap();
        ask(&config, &format!("ALTER TABLE {}_rows DROP COLUMN site", config.table));
        let next = commit(None, &[Row::new(1, "s", 1.0, 1)], Vec::new(), record(1, 1, 0));
        let outcome = store.commit(&next);
        assert!(matches!(outcome, Err(StoreError::Refused(_))), "{outcome:?}");
    });
}

#[test]
fn password_is_used_and_never_shown() {
    each_server(|url| {
        let mut config = fresh(url);
        config.user = Some("writer".into());
        config.password = Some("secret".into());
        connect(&config).unwrap();
        assert!(!format!("{config:?}").contains("secret"));
        config.password = Some("not-the-secret".into());
        let error = connect(&config).err().unwrap();
        assert!(!error.retry(), "{error}");
        let shown = format!("{error} {error:?} {config:?}");
        assert!(!shown.contains("not-the-secret"), "{shown}");
    });
}

#[test]
fn server_that_does_not_answer_is_unavailable() {
    let [port] = crate::services::clickhouse::free_ports();
    for scheme in ["http", "https"] {
        let config = ClickHouseConfig::new(&format!("{scheme}://127.0.0.1:{port}"), "t");
        let error = connect(&config).err().unwrap();
        assert!(error.retry(), "{error:?}");
        assert!(error.to_string().contains("refused"), "{error}");
    }
    // A server that takes the connection and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let mut config = ClickHouseConfig::new(&url, "t");
    config.query_timeout = Duration::from_millis(100);
    let error = connect(&config).err().unwrap();
    assert!(error.retry() && error.to_string().contains("within 0.1 s"), "{error}");
}

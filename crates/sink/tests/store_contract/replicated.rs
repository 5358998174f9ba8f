//! Replicated and sharded tables, on ClickHouse 18.16: what a quorum has is read or asked for
//! again, never taken for absent; a device is on one shard; a dead replica loses nothing.

use std::{
    thread,
    time::{Duration, Instant},
};

use tidemill_engine::port::{Commit, RowKey, Store, StoreError};
use tidemill_kernel::event::Reason;
use tidemill_sink::{
    ClickHouseConfig, ClickHouseReader, ClickHouseStore, LetterQuery, SinkError, StoreReader,
    Value, clickhouse::TableEngine,
};

use crate::{
    fixture::{
        DAY_S, Row, amendable_columns, assert_rows, columns, commit, encode, keys, lane, letter,
        record,
    },
    services::{clickhouse_replicas::Replicas, replicas},
    target::{ask, fresh_replicated},
};

fn connect(config: &ClickHouseConfig) -> Result<ClickHouseStore, SinkError> {
    ClickHouseStore::connect(config.clone(), &columns(), &keys())
}

fn reader(config: &ClickHouseConfig) -> ClickHouseReader {
    ClickHouseReader::connect(config.clone(), &columns(), &keys()).unwrap()
}

/// The same tables by another server.
fn through(config: &ClickHouseConfig, cluster: &Replicas, index: usize) -> ClickHouseConfig {
    ClickHouseConfig { url: cluster.server(index).url().into(), ..config.clone() }
}

fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Commits with the same bytes until it succeeds, as the engine does; returns the errors.
fn commit_until_done(store: &mut dyn Store, commit: &Commit) -> Vec<String> {
    let mut errors = Vec::new();
    until("the commit", || match store.commit(commit) {
        Ok(()) => Some(()),
        Err(StoreError::Retry(error)) => {
            errors.push(error);
            None
        }
        Err(error) => panic!("{error}"),
    });
    errors
}

fn devices(count: usize, revision: u64) -> Vec<Row> {
    (0..count).map(|index| Row::new(1, &format!("s{index}"), index as f64, revision)).collect()
}

#[test]
fn record_of_a_quorum_is_not_absent_where_it_has_not_arrived() {
    let cluster = replicas();
    let config = fresh_replicated(cluster);
    let mut store = connect(&config).unwrap();
    assert_eq!(store.load(&lane()).unwrap(), None);
    for behind in 1..4 {
        let behind = through(&config, cluster, behind);
        let mut other = connect(&behind).unwrap();
        let number = store.load(&lane()).unwrap().map_or(1, |record| record.id.number + 1);
        ask(&behind, &format!("SYSTEM STOP FETCHES {}_commits", config.table));
        let next = record(number, number, 1);
        store.commit(&commit(None, &[], Vec::new(), next.clone())).unwrap();
        // What the replica has is less than what is committed; it must not pass for the truth.
        let sql = format!(
            "SELECT count() FROM {}_commits FINAL WHERE commit_number = {number}",
            config.table
        );
        assert_eq!(ask(&behind, &sql), "0");
        let loaded = other.load(&lane());
        let Err(StoreError::Retry(error)) = &loaded else { panic!("{loaded:?}") };
        assert!(error.contains("quorum"), "{error}");
        ask(&behind, &format!("SYSTEM START FETCHES {}_commits", config.table));
        let loaded = until("the record", || other.load(&lane()).ok());
        assert_eq!(loaded, Some(next));
    }
}

#[test]
fn device_is_on_one_shard_and_every_server_shows_each_row_once() {
    let cluster = replicas();
    let config = fresh_replicated(cluster);
    let mut store = connect(&config).unwrap();
    let last = record(2, 2, 1);
    for number in 1..=2 {
        let rows = devices(200, number);
        let letters = vec![letter(number, Reason::Late)];
        let next = commit(None, &rows, letters, record(number, number, 1));
        store.commit(&next).unwrap();
        store.commit(&next).unwrap();
    }
    let mut of_shards = Vec::new();
    for index in 0..4 {
        let config = through(&config, cluster, index);
        let mut reader = reader(&config);
        // Insert quorum is two of the two replicas of a shard.
        assert_rows(&mut reader, &lane(), &devices(200, 2));
        assert_eq!(ask(&config, &format!("SELECT count() FROM {}", config.table)), "200");
        let shard = format!("SELECT count(DISTINCT device_id) FROM {}_rows_shard", config.table);
        of_shards.push(ask(&config, &shard).parse::<u64>().unwrap());
        // Letters and records are on every server; a quorum has them, the others get them.
        until("letters and record", || {
            let letters = reader.dead_letters(&LetterQuery::default()).ok()?;
            let records = reader.records(None).ok()?;
            (letters.rows.len() == 2 && records == [last.clone()]).then_some(())
        });
    }
    assert_eq!((of_shards[0], of_shards[2]), (of_shards[1], of_shards[3]));
    assert!(of_shards[0] > 0 && of_shards[2] > 0, "{of_shards:?}");
    assert_eq!(of_shards[0] + of_shards[2], 200, "a device is on one shard");
}

/// 18.16 keeps asking for the newest part of a partition that was dropped, so a read that insists
/// on what a quorum has would fail for ever once old days are removed.
#[test]
fn day_that_was_dropped_does_not_stop_reading() {
    let cluster = replicas();
    let config = fresh_replicated(cluster);
    let mut store = connect(&config).unwrap();
    let rows = devices(50, 1);
    store.commit(&commit(None, &rows, Vec::new(), record(1, 1, 1))).unwrap();
    let tomorrow = Row { minute: 24 * 60 + 1, ..Row::new(1, "s", 1.0, 2) };
    let next = record(2, 2, 1);
    store.commit(&commit(None, std::slice::from_ref(&tomorrow), Vec::new(), next.clone())).unwrap();
    let drop =
        format!("ALTER TABLE {}_rows_shard ON CLUSTER main DROP PARTITION 20261122", config.table);
    ask(&config, &drop);
    assert_rows(&mut reader(&config), &lane(), &[tomorrow]);
    assert_eq!(store.load(&lane()).unwrap(), Some(next.clone()));
    // And the same bytes may be written again: they are no repeat.
    store.commit(&commit(None, &rows, Vec::new(), next)).unwrap();
    assert_eq!(ask(&config, &format!("SELECT count() FROM {}", config.table)), "51");
}

/// Merging into what this replica happens to have could lose what was merged before; so where
/// 18.16 can never say again that it has everything, it is not taken for everything.
#[test]
fn rows_to_amend_are_not_read_where_a_quorum_has_more_or_may_have() {
    let cluster = replicas();
    let config = fresh_replicated(cluster);
    let open = |config: &ClickHouseConfig| {
        ClickHouseStore::connect(config.clone(), &amendable_columns(), &keys()).unwrap()
    };
    let mut store = open(&config);
    let values = |minute: u64| {
        let mut values = Row::new(minute, "s", 1.0, minute).values(&lane());
        values.extend([Value::UInt(1), Value::Text("final".into()), Value::Text("AQ".into())]);
        encode(&amendable_columns(), std::iter::once(values))
    };
    let key = |minute: u64| RowKey {
        end_ms: (DAY_S + minute * 60) as i64 * 1000,
        key: vec!["s".into(), "a".into()],
    };
    store.write_rows(&[values(1), values(24 * 60 + 1)]).unwrap();
    assert!(store.stored(&lane(), &[key(1)]).unwrap()[0].is_some());
    let drop = format!("ALTER TABLE {}_rows_shard ON CLUSTER main DROP PARTITION", config.table);
    ask(&config, &format!("{drop} 20261122"));
    let refused = store.stored(&lane(), &[key(24 * 60 + 1)]);
    let Err(StoreError::Retry(text)) = &refused else { panic!("{refused:?}") };
    assert!(text.contains("quorum"), "{text}");
}

#[test]
fn replicated_tables_need_a_quorum() {
    let cluster = replicas();
    let mut config = fresh_replicated(cluster);
    drop(connect(&config).unwrap());
    config.insert_quorum = Some(1);
    let text = connect(&config).err().unwrap().to_string();
    assert!(text.contains("insert_quorum") && text.contains("write 2 or more"), "{text}");
    config.insert_quorum = None;
    config.engine = TableEngine::Plain;
    let text = connect(&config).err().unwrap().to_string();
    assert!(text.contains("set engine = \"replicated\""), "{text}");
    // Replicated tables of one's own, without a cluster, are good with a quorum only.
    let statements = tidemill_sink::clickhouse::ddl(
        tidemill_sink::clickhouse::Dialect::Legacy,
        &TableEngine::Plain,
        &format!("{}_own", config.table),
        &columns(),
        &keys(),
    )
    .unwrap();
    config.table.push_str("_own");
    for index in 0..2 {
        for (number, statement) in statements.iter().enumerate() {
            let path = format!("'/own/{}/{number}', '{{replica}}', ", config.table);
            let engine = format!("ReplicatedReplacingMergeTree({path}");
            let statement = statement.replace("ReplacingMergeTree(", &engine);
            ask(&through(&config, cluster, index), &statement);
        }
    }
    let text = connect(&config).err().unwrap().to_string();
    assert!(text.contains("2 replicas"), "{text}");
    config.insert_quorum = Some(2);
    let mut store = connect(&config).unwrap();
    let first = record(1, 1, 1);
    store.commit(&commit(None, &devices(3, 1), Vec::new(), first.clone())).unwrap();
    let mut other = connect(&through(&config, cluster, 1)).unwrap();
    assert_eq!(other.load(&lane()).unwrap(), Some(first));
}

#[test]
fn dead_replica_stops_commits_and_loses_and_doubles_nothing() {
    let cluster = Replicas::start(1, 2);
    let mut config = fresh_replicated(&cluster);
    config.insert_timeout = Duration::from_secs(4);
    let mut store = connect(&config).unwrap();
    let mut errors = Vec::new();
    for number in 1..=6 {
        let letters = vec![letter(number, Reason::Late)];
        let next = commit(None, &devices(500, number), letters, record(number, number, 1));
        // The other replica dies; later this one.
        let dead = cluster.server(usize::from(number < 4));
        if number == 2 || number == 4 {
            dead.kill();
            assert!(matches!(store.commit(&next), Err(StoreError::Retry(_))));
            dead.up();
        }
        errors.extend(commit_until_done(&mut store, &next));
    }
    eprintln!("{} errors: {errors:?}", errors.len());
    for index in 0..2 {
        let config = through(&config, &cluster, index);
        let mut reader = reader(&config);
        assert_rows(&mut reader, &lane(), &devices(500, 6));
        let sql = format!("SELECT count() FROM {}_rows_shard FINAL", config.table);
        assert_eq!(ask(&config, &sql), "500");
        assert_eq!(reader.dead_letters(&LetterQuery::default()).unwrap().rows.len(), 6);
        assert_eq!(reader.records(None).unwrap(), [record(6, 6, 1)]);
    }
}

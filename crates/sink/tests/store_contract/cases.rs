//! The behaviour that every store has.

use tidemill_engine::{
    port::StoreError,
    record::{CommitId, LaneId, ORDINAL_BITS},
};
use tidemill_kernel::{
    event::Reason,
    row::{Column, ColumnKind},
    time::WindowGrid,
};
use tidemill_sink::{LaneRows, LetterQuery, Misfits, RowQuery, SinkError, Value, WindowRows};

use crate::{
    fixture::{DAY_S, Row, WINDOW_MS, assert_rows, block, columns, commit, lane, letter, record},
    target::Target,
};

pub(crate) fn committed_rows_letters_and_record_are_read_back(target: Target) {
    let mut store = target.store();
    assert_eq!(store.load(&lane()).unwrap(), None);
    let rows = [Row::new(1, "sensor_1", 21.5, 10), Row::new(1, "sensor_2", 0.1 + 0.2, 10)];
    let mut first = record(1, 10, 1);
    first.resume = Some(first.processed.unwrap());
    store.commit(&commit(None, &rows, vec![letter(3, Reason::Malformed)], first.clone())).unwrap();
    assert_eq!(store.load(&lane()).unwrap(), Some(first.clone()));
    assert_eq!(store.load(&LaneId::new("sensors", "1")).unwrap(), None);
    drop(store);
    assert_eq!(target.store().load(&lane()).unwrap(), Some(first.clone()));

    let mut reader = target.reader();
    assert_eq!(reader.records(None).unwrap(), [first.clone()]);
    assert_eq!(reader.records(Some("sensors")).unwrap(), [first]);
    assert_eq!(reader.records(Some("other's")).unwrap(), []);
    assert_rows(&mut *reader, &lane(), &rows);
    let letters = reader.dead_letters(&LetterQuery::default()).unwrap();
    let wanted = vec![
        Value::Text("sensors".into()),
        Value::Text("0".into()),
        Value::UInt(7),
        Value::UInt(3),
        Value::UInt(0),
        Value::UInt(3),
        Value::UInt(3),
        Value::Text("malformed".into()),
        Value::Millisecond(DAY_S as i64 * 1000 + 123),
        Value::Null,
        Value::Null,
        Value::Bytes(b"{\"a\":\xff\0'".to_vec()),
        Value::UInt(u64::MAX),
    ];
    assert_eq!(letters.rows, [wanted]);
}

pub(crate) fn birth_record_without_rows_is_read_back(target: Target) {
    let mut store = target.store();
    let mut birth = record(1, 0, 0);
    (birth.closed_until_ms, birth.highest_event_time_ms) = (i64::MIN, i64::MIN);
    birth.processed = None;
    let mut first = commit(None, &[], Vec::new(), birth.clone());
    first.rows.clear();
    store.commit(&first).unwrap();
    assert_eq!(store.load(&lane()).unwrap(), Some(birth));
    let totals = target.reader().totals("sensors").unwrap();
    assert_eq!((totals.len(), totals[0].row_count, totals[0].record_count_closed), (1, 0, 0));
}

pub(crate) fn same_commit_again_changes_nothing(target: Target) {
    let mut store = target.store();
    let rows = [Row::new(1, "sensor_1", 21.5, 10)];
    let letters = vec![letter(3, Reason::Late), letter(4, Reason::Empty)];
    let first = commit(None, &rows, letters, record(1, 10, 1));
    for _ in 0..3 {
        store.commit(&first).unwrap();
    }
    let mut reader = target.reader();
    assert_rows(&mut *reader, &lane(), &rows);
    assert_eq!(reader.dead_letters(&LetterQuery::default()).unwrap().rows.len(), 2);
    assert_eq!(reader.records(None).unwrap(), [first.record]);
}

pub(crate) fn higher_revision_replaces_and_lower_never_wins(target: Target) {
    let mut store = target.store();
    let mut previous = None;
    for (number, revision) in [5, 9, 2, 9, 7].into_iter().enumerate() {
        // The letter and the row share the revision; the record must not fall.
        let row = Row::new(1, "sensor_1", revision as f64, revision);
        let mut dead = letter(3, Reason::Late);
        dead.revision = revision;
        dead.payload_bytes = revision;
        let next = commit(previous, &[row], vec![dead], record(number as u64 + 1, 20, 0));
        store.commit(&next).unwrap();
        previous = Some(next.record.id);
    }
    let mut reader = target.reader();
    assert_rows(&mut *reader, &lane(), &[Row::new(1, "sensor_1", 9.0, 9)]);
    let letters = reader.dead_letters(&LetterQuery::default()).unwrap();
    assert_eq!(letters.rows.len(), 1);
    assert_eq!(letters.rows[0][12], Value::UInt(9));
}

pub(crate) fn lower_revision_within_one_commit_never_wins(target: Target) {
    let mut store = target.store();
    let rows = [Row::new(1, "s", 9.0, 9), Row::new(1, "s", 2.0, 2), Row::new(1, "s", 5.0, 5)];
    store.commit(&commit(None, &rows, Vec::new(), record(1, 9, 0))).unwrap();
    assert_rows(&mut *target.reader(), &lane(), &rows[..1]);
}

pub(crate) fn rows_alone_give_way_as_in_a_commit_and_leave_the_record(target: Target) {
    let mut store = target.store();
    let rows = [
        Row::new(1, "same", 1.0, 9),
        Row::new(1, "lower", 1.0, 9),
        Row::new(1, "higher", 1.0, 9),
        Row::new(1, "untouched", 1.0, 9),
    ];
    let dead = vec![letter(3, Reason::Late)];
    let first = commit(None, &rows, dead, record(1, 9, 1));
    store.commit(&first).unwrap();
    let again = [
        Row::new(1, "same", 2.0, 9),
        Row::new(1, "lower", 2.0, 8),
        Row::new(1, "higher", 2.0, 10),
        Row::new(1, "missing", 2.0, 9),
    ];
    // Several blocks and days; repeating them changes nothing.
    let tomorrow = [Row::new(1_500, "tomorrow", 2.0, 9)];
    for _ in 0..2 {
        store.write_rows(&[block(&lane(), &again), block(&lane(), &tomorrow)]).unwrap();
    }
    store.write_rows(&[]).unwrap();
    let [same, _, higher, missing] = again;
    let [_, lower, _, untouched] = rows;
    let [tomorrow] = tomorrow;
    let expected = [higher, lower, missing, same, untouched, tomorrow];
    let mut reader = target.reader();
    assert_rows(&mut *reader, &lane(), &expected);
    assert_eq!(reader.dead_letters(&LetterQuery::default()).unwrap().rows.len(), 1);
    assert_eq!(store.load(&lane()).unwrap(), Some(first.record.clone()));
    // The lane's owner goes on as if nothing had happened.
    let next = commit(Some(first.record.id), &[], Vec::new(), record(2, 12, 1));
    store.commit(&next).unwrap();
    assert_eq!(store.load(&lane()).unwrap(), Some(next.record));
}

pub(crate) fn stale_owner_never_hides_the_newer_record(target: Target) {
    let (mut owner, mut stale) = (target.store(), target.store());
    let birth = commit(None, &[], Vec::new(), record(1, 0, 0));
    owner.commit(&birth).unwrap();
    let next = commit(Some(birth.record.id), &[], Vec::new(), record(2, 50, 3));
    owner.commit(&next).unwrap();
    let mut late = record(2, 40, 2);
    late.id.writer = 99;
    let outcome = stale.commit(&commit(Some(birth.record.id), &[], Vec::new(), late));
    if target.is_fenced() {
        let fenced = StoreError::Fenced {
            lane: lane(),
            expected: Some(birth.record.id),
            found: Some(next.record.id),
        };
        assert_eq!(outcome, Err(fenced));
    } else {
        assert_eq!(outcome, Ok(()));
    }
    assert_eq!(stale.load(&lane()).unwrap(), Some(next.record.clone()));
    assert_eq!(target.reader().records(None).unwrap(), [next.record]);
}

pub(crate) fn at_one_ordinal_the_later_commit_is_the_record(target: Target) {
    let mut store = target.store();
    let mut previous = None;
    for number in 1..=70 {
        let next = commit(previous, &[], Vec::new(), record(number, 10, number));
        store.commit(&next).unwrap();
        assert_eq!(store.load(&lane()).unwrap().unwrap().id.number, number);
        previous = Some(next.record.id);
    }
    let mut raised = record(71, 3, 1);
    raised.generation = 1;
    store.commit(&commit(previous, &[], Vec::new(), raised.clone())).unwrap();
    assert_eq!(store.load(&lane()).unwrap(), Some(raised));
}

pub(crate) fn nulls_unicode_and_extremes_keep_their_bits(target: Target) {
    let mut store = target.store();
    let empty = Row {
        site: None,
        temperature: None,
        packets_sent: None,
        motion: None,
        temperature_count: 0,
        ..Row::new(1, "empty", 0.0, 1)
    };
    let extreme = Row {
        site: Some("\u{0}'\"\\`?\n".into()),
        temperature: Some(f64::MIN_POSITIVE / 4.0),
        packets_sent: Some(i64::MIN),
        motion: Some(false),
        temperature_count: u64::MAX,
        record_count: 1 << 62,
        ..Row::new(1, "Zürich-東京-\u{1f30a}'\\", 0.0, i64::MAX as u64)
    };
    let long = Row {
        temperature: Some(-1.797_693_134_862_315_7e308),
        packets_sent: Some(i64::MAX),
        ..Row::new(2, &"k".repeat(70_000), 0.0, 1)
    };
    let rows = [empty, extreme, long];
    store.commit(&commit(None, &rows, Vec::new(), record(1, 1, 0))).unwrap();
    let mut reader = target.reader();
    assert_rows(&mut *reader, &lane(), &rows);
    let by_key = RowQuery {
        keys: vec![("device_id".into(), rows[1].device.clone())],
        columns: Some(vec!["site".into(), "time".into()]),
        ..RowQuery::default()
    };
    let found = reader.rows(&by_key).unwrap();
    assert_eq!(found.rows.len(), 1);
    assert_eq!(found.rows[0][0], Value::Text("\u{0}'\"\\`?\n".into()));
    assert_eq!(found.rows[0][1].to_string(), "2026-11-22 00:01:00");
}

pub(crate) fn one_commit_may_span_days_and_pieces(target: Target) {
    let mut store = target.store();
    let rows: Vec<Row> = (0..6).map(|day| Row::new(day * 720, "s", day as f64, 1)).collect();
    let mut next = commit(None, &rows, Vec::new(), record(1, 1, 9_999));
    next.rows.push(block(&lane(), &[Row::new(1, "t", 1.5, 1)]));
    store.commit(&next).unwrap();
    let mut wanted = rows.clone();
    wanted.push(Row::new(1, "t", 1.5, 1));
    let mut reader = target.reader();
    assert_rows(&mut *reader, &lane(), &wanted);
    let one_day = RowQuery {
        from_ms: Some(DAY_S as i64 * 1000 + 86_400_000),
        to_ms: Some(DAY_S as i64 * 1000 + 2 * 86_400_000),
        newest_first: true,
        columns: Some(vec!["temperature".into()]),
        ..RowQuery::default()
    };
    let found = reader.rows(&one_day).unwrap().rows;
    assert_eq!(found, [[Value::Float(3.0)], [Value::Float(2.0)]]);
}

pub(crate) fn twenty_thousand_rows_are_one_commit(target: Target) {
    let mut store = target.store();
    let rows: Vec<Row> = (0..20_000)
        .map(|index| Row::new(1 + index / 5_000, &format!("sensor_{:05}", index % 5_000), 0.5, 1))
        .collect();
    let mut large = commit(None, &[], Vec::new(), record(1, 1, 4));
    large.rows = rows.chunks(3_000).map(|chunk| block(&lane(), chunk)).collect();
    store.commit(&large).unwrap();
    let totals = target.reader().totals("sensors").unwrap();
    assert_eq!((totals[0].row_count, totals[0].record_count_closed), (20_000, 200_000));
    assert_eq!(totals[0].window_count, 4);
    assert_eq!((totals[0].rows_per_window_min, totals[0].rows_per_window_max), (5_000, 5_000));
}

pub(crate) fn totals_count_what_the_ledger_claims(target: Target) {
    let mut store = target.store();
    let birth = commit(None, &[], vec![], record(1, 0, 0));
    store.commit(&birth).unwrap();
    let rows = [
        Row::new(1, "a", 1.0, 40),
        Row::new(1, "b", 1.0, 40),
        Row::new(2, "a", 1.0, 40),
        Row::new(3, "a", 1.0, 40),
    ];
    let mut beyond = letter(41, Reason::Late);
    beyond.revision = 41;
    let letters =
        vec![letter(1, Reason::Late), letter(2, Reason::Late), letter(9, Reason::Empty), beyond];
    store.commit(&commit(Some(birth.record.id), &rows, letters, record(2, 40, 2))).unwrap();
    let other = LaneId::new("sensors", "1");
    let orphan = block(&other, &[Row::new(1, "z", 1.0, 1)]);
    let mut second = record(1, 5, 0);
    second.lane = other.clone();
    let mut foreign = commit(None, &[], vec![], second);
    foreign.rows = vec![orphan];
    store.commit(&foreign).unwrap();

    let totals = target.reader().totals("sensors").unwrap();
    assert_eq!(totals.len(), 2);
    let first = &totals[0];
    assert_eq!((first.partition.as_str(), first.row_count, first.row_count_closed), ("0", 4, 3));
    assert_eq!((first.record_count_closed, first.record_count_open), (30, 10));
    assert_eq!((first.late, first.rejected), (2, 1));
    assert_eq!(first.letters_by_reason, [("empty".to_string(), 1), ("late".to_string(), 2)]);
    assert_eq!((totals[1].row_count, totals[1].row_count_closed), (1, 0));
    assert_eq!(target.reader().totals("nobody").unwrap(), []);
}

pub(crate) fn rows_are_found_by_their_window_and_misfits_are_named(target: Target) {
    let mut store = target.store();
    let birth = commit(None, &[], vec![], record(1, 0, 0));
    store.commit(&birth).unwrap();
    let mut silent = Row::new(2, "b", 1.0, 40);
    (silent.temperature, silent.record_count) = (None, 41);
    let rows = [
        Row::new(1, "c", 1.0, 20),
        Row::new(1, "a", 1.0, 40),
        Row::new(1, "b", 1.0, 40),
        silent.clone(),
        Row::new(3, "a", 1.0, 40),
    ];
    store.commit(&commit(Some(birth.record.id), &rows, vec![], record(2, 40, 2))).unwrap();
    let end_ms = |minute: u64| (DAY_S + minute * 60) as i64 * 1000;
    let all = LaneRows {
        pipeline: "sensors".into(),
        partition: "0".into(),
        from_ms: None,
        to_ms: None,
        closed_until_ms: None,
        first_revision: 0,
    };
    let mut reader = target.reader();
    let window = |minute, row_count, message_count| WindowRows {
        end_ms: end_ms(minute),
        row_count,
        message_count,
    };
    assert_eq!(
        reader.windows(&all).unwrap(),
        [window(1, 3, 30), window(2, 1, 41), window(3, 1, 10)]
    );
    let some = LaneRows {
        from_ms: Some(end_ms(1) - 999),
        to_ms: Some(end_ms(3) + 1),
        closed_until_ms: Some(end_ms(2)),
        first_revision: 21,
        ..all.clone()
    };
    assert_eq!(reader.windows(&some).unwrap(), [window(1, 2, 20), window(2, 1, 41)]);
    let late = LaneRows { from_ms: Some(end_ms(1) + 1), to_ms: Some(end_ms(2)), ..all.clone() };
    assert_eq!(reader.windows(&late).unwrap(), []);
    let nothing = LaneRows { closed_until_ms: Some(i64::MIN), ..all.clone() };
    assert_eq!(reader.windows(&nothing).unwrap(), []);

    let found = reader.rows_of_window(&all, end_ms(1), 1, 5).unwrap();
    let devices: Vec<_> = found.rows.iter().map(|row| row[1].clone()).collect();
    assert_eq!(devices, [Value::Text("b".into()), Value::Text("c".into())]);
    assert_eq!(found.columns.len(), columns().len());
    assert_eq!(reader.rows_of_window(&some, end_ms(1), 0, 5).unwrap().rows.len(), 2);

    let grid = |size_ms, offset_ms| WindowGrid::new(size_ms, offset_ms).unwrap();
    assert_eq!(reader.misfits(&all, grid(WINDOW_MS, 0)).unwrap(), Misfits::default());
    let off = reader.misfits(&all, grid(WINDOW_MS, 1_000)).unwrap();
    assert_eq!((off.off_grid_rows, off.duplicate_row_keys, off.examples.len()), (5, 0, 3));
    assert!(off.examples[0].starts_with("off the grid: 2026-11-22 00:0"), "{:?}", off.examples);
    let long = reader.misfits(&some, grid(2 * WINDOW_MS, 0)).unwrap();
    assert_eq!(long.off_grid_rows, 3, "none is two minutes long");

    let quality = reader.quality(&all).unwrap();
    assert_eq!((quality.row_count, quality.message_count), (5, 81));
    assert_eq!((quality.record_count_min, quality.record_count_max), (10, 41));
    assert_eq!((quality.outlier_count, quality.rows_with_gaps), (1, 5), "41 is more than 2 * 16");
    assert!(quality.nulls.contains(&("temperature".to_owned(), 1)), "{:?}", quality.nulls);
    assert_eq!(reader.quality(&nothing).unwrap().row_count, 0);
}

pub(crate) fn newest_commits_are_read_by_their_number(target: Target) {
    let mut store = target.store();
    let mut previous = None;
    for number in 1..=70 {
        let next = commit(previous, &[], vec![], record(number, number * 10, 1));
        previous = Some(next.record.id);
        store.commit(&next).unwrap();
    }
    let ring = target.reader().commits("sensors", "0").unwrap();
    let expected: Vec<u64> = (71 - ring.slots..=70).collect();
    let numbers: Vec<u64> = ring.records.iter().map(|record| record.id.number).collect();
    assert_eq!(numbers, expected);
    assert_eq!(target.reader().commits("sensors", "1").unwrap().records, []);
}

pub(crate) fn letters_are_chosen_by_reason_and_key(target: Target) {
    let mut store = target.store();
    let letters = vec![letter(1, Reason::Late), letter(2, Reason::Empty), letter(5, Reason::Late)];
    store.commit(&commit(None, &[], letters, record(1, 9, 0))).unwrap();
    let mut reader = target.reader();
    let late = LetterQuery {
        reason: Some(Reason::Late),
        key: Some("sensor_ü/a".into()),
        newest_first: true,
        limit: 1,
        ..LetterQuery::default()
    };
    let found = reader.dead_letters(&late).unwrap();
    assert_eq!(found.rows.len(), 1);
    assert_eq!(found.rows[0][3], Value::UInt(5));
    assert_eq!(found.rows[0][9], Value::Millisecond(DAY_S as i64 * 1000 - 1));
    assert_eq!(found.rows[0][10], Value::Text("sensor_ü/a".into()));
}

pub(crate) fn tables_that_differ_are_refused_with_each_difference(target: Target) {
    drop(target.store());
    let mut changed = columns();
    changed.retain(|column| column.name != "site");
    changed.push(Column::new("humidity", ColumnKind::Float64, true));
    let temperature = changed.iter_mut().find(|column| column.name == "temperature").unwrap();
    temperature.kind = ColumnKind::Int64;
    let Err(error) = target.open(&changed) else { panic!("opened a table that differs") };
    let SinkError::Columns { differences, .. } = &error else { panic!("{error}") };
    let text = error.to_string();
    assert!(text.contains("\"humidity\" is missing"), "{text}");
    assert!(text.contains("\"temperature\" is "), "{text}");
    // An extra column that may be NULL is filled by SQLite; ClickHouse would invent a value.
    assert_eq!(differences.len(), if target.is_fenced() { 2 } else { 3 }, "{text}");
}

pub(crate) fn unknown_columns_of_a_query_are_named(target: Target) {
    drop(target.store());
    let query = RowQuery { keys: vec![("device".into(), "x".into())], ..RowQuery::default() };
    let text = target.reader().rows(&query).unwrap_err().to_string();
    assert!(text.contains("no column \"device\"; there are time, device_id"), "{text}");
}

pub(crate) fn records_of_several_lanes_do_not_mix(target: Target) {
    let mut store = target.store();
    let mut records = Vec::new();
    for (pipeline, partition) in [("a", "0"), ("a", "it's\\0"), ("b", "0")] {
        let mut next = record(1, 4, 0);
        next.lane = LaneId::new(pipeline, partition);
        next.id = CommitId { number: 1, writer: u64::MAX };
        store.commit(&commit(None, &[], Vec::new(), next.clone())).unwrap();
        records.push(next);
    }
    for record in &records {
        assert_eq!(store.load(&record.lane).unwrap().as_ref(), Some(record));
    }
    let mut reader = target.reader();
    assert_eq!(reader.records(None).unwrap(), records);
    assert_eq!(reader.records(Some("a")).unwrap(), records[..2]);
}

pub(crate) fn letters_with_absurd_times_are_kept(target: Target) {
    let mut store = target.store();
    let times = [i64::MIN, -1, 0, 4_294_967_296_000, 253_402_300_800_000, i64::MAX];
    let letters = times.iter().enumerate().map(|(index, time_ms)| {
        let mut letter = letter(index as u64 + 1, Reason::Future);
        letter.publish_time_ms = *time_ms;
        letter.event_time_ms = Some(time_ms.wrapping_neg());
        letter
    });
    let next = commit(None, &[], letters.collect(), record(1, 9, 0));
    store.commit(&next).unwrap();
    store.commit(&next).unwrap();
    let found = target.reader().dead_letters(&LetterQuery::default()).unwrap();
    assert_eq!(found.rows.len(), times.len());
    for row in &found.rows {
        let ordinal = row[5].as_u64().unwrap();
        let time_ms = times[ordinal as usize - 1];
        assert_eq!(row[8], Value::Millisecond(time_ms));
        assert_eq!(row[9], Value::Millisecond(time_ms.wrapping_neg()));
        assert!(!row[8].to_string().is_empty());
    }
}

pub(crate) fn forgotten_rows_and_letters_are_not_in_the_totals(target: Target) {
    let mut store = target.store();
    let letters = || vec![letter(1, Reason::Late), letter(2, Reason::Empty)];
    let rows = [Row::new(1, "a", 1.0, 40), Row::new(1, "b", 1.0, 40)];
    let first = commit(None, &rows, letters(), record(1, 40, 2));
    store.commit(&first).unwrap();
    let mut forgotten = record(2, 0, 0);
    (forgotten.generation, forgotten.birth_generation) = (1, 1);
    let reset = commit(Some(first.record.id), &[], vec![], forgotten);
    store.commit(&reset).unwrap();
    let raised = 1 << ORDINAL_BITS;
    let mut again = record(3, 10, 2);
    (again.generation, again.birth_generation, again.birth_ordinal) = (1, 1, 3);
    again.ledger.lost = 4;
    let mut replaced = letter(2, Reason::Empty);
    replaced.revision = raised + 2;
    let row = [Row::new(1, "b", 2.0, raised + 10)];
    store.commit(&commit(Some(reset.record.id), &row, vec![replaced], again.clone())).unwrap();
    assert_eq!(store.load(&lane()).unwrap(), Some(again));
    let totals = target.reader().totals("sensors").unwrap();
    assert_eq!((totals[0].row_count, totals[0].record_count_closed), (1, 10));
    assert_eq!(totals[0].rows_of_forgotten_commits, 1);
    assert_eq!((totals[0].late, totals[0].rejected), (0, 1));
    assert_eq!(totals[0].letters_of_earlier_generations, 1);
}

pub(crate) fn devices_of_several_partitions_are_counted(target: Target) {
    let mut store = target.store();
    let here = [Row::new(1, "a", 1.0, 1), Row::new(1, "b", 1.0, 1), Row::new(1, "c", 1.0, 1)];
    store.commit(&commit(None, &here, vec![], record(1, 3, 1))).unwrap();
    assert_eq!(target.reader().several_partitions("sensors").unwrap(), [0, 0]);
    let there = [Row::new(1, "a", 1.0, 1), Row::new(2, "b", 1.0, 1), Row::new(2, "d", 1.0, 1)];
    let mut second = record(1, 3, 1);
    second.lane = LaneId::new("sensors", "1");
    store.commit(&commit(None, &there, vec![], second)).unwrap();
    assert_eq!(target.reader().several_partitions("sensors").unwrap(), [2, 1]);
    assert_eq!(target.reader().several_partitions("others").unwrap(), [0, 0]);
}

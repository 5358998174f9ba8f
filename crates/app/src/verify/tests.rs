//! What the parts of a verification say, without a store: counts, gaps, rows computed again.

use bytes::{Bytes, BytesMut};
use tidemill_engine::{
    port::{Entry, RawMessage},
    record::LaneId,
};
use tidemill_kernel::event::Position;
use tidemill_sink::Value;

use super::{log::Visit, *};

const MINUTE_MS: i64 = 60_000;

fn config() -> Config {
    let text = "pipeline.name = \"p\"\nschema.preset = \"sensor\"\nsource.file.paths = [\"a\"]\n\
                sink.stdout = {}\n";
    Config::parse("t.toml", text, &|_| None).expect("a configuration")
}

fn record(messages: u64) -> CommitRecord {
    CommitRecord {
        ordinal: messages,
        closed_until_ms: i64::MAX,
        birth: Some(Position::new(0, 0, 0)),
        processed: Some(Position::new(0, messages.saturating_sub(1), 0)),
        ..CommitRecord::unborn(LaneId::new("p", "0"))
    }
}

/// An entry of messages of one device, at these times.
fn entry(times_ms: &[i64]) -> Entry {
    let (mut buffer, mut messages) = (BytesMut::new(), Vec::new());
    for (at, time_ms) in times_ms.iter().enumerate() {
        let text = format!(r#"{{"device_id":"d","time":{time_ms},"temperature":{at}.1}}"#);
        messages.push(RawMessage {
            position: Position::new(0, at as u64, 0),
            start: buffer.len() as u32,
            length: text.len() as u32,
            publish_time_ms: *time_ms,
            reject: None,
        });
        buffer.extend_from_slice(text.as_bytes());
    }
    let buffer: Bytes = buffer.freeze();
    Entry { position: Position::new(0, 0, 0), buffer, messages, credit: 0 }
}

fn target(end_ms: i64, revision: u64) -> Target {
    let key = vec!["d".to_owned()];
    Target { stored: Vec::new(), end_ms, key, revision, at_revision: None, at_close: None }
}

fn amending() -> Config {
    let text = "pipeline.name = \"p\"\nschema.preset = \"sensor\"\nsource.file.paths = [\"a\"]\n\
                window.late = \"amend\"\nsink.embedded.path = \"a.db\"\n";
    Config::parse("t.toml", text, &|_| None).expect("a configuration")
}

fn computed(times_ms: &[i64], before: u64, target: Target) -> Recomputed {
    computed_by(&config(), times_ms, before, target)
}

fn computed_by(config: &Config, times_ms: &[i64], before: u64, target: Target) -> Recomputed {
    let record = record(times_ms.len() as u64);
    let rows = BTreeMap::from([(target.end_ms, 1)]);
    let mut computed = Recomputation::new(config, &record, before, vec![target], &rows);
    let entry = entry(times_ms);
    computed.visit(&entry, &entry.messages).expect("a log");
    computed.finish(&record).expect("every row can be counted")
}

#[test]
fn row_is_computed_as_of_its_revision_and_as_of_the_closing_of_its_window() {
    const BASE_MS: i64 = 1_767_225_600_000;
    let end_ms = BASE_MS + MINUTE_MS;
    let times = [1, 2, 3, 70_000, 4].map(|ms| BASE_MS + ms);
    // The fourth message closes the window, the fifth is late.
    let after = |count: usize| computed(&times[..count], 0, target(end_ms, count as u64));
    let two = after(2).targets.remove(0).at_revision.expect("a row of two messages");
    let whole = computed(&times, 0, target(end_ms, 2));
    assert_eq!((whole.ledger.late, whole.ledger.messages), (1, 5));
    let found = &whole.targets[0];
    assert_eq!(found.at_revision.as_ref(), Some(&two), "what the first two messages give");
    let closed = found.at_close.clone().expect("the window has closed");
    let count = config().schema.columns().iter().position(|c| c.name == "record_count");
    let count = count.expect("a column");
    assert_eq!((&two[count], &closed[count]), (&Value::UInt(2), &Value::UInt(3)));
    assert_eq!(closed.last(), Some(&Value::UInt(4)), "closed by the fourth message");
    // Written by the closing itself, and behind messages that are gone.
    let late = computed(&times, 1_000, target(end_ms, 1_004));
    let found = &late.targets[0];
    assert!(found.at_revision.is_some() && found.at_revision == found.at_close);
    assert!(whole.row_counts.is_empty() && late.row_counts.is_empty());
    let none = computed(&times, 0, target(end_ms + 5 * MINUTE_MS, 4));
    assert!(none.targets[0].at_revision.is_none() && none.targets[0].at_close.is_none());
}

#[test]
fn row_that_late_messages_amended_is_held_against_all_messages_and_bounds_of_its_revision() {
    const BASE_MS: i64 = 1_767_225_600_000;
    let (end_ms, config) = (BASE_MS + MINUTE_MS, amending());
    // Closed by the fourth message; the fifth and the last are late.
    let times = [1, 2, 3, 70_000, 4, 70_001, 70_002, 5].map(|ms| BASE_MS + ms);
    let columns = config.schema.columns();
    let place = |name: &str| columns.iter().position(|c| c.name == name).expect("a column");
    let made = |count: usize| {
        let target = target(end_ms, count as u64);
        let row = computed_by(&config, &times[..count], 0, target).targets.remove(0).at_close;
        row.expect("the window has closed")
    };
    let judged = |stored: &[Value], count: usize, may_have_ended: bool| {
        let revision = stored[place("revision")].as_u64().expect("a number");
        let target = Target { stored: stored.to_vec(), ..target(end_ms, revision) };
        let computed = computed_by(&config, &times[..count], 0, target);
        assert_eq!(computed.ledger.late, 0);
        let log = LogState { whole_from_ms: i64::MIN, size_ms: MINUTE_MS, may_have_ended };
        let mut finding = Finding::default();
        let record = record(count as u64);
        let outcome = sample::judge(columns, &record, &computed, log, &mut finding);
        (outcome, finding.differences.join("; "))
    };
    for (count, messages, late, finality) in
        [(4, 3, 0, "final"), (5, 4, 1, "amended"), (8, 5, 2, "amended")]
    {
        let row = made(count);
        let found = ["record_count", "late_count", "finality", "revision"].map(place);
        let expected = [
            Value::UInt(messages),
            Value::UInt(late),
            Value::Text(finality.into()),
            Value::UInt(count as u64),
        ];
        assert_eq!(found.map(|at| row[at].clone()), expected);
        assert_eq!(judged(&row, count, false).0.equal, 1, "{count}");
    }
    let forged = |name: &str, value: Value| {
        let mut row = made(5);
        row[place(name)] = value;
        row
    };
    assert_eq!(judged(&made(5), 7, false).0.equal, 1, "nothing late came since");
    assert_eq!(judged(&made(5), 8, false).0.different, 1, "it lacks the last one");
    assert_eq!(judged(&forged("revision", Value::UInt(7)), 7, false).0.equal, 1, "a true one");
    let (outcome, text) = judged(&forged("revision", Value::UInt(8)), 7, false);
    assert_eq!((outcome.ahead, outcome.not_checkable, text.as_str()), (1, 1, ""));
    let early = judged(&forged("revision", Value::UInt(4)), 7, false).1;
    assert!(early.contains("revision is 4 stored, and the messages of the row stand"), "{early}");
    for (name, value) in [
        ("late_count", Value::UInt(2)),
        ("finality", Value::Text("final".into())),
        ("partial_state", Value::Text("AQ".into())),
    ] {
        let row = forged(name, value);
        assert!(judged(&row, 7, false).1.contains(&format!("{name} is ")), "{name}");
        // Where the input may have ended once, what was late is not known.
        assert_eq!(judged(&row, 7, true).0.equal, u64::from(name != "partial_state"), "{name}");
    }
}

#[test]
fn log_that_begins_late_is_a_note_and_more_messages_than_counted_are_a_difference() {
    let walk = |messages, late: Option<Position>| {
        Some((Walk { messages, began_late_at: late, ..Walk::default() }, None))
    };
    let count = |read: Read| count_of(&record(10), Ok(&read));
    assert_eq!(count(walk(10, None)), (Some(Ok(10)), None));
    assert_eq!(count(walk(9, None)), (Some(Ok(9)), None));
    assert_eq!(count(None), (Some(Ok(10)), None));
    let (counted, note) = count(walk(7, Some(Position::new(3, 0, 0))));
    let note = note.expect("a note");
    assert!(counted.is_none() && note.contains("begins at 3:0:0"), "{note}");
    assert!(note.contains("the 3 messages before are held against the store alone"), "{note}");
    assert_eq!(count(walk(11, Some(Position::new(3, 0, 0)))), (Some(Ok(11)), None));
    let why = "silent".to_owned();
    assert_eq!(count_of(&record(10), Err(&why)), (Some(Err(why.clone())), None));
}

#[test]
fn windows_without_rows_are_named_by_stretches() {
    let windows = [1, 2, 4, 8].map(|minute: i64| WindowRows {
        end_ms: minute * MINUTE_MS,
        row_count: 1,
        message_count: 1,
    });
    let found = gaps(&config(), &checklist::minutes(windows.iter())).expect("gaps");
    let expected = "4 of 8 windows have no row: 1970-01-01 00:03:00, 1970-01-01 00:05:00 to \
                    1970-01-01 00:07:00";
    assert_eq!(found, expected);
    assert_eq!(gaps(&config(), &checklist::minutes(windows[..2].iter())), None);
    assert_eq!(gaps(&config(), &Minutes::new()), None);
}

#[test]
fn rows_that_no_run_can_have_written_are_differences() {
    assert!(misfit_texts(&Misfits::default()).is_empty());
    let examples = vec!["off the grid: 2026-01-01 00:00:01 a".to_owned()];
    let misfits = Misfits { duplicate_row_keys: 2, off_grid_rows: 1, examples };
    let texts = misfit_texts(&misfits);
    assert_eq!(texts[0], "2 row keys stand there more than once");
    assert_eq!(texts[1], "1 rows are of no window of the grid");
    assert_eq!(texts[2], "off the grid: 2026-01-01 00:00:01 a");
}

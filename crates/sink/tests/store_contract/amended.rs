//! What every store gives of single rows, so that late messages can be merged into them.

use tidemill_engine::{
    port::{RowKey, Store, StoreError, StoredState},
    record::LaneId,
};
use tidemill_kernel::{key::KEY_PART_BYTES_MAX, row::RowBlock};
use tidemill_sink::{PartitionTotals, SinkError, Value};

use crate::{
    fixture::{DAY_S, Row, amendable_columns, commit, encode, lane, record},
    target::Target,
};

/// A row that carries a state.
#[derive(Clone, Debug)]
struct Kept {
    minute: u64,
    key: [String; 2],
    state: StoredState,
}

impl Kept {
    fn new(minute: u64, key: [&str; 2], revision: u64) -> Kept {
        let partial_state = format!("state/of+{key:?}@{minute}:{revision}");
        let late_count = revision as u32 + 7;
        let state = StoredState { revision, late_count, partial_state };
        Kept { minute, key: key.map(str::to_owned), state }
    }

    fn row_key(&self) -> RowKey {
        let end_ms = (DAY_S + self.minute * 60) as i64 * 1000;
        RowKey { end_ms, key: self.key.to_vec() }
    }

    fn values(&self, lane: &LaneId) -> Vec<Value> {
        let mut values = Row::new(self.minute, &self.key[0], 1.0, self.state.revision).values(lane);
        values[2] = Value::Text(self.key[1].clone());
        values.push(Value::UInt(self.state.late_count.into()));
        values.push(Value::Text("amended".into()));
        values.push(Value::Text(self.state.partial_state.clone()));
        values
    }
}

fn pieces(lane: &LaneId, rows: &[Kept]) -> Vec<RowBlock> {
    vec![encode(&amendable_columns(), rows.iter().map(|row| row.values(lane)))]
}

/// Asks for rows and returns their states.
fn ask(store: &mut dyn Store, lane: &LaneId, rows: &[Kept]) -> Vec<Option<StoredState>> {
    let keys: Vec<RowKey> = rows.iter().map(Kept::row_key).collect();
    store.stored(lane, &keys).unwrap()
}

fn states(rows: &[Kept]) -> Vec<Option<StoredState>> {
    rows.iter().map(|row| Some(row.state.clone())).collect()
}

pub(crate) fn stored_rows_are_found_by_keys_of_any_characters(target: Target) {
    let mut store = target.open(&amendable_columns()).unwrap();
    // The longest part of a key, and more than a statement may have unasked.
    let long = "'".repeat(KEY_PART_BYTES_MAX);
    let texts = [
        "",
        " ",
        "'",
        "''",
        "\"",
        "`",
        "\\",
        "\\'",
        "\\\\",
        "\0",
        "a\0b",
        "\\0",
        "\n\r\t",
        "?",
        "?1",
        "%_",
        "a), ('b",
        "x'); --",
        "{p:String}",
        "Z\u{fc}rich-\u{6771}",
        "\u{1f30a}",
        &long,
    ];
    let mut rows = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        let revision = at as u64 + 1;
        rows.push(Kept::new(1, [text, "a"], revision));
        rows.push(Kept::new(2, ["a", text], revision));
        rows.push(Kept::new(24 * 60 + 1, [text, text], revision));
    }
    store.write_rows(&pieces(&lane(), &rows)).unwrap();
    // Others have the same keys and other states.
    for (other, revision) in [
        (LaneId::new("sensors", "1"), 900),
        (LaneId::new("others", "0"), 901),
        (LaneId::new("sensors", "0'\\"), 902),
    ] {
        let foreign =
            rows.iter().map(|row| Kept::new(row.minute, [&row.key[0], &row.key[1]], revision));
        let foreign: Vec<Kept> = foreign.collect();
        store.write_rows(&pieces(&other, &foreign)).unwrap();
        assert_eq!(ask(&mut *store, &other, &foreign), states(&foreign));
    }
    assert_eq!(ask(&mut *store, &lane(), &rows), states(&rows));
    let backwards: Vec<Kept> = rows.iter().rev().cloned().collect();
    assert_eq!(ask(&mut *store, &lane(), &backwards), states(&backwards));

    // Rows that are not there, between one that is: another minute, the parts of the key the other
    // way round, a part that only begins alike.
    let there = Kept::new(2, ["a", "'"], 3);
    let missing = [
        Kept::new(3, ["a", "'"], 3),
        Kept::new(2, ["'", "a"], 3),
        there.clone(),
        Kept::new(2, ["a", "' "], 3),
        Kept::new(2, ["a", "x"], 3),
    ];
    let found = ask(&mut *store, &lane(), &missing);
    assert_eq!(found, [None, None, Some(there.state), None, None]);
    assert_eq!(ask(&mut *store, &LaneId::new("sensors", "2"), &rows[..3]), [None, None, None]);
}

pub(crate) fn as_many_stored_rows_are_found_as_are_asked_for(target: Target) {
    let mut store = target.open(&amendable_columns()).unwrap();
    assert_eq!(store.stored(&lane(), &[]).unwrap(), []);
    assert_eq!(ask(&mut *store, &lane(), &[Kept::new(1, ["s", "a"], 1)]), [None], "no row at all");
    let rows: Vec<Kept> = (0..1_700)
        .map(|at| Kept::new(1 + at % 40, [&format!("sensor_{at}"), "a"], at + 1))
        .collect();
    let (there, _): (Vec<Kept>, Vec<Kept>) =
        rows.iter().cloned().partition(|row| row.state.revision % 3 > 0);
    store.write_rows(&pieces(&lane(), &there)).unwrap();
    let expected: Vec<Option<StoredState>> =
        rows.iter().map(|row| (row.state.revision % 3 > 0).then(|| row.state.clone())).collect();
    assert_eq!(ask(&mut *store, &lane(), &rows), expected);
    for count in [1, 499, 500, 501, 1_000, 1_001] {
        assert_eq!(ask(&mut *store, &lane(), &rows[..count]), expected[..count], "{count} keys");
    }
}

pub(crate) fn stored_row_is_the_one_of_the_highest_revision(target: Target) {
    let mut store = target.open(&amendable_columns()).unwrap();
    let mut previous = None;
    for (number, revision) in [5, 9, 2, 9, 7].into_iter().enumerate() {
        let row = Kept::new(1, ["s", "a"], revision);
        let mut next = commit(previous, &[], Vec::new(), record(number as u64 + 1, 20, 0));
        next.rows = pieces(&lane(), std::slice::from_ref(&row));
        store.commit(&next).unwrap();
        previous = Some(next.record.id);
        // What is committed is seen at once.
        let highest = Kept::new(1, ["s", "a"], if number == 0 { 5 } else { 9 });
        assert_eq!(ask(&mut *store, &lane(), &[row]), states(&[highest]), "commit {number}");
    }
    let of_one_commit = [4, 12, 11].map(|revision| Kept::new(2, ["s", "a"], revision));
    store.write_rows(&pieces(&lane(), &of_one_commit)).unwrap();
    assert_eq!(ask(&mut *store, &lane(), &of_one_commit[..1]), states(&of_one_commit[1..2]));
    let largest = Kept {
        state: StoredState {
            revision: i64::MAX as u64,
            late_count: u32::MAX,
            partial_state: String::new(),
        },
        ..of_one_commit[0].clone()
    };
    store.write_rows(&pieces(&lane(), std::slice::from_ref(&largest))).unwrap();
    let mut again = target.open(&amendable_columns()).unwrap();
    assert_eq!(ask(&mut *again, &lane(), &of_one_commit[..1]), states(&[largest]));
}

pub(crate) fn rows_without_a_state_cannot_be_amended_and_their_table_says_why(target: Target) {
    let mut store = target.store();
    let rows = [Row::new(1, "sensor_1", 1.0, 1)];
    store.commit(&commit(None, &rows, Vec::new(), record(1, 1, 1))).unwrap();
    let key = Kept::new(1, ["sensor_1", "a"], 1).row_key();
    let refused = store.stored(&lane(), &[key]);
    let text = "rows have no column \"late_count\", so none can be amended";
    assert_eq!(refused, Err(StoreError::Refused(text.to_owned())));
    drop(store);
    let Err(error) = target.open(&amendable_columns()) else { panic!("columns are missing") };
    let SinkError::Columns { differences, .. } = &error else { panic!("{error}") };
    let missing = ["late_count", "finality", "partial_state"];
    assert_eq!(*differences, missing.map(|name| format!("column {name:?} is missing")));
    let remedy = "add them, set another table, or set late = \"dead_letter\"";
    assert!(error.to_string().ends_with(remedy), "{error}");

    assert_eq!(target.reader().totals("sensors").unwrap()[0].row_count_ahead, 0);

    // What it says is a way: rows from before are found, and carry no state.
    target.add_amend_columns();
    let mut store = target.open(&amendable_columns()).unwrap();
    let old = Kept::new(1, ["sensor_1", "a"], 1);
    let empty = StoredState { revision: 1, late_count: 0, partial_state: String::new() };
    assert_eq!(ask(&mut *store, &lane(), std::slice::from_ref(&old)), [Some(empty)]);
    let new = Kept::new(2, ["sensor_1", "a"], 2);
    store.write_rows(&pieces(&lane(), std::slice::from_ref(&new))).unwrap();
    // It is behind the commit, but of no closed window; then there is one of a closed window.
    let mut reader = target.reader_of(&amendable_columns());
    let mut totals = || reader.totals("sensors").unwrap().remove(0);
    let counts = |totals: PartitionTotals| (totals.row_count_closed, totals.row_count_ahead);
    assert_eq!(counts(totals()), (1, 0));
    store.write_rows(&pieces(&lane(), &[Kept::new(1, ["sensor_2", "a"], 2)])).unwrap();
    assert_eq!(counts(totals()), (2, 1));
    assert_eq!(ask(&mut *store, &lane(), std::slice::from_ref(&new)), states(&[new]));
}

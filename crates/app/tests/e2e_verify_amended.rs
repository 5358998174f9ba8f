//! `tidemill verify` and `tidemill replay` where late messages amend rows: every row is what all of
//! its messages give, wherever they stand in the log, what was damaged is found and repaired, and
//! a repaired row takes later messages as the sound one would.

mod e2e;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use e2e::place::{Place, said, tidemill};
use rusqlite::{Connection, types::Value};

const ALL: [&str; 4] = ["--sample", "100000", "--seed", "7"];

/// Ten minutes of ten devices, some of their messages late, and their rows.
struct Amended {
    place: Place,
    config: PathBuf,
}

impl Amended {
    /// `window` has further keys of the windows.
    fn new(window: &str) -> Amended {
        let options = ["--rate", "50", "--devices", "10", "--start-ms", "1767225600000"];
        let place = Place::of_messages(30_000, &options);
        delay(&place.path("messages.ndjson"));
        let config = place.path("tidemill.toml");
        let text = format!(
            "[pipeline]\nname = \"proof\"\ncommit_interval = \"20ms\"\n\
             [source.file]\npaths = [{:?}]\n[schema]\npreset = \"sensor\"\n\
             [window]\nsize = \"5s\"\nmax_out_of_orderness = \"0s\"\nlate = \"amend\"\n{window}\n\
             [sink.embedded]\npath = {:?}\ntable = \"sensors\"\n[http]\nenabled = false\n",
            place.path("messages.ndjson"),
            place.path("rows.db")
        );
        fs::write(&config, text).expect("the configuration is written");
        Amended { place, config }
    }

    /// Runs a command, which has to end with this status; returns what it said.
    fn ends(&self, command: &str, options: &[&str], status: i32) -> String {
        let output = tidemill(command, &self.config, options);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(status), "{command}: {said}");
        said
    }

    fn open(&self) -> Connection {
        Connection::open(self.place.path("rows.db")).expect("the store's file")
    }

    /// Changes so many rows.
    fn change(&self, count: usize, statement: &str) {
        assert_eq!(self.open().execute(statement, []).expect(statement), count, "{statement}");
    }

    fn number(&self, select: &str) -> i64 {
        self.open().query_row(select, [], |row| row.get(0)).expect(select)
    }

    /// The rows by device and time, without `left_out`; floats by their bits.
    fn rows(&self, left_out: &[&str]) -> BTreeMap<String, String> {
        let store = self.open();
        let mut statement = store.prepare("SELECT * FROM sensors_rows").expect("the rows");
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut rows = statement.query([]).expect("the rows");
        let mut found = BTreeMap::new();
        while let Some(row) = rows.next().expect("a row") {
            let value = |name: &str| match row.get(name).expect("a value") {
                Value::Real(value) => format!("{:x}", value.to_bits()),
                value => format!("{value:?}"),
            };
            let kept = names.iter().filter(|name| !left_out.contains(&name.as_str()));
            let text: Vec<String> = kept.map(|name| format!("{name}={}", value(name))).collect();
            found.insert(value("device_id") + " " + &value("time"), text.join(" "));
        }
        found
    }
}

/// Moves every 53rd line back by up to several minutes.
fn delay(path: &Path) {
    let text = fs::read_to_string(path).expect("the messages");
    let place = |at: usize| if at.is_multiple_of(53) { at + at * 7 % 20_000 } else { at };
    let mut lines: Vec<(usize, &str)> =
        text.lines().enumerate().map(|(at, line)| (place(at), line)).collect();
    lines.sort_by_key(|(place, _)| *place);
    let text: String = lines.iter().map(|(_, line)| format!("{line}\n")).collect();
    fs::write(path, text).expect("the messages are written");
}

#[test]
fn rows_that_late_messages_amended_are_computed_again_and_repaired() {
    for window in ["", "allowed_lateness = \"7s\"", "idle_timeout = \"1s\""] {
        let store = Amended::new(window);
        store.ends("run", &[], 0);
        let late = store.number("SELECT sum(late_count) FROM sensors_rows");
        assert!(late > 100, "{window}: {late} messages came late");
        assert_eq!(store.number("SELECT late FROM sensors_commits"), 0);
        let rows = store.number("SELECT count(*) FROM sensors_rows");
        let said = store.ends("verify", &ALL, 0);
        let all = format!("{rows} of {rows} rows computed again from raw messages: {rows} equal");
        assert!(said.contains(&all) && said.contains("  proved\n"), "{window}: {said}");
        let said = store.ends("replay", &["--diff"], 0);
        assert!(said.contains(&format!("{rows} as their messages give them, 0 diff")), "{said}");
        let sound = store.rows(&[]);
        let said = store.ends("replay", &["--write"], 0);
        assert!(said.contains("0 rows written"), "{said}");
        assert_eq!(store.rows(&[]), sound);

        let amended = "FROM sensors_rows WHERE finality = 'amended' ORDER BY time LIMIT 1";
        let key = format!("(time, device_id) = (SELECT time, device_id {amended}");
        for change in [
            format!("UPDATE sensors_rows SET humidity = humidity + 1e-9 WHERE {key})"),
            format!("UPDATE sensors_rows SET partial_state = '' WHERE {key} OFFSET 1)"),
            format!(
                "UPDATE sensors_rows SET record_count = record_count - 1 WHERE {key} OFFSET 2)"
            ),
            "DELETE FROM sensors_rows WHERE time = (SELECT max(time) FROM sensors_rows)".to_owned(),
            // A row that has none but late messages, or as if it had.
            format!("DELETE FROM sensors_rows WHERE {key} OFFSET 3)"),
        ] {
            assert!(store.open().execute(&change, []).expect(&change) > 0, "{change}");
        }
        let said = store.ends("verify", &ALL, 1);
        for found in ["humidity is ", "partial_state is ", "record_count is "] {
            assert!(said.contains(found), "{window}: {found}: {said}");
        }
        store.ends("replay", &["--diff"], 1);
        let said = store.ends("replay", &["--write"], 0);
        assert!(said.contains(", 0 different, 0 not checkable"), "{window}: {said}");
        let said = store.ends("replay", &["--write"], 0);
        assert!(said.contains("0 rows written"), "{said}");
        store.ends("verify", &ALL, 0);
        // A row that was deleted has another true revision than the one it had.
        let unlike = ["revision"];
        let plain = |rows: &BTreeMap<String, String>| rows.keys().cloned().collect::<Vec<_>>();
        assert_eq!(plain(&store.rows(&unlike)), plain(&sound));
        let written = store.rows(&["revision"]);
        let before: Vec<String> = sound.values().map(|row| without_revision(row)).collect();
        assert_eq!(written.into_values().collect::<Vec<_>>(), before, "{window}");
    }
}

fn without_revision(row: &str) -> String {
    let kept = row.split(' ').filter(|value| !value.starts_with("revision="));
    kept.collect::<Vec<_>>().join(" ")
}

#[test]
fn repaired_rows_take_later_messages_as_sound_ones_do() {
    let store = Amended::new("");
    let whole = fs::read_to_string(store.place.path("messages.ndjson")).expect("the messages");
    // What is held back are late messages for the windows before, and more.
    let lines: Vec<&str> = whole.lines().collect();
    let first = |line: usize| !line.is_multiple_of(7) || line > 20_000;
    let part = |wanted: bool| {
        let lines = lines.iter().enumerate().filter(|(at, _)| first(*at) == wanted);
        lines.map(|(_, line)| format!("{line}\n")).collect::<String>()
    };
    fs::write(store.place.path("messages.ndjson"), part(true)).expect("written");
    store.ends("run", &[], 0);
    // As if none had a state, and some were not there at all.
    store.change(
        store.number("SELECT count(*) FROM sensors_rows") as usize,
        "UPDATE sensors_rows SET partial_state = '', late_count = 0",
    );
    store.ends("verify", &ALL, 1);
    store.open().execute("DELETE FROM sensors_rows WHERE time % 3 = 0", []).expect("deleted");
    store.ends("replay", &["--write"], 0);
    store.ends("verify", &ALL, 0);
    let both = part(true) + &part(false);
    fs::write(store.place.path("messages.ndjson"), &both).expect("written");
    store.ends("run", &[], 0);
    assert_eq!(store.number("SELECT late FROM sensors_commits"), 0, "all are merged");
    let said = store.ends("verify", &ALL, 0);
    assert!(said.contains("0 different, 0 not checkable"), "{said}");
    store.ends("replay", &["--diff"], 0);

    let other = Amended::new("");
    fs::write(other.place.path("messages.ndjson"), &both).expect("written");
    other.ends("run", &[], 0);
    let unlike = ["revision", "late_count", "finality"];
    assert_eq!(store.rows(&unlike), other.rows(&unlike));
}

#[test]
fn row_ahead_of_its_commit_is_no_difference_and_cannot_be_checked() {
    let store = Amended::new("");
    store.ends("run", &[], 0);
    let place = "(time, device_id) = (SELECT time, device_id FROM sensors_rows \
                 WHERE finality = 'amended' LIMIT 1)";
    store.change(
        1,
        &format!(
            "UPDATE sensors_rows SET revision = 30001, record_count = record_count + 1 \
             WHERE {place}"
        ),
    );
    for (command, options) in
        [("verify", &ALL[..]), ("replay", &["--diff"]), ("replay", &["--write"])]
    {
        let said = store.ends(command, options, 2);
        let ahead = "1 rows of closed windows hold late messages behind the last commit";
        assert!(said.contains(ahead) && !said.contains("DIFFERENCE"), "{command}: {said}");
    }
    assert_eq!(store.number(&format!("SELECT revision FROM sensors_rows WHERE {place}")), 30_001);
}

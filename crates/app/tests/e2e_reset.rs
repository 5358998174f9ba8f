//! Operators' decisions about commits, as a user meets them: a store that somebody else writes, a
//! configuration or a log that no longer fits the records, and what `reset` makes of it, in each
//! kind of store.

mod e2e;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use e2e::{
    TIDEMILL,
    job::{Run, Store},
    place::{said, tidemill},
    services::{self, Version},
};
use tempfile::TempDir;

/// A folder with a configuration that is written anew for each run, and a store.
struct Place {
    directory: TempDir,
    store: Store,
    /// What readers read.
    table: String,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().expect("a temporary folder");
        Place { directory, store: Store::Embedded, table: "sensors".to_owned() }
    }

    /// A database of its own on a server.
    fn on(version: Version, database: &str) -> Place {
        let url = version.url();
        let query = format!("DROP DATABASE IF EXISTS {database}");
        services::ask(&url, &query).expect("the server answers");
        let table = format!("{database}.sensors");
        Place { store: Store::server(&url), table, ..Place::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a configuration that generates messages without end.
    fn config(&self, generation: u32, generate: &str, window: &str) -> PathBuf {
        let text = format!(
            "[pipeline]\nname = \"reset\"\ngeneration = {generation}\n\
             commit_interval = \"50ms\"\n\
             [source.generate]\npace = \"fast\"\nrate_per_s = 100\ndevices = 10\n\
             partitions = 2\n{generate}\n\
             [schema]\npreset = \"sensor\"\n[window]\n{window}\n\
             {}table = \"{}\"\n[http]\nenabled = false\n",
            self.sink(),
            self.table
        );
        let path = self.path("tidemill.toml");
        fs::write(&path, text).expect("the configuration is written");
        path
    }

    fn sink(&self) -> String {
        match &self.store {
            Store::Embedded => {
                let path = self.path("rows.db");
                format!("[sink.embedded]\npath = {path:?}\nbusy_timeout = \"500ms\"\n")
            }
            Store::ClickHouse { url, .. } => format!("[sink.clickhouse]\nurl = \"{url}\"\n"),
        }
    }

    /// Runs until both partitions have closed windows and have others open, then stops in order.
    fn run_for_a_while(&self, config: &Path) {
        let mut run = Run::start(&[Path::new("run"), config], &self.path("run.log"));
        for partition in 0..2 {
            run.until_logged(&format!("window closed partition={partition} "));
        }
        run.terminate();
    }

    /// Runs to the end, which has to be a failure, and returns what was logged.
    fn run_that_fails(&self, config: &Path) -> String {
        let mut run = Run::start(&[Path::new("run"), config], &self.path("run.log"));
        assert_eq!(run.until_ended().code(), Some(1), "{}", run.logged());
        run.logged()
    }

    /// Asks for a number of the rows that readers see.
    fn of_rows(&self, what: &str) -> i64 {
        self.ask(&format!("SELECT {what} FROM {}", self.table))
    }

    /// Asks for a number of the newest commit of each partition.
    fn of_commits(&self, what: &str) -> i64 {
        let commits = match &self.store {
            Store::Embedded => format!("{}_commits", self.table),
            Store::ClickHouse { .. } => format!(
                "(SELECT * FROM {}_commits \
                 ORDER BY revision DESC, closed_until_ms DESC, commit_number DESC \
                 LIMIT 1 BY pipeline, partition)",
                self.table
            ),
        };
        self.ask(&format!("SELECT {what} FROM {commits}"))
    }

    fn ask(&self, sql: &str) -> i64 {
        match &self.store {
            Store::Embedded => {
                let store = rusqlite::Connection::open(self.path("rows.db"));
                let store = store.expect("the store's file");
                store.query_row(sql, [], |row| row.get(0)).expect("an answer")
            }
            Store::ClickHouse { url, .. } => {
                let answer = services::ask(url, sql).expect("an answer");
                answer.parse().unwrap_or_else(|_| panic!("{sql}: {answer}"))
            }
        }
    }
}

/// Runs a command to its end and types something into it.
fn typing(typed: &str, command: &str, config: &Path, more: &[&str]) -> Output {
    let mut child = Command::new(TIDEMILL)
        .arg(command)
        .arg(config)
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tidemill can be run");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A command that does not ask does not read either.
    let _ = stdin.write_all(typed.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("its output")
}

/// Expects that every message is accounted for.
fn prove(config: &Path) -> String {
    let verified = tidemill("verify", config, &[]);
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
    said(&verified)
}

#[test]
fn second_process_on_a_store_is_told_which_one_writes_it() {
    let place = Place::new();
    let config = place.config(0, "", "");
    let mut first = Run::start(&[Path::new("run"), &config], &place.path("first.log"));
    first.until_logged("window closed");
    for command in ["run", "reset"] {
        let second = tidemill(command, &config, &[]);
        let said = said(&second);
        assert!(!second.status.success(), "{said}");
        let who = format!("process {} writes table \"sensors\" of", first.pid());
        assert!(said.contains(&who) && said.contains("stop it, or write another path"), "{said}");
    }
    first.must_run();
    // The lock dies with its process, however that ends.
    first.kill();
    place.run_for_a_while(&config);
    prove(&config);
}

#[test]
fn reset_asks_and_needs_a_generation_and_then_all_is_read_again() {
    forget(&Place::new());
}

#[test]
fn reset_on_a_server_has_all_read_again() {
    Version::ALL.into_iter().for_each(|version| forget(&Place::on(version, "reset_forget")));
}

fn forget(place: &Place) {
    let finite = "messages = 30000";
    let config = place.config(0, finite, "");
    let nothing = tidemill("reset", &config, &["--yes"]);
    assert_eq!(nothing.status.code(), Some(2), "{}", said(&nothing));
    assert_eq!(tidemill("run", &config, &[]).status.code(), Some(0));
    let (rows, messages) = (place.of_rows("count(*)"), place.of_rows("sum(record_count)"));
    let too_low = tidemill("reset", &config, &["--yes"]);
    assert_eq!(too_low.status.code(), Some(2));
    assert!(said(&too_low).contains("write generation = 1 into [pipeline]"), "{}", said(&too_low));

    let config = place.config(1, finite, "");
    let refused = typing("resett\n", "reset", &config, &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("nothing was changed"), "{}", said(&refused));
    assert_eq!(place.of_commits("max(generation)"), 0);
    let wrong = tidemill("reset", &config, &["--yes", "--partition", "7"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", said(&wrong));
    let done = typing("reset\n", "reset", &config, &[]);
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    assert!(said(&done).contains("begins as if nothing was ever committed"), "{}", said(&done));
    assert!(prove(&config).contains("rows from before a reset"));

    assert_eq!(tidemill("run", &config, &[]).status.code(), Some(0));
    let proved = prove(&config);
    assert!(!proved.contains("rows from before a reset"), "all were replaced: {proved}");
    assert_eq!(place.of_rows("count(*)"), rows);
    assert_eq!(place.of_rows("sum(record_count)"), messages);
    assert!(place.of_rows("min(revision)") >= 1 << 44, "rows of generation 1");
}

#[test]
fn log_that_is_not_the_one_of_the_records_stops_and_the_loss_is_counted() {
    accept_loss(&Place::new());
}

#[test]
fn loss_accepted_on_a_server_is_counted() {
    Version::ALL.into_iter().for_each(|version| accept_loss(&Place::on(version, "reset_loss")));
}

fn accept_loss(place: &Place) {
    let config = place.config(0, "", "");
    place.run_for_a_while(&config);
    prove(&config);
    assert!(place.of_commits("sum(open)") > 100);

    let other = "malformed_ratio = 0.5";
    // None is as it was: with half of them, a lane of few open messages might not notice.
    let logged = place.run_that_fails(&place.config(0, "malformed_ratio = 1.0", ""));
    assert!(logged.contains("the log has changed"), "{logged}");
    assert!(logged.contains("tidemill reset CONFIG --accept-loss"), "{logged}");

    let config = place.config(1, other, "");
    let done = tidemill("reset", &config, &["--accept-loss", "--yes"]);
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    assert!(said(&done).contains("their other messages are counted as lost"), "{}", said(&done));
    let lost = place.of_commits("sum(lost)");
    assert!(lost > 100, "{lost}");
    prove(&config);
    place.run_for_a_while(&config);
    assert!(prove(&config).contains("accepted as lost"));
    assert_eq!(place.of_commits("sum(lost)"), lost);
    assert_eq!(place.of_commits("sum(messages - aggregated - open - late - rejected)"), lost);
}

#[test]
fn configuration_that_changes_rows_is_refused_until_the_generation_is_raised() {
    let place = Place::new();
    place.run_for_a_while(&place.config(0, "", ""));
    let logged = place.run_that_fails(&place.config(0, "", "size = \"30s\""));
    assert!(
        logged.contains("window.size_ms") && logged.contains("pipeline.generation"),
        "{logged}"
    );
    let raised = place.config(1, "", "size = \"30s\"");
    place.run_for_a_while(&raised);
    prove(&raised);
    let lengths = "count(DISTINCT time - window_start)";
    assert_eq!(place.of_rows(lengths), 2, "rows of closed windows stay");
    let lower = place.run_that_fails(&place.config(0, "", "size = \"30s\""));
    assert!(lower.contains("generation 1, this run has 0"), "{lower}");
}

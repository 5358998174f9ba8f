//! Operators' decisions about commits, as a user meets them: a store that somebody else writes, a
//! configuration or a log that no longer fits the records, and what `reset` makes of it.

mod e2e;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use e2e::{TIDEMILL, job::Run};
use tempfile::TempDir;

/// A folder with a store and a configuration that is written anew for each run.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { directory: tempfile::tempdir().expect("a temporary folder") }
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
             [sink.embedded]\npath = {:?}\ntable = \"sensors\"\nbusy_timeout = \"500ms\"\n\
             [http]\nenabled = false\n",
            self.path("rows.db")
        );
        let path = self.path("tidemill.toml");
        fs::write(&path, text).expect("the configuration is written");
        path
    }

    /// Runs until windows are closed and others are open, then stops in order.
    fn run_for_a_while(&self, config: &Path) {
        let mut run = Run::start(&[Path::new("run"), config], &self.path("run.log"));
        run.until_logged("window closed");
        run.terminate();
    }

    /// Runs to the end, which has to be a failure, and returns what was logged.
    fn run_that_fails(&self, config: &Path) -> String {
        let mut run = Run::start(&[Path::new("run"), config], &self.path("run.log"));
        assert_eq!(run.until_ended().code(), Some(1), "{}", run.logged());
        run.logged()
    }

    fn ask(&self, sql: &str) -> i64 {
        let store = rusqlite::Connection::open(self.path("rows.db")).expect("the store's file");
        store.query_row(sql, [], |row| row.get(0)).expect("an answer")
    }
}

fn tidemill(command: &str, config: &Path, more: &[&str]) -> Output {
    typing("", command, config, more)
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

fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
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
    let place = Place::new();
    let finite = "messages = 30000";
    let config = place.config(0, finite, "");
    let nothing = tidemill("reset", &config, &["--yes"]);
    assert_eq!(nothing.status.code(), Some(2), "{}", said(&nothing));
    assert_eq!(tidemill("run", &config, &[]).status.code(), Some(0));
    let (rows, messages) = (
        place.ask("SELECT count(*) FROM sensors_rows"),
        place.ask("SELECT sum(record_count) FROM sensors_rows"),
    );
    let too_low = tidemill("reset", &config, &["--yes"]);
    assert_eq!(too_low.status.code(), Some(2));
    assert!(said(&too_low).contains("write generation = 1 into [pipeline]"), "{}", said(&too_low));

    let config = place.config(1, finite, "");
    let refused = typing("resett\n", "reset", &config, &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("nothing was changed"), "{}", said(&refused));
    assert_eq!(place.ask("SELECT max(generation) FROM sensors_commits"), 0);
    let wrong = tidemill("reset", &config, &["--yes", "--partition", "7"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", said(&wrong));
    let done = typing("reset\n", "reset", &config, &[]);
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    assert!(said(&done).contains("begins as if nothing was ever committed"), "{}", said(&done));
    assert!(prove(&config).contains("rows from before a reset"));

    assert_eq!(tidemill("run", &config, &[]).status.code(), Some(0));
    let proved = prove(&config);
    assert!(!proved.contains("rows from before a reset"), "all were replaced: {proved}");
    assert_eq!(place.ask("SELECT count(*) FROM sensors_rows"), rows);
    assert_eq!(place.ask("SELECT sum(record_count) FROM sensors_rows"), messages);
    assert_eq!(place.ask("SELECT min(revision >> 44) FROM sensors_rows"), 1);
}

#[test]
fn log_that_is_not_the_one_of_the_records_stops_and_the_loss_is_counted() {
    let place = Place::new();
    let config = place.config(0, "", "");
    place.run_for_a_while(&config);
    prove(&config);
    assert!(place.ask("SELECT sum(open) FROM sensors_commits") > 100);

    let other = "malformed_ratio = 0.5";
    let logged = place.run_that_fails(&place.config(0, other, ""));
    assert!(logged.contains("the log has changed"), "{logged}");
    assert!(logged.contains("tidemill reset CONFIG --accept-loss"), "{logged}");

    let config = place.config(1, other, "");
    let done = tidemill("reset", &config, &["--accept-loss", "--yes"]);
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    assert!(said(&done).contains("their other messages are counted as lost"), "{}", said(&done));
    let lost = place.ask("SELECT sum(lost) FROM sensors_commits");
    assert!(lost > 100, "{lost}");
    prove(&config);
    place.run_for_a_while(&config);
    assert!(prove(&config).contains("accepted as lost"));
    assert_eq!(place.ask("SELECT sum(lost) FROM sensors_commits"), lost);
    assert_eq!(
        place
            .ask("SELECT sum(messages - aggregated - open - late - rejected) FROM sensors_commits"),
        lost
    );
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
    let lengths = "SELECT count(DISTINCT time - window_start) FROM sensors_rows";
    assert_eq!(place.ask(lengths), 2, "rows of closed windows stay");
    let lower = place.run_that_fails(&place.config(0, "", "size = \"30s\""));
    assert!(lower.contains("generation 1, this run has 0"), "{lower}");
}

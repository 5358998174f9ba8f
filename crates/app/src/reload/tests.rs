//! What a reload makes of changed files, without a pipeline.

use std::{fs, thread};

use super::*;
use crate::config::keys::TABLES;

const FILE: &str = "[pipeline]\nname = \"p\"\n[source.stdin]\n[schema]\npreset = \"sensor\"\n\
                    [window]\nsize = \"1m\"\n[sink.stdout]\n";

/// Reloads `to` where `from` runs; returns the answer and the settings that the pipeline got.
fn reload(from: &str, to: &str) -> (Answer, Option<Settings>) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let config = Config::parse("t.toml", from, &|_| None).expect("it is right");
    let metrics = Arc::new(Metrics::default());
    let (reloader, orders) = Reloader::new(file.path().to_owned(), config, false, metrics);
    fs::write(file.path(), to).expect("it is written");
    let pipeline = thread::spawn(move || orders.recv().ok().map(|order| order.settings));
    let answer = reloader.reload("a test");
    drop(reloader);
    (answer, pipeline.join().expect("it does not panic"))
}

#[test]
fn same_values_written_otherwise_change_nothing() {
    let (answer, _) = reload(FILE, &FILE.replace("\"1m\"", "\"60s\"\nidle_timeout = \"10000ms\""));
    assert_eq!(answer, Answer::default());
}

#[test]
fn keys_are_told_apart_by_when_they_hold() {
    let to =
        FILE.replace("[window]", "[http]\nenabled = false\n[window]\nallowed_lateness = \"9s\"");
    let to = to.replace("\"p\"", "\"p\"\nlog_windows = true").replace("\"1m\"", "\"2m\"");
    let (answer, settings) = reload(FILE, &to);
    assert_eq!(answer.applied_now, ["pipeline.log_windows"]);
    assert_eq!(answer.at_next_window_edge, ["window.allowed_lateness"]);
    assert_eq!(answer.needs_restart, ["http.enabled", "window.size"]);
    let settings = settings.expect("an order");
    assert!(settings.log_windows);
    assert_eq!(settings.lane.timing.allowed_lateness.as_ms(), 9_000);
}

#[test]
fn another_source_or_field_needs_a_restart() {
    let (answer, _) = reload(FILE, &FILE.replace("source.stdin", "source.generate"));
    assert!(answer.needs_restart.contains(&"source.stdin".to_owned()), "{answer:?}");
    assert!(answer.needs_restart.contains(&"source.generate".to_owned()), "{answer:?}");
    assert_eq!((answer.applied_now.len(), answer.at_next_window_edge.len()), (0, 0));
    let field = "[[schema.field]]\nname = \"x\"\nrole = \"gauge\"\n[window]";
    let (answer, _) = reload(FILE, &FILE.replace("[window]", field));
    assert!(answer.needs_restart.contains(&"schema.field.x.role".to_owned()), "{answer:?}");
}

#[test]
fn file_that_check_refuses_changes_nothing_and_tells_nobody() {
    for to in ["nonsense", &FILE.replace("size", "sise")] {
        let (answer, settings) = reload(FILE, to);
        assert!(answer.error.as_ref().is_some_and(|error| !error.is_empty()));
        assert_eq!((&answer, settings), (&Answer::refused(answer.error.clone().unwrap()), None));
    }
}

#[test]
fn values_that_fit_only_a_window_size_that_is_yet_to_come_are_refused() {
    let to = FILE.replace("\"1m\"", "\"1h\"\nallowed_lateness = \"20d\"");
    let (answer, settings) = reload(FILE, &to);
    assert!(answer.error.is_some_and(|error| error.contains("windows would be open at once")));
    assert_eq!(settings, None);
}

#[test]
fn merged_lanes_have_no_edge_in_common() {
    let any = FILE.replace("\"p\"", "\"p\"\nrouting = \"any\"");
    let to = any.replace("[window]", "[window]\nallowed_lateness = \"9s\"");
    let (answer, settings) = reload(&any, &to);
    assert_eq!(answer.needs_restart, ["window.allowed_lateness"]);
    assert_eq!(settings.expect("an order").lane.timing.allowed_lateness.as_ms(), 0);
}

/// Everything that may change reaches the pipeline: a key of a kind that is not passed on would be
/// reported as applied and be nowhere.
#[test]
fn every_key_that_may_change_reaches_the_pipeline() {
    let other = |name: &str| match name {
        "log_windows" => "true",
        "open_windows_max" => "900",
        "letters_per_commit_max" | "commits_in_flight_max" => "7",
        "dead_letter_bytes_max" => "\"7KiB\"",
        "memory_max" => "\"77MiB\"",
        "retry_pause_max" => "\"7s\"",
        "retry_pause_min" => "\"7ms\"",
        _ => "\"7s\"",
    };
    let before =
        Config::parse("t.toml", FILE, &|_| None).expect("it is right").engine(0).settings();
    let mut count = 0;
    for table in TABLES {
        for key in table.keys.iter().filter(|key| key.change != Change::Restart) {
            let heading = format!("[{}]", table.path);
            let line = format!("{heading}\n{} = {}", key.name, other(key.name));
            let to = match FILE.contains(&heading) {
                true => FILE.replace(&heading, &line),
                false => format!("{FILE}{line}\n"),
            };
            let (answer, settings) = reload(FILE, &to);
            assert_eq!((answer.error, answer.needs_restart.len()), (None, 0), "{}", key.name);
            // That one is only looked at while a file is checked.
            let is_passed_on = settings.expect("an order") != before;
            assert_eq!(is_passed_on, key.name != "open_windows_max", "{}", key.name);
            count += 1;
        }
    }
    assert_eq!(count, 14);
}

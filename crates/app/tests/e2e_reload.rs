//! A configuration that changes under a running process: by signal and by HTTP, refused and
//! applied, with a kill while lanes go over, and no message lost or counted twice.

mod e2e;

use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use e2e::{
    TIDEMILL,
    place::{said, tidemill},
    until,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;

struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes the configuration with these lines beside the usual ones.
    fn config(&self, pipeline: &str, window: &str, limits: &str) -> PathBuf {
        let text = format!(
            "[pipeline]\nname = \"reload\"\n{pipeline}\n[source.stdin]\n\
             [[schema.field]]\nname = \"device\"\nrole = \"key\"\n\
             [[schema.field]]\nname = \"time\"\nrole = \"time\"\n\
             [window]\n{window}\n[sink.embedded]\npath = {:?}\ntable = \"rows\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\n[limits]\n{limits}\n",
            self.path("rows.db")
        );
        let path = self.path("reload.toml");
        fs::write(&path, text).expect("the configuration is written");
        path
    }

    fn ask<T: rusqlite::types::FromSql>(&self, query: &str) -> Vec<T> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let Ok(store) = rusqlite::Connection::open_with_flags(self.path("rows.db"), flags) else {
            return Vec::new();
        };
        let Ok(mut statement) = store.prepare(query) else { return Vec::new() };
        let rows = statement.query_map([], |row| row.get(0)).expect("a query");
        // One that is busy is asked again.
        rows.filter_map(Result::ok).collect()
    }

    fn until_processed(&self, messages: i64) {
        until("messages are committed", || {
            (self.ask::<i64>("SELECT messages FROM rows_commits") == [messages]).then_some(())
        });
    }
}

/// A process that is fed by hand.
struct Fed {
    child: Child,
    log: PathBuf,
    address: String,
}

impl Fed {
    fn start(place: &Place, config: &PathBuf, name: &str) -> Fed {
        let log = place.path(name);
        let child = Command::new(TIDEMILL)
            .arg("run")
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log file"))
            .spawn()
            .expect("tidemill can be run");
        let mut fed = Fed { child, log, address: String::new() };
        fed.address = until("an address", || {
            let logged = fed.logged();
            let line = logged.lines().find(|line| line.contains("http endpoint"))?;
            Some(line.split_once("address=")?.1.split_whitespace().next()?.to_owned())
        });
        fed
    }

    fn logged(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn until_logged(&self, text: &str) {
        until(text, || self.logged().contains(text).then_some(()));
    }

    fn feed(&mut self, seconds: &[i64]) {
        let lines = seconds.iter().map(|second| {
            let time = START_MS + second * 1_000;
            format!("{{\"device\":\"a\",\"time\":{time}}}\n")
        });
        let pipe = self.child.stdin.as_mut().expect("a pipe");
        pipe.write_all(lines.collect::<String>().as_bytes()).expect("it reads");
        pipe.flush().expect("it reads");
    }

    fn hang_up(&self) {
        let pid = self.child.id().to_string();
        let sent =
            Command::new("kill").args(["-s", "HUP", &pid]).status().expect("kill can be run");
        assert!(sent.success());
    }

    /// Asks by HTTP; returns status and answer.
    fn call(&self, method: &str, path: &str) -> (u16, String) {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let url = format!("http://{}{path}", self.address);
        let answer = match method {
            "GET" => agent.get(&url).call(),
            _ => agent.post(&url).send_empty(),
        };
        let mut answer = answer.expect("an answer");
        (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
    }

    fn post(&self) -> (u16, Value) {
        let (status, text) = self.call("POST", "/api/reload");
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    fn kill(mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Closes its input and waits for its end.
    fn finish(mut self) {
        drop(self.child.stdin.take());
        let status = until("its end", || self.child.try_wait().expect("it can be waited for"));
        assert!(status.success(), "{status}: {}", self.logged());
    }
}

const WINDOW: &str = "size = \"1m\"\nmax_out_of_orderness = \"0s\"";
const PIPELINE: &str = "commit_interval = \"20ms\"";

#[test]
fn values_go_over_at_an_edge_and_a_kill_on_the_way_changes_no_row() {
    let place = Place::new();
    let config = place.config(PIPELINE, WINDOW, "");
    let mut first = Fed::start(&place, &config, "first.log");
    first.feed(&[10, 50]);
    place.until_processed(2);

    // What `check` refuses changes nothing, whoever asks.
    place.config(PIPELINE, "sise = \"1m\"", "");
    first.hang_up();
    first.until_logged("reload refused, nothing changed");
    let (status, answer) = first.post();
    assert_eq!((status, &answer["applied_now"]), (422, &json!([])));
    assert!(answer["error"].as_str().expect("text").contains("window.sise"), "{answer}");
    assert_eq!(first.call("GET", "/api/reload").0, 405);

    // One key of each kind.
    let late = "size = \"60s\"\nmax_out_of_orderness = \"30s\"";
    place.config("commit_interval = \"30ms\"", late, "queue_bytes_max = \"8MiB\"");
    let (status, answer) = first.post();
    let edge = json!({"key": "window.max_out_of_orderness", "edge": "2026-01-01T00:01:00Z"});
    assert_eq!(
        (status, answer),
        (
            200,
            json!({
                "applied_now": ["pipeline.commit_interval"],
                "at_next_window_edge": [edge],
                "lanes": {"stdin": "2026-01-01T00:01:00Z"},
                "needs_restart": ["limits.queue_bytes_max"],
                "error": null,
            })
        )
    );
    // Nothing has changed since, but what needs a restart.
    first.hang_up();
    first.until_logged("by=\"SIGHUP\" applied_now=\"\" at_next_window_edge=\"\"");
    let (_, metrics) = first.call("GET", "/metrics");
    for (outcome, count) in [("applied", 0), ("partial", 2), ("refused", 2)] {
        let line = format!("tidemill_config_reloads_total{{outcome=\"{outcome}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    until("the edge is durable", || {
        (place.ask::<i64>("SELECT format FROM rows_commits") == [4]).then_some(())
    });
    first.kill();

    // The next process has the new file alone. The first minute closes by the old value: 30 is
    // late. The second closes by the new one: 110 comes in time.
    let mut second = Fed::start(&place, &config, "second.log");
    second.feed(&[10, 50, 65, 30, 149, 110, 150, 100]);
    place.until_processed(8);
    assert_eq!(place.ask::<i64>("SELECT format FROM rows_commits"), [3], "it has gone over");
    second.finish();
    let rows = place.ask::<i64>("SELECT record_count FROM rows ORDER BY time");
    assert_eq!(rows, [2, 2, 2]);
    let letters = place.ask::<String>("SELECT payload FROM rows_dead_letters ORDER BY offset");
    let late = |second: i64| format!("{{\"device\":\"a\",\"time\":{}}}", START_MS + second * 1_000);
    assert_eq!(letters, [late(30), late(100)]);
    let verified = tidemill("verify", &config, &[]);
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
    assert!(said(&verified).contains("proved"), "{}", said(&verified));
}

#[test]
fn process_that_still_has_the_old_values_stops_the_lane_and_says_what_to_do() {
    let place = Place::new();
    let config = place.config(PIPELINE, WINDOW, "");
    let mut first = Fed::start(&place, &config, "first.log");
    first.feed(&[10]);
    place.until_processed(1);
    place.config(PIPELINE, "allowed_lateness = \"20s\"\nmax_out_of_orderness = \"0s\"", "");
    first.hang_up();
    first.until_logged("configuration reloaded");
    until("the edge is durable", || {
        (place.ask::<i64>("SELECT format FROM rows_commits") == [4]).then_some(())
    });
    first.kill();
    place.config(PIPELINE, WINDOW, "");
    let mut old = Fed::start(&place, &config, "old.log");
    let status = until("its end", || old.child.try_wait().expect("it can be waited for"));
    assert_eq!(status.code(), Some(1), "{}", old.logged());
    assert!(old.logged().contains("window.allowed_lateness_ms"), "{}", old.logged());
    assert!(old.logged().contains("reload or restart this one"), "{}", old.logged());
}

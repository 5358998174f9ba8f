//! A topic that is deleted and made anew, and one of another cluster: the lane stops, names the
//! remedy, and no message of one topic gets into a row of the other. And a topic of two processes:
//! one reads, the other says that it stands by.

mod e2e;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use e2e::{
    TIDEMILL,
    job::Run,
    place::{said, tidemill},
    services::{admin_delete, broker},
    until,
};
use rusqlite::OpenFlags;
use tempfile::TempDir;

/// Messages that are sent at a time.
const MESSAGES: i64 = 20_000;

/// A topic that is not partitioned, and a pipeline that reads it by publish time.
struct Place {
    directory: TempDir,
    topic: String,
}

impl Place {
    fn new(name: &str) -> Place {
        let topic = format!("{name}-{}", std::process::id());
        Place { directory: tempfile::tempdir().expect("a temporary folder"), topic }
    }

    fn config(&self, generation: u32) -> PathBuf {
        let path = self.directory.path().join("tidemill.toml");
        let text = format!(
            "[pipeline]\nname = \"anew\"\ngeneration = {generation}\ncommit_interval = \"100ms\"\n\
             [source.pulsar]\nurl = \"{}\"\ntopic = \"persistent://public/default/{}\"\n\
             [schema]\npreset = \"sensor\"\n\
             [window]\ntime = \"publish\"\nsize = \"1h\"\nidle_timeout = \"1h\"\n\
             [sink.embedded]\npath = {:?}\n\
             [http]\nenabled = false\n",
            broker().url,
            self.topic,
            self.store()
        );
        fs::write(&path, text).expect("the configuration is written");
        path
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("rows.db")
    }

    /// Sends messages whose own times are years ago; what counts is when they are sent.
    fn send(&self) {
        let output = Command::new(TIDEMILL)
            .args(["generate", "--pulsar", &broker().url])
            .args(["--topic", &format!("persistent://public/default/{}", self.topic)])
            .args(["--messages", &MESSAGES.to_string(), "--start-ms", "1700000000000"])
            .output()
            .expect("tidemill can be run");
        assert!(output.status.success(), "{}", said(&output));
    }

    fn run(&self, config: &Path) -> Run {
        Run::start(&[Path::new("run"), config], &self.directory.path().join("run.log"))
    }

    /// Reads until so many messages are committed.
    fn run_until(&self, config: &Path, messages: i64) {
        let mut run = self.run(config);
        until("all messages are committed", || {
            run.must_run();
            (self.count("messages") == messages).then_some(())
        });
        run.terminate();
    }

    /// Runs to the end, which has to be a failure.
    fn failure(&self, config: &Path) -> String {
        let mut run = self.run(config);
        assert_eq!(run.until_ended().code(), Some(1), "{}", run.logged());
        run.logged()
    }

    fn count(&self, column: &str) -> i64 {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let store = rusqlite::Connection::open_with_flags(self.store(), flags);
        let sql = format!("SELECT {column} FROM anew_commits");
        // No file or no table yet: nothing is committed.
        store.and_then(|store| store.query_row(&sql, [], |row| row.get(0))).unwrap_or(0)
    }
}

#[test]
fn topic_that_was_made_anew_is_noticed_and_its_loss_is_counted() {
    let place = Place::new("anew");
    let config = place.config(0);
    place.send();
    place.run_until(&config, MESSAGES);
    // By publish time, all of it is in the present hour, or in this and the one before.
    assert!(place.count("open") > 0, "windows of an hour are open");
    let lost = place.count("open");
    assert_eq!(place.count("late"), 0);
    let verified = tidemill("verify", &config, &[]);
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));

    admin_delete(&format!("persistent/public/default/{}", place.topic));
    place.send();
    let logged = place.failure(&config);
    assert!(logged.contains("the messages between are gone"), "{logged}");
    assert!(logged.contains("tidemill reset CONFIG --accept-loss"), "{logged}");
    assert_eq!((place.count("messages"), place.count("open")), (MESSAGES, lost));

    let config = place.config(1);
    let reset = tidemill("reset", &config, &["--accept-loss", "--yes"]);
    assert_eq!(reset.status.code(), Some(0), "{}", said(&reset));
    place.run_until(&config, 2 * MESSAGES);
    assert_eq!(place.count("lost"), lost);
    // The new topic's messages of an hour that was given up are late, those of the next are not.
    assert_eq!(place.count("late + open"), MESSAGES);
    let verified = tidemill("verify", &config, &[]);
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
    assert!(said(&verified).contains(&format!("+ {lost} accepted as lost")), "{}", said(&verified));

    // The same store on another cluster, whose ledgers have lower numbers.
    let store = rusqlite::Connection::open(place.store()).expect("the store's file");
    let sql = "UPDATE anew_commits SET processed_segment = processed_segment + 1000000, \
               resume_segment = resume_segment + 1000000";
    store.execute_batch(sql).expect("the record can be changed");
    drop(store);
    let logged = place.failure(&config);
    assert!(logged.contains("it is not the topic that the commits speak of"), "{logged}");
    let config = place.config(2);
    let reset = tidemill("reset", &config, &["--yes"]);
    assert_eq!(reset.status.code(), Some(0), "{}", said(&reset));
    assert_eq!((place.count("messages"), place.count("lost")), (0, 0));
}

/// Asks a running process whether it is ready.
fn ready(run: &mut Run) -> (u16, String) {
    run.until_logged("http endpoint");
    let logged = run.logged();
    let address = logged.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let url = format!("http://{}/readyz", address.expect("an address"));
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let answer = agent.get(&url).call().expect("an answer");
    (answer.status().as_u16(), answer.into_body().read_to_string().expect("a text"))
}

#[test]
fn process_without_a_partition_stands_by_and_takes_over() {
    let place = Place::new("standby");
    place.send();
    let runs = ["a", "b"].map(|name| {
        let path = place.directory.path().join(format!("{name}.toml"));
        let text = format!(
            "[pipeline]\nname = \"standby\"\n\
             [source.pulsar]\nurl = \"{}\"\ntopic = \"persistent://public/default/{}\"\n\
             consumer_name = \"{name}\"\n[schema]\npreset = \"sensor\"\n[sink.stdout]\n\
             [http]\nlisten = \"127.0.0.1:0\"\n",
            broker().url,
            place.topic,
        );
        fs::write(&path, text).expect("the configuration is written");
        let log = place.directory.path().join(format!("{name}.log"));
        Run::start(&[Path::new("run"), &path], &log)
    });
    let [mut reads, mut stands_by] = runs;
    let has_it = |run: &mut Run| ready(run) == (200, "ready, 1 lanes\n".to_owned());
    let has_not =
        |run: &mut Run| ready(run) == (200, "ready, on standby for 1 partitions\n".to_owned());
    // Which of them, the broker decides.
    until("one reads and one stands by", || {
        if has_it(&mut stands_by) {
            std::mem::swap(&mut reads, &mut stands_by);
        }
        (has_it(&mut reads) && has_not(&mut stands_by)).then_some(())
    });
    reads.kill();
    until("the other one has it", || has_it(&mut stands_by).then_some(()));
}

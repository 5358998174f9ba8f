//! `tidemill init --from TOPIC` on a real broker: the sample moves no cursor, and the configuration
//! reads the whole topic.

mod e2e;

use std::process::Command;

use e2e::{
    TIDEMILL, alone,
    services::broker,
    topic::{Content, PARTITIONS, Topic},
};

#[test]
fn configuration_made_of_a_topic_reads_that_topic() {
    let _alone = alone();
    let ratios = [0.0, 0.001, 0.0];
    let topic = Topic::new("init", &Content { messages: 20_000, rate: 200, ratios });
    let place = tempfile::tempdir().expect("a temporary folder");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(TIDEMILL);
        let output = command.current_dir(place.path()).args(arguments).output();
        let output = output.expect("tidemill can be run");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), said)
    };
    let url = &broker().url;
    let options = ["--url", url, "--messages", "4000", "--out", "made.toml", "--name", "made"];
    let (status, said) = run(&[&["init", "--from", &topic.name][..], &options].concat());
    assert_eq!(status, Some(0), "{said}");
    let written = std::fs::read_to_string(place.path().join("made.toml")).expect("a configuration");
    assert!(written.contains("preset = \"sensor\""), "{written}");
    assert!(written.contains("from 4000 messages of"), "{written}");
    let quiet = format!("{written}\n[http]\nenabled = false\n");
    std::fs::write(place.path().join("made.toml"), quiet).expect("written");
    let (status, said) = run(&["check", "made.toml"]);
    assert_eq!(status, Some(0), "{said}");
    let log = place.path().join("run.log");
    let config = place.path().join("made.toml");
    let store = place.path().join("made.db");
    let mut job = e2e::job::Run::start_in(place.path(), &["run".as_ref(), &config], &log);
    e2e::until("all messages are committed", || {
        job.must_run();
        let opened = rusqlite::Connection::open_with_flags(
            &store,
            rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
        );
        let query = "SELECT count(*), sum(messages) FROM made_commits";
        let counts = opened.and_then(|store| {
            store.query_row(query, [], |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)))
        });
        let all = (i64::from(PARTITIONS), Some(topic.messages as i64));
        counts.is_ok_and(|counts: (i64, Option<i64>)| counts == all).then_some(())
    });
    job.terminate();
    let (status, said) = run(&["verify", "made.toml"]);
    assert_eq!(status, Some(0), "{said}");
    let (status, said) =
        run(&["init", "--from", "persistent://public/default/absent", "--url", url]);
    assert_eq!(status, Some(1), "{said}");
}

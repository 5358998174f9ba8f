//! `tidemill init --from TOPIC` on a real broker: the sample moves no cursor, and the configuration
//! reads the whole topic, also by TLS with a token, and where messages have no time.

mod e2e;

use std::{path::Path, process::Command};

use e2e::{
    TIDEMILL, alone,
    services::{admin_put, broker},
    topic::{Content, PARTITIONS, Topic},
};
use tidemill_pulsar::{
    Client, ClientConfig, OutgoingMessage, PartitionedConfig, PartitionedProducer,
};

/// Runs tidemill in a folder; returns its exit status and what it said.
fn tidemill(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(TIDEMILL).current_dir(folder).args(arguments).output();
    let output = output.expect("tidemill can be run");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code(), said)
}

/// Runs `made.toml` until its store covers so many messages of so many partitions, and proves it.
fn run_until_covered(folder: &Path, covered: (i64, i64)) {
    let arguments: [&Path; 2] = ["run".as_ref(), "made.toml".as_ref()];
    let mut job = e2e::job::Run::start_in(folder, &arguments, &folder.join("run.log"));
    e2e::until("all messages are committed", || {
        job.must_run();
        let opened = rusqlite::Connection::open_with_flags(
            folder.join("made.db"),
            rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
        );
        let query = "SELECT count(*), sum(messages) FROM made_commits";
        let counts = opened.and_then(|store| {
            store.query_row(query, [], |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)))
        });
        let (partitions, messages) = covered;
        counts.is_ok_and(|counts| counts == (partitions, Some(messages))).then_some(())
    });
    job.terminate();
    let (status, said) = tidemill(folder, &["verify", "made.toml"]);
    assert_eq!(status, Some(0), "{said}");
}

#[test]
fn configuration_made_of_a_topic_reads_that_topic() {
    let _alone = alone();
    let ratios = [0.0, 0.001, 0.0];
    let topic = Topic::new("init", &Content { messages: 20_000, rate: 200, ratios });
    let place = tempfile::tempdir().expect("a temporary folder");
    let run = |arguments: &[&str]| tidemill(place.path(), arguments);
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
    run_until_covered(place.path(), (i64::from(PARTITIONS), topic.messages as i64));
    let (status, said) =
        run(&["init", "--from", "persistent://public/default/absent", "--url", url]);
    assert_eq!(status, Some(1), "{said}");
}

/// Sends messages that say nothing of when they were.
fn send_timeless(topic: &str, messages: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let client = Client::new(ClientConfig::new(&broker().url)).expect("the broker's address");
        let config = PartitionedConfig::new(topic);
        let mut producer = PartitionedProducer::new(&client, config).await.expect("a producer");
        for number in 0..messages {
            let device = format!("meter-{}", number % 7);
            let payload = format!("{{\"meterId\":\"{device}\",\"volts\":{number}.5}}");
            producer.send(OutgoingMessage::new(Some(device), payload)).await.expect("sent");
        }
        producer.flush().await.expect("confirmed");
    });
}

#[test]
fn messages_without_a_time_are_sampled_by_tls_with_a_token_and_counted_by_publish_time() {
    let _alone = alone();
    let name = format!("timeless-{}", std::process::id());
    admin_put(&format!("persistent/public/default/{name}/partitions"), "2");
    let topic = format!("persistent://public/default/{name}");
    send_timeless(&topic, 700);
    let place = tempfile::tempdir().expect("a temporary folder");
    let security = &broker().security;
    let shown = |file: &str| security.join(file).display().to_string();
    let init = |token: &str, more: &[&str]| {
        let authorities = shown("ca.pem");
        let access = ["--url", &broker().tls_url, "--tls-ca-file", &authorities, "--token", token];
        let from = ["init", "--from", &topic, "--name", "made"];
        tidemill(place.path(), &[&from[..], &access, more].concat())
    };
    let own = format!("file:{}", shown("token"));
    let (status, said) = init(&own, &["--out", "made.toml"]);
    assert_eq!(status, Some(0), "{said}");
    let written = std::fs::read_to_string(place.path().join("made.toml")).expect("a configuration");
    for line in ["time = \"publish\"", &format!("token = \"{own}\""), "name = \"meter_id\""] {
        assert!(written.contains(line), "{line} is not in\n{written}");
    }
    assert!(!written.contains("role = \"time\"") && !written.contains("modification"), "{written}");
    let quiet = format!("{written}\n[http]\nenabled = false\n");
    std::fs::write(place.path().join("made.toml"), quiet).expect("written");
    run_until_covered(place.path(), (2, 700));

    let (status, said) = init(&format!("file:{}", shown("token.foreign")), &[]);
    assert_eq!(status, Some(1), "{said}");
    let (status, said) = init("file:/nowhere", &[]);
    assert!(status == Some(2) && said.contains("/nowhere"), "{said}");
    let (status, said) = init("hunter2", &[]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("write file:/path or ${NAME}") && !said.contains("hunter2"), "{said}");
}

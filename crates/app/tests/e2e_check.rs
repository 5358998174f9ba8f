//! `check --connect` against real services: what it says of each, and that it changes nothing.

mod e2e;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use e2e::{
    TIDEMILL,
    job::Run,
    services::{Version, admin_put, ask, broker},
};
use tempfile::TempDir;
use tidemill_pulsar::{
    Client, ClientConfig, OutgoingMessage, PartitionedConfig, PartitionedProducer,
};

const GENERATE: &str = "[source.generate]\nmessages = 20000\npace = \"fast\"";

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

    fn config(&self, pipeline: &str, source: &str, sink: &str) -> PathBuf {
        let text = format!(
            "[pipeline]\nname = \"{pipeline}\"\n{source}\n[schema]\npreset = \"sensor\"\n\
             [http]\nenabled = false\n{sink}\n"
        );
        let path = self.path("check.toml");
        fs::write(&path, text).expect("the configuration is written");
        path
    }

    /// Every file of the folder with its content.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = fs::read_dir(self.directory.path()).expect("a folder");
        let files = files.map(|file| file.expect("a file").path());
        files.map(|path| (path.clone(), fs::read(&path).expect("a file"))).collect()
    }
}

fn tidemill(command: &str, config: &Path, more: &[&str]) -> (Option<i32>, String) {
    let mut process = Command::new(TIDEMILL);
    let output = process.arg(command).arg(config).args(more).output().expect("tidemill can be run");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// Runs the check, expects its exit status, and each of these texts in a line of that beginning.
fn check(config: &Path, status: i32, more: &[&str], lines: &[(&str, &str)]) {
    let more = [&["--connect"], more].concat();
    let (code, said) = tidemill("check", config, &more);
    assert_eq!(code, Some(status), "{said}");
    for (verdict, text) in lines {
        let found = said.lines().any(|line| line.starts_with(verdict) && line.contains(text));
        assert!(found, "no {verdict:?} with {text:?} in:\n{said}");
    }
    let worst = if status == 0 { "error" } else { "nothing else" };
    assert!(!said.lines().any(|line| line.starts_with(worst)), "{said}");
}

#[test]
fn embedded_store_is_looked_at_and_left_alone() {
    let place = Place::new();
    let store = place.path("rows.db");
    let sink = format!("[sink.embedded]\npath = {store:?}\ntable = \"sensors\"");
    let config = place.config("one", GENERATE, &sink);
    let before = place.files();
    check(&config, 0, &[], &[("ok", "makes its own"), ("ok", "rows.db is not there, made at")]);
    assert_eq!(place.files(), before, "the check has made something");

    let missing = sink.replace("rows.db", "no/rows.db");
    let config = place.config("one", GENERATE, &missing);
    check(&config, 1, &[], &[("error", "make the directory")]);

    let config = place.config("one", GENERATE, &sink);
    assert_eq!(tidemill("run", &config, &[]).0, Some(0));
    let before = place.files();
    let good = [
        ("ok", "rows.db can be written"),
        ("ok", "as the configuration needs them"),
        ("ok", "nobody else writes"),
        ("ok", "no other process has the file open"),
    ];
    check(&config, 0, &[], &good);
    assert_eq!(place.files(), before, "the check has changed something");

    let other = place.config("two", GENERATE, &sink);
    check(&other, 0, &[], &[("warning", "pipeline \"one\" wrote to this table")]);
    let field = "[[schema.field]]\nname = \"vibration\"\nrole = \"gauge\"";
    let more = place.config("one", GENERATE, &format!("{field}\n{sink}"));
    check(&more, 1, &[], &[("error", "\"vibration\" is missing")]);

    let source = "[source.generate]\npace = \"real\"\nrate_per_s = 100";
    let config = place.config("one", source, &sink.replace("rows.db", "busy.db"));
    let mut run = Run::start(&[Path::new("run"), &config], &place.path("run.log"));
    run.until_logged("started");
    let holder = format!("process {} has the file open", run.pid());
    check(&config, 0, &[], &[("warning", &holder)]);
}

#[test]
fn files_and_stdout_are_looked_at() {
    let place = Place::new();
    fs::write(place.path("here.ndjson"), "{}\n").expect("a file");
    let (here, gone) = (place.path("here.ndjson"), place.path("gone.ndjson"));
    let source = format!("[source.file]\npaths = [{here:?}, {gone:?}]");
    let config = place.config("one", &source, "[sink.stdout]");
    let lines = [
        ("ok", "here.ndjson, 3 bytes"),
        ("error", "gone.ndjson: No such file"),
        ("warning", "stdout keeps nothing"),
    ];
    check(&config, 1, &[], &lines);
}

fn server_is_looked_at_and_left_alone(version: Version) {
    let place = Place::new();
    let url = version.url();
    let database = format!("check_{}", std::process::id());
    let ask = |sql: &str| ask(&url, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    ask(&format!("DROP DATABASE IF EXISTS {database}"));
    let sink = format!("[sink.clickhouse]\nurl = \"{url}\"\ntable = \"{database}.sensors\"");
    let config = place.config("one", GENERATE, &sink);
    check(&config, 0, &[], &[("ok", "made at the start: sensors_rows"), ("ok", "may CREATE")]);
    let databases = format!("SELECT count() FROM system.databases WHERE name = '{database}'");
    assert_eq!(ask(&databases), "0", "the check has made something");
    let not_made = place.config("one", GENERATE, &format!("{sink}\ncreate = false"));
    check(&not_made, 1, &[], &[("error", "sensors_rows is not there: set create = true")]);

    let config = place.config("one", GENERATE, &sink);
    assert_eq!(tidemill("run", &config, &[]).0, Some(0));
    let parts = format!(
        "SELECT groupArray(concat(table, name)) FROM (SELECT table, name FROM system.parts \
         WHERE database = '{database}' ORDER BY table, name)"
    );
    ask(&format!("OPTIMIZE TABLE {database}.sensors_commits FINAL"));
    let count = format!("SELECT count() FROM {database}.sensors_rows");
    let before = (ask(&count), ask(&format!("SELECT count() FROM {database}.sensors_commits")));
    let good = [
        ("ok", "answers at http://127.0.0.1"),
        ("ok", "sensors_rows is as the configuration needs it"),
        ("ok", "sensors_commits is as the configuration needs it"),
        ("ok", "default may SELECT and INSERT"),
        // It has just ended.
        ("warning", "a process may be running"),
    ];
    check(&config, 0, &[], &good);
    let after = (ask(&count), ask(&format!("SELECT count() FROM {database}.sensors_commits")));
    assert_eq!(after, before, "{}", ask(&parts));

    let other = place.config("two", GENERATE, &sink);
    check(&other, 0, &[], &[("warning", "pipeline \"one\" writes to this table, too")]);
    ask(&format!("ALTER TABLE {database}.sensors_rows DROP COLUMN humidity"));
    let config = place.config("one", GENERATE, &sink);
    check(&config, 1, &[], &[("error", "column \"humidity\" is missing")]);
    ask(&format!("CREATE TABLE {database}.old (a UInt8) ENGINE = Log"));
    let over = place.config("one", GENERATE, &sink.replace(".sensors", ".old"));
    check(&over, 1, &[], &[("error", "`tidemill ddl --migrate")]);

    let wrong = format!("{sink}\nuser = \"writer\"\npassword = \"${{PATH}}\"");
    let wrong = place.config("one", GENERATE, &wrong);
    check(&wrong, 1, &[], &[("error", "check url, user, password")]);
    let [port] = e2e::services::clickhouse::free_ports();
    let sink = format!("[sink.clickhouse]\nurl = \"http://127.0.0.1:{port}\"\ntable = \"a.b\"");
    check(&place.config("one", GENERATE, &sink), 1, &[], &[("error", "refused")]);
    ask(&format!("DROP DATABASE {database}"));
}

#[test]
fn old_server_is_looked_at_and_left_alone() {
    server_is_looked_at_and_left_alone(Version::Old);
}

#[test]
fn modern_server_is_looked_at_and_left_alone() {
    server_is_looked_at_and_left_alone(Version::Modern);
}

/// Only the old server has users with fewer rights: the modern engine is a library here.
#[test]
fn user_who_may_not_write_is_told() {
    let place = Place::new();
    let url = Version::Old.url();
    let database = format!("grants_{}", std::process::id());
    let sink = format!("[sink.clickhouse]\nurl = \"{url}\"\ntable = \"{database}.sensors\"");
    let secret = place.path("secret");
    fs::write(&secret, "secret").expect("a file");
    let reader = format!("{sink}\nuser = \"reader\"\npassword = \"file:{}\"", secret.display());
    let before = place.config("one", GENERATE, &reader);
    check(&before, 1, &[], &[("error", "reader may not CREATE in")]);
    let config = place.config("one", GENERATE, &sink);
    assert_eq!(tidemill("run", &config, &[]).0, Some(0));
    let after = place.config("one", GENERATE, &reader);
    check(&after, 1, &[], &[("error", "reader may not INSERT on"), ("ok", "sensors_rows is as")]);
    ask(&url, &format!("DROP DATABASE {database}")).expect("the server answers");
}

#[test]
fn topic_is_looked_at_and_left_alone() {
    let place = Place::new();
    let id = std::process::id();
    let (url, admin) = (&broker().url, broker().admin.as_str());
    let namespace = format!("public/check-{id}");
    admin_put(&format!("namespaces/{namespace}"), "{}");
    let source = |name: &str| {
        format!("[source.pulsar]\nurl = \"{url}\"\ntopic = \"persistent://{namespace}/{name}\"")
    };
    let config = |name: &str| place.config("one", &source(name), "[sink.stdout]");
    let with_admin = ["--admin", admin];
    let topics = || {
        get(&format!("persistent/{namespace}"))
            + &get(&format!("persistent/{namespace}/partitioned"))
    };
    for more in [&[][..], &with_admin] {
        check(
            &config("nobody"),
            1,
            more,
            &[("ok", "answers at"), ("error", "nobody is not there")],
        );
    }
    assert_eq!(topics(), "[][]", "the check has made a topic");

    for (name, partitions, key) in [("good", "4", true), ("few", "2", false), ("empty", "9", true)]
    {
        admin_put(&format!("persistent/{namespace}/{name}/partitions"), partitions);
        if name != "empty" {
            send(&format!("persistent://{namespace}/{name}"), key);
        }
    }
    let good = [
        ("ok", "good has 4 partitions"),
        ("ok", "40 of 40 messages have a key"),
        ("not checked", "give --admin"),
    ];
    check(&config("good"), 0, &[], &good);
    let few = [
        ("warning", "few has 2 partitions; 4 to 8"),
        ("warning", "0 of 40 messages have a key"),
        ("warning", "keeps nothing that is acknowledged"),
    ];
    check(&config("few"), 0, &with_admin, &few);
    admin_put(&format!("persistent/{namespace}/plain"), "");
    send(&format!("persistent://{namespace}/plain"), true);
    let lines = [("warning", "plain is not partitioned"), ("not checked", "could make it")];
    check(&config("plain"), 0, &[], &lines);
    let lines = [("warning", "plain is not partitioned"), ("ok", "40 of 40 messages have a key")];
    check(&config("plain"), 0, &with_admin, &lines);
    let body = r#"{"retentionTimeInMinutes":600,"retentionSizeInMB":-1}"#;
    let path = format!("{admin}/admin/v2/namespaces/{namespace}/retention");
    ureq::post(&path).header("content-type", "application/json").send(body).expect("retention");
    let empty = [
        ("warning", "empty has 9 partitions"),
        ("not checked", "holds no message"),
        ("ok", "keeps 600 minutes, no limit"),
    ];
    check(&config("empty"), 0, &with_admin, &empty);
    let subscriptions = format!("persistent/{namespace}/good-partition-0/subscriptions");
    assert_eq!(get(&subscriptions), "[]", "the check has left a subscription");

    let [port] = e2e::services::clickhouse::free_ports();
    let source = format!("[source.pulsar]\nurl = \"pulsar://127.0.0.1:{port}\"\ntopic = \"t\"");
    let nobody = place.config("one", &source, "[sink.stdout]");
    check(&nobody, 1, &[], &[("error", "check source.pulsar.url")]);
}

/// Asks the broker's admin interface.
fn get(path: &str) -> String {
    let answer = ureq::get(format!("{}/admin/v2/{path}", broker().admin)).call();
    let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
    answer.into_body().read_to_string().expect("a text")
}

/// Sends forty messages, ten to each key or none.
fn send(topic: &str, with_key: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let client = Client::new(ClientConfig::new(&broker().url)).expect("a client");
        let config = PartitionedConfig::new(topic);
        let mut producer = PartitionedProducer::new(&client, config).await.expect("a producer");
        for number in 0..40 {
            let key = with_key.then(|| format!("sensor_{}", number % 4).into_bytes());
            let message = OutgoingMessage::new(key, b"{}".to_vec());
            producer.send(message).await.expect("sent");
        }
        producer.flush().await.expect("confirmed");
    });
}

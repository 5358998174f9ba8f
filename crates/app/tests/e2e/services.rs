//! The real services: those that `tests/run.sh` started, or one's own.

#[path = "../../../../tests/service/clickhouse.rs"]
pub(crate) mod clickhouse;
#[path = "../../../../tests/service/clickhouse_modern.rs"]
mod clickhouse_modern;
#[path = "../../../../tests/service/clickhouse_replicas.rs"]
pub(crate) mod clickhouse_replicas;
#[path = "../../../../tests/service/pulsar.rs"]
mod pulsar;

use std::{
    path::Path,
    process::Command,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

pub(crate) use self::clickhouse::ClickHouse;
use self::pulsar::Pulsar;
use super::root;

/// Returns the broker; it lives as long as the test program.
pub(crate) fn broker() -> &'static Pulsar {
    static BROKER: OnceLock<Pulsar> = OnceLock::new();
    BROKER
        .get_or_init(|| Pulsar::start(Path::new(env!("CARGO_TARGET_TMPDIR")), "pulsar-end-to-end"))
}

/// Kills the broker as a crash would.
pub(crate) fn kill_broker() {
    if broker().is_own() {
        broker().kill();
    } else {
        shared_broker("kill");
    }
}

/// Starts the broker again on the same data and waits until it is ready.
pub(crate) fn start_broker_again() {
    if broker().is_own() {
        broker().start_again();
    } else {
        shared_broker("start");
    }
}

/// Uses the start script on the broker that `tests/run.sh` started.
fn shared_broker(command: &str) {
    let named = |key: &str| std::env::var(key).unwrap_or_else(|_| panic!("{key} is not set"));
    let output = Command::new(root().join("tests/service/pulsar/start-pulsar.sh"))
        .arg(command)
        .args(["--data", &named("TIDEMILL_PULSAR_DATA")])
        .args(named("TIDEMILL_PULSAR_PORTS").split_whitespace())
        .output()
        .expect("start-pulsar.sh can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "start-pulsar.sh {command}: {said}");
}

/// Changes something by the broker's admin interface; `path` follows `/admin/v2/`.
///
/// A broker in the middle of another change (a bundle that is being unloaded or taken over) answers
/// with an error and means: again. It may yet have done what was asked, and then says that it
/// exists already: names are made up for one call. What it refuses for good fails at the deadline.
pub(crate) fn admin_put(path: &str, body: &str) {
    let url = format!("{}/admin/v2/{path}", broker().admin);
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let request = no_status_is_an_error().put(&url).header("content-type", "application/json");
        let answer = request.send(body).unwrap_or_else(|error| panic!("{url}: {error}"));
        let status = answer.status();
        if status.is_success() {
            return;
        }
        let said = answer.into_body().read_to_string().unwrap_or_default();
        if status == 409 && said.contains("already exist") {
            return;
        }
        let is_worth_trying = status == 409 || status.is_server_error();
        assert!(is_worth_trying && Instant::now() < deadline, "{url}: {status}: {said}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// Deletes a topic with its subscriptions, by the broker's admin interface.
pub(crate) fn admin_delete(path: &str) {
    let url = format!("{}/admin/v2/{path}?force=true", broker().admin);
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = ureq::delete(&url).call() {
        assert!(Instant::now() < deadline, "{url}: {error}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// Which ClickHouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// 18.16.
    Old,
    /// 26.9.
    Modern,
}

impl Version {
    /// Both.
    pub(crate) const ALL: [Version; 2] = [Version::Old, Version::Modern];

    /// Returns a server of one's own, which may be killed. It lives as long as the program.
    pub(crate) fn own(self) -> &'static ClickHouse {
        static OLD: OnceLock<ClickHouse> = OnceLock::new();
        static MODERN: OnceLock<ClickHouse> = OnceLock::new();
        match self {
            Version::Old => OLD.get_or_init(ClickHouse::start),
            Version::Modern => MODERN.get_or_init(clickhouse_modern::start),
        }
    }

    /// Returns the address of a server that nobody kills.
    pub(crate) fn url(self) -> String {
        let key = match self {
            Version::Old => "TIDEMILL_CLICKHOUSE_URL",
            Version::Modern => "TIDEMILL_CLICKHOUSE_MODERN_URL",
        };
        let named = std::env::var(key).ok().filter(|url| !url.is_empty());
        named.unwrap_or_else(|| self.own().url().to_owned())
    }
}

/// Asks ClickHouse and returns its answer without the last line feed.
///
/// # Errors
/// What went wrong, as text.
pub(crate) fn ask(url: &str, query: &str) -> Result<String, String> {
    let answer =
        no_status_is_an_error().post(url).send(query).map_err(|error| error.to_string())?;
    let status = answer.status();
    let text = answer.into_body().read_to_string().map_err(|error| error.to_string())?;
    if status.is_success() { Ok(text.trim_end().to_owned()) } else { Err(text) }
}

/// What asks and also hands out the text of a refusal.
fn no_status_is_an_error() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

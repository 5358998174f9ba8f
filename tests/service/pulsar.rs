//! Starter of a real Pulsar broker for tests; included by `#[path]`.
//!
//! Uses the broker named by `TIDEMILL_PULSAR_URL` and `TIDEMILL_PULSAR_ADMIN` where both are set.
//! Otherwise starts one through `pulsar/start-pulsar.sh` on free ports of 127.0.0.1, with its data
//! under the build directory. A small watcher process stops that broker when the test process
//! ends, however it ends. Waits for readiness, never by sleeping.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// A broker that is ready.
pub(crate) struct Pulsar {
    /// `pulsar://host:port`.
    pub(crate) url: String,
    /// `http://host:port` of the admin REST interface.
    pub(crate) admin: String,
    /// `pulsar+ssl://host:port` of the same broker.
    pub(crate) tls_url: String,
    /// The folder with `ca.pem`, `token` and `token.foreign`.
    pub(crate) security: PathBuf,
    own: Option<Own>,
}

struct Own {
    script: PathBuf,
    options: Vec<String>,
    // The watcher acts when the other end of its standard input closes.
    _watcher: Child,
    _alive: ChildStdin,
}

impl Pulsar {
    /// Takes the broker of the environment, or starts one whose data lie under `name`.
    pub(crate) fn start(build_dir: &Path, name: &str) -> Self {
        let named = |key| std::env::var(key).ok().filter(|value| !value.is_empty());
        if let (Some(url), Some(admin)) =
            (named("TIDEMILL_PULSAR_URL"), named("TIDEMILL_PULSAR_ADMIN"))
        {
            let data = PathBuf::from(named("TIDEMILL_PULSAR_DATA").unwrap_or_default());
            let tls_url = named("TIDEMILL_PULSAR_TLS_URL").unwrap_or_default();
            return Self { url, admin, tls_url, security: data.join("security"), own: None };
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/service/pulsar/start-pulsar.sh")
            .canonicalize()
            .expect("start script");
        let data = build_dir.join("service").join(name);
        let ports = free_ports::<4>();
        let options = [
            ("--data", data.to_str().expect("path is UTF-8").to_owned()),
            ("--broker-port", ports[0].to_string()),
            ("--web-port", ports[1].to_string()),
            ("--bookie-port", ports[2].to_string()),
            ("--tls-port", ports[3].to_string()),
            ("--timeout", "300".to_owned()),
        ];
        let options: Vec<String> =
            options.into_iter().flat_map(|(key, value)| [key.to_owned(), value]).collect();
        // Left over from a run that was killed together with its watcher.
        run(&script, "kill", &options);
        run(&script, "wipe", &options);
        let mut watcher = Command::new("setsid")
            .args(["sh", "-c", r#"cat >/dev/null; exec "$0" stop "$@""#])
            .arg(&script)
            .args(&options)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("watcher");
        let alive = watcher.stdin.take().expect("standard input is piped");
        run(&script, "start", &options);
        Self {
            url: format!("pulsar://127.0.0.1:{}", ports[0]),
            admin: format!("http://127.0.0.1:{}", ports[1]),
            tls_url: format!("pulsar+ssl://127.0.0.1:{}", ports[3]),
            security: data.join("security"),
            own: Some(Own { script, options, _watcher: watcher, _alive: alive }),
        }
    }

    /// Reports whether this process started the broker and may therefore kill it.
    pub(crate) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Kills the broker with SIGKILL; its data stay.
    pub(crate) fn kill(&self) {
        let own = self.own.as_ref().expect("only a broker of our own is killed");
        run(&own.script, "kill", &own.options);
    }

    /// Starts the broker again on the same ports and data, and waits until it is ready.
    pub(crate) fn start_again(&self) {
        let own = self.own.as_ref().expect("only a broker of our own is started");
        run(&own.script, "start", &own.options);
    }
}

fn run(script: &Path, command: &str, options: &[String]) {
    let output = Command::new(script).arg(command).args(options).output().expect("start script");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {errors}");
}

/// Ports that were free a moment ago, below those of outgoing connections: a client that tries a
/// killed broker again and again would else be connected to itself one day.
fn free_ports<const N: usize>() -> [u16; N] {
    let first = 20_000 + std::process::id() as u16 % 1_000 * 12;
    let mut free = (first..32_000).chain(20_000..first);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::array::from_fn(|_| free.find(is_free).expect("a free port"))
}

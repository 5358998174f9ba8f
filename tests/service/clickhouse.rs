//! Starts a ClickHouse server for tests, on free ports, with a directory of its own.
//!
//! The server is ended when the value is dropped, and also when the test program ends without
//! that (a static, a kill): a small watcher waits for the end of its input. Logs are kept where a
//! test failed. Used by tests through `#[path]`; the modern engine's starter stands beside it.
#![allow(dead_code, reason = "each test program uses its part of the starters")]

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// A running server.
#[derive(Debug)]
pub(crate) struct ClickHouse {
    script: PathBuf,
    state: PathBuf,
    arguments: Vec<String>,
    url: String,
    watcher: Option<Child>,
}

impl ClickHouse {
    /// Starts the old server, 18.16, and waits until it answers.
    ///
    /// # Panics
    /// If it cannot be fetched or started, with the script's last words.
    pub(crate) fn start() -> ClickHouse {
        ClickHouse::start_with(&[])
    }

    /// Starts the old server with further options of its script.
    ///
    /// # Panics
    /// As [`start`](ClickHouse::start).
    pub(crate) fn start_with(options: &[&str]) -> ClickHouse {
        let [http, tcp, interserver] = free_ports();
        let ports = [("--http", http), ("--tcp", tcp), ("--interserver", interserver)];
        ClickHouse::start_script("clickhouse/clickhouse.sh", "clickhouse", &ports, options)
    }

    /// Starts a server by its script. The first port is the HTTP port.
    ///
    /// # Panics
    /// If it cannot be fetched or started, with the script's last words.
    pub(crate) fn start_script(
        script: &str,
        name: &str,
        ports: &[(&str, u16)],
        options: &[&str],
    ) -> ClickHouse {
        let script = service_directory().join(script);
        let state = std::env::temp_dir().join(format!("tidemill-{name}-{}", ports[0].1));
        let mut arguments = vec!["--state".to_string(), state.display().to_string()];
        for (option, port) in ports {
            arguments.extend([option.to_string(), port.to_string()]);
        }
        arguments.extend(options.iter().map(|option| option.to_string()));
        let url = format!("http://127.0.0.1:{}", ports[0].1);
        let mut server = ClickHouse { script, state, arguments, url, watcher: None };
        server.watcher = Some(server.watch());
        server.up();
        server
    }

    /// Returns `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Starts the server again after [`kill`](ClickHouse::kill), on the same data.
    ///
    /// # Panics
    /// If it does not come up, with the script's last words.
    pub(crate) fn up(&self) {
        let output = Command::new(&self.script)
            .arg("up")
            .args(&self.arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the start script can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", self.script.display());
    }

    /// Kills the server with SIGKILL, as a crash would.
    ///
    /// # Panics
    /// If it is not running.
    pub(crate) fn kill(&self) {
        let pid = fs::read_to_string(self.state.join("pid")).expect("a running server has a pid");
        let pid = pid.trim();
        let killed = Command::new("kill").args(["-9", pid]).status().expect("kill can be run");
        assert!(killed.success(), "process {pid} is not there");
        // Its threads end one after the other, and the last one gives up the port.
        let address = self.url.trim_start_matches("http://");
        while is_running(pid) || TcpStream::connect(address).is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn watch(&self) -> Child {
        // "$0" is the script, "$@" its options. The shell has a group of its own, so that an
        // interrupt from the keyboard does not end it before the test program.
        let mut command = Command::new("sh");
        command.args(["-c", "cat >/dev/null; exec \"$0\" down --wipe \"$@\""]);
        command.arg(&self.script).args(&self.arguments);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("sh can be run")
    }
}

impl Drop for ClickHouse {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.state.with_extension("failed");
            let copied = Command::new("cp").arg("-r").args([&self.state, &logs]).status();
            if copied.is_ok_and(|status| status.success()) {
                eprintln!("state and logs of {} are kept in {}", self.url, logs.display());
            }
        }
        if let Some(mut watcher) = self.watcher.take() {
            drop(watcher.stdin.take());
            let _ = watcher.wait();
        }
    }
}

fn is_running(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // pid (name) state: a zombie runs no more.
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Makes `ca.pem`, `other-ca.pem`, `server.pem` and `server.key` (for localhost) in a folder.
///
/// # Panics
/// If they cannot be made, with the script's last words.
pub(crate) fn make_certificates(folder: &Path) {
    let script = service_directory().join("certificates.sh");
    let output = Command::new(script).arg(folder).output().expect("the script can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Returns ports that were free a moment ago.
///
/// They lie below those that the system gives to outgoing connections: a client that tries again
/// and again while its server is down would else, sooner or later, be connected to itself and
/// keep the port taken.
pub(crate) fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    const RANGE: std::ops::Range<u32> = 20_000..32_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    std::array::from_fn(|_| {
        let mut tries = 0..RANGE.len();
        tries
            .find_map(|_| {
                let step = NEXT.fetch_add(1, Ordering::Relaxed);
                let seed = std::process::id().wrapping_mul(7919).wrapping_add(step);
                let port = (RANGE.start + seed % RANGE.len() as u32) as u16;
                TcpListener::bind(("127.0.0.1", port)).ok().map(|_| port)
            })
            .expect("the machine has a free port")
    })
}

/// The folder of the start scripts, from any crate of the workspace.
fn service_directory() -> PathBuf {
    let crate_directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut candidates = crate_directory.ancestors().map(|folder| folder.join("tests/service"));
    candidates.find(|folder| folder.is_dir()).expect("the workspace has tests/service")
}

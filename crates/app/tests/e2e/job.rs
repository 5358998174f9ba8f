//! A job under test: its configuration, its processes one after the other (or two at once), its
//! store, and the proof that the store holds exactly what it should.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use super::{Random, TIDEMILL, services, topic, topic::Topic, until};

/// Where a job stores.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    /// A file of its own.
    Embedded,
    /// A database of its own on a server: the address to look into it, and the address that the
    /// job gets.
    ClickHouse { url: String, job_url: String },
}

impl Store {
    /// A server by its address.
    pub(crate) fn server(url: &str) -> Store {
        Store::ClickHouse { url: url.to_owned(), job_url: url.to_owned() }
    }
}

/// A job that reads a topic into a store of its own.
pub(crate) struct Job<'t> {
    name: String,
    topic: &'t Topic,
    store: Store,
    /// Lines of the configuration: what tests set beside the usual.
    pub(crate) pipeline_lines: String,
    pub(crate) limits_lines: String,
    pub(crate) window_lines: String,
    /// How much of a partition may be read ahead.
    pub(crate) queue_bytes_max: &'static str,
    /// Options of `tidemill run`.
    pub(crate) run_options: Vec<&'static str>,
    database: String,
    directory: TempDir,
}

impl Job<'_> {
    /// Prepares a job; nothing runs yet.
    pub(crate) fn new<'t>(name: &str, topic: &'t Topic, store: Store) -> Job<'t> {
        let mut job = Job {
            name: name.to_owned(),
            topic,
            store,
            pipeline_lines: "commit_interval = \"1s\"\n".to_owned(),
            limits_lines: String::new(),
            window_lines: String::new(),
            queue_bytes_max: "4MiB",
            run_options: Vec::new(),
            database: String::new(),
            directory: tempfile::tempdir().expect("a temporary folder"),
        };
        job.use_database(&format!("e2e_{name}"));
        job
    }

    /// Stores into a database of that name, on a server that has none yet.
    pub(crate) fn use_database(&mut self, name: &str) {
        self.database = name.to_owned();
        if let Store::ClickHouse { url, .. } = &self.store {
            let query = format!("DROP DATABASE IF EXISTS {name}");
            services::ask(url, &query).expect("the server answers");
        }
    }

    /// Forgets all that was stored and acknowledged: the next process begins from nothing.
    pub(crate) fn forget(&mut self) {
        self.name.push_str("_again");
        for file in ["rows.db", "rows.db-wal", "rows.db-shm"] {
            match fs::remove_file(self.directory.path().join(file)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
                _ => {}
            }
        }
        self.use_database(&format!("e2e_{}", self.name));
    }

    /// The file of the embedded store.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("rows.db")
    }

    /// The table's name.
    pub(crate) fn table(&self) -> String {
        match &self.store {
            Store::Embedded => "sensors".to_owned(),
            Store::ClickHouse { .. } => format!("{}.sensors_local", self.database),
        }
    }

    /// Writes the configuration and returns where it is.
    pub(crate) fn config(&self, replica: &str, job_url: Option<&str>) -> PathBuf {
        let sink = match &self.store {
            Store::Embedded => {
                format!("[sink.embedded]\npath = {:?}\ntable = \"sensors\"", self.path())
            }
            Store::ClickHouse { url, .. } => format!(
                "[sink.clickhouse]\nurl = \"{}\"\ntable = \"{}\"",
                job_url.unwrap_or(url),
                self.table()
            ),
        };
        let (broker, topic, name) = (&services::broker().url, &self.topic.name, &self.name);
        let (pipeline, limits) = (&self.pipeline_lines, &self.limits_lines);
        let window = &self.window_lines;
        let queue = self.queue_bytes_max;
        let text = format!(
            r#"[pipeline]
name = "sensors"
{pipeline}
[source.pulsar]
url = "{broker}"
topic = "{topic}"
subscription = "{name}"
consumer_name = "{replica}"

[schema]
preset = "sensor"

[window]
{window}
{sink}

[http]
enabled = false

[limits]
queue_bytes_max = "{queue}"
{limits}
"#
        );
        let path = self.directory.path().join(format!("{replica}.toml"));
        fs::write(&path, text).expect("the configuration is written");
        path
    }

    /// Starts a process of the job.
    pub(crate) fn start(&self) -> Run {
        self.start_replica("a")
    }

    /// Starts a process of the job with a consumer name of its own.
    pub(crate) fn start_replica(&self, replica: &str) -> Run {
        let job_url = match &self.store {
            Store::Embedded => None,
            Store::ClickHouse { job_url, .. } => Some(job_url.as_str()),
        };
        let config = self.config(replica, job_url);
        let number = self.logs().len();
        let log = self.directory.path().join(format!("{number:03}-{replica}.log"));
        let options = self.run_options.iter().map(Path::new);
        let arguments: Vec<&Path> =
            [Path::new("run"), &config].into_iter().chain(options).collect();
        Run::start(&arguments, &log)
    }

    fn logs(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.directory.path()).expect("folder of the job");
        let files = files.map(|file| file.expect("file of the job").path());
        let mut logs: Vec<PathBuf> =
            files.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
        logs.sort();
        logs
    }

    /// What all processes of the job logged.
    pub(crate) fn logged(&self) -> String {
        let texts = self.logs().into_iter().map(|path| {
            let text = fs::read_to_string(&path).unwrap_or_default();
            format!("--- {}\n{text}", path.display())
        });
        texts.collect()
    }

    /// How many messages the durable records cover.
    pub(crate) fn processed(&self) -> u64 {
        match &self.store {
            Store::Embedded => {
                let query = "SELECT sum(messages) FROM sensors_commits";
                let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
                // No file or no table yet: nothing is processed.
                let opened = rusqlite::Connection::open_with_flags(self.path(), flags);
                let sum: Option<i64> = opened
                    .and_then(|connection| connection.query_row(query, [], |row| row.get(0)))
                    .unwrap_or_default();
                sum.unwrap_or(0) as u64
            }
            Store::ClickHouse { url, .. } => {
                let query = format!(
                    "SELECT sum(m) FROM (SELECT max(messages) AS m FROM {}_commits \
                     GROUP BY partition)",
                    self.table()
                );
                let answer = services::ask(url, &query);
                answer.ok().and_then(|count| count.parse().ok()).unwrap_or(0)
            }
        }
    }

    /// The newest row's time of each partition, in seconds; only for ClickHouse.
    pub(crate) fn newest_rows(&self) -> BTreeMap<String, u64> {
        let table = self.table();
        self.by_partition(&format!(
            "SELECT source_partition, toUInt32(max(time)) FROM {table}_rows \
             GROUP BY source_partition"
        ))
    }

    /// How many messages of each partition are committed; only for ClickHouse.
    pub(crate) fn ordinals(&self) -> BTreeMap<String, u64> {
        let table = self.table();
        self.by_partition(&format!(
            "SELECT partition, max(ordinal) FROM {table}_commits GROUP BY partition"
        ))
    }

    fn by_partition(&self, query: &str) -> BTreeMap<String, u64> {
        let Store::ClickHouse { url, .. } = &self.store else {
            panic!("only ClickHouse is asked");
        };
        let answer = services::ask(url, query).unwrap_or_default();
        let cells = answer.lines().filter_map(|line| line.split_once('\t'));
        cells.map(|(name, value)| (name.to_owned(), value.parse().expect("a number"))).collect()
    }

    /// Waits until more is committed, but not all; returns how much.
    pub(crate) fn until_under_way(&self, run: &mut Run) -> u64 {
        let before = self.processed();
        let processed = until("a commit", || {
            run.must_run();
            Some(self.processed()).filter(|count| *count > before)
        });
        eprintln!("{}: {processed} of {} messages are committed", self.name, self.topic.messages);
        assert!(processed < self.topic.messages, "the job is ahead of the test");
        processed
    }

    /// Starts a process so many times and kills it, each soon after a commit of its own.
    pub(crate) fn kill_under_way(&self, times: usize, random: &mut Random) {
        let mut places = Vec::new();
        for _ in 0..times {
            let before = self.processed();
            let mut run = self.start();
            until("a commit, or the end", || {
                run.must_run();
                let processed = self.processed();
                (processed > before || processed == self.topic.messages).then_some(())
            });
            thread::sleep(Duration::from_millis(random.below(250)));
            run.kill();
            places.push(self.processed());
        }
        eprintln!("committed at the kills: {places:?} of {}", self.topic.messages);
        assert!(places[0] < self.topic.messages, "the first kill came too late");
    }

    /// Waits until the records cover all messages of the topic.
    pub(crate) fn until_done(&self, runs: &mut [&mut Run]) {
        until("all messages are committed", || {
            runs.iter_mut().for_each(|run| run.must_run());
            let processed = self.processed();
            assert!(processed <= self.topic.messages, "{processed} messages");
            (processed == self.topic.messages).then_some(())
        });
    }

    /// Runs `tidemill verify`; returns its exit status and what it printed.
    pub(crate) fn verify(&self) -> (Option<i32>, String) {
        let mut command = Command::new(TIDEMILL);
        command.arg("verify").arg(self.config("verify", None));
        let output = command.output().expect("tidemill can be run");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Runs the oracle's comparison; returns whether all is equal, and what it printed.
    pub(crate) fn compare(&self) -> (bool, String) {
        self.compare_with(if self.topic.is_merged { &["--merged"] } else { &[] })
    }

    /// The same with further options of the oracle.
    pub(crate) fn compare_with(&self, options: &[&str]) -> (bool, String) {
        let mut command = topic::oracle("compare");
        command.arg("--expected").arg(self.topic.expected()).args(options);
        command.args(["--pipeline", "sensors", "--table", &self.table()]);
        match &self.store {
            Store::Embedded => command.arg("--sqlite").arg(self.path()),
            Store::ClickHouse { url, .. } => command.args(["--clickhouse", url]),
        };
        topic::run(command)
    }

    /// Holds rows and dead letters of two ClickHouse jobs against each other; returns whether
    /// they are the same but for the revisions, and what the oracle printed.
    pub(crate) fn same_as(&self, other: &Job<'_>) -> (bool, String) {
        let Store::ClickHouse { url, .. } = &self.store else {
            panic!("only ClickHouse is asked");
        };
        let mut command = topic::oracle("same");
        command.args(["--pipeline", "sensors", "--clickhouse", url]);
        command.args(["--table", &self.table(), "--other", &other.table()]);
        topic::run(command)
    }

    /// The proof: the ledger balances against store and broker, and all rows and letters are
    /// those of the oracle, bit for bit.
    pub(crate) fn prove(&self) {
        let (equal, said) = self.compare();
        assert!(equal, "{}: {said}", self.name);
        eprint!("{}: {said}", self.name);
        let (status, said) = self.verify();
        assert_eq!(status, Some(0), "{}: {said}", self.name);
        let lanes = if self.topic.is_merged { 1 } else { self.topic.partitions as usize };
        assert_eq!(said.matches("proved").count(), lanes, "{said}");
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("job {}:\n{}", self.name, self.logged());
        }
    }
}

/// A process of tidemill; it is killed when dropped.
pub(crate) struct Run {
    child: Child,
    log: PathBuf,
}

impl Run {
    /// Starts tidemill; what it writes goes to `log`.
    pub(crate) fn start(arguments: &[&Path], log: &Path) -> Run {
        Run::start_in(Path::new("."), arguments, log)
    }

    /// Starts tidemill in a folder; what it writes goes to `log`.
    pub(crate) fn start_in(folder: &Path, arguments: &[&Path], log: &Path) -> Run {
        let file = File::create(log).expect("a log file");
        let child = Command::new(TIDEMILL)
            .current_dir(folder)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log file"))
            .stderr(file)
            .spawn()
            .expect("tidemill can be run");
        Run { child, log: log.to_owned() }
    }

    /// Returns what it has written so far.
    pub(crate) fn logged(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has written a text.
    pub(crate) fn until_logged(&mut self, text: &str) {
        until(text, || {
            self.must_run();
            self.logged().contains(text).then_some(())
        });
    }

    /// Fails if it has ended.
    pub(crate) fn must_run(&mut self) {
        if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
            panic!("tidemill has ended with {status}:\n{}", self.logged());
        }
    }

    /// Returns whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_some()
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("kill can be run");
        assert!(sent.success(), "SIG{name} to {pid}");
    }

    /// Returns whether it has set up what happens on SIGTERM (proc_pid_status(5), `SigCgt`).
    fn handles_term(&self) -> bool {
        const TERM: u32 = 15;
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
        let mask = u64::from_str_radix(mask.trim(), 16).expect("a mask of signals");
        mask >> (TERM - 1) & 1 == 1
    }

    /// Returns the number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub(crate) fn until_ended(&mut self) -> ExitStatus {
        until("its end", || self.child.try_wait().expect("a child can be waited for"))
    }

    /// Asks it to end, and expects that it ends well. Waits until it can be asked: one that has
    /// only just begun would be ended by the signal itself.
    pub(crate) fn terminate(&mut self) {
        until("a handler of SIGTERM", || (self.handles_term() || self.has_ended()).then_some(()));
        self.signal("TERM");
        let status = self.until_ended();
        assert!(status.success(), "{status}:\n{}", self.logged());
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

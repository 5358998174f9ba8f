//! More than was asked for: lines without end, huge keys, garbage, a flood of devices, a full disk,
//! a store that is down, five times what the process can do. Memory stays near
//! `limits.memory_max`, what is refused is counted by its reason, and behind it all the ledger is
//! proved.
//!
//! Memory is what the kernel saw at most (`VmHWM`). The full disk is a limit of file sizes.

mod e2e;

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use e2e::{
    TIDEMILL, alone,
    job::{Job, Store},
    services::Version,
    topic::{Content, PARTITIONS, Topic, now_ms},
    until,
};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
/// The least that may be configured is half of it.
const MEMORY_MAX_BYTES: u64 = 64 * MIB;
/// Program, threads, buffers, SQLite's cache, and what the allocator keeps of what was freed.
const BESIDE_BYTES: u64 = 64 * MIB;

/// A folder with configurations, inputs and stores.
struct Place {
    directory: TempDir,
}

/// A process that reads its standard input or a file.
struct Fed {
    child: Child,
    stdin: Option<ChildStdin>,
    log: PathBuf,
}

impl Place {
    fn new() -> Place {
        Place { directory: tempfile::tempdir().expect("a temporary folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a configuration with further limits.
    fn config(&self, source: &str, limits: &str) -> PathBuf {
        let text = format!(
            "[pipeline]\nname = \"overload\"\ncommit_interval = \"100ms\"\n[source.{source}\n\
             [schema]\npreset = \"sensor\"\n[sink.embedded]\npath = {:?}\ntable = \"sensors\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\n[limits]\nmemory_max = \"64MiB\"\n{limits}\n",
            self.path("rows.db")
        );
        let path = self.path("overload.toml");
        fs::write(&path, text).expect("the configuration is written");
        path
    }

    fn start(&self, config: &Path) -> Fed {
        let mut command = Command::new(TIDEMILL);
        command.arg("run").arg(config);
        self.start_command(command)
    }

    fn start_command(&self, mut command: Command) -> Fed {
        let log = self.path("log");
        let file = File::create(&log).expect("a log file");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("tidemill can be run");
        Fed { stdin: child.stdin.take(), child, log }
    }

    /// Returns how many messages the records cover.
    fn processed(&self) -> u64 {
        let count = self.number("SELECT sum(messages) FROM sensors_commits");
        u64::try_from(count).expect("a count")
    }

    fn number(&self, query: &str) -> i64 {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let store = rusqlite::Connection::open_with_flags(self.path("rows.db"), flags);
        // No file or no table yet: nothing is there.
        let found = store.and_then(|store| store.query_row(query, [], |row| row.get(0)));
        found.ok().flatten().unwrap_or(0)
    }

    /// Returns how many letters of a reason are stored.
    fn letters(&self, reason: &str) -> i64 {
        let count = "SELECT count(*) FROM sensors_dead_letters WHERE reason";
        self.number(&format!("{count} = '{reason}'"))
    }

    fn prove(&self, config: &Path) {
        let output = Command::new(TIDEMILL).arg("verify").arg(config).output().expect("can be run");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("proved"), "{said}");
    }

    /// Generates messages into a file.
    fn generate(&self, options: &[&str]) -> PathBuf {
        let path = self.path("messages.ndjson");
        let status =
            Command::new(TIDEMILL).arg("generate").args(options).arg("--out").arg(&path).status();
        assert!(status.expect("tidemill can be run").success());
        path
    }
}

impl Fed {
    fn logged(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().expect("an open pipe").write_all(bytes).expect("fed");
    }

    /// Waits until so many dead letters of a reason are counted, and no more: they are once the
    /// store has answered, which is after it can be asked for them.
    fn until_letters(&self, reason: &str, count: f64) {
        let name = format!("tidemill_dead_letters_total{{reason=\"{reason}\"}}");
        until(&name, || (self.metric(&name) == count).then_some(()));
    }

    /// Returns a metric of the page by its name and labels.
    fn metric(&self, name: &str) -> f64 {
        let logged = self.logged();
        let address =
            logged.split_once("http endpoint address=").expect("the endpoint is logged").1;
        let url = format!("http://{}/metrics", address.lines().next().expect("a line").trim());
        let answer = ureq::get(&url).call().expect("the page of metrics");
        let page = answer.into_body().read_to_string().expect("text");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Waits until a metric is that large.
    fn until_metric(&mut self, name: &str, least: f64) {
        until(name, || {
            assert!(self.child.try_wait().expect("a child").is_none(), "{}", self.logged());
            (self.metric(name) >= least).then_some(())
        });
    }

    fn until_processed(&mut self, place: &Place, messages: u64) {
        until("all is committed", || {
            assert!(self.child.try_wait().expect("a child").is_none(), "{}", self.logged());
            (place.processed() == messages).then_some(())
        });
    }

    /// Ends the input and waits for the end of the process.
    fn finish(&mut self) {
        self.stdin = None;
        let status = until("its end", || self.child.try_wait().expect("a child"));
        assert!(status.success(), "{}", self.logged());
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fails if a process has ever had more memory than it may.
fn check_memory(what: &str, pid: u32) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    eprintln!("{what}: {:.1} MiB at most", kib as f64 / 1024.0);
    let max = MEMORY_MAX_BYTES + BESIDE_BYTES;
    assert!(kib * 1024 <= max, "{what}: {kib} KiB, at most {} are allowed", max / 1024);
}

/// Good messages of one minute, a line each.
fn good(count: usize) -> Vec<u8> {
    let lines = (0..count).map(|at| {
        let at_ms = 1_767_225_600_000_u64 + at as u64;
        format!("{{\"device_id\":\"sensor_1\",\"time\":{at_ms},\"temperature\":20.5}}\n")
    });
    lines.collect::<String>().into_bytes()
}

#[test]
fn line_of_a_gibibyte_takes_no_memory_and_is_one_letter() {
    let _alone = alone();
    let place = Place::new();
    let config = place.config("stdin]", "");
    let mut run = place.start(&config);
    run.feed(&good(1_000));
    let block = vec![b'x'; MIB as usize];
    (0..1024).for_each(|_| run.feed(&block));
    run.feed(b"\n");
    run.feed(&good(1_000));
    // The last line of a pipe is known to be one when the next begins.
    run.until_processed(&place, 2_001);
    run.until_letters("too_large", 1.0);
    check_memory("a line of 1 GiB from a pipe", run.child.id());
    run.finish();
    place.prove(&config);

    // The same in a file, whose gibibyte of zeros takes no room on the disk.
    let place = Place::new();
    let path = place.path("line.ndjson");
    let mut file = File::create(&path).expect("a file");
    file.write_all(&good(1_000)).expect("written");
    file.set_len(good(1_000).len() as u64 + 1024 * MIB).expect("a hole");
    let mut file = File::options().append(true).open(&path).expect("the file");
    file.write_all(b"\n").and_then(|()| file.write_all(&good(1_000))).expect("written");
    let config = place.config(&format!("file]\npaths = [{path:?}]"), "");
    let mut run = place.start(&config);
    run.finish();
    assert_eq!((place.processed(), place.letters("too_large")), (2_001, 1));
    place.prove(&config);
}

#[test]
fn key_of_ten_megabytes_is_refused_whether_or_not_the_message_may_be_so_large() {
    let _alone = alone();
    for (limits, reason) in [("", "too_large"), ("payload_bytes_max = \"16MiB\"", "invalid_key")] {
        let place = Place::new();
        let config = place.config("stdin]", limits);
        let mut run = place.start(&config);
        let key = "k".repeat(10_000_000);
        let huge = format!("{{\"device_id\":\"{key}\",\"time\":1767225600000}}\n");
        for _ in 0..20 {
            run.feed(&good(10));
            run.feed(huge.as_bytes());
        }
        run.feed(&good(10));
        run.until_processed(&place, 20 * 11 + 10);
        run.until_letters(reason, 20.0);
        check_memory(&format!("keys of 10 MB, {reason}"), run.child.id());
        run.finish();
        place.prove(&config);
    }
}

#[test]
fn nothing_but_garbage_is_nothing_but_letters() {
    let _alone = alone();
    let place = Place::new();
    let config = place.config("stdin]", "");
    let mut run = place.start(&config);
    feed_garbage(&mut run.stdin.take().expect("a pipe"), 300_000, 400);
    run.finish();
    let letters = place.number("SELECT count(*) FROM sensors_dead_letters");
    assert_eq!((place.processed(), letters), (300_000, 300_000));
    assert_eq!(place.number("SELECT count(*) FROM sensors_rows"), 0);
    place.prove(&config);
}

#[test]
fn garbage_that_the_store_does_not_take_holds_the_source_back() {
    let _alone = alone();
    let place = Place::new();
    // So many letters that those of one commit are more than the limit of memory.
    let config = place.config("stdin]", "letters_per_commit_max = 100000");
    let text = fs::read_to_string(&config).expect("the configuration");
    fs::write(&config, text.replace("\"100ms\"", "\"10m\"")).expect("written");
    let mut run = place.start(&config);
    until("a store", || run.logged().contains("lane starts").then_some(()));
    let other = rusqlite::Connection::open(place.path("rows.db")).expect("the store's file");
    until("the lock", || other.execute_batch("BEGIN IMMEDIATE").ok());
    let mut stdin = run.stdin.take().expect("a pipe");
    let feeding = thread::spawn(move || feed_garbage(&mut stdin, 60_000, 8_000));
    run.until_metric("tidemill_memory_full_total", 1.0);
    run.until_metric("tidemill_store_failures_total", 1.0);
    check_memory("garbage before a store that is locked", run.child.id());
    other.execute_batch("ROLLBACK").expect("the lock is ours");
    run.until_metric("tidemill_messages_total", 59_000.0);
    check_memory("the same garbage, stored", run.child.id());
    feeding.join().expect("fed");
    run.finish();
    assert_eq!(place.processed(), 60_000);
    place.prove(&config);
}

/// Writes lines of random bytes.
fn feed_garbage(pipe: &mut impl Write, lines: usize, bytes_max: u64) {
    let mut random = e2e::Random::with(5);
    let noise: Vec<u8> = (0..bytes_max * 2).map(|_| random.below(256) as u8).collect();
    let noise: Vec<u8> = noise.into_iter().map(|byte| byte.max(b'\n' + 1)).collect();
    for _ in 0..lines {
        let start = random.below(bytes_max) as usize;
        let length = 1 + random.below(bytes_max) as usize;
        pipe.write_all(&noise[start..start + length]).expect("fed");
        pipe.write_all(b"\n").expect("fed");
    }
}

/// A million messages, each of another device, within one minute.
const BOMB: [&str; 8] =
    ["--messages", "1000000", "--devices", "1000000", "--rate", "30000", "--epoch-ms", "--seed"];

#[test]
fn million_devices_where_500_were_expected_are_letters_beyond_the_limit() {
    let _alone = alone();
    let place = Place::new();
    let path = place.generate(&[&BOMB[..], &["7"]].concat());
    let limits = "devices_max = 1000\ndead_letter_bytes_max = \"64B\"";
    let config = place.config("stdin]", limits);
    let mut run = place.start(&config);
    let mut file = File::open(path).expect("the messages");
    std::io::copy(&mut file, run.stdin.as_mut().expect("a pipe")).expect("fed");
    run.until_processed(&place, 1_000_000);
    check_memory("a million devices, devices_max = 1000", run.child.id());
    let stored = place.letters("device_limit");
    assert!(stored > 900_000, "{stored} refused");
    run.until_letters("device_limit", stored as f64);
    run.finish();
    place.prove(&config);
}

#[test]
fn windows_that_reach_the_limit_of_memory_stop_their_lane_and_say_what_to_do() {
    let _alone = alone();
    let place = Place::new();
    let path = place.generate(&[&BOMB[..], &["7"]].concat());
    let config = place.config("stdin]", "");
    let mut run = place.start(&config);
    let mut stdin = run.stdin.take().expect("a pipe");
    // It closes the pipe when it ends.
    let feeding = thread::spawn(move || {
        let _ = std::io::copy(&mut File::open(path).expect("the messages"), &mut stdin);
    });
    let mut highest = 0;
    let status = until("its end", || {
        let status = fs::read_to_string(format!("/proc/{}/status", run.child.id()));
        let line = status.ok().and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        });
        highest = highest.max(line.unwrap_or(0) * 1024);
        run.child.try_wait().expect("a child")
    });
    feeding.join().expect("fed");
    assert_eq!(status.code(), Some(1), "{}", run.logged());
    let logged = run.logged();
    assert!(logged.contains("limits.memory_max = 67108864, and this lane has most of"), "{logged}");
    eprintln!("a million devices, no other limit: {} MiB at most", highest / MIB);
    assert!(highest <= MEMORY_MAX_BYTES + BESIDE_BYTES, "{highest} bytes");
}

#[test]
fn full_disk_is_waited_for_and_loses_nothing() {
    let _alone = alone();
    let place = Place::new();
    // A third of it letters: they share the file with the rows.
    let options =
        ["--messages", "300000", "--rate", "1000", "--malformed-ratio", "0.3", "--epoch-ms"];
    let path = place.generate(&options);
    let config = place.config(&format!("file]\npaths = [{path:?}]"), "");
    let mut command = Command::new("sh");
    // Writes beyond the limit fail, as on a full disk, instead of ending the process.
    command.args(["-c", r#"trap "" XFSZ; exec prlimit --fsize=4194304: "$0" run "$1""#, TIDEMILL]);
    command.arg(&config);
    let mut run = place.start_command(command);
    until("the disk is full", || run.logged().contains("store failed, repeating").then_some(()));
    let before = place.processed();
    assert!(before < 300_000, "the disk was large enough");
    let full_at = Instant::now();
    while full_at.elapsed() < Duration::from_secs(5) {
        assert!(run.child.try_wait().expect("a child").is_none(), "{}", run.logged());
        thread::sleep(Duration::from_millis(50));
    }
    assert!(place.processed() < 300_000);
    let pid = run.child.id();
    check_memory("a full disk", pid);
    let freed = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), "--fsize=unlimited:"])
        .status()
        .expect("prlimit can be run");
    assert!(freed.success());
    run.finish();
    assert_eq!(place.processed(), 300_000);
    place.prove(&config);
}

#[test]
fn store_that_is_down_while_messages_come_is_caught_up_with() {
    let _alone = alone();
    let down_s = std::env::var("TIDEMILL_DOWN_SECONDS")
        .map_or(40, |text| text.parse::<u64>().expect("a number of seconds"));
    let rate = 20_000;
    let content = Content { messages: rate * (down_s + 10), rate, ratios: [0.001; 3] };
    let topic = Topic::empty("down", PARTITIONS, &content);
    let server = Version::Old.own();
    let mut job = Job::new("down_long", &topic, Store::server(server.url()));
    job.limits_lines = "memory_max = \"64MiB\"\n".to_owned();
    job.queue_bytes_max = "64MiB";
    let mut run = job.start();
    until("all partitions are read", || {
        run.must_run();
        (run.logged().matches("reading partition").count() >= PARTITIONS as usize).then_some(())
    });
    let start_ms = now_ms();
    thread::scope(|scope| {
        let load = scope.spawn(|| topic.generate_with(&content, start_ms, &["--real-pace"]));
        job.until_under_way(&mut run);
        server.kill();
        let down_at = Instant::now();
        while down_at.elapsed() < Duration::from_secs(down_s) {
            run.must_run();
            thread::sleep(Duration::from_millis(100));
        }
        check_memory("a store that is down", run.pid());
        server.up();
        eprintln!("{}", load.join().expect("sent"));
    });
    topic.close(&content, start_ms);
    let up_at = Instant::now();
    job.until_done(&mut [&mut run]);
    eprintln!("caught up {:.1} s behind the last message", up_at.elapsed().as_secs_f64());
    check_memory("a store that was down", run.pid());
    run.terminate();
    topic.expect(60_000, u64::MAX);
    job.prove();
}

/// What the process gets of each fifth of a second while the load comes.
const SLICE: Duration = Duration::from_millis(10);

#[test]
fn five_times_what_it_can_do_waits_at_the_broker_and_is_caught_up_with() {
    let _alone = alone();
    // 150 s of event time, sent as fast as the broker takes it.
    let content = Content { messages: 450_000, rate: 3_000, ratios: [0.001; 3] };
    let topic = Topic::empty("fivefold", PARTITIONS, &content);
    let mut job = Job::new("fivefold", &topic, Store::Embedded);
    job.limits_lines = "memory_max = \"64MiB\"\n".to_owned();
    job.queue_bytes_max = "64MiB";
    let mut run = job.start();
    until("all partitions are read", || {
        run.must_run();
        (run.logged().matches("reading partition").count() >= PARTITIONS as usize).then_some(())
    });
    let start_ms = now_ms() - 200_000;
    let (took, during) = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let began = Instant::now();
            topic.generate_with(&content, start_ms, &[]);
            began.elapsed()
        });
        // A machine too slow by far: the process runs in slices, and not beyond a twelfth. That is
        // more than five times too much even if a slice is once long.
        while !load.is_finished() {
            if job.processed() * 12 < content.messages {
                run.signal("CONT");
                thread::sleep(SLICE);
                run.signal("STOP");
            }
            thread::sleep(19 * SLICE);
        }
        (load.join().expect("sent"), job.processed())
    });
    let offered = content.messages as f64 / took.as_secs_f64();
    let times = content.messages as f64 / during.max(1) as f64;
    eprintln!("offered {offered:.0} messages/s, {times:.1} times what was committed meanwhile");
    // The times are only shown: what a slice is worth depends on what else the machine does.
    assert!(during * 2 < content.messages, "{during} of {} are committed", content.messages);
    check_memory("five times too much, while it comes", run.pid());
    run.signal("CONT");
    let sent_at = Instant::now();
    topic.close(&content, start_ms);
    job.until_done(&mut [&mut run]);
    eprintln!("caught up {:.1} s behind the last message", sent_at.elapsed().as_secs_f64());
    check_memory("five times too much, caught up with", run.pid());
    run.terminate();
    topic.expect(60_000, u64::MAX);
    job.prove();
}

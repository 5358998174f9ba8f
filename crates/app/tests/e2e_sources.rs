//! Sources that need no service, as a user meets them: packed files that survive kills and damage,
//! streams that come once.

mod e2e;

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use e2e::{
    TIDEMILL, alone,
    job::Run,
    place::{Place, text, tidemill},
    until,
};

const MESSAGES: usize = 400_000;

/// Two hundred devices.
fn new_place(messages: usize) -> Place {
    Place::of_messages(messages, &["--rate", "1000", "--devices", "200"])
}

impl Place {
    fn content(&self) -> Vec<u8> {
        fs::read(self.path("messages.ndjson")).expect("the messages")
    }

    /// Writes a configuration with a store of its own.
    fn config(&self, name: &str, source: &str) -> PathBuf {
        let text = format!(
            "[pipeline]\nname = \"sources\"\ncommit_interval = \"10ms\"\n{source}\n\
             [schema]\npreset = \"sensor\"\n[sink.embedded]\npath = {:?}\ntable = \"sensors\"\n\
             [http]\nenabled = false\n[limits]\nqueue_bytes_max = \"1MiB\"\n",
            self.path(&format!("{name}.db"))
        );
        let path = self.path(&format!("{name}.toml"));
        fs::write(&path, text).expect("the configuration is written");
        path
    }

    fn file_config(&self, name: &str, file: &str) -> PathBuf {
        self.config(name, &format!("[source.file]\npaths = [{:?}]", self.path(file)))
    }

    /// Returns how many messages the store's records cover.
    fn processed(&self, name: &str) -> i64 {
        let opened = rusqlite::Connection::open_with_flags(
            self.path(&format!("{name}.db")),
            rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
        );
        let sum: Option<i64> = opened
            .and_then(|store| {
                store.query_row("SELECT sum(messages) FROM sensors_commits", [], |row| row.get(0))
            })
            .unwrap_or_default();
        sum.unwrap_or(0)
    }

    /// Returns rows (without lineage) and dead letters, as text.
    fn stored(&self, name: &str) -> (Vec<String>, Vec<String>) {
        let store = rusqlite::Connection::open(self.path(&format!("{name}.db"))).expect("a store");
        let read = |query: &str| {
            let mut statement = store.prepare(query).expect("a query");
            let count = statement.column_count();
            let rows = statement
                .query_map([], |row| {
                    let cells =
                        (0..count).map(|at| row.get_ref(at).map(|cell| format!("{cell:?}")));
                    cells.collect::<Result<Vec<_>, _>>().map(|cells| cells.join(" "))
                })
                .expect("a query");
            rows.map(|row| row.expect("a row")).collect()
        };
        let columns = "time, device_id, record_count, temperature, temperature_sum, status, \
                       error_count, coverage, last_event_time";
        (
            read(&format!("SELECT {columns} FROM sensors ORDER BY time, device_id")),
            read("SELECT offset, reason, payload FROM sensors_dead_letters ORDER BY offset"),
        )
    }
}

/// Runs a configuration with a stream as its standard input.
fn run_fed(config: &Path, stream: &[u8]) -> Output {
    let mut process = Command::new(TIDEMILL)
        .arg("run")
        .arg(config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tidemill can be run");
    // One that refuses the stream closes it.
    let _ = process.stdin.take().expect("a pipe").write_all(stream);
    process.wait_with_output().expect("tidemill ends")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("into memory");
    encoder.finish().expect("into memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("into memory")
}

fn succeeded(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

/// Runs and kills again and again until the input is through; returns how often it was killed.
fn run_with_kills(place: &Place, name: &str, config: &Path) -> usize {
    for kills in 0.. {
        let before = place.processed(name);
        let log = place.path(&format!("{name}-{kills}.log"));
        let mut run = Run::start(&[Path::new("run"), config], &log);
        let step = (MESSAGES / 5) as i64;
        until("progress or the end", || {
            (run.has_ended() || place.processed(name) >= before + step).then_some(())
        });
        if run.has_ended() {
            assert!(run.until_ended().success(), "{}", run.logged());
            return kills;
        }
        run.kill();
    }
    unreachable!("one run gets through")
}

#[test]
fn packed_files_give_the_rows_of_the_plain_one_though_killed_again_and_again() {
    let _alone = alone();
    let place = new_place(MESSAGES);
    let plain = place.file_config("plain", "messages.ndjson");
    succeeded(&tidemill("run", &plain, &[]));
    let expected = place.stored("plain");
    assert!(expected.0.len() > 1_000 && expected.1.len() > 400);
    let content = place.content();
    let half = content.len() / 2;
    for (name, packed) in [
        ("gzip", [gzip(&content[..half]), gzip(&content[half..])].concat()),
        ("zstd", [zstd(&content[..half]), zstd(&content[half..])].concat()),
    ] {
        fs::write(place.path(name), packed).expect("written");
        let config = place.file_config(&format!("of_{name}"), name);
        let kills = run_with_kills(&place, &format!("of_{name}"), &config);
        assert!(kills >= 2, "{name}: killed {kills} times");
        let stored = place.stored(&format!("of_{name}"));
        assert!(stored == expected, "{name}: the store differs");
        let verified = tidemill("verify", &config, &[]);
        assert!(text(&verified.stdout).contains("proved"), "{}", text(&verified.stdout));
    }
}

#[test]
fn lines_before_the_damage_are_stored_and_a_sound_archive_goes_on_from_there() {
    let place = new_place(20_000);
    succeeded(&tidemill("run", &place.file_config("plain", "messages.ndjson"), &[]));
    for (name, packed) in [("gzip", gzip(&place.content())), ("zstd", zstd(&place.content()))] {
        fs::write(place.path(name), &packed[..packed.len() * 2 / 3]).expect("written");
        let store = format!("of_{name}");
        let config = place.file_config(&store, name);
        let output = tidemill("run", &config, &[]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("the {name} archive is cut off at byte")), "{said}");
        let processed = place.processed(&store);
        assert!((8_000..20_000).contains(&processed), "{processed} of 20000 messages");
        fs::write(place.path(name), &packed).expect("written");
        succeeded(&tidemill("run", &config, &[]));
        assert!(place.stored(&store) == place.stored("plain"), "{name}: the store differs");
    }
}

#[test]
fn stream_is_counted_once_if_it_is_fed_again_and_no_other_is_mixed_in() {
    let place = new_place(20_000);
    succeeded(&tidemill("run", &place.file_config("plain", "messages.ndjson"), &[]));
    let content = place.content();
    let config = place.config("stdin", "[source.stdin]");
    // The first half of it, and then a kill: nothing says that the stream has ended.
    let (mut pipe, fed) = {
        let pipe = place.path("pipe");
        let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo can be run");
        assert!(made.success());
        let mut run = Command::new(TIDEMILL);
        let opened = std::thread::spawn({
            let pipe = pipe.clone();
            move || File::options().write(true).open(pipe).expect("the pipe")
        });
        let stdin = File::open(&pipe).expect("the pipe");
        let fed = run.arg("run").arg(&config).stdin(stdin).stderr(Stdio::null()).spawn();
        (opened.join().expect("the pipe"), fed.expect("tidemill can be run"))
    };
    let mut fed = fed;
    pipe.write_all(&content[..content.len() / 2]).expect("fed");
    until("some of it is committed", || (place.processed("stdin") > 5_000).then_some(()));
    fed.kill().expect("killed");
    fed.wait().expect("waited for");
    let before = place.stored("stdin");
    // Another stream, whose first line differs, is refused and changes nothing.
    let first = content.iter().position(|byte| *byte == b'\n').expect("lines") + 1;
    let output = run_fed(&config, &content[first..]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the commit record is of another stream"), "{said}");
    assert!(place.stored("stdin") == before, "nothing is mixed in");
    // The same from its beginning, packed this time.
    succeeded(&run_fed(&config, &gzip(&content)));
    assert!(place.stored("stdin") == place.stored("plain"), "the store differs");
    let verified = tidemill("verify", &config, &[]);
    assert!(text(&verified.stdout).contains("proved"), "{}", text(&verified.stdout));
}

#[test]
fn what_is_no_file_is_refused_with_a_remedy() {
    let place = new_place(10);
    let dash = place.config("dash", "[source.file]\npaths = [\"-\"]");
    let said = text(&tidemill("check", &dash, &[]).stderr);
    assert!(said.contains("names the standard input; write [source.stdin] instead"), "{said}");
    let device = place.config("device", "[source.file]\npaths = [\"/dev/null\"]");
    let output = tidemill("run", &device, &[]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("is no plain file; feed it to [source.stdin]"), "{said}");
}

/// Returns the table that a command prints below a heading: the first word of each line.
fn first_words<'t>(text: &'t str, heading: &str) -> Vec<&'t str> {
    let lines = text.lines().skip_while(|line| !line.trim_start().starts_with(heading)).skip(1);
    lines.filter_map(|line| line.split_whitespace().next()).collect()
}

fn generate(place: &Place, options: &[&str], file: &str) {
    let output = Command::new(TIDEMILL)
        .arg("generate")
        .args(options)
        .arg("--out")
        .arg(place.path(file))
        .output()
        .expect("tidemill can be run");
    succeeded(&output);
}

#[test]
fn generated_faults_are_the_same_from_the_command_and_from_the_source() {
    let place = new_place(10);
    let options = "--messages 30000 --rate 300 --devices 30 --missing-ratio 0.1 \
                   --duplicate-ratio 0.05 --silent-ratio 0.2 --silent-for-ms 20000 \
                   --wrong-clock-ratio 0.2 --wrong-clock-by-ms 20000 --burst-every-ms 10000 \
                   --burst-ratio 0.2 --malformed-ratio 0.01";
    let options: Vec<&str> = options.split_whitespace().collect();
    generate(&place, &options, "faults.ndjson");
    succeeded(&tidemill("run", &place.file_config("file", "faults.ndjson"), &[]));
    let source = "[source.generate]\npace = \"fast\"\nmessages = 30000\nrate_per_s = 300\n\
                  devices = 30\nmissing_ratio = 0.1\nduplicate_ratio = 0.05\nsilent_ratio = 0.2\n\
                  silent_for = \"20s\"\nwrong_clock_ratio = 0.2\nwrong_clock_by = \"20s\"\n\
                  burst_every = \"10s\"\nburst_ratio = 0.2\nmalformed_ratio = 0.01";
    let made = place.config("made", source);
    succeeded(&tidemill("run", &made, &[]));
    let (rows, letters) = place.stored("file");
    assert!(rows == place.stored("made").0, "rows differ");
    // Positions do: numbers of messages, not bytes.
    assert_eq!(letters.len(), place.stored("made").1.len());
    let complete = "SELECT count(*) FROM sensors WHERE coverage > 0.5";
    let store = rusqlite::Connection::open(place.path("file.db")).expect("a store");
    let late = "SELECT count(*) FROM sensors_dead_letters WHERE reason = 'late'";
    let late: i64 = store.query_row(late, [], |row| row.get(0)).expect("a count");
    assert!(late > 100, "wrong clocks make {late} messages late");
    let covered: i64 = store.query_row(complete, [], |row| row.get(0)).expect("a count");
    assert!(covered < rows.len() as i64 / 2, "bursts leave gaps: {covered} of {}", rows.len());
}

#[test]
fn init_writes_a_configuration_that_checks_and_runs_for_every_shape() {
    let place = new_place(10);
    for (shape, preset) in [("sensor", "sensor"), ("nested", "sensor-nested"), ("cpu", "cpu")] {
        let options = ["--messages", "12000", "--rate", "100", "--devices", "10", "--shape", shape];
        let faults = ["--missing-ratio", "0.05", "--malformed-ratio", "0.002"];
        generate(&place, &[&options[..], &faults].concat(), shape);
        for (name, more) in
            [(format!("{shape}_1"), None), (format!("{shape}_2"), Some("--no-preset"))]
        {
            let config = place.path(&format!("{name}.toml"));
            let run = |arguments: &[&std::ffi::OsStr]| {
                let mut command = Command::new(TIDEMILL);
                command.current_dir(place.directory.path()).args(arguments);
                command.output().expect("tidemill can be run")
            };
            let mut arguments = vec!["init", "--from", shape, "--name", &name, "--out"];
            arguments.push(config.to_str().expect("a plain path"));
            arguments.extend(more);
            let arguments: Vec<&std::ffi::OsStr> = arguments.iter().map(|a| a.as_ref()).collect();
            succeeded(&run(&arguments));
            let again = run(&arguments);
            assert_eq!(again.status.code(), Some(1), "it overwrites nothing");
            let written = fs::read_to_string(&config).expect("a configuration");
            let has_preset = written.contains(&format!("preset = \"{preset}\""));
            assert_eq!(has_preset, more.is_none(), "{written}");
            assert!(written.matches("# Guess: ").count() >= if has_preset { 2 } else { 10 });
            let off = format!("{written}\n[http]\nenabled = false\n");
            fs::write(&config, off).expect("written");
            for command in ["check", "run", "verify"] {
                succeeded(&run(&[command.as_ref(), config.as_ref()]));
            }
            let store = rusqlite::Connection::open(place.path(&format!("{name}.db")));
            let query = format!("SELECT count(*), sum(record_count) FROM {name}");
            let counted = store
                .expect("a store")
                .query_row(&query, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
            let (rows, messages) = counted.expect("a count");
            assert!((20..=40).contains(&rows), "{name}: {rows} rows of ten devices\n{written}");
            assert!(messages > 11_900, "{name}: {messages} messages\n{written}");
        }
    }
}

#[test]
fn init_without_anything_to_guess_from_says_so() {
    let place = new_place(10);
    fs::write(place.path("empty"), "").expect("written");
    fs::write(place.path("words"), "no json\n").expect("written");
    let said = |file: &str| {
        let from = place.path(file);
        let output = Command::new(TIDEMILL).args(["init", "--from"]).arg(from).output();
        let output = output.expect("tidemill can be run");
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    };
    assert!(said("empty").contains("has no message"), "{}", said("empty"));
    assert!(said("words").contains("none of 1 messages is a JSON object"), "{}", said("words"));
    assert!(said("absent").contains("No such file"), "{}", said("absent"));
    fs::write(place.path("timeless"), "{\"id\":\"a\",\"volts\":1.5}\n".repeat(9)).expect("written");
    let mut command = Command::new(TIDEMILL);
    let output = command.args(["init", "--from"]).arg(place.path("timeless")).output();
    let written = text(&output.expect("tidemill can be run").stdout);
    assert!(written.contains("time = \"publish\"\n"), "{written}");
    assert!(
        written.contains("its modification time: all its messages are one window"),
        "{written}"
    );
}

#[test]
fn explain_tells_the_plan_with_its_numbers_and_the_columns_of_the_store() {
    let place = new_place(2_000);
    let config = place.file_config("plain", "messages.ndjson");
    succeeded(&tidemill("run", &config, &[]));
    let output = tidemill("explain", &config, &[]);
    succeeded(&output);
    let said = text(&output.stdout);
    let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "The file is one lane.",
        "One row per device_id and 1m, by the time in the message (time)",
        "when a message 5s or more behind its end comes by",
        // A minute, five seconds of waiting, ten milliseconds between commits.
        "1m5s10ms = 1950300 messages",
        "max_future_skew allows (5m), its window was begun so much earlier: at most 6m5s10ms = \
         10950300 messages",
        "late (its window has closed): late = \"dead_letter\"; dead letters go to \
         sensors_dead_letters",
        "8.3 rows/s for 500 devices, in place of 30000 messages/s, 99.97 % fewer writes",
    ] {
        assert!(flat.contains(part), "{part:?} is not in\n{said}");
    }
    assert!(said.lines().take_while(|line| *line != "Row").all(|line| line.len() <= 102), "{said}");
    let store = rusqlite::Connection::open(place.path("plain.db")).expect("a store");
    let statement = store.prepare("SELECT * FROM sensors").expect("a view");
    let stored: Vec<&str> = statement.column_names().collect();
    assert_eq!(first_words(&said, "column"), stored);
    let told = Command::new(TIDEMILL)
        .arg("explain")
        .arg(&config)
        .args(["--rate", "10", "--devices", "60"])
        .output()
        .expect("tidemill can be run");
    let flat = text(&told.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("1m5s10ms = 651 messages") && flat.contains("1.0 rows/s"), "{flat}");
    let wrong = Command::new(TIDEMILL).arg("explain").arg(&config).args(["--rate", "0"]).output();
    assert_eq!(wrong.expect("tidemill can be run").status.code(), Some(2));
}

//! What operators and collectors see of the process: logs in JSON, the progress bar, how it ends,
//! completions and manual pages as they are installed.

mod e2e;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use e2e::{TIDEMILL, job::Run, root};
use serde_json::Value;
use tempfile::TempDir;

struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a configuration whose rows go into a file here.
    fn config(&self, source: &str) -> PathBuf {
        let rows = self.path("rows.db");
        let text = format!(
            "[pipeline]\nname = \"operations\"\n[source.{source}\n[schema]\npreset = \"sensor\"\n\
             [sink.embedded]\npath = {rows:?}\n[http]\nenabled = false\n"
        );
        let path = self.path("tidemill.toml");
        fs::write(&path, text).expect("the configuration is written");
        path
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn tidemill(arguments: &[&Path]) -> Output {
    Command::new(TIDEMILL).args(arguments).output().expect("tidemill can be run")
}

/// Parses every line, and holds it against what each has to have.
fn json_lines(log: &[u8]) -> Vec<Value> {
    let lines = text(log);
    let parse = |line: &str| {
        let object: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["timestamp", "level", "target", "message"] {
            assert!(object[key].is_string(), "{key}: {line}");
            let name = format!("\"{key}\":");
            assert_eq!(line.matches(&name).count(), 1, "{key} stands there once: {line}");
        }
        let time = object["timestamp"].as_str().expect("checked above");
        let parsed = tidemill_decode::time::parse_text(
            time.as_bytes(),
            tidemill_kernel::schema::TimeUnit::Auto,
        );
        assert!(parsed.is_some() && time.ends_with('Z') && time.contains('T'), "{time}");
        object
    };
    lines.lines().map(parse).collect()
}

#[test]
fn every_line_of_a_json_log_is_an_object() {
    let place = Place::new();
    let generate = "generate]\npace = \"fast\"\nmessages = 200000\nrate_per_s = 1000\ndevices = 10";
    let config = place.config(generate);
    let options: [&Path; 5] = ["--log-format", "json", "run", "--log-windows", ""].map(Path::new);
    let output = tidemill(&[&options[..4], &[&config]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines = json_lines(&output.stderr);
    let with = |message: &str| lines.iter().find(|line| line["message"] == message);
    let started = with("started").expect("a line that says it has started");
    assert_eq!(started["pipeline"], "operations");
    let closed = with("window closed").expect("windows close");
    assert!(closed["devices"] == 10 && closed["rows"] == 10, "numbers are numbers: {closed}");
    let ledger = with("ledger").expect("the ledger at the end");
    assert_eq!(ledger["messages"], 200_000);
    assert!(lines.iter().any(|line| line["message"].as_str().expect("text").contains("device=")));
}

#[test]
fn what_ends_a_command_is_a_line_of_json_too() {
    let place = Place::new();
    let config = place.config("generate]\nmesages = 1\nsead = 2");
    let json = Path::new("--log-format=json");
    let output = tidemill(&[Path::new("check"), &config, json]);
    assert_eq!(output.status.code(), Some(2));
    let lines = json_lines(&output.stderr);
    assert_eq!((lines.len(), &lines[0]["level"]), (1, &Value::from("ERROR")));
    let said = lines[0]["message"].as_str().expect("text");
    assert!(said.contains("source.generate.messages") && said.contains('\n'), "{said}");
    // Without the error in the log there is still a word about why it ended.
    let mut silent = Command::new(TIDEMILL);
    silent.arg("check").args([&config, json]).env("TIDEMILL_LOG", "off");
    let output = silent.output().expect("tidemill can be run");
    assert!(text(&output.stderr).contains("source.generate.messages"));
}

/// Runs a shell line on a terminal of 100 columns and returns what the terminal got.
fn on_a_terminal(line: &str) -> String {
    let line = format!("stty cols 100 rows 30; {line}");
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    // Escapes for colours would stand between the words.
    script.env("TERM", "xterm").env("NO_COLOR", "1").stdin(Stdio::null());
    let output = script.output().expect("script of util-linux can be run");
    assert!(output.status.success(), "{}", text(&output.stdout));
    text(&output.stdout)
}

#[test]
fn finite_input_has_a_progress_bar_on_a_terminal_and_nowhere_else() {
    let place = Place::new();
    // A few seconds.
    let config = place.config("generate]\npace = \"fast\"\nmessages = 1500000");
    let (run, rows) = (format!("{TIDEMILL} run {}", config.display()), place.path("rows.db"));
    let shown = on_a_terminal(&run);
    let bars: Vec<&str> =
        shown.split(['\r', '\n']).filter(|part| part.contains("% of 1,500,000 messages")).collect();
    assert!(bars.len() > 3, "it is drawn again and again: {shown}");
    assert!(bars.iter().any(|bar| bar.contains("messages/s  ETA ")), "{bars:#?}");
    let percents = bars
        .iter()
        .filter_map(|bar| bar.split(" % of").next()?.rsplit(' ').next()?.parse::<u32>().ok());
    let percents: Vec<u32> = percents.collect();
    assert!(percents.is_sorted() && percents.last() > Some(&50), "{percents:?}");
    let rate = bars.iter().filter_map(|bar| {
        bar.split(" messages/s").next()?.rsplit(' ').next()?.replace(',', "").parse::<u32>().ok()
    });
    let rate = rate.max();
    assert!(rate.is_some_and(|rate| (10_000..9_999_999).contains(&rate)), "{rate:?}");
    // Log lines stand by themselves, and the last thing that is left is a log line.
    assert!(shown.contains("finished, all input is processed and stored"), "{shown}");
    fs::remove_file(&rows).expect("the store's file");
    let log = place.path("run.log");
    let shown = on_a_terminal(&format!("{run} 2>{}", log.display()));
    let log = fs::read_to_string(&log).expect("the log");
    assert!(log.contains("finished"), "{log}");
    assert!(!shown.contains('%') && !log.contains('%') && !log.contains('\x1b'), "{shown}{log}");
    fs::remove_file(&rows).expect("the store's file");
    let shown = on_a_terminal(&format!("{run} --log-format json"));
    assert!(!shown.contains("% of") && shown.contains("\"message\":\"finished"), "{shown}");
}

#[test]
fn processes_end_with_the_numbers_of_the_table() {
    use tidemill::exit::{DONE, EXIT_STATUSES, FAILED, INTERRUPTED, USAGE};
    let place = Place::new();
    let config = place.config("generate]\nmessages = 10");
    let code = |arguments: &[&Path]| tidemill(arguments).status.code();
    assert_eq!(code(&[Path::new("check"), &config]), Some(i32::from(DONE)));
    // Nothing has made the store's file.
    assert_eq!(code(&[Path::new("query"), &config]), Some(i32::from(FAILED)));
    assert_eq!(code(&[Path::new("chekc"), &config]), Some(i32::from(USAGE)));
    assert_eq!(code(&[Path::new("check"), &place.path("none.toml")]), Some(i32::from(USAGE)));
    // `second_interrupt_ends_at_once` of `e2e_cli.rs` sees it happen.
    let codes: Vec<u8> = EXIT_STATUSES.iter().map(|status| status.code).collect();
    assert_eq!(codes, [0, 1, 2, 101, 130]);
    assert_eq!(INTERRUPTED, 130);
}

#[test]
fn terminated_run_ends_well() {
    let place = Place::new();
    let config = place.config("generate]\nrate_per_s = 1000\nbackfill = \"2m\"");
    let mut run = Run::start(&[Path::new("run"), &config], &place.path("run.log"));
    run.until_logged("window closed");
    run.terminate();
    assert!(run.logged().contains("stopped, all that was read is stored"), "{}", run.logged());
}

#[test]
fn bash_completes_commands_and_options() {
    let complete = |words: &str, at: usize| {
        let line = format!(
            "source <({TIDEMILL} completions bash); COMP_WORDS=(tidemill {words}); \
             COMP_CWORD={at}; \
             _tidemill tidemill \"${{COMP_WORDS[{at}]}}\" \"${{COMP_WORDS[{at}-1]}}\"; \
             echo \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash").args(["-c", &line]).output().expect("bash can be run");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    };
    assert_eq!(complete("ver", 1), "verify");
    assert_eq!(complete("verify --st", 2), "--store-only");
    assert_eq!(complete("run --log-format j", 3), "json");
}

#[test]
fn every_command_has_a_manual_page() {
    let place = Place::new();
    let folder = place.path("man1");
    fs::create_dir(&folder).expect("a folder");
    let output = tidemill(&[Path::new("man"), Path::new("--out"), &folder]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for name in ["tidemill", "tidemill-run", "tidemill-verify", "tidemill-completions"] {
        let page = fs::read_to_string(folder.join(format!("{name}.1"))).expect("a page");
        for part in [".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS"] {
            assert!(page.contains(part), "{name}: {part}");
        }
    }
    let first = tidemill(&[Path::new("man")]);
    let page = fs::read(folder.join("tidemill.1")).expect("a page");
    assert!(first.stdout == page, "the first page is the one that is printed");
    let missing = tidemill(&[Path::new("man"), Path::new("--out"), &place.path("none")]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("none"), "{}", text(&missing.stderr));
}

/// Runs a tool of systemd; `None` where the machine has none.
fn systemd_analyze(arguments: &[&str], unit: &Path) -> Option<Output> {
    Command::new("systemd-analyze").args(arguments).arg(unit).output().ok()
}

#[test]
fn unit_is_accepted_by_systemd_and_locks_the_service_in() {
    let place = Place::new();
    let unit = fs::read_to_string(root().join("packaging/tidemill@.service")).expect("the unit");
    let here = unit.replace("/usr/local/bin/tidemill", TIDEMILL);
    assert_ne!(here, unit, "the unit starts what its head says is installed");
    let path = place.path("tidemill@sensors.service");
    fs::write(&path, &here).expect("the unit is written");
    let said = |output: &Output| text(&output.stdout) + &text(&output.stderr);
    if let Some(output) = systemd_analyze(&["verify", "--man=no"], &path) {
        // A key that it does not know is only a word of warning.
        assert!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
        let security = ["security", "--offline=true", "--threshold=15"];
        let output = systemd_analyze(&security, &path).expect("it was there a moment ago");
        assert!(output.status.success(), "exposed by more than 1.5: {}", said(&output));
    }
    let value = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {key} in the unit"))
    };
    assert_eq!(value("RestartPreventExitStatus"), tidemill::exit::USAGE.to_string());
    assert_eq!((value("KillSignal"), value("Restart")), ("SIGTERM", "on-failure"));
    let patience_s = value("TimeoutStopSec").trim_end_matches('s').parse::<u32>();
    assert!(patience_s.is_ok_and(|seconds| seconds >= 40), "a drain may take 30 s by default");
}

#[test]
fn archive_holds_what_belongs_to_the_binary() {
    let place = Place::new();
    // The binary under test stands in for the static one, which takes minutes to build; without
    // what debuggers want, which takes minutes to pack.
    let binary = place.path("tidemill");
    let strip = Command::new("strip").arg("-o").arg(&binary).arg(TIDEMILL).status();
    assert!(strip.is_ok_and(|status| status.success()), "strip of binutils");
    let pack = |name: &str| {
        let out = place.path(name);
        let output = Command::new(root().join("packaging/dist.sh"))
            .env("BINARY", &binary)
            .env("OUT", &out)
            .env("SOURCE_DATE_EPOCH", "1767225600")
            .output()
            .expect("dist.sh can be run");
        assert!(output.status.success(), "{}", text(&output.stderr));
        out
    };
    let out = pack("dist");
    let in_out = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(&out).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(output.status.success(), "{program}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    in_out("sha256sum", &["--check", "--strict", "SHA256SUMS"]);
    let name = format!("tidemill-{}-x86_64-linux", tidemill::version::VERSION);
    let files = in_out("tar", &["--list", "--file", &format!("{name}.tar.gz")]);
    for file in [
        "tidemill",
        "VERSION",
        "LICENSE",
        "THIRD-PARTY-LICENSES.txt",
        "tidemill@.service",
        "prometheus-alerts.yml",
        "config/example.toml",
        "man1/tidemill-run.1",
        "completions/_tidemill",
    ] {
        assert!(files.lines().any(|line| line == format!("{name}/{file}")), "{file}: {files}");
    }
    in_out("tar", &["--extract", "--file", &format!("{name}.tar.gz")]);
    let folder = out.join(&name);
    let read = |file: &str| fs::read_to_string(folder.join(file)).expect("a file of the archive");
    assert!(read("VERSION").starts_with(tidemill::version::VERSION));
    let licences = read("THIRD-PARTY-LICENSES.txt");
    for package in
        ["\n  clap ", "\n  ring ", "\n  mimalloc ", "SQLite: public domain", "Apache License"]
    {
        assert!(licences.contains(package), "{package}");
    }
    // Tests and build scripts are not shipped.
    assert!(!licences.contains("\n  tempfile ") && !licences.contains("\n  cc "));
    let status = Command::new(folder.join("tidemill")).arg("--version").output();
    assert!(status.expect("the packed binary can be run").status.success());
    let again = fs::read(pack("again").join("SHA256SUMS")).expect("checksums");
    assert!(again == fs::read(out.join("SHA256SUMS")).expect("checksums"), "the same bytes again");
}

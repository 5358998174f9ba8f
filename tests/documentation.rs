//! What the documents say, held against the code: keys, reasons, tests, examples, links.
//!
//! `docs/configuration.md` and `docs/reference` are written by this test: `TIDEMILL_WRITE_DOCS=1
//! cargo test -p tidemill --test documentation`. The other documents are written by hand and only
//! checked.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill::config::Config;
use tidemill::config::keys::{Fallback, Key, Kind, TABLES};
use tidemill::exit::{EXIT_STATUSES, ExitStatus};
use tidemill::exposition::{Family, families};
use tidemill_engine::metrics::Metrics;
use tidemill_kernel::event::Reason;

const DOCUMENTS: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "docs/configuration.md",
    "docs/cut-over.md",
    "docs/dead-letters.md",
    "docs/formats.md",
    "docs/guarantees.md",
    "docs/limits.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/reference/exit-codes.md",
    "docs/reference/metrics.md",
    "docs/schemas.md",
    "docs/sources.md",
    "docs/time.md",
    "docs/tutorial.md",
    "docs/verify.md",
];

const HEAD: &str = "\
# Configuration

One TOML file. This page is written from the table of keys in `crates/app/src/config/keys.rs` by
`tests/documentation.rs`; `config/example.toml` has the same keys with examples.

There is exactly one `[source.…]` and one `[sink.…]`. Durations and sizes are written with their
unit: `ms s m h d`, `B KiB MiB GiB KB MB GB`. `${NAME}` takes a value from the environment and
`$${` stands for `${` itself; for secrets, `file:/path` takes the content of a file. Neither is
printed. An unknown key is an error that names the nearest known one:

```text
bad.toml:13: key \"window.sise\" is unknown; did you mean \"window.size\"?
```

`tidemill check FILE` shows everything that is wrong at once.

The last column says when another value holds after a reload (SIGHUP or `POST /api/reload`,
[operations](operations.md)): *at once*; at the *next window edge*, for windows beyond the newest
open one of each lane (with `routing = \"any\"`: after a restart); or after a *restart*.
";

const METRICS_HEAD: &str = "\
# Metrics

`GET /metrics` on `http.listen` (default 127.0.0.1:8787) answers in Prometheus' text format. This
page is written from the tables in the code by `tests/documentation.rs`. What to watch, and alerts
to begin with: [operations](../operations.md).

A lane is the processing of one partition; its metrics go when the process loses the partition.
Counters begin at 0 with every process.

| metric | type | labels | meaning |
|---|---|---|---|
";

const EXIT_HEAD: &str = "\
# Exit statuses

This page is written from the table in `crates/app/src/exit.rs` by `tests/documentation.rs`;
`tidemill --help` and the manual page show the same table in short.

| status | meaning | when | what to do |
|---|---|---|---|
";

fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).expect("the package is two folders below the root").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn configuration_page_is_the_table_of_keys() {
    is_written("docs/configuration.md", &configuration_page());
}

/// Writes a generated page, or holds it against what it should be.
fn is_written(path: &str, expected: &str) {
    if std::env::var_os("TIDEMILL_WRITE_DOCS").is_some() {
        fs::write(root().join(path), expected).expect("the page can be written");
        return;
    }
    let remedy = "run TIDEMILL_WRITE_DOCS=1 cargo test -p tidemill --test documentation";
    assert!(read(path) == expected, "{path} is not what the tables in the code say: {remedy}");
}

#[test]
fn metrics_page_is_the_table_of_metrics() {
    let metrics = Metrics::default();
    metrics.update_lane(&Arc::from("0"), |lane| {
        lane.watermark_ms = Some(0);
        lane.publish_time_ms = Some(0);
        lane.committed_at_ms = Some(0);
    });
    let mut page = METRICS_HEAD.to_owned();
    for Family { name, help, kind, samples } in families(&metrics) {
        let labels = samples.first().expect("every metric has a value here").0.clone();
        let labels = labels.split(',').filter_map(|label| label.split_once('='));
        let labels: Vec<String> = labels.map(|(label, _)| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(" ") };
        writeln!(page, "| `{name}` | {kind} | {labels} | {help} |").expect("a string");
    }
    is_written("docs/reference/metrics.md", &page);
}

#[test]
fn exit_codes_page_is_the_table_of_statuses() {
    let mut page = EXIT_HEAD.to_owned();
    for ExitStatus { code, meaning, when, remedy } in EXIT_STATUSES {
        writeln!(page, "| {code} | {meaning} | {when} | {remedy} |").expect("a string");
    }
    is_written("docs/reference/exit-codes.md", &page);
}

fn configuration_page() -> String {
    let mut page = HEAD.to_owned();
    for table in TABLES.iter().filter(|table| !table.keys.is_empty()) {
        let brackets = if table.path == "schema.field" { ("[[", "]]") } else { ("[", "]") };
        let (open, close) = brackets;
        let heading = "| key | value | default | meaning | change |\n|---|---|---|---|---|";
        write!(page, "\n## `{open}{}{close}`\n\n{heading}\n", table.path).expect("a string");
        for key in table.keys {
            let (value, default) = (value(key), default(key));
            let (name, meaning, change) = (key.name, key.meaning, key.change.name());
            writeln!(page, "| `{name}` | {value} | {default} | {meaning} | {change} |")
                .expect("a string");
        }
    }
    page.push_str("\n## `[source.stdin]`\n\nNo keys. See [sources.md](sources.md).\n");
    page.push_str("\n## `[sink.stdout]`\n\nNo keys. Rows go to standard output as NDJSON.\n");
    page
}

fn default(key: &Key) -> String {
    match key.fallback {
        Fallback::Required => "**required**".to_owned(),
        Fallback::Absent => "–".to_owned(),
        Fallback::Is(value) => format!("`{value}`"),
    }
}

fn value(key: &Key) -> String {
    match key.kind {
        Kind::Int(low, high) => format!("{low} to {high}"),
        Kind::Float(low, high) => format!("{low} to {high}"),
        Kind::Bool => "`true` or `false`".to_owned(),
        Kind::Choice(words) => format!("`{}`", words.join("` `")),
        Kind::Text => "text".to_owned(),
        Kind::Texts => "list of texts".to_owned(),
        Kind::Secret => "secret".to_owned(),
        Kind::Duration(low, high) => format!("{} to {}", duration(low), duration(high)),
        Kind::Size(low, high) => format!("{} to {}", size(low), size(high)),
        Kind::Time => "time".to_owned(),
        Kind::Path => "`\"a.b\"` or `[\"a\", \"b\"]`".to_owned(),
        Kind::Paths => "list of places".to_owned(),
        Kind::Range => "`[low, high]`".to_owned(),
        Kind::Words => "`{ WORD = 1 }`".to_owned(),
    }
}

fn duration(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    largest_unit(ms, &units)
}

fn size(bytes: u64) -> String {
    largest_unit(bytes, &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")])
}

fn largest_unit(count: u64, units: &[(u64, &str)]) -> String {
    let fitting = units.iter().find(|(unit, _)| count > 0 && count.is_multiple_of(*unit));
    let (unit, name) = fitting.unwrap_or(&units[units.len() - 1]);
    format!("{}{name}", count / unit)
}

#[test]
fn every_reason_is_explained() {
    let page = read("docs/dead-letters.md");
    for reason in Reason::ALL {
        assert!(page.contains(&format!("\n| `{}` |", reason.name())), "{reason:?} is missing");
    }
    let rows = page.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, Reason::ALL.len(), "a reason that is none");
}

#[test]
fn every_warning_and_error_of_the_log_is_explained() {
    let page = read("docs/operations.md");
    let mut code = String::new();
    for entry in fs::read_dir(root().join("crates")).expect("crates can be listed") {
        collect_rust(&entry.expect("crates can be listed").path().join("src"), &mut code);
    }
    let (mut count, mut missing) = (0, Vec::new());
    for call in code.split("warn!(").skip(1).chain(code.split("error!(").skip(1)) {
        let call = call.split(");").next().expect("there is a first part");
        // The message is the last text of a call, and constant but for texts that others made.
        let Some(message) = call.split('"').skip(1).step_by(2).last() else { continue };
        count += 1;
        if !message.starts_with('{') && !page.contains(&format!("`{message}`")) {
            missing.push(message.to_owned());
        }
    }
    assert!(missing.is_empty(), "docs/operations.md says nothing of: {missing:#?}");
    assert!(count > 15, "only {count} were found");
}

#[test]
fn operations_name_metrics_and_alerts_that_there_are() {
    let page = read("docs/operations.md");
    let rules = read("packaging/prometheus-alerts.yml");
    assert!(page.contains(&format!("```yaml\n{rules}```")), "the page shows the file as it is");
    let families = families(&Metrics::default());
    for text in [&page, &rules] {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in
            words.filter(|word| word.starts_with("tidemill_") || word.starts_with("process_"))
        {
            // A module, in what TIDEMILL_LOG says.
            let known = word == "tidemill_pulsar" || families.iter().any(|f| f.name == word);
            assert!(known, "{word} is no metric");
        }
    }
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(page.contains(&format!("\n| `{alert}` |")), "{alert} is not explained");
    }
}

#[test]
fn the_readme_shows_a_configuration_that_loads() {
    let readme = read("README.md");
    let lines = readme.lines().skip_while(|line| *line != "    [pipeline]");
    let lines = lines.take_while(|line| line.is_empty() || line.starts_with("    "));
    let text: Vec<&str> = lines.map(|line| line.trim_start()).collect();
    let config = Config::parse("README.md", &text.join("\n"), &|_| None);
    let config = config.unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((config.source.name(), config.sink.name()), ("pulsar", "clickhouse"));
    assert_eq!(config.schema.fields().len(), 25);
}

#[test]
fn every_test_and_file_that_the_architecture_names_is_there() {
    let mut code = String::new();
    collect_rust(&root().join("crates"), &mut code);
    collect_rust(&root().join("tests"), &mut code);
    let text = read("ARCHITECTURE.md");
    let part = text.split("## Invariants").nth(1).expect("a chapter of invariants");
    let (mut test_count, mut missing) = (0, Vec::new());
    // Between backticks: every second piece.
    for name in part.split('`').skip(1).step_by(2) {
        let is_test = name.len() > 15 && name.contains('_') && !name.contains(['/', '.', '…', ':']);
        test_count += usize::from(is_test);
        let found = match is_test {
            true => code.contains(&format!("fn {name}(")),
            false if name.starts_with("tests/") => root().join(name).exists(),
            false if name.contains('/') => {
                root().join("crates").join(name).exists() || root().join(name).exists()
            }
            false => true,
        };
        if !found {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "named, but not there: {missing:#?}");
    assert!(test_count > 30, "only {test_count} tests are named");
}

fn collect_rust(folder: &Path, code: &mut String) {
    for entry in fs::read_dir(folder).expect("folder can be listed") {
        let path = entry.expect("folder can be listed").path();
        if path.is_dir() {
            collect_rust(&path, code);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            // A file may vanish while it is listed.
            code.push_str(&fs::read_to_string(&path).unwrap_or_default());
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let mut missing = Vec::new();
    for document in DOCUMENTS.iter().copied() {
        let text = read(document);
        let folder = root().join(document).parent().expect("a file has a folder").to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if !link.starts_with("http") && !folder.join(link).exists() {
                missing.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

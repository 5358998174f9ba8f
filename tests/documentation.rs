//! What the documents say, held against the code: keys, reasons, tests, examples, links.
//!
//! `docs/configuration.md` is written by this test: `TIDEMILL_WRITE_DOCS=1 cargo test -p tidemill
//! --test documentation`. The other documents are written by hand and only checked.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use tidemill::config::Config;
use tidemill::config::keys::{Fallback, Key, Kind, TABLES};
use tidemill_kernel::event::Reason;

const DOCUMENTS: [&str; 8] = [
    "README.md",
    "ARCHITECTURE.md",
    "docs/configuration.md",
    "docs/cut-over.md",
    "docs/dead-letters.md",
    "docs/formats.md",
    "docs/guarantees.md",
    "docs/time.md",
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
    let expected = configuration_page();
    let path = "docs/configuration.md";
    if std::env::var_os("TIDEMILL_WRITE_DOCS").is_some() {
        fs::write(root().join(path), expected).expect("the page can be written");
        return;
    }
    let remedy = "run TIDEMILL_WRITE_DOCS=1 cargo test -p tidemill --test documentation";
    assert!(read(path) == expected, "{path} is not what the table of keys says: {remedy}");
}

fn configuration_page() -> String {
    let mut page = HEAD.to_owned();
    for table in TABLES.iter().filter(|table| !table.keys.is_empty()) {
        let brackets = if table.path == "schema.field" { ("[[", "]]") } else { ("[", "]") };
        let (open, close) = brackets;
        let heading = "| key | value | default | meaning |\n|---|---|---|---|";
        write!(page, "\n## `{open}{}{close}`\n\n{heading}\n", table.path).expect("a string");
        for key in table.keys {
            let (value, default) = (value(key), default(key));
            let meaning = key.meaning;
            writeln!(page, "| `{}` | {value} | {default} | {meaning} |", key.name)
                .expect("a string");
        }
    }
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
    for document in DOCUMENTS {
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

//! The style of the repository as a test: sizes, names, forbidden words, the direction of crates.
//! Reads text only and compiles nothing, so it judges every file alike, also those behind `cfg`.
//! Function lengths come from counting braces after strings and comments are blanked, which is
//! right for formatted code and is not a parser. What rustfmt and clippy check is not repeated.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARS_MAX: usize = 100;

/// Present offenders: rule, place, size. The list only shrinks: an entry that is larger than what
/// is found, or that nothing needs any more, fails the test.
const RATCHET: &[(&str, &str, usize)] = &[(
    "function",
    "crates/decode/tests/golden.rs::malformed_messages_are_found_to_the_last_byte",
    79,
)];

/// Folders that hold no text of ours.
const FOREIGN_FOLDERS: &[&str] = &["target", ".git", ".cache", "__pycache__", "node_modules"];

/// Words of file and folder names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helper", "helpers", "manager"];

/// Words that mark unfinished work. Split, so that this file does not find itself.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
    concat!("#[ig", "nore"),
];

/// Folders of one machine.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Hosts of package registries: which mirror a machine uses is that machine's configuration.
const REGISTRY_HOSTS: &[&str] = &[
    concat!("crates", ".io"),
    concat!("repo1.maven", ".org"),
    concat!("repo.maven.apache", ".org"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("npmjs", ".org"),
    concat!("proxy.golang", ".org"),
    concat!("deb.debian", ".org"),
];

/// What kernel and decode must not know: clock, files, sockets, threads, random numbers.
const IMPURE: &[&str] = &["std::time", "std::fs", "std::net", "std::thread", "std::env", "rand::"];

/// Which of our crates each crate may depend on.
const DIRECTION: &[(&str, &[&str])] = &[
    ("kernel", &[]),
    ("decode", &["kernel"]),
    ("pulsar", &[]),
    ("engine", &["kernel", "decode"]),
    ("source", &["kernel", "decode", "engine", "pulsar"]),
    ("sink", &["kernel", "decode", "engine", "pulsar"]),
    ("app", &["kernel", "decode", "engine", "source", "sink", "pulsar"]),
];

/// Something that breaks a rule, at a place, by a size that the ratchet can hold.
#[derive(Debug, PartialEq, Eq)]
struct Offence {
    rule: &'static str,
    place: String,
    size: usize,
    remedy: &'static str,
}

#[test]
fn the_repository_is_tidy() {
    let root = root();
    let mut found = Vec::new();
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    assert!(paths.len() > 100, "only {} files under {}", paths.len(), root.display());
    for path in &paths {
        let place = path.strip_prefix(&root).expect("collected under the root");
        let place = place.to_str().expect("names of files are UTF-8").to_owned();
        check_name(&place, &mut found);
        // Bytes that are no text are data, such as the seeds of the fuzzer.
        if let Ok(text) = fs::read_to_string(path) {
            check_file(&place, &text, &mut found);
        }
    }
    check_direction(&root, &mut found);
    let report = judge(&found, RATCHET);
    assert!(report.is_empty(), "\n{report}");
}

fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).expect("the package is two folders below the root").to_owned()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("folder can be listed") {
        let entry = entry.expect("folder can be listed");
        let name = entry.file_name();
        // A file may vanish while it is listed (editors, other tests): then it is not judged.
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_file() {
            paths.push(entry.path());
        } else if kind.is_dir() && !FOREIGN_FOLDERS.iter().any(|foreign| name == *foreign) {
            collect(&entry.path(), paths);
        }
    }
}

fn check_name(place: &str, found: &mut Vec<Offence>) {
    let empty = place
        .split(['/', '.', '_', '-'])
        .any(|word| EMPTY_NAMES.contains(&word.to_ascii_lowercase().as_str()));
    if empty {
        let remedy = "name the file or folder after what is inside";
        found.push(Offence { rule: "name", place: place.to_owned(), size: 1, remedy });
    }
}

fn check_file(place: &str, text: &str, found: &mut Vec<Offence>) {
    // The licence is a text of others, the lock file names its registry, .gitignore is no prose.
    if place == "LICENSE" || place.ends_with("Cargo.lock") {
        return;
    }
    forbid("unfinished", "finish it, or open an issue", UNFINISHED, place, text, found);
    forbid("machine path", "say it relative to the repository", MACHINE_PATHS, place, text, found);
    forbid("registry host", "leave it to the machine's set-up", REGISTRY_HOSTS, place, text, found);
    if place.ends_with(".rs") {
        check_rust(place, text, found);
    }
}

fn forbid(
    rule: &'static str,
    remedy: &'static str,
    words: &[&str],
    place: &str,
    text: &str,
    found: &mut Vec<Offence>,
) {
    for (index, line) in text.lines().enumerate() {
        if words.iter().any(|word| mentions(line, word)) {
            found.push(Offence { rule, place: format!("{place}:{}", index + 1), size: 1, remedy });
        }
    }
}

/// Whether `line` holds `word`; a word that is an absolute path only where a path can begin.
fn mentions(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !word.starts_with('/')
            || before.is_none_or(|c| !c.is_alphanumeric() && !"_-.}$*/".contains(c))
    })
}

fn check_rust(place: &str, text: &str, found: &mut Vec<Offence>) {
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        let remedy = "at most 500 lines: move a part that has a name of its own to its own file";
        found.push(Offence { rule: "file", place: place.to_owned(), size: lines, remedy });
    }
    let long = text.lines().filter(|line| line.chars().count() > LINE_CHARS_MAX).count();
    if long > 0 {
        let remedy = "at most 100 characters: split the lines that are longer";
        found.push(Offence { rule: "line", place: place.to_owned(), size: long, remedy });
    }
    if !text.starts_with("//!") {
        let remedy = "open with `//!`: what the module is for and what it does not do";
        found.push(Offence { rule: "module doc", place: place.to_owned(), size: 1, remedy });
    }
    let code = blank_strings_and_comments(text);
    for (name, size) in functions(&code) {
        if size > FUNCTION_LINES_MAX {
            let place = format!("{place}::{name}");
            let remedy = "at most 70 lines: give a part of it a name";
            found.push(Offence { rule: "function", place, size, remedy });
        }
    }
    if place.starts_with("crates/kernel/src/") || place.starts_with("crates/decode/src/") {
        forbid("pure", "take it as a value from the caller", IMPURE, place, &code, found);
    }
}

/// The same text with the insides of strings, characters and comments blanked, line for line.
fn blank_strings_and_comments(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut blanked = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => find(bytes, at, b"\n"),
            b'/' if bytes[at..].starts_with(b"/*") => find(bytes, at + 2, b"*/") + 2,
            b'r' if opens_raw_string(bytes, at) => {
                let hashes = bytes[at + 1..].iter().take_while(|&&byte| byte == b'#').count();
                let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
                find(bytes, at + 2 + hashes, &close) + close.len()
            }
            b'"' => end_of_quoted(bytes, at, b'"'),
            b'\'' if opens_character(bytes, at) => end_of_quoted(bytes, at, b'\''),
            _ => {
                at += 1;
                continue;
            }
        };
        let end = end.min(bytes.len());
        blanked[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at = end;
    }
    String::from_utf8(blanked).expect("whole characters were blanked")
}

fn find(bytes: &[u8], from: usize, needle: &[u8]) -> usize {
    let from = from.min(bytes.len());
    let at = bytes[from..].windows(needle.len()).position(|window| window == needle);
    at.map_or(bytes.len(), |at| from + at)
}

fn opens_raw_string(bytes: &[u8], at: usize) -> bool {
    let inside_word = at > 0 && is_word(bytes[at - 1]) && bytes[at - 1] != b'b';
    let hashes = bytes[at + 1..].iter().take_while(|&&byte| byte == b'#').count();
    !inside_word && bytes.get(at + 1 + hashes) == Some(&b'"')
}

/// A quote opens a character, not a lifetime, if a backslash follows or it closes soon.
fn opens_character(bytes: &[u8], at: usize) -> bool {
    let rest = &bytes[at + 1..];
    rest.first() == Some(&b'\\')
        || (rest.first() != Some(&b'\'') && rest.get(1) == Some(&b'\''))
        || (rest.first().is_some_and(|byte| *byte >= 0x80)
            && rest.iter().take(5).any(|byte| *byte == b'\''))
}

fn end_of_quoted(bytes: &[u8], at: usize, quote: u8) -> usize {
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != quote {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    end + 1
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Name and lines of every function with a body, from `fn` to the closing brace.
fn functions(code: &str) -> Vec<(&str, usize)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let rest = &code[at + 3..];
        let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
        if name.is_empty() || (at > 0 && is_word(bytes[at - 1])) {
            continue;
        }
        if let Some(end) = end_of_function(&bytes[at..]) {
            found.push((name, code[at..at + end].lines().count()));
        }
    }
    found
}

/// Where the body ends; none for a declaration without a body.
fn end_of_function(bytes: &[u8]) -> Option<usize> {
    let (mut round, mut curly) = (0_i32, 0_i32);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'(' | b'[' => round += 1,
            b')' | b']' => round -= 1,
            b';' if round == 0 && curly == 0 => return None,
            b'{' => curly += 1,
            b'}' => curly -= 1,
            _ => continue,
        }
        if *byte == b'}' && curly == 0 {
            return Some(at + 1);
        }
    }
    None
}

fn check_direction(root: &Path, found: &mut Vec<Offence>) {
    for entry in fs::read_dir(root.join("crates")).expect("crates can be listed") {
        let name = entry.expect("crates can be listed").file_name();
        let name = name.to_str().expect("names of crates are UTF-8");
        let place = format!("crates/{name}/Cargo.toml");
        let remedy =
            "app → {source, sink} → engine → decode → kernel; {source, sink, app} → pulsar";
        let Some((_, allowed)) = DIRECTION.iter().find(|(from, _)| *from == name) else {
            found.push(Offence { rule: "direction", place, size: 1, remedy });
            continue;
        };
        let manifest = fs::read_to_string(root.join(&place)).expect("each crate has a manifest");
        for target in dependencies_of_ours(&manifest) {
            if target != name && !allowed.contains(&target) {
                let place = format!("{place} → {target}");
                found.push(Offence { rule: "direction", place, size: 1, remedy });
            }
        }
    }
}

fn dependencies_of_ours(manifest: &str) -> Vec<&str> {
    let lines = manifest.lines().filter_map(|line| line.trim().strip_prefix("tidemill-"));
    let names = lines.filter_map(|rest| rest.split(['.', ' ', '=']).next());
    names.collect()
}

/// What the ratchet does not cover, and what it covers without need; empty if all is well.
fn judge(found: &[Offence], ratchet: &[(&str, &str, usize)]) -> String {
    let mut report = String::new();
    for Offence { rule, place, size, remedy } in found {
        let held = ratchet.iter().find(|entry| (entry.0, entry.1) == (*rule, place.as_str()));
        if held.is_none_or(|entry| *size > entry.2) {
            writeln!(report, "{rule}: {place} ({size}): {remedy}").expect("a string takes all");
        }
    }
    for (rule, place, limit) in ratchet {
        let size = found.iter().find(|o| (o.rule, o.place.as_str()) == (*rule, *place));
        let size = size.map_or(0, |offence| offence.size);
        if size < *limit {
            let now = format!("ratchet: {rule}: {place} is at {size} now, the list says {limit}");
            writeln!(report, "{now}: lower or remove the entry").expect("a string takes all");
        }
    }
    report
}

#[test]
fn each_rule_finds_its_offender() {
    let rules = |place: &str, text: &str| {
        let mut found = Vec::new();
        check_name(place, &mut found);
        check_file(place, text, &mut found);
        found.into_iter().map(|offence| offence.rule).collect::<Vec<_>>()
    };
    let body = "    1;\n".repeat(69);
    assert_eq!(rules("a.rs", "//! Says what.\nfn f() {\n}\n"), [""; 0]);
    assert_eq!(rules("a.rs", &format!("//!\nfn f(a: [u8; 2]) {{\n{body}}}\n")), ["function"]);
    assert_eq!(rules("a.rs", &format!("//!\nfn f() {{\n'{{'; \"{{\";\n}}\n{body}")), [""; 0]);
    assert_eq!(rules("a.rs", &"//! x\n".repeat(501)), ["file"]);
    assert_eq!(rules("a.rs", &format!("//! {}\n", "é".repeat(97))), ["line"]);
    assert_eq!(rules("a.rs", "fn f() {}\n"), ["module doc"]);
    assert_eq!(rules("src/common/a.rs", "//!\n"), ["name"]);
    assert_eq!(rules("crates/kernel/src/a.rs", "//!\nuse std::time::Instant;\n"), ["pure"]);
    assert_eq!(rules("crates/kernel/src/a.rs", "//! std::time is not used.\n"), [""; 0]);
    assert_eq!(rules("a.md", UNFINISHED[0]), ["unfinished"]);
    assert_eq!(rules("a.sh", &format!("cd {}x", MACHINE_PATHS[0])), ["machine path"]);
    assert_eq!(rules("a.sh", &format!("cd $here{}x", MACHINE_PATHS[0])), [""; 0]);
    assert_eq!(rules("a.sh", &format!("curl https://{}/", REGISTRY_HOSTS[0])), ["registry host"]);
    assert_eq!(dependencies_of_ours("tidemill-sink.workspace = true\n"), ["sink"]);
}

#[test]
fn the_ratchet_only_shrinks() {
    let offence = |size| Offence { rule: "file", place: "a.rs".to_owned(), size, remedy: "split" };
    assert_eq!(judge(&[offence(600)], &[("file", "a.rs", 600)]), "");
    assert!(judge(&[offence(601)], &[("file", "a.rs", 600)]).contains("split"));
    assert!(judge(&[offence(599)], &[("file", "a.rs", 600)]).contains("lower or remove"));
    assert!(judge(&[], &[("file", "a.rs", 600)]).contains("lower or remove"));
    assert!(judge(&[offence(600)], &[]).contains("split"));
}

//! The tutorial, executed: every block of `docs/tutorial.md`, in order, in one shell, against real
//! services; and `docs/verify.md`, which needs none. A comment before a block says what it is:
//! `settings` (addresses, replaced by those of the services here), `file: NAME`, `run`, or `output`
//! of the run before, with `...` for anything. It does not judge the prose between them.

mod e2e;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use e2e::{
    TIDEMILL, root,
    services::{self, Version, clickhouse::free_ports},
};

/// What stands in the shell's output after each run: its number and exit status.
const MARK: &str = "--8<-- end of run";
/// How long the whole tutorial may take.
const PATIENCE_S: u32 = 300;

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Settings,
    File(String),
    Run,
    Output,
}

#[derive(Debug, PartialEq, Eq)]
struct Block {
    kind: Kind,
    /// Line of the opening fence in the page, from 1.
    line: usize,
    text: String,
}

/// Returns the blocks of a page; each has to say what it is.
fn blocks(page: &str) -> Vec<Block> {
    let mut lines = page.lines().enumerate();
    let (mut blocks, mut before) = (Vec::new(), "");
    while let Some((at, line)) = lines.next() {
        if line.starts_with("```") {
            let comment = before.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
            let kind = match comment {
                Some("settings") => Kind::Settings,
                Some("run") => Kind::Run,
                Some("output") => Kind::Output,
                Some(other) if other.starts_with("file: ") => Kind::File(other[6..].to_owned()),
                _ => panic!("line {}: a block without a comment that says what it is", at + 1),
            };
            let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            let text = inside.map(|line| format!("{line}\n")).collect();
            blocks.push(Block { kind, line: at + 1, text });
        }
        before = line;
    }
    blocks
}

/// Holds lines against a pattern: `...` in a line is any text, alone any number of lines.
fn matches(pattern: &[&str], lines: &[&str]) -> bool {
    match pattern.split_first() {
        None => lines.is_empty(),
        Some((&"...", rest)) => (0..=lines.len()).any(|skip| matches(rest, &lines[skip..])),
        Some((first, rest)) => lines
            .split_first()
            .is_some_and(|(line, after)| line_matches(first, line) && matches(rest, after)),
    }
}

fn line_matches(pattern: &str, line: &str) -> bool {
    let pieces: Vec<&str> = pattern.trim_end().split("...").collect();
    let [first, middle @ .., last] = &pieces[..] else { return line.trim_end() == pieces[0] };
    let Some(mut rest) = line.trim_end().strip_prefix(first) else { return false };
    for piece in middle {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn wildcards_stand_for_anything_and_nothing_else_does() {
    let yes = |pattern: &str, text: &str| {
        let (pattern, lines): (Vec<_>, Vec<_>) =
            (pattern.lines().collect(), text.lines().collect());
        matches(&pattern, &lines)
    };
    assert!(yes("a ... c\n...\nd", "a b c\nx\ny\nd") && yes("...", "") && yes("a...", "a"));
    assert!(yes("{...,\"t\":\"...\"}", "{\"k\":1,\"t\":\"x\"}"));
    assert!(!yes("a ... c", "a b d") && !yes("a", "a\nb") && !yes("a\nb", "a") && !yes("", "a"));
    assert!(!yes("ab...bc", "abc"), "a piece counts once");
    let page = "x\n<!-- run -->\n```bash\na\nb\n```\n<!-- file: c -->\n```toml\n```\n";
    let run = Block { kind: Kind::Run, line: 3, text: "a\nb\n".to_owned() };
    let file = Block { kind: Kind::File("c".to_owned()), line: 8, text: String::new() };
    assert_eq!(blocks(page), [run, file]);
}

/// The shell's script of all blocks: what a reader would type, and a mark after each run.
fn script(blocks: &[Block], settings: &str) -> String {
    let mut script = "exec 2>&1\n".to_owned();
    for Block { kind, line, text } in blocks {
        match kind {
            Kind::Settings => {
                for name in text.lines().filter_map(|line| line.split('=').next()) {
                    assert!(settings.contains(&format!("{name}=")), "{name} is set here too");
                }
                script.push_str(settings);
            }
            Kind::File(name) => {
                script.push_str(&format!("cat > {name} <<'END OF FILE'\n{text}END OF FILE\n"));
            }
            Kind::Run => {
                script.push_str(&format!("{text}printf '\\n{MARK} {line} %s\\n' $?\n"));
            }
            Kind::Output => {}
        }
    }
    script
}

/// Forgets what an earlier run left on services that live on.
fn clean(clickhouse: &str) {
    services::ask(clickhouse, "DROP DATABASE IF EXISTS tutorial").expect("ClickHouse answers");
    let admin = &services::broker().admin;
    let topic =
        format!("{admin}/admin/v2/persistent/public/default/tutorial/partitions?force=true");
    match ureq::delete(&topic).call() {
        Ok(_) | Err(ureq::Error::StatusCode(404)) => {}
        Err(error) => panic!("{topic}: {error}"),
    }
}

#[test]
fn every_block_of_the_tutorial_does_what_the_page_says() {
    let (broker, clickhouse) = (services::broker(), Version::Modern.url());
    clean(&clickhouse);
    let [http] = free_ports();
    let settings = format!(
        "export PULSAR={}\nexport PULSAR_ADMIN={}\nexport CLICKHOUSE={clickhouse}\n\
         export HTTP=127.0.0.1:{http}\n",
        broker.url, broker.admin
    );
    execute("docs/tutorial.md", &settings, [12, 10]);
}

#[test]
fn every_block_of_the_page_of_verify_does_what_the_page_says() {
    execute("docs/verify.md", "", [6, 6]);
}

/// Runs a page, which has at least so many runs and outputs.
fn execute(page: &str, settings: &str, at_least: [usize; 2]) {
    let blocks = blocks(&fs::read_to_string(root().join(page)).expect("the page"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("page.sh");
    fs::write(&path, script(&blocks, settings)).expect("the script is written");
    let binaries = Path::new(TIDEMILL).parent().expect("a file has a folder").display();
    let search = format!("{binaries}:{}", std::env::var("PATH").expect("a search path"));
    // Ends the shell and all that it has started, however it goes.
    let output = Command::new("timeout")
        .args(["--signal=KILL", &PATIENCE_S.to_string(), "bash"])
        .arg(&path)
        .current_dir(folder.path())
        .env("PATH", search)
        .stdin(Stdio::null())
        .output()
        .expect("bash can be run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // Gone at the end of the tutorial; what is left of it says why it did not get there.
    let log = fs::read_to_string(folder.path().join("run.log")).unwrap_or_default();
    compare(&blocks, &said, &log, at_least);
}

fn compare(blocks: &[Block], said: &str, log: &str, at_least: [usize; 2]) {
    let mut rest = said;
    let (mut runs, mut compared) = (0, 0);
    for (at, block) in blocks.iter().enumerate().filter(|(_, block)| block.kind == Kind::Run) {
        let end = format!("\n{MARK} {} ", block.line);
        let Some((output, after)) = rest.split_once(&end) else {
            panic!("line {}: the run did not come to its end:\n{rest}\n{log}", block.line);
        };
        let (status, after) = after.split_once('\n').expect("a mark is a line");
        rest = after;
        runs += 1;
        let lines: Vec<&str> = output.trim_end_matches('\n').lines().collect();
        assert_eq!(status, "0", "line {}: {output}\n{log}", block.line);
        let expected = blocks.get(at + 1).filter(|next| next.kind == Kind::Output);
        let pattern: Vec<&str> =
            expected.map(|block| block.text.lines().collect()).unwrap_or_default();
        let said = lines.join("\n");
        let differs =
            format!("line {}: the page says\n{}\nand it said", block.line, pattern.join("\n"));
        assert!(matches(&pattern, &lines), "{differs}\n{said}\n{log}");
        compared += usize::from(expected.is_some());
    }
    let enough = runs >= at_least[0] && compared >= at_least[1];
    assert!(enough, "only {runs} runs and {compared} outputs");
}

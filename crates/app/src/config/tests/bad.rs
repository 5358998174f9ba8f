//! Bad configs and the exact text of their errors: see `bad.cases`.

use super::{GOOD, no_environment};
use crate::config::Config;

const CASES: &str = include_str!("bad.cases");

/// Returns the lines of a case that begin with that mark, without it, each with a line break.
fn marked(case: &str, mark: char) -> String {
    let lines = case.lines().filter_map(|line| line.strip_prefix(mark));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn bad_configs_give_their_exact_errors() {
    let cases = CASES.split("\n\n").skip(1);
    let (mut count, mut failures) = (0, Vec::new());
    for case in cases {
        count += 1;
        let (kept, removed) = (marked(case, '='), marked(case, '-'));
        let from = format!("{kept}{removed}");
        assert!(
            !from.is_empty() && GOOD.contains(&from),
            "no such lines in the good config: {case}"
        );
        let text = GOOD.replacen(&from, &format!("{kept}{}", marked(case, '+')), 1);
        let found = match Config::parse("t.toml", &text, &no_environment) {
            Ok(_) => "no error\n".into(),
            Err(errors) => format!("{errors}\n"),
        };
        let expected: String =
            marked(case, '!').lines().map(|line| format!("t.toml:{line}\n")).collect();
        if found != expected {
            failures.push(format!("{case}\nfound:\n{found}"));
        }
    }
    assert!(count >= 100, "only {count} cases were read");
    assert!(failures.is_empty(), "{} differ:\n\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn all_problems_of_a_file_are_told_at_once_in_the_order_of_its_lines() {
    let text = GOOD.replace("name", "nmae").replace("1m", "1 m.").replace("table", "tabel");
    let errors = Config::parse("t.toml", &text, &no_environment).unwrap_err();
    let places: Vec<_> = errors.errors.iter().map(|e| (e.line, e.key.as_str())).collect();
    let expected = [
        (1, "pipeline.name"),
        (2, "pipeline.nmae"),
        (9, "window.size"),
        (10, "sink.clickhouse.table"),
        (12, "sink.clickhouse.tabel"),
    ];
    assert_eq!(places, expected);
    assert_eq!(errors.errors[1].remedy, "did you mean \"pipeline.name\"?");
}

//! Broken files of every kind give errors, never a panic.

use crate::config::{Config, ERRORS_MAX};

const EXAMPLE: &str = include_str!("../../../../../config/example.toml");

/// Numbers that look random and are the same in every run.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

const PIECES: [&str; 34] = [
    "\"",
    "'",
    "[",
    "]",
    "[[",
    "{",
    "}",
    "=",
    "\n",
    "#",
    ",",
    ".",
    "${",
    "$${",
    "${A}",
    "file:",
    "-1",
    "0",
    "9223372036854775807",
    "99999999999999999999",
    "1e999",
    "nan",
    "-inf",
    "0x7fffffff",
    "true",
    "\"\"",
    "[]",
    "{}",
    "1979-05-27T07:32:00Z",
    "\"18446744073709551615d\"",
    "\u{0}",
    "é",
    "\"\u{1f600}\"",
    "[[schema.field]]\nname = \"x\"\nrole = \"code\"\nrange = [-9e15, -9e15]\n",
];

fn mutate(text: &mut String, draws: &mut Draws) {
    let floor = |text: &str, mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let at = floor(text, draws.below(text.len() + 1));
    let piece = PIECES[draws.below(PIECES.len())];
    match draws.below(6) {
        0 => text.insert_str(at, piece),
        1 => {
            let end = floor(text, (at + draws.below(12)).min(text.len()));
            text.replace_range(at.min(end)..end, "");
        }
        2 | 3 => replace_value(text, at, piece),
        4 => move_line(text, draws),
        // A setting that was not active becomes so, or a comment becomes noise.
        _ => {
            if let Some(found) = text[at..].find('#') {
                text.replace_range(at + found..at + found + 1, "");
            }
        }
    }
}

/// Puts another value behind the next `=`.
fn replace_value(text: &mut String, at: usize, piece: &str) {
    if let Some(found) = text[at..].find("= ") {
        let start = at + found + 2;
        let end = text[start..].find([' ', '\n']).map_or(text.len(), |end| start + end);
        text.replace_range(start..end, piece);
    }
}

fn move_line(text: &mut String, draws: &mut Draws) {
    let mut lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return;
    }
    let line = lines[draws.below(lines.len())];
    let to = draws.below(lines.len());
    lines.insert(to, line);
    *text = lines.join("\n");
}

#[test]
fn mutated_examples_never_panic() {
    let environment = |name: &str| (name == "A").then(|| "alpha".to_owned());
    let (mut accepted, mut refused_by_kind) = (0, [0, 0]);
    for seed in 0..50_000 {
        let mut draws = Draws(seed);
        let mut text = EXAMPLE.to_owned();
        // Half of them small and close to a good file, so that the checks behind the syntax see
        // them; line 1 to 7 are prose.
        for _ in 0..=draws.below(4) {
            mutate(&mut text, &mut draws);
        }
        match Config::parse("t.toml", &text, &environment) {
            Ok(config) => {
                accepted += 1;
                let lane = config.lane(1);
                assert!(lane.rollup.open_windows_max() <= 1_000);
                assert!(lane.fingerprint.lines().all(|line| line.contains('=')));
            }
            Err(errors) => {
                assert!(!errors.errors.is_empty() && errors.errors.len() <= ERRORS_MAX);
                let line_count = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
                for error in &errors.errors {
                    assert!((1..=line_count).contains(&error.line), "{error} in\n{text}");
                    assert!(!error.to_string().contains('\n'), "{error}");
                }
                let syntax = errors.errors[0].problem.starts_with("no TOML");
                refused_by_kind[usize::from(syntax)] += 1;
            }
        }
    }
    // All three ways are really taken.
    assert!(accepted > 1_000, "{accepted}");
    assert!(refused_by_kind.iter().all(|count| *count > 1_000), "{refused_by_kind:?}");
}

#[test]
fn hostile_files_are_refused_in_bounded_time_and_space() {
    let parse = |text: &str| Config::parse("t.toml", text, &|_| None);
    let deep = format!("a = {}", "[".repeat(100_000));
    assert!(parse(&deep).is_err());
    let many = (0..50_000).map(|n| format!("k{n} = 1\n")).collect::<String>();
    let errors = parse(&many).unwrap_err();
    assert_eq!(errors.errors.len(), ERRORS_MAX);
    assert!(errors.left_out_count > 0);
    assert!(errors.to_string().ends_with("more problems"), "{errors}");
    let errors = parse(&"#".repeat(2 << 20)).unwrap_err();
    assert_eq!(errors.to_string(), "t.toml:1: is larger than 1MiB");
    let long = format!("{} = 1", "x".repeat(500_000));
    assert!(parse(&long).unwrap_err().to_string().len() < 2_000);
}

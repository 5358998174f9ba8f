//! Reads a case and holds what was stored against it.

use std::path::Path;

use tidemill::config::Config;
use tidemill_decode::time::parse_text;
use tidemill_kernel::{
    row::{Cell, Column, ColumnKind},
    schema::TimeUnit,
};

use crate::runner::{Stored, StoredRow};

/// One line of the input.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    /// A message.
    Message { payload: Vec<u8>, publish_time_ms: i64 },
    /// The watermark has stood still for the idle timeout.
    Idle,
    /// An entry of the log ends here.
    Block,
    /// The input ends: all windows close.
    End,
}

/// A case as written.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) config: Config,
    pub(crate) input: Vec<Line>,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    letters: Vec<String>,
    ledger: String,
}

/// Far behind every event, so that nothing is in the future unless the case says when it was sent.
const PUBLISHED_MS: i64 = i64::MAX;

impl Case {
    pub(crate) fn read(path: &Path) -> Case {
        let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).expect("a case is UTF-8 text");
        let mut parts = text.split("\n--- ");
        let head = parts.next().unwrap_or_default();
        let comment = head.lines().take_while(|line| line.starts_with('#')).count();
        assert!(comment > 0, "{name}: the first line says what the case shows");
        let mut part = |title: &str| {
            let body = parts.next().and_then(|part| part.strip_prefix(title)?.strip_prefix('\n'));
            body.unwrap_or_else(|| panic!("{name}: part {title:?} is missing")).to_owned()
        };
        let (input, rows) = (part("input"), part("rows"));
        let (letters, ledger) = (part("letters"), part("ledger"));
        let split = |line: &str| line.split(" | ").map(|cell| cell.trim().to_owned()).collect();
        let mut rows = rows.lines().filter(|line| !line.trim().is_empty()).map(split);
        Case {
            config: config(&name, head),
            input: read_input(&name, &input),
            columns: rows.next().unwrap_or_else(|| panic!("{name}: rows name their columns")),
            rows: rows.collect(),
            letters: letters.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect(),
            ledger: ledger.trim().to_owned(),
            name,
        }
    }

    /// Tells the first difference between what the case expects and what is stored.
    pub(crate) fn check(&self, stored: &Stored) -> Result<(), String> {
        let columns = self.config.schema.columns();
        let at = |name: &String| {
            let found = columns.iter().position(|column| column.name == *name);
            found.ok_or_else(|| format!("there is no column {name:?}"))
        };
        let places: Vec<usize> = self.columns.iter().map(at).collect::<Result<_, _>>()?;
        let mut left: Vec<&StoredRow> = stored.rows.values().collect();
        for expected in &self.rows {
            let is_equal = |row: &&StoredRow| {
                expected.len() == places.len()
                    && expected.iter().zip(&places).all(|(text, at)| row[*at].equals(text))
            };
            match left.iter().position(is_equal) {
                Some(index) => drop(left.remove(index)),
                None => {
                    let left = shown(&left, &places);
                    return Err(format!("no row {}; left are:\n{left}", expected.join(" | ")));
                }
            }
        }
        if !left.is_empty() {
            return Err(format!("rows too many:\n{}", shown(&left, &places)));
        }
        let letters: Vec<String> = stored.letters.values().cloned().collect();
        if letters != self.letters {
            return Err(format!("letters {letters:?}, expected {:?}", self.letters));
        }
        if stored.ledger() != self.ledger {
            return Err(format!("ledger {}, expected {}", stored.ledger(), self.ledger));
        }
        Ok(())
    }
}

fn shown(rows: &[&StoredRow], places: &[usize]) -> String {
    let row = |row: &&StoredRow| {
        places.iter().map(|at| row[*at].to_string()).collect::<Vec<_>>().join(" | ")
    };
    rows.iter().map(row).collect::<Vec<_>>().join("\n")
}

fn config(name: &str, case: &str) -> Config {
    let around = "pipeline.name = \"golden\"\nsource.file.paths = [\"in.ndjson\"]\n\
                  sink.embedded.path = \"unused.db\"\n";
    // The case begins with comment lines; dotted keys of ours may stand before its tables.
    let text = format!("{around}{case}\n");
    Config::parse(name, &text, &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

fn read_input(name: &str, text: &str) -> Vec<Line> {
    let mut publish_time_ms = PUBLISHED_MS;
    let mut lines = Vec::new();
    for line in text.lines() {
        match line {
            "!idle" => lines.push(Line::Idle),
            "!block" => lines.push(Line::Block),
            "!end" => lines.push(Line::End),
            "!empty" => lines.push(Line::Message { payload: Vec::new(), publish_time_ms }),
            _ if line.starts_with("@publish=") => {
                publish_time_ms = time_ms(&line["@publish=".len()..]).expect("a publish time");
            }
            _ if line.starts_with("!bytes ") => {
                let byte = |hex: &str| u8::from_str_radix(hex, 16).expect("bytes are hexadecimal");
                let payload = line["!bytes ".len()..].split(' ').map(byte).collect();
                lines.push(Line::Message { payload, publish_time_ms });
            }
            _ if line.starts_with("!nested ") => {
                let depth: usize = line["!nested ".len()..].parse().expect("a depth");
                let payload = nested(depth).into_bytes();
                lines.push(Line::Message { payload, publish_time_ms });
            }
            _ if line.starts_with('!') => panic!("{name}: {line:?} is no command"),
            "" => {}
            _ => lines.push(Line::Message { payload: line.into(), publish_time_ms }),
        }
    }
    lines
}

/// A good message whose field `x` makes it `depth` levels deep.
fn nested(depth: usize) -> String {
    let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
    format!("{{\"device_id\":\"a\",\"time\":1700000000,\"x\":{open}{close}}}")
}

fn time_ms(text: &str) -> Option<i64> {
    parse_text(text.as_bytes(), TimeUnit::Auto).map(|time| time.as_ms())
}

/// A stored cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Float(u64),
    Whole(i128),
    /// Milliseconds since the epoch.
    Time(i64),
    Text(String),
}

impl Value {
    pub(crate) fn of(column: &Column, cell: &Cell<'_>) -> Value {
        match (column.kind, cell) {
            (_, Cell::Null) => Value::Null,
            (_, Cell::Float(value)) => Value::Float(value.to_bits()),
            (ColumnKind::Seconds, Cell::UInt(value)) => Value::Time(*value as i64 * 1000),
            (ColumnKind::Milliseconds, Cell::Int(value)) => Value::Time(*value),
            (_, Cell::Int(value)) => Value::Whole((*value).into()),
            (_, Cell::UInt(value)) => Value::Whole((*value).into()),
            (_, Cell::Text(text)) => Value::Text((*text).to_owned()),
        }
    }

    fn equals(&self, text: &str) -> bool {
        match self {
            Value::Null => text == "null",
            Value::Float(bits) => text.parse::<f64>().is_ok_and(|value| value.to_bits() == *bits),
            Value::Whole(value) => text.parse() == Ok(*value),
            Value::Time(ms) => time_ms(text) == Some(*ms),
            Value::Text(value) => text == format!("{value:?}"),
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Null => write!(f, "null"),
            Value::Float(bits) => write!(f, "{:?}", f64::from_bits(*bits)),
            Value::Whole(value) => write!(f, "{value}"),
            Value::Time(ms) => write!(f, "{ms}"),
            Value::Text(text) => write!(f, "{text:?}"),
        }
    }
}

//! Reads typed values out of a parsed file by the table of known keys, and collects what is wrong.
//!
//! A value that cannot be used is noted and replaced by a placeholder, so that one look at a file
//! finds all its problems; whoever reads must ask for the errors before using anything.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    time::Duration,
};

use toml::de::{DeTable, DeValue};

use super::{
    error::{ConfigError, ConfigErrors, ERRORS_MAX, Problem},
    keys::{self, Fallback, Key, Kind, Table},
    secret::{self, Environment, Secret},
    units::{duration_text, parse_duration_ms, parse_size_bytes, size_text},
};

/// The most characters of a value that an error repeats.
const SHOWN_CHARS_MAX: usize = 80;

/// The most problems that are kept before they are put in order; a file may hold many more.
const FOUND_MAX: usize = 10 * ERRORS_MAX;

/// A file being read: places, environment, and the problems found so far.
pub(super) struct Reader<'a> {
    file: &'a str,
    line_starts: Vec<usize>,
    pub(super) environment: &'a Environment<'a>,
    errors: RefCell<Vec<ConfigError>>,
    dropped_count: Cell<usize>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a str, text: &str, environment: &'a Environment<'a>) -> Reader<'a> {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        let (errors, dropped_count) = Default::default();
        Reader { file, line_starts, environment, errors, dropped_count }
    }

    /// Returns the line (from 1) of a byte.
    pub(super) fn line(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at).max(1)
    }

    pub(super) fn fail(&self, line: usize, key: &str, problem: Problem) {
        let Problem { text: problem, remedy } = problem;
        let mut errors = self.errors.borrow_mut();
        if errors.len() < FOUND_MAX {
            let (file, key) = (self.file.into(), key.into());
            errors.push(ConfigError { file, line, key, problem, remedy });
        } else {
            self.dropped_count.set(self.dropped_count.get() + 1);
        }
    }

    pub(super) fn error_count(&self) -> usize {
        self.errors.borrow().len()
    }

    /// Returns what was found, in order.
    pub(super) fn into_errors(self) -> ConfigErrors {
        ConfigErrors::new(self.errors.into_inner(), self.dropped_count.get())
    }

    /// Notes every unknown key and every table that is no table, at any depth.
    pub(super) fn check_names(&self, path: &str, table: &DeTable<'_>) {
        for (name, value) in table.iter() {
            let full = join(path, name.get_ref());
            let line = self.line(name.span().start);
            let is_array = full == "schema.field";
            match (keys::table(&full), value.get_ref()) {
                (Some(_), DeValue::Table(below)) if !is_array => self.check_names(&full, below),
                (Some(_), DeValue::Array(items)) if is_array => {
                    items.iter().for_each(|item| match item.get_ref() {
                        DeValue::Table(below) => self.check_names(&full, below),
                        other => self.fail_form(line, &full, other),
                    });
                }
                (Some(_), other) => self.fail_form(line, &full, other),
                (None, _) => {
                    let known = keys::names_in(path);
                    if !known.contains(&&**name.get_ref()) {
                        self.fail_unknown(line, path, name.get_ref(), &known);
                    }
                }
            }
        }
    }

    /// Notes that something else stands where a table is expected.
    fn fail_form(&self, line: usize, path: &str, found: &DeValue<'_>) {
        let form = if path == "schema.field" { "entries" } else { "a table" };
        let text = format!("must be {form}, found {}", describe(found));
        self.fail(line, path, Problem::new(text, format!("write {}", heading(path))));
    }

    fn fail_unknown(&self, line: usize, path: &str, name: &str, known: &[&str]) {
        let shown: String = name.chars().take(SHOWN_CHARS_MAX).collect();
        let remedy = if let Some(nearest) = keys::nearest(name, known) {
            format!("did you mean \"{}\"?", join(path, nearest))
        } else if let Some(home) = keys::elsewhere(name) {
            format!("did you mean \"{home}\"?")
        } else if known.is_empty() {
            "this table has no keys".into()
        } else {
            format!("known here: {}", known.join(", "))
        };
        let full = join(path, &shown).escape_debug().to_string();
        self.fail(line, &full, Problem::new("is unknown", remedy));
    }

    /// Returns a table by its full name, or an empty one in line 1 if it is not there.
    pub(super) fn section(&'a self, root: &'a DeTable<'a>, path: &str) -> Section<'a> {
        let spec = keys::table(path).expect("tables that are read are in the table of keys");
        let mut found = Some((root, 1));
        for name in path.split('.') {
            found = found.and_then(|(table, _)| {
                let value = table.get(name)?;
                Some((value.get_ref().as_table()?, self.line(value.span().start)))
            });
        }
        let (table, line) = found.map_or((None, 1), |(table, line)| (Some(table), line));
        Section { reader: self, spec, table, line }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}

/// Returns how a table's heading is written.
fn heading(path: &str) -> String {
    if path == "schema.field" { format!("[[{path}]]") } else { format!("[{path}]") }
}

/// A table being read.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    pub(super) reader: &'a Reader<'a>,
    spec: &'static Table,
    table: Option<&'a DeTable<'a>>,
    /// The line of its heading.
    pub(super) line: usize,
}

/// A value as written, or the default.
struct Given<'a> {
    key: &'static Key,
    value: Cow<'a, DeValue<'a>>,
    line: usize,
}

impl<'a> Section<'a> {
    /// Returns a table that is an item of an array.
    pub(super) fn item(
        reader: &'a Reader<'a>,
        path: &str,
        table: &'a DeTable<'a>,
        at: usize,
    ) -> Section<'a> {
        let spec = keys::table(path).expect("tables that are read are in the table of keys");
        Section { reader, spec, table: Some(table), line: reader.line(at) }
    }

    pub(super) fn path(&self) -> &'static str {
        self.spec.path
    }

    pub(super) fn is_written(&self) -> bool {
        self.table.is_some()
    }

    /// Returns the line of a key, or that of the table's heading where it is not written.
    pub(super) fn line_of(&self, name: &str) -> usize {
        let found = self.table.and_then(|table| table.get_key_value(name));
        found.map_or(self.line, |(key, _)| self.reader.line(key.span().start))
    }

    pub(super) fn fail(&self, name: &str, problem: Problem) {
        self.reader.fail(self.line_of(name), &join(self.spec.path, name), problem);
    }

    /// Returns whether a key is written.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(name))
    }

    /// Returns a value as it was parsed.
    pub(super) fn raw(&self, name: &str) -> Option<&'a DeValue<'a>> {
        self.table?.get(name).map(|value| value.get_ref())
    }

    /// Returns the written text of a key for use in errors, quoted and cut.
    pub(super) fn shown(&self, name: &str) -> String {
        self.raw(name).map_or_else(String::new, show)
    }

    fn given(&self, name: &str) -> Option<Given<'a>> {
        let key = self.spec.key(name).expect("keys that are read are in the table of keys");
        if let Some((place, value)) = self.table.and_then(|table| table.get_key_value(name)) {
            let line = self.reader.line(place.span().start);
            return Some(Given { key, value: Cow::Borrowed(value.get_ref()), line });
        }
        match key.fallback {
            Fallback::Is(text) => {
                let value = Cow::Owned(default_value(key, text));
                Some(Given { key, value, line: self.line })
            }
            Fallback::Required => {
                let remedy = format!("add it to {}", heading(self.spec.path));
                self.fail(name, Problem::new("is missing", remedy));
                None
            }
            Fallback::Absent => None,
        }
    }

    fn read<T>(
        &self,
        name: &str,
        convert: impl FnOnce(&Given<'a>) -> Result<T, Problem>,
    ) -> Option<T> {
        let given = self.given(name)?;
        match convert(&given) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.reader.fail(given.line, &join(self.spec.path, name), problem);
                None
            }
        }
    }

    /// Reads a whole number.
    pub(super) fn int<T: TryFrom<i64> + Default>(&self, name: &str) -> T {
        self.int_optional(name).unwrap_or_default()
    }

    /// Reads a whole number that may be absent.
    pub(super) fn int_optional<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        self.read(name, |given| {
            let value = whole(&given.value).ok_or_else(|| given.wrong_type())?;
            let Kind::Int(low, high) = given.key.kind else {
                unreachable!("{name} is read as a whole number");
            };
            let fits = i64::try_from(value).ok().filter(|value| (low..=high).contains(value));
            let fits = fits.and_then(|value| T::try_from(value).ok());
            fits.ok_or_else(|| out_of_bounds(&value, &low, &high))
        })
    }

    /// Reads a number.
    pub(super) fn float(&self, name: &str) -> f64 {
        let value = self.read(name, |given| {
            let value = number(&given.value).ok_or_else(|| given.wrong_type())?;
            let Kind::Float(low, high) = given.key.kind else {
                unreachable!("{name} is read as a number");
            };
            let fits = (low..=high).contains(&value);
            if fits { Ok(value) } else { Err(out_of_bounds(&value, &low, &high)) }
        });
        value.unwrap_or_default()
    }

    /// Reads `true` or `false`.
    pub(super) fn flag(&self, name: &str) -> bool {
        let value =
            self.read(name, |given| given.value.as_bool().ok_or_else(|| given.wrong_type()));
        value.unwrap_or_default()
    }

    /// Reads a duration.
    pub(super) fn duration(&self, name: &str) -> Duration {
        let value = self.read(name, |given| {
            let ms = self.measure(given, parse_duration_ms)?;
            let Kind::Duration(low, high) = given.key.kind else {
                unreachable!("{name} is read as a duration");
            };
            if (low..=high).contains(&ms) {
                return Ok(Duration::from_millis(ms));
            }
            let [low, high] = [low, high].map(|ms| format!("\"{}\"", duration_text(ms)));
            Err(out_of_bounds(&show(&given.value), &low, &high))
        });
        value.unwrap_or_default()
    }

    /// Reads a size in bytes.
    pub(super) fn size(&self, name: &str) -> usize {
        let value = self.read(name, |given| {
            let bytes = self.measure(given, parse_size_bytes)?;
            let Kind::Size(low, high) = given.key.kind else {
                unreachable!("{name} is read as a size");
            };
            let fits = usize::try_from(bytes).ok().filter(|_| (low..=high).contains(&bytes));
            let [low, high] = [low, high].map(|bytes| format!("\"{}\"", size_text(bytes)));
            fits.ok_or_else(|| out_of_bounds(&show(&given.value), &low, &high))
        });
        value.unwrap_or_default()
    }

    fn measure(
        &self,
        given: &Given<'_>,
        parse: fn(&str) -> Result<u64, Problem>,
    ) -> Result<u64, Problem> {
        if let Some(number) = whole(&given.value) {
            let mut problem = given.wrong_type();
            problem.remedy =
                parse(&number.to_string()).map_or_else(|p| p.remedy, |_| String::new());
            return Err(problem);
        }
        let text = given.value.as_str().ok_or_else(|| given.wrong_type())?;
        parse(&self.expand(text)?).map_err(|problem| {
            Problem::new(format!("is {}, which {}", quote(text), problem.text), problem.remedy)
        })
    }

    pub(super) fn expand(&self, text: &str) -> Result<String, Problem> {
        secret::expand(text, self.reader.environment)
    }

    /// Reads a text; empty if it is absent or unusable.
    pub(super) fn text(&self, name: &str) -> String {
        self.text_optional(name).unwrap_or_default()
    }

    /// Reads a text that may be absent.
    pub(super) fn text_optional(&self, name: &str) -> Option<String> {
        self.read(name, |given| {
            let text = given.value.as_str().ok_or_else(|| given.wrong_type())?;
            let text = self.expand(text)?;
            if text.is_empty() { Err(Problem::new("is empty", "")) } else { Ok(text) }
        })
    }

    /// Reads a list of texts with at least one, or an empty list if the key is absent.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let value = self.read(name, |given| {
            let items = given.value.as_array().ok_or_else(|| given.wrong_type())?;
            if items.is_empty() {
                return Err(Problem::new("is empty", "write at least one"));
            }
            let texts = items.iter().map(|item| {
                let text =
                    item.get_ref().as_str().ok_or_else(|| given.wrong_item(item.get_ref()))?;
                self.expand(text)
            });
            texts.collect::<Result<Vec<_>, _>>()
        });
        value.unwrap_or_default()
    }

    /// Reads one of the words of the key; `None` if it is absent or unusable.
    pub(super) fn choice(&self, name: &str) -> Option<&'static str> {
        self.read(name, |given| {
            let Kind::Choice(words) = given.key.kind else {
                unreachable!("{name} is read as a choice");
            };
            let text = given.value.as_str().ok_or_else(|| given.wrong_type())?;
            let word = self.expand(text)?;
            let known = words.iter().find(|known| **known == word).copied();
            known.ok_or_else(|| unknown_word(text, &word, words))
        })
    }

    /// Reads a secret.
    pub(super) fn secret(&self, name: &str) -> Option<Secret> {
        self.read(name, |given| {
            let text = given.value.as_str();
            let wrong = || {
                let text = format!("must be text in quotes, found {}", article(&given.value));
                Problem::new(text, "")
            };
            let secret = secret::secret(text.ok_or_else(wrong)?, self.reader.environment)?;
            if secret.expose().is_empty() { Err(Problem::new("is empty", "")) } else { Ok(secret) }
        })
    }
}

impl Given<'_> {
    pub(super) fn wrong_type(&self) -> Problem {
        let found = describe(&self.value);
        Problem::new(format!("must be {}, found {found}", expected(self.key.kind)), "")
    }

    fn wrong_item(&self, item: &DeValue<'_>) -> Problem {
        Problem::new(format!("must be {}, found {}", expected(self.key.kind), describe(item)), "")
    }
}

/// Returns the problem of a word that is none of the known ones. `shown` is what was written.
pub(super) fn unknown_word(shown: &str, word: &str, known: &[&str]) -> Problem {
    let remedy = match keys::nearest(word, known) {
        Some(nearest) => format!("did you mean \"{nearest}\"?"),
        None => format!("known: {}", known.join(", ")),
    };
    Problem::new(format!("is {}, which is unknown", quote(shown)), remedy)
}

fn out_of_bounds(
    value: &dyn std::fmt::Display,
    low: &dyn std::fmt::Display,
    high: &dyn std::fmt::Display,
) -> Problem {
    Problem::new(format!("is {value}, out of its bounds {low} to {high}"), "")
}

/// Returns the default as if it were written. Texts stand without quotes in the table.
pub(super) fn default_value(key: &Key, text: &'static str) -> DeValue<'static> {
    match key.kind {
        Kind::Int(..) | Kind::Float(..) | Kind::Bool => {
            let parsed = DeValue::parse(text).expect("defaults are TOML");
            parsed.into_inner()
        }
        _ => DeValue::String(Cow::Borrowed(text)),
    }
}

/// Returns a whole number.
pub(super) fn whole(value: &DeValue<'_>) -> Option<i128> {
    let integer = value.as_integer()?;
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// Returns a number, whole or not.
pub(super) fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(float) => float.as_str().parse().ok(),
        other => whole(other).map(|whole| whole as f64),
    }
}

fn expected(kind: Kind) -> String {
    match kind {
        Kind::Int(..) => "a whole number".into(),
        Kind::Float(..) => "a number".into(),
        Kind::Bool => "true or false".into(),
        Kind::Choice(words) => format!("one of \"{}\"", words.join("\", \"")),
        Kind::Text | Kind::Secret => "text in quotes".into(),
        Kind::Texts => "a list of texts such as [\"a\", \"b\"]".into(),
        Kind::Duration(..) => "a duration such as \"5s\"".into(),
        Kind::Size(..) => "a size such as \"4KiB\"".into(),
        Kind::Time => "a time such as \"2026-01-01T00:00:00Z\"".into(),
        Kind::Path => "a path such as \"a.b\" or [\"a\", \"b\"]".into(),
        Kind::Paths => "a list of paths such as [\"a.b\", \"c\"]".into(),
        Kind::Range => "a range such as [0, 100]".into(),
        Kind::Words => "words such as { ONLINE = 1 }".into(),
    }
}

/// Returns a value for an error, quoted and cut.
pub(super) fn show(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quote(text),
        DeValue::Integer(integer) => cut(&integer.to_string()),
        DeValue::Float(float) => cut(float.as_str()),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "[...]".into(),
        DeValue::Table(_) => "{ ... }".into(),
    }
}

fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "the text",
        DeValue::Integer(_) => "the integer",
        DeValue::Float(_) => "the number",
        DeValue::Boolean(_) => "the value",
        DeValue::Datetime(_) => "the time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Returns a value with its type, for an error.
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Array(_) | DeValue::Table(_) => article(value).into(),
        _ => format!("{} {}", article(value), show(value)),
    }
}

fn cut(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown
}

/// Returns text in quotes, escaped and cut.
pub(super) fn quote(text: &str) -> String {
    format!("{:?}", cut(text))
}

//! Reads `[source.*]`: exactly one of the known sources.

use std::{collections::BTreeSet, time::Duration};

use tidemill_decode::time::parse_text;
use tidemill_kernel::schema::TimeUnit;
use tidemill_source::generate::{GenerateConfig, START_MS_MAX, START_MS_MIN, Shape, TimeFormat};
use toml::de::{DeTable, DeValue};

use super::{
    error::Problem,
    pulsar,
    reader::{Reader, Section, describe},
    sections::{FilePartitions, FileSource, GenerateSource, Pace, Source},
    units::{as_ms, duration_text},
};

const SOURCES: [&str; 4] = ["source.file", "source.stdin", "source.generate", "source.pulsar"];

/// Returns the source; `None` and noted problems if there is not exactly one.
pub(super) fn read<'a>(reader: &'a Reader<'a>, root: &'a DeTable<'a>) -> Option<Source> {
    let section = one_of(reader, root, "source", &SOURCES)?;
    match section.path() {
        "source.file" => Some(Source::File(read_file(&section))),
        "source.stdin" => Some(Source::Stdin),
        "source.generate" => Some(Source::Generate(read_generate(&section))),
        _ => Some(Source::Pulsar(pulsar::read(&section))),
    }
}

/// Returns the only one of the tables that is written.
pub(super) fn one_of<'a>(
    reader: &'a Reader<'a>,
    root: &'a DeTable<'a>,
    what: &'static str,
    paths: &[&'static str],
) -> Option<Section<'a>> {
    let sections = paths.iter().map(|path| reader.section(root, path));
    let mut written: Vec<Section<'a>> = sections.filter(Section::is_written).collect();
    written.sort_by_key(|section| section.line);
    if let [first, second, ..] = written[..] {
        let text = format!("contradicts \"{}\" in line {}", first.path(), first.line);
        let problem = Problem::new(text, format!("keep one {what}"));
        reader.fail(second.line, second.path(), problem);
    }
    // An unknown one was already told of.
    let tells_itself = root.get(what).is_some_and(|value| match value.get_ref() {
        DeValue::Table(table) => !table.is_empty(),
        _ => true,
    });
    if written.is_empty() && !tells_itself {
        let forms: Vec<String> = paths.iter().map(|path| format!("[{path}]")).collect();
        let remedy = format!("add one of {}", forms.join(", "));
        reader.fail(reader.section(root, what).line, what, Problem::new("is missing", remedy));
    }
    written.first().copied()
}

fn read_file(section: &Section<'_>) -> FileSource {
    let paths = section.texts("paths");
    let mut seen = BTreeSet::new();
    for path in &paths {
        if path.is_empty() {
            section.fail("paths", Problem::new("holds an empty path", ""));
        } else if path == "-" {
            let problem = Problem::new("names the standard input", "write [source.stdin] instead");
            section.fail("paths", problem);
        } else if !seen.insert(path) {
            section.fail("paths", Problem::new("names a file twice", "name each file once"));
        }
    }
    let partitions = match section.choice("partitions") {
        Some("per_file") => FilePartitions::PerFile,
        _ => FilePartitions::Single,
    };
    FileSource { paths: paths.into_iter().map(Into::into).collect(), partitions }
}

fn read_generate(section: &Section<'_>) -> GenerateSource {
    let errors_before = section.reader.error_count();
    let start_ms = read_start(section);
    let ms = |name| as_ms(section.duration(name));
    let defaults = GenerateConfig::default();
    let config = GenerateConfig {
        seed: section.int("seed"),
        rate_per_s: section.float("rate_per_s"),
        devices: section.int("devices"),
        first_device: section.int("first_device"),
        device_prefix: section.text("device_prefix"),
        device_digits: section.int("device_digits"),
        start_ms: start_ms.unwrap_or(defaults.start_ms),
        out_of_orderness_ms: u32::try_from(ms("out_of_orderness")).unwrap_or(u32::MAX),
        late_ratio: section.float("late_ratio"),
        late_by_ms: ms("late_by"),
        malformed_ratio: section.float("malformed_ratio"),
        future_ratio: section.float("future_ratio"),
        future_by_ms: ms("future_by"),
        time_format: match section.choice("time_format") {
            Some("epoch_ms") => TimeFormat::EpochMs,
            _ => TimeFormat::Rfc3339,
        },
        shape: match section.choice("shape") {
            Some("nested") => Shape::Nested,
            Some("cpu") => Shape::Cpu,
            _ => Shape::Sensor,
        },
        missing_ratio: section.float("missing_ratio"),
        duplicate_ratio: section.float("duplicate_ratio"),
        silent_ratio: section.float("silent_ratio"),
        silent_for_ms: ms("silent_for"),
        wrong_clock_ratio: section.float("wrong_clock_ratio"),
        wrong_clock_by_ms: ms("wrong_clock_by"),
        burst_every_ms: ms("burst_every"),
        burst_ratio: section.float("burst_ratio"),
    };
    let pace = match section.choice("pace") {
        Some("fast") => Pace::Fast,
        _ => Pace::Real,
    };
    let generate = GenerateSource {
        config,
        start_ms,
        messages: section.int_optional("messages"),
        pace,
        partitions: section.int("partitions"),
        backfill: section.duration("backfill"),
    };
    if section.reader.error_count() == errors_before {
        check_generate(section, &generate);
    }
    generate
}

/// Checks what keys of the generator say together; each alone is within its bounds.
fn check_generate(section: &Section<'_>, generate: &GenerateSource) {
    let fail = |name: &str, text: String, remedy: &str| {
        section.fail(name, Problem::new(text, remedy));
    };
    if generate.backfill > Duration::ZERO {
        if generate.start_ms.is_some() {
            fail("backfill", "contradicts \"source.generate.start\"".into(), "keep one of them");
        }
        if generate.pace == Pace::Fast {
            let remedy = "leave one of them out: with \"fast\" all of it goes as fast as it can";
            fail("backfill", "contradicts pace = \"fast\"".into(), remedy);
        }
    }
    if generate.partitions > generate.config.devices {
        let text = format!(
            "is {}, more than the {} devices",
            generate.partitions, generate.config.devices
        );
        fail("partitions", text, "lower it: every device belongs to one partition");
    }
    let config = &generate.config;
    if config.late_ratio > 0.0 && config.late_by_ms <= u64::from(config.out_of_orderness_ms) {
        let text = format!(
            "is \"{}\", not more than out_of_orderness = \"{}\"",
            duration_text(config.late_by_ms),
            duration_text(config.out_of_orderness_ms.into())
        );
        fail("late_by", text, "raise it, or late messages are normal ones");
        return;
    }
    if let Err(error) = config.validate() {
        // Names of the generator's own fields carry their unit.
        let name = error.key.strip_suffix("_ms").unwrap_or(error.key);
        fail(name, format!("is {}", error.value), &error.remedy);
    }
}

fn read_start(section: &Section<'_>) -> Option<i64> {
    let written = section.raw("start")?;
    let example = "write a time such as \"2026-01-01T00:00:00Z\"";
    let text = match written {
        DeValue::String(text) => section.expand(text),
        DeValue::Datetime(time) => Ok(time.to_string()),
        other => Err(Problem::new(format!("must be a time, found {}", describe(other)), example)),
    };
    let ms = text.and_then(|text| {
        let time = parse_text(text.as_bytes(), TimeUnit::Auto);
        let shown = section.shown("start");
        let ms = time.map(|time| time.as_ms());
        let ms =
            ms.ok_or_else(|| Problem::new(format!("is {shown}, which is no time"), example))?;
        if (START_MS_MIN..=START_MS_MAX).contains(&ms) {
            return Ok(ms);
        }
        let text = format!("is {shown}, out of its bounds 2000-01-01 to 2100-01-01");
        Err(Problem::new(text, ""))
    });
    ms.map_err(|problem| section.fail("start", problem)).ok()
}

/// Checks the key `url`. What stands in front of an `@` is never repeated: it is a password.
pub(super) fn check_url(section: &Section<'_>, url: &str, schemes: &[&str], example: &str) {
    if url.is_empty() {
        return;
    }
    if url.contains('@') {
        let remedy = "write them into keys of their own";
        section.fail("url", Problem::new("holds credentials", remedy));
        return;
    }
    let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme));
    let host = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let plain = !url.contains(|c: char| c.is_whitespace() || c.is_control() || "?#".contains(c));
    if host.is_empty() || host.starts_with(':') || !plain {
        let text = format!("is {}, which is no usable address", section.shown("url"));
        section.fail("url", Problem::new(text, format!("write {example:?}")));
    }
}

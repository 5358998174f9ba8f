//! `config/example.toml` names every known key with its default, and every setting in it works.

use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use super::good;
use crate::config::{
    Sink, Source,
    keys::{Fallback, TABLES},
    reader::{default_value, show},
};

const EXAMPLE: &str = include_str!("../../../../../config/example.toml");

/// The example with every setting active; comments have a space behind their `#`.
fn all_active() -> String {
    let is_setting = |rest: &str| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase());
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if is_setting(rest) => rest,
        _ => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// The example with every setting active, but only that source and that sink.
fn with(source: &str, sink: &str) -> String {
    let mut skips = false;
    let mut text = String::new();
    for line in all_active().lines() {
        if let Some(heading) = line.strip_prefix('[') {
            let other = |room: &str, chosen: &str| {
                heading.starts_with(room) && !heading.starts_with(&format!("{room}{chosen}]"))
            };
            skips = other("source.", source) || other("sink.", sink);
        }
        // Three keys say which topics; only one may.
        if !skips && !line.starts_with("topics") {
            text.push_str(line);
        }
        text.push('\n');
    }
    text
}

#[test]
fn example_loads_as_it_is() {
    let config = good(EXAMPLE);
    assert_eq!(config.source.name(), "pulsar");
    assert_eq!(config.sink.name(), "clickhouse");
    // Every value in it is the default.
    let smallest = good(super::GOOD);
    assert_eq!(config.fingerprint(), smallest.fingerprint());
    assert_eq!(config.pipeline, smallest.pipeline);
    assert_eq!(config.source, smallest.source);
    assert_eq!(config.window, smallest.window);
    assert_eq!(config.sink, smallest.sink);
    assert_eq!(config.http, smallest.http);
    assert_eq!(config.limits, smallest.limits);
}

#[test]
fn every_setting_of_the_example_works_for_every_source_and_sink() {
    let environment = |name: &str| (name == "CLICKHOUSE_PASSWORD").then(|| "secret".to_owned());
    let token = std::env::temp_dir().join(format!("tidemill-token-{}", std::process::id()));
    std::fs::write(&token, "token\n").unwrap();
    for source in ["file", "stdin", "generate", "pulsar"] {
        for sink in ["embedded", "clickhouse", "stdout"] {
            let text = with(source, sink);
            let text = text.replace("/run/secrets/pulsar", token.to_str().unwrap());
            let text = text.replace("\"pulsar://", "\"pulsar+ssl://");
            let config = crate::config::Config::parse("t.toml", &text, &environment);
            let config = config.unwrap_or_else(|errors| panic!("{errors}\nin\n{text}"));
            assert_eq!((config.source.name(), config.sink.name()), (source, sink));
            assert_eq!(config.pipeline.worker_threads, 8);
            assert_eq!(config.schema.fields().len(), 27);
            if let Source::Pulsar(pulsar) = &config.source {
                assert_eq!(pulsar.token.as_ref().unwrap().expose(), "token");
            }
            if let Sink::ClickHouse(clickhouse) = &config.sink {
                assert_eq!(clickhouse.password.as_ref().unwrap().expose(), "secret");
            }
        }
    }
    std::fs::remove_file(&token).unwrap();
}

/// Collects `table.key = value` of every setting.
fn settings(path: &str, table: &DeTable<'_>, found: &mut BTreeSet<(String, String)>) {
    for (name, value) in table.iter() {
        let full = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        let is_table = TABLES.iter().any(|table| table.path == full);
        match value.get_ref() {
            DeValue::Table(below) if is_table => settings(&full, below, found),
            DeValue::Array(items) if is_table => items.iter().for_each(|item| {
                settings(&full, item.get_ref().as_table().unwrap(), found);
            }),
            other => {
                found.insert((full, show(other)));
            }
        }
    }
}

#[test]
fn example_names_every_known_key_with_its_default_and_a_comment() {
    let text = all_active();
    let root = DeTable::parse(&text).unwrap();
    let mut found = BTreeSet::new();
    settings("", root.get_ref(), &mut found);
    let mut missing = Vec::new();
    for table in TABLES {
        for key in table.keys {
            let full = format!("{}.{}", table.path, key.name);
            let named = found.iter().any(|(name, _)| *name == full);
            let has_default = match key.fallback {
                Fallback::Is(text) => {
                    found.contains(&(full.clone(), show(&default_value(key, text))))
                }
                _ => true,
            };
            if !named || !has_default {
                missing.push(full);
            }
        }
        assert!(text.contains(&format!("[{}]", table.path)) || table.keys.is_empty());
    }
    assert_eq!(missing, Vec::<String>::new(), "not named, or with another value than the default");
    let uncommented = |line: &&str| line.contains(" = ") && !line.contains(" # ");
    let settings = all_active();
    let bare = settings.lines().filter(|line| !line.starts_with('#')).find(uncommented);
    assert_eq!(bare, None, "a setting without a comment");
    assert!(settings.contains("[sink.stdout]") && settings.contains("[source.stdin]"));
}

#[test]
fn required_keys_are_marked_in_the_example() {
    for table in TABLES {
        for key in table.keys.iter().filter(|key| matches!(key.fallback, Fallback::Required)) {
            let start = format!("{} = ", key.name);
            let text = all_active();
            let (_, section) = text.split_once(&format!("[{}]", table.path)).unwrap();
            let line = section.lines().find(|line| line.starts_with(&start)).unwrap();
            assert!(line.contains("# required"), "{line}");
        }
    }
}

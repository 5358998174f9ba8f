//! Reads `[source.pulsar]`.

use std::collections::BTreeSet;

use tidemill_decode::time::parse_text;
use tidemill_kernel::schema::TimeUnit;
use tidemill_source::pulsar::{Topics, full_name};

use super::{
    error::Problem,
    reader::Section,
    sections::{PulsarSource, PulsarStart},
    source::check_url,
};

pub(super) fn read(section: &Section<'_>) -> PulsarSource {
    let url = section.text("url");
    check_url(section, &url, &["pulsar://", "pulsar+ssl://"], "pulsar://127.0.0.1:6650");
    let tls_ca_file = section.text_optional("tls_ca_file");
    if tls_ca_file.is_some() && url.starts_with("pulsar://") {
        let text = "has no meaning without TLS";
        section.fail("tls_ca_file", Problem::new(text, "write url = \"pulsar+ssl://…\""));
    }
    PulsarSource {
        url,
        tls_ca_file: tls_ca_file.map(Into::into),
        topics: read_topics(section),
        subscription: section.text("subscription"),
        consumer_name: section.text_optional("consumer_name"),
        token: section.secret("token"),
        start: read_start(section),
        discovery_interval: section.duration("discovery_interval"),
        receive_messages_max: section.int("receive_messages_max"),
        entry_bytes_max: section.size("entry_bytes_max"),
    }
}

/// Returns what exactly one of three keys says.
fn read_topics(section: &Section<'_>) -> Topics {
    let written: Vec<&str> =
        ["topic", "topics", "topics_pattern"].into_iter().filter(|key| section.has(key)).collect();
    match written[..] {
        [] => {
            let remedy = "add it, or topics, or topics_pattern, to [source.pulsar]";
            section.fail("topic", Problem::new("is missing", remedy));
        }
        [first, second, ..] => {
            let text = format!("contradicts \"source.pulsar.{first}\"");
            section.fail(second, Problem::new(text, "keep one of them"));
        }
        ["topics"] => return Topics::List(read_list(section)),
        ["topics_pattern"] => return Topics::Pattern(read_pattern(section)),
        [_] => {}
    }
    Topics::One(section.text_optional("topic").unwrap_or_default())
}

fn read_list(section: &Section<'_>) -> Vec<String> {
    let mut topics = BTreeSet::new();
    for topic in section.texts("topics") {
        match full_name(&topic) {
            Ok(name) => {
                if !topics.insert(name) {
                    section.fail("topics", Problem::new("names a topic twice", "name each once"));
                }
            }
            // The text may come from the environment and is not shown.
            Err(_) => {
                let text = "holds what is no name of a topic";
                let remedy = "write \"persistent://tenant/namespace/topic\"";
                section.fail("topics", Problem::new(text, remedy));
            }
        }
    }
    topics.into_iter().collect()
}

fn read_pattern(section: &Section<'_>) -> String {
    let pattern = section.text_optional("topics_pattern").unwrap_or_default();
    let full = full_name(&pattern).ok();
    let namespace = |full: &String| full.rsplit_once('/').map(|(start, _)| start.to_owned());
    match full.filter(|full| namespace(full).is_some_and(|start| !start.contains('*'))) {
        Some(full) => full,
        None => {
            let text = format!("is {}, which is no pattern", section.shown("topics_pattern"));
            let remedy = "write \"persistent://tenant/namespace/name-*\"; * fits any characters";
            section.fail("topics_pattern", Problem::new(text, remedy));
            pattern
        }
    }
}

fn read_start(section: &Section<'_>) -> PulsarStart {
    let text = section.text("start");
    match text.as_str() {
        "latest" => return PulsarStart::Latest,
        "earliest" | "" => return PulsarStart::Earliest,
        _ => {}
    }
    let time = parse_text(text.as_bytes(), TimeUnit::Auto).map(|time| time.as_ms());
    // Numbers alone would be a unit to guess at.
    match time.filter(|&ms| ms >= 0 && text.contains('-')) {
        Some(ms) => PulsarStart::PublishTime(ms),
        None => {
            let shown = section.shown("start");
            let text = format!("is {shown}, which is no place to begin at");
            let remedy = "write \"earliest\", \"latest\" or a time: \"2026-01-01T00:00:00Z\"";
            section.fail("start", Problem::new(text, remedy));
            PulsarStart::Earliest
        }
    }
}

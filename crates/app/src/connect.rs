//! What `check --connect` asks: is everything there that a pipeline needs, and as it needs it.
//!
//! Nothing is made, changed, subscribed to for good or acknowledged. What cannot be asked is said
//! to be not checked. What the stores look at stands in their crate.

use std::{fs::File, time::Duration};

use serde_json::Value;
use tidemill_pulsar::{
    Client, ConsumerConfig, ConsumerEvent, Error, ServerError, StartAt, partition_topic,
};
use tidemill_sink::{
    check::{
        Check,
        Verdict::{Error as Bad, NotChecked, Ok as Good, Warning},
    },
    clickhouse, embedded,
};
use tidemill_source::pulsar::topic_names;
use tokio::runtime::Runtime;

use crate::{
    assemble::{clickhouse_config, embedded_config, pulsar_client},
    config::{Config, PulsarSource, Routing, Sink, Source},
};

/// Messages of a partition that are looked at.
const SAMPLE_MAX: u32 = 200;
/// Partitions whose messages are looked at.
const SAMPLED_PARTITIONS_MAX: u32 = 16;
/// Topics that are looked at.
const CHECKED_TOPICS_MAX: usize = 16;
/// How long a partition may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How long the broker may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The most bytes of an answer of the admin interface.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Looks at source and sink. `admin` is the address of the broker's admin interface.
pub fn look(config: &Config, admin: Option<&str>) -> Vec<Check> {
    let mut checks = match &config.source {
        Source::Pulsar(source) => pulsar(config, source, admin),
        Source::File(source) => source.paths.iter().map(|path| file(path)).collect(),
        _ => vec![Check::new("source", Good, "makes its own messages")],
    };
    checks.extend(sink(config));
    checks
}

fn file(path: &std::path::Path) -> Check {
    let path_shown = path.display();
    match File::open(path).and_then(|file| file.metadata()) {
        Ok(found) if found.is_dir() => {
            Check::new("source", Bad, format!("{path_shown} is a directory; write a file"))
        }
        Ok(found) => Check::new("source", Good, format!("{path_shown}, {} bytes", found.len())),
        Err(error) => {
            let text = format!("{path_shown}: {error}; check the path and its rights");
            Check::new("source", Bad, text)
        }
    }
}

fn sink(config: &Config) -> Vec<Check> {
    let columns = config.schema.columns();
    let keys: Vec<String> = config.key_columns().into_iter().map(str::to_owned).collect();
    let pipeline = &config.pipeline.name;
    match &config.sink {
        Sink::ClickHouse(sink) => {
            let sink = clickhouse_config(sink, config.limits.piece_rows_max);
            clickhouse::inspect::inspect(&sink, columns, &keys, pipeline)
                .unwrap_or_else(|error| vec![Check::new("sink", Bad, error.to_string())])
        }
        Sink::Embedded(sink) => embedded::inspect(&embedded_config(sink), columns, &keys, pipeline),
        Sink::Stdout => {
            let text = "stdout keeps nothing: every start reads everything again";
            vec![Check::new("sink", Warning, text)]
        }
    }
}

fn pulsar(config: &Config, source: &PulsarSource, admin: Option<&str>) -> Vec<Check> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return vec![Check::new("broker", Bad, error.to_string())],
    };
    let mut checks = Vec::new();
    let client = match Client::new(pulsar_client(source)) {
        Ok(client) => client,
        Err(error) => return vec![Check::new("broker", Bad, error.to_string())],
    };
    let names = runtime.block_on(async {
        tokio::time::timeout(ANSWER_MAX, topic_names(&client, &source.topics)).await
    });
    let names = match names {
        Err(_) => return vec![silent(source)],
        Ok(Err(error)) => return vec![refused(&error)],
        Ok(Ok(names)) => names,
    };
    if names.is_empty() {
        return vec![Check::new("topic", Bad, "no topic fits source.pulsar.topics_pattern")];
    }
    for topic in names.iter().take(CHECKED_TOPICS_MAX) {
        let found = one_topic(&runtime, &client, source, admin, topic, config.pipeline.routing);
        // What is true of the broker is said once.
        checks
            .extend(found.into_iter().filter(|check| !checks.contains(check)).collect::<Vec<_>>());
    }
    if names.len() > CHECKED_TOPICS_MAX {
        let text = format!("{} topics more", names.len() - CHECKED_TOPICS_MAX);
        checks.push(Check::new("topic", NotChecked, text));
    }
    checks
}

fn silent(source: &PulsarSource) -> Check {
    Check::new("broker", Bad, format!("no answer from {} within {ANSWER_MAX:?}", source.url))
}

fn refused(error: &Error) -> Check {
    Check::new("broker", Bad, format!("{error}; check source.pulsar.url, token and rights"))
}

fn one_topic(
    runtime: &Runtime,
    client: &Client,
    source: &PulsarSource,
    admin: Option<&str>,
    topic: &str,
    routing: Routing,
) -> Vec<Check> {
    let count = runtime.block_on(async {
        tokio::time::timeout(ANSWER_MAX, client.partition_count_if_there(topic)).await
    });
    let partitions = match count {
        Err(_) => return vec![silent(source)],
        Ok(Err(Error::Broker { code: ServerError::TopicNotFound, .. })) => None,
        Ok(Err(error)) => return vec![refused(&error)],
        Ok(Ok(partitions)) => Some(partitions),
    };
    let mut checks = vec![Check::new("broker", Good, format!("answers at {}", source.url))];
    // An old broker says 0 of a topic that is not there, too, and reading it would make it.
    let is_there = admin.and_then(|admin| topic_is_there(admin, source, topic));
    let partitions = partitions.filter(|count| *count > 0 || is_there != Some(false));
    let Some(partitions) = partitions else {
        let text = format!("{topic} is not there: create it with 4 to 8 partitions");
        checks.push(Check::new("topic", Bad, text));
        return checks;
    };
    checks.push(partition_check(topic, partitions));
    checks.push(if partitions > 0 || is_there == Some(true) {
        runtime.block_on(keys(client, topic, partitions, routing))
    } else {
        let text = "give --admin: reading a topic without partitions could make it";
        Check::new("keys", NotChecked, text)
    });
    checks.push(retention(source, admin, topic));
    checks
}

fn partition_check(topic: &str, partitions: u32) -> Check {
    match partitions {
        4..=8 => Check::new("topic", Good, format!("{topic} has {partitions} partitions")),
        0 => {
            let text =
                format!("{topic} is not partitioned: one lane; 4 to 8 partitions share work");
            Check::new("topic", Warning, text)
        }
        _ => {
            let text = format!("{topic} has {partitions} partitions; 4 to 8 are a good number");
            Check::new("topic", Warning, text)
        }
    }
}

/// Reads the oldest messages of each partition and counts those with a key.
async fn keys(client: &Client, topic: &str, partitions: u32, routing: Routing) -> Check {
    let mut topics: Vec<String> = (0..partitions.min(SAMPLED_PARTITIONS_MAX))
        .map(|partition| partition_topic(topic, partition))
        .collect();
    if topics.is_empty() {
        topics.push(topic.to_owned());
    }
    let (mut seen, mut with_key) = (0_u64, 0_u64);
    for topic in topics {
        match sample(client, topic).await {
            Ok((partition_seen, partition_keys)) => {
                seen += partition_seen;
                with_key += partition_keys;
            }
            Err(error) => {
                return Check::new("keys", NotChecked, format!("no sample of messages: {error}"));
            }
        }
    }
    let text = format!("{with_key} of {seen} messages have a key");
    if seen == 0 {
        Check::new("keys", NotChecked, "the topic holds no message to look at")
    } else if with_key == seen {
        Check::new("keys", Good, text)
    } else if routing == Routing::Any {
        Check::new("keys", Good, format!("{text}; routing = \"any\" needs none"))
    } else {
        let text = format!(
            "{text}: a device's messages may be in several partitions, and it then has a row for \
             each; let producers send the device as the key, or write routing = \"any\" into \
             [pipeline]"
        );
        Check::new("keys", Warning, text)
    }
}

/// Returns how many messages were seen, and how many of them have a key.
async fn sample(client: &Client, topic: String) -> Result<(u64, u64), String> {
    let config = ConsumerConfig::reader(topic, "tidemill-check", StartAt::Earliest);
    let mut reader = client.subscribe(config);
    let (mut seen, mut with_key) = (0, 0);
    while seen < u64::from(SAMPLE_MAX) {
        let Ok(event) = tokio::time::timeout(SILENCE_MAX, reader.next()).await else { break };
        match event {
            ConsumerEvent::Connected => {
                reader.flow(SAMPLE_MAX).await.map_err(|error| error.to_string())?;
            }
            ConsumerEvent::Entry(entry) => {
                for message in entry.messages().flatten() {
                    seen += 1;
                    with_key += u64::from(message.key.is_some());
                }
            }
            ConsumerEvent::EndOfTopic => break,
            ConsumerEvent::Failed { reason } => return Err(reason.to_string()),
            _ => {}
        }
    }
    Ok((seen, with_key))
}

/// Splits `persistent://tenant/namespace/name`, also without its beginning.
fn topic_parts(topic: &str) -> [String; 3] {
    let rest = topic.strip_prefix("persistent://").unwrap_or(topic);
    let mut parts = rest.splitn(3, '/').map(str::to_owned);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(tenant), Some(namespace), Some(name)) => [tenant, namespace, name],
        _ => ["public".into(), "default".into(), rest.to_owned()],
    }
}

fn ask_admin(admin: &str, source: &PulsarSource, path: &str) -> Result<Value, String> {
    let url = format!("{}/admin/v2/{path}", admin.trim_end_matches('/'));
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(ANSWER_MAX)).build().into();
    let mut request = agent.get(&url);
    if let Some(token) = &source.token {
        request = request.header("authorization", format!("Bearer {}", token.expose()));
    }
    let answer = request.call().map_err(|error| format!("{url}: {error}"))?;
    let mut body = answer.into_body();
    let text = body.with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    let text = text.map_err(|error| format!("{url}: {error}"))?;
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).map_err(|error| format!("{url}: {error}"))
}

/// Returns whether a plain topic is among those of its namespace; `None` if that cannot be told.
fn topic_is_there(admin: &str, source: &PulsarSource, topic: &str) -> Option<bool> {
    let [tenant, namespace, name] = topic_parts(topic);
    let topics = ask_admin(admin, source, &format!("persistent/{tenant}/{namespace}")).ok()?;
    let full = format!("persistent://{tenant}/{namespace}/{name}");
    Some(topics.as_array()?.iter().any(|topic| topic == full.as_str()))
}

fn retention(source: &PulsarSource, admin: Option<&str>, topic: &str) -> Check {
    let Some(admin) = admin else {
        let text = "retention of the namespace: give --admin http://broker:8080";
        return Check::new("retention", NotChecked, text);
    };
    let [tenant, namespace, _] = topic_parts(topic);
    let place = format!("{tenant}/{namespace}");
    let found = match ask_admin(admin, source, &format!("namespaces/{place}/retention")) {
        Ok(found) => found,
        Err(error) => return Check::new("retention", NotChecked, error),
    };
    let number = |key: &str| found.get(key).and_then(Value::as_i64).unwrap_or(0);
    match (number("retentionTimeInMinutes"), number("retentionSizeInMB")) {
        (0, _) | (_, 0) => {
            let text = format!(
                "namespace {place} keeps nothing that is acknowledged: if somebody else moves the \
                 subscription, messages are gone; set a retention of some hours"
            );
            Check::new("retention", Warning, text)
        }
        (minutes, megabytes) => {
            let shown = |value: i64, unit: &str| match value {
                ..0 => "no limit".to_owned(),
                value => format!("{value} {unit}"),
            };
            let (time, size) = (shown(minutes, "minutes"), shown(megabytes, "MB"));
            Check::new("retention", Good, format!("namespace {place} keeps {time}, {size}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::topic_parts;

    #[test]
    fn short_names_of_topics_are_in_the_default_namespace() {
        assert_eq!(topic_parts("persistent://a/b/c/d"), ["a", "b", "c/d"]);
        assert_eq!(topic_parts("a/b/c"), ["a", "b", "c"]);
        assert_eq!(topic_parts("c"), ["public", "default", "c"]);
    }
}

//! Reads `[sink.*]`: exactly one of the known sinks.

use tidemill_sink::clickhouse::TableEngine;
use toml::de::DeTable;

use super::{
    error::Problem,
    reader::{Reader, Section},
    sections::{ClickHouseSink, EmbeddedSink, Sink},
    source::{check_url, one_of},
};

const SINKS: [&str; 3] = ["sink.embedded", "sink.clickhouse", "sink.stdout"];
const TABLE_NAME_BYTES_MAX: usize = 64;

/// Returns the sink; `None` and noted problems if there is not exactly one.
pub(super) fn read<'a>(
    reader: &'a Reader<'a>,
    root: &'a DeTable<'a>,
    pipeline: &str,
) -> Option<Sink> {
    let section = one_of(reader, root, "sink", &SINKS)?;
    match section.path() {
        "sink.embedded" => Some(Sink::Embedded(read_embedded(&section, pipeline))),
        "sink.clickhouse" => Some(Sink::ClickHouse(read_clickhouse(&section))),
        _ => Some(Sink::Stdout),
    }
}

fn read_embedded(section: &Section<'_>, pipeline: &str) -> EmbeddedSink {
    let table = match section.text_optional("table") {
        Some(table) => {
            if !is_table_name(&table) || table.to_ascii_lowercase().starts_with("sqlite") {
                let text = format!("is {}, which is no table name", section.shown("table"));
                section.fail("table", Problem::new(text, TABLE_REMEDY));
            }
            table
        }
        None => {
            let table = pipeline.replace('-', "_");
            let usable = is_table_name(&table) && !table.to_ascii_lowercase().starts_with("sqlite");
            // An unusable or missing pipeline name was already told of.
            if !section.has("table") && !pipeline.is_empty() && !usable {
                let text = "is missing, and the pipeline's name is no table name";
                section.fail("table", Problem::new(text, TABLE_REMEDY));
            }
            table
        }
    };
    EmbeddedSink {
        path: section.text("path").into(),
        table,
        busy_timeout: section.duration("busy_timeout"),
    }
}

const TABLE_REMEDY: &str =
    "write 1 to 64 letters, digits or _, not beginning with a digit or \"sqlite\"";

fn is_table_name(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let starts_well = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    plain && starts_well && name.len() <= TABLE_NAME_BYTES_MAX
}

fn read_engine(section: &Section<'_>, insert_quorum: Option<u32>) -> TableEngine {
    let cluster = section.text_optional("cluster");
    if section.choice("engine") != Some("replicated") {
        return TableEngine::Plain;
    }
    if cluster.is_none() && !section.has("cluster") {
        let remedy = "write the cluster's name as in the servers' remote_servers";
        section.fail("cluster", Problem::new("is missing for engine \"replicated\"", remedy));
    }
    if insert_quorum == Some(1) {
        let text = "is 1, but a record has to be on two replicas before it can be relied on";
        section.fail("insert_quorum", Problem::new(text, "write 2 or more, or take it away"));
    }
    TableEngine::Replicated { cluster: cluster.unwrap_or_default() }
}

fn read_clickhouse(section: &Section<'_>) -> ClickHouseSink {
    let url = section.text("url");
    check_url(section, &url, &["http://", "https://"], "http://127.0.0.1:8123");
    let insert_quorum = section.int_optional("insert_quorum");
    let table = section.text("table");
    let (database, name) = table.split_once('.').unwrap_or(("default", &table));
    let is_name = is_table_name(database) && is_table_name(name);
    if !table.is_empty() && !is_name {
        let text = format!("is {}, which is no table name", section.shown("table"));
        let remedy = "write database.table, such as \"benchmark.sensors_local\"";
        section.fail("table", Problem::new(text, remedy));
    }
    ClickHouseSink {
        url,
        table,
        user: section.text_optional("user"),
        password: section.secret("password"),
        ca_file: section.text_optional("ca_file").map(Into::into),
        engine: read_engine(section, insert_quorum),
        create: section.flag("create"),
        connect_timeout: section.duration("connect_timeout"),
        insert_timeout: section.duration("insert_timeout"),
        query_timeout: section.duration("query_timeout"),
        piece_bytes_max: section.size("piece_bytes_max"),
        insert_quorum,
    }
}

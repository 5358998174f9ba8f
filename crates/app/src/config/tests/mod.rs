//! Tests of the configuration.

use super::Config;

mod bad;
mod example;
mod mutations;
mod values;

/// A config that is right, to be made wrong: the first line is `[pipeline]`.
const GOOD: &str = r#"[pipeline]
name = "sensors"
[source.pulsar]
url = "pulsar://127.0.0.1:6650"
topic = "persistent://public/default/iot-sensor-data"
[schema]
preset = "sensor"
[window]
size = "1m"
[sink.clickhouse]
url = "http://127.0.0.1:8123"
table = "benchmark.sensors_local"
"#;

fn no_environment(_: &str) -> Option<String> {
    None
}

#[track_caller]
fn good(text: &str) -> Config {
    match Config::parse("t.toml", text, &no_environment) {
        Ok(config) => config,
        Err(errors) => panic!("{errors}\nin\n{text}"),
    }
}

//! The page of metrics in Prometheus' text exposition format, version 0.0.4.
//!
//! Made from the tables of the engine and of the process; the reference in the documents is made
//! from the same families. It counts nothing itself.

use std::fmt::Write as _;

use tidemill_engine::metrics::{METRICS, MetricKind, Metrics};

use crate::{process::PROCESS_METRICS, version};

/// The media type of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A metric with all its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its whole name.
    pub name: String,
    /// What it says.
    pub help: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// Label text such as `reason="late"`, or none, and the value.
    pub samples: Vec<(String, f64)>,
}

/// Returns every metric, in the order of the page.
pub fn families(metrics: &Metrics) -> Vec<Family> {
    let ours = METRICS.iter().map(|metric| Family {
        name: format!("tidemill_{}", metric.name),
        help: metric.help,
        kind: kind(metric.kind),
        samples: (metric.read)(metrics),
    });
    let commit = version::COMMIT.unwrap_or("unknown");
    let build = Family {
        name: "tidemill_build_info".to_owned(),
        help: "Always 1; the labels say which Tidemill runs.",
        kind: kind(MetricKind::Gauge),
        samples: vec![(format!("version=\"{}\",commit=\"{commit}\"", version::VERSION), 1.0)],
    };
    let process = PROCESS_METRICS.iter().map(|metric| Family {
        name: metric.name.to_owned(),
        help: metric.help,
        kind: kind(metric.kind),
        samples: (metric.read)().map(|value| (String::new(), value)).into_iter().collect(),
    });
    ours.chain([build]).chain(process).collect()
}

fn kind(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
    }
}

/// Returns the page.
pub fn page(metrics: &Metrics) -> String {
    let mut text = String::new();
    for Family { name, help, kind, samples } in families(metrics) {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use prometheus_parse::{Scrape, Value};

    use super::*;

    /// A pipeline with one lane of which everything is known.
    fn metrics(partition: &str) -> Metrics {
        let metrics = Metrics::default();
        metrics.update_lane(&Arc::from(partition), |lane| {
            lane.running = true;
            lane.watermark_ms = Some(1_767_225_600_500);
            lane.publish_time_ms = Some(1_767_225_602_000);
            lane.committed_at_ms = Some(1_767_225_603_000);
            lane.ledger.messages = 12;
        });
        metrics.count_letter(tidemill_kernel::event::Reason::Late);
        metrics
    }

    fn parse(page: &str) -> Scrape {
        Scrape::parse(page.lines().map(|line| Ok(line.to_owned()))).expect("Prometheus reads it")
    }

    #[test]
    fn prometheus_reads_every_metric_with_its_type_help_and_labels() {
        let metrics = metrics("0");
        let (page, families) = (page(&metrics), families(&metrics));
        let scrape = parse(&page);
        for Family { name, help, kind, samples } in &families {
            assert!(!samples.is_empty(), "{name} has a value here");
            assert_eq!(scrape.docs.get(name).map(String::as_str), Some(*help), "{name}");
            let read: Vec<_> = scrape.samples.iter().filter(|s| s.metric == *name).collect();
            assert_eq!(read.len(), samples.len(), "{name}");
            for (sample, (labels, value)) in read.iter().zip(samples) {
                match (&sample.value, *kind) {
                    (Value::Counter(read), "counter") | (Value::Gauge(read), "gauge") => {
                        // Those of the process go on while the test runs.
                        assert!(name.starts_with("process_") || read == value, "{name}");
                    }
                    other => panic!("{name} is no {kind}: {other:?}"),
                }
                assert_eq!(sample.labels.is_empty(), labels.is_empty(), "{name}");
            }
        }
        let count: usize = families.iter().map(|family| family.samples.len()).sum();
        assert_eq!(scrape.samples.len(), count, "nothing else is on the page");
        let watermark = scrape
            .samples
            .iter()
            .find(|sample| sample.metric == "tidemill_lane_watermark_timestamp_seconds")
            .expect("the lane has a watermark");
        assert_eq!(watermark.labels.get("partition"), Some("0"));
        assert_eq!(watermark.value, Value::Gauge(1_767_225_600.5));
    }

    #[test]
    fn strange_names_of_partitions_stay_on_their_line() {
        let page = page(&metrics("a \"b\" \\c\nd"));
        let lines = page.lines().filter(|line| line.starts_with("tidemill_lane_running"));
        let lines: Vec<&str> = lines.collect();
        assert_eq!(lines, [r#"tidemill_lane_running{partition="a \"b\" \\c\nd"} 1"#]);
        assert_eq!(
            parse(&page).samples.len(),
            page.lines().filter(|l| !l.starts_with('#')).count()
        );
    }

    #[test]
    fn names_follow_the_conventions() {
        let mut names = BTreeSet::new();
        for Family { name, help, kind, samples } in families(&metrics("0")) {
            let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.chars().all(word) && !name.contains("__"), "{name}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
            for unit in ["_ms", "_us", "_minutes", "_kib", "_percent", "_count", "_sum", "_bucket"]
            {
                assert!(
                    !name.ends_with(unit),
                    "{name}: base units; the ends of histograms are taken"
                );
            }
            assert!(help.ends_with('.') && !help.contains(['\n', '\\']), "{name}: {help}");
            assert!(names.insert(name.clone()), "{name} stands there twice");
            let labels: BTreeSet<_> = samples.iter().map(|(labels, _)| labels).collect();
            assert_eq!(labels.len(), samples.len(), "{name}: the same labels twice");
        }
    }

    #[test]
    fn process_is_measured() {
        let value = |name: &str| {
            let metric = PROCESS_METRICS.iter().find(|metric| metric.name == name);
            (metric.expect("it is in the table").read)().expect("Linux tells")
        };
        let resident = value("process_resident_memory_bytes");
        assert!((1e6..1e11).contains(&resident), "{resident}");
        assert!(value("process_virtual_memory_bytes") > resident);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_threads") >= 1.0);
        let before = value("process_cpu_seconds_total");
        while value("process_cpu_seconds_total") <= before {}
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let age = now.expect("after 1970").as_secs_f64() - value("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "started {age} s ago");
    }
}

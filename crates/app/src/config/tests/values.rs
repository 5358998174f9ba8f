//! What good files lead to: defaults, presets, secrets, the fingerprint, the engine's settings.

use std::{collections::BTreeSet, path::Path, time::Duration};

use tidemill_decode::DecodeLimits;
use tidemill_engine::writer::RetryConfig;
use tidemill_kernel::schema::{Aggregate, Role, TimeUnit, ValueType};
use tidemill_source::generate::GenerateConfig;

use super::{GOOD, good, no_environment};
use crate::config::{Config, Pace, Secret, Sink, Source};

const GENERATE: &str = "[pipeline]\nname = \"demo-1\"\n[schema]\npreset = \"sensor\"\n\
                        [sink.embedded]\npath = \"demo.db\"\n[source.generate]\n";

#[test]
fn defaults_are_those_of_the_parts() {
    let config = good(GOOD);
    assert_eq!(config.limits.decode, DecodeLimits::default());
    let engine = config.engine(1);
    assert_eq!(engine.retry.pause_min_ms, RetryConfig::default().pause_min_ms);
    assert_eq!(engine.retry.pause_max_ms, RetryConfig::default().pause_max_ms);
    assert_eq!(engine.drain_timeout, Duration::from_secs(30));
    assert!((1..=256).contains(&engine.worker_threads));
    let Source::Generate(generate) = good(GENERATE).source else { panic!("another source") };
    assert_eq!(generate.config, GenerateConfig::default());
    assert_eq!((generate.start_ms, generate.messages), (None, None));
    assert_eq!((generate.pace, generate.partitions), (Pace::Real, 1));
}

#[test]
fn lane_and_rollup_carry_the_values_of_the_file() {
    let text = GOOD
        .replace(
            "size = \"1m\"",
            "size = \"10s\"\noffset = \"3s\"\nidle_timeout = \"1m\"\nallowed_lateness = \"7s\"",
        )
        .replace("[source", "generation = 3\ncommit_interval = \"250ms\"\n[source");
    let text = text + "[limits]\ndevices_max = 7\npiece_rows_max = 9\ndepth_max = 4\n";
    let config = good(&text);
    let rollup = config.rollup("p-0", 42);
    assert_eq!((rollup.grid.size_ms(), rollup.grid.offset_ms()), (10_000, 3_000));
    assert_eq!(rollup.max_out_of_orderness.as_ms(), 5_000);
    assert_eq!(rollup.allowed_lateness.as_ms(), 7_000);
    assert_eq!(rollup.max_future_skew.as_ms(), 300_000);
    assert_eq!((rollup.devices_max, rollup.piece_rows_max, rollup.generation), (7, 9, 3));
    assert_eq!((&*rollup.pipeline, &*rollup.source_partition), ("sensors", "p-0"));
    assert_eq!(rollup.hash_seed, 42);
    let lane = config.lane(1);
    assert_eq!((lane.commit_interval_ms, lane.idle_timeout_ms), (250, 60_000));
    assert_eq!(lane.decode.depth_max, 4);
    assert_eq!(*lane.fingerprint, config.fingerprint());
}

#[test]
fn sensor_preset_has_the_25_fields_of_the_sensor_job() {
    let config = good(GOOD);
    let fields = config.schema.fields();
    let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
    let expected = "device_id time device_type customer_id site_id latitude longitude altitude \
                    temperature humidity pressure co2_level noise_level light_level battery_level \
                    signal_strength memory_usage cpu_usage motion_detected status error_count \
                    packets_sent packets_received bytes_sent bytes_received";
    assert_eq!(names.join(" "), expected);
    assert_eq!(names.len(), 25);
    assert_eq!(config.key_columns(), ["device_id"]);
    let columns: Vec<&str> = config.schema.columns().iter().map(|c| c.name.as_str()).collect();
    let expected = "time device_id device_type customer_id site_id latitude longitude altitude \
                    temperature temperature_min temperature_max temperature_sum temperature_count \
                    humidity pressure co2_level noise_level light_level battery_level \
                    signal_strength memory_usage cpu_usage motion_detected status error_count \
                    packets_sent packets_received bytes_sent bytes_received window_start \
                    record_count invalid_count first_event_time last_event_time coverage \
                    max_gap_ms pipeline source_partition revision";
    assert_eq!(columns.join(" "), expected);
}

#[test]
fn nested_preset_fills_the_table_of_the_sensor_job() {
    let flat = good(super::GOOD);
    let nested = good(&super::GOOD.replace("\"sensor\"", "\"sensor-nested\""));
    assert_eq!(flat.schema.columns(), nested.schema.columns());
    assert_ne!(flat.fingerprint(), nested.fingerprint());
}

#[test]
fn sensor_preset_knows_the_names_and_words_seen_in_the_wild() {
    let config = good(GOOD);
    let field = |name: &str| config.schema.fields().iter().find(|f| f.name == name).unwrap();
    let aliases = |name: &str| {
        let joined = field(name).aliases.iter().map(|path| path.join("."));
        joined.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(aliases("device_id"), "sensorId deviceId");
    assert_eq!(aliases("device_type"), "deviceType sensorType");
    assert_eq!(aliases("time"), "timestamp");
    assert_eq!(aliases("latitude"), "metadata.latitude");
    assert_eq!(aliases("longitude"), "metadata.longitude");
    assert_eq!(aliases("battery_level"), "batteryLevel");
    assert_eq!(aliases("signal_strength"), "signalStrength");
    let status = field("status");
    let words = ["ERROR 4", "MAINTENANCE 3", "OFFLINE 2", "ONLINE 1"];
    let mut found: Vec<String> = status.words.iter().map(|(w, n)| format!("{w} {n}")).collect();
    found.sort();
    assert_eq!(found, words);
    assert_eq!((status.role, status.range), (Role::Code, Some((0.0, 255.0))));
    assert_eq!(field("time").time_unit, TimeUnit::Auto);
    assert_eq!(field("latitude").value_type, ValueType::Float);
    assert_eq!(field("pressure").range, None);
}

#[test]
fn own_fields_replace_those_of_the_preset_in_place_and_others_follow() {
    let own = "[[schema.field]]\nname = \"humidity\"\nrole = \"gauge\"\npath = [\"a.b\", \"c\"]\n\
               aggregates = [\"max\"]\n[[schema.field]]\nname = \"site\"\nrole = \"key\"\n";
    let config = good(&GOOD.replace("[window]", &format!("{own}[window]")));
    let fields = config.schema.fields();
    assert_eq!(fields.len(), 26);
    assert_eq!(fields[9].name, "humidity");
    assert_eq!(fields[9].path, ["a.b", "c"]);
    assert_eq!(fields[9].aggregates, [Aggregate::Max]);
    assert_eq!(fields[9].range, None);
    assert_eq!(config.key_columns(), ["device_id", "site"]);
}

#[test]
fn schema_of_ones_own_takes_defaults_from_the_role() {
    let own = "[[schema.field]]\nname = \"id\"\nrole = \"key\"\n\
               [[schema.field]]\nname = \"at\"\nrole = \"time\"\ntime_unit = \"s\"\n\
               [[schema.field]]\nname = \"n\"\nrole = \"counter\"\nrange = [0, inf]\n\
               [[schema.field]]\nname = \"seen\"\nrole = \"gauge\"\naggregates = []\n";
    let config = good(&GOOD.replace("preset = \"sensor\"\n", own));
    let fields = config.schema.fields();
    assert_eq!(fields[1].time_unit, TimeUnit::Seconds);
    assert_eq!(
        (fields[2].value_type, fields[2].range),
        (ValueType::Int, Some((0.0, f64::INFINITY)))
    );
    assert_eq!(fields[2].aggregates, [Aggregate::Sum]);
    assert!(fields[3].aggregates.is_empty());
}

#[test]
fn table_of_the_embedded_store_is_named_after_the_pipeline() {
    let Sink::Embedded(embedded) = good(GENERATE).sink else { panic!("another sink") };
    assert_eq!(embedded.table, "demo_1");
    assert_eq!(embedded.path, Path::new("demo.db"));
}

#[test]
fn start_of_the_generator_is_text_or_a_time() {
    for start in ["\"2026-01-02T00:00:00Z\"", "2026-01-02T01:00:00+01:00", "2026-01-02T00:00:00"] {
        let text = format!("{GENERATE}start = {start}\npace = \"fast\"\nmessages = 10\n");
        let Source::Generate(generate) = good(&text).source else { panic!("another source") };
        assert_eq!(generate.start_ms, Some(1_767_312_000_000), "{start}");
        assert_eq!(generate.config.start_ms, 1_767_312_000_000);
        assert_eq!((generate.pace, generate.messages), (Pace::Fast, Some(10)));
    }
}

#[test]
fn environment_and_files_fill_in_and_are_never_shown() {
    let path = std::env::temp_dir().join(format!("tidemill-secret-{}", std::process::id()));
    std::fs::write(&path, "  from-file\n").unwrap();
    let environment = |name: &str| match name {
        "HOST" => Some("db.example:8123".to_owned()),
        "PASSWORD" => Some("file:hunter2".to_owned()),
        _ => None,
    };
    let password = |written: &str| {
        let text = GOOD.replace("127.0.0.1:8123", "${HOST}");
        let text = format!("{text}password = \"{written}\"\n");
        let config = Config::parse("t.toml", &text, &environment).unwrap();
        let Sink::ClickHouse(clickhouse) = &config.sink else { panic!("another sink") };
        assert_eq!(clickhouse.url, "http://db.example:8123");
        let shown = format!("{config:?} {config:#?} {}", config.fingerprint());
        assert!(!shown.contains("hunter2") && !shown.contains("from-file"), "{shown}");
        assert!(shown.contains("password: Some(***)"));
        clickhouse.password.clone().unwrap()
    };
    assert_eq!(password("${PASSWORD}"), Secret::new("file:hunter2"));
    assert_eq!(password(&format!("file:{}", path.display())), Secret::new("from-file"));
    assert_eq!(password("pa$${x}"), Secret::new("pa${x}"));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn values_of_the_environment_do_not_appear_in_errors() {
    let environment = |_: &str| Some("hunter2".to_owned());
    let own = "[[schema.field]]\nname = \"${A}!\"\nrole = \"${A}\"\ntype = \"${A}\"\n\
               aggregates = [\"${A}\"]\npath = \"${A}.\"\n";
    let text = "[pipeline]\nname = \"${A} \"\ncommit_interval = \"${A}\"\n\
                [source.pulsar]\nurl = \"${A}\"\ntopic = \"${A}\"\nentry_bytes_max = \"${A}\"\n\
                start = \"${A}\"\ntoken = \"file:/nowhere/${A}\"\n\
                [sink.clickhouse]\nurl = \"http://u:${A}@h\"\ntable = \"${A}-\"\npassword = 2\n\
                [schema]\npreset = \"${A}\"\n[http]\nlisten = \"${A}\"\n";
    let errors = Config::parse("t.toml", &format!("{text}{own}"), &environment).unwrap_err();
    assert_eq!(errors.errors.len(), 14, "{errors}");
    assert!(!format!("{errors} {errors:?}").contains("hunter2"), "{errors}");
}

#[test]
fn fingerprint_is_sorted_lines_that_change_with_the_meaning_of_rows_only() {
    let fingerprint = |text: &str| good(text).fingerprint();
    let reference = fingerprint(GOOD);
    let lines: Vec<&str> = reference.lines().collect();
    assert!(lines.is_sorted() && lines.iter().all(|line| line.contains('=')));
    let keys: BTreeSet<&str> = lines.iter().map(|line| line.split_once('=').unwrap().0).collect();
    assert_eq!(keys.len(), lines.len());
    assert!(lines.contains(&"window.size_ms=60000"));
    assert!(lines.contains(&"schema.keys=[\"device_id\"]"));
    let field = "[[schema.field]]\nname = \"humidity\"\nrole = \"gauge\"\n";
    let with = |settings: &str| GOOD.replace("[window]", &format!("{field}{settings}[window]"));
    let changes = [
        ("window", GOOD.replace("1m", "2m")),
        ("window", GOOD.replace("[window]", "[window]\noffset = \"1s\"")),
        ("window", GOOD.replace("[window]", "[window]\nmax_out_of_orderness = \"1s\"")),
        ("window", GOOD.replace("[window]", "[window]\nallowed_lateness = \"1s\"")),
        ("window", GOOD.replace("[window]", "[window]\nmax_future_skew = \"1s\"")),
        ("limits", format!("{GOOD}[limits]\ndevices_max = 5")),
        ("limits", format!("{GOOD}[limits]\npayload_bytes_max = \"5B\"")),
        ("limits", format!("{GOOD}[limits]\nkey_bytes_max = \"5B\"")),
        ("limits", format!("{GOOD}[limits]\ntext_bytes_max = \"5B\"")),
        ("limits", format!("{GOOD}[limits]\ndepth_max = 5")),
        ("range", with("")),
        ("range", with("range = [0, 99]\n")),
        ("aggregates", with("range = [0, 100]\naggregates = [\"avg\", \"min\"]\n")),
        ("path", with("range = [0, 100]\npath = \"a.b\"\n")),
        ("aliases", with("range = [0, 100]\naliases = [\"a.b\"]\n")),
        ("type", with("range = [0, 100]\ntype = \"int\"\n")),
    ];
    let mut seen = BTreeSet::from([reference.clone()]);
    for (what, text) in changes {
        assert!(seen.insert(fingerprint(&text)), "{what} changes nothing in\n{text}");
    }
    for text in [
        GOOD.replace("sensors\"", "other\""),
        GOOD.replace("[source", "worker_threads = 3\ncommit_interval = \"1s\"\n[source"),
        GOOD.replace("[window]", "[window]\nidle_timeout = \"1s\""),
        format!("{GOOD}[limits]\nqueue_bytes_max = \"2MiB\"\npiece_rows_max = 5"),
        with("range = [0, 100]\n"),
        with("range = [0.0, 1e2]\naggregates = [\"avg\"]\ntype = \"float\"\n"),
    ] {
        assert_eq!(fingerprint(&text), reference, "{text}");
    }
}

#[test]
fn load_reads_a_file_and_names_it_in_errors() {
    let path = std::env::temp_dir().join(format!("tidemill-config-{}.toml", std::process::id()));
    let name = path.display().to_string();
    std::fs::write(&path, GOOD).unwrap();
    assert_eq!(Config::load(&path, &no_environment).unwrap().pipeline.name, "sensors");
    std::fs::write(&path, b"a = 1\nb = \"\xff\"\n").unwrap();
    let errors = Config::load(&path, &no_environment).unwrap_err();
    assert_eq!(errors.to_string(), format!("{name}:2: is no UTF-8 text; save the file as UTF-8"));
    std::fs::remove_file(&path).unwrap();
    let errors = Config::load(&path, &no_environment).unwrap_err();
    assert!(errors.to_string().starts_with(&format!("{name}:1: cannot be read: ")), "{errors}");
}

//! `routing = "any"` on the real broker: devices whose messages come on every partition have one
//! row per window, whatever dies, and a second process stands by.

mod e2e;

use std::{fs, path::Path, path::PathBuf, sync::OnceLock};

use e2e::{
    Random, alone,
    job::{Job, Run, Store},
    place::{Place, said, tidemill},
    services::{Version, admin_put},
    topic::{Content, Topic},
    until,
};

/// The topic that all jobs of this program read.
fn topic() -> &'static Topic {
    static TOPIC: OnceLock<Topic> = OnceLock::new();
    TOPIC.get_or_init(|| {
        let content = Content { messages: 300_000, rate: 1_000, ratios: [0.001, 0.001, 0.000_1] };
        Topic::unkeyed("any", &content)
    })
}

fn job(name: &str, store: Store) -> Job<'static> {
    let mut job = Job::new(&format!("any_{name}"), topic(), store);
    job.pipeline_lines = "routing = \"any\"\ncommit_interval = \"500ms\"\n".to_owned();
    job
}

#[test]
fn device_on_all_partitions_has_one_row_though_killed_and_unloaded() {
    let _alone = alone();
    let mut random = Random::new();
    let path = topic().name.replace("://", "/");
    let server = |version: Version| Store::server(version.own().url());
    for mut job in [
        job("embedded", Store::Embedded),
        job("old", server(Version::Old)),
        job("modern", server(Version::Modern)),
    ] {
        // Little is on its way at a time, so that kills find a job that is not yet done.
        job.limits_lines = "commits_in_flight_max = 1\n".to_owned();
        job.queue_bytes_max = "1MiB";
        job.kill_under_way(4, &mut random);
        let mut run = job.start();
        admin_put(&format!("{path}/unload"), "");
        job.until_done(&mut [&mut run]);
        run.terminate();
        job.prove();
    }
}

#[test]
fn second_process_stands_by_and_takes_over() {
    let _alone = alone();
    let mut job = job("standby", Store::server(Version::Old.own().url()));
    job.limits_lines = "commits_in_flight_max = 1\n".to_owned();
    job.queue_bytes_max = "1MiB";
    let mut first = job.start_replica("a");
    first.until_logged("merged lanes start");
    let mut second = job.start_replica("b");
    second.until_logged("waiting for the broker");
    job.until_under_way(&mut first);
    first.kill();
    second.until_logged("merged lanes start");
    job.until_done(&mut [&mut second]);
    second.terminate();
    job.prove();
}

#[test]
fn routing_of_a_pipeline_with_commits_is_not_changed() {
    let _alone = alone();
    let mut job = job("changed", Store::Embedded);
    let mut run = job.start();
    job.until_done(&mut [&mut run]);
    run.terminate();
    job.prove();
    job.pipeline_lines = "routing = \"key\"\n".to_owned();
    let mut run = job.start();
    assert!(!run.until_ended().success());
    let said = run.logged();
    assert!(said.contains("pipeline.routing = \"key\", but pipeline \"sensors\" has"), "{said}");
    assert!(said.contains("commits of merged lanes"), "{said}");
}

/// Writes the configuration of a job that reads these files into a store named after it.
fn file_job(place: &Place, name: &str, routing: &str, paths: &[PathBuf]) -> PathBuf {
    let text = format!(
        "[pipeline]\nname = \"files\"\nrouting = {routing:?}\ncommit_interval = \"100ms\"\n\
         [source.file]\npaths = {paths:?}\npartitions = \"per_file\"\n\
         [sink.embedded]\npath = {:?}\ntable = \"sensors\"\n[schema]\npreset = \"sensor\"\n\
         [window]\nmax_out_of_orderness = \"10m\"\n[http]\nenabled = false\n\
         [limits]\nqueue_bytes_max = \"1MiB\"\ncommits_in_flight_max = 1\n",
        place.path(&format!("{name}.db")),
    );
    let path = place.path(&format!("{name}.toml"));
    fs::write(&path, text).expect("the configuration is written");
    path
}

/// What is stored but for lineage, as text; and how many messages are committed.
fn stored(database: &Path) -> Option<(Vec<String>, u64)> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(database, flags).ok()?;
    let names: Vec<String> = connection
        .prepare("SELECT name FROM pragma_table_info('sensors_rows')")
        .and_then(|mut query| query.query_map([], |row| row.get(0))?.collect())
        .ok()?;
    let kept = names.into_iter().filter(|name| name != "source_partition" && name != "revision");
    let row = kept.map(|name| format!("quote(\"{name}\")")).collect::<Vec<_>>().join("||','||");
    let rows = connection
        .prepare(&format!("SELECT {row} FROM sensors_rows ORDER BY time, device_id"))
        .and_then(|mut query| query.query_map([], |row| row.get(0))?.collect())
        .ok()?;
    let sum = "SELECT coalesce(sum(messages), 0) FROM sensors_commits";
    let count: i64 = connection.query_row(sum, [], |row| row.get(0)).ok()?;
    Some((rows, count as u64))
}

#[test]
fn files_that_share_their_devices_give_the_rows_of_one_file_though_killed() {
    const MESSAGES: usize = 200_000;
    let place = Place::of_messages(MESSAGES, &["--rate", "1000"]);
    let whole = place.path("messages.ndjson");
    let text = fs::read(&whole).expect("the messages");
    let mut parts = vec![Vec::new(); 3];
    for (at, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        // One file is much shorter than the others.
        let part = [0, 1, 0, 1, 2][at % 5];
        parts[part].extend_from_slice(line);
    }
    let names = ["a.ndjson", "b.ndjson", "c.ndjson"].map(|name| place.path(name));
    names.iter().zip(&parts).for_each(|(path, part)| fs::write(path, part).expect("written"));
    let config = file_job(&place, "one", "key", &[whole]);
    assert!(tidemill("run", &config, &[]).status.success());
    let (expected, _) = stored(&place.path("one.db")).expect("rows");

    let config = file_job(&place, "merged", "any", &names);
    let database = place.path("merged.db");
    let mut kills = Vec::new();
    for number in 0..3 {
        let before = stored(&database).map_or(0, |(_, count)| count);
        let log = place.path(&format!("{number}.log"));
        let mut run = Run::start(&[Path::new("run"), &config], &log);
        until("a commit, or the end", || {
            let count = stored(&database).map_or(0, |(_, count)| count);
            (count > before || run.has_ended()).then_some(())
        });
        if !run.has_ended() {
            run.kill();
        }
        kills.push(stored(&database).map_or(0, |(_, count)| count));
    }
    eprintln!("committed at the kills: {kills:?} of {MESSAGES}");
    assert!((1..MESSAGES as u64).contains(&kills[0]), "the first kill hit nothing");
    let output = tidemill("run", &config, &[]);
    assert!(output.status.success(), "{}", said(&output));
    let (rows, count) = stored(&database).expect("rows");
    assert_eq!(count, MESSAGES as u64);
    assert!(rows == expected, "{} rows, {} expected", rows.len(), expected.len());
    let output = tidemill("verify", &config, &[]);
    assert!(output.status.success() && said(&output).contains("proved"), "{}", said(&output));
}

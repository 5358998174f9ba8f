//! `routing = "any"` on the real broker: devices whose messages come on every partition have one
//! row per window, whatever dies, and a second process stands by.

mod e2e;

use std::{sync::OnceLock, thread, time::Duration};

use e2e::{
    Random, alone,
    job::{Job, Store},
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
        let mut places = Vec::new();
        for _ in 0..4 {
            let before = job.processed();
            let mut run = job.start();
            until("a commit, or the end", || {
                run.must_run();
                let processed = job.processed();
                (processed > before || processed == topic().messages).then_some(())
            });
            thread::sleep(Duration::from_millis(random.below(200)));
            run.kill();
            places.push(job.processed());
        }
        eprintln!("committed at the kills: {places:?} of {}", topic().messages);
        assert!(places[0] < topic().messages, "the first kill came too late");
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

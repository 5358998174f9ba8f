//! `late = "amend"` on the real broker and in every store: late messages, and the backlog of a
//! month ago, are in the rows of their minutes, exactly once, whatever dies.

mod e2e;

use std::sync::OnceLock;

use e2e::{
    Random, alone,
    job::{Job, Store},
    services::Version,
    topic::{Content, Topic},
};

/// The topic that all jobs of this program read: one message in a hundred is two minutes late.
fn topic() -> &'static Topic {
    static TOPIC: OnceLock<Topic> = OnceLock::new();
    TOPIC.get_or_init(|| {
        let content = Content { messages: 300_000, rate: 1_000, ratios: [0.01, 0.001, 0.000_1] };
        Topic::with_backlog("amend", &content, 20_000, &["--amend", "--lateness-ms", "10000"])
    })
}

fn job(name: &str, store: Store) -> Job<'static> {
    let mut job = Job::new(&format!("amend_{name}"), topic(), store);
    job.pipeline_lines = "commit_interval = \"500ms\"\n".to_owned();
    job.window_lines = "late = \"amend\"\nallowed_lateness = \"10s\"\n".to_owned();
    // Little is on its way at a time, so that kills find a job that is not yet done.
    job.limits_lines = "commits_in_flight_max = 2\nletters_per_commit_max = 500\n".to_owned();
    job.queue_bytes_max = "1MiB";
    job
}

#[test]
fn late_messages_are_in_their_rows_once_though_the_job_is_killed() {
    let _alone = alone();
    let mut random = Random::new();
    let server = |version: Version| Store::server(version.own().url());
    for job in [
        job("embedded", Store::Embedded),
        job("old", server(Version::Old)),
        job("modern", server(Version::Modern)),
    ] {
        job.kill_under_way(3, &mut random);
        let mut run = job.start();
        job.until_done(&mut [&mut run]);
        run.terminate();
        job.prove();
    }
}

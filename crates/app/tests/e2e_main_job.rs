//! The main job on real parts: two million messages of 500 devices in four partitions, with late,
//! malformed and future ones among them, into each store: the oracle's rows, bit for bit.

mod e2e;

use std::time::Instant;

use e2e::{
    alone,
    job::{Job, Store},
    services::Version,
    topic::{Content, Topic},
};

#[test]
fn two_million_messages_give_the_rows_of_the_oracle_in_every_store() {
    let _alone = alone();
    let ratios = [0.001, 0.001, 0.000_1];
    let topic = Topic::new("main", &Content { messages: 2_000_000, rate: 6_000, ratios });
    let [old, modern] = Version::ALL.map(|version| Store::server(&version.url()));
    let stores = [("main_embedded", Store::Embedded), ("main_old", old), ("main_modern", modern)];
    for (name, store) in stores {
        let job = Job::new(name, &topic, store);
        let started_at = Instant::now();
        let mut run = job.start();
        job.until_done(&mut [&mut run]);
        eprintln!("{name}: {:.1} s", started_at.elapsed().as_secs_f64());
        run.terminate();
        job.prove();
        assert!(!job.logged().contains(" WARN "), "an undisturbed run warns of nothing");
    }
}

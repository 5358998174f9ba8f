//! Windows that are held to be merged: whatever dies and whenever they are taken out, each comes
//! out as it was when its lane closed it.

use proptest::{collection::vec, prelude::*, sample::Index};
use tidemill_kernel::{
    effect::Effects,
    held::Closing,
    rollup::{Progress, Rollup, revision},
    window::{Finality, Lineage},
};

use crate::{
    lane::{Output, config, rows, straight},
    naive::{PARTITION, PIPELINE, Row},
    scenario::{Scenario, block, cases, scenarios},
};

/// What a record keeps of a lane that holds its windows.
#[derive(Clone, Debug)]
struct Record {
    progress: Progress,
    merged_until_ms: i64,
    closings: Vec<Closing>,
}

const BIRTH: Record =
    Record { progress: Progress::BIRTH, merged_until_ms: i64::MIN, closings: Vec::new() };

struct Lane<'a> {
    scenario: &'a Scenario,
    rollup: Rollup,
    merged_until_ms: i64,
    rows: Vec<Row>,
    letters: Vec<(u64, tidemill_kernel::event::Reason)>,
}

impl<'a> Lane<'a> {
    fn new(scenario: &'a Scenario, record: &Record) -> Lane<'a> {
        let (closings, merged_until_ms) = (record.closings.clone(), record.merged_until_ms);
        let rollup = Rollup::holding(config(scenario), &record.progress, merged_until_ms, closings);
        Lane { scenario, rollup, merged_until_ms, rows: Vec::new(), letters: Vec::new() }
    }

    fn record(&self) -> Record {
        Record {
            progress: self.rollup.progress(),
            merged_until_ms: self.merged_until_ms,
            closings: self.rollup.closings().to_vec(),
        }
    }

    fn step(&mut self, from: usize, to: usize) {
        let mut effects = Effects::default();
        let block = block(&self.scenario.schema, &self.scenario.log[from..to]);
        self.rollup.step(&block, &mut effects).expect("the log is whole");
        assert!(effects.rows.is_empty() && effects.closed.is_empty(), "rows need all lanes");
        self.letters.extend(effects.letters.iter().map(|letter| (letter.ordinal, letter.reason)));
    }

    /// Takes out what is closed up to one of the closings.
    fn release(&mut self, chosen: Option<Index>) {
        let closings = self.rollup.closings();
        let until_ms = match chosen {
            Some(chosen) if !closings.is_empty() => chosen.get(closings).until_ms,
            Some(_) => return,
            None => closings.last().map_or(i64::MIN, |last| last.until_ms),
        };
        let ends: Vec<i64> = self.rollup.unmerged().map(|window| window.end_ms()).collect();
        let ordinals: Vec<(i64, u64)> =
            ends.into_iter().map(|end_ms| (end_ms, self.rollup.ordinal_of(end_ms))).collect();
        self.merged_until_ms = self.merged_until_ms.max(until_ms);
        let config = config(self.scenario);
        for mut window in self.rollup.release(until_ms) {
            let end_ms = window.end_ms();
            let (_, ordinal) = ordinals.iter().find(|(end, _)| *end == end_ms).expect("listed");
            let lineage = Lineage {
                pipeline: PIPELINE,
                source_partition: PARTITION,
                revision: revision(self.scenario.rules.generation, *ordinal),
                finality: Finality::Final,
            };
            let mut pieces = Vec::new();
            window.emit(&config.plan, lineage, 2, &mut pieces);
            self.rows.extend(pieces.iter().flat_map(|piece| rows(&self.scenario.schema, piece)));
        }
    }
}

proptest! {
    #![proptest_config(cases(1_000, 41))]

    #[test]
    fn held_windows_come_out_as_they_were_closed_whatever_dies(
        scenario in scenarios(120),
        deaths in vec((any::<Index>(), any::<Index>()), 0..4),
        releases in vec(prop::option::of(any::<Index>()), 120),
        cut in 1_usize..12,
    ) {
        let log = &scenario.log;
        let mut ends: Vec<(usize, usize)> = deaths.iter().map(|(end, record)| {
            let end = end.index(log.len() + 1);
            (end, record.index(end + 1))
        }).collect();
        ends.sort_unstable();
        ends.push((log.len(), log.len()));
        let (mut rows, mut letters, mut record) = (Vec::new(), Vec::new(), BIRTH);
        let mut finished = None;
        for (end, record_at) in ends {
            let Progress { resume, processed, ordinal: done, .. } = record.progress;
            let start = log.iter().take_while(|sent| match (resume, processed) {
                (Some(resume), _) => sent.position < resume,
                (None, Some(processed)) => sent.position <= processed,
                (None, None) => false,
            }).count();
            let mut lane = Lane::new(&scenario, &record);
            let mut at = start;
            while at < end.max(start) {
                let mut next = (at + cut).min(end);
                if at < record_at {
                    next = next.min(record_at);
                }
                lane.step(at, next);
                at = next;
                let is_replay = at < done as usize && resume.is_some();
                prop_assert_eq!(lane.rollup.is_replaying(), is_replay);
                if at >= done as usize && let Some(chosen) = releases[at - 1] {
                    lane.release(Some(chosen));
                }
                if at == record_at && at > done as usize {
                    record = lane.record();
                }
            }
            if end == log.len() && !lane.rollup.is_replaying() {
                lane.rollup.finish(&mut Effects::default()).expect("no replay");
                lane.release(None);
                finished = Some(lane.rollup.progress());
            }
            rows.append(&mut lane.rows);
            letters.append(&mut lane.letters);
        }
        let (expected, progress): (Output, Progress) = straight(&scenario, 64);
        letters.sort_unstable();
        letters.dedup();
        prop_assert_eq!(expected.letters, letters);
        let mut expected = expected.rows;
        for rows in [&mut expected, &mut rows] {
            rows.sort();
            rows.dedup();
        }
        prop_assert_eq!(expected, rows);
        if let Some(finished) = finished {
            prop_assert_eq!(finished, progress);
        }
    }
}

//! A lane without threads, sources and stores: entries go in, what it asks for comes out.

use std::sync::Arc;

use bytes::Bytes;
use tidemill_decode::DecodeLimits;
use tidemill_engine::{
    error::LaneErrorKind,
    lane::{Action, Lane, LaneConfig},
    port::{Commit, Continuity, Entry, RawMessage},
    record::CommitRecord,
};
use tidemill_kernel::{
    amend::LatePolicy,
    event::Position,
    plan::Plan,
    rollup::RollupConfig,
    schema::{Field, Role, Schema, ValueType},
    time::{DurationMs, WindowGrid},
};

pub(crate) const MINUTE_MS: i64 = 60_000;
/// A whole minute.
pub(crate) const START_MS: i64 = 1_700_000_040_000;

pub(crate) fn config(generation: u32) -> LaneConfig {
    let schema = Schema::new(vec![
        Field::new("device", ValueType::Text, Role::Key),
        Field::new("time", ValueType::Int, Role::Time),
    ]);
    LaneConfig {
        rollup: RollupConfig {
            plan: Arc::new(Plan::new(Arc::new(schema.expect("a schema")))),
            grid: WindowGrid::new(MINUTE_MS, 0).expect("a grid"),
            max_out_of_orderness: DurationMs::from_ms(0),
            allowed_lateness: DurationMs::from_ms(0),
            max_future_skew: DurationMs::from_ms(0),
            late: LatePolicy::DeadLetter,
            devices_max: 100,
            piece_rows_max: 100,
            generation,
            pipeline: "p".into(),
            source_partition: "0".into(),
            hash_seed: 1,
        },
        decode: DecodeLimits::default(),
        fingerprint: "a=1".into(),
        continuity: Continuity::Counted,
        commit_interval_ms: 1,
        idle_timeout_ms: 1_000_000,
        commits_in_flight_max: 100,
        letters_per_commit_max: 100,
        dead_letter_bytes_max: 100,
    }
}

/// An entry with a message for each of these seconds.
pub(crate) fn entry(segment: u64, offset: u64, seconds: &[i64]) -> Entry {
    let message = |second: &i64| {
        let time_ms = START_MS + second * 1000;
        format!("{{\"device\":\"a\",\"time\":{time_ms}}}").into_bytes()
    };
    payloads(segment, offset, &seconds.iter().map(message).collect::<Vec<_>>())
}

/// An entry of these messages.
pub(crate) fn payloads(segment: u64, offset: u64, payloads: &[Vec<u8>]) -> Entry {
    let mut buffer = Vec::new();
    let mut messages = Vec::new();
    for (index, payload) in payloads.iter().enumerate() {
        let start = buffer.len() as u32;
        buffer.extend_from_slice(payload);
        messages.push(RawMessage {
            position: Position::new(segment, offset, index as u32),
            start,
            length: buffer.len() as u32 - start,
            publish_time_ms: i64::MAX,
            reject: None,
        });
    }
    let position = Position::new(segment, offset, 0);
    Entry { position, buffer: Bytes::from(buffer), messages, credit: 1 }
}

/// What a lane did: its commits, whether it sent the source back, and why it stopped.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) commits: Vec<Commit>,
    pub(crate) went_back: bool,
    pub(crate) failure: Option<LaneErrorKind>,
}

impl Done {
    pub(crate) fn last(&self) -> &CommitRecord {
        &self.commits.last().expect("there was a commit").record
    }
}

/// Runs a lane from a record over entries, with a commit behind each.
pub(crate) fn run(generation: u32, record: Option<&CommitRecord>, entries: &[Entry]) -> Done {
    let mut lane = Lane::new(config(generation), 7, 0);
    let (mut actions, mut now_ms) = (Vec::new(), 0);
    lane.start(record.cloned(), now_ms, &mut actions);
    for entry in entries {
        now_ms += 1;
        lane.take(entry, now_ms, &mut actions);
        lane.tick(now_ms, &mut actions);
    }
    let mut done = Done::default();
    for action in actions {
        match action {
            Action::Commit { commit, .. } => done.commits.push(*commit),
            Action::Read { seek, .. } => done.went_back |= seek,
            Action::Failed(error) => done.failure = Some(error.kind),
            Action::Look { .. } => unreachable!("late messages are letters here"),
            Action::Acknowledge(_) => {}
        }
    }
    done
}

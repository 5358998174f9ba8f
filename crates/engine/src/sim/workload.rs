//! What a run is about: the configuration drawn from the seed, and messages whose meaning is
//! known without decoding them.

use std::sync::Arc;

use bytes::Bytes;
use tidemill_decode::DecodeLimits;
use tidemill_kernel::{
    amend::LatePolicy,
    event::{Position, Reason},
    plan::Plan,
    rollup::RollupConfig,
    schema::{Aggregate, Field, Role, Schema, ValueType},
    time::{DurationMs, WindowGrid},
};

use super::random::Random;
use crate::{
    lane::LaneConfig,
    port::{Continuity, Entry, RawMessage},
};

/// The length of a window.
pub(super) const WINDOW_MS: i64 = 10_000;
/// When the first message is produced.
const BEGIN_MS: i64 = 1_700_000_000_000;
/// The first ledger of the log.
const FIRST_LEDGER: u64 = 7;
/// The code's largest valid value.
const STATE_MAX: i64 = 9;
/// The names of the devices.
pub(super) const DEVICES: [&str; 4] = ["a", "b", "pump-3", "d"];

/// Devices of a window's first chunk, and messages of a block, as kernel and lane have them.
const FIRST_ROWS: usize = 512;
const BLOCK_MESSAGES: usize = 256;
/// Keys, texts, tables and cold sums of a window.
const WINDOW_REST_BYTES: usize = 32 * 1024;
/// A letter or a late message with its key, state and payload, or a row.
const MESSAGE_BYTES: usize = 2 * 1024;

/// What a valid message says.
#[derive(Clone, Debug, Default)]
pub(super) struct Event {
    pub(super) device: usize,
    pub(super) time_ms: i64,
    pub(super) temperature: Option<f64>,
    pub(super) pulses: Option<i64>,
    pub(super) state: Option<i64>,
    pub(super) site: Option<&'static str>,
    pub(super) invalid_count: u64,
}

/// What the reference knows of a message.
#[derive(Clone, Debug)]
pub(super) struct Truth {
    pub(super) position: Position,
    pub(super) publish_time_ms: i64,
    pub(super) content: Result<Event, Reason>,
}

/// What is drawn once for a run.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) lane: LaneConfig,
    /// Rows, letters and record in one fenced transaction, or step by step.
    pub(super) is_transactional: bool,
    pub(super) worker_count: usize,
    pub(super) step_count: usize,
    /// How often something happens to a process or the broker.
    pub(super) turmoil_per_mille: u64,
    /// The same for the first steps.
    pub(super) early_turmoil_per_mille: u64,
    /// Whether acknowledged ledgers are kept.
    pub(super) has_retention: bool,
    /// Whether the store fails.
    pub(super) is_noisy: bool,
    pub(super) has_large_entries: bool,
    /// How often an entry begins a new ledger.
    pub(super) roll_over_per_mille: u64,
    device_count: usize,
}

impl Scenario {
    pub(super) fn draw(random: &mut Random, continuity: Continuity) -> Scenario {
        let seconds = |count: i64| DurationMs::from_ms(count * 1000);
        let rollup = RollupConfig {
            plan: Arc::new(Plan::new(Arc::new(schema()))),
            grid: WindowGrid::new(WINDOW_MS, 0).expect("ten seconds are a valid size"),
            max_out_of_orderness: seconds(random.pick(&[0, 3, 5])),
            allowed_lateness: seconds(random.pick(&[0, 0, 4, 8])),
            late: LatePolicy::DeadLetter,
            max_future_skew: seconds(10),
            devices_max: random.pick(&[100, 100, 2]),
            piece_rows_max: random.pick(&[1, 2, 100]),
            generation: random.pick(&[0, 3]),
            pipeline: "fleet".to_owned(),
            source_partition: "0".to_owned(),
            hash_seed: random.next(),
        };
        let lane = LaneConfig {
            rollup,
            decode: DecodeLimits::default(),
            fingerprint: "window=10s".into(),
            continuity,
            commit_interval_ms: random.pick(&[1_000, 3_000]),
            idle_timeout_ms: random.pick(&[1_500, 5_000]),
            commits_in_flight_max: random.pick(&[1, 2, 4]),
            letters_per_commit_max: random.pick(&[1, 20, 100]),
            dead_letter_bytes_max: 64,
        };
        Scenario {
            lane,
            is_transactional: random.chance(400),
            worker_count: random.pick(&[2, 3]),
            step_count: random.pick(&[400, 1_200, 3_500]),
            early_turmoil_per_mille: random.pick(&[0, 100, 200]),
            turmoil_per_mille: random.pick(&[5, 20, 60]),
            has_retention: random.chance(400),
            is_noisy: random.chance(800),
            has_large_entries: random.chance(60),
            roll_over_per_mille: random.pick(&[30, 150, 400]),
            device_count: random.pick(&[2, 3, 4]),
        }
    }
}

impl Scenario {
    /// Returns what a lane may hold in memory behind an entry of so many blocks: its windows, of
    /// one chunk each, and what waits to be sent. No state is counted that the limits do not bound.
    pub(super) fn memory_bytes_max(&self, blocks: usize) -> u64 {
        let plan = &self.lane.rollup.plan;
        let absent = plan.schema().fields().len() * size_of::<u32>();
        let chunk = FIRST_ROWS * (plan.device_window_bytes() + absent) + WINDOW_REST_BYTES;
        let windows = self.lane.rollup.open_windows_max() as usize * chunk;
        // A block may bring as many letters beyond the limit as it has messages.
        let messages = self.lane.letters_per_commit_max + BLOCK_MESSAGES;
        let commits = self.lane.commits_in_flight_max + blocks;
        (windows + commits * messages * MESSAGE_BYTES) as u64
    }

    /// Lets late messages correct their rows.
    pub(super) fn amend(&mut self) {
        let schema = schema().amendable().expect("no field has the name of such a column");
        self.lane.rollup.plan = Arc::new(Plan::new(Arc::new(schema)));
        self.lane.rollup.late = LatePolicy::Amend;
    }
}

fn schema() -> Schema {
    let mut temperature = Field::new("temperature", ValueType::Float, Role::Gauge);
    temperature.aggregates =
        vec![Aggregate::Avg, Aggregate::Min, Aggregate::Max, Aggregate::Sum, Aggregate::Count];
    let mut state = Field::new("state", ValueType::Int, Role::Code);
    state.range = Some((0.0, STATE_MAX as f64));
    Schema::new(vec![
        Field::new("device_id", ValueType::Text, Role::Key),
        Field::new("time", ValueType::Int, Role::Time),
        temperature,
        Field::new("pulses", ValueType::Int, Role::Counter),
        state,
        Field::new("site", ValueType::Text, Role::Attribute),
    ])
    .expect("the simulator's schema is valid")
}

/// Makes entries; its clock is the devices' own.
#[derive(Debug)]
pub(super) struct Producer {
    clock_ms: i64,
    next: Position,
}

impl Producer {
    pub(super) fn new() -> Producer {
        Producer { clock_ms: BEGIN_MS, next: Position::new(FIRST_LEDGER, 0, 0) }
    }

    /// Makes the next entry of the log and what it means.
    pub(super) fn entry(
        &mut self,
        random: &mut Random,
        scenario: &Scenario,
    ) -> (Entry, Vec<Truth>) {
        if random.chance(scenario.roll_over_per_mille) && self.next.offset > 0 {
            self.next = Position::new(self.next.segment + 1 + random.next() % 3, 0, 0);
        }
        let position = self.next;
        self.next.offset += 1;
        // Also at the beginning, where no window is open yet.
        let large_per_mille = if position.segment == FIRST_LEDGER { 250 } else { 15 };
        let is_large = scenario.has_large_entries && random.chance(large_per_mille);
        let count = match random.below(1000) {
            0..40 => 0,
            _ if is_large => 250 + random.below(2_000),
            _ => 1 + random.below(5),
        };
        let mut entry = Entry {
            position,
            buffer: Bytes::new(),
            messages: Vec::with_capacity(count),
            credit: 1,
        };
        let mut truths = Vec::with_capacity(count);
        let mut buffer = String::new();
        // A producer gone mad: commits are cut inside of its entries.
        let rejected_per_mille = if is_large { random.pick(&[100, 950, 1_000]) } else { 100 };
        for index in 0..count {
            let position = Position { index: index as u32, ..position };
            let step_ms = random.pick(&[0, 400, 1_000, 2_000, 4_000]);
            self.clock_ms += if is_large { step_ms / 100 } else { step_ms };
            let start = buffer.len();
            let (content, reject) = match random.chance(rejected_per_mille) {
                true => rejected(random, &mut buffer),
                false => (Ok(self.event(random, scenario.device_count, &mut buffer)), None),
            };
            entry.messages.push(RawMessage {
                position,
                start: start as u32,
                length: (buffer.len() - start) as u32,
                publish_time_ms: self.clock_ms,
                reject,
            });
            truths.push(Truth { position, publish_time_ms: self.clock_ms, content });
        }
        entry.buffer = Bytes::from(buffer);
        (entry, truths)
    }

    /// Writes a payload and returns what it says.
    fn event(&self, random: &mut Random, device_count: usize, out: &mut String) -> Event {
        // Up to 25 s behind; sometimes ahead, now and then beyond what is allowed.
        let behind_s = random.pick(&[0, 0, 0, 1, 2, 5, 9, 14, 25]);
        let ahead_s = if random.chance(20) { random.pick(&[3, 10, 11, 400]) } else { 0 };
        let jitter_ms = random.below(1000) as i64;
        let mut event = Event {
            device: random.below(device_count),
            time_ms: self.clock_ms + (ahead_s - behind_s) * 1000 - jitter_ms,
            ..Event::default()
        };
        let device = DEVICES[event.device];
        out.push_str(&format!("{{\"device_id\":\"{device}\",\"time\":{}", event.time_ms));
        match random.below(10) {
            0 => {}
            1 => {
                event.invalid_count += 1;
                out.push_str(",\"temperature\":\"warm\"");
            }
            _ => {
                let value = random.below(60_000) as f64 / 100.0 - 250.5;
                event.temperature = Some(value);
                out.push_str(&format!(",\"temperature\":{value}"));
            }
        }
        if random.chance(900) {
            let value = random.below(50) as i64 - 5;
            event.pulses = Some(value);
            out.push_str(&format!(",\"pulses\":{value}"));
        }
        if random.chance(900) {
            let value = random.below(12) as i64;
            event.state = (value <= STATE_MAX).then_some(value);
            event.invalid_count += u64::from(value > STATE_MAX);
            out.push_str(&format!(",\"state\":{value}"));
        }
        if random.chance(700) {
            let value = random.pick(&["north", "south", "attic"]);
            event.site = Some(value);
            out.push_str(&format!(",\"site\":\"{value}\""));
        }
        out.push('}');
        event
    }
}

/// Writes a payload that is no event; returns the reason, and whether the transport gives it.
fn rejected(random: &mut Random, out: &mut String) -> (Result<Event, Reason>, Option<Reason>) {
    let (payload, reason) = random.pick(&[
        ("{\"device_id\":\"a\",", Reason::Malformed),
        ("", Reason::Empty),
        ("{\"time\":1700000000000}", Reason::MissingKey),
        ("{\"device_id\":\"a\",\"time\":\"noon\"}", Reason::InvalidTime),
        ("part of something larger", Reason::Chunked),
    ]);
    out.push_str(payload);
    (Err(reason), (reason == Reason::Chunked).then_some(reason))
}

//! Measures what a message costs a lane, from JSON to rows that nobody stores: CPU time of the
//! thread, for one setting, as one line of JSON.
//!
//! Run it by `cargo run --release -p tidemill-engine --example lane_cost --` with the numbers of
//! devices, fields, windows open at once and partitions; `bench/linear.py` does so over many
//! settings. Messages are made outside of the measured stretches.

#![expect(clippy::print_stdout, reason = "it prints figures")]

use std::{fmt::Write, sync::Arc};

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use tidemill_decode::DecodeLimits;
use tidemill_engine::{
    lane::{Action, Lane, LaneConfig},
    port::{Continuity, Entry, RawMessage},
};
use tidemill_kernel::{
    amend::LatePolicy,
    event::Position,
    plan::Plan,
    rollup::RollupConfig,
    schema::{Field, Role, Schema, ValueType},
    time::{DurationMs, WindowGrid},
};

const MINUTE_MS: i64 = 60_000;
const START_MS: i64 = 1_700_000_040_000;
const ENTRY_MESSAGES: usize = 1_000;
/// Entries that are made at once, outside of the measured stretches.
const ROUND_ENTRIES: usize = 20;
/// Entries of each partition before any is measured.
const WARM_ENTRIES: usize = 4;
/// Minutes of event time that are measured; the ones before fill the windows.
const MINUTES: usize = 3;

/// What is varied.
struct Setting {
    devices: usize,
    fields: usize,
    windows: usize,
    partitions: usize,
}

impl Setting {
    /// Enough for every device to be in every window, and for the clock to be read often.
    fn messages_per_minute(&self) -> usize {
        (2 * self.devices * self.windows).max(100_000)
    }

    /// Until every lane has seen some entries and has learnt how its messages look.
    fn warm_minutes(&self) -> usize {
        (WARM_ENTRIES * ENTRY_MESSAGES * self.partitions).div_ceil(self.messages_per_minute())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<usize> =
        std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let [devices, fields, windows, partitions] = arguments[..] else {
        return Err("usage: lane_cost DEVICES FIELDS WINDOWS PARTITIONS".into());
    };
    measure(&Setting { devices, fields, windows, partitions })
}

fn measure(setting: &Setting) -> Result<(), Box<dyn std::error::Error>> {
    let config = config(setting)?;
    let mut lanes: Vec<Lane> = (0..setting.partitions)
        .map(|partition| {
            let mut config = config.clone();
            config.rollup.source_partition = partition.to_string();
            Lane::new(config, 1, 0)
        })
        .collect();
    let mut actions = Vec::new();
    lanes.iter_mut().for_each(|lane| lane.start(None, 0, &mut actions));
    let per_minute = setting.messages_per_minute();
    let mut load = Load { random: 7, sent: 0, per_minute };
    let warm = (setting.windows + setting.warm_minutes()) * per_minute;
    let (mut quiet, mut closing) = (Share::default(), Share::default());
    let (mut row_count, mut memory_bytes) = (0, 0);
    while load.sent < warm + MINUTES * per_minute {
        let is_warm = load.sent >= warm;
        let entries: Vec<(usize, Entry)> =
            (0..ROUND_ENTRIES).map(|_| load.entry(setting)).collect();
        for (partition, entry) in &entries {
            let start_ns = cpu_ns();
            let rows = take(&mut lanes[*partition], entry, &mut actions)?;
            let spent_ns = cpu_ns() - start_ns;
            if is_warm {
                let share = if rows == 0 { &mut quiet } else { &mut closing };
                share.spent_ns += spent_ns;
                share.messages += entry.messages.len();
                share.bytes += entry.buffer.len();
                row_count += rows;
            }
        }
        memory_bytes = memory_bytes.max(lanes.iter().map(Lane::memory_bytes).sum());
    }
    let messages = quiet.messages + closing.messages;
    let without_rows = match quiet.messages {
        0 => "null".into(),
        count => format!("{:.1}", quiet.spent_ns as f64 / count as f64),
    };
    println!(
        "{{\"devices\":{},\"fields\":{},\"windows\":{},\"partitions\":{},\
         \"messages\":{messages},\"ns_per_message\":{:.1},\"ns_without_rows\":{without_rows},\
         \"bytes_per_message\":{},\"rows\":{row_count},\"open_bytes\":{memory_bytes}}}",
        setting.devices,
        setting.fields,
        setting.windows,
        setting.partitions,
        (quiet.spent_ns + closing.spent_ns) as f64 / messages as f64,
        (quiet.bytes + closing.bytes) / messages,
    );
    Ok(())
}

/// What entries of one kind took: those that close a window and write its rows, or the others.
#[derive(Default)]
struct Share {
    spent_ns: u64,
    messages: usize,
    bytes: usize,
}

/// Gives an entry to a lane and does what it asks for; returns how many rows came of it.
fn take(
    lane: &mut Lane,
    entry: &Entry,
    actions: &mut Vec<Action>,
) -> Result<usize, Box<dyn std::error::Error>> {
    let mut rows = 0;
    lane.take(entry, 0, actions);
    for action in std::mem::take(actions) {
        match action {
            Action::Commit { commit, .. } => {
                rows += commit.rows.iter().map(|piece| piece.row_count()).sum::<usize>();
                lane.committed(Ok(()), actions);
            }
            Action::Failed(error) => return Err(error.to_string().into()),
            _ => {}
        }
    }
    actions.clear();
    Ok(rows)
}

fn config(setting: &Setting) -> Result<LaneConfig, Box<dyn std::error::Error>> {
    let mut fields = vec![
        Field::new("device_id", ValueType::Text, Role::Key),
        Field::new("time", ValueType::Int, Role::Time),
    ];
    for number in 0..setting.fields {
        fields.push(Field::new(&format!("value_{number}"), ValueType::Float, Role::Gauge));
    }
    let rollup = RollupConfig {
        plan: Arc::new(Plan::new(Arc::new(Schema::new(fields)?))),
        grid: WindowGrid::new(MINUTE_MS, 0).ok_or("a minute is no window")?,
        max_out_of_orderness: DurationMs::from_ms((setting.windows as i64 - 1) * MINUTE_MS),
        allowed_lateness: DurationMs::ZERO,
        late: LatePolicy::DeadLetter,
        max_future_skew: DurationMs::from_ms(MINUTE_MS),
        devices_max: setting.devices,
        piece_rows_max: 10_000,
        generation: 0,
        pipeline: "cost".into(),
        source_partition: String::new(),
        hash_seed: 7,
    };
    Ok(LaneConfig {
        rollup,
        decode: DecodeLimits::default(),
        fingerprint: "cost".into(),
        continuity: Continuity::Growing,
        commit_interval_ms: 5_000,
        idle_timeout_ms: 10_000,
        commits_in_flight_max: 4,
        letters_per_commit_max: 10_000,
        dead_letter_bytes_max: 64,
    })
}

/// Messages of devices at random, spread over as many minutes as windows are open.
struct Load {
    random: u64,
    sent: usize,
    per_minute: usize,
}

impl Load {
    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Makes the next entry, of one partition after the other; a device keeps to its partition.
    fn entry(&mut self, setting: &Setting) -> (usize, Entry) {
        let number = self.sent / ENTRY_MESSAGES;
        let partition = number % setting.partitions;
        let mut buffer = String::with_capacity(ENTRY_MESSAGES * (64 + 20 * setting.fields));
        let mut messages = Vec::with_capacity(ENTRY_MESSAGES);
        for index in 0..ENTRY_MESSAGES {
            let start = buffer.len() as u32;
            let now_ms = START_MS + (self.sent as i64 * MINUTE_MS) / self.per_minute as i64;
            let behind_ms = self.next() % ((setting.windows as u64 - 1) * MINUTE_MS as u64).max(1);
            let of_partition = setting.devices / setting.partitions;
            let device =
                self.next() as usize % of_partition.max(1) * setting.partitions + partition;
            let time_ms = now_ms - behind_ms as i64;
            let _ = write!(buffer, "{{\"device_id\":\"sensor_{device:07}\",\"time\":{time_ms}");
            for field in 0..setting.fields {
                let value = self.next() % 100_000;
                let _ = write!(buffer, ",\"value_{field}\":{}.{:02}", value / 100, value % 100);
            }
            buffer.push('}');
            messages.push(RawMessage {
                position: Position::new(0, number as u64, index as u32),
                start,
                length: buffer.len() as u32 - start,
                publish_time_ms: now_ms,
                reject: None,
            });
            self.sent += 1;
        }
        let position = Position::new(0, number as u64, 0);
        (partition, Entry { position, buffer: Bytes::from(buffer), messages, credit: 1 })
    }
}

fn cpu_ns() -> u64 {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    spent.tv_sec as u64 * 1_000_000_000 + spent.tv_nsec as u64
}

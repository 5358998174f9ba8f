//! Measures what a message costs from JSON to rows that nobody stores: a real lane with the
//! product's own configuration, one thread, the messages of a file in memory.
//!
//! `cargo run --release -p tidemill --example kernel_speed -- CONFIG FILE REPEATS`. Prints one line
//! of JSON; `bench/run.sh kernel` compares it with the targets. Reading the file and cutting it
//! into entries of 1,000 messages is not measured, and nothing is acknowledged or stored.

#![expect(clippy::print_stdout, reason = "it prints figures")]

use std::{
    alloc::System,
    error::Error,
    fs,
    ops::Range,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use rustix::{
    param::{clock_ticks_per_second, page_size},
    time::{ClockId, clock_gettime},
};
use serde_json::json;
use tidemill::{config::Config, memory::LargePages};
use tidemill_engine::{
    lane::{Action, Lane, LaneConfig},
    port::{Continuity, Entry, RawMessage},
};
use tidemill_kernel::event::Position;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: LargePages<System> = LargePages(System);

const ENTRY_MESSAGES: usize = 1_000;
/// The steady part starts behind so many fifths: two windows have mapped the memory that those to
/// come use again, and the rows of one have.
const WARM_FIFTHS: usize = 2;

/// What one pass over all messages used.
#[derive(Default)]
struct Pass {
    /// CPU time of each entry, the end of the input as the last.
    entries_ns: Vec<u64>,
    /// Pages mapped, and time in the operating system.
    faults: u64,
    system_s: f64,
    rows: usize,
    row_bytes: usize,
    /// Rows of the windows that the last entry leaves open, and what they take.
    open_rows: usize,
    open_bytes: u64,
    resident_bytes: u64,
}

impl Pass {
    fn cpu_s(&self) -> f64 {
        self.entries_ns.iter().sum::<u64>() as f64 / 1e9
    }

    fn steady_s(&self) -> f64 {
        self.entries_ns[steady(self.entries_ns.len() - 1)].iter().sum::<u64>() as f64 / 1e9
    }
}

/// Returns which of so many entries are the steady part: behind the first ones and before the end,
/// so that as many rows fall due as messages come.
fn steady(entry_count: usize) -> Range<usize> {
    entry_count * WARM_FIFTHS / 5..entry_count
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [config, data, repeats] = &arguments[..] else {
        return Err("usage: kernel_speed CONFIG FILE REPEATS".into());
    };
    let config = Config::load(Path::new(config), &|name| std::env::var(name).ok())?;
    let fields = config.schema.fields().len();
    let mut lane = config.lane(7);
    lane.continuity = Continuity::Growing;
    let entries = entries(fs::read(data)?.into())?;
    let messages: usize = entries.iter().map(|entry| entry.messages.len()).sum();
    let bytes: usize = entries.iter().map(|entry| entry.buffer.len()).sum();
    let passes: Vec<Pass> = (0..repeats.parse::<usize>()?.max(1))
        .map(|_| pass(&lane, &entries, messages))
        .collect::<Result<_, _>>()?;
    let shown: Vec<_> = passes
        .iter()
        .map(|pass| {
            json!({
                "cpu_s": pass.cpu_s(), "steady_s": pass.steady_s(),
                "end_s": *pass.entries_ns.last().expect("the end is one") as f64 / 1e9,
                "system_s": pass.system_s, "faults": pass.faults,
            })
        })
        .collect();
    let first = &passes[0];
    let steady = steady(entries.len());
    let steady_messages = entries[steady.clone()].iter().map(|entry| entry.messages.len());
    println!(
        "{}",
        json!({
            "messages": messages, "fields": fields, "bytes_per_message": bytes / messages,
            "steady_messages": steady_messages.sum::<usize>(),
            "rows": first.rows, "row_bytes": first.row_bytes,
            "open_rows": first.open_rows, "open_bytes": first.open_bytes,
            "resident_bytes": first.resident_bytes,
            "least_s": least_s(&passes, 0..entries.len() + 1),
            "steady_least_s": least_s(&passes, steady), "passes": shown,
        })
    );
    Ok(())
}

/// Sums up the least that each of these entries took in any pass: interruptions and a busy second
/// hyperthread count only where they hit the same entry in all passes.
fn least_s(passes: &[Pass], entries: Range<usize>) -> f64 {
    let least = |at| passes.iter().map(|pass| pass.entries_ns[at]).min().unwrap_or(0);
    entries.map(least).sum::<u64>() as f64 / 1e9
}

/// Takes all entries in with a lane of its own.
fn pass(config: &LaneConfig, entries: &[Entry], messages: usize) -> Result<Pass, Box<dyn Error>> {
    let mut used = Pass::default();
    let (resident, before) = (resident_bytes()?, Usage::now()?);
    let (mut lane, mut actions) = (Lane::new(config.clone(), 1, 0), Vec::new());
    lane.start(None, 0, &mut actions);
    for entry in entries {
        let start_ns = cpu_ns();
        take(&mut lane, entry, &mut actions, &mut used)?;
        used.entries_ns.push(cpu_ns() - start_ns);
    }
    used.open_bytes = lane.memory_bytes();
    used.resident_bytes = resident_bytes()?.saturating_sub(resident);
    let closed_rows = used.rows;
    let start_ns = cpu_ns();
    end(&mut lane, &mut actions, &mut used)?;
    used.entries_ns.push(cpu_ns() - start_ns);
    used.open_rows = used.rows - closed_rows;
    let after = Usage::now()?;
    used.faults = after.faults - before.faults;
    used.system_s = after.system_s - before.system_s;
    let ledger = lane.ledger();
    if ledger.aggregated != messages as u64 {
        return Err(format!("not all of {messages} messages are in rows: {ledger:?}").into());
    }
    Ok(used)
}

/// Takes an entry in; a function of its own, so that its instructions can be counted.
#[inline(never)]
fn take(
    lane: &mut Lane,
    entry: &Entry,
    actions: &mut Vec<Action>,
    used: &mut Pass,
) -> Result<(), Box<dyn Error>> {
    lane.take(entry, 0, actions);
    settle(lane, actions, used)
}

/// Closes what is open and writes its rows; a function of its own likewise.
#[inline(never)]
fn end(lane: &mut Lane, actions: &mut Vec<Action>, used: &mut Pass) -> Result<(), Box<dyn Error>> {
    lane.end(0, actions);
    settle(lane, actions, used)
}

/// Does what the lane asks for; rows are counted and dropped.
fn settle(
    lane: &mut Lane,
    actions: &mut Vec<Action>,
    used: &mut Pass,
) -> Result<(), Box<dyn Error>> {
    while !actions.is_empty() {
        for action in std::mem::take(actions) {
            match action {
                Action::Commit { commit, .. } => {
                    for piece in &commit.rows {
                        used.rows += piece.row_count();
                        used.row_bytes += piece.bytes().len();
                    }
                    lane.committed(Ok(()), actions);
                }
                Action::Failed(error) => return Err(error.to_string().into()),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Cuts lines into entries, as a broker's batches would be.
fn entries(file: Bytes) -> Result<Vec<Entry>, Box<dyn Error>> {
    // Published after all of them: nothing is too far in the future.
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let (mut entries, mut start) = (Vec::new(), 0);
    while start < file.len() {
        let (number, mut messages, mut end) = (entries.len() as u64, Vec::new(), start);
        while messages.len() < ENTRY_MESSAGES && end < file.len() {
            let rest = &file[end..];
            let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            messages.push(RawMessage {
                position: Position::new(0, number, messages.len() as u32),
                start: (end - start) as u32,
                length: length as u32,
                publish_time_ms: now_ms,
                reject: None,
            });
            end = (end + length + 1).min(file.len());
        }
        let position = Position::new(0, number, 0);
        entries.push(Entry { position, buffer: file.slice(start..end), messages, credit: 1 });
        start = end;
    }
    if entries.is_empty() { Err("the file is empty".into()) } else { Ok(entries) }
}

/// What the operating system counts for this thread.
struct Usage {
    faults: u64,
    system_s: f64,
}

impl Usage {
    fn now() -> Result<Usage, Box<dyn Error>> {
        let text = fs::read_to_string("/proc/thread-self/stat")?;
        let fields = text.rsplit_once(") ").ok_or("/proc/thread-self/stat is cut off")?.1;
        let field = |at| fields.split(' ').nth(at).ok_or("/proc/thread-self/stat is cut off");
        let system_ticks: u64 = field(12)?.parse()?;
        Ok(Usage {
            faults: field(7)?.parse()?,
            system_s: system_ticks as f64 / clock_ticks_per_second() as f64,
        })
    }
}

fn resident_bytes() -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split(' ').nth(1).ok_or("/proc/self/statm is cut off")?.parse()?;
    Ok(pages * page_size() as u64)
}

fn cpu_ns() -> u64 {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    spent.tv_sec as u64 * 1_000_000_000 + spent.tv_nsec as u64
}

//! The progress bar: how far a finite input is, how fast, how long yet.
//!
//! Drawn on standard error, only if that is a terminal, and taken away at the end. It never goes
//! into a log or a pipe: there the status line says how it goes.

use std::{
    io::{IsTerminal as _, stderr},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tidemill_engine::metrics::Metrics;

use crate::config::{Config, FilePartitions, Sink, Source};

const INTERVAL: Duration = Duration::from_millis(200);
/// Smoothing of the message rate: what a new second adds to it.
const RATE_WEIGHT: f64 = 0.3;
/// Endings of files whose positions say nothing about their size.
const COMPRESSED: [&str; 4] = ["gz", "gzip", "zst", "zstd"];

/// The bar that is on the screen.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Writes to the terminal with the bar out of the way.
pub(crate) fn beside<T>(write: impl FnOnce() -> T) -> T {
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner);
    match &*bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// How much there is to read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Input {
    /// Files: where each begins if they stand one behind the other, and the bytes of all.
    Bytes { starts: Vec<u64>, total: u64 },
    /// As many messages.
    Messages(u64),
    /// It ends, but nobody knows where: a pipe, or compressed files.
    Unknown,
}

impl Input {
    /// Returns what a configuration reads; `None` if that never ends.
    fn of(config: &Config) -> Option<Input> {
        match &config.source {
            Source::File(from) => {
                let Some(sizes) = from.paths.iter().map(size).collect() else {
                    return Some(Input::Unknown);
                };
                Some(Input::files(sizes, from.partitions == FilePartitions::Single))
            }
            Source::Generate(from) => from.messages.map(Input::Messages),
            _ => None,
        }
    }

    /// Files of these sizes, read one behind the other or each for itself.
    fn files(sizes: Vec<u64>, in_a_row: bool) -> Input {
        let mut total = 0;
        let ends = sizes.iter().map(|size| {
            total += size;
            total
        });
        let mut starts: Vec<u64> = std::iter::once(0).chain(ends).collect();
        if !in_a_row {
            starts.truncate(1);
        }
        Input::Bytes { starts, total }
    }

    /// Returns how far it is, in the unit of the total.
    fn done(&self, metrics: &Metrics) -> u64 {
        let lanes = metrics.lanes();
        match self {
            Input::Bytes { starts, .. } => {
                let positions = lanes.values().filter_map(|lane| lane.position);
                let bytes = positions.map(|at| {
                    let start = usize::try_from(at.segment).ok().and_then(|at| starts.get(at));
                    start.unwrap_or(&0) + at.offset
                });
                bytes.sum()
            }
            Input::Messages(_) | Input::Unknown => {
                lanes.values().map(|lane| lane.ledger.messages).sum()
            }
        }
    }

    fn bar(&self) -> ProgressBar {
        let target = ProgressDrawTarget::stderr();
        let (total, template) = match self {
            Input::Bytes { total, .. } => {
                let template = "{bar:25} {percent:>3} % of {total_bytes}  {msg}  ETA {eta}";
                (Some(*total), template)
            }
            Input::Messages(total) => {
                let template = "{bar:25} {percent:>3} % of {human_len} messages  {msg}  ETA {eta}";
                (Some(*total), template)
            }
            Input::Unknown => (None, "{spinner} {human_pos} messages  {msg}  {elapsed}"),
        };
        let style = ProgressStyle::with_template(template).expect("a template of our own");
        ProgressBar::with_draw_target(total, target).with_style(style.progress_chars("=> "))
    }
}

/// The size of a file that can be read from any place; `None` for all else.
fn size(path: &PathBuf) -> Option<u64> {
    let ending = Path::new(path).extension().and_then(|ending| ending.to_str()).unwrap_or("");
    if COMPRESSED.iter().any(|known| ending.eq_ignore_ascii_case(known)) {
        return None;
    }
    let metadata = std::fs::metadata(path).ok()?;
    metadata.is_file().then_some(metadata.len())
}

/// Shows the bar until dropped.
pub struct Progress {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins to show how far a run is, if its input ends and standard error is a terminal.
    pub fn start(config: &Config, metrics: &Arc<Metrics>) -> Option<Progress> {
        // That sink writes rows and letters past us.
        let sink_writes = matches!(config.sink, Sink::Stdout);
        if !stderr().is_terminal() || sink_writes || crate::logging::is_json() {
            return None;
        }
        let input = Input::of(config)?;
        let bar = input.bar();
        *BAR.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        let ended = Arc::new(AtomicBool::new(false));
        let (flag, metrics) = (ended.clone(), metrics.clone());
        let thread = thread::spawn(move || draw(&bar, &input, &metrics, &flag));
        Some(Progress { ended, thread: Some(thread) })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It only draws; a panic in it must not hide what ended the run.
            let _ = thread.join();
        }
        if let Some(bar) = BAR.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

fn draw(bar: &ProgressBar, input: &Input, metrics: &Metrics, ended: &AtomicBool) {
    let (mut begun, mut last, mut rate) = (false, 0, None);
    while !ended.load(Relaxed) {
        let done = input.done(metrics);
        if !begun && done > 0 {
            // What an earlier process has read took this one no time.
            begun = true;
            bar.set_position(done);
            bar.reset_eta();
        }
        let messages = metrics.messages.load(Relaxed);
        let now = (messages - last) as f64 / INTERVAL.as_secs_f64();
        last = messages;
        let smooth = rate.map_or(now, |rate| rate + (now - rate) * RATE_WEIGHT);
        rate = begun.then_some(smooth);
        bar.set_message(format!("{} messages/s", HumanCount(smooth as u64)));
        bar.set_position(done);
        bar.tick();
        thread::park_timeout(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use tidemill_engine::metrics::LaneStatus;
    use tidemill_kernel::event::Position;

    use super::*;

    fn metrics(lanes: &[(&str, Position, u64)]) -> Metrics {
        let metrics = Metrics::default();
        for (partition, position, messages) in lanes {
            metrics.update_lane(&Arc::from(*partition), |lane| {
                *lane = LaneStatus { position: Some(*position), ..LaneStatus::default() };
                lane.ledger.messages = *messages;
            });
        }
        metrics
    }

    #[test]
    fn files_in_a_row_count_from_the_first() {
        let input = Input::files(vec![100, 50, 70], true);
        assert_eq!(input, Input::Bytes { starts: vec![0, 100, 150, 220], total: 220 });
        assert_eq!(input.done(&metrics(&[])), 0);
        assert_eq!(input.done(&metrics(&[("a", Position::new(2, 30, 0), 9)])), 180);
    }

    #[test]
    fn files_for_themselves_are_added_up() {
        let input = Input::files(vec![100, 50], false);
        let lanes = [("a", Position::new(0, 40, 0), 9), ("b", Position::new(0, 20, 0), 9)];
        assert_eq!(input.done(&metrics(&lanes)), 60);
    }

    #[test]
    fn endless_input_has_no_bar_and_finite_input_has_its_total() {
        let input = |source: &str| {
            let text = format!(
                "[pipeline]\nname = \"p\"\n{source}\n[schema]\npreset = \"sensor\"\n[sink.stdout]"
            );
            Input::of(&Config::parse("t", &text, &|_| None).expect("it is right"))
        };
        assert_eq!(input("[source.generate]"), None);
        assert_eq!(input("[source.generate]\nmessages = 7"), Some(Input::Messages(7)));
        let missing = "[source.file]\npaths = [\"none-such.ndjson\"]";
        assert_eq!(input(missing), Some(Input::Unknown));
        let file = tempfile::Builder::new().suffix(".gz").tempfile().expect("a file");
        let compressed = format!("[source.file]\npaths = [{:?}]", file.path());
        assert_eq!(input(&compressed), Some(Input::Unknown));
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "12345\n").expect("written");
        let plain = format!("[source.file]\npaths = [{:?}]", file.path());
        assert_eq!(input(&plain), Some(Input::Bytes { starts: vec![0, 6], total: 6 }));
    }
}

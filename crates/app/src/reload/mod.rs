//! Reads the configuration again while a pipeline runs, and tells it what may change.
//!
//! Which keys hold at once, at the next window edge or after a restart stands in the table of keys.
//! A file that `check` would refuse changes nothing. How lanes go over is the engine's business,
//! who asks for it that of signals and HTTP.

mod answer;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use tidemill_engine::{
    metrics::Metrics,
    settings::{LaneAnswer, Reload, Settings},
};
use tidemill_kernel::rollup::open_windows_max;
use tracing::{info, warn};

pub use self::answer::Answer;
use crate::config::{
    Config, Routing,
    keys::{Change, change_of},
};

/// How long lanes may take to say from when on they go by other values.
const PATIENCE: Duration = Duration::from_secs(5);

/// What re-reads the configuration of a running pipeline.
#[derive(Debug)]
pub struct Reloader {
    path: PathBuf,
    /// Whether the command line asks for a line per device, whatever the file says.
    log_windows: bool,
    /// What the pipeline goes by.
    running: Mutex<Config>,
    orders: Sender<Reload>,
    metrics: Arc<Metrics>,
}

impl Reloader {
    /// Returns what re-reads the file that `config` was read from, and where its orders come out.
    /// With `log_windows` each device gets a line, whatever the file says.
    pub fn new(
        path: PathBuf,
        config: Config,
        log_windows: bool,
        metrics: Arc<Metrics>,
    ) -> (Reloader, Receiver<Reload>) {
        let (orders, receiver) = channel();
        (Reloader { path, log_windows, running: Mutex::new(config), orders, metrics }, receiver)
    }

    /// Reads the file, tells the pipeline what has changed, and logs and returns what became of
    /// it. `by` names who asked.
    pub fn reload(&self, by: &str) -> Answer {
        let answer = self.try_reload().unwrap_or_else(Answer::refused);
        let count = |count: &AtomicU64| count.fetch_add(1, Relaxed);
        if let Some(error) = &answer.error {
            warn!(by, %error, "reload refused, nothing changed");
            count(&self.metrics.reloads_refused);
            return answer;
        }
        info!(
            by,
            applied_now = answer.applied_now.join(" "),
            at_next_window_edge = answer.at_next_window_edge.join(" "),
            lanes = answer.lanes_text(),
            "configuration reloaded"
        );
        if answer.needs_restart.is_empty() {
            count(&self.metrics.reloads_applied);
        } else {
            let keys = answer.needs_restart.join(" ");
            warn!(by, keys, "changed keys need a restart");
            count(&self.metrics.reloads_partial);
        }
        answer
    }

    fn try_reload(&self) -> Result<Answer, String> {
        // One after the other: who asks second gets what the first one has left.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let environment = |name: &str| std::env::var(name).ok();
        let mut read = Config::load(&self.path, &environment).map_err(|e| e.to_string())?;
        read.pipeline.log_windows |= self.log_windows;
        let mut answer = Answer::default();
        for key in running.values.differing(&read.values) {
            answer.list(&running, key);
        }
        let next = merged(&running, &read, &answer);
        check(&next)?;
        answer.lanes = self.order(next.engine(0).settings(), &answer)?;
        *running = next;
        Ok(answer)
    }

    /// Tells the pipeline, and waits for what its lanes say if that depends on them.
    fn order(&self, settings: Settings, answer: &Answer) -> Result<Vec<LaneAnswer>, String> {
        let (answers, answered) = channel();
        let gone = |_| "the pipeline has ended".to_owned();
        self.orders.send(Reload { settings, answers }).map_err(gone)?;
        let deadline = Instant::now() + PATIENCE;
        let mut lanes = Vec::new();
        while let Ok(lane) =
            answered.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            lanes.push(lane);
        }
        if answer.at_next_window_edge.is_empty() {
            return Ok(Vec::new());
        }
        lanes.sort_by(|a, b| a.partition.cmp(&b.partition));
        Ok(lanes)
    }
}

impl Answer {
    /// Puts a key that has changed where it belongs.
    fn list(&mut self, running: &Config, key: String) {
        let keys = match (change_of(&key), running.pipeline.routing) {
            (Change::Now, _) => &mut self.applied_now,
            (Change::NextEdge, Routing::Key) => &mut self.at_next_window_edge,
            // An edge is one lane's own; merged lanes have none in common.
            (Change::NextEdge, Routing::Any) | (Change::Restart, _) => &mut self.needs_restart,
        };
        keys.push(key);
    }
}

/// Returns the running configuration with what may change taken from the one that was read.
fn merged(running: &Config, read: &Config, answer: &Answer) -> Config {
    let mut next = running.clone();
    next.pipeline.log_windows = read.pipeline.log_windows;
    next.pipeline.commit_interval = read.pipeline.commit_interval;
    next.window.idle_timeout = read.window.idle_timeout;
    if !answer.at_next_window_edge.is_empty() {
        next.window.max_out_of_orderness = read.window.max_out_of_orderness;
        next.window.allowed_lateness = read.window.allowed_lateness;
        next.window.max_future_skew = read.window.max_future_skew;
    }
    let (limits, from) = (&mut next.limits, &read.limits);
    limits.open_windows_max = from.open_windows_max;
    limits.dead_letter_bytes_max = from.dead_letter_bytes_max;
    limits.letters_per_commit_max = from.letters_per_commit_max;
    limits.commits_in_flight_max = from.commits_in_flight_max;
    limits.memory_max = from.memory_max;
    limits.drain_timeout = from.drain_timeout;
    limits.retry_pause_min = from.retry_pause_min;
    limits.retry_pause_max = from.retry_pause_max;
    for keys in [&answer.applied_now, &answer.at_next_window_edge] {
        next.values.take_over(&read.values, keys);
    }
    next
}

/// Checks new values against old ones that stay until a restart: `check` saw them with new ones.
fn check(next: &Config) -> Result<(), String> {
    let window = &next.window;
    let (orderness, lateness) = (window.max_out_of_orderness, window.allowed_lateness);
    let open_windows = open_windows_max(window.grid, orderness, lateness);
    let limit = next.limits.open_windows_max;
    if open_windows <= limit {
        return Ok(());
    }
    Err(format!(
        "{open_windows} windows would be open at once, at most {limit} may \
         (limits.open_windows_max): window.size changes only with a restart; restart, or change \
         max_out_of_orderness and allowed_lateness later"
    ))
}

#[cfg(test)]
mod tests;

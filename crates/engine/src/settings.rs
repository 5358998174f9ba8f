//! What a running pipeline can be told to do otherwise, and how lanes tell what they make of it.
//!
//! Settings that decide no row hold at once. Those of time hold for windows beyond an edge that
//! each lane chooses for itself. Everything else needs a restart and is not here. Which key of a
//! configuration is of which kind is not decided here either.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError, mpsc::Sender},
    time::Duration,
};

use tidemill_kernel::{
    rollup::{Change, Timing},
    time::DurationMs,
};

use crate::{lane::LaneConfig, pipeline::PipelineConfig, writer::RetryConfig};

/// The keys of a fingerprint that [`Timing`] holds, in its order.
pub const TIMING_KEYS: [&str; 3] =
    ["window.max_out_of_orderness_ms", "window.allowed_lateness_ms", "window.max_future_skew_ms"];

/// How a lane goes over to other values of time; part of its record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transition {
    /// The changes whose edge is not closed yet, edges rising. The record's fingerprint has the
    /// values before them.
    pub changes: Vec<Change>,
    /// Values that an edge has not been chosen for yet.
    pub wanted: Option<Timing>,
}

impl Transition {
    /// Returns whether nothing is under way.
    pub fn is_none(&self) -> bool {
        self.changes.is_empty() && self.wanted.is_none()
    }

    /// Returns whether edges rise, from above what is closed.
    pub fn is_sound(&self, closed_until_ms: i64) -> bool {
        let mut below_ms = closed_until_ms;
        self.changes.iter().all(|change| {
            let rises = change.edge_ms > below_ms;
            below_ms = change.edge_ms;
            rises
        })
    }
}

/// Returns the values of time that a fingerprint has; `None` if one is not there.
pub fn timing_of(fingerprint: &str) -> Option<Timing> {
    let value = |key: &str| {
        let line =
            fingerprint.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        line.parse().ok().map(DurationMs::from_ms)
    };
    let [max_out_of_orderness, allowed_lateness, max_future_skew] = TIMING_KEYS.map(value);
    Some(Timing {
        max_out_of_orderness: max_out_of_orderness?,
        allowed_lateness: allowed_lateness?,
        max_future_skew: max_future_skew?,
    })
}

/// Returns a fingerprint with other values of time.
pub fn with_timing(fingerprint: &str, timing: Timing) -> String {
    let Timing { max_out_of_orderness, allowed_lateness, max_future_skew } = timing;
    let values = [max_out_of_orderness, allowed_lateness, max_future_skew];
    let mut text = String::with_capacity(fingerprint.len());
    for line in fingerprint.lines() {
        let line_break = if text.is_empty() { "" } else { "\n" };
        let key = line.split('=').next().unwrap_or(line);
        let written = match TIMING_KEYS.iter().position(|known| *known == key) {
            Some(at) => write!(text, "{line_break}{key}={}", values[at].as_ms()),
            None => write!(text, "{line_break}{line}"),
        };
        written.expect("writing into a string cannot fail");
    }
    text
}

/// The most values of earlier times that are remembered.
const EARLIER_MAX: usize = 64;

/// Remembers values that were gone by; the oldest are forgotten.
pub(crate) fn remember(earlier: &mut Vec<Timing>, timing: Timing) {
    earlier.retain(|known| *known != timing);
    earlier.push(timing);
    let surplus = earlier.len().saturating_sub(EARLIER_MAX);
    earlier.drain(..surplus);
}

/// What a lane can be told to do otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneSettings {
    /// See [`LaneConfig`].
    pub commit_interval_ms: u64,
    /// See [`LaneConfig`].
    pub idle_timeout_ms: u64,
    /// See [`LaneConfig`].
    pub commits_in_flight_max: usize,
    /// See [`LaneConfig`].
    pub letters_per_commit_max: usize,
    /// See [`LaneConfig`].
    pub dead_letter_bytes_max: usize,
    /// The values of windows that are yet to begin.
    pub timing: Timing,
}

impl LaneConfig {
    /// Returns what of this can change while the lane runs.
    pub fn settings(&self) -> LaneSettings {
        LaneSettings {
            commit_interval_ms: self.commit_interval_ms,
            idle_timeout_ms: self.idle_timeout_ms,
            commits_in_flight_max: self.commits_in_flight_max,
            letters_per_commit_max: self.letters_per_commit_max,
            dead_letter_bytes_max: self.dead_letter_bytes_max,
            timing: self.rollup.timing(),
        }
    }

    /// Takes other settings over.
    pub fn adopt(&mut self, settings: &LaneSettings) {
        self.commit_interval_ms = settings.commit_interval_ms;
        self.idle_timeout_ms = settings.idle_timeout_ms;
        self.commits_in_flight_max = settings.commits_in_flight_max;
        self.letters_per_commit_max = settings.letters_per_commit_max;
        self.dead_letter_bytes_max = settings.dead_letter_bytes_max;
        if settings.timing != self.rollup.timing() {
            self.rollup.set_timing(settings.timing);
            self.fingerprint = with_timing(&self.fingerprint, settings.timing).into();
        }
    }
}

/// What a pipeline can be told to do otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// That of its lanes.
    pub lane: LaneSettings,
    /// See [`PipelineConfig`].
    pub retry: RetryConfig,
    /// See [`PipelineConfig`].
    pub drain_timeout: Duration,
    /// See [`PipelineConfig`].
    pub log_windows: bool,
    /// See [`PipelineConfig`].
    pub memory_bytes_max: u64,
}

impl PipelineConfig {
    /// Returns what of this can change while the pipeline runs.
    pub fn settings(&self) -> Settings {
        Settings {
            lane: self.lane.settings(),
            retry: self.retry,
            drain_timeout: self.drain_timeout,
            log_windows: self.log_windows,
            memory_bytes_max: self.memory_bytes_max,
        }
    }
}

/// How repeats are spaced now; read by the threads of the stores.
#[derive(Debug)]
pub(crate) struct Pauses(Mutex<RetryConfig>);

impl Pauses {
    pub(crate) fn new(retry: RetryConfig) -> Pauses {
        Pauses(Mutex::new(retry))
    }

    pub(crate) fn set(&self, retry: RetryConfig) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = retry;
    }

    pub(crate) fn get(&self) -> RetryConfig {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a pipeline to do otherwise.
#[derive(Clone, Debug)]
pub struct Reload {
    /// What from now on.
    pub settings: Settings,
    /// Where each lane says from when on; closed once all have.
    pub answers: Sender<LaneAnswer>,
}

/// From when on a lane goes by other values of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneAnswer {
    /// The lane.
    pub partition: Arc<str>,
    /// From where on.
    pub edge: Edge,
}

/// From which window on a lane goes by the newest values of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// By now it does for all that are to come; none is open under others.
    Passed,
    /// For windows that end after this instant (ms).
    At(i64),
    /// Not known yet: the lane has to read again what is open, or to close a window first.
    Pending,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(of: [i64; 3]) -> Timing {
        let [max_out_of_orderness, allowed_lateness, max_future_skew] = of.map(DurationMs::from_ms);
        Timing { max_out_of_orderness, allowed_lateness, max_future_skew }
    }

    #[test]
    fn values_of_time_are_read_from_a_fingerprint_and_written_into_it() {
        let text = "a=b\nwindow.allowed_lateness_ms=2\nwindow.max_future_skew_ms=3\n\
                    window.max_out_of_orderness_ms=1\nz=window.allowed_lateness_ms=9";
        assert_eq!(timing_of(text), Some(timing([1, 2, 3])));
        let other = with_timing(text, timing([4, 5, 6]));
        assert_eq!(timing_of(&other), Some(timing([4, 5, 6])));
        assert_eq!(with_timing(&other, timing([1, 2, 3])), text);
        assert_eq!(timing_of("window.allowed_lateness_ms=2"), None);
    }

    #[test]
    fn edges_that_do_not_rise_are_not_sound() {
        let since = tidemill_kernel::event::Position::new(0, 0, 0);
        let change = |edge_ms| Change { edge_ms, since, timing: timing([0; 3]) };
        let sound = |edges: &[i64]| {
            let changes = edges.iter().copied().map(change).collect();
            Transition { changes, wanted: None }.is_sound(10)
        };
        assert!(sound(&[]) && sound(&[11]) && sound(&[11, 12]));
        assert!(!sound(&[10]) && !sound(&[11, 11]) && !sound(&[12, 11]));
    }
}

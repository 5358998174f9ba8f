//! What the system says about this process, under the names that all Prometheus clients use.
//!
//! Read from `/proc`; elsewhere than on Linux there is nothing to say, and nothing is guessed.

use std::{fs, sync::OnceLock};

use tidemill_engine::metrics::MetricKind;

/// Ticks of a second in `/proc/self/stat`: part of Linux' interface, the same on every machine.
const TICKS_PER_S: f64 = 100.0;

/// A metric of the process.
pub(crate) struct ProcessMetric {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: MetricKind,
    pub(crate) read: fn() -> Option<f64>,
}

/// Every metric of the process, in the order of the page.
pub(crate) const PROCESS_METRICS: &[ProcessMetric] = &[
    ProcessMetric {
        name: "process_cpu_seconds_total",
        help: "Processor time that the process has used.",
        kind: MetricKind::Counter,
        // Fields 14 and 15 of proc(5): user and system.
        read: || Some((stat(14)? + stat(15)?) / TICKS_PER_S),
    },
    ProcessMetric {
        name: "process_resident_memory_bytes",
        help: "Memory of the process that is resident.",
        kind: MetricKind::Gauge,
        read: || status("VmRSS").map(|kib| kib * 1024.0),
    },
    ProcessMetric {
        name: "process_virtual_memory_bytes",
        help: "Address space of the process.",
        kind: MetricKind::Gauge,
        read: || status("VmSize").map(|kib| kib * 1024.0),
    },
    ProcessMetric {
        name: "process_threads",
        help: "Threads of the process.",
        kind: MetricKind::Gauge,
        read: || status("Threads"),
    },
    ProcessMetric {
        name: "process_open_fds",
        help: "Open files and connections.",
        kind: MetricKind::Gauge,
        read: || Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64),
    },
    ProcessMetric {
        name: "process_max_fds",
        help: "How many files and connections may be open.",
        kind: MetricKind::Gauge,
        read: || {
            let limits = fs::read_to_string("/proc/self/limits").ok()?;
            let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
            line.split_whitespace().next()?.parse().ok()
        },
    },
    ProcessMetric {
        name: "process_start_time_seconds",
        help: "When the process was started, seconds since the epoch.",
        kind: MetricKind::Gauge,
        read: || {
            static STARTED_AT: OnceLock<Option<f64>> = OnceLock::new();
            *STARTED_AT.get_or_init(|| {
                let stat_of_all = fs::read_to_string("/proc/stat").ok()?;
                let booted_at = stat_of_all.lines().find_map(|line| line.strip_prefix("btime "))?;
                Some(booted_at.trim().parse::<f64>().ok()? + stat(22)? / TICKS_PER_S)
            })
        },
    },
];

/// Returns a field of `/proc/self/stat`, counted from 1 as in proc(5), from the third on.
fn stat(field: usize) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the name in brackets, and may hold spaces and brackets itself.
    let (_, rest) = text.rsplit_once(") ")?;
    rest.split_whitespace().nth(field - 3)?.parse().ok()
}

/// Returns the number in a line of `/proc/self/status`.
fn status(name: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

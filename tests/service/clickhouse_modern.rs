//! Starts the modern ClickHouse engine (26.9) for tests. Stands beside `clickhouse.rs`, whose
//! handle it gives.
#![allow(dead_code, reason = "each test program uses its part of the starters")]

use super::clickhouse::{ClickHouse, free_ports};

/// Starts the engine on a free port and waits until it answers.
///
/// # Panics
/// If it cannot be fetched or started, with the script's last words.
pub(crate) fn start() -> ClickHouse {
    start_with(&[])
}

/// Starts the engine with further options of its script.
///
/// # Panics
/// As [`start`].
pub(crate) fn start_with(options: &[&str]) -> ClickHouse {
    let [http] = free_ports();
    let script = "clickhouse-modern/clickhouse-modern.sh";
    ClickHouse::start_script(script, "clickhouse-modern", &[("--http", http)], options)
}

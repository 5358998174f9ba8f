//! Where log lines go and what they look like: text, or one JSON object per line.
//!
//! Everything goes to standard error through one writer, so that a line never lands in the middle
//! of a progress bar. It decides no level: the command does, or `TIDEMILL_LOG`.

use std::{
    io::{self, IsTerminal as _, Write, stderr},
    panic,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use clap::ValueEnum;
use tracing::error;
use tracing_subscriber::EnvFilter;

use crate::progress;

/// How a line of the log looks.
///
/// A line of JSON has `timestamp` (RFC 3339, UTC), `level`, `target`, `message` and the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people: time, level, message, fields.
    Text,
    /// For collectors: one JSON object per line.
    Json,
}

/// Whether the lines are JSON.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Reports whether everything on standard error has to be JSON.
pub(crate) fn is_json() -> bool {
    IS_JSON.load(Relaxed)
}

/// Begins to log. `level` holds unless `TIDEMILL_LOG` says otherwise.
pub fn start(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_from_env("TIDEMILL_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Lines);
    match format {
        LogFormat::Text => subscriber.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => {
            IS_JSON.store(true, Relaxed);
            subscriber.with_ansi(false).json().flatten_event(true).init();
            // A panic is told in the same form. Nothing else of its behaviour changes.
            panic::set_hook(Box::new(|panic| error!(%panic, "panicked")));
        }
    }
}

/// Standard error, beside a progress bar if there is one.
struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        progress::beside(|| stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
    }
}

/// Tells on standard error what ended a command.
pub(crate) fn tell(failure: &str) {
    // Also when `TIDEMILL_LOG` leaves no errors in the log: a silent end helps nobody.
    if is_json() && tracing::enabled!(tracing::Level::ERROR) {
        error!("{failure}");
    } else {
        progress::beside(|| eprintln!("tidemill: {failure}"));
    }
}

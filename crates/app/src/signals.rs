//! SIGTERM and SIGINT: the first asks for a drain, the second ends the process at once.

use std::sync::{Arc, atomic::AtomicBool};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use crate::exit::INTERRUPTED;

/// Returns the flag that the first signal sets.
///
/// # Errors
/// If the system refuses a handler.
pub fn shutdown_flag() -> std::io::Result<Arc<AtomicBool>> {
    let shutdown = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // In this order: the check sees only what an earlier signal has set.
        flag::register_conditional_shutdown(signal, i32::from(INTERRUPTED), shutdown.clone())?;
        flag::register(signal, shutdown.clone())?;
    }
    Ok(shutdown)
}

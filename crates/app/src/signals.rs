//! SIGTERM and SIGINT: the first asks for a drain, the second ends the process at once. SIGHUP asks
//! for the configuration to be read again.

use std::sync::{Arc, atomic::AtomicBool};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
    iterator::Signals,
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

/// Does this at every SIGHUP from now on, in a thread of its own.
///
/// # Errors
/// If the system refuses a handler or a thread.
pub fn on_hangup(mut act: impl FnMut() + Send + 'static) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGHUP])?;
    let thread = std::thread::Builder::new().name("reload".to_owned());
    thread.spawn(move || signals.forever().for_each(|_| act()))?;
    Ok(())
}

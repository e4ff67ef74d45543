//! Signals become flags; the run looks at them between two steps.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::base::{Error, Result};
use crate::run::Interrupt;

/// SIGTERM and SIGINT ask the run to save and leave, SIGUSR1 to save and go on. After the first of the former two a second
/// one ends the process at once, as if nobody had caught it: what is committed stays.
#[cfg(unix)]
pub(super) fn install() -> Result<Interrupt> {
    use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
    use signal_hook::flag;

    let interrupt = Interrupt::default();
    let asked = Arc::new(AtomicBool::new(false));
    let register = || {
        for signal in [SIGTERM, SIGINT] {
            // Actions run in the order of registration: this one sees whether there was a signal before.
            flag::register_conditional_default(signal, Arc::clone(&asked))?;
            flag::register(signal, Arc::clone(&asked))?;
            flag::register_usize(signal, Arc::clone(&interrupt.signal), signal.unsigned_abs() as usize)?;
        }
        flag::register(SIGUSR1, Arc::clone(&interrupt.save))
    };
    register().map_err(|e| Error::Other(e.into()))?;
    Ok(interrupt)
}

/// There are no such signals here.
#[cfg(not(unix))]
pub(super) fn install() -> Result<Interrupt> {
    Ok(Interrupt::default())
}

//! Signals become flags; the run looks at them between two steps.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::base::{Error, Result};
use crate::run::Interrupt;

/// SIGTERM, SIGINT, SIGHUP and SIGXCPU (a limit of processor time) ask the run to save and leave, SIGUSR1 to save and
/// go on. After the first SIGTERM or SIGINT a second one ends the process at once, as if nobody had caught it: what is
/// committed stays. A terminal that is closed sends SIGHUP more than once, and so does a limit SIGXCPU: further ones
/// say nothing new. SIGXFSZ (a limit of a file's size) would end the process; caught, it leaves an error of the write.
///
/// Of `many` processes the launcher may pass on a signal that each of them got already: a second one says nothing new
/// either, and it is the launcher that ends them.
///
/// A signal that the parent had told to be ignored (`nohup`, `&` of a script) stays ignored.
#[cfg(unix)]
pub(super) fn install(many: bool) -> Result<Interrupt> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXCPU, SIGXFSZ};
    use signal_hook::flag;

    let interrupt = Interrupt::default();
    let asked = Arc::new(AtomicBool::new(false));
    let ignored = ignored();
    let heard = |signal: i32| ignored >> (signal - 1) & 1 == 0;
    let register = || {
        for signal in [SIGTERM, SIGINT, SIGHUP, SIGXCPU].into_iter().filter(|signal| heard(*signal)) {
            if !many && (signal == SIGTERM || signal == SIGINT) {
                // Actions run in the order of registration: this one sees whether there was a signal before.
                flag::register_conditional_default(signal, Arc::clone(&asked))?;
                flag::register(signal, Arc::clone(&asked))?;
            }
            flag::register_usize(signal, Arc::clone(&interrupt.signal), signal.unsigned_abs() as usize)?;
        }
        if heard(SIGUSR1) {
            flag::register(SIGUSR1, Arc::clone(&interrupt.save))?;
        }
        flag::register(SIGXFSZ, Arc::default())?;
        Ok(())
    };
    register().map_err(|e: std::io::Error| Error::Other(e.into()))?;
    Ok(interrupt)
}

/// Ends this process as a signal does that nobody caught; not if there was none.
#[cfg(unix)]
pub(super) fn end_by(signal: usize) {
    if let Ok(signal @ 1..) = i32::try_from(signal) {
        // A signal that does not end a process was not asked for.
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
}

/// The signals that this process was told to ignore, bit 0 for signal 1. Linux tells; elsewhere none is known.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// There are no such signals here.
#[cfg(not(unix))]
pub(super) fn end_by(_: usize) {}

/// There are no such signals here.
#[cfg(not(unix))]
pub(super) fn install(_: bool) -> Result<Interrupt> {
    Ok(Interrupt::default())
}

//! Leaving before the schedule ends, because someone outside says so: a signal, a time limit, a stop file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::base::fs::FileSystem;
use crate::base::{Error, Result};

/// Flags that the owner of the process raises and a run looks at between two steps. The command line raises them in its
/// signal handlers; a program may raise them from any thread.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    /// Commit a checkpoint and end the run: the number of the signal that asked, 0 for none.
    pub signal: Arc<AtomicUsize>,
    /// Commit a checkpoint and go on.
    pub save: Arc<AtomicBool>,
}

/// What can end a run from outside.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// The flags.
    pub interrupt: Interrupt,
    /// Seconds that this run may take; the step under way is finished and a checkpoint committed after that.
    pub max_seconds: Option<f64>,
    /// The run ends when this file is there.
    pub stop_file: Option<PathBuf>,
    /// The run ends after this iteration as it does on SIGTERM, also if nothing happens in it, or if it is undone.
    pub after_iter: Option<u64>,
}

/// Why a run ended before its schedule did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// A signal, by number: 15 is SIGTERM, 2 is SIGINT, 1 is SIGHUP, 24 is SIGXCPU.
    Signal(usize),
    /// Its time was up.
    TimeUp,
    /// The stop file was there.
    StopFile(PathBuf),
}

impl ExitReason {
    /// The bit by which ranks tell each other of it. A signal that has none counts as SIGTERM.
    pub(super) fn bit(&self) -> u64 {
        match self {
            Self::Signal(number) if *number <= LAST_SIGNAL => 1 << number,
            Self::Signal(_) => 1 << 15,
            Self::TimeUp => 1 << TIME_UP,
            Self::StopFile(_) => 1 << STOP_FILE,
        }
    }

    /// The exit code of the process: 128 and the signal's number, as shells count; 75 ("try again later") for a limit.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Signal(number) => u8::try_from(128 + number).unwrap_or(u8::MAX),
            Self::TimeUp | Self::StopFile(_) => 75,
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(1) => f.write_str("SIGHUP"),
            Self::Signal(24) => f.write_str("SIGXCPU"),
            Self::Signal(2) => f.write_str("SIGINT"),
            Self::Signal(15) => f.write_str("SIGTERM"),
            Self::Signal(number) => write!(f, "signal {number}"),
            Self::TimeUp => f.write_str("the time is up"),
            Self::StopFile(path) => write!(f, "{} is there", path.display()),
        }
    }
}

/// What the bits of [`ExitReason::bit`] mean: up to this the signal of that number.
const LAST_SIGNAL: usize = 47;
const TIME_UP: usize = 48;
const STOP_FILE: usize = 49;

impl Limits {
    /// Why to leave, of the bits that any rank set.
    pub(super) fn leave_of(&self, bits: u64) -> Option<ExitReason> {
        match (bits & ((1 << (STOP_FILE + 1)) - 1)).trailing_zeros() as usize {
            number if number <= LAST_SIGNAL => Some(ExitReason::Signal(number)),
            TIME_UP => Some(ExitReason::TimeUp),
            STOP_FILE => Some(ExitReason::StopFile(self.stop_file.clone().unwrap_or_default())),
            _ => None,
        }
    }

    /// A stop file of yesterday would end every run after its first step.
    pub(super) fn check(&self, fs: &dyn FileSystem) -> Result<()> {
        match &self.stop_file {
            Some(path) if is_there(fs, path) => Err(Error::config(format!(
                "the stop file {} is there already: remove it to start",
                path.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Whether to end after iteration `iter` was made. The timer is read only if there is a limit.
    pub(super) fn due(
        &self,
        fs: &dyn FileSystem,
        iter: u64,
        elapsed: impl FnOnce() -> f64,
    ) -> Option<ExitReason> {
        let signal = self.interrupt.signal.load(Ordering::Relaxed);
        if signal != 0 {
            return Some(ExitReason::Signal(signal));
        }
        if self.after_iter.is_some_and(|last| iter >= last) {
            return Some(ExitReason::Signal(15));
        }
        if self.max_seconds.is_some_and(|limit| elapsed() >= limit) {
            return Some(ExitReason::TimeUp);
        }
        self.stop_file.as_ref().filter(|path| is_there(fs, path)).cloned().map(ExitReason::StopFile)
    }
}

fn is_there(fs: &dyn FileSystem, path: &Path) -> bool {
    fs.entry(path).is_ok_and(|entry| entry.is_some())
}

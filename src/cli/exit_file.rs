//! The exit code of a training that a launcher started, in a file: launchers pass on what they like.

use std::path::Path;

use super::group;
use crate::base::durable;
use crate::base::error::IoContext;
use crate::base::fs::{Disk, FileSystem};
use crate::checkpoint::EXIT_FILE;
use crate::hook::Ranks;
use crate::plugin::prelude::*;
use crate::run::Runner;

/// Takes away what an earlier run has left.
#[derive(Default)]
pub(super) struct ExitFile {
    begun: bool,
}

impl ExitFile {
    /// For a run that writes the file, or finds that of another one.
    pub fn of(runner: &Runner) -> Option<Self> {
        let file = runner.session().state.dirs.work.join(EXIT_FILE);
        (group::is_launched() || is_there(&file)).then(Self::default)
    }

    /// Writes down how a training ended that had begun.
    pub fn note(runner: &Runner, code: u8) {
        let state = &runner.session().state;
        if !group::is_launched() || !runner.hook::<Self>().is_some_and(|hook| hook.begun) {
            return;
        }
        // Why a run fails is told by itself; a disk that is full of it takes no code either.
        if let Err(error) = write(&state.dirs.work, code)
            && code != 1
        {
            state.log.error(format_args!("the exit code {code} is in no file: {error}"));
        }
    }

    /// The same for one that could not begin, where an earlier one has left its code: nobody is to go on because of that.
    pub fn note_refused(work_dir: &Path, code: u8) {
        if group::speaks() && is_there(&work_dir.join(EXIT_FILE)) {
            let _ = write(work_dir, code);
        }
    }
}

fn is_there(file: &Path) -> bool {
    Disk.entry(file).is_ok_and(|entry| entry.is_some())
}

fn write(work_dir: &Path, code: u8) -> Result<()> {
    durable::replace(&Disk, &work_dir.join(EXIT_FILE), format!("{code}\n").as_bytes())
}

impl Hook for ExitFile {
    fn ranks(&self) -> Ranks {
        Ranks::Main
    }

    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.begun = true;
        let file = cx.dirs.work.join(EXIT_FILE);
        if cx.fs.entry(&file).at(&file)?.is_some() {
            cx.fs.remove(&file).at(&file)?;
        }
        cx.unsubscribe()
    }
}

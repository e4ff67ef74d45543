//! The exit code of a training of many processes, in a file: launchers pass on what they like.

use crate::base::durable;
use crate::base::error::IoContext;
use crate::base::fs::Disk;
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
    /// Writes down how a training ended that had begun.
    pub fn note(runner: &Runner, code: u8) {
        let state = &runner.session().state;
        if !runner.hook::<Self>().is_some_and(|hook| hook.begun) {
            return;
        }
        let file = state.dirs.work.join(EXIT_FILE);
        if let Err(error) = durable::replace(&Disk, &file, format!("{code}\n").as_bytes()) {
            state.log.error(format_args!("the exit code {code} is in no file: {error}"));
        }
    }
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

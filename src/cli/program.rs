//! What a program of one's own may take from the command line: its log on the terminal, and its answer to signals.

use super::progress::ProgressHook;
use super::{console, signals};
use crate::base::Result;
use crate::run::RunnerBuilder;

impl RunnerBuilder {
    /// Writes the log to stderr as the command line does, with a progress bar where that is a terminal. Where the
    /// program has a logger already, that one stays. `RUST_LOG` chooses more or less.
    #[must_use]
    pub fn log_to_console(self) -> Self {
        console::init(true, log::LevelFilter::Info, false, None);
        match ProgressHook::on_terminal() {
            Some(bar) => self.hook(bar),
            None => self,
        }
    }

    /// Answers signals as the command line does: SIGTERM, SIGINT, SIGHUP and SIGXCPU save and end the training, which
    /// can be resumed ([`Outcome::Interrupted`](crate::run::Outcome::Interrupted)); SIGUSR1 saves and goes on. A second
    /// SIGTERM or SIGINT ends the process at once. It is for the whole process, from here on; its flags take the place
    /// of [`Limits::interrupt`](crate::run::Limits::interrupt).
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn handle_signals(self) -> Result<Self> {
        Ok(self.interrupted_by(signals::install(false)?))
    }
}

//! Between two steps: whether somebody outside wants the run to leave, or to save.

use std::sync::atomic::Ordering;

use super::Session;
use super::interrupt::{ExitReason, Limits};
use super::saving::Saving;
use crate::base::Result;
use crate::checkpoint::EMERGENCY;
use crate::hook::{Asked, SaveRequest};

impl Saving {
    /// Notes what ranks agreed on: the bits that any of them set for leaving, and whether all save.
    pub(super) fn add_agreed(&mut self, bits: u64, save: bool) {
        let (leave, saves) = self.agreed.take().unwrap_or_default();
        self.agreed = Some((leave.or_else(|| self.limits.leave_of(bits)), saves || save));
    }
}

impl Session {
    /// Between two steps: a save that failed ends the run, and so does whoever asks for it from outside, after a
    /// checkpoint. Loops call it after each step.
    ///
    /// # Errors
    /// The failure of a save.
    pub fn check_interrupts(&mut self) -> Result<()> {
        self.saving.mid_step = false;
        self.saving.saver.check()?;
        if self.saving.interrupted.is_some() {
            return Ok(());
        }
        let (leave, save) = self.asked()?;
        if let Some(reason) = leave {
            self.state.log.warn(format_args!("{reason}: saving and leaving"));
            if self.saving.saved_iter != Some(self.state.progress.iter) {
                self.save(&self.unplanned("iter"))?;
            }
            self.join()?;
            let asked = Asked { by: usize::MAX, what: reason.to_string() };
            self.state.control.stop.get_or_insert(asked);
            self.saving.interrupted = Some(reason);
        } else if save {
            self.state.log.info("asked to save");
            self.save_as_asked()?;
        }
        Ok(())
    }

    /// Why somebody wants this rank to leave, or else whether it is to save.
    pub(super) fn asked_here(&mut self) -> (Option<ExitReason>, bool) {
        if self.saving.interrupted.is_some() {
            return (None, false);
        }
        let (fs, timer, began) = (&self.state.fs, &mut self.state.timer, self.saving.began);
        let Limits { interrupt, .. } = &self.saving.limits;
        let leave = self.saving.limits.due(&**fs, self.saving.made, || timer() - began);
        let save = leave.is_none() && interrupt.save.swap(false, Ordering::Relaxed);
        (leave, save)
    }

    /// The same of all ranks, as they agreed since this was asked last, or do now.
    fn asked(&mut self) -> Result<(Option<ExitReason>, bool)> {
        if self.is_alone() {
            return Ok(self.asked_here());
        }
        if self.saving.agreed.is_none() {
            self.agree()?;
        }
        Ok(self.saving.agreed.take().unwrap_or_default())
    }

    /// A save that nobody planned must not end the run: it is waited for, and a failure is a warning.
    fn save_as_asked(&mut self) -> Result<()> {
        self.join()?;
        let before = self.saving.saved_iter;
        if before == Some(self.state.progress.iter) {
            return Ok(());
        }
        let saved = self.save(&self.unplanned("iter")).and_then(|_| self.saving.saver.wait());
        if let Err(error) = saved {
            self.saving.saved_iter = before;
            self.saving.saver.take_failure();
            self.state.log.warn(format_args!("the save that was asked for failed, the run goes on: {error}"));
        }
        Ok(())
    }

    pub(super) fn unplanned(&self, name: &str) -> SaveRequest {
        let name = format!("{name}_{}", self.state.progress.iter);
        SaveRequest { series: EMERGENCY.to_owned(), ..SaveRequest::new(name) }
    }

    /// Why the run was told to leave.
    pub fn interrupted(&self) -> Option<&ExitReason> {
        self.saving.interrupted.as_ref()
    }
}

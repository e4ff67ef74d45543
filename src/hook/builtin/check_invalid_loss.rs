//! Finds numbers that are none, says where they come from, and ends the run, skips the batch, or goes back.

use super::finite::{self, Finding};
use super::replay;
use crate::plugin::prelude::*;

/// Looks for NaN and infinity, names what it finds (samples, tensor, step), and acts (after mmdet's hook, which stops).
///
/// `skip` drops the update and takes buffers back, as if the batch (with accumulation: the window of batches) had not
/// been. `rollback` returns to the last good state in memory, up to `rollback_steps` steps back, and goes on without
/// the offending samples; those with bad inputs if there are any, else all of the batch. Each time a replay bundle is
/// written to the log folder. With mixed precision gradients that are not finite are no bad step while there is a loss
/// scale to lower.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CheckInvalidLossHook {
    /// Iterations between two checks; 50 if absent, and 1 for `skip` and `rollback`, which need each step checked.
    #[schemars(range(min = 1))]
    interval: Option<u64>,
    /// What follows a bad step: the run ends, the update is dropped, or the run goes back.
    action: Action,
    /// What is looked at: losses; gradients too; or inputs and weights as well.
    check: Check,
    /// Steps between two states kept in memory for `rollback`.
    #[schemars(range(min = 1))]
    rollback_steps: u64,
    /// How often to act before the run ends with an error; `rollback_steps` good steps in a row begin the count anew.
    patience: u64,
    /// Write the bad step to a folder that `shanty replay` can repeat.
    bundle: bool,
    #[serde(skip)]
    state: State,
}

/// What follows a bad step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Action {
    /// The run ends with an error.
    #[default]
    Stop,
    /// The update is dropped.
    Skip,
    /// The run goes back and leaves the samples out.
    Rollback,
}

/// What is looked at in each checked step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Check {
    /// The losses.
    #[default]
    Loss,
    /// Losses and gradients.
    Grads,
    /// Losses, gradients, inputs and weights.
    All,
}

/// What happened so far, and the buffers as they were before the open window.
#[derive(Debug, Clone, Default)]
struct State {
    past: Past,
    buffers: finite::Buffers,
    /// The iteration that was judged in `after_backward`.
    judged: Option<u64>,
}

/// A run that is resumed must know it: its patience would begin anew, and a window that was open would count although
/// one of its batches was bad.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Past {
    /// Times that it acted since the last good stretch.
    acted: u64,
    /// The iteration at which it acted last.
    last: u64,
    /// A batch of the open window was bad: its update must not be.
    poisoned: bool,
    window_open: bool,
}

impl HookState for State {
    fn save(&self) -> HookResult<Record> {
        let mut record = Record::of(&self.past)?;
        if self.past.window_open {
            record.tensors = self.buffers.0.clone();
        }
        Ok(record)
    }

    fn load(&mut self, record: Record) -> HookResult {
        *self = Self { past: record.read()?, buffers: finite::Buffers(record.tensors), judged: None };
        Ok(())
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Default for CheckInvalidLossHook {
    fn default() -> Self {
        Self {
            interval: None,
            action: Action::Stop,
            check: Check::Loss,
            rollback_steps: 50,
            patience: 5,
            bundle: true,
            state: State::default(),
        }
    }
}

impl CheckInvalidLossHook {
    fn every(&self) -> u64 {
        self.interval.unwrap_or(if self.action == Action::Stop { 50 } else { 1 })
    }

    /// What is wrong with this step, if anything that is to be looked at is.
    fn find(&self, cx: &mut Ctx<'_>, step: &Step<'_>) -> Result<Option<Finding>> {
        let bad_loss = finite::bad_loss(step.outputs);
        // In a window with a bad batch the gradients are that batch's: the later ones are not to blame for them. Those that
        // are too large for the scale of mixed precision are its own business.
        let overflows = cx.optim.as_ref().is_some_and(|optim| optim.may_overflow());
        let gradients = self.check != Check::Loss && !self.state.past.poisoned && !overflows;
        let bad = bad_loss.is_some()
            || (gradients && finite::bad_gradient(&**cx.model)?.is_some())
            || (self.check == Check::All && finite::bad_values(&**cx.model, step.batch)?);
        let bad = cx.comm.agree(u64::from(bad))? != 0;
        bad.then(|| finite::explain(&**cx.model, step, bad_loss, cx.comm)).transpose()
    }

    /// Acts on a bad step; `iter` counts from 1.
    fn act(&mut self, cx: &mut Ctx<'_>, step: &Step<'_>, found: &Finding, iter: u64) -> HookResult {
        let mut text = format!(
            "{} in epoch {}, iteration {iter}; the first bad tensor is {}; samples of the batch: {:?}",
            found.what,
            cx.progress.current_epoch(),
            found.first,
            step.batch.ids
        );
        self.state.past.poisoned |= self.action == Action::Skip;
        if self.bundle {
            let of_rank = if cx.is_main() { String::new() } else { format!("_rank{}", cx.comm.place().rank) };
            let dir = cx.dirs.log.join(format!("replay_iter_{iter}{of_rank}"));
            text += &match replay::write(cx, step, found, iter, &dir) {
                Ok(()) => format!("; repeat it with `shanty replay {}`", dir.display()),
                // It is good to have, and no reason to end the run.
                Err(error) => format!("; there is no replay bundle of it ({error})"),
            };
        }
        if self.action == Action::Stop {
            return self.end(cx, text);
        }
        self.state.past.acted += 1;
        self.state.past.last = iter;
        if self.state.past.acted > self.patience {
            return self.end(cx, format!("{text}; patience ended after {} times", self.patience));
        }
        match self.action {
            Action::Rollback => {
                cx.skip_update("a bad step");
                cx.rollback(found.samples.clone());
                cx.log.warn(format_args!("{text}; going back"));
            }
            _ => {
                // At once: inside an accumulation window hooks that average buffers would take them as they are.
                self.state.buffers.put_back(&mut **cx.model)?;
                cx.log.warn(format_args!("{text}; skipped"));
            }
        }
        Ok(())
    }

    /// The error of a run that ends here. What is saved of it has neither the gradients of the window nor, where the action
    /// keeps the buffers of before it, what it did to them.
    fn end(&mut self, cx: &mut Ctx<'_>, mut text: String) -> HookResult {
        let put_back = match self.action {
            Action::Rollback => Ok(()),
            Action::Stop | Action::Skip => self.state.buffers.put_back(&mut **cx.model),
        };
        let cleared = cx.optim.as_mut().map_or(Ok(()), |optim| optim.clear(&mut **cx.model));
        if let Err(error) = put_back.and(cleared) {
            text += &format!("; {error}");
        }
        Err(text.into())
    }

    /// The update of a window with a bad batch in it is dropped, and its traces in the buffers with it.
    fn drop_window(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        if std::mem::take(&mut self.state.past.poisoned) {
            self.state.buffers.put_back(&mut **cx.model)?;
            cx.skip_update("a bad step");
        }
        Ok(())
    }
}

setters!(CheckInvalidLossHook {
    /// Iterations between two checks; 50 if not called, and 1 where it does not stop the run: that needs each step
    /// checked.
    interval: some u64,
    /// How often to act before the run ends with an error; 5 if not called.
    patience: = u64,
    /// Whether to write the bad step to a folder that `shanty replay` can repeat; so if not called.
    bundle: = bool,
});

impl CheckInvalidLossHook {
    /// Drops a bad update, instead of ending the run with an error.
    pub fn skip() -> Self {
        Self { action: Action::Skip, ..Self::default() }
    }

    /// Goes back by at most `steps` and on without the samples, instead of ending the run with an error.
    pub fn rollback(steps: u64) -> Self {
        Self { action: Action::Rollback, rollback_steps: steps, ..Self::default() }
    }

    /// Looks at gradients too.
    #[must_use]
    pub fn gradients(mut self) -> Self {
        self.check = Check::Grads;
        self
    }

    /// Looks at gradients, inputs and weights too.
    #[must_use]
    pub fn everything(mut self) -> Self {
        self.check = Check::All;
        self
    }
}

impl Hook for CheckInvalidLossHook {
    /// `skip` comes before the hooks that average what a bad batch has spoilt, also where a config puts these a little
    /// earlier than others.
    fn priority(&self) -> Priority {
        match self.action {
            Action::Skip => Priority::HIGH,
            Action::Stop | Action::Rollback => Priority::NORMAL,
        }
    }

    fn check_options(&self, _: &BuildCx) -> Result<()> {
        if self.action != Action::Stop && self.interval.is_some_and(|n| n > 1) {
            return Err(Error::config("`skip` and `rollback` need each step checked: leave `interval` out"));
        }
        check_ranges(self)
    }

    /// A run that ends at the first bad step has nothing to remember.
    fn state(&mut self) -> Option<&mut dyn HookState> {
        if self.action == Action::Stop { None } else { Some(&mut self.state) }
    }

    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.state.judged = None;
        if self.action == Action::Rollback {
            cx.resume_snapshot();
        }
        Ok(())
    }

    fn reads_numbers(&self, point: Point, progress: &Progress) -> bool {
        match point {
            Point::AfterBackward => (progress.iter + 1).is_multiple_of(self.every()),
            Point::AfterTrainIter => {
                let keeps =
                    self.action == Action::Rollback && progress.iter.is_multiple_of(self.rollback_steps);
                keeps || progress.iter.is_multiple_of(self.every())
            }
            _ => false,
        }
    }

    fn before_train_iter(&mut self, cx: &mut Ctx<'_>, _batch: &mut Batch) -> HookResult {
        if self.action == Action::Rollback {
            return cx.unsubscribe();
        }
        if self.action == Action::Stop {
            if (cx.progress.iter + 1).is_multiple_of(self.every()) {
                self.state.buffers.keep(&**cx.model)?;
            }
            return cx.no_op();
        }
        // That of a run which ended before its update is gone: the optimizer knows.
        let known = std::mem::replace(&mut self.state.past.window_open, true);
        if !(known && cx.optim.as_ref().is_some_and(|optim| optim.has_open_window())) {
            self.state.past.poisoned = false;
            self.state.buffers.keep(&**cx.model)?;
        }
        Ok(())
    }

    /// Before the optimizer steps, so that bad gradients do no harm.
    fn after_backward(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        self.state.past.window_open = false;
        let iter = cx.progress.iter + 1;
        if iter.is_multiple_of(self.every()) {
            self.state.judged = Some(iter);
            if let Some(found) = self.find(cx, step)? {
                self.act(cx, step, &found, iter)?;
            }
        }
        self.drop_window(cx)
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        let iter = cx.progress.iter;
        // Inside an accumulation window there was no other occasion.
        if self.state.judged != Some(iter)
            && iter.is_multiple_of(self.every())
            && let Some(found) = self.find(cx, step)?
        {
            return self.act(cx, step, &found, iter);
        }
        if !iter.is_multiple_of(self.every()) {
            cx.no_op()?;
        }
        let acted_now = self.state.past.acted > 0 && self.state.past.last == iter;
        if iter >= self.state.past.last + self.rollback_steps {
            self.state.past.acted = 0;
        }
        if self.action != Action::Rollback || acted_now {
            return Ok(());
        }
        if iter.is_multiple_of(self.rollback_steps) {
            // A state is worth keeping only if its weights are numbers.
            match finite::bad_weight(&**cx.model)? {
                None => cx.snapshot(),
                Some(_) => {
                    let found = finite::explain(&**cx.model, step, None, cx.comm)?;
                    return self.act(cx, step, &found, iter);
                }
            }
        }
        Ok(())
    }
}

register! {
    /// Finds NaN and infinity in losses, gradients or weights; ends the run, skips the batch, or goes back without it.
    dyn Hook, "CheckInvalidLossHook" => CheckInvalidLossHook
}

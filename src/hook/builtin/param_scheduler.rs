//! Moves the numbers of the optimizer along their schedules.

use crate::plugin::prelude::*;

/// Runs after the logger and before the checkpoint. Schedules are functions of progress, so there is nothing to keep.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ParamSchedulerHook {}

impl ParamSchedulerHook {
    fn follow(cx: &mut Ctx<'_>) -> HookResult {
        let (epoch, iter) = (cx.progress.epoch, cx.progress.iter);
        if let Some(optim) = &mut cx.optim {
            optim.set_progress(epoch, iter);
        }
        Ok(())
    }
}

impl Hook for ParamSchedulerHook {
    fn priority(&self) -> Priority {
        Priority::LOW
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        Self::follow(cx)
    }

    fn after_train_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        Self::follow(cx)
    }
}

register! {
    /// Sets the numbers of the optimizer (learning rate, momentum, …) to what their schedules give for the progress of the run.
    dyn Hook, "ParamSchedulerHook" => ParamSchedulerHook
}

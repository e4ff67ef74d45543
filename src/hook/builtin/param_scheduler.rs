//! Moves the numbers of the optimizer along their schedules.

use crate::metric::Direction;
use crate::optim::Score;
use crate::plugin::prelude::*;

/// Runs after the logger and before the checkpoint. Schedules are functions of progress and of what validations gave,
/// which is kept with the optimizer.
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

    fn reads_numbers(&self, _: Point, _: &Progress) -> bool {
        false
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        Self::follow(cx)
    }

    fn after_train_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        Self::follow(cx)
    }

    fn after_val_epoch(&mut self, cx: &mut Ctx<'_>, metrics: &Metrics) -> HookResult {
        let (epoch, iter) = (cx.progress.epoch, cx.progress.iter);
        let Some(optim) = cx.optim.as_mut().filter(|_| !cx.info.placeholders) else { return Ok(()) };
        let score = |name: &str| {
            let known = metrics.direction(name).or_else(|| Direction::infer(name, None, None).ok());
            let greater = known.map(|direction| direction == Direction::Greater);
            metrics.get(name).map(|value| Score { value, greater })
        };
        optim.observe(epoch, iter, &score)?;
        Self::follow(cx)
    }
}

register! {
    /// Sets the numbers of the optimizer (learning rate, momentum, …) to what their schedules give for the progress of the run.
    dyn Hook, "ParamSchedulerHook" => ParamSchedulerHook
}

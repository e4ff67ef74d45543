//! Ends a run whose loss is no number any more.

use crate::prelude::*;

/// Looks at the losses every `interval` iterations and fails if one is NaN or infinite (after mmdet's hook).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CheckInvalidLossHook {
    /// Iterations between two checks.
    #[schemars(range(min = 1))]
    pub interval: u64,
}

impl Default for CheckInvalidLossHook {
    fn default() -> Self {
        Self { interval: 50 }
    }
}

impl Hook for CheckInvalidLossHook {
    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        if !cx.clock.every_n_iters(self.interval, 0) {
            return cx.pass();
        }
        let invalid = step.outputs.vars.iter().find(|(name, v)| name.contains("loss") && !v.is_finite());
        if let Some((name, value)) = invalid {
            let (epoch, iter) = (cx.clock.current_epoch(), cx.clock.iter);
            return Err(format!("`{name}` became {value} in epoch {epoch}, iteration {iter}").into());
        }
        Ok(())
    }
}

register! {
    /// Ends the run with an error when a loss is NaN or infinite.
    dyn Hook, "CheckInvalidLossHook" => CheckInvalidLossHook
}

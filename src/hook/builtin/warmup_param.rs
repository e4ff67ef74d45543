//! Lets a number of a layer grow from 0: the probability of a dropout, of a dropped path.

use crate::plugin::prelude::*;

/// Sets `param_name` of the module `module_name` to its configured value times `min(1, iter / warm-up)`, before each
/// iteration (after mmpretrain's hook). A function of progress: there is nothing to keep.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct WarmupParamHook {
    /// The number: `p`.
    param_name: String,
    /// The module's path: `backbone.dropout`.
    module_name: String,
    /// Epochs until the value is reached.
    #[schemars(range(min = 1))]
    warmup_epochs: u64,
    #[serde(skip)]
    original: Option<f64>,
}

impl WarmupParamHook {
    /// Warms `param_name` of `module_name` up over so many epochs.
    pub fn new(param_name: &str, module_name: &str, warmup_epochs: u64) -> Self {
        Self { param_name: param_name.into(), module_name: module_name.into(), warmup_epochs, original: None }
    }

    fn set(&self, cx: &mut Ctx<'_>, iter: u64) {
        let warmup = self.warmup_epochs.saturating_mul(cx.progress.epoch_len) as f64;
        if let (Some(original), Some(slot)) =
            (self.original, cx.model.number_mut(&self.module_name, &self.param_name))
        {
            *slot = original * (iter as f64 / warmup.max(1.0)).min(1.0);
        }
    }
}

impl Hook for WarmupParamHook {
    fn check_options(&self, _: &BuildCx) -> Result<()> {
        check_ranges(self)
    }

    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        if cx.info.placeholders {
            return Ok(());
        }
        let Some(slot) = cx.model.number_mut(&self.module_name, &self.param_name) else {
            return Err(
                format!("the model has no number `{}` in `{}`", self.param_name, self.module_name).into()
            );
        };
        self.original.get_or_insert(*slot);
        Ok(())
    }

    fn before_train_iter(&mut self, cx: &mut Ctx<'_>, _batch: &mut Batch) -> HookResult {
        self.set(cx, cx.progress.iter);
        Ok(())
    }

    /// The model that the run leaves behind has the configured value.
    fn after_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.set(cx, u64::MAX);
        Ok(())
    }

    fn on_error(&mut self, cx: &mut Ctx<'_>, _error: &Error) -> HookResult {
        self.set(cx, u64::MAX);
        Ok(())
    }
}

register! {
    /// Lets a number of a layer (a dropout's `p`) grow from 0 to its value over some epochs.
    dyn Hook, "WarmupParamHook" => WarmupParamHook
}

//! Hooks of MMEngine and MMPretrain that have nothing to do here: on a CPU, without a window. They say so, once.

use crate::plugin::prelude::*;

/// Empties the cache of a GPU's allocator: there is none.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EmptyCacheHook {
    /// Before each epoch.
    pub before_epoch: bool,
    /// After each epoch.
    pub after_epoch: bool,
    /// After each iteration.
    pub after_iter: bool,
}

impl Default for EmptyCacheHook {
    fn default() -> Self {
        Self { before_epoch: false, after_epoch: true, after_iter: false }
    }
}

impl Hook for EmptyCacheHook {
    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        cx.log.info(
            "EmptyCacheHook: there is no allocator cache to empty, buffers are reused from step to step",
        );
        Ok(())
    }
}

register! {
    /// Accepted for MMEngine's configs: there is no allocator cache to empty.
    dyn Hook, "EmptyCacheHook" => EmptyCacheHook
}

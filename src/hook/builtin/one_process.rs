//! Hooks of MMEngine and MMPretrain that have nothing to do here: in one process, on a CPU, without a window. They say
//! so, once.

use crate::plugin::prelude::*;

/// Averages buffers over processes: there is one.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SyncBuffersHook {}

impl Hook for SyncBuffersHook {
    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        cx.log.info("SyncBuffersHook: the run has one process, there is nothing to synchronise");
        Ok(())
    }
}

register! {
    /// Accepted for MMEngine's configs: a run of one process has no buffers to synchronise.
    dyn Hook, "SyncBuffersHook" => SyncBuffersHook
}

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

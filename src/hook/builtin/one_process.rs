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

/// Draws predictions on pictures: nothing here draws.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VisualizationHook {
    /// Accepted as false, which is the default: nothing here draws.
    pub enable: bool,
    /// Samples from one picture to the next.
    #[schemars(range(min = 1))]
    pub interval: u64,
    /// Whether to open a window.
    pub show: bool,
    /// A folder for the pictures.
    pub out_dir: Option<String>,
}

impl Default for VisualizationHook {
    fn default() -> Self {
        Self { enable: false, interval: 5000, show: false, out_dir: None }
    }
}

impl Hook for VisualizationHook {
    fn before_run(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        if self.enable {
            cx.log.warn("VisualizationHook: no pictures are drawn, `enable: true` has no effect");
        } else {
            cx.log.info("VisualizationHook: it is not enabled, and no pictures would be drawn");
        }
        Ok(())
    }
}

register! {
    /// Accepted for MMPretrain's configs: no pictures are drawn.
    dyn Hook, "VisualizationHook" => VisualizationHook
}

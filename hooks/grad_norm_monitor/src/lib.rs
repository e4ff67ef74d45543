//! Watches the norm of the gradients: in the message hub as `grad_norm_raw`, with a warning, or no update, when it
//! explodes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shanty::plugin::prelude::*;

/// Compares the norm of all gradients, before clipping, with its geometric mean so far.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GradNormMonitor {
    /// The weight of the newest norm in the mean.
    #[schemars(range(min = 0.0, max = 1.0))]
    momentum: f64,
    /// How many times the mean a norm must be to be told.
    #[schemars(range(min = 1.0))]
    spike: f64,
    /// Updates before the first verdict.
    warmup: u64,
    /// Whether an update with such a norm, or one that is not finite, is skipped.
    skip: bool,
    #[serde(skip)]
    state: State,
}

impl Default for GradNormMonitor {
    fn default() -> Self {
        Self { momentum: 0.05, spike: 10.0, warmup: 20, skip: false, state: State::default() }
    }
}

/// What a checkpoint keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct State {
    updates: u64,
    spikes: u64,
    ln_mean: f64,
}

impl GradNormMonitor {
    /// Norms so far that were told.
    pub fn spikes(&self) -> u64 {
        self.state.spikes
    }

    /// Whether this norm is a spike; if not, it enters the mean.
    fn judge(&mut self, norm: f64) -> bool {
        let State { updates, spikes, ln_mean } = &mut self.state;
        *updates += 1;
        let ln = norm.max(f64::MIN_POSITIVE).ln();
        if !norm.is_finite() || (*updates > self.warmup && ln > *ln_mean + self.spike.ln()) {
            *spikes += 1;
            return true;
        }
        let weight = if *updates == 1 { 1.0 } else { self.momentum };
        *ln_mean += weight * (ln - *ln_mean);
        false
    }
}

impl Hook for GradNormMonitor {
    fn order(&self) -> HookOrder {
        HookOrder::default().at(&[Point::AfterBackward]).writes(Point::AfterBackward, "train/grad_norm_raw")
    }

    fn state(&mut self) -> Option<&mut dyn HookState> {
        Some(&mut self.state)
    }

    fn after_backward(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        let norm = cx.model.norm(Set::Grads, 2.0, &shanty::params::all)?;
        cx.message_hub.update_scalar(Mode::Train, "grad_norm_raw", norm);
        if self.judge(norm) {
            let usual = self.state.ln_mean.exp();
            cx.log.warn(format_args!("the norm of the gradients is {norm:.4}, usual is {usual:.4}"));
            if self.skip {
                cx.skip_update("the gradients exploded");
            }
        }
        Ok(())
    }
}

register! {
    /// Watches the norm of the gradients: warns of spikes, and skips their updates if asked to.
    dyn Hook, "GradNormMonitor" => GradNormMonitor
}

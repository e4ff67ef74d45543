//! The learning rate of the last part of a training whose weights are averaged: down (or up) to a constant, as
//! PyTorch's SWALR.
//!
//! Put it beside `EMAHook` with `ema_type: StochasticWeightAverage` and the same `begin_epoch`.

use schemars::JsonSchema;
use serde::Deserialize;
use shanty::plugin::prelude::*;

/// From `begin_epoch` on moves every learning rate from what its schedules give to `swa_lr`, over `anneal_epochs`.
///
/// A function of progress: the scheduled value is put back after each step, so that schedules and checkpoints never see
/// another.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct SwaSchedule {
    /// The learning rate while weights are averaged.
    #[schemars(range(min = 0.0))]
    swa_lr: f64,
    /// The first epoch, from 1, with another learning rate.
    #[schemars(range(min = 1))]
    begin_epoch: u64,
    /// Epochs until `swa_lr` is reached.
    #[serde(default = "anneal_epochs")]
    anneal_epochs: u64,
    /// The way there.
    #[serde(default)]
    anneal_strategy: Anneal,
    /// The scheduled values while the hook's own are in place.
    #[serde(skip)]
    scheduled: Vec<f64>,
}

/// The way from one learning rate to the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Anneal {
    /// Half a cosine.
    #[default]
    Cos,
    /// A straight line.
    Linear,
}

fn anneal_epochs() -> u64 {
    10
}

impl SwaSchedule {
    /// The share of `swa_lr` before this iteration, 0 to 1; `None` before it begins.
    fn share(&self, progress: &Progress) -> Option<f64> {
        let begin = (self.begin_epoch - 1) * progress.epoch_len;
        let done = progress.iter.checked_sub(begin)? as f64;
        let t = (done / (self.anneal_epochs * progress.epoch_len).max(1) as f64).min(1.0);
        Some(match self.anneal_strategy {
            _ if self.anneal_epochs == 0 => 1.0,
            Anneal::Cos => (1.0 - (std::f64::consts::PI * t).cos()) / 2.0,
            Anneal::Linear => t,
        })
    }

    fn put_back(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        if let Some(optim) = &mut cx.optim {
            for (group, lr) in optim.groups_mut().iter_mut().zip(self.scheduled.drain(..)) {
                group.set("lr", lr)?;
            }
        }
        Ok(())
    }
}

impl Hook for SwaSchedule {
    fn priority(&self) -> Priority {
        Priority::HIGHEST
    }

    fn order(&self) -> HookOrder {
        // Who records the learning rate records the one that is used.
        HookOrder::default().before("RuntimeInfoHook").before("ParamSchedulerHook")
    }

    fn before_train_iter(&mut self, cx: &mut Ctx<'_>, _batch: &mut Batch) -> HookResult {
        let Some(share) = self.share(cx.progress) else { return cx.no_op() };
        if let Some(optim) = &mut cx.optim {
            self.scheduled.clear();
            for group in optim.groups_mut() {
                let lr = group.lr();
                self.scheduled.push(lr);
                group.set("lr", lr + share * (self.swa_lr - lr))?;
            }
        }
        Ok(())
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        if self.scheduled.is_empty() { cx.no_op() } else { self.put_back(cx) }
    }

    fn on_error(&mut self, cx: &mut Ctx<'_>, _error: &Error) -> HookResult {
        self.put_back(cx)
    }
}

register! {
    /// Moves the learning rate to a constant for an average of weights, as PyTorch's SWALR.
    dyn Hook, "SwaSchedule" => SwaSchedule
}

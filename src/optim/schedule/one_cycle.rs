//! One cycle up and down (Smith & Topin 2019), as PyTorch's OneCycleLR.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Schedule;
use crate::base::{Error, Result};

/// From `eta_max / div_factor` up to `eta_max`, then down to a `final_div_factor`-th of where it began.
///
/// What earlier schedules left, and the base value, are overwritten, as in MMEngine.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct OneCycle {
    /// The greatest value.
    #[schemars(range(min = 0.0))]
    pub eta_max: f64,
    /// Steps of the cycle; the schedule's length if absent.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub total_steps: Option<u64>,
    /// The part of the cycle that goes up.
    #[serde(default = "rising")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub pct_start: f64,
    /// The shape of the ways up and down.
    #[serde(default)]
    pub anneal_strategy: Anneal,
    /// The greatest value divided by the first.
    #[serde(default = "twenty_five")]
    #[schemars(range(min = 1e-12))]
    pub div_factor: f64,
    /// The first value divided by the last.
    #[serde(default = "ten_thousand")]
    #[schemars(range(min = 1e-12))]
    pub final_div_factor: f64,
    /// Down to the first value in as many steps as up, and only then to the last.
    #[serde(default)]
    pub three_phase: bool,
}

/// How a way from one value to another is shaped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Anneal {
    /// Half a wave of a cosine.
    #[default]
    Cos,
    /// A straight line.
    Linear,
}

impl Anneal {
    fn between(self, from: f64, to: f64, part: f64) -> f64 {
        match self {
            Self::Cos => to + (from - to) * (1.0 + (PI * part).cos()) / 2.0,
            Self::Linear => from + (to - from) * part,
        }
    }
}

fn rising() -> f64 {
    0.3
}
fn twenty_five() -> f64 {
    25.0
}
fn ten_thousand() -> f64 {
    1e4
}

impl OneCycle {
    /// The phases of a cycle of so many steps: last step, first value, last value.
    fn phases(&self, steps: u64) -> Vec<(f64, f64, f64)> {
        let (total, top) = (steps as f64, self.eta_max);
        let first = top / self.div_factor;
        let last = first / self.final_div_factor;
        let up = self.pct_start * total - 1.0;
        match self.three_phase {
            false => vec![(up, first, top), (total - 1.0, top, last)],
            true => vec![
                (up, first, top),
                (2.0 * self.pct_start * total - 2.0, top, first),
                (total - 1.0, first, last),
            ],
        }
    }
}

impl Schedule for OneCycle {
    fn at(&self, value: f64, _base: f64, t: u64, n: u64) -> f64 {
        let (t, mut begin, mut reached) = (t as f64, 0.0, value);
        for (end, from, to) in self.phases(self.total_steps.unwrap_or(n)) {
            let part = if end > begin { ((t - begin) / (end - begin)).clamp(0.0, 1.0) } else { 1.0 };
            reached = self.anneal_strategy.between(from, to, part);
            if t <= end {
                break;
            }
            begin = end;
        }
        reached
    }

    fn to_iters(&mut self, epoch_len: u64) {
        self.total_steps = self.total_steps.map(|steps| steps.saturating_mul(epoch_len));
    }

    fn is_factor(&self) -> bool {
        false
    }

    fn check_length(&self, n: u64) -> Result<()> {
        match self.total_steps.filter(|total| *total < n) {
            Some(total) => Err(Error::config(format!(
                "the cycle has {total} steps and the schedule {n}: leave out `total_steps`, or give an `end`"
            ))),
            None => Ok(()),
        }
    }
}

crate::register! {
    /// Learning rate in one cycle up to eta_max and down again.
    dyn Schedule, "OneCycleLR" => OneCycle
}
crate::register! {
    /// Any number of the optimizer, `param_name`, in one cycle up to eta_max and down again.
    dyn Schedule, "OneCycleParamScheduler" => OneCycle
}

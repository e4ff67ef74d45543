//! Schedules that fall in steps or by a constant ratio.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Schedule;
use super::family::family;

/// Times `gamma` every `step_size` steps.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Step {
    /// Steps between two falls.
    #[schemars(range(min = 1))]
    pub step_size: u64,
    /// Factor at each fall.
    #[serde(default = "tenth")]
    #[schemars(range(min = 0.0))]
    pub gamma: f64,
}

fn tenth() -> f64 {
    0.1
}

impl Schedule for Step {
    fn at(&self, value: f64, _base: f64, t: u64, _n: u64) -> f64 {
        value * self.gamma.powi(i32::try_from(t / self.step_size).unwrap_or(i32::MAX))
    }

    fn to_iters(&mut self, epoch_len: u64) {
        self.step_size = self.step_size.saturating_mul(epoch_len.max(1));
    }
}

/// Times `gamma` at each step.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Exponential {
    /// Factor of a step; of an epoch when it is converted to iterations.
    #[schemars(range(min = 0.0))]
    pub gamma: f64,
    #[serde(skip, default = "whole")]
    unit: f64,
}

fn whole() -> f64 {
    1.0
}

impl Schedule for Exponential {
    fn at(&self, value: f64, _base: f64, t: u64, _n: u64) -> f64 {
        value * self.gamma.powf(t as f64 / self.unit)
    }

    fn to_iters(&mut self, epoch_len: u64) {
        self.unit = epoch_len.max(1) as f64;
    }
}

/// A smaller value until the last step, which restores it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Constant {
    /// Factor before the last step.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub factor: f64,
}

impl Default for Constant {
    fn default() -> Self {
        Self { factor: 1.0 / 3.0 }
    }
}

impl Schedule for Constant {
    fn at(&self, value: f64, _base: f64, t: u64, n: u64) -> f64 {
        if t + 1 < n { value * self.factor } else { value }
    }
}

/// `m + (v - m)·(1 - t/T)^power`, to the floor at the last step.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Poly {
    /// The value at the last step; none is below it.
    #[schemars(range(min = 0.0))]
    pub eta_min: f64,
    /// How the curve bends.
    #[schemars(range(min = 0.0))]
    pub power: f64,
}

impl Default for Poly {
    fn default() -> Self {
        Self { eta_min: 0.0, power: 1.0 }
    }
}

impl Schedule for Poly {
    fn at(&self, value: f64, _base: f64, t: u64, n: u64) -> f64 {
        let left = if n > 1 { 1.0 - t as f64 / (n - 1) as f64 } else { 1.0 };
        self.eta_min + (value - self.eta_min) * left.powf(self.power)
    }

    fn is_factor(&self) -> bool {
        self.eta_min == 0.0
    }
}

family! {
    Step, "StepLR", "StepMomentum", "StepParamScheduler",
    "times gamma every step_size steps."
}
family! {
    Exponential, "ExponentialLR", "ExponentialMomentum", "ExponentialParamScheduler",
    "times gamma at each step; converted to iterations, gamma is spread over an epoch."
}
family! {
    Constant, "ConstantLR", "ConstantMomentum", "ConstantParamScheduler",
    "made smaller until the last step, which restores it."
}
family! {
    Poly, "PolyLR", "PolyMomentum", "PolyParamScheduler",
    "by a power of the time that is left, down to eta_min."
}

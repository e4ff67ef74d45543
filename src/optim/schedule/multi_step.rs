//! Step decay at milestones.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Schedule;
use super::family::family;

/// Times `gamma` at each milestone. Milestones count from `begin`; one that stands twice counts twice.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct MultiStep {
    /// Steps at which the value falls.
    pub milestones: Vec<u64>,
    /// Factor at each milestone.
    #[serde(default = "tenth")]
    #[schemars(range(min = 0.0))]
    pub gamma: f64,
}

fn tenth() -> f64 {
    0.1
}

impl Schedule for MultiStep {
    fn at(&self, value: f64, _base: f64, t: u64, _n: u64) -> f64 {
        let passed = self.milestones.iter().filter(|m| **m <= t).count();
        value * self.gamma.powi(passed as i32)
    }

    fn to_iters(&mut self, epoch_len: u64) {
        self.milestones.iter_mut().for_each(|m| *m = m.saturating_mul(epoch_len));
    }
}

family! {
    MultiStep, "MultiStepLR", "MultiStepMomentum", "MultiStepParamScheduler",
    "times gamma at each milestone."
}

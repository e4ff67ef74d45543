//! Linear warm-up (or cool-down) of a factor.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Schedule;
use super::family::family;

/// The factor goes from `start_factor` at step 0 to `end_factor` at the last step.
///
/// ```
/// use shanty::optim::schedule::{Linear, Schedule};
/// let warm = Linear { start_factor: 0.1, end_factor: 1.0 };
/// let lr: Vec<f64> = (0..3).map(|t| warm.at(0.1, 0.1, t, 3)).collect();
/// assert!((lr[0] - 0.01).abs() < 1e-12 && (lr[1] - 0.055).abs() < 1e-12 && lr[2] == 0.1);
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Linear {
    /// Factor at the first step.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub start_factor: f64,
    /// Factor at the last step.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub end_factor: f64,
}

impl Default for Linear {
    fn default() -> Self {
        Self { start_factor: 1.0 / 3.0, end_factor: 1.0 }
    }
}

impl Schedule for Linear {
    fn at(&self, value: f64, _base: f64, t: u64, n: u64) -> f64 {
        if t + 1 >= n {
            // A schedule of one step is at its end.
            return value * self.end_factor;
        }
        value * (self.start_factor + (self.end_factor - self.start_factor) * t as f64 / (n - 1) as f64)
    }
}

family! {
    Linear, "LinearLR", "LinearMomentum", "LinearParamScheduler",
    "times a factor that goes from start_factor to end_factor: a warm-up."
}

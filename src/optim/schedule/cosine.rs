//! Cosine annealing (Loshchilov & Hutter 2017, without restarts).

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Schedule;
use super::family::family;
use crate::base::{Error, Result};
use crate::registry::BuildCx;

/// `m + (v - m)·(1 + cos(π·t/T)) / 2`, from the value `v` that the earlier schedules left, to the floor `m`.
///
/// With T equal to the length (the default) the floor itself is one step beyond the last, as in MMEngine.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CosineAnnealing {
    /// Steps to the floor; the schedule's length if absent.
    #[serde(rename = "T_max")]
    #[schemars(range(min = 1))]
    pub t_max: Option<u64>,
    /// The floor as a value; 0 if both are absent.
    #[schemars(range(min = 0.0))]
    pub eta_min: Option<f64>,
    /// The floor as a part of the base value; not together with `eta_min`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub eta_min_ratio: Option<f64>,
}

impl Schedule for CosineAnnealing {
    fn at(&self, value: f64, base: f64, t: u64, n: u64) -> f64 {
        let floor = self.eta_min.or(self.eta_min_ratio.map(|r| r * base)).unwrap_or(0.0);
        let period = self.t_max.unwrap_or(n) as f64;
        floor + (value - floor) * (1.0 + (PI * t as f64 / period).cos()) / 2.0
    }

    fn to_iters(&mut self, epoch_len: u64) {
        self.t_max = self.t_max.map(|t| t.saturating_mul(epoch_len));
    }

    fn is_factor(&self) -> bool {
        self.eta_min.or(self.eta_min_ratio).unwrap_or(0.0) == 0.0
    }

    fn check(&self) -> Result<()> {
        one_floor(self.eta_min, self.eta_min_ratio)
    }
}

/// A floor is a value, or a part of the base value.
pub(super) fn one_floor(value: Option<f64>, ratio: Option<f64>) -> Result<()> {
    if value.is_some() && ratio.is_some() {
        return Err(Error::config("give `eta_min` or `eta_min_ratio`, not both"));
    }
    Ok(())
}

family! {
    CosineAnnealing, "CosineAnnealingLR", "CosineAnnealingMomentum", "CosineAnnealingParamScheduler",
    "by cosine annealing from its current value to eta_min."
}
crate::register! {
    /// Weight decay by cosine annealing from its current value to eta_min; where it is 0 it stays 0 (MMPretrain's).
    dyn Schedule, "CosineAnnealingWeightDecay" => fn Decaying::from_config
}

/// The annealing, which leaves a base value of 0 alone.
struct Decaying(CosineAnnealing);

impl Decaying {
    fn from_config(shape: CosineAnnealing, _: &mut BuildCx) -> Result<Self> {
        Ok(Self(shape))
    }
}

impl Schedule for Decaying {
    fn at(&self, value: f64, base: f64, t: u64, n: u64) -> f64 {
        if base == 0.0 { value } else { self.0.at(value, base, t, n) }
    }

    fn to_iters(&mut self, epoch_len: u64) {
        self.0.to_iters(epoch_len);
    }

    fn is_factor(&self) -> bool {
        self.0.is_factor()
    }

    fn check(&self) -> Result<()> {
        self.0.check()
    }
}

//! Cosine annealing (Loshchilov & Hutter 2017, without restarts).

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Curve;
use crate::base::{Error, Result};

/// `m + (v - m)·(1 + cos(π·t/T)) / 2`, from the value `v` that the earlier schedules left, to the floor `m`.
///
/// With T equal to the length (the default) the floor itself is one step beyond the last, as in the reference.
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

impl Curve for CosineAnnealing {
    fn at(&self, value: f64, base: f64, t: u64, n: u64) -> f64 {
        let floor = self.eta_min.or(self.eta_min_ratio.map(|r| r * base)).unwrap_or(0.0);
        let period = self.t_max.unwrap_or(n) as f64;
        floor + (value - floor) * (1.0 + (PI * t as f64 / period).cos()) / 2.0
    }

    fn to_iters(&mut self, epoch_len: u64) {
        self.t_max = self.t_max.map(|t| t.saturating_mul(epoch_len));
    }
}

crate::register! {
    /// Cosine annealing from the current learning rate to eta_min.
    dyn Curve, "CosineAnnealingLR" => |curve: CosineAnnealing, _cx: &mut crate::registry::BuildCx| -> Result<Box<dyn Curve>> {
        if curve.eta_min.is_some() && curve.eta_min_ratio.is_some() {
            return Err(Error::config("give `eta_min` or `eta_min_ratio`, not both"));
        }
        Ok(Box::new(curve))
    }
}

//! Cosine annealing with restarts (Loshchilov & Hutter 2017).

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Schedule;
use super::cosine::one_floor;
use super::family::family;
use crate::base::{Error, Result};

/// `m + (w·b - m)·(1 + cos(π·s/P)) / 2` at step `s` of a period of `P` steps with weight `w`, from the base value `b`.
///
/// After the last period the value stays where it is. What earlier schedules left is overwritten, as in MMEngine.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct CosineRestart {
    /// Steps of each period.
    #[schemars(length(min = 1), inner(range(min = 1)))]
    pub periods: Vec<u64>,
    /// What the base value is multiplied by at the beginning of each period; as many as there are periods.
    #[serde(default = "once")]
    #[schemars(inner(range(min = 0.0)))]
    pub restart_weights: Vec<f64>,
    /// The floor as a value.
    #[serde(default)]
    #[schemars(range(min = 0.0), example = 0.001)]
    pub eta_min: Option<f64>,
    /// The floor as a part of the base value; this or `eta_min`.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub eta_min_ratio: Option<f64>,
}

fn once() -> Vec<f64> {
    vec![1.0]
}

impl Schedule for CosineRestart {
    fn at(&self, value: f64, base: f64, t: u64, _n: u64) -> f64 {
        let floor = self.eta_min.or(self.eta_min_ratio.map(|r| r * base)).unwrap_or(0.0);
        let mut at = (value, t);
        for (period, weight) in self.periods.iter().zip(&self.restart_weights) {
            let (_, since) = at;
            let step = since.min(period.saturating_sub(1)) as f64;
            let top = base * weight;
            let now = floor + (top - floor) * (1.0 + (PI * step / *period as f64).cos()) / 2.0;
            if since < *period {
                return now;
            }
            at = (now, since - period);
        }
        at.0
    }

    fn to_iters(&mut self, epoch_len: u64) {
        self.periods.iter_mut().for_each(|period| *period = period.saturating_mul(epoch_len));
    }

    fn is_factor(&self) -> bool {
        false
    }

    fn check(&self) -> Result<()> {
        let (periods, weights) = (self.periods.len(), self.restart_weights.len());
        if periods != weights {
            return Err(Error::config(format!(
                "`restart_weights` has {weights} numbers for {periods} `periods`: give one for each"
            )));
        }
        if self.eta_min.is_none() && self.eta_min_ratio.is_none() {
            return Err(Error::config("give `eta_min` or `eta_min_ratio`: the floor of each period"));
        }
        one_floor(self.eta_min, self.eta_min_ratio)
    }
}

family! {
    CosineRestart, "CosineRestartLR", "CosineRestartMomentum", "CosineRestartParamScheduler",
    "by cosine annealing that begins again after each of its periods."
}

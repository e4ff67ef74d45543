//! Warm up, stay, come down (WSD; Hu et al. 2024, Hägele et al. 2024): a run can be lengthened before it comes down.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Schedule;
use super::family::family;
use crate::base::{Error, Result};

/// The factor rises for `warmup` steps, is 1, and falls in the last `decay` steps of the schedule.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct WarmupStableDecay {
    /// Steps until the factor is 1.
    #[serde(default)]
    pub warmup: u64,
    /// Steps at the end in which it falls.
    pub decay: u64,
    /// The factor at the first step of a warm-up.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub start_factor: f64,
    /// The factor that it falls to, one step beyond the last.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub end_factor: f64,
    /// How it falls.
    #[serde(default)]
    pub decay_type: Decay,
}

/// The way down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// A straight line.
    #[default]
    Linear,
    /// Half a wave of a cosine.
    Cosine,
    /// `1 - √u`: fast at first.
    OneMinusSqrt,
}

impl Schedule for WarmupStableDecay {
    fn at(&self, value: f64, _base: f64, t: u64, n: u64) -> f64 {
        if t < self.warmup {
            return value * (self.start_factor + (1.0 - self.start_factor) * t as f64 / self.warmup as f64);
        }
        let falling = t.saturating_sub(n.saturating_sub(self.decay));
        if falling == 0 || self.decay == 0 {
            return value;
        }
        let part = falling as f64 / self.decay as f64;
        let left = match self.decay_type {
            Decay::Linear => 1.0 - part,
            Decay::Cosine => (1.0 + (PI * part).cos()) / 2.0,
            Decay::OneMinusSqrt => 1.0 - part.sqrt(),
        };
        value * (self.end_factor + (1.0 - self.end_factor) * left)
    }

    fn to_iters(&mut self, epoch_len: u64) {
        self.warmup = self.warmup.saturating_mul(epoch_len);
        self.decay = self.decay.saturating_mul(epoch_len);
    }

    fn check_length(&self, n: u64) -> Result<()> {
        let Self { warmup, decay, .. } = self;
        if warmup.saturating_add(*decay) > n {
            return Err(Error::config(format!(
                "a `warmup` of {warmup} steps and a `decay` of {decay} do not fit into the {n} of the schedule"
            )));
        }
        Ok(())
    }
}

family! {
    WarmupStableDecay, "WarmupStableDecayLR", "WarmupStableDecayMomentum", "WarmupStableDecayParamScheduler",
    "times a factor that rises, stays 1, and falls in the last steps (WSD)."
}

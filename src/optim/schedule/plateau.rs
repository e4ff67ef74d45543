//! Less, when a metric has stopped getting better.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::family::family;
use super::{Schedule, Score};
use crate::base::{BoxError, Error, Record, Result};

/// Times `factor` after more than `patience` validations in a row without a better `monitor`, after PyTorch's and
/// MMEngine's ReduceOnPlateau. Validations outside of `begin..end` do not count.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ReduceOnPlateau {
    /// The metric to watch: `accuracy/top1`, `val_loss`.
    #[schemars(example = &"val_loss")]
    pub monitor: String,
    /// Whether more or less of it is better; if absent the metric says it, and else less is.
    pub rule: Option<Rule>,
    /// What the value is multiplied by.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub factor: f64,
    /// Validations without a better value that are waited for.
    pub patience: u64,
    /// By how much a better value must be better.
    #[schemars(range(min = 0.0))]
    pub threshold: f64,
    /// Whether the threshold is a part of the best value, or a difference to it.
    pub threshold_rule: ThresholdRule,
    /// Validations after a reduction that do not count as bad.
    pub cooldown: u64,
    /// The value that it does not fall below.
    #[schemars(range(min = 0.0))]
    pub min_value: f64,
    /// A reduction by less than this is none.
    #[schemars(range(min = 0.0))]
    pub eps: f64,
    #[serde(skip)]
    state: State,
}

/// Which way a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Greater is better.
    Greater,
    /// Smaller is better.
    Less,
}

/// What the threshold means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ThresholdRule {
    /// A part of the best value.
    Rel,
    /// A difference to the best value.
    Abs,
}

impl Default for ReduceOnPlateau {
    fn default() -> Self {
        Self {
            monitor: "loss".to_owned(),
            rule: None,
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
            threshold_rule: ThresholdRule::Rel,
            cooldown: 0,
            min_value: 0.0,
            eps: 1e-8,
            state: State::default(),
        }
    }
}

/// What a checkpoint keeps of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct State {
    best: Option<f64>,
    bad: u64,
    /// Validations of the cooldown that are left.
    cooling: u64,
    reductions: u64,
}

impl ReduceOnPlateau {
    fn is_better(&self, score: f64, greater: bool) -> bool {
        let Some(best) = self.state.best else { return score.is_finite() };
        let goal = match (self.threshold_rule, greater) {
            (ThresholdRule::Rel, false) => best * (1.0 - self.threshold),
            (ThresholdRule::Rel, true) => best * (1.0 + self.threshold),
            (ThresholdRule::Abs, false) => best - self.threshold,
            (ThresholdRule::Abs, true) => best + self.threshold,
        };
        if greater { score > goal } else { score < goal }
    }
}

impl Schedule for ReduceOnPlateau {
    fn at(&self, value: f64, _base: f64, _t: u64, _n: u64) -> f64 {
        let mut value = value;
        for _ in 0..self.state.reductions {
            let less = (value * self.factor).max(self.min_value);
            if value - less <= self.eps {
                break;
            }
            value = less;
        }
        value
    }

    fn is_factor(&self) -> bool {
        self.min_value == 0.0
    }

    fn check(&self) -> Result<()> {
        if self.factor >= 1.0 {
            return Err(Error::config("`factor` must be below 1: the value is to become less"));
        }
        Ok(())
    }

    fn watches(&self) -> Option<&str> {
        Some(&self.monitor)
    }

    fn observe(&mut self, score: Score) {
        let greater = self.rule.map_or(score.greater.unwrap_or(false), |rule| rule == Rule::Greater);
        if self.is_better(score.value, greater) {
            (self.state.best, self.state.bad) = (Some(score.value), 0);
        } else {
            self.state.bad += 1;
        }
        if self.state.cooling > 0 {
            (self.state.cooling, self.state.bad) = (self.state.cooling - 1, 0);
        }
        if self.state.bad > self.patience {
            self.state =
                State { bad: 0, cooling: self.cooldown, reductions: self.state.reductions + 1, ..self.state };
        }
    }

    fn state(&self) -> Result<Option<Record>, BoxError> {
        Record::of(&self.state).map(Some)
    }

    fn load_state(&mut self, state: &Record) -> Result<(), BoxError> {
        self.state = state.read()?;
        Ok(())
    }
}

family! {
    ReduceOnPlateau, "ReduceOnPlateauLR", "ReduceOnPlateauMomentum", "ReduceOnPlateauParamScheduler",
    "times a factor whenever a metric of the validation has stopped getting better."
}

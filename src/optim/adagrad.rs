//! Adagrad (Duchi, Hazan & Singer 2011), as PyTorch defines it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Optimizer, ParamStep};
use crate::base::{Elem, Result};
use crate::kernels::walk;

/// `g += wd·w; s += g²; w -= lr / (1 + t·lr_decay) · g / (√s + eps)` after `t` updates.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Adagrad {
    /// The learning rate that schedules start from.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// The learning rate is divided by one plus this times the number of updates so far.
    #[schemars(range(min = 0.0))]
    pub lr_decay: f64,
    /// L2 penalty: this much of each weight is added to its gradient.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// What the sums of squares begin with.
    #[schemars(range(min = 0.0))]
    pub initial_accumulator_value: f64,
    /// Added to the denominator.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
}

impl Default for Adagrad {
    fn default() -> Self {
        Self { lr: 0.01, lr_decay: 0.0, weight_decay: 0.0, initial_accumulator_value: 0.0, eps: 1e-10 }
    }
}

impl Optimizer for Adagrad {
    fn numbers(&mut self) -> Vec<(&'static str, &mut f64)> {
        vec![
            ("lr", &mut self.lr),
            ("lr_decay", &mut self.lr_decay),
            ("weight_decay", &mut self.weight_decay),
            ("eps", &mut self.eps),
        ]
    }

    fn state(&self) -> &'static [&'static str] {
        &["sum"]
    }

    fn step(&self, mut p: ParamStep<'_>) -> Result<()> {
        let [sum] = p.state()?;
        if p.steps == 0 {
            sum.fill(self.initial_accumulator_value as Elem);
        }
        let rate = (self.lr / (1.0 + p.steps as f64 * self.lr_decay)) as Elem;
        let [decay, eps] = [self.weight_decay, self.eps].map(|v| v as Elem);
        walk(p.value, p.grad, [sum], move |w, g, [s]| {
            let g = g + decay * w;
            let s = s + g * g;
            (w - rate * g / (s.sqrt() + eps), [s])
        });
        Ok(())
    }
}

crate::register! {
    /// Adagrad (Duchi, Hazan & Singer 2011): steps divided by the root of the sum of all squared gradients.
    dyn Optimizer, "Adagrad" => Adagrad
}

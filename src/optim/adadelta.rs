//! Adadelta (Zeiler 2012), as PyTorch defines it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Optimizer, ParamStep};
use crate::base::{Elem, Result};
use crate::kernels::walk;

/// `g += wd·w; s = ρ·s + (1-ρ)·g²; d = √(a + eps) / √(s + eps) · g; a = ρ·a + (1-ρ)·d²; w -= lr·d`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Adadelta {
    /// The learning rate that schedules start from.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Decay ρ of the running means of the squares of gradients and of steps.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub rho: f64,
    /// Added below both roots.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
    /// L2 penalty: this much of each weight is added to its gradient.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
}

impl Default for Adadelta {
    fn default() -> Self {
        Self { lr: 1.0, rho: 0.9, eps: 1e-6, weight_decay: 0.0 }
    }
}

impl Optimizer for Adadelta {
    fn numbers(&mut self) -> Vec<(&'static str, &mut f64)> {
        vec![
            ("lr", &mut self.lr),
            ("rho", &mut self.rho),
            ("eps", &mut self.eps),
            ("weight_decay", &mut self.weight_decay),
        ]
    }

    fn state(&self) -> &'static [&'static str] {
        &["square_avg", "acc_delta"]
    }

    fn step(&self, mut p: ParamStep<'_>) -> Result<()> {
        let state: [&mut [Elem]; 2] = p.state()?;
        let [lr, rho, new, eps, decay] =
            [self.lr, self.rho, 1.0 - self.rho, self.eps, self.weight_decay].map(|v| v as Elem);
        walk(p.value, p.grad, state, move |w, g, [s, a]| {
            let g = g + decay * w;
            let s = rho * s + new * g * g;
            let d = (a + eps).sqrt() / (s + eps).sqrt() * g;
            (w - lr * d, [s, rho * a + new * d * d])
        });
        Ok(())
    }
}

crate::register! {
    /// Adadelta (Zeiler 2012): steps in the unit of the weights, by running means of squared gradients and steps.
    dyn Optimizer, "Adadelta" => Adadelta
}

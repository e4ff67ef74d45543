//! Adamax (Kingma & Ba 2015), as PyTorch defines it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::adam::corrections;
use super::{Optimizer, ParamStep};
use crate::base::{Elem, Result};
use crate::kernels::walk;

/// `g += wd·w; m += (1-β₁)·(g - m); u = max(β₂·u, |g| + eps); w -= lr / (1 - β₁ᵗ) · m / u`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Adamax {
    /// The learning rate that schedules start from.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Decay of the running mean of the gradient and of its largest value.
    #[schemars(schema_with = "super::adam::betas")]
    pub betas: (f64, f64),
    /// Added to the size of the gradient.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
    /// L2 penalty: this much of each weight is added to its gradient.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
}

impl Default for Adamax {
    fn default() -> Self {
        Self { lr: 2e-3, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0 }
    }
}

impl Optimizer for Adamax {
    fn numbers(&mut self) -> Vec<(&'static str, &mut f64)> {
        vec![
            ("lr", &mut self.lr),
            ("beta1", &mut self.betas.0),
            ("beta2", &mut self.betas.1),
            ("eps", &mut self.eps),
            ("weight_decay", &mut self.weight_decay),
        ]
    }

    fn state(&self) -> &'static [&'static str] {
        &["exp_avg", "exp_inf"]
    }

    fn step(&self, mut p: ParamStep<'_>) -> Result<()> {
        let state: [&mut [Elem]; 2] = p.state()?;
        let rate = (self.lr / corrections(self.betas, p.steps).0) as Elem;
        let [new1, beta2, eps, decay] =
            [1.0 - self.betas.0, self.betas.1, self.eps, self.weight_decay].map(|v| v as Elem);
        walk(p.value, p.grad, state, move |w, g, [m, u]| {
            let g = g + decay * w;
            let m = m + new1 * (g - m);
            let (old, own) = (beta2 * u, g.abs() + eps);
            let u = if own > old || own.is_nan() { own } else { old };
            (w - rate * m / u, [m, u])
        });
        Ok(())
    }
}

crate::register! {
    /// Adamax (Kingma & Ba 2015): Adam with the largest recent gradient in the place of the mean square.
    dyn Optimizer, "Adamax" => Adamax
}

//! NAdam (Dozat 2016), as PyTorch defines it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::adam::corrections;
use super::{Optimizer, ParamStep};
use crate::base::{Elem, Result};
use crate::kernels::walk;

/// `μₜ = β₁ (1 - 0.96^(t·ψ) / 2); g += wd·w` (or `w *= 1 - lr·wd`)`; m, s` as Adam's;
/// `w -= lr / (√(s / (1 - β₂ᵗ)) + eps) · ((1-μₜ) / (1 - Πμ) · g + μₜ₊₁ / (1 - μₜ₊₁·Πμ) · m)`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NAdam {
    /// The learning rate that schedules start from.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Decay of the running means of the gradient and of its square.
    #[schemars(schema_with = "super::adam::betas")]
    pub betas: (f64, f64),
    /// Added to the denominator.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
    /// L2 penalty: added to the gradient.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Decay ψ of the momentum's way to its full size.
    #[schemars(range(min = 0.0))]
    pub momentum_decay: f64,
    /// Take the weight decay from the weight, as AdamW does, instead of adding it to the gradient.
    pub decoupled_weight_decay: bool,
}

impl Default for NAdam {
    fn default() -> Self {
        Self {
            lr: 2e-3,
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 0.0,
            momentum_decay: 4e-3,
            decoupled_weight_decay: false,
        }
    }
}

impl Optimizer for NAdam {
    fn numbers(&mut self) -> Vec<(&'static str, &mut f64)> {
        vec![
            ("lr", &mut self.lr),
            ("beta1", &mut self.betas.0),
            ("beta2", &mut self.betas.1),
            ("eps", &mut self.eps),
            ("weight_decay", &mut self.weight_decay),
            ("momentum_decay", &mut self.momentum_decay),
        ]
    }

    fn state(&self) -> &'static [&'static str] {
        &["exp_avg", "exp_avg_sq"]
    }

    /// PyTorch's `mu_product`.
    fn scalars(&self) -> usize {
        1
    }

    fn step(&self, mut p: ParamStep<'_>) -> Result<()> {
        let state: [&mut [Elem]; 2] = p.state()?;
        let t = (p.steps + 1) as f64;
        let mu = |t: f64| self.betas.0 * (1.0 - 0.5 * 0.96f64.powf(t * self.momentum_decay));
        let (mu, next) = (mu(t), mu(t + 1.0));
        let before = if p.steps == 0 { 1.0 } else { p.scalars.first().copied().unwrap_or(1.0) };
        let product = before * mu;
        p.scalars.iter_mut().for_each(|own| *own = product);
        let correct2 = corrections(self.betas, p.steps).1;
        let direct = (self.lr * (1.0 - mu) / (1.0 - product)) as Elem;
        let through = (self.lr * next / (1.0 - product * next)) as Elem;
        let (shrink, decay) = match self.decoupled_weight_decay {
            true => (1.0 - self.lr * self.weight_decay, 0.0),
            false => (1.0, self.weight_decay),
        };
        let [new1, beta2, new2, scale2, eps, decay, shrink] =
            [1.0 - self.betas.0, self.betas.1, 1.0 - self.betas.1, correct2.sqrt(), self.eps, decay, shrink]
                .map(|v| v as Elem);
        walk(p.value, p.grad, state, move |w, g, [m, s]| {
            let g = g + decay * w;
            let m = m + new1 * (g - m);
            let s = beta2 * s + new2 * g * g;
            (w * shrink - (direct * g + through * m) / (s.sqrt() / scale2 + eps), [m, s])
        });
        Ok(())
    }
}

crate::register! {
    /// NAdam (Dozat 2016): Adam that looks ahead along its momentum, as Nesterov's does.
    dyn Optimizer, "NAdam" => NAdam
}

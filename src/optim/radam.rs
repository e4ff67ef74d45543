//! RAdam (Liu et al. 2020), as PyTorch defines it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::adam::corrections;
use super::{Optimizer, ParamStep};
use crate::base::{Elem, Result};
use crate::kernels::walk;

/// Adam whose steps are not divided by the mean square before the variance of that can be told, `ρₜ > 5`, and are
/// scaled by `√((ρₜ-4)(ρₜ-2)ρ∞ / ((ρ∞-4)(ρ∞-2)ρₜ))` then.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RAdam {
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
    /// Take the weight decay from the weight, as AdamW does, instead of adding it to the gradient.
    pub decoupled_weight_decay: bool,
}

impl Default for RAdam {
    fn default() -> Self {
        Self { lr: 1e-3, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, decoupled_weight_decay: false }
    }
}

impl RAdam {
    /// The rectification of the update after `steps` others; `None` while there is too little to go by.
    fn rectified(&self, steps: u64) -> Option<f64> {
        let (b2, t) = (self.betas.1, (steps + 1) as f64);
        let limit = 2.0 / (1.0 - b2) - 1.0;
        let rho = limit - 2.0 * t * b2.powf(t) / (1.0 - b2.powf(t));
        let ratio = (rho - 4.0) * (rho - 2.0) * limit / ((limit - 4.0) * (limit - 2.0) * rho);
        (rho > 5.0).then(|| ratio.sqrt())
    }
}

impl Optimizer for RAdam {
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
        &["exp_avg", "exp_avg_sq"]
    }

    fn step(&self, mut p: ParamStep<'_>) -> Result<()> {
        let state: [&mut [Elem]; 2] = p.state()?;
        let (correct1, correct2) = corrections(self.betas, p.steps);
        let rectified = self.rectified(p.steps);
        let rate = (self.lr / correct1 * rectified.map_or(1.0, |r| r * correct2.sqrt())) as Elem;
        let (shrink, decay) = match self.decoupled_weight_decay {
            true => (1.0 - self.lr * self.weight_decay, 0.0),
            false => (1.0, self.weight_decay),
        };
        let [new1, beta2, new2, eps, decay, shrink] =
            [1.0 - self.betas.0, self.betas.1, 1.0 - self.betas.1, self.eps, decay, shrink]
                .map(|v| v as Elem);
        let divides = rectified.is_some();
        walk(p.value, p.grad, state, move |w, g, [m, s]| {
            let g = g + decay * w;
            let m = m + new1 * (g - m);
            let s = beta2 * s + new2 * g * g;
            let over = if divides { s.sqrt() + eps } else { 1.0 };
            (w * shrink - rate * m / over, [m, s])
        });
        Ok(())
    }
}

crate::register! {
    /// RAdam (Liu et al. 2020): Adam whose first steps are held back by how little is known of the mean square.
    dyn Optimizer, "RAdam" => RAdam
}

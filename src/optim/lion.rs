//! Lion (Chen et al. 2023).

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Optimizer, ParamStep};
use crate::base::{Elem, Result};
use crate::kernels::walk;

/// `w *= 1 - lr·wd; w -= lr · sign(β₁·m + (1-β₁)·g); m = β₂·m + (1-β₂)·g`; the sign of 0 is 0.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Lion {
    /// The learning rate that schedules start from: a third to a tenth of AdamW's.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Weight of the momentum in a step, and of the old momentum in the new.
    #[schemars(schema_with = "super::adam::betas")]
    pub betas: (f64, f64),
    /// Decoupled weight decay: three to ten times AdamW's.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
}

impl Default for Lion {
    fn default() -> Self {
        Self { lr: 1e-4, betas: (0.9, 0.99), weight_decay: 0.0 }
    }
}

impl Optimizer for Lion {
    fn numbers(&mut self) -> Vec<(&'static str, &mut f64)> {
        vec![
            ("lr", &mut self.lr),
            ("beta1", &mut self.betas.0),
            ("beta2", &mut self.betas.1),
            ("weight_decay", &mut self.weight_decay),
        ]
    }

    fn state(&self) -> &'static [&'static str] {
        &["exp_avg"]
    }

    fn step(&self, mut p: ParamStep<'_>) -> Result<()> {
        let (b1, b2) = self.betas;
        let [lr, b1, new1, b2, new2, shrink] =
            [self.lr, b1, 1.0 - b1, b2, 1.0 - b2, 1.0 - self.lr * self.weight_decay].map(|v| v as Elem);
        let state = p.state()?;
        walk(p.value, p.grad, state, move |w, g, [m]| {
            let mixed = b1 * m + new1 * g;
            let sign = if mixed == 0.0 { 0.0 } else { mixed.signum() };
            (w * shrink - lr * sign, [b2 * m + new2 * g])
        });
        Ok(())
    }
}

crate::register! {
    /// Lion (Chen et al. 2023): steps by the sign of the momentum, and decoupled weight decay.
    dyn Optimizer, "Lion" => Lion
}

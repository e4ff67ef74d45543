//! RMSprop (Tieleman & Hinton 2012), as PyTorch defines it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Optimizer, ParamStep};
use crate::base::{Elem, Result};
use crate::kernels::walk;

/// `g += wd·w; s = α·s + (1-α)·g²; u = g / (√s + eps)`, centered `√(s - a²)` with the running mean `a` of `g`;
/// `w -= lr·u`, with a momentum `b = μ·b + u; w -= lr·b`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RMSprop {
    /// The learning rate that schedules start from.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Decay α of the running mean of the squared gradient.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub alpha: f64,
    /// Added to the denominator.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
    /// L2 penalty: this much of each weight is added to its gradient.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Momentum μ: how much of the last step goes on.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub momentum: f64,
    /// Divide by the deviation of the gradient instead of its root mean square.
    pub centered: bool,
}

impl Default for RMSprop {
    fn default() -> Self {
        Self { lr: 0.01, alpha: 0.99, eps: 1e-8, weight_decay: 0.0, momentum: 0.0, centered: false }
    }
}

impl Optimizer for RMSprop {
    fn numbers(&mut self) -> Vec<(&'static str, &mut f64)> {
        vec![
            ("lr", &mut self.lr),
            ("alpha", &mut self.alpha),
            ("eps", &mut self.eps),
            ("weight_decay", &mut self.weight_decay),
            ("momentum", &mut self.momentum),
        ]
    }

    fn flags(&mut self) -> Vec<(&'static str, &mut bool)> {
        vec![("centered", &mut self.centered)]
    }

    fn state(&self) -> &'static [&'static str] {
        match (self.momentum != 0.0, self.centered) {
            (false, false) => &["square_avg"],
            (true, false) => &["square_avg", "momentum_buffer"],
            (false, true) => &["square_avg", "grad_avg"],
            (true, true) => &["square_avg", "grad_avg", "momentum_buffer"],
        }
    }

    fn step(&self, mut p: ParamStep<'_>) -> Result<()> {
        let [lr, alpha, new, eps, decay, mu] =
            [self.lr, self.alpha, 1.0 - self.alpha, self.eps, self.weight_decay, self.momentum]
                .map(|v| v as Elem);
        let squared = move |g: Elem, s: Elem| alpha * s + new * g * g;
        match (self.momentum != 0.0, self.centered) {
            (false, false) => {
                let state = p.state()?;
                walk(p.value, p.grad, state, move |w, g, [s]| {
                    let g = g + decay * w;
                    let s = squared(g, s);
                    (w - lr * g / (s.sqrt() + eps), [s])
                });
            }
            (true, false) => {
                let state = p.state()?;
                walk(p.value, p.grad, state, move |w, g, [s, b]| {
                    let g = g + decay * w;
                    let s = squared(g, s);
                    let b = mu * b + g / (s.sqrt() + eps);
                    (w - lr * b, [s, b])
                });
            }
            (false, true) => {
                let state = p.state()?;
                walk(p.value, p.grad, state, move |w, g, [s, a]| {
                    let g = g + decay * w;
                    let (s, a) = (squared(g, s), a + new * (g - a));
                    (w - lr * g / ((s - a * a).sqrt() + eps), [s, a])
                });
            }
            (true, true) => {
                let state = p.state()?;
                walk(p.value, p.grad, state, move |w, g, [s, a, b]| {
                    let g = g + decay * w;
                    let (s, a) = (squared(g, s), a + new * (g - a));
                    let b = mu * b + g / ((s - a * a).sqrt() + eps);
                    (w - lr * b, [s, a, b])
                });
            }
        }
        Ok(())
    }
}

crate::register! {
    /// RMSprop (Tieleman & Hinton 2012): steps divided by the root of the running mean square of the gradient.
    dyn Optimizer, "RMSprop" => RMSprop
}

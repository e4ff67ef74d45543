//! LARS (You, Gitman & Ginsburg 2017), as MMPretrain defines it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Optimizer, ParamStep};
use crate::base::{Elem, Error, Result};
use crate::kernels::{sum_squares, walk};

/// `d = lr · η·|w| / (|g| + wd·|w| + eps) · (g + wd·w)`, the norms those of the tensor; `v = μ·v + (1-τ)·d (v = d at
/// first); w -= v`, with `nesterov` `w -= d + μ·v`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Lars {
    /// The learning rate that schedules start from.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Momentum μ: how much of the last step goes on.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub momentum: f64,
    /// L2 penalty: this much of each weight is added to its gradient.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Dampening τ of the step in the momentum.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub dampening: f64,
    /// How large a step is beside the tensor.
    #[serde(default = "eta")]
    #[schemars(range(min = 0.0))]
    pub eta: f64,
    /// Look ahead along the momentum; needs a momentum and no dampening.
    #[serde(default)]
    pub nesterov: bool,
    /// Added to the denominator.
    #[serde(default = "eps")]
    #[schemars(range(min = 0.0))]
    pub eps: f64,
    /// Leave the learning rate as it is; `custom_keys` set it for norms and biases.
    #[serde(default)]
    pub lars_exclude: bool,
}

fn eta() -> f64 {
    1e-3
}

fn eps() -> f64 {
    1e-8
}

impl Lars {
    /// LARS without momentum and weight decay.
    pub fn new(lr: f64) -> Self {
        let (eta, eps) = (eta(), eps());
        let (momentum, weight_decay, dampening) = (0.0, 0.0, 0.0);
        Self { lr, momentum, weight_decay, dampening, eta, nesterov: false, eps, lars_exclude: false }
    }

    /// What the learning rate of this tensor is multiplied by.
    fn local(&self, p: &ParamStep<'_>) -> f64 {
        let (weights, grads) = (sum_squares(p.value).sqrt(), sum_squares(p.grad).sqrt());
        if self.lars_exclude || weights == 0.0 || grads == 0.0 {
            return 1.0;
        }
        self.eta * weights / (grads + self.weight_decay * weights + self.eps)
    }
}

impl Optimizer for Lars {
    fn name(&self) -> &'static str {
        "LARS"
    }

    fn numbers(&mut self) -> Vec<(&'static str, &mut f64)> {
        vec![
            ("lr", &mut self.lr),
            ("momentum", &mut self.momentum),
            ("weight_decay", &mut self.weight_decay),
            ("dampening", &mut self.dampening),
            ("eta", &mut self.eta),
            ("eps", &mut self.eps),
        ]
    }

    fn flags(&mut self) -> Vec<(&'static str, &mut bool)> {
        vec![("nesterov", &mut self.nesterov), ("lars_exclude", &mut self.lars_exclude)]
    }

    fn state(&self) -> &'static [&'static str] {
        if self.momentum == 0.0 { &[] } else { &["momentum_buffer"] }
    }

    fn step(&self, mut p: ParamStep<'_>) -> Result<()> {
        let rate = (self.lr * self.local(&p)) as Elem;
        let [decay, mu, entering] =
            [self.weight_decay, self.momentum, 1.0 - self.dampening].map(|v| v as Elem);
        let scaled = move |w: Elem, g: Elem| rate * (g + decay * w);
        if self.momentum == 0.0 {
            walk(p.value, p.grad, [], move |w, g, []| (w - scaled(w, g), []));
            return Ok(());
        }
        // A new buffer is zero, and takes the first step whole.
        let entering = if p.steps == 0 { 1.0 } else { entering };
        let (direct, through) = if self.nesterov { (1.0, mu) } else { (0.0, 1.0) };
        let state = p.state()?;
        walk(p.value, p.grad, state, move |w, g, [v]| {
            let d = scaled(w, g);
            let v = mu * v + entering * d;
            (w - (direct * d + through * v), [v])
        });
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if self.nesterov && (self.momentum <= 0.0 || self.dampening != 0.0) {
            return Err(Error::config("`nesterov: true` needs a momentum above 0 and no dampening"));
        }
        Ok(())
    }
}

crate::register! {
    /// LARS (You, Gitman & Ginsburg 2017, as in MMPretrain): SGD whose learning rate follows the norm of each tensor.
    dyn Optimizer, "LARS" => Lars
}

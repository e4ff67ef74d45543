//! Stochastic gradient descent with momentum, as PyTorch defines it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Optimizer, ParamStep};
use crate::base::{Elem, Error, Result};
use crate::kernels::{SgdStep, sgd_momentum};

/// `g += wd·w; v = μ·v + (1-τ)·g (v = g at first); w -= lr·(g + μ·v if nesterov else v)`, PyTorch's `torch.optim.SGD`.
///
/// ```
/// use shanty::optim::{OptimWrapper, Sgd};
/// let optim = OptimWrapper::new(Sgd::new(0.1).momentum(0.9).weight_decay(1e-4).nesterov(true));
/// assert_eq!(optim.groups()[0].get("momentum"), Some(0.9));
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Sgd {
    /// The learning rate that schedules start from.
    #[schemars(range(min = 0.0))]
    lr: f64,
    /// Momentum μ: how much of the last step goes on.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    momentum: f64,
    /// Dampening τ of the gradient in the momentum.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    dampening: f64,
    /// L2 penalty: this much of each weight is added to its gradient.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    weight_decay: f64,
    /// Look ahead along the momentum; needs a momentum and no dampening.
    #[serde(default)]
    nesterov: bool,
}

impl Sgd {
    /// Plain SGD with this learning rate.
    pub fn new(lr: f64) -> Self {
        Self { lr, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false }
    }

    /// Sets the momentum.
    #[must_use]
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// Sets the dampening of the gradient in the momentum.
    #[must_use]
    pub fn dampening(mut self, dampening: f64) -> Self {
        self.dampening = dampening;
        self
    }

    /// Sets the L2 penalty.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Chooses Nesterov's variant; it needs a momentum and no dampening.
    #[must_use]
    pub fn nesterov(mut self, nesterov: bool) -> Self {
        self.nesterov = nesterov;
        self
    }

    /// The numbers of an update on this `steps`-th step, for a device that computes it by itself.
    pub fn at(&self, steps: u64) -> SgdStep {
        SgdStep {
            lr: self.lr as Elem,
            momentum: self.momentum as Elem,
            entering: (1.0 - self.dampening) as Elem,
            weight_decay: self.weight_decay as Elem,
            nesterov: self.nesterov,
            first: steps == 0,
            ..SgdStep::default()
        }
    }
}

impl Optimizer for Sgd {
    fn name(&self) -> &'static str {
        "SGD"
    }

    fn numbers(&mut self) -> Vec<(&'static str, &mut f64)> {
        vec![
            ("lr", &mut self.lr),
            ("momentum", &mut self.momentum),
            ("dampening", &mut self.dampening),
            ("weight_decay", &mut self.weight_decay),
        ]
    }

    fn flags(&mut self) -> Vec<(&'static str, &mut bool)> {
        vec![("nesterov", &mut self.nesterov)]
    }

    fn state(&self) -> &'static [&'static str] {
        if self.momentum == 0.0 { &[] } else { &["momentum"] }
    }

    fn step(&self, mut p: ParamStep<'_>) -> Result<()> {
        let step = self.at(p.steps);
        if self.momentum == 0.0 {
            sgd_momentum(&step, p.value, p.grad, None);
        } else {
            let [buffer] = p.state()?;
            sgd_momentum(&step, p.value, p.grad, Some(buffer));
        }
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
    /// Stochastic gradient descent with momentum, Nesterov's variant, dampening and weight decay (PyTorch's SGD).
    dyn Optimizer, "SGD" => Sgd
}

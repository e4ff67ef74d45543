//! Stochastic gradient descent with momentum, as PyTorch defines it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Group, Optimizer, Slots};
use crate::base::{BoxError, Elem, Error, Record, Result};
use crate::kernels::{SgdStep, sgd_momentum};
use crate::params::Params;

/// `g += wd·w; v = μ·v + (1-τ)·g (v = g at first); w -= lr·(g + μ·v if nesterov else v)`, PyTorch's `torch.optim.SGD`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct SgdConfig {
    /// Learning rate.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Momentum μ.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub momentum: f64,
    /// Dampening τ of the gradient in the momentum.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub dampening: f64,
    /// L2 penalty.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Look ahead along the momentum; needs a momentum and no dampening.
    #[serde(default)]
    pub nesterov: bool,
}

/// SGD. Built from YAML or by `Sgd::new(0.1).momentum(0.9)`.
#[derive(Debug)]
pub struct Sgd {
    config: SgdConfig,
    buffers: Slots,
}

impl Sgd {
    /// Plain SGD with this learning rate.
    pub fn new(lr: f64) -> Self {
        let config = SgdConfig { lr, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false };
        Self { config, buffers: Slots::default() }
    }

    /// Sets the momentum.
    #[must_use]
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.config.momentum = momentum;
        self
    }

    /// Sets the L2 penalty.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.config.weight_decay = weight_decay;
        self
    }

    /// SGD from its parameters.
    ///
    /// # Errors
    /// Nesterov without momentum or with dampening, as in PyTorch.
    pub fn from_config(config: SgdConfig) -> Result<Self> {
        if config.nesterov && (config.momentum <= 0.0 || config.dampening != 0.0) {
            return Err(Error::config("`nesterov: true` needs a momentum above 0 and no dampening"));
        }
        Ok(Self { config, buffers: Slots::default() })
    }
}

impl Optimizer for Sgd {
    fn name(&self) -> &'static str {
        "SGD"
    }

    fn defaults(&self) -> Group {
        let SgdConfig { lr, weight_decay, momentum, .. } = self.config;
        Group { lr, base_lr: lr, weight_decay, momentum }
    }

    fn step(&mut self, params: &mut dyn Params, group: &Group) -> Result<()> {
        let SgdConfig { dampening, nesterov, .. } = self.config;
        let mut step = SgdStep {
            lr: group.lr as Elem,
            momentum: group.momentum as Elem,
            entering: (1.0 - dampening) as Elem,
            weight_decay: group.weight_decay as Elem,
            nesterov,
            ..SgdStep::default()
        };
        let (mut index, mut odd) = (0, None);
        params.visit_mut(&mut |mut p| {
            let Some(grad) = p.grad.as_ref().filter(|_| p.role.is_trained()) else { return };
            let (Some(value), Some(g)) = (p.value.as_slice_mut(), grad.as_slice()) else {
                odd = Some(p.name.to_owned());
                return;
            };
            if step.momentum == 0.0 {
                return sgd_momentum(&step, value, g, None);
            }
            let (buffer, is_new) = self.buffers.at(index, p.name, grad.shape());
            index += 1;
            step.first = is_new;
            match buffer.as_slice_mut().filter(|b| b.len() == g.len()) {
                Some(buffer) => sgd_momentum(&step, value, g, Some(buffer)),
                None => odd = Some(p.name.to_owned()),
            }
        });
        match odd {
            None => Ok(()),
            Some(name) => Err(Error::invalid(format!(
                "{name}, its gradient and its momentum must be row-major and of one shape"
            ))),
        }
    }

    fn save_state(&self) -> Result<Record, BoxError> {
        Ok(self.buffers.save("momentum", Record::default()))
    }

    fn load_state(&mut self, state: Record) -> Result<(), BoxError> {
        self.buffers = Slots::load("momentum", &state);
        Ok(())
    }
}

crate::register! {
    /// Stochastic gradient descent with momentum, Nesterov's variant, dampening and weight decay (PyTorch's SGD).
    dyn Optimizer, "SGD" => |config: SgdConfig, _cx: &mut crate::registry::BuildCx| -> Result<Box<dyn Optimizer>> {
        Ok(Box::new(Sgd::from_config(config)?))
    }
}

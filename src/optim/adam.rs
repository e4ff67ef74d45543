//! Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019), as PyTorch defines them.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::{Optimizer, ParamStep};
use crate::base::{Elem, Result};
use crate::kernels::{AdamStep, adam};
use crate::registry::BuildCx;

/// Parameters of Adam and AdamW.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AdamConfig {
    /// The learning rate that schedules start from.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Decay of the running means of the gradient and of its square.
    #[schemars(schema_with = "betas")]
    pub betas: (f64, f64),
    /// Added to the denominator.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
    /// L2 penalty: added to the gradient by Adam (0 if absent), taken from the weight by AdamW (0.01 if absent).
    #[schemars(range(min = 0.0))]
    pub weight_decay: Option<f64>,
    /// Divide by the largest mean square so far (Reddi et al. 2018).
    pub amsgrad: bool,
}

/// Both at least 0 and below 1: a mean of weight 1 would never move.
pub(super) fn betas(_: &mut SchemaGenerator) -> Schema {
    let beta = json_schema!({ "type": "number", "minimum": 0.0, "exclusiveMaximum": 1.0 });
    json_schema!({ "type": "array", "prefixItems": [beta, beta], "minItems": 2, "maxItems": 2 })
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { lr: 1e-3, betas: (0.9, 0.999), eps: 1e-8, weight_decay: None, amsgrad: false }
    }
}

/// Adam, with weight decay in the gradient or, decoupled, in the weight.
///
/// ```
/// use shanty::optim::{Adam, OptimWrapper};
/// let optim = OptimWrapper::new(Adam::decoupled(1e-3).betas(0.9, 0.95).weight_decay(0.05));
/// assert_eq!(optim.groups()[0].get("beta2"), Some(0.95));
/// ```
#[derive(Debug, Clone)]
pub struct Adam {
    lr: f64,
    betas: (f64, f64),
    eps: f64,
    weight_decay: f64,
    amsgrad: bool,
    decoupled: bool,
}

impl Adam {
    /// Adam with this learning rate.
    pub fn new(lr: f64) -> Self {
        Self::of(&AdamConfig { lr, ..AdamConfig::default() }, false)
    }

    /// AdamW with this learning rate and a weight decay of 0.01.
    pub fn decoupled(lr: f64) -> Self {
        Self::of(&AdamConfig { lr, ..AdamConfig::default() }, true)
    }

    fn of(config: &AdamConfig, decoupled: bool) -> Self {
        let AdamConfig { lr, betas, eps, weight_decay, amsgrad } = *config;
        let weight_decay = weight_decay.unwrap_or(if decoupled { 0.01 } else { 0.0 });
        Self { lr, betas, eps, weight_decay, amsgrad, decoupled }
    }

    fn from_config(config: AdamConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self::of(&config, false))
    }

    fn decoupled_from_config(config: AdamConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self::of(&config, true))
    }

    /// Sets the decays of the running means of the gradient and of its square.
    #[must_use]
    pub fn betas(mut self, beta1: f64, beta2: f64) -> Self {
        self.betas = (beta1, beta2);
        self
    }

    /// Sets what is added to the denominator.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Sets the weight decay.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Divides by the largest mean square so far.
    #[must_use]
    pub fn amsgrad(mut self, amsgrad: bool) -> Self {
        self.amsgrad = amsgrad;
        self
    }

    /// The numbers of an update after `steps` others, for a device that computes it by itself.
    pub fn at(&self, steps: u64) -> AdamStep {
        let (b1, b2) = self.betas;
        let (correct1, correct2) = corrections(self.betas, steps);
        AdamStep {
            rate: (self.lr / correct1) as Elem,
            new1: (1.0 - b1) as Elem,
            beta2: b2 as Elem,
            new2: (1.0 - b2) as Elem,
            scale2: correct2.sqrt() as Elem,
            eps: self.eps as Elem,
            decay: if self.decoupled { 0.0 } else { self.weight_decay as Elem },
            shrink: if self.decoupled { (1.0 - self.lr * self.weight_decay) as Elem } else { 1.0 },
        }
    }
}

/// The bias corrections `1 - β₁ᵗ` and `1 - β₂ᵗ` of the update after `steps` others. In f64: those of the first steps
/// lose most of their digits in f32.
pub(super) fn corrections((b1, b2): (f64, f64), steps: u64) -> (f64, f64) {
    let t = (steps + 1) as f64;
    (1.0 - b1.powf(t), 1.0 - b2.powf(t))
}

impl Optimizer for Adam {
    fn name(&self) -> &'static str {
        if self.decoupled { "AdamW" } else { "Adam" }
    }

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
        if self.amsgrad { &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"] } else { &["exp_avg", "exp_avg_sq"] }
    }

    fn flags(&mut self) -> Vec<(&'static str, &mut bool)> {
        vec![("amsgrad", &mut self.amsgrad)]
    }

    fn step(&self, mut p: ParamStep<'_>) -> Result<()> {
        let step = self.at(p.steps);
        if self.amsgrad {
            let [mean, square, largest] = p.state()?;
            adam(&step, p.value, p.grad, mean, square, Some(largest));
        } else {
            let [mean, square] = p.state()?;
            adam(&step, p.value, p.grad, mean, square, None);
        }
        Ok(())
    }
}

crate::register! {
    /// Adam (Kingma & Ba 2015): steps scaled by running means of the gradient and of its square.
    dyn Optimizer, "Adam" => fn Adam::from_config
}
crate::register! {
    /// AdamW (Loshchilov & Hutter 2019): Adam with weight decay apart from the gradient.
    dyn Optimizer, "AdamW" => fn Adam::decoupled_from_config
}

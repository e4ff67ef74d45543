//! Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019), as PyTorch defines them.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::{Group, Optimizer, Slots};
use crate::base::{BoxError, Elem, Record, Result};
use crate::params::Params;

/// Parameters of Adam.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AdamConfig {
    /// Learning rate.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Decay of the running means of the gradient and of its square.
    #[schemars(schema_with = "betas")]
    pub betas: (f64, f64),
    /// Added to the denominator.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
    /// L2 penalty: added to the gradient by Adam, taken from the weight by AdamW.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
}

/// Both at least 0 and below 1: a mean of weight 1 would never move.
fn betas(_: &mut SchemaGenerator) -> Schema {
    let beta = json_schema!({ "type": "number", "minimum": 0.0, "exclusiveMaximum": 1.0 });
    json_schema!({ "type": "array", "prefixItems": [beta, beta], "minItems": 2, "maxItems": 2 })
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { lr: 1e-3, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0 }
    }
}

/// Adam, with weight decay in the gradient or, decoupled, in the weight.
#[derive(Debug)]
pub struct Adam {
    config: AdamConfig,
    decoupled: bool,
    steps: u64,
    mean: Slots,
    square: Slots,
}

impl Adam {
    /// Adam.
    pub fn new(config: AdamConfig) -> Self {
        Self { config, decoupled: false, steps: 0, mean: Slots::default(), square: Slots::default() }
    }

    /// AdamW; PyTorch's default `weight_decay` there is 0.01.
    pub fn decoupled(config: AdamConfig) -> Self {
        Self { decoupled: true, ..Self::new(config) }
    }
}

impl Optimizer for Adam {
    fn name(&self) -> &'static str {
        if self.decoupled { "AdamW" } else { "Adam" }
    }

    fn defaults(&self) -> Group {
        let AdamConfig { lr, weight_decay, betas, .. } = self.config;
        Group { lr, base_lr: lr, weight_decay, momentum: betas.0 }
    }

    fn step(&mut self, params: &mut dyn Params, group: &Group) -> Result<()> {
        self.steps += 1;
        let (b1, b2) = (group.momentum, self.config.betas.1);
        // Bias corrections in f64: 1 - β₂ᵗ of the first steps loses most of its digits in f32.
        let correct1 = 1.0 - b1.powf(self.steps as f64);
        let correct2 = (1.0 - b2.powf(self.steps as f64)).sqrt();
        let rate = (group.lr / correct1) as Elem;
        let shrink = if self.decoupled { (1.0 - group.lr * group.weight_decay) as Elem } else { 1.0 };
        let decay = if self.decoupled { 0.0 } else { group.weight_decay as Elem };
        // As are 1 - β: 1 - 0.999 in f32 is 0.0010000467.
        let (new1, new2) = ((1.0 - b1) as Elem, (1.0 - b2) as Elem);
        let (b2, eps) = (b2 as Elem, self.config.eps as Elem);
        let scale2 = correct2 as Elem;
        let (mean, square) = (&mut self.mean, &mut self.square);
        let mut index = 0;
        params.visit_mut(&mut |mut p| {
            let Some(grad) = p.grad.as_ref().filter(|_| p.role.is_trained()) else { return };
            let (m, _) = mean.at(index, p.name, grad.shape());
            let (s, _) = square.at(index, p.name, grad.shape());
            index += 1;
            ndarray::Zip::from(&mut p.value).and(grad).and(m).and(s).for_each(|w, g, m, s| {
                let g = g + decay * *w;
                *m += new1 * (g - *m);
                *s = b2 * *s + new2 * g * g;
                *w = *w * shrink - rate * *m / (s.sqrt() / scale2 + eps);
            });
        });
        Ok(())
    }

    fn save_state(&self) -> Result<Record, BoxError> {
        let record = Record::of(&self.steps)?;
        Ok(self.square.save("exp_avg_sq", self.mean.save("exp_avg", record)))
    }

    fn load_state(&mut self, state: Record) -> Result<(), BoxError> {
        self.steps = state.read()?;
        self.mean = Slots::load("exp_avg", &state);
        self.square = Slots::load("exp_avg_sq", &state);
        Ok(())
    }
}

/// Parameters of AdamW: Adam's, with a weight decay of 0.01 if none is given.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AdamWConfig {
    /// Learning rate.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Decay of the running means of the gradient and of its square.
    #[schemars(schema_with = "betas")]
    pub betas: (f64, f64),
    /// Added to the denominator.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
    /// Part of the weight, times the learning rate, that is taken from it at each step.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        let AdamConfig { lr, betas, eps, .. } = AdamConfig::default();
        Self { lr, betas, eps, weight_decay: 0.01 }
    }
}

crate::register! {
    /// Adam (Kingma & Ba 2015): steps scaled by running means of the gradient and of its square.
    dyn Optimizer, "Adam" => |config: AdamConfig, _cx: &mut crate::registry::BuildCx| -> Result<Box<dyn Optimizer>> {
        Ok(Box::new(Adam::new(config)))
    }
}
crate::register! {
    /// AdamW (Loshchilov & Hutter 2019): Adam with weight decay apart from the gradient.
    dyn Optimizer, "AdamW" => |config: AdamWConfig, _cx: &mut crate::registry::BuildCx| -> Result<Box<dyn Optimizer>> {
        let AdamWConfig { lr, betas, eps, weight_decay } = config;
        Ok(Box::new(Adam::decoupled(AdamConfig { lr, betas, eps, weight_decay })))
    }
}

//! The fully connected layer.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::Result;
use crate::nn::{Forward, Module, Param, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of a [`Linear`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct LinearConfig {
    /// Size of the last axis of the input.
    #[schemars(range(min = 1))]
    pub in_features: usize,
    /// Size of the last axis of the output.
    #[schemars(range(min = 1))]
    pub out_features: usize,
    /// Whether an offset is added.
    #[serde(default = "super::yes")]
    pub bias: bool,
}

/// `x wᵀ + b` over the last axis: [.., in] to [.., out].
///
/// Weights and bias begin uniform within ±1/√in, as in PyTorch.
#[derive(Debug, Clone)]
pub struct Linear {
    /// [out, in].
    pub weight: Param,
    /// [out].
    pub bias: Option<Param>,
}

module!(Linear { weight, bias });

impl Linear {
    /// A layer with bias.
    pub fn new(in_features: usize, out_features: usize) -> Self {
        LinearConfig { in_features, out_features, bias: true }.build()
    }

    /// Whether an offset is added; it is unless this says no.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        let &[outs, ins] = self.weight.value.shape() else { return self };
        self.bias = bias.then(|| Param::fan_in(&[outs], ins));
        self
    }
}

impl LinearConfig {
    /// The layer.
    pub fn build(&self) -> Linear {
        let Self { in_features: ins, out_features: outs, bias } = *self;
        let weight = Param::fan_in(&[outs, ins], ins);
        Linear { weight, bias: bias.then(|| Param::fan_in(&[outs], ins)) }
    }
}

impl Module for Linear {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let tape = x.tape();
        x.linear(tape.param(&self.weight), self.bias.as_ref().map(|b| tape.param(b))).checked()
    }
}

register! { /// Fully connected: `x wᵀ + b` over the last axis.
dyn Module, "Linear" => fn Linear::from_config }

impl Linear {
    fn from_config(p: LinearConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(p.build())
    }
}

//! The fully connected layer.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::Result;
use crate::nn::{Forward, Module, Param, Var};
use crate::registry::BuildCx;
use crate::{parts, register};

use super::initial;

/// What a [`Linear`] is made of.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct LinearParams {
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

parts!(Linear { weight, bias });

impl Linear {
    /// A layer with bias.
    pub fn new(in_features: usize, out_features: usize) -> Self {
        Self::from_params(&LinearParams { in_features, out_features, bias: true })
    }

    /// A layer as the config says.
    pub fn from_params(p: &LinearParams) -> Self {
        let weight = initial(&[p.out_features, p.in_features], p.in_features);
        let bias = p.bias.then(|| initial(&[p.out_features], p.in_features));
        Self { weight, bias }
    }
}

impl Module for Linear {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let tape = x.tape();
        x.linear(tape.param(&self.weight), self.bias.as_ref().map(|b| tape.param(b)))
    }
}

register! { /// Fully connected: `x wᵀ + b` over the last axis.
dyn Module, "Linear" => |p: LinearParams, _: &mut BuildCx| -> Result<Box<dyn Module>> { Ok(Box::new(Linear::from_params(&p))) } }

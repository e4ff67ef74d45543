//! Dropout.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::Result;
use crate::nn::{Forward, Module, Var};
use crate::{module, register};

/// In training, zero with probability `p`, else `x / (1 - p)`; in evaluation `x` (Srivastava et al. 2014).
///
/// The mask is a function of seed, iteration and the layer's turn in the forward pass.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Dropout {
    /// Probability of a zero.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
    /// Accepted for PyTorch's configs; memory is reused either way.
    pub inplace: bool,
}

module!(Dropout {}, number = p);

impl Dropout {
    /// With this probability of a zero.
    pub fn new(p: f64) -> Self {
        Self { p, inplace: false }
    }
}

impl Default for Dropout {
    fn default() -> Self {
        Self::new(0.5)
    }
}

impl Module for Dropout {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        Ok(if cx.training { x.dropout(self.p, cx.rng) } else { x })
    }
}

register! { /// In training, zero with probability `p`.
dyn Module, "Dropout" => Dropout }

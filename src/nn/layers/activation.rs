//! Activation layers.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Result};
use crate::nn::{Forward, Module, Var};
use crate::{module, register};

macro_rules! activation {
    ($(#[$doc:meta])* $name:ident, $op:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
        #[serde(default)]
        pub struct $name {}

        module!($name {});

        impl $name {
            /// The layer, which has nothing to set.
            pub fn new() -> Self {
                Self {}
            }
        }

        impl Module for $name {
            fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
                Ok(x.$op())
            }
        }
    };
}

activation!(
    /// Hyperbolic tangent.
    Tanh,
    tanh
);
activation!(
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    sigmoid
);
activation!(
    /// The exact Gaussian error linear unit, `x · Φ(x)` (Hendrycks and Gimpel 2016).
    GELU,
    gelu
);

/// `max(x, 0)`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ReLU {
    /// Accepted for PyTorch's configs; memory is reused either way.
    pub inplace: bool,
}

module!(ReLU {});

impl ReLU {
    /// The layer, which has nothing to set.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Module for ReLU {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        Ok(x.relu())
    }
}

/// `x · sigmoid(x)`, also called swish (Ramachandran et al. 2017).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SiLU {
    /// Accepted for PyTorch's configs; memory is reused either way.
    pub inplace: bool,
}

module!(SiLU {});

impl SiLU {
    /// The layer, which has nothing to set.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Module for SiLU {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        Ok(x.silu())
    }
}

/// `x` where positive, else `negative_slope · x`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LeakyReLU {
    /// The slope where `x` is negative.
    #[schemars(extend("x-unbounded" = true))]
    pub negative_slope: f64,
    /// Accepted for PyTorch's configs; memory is reused either way.
    pub inplace: bool,
}

module!(LeakyReLU {});

impl LeakyReLU {
    /// With this slope where `x` is negative.
    pub fn new(negative_slope: f64) -> Self {
        Self { negative_slope, inplace: false }
    }
}

impl Default for LeakyReLU {
    fn default() -> Self {
        Self::new(0.01)
    }
}

impl Module for LeakyReLU {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        Ok(x.leaky_relu(self.negative_slope as Elem))
    }
}

register! { /// `max(x, 0)`.
dyn Module, "ReLU" => ReLU }
register! { /// `x` where positive, else `negative_slope · x`.
dyn Module, "LeakyReLU" => LeakyReLU }
register! { /// Hyperbolic tangent.
dyn Module, "Tanh" => Tanh }
register! { /// `1 / (1 + exp(-x))`.
dyn Module, "Sigmoid" => Sigmoid }
register! { /// The exact Gaussian error linear unit.
dyn Module, "GELU" => GELU }
register! { /// `x · sigmoid(x)`, also called swish.
dyn Module, "SiLU" => SiLU }

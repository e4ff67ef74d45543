//! Activation layers.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Result};
use crate::kernels::{Act, act_backward, act_forward};
use crate::nn::buffer_pool::{slice, tensor};
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

impl<'t> Var<'t> {
    /// `max(x, 0)`.
    pub fn relu(self) -> Self {
        self.activate(Act::Relu)
    }

    /// `x` where positive, else `slope * x`.
    pub fn leaky_relu(self, slope: Elem) -> Self {
        self.activate(Act::LeakyRelu(slope))
    }

    /// Hyperbolic tangent.
    pub fn tanh(self) -> Self {
        self.activate(Act::Tanh)
    }

    /// `1 / (1 + exp(-x))`.
    pub fn sigmoid(self) -> Self {
        self.activate(Act::Sigmoid)
    }

    /// The exact Gaussian error linear unit, `x * (1 + erf(x / sqrt 2)) / 2`.
    pub fn gelu(self) -> Self {
        self.activate(Act::Gelu)
    }

    /// `x * sigmoid(x)`.
    pub fn silu(self) -> Self {
        self.activate(Act::Silu)
    }

    /// Any activation of the kernels.
    pub fn activate(self, act: Act) -> Self {
        if act == Act::Identity {
            return self;
        }
        let x = self.value();
        let mut y = self.tape.take(x.len());
        act_forward(act, slice(&x), &mut y);
        let y = tensor(x.shape(), y);
        let saved = if act.saves_input() { x } else { y.clone() };
        self.tape.node(name(act), y, &[self], move |mut dy, grads| {
            act_backward(act, slice(&saved), &mut dy);
            grads.add(0, dy);
        })
    }
}

fn name(act: Act) -> &'static str {
    match act {
        Act::Identity => "identity",
        Act::Relu => "relu",
        Act::LeakyRelu(_) => "leaky_relu",
        Act::Tanh => "tanh",
        Act::Sigmoid => "sigmoid",
        Act::Gelu => "gelu",
        Act::Silu => "silu",
    }
}

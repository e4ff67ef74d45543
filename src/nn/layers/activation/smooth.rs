//! Activations without a bend.

use schemars::JsonSchema;
use serde::Deserialize;

use super::activation;
use crate::base::Result;
use crate::kernels::Act;
use crate::nn::{Forward, Module, Var};
use crate::{module, register};

activation! {
    /// Hyperbolic tangent.
    Tanh "Tanh", tanh() => Act::Tanh
}

activation! {
    /// `1 / (1 + exp(-x))`.
    Sigmoid "Sigmoid", sigmoid() => Act::Sigmoid
}

activation! {
    /// The logarithm of the sigmoid, `-log(1 + exp(-x))`.
    LogSigmoid "LogSigmoid", log_sigmoid() => Act::LogSigmoid
}

activation! {
    /// `x · sigmoid(x)`, also called swish (Ramachandran et al. 2017, <https://arxiv.org/abs/1710.05941>).
    SiLU "SiLU" | "Swish", silu() inplace => Act::Silu
}

activation! {
    /// `x · tanh(softplus(x))` (Misra 2019, <https://arxiv.org/abs/1908.08681>).
    Mish "Mish", mish() inplace => Act::Mish
}

activation! {
    /// `log(1 + exp(beta · x)) / beta`, a smooth ReLU; `x` itself where `beta · x` is above the threshold.
    Softplus "Softplus", softplus(
        /// How sharp its turn is.
        #[schemars(extend("exclusiveMinimum" = 0.0))]
        beta = 1.0,
        /// Where it becomes the line `x`.
        #[schemars(extend("x-unbounded" = true))]
        threshold = 20.0
    ) => Act::Softplus { beta, threshold }
}

activation! {
    /// `x / (1 + |x|)`.
    Softsign "Softsign", softsign() => Act::Softsign
}

activation! {
    /// `x - tanh(x)`.
    Tanhshrink "Tanhshrink", tanhshrink() => Act::Tanhshrink
}

/// How [`GELU`] computes Φ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GeluApproximation {
    /// Exactly, by the error function.
    #[default]
    None,
    /// By a hyperbolic tangent, as GPT-2.
    Tanh,
}

/// The Gaussian error linear unit, `x · Φ(x)` (Hendrycks and Gimpel 2016, <https://arxiv.org/abs/1606.08415>).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GELU {
    /// How Φ is computed.
    pub approximate: GeluApproximation,
}

module!(GELU {});

impl GELU {
    /// The exact one.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Module for GELU {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        Ok(match self.approximate {
            GeluApproximation::None => x.gelu(),
            GeluApproximation::Tanh => x.gelu_tanh(),
        })
    }
}

register! { /// The Gaussian error linear unit, `x · Φ(x)`.
dyn Module, "GELU" => GELU }

impl Var<'_> {
    /// The exact Gaussian error linear unit, `x * (1 + erf(x / sqrt 2)) / 2`.
    pub fn gelu(self) -> Self {
        self.activate(Act::Gelu)
    }

    /// The Gaussian error linear unit by `tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))`.
    pub fn gelu_tanh(self) -> Self {
        self.activate(Act::GeluTanh)
    }
}

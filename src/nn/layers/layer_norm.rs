//! Layer normalisation.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result};
use crate::config::OneOrMany;
use crate::nn::{Forward, Module, Param, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of a [`LayerNorm`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct LayerNormConfig {
    /// The sizes of the last axes, over which mean and variance are taken; one number for the last axis alone.
    #[schemars(with = "OneOrMany<std::num::NonZeroUsize>")]
    pub normalized_shape: OneOrMany<usize>,
    /// Added to the variance before its root.
    #[serde(default = "eps")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
    /// Whether each element is scaled, and shifted if `bias`, by trained numbers.
    #[serde(default = "super::yes")]
    pub elementwise_affine: bool,
    /// Whether elements are shifted.
    #[serde(default = "super::yes")]
    pub bias: bool,
}

fn eps() -> f64 {
    1e-5
}

impl LayerNormConfig {
    /// The layer.
    ///
    /// # Errors
    /// When no axis is named.
    pub fn build(&self) -> Result<LayerNorm> {
        if self.normalized_shape.is_empty() {
            return Err(Error::config("`normalized_shape` names no axis: give the size of the last one"));
        }
        Ok(LayerNorm::over(&self.normalized_shape).eps(self.eps).affine(self.elementwise_affine, self.bias))
    }
}

/// `(x - mean) / sqrt(var + eps) * weight + bias` over the last axes of each sample (Ba et al. 2016,
/// <https://arxiv.org/abs/1607.06450>). Weights begin as 1, biases as 0.
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, Forward, LayerNorm, Module, Tape};
///
/// let mut norm = LayerNorm::new(2);
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 2], vec![1.0, 5.0]).unwrap());
/// let y = norm.forward(x, &mut Forward { training: true, rng: &mut keyed(0, "example", 0, 0) })?.value();
/// assert!((y[[0, 0]] + 1.0).abs() < 1e-5 && (y[[0, 1]] - 1.0).abs() < 1e-5);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LayerNorm {
    /// The normalised shape.
    pub weight: Option<Param>,
    /// The normalised shape.
    pub bias: Option<Param>,
    shape: Vec<usize>,
    eps: Elem,
}

module!(LayerNorm { weight, bias });

impl LayerNorm {
    /// Over the last axis, of this size, with PyTorch's defaults: eps 1e-5, scaled and shifted.
    pub fn new(features: usize) -> Self {
        Self::over(&[features])
    }

    /// Over the last axes, of these sizes.
    pub fn over(shape: &[usize]) -> Self {
        let layer = Self { weight: None, bias: None, shape: shape.to_vec(), eps: eps() as Elem };
        layer.affine(true, true)
    }

    /// What is added to the variance before its root.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps as Elem;
        self
    }

    /// Whether each element is scaled, and shifted if `bias`, by trained numbers; both unless this says no.
    #[must_use]
    pub fn affine(mut self, affine: bool, bias: bool) -> Self {
        self.weight = affine.then(|| Param::full(&self.shape, 1.0));
        self.bias = (affine && bias).then(|| Param::full(&self.shape, 0.0));
        self
    }
}

impl Module for LayerNorm {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let (tape, weight, bias) = (x.tape(), self.weight.as_ref(), self.bias.as_ref());
        x.layer_norm(&self.shape, weight.map(|p| tape.param(p)), bias.map(|p| tape.param(p)), self.eps)
            .checked()
    }
}

register! { /// Normalises the last axes of each sample.
dyn Module, "LayerNorm" => fn LayerNorm::from_config }

impl LayerNorm {
    fn from_config(p: LayerNormConfig, _: &mut BuildCx) -> Result<Self> {
        p.build()
    }
}
register! { /// `LayerNorm`, by the name of MMEngine's registry.
dyn Module, "LN" => fn LayerNorm::from_config }

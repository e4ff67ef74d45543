//! Layer normalisation.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result};
use crate::config::OneOrMany;
use crate::nn::{Forward, Module, Param, Var};
use crate::registry::BuildCx;
use crate::{parts, register};

/// What a [`LayerNorm`] is made of.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct LayerNormParams {
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

impl LayerNormParams {
    /// Over the last axis of this size, with PyTorch's defaults: eps 1e-5, scaled and shifted.
    pub fn new(features: usize) -> Self {
        Self { normalized_shape: OneOrMany(vec![features]), eps: eps(), elementwise_affine: true, bias: true }
    }
}

/// `(x - mean) / sqrt(var + eps) * weight + bias` over the last axes of each sample (Ba et al. 2016,
/// <https://arxiv.org/abs/1607.06450>). Weights begin as 1, biases as 0.
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{Forward, LayerNorm, LayerNormParams, Module, Pool, Tape};
///
/// let mut norm = LayerNorm::new(&LayerNormParams::new(2))?;
/// let tape = Tape::new(Pool::default());
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

parts!(LayerNorm { weight, bias });

impl LayerNorm {
    /// A norm of this make.
    ///
    /// # Errors
    /// When no axis is named.
    pub fn new(p: &LayerNormParams) -> Result<Self> {
        let shape = p.normalized_shape.to_vec();
        if shape.is_empty() {
            return Err(Error::config("`normalized_shape` names no axis: give the size of the last one"));
        }
        Ok(Self {
            weight: p.elementwise_affine.then(|| Param::full(&shape, 1.0)),
            bias: (p.elementwise_affine && p.bias).then(|| Param::full(&shape, 0.0)),
            shape,
            eps: p.eps as Elem,
        })
    }

    /// Over the last axis of this size, scaled and shifted.
    pub fn over(features: usize, eps: f64) -> Self {
        let shape = vec![features];
        let (weight, bias) = (Some(Param::full(&shape, 1.0)), Some(Param::full(&shape, 0.0)));
        Self { weight, bias, shape, eps: eps as Elem }
    }
}

impl Module for LayerNorm {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let (tape, weight, bias) = (x.tape(), self.weight.as_ref(), self.bias.as_ref());
        x.layer_norm(&self.shape, weight.map(|p| tape.param(p)), bias.map(|p| tape.param(p)), self.eps)
    }
}

register! { /// Normalises the last axes of each sample.
dyn Module, "LayerNorm" => |p: LayerNormParams, _: &mut BuildCx| -> Result<Box<dyn Module>> { Ok(Box::new(LayerNorm::new(&p)?)) } }
register! { /// `LayerNorm`, by the name that the reference registers it under.
dyn Module, "LN" => |p: LayerNormParams, _: &mut BuildCx| -> Result<Box<dyn Module>> { Ok(Box::new(LayerNorm::new(&p)?)) } }

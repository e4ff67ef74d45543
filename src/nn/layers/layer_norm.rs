//! Layer normalisation.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result};
use crate::config::OneOrMany;
use crate::kernels::{
    LayerNormAffine, LayerNormGrads, LayerNormStats, LayerNormStatsMut, layer_norm, layer_norm_backward,
};
use crate::nn::buffer_pool::slice;
use crate::nn::shapes::expect_shape;
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
    #[serde(default = "crate::config::yes")]
    pub elementwise_affine: bool,
    /// Whether elements are shifted.
    #[serde(default = "crate::config::yes")]
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
/// let y = norm.forward(x, &mut Forward::new(true, &mut keyed(0, "example", 0, 0)))?.value();
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

impl<'t> Var<'t> {
    /// `(x - mean) / sqrt(var + eps) * weight + bias`, mean and biased variance over the last axes, which have the
    /// sizes `shape`; `weight` and `bias` have that shape too (Ba et al. 2016).
    pub fn layer_norm(self, shape: &[usize], weight: Option<Self>, bias: Option<Self>, eps: Elem) -> Self {
        self.attempt(|| self.try_layer_norm(shape, weight, bias, eps))
    }

    fn try_layer_norm(
        self,
        shape: &[usize],
        weight: Option<Self>,
        bias: Option<Self>,
        eps: Elem,
    ) -> Result<Self> {
        let x = self.value();
        if shape.is_empty() || !x.shape().ends_with(shape) {
            return Err(Error::invalid(format!(
                "layer norm over {shape:?} got an input of shape {:?}, which must end with these sizes",
                x.shape()
            )));
        }
        let (gamma, beta) = (weight.map(Var::value), bias.map(Var::value));
        for (what, p) in [("the weight of layer norm", &gamma), ("the bias of layer norm", &beta)] {
            if let Some(p) = p {
                expect_shape(what, p.shape(), shape)?;
            }
        }
        let d: usize = shape.iter().product();
        let rows = x.shape()[..x.ndim() - shape.len()].iter().product();
        let mut y = self.tape.output(self.tape.holds_bf16(x.len()), x.len());
        let (mut mean, mut rstd) = (self.tape.take(rows), self.tape.take(rows));
        let affine = LayerNormAffine { gamma: gamma.as_ref().map(slice), beta: beta.as_ref().map(slice) };
        let stats = LayerNormStatsMut { mean: &mut mean, rstd: &mut rstd };
        layer_norm(d, slice(&x), affine, eps, y.numbers(), stats);
        let y = y.held(x.shape());
        let inputs: Vec<Var<'t>> = [Some(self), weight, bias].into_iter().flatten().collect();
        if !inputs.iter().any(|v| v.requires_grad()) {
            self.tape.give(rstd);
            self.tape.give(mean);
            return Ok(self.tape.held_node("layer_norm", y, &[], |_, _| {}));
        }
        let (at_weight, at_bias) = (weight.map(|_| 1), bias.map(|_| 1 + usize::from(weight.is_some())));
        Ok(self.tape.held_node("layer_norm", y, &inputs, move |dy, grads| {
            let mut dy = dy.in_full(grads.pool);
            let (mut dw, mut db) = (grads.pool.take(d), grads.pool.take(d));
            let g = gamma.as_ref().map(slice);
            let stats = LayerNormStats { mean: &mean, rstd: &rstd };
            let to = LayerNormGrads { dy: &mut dy, dgamma: &mut dw, dbeta: &mut db };
            layer_norm_backward(d, slice(&x), g, stats, to);
            grads.add(0, dy);
            for (at, grad) in [(at_weight, dw), (at_bias, db)] {
                match at {
                    Some(i) => grads.add(i, grad),
                    None => grads.pool.give(grad),
                }
            }
            grads.pool.give(rstd);
            grads.pool.give(mean);
        }))
    }
}

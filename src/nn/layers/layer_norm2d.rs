//! Layer normalisation of images whose channels come first.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result};
use crate::kernels::{
    LayerNormAffine, LayerNormGrads, LayerNormStats, LayerNormStatsMut, pixel_norm, pixel_norm_backward,
};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::shapes::{expect_shape, images};
use crate::nn::{Forward, Module, Param, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of a [`LayerNorm2d`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct LayerNorm2dConfig {
    /// Channels: the second axis of the input.
    #[schemars(range(min = 1))]
    pub num_channels: usize,
    /// Added to the variance before its root.
    #[serde(default = "eps")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
    /// Whether channels are scaled and shifted by trained numbers.
    #[serde(default = "crate::config::yes")]
    pub elementwise_affine: bool,
}

fn eps() -> f64 {
    1e-5
}

/// `(x - mean) / sqrt(var + eps) * weight + bias` over the channels of each pixel of images [N, C, H, W], as ConvNeXt uses
/// it (Liu et al. 2022, <https://arxiv.org/abs/2201.03545>): a [`LayerNorm`](super::LayerNorm) without moving the channels
/// to the end. Weights begin as 1, biases as 0.
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, Forward, LayerNorm2d, Module, Tape};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 2, 1, 2], vec![1.0, 9.0, 3.0, 5.0]).unwrap());
/// let y = LayerNorm2d::new(2).forward(x, &mut Forward::new(true, &mut keyed(0, "", 0, 0)))?.value();
/// assert!(y.iter().zip([-1.0, 1.0, 1.0, -1.0]).all(|(y, wanted)| (y - wanted).abs() < 1e-4));
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LayerNorm2d {
    /// `[C]`.
    pub weight: Option<Param>,
    /// `[C]`.
    pub bias: Option<Param>,
    channels: usize,
    eps: Elem,
}

module!(LayerNorm2d { weight, bias });

impl LayerNorm2d {
    /// Over this many channels, with MMPretrain's defaults: eps 1e-5, scaled and shifted.
    pub fn new(num_channels: usize) -> Self {
        Self { weight: None, bias: None, channels: num_channels, eps: eps() as Elem }.affine(true)
    }

    /// What is added to the variance before its root.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps as Elem;
        self
    }

    /// Whether channels are scaled and shifted by trained numbers; they are unless this says no.
    #[must_use]
    pub fn affine(mut self, affine: bool) -> Self {
        self.weight = affine.then(|| Param::full(&[self.channels], 1.0));
        self.bias = affine.then(|| Param::full(&[self.channels], 0.0));
        self
    }
}

impl Module for LayerNorm2d {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let (shape, c) = (x.shape(), self.channels);
        if shape.len() != 4 || shape[1] != c {
            return Err(Error::invalid(format!(
                "LayerNorm2d over {c} channels wants an input of shape [N, {c}, H, W], got {shape:?}"
            )));
        }
        let (tape, weight, bias) = (x.tape(), self.weight.as_ref(), self.bias.as_ref());
        x.layer_norm2d(weight.map(|p| tape.param(p)), bias.map(|p| tape.param(p)), self.eps).checked()
    }
}

register! { /// Normalises the channels of each pixel.
dyn Module, "LayerNorm2d" => fn LayerNorm2d::from_config }

impl LayerNorm2d {
    fn from_config(p: LayerNorm2dConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self::new(p.num_channels).eps(p.eps).affine(p.elementwise_affine))
    }
}
register! { /// `LayerNorm2d`, by the name of MMPretrain's registry.
dyn Module, "LN2d" => fn LayerNorm2d::from_config }

impl<'t> Var<'t> {
    /// `(x - mean) / sqrt(var + eps) * weight + bias` with the mean and the biased variance of the channels of each pixel
    /// of `x` [N, C, H, W]; `weight` and `bias` have the shape `[C]`.
    pub fn layer_norm2d(self, weight: Option<Self>, bias: Option<Self>, eps: Elem) -> Self {
        self.attempt(|| self.try_layer_norm2d(weight, bias, eps))
    }

    fn try_layer_norm2d(self, weight: Option<Self>, bias: Option<Self>, eps: Elem) -> Result<Self> {
        let x = self.value();
        let [n, c, h, w] = images(x.shape(), "LayerNorm2d")?;
        let (gamma, beta) = (weight.map(Var::value), bias.map(Var::value));
        for (what, p) in [("the weight of LayerNorm2d", &gamma), ("the bias of LayerNorm2d", &beta)] {
            if let Some(p) = p {
                expect_shape(what, p.shape(), &[c])?;
            }
        }
        let size = [n, c, h * w];
        let mut y = self.tape.take(x.len());
        let (mut mean, mut rstd) = (self.tape.take(n * h * w), self.tape.take(n * h * w));
        let affine = LayerNormAffine { gamma: gamma.as_ref().map(slice), beta: beta.as_ref().map(slice) };
        let stats = LayerNormStatsMut { mean: &mut mean, rstd: &mut rstd };
        pixel_norm(size, slice(&x), affine, eps, &mut y, stats);
        let y = tensor(x.shape(), y);
        let inputs: Vec<Var<'t>> = [Some(self), weight, bias].into_iter().flatten().collect();
        if !inputs.iter().any(|v| v.requires_grad()) {
            self.tape.give(rstd);
            self.tape.give(mean);
            return Ok(self.tape.input(y));
        }
        let (at_weight, at_bias) = (weight.map(|_| 1), bias.map(|_| 1 + usize::from(weight.is_some())));
        Ok(self.tape.node("layer_norm2d", y, &inputs, move |mut dy, grads| {
            let (mut dw, mut db) = (grads.pool.take(c), grads.pool.take(c));
            let stats = LayerNormStats { mean: &mean, rstd: &rstd };
            let to = LayerNormGrads { dy: &mut dy, dgamma: &mut dw, dbeta: &mut db };
            pixel_norm_backward(size, slice(&x), gamma.as_ref().map(slice), stats, to);
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

//! RMS normalisation.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result};
use crate::config::OneOrMany;
use crate::kernels::{RmsNormGrads, rms_norm, rms_norm_backward};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::shapes::expect_shape;
use crate::nn::{Forward, Module, Param, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of an [`RMSNorm`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct RMSNormConfig {
    /// The sizes of the last axes, over which the mean of squares is taken; one number for the last axis alone.
    #[schemars(with = "OneOrMany<std::num::NonZeroUsize>")]
    pub normalized_shape: OneOrMany<usize>,
    /// Added to the mean of squares before its root; the machine's smallest step from 1 if absent.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: Option<f64>,
    /// Whether each element is scaled by a trained number.
    #[serde(default = "crate::config::yes")]
    pub elementwise_affine: bool,
}

impl RMSNormConfig {
    /// The layer.
    ///
    /// # Errors
    /// When no axis is named.
    pub fn build(&self) -> Result<RMSNorm> {
        if self.normalized_shape.is_empty() {
            return Err(Error::config("`normalized_shape` names no axis: give the size of the last one"));
        }
        let layer = RMSNorm::over(&self.normalized_shape).affine(self.elementwise_affine);
        Ok(match self.eps {
            Some(eps) => layer.eps(eps),
            None => layer,
        })
    }
}

/// `x / sqrt(mean of x² + eps) * weight` over the last axes of each sample (Zhang and Sennrich 2019,
/// <https://arxiv.org/abs/1910.07467>). Weights begin as 1.
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, Forward, Module, RMSNorm, Tape};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 2], vec![1.0, 7.0]).unwrap());
/// let y = RMSNorm::new(2).forward(x, &mut Forward::new(true, &mut keyed(0, "", 0, 0)))?.value();
/// assert!((y[[0, 0]] - 0.2).abs() < 1e-6 && (y[[0, 1]] - 1.4).abs() < 1e-6);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RMSNorm {
    /// The normalised shape.
    pub weight: Option<Param>,
    shape: Vec<usize>,
    eps: Elem,
}

module!(RMSNorm { weight });

impl RMSNorm {
    /// Over the last axis, of this size, scaled, with PyTorch's eps: the machine's smallest step from 1.
    pub fn new(features: usize) -> Self {
        Self::over(&[features])
    }

    /// Over the last axes, of these sizes.
    pub fn over(shape: &[usize]) -> Self {
        Self { weight: None, shape: shape.to_vec(), eps: Elem::EPSILON }.affine(true)
    }

    /// What is added to the mean of squares before its root.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps as Elem;
        self
    }

    /// Whether each element is scaled by a trained number; it is unless this says no.
    #[must_use]
    pub fn affine(mut self, affine: bool) -> Self {
        self.weight = affine.then(|| Param::full(&self.shape, 1.0));
        self
    }
}

impl Module for RMSNorm {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let weight = self.weight.as_ref().map(|p| x.tape().param(p));
        x.rms_norm(&self.shape, weight, self.eps).checked()
    }
}

register! { /// Divides the last axes of each sample by the root of their mean square.
dyn Module, "RMSNorm" => fn RMSNorm::from_config }

impl RMSNorm {
    fn from_config(p: RMSNormConfig, _: &mut BuildCx) -> Result<Self> {
        p.build()
    }
}

impl<'t> Var<'t> {
    /// `x / sqrt(mean of x² + eps) * weight`, the mean over the last axes, which have the sizes `shape`; `weight` has that
    /// shape too.
    pub fn rms_norm(self, shape: &[usize], weight: Option<Self>, eps: Elem) -> Self {
        self.attempt(|| self.try_rms_norm(shape, weight, eps))
    }

    fn try_rms_norm(self, shape: &[usize], weight: Option<Self>, eps: Elem) -> Result<Self> {
        let x = self.value();
        if shape.is_empty() || !x.shape().ends_with(shape) {
            return Err(Error::invalid(format!(
                "RMSNorm over {shape:?} got an input of shape {:?}, which must end with these sizes",
                x.shape()
            )));
        }
        let gamma = weight.map(Var::value);
        if let Some(gamma) = &gamma {
            expect_shape("the weight of RMSNorm", gamma.shape(), shape)?;
        }
        let d: usize = shape.iter().product();
        let rows = x.shape()[..x.ndim() - shape.len()].iter().product();
        let (mut y, mut roots) = (self.tape.take(x.len()), self.tape.take(rows));
        rms_norm(d, slice(&x), gamma.as_ref().map(slice), eps, &mut y, &mut roots);
        let y = tensor(x.shape(), y);
        let inputs: Vec<Var<'t>> = [Some(self), weight].into_iter().flatten().collect();
        if !inputs.iter().any(|v| v.requires_grad()) {
            self.tape.give(roots);
            return Ok(self.tape.input(y));
        }
        Ok(self.tape.node("rms_norm", y, &inputs, move |mut dy, grads| {
            let mut dw = grads.pool.take(d);
            let to = RmsNormGrads { dy: &mut dy, dgamma: &mut dw };
            rms_norm_backward(d, slice(&x), gamma.as_ref().map(slice), &roots, to);
            grads.add(0, dy);
            match gamma {
                Some(_) => grads.add(1, dw),
                None => grads.pool.give(dw),
            }
            grads.pool.give(roots);
        }))
    }
}

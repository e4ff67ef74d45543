//! Group normalisation.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result, Tensor};
use crate::kernels::{
    GroupNormShape, LayerNormAffine, LayerNormGrads, LayerNormStats, LayerNormStatsMut, group_norm,
    group_norm_backward,
};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::shapes::expect_shape;
use crate::nn::{Forward, Module, Param, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of a [`GroupNorm`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct GroupNormConfig {
    /// Groups of channels, each with a mean and a variance of its own.
    #[schemars(range(min = 1))]
    pub num_groups: usize,
    /// Channels: the second axis of the input, a multiple of the groups.
    #[schemars(range(min = 1))]
    pub num_channels: usize,
    /// Added to the variance before its root.
    #[serde(default = "eps")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
    /// Whether channels are scaled and shifted by trained numbers.
    #[serde(default = "crate::config::yes")]
    pub affine: bool,
}

fn eps() -> f64 {
    1e-5
}

impl GroupNormConfig {
    /// The layer.
    ///
    /// # Errors
    /// When the groups do not divide the channels.
    pub fn build(&self) -> Result<GroupNorm> {
        let Self { num_groups, num_channels, .. } = *self;
        if num_groups == 0 || !num_channels.is_multiple_of(num_groups) {
            return Err(Error::config(format!("{num_groups} groups do not divide {num_channels} channels")));
        }
        Ok(GroupNorm::new(num_groups, num_channels).eps(self.eps).affine(self.affine))
    }
}

/// `(x - mean) / sqrt(var + eps) * weight + bias` over each group of channels of each sample [N, C, ..], with one weight
/// and bias a channel (Wu and He 2018, <https://arxiv.org/abs/1803.08494>). Weights begin as 1, biases as 0.
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, Forward, GroupNorm, Module, Tape};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 4, 1], vec![1.0, 3.0, 10.0, 30.0]).unwrap());
/// let y = GroupNorm::new(2, 4).forward(x, &mut Forward::new(true, &mut keyed(0, "", 0, 0)))?.value();
/// assert!(y.iter().zip([-1.0, 1.0, -1.0, 1.0]).all(|(y, wanted)| (y - wanted).abs() < 1e-4));
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct GroupNorm {
    /// `[C]`.
    pub weight: Option<Param>,
    /// `[C]`.
    pub bias: Option<Param>,
    groups: usize,
    channels: usize,
    eps: Elem,
}

module!(GroupNorm { weight, bias });

impl GroupNorm {
    /// With PyTorch's defaults: eps 1e-5, scaled and shifted. If the groups do not divide the channels, `forward` says
    /// so.
    pub fn new(num_groups: usize, num_channels: usize) -> Self {
        let layer =
            Self { weight: None, bias: None, groups: num_groups, channels: num_channels, eps: eps() as Elem };
        layer.affine(true)
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

impl Module for GroupNorm {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let (shape, c) = (x.shape(), self.channels);
        if shape.len() < 2 || shape[1] != c {
            return Err(Error::invalid(format!(
                "GroupNorm over {c} channels wants an input of shape [N, {c}, ..], got {shape:?}"
            )));
        }
        let (tape, weight, bias) = (x.tape(), self.weight.as_ref(), self.bias.as_ref());
        x.group_norm(self.groups, weight.map(|p| tape.param(p)), bias.map(|p| tape.param(p)), self.eps)
            .checked()
    }
}

register! { /// Normalises groups of channels of each sample.
dyn Module, "GroupNorm" => fn GroupNorm::from_config }

impl GroupNorm {
    fn from_config(p: GroupNormConfig, _: &mut BuildCx) -> Result<Self> {
        p.build()
    }
}
register! { /// `GroupNorm`, by the name of MMCV's registry.
dyn Module, "GN" => fn GroupNorm::from_config }

impl<'t> Var<'t> {
    /// `(x - mean) / sqrt(var + eps) * weight + bias` with the mean and the biased variance of each of `groups` groups of
    /// channels of each sample of `x` [N, C, ..]; `weight` and `bias` have the shape `[C]`.
    pub fn group_norm(self, groups: usize, weight: Option<Self>, bias: Option<Self>, eps: Elem) -> Self {
        self.attempt(|| Ok(self.group_norm_and_moments(groups, weight, bias, eps)?.0))
    }

    /// [`Var::group_norm`] with the mean and one over the deviation of each group.
    pub(super) fn group_norm_and_moments(
        self,
        groups: usize,
        weight: Option<Self>,
        bias: Option<Self>,
        eps: Elem,
    ) -> Result<(Self, [Tensor; 2])> {
        let x = self.value();
        let &[n, c, ref rest @ ..] = x.shape() else {
            return Err(Error::invalid(format!(
                "group norm wants an input of shape [N, C, ..], got {:?}",
                x.shape()
            )));
        };
        if groups == 0 || c % groups != 0 {
            return Err(Error::invalid(format!("group norm: {groups} groups do not divide {c} channels")));
        }
        let s = GroupNormShape { n, c, groups, inner: rest.iter().product() };
        let (gamma, beta) = (weight.map(Var::value), bias.map(Var::value));
        for (what, p) in [("the weight of group norm", &gamma), ("the bias of group norm", &beta)] {
            if let Some(p) = p {
                expect_shape(what, p.shape(), &[c])?;
            }
        }
        let mut y = self.tape.take(x.len());
        let (mut mean, mut rstd) = (self.tape.take(s.rows()), self.tape.take(s.rows()));
        let affine = LayerNormAffine { gamma: gamma.as_ref().map(slice), beta: beta.as_ref().map(slice) };
        let stats = LayerNormStatsMut { mean: &mut mean, rstd: &mut rstd };
        group_norm(s, slice(&x), affine, eps, &mut y, stats);
        let y = tensor(x.shape(), y);
        let moments = [mean, rstd].map(|m| tensor(&[n, groups], m));
        let inputs: Vec<Var<'t>> = [Some(self), weight, bias].into_iter().flatten().collect();
        let (at_weight, at_bias) = (weight.map(|_| 1), bias.map(|_| 1 + usize::from(weight.is_some())));
        let [mean, rstd] = moments.clone();
        let y = self.tape.node("group_norm", y, &inputs, move |mut dy, grads| {
            let (mut dw, mut db) = (grads.pool.take(c), grads.pool.take(c));
            let stats = LayerNormStats { mean: slice(&mean), rstd: slice(&rstd) };
            let to = LayerNormGrads { dy: &mut dy, dgamma: &mut dw, dbeta: &mut db };
            group_norm_backward(s, slice(&x), gamma.as_ref().map(slice), stats, to);
            grads.add(0, dy);
            for (at, grad) in [(at_weight, dw), (at_bias, db)] {
                match at {
                    Some(i) => grads.add(i, grad),
                    None => grads.pool.give(grad),
                }
            }
            grads.pool.recycle(rstd);
            grads.pool.recycle(mean);
        });
        Ok((y, moments))
    }
}

//! Batch normalisation.

use schemars::JsonSchema;
use serde::Deserialize;
use smallvec::SmallVec;

use crate::base::{Elem, Error, Result, Tensor};
use crate::kernels::{
    BnAffine, BnEpilogue, BnGrads, BnSaved, BnShape, Moments, MomentsMut, bn_apply, bn_backward,
    bn_eval_backward, bn_train,
};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::shapes::expect_shape;
use crate::nn::{Buffer, Counter, Forward, Module, Param, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of a batch norm in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct BatchNormConfig {
    /// Channels: the second axis of the input.
    #[schemars(range(min = 1))]
    pub num_features: usize,
    /// Added to the variance before its root.
    #[serde(default = "eps")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
    /// Weight of the newest batch in the running statistics; `null` for the mean over all batches so far.
    #[serde(default = "momentum")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub momentum: Option<f64>,
    /// Whether channels are scaled and shifted by trained numbers.
    #[serde(default = "crate::config::yes")]
    pub affine: bool,
    /// Whether running statistics are kept for evaluation; else each batch is normalised by its own.
    #[serde(default = "crate::config::yes")]
    pub track_running_stats: bool,
}

fn eps() -> f64 {
    1e-5
}

fn momentum() -> Option<f64> {
    Some(0.1)
}

impl BatchNormConfig {
    /// PyTorch's defaults: eps 1e-5, momentum 0.1, affine, with running statistics.
    fn new(num_features: usize) -> Self {
        Self { num_features, eps: eps(), momentum: momentum(), affine: true, track_running_stats: true }
    }
}

/// What the batch norms have in common.
#[derive(Debug, Clone)]
struct Core {
    weight: Option<Param>,
    bias: Option<Param>,
    running_mean: Option<Buffer>,
    running_var: Option<Buffer>,
    num_batches_tracked: Option<Counter>,
    config: BatchNormConfig,
}

module!(Core { weight, bias, running_mean, running_var, num_batches_tracked });

impl Core {
    fn new(p: &BatchNormConfig) -> Self {
        let shape = [p.num_features];
        Self {
            weight: p.affine.then(|| Param::full(&shape, 1.0)),
            bias: p.affine.then(|| Param::full(&shape, 0.0)),
            running_mean: p.track_running_stats.then(|| Buffer::full(&shape, 0.0)),
            running_var: p.track_running_stats.then(|| Buffer::full(&shape, 1.0)),
            num_batches_tracked: p.track_running_stats.then(Counter::default),
            config: p.clone(),
        }
    }

    fn forward<'t>(&mut self, x: Var<'t>, then: BnThen<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let moves = cx.training && !self.running_mean.as_ref().is_some_and(|mean| mean.fixed);
        let stats = match (&self.running_mean, &self.running_var) {
            (Some(mean), Some(var)) if !moves => BnStats::Fixed(mean.value.clone(), var.value.clone()),
            _ => BnStats::Batch,
        };
        let (weight, bias) = (self.weight.as_ref(), self.bias.as_ref());
        let tape = x.tape();
        let (weight, bias) = (weight.map(|p| tape.param(p)), bias.map(|p| tape.param(p)));
        let out = x.batch_norm(weight, bias, self.config.eps as Elem, stats, then)?;
        if moves {
            self.track(&out);
        }
        Ok(out.y)
    }

    /// Moves the running statistics towards the batch's, the variance without bias.
    fn track(&mut self, batch: &BnOutput<'_>) {
        let Some(counter) = &mut self.num_batches_tracked else { return };
        if batch.count == 0 {
            return;
        }
        counter.tick();
        // In f64: `1 - momentum` loses digits in f32, at every step.
        let factor = self.config.momentum.unwrap_or(1.0 / counter.get() as f64);
        let unbiased = batch.count as f64 / (batch.count - 1) as f64;
        for (running, new, scale) in
            [(&mut self.running_mean, &batch.mean, 1.0), (&mut self.running_var, &batch.var, unbiased)]
        {
            if let Some(running) = running {
                running.value.zip_mut_with(new, |r, n| {
                    *r = ((1.0 - factor) * f64::from(*r) + factor * scale * f64::from(*n)) as Elem;
                });
            }
        }
    }
}

macro_rules! batch_norm {
    ($(#[$doc:meta])* $name:ident, $axes:pat, $wants:literal) => {
        $(#[$doc])*
        ///
        /// In training by the statistics of the batch, in evaluation by the running ones (Ioffe and Szegedy 2015).
        #[derive(Debug, Clone)]
        pub struct $name {
            core: Core,
        }

        module!($name: "_BatchNorm", "_NormBase" { ..core });

        impl $name {
            /// Over this many channels, with PyTorch's defaults: eps 1e-5, momentum 0.1, weights 1, biases 0, running
            /// mean 0, running variance 1.
            pub fn new(num_features: usize) -> Self {
                Self { core: Core::new(&BatchNormConfig::new(num_features)) }
            }

            /// What is added to the variance before its root.
            #[must_use]
            pub fn eps(mut self, eps: f64) -> Self {
                self.core.config.eps = eps;
                self
            }

            /// The weight of the newest batch in the running statistics; `None` for the mean over all batches so far.
            #[must_use]
            pub fn momentum(mut self, momentum: impl Into<Option<f64>>) -> Self {
                self.core.config.momentum = momentum.into();
                self
            }

            /// Whether channels are scaled and shifted by trained numbers; they are unless this says no.
            #[must_use]
            pub fn affine(self, affine: bool) -> Self {
                Self { core: Core::new(&BatchNormConfig { affine, ..self.core.config }) }
            }

            /// Whether running statistics are kept for evaluation; they are unless this says no.
            #[must_use]
            pub fn track_running_stats(self, track_running_stats: bool) -> Self {
                Self { core: Core::new(&BatchNormConfig { track_running_stats, ..self.core.config }) }
            }
        }

        impl From<&BatchNormConfig> for $name {
            fn from(config: &BatchNormConfig) -> Self {
                Self { core: Core::new(config) }
            }
        }

        impl Module for $name {
            fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
                self.forward_then(x, BnThen::default(), cx)
            }
        }

        impl $name {
            /// The layer, with the sum and the ReLU that follow it, in one walk over memory.
            ///
            /// # Errors
            /// When the input does not fit, or what is added has another shape.
            pub fn forward_then<'t>(
                &mut self,
                x: Var<'t>,
                then: BnThen<'t>,
                cx: &mut Forward<'_>,
            ) -> Result<Var<'t>> {
                let shape = x.shape();
                if !matches!(shape.len(), $axes) {
                    return Err(Error::invalid(format!(
                        concat!(stringify!($name), " wants an input of shape ", $wants, ", got {:?}"),
                        shape
                    )));
                }
                self.core.forward(x, then, cx)
            }
        }
    };
}

batch_norm!(
    /// Normalises each feature of [N, C] or [N, C, L].
    BatchNorm1d,
    2 | 3,
    "[N, C] or [N, C, L]"
);
batch_norm!(
    /// Normalises each channel of images [N, C, H, W].
    BatchNorm2d,
    4,
    "[N, C, H, W]"
);

register! { /// Normalises each feature of [N, C] or [N, C, L].
dyn Module, "BatchNorm1d" => fn BatchNorm1d::from_config }

impl BatchNorm1d {
    fn from_config(p: BatchNormConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self::from(&p))
    }
}
register! { /// Normalises each channel of images [N, C, H, W].
dyn Module, "BatchNorm2d" => fn BatchNorm2d::from_config }

impl BatchNorm2d {
    fn from_config(p: BatchNormConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self::from(&p))
    }
}

/// Where the statistics of a batch norm come from.
#[derive(Debug, Clone)]
pub enum BnStats {
    /// The batch itself.
    Batch,
    /// Fixed mean and variance `[C]`: the running ones.
    Fixed(Tensor, Tensor),
}

/// What follows a batch norm at once, in the same walk over memory.
#[derive(Clone, Copy, Default)]
pub struct BnThen<'t> {
    /// Added to the normalised values; of their shape.
    pub add: Option<Var<'t>>,
    /// Whether a ReLU comes last.
    pub relu: bool,
}

/// What [`Var::batch_norm`] computed.
pub struct BnOutput<'t> {
    /// The normalised values.
    pub y: Var<'t>,
    /// The mean of each channel that was used.
    pub mean: Tensor,
    /// The variance of each channel that was used: for a batch the biased one, over `count` values.
    pub var: Tensor,
    /// Values that share one mean.
    pub count: usize,
}

impl<'t> Var<'t> {
    /// `(x - mean) / sqrt(var + eps) * weight + bias` per channel of `x` [N, C, ..], and what `then` says.
    ///
    /// # Errors
    /// When the sizes do not fit, or the batch has one value a channel, which has no variance.
    pub fn batch_norm(
        self,
        weight: Option<Self>,
        bias: Option<Self>,
        eps: Elem,
        stats: BnStats,
        then: BnThen<'t>,
    ) -> Result<BnOutput<'t>> {
        let s = self.fits_batch_norm(weight, bias, &stats, then)?;
        let (gamma, beta, c) = (weight.map(Var::value), bias.map(Var::value), s.c);
        let affine = BnAffine { gamma: gamma.as_ref().map(slice), beta: beta.as_ref().map(slice), eps };
        if let BnStats::Fixed(mean, var) = &stats
            && let Some(y) = self.with_norm(affine, Moments { mean: slice(mean), var: slice(var) }, then)
        {
            return Ok(BnOutput { y, mean: mean.clone(), var: var.clone(), count: s.count() });
        }
        let (x, added) = (self.value(), then.add.map(Var::value));
        let epilogue = BnEpilogue { residual: added.as_ref().map(slice), relu: then.relu };
        let batch = matches!(stats, BnStats::Batch);
        let mut y = self.tape.take(x.len());
        let (mean, var) = match stats {
            BnStats::Batch => {
                let (mut mean, mut var) = (self.tape.take(c), self.tape.take(c));
                let moments = MomentsMut { mean: &mut mean, var: &mut var };
                bn_train(s, slice(&x), affine, epilogue, &mut y, moments);
                (tensor(&[c], mean), tensor(&[c], var))
            }
            BnStats::Fixed(mean, var) => {
                let moments = Moments { mean: slice(&mean), var: slice(&var) };
                bn_apply(s, slice(&x), moments, affine, epilogue, &mut y);
                (mean, var)
            }
        };
        drop(added);
        let y = tensor(x.shape(), y);
        let masks = then.relu.then(|| y.clone());
        let inputs: SmallVec<[Var<'t>; 4]> =
            [Some(self), weight, bias, then.add].into_iter().flatten().collect();
        let at = |given: bool, before: &[bool]| given.then(|| 1 + before.iter().filter(|b| **b).count());
        let (has_weight, has_bias) = (weight.is_some(), bias.is_some());
        let (at_weight, at_bias) = (at(has_weight, &[]), at(has_bias, &[has_weight]));
        let at_add = at(then.add.is_some(), &[has_weight, has_bias]);
        let (kept_mean, kept_var) = (mean.clone(), var.clone());
        let y = self.tape.node("batch_norm", y, &inputs, move |mut dy, grads| {
            let (mut dw, mut db) = (grads.pool.take(c), grads.pool.take(c));
            let mut added = at_add.filter(|i| grads.wants(*i)).map(|i| (i, grads.pool.take(dy.len())));
            let back = if batch { bn_backward } else { bn_eval_backward };
            let saved = BnSaved {
                x: slice(&x),
                y: masks.as_ref().map(slice),
                gamma: gamma.as_ref().map(slice),
                moments: Moments { mean: slice(&kept_mean), var: slice(&kept_var) },
                eps,
            };
            let dresidual = added.as_mut().map(|(_, d)| &mut d[..]);
            back(s, saved, BnGrads { dy: &mut dy, dgamma: &mut dw, dbeta: &mut db, dresidual });
            grads.add(0, dy);
            for (at, grad) in [(at_weight, dw), (at_bias, db)] {
                match at {
                    Some(i) => grads.add(i, grad),
                    None => grads.pool.give(grad),
                }
            }
            if let Some((i, grad)) = added {
                grads.add(i, grad);
            }
            grads.pool.recycle(kept_mean);
            grads.pool.recycle(kept_var);
        });
        Ok(BnOutput { y, mean, var, count: s.count() })
    }

    /// The sizes of a batch norm of this value, if everything has the shape that it needs.
    fn fits_batch_norm(
        self,
        weight: Option<Self>,
        bias: Option<Self>,
        stats: &BnStats,
        then: BnThen<'t>,
    ) -> Result<BnShape> {
        let shape = self.shape();
        let &[n, c, ref rest @ ..] = shape.as_slice() else {
            return Err(Error::invalid(format!(
                "batch norm wants an input of shape [N, C, ..], got {shape:?}"
            )));
        };
        for (what, p) in [("the weight of batch norm", weight), ("the bias of batch norm", bias)] {
            if let Some(p) = p {
                expect_shape(what, &p.shape(), &[c])?;
            }
        }
        if let Some(added) = then.add {
            expect_shape("what is added to batch norm", &added.shape(), &shape)?;
        }
        let s = BnShape { n, c, inner: rest.iter().product() };
        match stats {
            BnStats::Batch if s.count() == 1 => Err(Error::invalid(format!(
                "batch norm cannot train on one value per channel (input of shape {shape:?}): use larger batches, or \
                 `drop_last: true` if this is the last one"
            ))),
            BnStats::Batch => Ok(s),
            BnStats::Fixed(mean, var) => {
                expect_shape("the running mean of batch norm", mean.shape(), &[c])?;
                expect_shape("the running variance of batch norm", var.shape(), &[c])?;
                Ok(s)
            }
        }
    }

    /// The product that waits here with a batch norm in its weight and bias, and what follows; `None` if none waits.
    fn with_norm(self, affine: BnAffine<'_>, moments: Moments<'_>, then: BnThen<'t>) -> Option<Self> {
        let at = |values: Option<&[Elem]>, k: usize, absent: f64| values.map_or(absent, |v| f64::from(v[k]));
        let channels = moments.var.iter().enumerate();
        let scale = channels.map(|(k, var)| at(affine.gamma, k, 1.0) / f64::from(var + affine.eps).sqrt());
        let scale: Vec<f64> = scale.collect();
        let means = moments.mean.iter().zip(&scale).enumerate();
        let shift: Vec<f64> =
            means.map(|(k, (mean, scale))| at(affine.beta, k, 0.0) - f64::from(*mean) * scale).collect();
        let y = self.absorbed("batch_norm", |product| product.scaled(&scale, &shift))?;
        let y = then.add.map_or(y, |add| y + add);
        Some(if then.relu { y.relu() } else { y })
    }
}

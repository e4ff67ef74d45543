//! Instance normalisation.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result, Tensor};
use crate::nn::{Buffer, Counter, Forward, Module, Param, Var};
use crate::registry::BuildCx;
use crate::{module, register};

use super::batch_norm::{BnStats, BnThen};

/// The keys of an instance norm in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct InstanceNormConfig {
    /// Channels: the second axis of the input.
    #[schemars(range(min = 1))]
    pub num_features: usize,
    /// Added to the variance before its root.
    #[serde(default = "eps")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
    /// Weight of the newest batch in the running statistics.
    #[serde(default = "momentum")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub momentum: f64,
    /// Whether channels are scaled and shifted by trained numbers.
    #[serde(default)]
    pub affine: bool,
    /// Whether running statistics are kept for evaluation; else each sample is normalised by its own.
    #[serde(default)]
    pub track_running_stats: bool,
}

fn eps() -> f64 {
    1e-5
}

fn momentum() -> f64 {
    0.1
}

/// What the instance norms have in common.
#[derive(Debug, Clone)]
struct Core {
    weight: Option<Param>,
    bias: Option<Param>,
    running_mean: Option<Buffer>,
    running_var: Option<Buffer>,
    /// Saved by PyTorch too, which never counts with it.
    num_batches_tracked: Option<Counter>,
    config: InstanceNormConfig,
}

module!(Core { weight, bias, running_mean, running_var, num_batches_tracked });

impl Core {
    fn new(p: InstanceNormConfig) -> Self {
        let shape = [p.num_features];
        Self {
            weight: p.affine.then(|| Param::full(&shape, 1.0)),
            bias: p.affine.then(|| Param::full(&shape, 0.0)),
            running_mean: p.track_running_stats.then(|| Buffer::full(&shape, 0.0)),
            running_var: p.track_running_stats.then(|| Buffer::full(&shape, 1.0)),
            num_batches_tracked: p.track_running_stats.then(Counter::default),
            config: p,
        }
    }

    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let (tape, weight, bias) = (x.tape(), self.weight.as_ref(), self.bias.as_ref());
        let (weight, bias) = (weight.map(|p| tape.param(p)), bias.map(|p| tape.param(p)));
        let eps = self.config.eps as Elem;
        if !cx.training
            && let (Some(mean), Some(var)) = (&self.running_mean, &self.running_var)
        {
            let stats = BnStats::Fixed(mean.value.clone(), var.value.clone());
            return Ok(x.batch_norm(weight, bias, eps, stats, BnThen::default())?.y);
        }
        let shape = x.shape();
        let count: usize = shape[2..].iter().product();
        if cx.training && count == 1 {
            return Err(Error::invalid(format!(
                "instance norm cannot train on one value per channel and sample (input of shape {shape:?}): use larger inputs"
            )));
        }
        let (y, [mean, rstd]) = x.group_norm_and_moments(self.config.num_features, weight, bias, eps)?;
        if cx.training {
            self.track(&mean, &rstd, count);
        }
        Ok(y)
    }

    /// Moves the running statistics towards the mean of the samples', the variance without bias.
    fn track(&mut self, mean: &Tensor, rstd: &Tensor, count: usize) {
        let n = mean.shape()[0];
        if n == 0 || count < 2 {
            return;
        }
        let (momentum, eps) = (self.config.momentum, self.config.eps);
        let unbiased = count as f64 / (count - 1) as f64;
        let variance = |rstd: f64| ((rstd * rstd).recip() - eps).max(0.0) * unbiased;
        let update = |running: &mut Option<Buffer>, of: &Tensor, value: &dyn Fn(f64) -> f64| {
            for (c, r) in running.iter_mut().flat_map(|r| r.value.iter_mut()).enumerate() {
                let samples = (0..n).map(|i| value(f64::from(of[[i, c]]))).sum::<f64>() / n as f64;
                *r = ((1.0 - momentum) * f64::from(*r) + momentum * samples) as Elem;
            }
        };
        update(&mut self.running_mean, mean, &|mean| mean);
        update(&mut self.running_var, rstd, &variance);
    }
}

macro_rules! instance_norm {
    ($(#[$doc:meta])* $name:ident, $axes:literal, $wants:literal) => {
        $(#[$doc])*
        ///
        /// With running statistics, which are off unless asked for, an evaluation normalises by them.
        #[derive(Debug, Clone)]
        pub struct $name {
            core: Core,
        }

        module!($name: "_InstanceNorm", "_NormBase" { ..core });

        impl $name {
            /// Over this many channels, with PyTorch's defaults: eps 1e-5, neither scaled nor shifted, no running
            /// statistics.
            pub fn new(num_features: usize) -> Self {
                let (affine, track_running_stats) = (false, false);
                let (eps, momentum) = (eps(), momentum());
                Self::of(InstanceNormConfig { num_features, eps, momentum, affine, track_running_stats })
            }

            fn of(config: InstanceNormConfig) -> Self {
                Self { core: Core::new(config) }
            }

            /// What is added to the variance before its root.
            #[must_use]
            pub fn eps(mut self, eps: f64) -> Self {
                self.core.config.eps = eps;
                self
            }

            /// The weight of the newest batch in the running statistics.
            #[must_use]
            pub fn momentum(mut self, momentum: f64) -> Self {
                self.core.config.momentum = momentum;
                self
            }

            /// Whether channels are scaled and shifted by trained numbers.
            #[must_use]
            pub fn affine(self, affine: bool) -> Self {
                Self::of(InstanceNormConfig { affine, ..self.core.config })
            }

            /// Whether running statistics are kept for evaluation.
            #[must_use]
            pub fn track_running_stats(self, track_running_stats: bool) -> Self {
                Self::of(InstanceNormConfig { track_running_stats, ..self.core.config })
            }

            fn from_config(p: InstanceNormConfig, _: &mut BuildCx) -> Result<Self> {
                Ok(Self::of(p))
            }
        }

        impl Module for $name {
            fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
                let (shape, c) = (x.shape(), self.core.config.num_features);
                if shape.len() != $axes || shape[1] != c {
                    return Err(Error::invalid(format!(
                        concat!(stringify!($name), " over {} channels wants an input of shape ", $wants, ", got {:?}"),
                        c, shape
                    )));
                }
                self.core.forward(x, cx)
            }
        }
    };
}

instance_norm!(
    /// Normalises each channel of each sequence [N, C, L] by its own mean and variance (Ulyanov et al. 2016,
    /// <https://arxiv.org/abs/1607.08022>).
    InstanceNorm1d,
    3,
    "[N, C, L]"
);
instance_norm!(
    /// Normalises each channel of each image [N, C, H, W] by its own mean and variance (Ulyanov et al. 2016,
    /// <https://arxiv.org/abs/1607.08022>).
    ///
    /// ```
    /// use shanty::base::{Tensor, keyed};
    /// use shanty::nn::{BufferPool, Forward, InstanceNorm2d, Module, Tape};
    ///
    /// let tape = Tape::new(BufferPool::default());
    /// let x = tape.input(Tensor::from_shape_vec(vec![1, 2, 1, 2], vec![1.0, 3.0, 50.0, 10.0]).unwrap());
    /// let y = InstanceNorm2d::new(2).forward(x, &mut Forward::new(true, &mut keyed(0, "", 0, 0)))?.value();
    /// assert!(y.iter().zip([-1.0, 1.0, 1.0, -1.0]).all(|(y, wanted)| (y - wanted).abs() < 1e-4));
    /// # Ok::<(), shanty::base::Error>(())
    /// ```
    InstanceNorm2d,
    4,
    "[N, C, H, W]"
);

register! { /// Normalises each channel of each sequence.
dyn Module, "InstanceNorm1d" => fn InstanceNorm1d::from_config }
register! { /// `InstanceNorm1d`, by the name of MMCV's registry.
dyn Module, "IN1d" => fn InstanceNorm1d::from_config }
register! { /// Normalises each channel of each image.
dyn Module, "InstanceNorm2d" => fn InstanceNorm2d::from_config }
register! { /// `InstanceNorm2d`, by the name of MMCV's registry.
dyn Module, "IN2d" => fn InstanceNorm2d::from_config }
register! { /// `InstanceNorm2d`, by the shorter name of MMCV's registry.
dyn Module, "IN" => fn InstanceNorm2d::from_config }

//! Batch normalisation.

mod op;

use std::any::Any;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result};
use crate::nn::{Buffer, Child, ChildMut, Counter, Forward, Module, ModuleTree, Param, Var};
use crate::registry::BuildCx;
use crate::{module, register};

pub use op::{BnOutput, BnStats, BnThen};

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
pub(in crate::nn) struct Core {
    weight: Option<Param>,
    bias: Option<Param>,
    running_mean: Option<Buffer>,
    running_var: Option<Buffer>,
    num_batches_tracked: Option<Counter>,
    config: BatchNormConfig,
    /// Whether it is in the weights of the layer before it, and does nothing any more.
    folded: bool,
    /// Whether its statistics are those of all processes that train together.
    pub(in crate::nn) sync: bool,
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
            folded: false,
            sync: false,
        }
    }

    /// One factor and one number a channel: what it does by its running statistics. From now on it does nothing, for
    /// that is in the weights of the layer before it. `None` of one without running statistics.
    pub fn fold(&mut self) -> Option<(Vec<f64>, Vec<f64>)> {
        let (mean, var) = (self.running_mean.take()?, self.running_var.take()?);
        let (weight, bias) = (self.weight.take(), self.bias.take());
        self.num_batches_tracked = None;
        self.folded = true;
        let at = |p: &Option<Param>, k: usize, absent: f64| match p {
            Some(p) => p.value.get(k).map_or(absent, |v| f64::from(*v)),
            None => absent,
        };
        let channels = mean.value.iter().zip(&var.value).enumerate();
        Some(
            channels
                .map(|(k, (mean, var))| {
                    let scale = at(&weight, k, 1.0) / f64::from(*var + self.config.eps as Elem).sqrt();
                    (scale, at(&bias, k, 0.0) - f64::from(*mean) * scale)
                })
                .unzip(),
        )
    }

    /// Where its running mean lies in memory, which tells it from all others; of one that could be folded.
    pub fn address(&self) -> Option<usize> {
        self.running_mean.as_ref().map(|mean| mean.value.as_ptr() as usize)
    }

    fn forward<'t>(&mut self, x: Var<'t>, then: BnThen<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        if self.folded {
            return then.after(x).checked();
        }
        let moves = cx.training && !self.running_mean.as_ref().is_some_and(|mean| mean.fixed);
        let stats = match (&self.running_mean, &self.running_var) {
            (Some(mean), Some(var)) if !moves => BnStats::Fixed(mean.value.clone(), var.value.clone()),
            _ => match &cx.ranks {
                Some(ranks) if self.sync && cx.training => BnStats::Across(Arc::clone(ranks)),
                _ => BnStats::Batch,
            },
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
    ($(#[$doc:meta])* $name:ident, $axes:pat, $wants:literal, sync = $sync:literal) => {
        $(#[$doc])*
        ///
        /// In training by the statistics of the batch, in evaluation by the running ones (Ioffe and Szegedy 2015).
        #[derive(Debug, Clone)]
        pub struct $name {
            core: Core,
        }

        impl ModuleTree for $name {
            fn type_name(&self) -> &'static str {
                if self.core.sync { "SyncBatchNorm" } else { stringify!($name) }
            }
            fn families(&self) -> &'static [&'static str] {
                &["_BatchNorm", "_NormBase"]
            }
            fn visit_children<'a>(&'a self, f: &mut dyn FnMut(&str, Child<'a>)) {
                self.core.visit_children(f);
            }
            fn visit_children_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
                self.core.visit_children_mut(f);
            }
        }

        impl $name {
            /// Over this many channels, with PyTorch's defaults: eps 1e-5, momentum 0.1, weights 1, biases 0, running
            /// mean 0, running variance 1.
            pub fn new(num_features: usize) -> Self {
                Self::from(&BatchNormConfig::new(num_features))
            }

            /// Whether its statistics are those of all processes that train together.
            #[must_use]
            pub fn sync(mut self, sync: bool) -> Self {
                self.core.sync = sync;
                self
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
                let sync = self.core.sync;
                Self::from(&BatchNormConfig { affine, ..self.core.config }).sync(sync)
            }

            /// Whether running statistics are kept for evaluation; they are unless this says no.
            #[must_use]
            pub fn track_running_stats(self, track_running_stats: bool) -> Self {
                let sync = self.core.sync;
                Self::from(&BatchNormConfig { track_running_stats, ..self.core.config }).sync(sync)
            }
        }

        impl From<&BatchNormConfig> for $name {
            fn from(config: &BatchNormConfig) -> Self {
                Self { core: Core { sync: $sync, ..Core::new(config) } }
            }
        }

        impl $name {
            fn from_config(p: BatchNormConfig, _: &mut BuildCx) -> Result<Self> {
                Ok(Self::from(&p))
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
    "[N, C] or [N, C, L]",
    sync = false
);
batch_norm!(
    /// Normalises each channel of images [N, C, H, W].
    BatchNorm2d,
    4,
    "[N, C, H, W]",
    sync = false
);
batch_norm!(
    /// Normalises each channel of [N, C, ..] by the batches of all processes that train together, each sample with the
    /// same weight; of one process as the other batch norms.
    SyncBatchNorm,
    2..,
    "[N, C, ..]",
    sync = true
);

macro_rules! registered {
    ($($(#[doc = $doc:expr])+ $registered:literal => $name:ident),+ $(,)?) => {
        $(register! { $(#[doc = $doc])+ dyn Module, $registered => fn $name::from_config })+
    };
}

registered! {
    /// Normalises each feature of [N, C] or [N, C, L].
    "BatchNorm1d" => BatchNorm1d,
    /// Normalises each channel of images [N, C, H, W].
    "BatchNorm2d" => BatchNorm2d,
    /// A batch norm by the statistics of all processes that train together; of one process as BatchNorm1d and 2d.
    "SyncBatchNorm" => SyncBatchNorm,
    /// `BatchNorm1d`, by the name of MMCV's registry.
    "BN1d" => BatchNorm1d,
    /// `BatchNorm2d`, by the name of MMCV's registry.
    "BN2d" => BatchNorm2d,
    /// `BatchNorm2d`, by the name of MMCV's registry.
    "BN" => BatchNorm2d,
    /// `SyncBatchNorm`, by the name of MMCV's registry.
    "SyncBN" => SyncBatchNorm,
    /// `SyncBatchNorm`, by MMCV's name for an op of its own.
    "MMSyncBN" => SyncBatchNorm,
}

/// The batch norm that a module is.
pub(in crate::nn) fn norm_of(module: &mut dyn Any) -> Option<&mut Core> {
    if module.is::<BatchNorm1d>() {
        return module.downcast_mut::<BatchNorm1d>().map(|norm| &mut norm.core);
    }
    if module.is::<BatchNorm2d>() {
        return module.downcast_mut::<BatchNorm2d>().map(|norm| &mut norm.core);
    }
    module.downcast_mut::<SyncBatchNorm>().map(|norm| &mut norm.core)
}

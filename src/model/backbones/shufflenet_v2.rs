//! ShuffleNetV2 (Ma et al. 2018, <https://arxiv.org/abs/1807.11164>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::common::{last_only, last_stage, one, three};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::kernels::Act;
use crate::nn::init::{Constant, Init, Kaiming};
use crate::nn::{ConvModule, Forward, MaxPool2d, Module, Sequential, Var, set_norm_eval};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: ShuffleNetV2, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ShuffleNetV2Config {
    /// How wide: 0.5, 1.0, 1.5 or 2.0.
    #[schemars(range(min = 0.5, max = 2.0))]
    pub widen_factor: f64,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Whether batch norms normalise by their running statistics in training too, and leave them alone.
    pub norm_eval: bool,
    /// Accepted if it names the last of 4 layers, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

impl Default for ShuffleNetV2Config {
    fn default() -> Self {
        Self { out_indices: last_stage(), widen_factor: one(), in_channels: three(), norm_eval: false }
    }
}

/// Half of the channels through three convolutions, the other half past them, then shuffled: images to 1024 features (2048
/// with `widen_factor: 2.0`) of 1/32 of the size.
///
/// Weight names are MMPretrain's: `conv1.conv`, `layers.0.1.branch2.0.conv`, `layers.3.bn`. 2,278,604 parameters with a linear
/// layer for 1000 classes.
pub struct ShuffleNetV2 {
    conv1: ConvModule,
    maxpool: MaxPool2d,
    layers: Vec<Box<dyn Module>>,
    init: Vec<Init>,
}

module!(ShuffleNetV2 { conv1, maxpool, layers }, init_cfg = init);

register! { /// ShuffleNetV2: 1024 features of 1/32 of the size.
dyn Module, "ShuffleNetV2" => fn ShuffleNetV2::from_config }

impl ShuffleNetV2 {
    fn from_config(p: ShuffleNetV2Config, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When there is no such width.
    pub fn new(p: &ShuffleNetV2Config) -> Result<Self> {
        last_only(&p.out_indices, 4)?;
        let (channels, last) = match p.widen_factor {
            0.5 => ([48, 96, 192], 1024),
            1.0 => ([116, 232, 464], 1024),
            1.5 => ([176, 352, 704], 1024),
            2.0 => ([244, 488, 976], 2048),
            other => {
                let text = format!("no ShuffleNetV2 has `widen_factor: {other}`: it is 0.5, 1.0, 1.5 or 2.0");
                return Err(Error::config(text));
            }
        };
        let mut from = 24;
        let mut layers: Vec<Box<dyn Module>> = Vec::new();
        for (to, blocks) in channels.into_iter().zip([4, 8, 4]) {
            let mut stage = Sequential::new();
            for block in 0..blocks {
                let stride = if block == 0 { 2 } else { 1 };
                stage = stage.with(Unit::new(std::mem::replace(&mut from, to), to, stride)?);
            }
            layers.push(Box::new(stage));
        }
        layers.push(Box::new(ConvModule::of(from, last, 1).build()?));
        let mut net = Self {
            conv1: ConvModule::of(p.in_channels, 24, 3).stride(2).build()?,
            maxpool: MaxPool2d::new(3).stride(2).padding(1),
            layers,
            init: vec![
                Init::new(Kaiming::default()).layer("Conv2d"),
                Init::new(Constant { val: 1.0 }).layer("_BatchNorm"),
            ],
        };
        set_norm_eval(&mut net, p.norm_eval);
        Ok(net)
    }
}

impl Module for ShuffleNetV2 {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("conv1", &mut self.conv1, x)?;
        let x = cx.child("maxpool", &mut self.maxpool, x)?;
        let mut layers = self.layers.iter_mut().enumerate();
        layers.try_fold(x, |x, (i, layer)| cx.child(format_args!("layers.{i}"), layer, x))
    }
}

/// A unit of the network. One that makes the image smaller sends all channels through both branches.
struct Unit {
    branch1: Option<Sequential>,
    branch2: Sequential,
}

module!(Unit { branch1, branch2 });

impl Unit {
    fn new(from: usize, to: usize, stride: usize) -> Result<Self> {
        let half = to / 2;
        let smaller = stride > 1;
        let depthwise = |channels: usize| {
            ConvModule::of(channels, channels, 3).stride(stride).groups(channels).act(Act::Identity).build()
        };
        let past = || -> Result<_> {
            Ok(Sequential::new().with(depthwise(from)?).with(ConvModule::of(from, half, 1).build()?))
        };
        let branch2 = Sequential::new()
            .with(ConvModule::of(if smaller { from } else { half }, half, 1).build()?)
            .with(depthwise(half)?)
            .with(ConvModule::of(half, half, 1).build()?);
        Ok(Self { branch1: smaller.then(past).transpose()?, branch2 })
    }
}

impl Module for Unit {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let (past, through) = match &mut self.branch1 {
            Some(branch1) => (cx.child("branch1", branch1, x)?, x),
            None => {
                let [past, through] = x.chunk(1);
                (past, through)
            }
        };
        let through = cx.child("branch2", &mut self.branch2, through)?;
        x.tape().concat(&[past, through], 1).channel_shuffle(2).checked()
    }
}

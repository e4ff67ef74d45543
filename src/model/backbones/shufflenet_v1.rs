//! ShuffleNetV1 (Zhang et al. 2018, <https://arxiv.org/abs/1707.01083>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::common::{last_only, last_stage, one, three};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::kernels::Act;
use crate::nn::init::{Constant, Init, Kaiming};
use crate::nn::{
    AvgPool2d, ConvModule, Forward, MaxPool2d, Module, Sequential, Var, make_divisible, set_norm_eval,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: ShuffleNetV1, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ShuffleNetV1Config {
    /// Groups of the 1 × 1 convolutions: 1, 2, 3, 4 or 8. The more there are, the more channels can be afforded.
    #[schemars(range(min = 1, max = 8))]
    pub groups: usize,
    /// What all numbers of channels are multiplied by.
    #[schemars(range(min = 0.01, max = 100.0))]
    pub widen_factor: f64,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Whether batch norms normalise by their running statistics in training too, and leave them alone.
    pub norm_eval: bool,
    /// Accepted if it names the last stage, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

impl Default for ShuffleNetV1Config {
    fn default() -> Self {
        Self {
            out_indices: last_stage(),
            groups: 3,
            widen_factor: one(),
            in_channels: three(),
            norm_eval: false,
        }
    }
}

/// 1 × 1 convolutions in groups, whose channels are shuffled in between: images to 960 features (of 3 groups) of 1/32 of
/// the size.
///
/// Weight names are MMPretrain's: `conv1.conv`, `layers.0.1.g_conv_1x1_compress.conv`. 1,865,728 parameters with a linear layer
/// for 1000 classes.
pub struct ShuffleNetV1 {
    conv1: ConvModule,
    maxpool: MaxPool2d,
    layers: Vec<Sequential>,
    init: Vec<Init>,
}

module!(ShuffleNetV1 { conv1, maxpool, layers }, init_cfg = init);

register! { /// ShuffleNetV1: features of 1/32 of the size.
dyn Module, "ShuffleNetV1" => fn ShuffleNetV1::from_config }

impl ShuffleNetV1 {
    fn from_config(p: ShuffleNetV1Config, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When there is none of so many groups, or they do not divide the channels.
    pub fn new(p: &ShuffleNetV1Config) -> Result<Self> {
        last_only(&p.out_indices, 3)?;
        let channels = match p.groups {
            1 => 144,
            2 => 200,
            3 => 240,
            4 => 272,
            8 => 384,
            other => {
                let text = format!("no ShuffleNetV1 has `groups: {other}`: there are 1, 2, 3, 4 or 8");
                return Err(Error::config(text));
            }
        };
        let mut from = ((24.0 * p.widen_factor) as usize).max(1);
        let conv1 = ConvModule::of(p.in_channels, from, 3).stride(2).build()?;
        let mut layers = Vec::new();
        for (i, blocks) in [4, 8, 4].into_iter().enumerate() {
            let to = make_divisible(f64::from(channels << i) * p.widen_factor, 8);
            let mut stage = Sequential::new();
            for block in 0..blocks {
                let first = if i == 0 && block == 0 { 1 } else { p.groups };
                stage = stage.with(Unit::new(
                    std::mem::replace(&mut from, to),
                    to,
                    [first, p.groups],
                    block == 0,
                )?);
            }
            layers.push(stage);
        }
        let mut net = Self {
            conv1,
            maxpool: MaxPool2d::new(3).stride(2).padding(1),
            layers,
            init: vec![
                Init::new(Kaiming::default()).layer("Conv2d"),
                Init::new(Constant { val: 1.0 }).layer("_BatchNorm").bias(0.0001),
            ],
        };
        set_norm_eval(&mut net, p.norm_eval);
        Ok(net)
    }
}

impl Module for ShuffleNetV1 {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("conv1", &mut self.conv1, x)?;
        let x = cx.child("maxpool", &mut self.maxpool, x)?;
        let mut layers = self.layers.iter_mut().enumerate();
        layers.try_fold(x, |x, (i, layer)| cx.child(format_args!("layers.{i}"), layer, x))
    }
}

/// A unit of the network. One that makes the image smaller puts its mean beside the result instead of adding the image.
struct Unit {
    compress: ConvModule,
    depthwise: ConvModule,
    expand: ConvModule,
    pool: Option<AvgPool2d>,
    groups: usize,
}

module!(Unit {
    compress as "g_conv_1x1_compress",
    depthwise as "depthwise_conv3x3_bn",
    expand as "g_conv_1x1_expand",
    pool as "avgpool",
});

impl Unit {
    fn new(from: usize, to: usize, [first, groups]: [usize; 2], smaller: bool) -> Result<Self> {
        let (inner, stride) = (to / 4, if smaller { 2 } else { 1 });
        let Some(added) = (if smaller { to.checked_sub(from) } else { Some(to) }) else {
            return Err(Error::config(format!("ShuffleNetV1 cannot go from {from} to {to} channels")));
        };
        let depthwise = ConvModule::of(inner, inner, 3).stride(stride).groups(inner).act(Act::Identity);
        Ok(Self {
            compress: ConvModule::of(from, inner, 1).groups(first).build()?,
            depthwise: depthwise.build()?,
            expand: ConvModule::of(inner, added, 1).groups(groups).act(Act::Identity).build()?,
            pool: smaller.then(|| AvgPool2d::new(3).stride(2).padding(1)),
            groups,
        })
    }
}

impl Module for Unit {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child("g_conv_1x1_compress", &mut self.compress, x)?;
        let y = cx.child("depthwise_conv3x3_bn", &mut self.depthwise, y)?.channel_shuffle(self.groups);
        let y = cx.child("g_conv_1x1_expand", &mut self.expand, y)?;
        match &mut self.pool {
            Some(pool) => {
                let mean = cx.child("avgpool", pool, x)?;
                x.tape().concat(&[mean, y.relu()], 1).checked()
            }
            None => (x + y).relu().checked(),
        }
    }
}

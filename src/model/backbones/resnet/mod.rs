//! Residual networks of basic blocks (He et al. 2015, <https://arxiv.org/abs/1512.03385>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::nn::init::{Constant, Init, Kaiming};
use crate::nn::{
    BatchNorm2d, BnThen, Conv2d, Forward, MaxPool2d, Module, Sequential, Var, set_norm_eval, set_trainable,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: ResNet, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ResNetConfig {
    /// Layers: 18 or 34; in the form for small images also 20, 32, 44, 56 and every other 6 n + 2, in three stages of n
    /// blocks.
    #[schemars(range(min = 8, max = 10_000), example = 18)]
    pub depth: usize,
    /// Channels of the images.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Channels of the first stage, doubled from stage to stage: 64, or 16 in a network of three stages.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub base_channels: Option<usize>,
    /// Accepted if it is what the depth has: 4, or 3.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub num_stages: Option<usize>,
    /// Accepted if it names the last stage, whose output is the network's.
    #[serde(default)]
    pub out_indices: Option<Vec<usize>>,
    /// Accepted for MMPretrain's configs: basic blocks have only one.
    #[serde(default)]
    pub style: Option<BlockStyle>,
    /// Whether each block begins as its shortcut: the scale of its last batch norm is 0 at first.
    #[serde(default = "crate::config::yes")]
    pub zero_init_residual: bool,
    /// Stages that are frozen, batch norms too: 0 the stem, n also the first n stages; -1 none.
    #[serde(default = "none_frozen")]
    #[schemars(range(min = -1))]
    pub frozen_stages: i64,
    /// Whether batch norms normalise by their running statistics in training too, and leave them alone.
    #[serde(default)]
    pub norm_eval: bool,
}

/// Where a bottleneck has its stride; without effect on basic blocks.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlockStyle {
    /// In the 3 × 3 convolution.
    Pytorch,
    /// In the first 1 × 1 convolution.
    Caffe,
}

fn three() -> usize {
    3
}

fn none_frozen() -> i64 {
    -1
}

impl ResNetConfig {
    /// A network of this depth for images of three channels.
    pub fn new(depth: usize) -> Self {
        Self {
            depth,
            in_channels: three(),
            base_channels: None,
            num_stages: None,
            out_indices: None,
            style: None,
            zero_init_residual: true,
            frozen_stages: -1,
            norm_eval: false,
        }
    }

    /// Blocks of each stage and channels of the first.
    fn plan(&self, small: bool) -> Result<(Vec<usize>, usize)> {
        let (blocks, base) = match self.depth {
            18 => (vec![2, 2, 2, 2], 64),
            34 => (vec![3, 4, 6, 3], 64),
            depth if small && depth >= 8 && depth % 6 == 2 => (vec![(depth - 2) / 6; 3], 16),
            depth => {
                let known = if small { "18, 34 or 6 n + 2 (20, 32, 44, 56, …)" } else { "18 or 34" };
                return Err(Error::config(format!(
                    "no ResNet of basic blocks has `depth: {depth}`: it is {known}"
                )));
            }
        };
        let stages = blocks.len();
        if self.num_stages.is_some_and(|n| n != stages) {
            return Err(Error::config(format!("a ResNet of depth {} has {stages} stages", self.depth)));
        }
        if self.out_indices.as_ref().is_some_and(|out| *out != [stages - 1]) {
            return Err(Error::config(format!(
                "only the last stage is an output: `out_indices: [{}]`",
                stages - 1
            )));
        }
        if self.frozen_stages > stages as i64 {
            let n = self.frozen_stages;
            return Err(Error::config(format!(
                "`frozen_stages: {n}`, but depth {} has {stages} stages",
                self.depth
            )));
        }
        Ok((blocks, self.base_channels.unwrap_or(base)))
    }
}

register! { /// A residual network, of 18 or 34 layers, for large images: features of 1/32 of the size.
dyn Module, "ResNet" => fn ResNet::from_config }

register! { /// A residual network for small images: a 3 × 3 stem that keeps the size, no pooling after it.
dyn Module, "ResNet_CIFAR" => fn ResNet::cifar_from_config }

/// Two 3 × 3 convolutions beside a shortcut.
struct BasicBlock {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    downsample: Option<Sequential>,
    init: Vec<Init>,
}

module!(BasicBlock { conv1, bn1, conv2, bn2, downsample }, init_cfg = init);

impl BasicBlock {
    fn new(from: usize, to: usize, stride: usize, zero_init: bool) -> Self {
        let downsample = (from != to || stride != 1)
            .then(|| Sequential::new().with(conv(from, to, 1, stride)).with(norm(to)));
        let zero = Init::new(Constant { val: 0.0 }).override_all("bn2");
        Self {
            conv1: conv(from, to, 3, stride),
            bn1: norm(to),
            conv2: conv(to, to, 3, 1),
            bn2: norm(to),
            downsample,
            init: if zero_init { vec![zero] } else { Vec::new() },
        }
    }
}

impl Module for BasicBlock {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let shortcut = match &mut self.downsample {
            Some(downsample) => downsample.forward(x, cx)?,
            None => x,
        };
        let y = self.conv1.forward(x, cx)?;
        let y = self.bn1.forward_then(y, BnThen { add: None, relu: true }, cx)?;
        let y = self.conv2.forward(y, cx)?;
        self.bn2.forward_then(y, BnThen { add: Some(shortcut), relu: true }, cx)
    }
}

/// A convolution without offset (batch norm has one) that keeps the size but for its stride.
fn conv(from: usize, to: usize, kernel: usize, stride: usize) -> Conv2d {
    Conv2d::new(from, to, kernel).stride(stride).padding(kernel / 2).bias(false)
}

fn norm(channels: usize) -> BatchNorm2d {
    BatchNorm2d::new(channels)
}

/// Images N × C × H × W to the features of the last stage, N × 8 base × H / 32 × W / 32. [`ResNet::cifar`] is the form
/// for small images: H / 8, or H / 4 and 4 base channels with three stages.
///
/// Weight names are MMPretrain's: `conv1`, `bn1`, `layer1.0.conv1`, `layer2.0.downsample.0`. 11,168,832 parameters with
/// depth 18 in the form for small images, 271,824 with depth 20.
///
/// ```
/// use shanty::model::{ResNet, ResNetConfig};
/// use shanty::params::{Info, Params};
///
/// let net = ResNet::cifar(&ResNetConfig::new(20))?;
/// let trained = |p: Info<'_>| if p.role.is_trained() { p.shape.iter().product() } else { 0 };
/// let mut count: usize = 0;
/// net.infos(&mut |p| count += trained(p));
/// assert_eq!(count, 271_824);
/// # Ok::<(), shanty::base::Error>(())
/// ```
pub struct ResNet {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    layer1: Vec<BasicBlock>,
    layer2: Vec<BasicBlock>,
    layer3: Vec<BasicBlock>,
    layer4: Vec<BasicBlock>,
    maxpool: Option<MaxPool2d>,
    init: Vec<Init>,
}

module!(ResNet { conv1, bn1, layer1, layer2, layer3, layer4 }, init_cfg = init);

impl ResNet {
    /// For large images: a 7 × 7 stem of stride 2, then 3 × 3 max pooling of stride 2.
    ///
    /// # Errors
    /// When there is no such depth.
    pub fn new(p: &ResNetConfig) -> Result<Self> {
        Self::with_stem(p, false)
    }

    /// For small images: a 3 × 3 stem of stride 1 and no pooling.
    ///
    /// # Errors
    /// When there is no such depth.
    pub fn cifar(p: &ResNetConfig) -> Result<Self> {
        Self::with_stem(p, true)
    }

    fn from_config(p: ResNetConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    fn cifar_from_config(p: ResNetConfig, _: &mut BuildCx) -> Result<Self> {
        Self::cifar(&p)
    }

    fn with_stem(p: &ResNetConfig, small: bool) -> Result<Self> {
        let (blocks, base) = p.plan(small)?;
        let mut from = base;
        let mut stages = blocks.into_iter().enumerate().map(|(i, blocks)| {
            let to = base.saturating_mul(1 << i);
            (0..blocks)
                .map(|block| {
                    let stride = if i > 0 && block == 0 { 2 } else { 1 };
                    BasicBlock::new(std::mem::replace(&mut from, to), to, stride, p.zero_init_residual)
                })
                .collect::<Vec<_>>()
        });
        let mut stage = || stages.next().unwrap_or_default();
        let pool = MaxPool2d::new(3).stride(2).padding(1);
        let mut net = Self {
            conv1: if small { conv(p.in_channels, base, 3, 1) } else { conv(p.in_channels, base, 7, 2) },
            bn1: norm(base),
            layer1: stage(),
            layer2: stage(),
            layer3: stage(),
            layer4: stage(),
            maxpool: (!small).then_some(pool),
            init: vec![
                Init::new(Kaiming::default()).layer("Conv2d"),
                Init::new(Constant { val: 1.0 }).layer("_BatchNorm").layer("GroupNorm"),
            ],
        };
        set_norm_eval(&mut net, p.norm_eval);
        let frozen = ["conv1", "bn1"].map(String::from).into_iter();
        let frozen = frozen.chain((1..=p.frozen_stages).map(|stage| format!("layer{stage}")));
        frozen.filter(|_| p.frozen_stages >= 0).try_for_each(|part| set_trainable(&mut net, &part, false))?;
        Ok(net)
    }
}

impl Module for ResNet {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = self.conv1.forward(x, cx)?;
        let mut x = self.bn1.forward_then(x, BnThen { add: None, relu: true }, cx)?;
        if let Some(pool) = &mut self.maxpool {
            x = pool.forward(x, cx)?;
        }
        let stages = [&mut self.layer1, &mut self.layer2, &mut self.layer3, &mut self.layer4];
        stages.into_iter().flatten().try_fold(x, |x, block| block.forward(x, cx))
    }
}

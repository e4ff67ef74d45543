//! ResNeSt (Zhang et al. 2020, <https://arxiv.org/abs/2004.08955>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::block::{Place, conv};
use super::config::Plan;
use super::{BlockStyle, ResNet, ResNetConfig};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::model::backbones::common::{begins_at_zero, bounded, last_only, last_stage, none_frozen, three};
use crate::nn::init::Init;
use crate::nn::{
    AvgPool2d, BatchNorm2d, BnThen, Conv2d, Conv2dConfig, ConvNormConfig, Forward, Module, Pair, Sequential,
    Var,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: ResNeSt, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ResNeStConfig {
    /// Layers: 50, 101, 152, 200 or 269.
    #[schemars(range(min = 50, max = 269))]
    pub depth: usize,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Channels behind the stem: 64 for depth 50, 128 for the others.
    #[schemars(range(min = 2, max = 1_048_576))]
    pub stem_channels: usize,
    /// Channels inside the blocks of the first stage, doubled from stage to stage.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub base_channels: usize,
    /// Groups of the 3 × 3 convolution.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub groups: usize,
    /// Channels of each such group in the first stage, where there is more than one.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub width_per_group: usize,
    /// How many maps attention chooses from.
    #[schemars(range(min = 1, max = 64))]
    pub radix: usize,
    /// By how much attention squeezes the channels; it keeps 32 at least.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub reduction_factor: usize,
    /// Whether a block that makes the map smaller takes means behind its attention.
    pub avg_down_stride: bool,
    /// Accepted if it is 4.
    #[schemars(range(min = 4, max = 4))]
    pub num_stages: usize,
    /// Accepted if it names the last stage, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
    /// Where a block has its stride: `pytorch` or `caffe`.
    pub style: BlockStyle,
    /// Whether each block begins as its shortcut: the scale of its last batch norm is 0 at first.
    pub zero_init_residual: bool,
    /// The batch norms.
    pub norm_cfg: ConvNormConfig,
    /// Stages that are frozen, batch norms too: 0 the stem, n also the first n stages; -1 none.
    #[schemars(range(min = -1, max = 4))]
    pub frozen_stages: i64,
    /// Whether batch norms normalise by their running statistics in training too, and leave them alone.
    pub norm_eval: bool,
}

impl Default for ResNeStConfig {
    fn default() -> Self {
        Self {
            depth: 50,
            in_channels: three(),
            stem_channels: 64,
            base_channels: 64,
            groups: 1,
            width_per_group: 4,
            radix: 2,
            reduction_factor: 4,
            avg_down_stride: true,
            num_stages: 4,
            out_indices: last_stage(),
            style: BlockStyle::default(),
            zero_init_residual: true,
            norm_cfg: ConvNormConfig::default(),
            frozen_stages: none_frozen(),
            norm_eval: false,
        }
    }
}

register! { /// A residual network in whose blocks attention chooses between several maps, channel by channel.
dyn Module, "ResNeSt" => fn ResNet::resnest_from_config }

impl ResNet {
    fn resnest_from_config(p: ResNeStConfig, _: &mut BuildCx) -> Result<Self> {
        Self::resnest(&p)
    }

    /// A ResNeSt: weight names are MMPretrain's, `stem.0.conv`, `layer1.0.conv2.conv`, `layer1.0.conv2.fc1`.
    ///
    /// # Errors
    /// When there is no such depth, or groups do not divide channels.
    pub fn resnest(p: &ResNeStConfig) -> Result<Self> {
        if p.num_stages != 4 {
            return Err(Error::config("a ResNeSt has four stages: leave `num_stages` out"));
        }
        last_only(&p.out_indices, 4)?;
        bounded("radix", &[p.radix], 64)?;
        let blocks = match p.depth {
            50 => [3, 4, 6, 3],
            101 => [3, 4, 23, 3],
            152 => [3, 8, 36, 3],
            200 => [3, 24, 36, 3],
            269 => [3, 30, 48, 8],
            depth => {
                return Err(Error::config(format!(
                    "no ResNeSt has `depth: {depth}`: it is 50, 101, 152, 200 or 269"
                )));
            }
        };
        let inner = ResNetConfig {
            in_channels: p.in_channels,
            zero_init_residual: p.zero_init_residual,
            norm_cfg: p.norm_cfg,
            frozen_stages: p.frozen_stages,
            norm_eval: p.norm_eval,
            ..ResNetConfig::new(p.depth).avg_down()
        };
        let plan =
            Plan { blocks: blocks.to_vec(), stem: p.stem_channels, base: p.base_channels, bottleneck: true };
        Self::with_blocks(&inner, plan, false, |at| Ok(Box::new(Bottleneck::new(p, &inner, at)?)))
    }
}

/// Split attention between two convolutions of 1 × 1, beside a shortcut.
struct Bottleneck {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: SplitAttention,
    conv3: Conv2d,
    bn3: BatchNorm2d,
    downsample: Option<Sequential>,
    means: Option<AvgPool2d>,
    init: Vec<Init>,
}

/// A 3 × 3 convolution to several maps, and the softmax between these of what two layers make of the means of their sum.
struct SplitAttention {
    conv: Conv2d,
    bn0: BatchNorm2d,
    fc1: Conv2d,
    bn1: BatchNorm2d,
    fc2: Conv2d,
    radix: usize,
    groups: usize,
}

module!(Bottleneck { conv1, bn1, conv2, conv3, bn3, downsample }, init_cfg = init);
module!(SplitAttention { conv, bn0, fc1, bn1, fc2 });

impl Bottleneck {
    fn new(p: &ResNeStConfig, own: &ResNetConfig, at: Place) -> Result<Self> {
        let inner = match p.groups {
            1 => at.inner,
            groups => {
                groups.saturating_mul(p.width_per_group).saturating_mul(at.inner) / p.base_channels.max(1)
            }
        };
        let (first, second) = if p.style == BlockStyle::Caffe { (at.stride, 1) } else { (1, at.stride) };
        let means = p.avg_down_stride && second > 1;
        Ok(Self {
            conv1: conv(at.from, inner, 1, first, 1)?,
            bn1: p.norm_cfg.build(inner),
            conv2: SplitAttention::new(p, inner, if means { 1 } else { second })?,
            conv3: conv(inner, at.to, 1, 1, 1)?,
            bn3: p.norm_cfg.build(at.to),
            downsample: at.shortcut(own)?,
            means: means.then(|| AvgPool2d::new(3).stride(second).padding(1)),
            init: if p.zero_init_residual { begins_at_zero("bn3") } else { Vec::new() },
        })
    }
}

impl SplitAttention {
    fn new(p: &ResNeStConfig, channels: usize, stride: usize) -> Result<Self> {
        let all = channels.saturating_mul(p.radix);
        let squeezed = (all / p.reduction_factor.max(1)).max(32);
        let pointwise = |from, to| {
            let [one, none] = [Pair([1, 1]), Pair([0, 0])];
            let options = Conv2dConfig {
                in_channels: from,
                out_channels: to,
                kernel_size: one,
                stride: one,
                padding: none,
                dilation: one,
                groups: p.groups,
                bias: true,
            };
            options.build()
        };
        Ok(Self {
            conv: conv(channels, all, 3, stride, p.groups.saturating_mul(p.radix))?,
            bn0: p.norm_cfg.build(all),
            fc1: pointwise(channels, squeezed)?,
            bn1: p.norm_cfg.build(squeezed),
            fc2: pointwise(squeezed, all)?,
            radix: p.radix,
            groups: p.groups,
        })
    }
}

impl Module for SplitAttention {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let then = BnThen { add: None, relu: BnThen::RELU };
        let y = cx.child("conv", &mut self.conv, x)?;
        let y = self.bn0.forward_then(y, then, cx)?;
        let [n, all, h, w] = [0, 1, 2, 3].map(|axis| y.shape()[axis]);
        let (radix, channels) = (self.radix, all / self.radix);
        let maps = y.reshape(&[n, radix, channels, h, w]);
        let mean = maps.sum_axes(&[1]).adaptive_avg_pool2d([1, 1]);
        let gate = cx.child("fc1", &mut self.fc1, mean)?;
        let gate = self.bn1.forward_then(gate, then, cx)?;
        let gate = cx.child("fc2", &mut self.fc2, gate)?;
        let gate = match radix {
            1 => gate.sigmoid(),
            // Groups come first here, and last where the maps are told apart.
            _ => gate.reshape(&[n, self.groups, radix, channels / self.groups]).transpose(1, 2).softmax(1),
        };
        (gate.reshape(&[n, radix, channels, 1, 1]) * maps).sum_axes(&[1]).checked()
    }
}

impl Module for Bottleneck {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let shortcut = match &mut self.downsample {
            Some(downsample) => downsample.forward(x, cx)?,
            None => x,
        };
        let y = self.conv1.forward(x, cx)?;
        let y = self.bn1.forward_then(y, BnThen { add: None, relu: BnThen::RELU }, cx)?;
        let mut y = cx.child("conv2", &mut self.conv2, y)?;
        if let Some(means) = &mut self.means {
            y = means.forward(y, cx)?;
        }
        let y = self.conv3.forward(y, cx)?;
        self.bn3.forward_then(y, BnThen { add: Some(shortcut), relu: BnThen::RELU }, cx)
    }
}

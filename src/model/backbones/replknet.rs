//! RepLKNet (Ding et al. 2022, <https://arxiv.org/abs/2203.06717>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::{Arch, ArchConfig};
use super::common::{Chain, bounded, drop_path_rates, freeze, last_only, last_stage, none_frozen, three};
use super::reparam::merged;
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::kernels::Act;
use crate::nn::init::{Constant, Init, Kaiming};
use crate::nn::{BatchNorm2d, BnThen, Conv2d, ConvModule, DropPath, Forward, Module, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: RepLKNet, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RepLKNetConfig {
    /// `31B`, `31L` or `XL`; or a mapping with `large_kernel_sizes`, `layers`, `channels`, `small_kernel` and `dw_ratio`.
    pub arch: ArchConfig<RepLKNetArch>,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// By how much the feed-forward networks widen the channels inside.
    #[schemars(range(min = 1, max = 1024))]
    pub ffn_ratio: usize,
    /// Accepted if it names the last stage, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
    /// Probability with which the last block is left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// Whether large and small kernels are one, whose weights come from a trained network.
    pub small_kernel_merged: bool,
    /// Stages that are frozen, batch norms too: 0 the stem, n also the first n stages; -1 none.
    #[schemars(range(min = -1, max = 4))]
    pub frozen_stages: i64,
    /// Whether batch norms normalise by their running statistics in training too, and leave them alone.
    pub norm_eval: bool,
}

impl Default for RepLKNetConfig {
    fn default() -> Self {
        Self {
            arch: ArchConfig::default(),
            in_channels: three(),
            ffn_ratio: 4,
            out_indices: last_stage(),
            drop_path_rate: 0.3,
            small_kernel_merged: false,
            frozen_stages: none_frozen(),
            norm_eval: false,
        }
    }
}

/// The sizes of a [`RepLKNet`].
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
pub struct RepLKNetArch {
    /// The large kernels of each stage, odd numbers.
    #[schemars(inner(range(min = 1, max = 255)))]
    pub large_kernel_sizes: [usize; 4],
    /// Pairs of blocks of each stage.
    #[schemars(inner(range(min = 1, max = 1000)))]
    pub layers: [usize; 4],
    /// Channels of each stage.
    #[schemars(inner(range(min = 1, max = 1_048_576)))]
    pub channels: [usize; 4],
    /// The kernel beside each large one, an odd number; none if null.
    #[serde(default)]
    #[schemars(range(min = 1, max = 255))]
    pub small_kernel: Option<usize>,
    /// How many times as many channels the large kernels have as the stage.
    #[serde(default = "super::common::one")]
    #[schemars(range(min = 0.015625, max = 1024.0))]
    pub dw_ratio: f64,
}

impl RepLKNetArch {
    fn of(large_kernel_sizes: [usize; 4], width: usize, small_kernel: Option<usize>, dw_ratio: f64) -> Self {
        let channels = [0, 1, 2, 3].map(|i| width << i);
        Self { large_kernel_sizes, layers: [2, 2, 18, 2], channels, small_kernel, dw_ratio }
    }
}

impl Default for RepLKNetArch {
    fn default() -> Self {
        Self::of([31, 29, 27, 13], 128, Some(5), 1.0)
    }
}

impl Arch for RepLKNetArch {
    fn names() -> Vec<(&'static str, Self)> {
        vec![
            ("31b", Self::default()),
            ("31l", Self::of([31, 29, 27, 13], 192, Some(5), 1.0)),
            ("xl", Self::of([27, 27, 27, 13], 256, None, 1.5)),
        ]
    }
}

/// Convolutions of each channel alone with kernels of 31 × 31, beside small ones that become a part of them after the
/// training: images to 1024 features (`31B`) of 1/32 of the size.
///
/// Weight names are MMPretrain's: `stem.0.conv`, `stages.0.blocks.0.large_kernel.lkb_origin.conv`, `transitions.0.1.bn`, and of
/// a merged network `stages.0.blocks.0.large_kernel.lkb_reparam`. 79,864,168 parameters (`31B`) with a linear layer for 1000
/// classes.
pub struct RepLKNet {
    stem: Chain,
    stages: Vec<Stage>,
    transitions: Vec<Chain>,
    init: Vec<Init>,
}

module!(RepLKNet { stem, stages, transitions }, init_cfg = init);

register! { /// RepLKNet, `31B`, `31L` or `XL`: features of 1/32 of the size.
dyn Module, "RepLKNet" => fn RepLKNet::from_config }

fn conv(from: usize, to: usize, kernel: usize, stride: usize, groups: usize, act: Act) -> Result<ConvModule> {
    ConvModule::of(from, to, kernel).stride(stride).groups(groups).act(act).build()
}

impl RepLKNet {
    fn from_config(p: RepLKNetConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When a kernel is no odd number, or another output than the last is asked for.
    pub fn new(p: &RepLKNetConfig) -> Result<Self> {
        let RepLKNetArch { large_kernel_sizes, layers, channels, small_kernel, dw_ratio } = p.arch.0;
        bounded("layers", &layers, 1000)?;
        bounded("channels", &channels, 1 << 20)?;
        bounded("ffn_ratio", &[p.ffn_ratio], 1024)?;
        last_only(&p.out_indices, 4)?;
        let kernels = large_kernel_sizes.iter().chain(&small_kernel);
        if let Some(kernel) = kernels.clone().find(|kernel| kernel.is_multiple_of(2)) {
            return Err(Error::config(format!("a kernel of {kernel} has no middle: it is an odd number")));
        }
        if small_kernel.is_some_and(|small| large_kernel_sizes.iter().any(|large| *large < small)) {
            return Err(Error::config("`small_kernel` is larger than one of `large_kernel_sizes`"));
        }
        let first = channels[0];
        let stem = Chain::default()
            .with("0", conv(p.in_channels, first, 3, 2, 1, Act::Relu)?)
            .with("1", conv(first, first, 3, 1, first, Act::Relu)?)
            .with("2", conv(first, first, 1, 1, 1, Act::Relu)?)
            .with("3", conv(first, first, 3, 2, first, Act::Relu)?);
        let mut rates = drop_path_rates(p.drop_path_rate, layers.iter().sum());
        let (mut stages, mut transitions) = (Vec::new(), Vec::new());
        for (i, channels_here) in channels.into_iter().enumerate() {
            let deep = (channels_here as f64 * dw_ratio) as usize;
            let kernels = [Some(large_kernel_sizes[i]), small_kernel];
            let mut blocks = Chain::default();
            for j in 0..layers[i] {
                let rate = rates.next().unwrap_or_default();
                let large = LargeKernel::new(deep, kernels, p.small_kernel_merged)?;
                blocks = blocks
                    .with((2 * j).to_string(), Block::new(channels_here, deep, large, rate)?)
                    .with((2 * j + 1).to_string(), ConvFfn::new(channels_here, p.ffn_ratio, rate)?);
            }
            stages.push(Stage { blocks, norm: (i == 3).then(|| BatchNorm2d::new(channels_here)) });
            if let Some(next) = channels.get(i + 1).copied() {
                let wide = conv(channels_here, next, 1, 1, 1, Act::Relu)?;
                let down = conv(next, next, 3, 2, next, Act::Relu)?;
                transitions.push(Chain::default().with("0", wide).with("1", down));
            }
        }
        let mut net = Self {
            stem,
            stages,
            transitions,
            init: vec![
                Init::new(Kaiming::default()).layer("Conv2d"),
                Init::new(Constant { val: 1.0 }).layer("_BatchNorm").layer("GroupNorm"),
            ],
        };
        let stages = (0..4).map(|i| vec![format!("stages.{i}")]);
        let stages: Vec<_> = std::iter::once(vec!["stem".to_owned()]).chain(stages).collect();
        freeze(&mut net, &stages, p.frozen_stages, p.norm_eval)?;
        Ok(net)
    }

    /// Makes one convolution of each large kernel and the small one beside it.
    pub fn switch_to_deploy(&mut self) {
        for stage in &mut self.stages {
            stage.blocks.each_mut(&mut |block: &mut Block| block.large_kernel.merge());
        }
    }
}

impl Module for RepLKNet {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut x = cx.child("stem", &mut self.stem, x)?;
        for (i, stage) in self.stages.iter_mut().enumerate() {
            x = cx.child(format_args!("stages.{i}"), stage, x)?;
            if let Some(transition) = self.transitions.get_mut(i) {
                x = cx.child(format_args!("transitions.{i}"), transition, x)?;
            }
        }
        Ok(x)
    }
}

/// Blocks of large kernels and feed-forward networks in turn; the last stage has a norm behind them.
struct Stage {
    blocks: Chain,
    norm: Option<BatchNorm2d>,
}

/// `x + pw2(relu(large_kernel(pw1(prelkb_bn(x)))))`.
struct Block {
    pw1: ConvModule,
    pw2: ConvModule,
    large_kernel: LargeKernel,
    prelkb_bn: BatchNorm2d,
    drop_path: DropPath,
}

/// A large and a small kernel of each channel alone, or the one that they become.
struct LargeKernel {
    lkb_origin: Option<ConvModule>,
    small_conv: Option<ConvModule>,
    lkb_reparam: Option<Conv2d>,
}

/// `x + pw2(gelu(pw1(preffn_bn(x))))`.
struct ConvFfn {
    preffn_bn: BatchNorm2d,
    pw1: ConvModule,
    pw2: ConvModule,
    drop_path: DropPath,
}

module!(Stage { blocks, norm });
module!(Block { pw1, pw2, large_kernel, prelkb_bn, drop_path });
module!(LargeKernel { lkb_origin, small_conv, lkb_reparam });
module!(ConvFfn { preffn_bn, pw1, pw2, drop_path });

impl Block {
    fn new(channels: usize, deep: usize, large_kernel: LargeKernel, drop_path: f64) -> Result<Self> {
        Ok(Self {
            pw1: conv(channels, deep, 1, 1, 1, Act::Relu)?,
            pw2: conv(deep, channels, 1, 1, 1, Act::Identity)?,
            large_kernel,
            prelkb_bn: BatchNorm2d::new(channels),
            drop_path: DropPath::new(drop_path),
        })
    }
}

impl LargeKernel {
    fn new(channels: usize, [large, small]: [Option<usize>; 2], merged: bool) -> Result<Self> {
        let conv = |kernel: Option<usize>| {
            let built = |kernel| conv(channels, channels, kernel, 1, channels, Act::Identity);
            kernel.filter(|_| !merged).map(built).transpose()
        };
        let whole = |kernel| ConvModule::of(channels, channels, kernel).groups(channels).norm(None).build();
        Ok(Self {
            lkb_origin: conv(large)?,
            small_conv: conv(small)?,
            lkb_reparam: large.filter(|_| merged).map(whole).transpose()?.map(|m| m.conv),
        })
    }

    fn merge(&mut self) {
        let parts = [self.lkb_origin.take(), self.small_conv.take()];
        let parts: Vec<_> =
            parts.iter().flatten().filter_map(|part| Some((&part.conv, part.bn.as_ref()?))).collect();
        self.lkb_reparam = merged(&parts, None).or(self.lkb_reparam.take());
    }
}

impl ConvFfn {
    fn new(channels: usize, ratio: usize, drop_path: f64) -> Result<Self> {
        let inner = channels.saturating_mul(ratio);
        Ok(Self {
            preffn_bn: BatchNorm2d::new(channels),
            pw1: conv(channels, inner, 1, 1, 1, Act::Gelu)?,
            pw2: conv(inner, channels, 1, 1, 1, Act::Identity)?,
            drop_path: DropPath::new(drop_path),
        })
    }
}

impl Module for Stage {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("blocks", &mut self.blocks, x)?;
        match &mut self.norm {
            Some(norm) => cx.child("norm", norm, x),
            None => Ok(x),
        }
    }
}

impl Module for LargeKernel {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        if let Some(conv) = &mut self.lkb_reparam {
            return Ok(cx.child("lkb_reparam", conv, x)?.relu());
        }
        let mut sum = None;
        if let Some(small) = &mut self.small_conv {
            sum = Some(cx.child("small_conv", small, x)?);
        }
        let Some(ConvModule { conv, bn: Some(bn), .. }) = &mut self.lkb_origin else { return Ok(x) };
        let y = conv.forward(x, cx)?;
        bn.forward_then(y, BnThen { add: sum, relu: BnThen::RELU }, cx)
    }
}

impl Module for Block {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child("prelkb_bn", &mut self.prelkb_bn, x)?;
        let y = cx.child("pw1", &mut self.pw1, y)?;
        let y = cx.child("large_kernel", &mut self.large_kernel, y)?;
        let y = cx.child("pw2", &mut self.pw2, y)?;
        (x + self.drop_path.forward(y, cx)?).checked()
    }
}

impl Module for ConvFfn {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child("preffn_bn", &mut self.preffn_bn, x)?;
        let y = cx.child("pw1", &mut self.pw1, y)?;
        let y = cx.child("pw2", &mut self.pw2, y)?;
        (x + self.drop_path.forward(y, cx)?).checked()
    }
}

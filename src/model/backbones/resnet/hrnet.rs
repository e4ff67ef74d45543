//! HRNet (Wang et al. 2019, <https://arxiv.org/abs/1904.04514>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::ResNetConfig;
use super::block::{BasicBlock, Bottleneck, Place, conv};
use crate::base::{Error, Result};
use crate::kernels::UpsampleMode;
use crate::model::backbones::common::{Chain, bounded, three};
use crate::nn::init::{Constant, Init, Kaiming};
use crate::nn::{
    BatchNorm2d, BnThen, Conv2d, ConvNormConfig, Forward, Identity, Module, ReLU, UpsampleTo, Var,
    set_norm_eval,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: HRNet, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HRNetConfig {
    /// `w18` to `w64`: channels of the largest map.
    pub arch: HRNetArch,
    /// The stages one by one, instead of an arch.
    pub extra: Option<HRNetExtra>,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// The batch norms.
    pub norm_cfg: ConvNormConfig,
    /// Whether batch norms normalise by their running statistics in training too, and leave them alone.
    pub norm_eval: bool,
    /// Whether the blocks of all but the first stage begin as their shortcuts.
    pub zero_init_residual: bool,
}

impl Default for HRNetConfig {
    fn default() -> Self {
        Self {
            arch: HRNetArch::W32,
            extra: None,
            in_channels: three(),
            norm_cfg: ConvNormConfig::default(),
            norm_eval: false,
            zero_init_residual: false,
        }
    }
}

/// Which HRNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum HRNetArch {
    W18,
    W30,
    W32,
    W40,
    W44,
    W48,
    W64,
}

/// `extra` of an [`HRNet`]: its four stages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct HRNetExtra {
    /// On one map of a quarter of the size.
    pub stage1: HRStageConfig,
    /// On a second one of half of it too.
    pub stage2: HRStageConfig,
    /// On a third one.
    pub stage3: HRStageConfig,
    /// On a fourth one.
    pub stage4: HRStageConfig,
}

/// A stage of an [`HRNet`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct HRStageConfig {
    /// How often the maps exchange what they see.
    #[schemars(range(min = 1, max = 1000))]
    pub num_modules: usize,
    /// Maps, each of half the size of the one before.
    #[schemars(range(min = 1, max = 8))]
    pub num_branches: usize,
    /// What the blocks are.
    pub block: ResidualKind,
    /// Blocks of each map.
    #[schemars(length(min = 1, max = 8), inner(range(min = 1, max = 1000)))]
    pub num_blocks: Vec<usize>,
    /// Channels inside the blocks of each map.
    #[schemars(length(min = 1, max = 8), inner(range(min = 1, max = 1_048_576)))]
    pub num_channels: Vec<usize>,
}

/// The blocks of a residual network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ResidualKind {
    /// Two 3 × 3 convolutions.
    Basic,
    /// A 3 × 3 convolution between two of 1 × 1, four times as wide outside.
    Bottleneck,
}

impl HRNetArch {
    fn extra(self) -> HRNetExtra {
        let width = match self {
            Self::W18 => 18,
            Self::W30 => 30,
            Self::W32 => 32,
            Self::W40 => 40,
            Self::W44 => 44,
            Self::W48 => 48,
            Self::W64 => 64,
        };
        let stage = |num_modules, num_branches| HRStageConfig {
            num_modules,
            num_branches,
            block: ResidualKind::Basic,
            num_blocks: vec![4; num_branches],
            num_channels: (0..num_branches).map(|i| width << i).collect(),
        };
        HRNetExtra {
            stage1: HRStageConfig { block: ResidualKind::Bottleneck, num_channels: vec![64], ..stage(1, 1) },
            stage2: stage(1, 2),
            stage3: stage(4, 3),
            stage4: stage(3, 4),
        }
    }
}

impl HRStageConfig {
    /// Channels of its maps.
    fn channels(&self) -> Vec<usize> {
        let wide = if self.block == ResidualKind::Bottleneck { 4 } else { 1 };
        self.num_channels.iter().map(|channels| channels * wide).collect()
    }

    fn check(&self) -> Result<()> {
        bounded("num_branches", &[self.num_branches], 8)?;
        bounded("num_modules", &[self.num_modules], 1000)?;
        bounded("num_blocks", &self.num_blocks, 1000)?;
        bounded("num_channels", &self.num_channels, 1 << 20)?;
        if self.num_blocks.len() != self.num_branches || self.num_channels.len() != self.num_branches {
            return Err(Error::config(format!(
                "a stage of {} branches has as many `num_blocks` and `num_channels`, not {} and {}",
                self.num_branches,
                self.num_blocks.len(),
                self.num_channels.len()
            )));
        }
        Ok(())
    }

    /// The blocks of one of its maps.
    fn blocks(&self, p: &ResNetConfig, from: usize, branch: usize) -> Result<Chain> {
        let (inner, to) = (self.num_channels[branch], self.channels()[branch]);
        let (mut chain, mut from) = (Chain::default(), from);
        for j in 0..self.num_blocks[branch] {
            let from = std::mem::replace(&mut from, to);
            let at = Place { from, inner, to, stride: 1, first: j == 0, drop_path: 0.0 };
            chain = match self.block {
                ResidualKind::Basic => chain.with(j.to_string(), BasicBlock::new(p, at)?),
                ResidualKind::Bottleneck => chain.with(j.to_string(), Bottleneck::new(p, inner, at)?),
            };
        }
        Ok(chain)
    }
}

/// Maps of several sizes side by side, which exchange what they see: images to four maps, of 1/4 to 1/32 of the size. In a
/// classifier [`HRFuseScales`](super::HRFuseScales) takes all of them; other necks and heads take the smallest.
///
/// Weight names are MMPretrain's: `conv1`, `layer1.0.conv1`, `transition1.1.0.0`, `stage2.0.branches.0.0.conv1`,
/// `stage2.0.fuse_layers.0.1.0`. 21,295,164 parameters (`w18`) with HRFuseScales and a linear layer for 1000 classes.
pub struct HRNet {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    layer1: Chain,
    transition1: Vec<Chain>,
    stage2: Vec<Exchange>,
    transition2: Vec<Chain>,
    stage3: Vec<Exchange>,
    transition3: Vec<Chain>,
    stage4: Vec<Exchange>,
    init: Vec<Init>,
}

module!(
    HRNet { conv1, bn1, conv2, bn2, layer1, transition1, stage2, transition2, stage3, transition3, stage4 },
    init_cfg = init
);

register! { /// HRNet, `w18` to `w64`: maps of 1/4 to 1/32 of the size, which HRFuseScales takes.
dyn Module, "HRNet" => fn HRNet::from_config }

impl HRNet {
    fn from_config(p: HRNetConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When a stage has not a number of blocks and channels for each of its maps.
    pub fn new(p: &HRNetConfig) -> Result<Self> {
        let extra = p.extra.clone().unwrap_or_else(|| p.arch.extra());
        let all = [&extra.stage1, &extra.stage2, &extra.stage3, &extra.stage4];
        all.iter().try_for_each(|stage| stage.check())?;
        if extra.stage1.num_branches != 1 {
            return Err(Error::config("`stage1` has one branch: it works on one map"));
        }
        let blocks =
            ResNetConfig { norm_cfg: p.norm_cfg, zero_init_residual: false, ..ResNetConfig::new(50) };
        let layer1 = extra.stage1.blocks(&blocks, 64, 0)?;
        let blocks = ResNetConfig { zero_init_residual: p.zero_init_residual, ..blocks };
        let mut parts = Vec::new();
        for pair in all.windows(2) {
            let transition = transition(p, &pair[0].channels(), &pair[1].channels())?;
            let modules = (0..pair[1].num_modules).map(|_| Exchange::new(p, &blocks, pair[1]));
            parts.push((transition, modules.collect::<Result<Vec<_>>>()?));
        }
        let mut parts = parts.into_iter();
        let mut next = || parts.next().unwrap_or_default();
        let [(transition1, stage2), (transition2, stage3), (transition3, stage4)] = [next(), next(), next()];
        let mut net = Self {
            conv1: conv(p.in_channels, 64, 3, 2, 1)?,
            bn1: p.norm_cfg.build(64),
            conv2: conv(64, 64, 3, 2, 1)?,
            bn2: p.norm_cfg.build(64),
            layer1,
            transition1,
            stage2,
            transition2,
            stage3,
            transition3,
            stage4,
            init: vec![
                Init::new(Kaiming::default()).layer("Conv2d"),
                Init::new(Constant { val: 1.0 }).layer("_BatchNorm").layer("GroupNorm"),
            ],
        };
        set_norm_eval(&mut net, p.norm_eval);
        Ok(net)
    }
}

/// A convolution and its norm, with a ReLU if so wished.
fn normed(
    p: &HRNetConfig,
    from: usize,
    to: usize,
    [kernel, stride]: [usize; 2],
    relu: bool,
) -> Result<Chain> {
    let chain =
        Chain::default().with("0", conv(from, to, kernel, stride, 1)?).with("1", p.norm_cfg.build(to));
    Ok(if relu { chain.with("2", ReLU::new()) } else { chain })
}

/// From the maps of one stage to those of the next, new ones from the smallest.
fn transition(p: &HRNetConfig, before: &[usize], now: &[usize]) -> Result<Vec<Chain>> {
    let smallest = before.last().copied().unwrap_or(1);
    let one = |(i, to): (usize, &usize)| match before.get(i) {
        Some(from) if from == to => Ok(Chain::default()),
        Some(from) => normed(p, *from, *to, [3, 1], true),
        None => {
            let steps = i + 1 - before.len();
            (0..steps).try_fold(Chain::default(), |chain, j| {
                let to = if j + 1 == steps { *to } else { smallest };
                Ok(chain.with(j.to_string(), normed(p, smallest, to, [3, 2], true)?))
            })
        }
    };
    now.iter().enumerate().map(one).collect()
}

/// Blocks of each map, and then sums of all of them, brought to the size of each.
struct Exchange {
    branches: Vec<Chain>,
    fuse_layers: Vec<Vec<Box<dyn Module>>>,
}

module!(Exchange { branches, fuse_layers });

impl Exchange {
    fn new(p: &HRNetConfig, blocks: &ResNetConfig, stage: &HRStageConfig) -> Result<Self> {
        let channels = stage.channels();
        let n = channels.len();
        let branches = (0..n).map(|i| stage.blocks(blocks, channels[i], i)).collect::<Result<_>>()?;
        let fuse = |to: usize, from: usize| -> Result<Box<dyn Module>> {
            if from == to {
                return Ok(Box::new(Identity {}));
            }
            if from > to {
                return Ok(Box::new(normed(p, channels[from], channels[to], [1, 1], false)?));
            }
            let steps = to - from;
            let mut chain = Chain::default();
            for step in 0..steps {
                let last = step + 1 == steps;
                let next = if last { channels[to] } else { channels[from] };
                chain = chain.with(step.to_string(), normed(p, channels[from], next, [3, 2], !last)?);
            }
            Ok(Box::new(chain))
        };
        let row = |to| (0..n).map(|from| fuse(to, from)).collect::<Result<Vec<_>>>();
        let rows = if n > 1 { n } else { 0 };
        Ok(Self { branches, fuse_layers: (0..rows).map(row).collect::<Result<_>>()? })
    }

    fn run<'t>(&mut self, mut maps: Vec<Var<'t>>, cx: &mut Forward<'_>) -> Result<Vec<Var<'t>>> {
        for (i, (branch, map)) in self.branches.iter_mut().zip(&mut maps).enumerate() {
            *map = cx.child(format_args!("branches.{i}"), branch, *map)?;
        }
        if self.fuse_layers.is_empty() {
            return Ok(maps);
        }
        let mut fused = Vec::new();
        for (to, row) in self.fuse_layers.iter_mut().enumerate() {
            let mut sum: Option<Var<'t>> = None;
            for (from, layer) in row.iter_mut().enumerate() {
                let mut y = cx.child(format_args!("fuse_layers.{to}.{from}"), layer, maps[from])?;
                if from > to {
                    let size = [maps[to].shape()[2], maps[to].shape()[3]];
                    y = y.upsample(UpsampleTo::Size(size), UpsampleMode::Nearest);
                }
                sum = Some(sum.map_or(y, |sum| sum + y));
            }
            fused.extend(sum.map(Var::relu));
        }
        Ok(fused)
    }
}

impl Module for HRNet {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_several(x, cx)?.pop().ok_or_else(|| Error::invalid("it has no output"))
    }

    fn forward_several<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Vec<Var<'t>>> {
        let then = BnThen { add: None, relu: BnThen::RELU };
        let x = self.conv1.forward(x, cx)?;
        let x = self.bn1.forward_then(x, then, cx)?;
        let x = self.conv2.forward(x, cx)?;
        let x = self.bn2.forward_then(x, then, cx)?;
        let mut maps = vec![cx.child("layer1", &mut self.layer1, x)?];
        let stages = [
            (&mut self.transition1, &mut self.stage2),
            (&mut self.transition2, &mut self.stage3),
            (&mut self.transition3, &mut self.stage4),
        ];
        for (i, (transition, stage)) in stages.into_iter().enumerate() {
            let mut next = Vec::new();
            for (j, layer) in transition.iter_mut().enumerate() {
                let from = maps[j.min(maps.len() - 1)];
                next.push(cx.child(format_args!("transition{}.{j}", i + 1), layer, from)?);
            }
            for (k, exchange) in stage.iter_mut().enumerate() {
                let mut out = Vec::new();
                cx.within(format_args!("stage{}.{k}", i + 2), exchange, next[0], |exchange, cx| {
                    out = exchange.run(next.clone(), cx)?;
                    Ok(out[0])
                })?;
                next = out;
            }
            maps = next;
        }
        Ok(maps)
    }
}

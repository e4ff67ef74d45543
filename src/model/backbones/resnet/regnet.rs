//! RegNet (Radosavovic et al. 2020, <https://arxiv.org/abs/2003.13678>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::block::{Bottleneck, Place, conv};
use super::{BlockStyle, ResNetConfig};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::model::backbones::arch::{Arch, ArchConfig};
use crate::model::backbones::common::{Chain, freeze, last_only, last_stage, none_frozen, three};
use crate::nn::init::{Constant, Init, Kaiming};
use crate::nn::{BatchNorm2d, Forward, Module, ReLU, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: RegNet, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct RegNetConfig {
    /// `regnetx_400mf` to `regnetx_12gf`; or a mapping with `w0`, `wa`, `wm`, `group_w`, `depth` and `bot_mul`.
    #[serde(default)]
    pub arch: ArchConfig<RegNetArch>,
    /// Channels of the images.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Channels behind the stem.
    #[serde(default = "stem")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub stem_channels: usize,
    /// Accepted for MMPretrain's configs: the channels follow from the arch.
    #[serde(default = "stem")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub base_channels: usize,
    /// Accepted if it names the last stage, whose output is the network's.
    #[serde(default = "last_stage")]
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
    /// Where a bottleneck has its stride: `pytorch` or `caffe`.
    #[serde(default)]
    pub style: BlockStyle,
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

fn stem() -> usize {
    32
}

impl RegNetConfig {
    /// A network of these sizes for images of three channels.
    pub fn new(arch: RegNetArch) -> Self {
        Self {
            arch: ArchConfig(arch),
            in_channels: three(),
            stem_channels: stem(),
            base_channels: stem(),
            out_indices: last_stage(),
            style: BlockStyle::default(),
            zero_init_residual: true,
            frozen_stages: none_frozen(),
            norm_eval: false,
        }
    }
}

/// The six numbers of a design space that a [`RegNet`] is made of.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
pub struct RegNetArch {
    /// Channels of the first block, a multiple of 8.
    #[schemars(range(min = 8, max = 1_048_576))]
    pub w0: usize,
    /// By how much the channels grow from block to block, before they are made a few steps.
    #[schemars(range(min = 0.0))]
    pub wa: f64,
    /// By what the channels of two steps differ.
    #[schemars(extend("exclusiveMinimum" = 1.0))]
    pub wm: f64,
    /// Channels of a group.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub group_w: usize,
    /// Blocks.
    #[schemars(range(min = 1, max = 1000))]
    pub depth: usize,
    /// Channels inside a block for each outside; only 1 is there.
    #[serde(default = "crate::model::backbones::common::one")]
    #[schemars(range(min = 1.0, max = 1.0))]
    pub bot_mul: f64,
}

impl Default for RegNetArch {
    fn default() -> Self {
        Self { w0: 24, wa: 24.48, wm: 2.54, group_w: 16, depth: 22, bot_mul: 1.0 }
    }
}

impl Arch for RegNetArch {
    fn names() -> Vec<(&'static str, Self)> {
        let of = |w0, wa, wm, group_w, depth| Self { w0, wa, wm, group_w, depth, bot_mul: 1.0 };
        vec![
            ("regnetx_400mf", Self::default()),
            ("regnetx_800mf", of(56, 35.73, 2.28, 16, 16)),
            ("regnetx_1.6gf", of(80, 34.01, 2.25, 24, 18)),
            ("regnetx_3.2gf", of(88, 26.31, 2.25, 48, 25)),
            ("regnetx_4.0gf", of(96, 38.65, 2.43, 40, 23)),
            ("regnetx_6.4gf", of(184, 60.83, 2.07, 56, 17)),
            ("regnetx_8.0gf", of(80, 49.56, 2.88, 120, 23)),
            ("regnetx_12gf", of(168, 73.36, 2.37, 112, 19)),
        ]
    }
}

impl RegNetArch {
    /// Channels, channels of a group, and blocks of each stage.
    fn stages(&self) -> Result<Vec<[usize; 3]>> {
        let Self { w0, wa, wm, group_w, depth, bot_mul } = *self;
        let fits = w0 > 0 && w0.is_multiple_of(8) && wa >= 0.0 && wm > 1.0 && group_w > 0 && bot_mul == 1.0;
        if !fits || !(wa * depth as f64).is_finite() || wa * depth as f64 > 1e6 {
            return Err(Error::config(
                "an arch of RegNet has a `w0` that is a multiple of 8, a `wa` of at least 0, a `wm` of more than 1, and \
                 `bot_mul: 1.0`",
            ));
        }
        let mut stages: Vec<[usize; 3]> = Vec::new();
        for block in 0..depth {
            let wanted = block as f64 * wa + w0 as f64;
            let step = ((wanted / w0 as f64).ln() / wm.ln()).round_ties_even();
            let width = (w0 as f64 * wm.powf(step) / 8.0).round_ties_even() as usize * 8;
            match stages.last_mut().filter(|stage| stage[0] == width) {
                Some(stage) => stage[2] += 1,
                None => stages.push([width, group_w, 1]),
            }
        }
        for stage in &mut stages {
            let group = group_w.min(stage[0]);
            let width = (stage[0] as f64 / group as f64).round_ties_even() as usize * group;
            (stage[0], stage[1]) = (width, group);
        }
        match stages.len() {
            4 => Ok(stages),
            n => Err(Error::config(format!(
                "an arch of RegNet has four stages, and this one {n}: change `wa` or `wm`"
            ))),
        }
    }
}

/// Stages of bottlenecks whose channels follow a line: images to features of 1/32 of the size, 384 of them in
/// `regnetx_400mf`.
///
/// Weight names are MMPretrain's: `conv1`, `bn1`, `layer1.0.conv1`, `layer2.0.downsample.0`. 5,157,512 parameters
/// (`regnetx_400mf`) with a linear layer for 1000 classes.
pub struct RegNet {
    layers: Chain,
    init: Vec<Init>,
}

module!(RegNet { ..layers }, init_cfg = init);

register! { /// RegNet, `regnetx_400mf` to `regnetx_12gf`: features of 1/32 of the size.
dyn Module, "RegNet" => fn RegNet::from_config }

impl RegNet {
    fn from_config(p: RegNetConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When the arch makes no four stages, or another output than the last is asked for.
    pub fn new(p: &RegNetConfig) -> Result<Self> {
        last_only(&p.out_indices, 4)?;
        let mut from = p.stem_channels;
        let mut layers = Chain::default()
            .with("conv1", conv(p.in_channels, from, 3, 2, 1)?)
            .with("bn1", BatchNorm2d::new(from))
            .with("relu", ReLU::new());
        for (i, [width, group, blocks]) in p.arch.0.stages()?.into_iter().enumerate() {
            let own = ResNetConfig {
                groups: Some(width / group),
                width_per_group: Some(group),
                style: p.style,
                zero_init_residual: p.zero_init_residual,
                ..ResNetConfig::new(50)
            };
            let mut stage = Chain::default();
            for block in 0..blocks {
                let stride = if block == 0 { 2 } else { 1 };
                let at = Place {
                    from: std::mem::replace(&mut from, width),
                    inner: width,
                    to: width,
                    stride,
                    first: block == 0,
                    drop_path: 0.0,
                };
                stage = stage.with(block.to_string(), Bottleneck::new(&own, width, at)?);
            }
            layers = layers.with(format!("layer{}", i + 1), stage);
        }
        let mut net = Self {
            layers,
            init: vec![
                Init::new(Kaiming::default()).layer("Conv2d"),
                Init::new(Constant { val: 1.0 }).layer("_BatchNorm").layer("GroupNorm"),
            ],
        };
        let mut stages = vec![vec!["conv1".to_owned(), "bn1".to_owned()]];
        stages.extend((1..=4).map(|i| vec![format!("layer{i}")]));
        freeze(&mut net, &stages, p.frozen_stages, p.norm_eval)?;
        Ok(net)
    }
}

impl Module for RegNet {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.layers.forward(x, cx)
    }
}

//! RepVGG (Ding et al. 2021, <https://arxiv.org/abs/2101.03697>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::common::{Chain, freeze, last_only, last_stage, none_frozen, three};
use super::reparam::{Branch, merged};
use crate::base::Result;
use crate::config::OneOrMany;
use crate::nn::init::{Constant, Init, Kaiming};
use crate::nn::{BatchNorm2d, BnThen, Conv2d, ConvModule, Forward, Module, SELayer, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: RepVGG, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RepVGGConfig {
    /// How deep and wide: `A0` to `B3`, and `D2se` with squeeze and excitation.
    pub arch: RepVGGArch,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Channels of the first stage, before the arch makes them more or less.
    #[schemars(range(min = 4, max = 1_048_576))]
    pub base_channels: usize,
    /// Whether each block is one convolution, whose weights come from a trained network.
    pub deploy: bool,
    /// Accepted if it names the last stage, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
    /// Stages that are frozen, batch norms too: 0 the stem, n also the first n stages; -1 none.
    #[schemars(range(min = -1, max = 4))]
    pub frozen_stages: i64,
    /// Whether batch norms normalise by their running statistics in training too, and leave them alone.
    pub norm_eval: bool,
}

impl Default for RepVGGConfig {
    fn default() -> Self {
        Self {
            arch: RepVGGArch::A0,
            in_channels: three(),
            base_channels: 64,
            deploy: false,
            out_indices: last_stage(),
            frozen_stages: none_frozen(),
            norm_eval: false,
        }
    }
}

/// Which RepVGG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum RepVGGArch {
    A0,
    A1,
    A2,
    B0,
    B1,
    B1g2,
    B1g4,
    B2,
    B2g2,
    B2g4,
    B3,
    B3g2,
    B3g4,
    D2se,
}

impl RepVGGArch {
    /// Blocks of each stage, and how much wider they are than the base.
    fn sizes(self) -> ([usize; 4], [f64; 4]) {
        let (a, b) = ([2, 4, 14, 1], [4, 6, 16, 1]);
        match self {
            Self::A0 => (a, [0.75, 0.75, 0.75, 2.5]),
            Self::A1 => (a, [1.0, 1.0, 1.0, 2.5]),
            Self::A2 => (a, [1.5, 1.5, 1.5, 2.75]),
            Self::B0 => (b, [1.0, 1.0, 1.0, 2.5]),
            Self::B1 | Self::B1g2 | Self::B1g4 => (b, [2.0, 2.0, 2.0, 4.0]),
            Self::B2 | Self::B2g2 | Self::B2g4 => (b, [2.5, 2.5, 2.5, 5.0]),
            Self::B3 | Self::B3g2 | Self::B3g4 => (b, [3.0, 3.0, 3.0, 5.0]),
            Self::D2se => ([8, 14, 24, 1], [2.5, 2.5, 2.5, 5.0]),
        }
    }
}

impl RepVGGArch {
    /// Groups of every second block behind the stem, up to the last stage.
    fn groups(self) -> usize {
        match self {
            Self::B1g2 | Self::B2g2 | Self::B3g2 => 2,
            Self::B1g4 | Self::B2g4 | Self::B3g4 => 4,
            _ => 1,
        }
    }
}

/// Blocks of a 3 × 3 convolution, one of 1 × 1 and the input itself, each behind a batch norm, which after the training are
/// one convolution: images to 1280 features (`A0`) of 1/32 of the size.
///
/// Weight names are MMPretrain's: `stem.branch_3x3.conv`, `stage_1.0.branch_norm`, and of a deployed network
/// `stem.branch_reparam`. 9,108,968 parameters (`A0`) with a linear layer for 1000 classes, 8,309,384 deployed.
pub struct RepVGG {
    layers: Chain,
    init: Vec<Init>,
}

module!(RepVGG { ..layers }, init_cfg = init);

register! { /// RepVGG, `A0` to `B3` and `D2se`: features of 1/32 of the size.
dyn Module, "RepVGG" => fn RepVGG::from_config }

impl RepVGG {
    fn from_config(p: RepVGGConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When there are less stages than are frozen, or another than the last is asked for.
    pub fn new(p: &RepVGGConfig) -> Result<Self> {
        last_only(&p.out_indices, 4)?;
        let (blocks, widths) = p.arch.sizes();
        let width = |i: usize| ((p.base_channels << i) as f64 * widths[i]) as usize;
        let mut from = width(0).min(64);
        let mut at = 0;
        let mut block = |from, to, stride| {
            let groups = if at > 0 && at % 2 == 0 { p.arch.groups() } else { 1 };
            at += 1;
            Block::new(from, to, [stride, groups], p)
        };
        let mut layers = Chain::default().with("stem", block(p.in_channels, from, 2)?);
        for (i, blocks) in blocks.into_iter().enumerate() {
            let mut stage = Chain::default();
            for j in 0..blocks {
                let stride = if j == 0 { 2 } else { 1 };
                stage = stage
                    .with(j.to_string(), block(std::mem::replace(&mut from, width(i)), width(i), stride)?);
            }
            layers = layers.with(format!("stage_{}", i + 1), stage);
        }
        let mut net = Self {
            layers,
            init: vec![
                Init::new(Kaiming::default()).layer("Conv2d"),
                Init::new(Constant { val: 1.0 }).layer("_BatchNorm").layer("GroupNorm"),
            ],
        };
        let stages: Vec<_> = (1..=4).map(|i| vec![format!("stage_{i}")]).collect();
        freeze(&mut net, &[vec![vec!["stem".to_owned()]], stages].concat(), p.frozen_stages, p.norm_eval)?;
        Ok(net)
    }

    /// Makes one convolution of each block, which computes what the block does in evaluation.
    pub fn switch_to_deploy(&mut self) {
        self.layers.each_mut(&mut |block: &mut Block| block.switch_to_deploy());
    }
}

impl Module for RepVGG {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.layers.forward(x, cx)
    }
}

/// The three branches, or the one convolution that they become.
struct Block {
    branch_norm: Option<BatchNorm2d>,
    branch_3x3: Option<Branch>,
    branch_1x1: Option<Branch>,
    branch_reparam: Option<Conv2d>,
    se_layer: Option<SELayer>,
}

module!(Block { branch_norm, branch_3x3, branch_1x1, branch_reparam, se_layer });

impl Block {
    fn new(from: usize, to: usize, [stride, groups]: [usize; 2], p: &RepVGGConfig) -> Result<Self> {
        let deploy = p.deploy;
        let conv = |kernel| ConvModule::of(from, to, kernel).stride(stride).groups(groups);
        let branch = |kernel| Branch::new(&conv(kernel));
        let squeezed = p.arch == RepVGGArch::D2se;
        Ok(Self {
            se_layer: squeezed.then(|| SELayer::new(to, (to / 16).max(1))).transpose()?,
            branch_norm: (!deploy && from == to && stride == 1).then(|| BatchNorm2d::new(to)),
            branch_3x3: (!deploy).then(|| branch(3)).transpose()?,
            branch_1x1: (!deploy).then(|| branch(1)).transpose()?,
            branch_reparam: deploy.then(|| conv(3).norm(None).build()).transpose()?.map(|m| m.conv),
        })
    }

    fn switch_to_deploy(&mut self) {
        let (Some(wide), Some(narrow)) = (self.branch_3x3.take(), self.branch_1x1.take()) else { return };
        let branches = [(&wide.conv, &wide.norm), (&narrow.conv, &narrow.norm)];
        self.branch_reparam = merged(&branches, self.branch_norm.take().as_ref());
    }
}

impl Module for Block {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let relu = if self.se_layer.is_none() { BnThen::RELU } else { None };
        let y = match &mut self.branch_reparam {
            Some(conv) => {
                let y = cx.child("branch_reparam", conv, x)?;
                if relu.is_some() { y.relu() } else { y }
            }
            None => {
                let mut sum = match &mut self.branch_norm {
                    Some(norm) => Some(norm.forward(x, cx)?),
                    None => None,
                };
                for (branch, relu) in [(&mut self.branch_1x1, None), (&mut self.branch_3x3, relu)] {
                    if let Some(Branch { conv, norm }) = branch {
                        let y = conv.forward(x, cx)?;
                        sum = Some(norm.forward_then(y, BnThen { add: sum, relu }, cx)?);
                    }
                }
                sum.unwrap_or(x)
            }
        };
        match &mut self.se_layer {
            Some(se_layer) => Ok(cx.child("se_layer", se_layer, y)?.relu()),
            None => Ok(y),
        }
    }
}

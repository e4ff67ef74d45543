//! MobileOne (Vasu et al. 2022, <https://arxiv.org/abs/2206.04040>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::{Arch, ArchConfig};
use super::common::{Chain, bounded, freeze, last_only, last_stage, none_frozen, three};
use super::reparam::{Branch, merged};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::nn::init::{Constant, Init, Kaiming};
use crate::nn::{BatchNorm2d, BnThen, Conv2d, ConvModule, Forward, Module, SELayer, Var, make_divisible};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: MobileOne, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MobileOneConfig {
    /// `s0` to `s4`; or a mapping with `num_blocks`, `width_factor`, `num_conv_branches` and `num_se_blocks`.
    pub arch: ArchConfig<MobileOneArch>,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
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

impl Default for MobileOneConfig {
    fn default() -> Self {
        Self {
            arch: ArchConfig::default(),
            in_channels: three(),
            deploy: false,
            out_indices: last_stage(),
            frozen_stages: none_frozen(),
            norm_eval: false,
        }
    }
}

/// The sizes of a [`MobileOne`].
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
pub struct MobileOneArch {
    /// Pairs of blocks of each stage.
    #[schemars(inner(range(min = 1, max = 1000)))]
    pub num_blocks: [usize; 4],
    /// How much wider the stages are than 64, 128, 256 and 512 channels.
    #[schemars(inner(range(min = 0.015625, max = 1024.0)))]
    pub width_factor: [f64; 4],
    /// Convolutions side by side in each block of a stage.
    #[schemars(inner(range(min = 1, max = 1000)))]
    pub num_conv_branches: [usize; 4],
    /// Pairs of blocks at the end of each stage that have squeeze and excitation.
    #[schemars(inner(range(min = 0, max = 1000)))]
    pub num_se_blocks: [usize; 4],
}

impl Default for MobileOneArch {
    fn default() -> Self {
        Self::of([0.75, 1.0, 1.0, 2.0], 4, [0; 4])
    }
}

impl MobileOneArch {
    fn of(width_factor: [f64; 4], branches: usize, num_se_blocks: [usize; 4]) -> Self {
        Self { num_blocks: [2, 8, 10, 1], width_factor, num_conv_branches: [branches; 4], num_se_blocks }
    }

    /// Channels of each stage.
    fn channels(&self) -> [usize; 4] {
        [0, 1, 2, 3].map(|i| ((64 << i) as f64 * self.width_factor[i]) as usize)
    }
}

impl Arch for MobileOneArch {
    fn names() -> Vec<(&'static str, Self)> {
        vec![
            ("s0", Self::default()),
            ("s1", Self::of([1.5, 1.5, 2.0, 2.5], 1, [0; 4])),
            ("s2", Self::of([1.5, 2.0, 2.5, 4.0], 1, [0; 4])),
            ("s3", Self::of([2.0, 2.5, 3.0, 4.0], 1, [0; 4])),
            ("s4", Self::of([3.0, 3.5, 3.5, 4.0], 1, [0, 0, 5, 1])),
        ]
    }
}

/// Blocks of several convolutions side by side, of each channel alone and of 1 × 1 in turn, which after the training are
/// one convolution each: images to 1024 features (`s0`) of 1/32 of the size.
///
/// Weight names are MMPretrain's: `stage0.branch_conv_list.0.conv`, `stage1.0.branch_scale.norm`, `stage1.1.branch_norm`, and
/// of a deployed network `stage0.branch_reparam`. 5,293,272 parameters (`s0`) with a linear layer for 1000 classes, 2,078,504
/// deployed.
pub struct MobileOne {
    layers: Chain,
    init: Vec<Init>,
}

module!(MobileOne { ..layers }, init_cfg = init);

register! { /// MobileOne, `s0` to `s4`: features of 1/32 of the size.
dyn Module, "MobileOne" => fn MobileOne::from_config }

impl MobileOne {
    fn from_config(p: MobileOneConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When there are less stages than are frozen, or another output than the last is asked for.
    pub fn new(p: &MobileOneConfig) -> Result<Self> {
        last_only(&p.out_indices, 4)?;
        let (arch, channels) = (&p.arch.0, p.arch.0.channels());
        bounded("num_blocks", &arch.num_blocks, 1000)?;
        bounded("num_conv_branches", &arch.num_conv_branches, 1000)?;
        bounded("in_channels", &[p.in_channels], 1 << 20)?;
        if channels.iter().any(|channels| !(1..=1 << 20).contains(channels)) {
            return Err(Error::config("`width_factor` makes stages of no or too many channels"));
        }
        let mut from = channels[0].min(64);
        let stem = Shape { from: p.in_channels, to: from, kernel: 3, stride: 2, groups: 1, branches: 1 };
        let mut layers = Chain::default().with("stage0", Block::new(stem, false, p.deploy)?);
        for (i, to) in channels.into_iter().enumerate() {
            let (blocks, branches) = (arch.num_blocks[i], arch.num_conv_branches[i]);
            if arch.num_se_blocks[i] > blocks {
                return Err(Error::config(format!(
                    "`num_se_blocks`: {} of {blocks} blocks of stage {} have squeeze and excitation",
                    arch.num_se_blocks[i],
                    i + 1
                )));
            }
            let mut stage = Chain::default();
            for j in 0..blocks {
                let squeezed = j >= blocks - arch.num_se_blocks[i];
                let stride = if j == 0 { 2 } else { 1 };
                let deep = Shape { from, to: from, kernel: 3, stride, groups: from, branches };
                let wide = Shape { from, to, kernel: 1, stride: 1, groups: 1, branches };
                stage = stage
                    .with((2 * j).to_string(), Block::new(deep, squeezed, p.deploy)?)
                    .with((2 * j + 1).to_string(), Block::new(wide, squeezed, p.deploy)?);
                from = to;
            }
            layers = layers.with(format!("stage{}", i + 1), stage);
        }
        let mut net = Self {
            layers,
            init: vec![
                Init::new(Kaiming::default()).layer("Conv2d"),
                Init::new(Constant { val: 1.0 }).layer("_BatchNorm"),
            ],
        };
        let stages: Vec<_> = (0..=4).map(|i| vec![format!("stage{i}")]).collect();
        freeze(&mut net, &stages, p.frozen_stages, p.norm_eval)?;
        Ok(net)
    }

    /// Makes one convolution of each block, which computes what the block does in evaluation.
    pub fn switch_to_deploy(&mut self) {
        self.layers.each_mut(&mut |block: &mut Block| block.switch_to_deploy());
    }
}

impl Module for MobileOne {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.layers.forward(x, cx)
    }
}

/// Channels, kernel, stride, groups and convolutions of a block.
#[derive(Clone, Copy)]
struct Shape {
    from: usize,
    to: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
    branches: usize,
}

/// The branches, or the one convolution that they become.
struct Block {
    se: Option<SELayer>,
    branch_norm: Option<BatchNorm2d>,
    branch_scale: Option<Branch>,
    branch_conv_list: Vec<Branch>,
    branch_reparam: Option<Conv2d>,
}

module!(Block { se, branch_norm, branch_scale, branch_conv_list, branch_reparam });

impl Block {
    fn new(s: Shape, squeezed: bool, deploy: bool) -> Result<Self> {
        let conv = |kernel| ConvModule::of(s.from, s.to, kernel).stride(s.stride).groups(s.groups);
        let se = || SELayer::new(s.to, make_divisible((s.to / 16) as f64, 8));
        let (keeps, branches) = (s.from == s.to && s.stride == 1, if deploy { 0 } else { s.branches });
        Ok(Self {
            se: squeezed.then(se).transpose()?,
            branch_norm: (!deploy && keeps).then(|| BatchNorm2d::new(s.to)),
            branch_scale: (!deploy && s.kernel > 1).then(|| Branch::new(&conv(1))).transpose()?,
            branch_conv_list: (0..branches).map(|_| Branch::new(&conv(s.kernel))).collect::<Result<_>>()?,
            branch_reparam: deploy.then(|| conv(s.kernel).norm(None).build()).transpose()?.map(|m| m.conv),
        })
    }

    fn switch_to_deploy(&mut self) {
        let convs = std::mem::take(&mut self.branch_conv_list);
        let scale = self.branch_scale.take();
        let parts: Vec<_> = convs.iter().chain(&scale).map(|branch| (&branch.conv, &branch.norm)).collect();
        let whole = merged(&parts, self.branch_norm.take().as_ref());
        self.branch_reparam = whole.or(self.branch_reparam.take());
    }
}

impl Module for Block {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut sum = match (&mut self.branch_reparam, &mut self.branch_norm) {
            (Some(conv), _) => Some(cx.child("branch_reparam", conv, x)?),
            (None, Some(norm)) => Some(cx.child("branch_norm", norm, x)?),
            (None, None) => None,
        };
        for Branch { conv, norm } in self.branch_scale.iter_mut().chain(&mut self.branch_conv_list) {
            let y = conv.forward(x, cx)?;
            sum = Some(norm.forward_then(y, BnThen { add: sum, relu: None }, cx)?);
        }
        let y = sum.unwrap_or(x);
        Ok(match &mut self.se {
            Some(se) => cx.child("se", se, y)?,
            None => y,
        }
        .relu())
    }
}

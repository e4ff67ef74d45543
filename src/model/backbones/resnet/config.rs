//! The keys of a residual network, and the blocks and channels that follow from them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::common::{last_only, last_stage, none_frozen, three};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::nn::ConvNormConfig;

/// The keys of `{type: ResNet, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ResNetConfig {
    /// Layers: 18 or 34 of basic blocks, 50, 101 or 152 of bottlenecks; in the form for small images also 20, 32, 44, 56
    /// and every other 6 n + 2, in three stages of n basic blocks.
    #[schemars(range(min = 8, max = 10_000), example = 50)]
    pub depth: usize,
    /// Channels of the images.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Channels behind the stem: 64, or 16 in a network of three stages.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub stem_channels: Option<usize>,
    /// Channels inside the blocks of the first stage, doubled from stage to stage; as many as behind the stem if absent.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub base_channels: Option<usize>,
    /// How many times as many channels a block gives as it has inside: 4 for a bottleneck (2, with `base_channels: 128`,
    /// makes a wide ResNet of depth 50), 1 for a basic block.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1024))]
    pub expansion: Option<usize>,
    /// Groups of the 3 × 3 convolution of a bottleneck: 1, or 32 of a ResNeXt.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub groups: Option<usize>,
    /// Channels of each such group in the first stage, for 64 `base_channels`; 4 if absent.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub width_per_group: Option<usize>,
    /// By how much squeeze and excitation squeezes the channels of a bottleneck; none if absent, 16 in an SEResNet.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub se_ratio: Option<usize>,
    /// Whether three 3 × 3 convolutions are the stem, instead of one of 7 × 7.
    #[serde(default)]
    pub deep_stem: bool,
    /// Whether a shortcut that makes the image smaller takes the mean of 2 × 2 places instead of one of them.
    #[serde(default)]
    pub avg_down: bool,
    /// Accepted if it is what the depth has: 4, or 3.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub num_stages: Option<usize>,
    /// Accepted if it names the last stage, whose output is the network's.
    #[serde(default = "last_stage")]
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
    /// Where a bottleneck has its stride: `pytorch` or `caffe`. A basic block has only one place for it.
    #[serde(default)]
    pub style: BlockStyle,
    /// Whether each block begins as its shortcut: the scale of its last batch norm is 0 at first.
    #[serde(default = "crate::config::yes")]
    pub zero_init_residual: bool,
    /// Stages that are frozen, batch norms too: 0 the stem, n also the first n stages; -1 none.
    #[serde(default = "none_frozen")]
    #[schemars(range(min = -1))]
    pub frozen_stages: i64,
    /// The batch norms.
    #[serde(default)]
    pub norm_cfg: ConvNormConfig,
    /// Whether batch norms normalise by their running statistics in training too, and leave them alone.
    #[serde(default)]
    pub norm_eval: bool,
    /// Probability with which the last block is left out in training; it grows from 0 at the first.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
}

/// Where a bottleneck has its stride; without effect on basic blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlockStyle {
    /// In the 3 × 3 convolution.
    #[default]
    Pytorch,
    /// In the first 1 × 1 convolution.
    Caffe,
}

impl ResNetConfig {
    /// A network of this depth for images of three channels.
    pub fn new(depth: usize) -> Self {
        Self {
            depth,
            in_channels: three(),
            stem_channels: None,
            base_channels: None,
            expansion: None,
            groups: None,
            width_per_group: None,
            se_ratio: None,
            deep_stem: false,
            avg_down: false,
            num_stages: None,
            out_indices: last_stage(),
            style: BlockStyle::default(),
            zero_init_residual: true,
            frozen_stages: none_frozen(),
            norm_cfg: ConvNormConfig::default(),
            norm_eval: false,
            drop_path_rate: 0.0,
        }
    }

    /// A ResNeXt (Xie et al. 2017): 32 groups of 4 channels unless told otherwise.
    #[must_use]
    pub fn resnext(self) -> Self {
        Self { groups: self.groups.or(Some(32)), width_per_group: self.width_per_group.or(Some(4)), ..self }
    }

    /// With squeeze and excitation (Hu et al. 2018) by 16 unless told otherwise.
    #[must_use]
    pub fn squeeze(self) -> Self {
        Self { se_ratio: self.se_ratio.or(Some(16)), ..self }
    }

    /// With three 3 × 3 convolutions as its stem: ResNet-C of He et al. 2019.
    #[must_use]
    pub fn deep_stem(self) -> Self {
        Self { deep_stem: true, ..self }
    }

    /// With shortcuts that take means as well: ResNet-D of He et al. 2019.
    #[must_use]
    pub fn avg_down(self) -> Self {
        Self { avg_down: true, ..self.deep_stem() }
    }

    /// The sizes of the network.
    pub(super) fn plan(&self, small: bool) -> Result<Plan> {
        let (blocks, stem) = match self.depth {
            18 => (vec![2, 2, 2, 2], 64),
            34 | 50 => (vec![3, 4, 6, 3], 64),
            101 => (vec![3, 4, 23, 3], 64),
            152 => (vec![3, 8, 36, 3], 64),
            depth if small && depth >= 8 && depth % 6 == 2 => (vec![(depth - 2) / 6; 3], 16),
            depth => {
                let more = if small { " or 6 n + 2 (20, 32, 44, 56, …)" } else { "" };
                return Err(Error::config(format!(
                    "no ResNet has `depth: {depth}`: it is 18, 34, 50, 101, 152{more}"
                )));
            }
        };
        let bottleneck = blocks.len() == 4 && self.depth >= 50;
        let own = [
            ("expansion", self.expansion),
            ("groups", self.groups),
            ("width_per_group", self.width_per_group),
            ("se_ratio", self.se_ratio),
        ];
        if let (false, Some((key, _))) = (bottleneck, own.iter().find(|(_, value)| value.is_some())) {
            let depth = self.depth;
            return Err(Error::config(format!(
                "`{key}` is for bottlenecks, and depth {depth} has basic blocks: take 50, 101 or 152"
            )));
        }
        self.stages(blocks.len())?;
        let stem = self.stem_channels.or(self.base_channels).unwrap_or(stem);
        let base = self.base_channels.unwrap_or(stem);
        Ok(Plan { blocks, stem, base, bottleneck })
    }

    /// Checks what a config says of the stages.
    fn stages(&self, stages: usize) -> Result<()> {
        if self.num_stages.is_some_and(|n| n != stages) {
            return Err(Error::config(format!("a ResNet of depth {} has {stages} stages", self.depth)));
        }
        last_only(&self.out_indices, stages)
    }
}

/// Sizes of a residual network.
pub(super) struct Plan {
    /// Of each stage.
    pub blocks: Vec<usize>,
    /// Channels behind the stem.
    pub stem: usize,
    /// Channels inside the blocks of the first stage.
    pub base: usize,
    pub bottleneck: bool,
}

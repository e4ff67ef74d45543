//! EdgeNeXt (Maaz et al. 2022, <https://arxiv.org/abs/2206.10589>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::{Arch, ArchConfig};
use super::common::{bounded, depthwise, drop_path_rates, last_only, last_stage, three};
use super::convnext::{Block, Pyramid};
use super::xcit::{WAVES, cross_covariance, waves};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::nn::{Conv2d, DropPath, Forward, LayerNorm, LayerNorm2d, Linear, Module, Param, Sequential, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: EdgeNeXt, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EdgeNeXtConfig {
    /// `xxsmall`, `xsmall`, `small` or `base`; or a mapping with `channels`, `depths` and `num_heads`.
    pub arch: ArchConfig<EdgeNeXtArch>,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Probability with which the last block is left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// What the branch of each convolutional block is multiplied by at first; 0 for no such weights.
    #[schemars(range(min = 0.0))]
    pub layer_scale_init_value: f64,
    /// Accepted if it names the last stage, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
    /// Whether the last norm is that of the mean over the image, and the output [N, C]; else it stays a map.
    pub gap_before_final_norm: bool,
}

impl Default for EdgeNeXtConfig {
    fn default() -> Self {
        Self {
            arch: ArchConfig::default(),
            in_channels: three(),
            drop_path_rate: 0.0,
            layer_scale_init_value: 1e-6,
            out_indices: last_stage(),
            gap_before_final_norm: true,
        }
    }
}

/// The sizes of an [`EdgeNeXt`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct EdgeNeXtArch {
    /// Channels of each stage.
    #[schemars(inner(range(min = 4, max = 1_048_576)))]
    pub channels: [usize; 4],
    /// Blocks of each stage; the last of all but the first stage looks at the whole map.
    #[schemars(inner(range(min = 1, max = 1000)))]
    pub depths: [usize; 4],
    /// Heads of the attention of each stage; divisors of its channels.
    #[schemars(inner(range(min = 1, max = 1_048_576)))]
    pub num_heads: [usize; 4],
}

impl Default for EdgeNeXtArch {
    fn default() -> Self {
        Self { channels: [24, 48, 88, 168], depths: [2, 2, 6, 2], num_heads: [4; 4] }
    }
}

impl Arch for EdgeNeXtArch {
    fn names() -> Vec<(&'static str, Self)> {
        let deep = |channels, heads| Self { channels, depths: [3, 3, 9, 3], num_heads: [heads; 4] };
        vec![
            ("xxsmall", Self::default()),
            ("xsmall", deep([32, 64, 100, 192], 4)),
            ("small", deep([48, 96, 160, 304], 8)),
            ("base", deep([80, 160, 288, 584], 8)),
        ]
    }
}

/// Of each stage: the kernels of its convolutional blocks, and into how many parts its attention splits the channels.
const STAGES: [[usize; 2]; 4] = [[3, 2], [5, 2], [7, 3], [9, 4]];

/// The stage whose attention is told where the places are.
const WITH_WAVES: usize = 1;

/// Convolutional blocks as a ConvNeXt's, and at the end of each stage but the first attention of channels to channels:
/// images to 168 features (`xxsmall`), normalised behind their mean, so that a linear head follows without a neck.
///
/// Weight names are MMPretrain's: `downsample_layers.0.0`, `stages.1.1.csa.qkv`, `norm3`. 1,327,216 parameters (`xxsmall`)
/// with a linear layer for 1000 classes.
pub struct EdgeNeXt {
    layers: Pyramid,
}

module!(EdgeNeXt { ..layers });

register! { /// EdgeNeXt, `xxsmall` to `base`: images to features, [N, C].
dyn Module, "EdgeNeXt" => fn EdgeNeXt::from_config }

impl EdgeNeXt {
    fn from_config(p: EdgeNeXtConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes.
    ///
    /// # Errors
    /// When heads do not divide channels, or another output than the last is asked for.
    pub fn new(p: &EdgeNeXtConfig) -> Result<Self> {
        let EdgeNeXtArch { channels, depths, num_heads } = p.arch.0;
        bounded("channels", &channels, 1 << 20)?;
        bounded("depths", &depths, 1000)?;
        bounded("num_heads", &num_heads, 1 << 20)?;
        last_only(&p.out_indices, 4)?;
        let mut rates = drop_path_rates(p.drop_path_rate, depths.iter().sum());
        let mut stages = Vec::new();
        for (i, [kernel, parts]) in STAGES.into_iter().enumerate() {
            let mut stage = Sequential::new();
            for j in 0..depths[i] {
                let rate = rates.next().unwrap_or_default();
                stage = match i > 0 && j + 1 == depths[i] {
                    true => stage.with(Sdta::new(channels[i], num_heads[i], parts, i == WITH_WAVES, rate)?),
                    false => {
                        let scale = p.layer_scale_init_value;
                        stage.with(Block::new([channels[i], kernel], scale, false, rate)?)
                    }
                };
            }
            stages.push(stage);
        }
        let norm = LayerNorm2d::new(channels[3]).eps(if p.gap_before_final_norm { 1e-5 } else { 1e-6 });
        Ok(Self { layers: Pyramid::new(p.in_channels, channels, stages, norm, p.gap_before_final_norm) })
    }
}

impl Module for EdgeNeXt {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.layers.forward(x, cx)
    }
}

/// Convolutions of parts of the channels, each of which sees the one before, then attention of channels to channels, and
/// two linear layers for each place: split depth-wise transpose attention.
struct Sdta {
    conv_modules: Vec<Conv2d>,
    pos_embed: Option<PositionEncoding>,
    norm_csa: LayerNorm,
    gamma_csa: Param,
    csa: ChannelAttention,
    norm: LayerNorm,
    pointwise_conv1: Linear,
    pointwise_conv2: Linear,
    gamma: Param,
    drop_path: DropPath,
    /// Channels of each part; the last one has what is left.
    split: Vec<usize>,
}

/// Where a place is, by waves of its row and its column.
struct PositionEncoding {
    proj: Conv2d,
}

/// Each head's softmax of `scale · k̂ᵀ q̂`, of the normalised channels over all places.
struct ChannelAttention {
    scale: Param,
    qkv: Linear,
    proj: Linear,
}

module!(Sdta {
    gamma_csa,
    gamma,
    conv_modules,
    pos_embed,
    norm_csa,
    csa,
    norm,
    pointwise_conv1,
    pointwise_conv2,
    drop_path
});
module!(PositionEncoding { proj });
module!(ChannelAttention { scale, qkv, proj });

impl Sdta {
    fn new(channels: usize, heads: usize, parts: usize, placed: bool, drop_path: f64) -> Result<Self> {
        if !channels.is_multiple_of(heads) {
            return Err(Error::config(format!(
                "`num_heads: {heads}` does not divide the {channels} channels of its stage"
            )));
        }
        let part = channels.div_ceil(parts);
        let last = channels.checked_sub(part * (parts - 1)).filter(|last| *last > 0).ok_or_else(|| {
            Error::config(format!("`channels: {channels}` do not split into {parts} parts of {part}"))
        })?;
        let split = [vec![part; parts - 1], vec![last]].concat();
        Ok(Self {
            conv_modules: (1..parts).map(|_| depthwise(part, 3)).collect::<Result<_>>()?,
            pos_embed: placed.then(|| PositionEncoding { proj: Conv2d::new(2 * WAVES, channels, 1) }),
            norm_csa: LayerNorm::new(channels),
            gamma_csa: Param::full(&[channels], 1e-6),
            csa: ChannelAttention {
                scale: Param::full(&[heads, 1, 1], 1.0),
                qkv: Linear::new(channels, 3 * channels),
                proj: Linear::new(channels, channels),
            },
            norm: LayerNorm::new(channels),
            pointwise_conv1: Linear::new(channels, 4 * channels),
            pointwise_conv2: Linear::new(4 * channels, channels),
            gamma: Param::full(&[channels], 1e-6),
            drop_path: DropPath::new(drop_path),
            split,
        })
    }

    /// All parts but the last convolved, each with what came of the one before.
    fn convolved<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut parts = x.split(&self.split, 1);
        let mut before: Option<Var<'t>> = None;
        for (i, (conv, part)) in self.conv_modules.iter_mut().zip(&mut parts).enumerate() {
            let seen = before.map_or(*part, |before| before + *part);
            *part = cx.child(format_args!("conv_modules.{i}"), conv, seen)?;
            before = Some(*part);
        }
        x.tape().concat(&parts, 1).checked()
    }
}

impl Module for ChannelAttention {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let qkv = cx.child("qkv", &mut self.qkv, x)?;
        let y = cross_covariance(qkv, x.tape().param(&self.scale));
        cx.child("proj", &mut self.proj, y)
    }
}

impl Module for Sdta {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let tape = x.tape();
        let mut y = self.convolved(x, cx)?;
        let size = [y.shape()[2], y.shape()[3]];
        if let Some(PositionEncoding { proj }) = &mut self.pos_embed {
            let waves = tape.input(waves(size[0], size[1]));
            y = y + cx.child("pos_embed.proj", proj, waves)?;
        }
        let y = y.embed_tokens(None, None);
        let seen = cx.child("norm_csa", &mut self.norm_csa, y)?;
        let seen = tape.param(&self.gamma_csa) * cx.child("csa", &mut self.csa, seen)?;
        let y = y + self.drop_path.forward(seen, cx)?;
        let y = cx.child("norm", &mut self.norm, y)?;
        let y = cx.child("pointwise_conv1", &mut self.pointwise_conv1, y)?.gelu();
        let y = tape.param(&self.gamma) * cx.child("pointwise_conv2", &mut self.pointwise_conv2, y)?;
        (x + self.drop_path.forward(y.token_planes(size), cx)?).checked()
    }
}

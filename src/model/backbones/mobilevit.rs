//! MobileViT (Mehta and Rastegari 2021, <https://arxiv.org/abs/2110.02178>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::ArchConfig;
use super::common::{Chain, last_only, last_stage, three};
use super::mobilenet_v2::InvertedResidual;
use super::vision_transformer::{TransformerEncoderLayer, VisionTransformerArch, VisionTransformerConfig};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::kernels::Act;
use crate::nn::init::{Constant, Init, Kaiming};
use crate::nn::{ConvModule, Forward, LayerNorm, Module, PatchNormConfig, SiLU, Upsample, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: MobileViT, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MobileViTConfig {
    /// How wide it is: small, x_small or xx_small.
    pub arch: MobileViTArch,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Channels of the first convolution.
    #[schemars(range(min = 1, max = 65536))]
    pub stem_channels: usize,
    /// How many times the channels of the last stage the output has.
    #[schemars(range(min = 1, max = 1024))]
    pub last_exp_factor: usize,
    /// Accepted if it names the last stage, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

impl Default for MobileViTConfig {
    fn default() -> Self {
        Self {
            arch: MobileViTArch::Small,
            in_channels: three(),
            stem_channels: 16,
            last_exp_factor: 4,
            out_indices: last_stage(),
        }
    }
}

/// The width of a [`MobileViT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MobileViTArch {
    /// 640 features.
    Small,
    /// 384 features.
    XSmall,
    /// 320 features.
    XxSmall,
}

impl MobileViTArch {
    /// Channels of the five stages, size of a token in the last three, and by how much blocks are wider inside.
    fn sizes(self) -> ([usize; 5], [usize; 3], usize) {
        match self {
            Self::Small => ([32, 64, 96, 128, 160], [144, 192, 240], 4),
            Self::XSmall => ([32, 48, 64, 80, 96], [96, 120, 144], 4),
            Self::XxSmall => ([16, 24, 48, 64, 80], [64, 80, 96], 2),
        }
    }
}

/// Blocks of each transformer.
const DEPTHS: [usize; 3] = [2, 4, 3];

/// Convolutions, and transformers of the places that stand alike in patches of 2 × 2: images to 640 features (`small`) of 1/32 of the
/// size.
///
/// Weight names are MMPretrain's: `stem.conv`, `layers.0.0.conv.0.conv`, `layers.2.1.global_rep.0.attn.qkv`,
/// `conv_1x1_exp`. 5,578,632 parameters (`small`) with a linear layer for 1000 classes.
pub struct MobileViT {
    layers: Chain,
    init: Vec<Init>,
}

module!(MobileViT { ..layers }, init_cfg = init);

register! { /// MobileViT: features of 1/32 of the size.
dyn Module, "MobileViT" => fn MobileViT::from_config }

impl MobileViT {
    fn from_config(p: MobileViTConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When a size is 0.
    pub fn new(p: &MobileViTConfig) -> Result<Self> {
        last_only(&p.out_indices, 5)?;
        let (channels, dims, expand) = p.arch.sizes();
        let mut from = p.stem_channels;
        let mut stages = Chain::default();
        for (i, to) in channels.into_iter().enumerate() {
            let mut stage = Chain::default();
            let (blocks, stride) = [(1, 1), (3, 2), (1, 2), (1, 2), (1, 2)][i];
            for j in 0..blocks {
                let stride = if j == 0 { stride } else { 1 };
                let block = InvertedResidual::new([from, to], stride, expand, Act::Silu)?;
                stage = stage.with(j.to_string(), block);
                from = to;
            }
            if let Some(k) = i.checked_sub(2) {
                stage = stage.with("1", Block::new(to, dims[k], DEPTHS[k])?);
            }
            stages = stages.with(i.to_string(), stage);
        }
        let conv = |from, to, kernel| ConvModule::of(from, to, kernel).act(Act::Silu);
        Ok(Self {
            layers: Chain::default()
                .with("stem", conv(p.in_channels, p.stem_channels, 3).stride(2).build()?)
                .with("layers", stages)
                .with("conv_1x1_exp", conv(from, from.saturating_mul(p.last_exp_factor), 1).build()?),
            init: vec![
                Init::new(Kaiming::default()).layer("Conv2d"),
                Init::new(Constant { val: 1.0 }).layer("_BatchNorm").layer("GroupNorm"),
            ],
        })
    }
}

impl Module for MobileViT {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.layers.forward(x, cx)
    }
}

/// What a transformer sees of the whole map, joined with the map by a convolution.
struct Block {
    local_rep: Chain,
    global_rep: Chain,
    conv_proj: ConvModule,
    conv_fusion: ConvModule,
}

module!(Block { local_rep, global_rep, conv_proj, conv_fusion });

/// Rows and columns of a patch.
const PATCH: usize = 2;

impl Block {
    fn new(channels: usize, dims: usize, depth: usize) -> Result<Self> {
        let usual = VisionTransformerConfig {
            arch: ArchConfig(VisionTransformerArch {
                embed_dims: dims,
                num_layers: depth,
                num_heads: 4,
                feedforward_channels: 2 * dims,
            }),
            norm_cfg: PatchNormConfig::default(),
            ..VisionTransformerConfig::default()
        };
        let mut global_rep = Chain::default();
        for i in 0..depth {
            let layer = TransformerEncoderLayer::new(&usual, 0.0)?.act(SiLU::default());
            global_rep = global_rep.with(i.to_string(), layer);
        }
        let conv = |from, to, kernel| ConvModule::of(from, to, kernel).act(Act::Silu);
        let plain = ConvModule::of(channels, dims, 1).norm(None).bias(false).act(Act::Identity);
        Ok(Self {
            local_rep: Chain::default()
                .with("0", conv(channels, channels, 3).build()?)
                .with("1", plain.build()?),
            global_rep: global_rep.with(depth.to_string(), LayerNorm::new(dims)),
            conv_proj: conv(dims, channels, 1).build()?,
            conv_fusion: conv(2 * channels, channels, 3).build()?,
        })
    }
}

impl Module for Block {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut y = cx.child("local_rep", &mut self.local_rep, x)?;
        let &[n, c, h, w] = &y.shape()[..] else {
            return Err(Error::invalid("MobileViT wants images of shape [N, C, H, W]"));
        };
        let [rows, columns] = [h, w].map(|side| side.div_ceil(PATCH));
        let whole = [rows * PATCH, columns * PATCH];
        if whole != [h, w] {
            y = Upsample::size(whole).bilinear(false).forward(y, cx)?;
        }
        // Sequences of the places that stand alike in all patches.
        let alike = y.reshape(&[n, c, rows, PATCH, columns, PATCH]).permute(&[0, 3, 5, 2, 4, 1]);
        let tokens = alike.reshape(&[n * PATCH * PATCH, rows * columns, c]);
        let tokens = cx.child("global_rep", &mut self.global_rep, tokens)?;
        let alike = tokens.reshape(&[n, PATCH, PATCH, rows, columns, c]).permute(&[0, 5, 3, 1, 4, 2]);
        let mut y = alike.reshape(&[n, c, whole[0], whole[1]]).checked()?;
        if whole != [h, w] {
            y = Upsample::size([h, w]).bilinear(false).forward(y, cx)?;
        }
        let y = cx.child("conv_proj", &mut self.conv_proj, y)?;
        cx.child("conv_fusion", &mut self.conv_fusion, x.tape().concat(&[x, y], 1))
    }
}

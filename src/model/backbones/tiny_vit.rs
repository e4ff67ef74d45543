//! TinyViT (Wu et al. 2022, <https://arxiv.org/abs/2207.10666>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::{Arch, ArchConfig};
use super::common::{Chain, Mlp, begins_at_zero, divided, drop_path_rates, last_only, last_stage, three};
use super::windows::{Offsets, Windows};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::nn::init::Init;
use crate::nn::{
    BatchNorm2d, Conv2d, DropPath, Forward, GELU, LayerNorm, Linear, Module, Pair, PatchNormConfig, Var,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: TinyViT, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TinyViTConfig {
    /// `5m`, `11m` or `21m`; or a mapping with `channels`, `num_heads` and `depths`.
    pub arch: ArchConfig<TinyViTArch>,
    /// Accepted for MMPretrain's configs: images may have any size.
    #[schemars(schema_with = "crate::nn::positive")]
    pub img_size: Pair,
    /// Height and width of the windows of each stage, in places of its map; that of the first stage is not used.
    #[schemars(inner(range(min = 1, max = 256)))]
    pub window_size: [usize; 4],
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// By how much the MLPs of the last three stages are wider inside.
    #[schemars(range(min = 0.01, max = 1024.0))]
    pub mlp_ratio: f64,
    /// Probability with which the last block's branches are left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// By how much the blocks of the first stage are wider inside.
    #[schemars(range(min = 0.01, max = 1024.0))]
    pub mbconv_expand_ratio: f64,
    /// Kernel of the convolutions between attention and MLP, an odd number.
    #[schemars(range(min = 1, max = 255))]
    pub local_conv_size: usize,
    /// Whether the output is the normalised mean, [N, C], or the normalised map.
    pub gap_before_final_norm: bool,
    /// The norm of the output.
    pub norm_cfg: PatchNormConfig,
    /// Accepted if it names the last stage, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

impl Default for TinyViTConfig {
    fn default() -> Self {
        Self {
            arch: ArchConfig::default(),
            img_size: Pair([224, 224]),
            window_size: [7, 7, 14, 7],
            in_channels: three(),
            mlp_ratio: 4.0,
            drop_path_rate: 0.1,
            mbconv_expand_ratio: 4.0,
            local_conv_size: three(),
            gap_before_final_norm: true,
            norm_cfg: PatchNormConfig::default(),
            out_indices: last_stage(),
        }
    }
}

/// The sizes of a TinyViT.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct TinyViTArch {
    /// Channels of each stage.
    #[schemars(inner(range(min = 2, max = 1_048_576)))]
    pub channels: [usize; 4],
    /// Heads of each stage, divisors of its channels; those of the first stage are not used.
    #[schemars(inner(range(min = 1)))]
    pub num_heads: [usize; 4],
    /// Blocks of each stage.
    #[schemars(inner(range(min = 1, max = 1000)))]
    pub depths: [usize; 4],
}

impl Default for TinyViTArch {
    fn default() -> Self {
        Self { channels: [64, 128, 160, 320], num_heads: [2, 4, 5, 10], depths: [2, 2, 6, 2] }
    }
}

impl Arch for TinyViTArch {
    fn names() -> Vec<(&'static str, Self)> {
        let of = |channels, num_heads| Self { channels, num_heads, depths: [2, 2, 6, 2] };
        vec![
            ("5m", Self::default()),
            ("11m", of([64, 128, 256, 448], [2, 4, 8, 14])),
            ("21m", of([96, 192, 384, 576], [3, 6, 12, 18])),
        ]
    }
}

/// Convolutions, and behind them attention within windows by learnt distances: images to 320 features (`5m`).
///
/// Weight names are MMPretrain's: `patch_embed.seq.0.conv2d`, `stages.0.blocks.0.conv1.bn2d`,
/// `stages.1.blocks.0.attn.attention_biases`, `stages.1.blocks.0.local_conv.conv2d`, `norm3`. 5,392,764 parameters (`5m`)
/// with a linear layer for 1000 classes.
pub struct TinyViT {
    patch_embed: Patches,
    stages: Vec<Stage>,
    norm: LayerNorm,
    mean: bool,
}

struct Patches {
    seq: Chain,
}

module!(TinyViT { patch_embed, stages, norm as "norm3" });
module!(Patches { seq });

register! { /// TinyViT: images to the normalised mean of 1/32 of the size, [N, C].
dyn Module, "TinyViT" => fn TinyViT::from_config }

impl TinyViT {
    fn from_config(p: TinyViTConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When a size is 0, heads do not divide the channels, or the kernel is even.
    pub fn new(p: &TinyViTConfig) -> Result<Self> {
        let TinyViTArch { channels, depths, .. } = p.arch.0.clone();
        if channels.contains(&0) || depths.iter().any(|depth| *depth > 1000) || p.window_size.contains(&0) {
            return Err(Error::config("`channels` and `window_size` are at least 1, `depths` at most 1000"));
        }
        if p.local_conv_size.is_multiple_of(2) {
            let size = p.local_conv_size;
            return Err(Error::config(format!(
                "`local_conv_size: {size}` has no middle: it is an odd number"
            )));
        }
        last_only(&p.out_indices, channels.len())?;
        let mut rates = drop_path_rates(p.drop_path_rate, depths.iter().sum());
        let mut stages = Vec::new();
        for i in 0..channels.len() {
            let mut blocks = Chain::default();
            for j in 0..depths[i] {
                let rate = rates.next().unwrap_or_default();
                blocks = match i {
                    0 => blocks.with(j.to_string(), MbConv::new(channels[0], p.mbconv_expand_ratio, rate)),
                    _ => blocks.with(j.to_string(), Block::new(p, i, rate)?),
                };
            }
            let downsample = channels.get(i + 1).map(|next| Down {
                conv1: ConvBn::new(channels[i], *next, 1),
                conv2: ConvBn::depthwise(*next, 3).halving(),
                conv3: ConvBn::new(*next, *next, 1),
            });
            stages.push(Stage { blocks, downsample });
        }
        let (first, stem) = (channels[0], channels[0] / 2);
        let halving = |from, to| ConvBn::new(from, to, 3).halving();
        let seq = Chain::default().with("0", halving(p.in_channels, stem)).with("1", GELU::new());
        Ok(Self {
            patch_embed: Patches { seq: seq.with("2", halving(stem, first)) },
            stages,
            norm: p.norm_cfg.build(channels[3]),
            mean: p.gap_before_final_norm,
        })
    }
}

impl Module for TinyViT {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut x = cx.child("patch_embed.seq", &mut self.patch_embed.seq, x)?;
        for (i, Stage { blocks, downsample }) in self.stages.iter_mut().enumerate() {
            x = cx.child(format_args!("stages.{i}.blocks"), blocks, x)?;
            if let Some(downsample) = downsample {
                x = cx.child(format_args!("stages.{i}.downsample"), downsample, x)?;
            }
        }
        let size = [x.shape()[2], x.shape()[3]];
        let x = x.embed_tokens(None, None);
        match self.mean {
            true => cx.child("norm3", &mut self.norm, x.token_mean(0)),
            false => cx.child("norm3", &mut self.norm, x)?.token_planes(size).checked(),
        }
    }
}

/// Blocks on one size of the map, and the step to the next.
struct Stage {
    blocks: Chain,
    downsample: Option<Down>,
}

/// A convolution and the norm behind it.
struct ConvBn {
    conv2d: Conv2d,
    bn2d: BatchNorm2d,
}

/// Three convolutions with GELU between them, the second of which halves the map.
struct Down {
    conv1: ConvBn,
    conv2: ConvBn,
    conv3: ConvBn,
}

/// `gelu(x + conv3(gelu(conv2(gelu(conv1(x))))))`, where the second looks at each channel alone.
struct MbConv {
    conv1: ConvBn,
    conv2: ConvBn,
    conv3: ConvBn,
    drop_path: DropPath,
    init: Vec<Init>,
}

module!(Stage { blocks, downsample });
module!(ConvBn { conv2d, bn2d });
module!(Down { conv1, conv2, conv3 });
module!(MbConv { conv1, conv2, conv3, drop_path }, init_cfg = init);

impl ConvBn {
    /// One that keeps the size of the map.
    fn new(from: usize, to: usize, kernel: usize) -> Self {
        let conv2d = Conv2d::new(from, to, kernel).padding(kernel / 2).bias(false);
        Self { conv2d, bn2d: BatchNorm2d::new(to) }
    }

    /// One that keeps the size, of each channel alone.
    fn depthwise(channels: usize, kernel: usize) -> Self {
        let conv2d = Conv2d::new(channels, channels, kernel).groups(channels).padding(kernel / 2).bias(false);
        Self { conv2d, bn2d: BatchNorm2d::new(channels) }
    }

    /// The same, which halves the map.
    fn halving(self) -> Self {
        Self { conv2d: self.conv2d.stride(2), ..self }
    }
}

impl Module for ConvBn {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("conv2d", &mut self.conv2d, x)?;
        cx.child("bn2d", &mut self.bn2d, x)
    }
}

impl Module for Down {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("conv1", &mut self.conv1, x)?.gelu();
        let x = cx.child("conv2", &mut self.conv2, x)?.gelu();
        cx.child("conv3", &mut self.conv3, x)
    }
}

impl MbConv {
    fn new(channels: usize, ratio: f64, drop_path: f64) -> Self {
        let inner = (channels as f64 * ratio) as usize;
        Self {
            conv1: ConvBn::new(channels, inner, 1),
            conv2: ConvBn::depthwise(inner, 3),
            conv3: ConvBn::new(inner, channels, 1),
            drop_path: DropPath::new(drop_path),
            init: begins_at_zero("conv3.bn2d"),
        }
    }
}

impl Module for MbConv {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child("conv1", &mut self.conv1, x)?.gelu();
        let y = cx.child("conv2", &mut self.conv2, y)?.gelu();
        let y = cx.child("conv3", &mut self.conv3, y)?;
        (x + self.drop_path.forward(y, cx)?).gelu().checked()
    }
}

/// Attention within windows, a convolution of each channel alone, and an MLP.
struct Block {
    attn: Attention,
    mlp: NormedMlp,
    local_conv: ConvBn,
    drop_path: DropPath,
    window: usize,
}

struct Attention {
    norm: LayerNorm,
    qkv: Linear,
    proj: Linear,
    offsets: Offsets,
    key: usize,
}

struct NormedMlp {
    norm: LayerNorm,
    mlp: Mlp,
}

module!(Block { drop_path, attn, mlp, local_conv });
module!(Attention { norm, qkv, proj, ..offsets });
module!(NormedMlp { norm, ..mlp });

impl Block {
    fn new(p: &TinyViTConfig, stage: usize, drop_path: f64) -> Result<Self> {
        let (dims, window) = (p.arch.0.channels[stage], p.window_size[stage]);
        let heads = p.arch.0.num_heads[stage];
        divided(dims, heads)?;
        Ok(Self {
            attn: Attention {
                norm: LayerNorm::new(dims),
                qkv: Linear::new(dims, dims.saturating_mul(3)),
                proj: Linear::new(dims, dims),
                offsets: Offsets::new(heads, [window; 2], 1),
                key: dims / heads,
            },
            mlp: NormedMlp {
                norm: LayerNorm::new(dims),
                mlp: Mlp::new(dims, (dims as f64 * p.mlp_ratio) as usize, dims),
            },
            local_conv: ConvBn::depthwise(dims, p.local_conv_size),
            drop_path: DropPath::new(drop_path),
            window,
        })
    }
}

impl Module for Attention {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("norm", &mut self.norm, x)?;
        let qkv = cx.child("qkv", &mut self.qkv, x)?;
        let y = self.offsets.attention(qkv, self.key)?;
        cx.child("proj", &mut self.proj, y)
    }
}

impl Module for NormedMlp {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("norm", &mut self.norm, x)?;
        self.mlp.forward(x, cx)
    }
}

impl Module for Block {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let size = [x.shape()[2], x.shape()[3]];
        let tokens = x.embed_tokens(None, None);
        let windows = Windows::new(size, self.window, 0);
        let seen = windows.attend(tokens, 0.0, |inside, _| cx.child("attn", &mut self.attn, inside))?;
        let x = tokens + self.drop_path.forward(seen, cx)?;
        let map = cx.child("local_conv", &mut self.local_conv, x.token_planes(size))?;
        let x = map.embed_tokens(None, None);
        let y = cx.child("mlp", &mut self.mlp, x)?;
        (x + self.drop_path.forward(y, cx)?).token_planes(size).checked()
    }
}

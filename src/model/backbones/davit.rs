//! DaViT (Ding et al. 2022, <https://arxiv.org/abs/2204.03645>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::{Arch, ArchConfig};
use super::common::{divided, drop_path_rates, last_only, last_stage, of_map, on_map, three};
use super::swin::ShiftWindowMSA;
use crate::base::{Elem, Error, Result};
use crate::config::OneOrMany;
use crate::nn::{
    Child, ChildMut, Conv2d, DropPath, FFN, Forward, LayerNorm, Linear, Module, ModuleTree,
    MultiheadAttention, PatchEmbed, PatchNormConfig, Var, same_padding,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: DaViT, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DaViTConfig {
    /// `tiny` to `giant`; or a mapping with `embed_dims`, `depths` and `num_heads`.
    pub arch: ArchConfig<DaViTArch>,
    /// By how much the images become smaller before the first stage.
    #[schemars(range(min = 1, max = 255))]
    pub patch_size: usize,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Height and width, in patches, of the windows that attention of places stays in.
    #[schemars(range(min = 1, max = 256))]
    pub window_size: usize,
    /// By how much the feed-forward networks widen a token.
    #[schemars(range(min = 0.01, max = 1024.0))]
    pub ffn_ratio: f64,
    /// Whether query, key and value have an offset.
    pub qkv_bias: bool,
    /// Probability with which the last block's branches are left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// Whether a map that is smaller than a window is filled up with zeros, and not refused.
    pub pad_small_map: bool,
    /// The norm of the output.
    pub norm_cfg: PatchNormConfig,
    /// Accepted if it names the last stage, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

impl Default for DaViTConfig {
    fn default() -> Self {
        Self {
            arch: ArchConfig::default(),
            patch_size: 4,
            in_channels: three(),
            window_size: 7,
            ffn_ratio: 4.0,
            qkv_bias: true,
            drop_path_rate: 0.1,
            pad_small_map: false,
            norm_cfg: PatchNormConfig::default(),
            out_indices: last_stage(),
        }
    }
}

/// The sizes of a DaViT.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct DaViTArch {
    /// Size of a token in the first stage, doubled from stage to stage.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub embed_dims: usize,
    /// Blocks of each stage.
    #[schemars(inner(range(min = 1, max = 1000)))]
    pub depths: [usize; 4],
    /// Heads of each stage.
    #[schemars(inner(range(min = 1)))]
    pub num_heads: [usize; 4],
}

impl DaViTArch {
    fn of(embed_dims: usize, third: usize, last: usize, heads: usize) -> Self {
        Self { embed_dims, depths: [1, 1, third, last], num_heads: [heads, 2 * heads, 4 * heads, 8 * heads] }
    }
}

impl Default for DaViTArch {
    fn default() -> Self {
        Self::of(96, 3, 1, 3)
    }
}

impl Arch for DaViTArch {
    fn names() -> Vec<(&'static str, Self)> {
        let all = [
            (["t", "tiny"], Self::default()),
            (["s", "small"], Self::of(96, 9, 1, 3)),
            (["b", "base"], Self::of(128, 9, 1, 4)),
            (["l", "large"], Self::of(192, 9, 1, 6)),
            (["h", "huge"], Self::of(256, 9, 1, 8)),
            (["g", "giant"], Self::of(384, 12, 3, 12)),
        ];
        all.into_iter().flat_map(|(names, sizes)| names.map(|name| (name, sizes.clone()))).collect()
    }
}

/// Attention of places within windows, and of channels over all places, in turn: images to 768 features (`tiny`) of 1/32 of the
/// size.
///
/// Weight names are MMPretrain's: `patch_embed.projection`, `stages.0.blocks.0.spatial_block.attn.w_msa.qkv`,
/// `stages.0.blocks.0.channel_block.attn.qkv`, `stages.0.downsample.projection`, `norm3`. 28,360,168 parameters (`tiny`)
/// with a linear layer for 1000 classes.
pub struct DaViT {
    patch_embed: PatchEmbed,
    stages: Vec<Stage>,
    norm: LayerNorm,
    patch: usize,
}

module!(DaViT { patch_embed, stages, norm as "norm3" });

register! { /// DaViT: features of 1/32 of the size.
dyn Module, "DaViT" => fn DaViT::from_config }

impl DaViT {
    fn from_config(p: DaViTConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When a size is 0, or heads do not divide the features.
    pub fn new(p: &DaViTConfig) -> Result<Self> {
        let DaViTArch { embed_dims, depths, num_heads } = p.arch.0.clone();
        if p.window_size == 0 || p.patch_size == 0 || depths.iter().any(|depth| *depth > 1000) {
            return Err(Error::config(
                "`window_size` and `patch_size` are at least 1, `depths` at most 1000",
            ));
        }
        last_only(&p.out_indices, depths.len())?;
        let mut rates = drop_path_rates(p.drop_path_rate, depths.iter().sum());
        let mut stages = Vec::new();
        for i in 0..depths.len() {
            let (dims, heads) = (embed_dims.saturating_mul(1 << i), num_heads[i]);
            divided(dims, heads)?;
            let mut blocks: Vec<Box<dyn Module>> = Vec::new();
            for _ in 0..depths[i] {
                let rate = rates.next().unwrap_or_default();
                let window = MultiheadAttention::new(dims, heads).qkv_bias(p.qkv_bias);
                let channels = ChannelAttention {
                    qkv: Linear::new(dims, dims.saturating_mul(3)).bias(p.qkv_bias),
                    proj: Linear::new(dims, dims),
                    heads,
                };
                let windows = ShiftWindowMSA::of(window, [p.window_size, 0], p.pad_small_map);
                blocks.push(Box::new(Block {
                    spatial_block: Half::new(p, dims, Seer::Windows(windows), rate),
                    channel_block: Half::new(p, dims, Seer::Channels(Box::new(channels)), rate),
                }));
            }
            let downsample = (i + 1 < depths.len()).then(|| Down {
                norm: LayerNorm::new(dims),
                projection: Conv2d::new(dims, dims.saturating_mul(2), 2).stride(2),
            });
            stages.push(Stage { blocks, downsample });
        }
        let patches = PatchEmbed::new(p.in_channels, embed_dims, 7).stride(p.patch_size);
        Ok(Self {
            patch_embed: patches.norm(LayerNorm::new(embed_dims)),
            stages,
            norm: p.norm_cfg.build(embed_dims.saturating_mul(8)),
            patch: p.patch_size,
        })
    }
}

impl Module for DaViT {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = same_padding(x, 7, self.patch);
        let map = cx.child("patch_embed.projection", &mut self.patch_embed.projection, x)?;
        let mut size = [map.shape()[2], map.shape()[3]];
        let mut x = map.embed_tokens(None, None);
        if let Some(norm) = &mut self.patch_embed.norm {
            x = cx.child("patch_embed.norm", norm, x)?;
        }
        for (i, stage) in self.stages.iter_mut().enumerate() {
            for (j, block) in stage.blocks.iter_mut().enumerate() {
                x = cx.child_all(format_args!("stages.{i}.blocks.{j}"), block, &on_map(x, size))?;
            }
            if let Some(Down { norm, projection }) = &mut stage.downsample {
                let y = cx.child(format_args!("stages.{i}.downsample.norm"), norm, x)?.token_planes(size);
                let map = cx.child(format_args!("stages.{i}.downsample.projection"), projection, y)?;
                size = [map.shape()[2], map.shape()[3]];
                x = map.embed_tokens(None, None);
            }
        }
        cx.child("norm3", &mut self.norm, x)?.token_planes(size).checked()
    }
}

/// Blocks on one size of the map, and the step to the next.
struct Stage {
    blocks: Vec<Box<dyn Module>>,
    downsample: Option<Down>,
}

struct Down {
    norm: LayerNorm,
    projection: Conv2d,
}

/// Attention of places, and then of channels.
struct Block {
    spatial_block: Half,
    channel_block: Half,
}

/// One attention between two convolutions of each channel alone, and a feed-forward network.
struct Half {
    cpe1: Near,
    norm1: LayerNorm,
    attn: Seer,
    cpe2: Near,
    norm2: LayerNorm,
    ffn: FFN,
    drop_path: DropPath,
}

module!(Stage { blocks, downsample });
module!(Down { norm, projection });
module!(Block { spatial_block, channel_block });
module!(Half { cpe1, norm1, attn, cpe2, norm2, ffn, drop_path });

impl Module for Block {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_all(&[x], cx)
    }

    /// Of the tokens of a map.
    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let (x, size) = of_map(xs)?;
        let Self { spatial_block, channel_block } = self;
        let x = cx.within("spatial_block", spatial_block, x, |half, cx| half.forward(x, size, cx))?;
        cx.within("channel_block", channel_block, x, |half, cx| half.forward(x, size, cx))
    }
}

impl Half {
    fn new(p: &DaViTConfig, dims: usize, attn: Seer, drop_path: f64) -> Self {
        let inner = (dims as f64 * p.ffn_ratio) as usize;
        Self {
            cpe1: Near::new(dims),
            norm1: LayerNorm::new(dims),
            attn,
            cpe2: Near::new(dims),
            norm2: LayerNorm::new(dims),
            ffn: FFN::new(dims, inner, 0.0).drop_path(drop_path),
            drop_path: DropPath::new(drop_path),
        }
    }

    fn forward<'t>(&mut self, x: Var<'t>, size: [usize; 2], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.within("cpe1", &mut self.cpe1, x, |cpe, cx| cpe.forward(x, size, cx))?;
        let y = cx.child("norm1", &mut self.norm1, x)?;
        let x = match &mut self.attn {
            Seer::Windows(attn) => {
                let y = cx.within("attn", attn, y, |attn, cx| attn.forward(y, size, cx))?;
                x + self.drop_path.forward(y, cx)?
            }
            Seer::Channels(attn) => x + cx.child("attn", &mut **attn, y)?,
        };
        let x = cx.within("cpe2", &mut self.cpe2, x, |cpe, cx| cpe.forward(x, size, cx))?;
        let y = cx.child("norm2", &mut self.norm2, x)?;
        cx.within("ffn", &mut self.ffn, y, |ffn, cx| ffn.forward_add(y, x, cx))
    }
}

/// The attention of one half of a block.
enum Seer {
    Windows(ShiftWindowMSA),
    Channels(Box<ChannelAttention>),
}

impl ModuleTree for Seer {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Windows(attn) => attn.type_name(),
            Self::Channels(attn) => attn.type_name(),
        }
    }
    fn visit_children<'a>(&'a self, f: &mut dyn FnMut(&str, Child<'a>)) {
        match self {
            Self::Windows(attn) => attn.visit_children(f),
            Self::Channels(attn) => attn.visit_children(f),
        }
    }
    fn visit_children_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
        match self {
            Self::Windows(attn) => attn.visit_children_mut(f),
            Self::Channels(attn) => attn.visit_children_mut(f),
        }
    }
}

/// Each token plus what a convolution of each channel alone sees of its neighbours.
struct Near {
    proj: Conv2d,
}

module!(Near { proj });

impl Near {
    fn new(dims: usize) -> Self {
        Self { proj: Conv2d::new(dims, dims, 3).padding(1).groups(dims) }
    }

    fn forward<'t>(&mut self, x: Var<'t>, size: [usize; 2], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let near = cx.child("proj", &mut self.proj, x.token_planes(size))?;
        (x + near.embed_tokens(None, None)).checked()
    }
}

/// Attention of channels: of each head the softmax of `kᵀ v`, by which its channels of the query are weighed.
struct ChannelAttention {
    qkv: Linear,
    proj: Linear,
    heads: usize,
}

module!(ChannelAttention { qkv, proj });

impl Module for ChannelAttention {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let ([n, t, c], heads) = ([0, 1, 2].map(|axis| x.shape()[axis]), self.heads);
        let qkv = cx.child("qkv", &mut self.qkv, x)?.reshape(&[n, t, 3, heads, c / heads]);
        let [q, k, v] = [0, 1, 2].map(|part| qkv.select(2, part).transpose(1, 2));
        let k = k * (1.0 / ((c / heads) as Elem).sqrt());
        let weights = k.transpose(2, 3).matmul(v).softmax(-1);
        let y = weights.matmul(q.transpose(2, 3)).permute(&[0, 3, 1, 2]).reshape(&[n, t, c]);
        cx.child("proj", &mut self.proj, y)
    }
}

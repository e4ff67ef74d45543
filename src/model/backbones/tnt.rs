//! TNT, a transformer in a transformer (Han et al. 2021, <https://arxiv.org/abs/2103.00112>), as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::{Arch, ArchConfig};
use super::common::{divided, drop_path_rates, three, unfold};
use crate::base::{Error, Result};
use crate::nn::init::{Init, TruncNormal};
use crate::nn::{
    AttentionMask, Conv2d, DropPath, Dropout, FFN, Forward, LayerNorm, Linear, Module, Pair, Param,
    PatchNormConfig, TorchAttention, Var,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: TNT, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TNTConfig {
    /// `small` or `base`; or a mapping with `embed_dims_outer`, `embed_dims_inner`, `num_layers`, `num_heads_outer` and
    /// `num_heads_inner`.
    pub arch: ArchConfig<TNTArch>,
    /// Size of the images, one number or [height, width]; a multiple of `patch_size`.
    #[schemars(schema_with = "crate::nn::positive")]
    pub img_size: Pair,
    /// Size of a patch, a multiple of `first_stride`.
    #[schemars(range(min = 1, max = 1024))]
    pub patch_size: usize,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// By how much the feed-forward networks widen a token.
    #[schemars(range(min = 1, max = 1024))]
    pub ffn_ratio: usize,
    /// Whether query, key and value have an offset.
    pub qkv_bias: bool,
    /// Probability with which dropout zeroes an element of the embedding and behind linear layers.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_rate: f64,
    /// Probability with which dropout zeroes an attention weight.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub attn_drop_rate: f64,
    /// Probability with which the last block's branches are left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// The layer norms.
    pub norm_cfg: PatchNormConfig,
    /// By how much the images become smaller to pixels.
    #[schemars(range(min = 1, max = 255))]
    pub first_stride: usize,
    /// Accepted if it is 2: the linear layers of a feed-forward network.
    #[schemars(range(min = 2, max = 2))]
    pub num_fcs: usize,
}

impl Default for TNTConfig {
    fn default() -> Self {
        Self {
            arch: ArchConfig::default(),
            img_size: Pair([224, 224]),
            patch_size: 16,
            in_channels: three(),
            ffn_ratio: 4,
            qkv_bias: false,
            drop_rate: 0.0,
            attn_drop_rate: 0.0,
            drop_path_rate: 0.0,
            norm_cfg: PatchNormConfig::default(),
            first_stride: 4,
            num_fcs: 2,
        }
    }
}

/// The sizes of a TNT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct TNTArch {
    /// Size of a patch's token.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub embed_dims_outer: usize,
    /// Size of a pixel's token.
    #[schemars(range(min = 1, max = 65536))]
    pub embed_dims_inner: usize,
    /// Blocks.
    #[schemars(range(min = 1, max = 1000))]
    pub num_layers: usize,
    /// Heads of the attention of patches.
    #[schemars(range(min = 1))]
    pub num_heads_outer: usize,
    /// Heads of the attention of pixels.
    #[schemars(range(min = 1))]
    pub num_heads_inner: usize,
}

impl TNTArch {
    fn of(outer: usize, inner: usize, heads: usize) -> Self {
        Self {
            embed_dims_outer: outer,
            embed_dims_inner: inner,
            num_layers: 12,
            num_heads_outer: heads,
            num_heads_inner: 4,
        }
    }
}

impl Default for TNTArch {
    fn default() -> Self {
        Self::of(640, 40, 10)
    }
}

impl Arch for TNTArch {
    fn names() -> Vec<(&'static str, Self)> {
        let small = Self::of(384, 24, 6);
        vec![("s", small), ("small", small), ("b", Self::default()), ("base", Self::default())]
    }
}

/// A transformer of the pixels of each patch, which tells one of the patches: images to the class token, 640 features (`base`).
///
/// Weight names are MMPretrain's: `pixel_embed.proj`, `layers.0.inner_block.attn.attn.in_proj_weight`,
/// `layers.0.projection`, `norm`. 23,755,336 parameters (`small`) with a linear layer for 1000 classes.
pub struct TNT {
    cls_token: Param,
    patch_pos: Param,
    pixel_pos: Param,
    pixel_embed: Pixels,
    norm1_proj: LayerNorm,
    projection: Linear,
    norm2_proj: LayerNorm,
    drop_after_pos: Dropout,
    layers: Vec<Layer>,
    norm: LayerNorm,
    img_size: [usize; 2],
    /// Pixels along a side of a patch.
    side: usize,
    init: Vec<Init>,
}

struct Pixels {
    proj: Conv2d,
}

module!(
    TNT {
        cls_token,
        patch_pos,
        pixel_pos,
        pixel_embed,
        norm1_proj,
        projection,
        norm2_proj,
        drop_after_pos,
        layers,
        norm
    },
    init_cfg = init
);
module!(Pixels { proj });

register! { /// TNT, a transformer in a transformer: images to the class token, [N, embed_dims_outer].
dyn Module, "TNT" => fn TNT::from_config }

impl TNT {
    fn from_config(p: TNTConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When sizes are 0 or do not divide each other.
    pub fn new(p: &TNTConfig) -> Result<Self> {
        let (a, Pair(size), patch, stride) = (p.arch.0, p.img_size, p.patch_size, p.first_stride);
        if stride == 0
            || patch == 0
            || patch % stride != 0
            || size.iter().any(|side| *side == 0 || side % patch != 0)
        {
            return Err(Error::config(format!(
                "`patch_size: {patch}` is a multiple of `first_stride: {stride}`, and `img_size: {size:?}` one of it"
            )));
        }
        if a.num_layers > 1000 || p.num_fcs != 2 {
            return Err(Error::config("`num_layers` is at most 1000, and `num_fcs` is 2"));
        }
        divided(a.embed_dims_outer, a.num_heads_outer)?;
        divided(a.embed_dims_inner, a.num_heads_inner)?;
        let (side, rule) = (patch / stride, || TruncNormal { std: 0.02, ..TruncNormal::default() });
        let whole = a.embed_dims_inner.saturating_mul(side * side);
        let patches = (size[0] / patch).saturating_mul(size[1] / patch);
        let layer = |drop_path| -> Result<Layer> {
            Ok(Layer {
                inner_block: Block::new(p, a.embed_dims_inner, a.num_heads_inner, drop_path)?,
                norm_proj: p.norm_cfg.build(a.embed_dims_inner),
                projection: Linear::new(whole, a.embed_dims_outer),
                outer_block: Block::new(p, a.embed_dims_outer, a.num_heads_outer, drop_path)?,
            })
        };
        Ok(Self {
            cls_token: Param::init(&[1, 1, a.embed_dims_outer], rule()),
            patch_pos: Param::init(&[1, patches.saturating_add(1), a.embed_dims_outer], rule()),
            pixel_pos: Param::init(&[1, a.embed_dims_inner, side, side], rule()),
            pixel_embed: Pixels {
                proj: Conv2d::new(p.in_channels, a.embed_dims_inner, 7).stride(stride).padding(3),
            },
            norm1_proj: p.norm_cfg.build(whole),
            projection: Linear::new(whole, a.embed_dims_outer),
            norm2_proj: p.norm_cfg.build(a.embed_dims_outer),
            drop_after_pos: Dropout::new(p.drop_rate),
            layers: drop_path_rates(p.drop_path_rate, a.num_layers).map(layer).collect::<Result<_>>()?,
            norm: p.norm_cfg.build(a.embed_dims_outer),
            img_size: size,
            side,
            init: vec![Init::new(rule()).layer("Linear")],
        })
    }
}

impl Module for TNT {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let shape = x.shape();
        if shape.len() != 4 || shape[2..] != self.img_size {
            let size = self.img_size;
            return Err(Error::invalid(format!(
                "TNT was made for images of {size:?}, not a batch of shape {shape:?}: set `img_size`, or resize them"
            )));
        }
        let (tape, side) = (x.tape(), self.side);
        let map = cx.child("pixel_embed.proj", &mut self.pixel_embed.proj, x)?;
        let inner = map.shape()[1];
        let (joined, _) = unfold(map, [side, side, 0])?;
        let [n, patches] = [0, 1].map(|axis| joined.shape()[axis]);
        let pixels = joined.reshape(&[n * patches, inner, side, side]) + tape.param(&self.pixel_pos);
        let mut pixels = pixels.reshape(&[n * patches, inner, side * side]).transpose(1, 2);
        let x = pixels.reshape(&[n, patches, side * side * inner]);
        let x = cx.child("norm1_proj", &mut self.norm1_proj, x)?;
        let x = cx.child("projection", &mut self.projection, x)?;
        let x = cx.child("norm2_proj", &mut self.norm2_proj, x)?;
        let cls = tape.param(&self.cls_token).expand(&[n, 1, x.shape()[2]]);
        let placed = tape.concat(&[cls, x], 1) + tape.param(&self.patch_pos);
        let mut x = self.drop_after_pos.forward(placed.checked()?, cx)?;
        for (i, layer) in self.layers.iter_mut().enumerate() {
            x = cx.within(format_args!("layers.{i}"), layer, x, |layer, cx| {
                layer.forward(x, &mut pixels, cx)
            })?;
        }
        cx.child("norm", &mut self.norm, x)?.select(1, 0).checked()
    }
}

/// A block of the pixels of each patch, what they tell the patches, and a block of these.
struct Layer {
    inner_block: Block,
    norm_proj: LayerNorm,
    projection: Linear,
    outer_block: Block,
}

/// `x + attn(norm_attn(x))`, and of that `x + ffn(norm_ffn(x))`.
struct Block {
    norm_attn: LayerNorm,
    attn: Wrapped,
    norm_ffn: LayerNorm,
    ffn: FFN,
}

/// PyTorch's attention, as mmcv has it.
struct Wrapped {
    attn: TorchAttention,
    proj_drop: Dropout,
    dropout_layer: DropPath,
}

module!(Layer { inner_block, norm_proj, projection, outer_block });
module!(Block { norm_attn, attn, norm_ffn, ffn });
module!(Wrapped { attn, proj_drop, dropout_layer });

impl Layer {
    /// Of the class token and the patches [N, 1 + P, D], and of the pixels of all patches [N P, pixels, C].
    fn forward<'t>(&mut self, x: Var<'t>, pixels: &mut Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let [n, tokens] = [0, 1].map(|axis| x.shape()[axis]);
        *pixels = cx.child("inner_block", &mut self.inner_block, *pixels)?;
        let told = cx.child("norm_proj", &mut self.norm_proj, *pixels)?;
        let width = told.shape()[1] * told.shape()[2];
        let told = cx.child("projection", &mut self.projection, told.reshape(&[n, tokens - 1, width]))?;
        let x = x.tape().concat(&[x.slice(1, ..1), x.slice(1, 1..) + told], 1);
        cx.child("outer_block", &mut self.outer_block, x)
    }
}

impl Block {
    fn new(p: &TNTConfig, dims: usize, heads: usize, drop_path: f64) -> Result<Self> {
        let mut attn = TorchAttention::new(dims, heads, p.attn_drop_rate, true)?;
        if !p.qkv_bias {
            attn.in_proj_bias = None;
        }
        let ffn = FFN::new(dims, dims.saturating_mul(p.ffn_ratio), p.drop_rate);
        Ok(Self {
            norm_attn: p.norm_cfg.build(dims),
            attn: Wrapped {
                attn,
                proj_drop: Dropout::new(p.drop_rate),
                dropout_layer: DropPath::new(drop_path),
            },
            norm_ffn: p.norm_cfg.build(dims),
            ffn: ffn.drop_path(drop_path),
        })
    }
}

impl Module for Wrapped {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.within("attn", &mut self.attn, x, |attn, cx| {
            attn.attend(x, None, &AttentionMask::default(), cx)
        })?;
        let y = self.proj_drop.forward(y, cx)?;
        self.dropout_layer.forward(y, cx)
    }
}

impl Module for Block {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child("norm_attn", &mut self.norm_attn, x)?;
        let x = x + cx.child("attn", &mut self.attn, y)?;
        let y = cx.child("norm_ffn", &mut self.norm_ffn, x)?;
        cx.within("ffn", &mut self.ffn, y, |ffn, cx| ffn.forward_add(y, x, cx))
    }
}

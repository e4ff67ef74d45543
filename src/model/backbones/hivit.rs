//! HiViT (Zhang et al. 2022, <https://arxiv.org/abs/2205.14949>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::{Arch, ArchConfig};
use super::common::{Mlp, divided, drop_path_rates, three};
use super::windows::{distances, weighed};
use crate::base::{Elem, Error, Result};
use crate::nn::init::{Init, TruncNormal};
use crate::nn::{
    AttentionOptions, Conv2d, DropPath, Dropout, Forward, LayerNorm, Linear, Module, Pair, Param,
    PatchNormConfig, Var,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: HiViT, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HiViTConfig {
    /// `tiny`, `small`, `base` or `large`; or a mapping with `embed_dims`, `depths` and `num_heads`.
    pub arch: ArchConfig<HiViTArch>,
    /// Size of the images, one number or [height, width]; a multiple of `patch_size`.
    #[schemars(schema_with = "crate::nn::positive")]
    pub img_size: Pair,
    /// Size of the patches of the last stage, a multiple of 4: each is made of 4 × 4.
    #[schemars(range(min = 4, max = 1024))]
    pub patch_size: usize,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_chans: usize,
    /// By how much the MLPs of the first two stages widen a token.
    #[schemars(range(min = 0.01, max = 1024.0))]
    pub stem_mlp_ratio: f64,
    /// By how much the MLPs of the last stage widen a token.
    #[schemars(range(min = 0.01, max = 1024.0))]
    pub mlp_ratio: f64,
    /// Whether query, key and value have an offset.
    pub qkv_bias: bool,
    /// Probability with which dropout zeroes an element of the embedding and of what branches give.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_rate: f64,
    /// Probability with which the last block's branches are left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// The layer norms.
    pub norm_cfg: PatchNormConfig,
    /// Whether a learnt position is added to each token before the last stage.
    pub ape: bool,
    /// Whether attention has a learnt number for each distance of two tokens.
    pub rpe: bool,
    /// Whether the patches are normalised.
    pub patch_norm: bool,
    /// What the branches of each block are multiplied by at first, by weights that are trained; 0 for no such weights.
    #[schemars(range(min = 0.0))]
    pub layer_scale_init_value: f64,
}

impl Default for HiViTConfig {
    fn default() -> Self {
        Self {
            arch: ArchConfig::default(),
            img_size: Pair([224, 224]),
            patch_size: 16,
            in_chans: three(),
            stem_mlp_ratio: 3.0,
            mlp_ratio: 4.0,
            qkv_bias: true,
            drop_rate: 0.0,
            drop_path_rate: 0.0,
            norm_cfg: PatchNormConfig::default(),
            ape: true,
            rpe: false,
            patch_norm: true,
            layer_scale_init_value: 0.0,
        }
    }
}

/// The sizes of a HiViT.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct HiViTArch {
    /// Size of a token in the last stage, a multiple of 4; a quarter and half of it in those before.
    #[schemars(range(min = 4, max = 1_048_576))]
    pub embed_dims: usize,
    /// Blocks of each stage; the first two have so many pairs of MLPs.
    #[schemars(inner(range(min = 1, max = 1000)))]
    pub depths: [usize; 3],
    /// Heads of the last stage, a divisor of `embed_dims`.
    #[schemars(range(min = 1))]
    pub num_heads: usize,
}

impl Default for HiViTArch {
    fn default() -> Self {
        Self { embed_dims: 512, depths: [2, 2, 24], num_heads: 8 }
    }
}

impl Arch for HiViTArch {
    fn names() -> Vec<(&'static str, Self)> {
        let all = [
            (["t", "tiny"], (384, [1, 1, 10], 6)),
            (["s", "small"], (384, [2, 2, 20], 6)),
            (["b", "base"], (512, [2, 2, 24], 8)),
            (["l", "large"], (768, [2, 2, 40], 12)),
        ];
        let of = |(embed_dims, depths, num_heads)| Self { embed_dims, depths, num_heads };
        all.into_iter().flat_map(|(names, sizes)| names.map(|name| (name, of(sizes)))).collect()
    }
}

/// MLPs of small patches, which join to larger ones whose tokens look at each other: images to 512 features (`base`) of 1/16 of the
/// size.
///
/// Weight names are MMPretrain's: `patch_embed.proj`, `pos_embed`, `blocks.0.mlp.fc1`, `blocks.4.reduction`,
/// `blocks.10.attn.qkv`. 19,180,900 parameters (`tiny`, `rpe`) with a linear layer for 1000 classes.
pub struct HiViT {
    pos_embed: Option<Param>,
    patch_embed: Patches,
    pos_drop: Dropout,
    blocks: Vec<Box<dyn Module>>,
    patch: usize,
    grid: [usize; 2],
    init: Vec<Init>,
}

struct Patches {
    proj: Conv2d,
    norm: Option<LayerNorm>,
}

module!(HiViT { pos_embed, patch_embed, pos_drop, blocks }, init_cfg = init);
module!(Patches { proj, norm });

register! { /// HiViT: features of 1/16 of the size.
dyn Module, "HiViT" => fn HiViT::from_config }

impl HiViT {
    fn from_config(p: HiViTConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When sizes do not divide each other or are 0.
    pub fn new(p: &HiViTConfig) -> Result<Self> {
        let (HiViTArch { embed_dims, depths, num_heads }, Pair(size)) = (p.arch.0.clone(), p.img_size);
        if !embed_dims.is_multiple_of(4) || embed_dims == 0 || depths.iter().any(|depth| *depth > 1000) {
            return Err(Error::config(format!(
                "`embed_dims: {embed_dims}` is a multiple of 4, `depths` at most 1000"
            )));
        }
        let patch = p.patch_size;
        if patch == 0 || !patch.is_multiple_of(4) || size.iter().any(|side| *side == 0 || side % patch != 0) {
            return Err(Error::config(format!(
                "`patch_size: {patch}` is a multiple of 4, and `img_size: {size:?}` one of that"
            )));
        }
        divided(embed_dims, num_heads)?;
        let (grid, mut dims) = (size.map(|side| side / patch), embed_dims / 4);
        let count = 2 * (depths[0] + depths[1]) + depths[2];
        let mut rates = drop_path_rates(p.drop_path_rate, count);
        let (small, mut blocks) = (dims, Vec::<Box<dyn Module>>::new());
        for (i, depth) in depths.into_iter().enumerate() {
            let last = i == 2;
            for _ in 0..if last { depth } else { 2 * depth } {
                let attn = last.then(|| Attention::new(p, dims, num_heads, grid));
                blocks.push(Box::new(Block::new(p, dims, attn, rates.next().unwrap_or_default())));
            }
            if !last {
                let (norm, reduction) =
                    (p.norm_cfg.build(4 * dims), Linear::new(4 * dims, 2 * dims).bias(false));
                blocks.push(Box::new(Merge { norm, reduction }));
                dims *= 2;
            }
        }
        let rule = || TruncNormal { std: 0.02, ..TruncNormal::default() };
        let tokens = grid[0].saturating_mul(grid[1]);
        Ok(Self {
            pos_embed: p.ape.then(|| Param::init(&[1, tokens, embed_dims], rule())),
            patch_embed: Patches {
                proj: Conv2d::new(p.in_chans, small, patch / 4).stride(patch / 4),
                norm: p.patch_norm.then(|| p.norm_cfg.build(small)),
            },
            pos_drop: Dropout::new(p.drop_rate),
            blocks,
            patch,
            grid,
            init: vec![Init::new(rule()).layer("Linear")],
        })
    }
}

impl Module for HiViT {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let ([h, w], shape) = (self.grid, x.shape());
        if shape.len() != 4 || shape[2..] != [h * self.patch, w * self.patch] {
            let size = [h * self.patch, w * self.patch];
            return Err(Error::invalid(format!(
                "HiViT was made for images of {size:?}, not a batch of shape {shape:?}: set `img_size`, or resize them"
            )));
        }
        let map = cx.child("patch_embed.proj", &mut self.patch_embed.proj, x)?;
        let [n, c] = [0, 1].map(|axis| map.shape()[axis]);
        // Patches of the last stage, each with 4 × 4 small ones.
        let parts = map.reshape(&[n, c, h, 4, w, 4]).permute(&[0, 2, 4, 3, 5, 1]);
        let mut x = parts.reshape(&[n, h * w, 4, 4, c]);
        if let Some(norm) = &mut self.patch_embed.norm {
            x = cx.child("patch_embed.norm", norm, x)?;
        }
        for (i, block) in self.blocks.iter_mut().enumerate() {
            x = cx.child(format_args!("blocks.{i}"), block, x)?;
            if let &[n, tokens, 1, 1, c] = &x.shape()[..] {
                x = x.reshape(&[n, tokens, c]);
                if let Some(pos_embed) = &self.pos_embed {
                    x = x + x.tape().param(pos_embed);
                }
                x = self.pos_drop.forward(x, cx)?;
            }
        }
        x.token_planes([h, w]).checked()
    }
}

/// 2 × 2 tokens as one of twice the features.
struct Merge {
    norm: LayerNorm,
    reduction: Linear,
}

/// `x + gamma_1 · attn(norm1(x))` in the last stage, and `x + gamma_2 · mlp(norm2(x))`.
struct Block {
    norm1: Option<LayerNorm>,
    attn: Option<Attention>,
    norm2: LayerNorm,
    mlp: Mlp,
    gamma_1: Option<Param>,
    gamma_2: Option<Param>,
    drop: Dropout,
    drop_path: DropPath,
}

struct Attention {
    relative_position_bias_table: Option<Param>,
    qkv: Linear,
    proj: Linear,
    heads: usize,
    grid: [usize; 2],
}

module!(Merge { norm, reduction });
module!(Block { gamma_1, gamma_2, norm1, attn, drop_path, norm2, mlp });
module!(Attention { relative_position_bias_table, qkv, proj });

impl Module for Merge {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let &[n, t, h, w, c] = &x.shape()[..] else {
            return Err(Error::invalid(format!(
                "patches of patches wanted, got an input of shape {:?}",
                x.shape()
            )));
        };
        let parts = x.reshape(&[n, t, h / 2, 2, w / 2, 2, c]).permute(&[0, 1, 2, 4, 5, 3, 6]);
        let x = cx.child("norm", &mut self.norm, parts.reshape(&[n, t, h / 2, w / 2, 4 * c]))?;
        cx.child("reduction", &mut self.reduction, x)
    }
}

impl Block {
    fn new(p: &HiViTConfig, dims: usize, attn: Option<Attention>, drop_path: f64) -> Self {
        let ratio = if attn.is_some() { p.mlp_ratio } else { p.stem_mlp_ratio };
        let first = p.layer_scale_init_value;
        let gamma = |wanted: bool| (wanted && first > 0.0).then(|| Param::full(&[dims], first as Elem));
        Self {
            norm1: attn.is_some().then(|| p.norm_cfg.build(dims)),
            gamma_1: gamma(attn.is_some()),
            attn,
            norm2: p.norm_cfg.build(dims),
            mlp: Mlp::new(dims, (dims as f64 * ratio) as usize, dims),
            gamma_2: gamma(true),
            drop: Dropout::new(p.drop_rate),
            drop_path: DropPath::new(drop_path),
        }
    }

    /// What a branch gives, scaled and perhaps left out.
    fn branch<'t>(&mut self, y: Var<'t>, first: bool, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = self.drop.forward(y, cx)?;
        let y = match if first { &self.gamma_1 } else { &self.gamma_2 } {
            Some(gamma) => y.tape().param(gamma) * y,
            None => y,
        };
        self.drop_path.forward(y, cx)
    }
}

impl Module for Block {
    fn forward<'t>(&mut self, mut x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        if let (Some(norm1), Some(attn)) = (&mut self.norm1, &mut self.attn) {
            let y = cx.child("norm1", norm1, x)?;
            let y = cx.child("attn", attn, y)?;
            x = x + self.branch(y, true, cx)?;
        }
        let y = cx.child("norm2", &mut self.norm2, x)?;
        let y = cx.child("mlp", &mut self.mlp, y)?;
        (x + self.branch(y, false, cx)?).checked()
    }
}

impl Attention {
    fn new(p: &HiViTConfig, dims: usize, heads: usize, grid: [usize; 2]) -> Self {
        let [h, w] = grid.map(|side| side.saturating_mul(2) - 1);
        let rule = || TruncNormal { std: 0.02, ..TruncNormal::default() };
        Self {
            relative_position_bias_table: p.rpe.then(|| Param::init(&[h.saturating_mul(w), heads], rule())),
            qkv: Linear::new(dims, dims.saturating_mul(3)).bias(p.qkv_bias),
            proj: Linear::new(dims, dims),
            heads,
            grid,
        }
    }
}

impl Module for Attention {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let ([n, t, c], heads) = ([0, 1, 2].map(|axis| x.shape()[axis]), self.heads);
        let qkv = cx.child("qkv", &mut self.qkv, x)?;
        let y = match &self.relative_position_bias_table {
            None => qkv.attention_packed(&AttentionOptions::new(heads), cx.rng),
            Some(table) => {
                let parts = qkv.reshape(&[n, t, 3, heads, c / heads]).permute(&[2, 0, 3, 1, 4]);
                let [q, k, v] = [0, 1, 2].map(|i| parts.select(0, i));
                let near = x.tape().param(table).index_select(0, &distances(self.grid)).transpose(0, 1);
                let scores = q.matmul(k.transpose(2, 3)) * (1.0 / ((c / heads) as Elem).sqrt());
                weighed(scores + near.reshape(&[heads, t, t]), None, v)?
            }
        };
        cx.child("proj", &mut self.proj, y)
    }
}

//! The vision transformer (Dosovitskiy et al. 2020, <https://arxiv.org/abs/2010.11929>) as in MMPretrain.

mod arch;
mod beit;
mod deit;
mod eva02;
mod layer;
mod positions;
mod rev;
mod swiglu;

use schemars::JsonSchema;
use serde::Deserialize;

pub use arch::VisionTransformerArch;
pub use beit::{BEiTBias, BEiTLayerConfig, BEiTViTConfig};
pub use deit::{DeiT3Arch, DeiT3Config};
pub use eva02::{Eva02Arch, ViTEVA02Config};
pub use layer::{FfnType, LayerConfig, TransformerEncoderLayer};
pub use rev::RevVisionTransformerConfig;

use super::arch::ArchConfig;
use super::common::{drop_path_rates, last_only, last_stage};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::nn::init::TruncNormal;
use crate::nn::{
    Dropout, Forward, LayerNorm, LayerNormName, Module, Pair, Param, PatchEmbed, PatchNormConfig, Var,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: VisionTransformer, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VisionTransformerConfig {
    /// A name (`base`, `deit-tiny`, …) or a mapping with `embed_dims`, `num_layers`, `num_heads` and
    /// `feedforward_channels`.
    pub arch: ArchConfig<VisionTransformerArch>,
    /// Size of the images, one number or [height, width]; a multiple of `patch_size`.
    #[schemars(schema_with = "crate::nn::positive")]
    pub img_size: Pair,
    /// Size of a patch, one number or [height, width].
    #[schemars(schema_with = "crate::nn::positive")]
    pub patch_size: Pair,
    /// Channels of the images.
    #[schemars(range(min = 1))]
    pub in_channels: usize,
    /// Probability with which dropout zeroes an element of the embedding and behind every linear layer but `qkv`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_rate: f64,
    /// Probability with which the last block's branches are left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// Whether query, key and value have an offset.
    pub qkv_bias: bool,
    /// The layer norms.
    pub norm_cfg: PatchNormConfig,
    /// Whether the tokens are normalised once more at the end.
    pub final_norm: bool,
    /// Which of the tokens come out: the class token, the mean of the others, or all of them.
    pub out_type: OutType,
    /// Whether a class token stands in front of those of the image.
    pub with_cls_token: bool,
    /// What the branches of each block are multiplied by at first, by weights that are trained; 0 for no such weights.
    #[schemars(range(min = 0.0))]
    pub layer_scale_init_value: f64,
    /// Whether the tokens are normalised before the first block, as in CLIP; their projection has no offset then.
    pub pre_norm: bool,
    /// What all blocks have that is not usual.
    pub layer_cfgs: LayerConfig,
    /// Accepted if it names the last block, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

/// What a [`VisionTransformer`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutType {
    /// The class token, [N, D]; with a distillation token both, [N, 2, D].
    ClsToken,
    /// The normalised mean of the tokens of the image, [N, D].
    AvgFeatmap,
    /// The tokens of the image as a map, [N, D, height, width in patches].
    Featmap,
    /// All tokens, [N, T, D].
    Raw,
}

impl Default for VisionTransformerConfig {
    fn default() -> Self {
        Self {
            out_indices: last_stage(),
            arch: ArchConfig::default(),
            img_size: Pair([224, 224]),
            patch_size: Pair([16, 16]),
            in_channels: 3,
            drop_rate: 0.0,
            drop_path_rate: 0.0,
            qkv_bias: true,
            norm_cfg: PatchNormConfig { kind: LayerNormName::LN, eps: 1e-6 },
            final_norm: true,
            out_type: OutType::ClsToken,
            with_cls_token: true,
            layer_scale_init_value: 0.0,
            pre_norm: false,
            layer_cfgs: LayerConfig::default(),
        }
    }
}

/// Which of its relatives a [`VisionTransformer`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// That of the paper.
    Plain,
    /// With a distillation token behind the class token.
    Distilled,
    /// Whose class token joins behind the positions.
    DeiT3,
    /// Of two streams side by side.
    TwoStreams,
}

/// Height and width of the images in patches.
fn grid(p: &VisionTransformerConfig) -> Result<[usize; 2]> {
    let (Pair(img_size), Pair(patch)) = (p.img_size, p.patch_size);
    if patch.contains(&0) || (0..2).any(|i| img_size[i] == 0 || img_size[i] % patch[i] != 0) {
        return Err(Error::config(format!(
            "`img_size: {img_size:?}` is no multiple of `patch_size: {patch:?}`"
        )));
    }
    Ok([img_size[0] / patch[0], img_size[1] / patch[1]])
}

/// Images cut into patches, a class token in front, and blocks of attention and feed-forward networks, normalised
/// before each.
///
/// Weight names are MMPretrain's: `cls_token`, `pos_embed`, `patch_embed.projection`, `layers.{i}.ln1`, `.attn.qkv`,
/// `.attn.proj`, `.ln2`, `.ffn.layers.0.0`, `.ffn.layers.1`, and `ln1` for the final norm. The positions begin as N(0,
/// 0.02²) cut off at ±2, the class token as 0, the feed-forward networks as [`FFN`](crate::nn::FFN) says.
///
/// Images may have another size than `img_size`, a multiple of the patches': the positions are resized for them, as in
/// MMPretrain. A training at another size says so: with the right `img_size` those of a checkpoint are resized once.
///
/// Where only the class token is looked at (`out_type: cls_token`), the last block computes attention, feed-forward
/// network and norm of that token alone: the same result and the same gradients, without what nobody reads.
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::model::{ArchConfig, VisionTransformer, VisionTransformerArch, VisionTransformerConfig};
/// use shanty::nn::{Forward, Module, Pair, BufferPool, Tape};
///
/// let arch = VisionTransformerArch { embed_dims: 24, num_layers: 2, num_heads: 3, feedforward_channels: 48 };
/// let mut vit = VisionTransformer::new(&VisionTransformerConfig {
///     arch: ArchConfig(arch), img_size: Pair([16, 16]), patch_size: Pair([4, 4]), ..Default::default()
/// })?;
/// let tape = Tape::without_grad(BufferPool::default());
/// let x = tape.input(Tensor::zeros(vec![2, 3, 16, 16]));
/// let y = vit.forward(x, &mut Forward::new(false, &mut keyed(0, "example", 0, 0)))?;
/// assert_eq!(y.shape(), [2, 24]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
pub struct VisionTransformer {
    cls_token: Option<Param>,
    dist_token: Option<Param>,
    pos_embed: Option<Param>,
    patch_embed: PatchEmbed,
    drop_after_pos: Dropout,
    pre_norm: Option<LayerNorm>,
    layers: Vec<Box<dyn Module>>,
    ln1: Option<LayerNorm>,
    ln2: Option<LayerNorm>,
    img_size: [usize; 2],
    grid: [usize; 2],
    out_type: OutType,
    family: Family,
    /// Whether it has been said that it is trained at another size.
    told: bool,
}

module!(VisionTransformer {
    cls_token,
    pos_embed,
    dist_token,
    patch_embed,
    drop_after_pos,
    pre_norm,
    layers,
    ln1,
    ln2
});

register! { /// The vision transformer: images to the class token, [N, embed_dims], or as `out_type` says.
dyn Module, "VisionTransformer" => fn VisionTransformer::from_config }

impl VisionTransformer {
    fn from_config(p: VisionTransformerConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When sizes do not divide each other or are 0, or the class token is asked for and there is none.
    pub fn new(p: &VisionTransformerConfig) -> Result<Self> {
        Self::of(p, Family::Plain, Self::usual_layers(p, usize::from(p.with_cls_token))?)
    }

    /// The usual blocks, before the first of which so many tokens stand in front of those of the image.
    fn usual_layers(p: &VisionTransformerConfig, extra: usize) -> Result<Vec<Box<dyn Module>>> {
        let depth = p.arch.0.num_layers;
        let layer = |(i, drop_path)| -> Result<Box<dyn Module>> {
            let first = (p.out_type == OutType::ClsToken && i + 1 == depth).then_some(extra);
            Ok(Box::new(TransformerEncoderLayer::new(p, drop_path)?.first_only(first)))
        };
        drop_path_rates(p.drop_path_rate, depth).enumerate().map(layer).collect()
    }

    fn of(p: &VisionTransformerConfig, family: Family, layers: Vec<Box<dyn Module>>) -> Result<Self> {
        let (dims, Pair(img_size), Pair(patch)) = (p.arch.0.embed_dims, p.img_size, p.patch_size);
        let grid = grid(p)?;
        last_only(&p.out_indices, p.arch.0.num_layers)?;
        if p.out_type == OutType::ClsToken && !p.with_cls_token {
            return Err(Error::config(
                "`out_type: cls_token` needs `with_cls_token: true`; avg_featmap does without",
            ));
        }
        if family == Family::Distilled && !p.with_cls_token {
            return Err(Error::config(
                "a DistilledVisionTransformer has a class token: leave `with_cls_token` out",
            ));
        }
        let placed = match family {
            Family::Plain | Family::TwoStreams => usize::from(p.with_cls_token),
            Family::Distilled => 2,
            Family::DeiT3 => 0,
        };
        let tokens = grid[0].saturating_mul(grid[1]).saturating_add(placed);
        let mut patch_embed = PatchEmbed::new(p.in_channels, dims, patch);
        if p.pre_norm {
            patch_embed.projection.bias = None;
        }
        let positions = || TruncNormal { std: 0.02, ..TruncNormal::default() };
        let mean_norm =
            p.out_type == OutType::AvgFeatmap && !matches!(family, Family::DeiT3 | Family::TwoStreams);
        let streams = if family == Family::TwoStreams { 2 } else { 1 };
        Ok(Self {
            cls_token: p.with_cls_token.then(|| Param::full(&[1, 1, dims], 0.0)),
            dist_token: (family == Family::Distilled).then(|| Param::init(&[1, 1, dims], positions())),
            pos_embed: Some(Param::init(&[1, tokens, dims], positions())),
            patch_embed,
            drop_after_pos: Dropout::new(p.drop_rate),
            pre_norm: p.pre_norm.then(|| p.norm_cfg.build(dims)),
            layers,
            ln1: p.final_norm.then(|| p.norm_cfg.build(dims.saturating_mul(streams))),
            ln2: mean_norm.then(|| p.norm_cfg.build(dims)),
            img_size,
            grid,
            out_type: p.out_type,
            family,
            told: false,
        })
    }

    /// Height and width in patches of these images, which may have another size than `img_size`.
    fn grid_of(&mut self, shape: &[usize], training: bool) -> Result<[usize; 2]> {
        let patch = [0, 1].map(|axis| self.img_size[axis] / self.grid[axis]);
        match *shape {
            [_, _, h, w] if [h, w] == self.img_size => Ok(self.grid),
            [_, _, h, w] if h.min(w) > 0 && h % patch[0] == 0 && w % patch[1] == 0 => {
                if training && !std::mem::replace(&mut self.told, true) {
                    log::warn!(
                        "VisionTransformer is trained on images of {h} × {w}, and has positions for {:?}: they are resized in \
                         each step; with `img_size: [{h}, {w}]` those of a checkpoint are resized once",
                        self.img_size
                    );
                }
                Ok([h / patch[0], w / patch[1]])
            }
            _ => {
                let [h, w] = self.img_size;
                Err(Error::invalid(format!(
                    "VisionTransformer was made for images of {h} × {w}, not a batch of shape {shape:?}: set `img_size`, or \
                     resize them (any multiple of `patch_size: {patch:?}` is taken)"
                )))
            }
        }
    }

    /// The tokens that the blocks get, with class token and positions.
    fn embed<'t>(&mut self, x: Var<'t>, grid: [usize; 2], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let tape = x.tape();
        let map = cx.child("patch_embed.projection", &mut self.patch_embed.projection, x)?;
        let [n, dims] = [0, 1].map(|axis| map.shape()[axis]);
        let own = self.pos_embed.as_ref().map(|p| tape.param(p));
        let positions = own.map(|own| positions::resized(own, self.grid, grid));
        let cls = self.cls_token.as_ref().map(|p| tape.param(p));
        let alone = |token: Var<'t>| token.expand(&[n, 1, dims]);
        let tokens = match (self.family, cls, &self.dist_token) {
            (Family::Distilled, Some(cls), Some(dist)) => {
                let tokens = map.embed_tokens(None, None);
                let all = tape.concat(&[alone(cls), alone(tape.param(dist)), tokens], 1);
                positions.map_or(all, |positions| all + positions)
            }
            (Family::DeiT3, Some(cls), _) => {
                let tokens = self.drop_after_pos.forward(map.embed_tokens(None, positions).checked()?, cx)?;
                return tape.concat(&[alone(cls), tokens], 1).checked();
            }
            (_, cls, _) => map.embed_tokens(cls, positions),
        };
        let tokens = self.drop_after_pos.forward(tokens.checked()?, cx)?;
        match &mut self.pre_norm {
            Some(norm) => cx.child("pre_norm", norm, tokens),
            None if self.family == Family::TwoStreams => tape.concat(&[tokens, tokens], -1).checked(),
            None => Ok(tokens),
        }
    }

    /// How many tokens stand in front of those of the image.
    fn extra(&self) -> usize {
        [&self.cls_token, &self.dist_token].into_iter().flatten().count()
    }
}

impl Module for VisionTransformer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let grid = self.grid_of(&x.shape(), cx.training)?;
        let mut x = self.embed(x, grid, cx)?;
        let extra = self.extra();
        for (i, layer) in self.layers.iter_mut().enumerate() {
            x = cx.child(format_args!("layers.{i}"), layer, x)?;
        }
        if let Some(norm) = &mut self.ln1 {
            x = cx.child("ln1", norm, x)?;
        }
        match (self.out_type, &mut self.ln2) {
            (OutType::AvgFeatmap, norm) => {
                let mean = x.token_mean(extra).checked()?;
                match norm {
                    Some(norm) => cx.child("ln2", norm, mean),
                    None => Ok(mean),
                }
            }
            (OutType::Featmap, _) => x.token_planes(grid).checked(),
            (OutType::ClsToken, _) if extra == 1 => x.select(1, 0).checked(),
            (OutType::ClsToken, _) => x.slice(1, ..extra).checked(),
            (OutType::Raw, _) => Ok(x),
        }
    }
}

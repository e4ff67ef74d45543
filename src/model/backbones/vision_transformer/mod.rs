//! The vision transformer (Dosovitskiy et al. 2020, <https://arxiv.org/abs/2010.11929>) as in MMPretrain.

mod arch;
mod layer;

use schemars::JsonSchema;
use serde::Deserialize;

pub use arch::VisionTransformerArch;
pub use layer::TransformerEncoderLayer;

use super::arch::ArchConfig;
use super::common::drop_path_rates;
use crate::base::{Error, Result};
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
    /// Probability with which each branch of the last block is left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// What each branch of a block is multiplied by at first, one trained number a feature; 0 for no such weights.
    #[schemars(range(min = 0.0))]
    pub layer_scale_init_value: f64,
    /// Whether query, key and value have an offset.
    pub qkv_bias: bool,
    /// The layer norms.
    pub norm_cfg: PatchNormConfig,
    /// Whether the tokens are normalised before the blocks, as in CLIP; patches have no offset then.
    pub pre_norm: bool,
    /// Whether the tokens are normalised once more at the end.
    pub final_norm: bool,
    /// Which of the tokens come out: the class token, the mean of the others, or all of them.
    pub out_type: OutType,
    /// Whether a class token stands in front of those of the image.
    pub with_cls_token: bool,
}

/// What a [`VisionTransformer`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutType {
    /// The class token, [N, D].
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
            arch: ArchConfig::default(),
            img_size: Pair([224, 224]),
            patch_size: Pair([16, 16]),
            in_channels: 3,
            drop_rate: 0.0,
            drop_path_rate: 0.0,
            layer_scale_init_value: 0.0,
            qkv_bias: true,
            norm_cfg: PatchNormConfig { kind: LayerNormName::LN, eps: 1e-6 },
            pre_norm: false,
            final_norm: true,
            out_type: OutType::ClsToken,
            with_cls_token: true,
        }
    }
}

/// Images cut into patches, a class token in front, and blocks of attention and feed-forward networks, normalised
/// before each.
///
/// Weight names are MMPretrain's: `cls_token`, `pos_embed`, `patch_embed.projection`, `layers.{i}.ln1`, `.attn.qkv`,
/// `.attn.proj`, `.ln2`, `.ffn.layers.0.0`, `.ffn.layers.1`, and `ln1` for the final norm. The positions begin as N(0,
/// 0.02²) cut off at ±2, the class token as 0, the feed-forward networks as [`FFN`](crate::nn::FFN) says.
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
    pos_embed: Param,
    patch_embed: PatchEmbed,
    drop_after_pos: Dropout,
    pre_norm: Option<LayerNorm>,
    layers: Vec<Box<dyn Module>>,
    ln1: Option<LayerNorm>,
    ln2: Option<LayerNorm>,
    img_size: [usize; 2],
    grid: [usize; 2],
    out_type: OutType,
}

module!(VisionTransformer { cls_token, pos_embed, patch_embed, drop_after_pos, pre_norm, layers, ln1, ln2 });

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
        let (dims, Pair(img_size), Pair(patch)) = (p.arch.0.embed_dims, p.img_size, p.patch_size);
        if patch.contains(&0) || (0..2).any(|i| img_size[i] == 0 || img_size[i] % patch[i] != 0) {
            return Err(Error::config(format!(
                "`img_size: {img_size:?}` is no multiple of `patch_size: {patch:?}`"
            )));
        }
        if p.out_type == OutType::ClsToken && !p.with_cls_token {
            return Err(Error::config(
                "`out_type: cls_token` needs `with_cls_token: true`; avg_featmap does without",
            ));
        }
        let grid = [img_size[0] / patch[0], img_size[1] / patch[1]];
        let tokens = grid[0].saturating_mul(grid[1]).saturating_add(usize::from(p.with_cls_token));
        let positions = TruncNormal { std: 0.02, ..TruncNormal::default() };
        let depth = p.arch.0.num_layers;
        let layer = |(i, drop_path)| -> Result<Box<dyn Module>> {
            let first_only = p.out_type == OutType::ClsToken && i + 1 == depth;
            Ok(Box::new(TransformerEncoderLayer::new(p, drop_path)?.first_only(first_only)))
        };
        let layers =
            drop_path_rates(p.drop_path_rate, depth).enumerate().map(layer).collect::<Result<_>>()?;
        let mut patch_embed = PatchEmbed::new(p.in_channels, dims, patch);
        if p.pre_norm {
            patch_embed.projection.bias = None;
        }
        Ok(Self {
            cls_token: p.with_cls_token.then(|| Param::full(&[1, 1, dims], 0.0)),
            pos_embed: Param::init(&[1, tokens, dims], positions),
            patch_embed,
            drop_after_pos: Dropout::new(p.drop_rate),
            pre_norm: p.pre_norm.then(|| p.norm_cfg.build(dims)),
            layers,
            ln1: p.final_norm.then(|| p.norm_cfg.build(dims)),
            ln2: (p.out_type == OutType::AvgFeatmap).then(|| p.norm_cfg.build(dims)),
            img_size,
            grid,
            out_type: p.out_type,
        })
    }

    /// The tokens that the blocks get, with class token and positions.
    fn embed<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let shape = x.shape();
        if shape.len() != 4 || shape[2..] != self.img_size {
            let [h, w] = self.img_size;
            return Err(Error::invalid(format!(
                "VisionTransformer was made for images of {h} × {w}, not a batch of shape {shape:?}: set `img_size`, or resize them"
            )));
        }
        let tape = x.tape();
        let map = self.patch_embed.projection.forward(x, cx)?;
        let tokens = map
            .embed_tokens(self.cls_token.as_ref().map(|p| tape.param(p)), Some(tape.param(&self.pos_embed)));
        let tokens = tokens.checked()?;
        let tokens = self.drop_after_pos.forward(tokens, cx)?;
        match &mut self.pre_norm {
            Some(norm) => norm.forward(tokens, cx),
            None => Ok(tokens),
        }
    }
}

impl Module for VisionTransformer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut x = self.embed(x, cx)?;
        for (i, layer) in self.layers.iter_mut().enumerate() {
            x = cx.child(format_args!("layers.{i}"), layer, x)?;
        }
        if let Some(norm) = &mut self.ln1 {
            x = norm.forward(x, cx)?;
        }
        match (self.out_type, &mut self.ln2) {
            (OutType::AvgFeatmap, Some(norm)) => {
                let mean = x.token_mean(usize::from(self.cls_token.is_some())).checked()?;
                norm.forward(mean, cx)
            }
            (OutType::Featmap, _) => x.token_planes(self.grid).checked(),
            (OutType::ClsToken, _) if self.layers.is_empty() => x.select(1, 0).checked(),
            _ => Ok(x),
        }
    }
}

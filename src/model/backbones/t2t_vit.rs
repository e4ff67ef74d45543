//! T2T-ViT (Yuan et al. 2021, <https://arxiv.org/abs/2101.11986>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::ArchConfig;
use super::common::{drop_path_rates, last_only, last_stage, three, unfold};
use super::vision_transformer::{TransformerEncoderLayer, VisionTransformerArch, VisionTransformerConfig};
use crate::base::memory::{Grant, ask};
use crate::base::{Elem, Error, Result, Tensor};
use crate::config::OneOrMany;
use crate::nn::init::TruncNormal;
use crate::nn::{
    AttentionOptions, Buffer, Dropout, FFN, Forward, LayerNorm, Linear, Module, Param, PatchNormConfig, Var,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: T2T_ViT, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct T2TViTConfig {
    /// Height and width of the images.
    #[schemars(range(min = 16, max = 2048))]
    pub img_size: usize,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 65536))]
    pub in_channels: usize,
    /// Size of a token.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub embed_dims: usize,
    /// Blocks.
    #[schemars(range(min = 1, max = 1000))]
    pub num_layers: usize,
    /// Probability with which dropout zeroes an element of the embedding.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_rate: f64,
    /// Probability with which the last block's branches are left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// The layer norms of the blocks.
    pub norm_cfg: PatchNormConfig,
    /// Whether the tokens are normalised once more at the end.
    pub final_norm: bool,
    /// How tokens come about.
    pub t2t_cfg: T2TConfig,
    /// The sizes of the blocks.
    pub layer_cfgs: T2TLayerConfig,
    /// Accepted if it names the last block, whose class token is the output.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

/// `t2t_cfg` of a [`T2TViTConfig`].
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(default)]
pub struct T2TConfig {
    /// Size of a token before the blocks.
    #[schemars(range(min = 1, max = 65536))]
    pub token_dims: usize,
    /// Accepted if it is false, as in MMPretrain.
    #[schemars(extend("enum" = [false]))]
    pub use_performer: bool,
}

/// `layer_cfgs` of a [`T2TViTConfig`].
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct T2TLayerConfig {
    /// Heads of each attention, a divisor of `embed_dims`; 6 if absent.
    #[schemars(range(min = 1))]
    pub num_heads: Option<usize>,
    /// Size of a token inside the feed-forward networks; three times `embed_dims` if absent.
    #[schemars(range(min = 1))]
    pub feedforward_channels: Option<usize>,
}

impl Default for T2TConfig {
    fn default() -> Self {
        Self { token_dims: 64, use_performer: false }
    }
}

impl Default for T2TViTConfig {
    fn default() -> Self {
        Self {
            img_size: 224,
            in_channels: three(),
            embed_dims: 384,
            num_layers: 14,
            drop_rate: 0.0,
            drop_path_rate: 0.0,
            norm_cfg: PatchNormConfig::default(),
            final_norm: true,
            t2t_cfg: T2TConfig::default(),
            layer_cfgs: T2TLayerConfig::default(),
            out_indices: last_stage(),
        }
    }
}

/// A vision transformer whose tokens come of neighbours that are joined three times, with attention in between: images to the class
/// token, 384 features.
///
/// Weight names are MMPretrain's: `tokens_to_token.attention1.attn.qkv`, `encoder.0.ln1`, `norm`. 21,465,422 parameters with a
/// head for 1000 classes.
pub struct T2TViT {
    cls_token: Param,
    /// Waves, which files have too.
    pos_embed: Buffer,
    tokens_to_token: ToToken,
    drop_after_pos: Dropout,
    encoder: Vec<Box<dyn Module>>,
    norm: Option<LayerNorm>,
}

struct ToToken {
    attention1: Joining,
    attention2: Joining,
    project: Linear,
}

module!(T2TViT { cls_token, pos_embed, tokens_to_token, drop_after_pos, encoder, norm });
module!(ToToken { attention1, attention2, project });

register! { /// T2T-ViT: images to the class token, [N, embed_dims].
dyn Module, "T2T_ViT" => fn T2TViT::from_config }

impl T2TViT {
    fn from_config(p: T2TViTConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When sizes are 0 or heads do not divide the features.
    pub fn new(p: &T2TViTConfig) -> Result<Self> {
        if p.t2t_cfg.use_performer {
            return Err(Error::config(
                "`use_performer: true` is not here: tokens are joined by plain attention",
            ));
        }
        if !(16..=2048).contains(&p.img_size) || p.num_layers > 1000 {
            return Err(Error::config("`img_size` is from 16 to 2048, `num_layers` at most 1000"));
        }
        last_only(&p.out_indices, p.num_layers)?;
        let dims = p.embed_dims;
        let arch = VisionTransformerArch {
            embed_dims: dims,
            num_layers: p.num_layers,
            num_heads: p.layer_cfgs.num_heads.unwrap_or(6),
            feedforward_channels: p.layer_cfgs.feedforward_channels.unwrap_or(dims.saturating_mul(3)),
        };
        let usual = VisionTransformerConfig {
            arch: ArchConfig(arch),
            qkv_bias: false,
            norm_cfg: p.norm_cfg,
            ..VisionTransformerConfig::default()
        };
        let encoder = drop_path_rates(p.drop_path_rate, p.num_layers)
            .map(|rate| Ok(Box::new(TransformerEncoderLayer::new(&usual, rate)?) as Box<dyn Module>))
            .collect::<Result<_>>()?;
        let side = p.img_size / 16;
        let small = p.t2t_cfg.token_dims;
        let rule = TruncNormal { std: 0.02, ..TruncNormal::default() };
        let mut pos_embed = Buffer::full(&[1, side * side + 1, dims], 0.0);
        if ask(&[], 0) == Grant::Full {
            let waves: Vec<f64> =
                (0..dims).map(|i| libm::pow(10_000.0, -((i / 2 * 2) as f64) / dims as f64)).collect();
            let wave = |at: usize, i: usize| {
                let angle = at as f64 * waves[i];
                (if i.is_multiple_of(2) { libm::sin(angle) } else { libm::cos(angle) }) as Elem
            };
            let shape = pos_embed.value.shape().to_vec();
            pos_embed.value = Tensor::from_shape_fn(shape, |at| wave(at[1], at[2]));
        }
        Ok(Self {
            cls_token: Param::init(&[1, 1, dims], rule),
            pos_embed,
            tokens_to_token: ToToken {
                attention1: Joining::new(p.in_channels.saturating_mul(49), small),
                attention2: Joining::new(small.saturating_mul(9), small),
                project: Linear::new(small.saturating_mul(9), dims),
            },
            drop_after_pos: Dropout::new(p.drop_rate),
            encoder,
            norm: p.final_norm.then(|| p.norm_cfg.build(dims)),
        })
    }
}

impl Module for T2TViT {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let ToToken { attention1, attention2, project } = &mut self.tokens_to_token;
        let (tape, (joined, size)) = (x.tape(), unfold(x, [7, 4, 2])?);
        let x = cx.child("tokens_to_token.attention1", attention1, joined)?;
        let (joined, size) = unfold(x.token_planes(size), [3, 2, 1])?;
        let x = cx.child("tokens_to_token.attention2", attention2, joined)?;
        let (joined, _) = unfold(x.token_planes(size), [3, 2, 1])?;
        let x = cx.child("tokens_to_token.project", project, joined)?;
        let [n, tokens, dims] = [0, 1, 2].map(|axis| x.shape()[axis]);
        if self.pos_embed.value.shape()[1] != tokens + 1 {
            return Err(Error::invalid(format!(
                "T2T_ViT has positions for {} tokens, but these images have {tokens}: set `img_size`, or resize them",
                self.pos_embed.value.shape()[1].saturating_sub(1)
            )));
        }
        let cls = tape.param(&self.cls_token).expand(&[n, 1, dims]);
        let placed = tape.concat(&[cls, x], 1) + tape.input(self.pos_embed.value.clone());
        let mut x = self.drop_after_pos.forward(placed.checked()?, cx)?;
        for (i, layer) in self.encoder.iter_mut().enumerate() {
            x = cx.child(format_args!("encoder.{i}"), layer, x)?;
        }
        if let Some(norm) = &mut self.norm {
            x = cx.child("norm", norm, x)?;
        }
        x.select(1, 0).checked()
    }
}

/// `v + proj(attention)`, of one head whose tokens become smaller, and of that `x + ffn(ln2(x))`.
struct Joining {
    ln1: LayerNorm,
    attn: Attention,
    ln2: LayerNorm,
    ffn: FFN,
}

struct Attention {
    qkv: Linear,
    proj: Linear,
    /// What queries are multiplied by.
    scale: f64,
}

module!(Joining { ln1, attn, ln2, ffn });
module!(Attention { qkv, proj });

impl Joining {
    fn new(from: usize, to: usize) -> Self {
        // Scores are divided by the root of what a token had before; the op divides by that of what it has.
        let scale = (to as f64 / from.max(1) as f64).sqrt();
        Self {
            ln1: LayerNorm::new(from),
            attn: Attention {
                qkv: Linear::new(from, to.saturating_mul(3)).bias(false),
                proj: Linear::new(to, to),
                scale,
            },
            ln2: LayerNorm::new(to),
            ffn: FFN::new(to, to, 0.0),
        }
    }
}

impl Module for Attention {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let [q, k, v] = cx.child("qkv", &mut self.qkv, x)?.chunk(-1);
        let seen = (q * self.scale as Elem).attention(k, v, &AttentionOptions::new(1), cx.rng);
        Ok(v + cx.child("proj", &mut self.proj, seen)?)
    }
}

impl Module for Joining {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("ln1", &mut self.ln1, x)?;
        let x = cx.child("attn", &mut self.attn, x)?;
        let y = cx.child("ln2", &mut self.ln2, x)?;
        cx.within("ffn", &mut self.ffn, y, |ffn, cx| ffn.forward_add(y, x, cx))
    }
}

//! The reversible vision transformer (Mangalam et al. 2022, <https://arxiv.org/abs/2302.04869>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Family, OutType, VisionTransformer, VisionTransformerArch, VisionTransformerConfig};
use crate::base::Result;
use crate::model::backbones::arch::ArchConfig;
use crate::model::backbones::common::drop_path_rates;
use crate::nn::{
    AttentionPosition, DropPath, FFN, Forward, LayerNorm, LayerNormName, Module, MultiheadAttention,
    MultiheadAttentionConfig, Pair, PatchNormConfig, Var,
};
use crate::registry::BuildCx;
use crate::{module, register};

register! { /// A vision transformer of two streams, each of which changes the other: the mean of both, [N, 2 embed_dims].
dyn Module, "RevVisionTransformer" => fn VisionTransformer::rev_from_config }

/// The keys of `{type: RevVisionTransformer, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RevVisionTransformerConfig {
    /// A name (`base`, `deit-small`, …) or a mapping with `embed_dims`, `num_layers`, `num_heads` and
    /// `feedforward_channels`.
    pub arch: ArchConfig<VisionTransformerArch>,
    /// Size of the images, one number or [height, width]; a multiple of `patch_size`.
    #[schemars(schema_with = "crate::nn::positive")]
    pub img_size: Pair,
    /// Size of a patch, one number or [height, width].
    #[schemars(schema_with = "crate::nn::positive")]
    pub patch_size: Pair,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
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
}

impl Default for RevVisionTransformerConfig {
    fn default() -> Self {
        let p = VisionTransformerConfig::default();
        Self {
            arch: ArchConfig::default(),
            img_size: p.img_size,
            patch_size: p.patch_size,
            in_channels: p.in_channels,
            drop_rate: 0.0,
            drop_path_rate: 0.0,
            qkv_bias: true,
            norm_cfg: PatchNormConfig { kind: LayerNormName::LN, eps: 1e-6 },
            final_norm: true,
            out_type: OutType::AvgFeatmap,
            with_cls_token: false,
        }
    }
}

impl VisionTransformer {
    fn rev_from_config(p: RevVisionTransformerConfig, _: &mut BuildCx) -> Result<Self> {
        Self::rev(&p)
    }

    /// Of two streams side by side. What they were before a block could be computed again from what they are behind it; here it is
    /// kept, as for any network.
    ///
    /// # Errors
    /// As those of [`new`](Self::new).
    pub fn rev(p: &RevVisionTransformerConfig) -> Result<Self> {
        let own = VisionTransformerConfig {
            arch: p.arch,
            img_size: p.img_size,
            patch_size: p.patch_size,
            in_channels: p.in_channels,
            drop_rate: p.drop_rate,
            norm_cfg: p.norm_cfg,
            final_norm: p.final_norm,
            out_type: p.out_type,
            with_cls_token: p.with_cls_token,
            ..VisionTransformerConfig::default()
        };
        let arch = p.arch.0;
        let attn = MultiheadAttentionConfig {
            embed_dims: arch.embed_dims,
            num_heads: arch.num_heads,
            input_dims: None,
            attn_drop: 0.0,
            proj_drop: p.drop_rate,
            qkv_bias: p.qkv_bias,
            proj_bias: true,
            causal: false,
            position: AttentionPosition::None,
        };
        let layer = |drop_path| -> Result<Box<dyn Module>> {
            Ok(Box::new(Layer {
                ln1: p.norm_cfg.build(arch.embed_dims),
                attn: attn.build()?,
                ln2: p.norm_cfg.build(arch.embed_dims),
                ffn: FFN::new(arch.embed_dims, arch.feedforward_channels, p.drop_rate),
                drop_path: DropPath::new(drop_path),
            }))
        };
        let rates = drop_path_rates(p.drop_path_rate, arch.num_layers);
        Self::of(&own, Family::TwoStreams, rates.map(layer).collect::<Result<_>>()?)
    }
}

/// Two streams side by side, [N, T, 2 D]: `a + attn(ln1(b))`, and with that `b + ffn(ln2(a))`.
struct Layer {
    ln1: LayerNorm,
    attn: MultiheadAttention,
    ln2: LayerNorm,
    ffn: FFN,
    drop_path: DropPath,
}

module!(Layer { ln1, attn, ln2, ffn, drop_path });

impl Module for Layer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let [a, b] = x.chunk(-1);
        let y = cx.child("ln1", &mut self.ln1, b)?;
        let y = cx.child("attn", &mut self.attn, y)?;
        let a = a + self.drop_path.forward(y, cx)?;
        let y = cx.child("ln2", &mut self.ln2, a)?;
        let y = cx.within("ffn", &mut self.ffn, y, |ffn, cx| ffn.branch(y, cx))?;
        let b = b + self.drop_path.forward(y, cx)?;
        x.tape().concat(&[a, b], -1).checked()
    }
}

//! One block of the transformer.

use schemars::JsonSchema;
use serde::Deserialize;

use super::VisionTransformerConfig;
use super::swiglu::SwiGluFfn;
use crate::base::{Error, Result};
use crate::module;
use crate::nn::{
    AttentionPosition, FFN, Forward, LayerNorm, LayerScale, Module, MultiheadAttention,
    MultiheadAttentionConfig, Var,
};

/// What `layer_cfgs` of a [`VisionTransformerConfig`] may say.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LayerConfig {
    /// Which feed-forward network the blocks have: origin, two layers with GELU between them; swiglu_fused, a gated one of
    /// two thirds of the inner features, as in the largest DINOv2.
    pub ffn_type: FfnType,
}

/// The feed-forward network of a [`TransformerEncoderLayer`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FfnType {
    /// Two layers with GELU between them.
    #[default]
    Origin,
    /// A gated one.
    SwigluFused,
}

/// `x + attn(ln1(x))`, and of that `x + ffn(ln2(x))`.
pub struct TransformerEncoderLayer {
    ln1: LayerNorm,
    attn: MultiheadAttention,
    ln2: LayerNorm,
    ffn: Option<FFN>,
    gated: Option<SwiGluFfn>,
    /// How many tokens it gives; all if absent.
    first: Option<usize>,
}

module!(TransformerEncoderLayer { ln1, attn, ln2, ffn, gated as "ffn" });

impl TransformerEncoderLayer {
    /// A block of the network that `p` describes, whose branches are left out with this probability in training.
    ///
    /// # Errors
    /// When the heads do not divide the features, or the scale is no number.
    pub fn new(p: &VisionTransformerConfig, drop_path: f64) -> Result<Self> {
        let (arch, scale) = (p.arch.0, p.layer_scale_init_value);
        if !scale.is_finite() {
            return Err(Error::config(format!(
                "`layer_scale_init_value: {scale}` is no number to begin with"
            )));
        }
        let norm = || p.norm_cfg.build(arch.embed_dims);
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
        let usual = FFN::new(arch.embed_dims, arch.feedforward_channels, p.drop_rate);
        let gated = || {
            let inner = (arch.feedforward_channels.saturating_mul(2) / 3).div_ceil(8).saturating_mul(8);
            let gamma2 = (scale > 0.0).then(|| LayerScale::new(arch.embed_dims, scale));
            SwiGluFfn { gamma2, ..SwiGluFfn::new(arch.embed_dims, inner) }
        };
        let is_gated = p.layer_cfgs.ffn_type == FfnType::SwigluFused;
        Ok(Self {
            ln1: norm(),
            attn: attn.build()?.drop_path(drop_path).layer_scale(scale),
            ln2: norm(),
            ffn: (!is_gated).then(|| usual.drop_path(drop_path).layer_scale(scale)),
            gated: is_gated.then(gated),
            first: None,
        })
    }

    /// The same, which gives what it makes of so many tokens in front, [N, `first`, D]: all that is needed of the last
    /// block where nothing else is looked at.
    #[must_use]
    pub fn first_only(self, first: Option<usize>) -> Self {
        Self { first, ..self }
    }

    /// The same with this between the layers of its feed-forward network, if that has two.
    #[must_use]
    pub(in crate::model::backbones) fn act(self, act: impl Module) -> Self {
        Self { ffn: self.ffn.map(|ffn| ffn.act(act)), ..self }
    }

    /// Both branches, added to `to`, which is `x` or its first tokens.
    fn branches<'t>(&mut self, x: Var<'t>, to: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let normed = cx.child("ln1", &mut self.ln1, x)?;
        let x = cx.within("attn", &mut self.attn, normed, |attn, cx| attn.forward_add(normed, to, cx))?;
        let normed = cx.child("ln2", &mut self.ln2, x)?;
        match (&mut self.ffn, &mut self.gated) {
            (Some(ffn), _) => cx.within("ffn", ffn, normed, |ffn, cx| ffn.forward_add(normed, x, cx)),
            (None, Some(gated)) => (x + cx.child("ffn", gated, normed)?).checked(),
            (None, None) => Ok(x),
        }
    }
}

impl Module for TransformerEncoderLayer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let to = self.first.map_or(Ok(x), |count| x.slice(1, ..count).checked())?;
        self.branches(x, to, cx)
    }
}

//! One block of the transformer.

use super::VisionTransformerConfig;
use crate::base::{Error, Result};
use crate::module;
use crate::nn::{
    AttentionPosition, FFN, Forward, LayerNorm, Module, MultiheadAttention, MultiheadAttentionConfig, Var,
};

/// `x + attn(ln1(x))`, and of that `x + ffn(ln2(x))`.
pub struct TransformerEncoderLayer {
    ln1: LayerNorm,
    attn: MultiheadAttention,
    ln2: LayerNorm,
    ffn: FFN,
    /// How many tokens it gives; all if absent.
    first: Option<usize>,
}

module!(TransformerEncoderLayer { ln1, attn, ln2, ffn });

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
        let ffn = FFN::new(arch.embed_dims, arch.feedforward_channels, p.drop_rate);
        Ok(Self {
            ln1: norm(),
            attn: attn.build()?.drop_path(drop_path).layer_scale(scale),
            ln2: norm(),
            ffn: ffn.drop_path(drop_path).layer_scale(scale),
            first: None,
        })
    }

    /// The same, which gives what it makes of so many tokens in front, [N, `first`, D]: all that is needed of the last
    /// block where nothing else is looked at.
    #[must_use]
    pub fn first_only(self, first: Option<usize>) -> Self {
        Self { first, ..self }
    }

    /// Both branches, added to `to`, which is `x` or its first tokens.
    fn branches<'t>(&mut self, x: Var<'t>, to: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let normed = cx.child("ln1", &mut self.ln1, x)?;
        let x = cx.within("attn", &mut self.attn, normed, |attn, cx| attn.forward_add(normed, to, cx))?;
        let normed = cx.child("ln2", &mut self.ln2, x)?;
        cx.within("ffn", &mut self.ffn, normed, |ffn, cx| ffn.forward_add(normed, x, cx))
    }
}

impl Module for TransformerEncoderLayer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let to = self.first.map_or(Ok(x), |count| x.slice(1, ..count).checked())?;
        self.branches(x, to, cx)
    }
}

//! One block of the transformer.

use super::VisionTransformerConfig;
use crate::base::Result;
use crate::module;
use crate::nn::{FFN, Forward, LayerNorm, Module, MultiheadAttention, MultiheadAttentionConfig, Var};

/// `x + attn(ln1(x))`, and of that `x + ffn(ln2(x))`.
pub struct TransformerEncoderLayer {
    ln1: LayerNorm,
    attn: MultiheadAttention,
    ln2: LayerNorm,
    ffn: FFN,
}

module!(TransformerEncoderLayer { ln1, attn, ln2, ffn });

impl TransformerEncoderLayer {
    /// A block of the network that `p` describes.
    ///
    /// # Errors
    /// When the heads do not divide the features.
    pub fn new(p: &VisionTransformerConfig) -> Result<Self> {
        let arch = p.arch.0;
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
        };
        let ffn = FFN::new(arch.embed_dims, arch.feedforward_channels, p.drop_rate);
        Ok(Self { ln1: norm(), attn: attn.build()?, ln2: norm(), ffn })
    }

    /// What the block makes of the first token, [N, D]: all that is needed of the last block where nothing else is
    /// looked at.
    ///
    /// # Errors
    /// When the sizes do not fit.
    pub fn forward_first<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let first = x.select(1, 0).checked()?;
        let shape = first.shape();
        let first = first.unsqueeze(1);
        self.branches(x, first, cx)?.reshape(&shape).checked()
    }

    /// Both branches, added to `to`, which is `x` or its first tokens.
    fn branches<'t>(&mut self, x: Var<'t>, to: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let normed = self.ln1.forward(x, cx)?;
        let x = self.attn.forward_add(normed, to, cx)?;
        let normed = self.ln2.forward(x, cx)?;
        self.ffn.forward_add(normed, x, cx)
    }
}

impl Module for TransformerEncoderLayer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.branches(x, x, cx)
    }
}

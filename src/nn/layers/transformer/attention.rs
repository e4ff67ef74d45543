//! Attention with PyTorch's weights.

use crate::base::{Error, Result};
use crate::module;
use crate::nn::init::Xavier;
use crate::nn::init::draw::Distribution;
use crate::nn::layers::patch::tokens;
use crate::nn::{AttentionMask, AttentionOptions, AttentionPosition, Forward, Linear, Module, Param, Var};

/// Attention of several heads with the weights of PyTorch's `nn.MultiheadAttention`: `in_proj_weight` makes query, key
/// and value, `out_proj` the result. [`MultiheadAttention`](crate::nn::MultiheadAttention) has MMPretrain's names.
pub struct TorchAttention {
    /// [3 D, D].
    pub in_proj_weight: Param,
    /// `[3 D]`.
    pub in_proj_bias: Option<Param>,
    /// [D, D].
    pub out_proj: Linear,
    heads: usize,
    dropout: f64,
    position: AttentionPosition,
}

module!(TorchAttention { in_proj_weight, in_proj_bias, out_proj });

impl TorchAttention {
    /// Of features split into heads.
    ///
    /// # Errors
    /// When the heads do not divide the features.
    pub fn new(dims: usize, heads: usize, dropout: f64, bias: bool) -> Result<Self> {
        if heads == 0 || !dims.is_multiple_of(heads) {
            return Err(Error::config(format!("`nhead: {heads}` does not divide `d_model: {dims}`")));
        }
        let all = dims.saturating_mul(3);
        let rule = Xavier { distribution: Distribution::Uniform, ..Xavier::default() };
        Ok(Self {
            in_proj_weight: Param::init(&[all, dims], rule),
            in_proj_bias: bias.then(|| Param::full(&[all], 0.0)),
            out_proj: Linear::new(dims, dims).bias(bias),
            heads,
            dropout,
            position: AttentionPosition::None,
        })
    }

    /// How it knows where the tokens of a self-attention stand.
    pub(super) fn position(self, position: AttentionPosition) -> Self {
        Self { position, ..self }
    }

    /// What the tokens `x` [N, Q, D] see of themselves, or of `memory` [N, K, D].
    ///
    /// # Errors
    /// When the sizes do not fit.
    pub fn attend<'t>(
        &mut self,
        x: Var<'t>,
        memory: Option<Var<'t>>,
        mask: &AttentionMask,
        cx: &mut Forward<'_>,
    ) -> Result<Var<'t>> {
        let tape = x.tape();
        let weight = tape.param(&self.in_proj_weight);
        let bias = self.in_proj_bias.as_ref().map(|b| tape.param(b));
        let ([_, asked, _], [batch, len, _]) = (tokens(&x.shape())?, tokens(&memory.unwrap_or(x).shape())?);
        let options = AttentionOptions {
            keys: cx.lengths(batch, len)?,
            dropout: if cx.training { self.dropout } else { 0.0 },
            ..mask.options(self.heads, [batch, asked, len])?
        };
        let dims = self.out_proj.weight.value.shape()[0];
        let y = match memory {
            None => {
                let qkv = self.position.of(x.linear(weight, bias), 2 * dims, dims / self.heads.max(1));
                qkv.attention_packed(&options, cx.rng)
            }
            Some(memory) => {
                let bias_of = |range: std::ops::Range<usize>| bias.map(|b| b.slice(0, range));
                let q = x.linear(weight.slice(0, ..dims), bias_of(0..dims));
                let kv = memory.linear(weight.slice(0, dims..), bias_of(dims..3 * dims));
                q.attention(kv.slice(-1, ..dims), kv.slice(-1, dims..), &options, cx.rng)
            }
        };
        self.out_proj.forward(y.checked()?, cx)
    }
}

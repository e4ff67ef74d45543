//! Self-attention of several heads.

mod op;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::nn::{DropPath, Dropout, Forward, Linear, LinearConfig, Module, Var};
use crate::registry::BuildCx;
use crate::{module, register};

pub use self::op::AttentionOptions;
use super::layer_scale::LayerScale;
use super::mask::AttentionMask;
use super::patch::tokens;
use super::rotary::AttentionPosition;

/// The keys of a [`MultiheadAttention`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct MultiheadAttentionConfig {
    /// Size of a token.
    #[schemars(range(min = 1))]
    pub embed_dims: usize,
    /// Heads, of `embed_dims / num_heads` features each.
    #[schemars(range(min = 1))]
    pub num_heads: usize,
    /// Size of a token of the input; `embed_dims` if absent.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub input_dims: Option<usize>,
    /// Probability with which dropout zeroes an attention weight.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub attn_drop: f64,
    /// Probability with which dropout zeroes an element of the result.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub proj_drop: f64,
    /// Whether query, key and value have an offset.
    #[serde(default = "crate::config::yes")]
    pub qkv_bias: bool,
    /// Whether the result has an offset.
    #[serde(default = "crate::config::yes")]
    pub proj_bias: bool,
    /// Whether a token looks at itself and at those before it alone.
    #[serde(default)]
    pub causal: bool,
    /// How it knows where tokens stand: none, by what they hold; rotary, queries and keys are turned by their places.
    #[serde(default)]
    pub position: AttentionPosition,
}

impl MultiheadAttentionConfig {
    /// The layer.
    ///
    /// # Errors
    /// When the heads do not divide the features.
    pub fn build(&self) -> Result<MultiheadAttention> {
        let (dims, heads) = (self.embed_dims, self.num_heads);
        if heads == 0 || dims % heads != 0 {
            return Err(Error::config(format!("`num_heads: {heads}` does not divide `embed_dims: {dims}`")));
        }
        self.position.check(dims, heads)?;
        let linear =
            |in_features, out_features, bias| LinearConfig { in_features, out_features, bias }.build();
        Ok(MultiheadAttention {
            qkv: linear(self.input_dims.unwrap_or(dims), dims.saturating_mul(3), self.qkv_bias),
            attn_drop: Dropout::new(self.attn_drop),
            proj: linear(dims, dims, self.proj_bias),
            proj_drop: Dropout::new(self.proj_drop),
            gamma1: None,
            drop_path: DropPath::new(0.0),
            heads,
            causal: self.causal,
            position: self.position,
        })
    }
}

/// Self-attention over tokens [N, T, D], not at what fills short sequences up ([`Forward::lengths`]) (Vaswani et al. 2017, <https://arxiv.org/abs/1706.03762>), with MMPretrain's
/// weight names: `qkv` makes query, key and value in one product, `proj` the result of the joined heads.
pub struct MultiheadAttention {
    /// [3 D, input].
    pub qkv: Linear,
    /// Of the attention weights.
    pub attn_drop: Dropout,
    /// [D, D].
    pub proj: Linear,
    /// Of the result.
    pub proj_drop: Dropout,
    gamma1: Option<LayerScale>,
    drop_path: DropPath,
    heads: usize,
    causal: bool,
    position: AttentionPosition,
}

module!(MultiheadAttention { qkv, attn_drop, proj, proj_drop, gamma1, drop_path as "out_drop" });

impl MultiheadAttention {
    /// Of features split into heads, with all offsets and without dropout. If the heads do not divide the features,
    /// `forward` says so.
    pub fn new(embed_dims: usize, num_heads: usize) -> Self {
        Self {
            qkv: Linear::new(embed_dims, embed_dims.saturating_mul(3)),
            attn_drop: Dropout::new(0.0),
            proj: Linear::new(embed_dims, embed_dims),
            proj_drop: Dropout::new(0.0),
            gamma1: None,
            drop_path: DropPath::new(0.0),
            heads: num_heads,
            causal: false,
            position: AttentionPosition::None,
        }
    }

    /// The probability with which dropout zeroes an attention weight.
    #[must_use]
    pub fn attn_drop(mut self, p: f64) -> Self {
        self.attn_drop.p = p;
        self
    }

    /// The probability with which dropout zeroes an element of the result.
    #[must_use]
    pub fn proj_drop(mut self, p: f64) -> Self {
        self.proj_drop.p = p;
        self
    }

    /// Whether query, key and value have an offset; they have unless this says no.
    #[must_use]
    pub fn qkv_bias(mut self, bias: bool) -> Self {
        self.qkv = self.qkv.bias(bias);
        self
    }

    /// Whether the result has an offset; it has unless this says no.
    #[must_use]
    pub fn proj_bias(mut self, bias: bool) -> Self {
        self.proj = self.proj.bias(bias);
        self
    }

    /// Whether a token looks at itself and at those before it alone; not unless this says so.
    #[must_use]
    pub fn causal(mut self, causal: bool) -> Self {
        self.causal = causal;
        self
    }

    /// The probability with which a sample's result is left out in training.
    #[must_use]
    pub fn drop_path(mut self, p: f64) -> Self {
        self.drop_path.drop_prob = p;
        self
    }

    /// What the result is multiplied by at first; without such weights for 0.
    #[must_use]
    pub fn layer_scale(mut self, first: f64) -> Self {
        let dims = self.proj.weight.value.shape()[0];
        self.gamma1 = (first > 0.0).then(|| LayerScale::new(dims, first));
        self
    }

    /// How it knows where tokens stand; by what they hold unless this says otherwise.
    #[must_use]
    pub fn position(mut self, position: AttentionPosition) -> Self {
        self.position = position;
        self
    }

    /// The joined heads, before `proj`, of the first `queries` tokens.
    fn heads<'t>(
        &mut self,
        x: Var<'t>,
        queries: Option<usize>,
        mask: &AttentionMask,
        cx: &mut Forward<'_>,
    ) -> Result<Var<'t>> {
        let [batch, len, _] = tokens(&x.shape())?;
        let mut options = mask.options(self.heads, [batch, queries.unwrap_or(len), len])?;
        options.causal |= self.causal;
        options.keys = cx.lengths(batch, len)?;
        options.dropout = if cx.training { self.attn_drop.p } else { 0.0 };
        options.queries = queries;
        let dims = self.proj.weight.value.shape()[1];
        let qkv = if self.qkv.is_adapted() || self.position != AttentionPosition::None {
            self.qkv.forward(x, cx)?
        } else {
            let (tape, Linear { weight, bias, .. }) = (x.tape(), &self.qkv);
            x.linear_in_bf16(tape.param(weight), bias.as_ref().map(|b| tape.param(b)))
        };
        let qkv = self.position.of(qkv, 2 * dims, dims / self.heads.max(1));
        qkv.attention_packed(&options, cx.rng).checked()
    }

    /// As `forward`, with a mask.
    ///
    /// # Errors
    /// When the sizes do not fit.
    pub fn forward_masked<'t>(
        &mut self,
        x: Var<'t>,
        mask: &AttentionMask,
        cx: &mut Forward<'_>,
    ) -> Result<Var<'t>> {
        let x = self.heads(x, None, mask, cx)?;
        self.project(x, cx)
    }

    /// The result of the joined heads.
    fn project<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = self.proj.forward(x, cx)?;
        let x = self.proj_drop.forward(x, cx)?;
        let x = match &mut self.gamma1 {
            Some(gamma1) => gamma1.forward(x, cx)?,
            None => x,
        };
        self.drop_path.forward(x, cx)
    }

    /// `residual +` the attention over `x` [N, T, D]: of all tokens for a residual of that shape, of the first Q for
    /// [N, Q, D].
    ///
    /// # Errors
    /// When the sizes do not fit.
    pub fn forward_add<'t>(
        &mut self,
        x: Var<'t>,
        residual: Var<'t>,
        cx: &mut Forward<'_>,
    ) -> Result<Var<'t>> {
        let x = self.heads(x, residual.shape().get(1).copied(), &AttentionMask::default(), cx)?;
        let dropping = cx.training && (self.proj_drop.p > 0.0 || self.drop_path.drop_prob > 0.0);
        if dropping || self.gamma1.is_some() || self.proj.is_adapted() {
            return (self.project(x, cx)? + residual).checked();
        }
        let tape = x.tape();
        let bias = self.proj.bias.as_ref().map(|b| tape.param(b));
        x.linear_add(tape.param(&self.proj.weight), bias, residual).checked()
    }
}

impl Module for MultiheadAttention {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_masked(x, &AttentionMask::default(), cx)
    }
}

register! { /// Self-attention of several heads over tokens [N, T, D].
dyn Module, "MultiheadAttention" => fn MultiheadAttention::from_config }

impl MultiheadAttention {
    fn from_config(p: MultiheadAttentionConfig, _: &mut BuildCx) -> Result<Self> {
        p.build()
    }
}

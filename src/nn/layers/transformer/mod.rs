//! The layers of a transformer, with PyTorch's keys and weight names.

mod attention;
mod stack;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::nn::{
    AttentionMask, AttentionPosition, Dropout, Forward, LayerNorm, Linear, LinearConfig, Module, Var,
};
use crate::registry::BuildCx;
use crate::{module, register};

pub use self::attention::TorchAttention;
pub use self::stack::{
    Transformer, TransformerConfig, TransformerDecoder, TransformerEncoder, TransformerStackConfig,
};

/// The keys of a [`TransformerEncoderLayer`] or [`TransformerDecoderLayer`] in YAML: PyTorch's, with the batch first.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct TransformerLayerConfig {
    /// Size of a token.
    #[schemars(range(min = 1))]
    pub d_model: usize,
    /// Heads, of `d_model / nhead` features each.
    #[schemars(range(min = 1))]
    pub nhead: usize,
    /// Features between the two linear layers.
    #[serde(default = "feedforward")]
    #[schemars(range(min = 1))]
    pub dim_feedforward: usize,
    /// Probability with which dropout zeroes an attention weight, or an element of a branch.
    #[serde(default = "tenth")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub dropout: f64,
    /// What stands between the two linear layers: relu or gelu.
    #[serde(default)]
    pub activation: TransformerActivation,
    /// Added to the variance before its root.
    #[serde(default = "eps")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub layer_norm_eps: f64,
    /// Whether the norms stand before attention and linear layers (Xiong et al. 2020); behind the sums if not.
    #[serde(default)]
    pub norm_first: bool,
    /// Whether linear layers and norms have offsets.
    #[serde(default = "crate::config::yes")]
    pub bias: bool,
    /// Whether a token looks at itself and at those before it alone; null for what is usual: a decoder's do.
    #[serde(default)]
    pub causal: Option<bool>,
    /// How self-attention knows where tokens stand: none, by what they hold; rotary, queries and keys are turned by their
    /// places.
    #[serde(default)]
    pub position: AttentionPosition,
}

fn feedforward() -> usize {
    2048
}

fn tenth() -> f64 {
    0.1
}

fn eps() -> f64 {
    1e-5
}

/// What stands between the two linear layers of a transformer's layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransformerActivation {
    /// What is positive.
    #[default]
    Relu,
    /// The exact Gaussian error linear unit.
    Gelu,
}

impl TransformerLayerConfig {
    /// PyTorch's defaults.
    pub fn new(d_model: usize, nhead: usize) -> Self {
        Self {
            d_model,
            nhead,
            dim_feedforward: feedforward(),
            dropout: tenth(),
            activation: TransformerActivation::Relu,
            layer_norm_eps: eps(),
            norm_first: false,
            bias: true,
            causal: None,
            position: AttentionPosition::None,
        }
    }

    fn attention(&self) -> Result<TorchAttention> {
        TorchAttention::new(self.d_model, self.nhead, self.dropout, self.bias)
    }

    /// That of the tokens to themselves.
    fn self_attention(&self) -> Result<TorchAttention> {
        let attention = self.attention()?;
        self.position.check(self.d_model, self.nhead)?;
        Ok(attention.position(self.position))
    }

    fn norm(&self) -> LayerNorm {
        LayerNorm::new(self.d_model).eps(self.layer_norm_eps).affine(true, self.bias)
    }

    fn linear(&self, in_features: usize, out_features: usize) -> Linear {
        LinearConfig { in_features, out_features, bias: self.bias }.build()
    }
}

/// The two linear layers of a transformer's layer.
fn feed_forward<'t>(
    [first, second]: [&mut Linear; 2],
    config: &TransformerLayerConfig,
    x: Var<'t>,
    cx: &mut Forward<'_>,
) -> Result<Var<'t>> {
    let x = first.forward(x, cx)?;
    let x = match config.activation {
        TransformerActivation::Relu => x.relu(),
        TransformerActivation::Gelu => x.gelu(),
    };
    let x = Dropout::new(config.dropout).forward(x, cx)?;
    second.forward(x, cx)
}

/// `x` with one branch added, and a norm before it or behind the sum.
fn branch<'t>(
    x: Var<'t>,
    norm: &mut LayerNorm,
    config: &TransformerLayerConfig,
    cx: &mut Forward<'_>,
    run: impl FnOnce(Var<'t>, &mut Forward<'_>) -> Result<Var<'t>>,
) -> Result<Var<'t>> {
    let into = if config.norm_first { norm.forward(x, cx)? } else { x };
    let y = run(into, cx)?;
    let sum = x + Dropout::new(config.dropout).forward(y, cx)?;
    if config.norm_first { sum.checked() } else { norm.forward(sum, cx) }
}

/// Self-attention and two linear layers, each with its residual branch and norm, over tokens [N, T, D] (Vaswani et al.
/// 2017, <https://arxiv.org/abs/1706.03762>). What fills short sequences up ([`Forward::lengths`]) is not looked at.
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, Forward, Module, Tape, TransformerEncoderLayer, TransformerLayerConfig};
///
/// let config = TransformerLayerConfig { dim_feedforward: 8, causal: Some(true), ..TransformerLayerConfig::new(4, 2) };
/// let mut layer = TransformerEncoderLayer::new(config)?;
/// let tape = Tape::new(BufferPool::default());
/// let tokens = |last: f32| Tensor::from_shape_fn(vec![1, 3, 4], |at| if at[1] == 2 { last } else { at[2] as f32 });
/// let mut first = |x| -> shanty::base::Result<_> {
///     let y = layer.forward(tape.input(x), &mut Forward::new(false, &mut keyed(0, "example", 0, 0)))?;
///     Ok(y.slice(1, ..2).value())
/// };
/// // What comes later changes nothing before.
/// assert_eq!(first(tokens(1.0))?, first(tokens(9.0))?);
/// # Ok::<(), shanty::base::Error>(())
/// ```
pub struct TransformerEncoderLayer {
    /// What tokens see of each other.
    pub self_attn: TorchAttention,
    /// [feedforward, D].
    pub linear1: Linear,
    /// [D, feedforward].
    pub linear2: Linear,
    /// Of the attention.
    pub norm1: LayerNorm,
    /// Of the linear layers.
    pub norm2: LayerNorm,
    config: TransformerLayerConfig,
}

module!(TransformerEncoderLayer { self_attn, linear1, linear2, norm1, norm2 });

impl TransformerEncoderLayer {
    /// The layer.
    ///
    /// # Errors
    /// When the heads do not divide the features.
    pub fn new(config: TransformerLayerConfig) -> Result<Self> {
        Ok(Self {
            self_attn: config.self_attention()?,
            linear1: config.linear(config.d_model, config.dim_feedforward),
            linear2: config.linear(config.dim_feedforward, config.d_model),
            norm1: config.norm(),
            norm2: config.norm(),
            config,
        })
    }

    fn from_config(p: TransformerLayerConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(p)
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
        let Self { self_attn, linear1, linear2, norm1, norm2, config } = self;
        let x = branch(x, norm1, config, cx, |x, cx| self_attn.attend(x, None, mask, cx))?;
        branch(x, norm2, config, cx, |x, cx| feed_forward([linear1, linear2], config, x, cx))
    }
}

impl Module for TransformerEncoderLayer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let causal = self.config.causal.unwrap_or(false);
        self.forward_masked(x, &AttentionMask { causal, ..AttentionMask::default() }, cx)
    }
}

register! { /// Self-attention and two linear layers over tokens [N, T, D], by PyTorch's names.
dyn Module, "TransformerEncoderLayer" => fn TransformerEncoderLayer::from_config }

/// Causal self-attention, attention to a memory, and two linear layers, each with its residual branch and norm: of
/// tokens [N, T, D] and a memory [N, S, D] (Vaswani et al. 2017). [`Forward::lengths`] are those of the memory.
pub struct TransformerDecoderLayer {
    /// What tokens see of each other.
    pub self_attn: TorchAttention,
    /// What tokens see of the memory.
    pub multihead_attn: TorchAttention,
    /// [feedforward, D].
    pub linear1: Linear,
    /// [D, feedforward].
    pub linear2: Linear,
    /// Of the self-attention.
    pub norm1: LayerNorm,
    /// Of the attention to the memory.
    pub norm2: LayerNorm,
    /// Of the linear layers.
    pub norm3: LayerNorm,
    config: TransformerLayerConfig,
}

module!(TransformerDecoderLayer { self_attn, multihead_attn, linear1, linear2, norm1, norm2, norm3 });

impl TransformerDecoderLayer {
    /// The layer.
    ///
    /// # Errors
    /// When the heads do not divide the features.
    pub fn new(config: TransformerLayerConfig) -> Result<Self> {
        Ok(Self {
            self_attn: config.self_attention()?,
            multihead_attn: config.attention()?,
            linear1: config.linear(config.d_model, config.dim_feedforward),
            linear2: config.linear(config.dim_feedforward, config.d_model),
            norm1: config.norm(),
            norm2: config.norm(),
            norm3: config.norm(),
            config,
        })
    }

    fn from_config(p: TransformerLayerConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(p)
    }

    /// What tokens make of themselves and of a memory, with a mask of the tokens and one of the memory.
    ///
    /// # Errors
    /// When the sizes do not fit.
    pub fn forward_masked<'t>(
        &mut self,
        [x, memory]: [Var<'t>; 2],
        [own, of_memory]: [&AttentionMask; 2],
        cx: &mut Forward<'_>,
    ) -> Result<Var<'t>> {
        let Self { self_attn, multihead_attn, linear1, linear2, norm1, norm2, norm3, config } = self;
        // The tokens themselves are whole; what fills them up looks at nothing that a loss should count.
        let lengths = cx.lengths.take();
        let x = branch(x, norm1, config, cx, |x, cx| self_attn.attend(x, None, own, cx));
        cx.lengths = lengths;
        let x = branch(x?, norm2, config, cx, |x, cx| multihead_attn.attend(x, Some(memory), of_memory, cx))?;
        branch(x, norm3, config, cx, |x, cx| feed_forward([linear1, linear2], config, x, cx))
    }
}

/// The tokens and the memory of a decoder.
fn tokens_and_memory<'t>(kind: &str, xs: &[Var<'t>]) -> Result<[Var<'t>; 2]> {
    xs.try_into().map_err(|_| {
        let n = xs.len();
        Error::invalid(format!("`{kind}` takes two inputs, tokens and a memory, and gets {n}"))
    })
}

impl Module for TransformerDecoderLayer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_all(&[x], cx)
    }

    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let xs = tokens_and_memory("TransformerDecoderLayer", xs)?;
        let causal = self.config.causal.unwrap_or(true);
        let (own, all) = (AttentionMask { causal, ..AttentionMask::default() }, AttentionMask::default());
        self.forward_masked(xs, [&own, &all], cx)
    }

    fn takes_several(&self) -> bool {
        true
    }
}

register! { /// Causal self-attention, attention to a memory and two linear layers, of two inputs: tokens and the memory.
dyn Module, "TransformerDecoderLayer" => fn TransformerDecoderLayer::from_config }

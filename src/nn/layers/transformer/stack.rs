//! Stacks of a transformer's layers.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::nn::{AttentionPosition, Forward, LayerNorm, Module, Var};
use crate::registry::BuildCx;
use crate::{module, register};

use super::{
    TransformerActivation, TransformerDecoderLayer, TransformerEncoderLayer, TransformerLayerConfig, eps,
    feedforward, tenth, tokens_and_memory,
};

/// The keys of a [`TransformerEncoder`] or [`TransformerDecoder`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct TransformerStackConfig {
    /// The keys of each layer.
    pub layer: TransformerLayerConfig,
    /// How many layers.
    #[schemars(range(min = 1, max = 1024))]
    pub num_layers: usize,
    /// Whether a layer norm comes last, as is usual where the layers have `norm_first`.
    #[serde(default)]
    pub norm: bool,
}

impl TransformerStackConfig {
    fn final_norm(&self) -> Option<LayerNorm> {
        self.norm.then(|| self.layer.norm())
    }
}

/// Layers of self-attention one after the other over tokens [N, T, D], and a norm if there is one: PyTorch's
/// `nn.TransformerEncoder`, with its weight names `layers.0.self_attn.in_proj_weight`, `norm.weight`.
pub struct TransformerEncoder {
    /// In their order.
    pub layers: Vec<TransformerEncoderLayer>,
    /// What comes last.
    pub norm: Option<LayerNorm>,
}

module!(TransformerEncoder { layers, norm });

impl TransformerEncoder {
    /// The stack.
    ///
    /// # Errors
    /// When the heads do not divide the features.
    pub fn new(config: &TransformerStackConfig) -> Result<Self> {
        let layer = |_| TransformerEncoderLayer::new(config.layer.clone());
        let layers = (0..config.num_layers).map(layer).collect::<Result<_>>()?;
        Ok(Self { layers, norm: config.final_norm() })
    }

    fn from_config(p: TransformerStackConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }
}

impl Module for TransformerEncoder {
    fn forward<'t>(&mut self, mut x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        for (i, layer) in self.layers.iter_mut().enumerate() {
            x = cx.child(format_args!("layers.{i}"), layer, x)?;
        }
        match &mut self.norm {
            Some(norm) => cx.child("norm", norm, x),
            None => Ok(x),
        }
    }
}

register! { /// A stack of `TransformerEncoderLayer`, with a norm behind it if there is one.
///
/// ```yaml
/// {type: TransformerEncoder, num_layers: 2, layer: {d_model: 64, nhead: 4}}
/// ```
dyn Module, "TransformerEncoder" => fn TransformerEncoder::from_config }

/// Layers of causal self-attention and attention to a memory one after the other, of tokens [N, T, D] and a memory
/// [N, S, D], and a norm if there is one: PyTorch's `nn.TransformerDecoder`.
pub struct TransformerDecoder {
    /// In their order.
    pub layers: Vec<TransformerDecoderLayer>,
    /// What comes last.
    pub norm: Option<LayerNorm>,
}

module!(TransformerDecoder { layers, norm });

impl TransformerDecoder {
    /// The stack.
    ///
    /// # Errors
    /// When the heads do not divide the features.
    pub fn new(config: &TransformerStackConfig) -> Result<Self> {
        let layer = |_| TransformerDecoderLayer::new(config.layer.clone());
        let layers = (0..config.num_layers).map(layer).collect::<Result<_>>()?;
        Ok(Self { layers, norm: config.final_norm() })
    }

    fn from_config(p: TransformerStackConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }
}

impl Module for TransformerDecoder {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_all(&[x], cx)
    }

    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let [mut x, memory] = tokens_and_memory("TransformerDecoder", xs)?;
        for (i, layer) in self.layers.iter_mut().enumerate() {
            x = cx.child_all(format_args!("layers.{i}"), layer, &[x, memory])?;
        }
        match &mut self.norm {
            Some(norm) => cx.child("norm", norm, x),
            None => Ok(x),
        }
    }

    fn takes_several(&self) -> bool {
        true
    }
}

register! { /// A stack of `TransformerDecoderLayer`, of two inputs, tokens and a memory, with a norm behind it if there is one.
///
/// ```yaml
/// {type: TransformerDecoder, num_layers: 2, layer: {d_model: 64, nhead: 4}}
/// ```
dyn Module, "TransformerDecoder" => fn TransformerDecoder::from_config }

/// The keys of a [`Transformer`] in YAML: PyTorch's, with the batch first.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TransformerConfig {
    /// Size of a token.
    #[schemars(range(min = 1))]
    pub d_model: usize,
    /// Heads, of `d_model / nhead` features each.
    #[schemars(range(min = 1))]
    pub nhead: usize,
    /// Layers of the encoder.
    #[schemars(range(min = 1, max = 1024))]
    pub num_encoder_layers: usize,
    /// Layers of the decoder.
    #[schemars(range(min = 1, max = 1024))]
    pub num_decoder_layers: usize,
    /// Features between the two linear layers.
    #[schemars(range(min = 1))]
    pub dim_feedforward: usize,
    /// Probability with which dropout zeroes an attention weight, or an element of a branch.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub dropout: f64,
    /// What stands between the two linear layers: relu or gelu.
    pub activation: TransformerActivation,
    /// Added to the variance before its root.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub layer_norm_eps: f64,
    /// Whether the norms stand before attention and linear layers (Xiong et al. 2020); behind the sums if not.
    pub norm_first: bool,
    /// Whether linear layers and norms have offsets.
    pub bias: bool,
    /// Whether a token of the target looks at itself and at those before it alone.
    pub causal: bool,
    /// How self-attention knows where tokens stand: none, by what they hold; rotary, queries and keys are turned by their
    /// places.
    pub position: AttentionPosition,
}

impl Default for TransformerConfig {
    /// PyTorch's.
    fn default() -> Self {
        Self {
            d_model: 512,
            nhead: 8,
            num_encoder_layers: 6,
            num_decoder_layers: 6,
            dim_feedforward: feedforward(),
            dropout: tenth(),
            activation: TransformerActivation::Relu,
            layer_norm_eps: eps(),
            norm_first: false,
            bias: true,
            causal: true,
            position: AttentionPosition::None,
        }
    }
}

impl TransformerConfig {
    fn stack(&self, num_layers: usize, causal: bool) -> TransformerStackConfig {
        let layer = TransformerLayerConfig {
            dim_feedforward: self.dim_feedforward,
            dropout: self.dropout,
            activation: self.activation,
            layer_norm_eps: self.layer_norm_eps,
            norm_first: self.norm_first,
            bias: self.bias,
            causal: Some(causal),
            position: self.position,
            ..TransformerLayerConfig::new(self.d_model, self.nhead)
        };
        TransformerStackConfig { layer, num_layers, norm: true }
    }
}

/// An encoder of a source [N, S, D] and a decoder of a target [N, T, D], both with a norm behind them (Vaswani et al.
/// 2017, <https://arxiv.org/abs/1706.03762>): PyTorch's `nn.Transformer`, with its weight names
/// `encoder.layers.0.norm1.weight`, `decoder.norm.weight`. [`Forward::lengths`] are those of the source.
pub struct Transformer {
    /// Of the source.
    pub encoder: TransformerEncoder,
    /// Of the target.
    pub decoder: TransformerDecoder,
}

module!(Transformer { encoder, decoder });

impl Transformer {
    /// Both stacks.
    ///
    /// # Errors
    /// When the heads do not divide the features.
    pub fn new(config: &TransformerConfig) -> Result<Self> {
        Ok(Self {
            encoder: TransformerEncoder::new(&config.stack(config.num_encoder_layers, false))?,
            decoder: TransformerDecoder::new(&config.stack(config.num_decoder_layers, config.causal))?,
        })
    }

    fn from_config(p: TransformerConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }
}

impl Module for Transformer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_all(&[x], cx)
    }

    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let &[source, target] = xs else {
            let n = xs.len();
            return Err(Error::invalid(format!(
                "`Transformer` takes two inputs, a source and a target, and gets {n}"
            )));
        };
        let memory = cx.child("encoder", &mut self.encoder, source)?;
        cx.child_all("decoder", &mut self.decoder, &[target, memory])
    }

    fn takes_several(&self) -> bool {
        true
    }
}

register! { /// An encoder and a decoder, of two inputs: a source and a target.
dyn Module, "Transformer" => fn Transformer::from_config }

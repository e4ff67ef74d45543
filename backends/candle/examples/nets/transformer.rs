//! A transformer over letters or words (Vaswani et al. 2017).

use candle_core::{D, Module, Result, Tensor, bail};
use candle_nn::ops::{layer_norm_slow, softmax};
use candle_nn::{Embedding, Init, Linear, VarBuilder, embedding, linear};
use schemars::JsonSchema;
use serde::Deserialize;
use shanty::data::INPUTS;
use shanty::model::{FieldNeeds, SCORES};
use shanty_candle::{Fields, Forward, Losses, Network, Predictions, objective};

/// The keys of a [`Transformer`] in a config.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct TransformerConfig {
    /// Tokens that there are.
    #[schemars(range(min = 1))]
    tokens: usize,
    /// Size of a token.
    #[schemars(range(min = 1))]
    d_model: usize,
    /// Heads, of `d_model / nhead` features each.
    #[schemars(range(min = 1))]
    nhead: usize,
    /// Features between the two linear layers.
    #[schemars(range(min = 1))]
    dim_feedforward: usize,
    /// Layers.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    layers: usize,
    /// Classes.
    #[schemars(range(min = 1))]
    num_classes: usize,
    /// Probability with which dropout zeroes an element of a branch.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    dropout: f64,
}

fn one() -> usize {
    1
}

/// The forward pass of candle's own `LayerNorm` is one op that has no way back: nothing before it would be trained.
struct Norm(Tensor, Tensor);

impl Norm {
    fn new(dims: usize, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self(
            vb.get_with_hints(dims, "weight", Init::Const(1.0))?,
            vb.get_with_hints(dims, "bias", Init::Const(0.0))?,
        ))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm_slow(x, &self.0, &self.1, 1e-5)
    }
}

/// PyTorch's `nn.TransformerEncoderLayer`, the batch first.
struct Layer {
    in_proj: Linear,
    out_proj: Linear,
    linear1: Linear,
    linear2: Linear,
    norm1: Norm,
    norm2: Norm,
    heads: usize,
    dropout: f64,
}

impl Layer {
    fn new(config: &TransformerConfig, vb: VarBuilder<'_>) -> Result<Self> {
        let (dims, inner, attn) = (config.d_model, config.dim_feedforward, vb.pp("self_attn"));
        let reach = (6.0 / (4 * dims) as f64).sqrt();
        let in_proj =
            attn.get_with_hints((3 * dims, dims), "in_proj_weight", Init::Uniform { lo: -reach, up: reach })?;
        let in_bias = attn.get_with_hints(3 * dims, "in_proj_bias", Init::Const(0.0))?;
        Ok(Self {
            in_proj: Linear::new(in_proj, Some(in_bias)),
            out_proj: linear(dims, dims, attn.pp("out_proj"))?,
            linear1: linear(dims, inner, vb.pp("linear1"))?,
            linear2: linear(inner, dims, vb.pp("linear2"))?,
            norm1: Norm::new(dims, vb.pp("norm1"))?,
            norm2: Norm::new(dims, vb.pp("norm2"))?,
            heads: config.nhead,
            dropout: config.dropout,
        })
    }

    /// What tokens [N, T, D] see of each other; `hidden` [N, 1, 1, T] is minus infinity where nobody may look.
    fn attend(&self, x: &Tensor, hidden: &Tensor) -> Result<Tensor> {
        let (n, len, dims) = x.dims3()?;
        let heads =
            |x: Tensor| x.reshape((n, len, self.heads, dims / self.heads))?.transpose(1, 2)?.contiguous();
        let [q, k, v] = <[Tensor; 3]>::try_from(self.in_proj.forward(x)?.chunk(3, D::Minus1)?)
            .map_err(|_| candle_core::Error::msg("the projection is not of three parts"))?;
        let (q, k, v) = (heads(q)?, heads(k)?, heads(v)?);
        let scores = (q.matmul(&k.t()?.contiguous()?)? / ((dims / self.heads) as f64).sqrt())?;
        let seen = softmax(&scores.broadcast_add(hidden)?, D::Minus1)?.matmul(&v)?;
        self.out_proj.forward(&seen.transpose(1, 2)?.reshape((n, len, dims))?)
    }

    fn forward(&self, x: &Tensor, hidden: &Tensor, cx: &Forward) -> Result<Tensor> {
        let seen = self.attend(x, hidden)?;
        let x = self.norm1.forward(&(x + cx.dropout(&seen, self.dropout)?)?)?;
        let inner = cx.dropout(&self.linear1.forward(&x)?.relu()?, self.dropout)?;
        let own = self.linear2.forward(&inner)?;
        self.norm2.forward(&(&x + cx.dropout(&own, self.dropout)?)?)
    }
}

/// Tokens to a class: embedding, waves that tell places, layers, the mean over the tokens, scores. Weights have the names
/// of shanty's `Supervised` network `Embedding, PositionalEncoding, TransformerEncoderLayer, PoolOverTime, Linear`.
pub struct Transformer {
    embedding: Embedding,
    layers: Vec<Layer>,
    out: Linear,
    waves: Waves,
}

impl Transformer {
    /// The network.
    pub fn new(config: &TransformerConfig, vb: VarBuilder<'_>) -> Result<Self> {
        if !config.d_model.is_multiple_of(config.nhead) {
            bail!("`nhead: {}` does not divide `d_model: {}`", config.nhead, config.d_model);
        }
        let place = |i: usize| vb.pp(format!("network.{i}"));
        Ok(Self {
            embedding: embedding(config.tokens, config.d_model, place(0))?,
            layers: (0..config.layers).map(|i| Layer::new(config, place(2 + i))).collect::<Result<_>>()?,
            out: linear(config.d_model, config.num_classes, place(3 + config.layers))?,
            waves: Waves { dims: config.d_model },
        })
    }

    fn scores(&self, batch: &Fields<'_>, cx: &Forward) -> Result<Tensor> {
        let tokens = batch.inputs()?;
        let (n, len) = tokens.dims2()?;
        // One where a word is, zero where it was filled up: [N, T].
        let place =
            Tensor::arange(0i64, len as i64, tokens.device())?.reshape((1, len))?.broadcast_as((n, len))?;
        let lengths = batch.field("inputs_lengths")?.reshape((n, 1))?.broadcast_as((n, len))?;
        let own = place.lt(&lengths)?.to_dtype(self.embedding.embeddings().dtype())?;
        let hidden = ((&own - 1.0)? * 1e9)?.reshape((n, 1, 1, len))?;
        let x = self.embedding.forward(&tokens)?;
        let x = x.broadcast_add(&self.waves.of(len, &x)?)?;
        let x = self.layers.iter().try_fold(x, |x, layer| layer.forward(&x, &hidden, cx))?;
        let x = x.broadcast_mul(&own.unsqueeze(2)?)?.sum(1)?.broadcast_div(&own.sum_keepdim(1)?)?;
        self.out.forward(&x)
    }
}

/// A sine and a cosine in turn, of wavelengths from 2π to 20000π.
struct Waves {
    dims: usize,
}

impl Waves {
    /// For so many places, [T, D], as `like` in kind and place.
    fn of(&self, len: usize, like: &Tensor) -> Result<Tensor> {
        let wave = |at: usize| {
            let (place, i) = (at / self.dims, at % self.dims);
            let angle = place as f64 * 10000f64.powf(-((i / 2 * 2) as f64) / self.dims as f64);
            if i % 2 == 0 { angle.sin() } else { angle.cos() }
        };
        let all: Vec<f64> = (0..len * self.dims).map(wave).collect();
        Tensor::from_vec(all, (len, self.dims), like.device())?.to_dtype(like.dtype())
    }
}

impl Network for Transformer {
    fn loss(&self, batch: &Fields<'_>, cx: &Forward) -> Result<Losses> {
        objective::cross_entropy(&self.scores(batch, cx)?, batch).map(Losses::new)
    }

    fn predict(&self, batch: &Fields<'_>, cx: &Forward) -> Result<Predictions> {
        objective::classes(&self.scores(batch, cx)?, batch)
    }

    fn reads(&self) -> FieldNeeds {
        objective::needs(&[INPUTS, "inputs_lengths"], SCORES)
    }
}

shanty_candle::register! {
    /// A transformer over tokens, in candle.
    "CandleTransformer" => Transformer::new
}

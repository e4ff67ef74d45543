//! A small transformer that tells the language of a word:
//! `cargo run --release --example transformer -- train configs/transformer.yaml`.

use std::process::ExitCode;

use burn::module::Module;
use burn::nn::transformer::{TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput};
use burn::nn::{
    Embedding, EmbeddingConfig, Linear, LinearConfig, PositionalEncoding, PositionalEncodingConfig,
};
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;
use shanty::base::{Error, Result};
use shanty_burn::{Fields, Losses, Network, Predictions, classified, cross_entropies};

/// What the config gives.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TransformerConfig {
    /// How many letters there are, with what fills short words up (0).
    #[schemars(range(min = 2))]
    pub letters: usize,
    /// Numbers of each letter, a multiple of the heads.
    #[schemars(range(min = 2))]
    pub width: usize,
    /// Heads of each attention.
    #[schemars(range(min = 1))]
    pub heads: usize,
    /// Layers.
    #[schemars(range(min = 1))]
    pub layers: usize,
    /// The share of numbers that is left out in training.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub dropout: f64,
    /// Classes.
    #[schemars(range(min = 2))]
    pub classes: usize,
    /// The longest word.
    #[schemars(range(min = 1))]
    pub longest: usize,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self { letters: 17, width: 16, heads: 2, layers: 1, dropout: 0.1, classes: 3, longest: 64 }
    }
}

/// Letters and their places, an encoder, and a linear map of its mean.
#[derive(Module, Debug)]
pub struct Transformer {
    embedding: Embedding,
    positions: PositionalEncoding,
    encoder: TransformerEncoder,
    head: Linear,
}

impl Transformer {
    /// # Errors
    /// When the width does not suit the heads.
    pub fn new(config: &TransformerConfig, device: &Device) -> Result<Self> {
        let TransformerConfig { letters, width, heads, layers, dropout, classes, longest } = *config;
        if width % heads != 0 || width % 2 != 0 {
            return Err(Error::config(format!(
                "`width: {width}` has to be even, and a multiple of `heads: {heads}`"
            )));
        }
        Ok(Self {
            embedding: EmbeddingConfig::new(letters, width).init(device),
            positions: PositionalEncodingConfig::new(width).with_max_sequence_size(longest).init(device),
            encoder: TransformerEncoderConfig::new(width, 2 * width, heads, layers)
                .with_dropout(dropout)
                .init(device),
            head: LinearConfig::new(width, classes).init(device),
        })
    }

    /// Of the letters of each word, N × L, filled up with 0: the mean over what is a letter.
    fn forward(&self, batch: &Fields<'_>) -> Result<Tensor<2>> {
        let letters = batch.int::<2>("inputs")?;
        let [n, longest] = letters.dims();
        let filling = letters.clone().equal_elem(0);
        let x = self.positions.forward(self.embedding.forward(letters));
        let x = self.encoder.forward(TransformerEncoderInput::new(x).mask_pad(filling.clone()));
        let [_, _, width] = x.dims();
        let counts = filling.bool_not().float().reshape([n, longest, 1]);
        let sums = (x * counts.clone()).sum_dim(1).reshape([n, width]);
        Ok(self.head.forward(sums / counts.sum_dim(1).reshape([n, 1]).clamp_min(1.0)))
    }
}

impl Network for Transformer {
    fn loss(&self, batch: &Fields<'_>) -> Result<Losses> {
        Ok(cross_entropies(self.forward(batch)?, batch)?.mean().into())
    }

    fn predict(&self, batch: &Fields<'_>) -> Result<Predictions> {
        classified(self.forward(batch)?, batch)
    }
}

shanty_burn::register! {
    /// A transformer over the letters of a word, on burn.
    "BurnTransformer" => Transformer::new
}

#[allow(dead_code)] // the tests take the network alone
fn main() -> ExitCode {
    shanty::cli::main()
}

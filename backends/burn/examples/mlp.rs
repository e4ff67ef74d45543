//! A network of two layers on the digits: `cargo run --release --example mlp -- train configs/mlp.yaml`.

use std::process::ExitCode;

use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;
use shanty::base::Result;
use shanty_burn::{Fields, Losses, Network, Predictions, classified, cross_entropies};

/// What the config gives.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MlpConfig {
    /// Numbers of a sample.
    #[schemars(range(min = 1))]
    pub inputs: usize,
    /// Units of the hidden layer.
    #[schemars(range(min = 1))]
    pub hidden: usize,
    /// Classes.
    #[schemars(range(min = 2))]
    pub classes: usize,
    /// The share of hidden units that is left out in training.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub dropout: f64,
    /// Whether a batch norm follows the first layer.
    pub norm: bool,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self { inputs: 64, hidden: 128, classes: 10, dropout: 0.2, norm: true }
    }
}

/// Two linear maps, with batch norm and dropout between them.
#[derive(Module, Debug)]
pub struct Mlp {
    fc1: Linear,
    norm: Option<BatchNorm>,
    dropout: Dropout,
    fc2: Linear,
}

impl Mlp {
    /// With weights that are drawn when they are first looked at.
    pub fn new(config: &MlpConfig, device: &Device) -> Result<Self> {
        let MlpConfig { inputs, hidden, classes, dropout, norm } = *config;
        Ok(Self {
            fc1: LinearConfig::new(inputs, hidden).init(device),
            norm: norm.then(|| BatchNormConfig::new(hidden).init(device)),
            dropout: DropoutConfig::new(dropout).init(),
            fc2: LinearConfig::new(hidden, classes).init(device),
        })
    }

    /// The scores of the classes, N × K.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.fc1.forward(x.flatten::<2>(1, 3));
        let x = match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        self.fc2.forward(self.dropout.forward(relu(x)))
    }
}

impl Network for Mlp {
    fn loss(&self, batch: &Fields<'_>) -> Result<Losses> {
        let logits = self.forward(batch.float::<4>("inputs")?);
        Ok(cross_entropies(logits, batch)?.mean().into())
    }

    fn predict(&self, batch: &Fields<'_>) -> Result<Predictions> {
        classified(self.forward(batch.float::<4>("inputs")?), batch)
    }
}

shanty_burn::register! {
    /// Two linear maps, with batch norm and dropout between them, on burn.
    "BurnMlp" => Mlp::new
}

#[allow(dead_code)] // the tests take the network alone
fn main() -> ExitCode {
    shanty::cli::main()
}

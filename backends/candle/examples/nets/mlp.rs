//! Fully connected layers, for rows of a table.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Linear, VarBuilder, linear};
use schemars::JsonSchema;
use serde::Deserialize;
use shanty::data::INPUTS;
use shanty::model::{FieldNeeds, SCORES};
use shanty_candle::{Fields, Forward, Losses, Network, Predictions, objective};

/// The keys of an [`Mlp`] in a config.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct MlpConfig {
    /// Numbers of a sample, of each hidden layer, and of the result.
    #[schemars(length(min = 2))]
    widths: Vec<usize>,
    /// Probability with which dropout zeroes a number behind a hidden layer.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    dropout: f64,
    /// What the last layer gives: scores of classes, or numbers.
    #[serde(default)]
    task: Task,
}

/// What is learnt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One class a sample, by cross entropy.
    #[default]
    Classes,
    /// Numbers, by mean squared error.
    Numbers,
}

/// Layers with rectifiers between them; they have the names of a `Supervised` network `Linear, ReLU, Dropout, Linear, …`.
pub struct Mlp {
    layers: Vec<Linear>,
    dropout: f64,
    task: Task,
}

impl Mlp {
    /// The network.
    pub fn new(config: &MlpConfig, vb: VarBuilder<'_>) -> Result<Self> {
        let layer = |(i, widths): (usize, &[usize])| {
            linear(widths[0], widths[1], vb.pp(format!("network.{}", 3 * i)))
        };
        let layers = config.widths.windows(2).enumerate().map(layer).collect::<Result<_>>()?;
        Ok(Self { layers, dropout: config.dropout, task: config.task })
    }

    fn forward(&self, x: &Tensor, cx: &Forward) -> Result<Tensor> {
        self.with(x, |x| cx.dropout(&x, self.dropout))
    }

    /// Without dropout, for a loop of one's own.
    pub fn plain(&self, x: &Tensor) -> Result<Tensor> {
        self.with(x, Ok)
    }

    fn with(&self, x: &Tensor, between: impl Fn(Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let mut x = x.flatten_from(1)?;
        for (i, layer) in self.layers.iter().enumerate() {
            if i > 0 {
                x = between(x.relu()?)?;
            }
            x = layer.forward(&x)?;
        }
        Ok(x)
    }
}

impl Network for Mlp {
    fn loss(&self, batch: &Fields<'_>, cx: &Forward) -> Result<Losses> {
        let y = self.forward(&batch.inputs()?, cx)?;
        Ok(Losses::new(match self.task {
            Task::Classes => objective::cross_entropy(&y, batch)?,
            Task::Numbers => objective::squared_error(&y, batch)?,
        }))
    }

    fn predict(&self, batch: &Fields<'_>, cx: &Forward) -> Result<Predictions> {
        let y = self.forward(&batch.inputs()?, cx)?;
        match self.task {
            Task::Classes => objective::classes(&y, batch),
            Task::Numbers => objective::numbers(&y, batch),
        }
    }

    fn reads(&self) -> FieldNeeds {
        let output = if self.task == Task::Classes { SCORES } else { "prediction" };
        objective::needs(&[INPUTS], output)
    }
}

shanty_candle::register! {
    /// Fully connected layers with rectifiers and dropout between them, in candle.
    "CandleMlp" => Mlp::new
}

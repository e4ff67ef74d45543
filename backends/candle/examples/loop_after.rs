//! What becomes of loop_before.rs: the network stays, the loop goes. docs/backends.md has both side by side.
//! `cargo run --release --example loop_after -- train configs/loop_after.yaml`
#![allow(missing_docs)] // an example

use candle_core::{Module, Result, Tensor};
use candle_nn::{Linear, VarBuilder, linear};
use shanty_candle::{Fields, Forward, Losses, Network, Predictions, objective};

struct Mlp {
    hidden: Linear,
    out: Linear,
}

#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
struct MlpConfig {
    /// Units of the hidden layer.
    units: usize,
}

impl Mlp {
    fn new(config: &MlpConfig, vb: VarBuilder<'_>) -> Result<Self> {
        let units = config.units;
        Ok(Self { hidden: linear(64, units, vb.pp("hidden"))?, out: linear(units, 10, vb.pp("out"))? })
    }

    fn forward(&self, x: &Tensor, cx: &Forward) -> Result<Tensor> {
        let x = self.hidden.forward(&(x.flatten_from(1)? / 16.0)?)?.relu()?;
        self.out.forward(&cx.dropout(&x, 0.1)?)
    }
}

impl Network for Mlp {
    fn loss(&self, batch: &Fields<'_>, cx: &Forward) -> Result<Losses> {
        let scores = self.forward(&batch.inputs()?, cx)?;
        Ok(Losses::new(objective::cross_entropy(&scores, batch)?))
    }

    fn predict(&self, batch: &Fields<'_>, cx: &Forward) -> Result<Predictions> {
        objective::classes(&self.forward(&batch.inputs()?, cx)?, batch)
    }
}

shanty_candle::register! {
    /// One hidden layer for the digits.
    "MyMlp" => Mlp::new
}

fn main() -> std::process::ExitCode {
    shanty::cli::main()
}

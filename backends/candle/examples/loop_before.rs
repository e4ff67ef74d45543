//! A training loop of candle as one writes it: docs/backends.md has it beside loop_after.rs.
#![allow(clippy::print_stdout, missing_docs)] // an example speaks

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::{AdamW, Linear, Optimizer, VarBuilder, VarMap, linear, loss, ops};

struct Mlp {
    hidden: Linear,
    out: Linear,
}

impl Mlp {
    fn new(units: usize, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self { hidden: linear(64, units, vb.pp("hidden"))?, out: linear(units, 10, vb.pp("out"))? })
    }

    fn forward(&self, x: &Tensor, training: bool) -> Result<Tensor> {
        let x = self.hidden.forward(x)?.relu()?;
        self.out.forward(&if training { ops::dropout(&x, 0.1)? } else { x })
    }
}

fn main() -> Result<()> {
    let (images, labels) = digits()?;
    let weights = VarMap::new();
    let net = Mlp::new(32, VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu))?;
    let mut adam = AdamW::new_lr(weights.all_vars(), 0.01)?;
    for epoch in 0..5 {
        for batch in 0..46 {
            let (x, y) = (images.narrow(0, 32 * batch, 32)?, labels.narrow(0, 32 * batch, 32)?);
            let loss = loss::cross_entropy(&net.forward(&x, true)?, &y)?;
            adam.backward_step(&loss)?;
        }
        let right = net.forward(&images, false)?.argmax(1)?.eq(&labels)?.to_dtype(DType::F32)?;
        println!("epoch {epoch}: {}", right.mean_all()?);
    }
    weights.save(std::env::temp_dir().join("mlp.safetensors"))
}

/// Pixels from 0 to 1 and classes of the digits in shanty.
fn digits() -> Result<(Tensor, Tensor)> {
    use shanty::data::{DataLoader, Digits, DigitsSplit, SplitBy};
    let set = Digits::load(DigitsSplit::Train, SplitBy::Index).map_err(candle_core::Error::wrap)?;
    let loader = DataLoader::new(set).batch_size(1498).shuffle(false);
    let batch = loader.batches(0, Some(1)).next().ok_or_else(|| candle_core::Error::msg("no batch"))?;
    let batch = batch.map_err(candle_core::Error::wrap)?;
    let pixels: Vec<f32> =
        batch.inputs().map_err(candle_core::Error::wrap)?.iter().map(|v| v / 16.0).collect();
    let classes = batch.labels().map_err(candle_core::Error::wrap)?.iter().map(|class| *class as u32);
    Ok((Tensor::from_vec(pixels, (1498, 64), &Device::Cpu)?, Tensor::from_iter(classes, &Device::Cpu)?))
}

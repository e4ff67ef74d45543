//! Logits of a LeNet-5 checkpoint for the first 16 validation digits, as JSON for `scripts/parity_load.py`.
//!
//! `cargo run --release --example lenet_logits -- CHECKPOINT OUT.json`
#![allow(clippy::print_stdout)] // an example speaks

use std::path::Path;

use anyhow::Context;
use serde_json::json;
use shanty::base::keyed;
use shanty::data::{DataLoader, Digits, DigitsSplit, Pipeline, Resize, SplitBy};
use shanty::model::LeNet5;
use shanty::nn::{Autograd, Module};

/// The backbone under the name that it has in a classifier.
struct Net {
    backbone: LeNet5,
}
shanty::module!(Net { backbone });

fn main() -> anyhow::Result<()> {
    let (Some(checkpoint), Some(out)) = (std::env::args().nth(1), std::env::args().nth(2)) else {
        println!("usage: lenet_logits CHECKPOINT OUT.json");
        return Ok(());
    };
    let mut net = Net { backbone: LeNet5::new(Some(10), 1)? };
    let report = shanty::checkpoint::read_tensors(Path::new(&checkpoint))?.load_into(&mut net)?;
    anyhow::ensure!(report.is_exact(), "{report}");

    let resize = Resize { width: 32, height: 32, keep_ratio: false, filter: Default::default() };
    let digits =
        Digits::load(DigitsSplit::Val, SplitBy::Index)?.with_pipeline(Pipeline::new(vec![Box::new(resize)]));
    let batch = DataLoader::new(digits).batch_size(16).batches(0, Some(1)).next();
    let inputs = batch.context("there are digits")??.inputs()?.mapv(|x| (x - 4.88) / 6.0);
    let logits = Autograd::default().eval(&mut net, &mut keyed(0, "logits", 0, 0), |net, tape, cx| {
        let x = tape.input(inputs.clone().into_shared());
        Ok(net.backbone.forward(x, cx)?.value().to_owned())
    })?;
    let array = |a: &ndarray::ArrayD<_>| json!({"shape": a.shape(), "data": a.iter().collect::<Vec<_>>()});
    std::fs::write(out, json!({"inputs": array(&inputs), "logits": array(&logits)}).to_string())?;
    Ok(())
}

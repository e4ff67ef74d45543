//! A run without YAML: a small network on the embedded digits.
#![allow(clippy::print_stdout)] // an example speaks

use shanty::data::{DataLoader, DefaultSampler, Digits, DigitsSplit, LoaderOptions, SplitBy};
use shanty::metric::{Accuracy, Evaluator};
use shanty::model::{ClsHead, ImageClassifier, MLP};
use shanty::nn::ReLU;
use shanty::optim::{OptimWrapper, Sgd};
use shanty::run::{EpochBasedTrainLoop, Evaluation, Intervals, Runner};

fn main() -> anyhow::Result<()> {
    let digits = |split, shuffle| {
        let options = LoaderOptions { batch_size: 32, ..LoaderOptions::default() };
        DataLoader::new(
            Digits::load(split, SplitBy::Index)?,
            DefaultSampler { shuffle, ..DefaultSampler::default() },
            options,
        )
    };
    let network = MLP::new(&[64, 64, 10], Box::new(ReLU::default()))?;
    let evaluator = Evaluator::new(vec![Box::new(Accuracy::default())])?;
    let mut runner = Runner::builder()
        .model(ImageClassifier::new(network, ClsHead::default()))
        .train_data(digits(DigitsSplit::Train, true)?)
        .train_loop(EpochBasedTrainLoop { max_epochs: 5, val: Intervals::every(5) })
        .optim(OptimWrapper::new(Sgd::new(0.01).momentum(0.9)))
        .evaluate(Evaluation::new(digits(DigitsSplit::Val, false)?, evaluator))
        .work_dir(std::env::temp_dir().join("shanty_quickstart"))
        .overwrite(true) // what an earlier run of this example left there
        .with_seed(0)
        .build()?;
    println!("{:?}", runner.train()?);
    let accuracy = runner.val()?.get("accuracy/top1").unwrap_or(0.0);
    println!("accuracy: {accuracy:.2} %");
    anyhow::ensure!(accuracy > 90.0, "five epochs should give more than 90 %");
    Ok(())
}

//! A run without YAML: a small network on the embedded digits.
use shanty::data::{DataLoader, DefaultSampler, Digits, DigitsSplit, LoaderOptions};
use shanty::metric::{Accuracy, Evaluator};
use shanty::model::ImageClassifier;
use shanty::optim::{OptimWrapper, Sgd};
use shanty::run::{EpochBasedTrainLoop, Evaluation, Intervals, Runner};

fn main() -> anyhow::Result<()> {
    let data = |split, shuffle| {
        let options = LoaderOptions { batch_size: 32, ..LoaderOptions::default() };
        DataLoader::new(Digits::new(split)?, DefaultSampler { shuffle, ..DefaultSampler::default() }, options)
    };
    let model = ImageClassifier::from_yaml(
        "backbone: {type: MLP, sizes: [64, 64, 10]}
         head: {type: ClsHead}
         data_preprocessor: {type: ClsDataPreprocessor, mean: [4.88], std: [6.0]}",
    )?;
    let mut runner = Runner::builder()
        .model(model)
        .train_data(data(DigitsSplit::Train, true)?)
        .train_loop(EpochBasedTrainLoop { max_epochs: 5, val: Intervals::every(5) })
        .optim(OptimWrapper::new(Sgd::new(0.1).momentum(0.9)))
        .evaluate(Evaluation::new(
            data(DigitsSplit::Val, false)?,
            Evaluator::new(vec![Box::new(Accuracy::default())])?,
        ))
        .work_dir(std::env::temp_dir().join("shanty_quickstart"))
        .with_seed(0)
        .build()?;
    println!("{:?}", runner.train()?);
    let accuracy = runner.val()?.get("accuracy/top1").unwrap_or(0.0);
    println!("accuracy: {accuracy:.2} %");
    anyhow::ensure!(accuracy > 90.0, "five epochs should give more than 90 %");
    Ok(())
}

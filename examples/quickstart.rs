//! A run without YAML: a small network on the embedded digits.
#![allow(clippy::print_stdout)] // an example speaks

use shanty::prelude::*;

fn main() -> anyhow::Result<()> {
    let digits = |split| Ok::<_, Error>(DataLoader::new(Digits::load(split, SplitBy::Index)?).batch_size(32));
    let network = MLP::new(&[64, 64, 10], Box::new(ReLU::default()))?;
    let train = digits(DigitsSplit::Train)?.shuffle(true);

    let mut runner = Runner::builder(ImageClassifier::new(network, ClsHead::default()))
        .train(train, EpochBasedTrainLoop::new(5).val_interval(5), Sgd::new(0.01).momentum(0.9))
        .val(digits(DigitsSplit::Val)?, Accuracy::default())
        .work_dir(std::env::temp_dir().join("shanty_quickstart"))
        .overwrite(true) // what an earlier run of this example left there
        .seed(0)
        .build()?;
    println!("{:?}", runner.train()?);

    let accuracy = runner.val()?.get("accuracy/top1").unwrap_or(0.0);
    println!("accuracy: {accuracy:.2} %");
    anyhow::ensure!(accuracy > 90.0, "five epochs should give more than 90 %");
    Ok(())
}

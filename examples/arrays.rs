//! One's own arrays, one's own network: three arms of a spiral are told apart.
#![allow(clippy::print_stdout)] // an example speaks

use shanty::ndarray::{Array1, Array2};
use shanty::prelude::*;

/// Points of three arms that wind around each other, and the number of each point's arm.
fn spirals() -> (Array2<f32>, Array1<i64>) {
    let angle = |n: usize| (n / 3) as f32 / 200.0 * 6.0 + (n % 3) as f32 * std::f32::consts::TAU / 3.0;
    let point = |(n, axis): (usize, usize)| {
        (n / 3) as f32 / 200.0 * if axis == 0 { angle(n).cos() } else { angle(n).sin() }
    };
    (Array2::from_shape_fn((600, 2), point), Array1::from_shape_fn(600, |n| (n % 3) as i64))
}

fn main() -> anyhow::Result<()> {
    let (x, y) = spirals();
    let (train, val) = ArrayDataset::new("inputs", x)?.with("target", y)?.holdout(0.2, 0)?;
    let network = Sequential::new().with(Linear::new(2, 32)).with(Tanh::new()).with(Linear::new(32, 32));
    let network = network.with(Tanh::new()).with(Linear::new(32, 3));

    let train = DataLoader::new(train).batch_size(32).shuffle(true);
    let mut runner = Runner::builder(Supervised::new(network, CrossEntropyLoss::default()))
        .train(train, EpochBasedTrainLoop::new(40).val_interval(10), Adam::new(0.01))
        .val(DataLoader::new(val).batch_size(32), Accuracy::default())
        .work_dir(std::env::temp_dir().join("shanty_arrays"))
        .overwrite(true) // what an earlier run of this example left there
        .seed(0)
        .build()?;
    runner.train()?;

    let accuracy = runner.val()?.get("accuracy/top1").unwrap_or(0.0);
    println!("accuracy: {accuracy:.2} %");
    anyhow::ensure!(accuracy > 95.0, "a network of two layers tells the arms apart");
    Ok(())
}

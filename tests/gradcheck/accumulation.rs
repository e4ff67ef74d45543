//! The law of accumulation: k batches of b are one batch of k b, also in the window that an epoch's end cuts short.

use ndarray::Array2;
use shanty::base::Elem;
use shanty::data::{ArrayDataset, DataLoader};
use shanty::model::{Model, Supervised};
use shanty::nn::{CrossEntropyLoss, GELU, LayerNorm, Linear, Sequential};
use shanty::optim::{Adam, ClipGrad, OptimWrapper, Sgd};
use shanty::params::StateDict;
use shanty::run::{EpochBasedTrainLoop, Runner};

use super::probe::F64;

/// Three classes of 37 samples: with 4 a batch the tenth has one sample, and the fourth window is that batch alone.
fn data() -> ArrayDataset {
    let inputs = Array2::from_shape_fn((37, 6), |(n, i)| ((7 * n + 3 * i) as f32 * 0.37).sin());
    let target = ndarray::Array1::from_shape_fn(37, |n| (n * n % 3) as i64);
    ArrayDataset::new("inputs", inputs).unwrap().with("target", target).unwrap()
}

/// The weights after five epochs.
fn trained(batch: usize, window: u64, optimizer: &dyn Fn() -> OptimWrapper) -> Vec<(String, Vec<Elem>)> {
    let network = Sequential::new()
        .with(Linear::new(6, 16))
        .with(LayerNorm::new(16))
        .with(GELU::default())
        .with(Linear::new(16, 3));
    let dir = tempfile::tempdir().unwrap();
    let loader = DataLoader::new(data()).batch_size(batch).shuffle(true);
    let mut runner = Runner::builder(Supervised::new(network, CrossEntropyLoss::default()))
        .train(loader, EpochBasedTrainLoop::new(5), optimizer().accumulate(window))
        .seed(7)
        .work_dir(dir.path())
        .build()
        .unwrap();
    runner.train().unwrap();
    let model: &mut dyn Model = runner.model().unwrap();
    let state = StateDict::of(model).unwrap();
    state.0.iter().map(|(name, value)| (name.clone(), value.value.iter().copied().collect())).collect()
}

/// In f64 to 1e-12 of the largest weight, after 20 updates, with clipping, momentum and Adam's quotients.
#[test]
fn k_batches_of_b_are_one_batch_of_k_b() {
    let sgd = || {
        let clip = ClipGrad { max_norm: Some(0.5), ..ClipGrad::default() };
        OptimWrapper::new(Sgd::new(0.1).momentum(0.9).weight_decay(1e-4)).clip(clip)
    };
    let adam = || OptimWrapper::new(Adam::decoupled(1e-2));
    let optimizers: [(&str, &dyn Fn() -> OptimWrapper); 2] = [("SGD", &sgd), ("AdamW", &adam)];
    for (name, optimizer) in optimizers {
        let whole = trained(12, 1, optimizer);
        for (batch, window) in [(4, 3), (6, 2), (3, 4), (2, 6), (1, 12)] {
            let parts = trained(batch, window, optimizer);
            let (mut most, mut largest) = (0.0_f64, 0.0_f64);
            for ((of, a), (also, b)) in parts.iter().zip(&whole) {
                assert_eq!(of, also);
                for (a, b) in a.iter().zip(b) {
                    most = most.max(f64::from((a - b).abs()));
                    largest = largest.max(f64::from(b.abs()));
                }
            }
            println!(
                "{name}: {window} batches of {batch} differ by {:.1e} of the largest weight",
                most / largest
            );
            assert!(most <= if F64 { 1e-12 } else { 1e-4 } * largest, "{name} {window} x {batch}: {most}");
        }
    }
}

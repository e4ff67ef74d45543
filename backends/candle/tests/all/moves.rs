//! What moves between host and device: a batch up, the losses down, and no weight until somebody saves.

use std::path::Path;
use std::sync::{Arc, Mutex};

use shanty::data::{ArrayDataset, DataLoader};
use shanty::hook::Point;
use shanty::hook::builtin::{CheckInvalidLossHook, EMAHook};
use shanty::metric::Accuracy;
use shanty::ndarray::{Array1, Array2};
use shanty::optim::{Adam, ClipGrad, OptimWrapper, Optimizer, Sgd};
use shanty::run::{EpochBasedTrainLoop, Runner, RunnerBuilder};
use shanty::testing::Signs;
use shanty_candle::CandleModel;

use crate::support::{candle, data};

fn run(dir: &Path, model: CandleModel, optim: Box<dyn Optimizer>) -> RunnerBuilder {
    let (train, val) = data("resnet");
    let optim = OptimWrapper::boxed(optim).accumulate(2).clip(ClipGrad::by_norm(0.5));
    Runner::builder(model)
        .train(DataLoader::new(train).batch_size(8), EpochBasedTrainLoop::new(2), optim)
        .val(DataLoader::new(val).batch_size(16), Accuracy::new(vec![1], vec![None]).unwrap())
        .work_dir(dir)
        .seed(0)
}

/// In each iteration two fields go up, and nothing of the weights moves: not for the sum of two batches, the clipping,
/// the update, the average, the look at losses.
#[test]
fn an_iteration_moves_a_batch_and_no_weights() {
    let optimizers: [Box<dyn Optimizer>; 3] = [
        Box::new(Sgd::new(0.1).momentum(0.9).weight_decay(1e-3)),
        Box::new(Adam::new(0.01)),
        Box::new(Adam::decoupled(0.01)),
    ];
    for optim in optimizers {
        let dir = tempfile::tempdir().unwrap();
        let model = candle("resnet");
        let transfers = model.transfers();
        let (counts, seen) = (Arc::new(Mutex::new(Vec::new())), transfers.clone());
        let noted = Arc::clone(&counts);
        let mut runner = run(dir.path(), model, optim)
            .hook(EMAHook::new(0.1, 0))
            .hook(CheckInvalidLossHook::default())
            .on(Point::BeforeTrainIter, move |cx, _| {
                noted.lock().unwrap().push((
                    cx.progress.epoch,
                    seen.weights(),
                    seen.batches(),
                    seen.numbers(),
                ));
                Ok(())
            })
            .build()
            .unwrap();
        runner.train().unwrap();
        let counts = counts.lock().unwrap();
        assert_eq!(counts.len(), 40);
        let mut waits = 0;
        for pair in counts.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            assert_eq!(pair[0].1, pair[1].1, "an iteration moved weights");
            assert_eq!(pair[0].2 + 2, pair[1].2, "inputs and target go up once");
            waits += pair[1].3 - pair[0].3;
        }
        // The losses of each iteration, and a norm where the window is full: 19 + 9 in the first epoch, and so in the second.
        assert_eq!(waits, 2 * (19 + 9));
        assert!(transfers.weights() > counts[39].1, "a save reads the weights");
    }
}

/// Without a formula on the device gradients and values go to the host and back in each update.
#[test]
fn an_optimizer_of_the_host_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let model = candle("mlp");
    let transfers = model.transfers();
    let (inputs, target) =
        (Array2::from_shape_fn((16, 12), |(i, j)| (i * j % 5) as f32), Array1::from_elem(16, 1i64));
    let set = ArrayDataset::new("inputs", inputs).unwrap().with("target", target).unwrap();
    let train_loop = EpochBasedTrainLoop::new(1);
    let mut runner = Runner::builder(model)
        .train(DataLoader::new(set).batch_size(8), train_loop, OptimWrapper::new(Signs::new(0.01)))
        .without_default_hooks()
        .work_dir(dir.path())
        .seed(0)
        .build()
        .unwrap();
    runner.train().unwrap();
    // Six weights are drawn; in each of two updates six gradients come down, six values come down and go up.
    assert_eq!(transfers.weights(), 6 + 2 * (6 + 2 * 6));
}

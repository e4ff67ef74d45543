//! What moves between host and device: a batch up, the losses down, and no weight until somebody saves.

use std::path::Path;
use std::sync::{Arc, Mutex};

use shanty::data::{ArrayDataset, DataLoader};
use shanty::hook::builtin::{CheckInvalidLossHook, EMAHook};
use shanty::metric::Accuracy;
use shanty::ndarray::{Array1, Array2};
use shanty::optim::{Adam, ClipGrad, OptimWrapper, Optimizer, Sgd};
use shanty::plugin::prelude::*;
use shanty::run::{EpochBasedTrainLoop, Runner, RunnerBuilder};
use shanty::testing::Signs;
use shanty_candle::{CandleModel, Transfers};

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

type Counts = Arc<Mutex<Vec<(u64, u64, u64, u64)>>>;

/// Notes the epoch and what was moved before each iteration, and reads no losses.
struct Count(Transfers, Counts);

impl Hook for Count {
    fn before_train_iter(&mut self, cx: &mut Ctx<'_>, _: &mut Batch) -> HookResult {
        let Self(moved, counts) = self;
        counts.lock().unwrap().push((cx.progress.epoch, moved.weights(), moved.batches(), moved.numbers()));
        Ok(())
    }

    fn reads_numbers(&self, _: Point, _: &Progress) -> bool {
        false
    }
}

/// In each iteration two fields go up, and nothing of the weights moves: not for the sum of two batches, the clipping,
/// the update, the average. Losses come down where they are logged.
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
        let counts = Counts::default();
        let mut runner = run(dir.path(), model, optim)
            .hook(EMAHook::new(0.1, 0))
            .hook(CheckInvalidLossHook::default())
            .hook(Count(transfers.clone(), Arc::clone(&counts)))
            .build()
            .unwrap();
        runner.train().unwrap();
        let counts = counts.lock().unwrap();
        assert_eq!(counts.len(), 40);
        for (at, pair) in counts.windows(2).enumerate().filter(|(_, pair)| pair[0].0 == pair[1].0) {
            assert_eq!(pair[0].1, pair[1].1, "an iteration moved weights");
            assert_eq!(pair[0].2 + 2, pair[1].2, "inputs and target go up once");
            // A norm where the window is full, and the losses since the last line of the log: where the first iteration
            // and the first window end, hooks are asked that will not come again.
            let (iter, waits) = (at + 1, pair[1].3 - pair[0].3);
            let losses = match iter {
                1 | 2 => 1,
                10 => 8,
                30 => 10,
                _ => 0,
            };
            assert_eq!(waits, losses + u64::from(iter % 2 == 0), "iteration {iter}");
        }
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

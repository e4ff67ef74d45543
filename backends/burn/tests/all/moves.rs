//! What moves between host and device in a run: no weight until somebody saves.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use shanty::data::{DataLoader, Synthetic};
use shanty::hook::Point;
use shanty::hook::builtin::{CheckInvalidLossHook, EMAHook};
use shanty::metric::Accuracy;
use shanty::optim::{Adam, ClipGrad, Lion, OptimWrapper, Optimizer, Sgd};
use shanty::run::{EpochBasedTrainLoop, Runner};
use shanty_burn::BurnModel;

use crate::resnet;

/// The tensors moved before each of 40 iterations in two epochs, and at the end.
fn moved(optim: Box<dyn Optimizer>) -> (Vec<(u64, u64)>, u64) {
    let dir = tempfile::tempdir().unwrap();
    let config = resnet::ResNetConfig { channels: 4, ..Default::default() };
    let model = BurnModel::new(move |device| resnet::ResNet::new(&config, device)).unwrap();
    let transfers = model.transfers();
    let (counts, seen) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&transfers));
    let noted = Arc::clone(&counts);
    let data = |n| DataLoader::new(Synthetic::new(n, [1, 8, 8], 10, 0)).batch_size(8);
    let optim = OptimWrapper::boxed(optim).accumulate(2).clip(ClipGrad::by_norm(0.5));
    let mut runner = Runner::builder(model)
        .train(data(160), EpochBasedTrainLoop::new(2), optim)
        .val(data(16), Accuracy::default())
        .work_dir(dir.path())
        .seed(0)
        .hook(EMAHook::new(0.1, 0))
        .hook(CheckInvalidLossHook::default())
        .on(Point::BeforeTrainIter, move |cx, _| {
            noted.lock().unwrap().push((cx.progress.epoch, seen.load(Ordering::Relaxed)));
            Ok(())
        })
        .build()
        .unwrap();
    runner.train().unwrap();
    let counts = counts.lock().unwrap().clone();
    (counts, transfers.load(Ordering::Relaxed))
}

/// Nothing of the weights moves for the sum of two batches, the clipping, the update, the average, the look at losses.
#[test]
fn an_iteration_moves_no_weights() {
    let optimizers: [Box<dyn Optimizer>; 3] = [
        Box::new(Sgd::new(0.1).momentum(0.9).weight_decay(1e-3)),
        Box::new(Adam::new(0.01)),
        Box::new(Adam::decoupled(0.01)),
    ];
    for optim in optimizers {
        let (counts, end) = moved(optim);
        assert_eq!(counts.len(), 40);
        for pair in counts.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            assert_eq!(pair[0].1, pair[1].1, "an iteration moved weights");
        }
        assert!(end > counts[39].1, "a save reads the weights");
    }
}

/// Without a formula on the device gradients come down, and values go down and up, in each update.
#[test]
fn an_optimizer_of_the_host_is_counted() {
    let (counts, _) = moved(Box::new(Lion { lr: 0.01, ..Lion::default() }));
    // Nine convolutions, nine norms and a linear map are trained; an update ends every second iteration.
    let trained = 9 + 2 * 9 + 2;
    let of_first: Vec<u64> = counts.windows(2).take(4).map(|pair| pair[1].1 - pair[0].1).collect();
    assert_eq!(of_first, [0, 3 * trained, 0, 3 * trained]);
}

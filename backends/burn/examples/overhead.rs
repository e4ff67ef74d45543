//! What the Runner costs beside a loop of burn's own, and how long a save holds the training up:
//! `cargo run --release --example overhead`.
#![allow(clippy::print_stdout)] // an example speaks

use std::sync::{Arc, Mutex};
use std::time::Instant;

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use shanty::base::Result;
use shanty::data::{DataLoader, Synthetic};
use shanty::hook::Point;
use shanty::optim::Sgd;
use shanty::run::{IterBasedTrainLoop, Runner};
use shanty_burn::BurnModel;

#[path = "mlp.rs"]
mod mlp;
#[path = "resnet.rs"]
mod resnet;

use resnet::{ResNet, ResNetConfig};

const STEPS: u64 = 30;
const BATCH: usize = 64;

fn config() -> ResNetConfig {
    ResNetConfig { blocks: 1, channels: 16, classes: 10 }
}

/// A loop as burn's book has it, on batches that are there. The seconds of each step.
fn own_loop() -> Result<Vec<f64>> {
    let device = Device::default().autodiff();
    let mut net = ResNet::new(&config(), &device)?;
    let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: false };
    let mut optim = SgdConfig::new().with_momentum(Some(momentum)).init();
    let objective = CrossEntropyLossConfig::new().init(&device);
    let pixels: Vec<f32> = (0..BATCH * 64).map(|i| (i as f32 * 0.37).sin()).collect();
    let classes: Vec<i64> = (0..BATCH as i64).map(|i| i % 10).collect();
    let (mut seconds, mut before) = (Vec::new(), Instant::now());
    for _ in 0..=STEPS {
        let x = Tensor::<4>::from_data(TensorData::new(pixels.clone(), [BATCH, 1, 8, 8]), &device);
        let y = Tensor::<1, Int>::from_data(TensorData::new(classes.clone(), [BATCH]), &device);
        let loss = objective.forward(net.forward(x), y);
        let gradients = GradientsParams::from_grads(loss.backward(), &net);
        net = optim.step(0.01, net, gradients);
        let _: f32 = loss.into_scalar();
        seconds.push(before.elapsed().as_secs_f64());
        before = Instant::now();
    }
    drop(net.valid());
    // The first is warming up.
    Ok(seconds.split_off(1))
}

/// The same under the Runner, with its default hooks: logging, timers, checks.
fn under_the_runner() -> Result<Vec<f64>> {
    let dir = tempfile::tempdir().map_err(|e| shanty::base::Error::Other(e.into()))?;
    let model = BurnModel::new(|device| ResNet::new(&config(), device))?;
    let data =
        DataLoader::new(Synthetic::new(BATCH * (STEPS as usize + 1), [1, 8, 8], 10, 0)).batch_size(BATCH);
    let times = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&times);
    let mut runner = Runner::builder(model)
        .train(data, IterBasedTrainLoop::new(STEPS + 1), Sgd::new(0.01).momentum(0.9))
        .work_dir(dir.path())
        .on(Point::AfterTrainIter, move |_, _| {
            if let Ok(mut times) = noted.lock() {
                times.push(Instant::now());
            }
            Ok(())
        })
        .build()?;
    runner.train()?;
    let times = times.lock().map(|times| times.clone()).unwrap_or_default();
    Ok(times.windows(2).map(|two| two[1].duration_since(two[0]).as_secs_f64()).collect())
}

/// How long an iteration is held up by the save before it, of 50 MB of weights and as much momentum: the first save of a
/// run, which waits for no other. Seconds.
fn stall() -> Result<f64> {
    let dir = tempfile::tempdir().map_err(|e| shanty::base::Error::Other(e.into()))?;
    let config = mlp::MlpConfig { inputs: 64, hidden: 166_000, classes: 10, dropout: 0.0, norm: false };
    let model = BurnModel::new(move |device| mlp::Mlp::new(&config, device))?;
    let data = DataLoader::new(Synthetic::new(64, [1, 8, 8], 10, 0)).batch_size(4);
    let (asked, held) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(f64::NAN)));
    let (ends, begins, noted) = (Arc::clone(&asked), asked, Arc::clone(&held));
    let mut runner = Runner::builder(model)
        .train(data, IterBasedTrainLoop::new(5), Sgd::new(0.01).momentum(0.9))
        .without_default_hooks()
        .hook_yaml(
            "{type: CheckpointHook, interval: 4, by_epoch: false, max_keep_ckpts: 1, save_last: false}",
        )?
        .on(Point::AfterTrainIter, move |cx, _| {
            if let Ok(mut asked) = ends.lock() {
                *asked = cx.progress.iter.is_multiple_of(4).then(Instant::now);
            }
            Ok(())
        })
        .on(Point::BeforeTrainIter, move |_, _| {
            if let (Ok(mut asked), Ok(mut held)) = (begins.lock(), noted.lock())
                && let Some(since) = asked.take()
            {
                *held = since.elapsed().as_secs_f64();
            }
            Ok(())
        })
        .work_dir(dir.path())
        .build()?;
    runner.train()?;
    let held = held.lock().map(|held| *held);
    Ok(held.unwrap_or(f64::NAN))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<()> {
    let rounds = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(9);
    let (mut own, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        // Who comes first changes.
        let (a, b) = if round % 2 == 0 {
            let a = own_loop()?;
            (a, under_the_runner()?)
        } else {
            let b = under_the_runner()?;
            (own_loop()?, b)
        };
        ratios.push(median(b.clone()) / median(a.clone()));
        own.extend(a);
        ours.extend(b);
    }
    let (own, ours) = (median(own), median(ours));
    let (low, high) = ratios.iter().fold((f64::MAX, 0.0f64), |(low, high), r| (low.min(*r), high.max(*r)));
    println!(
        "a step: own loop {:.3} ms, Runner {:.3} ms, ratio {:.4}; of single rounds {low:.4} to {high:.4}, their median {:.4}",
        own * 1e3,
        ours * 1e3,
        ours / own,
        median(ratios)
    );
    let held = (0..3).map(|_| stall()).collect::<Result<Vec<_>>>()?;
    println!("a save of 100 MB holds the training up for {:.1} ms", median(held) * 1e3);
    Ok(())
}

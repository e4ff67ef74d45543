//! What the Runner costs beside candle's own training loop: the same network, batches and updates, in turns. Then, what
//! a save costs the training.
//!
//! `MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4294967296 cargo run --release --example overhead`, and `-- MLP`,
//! `-- ResNet` or `-- save` for one of its parts; on a GPU with `CANDLE_DEVICE=cuda` and `--features cuda`.
//! The two variables keep glibc from giving memory back in each step, which makes candle's steps come in two speeds.
#![allow(clippy::print_stdout)] // an example speaks

mod nets;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use candle_core::{DType, Tensor, Var};
use candle_nn::{VarBuilder, VarMap, loss::cross_entropy};
use serde::de::DeserializeOwned;
use shanty::base::{Error, Result};
use shanty::config::parse;
use shanty::data::{DataLoader, Dataset, Digits, DigitsSplit, SplitBy};
use shanty::hook::{Ctx, Event, HookResult, Point};
use shanty::optim::{OptimWrapper, Sgd};
use shanty::params::Params as _;
use shanty::run::{EpochBasedTrainLoop, Runner};
use shanty_candle::CandleModel;

const BATCH: usize = 32;
const PIXELS: usize = 64;
const EPOCHS: u64 = 4;
const ROUNDS: usize = 7;

fn read<T: DeserializeOwned>(yaml: &str) -> Result<T> {
    Ok(parse("overhead", yaml)?.read()?)
}

fn told<T>(result: candle_core::Result<T>) -> Result<T> {
    result.map_err(|error| Error::Other(Box::new(error)))
}

/// A network under both loops: its scores, and its weights.
trait Bench {
    fn own(
        &self,
        vb: VarBuilder<'_>,
    ) -> candle_core::Result<Box<dyn Fn(&Tensor) -> candle_core::Result<Tensor>>>;
    fn model(&self) -> Result<CandleModel>;
}

struct Mlp;

impl Bench for Mlp {
    fn own(
        &self,
        vb: VarBuilder<'_>,
    ) -> candle_core::Result<Box<dyn Fn(&Tensor) -> candle_core::Result<Tensor>>> {
        let config = read("{widths: [64, 256, 256, 10]}").map_err(candle_core::Error::wrap)?;
        let net = nets::mlp::Mlp::new(&config, vb)?;
        Ok(Box::new(move |x| net.plain(x)))
    }

    fn model(&self) -> Result<CandleModel> {
        let config = read("{widths: [64, 256, 256, 10]}")?;
        CandleModel::new(&nets::device()?, |vb| nets::mlp::Mlp::new(&config, vb))
    }
}

struct ResNet;

impl Bench for ResNet {
    fn own(
        &self,
        vb: VarBuilder<'_>,
    ) -> candle_core::Result<Box<dyn Fn(&Tensor) -> candle_core::Result<Tensor>>> {
        let config = read("{blocks: 1, num_classes: 10}").map_err(candle_core::Error::wrap)?;
        let net = nets::resnet::ResNet::new(&config, vb)?;
        Ok(Box::new(move |x| net.plain(x)))
    }

    fn model(&self) -> Result<CandleModel> {
        let config = read("{blocks: 1, num_classes: 10}")?;
        CandleModel::new(&nets::device()?, |vb| nets::resnet::ResNet::new(&config, vb))
    }
}

/// Seconds of each step of candle's own loop: SGD with momentum, written as one would.
fn own(bench: &dyn Bench) -> candle_core::Result<Vec<f64>> {
    let (images, labels) = digits().map_err(candle_core::Error::wrap)?;
    let (map, device) = (VarMap::new(), nets::device().map_err(candle_core::Error::wrap)?);
    let scores = bench.own(VarBuilder::from_varmap(&map, DType::F32, &device))?;
    let is_trained = |name: &String| !name.contains("running_");
    let vars: Vec<Var> = {
        let all = map.data().lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|(name, _)| is_trained(name)).map(|(_, var)| var.clone()).collect()
    };
    let mut momentum = HashMap::new();
    let (mut seconds, mut before) = (Vec::new(), Instant::now());
    for _ in 0..EPOCHS {
        for (x, y) in images.chunks_exact(BATCH * PIXELS).zip(labels.chunks_exact(BATCH)) {
            let x = Tensor::from_slice(x, (BATCH, 1, 8, 8), &device)?;
            let y = Tensor::from_slice(y, BATCH, &device)?;
            let loss = cross_entropy(&scores(&x)?, &y)?;
            let grads = loss.backward()?;
            for var in &vars {
                let Some(grad) = grads.get(var) else { continue };
                let step = match momentum.get(&var.id()) {
                    None => grad.clone(),
                    Some(last) => ((last * 0.9)? + grad)?,
                };
                var.set(&(var.as_detached_tensor() - (&step * 0.05)?)?)?;
                momentum.insert(var.id(), step);
            }
            std::hint::black_box(loss.to_scalar::<f32>()?);
            seconds.push(before.elapsed().as_secs_f64());
            before = Instant::now();
        }
    }
    Ok(seconds)
}

/// Pixels and classes of the digits.
fn digits() -> Result<(Vec<f32>, Vec<i64>)> {
    let set = Digits::load(DigitsSplit::Train, SplitBy::Index)?;
    let loader = DataLoader::new(set).batch_size(1498).shuffle(false);
    let batch = loader.batches(0, Some(1)).next().ok_or_else(|| Error::invalid("no batch"))??;
    Ok((batch.inputs()?.iter().copied().collect(), batch.labels()?.to_vec()))
}

/// The seconds from each iteration to the next, so far, and the beginning of the one that is under way.
type Seconds = Arc<Mutex<(Vec<f64>, Option<Instant>)>>;

/// A clock, and the call that stops it and starts it again.
fn clock() -> (Seconds, impl FnMut(&mut Ctx<'_>, &mut Event<'_>) -> HookResult) {
    let seconds = Seconds::default();
    let noted = Arc::clone(&seconds);
    let note = move |_: &mut Ctx<'_>, _: &mut Event<'_>| {
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = noted.1.replace(Instant::now()) {
            noted.0.push(before.elapsed().as_secs_f64());
        }
        Ok(())
    };
    (seconds, note)
}

/// The same under the Runner, with its default hooks.
fn under_runner(bench: &dyn Bench) -> Result<Vec<f64>> {
    let dir = tempfile::tempdir().map_err(|error| Error::Other(error.into()))?;
    let set = Digits::load(DigitsSplit::Train, SplitBy::Index)?;
    let whole = set.len() / BATCH * BATCH;
    let data = DataLoader::new(set).batch_size(BATCH).shuffle(false).drop_last(true);
    let (seconds, note) = clock();
    let mut runner = Runner::builder(bench.model()?)
        .train(data, EpochBasedTrainLoop::new(EPOCHS), OptimWrapper::new(Sgd::new(0.05).momentum(0.9)))
        .work_dir(dir.path())
        .seed(0)
        .on(Point::BeforeTrainIter, note)
        .build()?;
    runner.train()?;
    let seconds = seconds.lock().unwrap_or_else(PoisonError::into_inner).0.clone();
    debug_assert_eq!(seconds.len() + 1, whole / BATCH * EPOCHS as usize);
    Ok(seconds)
}

/// Milliseconds by which a step that saves is longer than the others, and the megabytes of weights and momentum.
fn stall(beside: bool) -> Result<(f64, f64)> {
    const EVERY: usize = 16;
    let config = read("{widths: [64, 1024, 1024, 1024, 10]}")?;
    let model = CandleModel::new(&nets::device()?, |vb| nets::mlp::Mlp::new(&config, vb))?;
    let mut numbers = 0;
    model.infos(&mut |info| numbers += info.shape.iter().product::<usize>());
    let dir = tempfile::tempdir().map_err(|error| Error::Other(error.into()))?;
    let data = DataLoader::new(Digits::load(DigitsSplit::Train, SplitBy::Index)?).batch_size(BATCH);
    let (seconds, note) = clock();
    let mut runner = Runner::builder(model)
        .train(data, EpochBasedTrainLoop::new(EPOCHS), OptimWrapper::new(Sgd::new(0.01).momentum(0.9)))
        .work_dir(dir.path())
        .without_default_hooks()
        .hook_yaml(&format!(
            "{{type: CheckpointHook, interval: {EVERY}, by_epoch: false, max_keep_ckpts: 1}}"
        ))?
        .async_save(beside)
        .on(Point::BeforeTrainIter, note)
        .build()?;
    runner.train()?;
    let steps = seconds.lock().unwrap_or_else(PoisonError::into_inner).0.clone();
    let saves = |at: &usize| (at + 1).is_multiple_of(EVERY);
    let of = |wanted: bool| {
        let times = steps.iter().enumerate().filter(|(at, _)| saves(at) == wanted).map(|(_, s)| *s);
        median(&mut times.collect::<Vec<_>>())
    };
    Ok(((of(true) - of(false)) * 1e3, 2.0 * 4.0 * numbers as f64 / 1e6))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<()> {
    let benches: [(&str, &dyn Bench); 2] = [("MLP 64-256-256-10", &Mlp), ("ResNet-8, 8 x 8 pixels", &ResNet)];
    println!(
        "{:<24} {:>12} {:>12} {:>9} {:>18}",
        "batches of 32, medians", "own loop", "Runner", "ratio", "of single rounds"
    );
    let part = std::env::args().nth(1).unwrap_or_default();
    for (name, bench) in benches.into_iter().filter(|(name, _)| name.starts_with(&part)) {
        let mut rounds = Vec::new();
        let (mut all_own, mut all_run) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            // The first of each is warming up; who comes first changes.
            let (mut a, mut b) = if round % 2 == 0 {
                let a = told(own(bench))?;
                (a, under_runner(bench)?)
            } else {
                let b = under_runner(bench)?;
                (told(own(bench))?, b)
            };
            if round > 0 {
                rounds.push(median(&mut b) / median(&mut a));
                all_own.append(&mut a);
                all_run.append(&mut b);
            }
        }
        let (a, b) = (median(&mut all_own), median(&mut all_run));
        let (low, high) =
            rounds.iter().fold((f64::MAX, 0.0f64), |(low, high), r| (low.min(*r), high.max(*r)));
        println!("{name:<24} {:>9.1} us {:>9.1} us {:>9.4} {low:>8.4} to {high:.4}", a * 1e6, b * 1e6, b / a);
    }
    let saves = [(true, "beside the training"), (false, "in the step")];
    for (beside, how) in saves.into_iter().filter(|_| "save".starts_with(&part)) {
        let (milliseconds, megabytes) = stall(beside)?;
        println!("a save of {megabytes:.1} MB {how} holds the training up for {milliseconds:.2} ms");
    }
    Ok(())
}

//! Ranks that train one model, here threads, against one process with all samples.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod agreed;
mod asks;
mod dealt;
mod equal;
mod resume;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use shanty::base::Elem;
use shanty::checkpoint::{digest, load};
use shanty::comm::Comm;
use shanty::data::{Sample, Sampler, SequentialSampler, Shard, ShardPolicy, Subsample, Synthetic, Value};
use shanty::hook::builtin::{
    CheckInvalidLossHook, DigestHook, EMAHook, EarlyStoppingHook, LSUVHook, PreciseBNHook, SyncBuffersHook,
};
use shanty::nn::{BatchNorm2d, SyncBatchNorm};
use shanty::optim::{ClipGrad, SamConfig};
use shanty::params::{Set, StateDict};
use shanty::plugin::prelude::*;
use shanty::prelude::*;
use shanty::registry::{Spec, entries};
use shanty::run::{Scale, scale};
use shanty::testing::{ToyModel, ranks, toy_data, toy_runner};

/// How close 32-bit, or 64-bit, sums in another order stay over some dozens of steps.
const NEAR: f64 = if size_of::<Elem>() == 8 { 1e-12 } else { 1e-5 };

fn data(n: usize, batch: usize) -> DataLoader {
    DataLoader::new(Synthetic::new(n, [1, 6, 6], 3, 1)).batch_size(batch).shuffle(true)
}

/// A small network of convolutions, with a norm between them.
fn network<N: Module>(norm: Option<N>) -> impl Module {
    let conv = Sequential::default().with(Conv2d::new(1, 4, 3));
    let conv = match norm {
        Some(norm) => conv.with(norm),
        None => conv,
    };
    conv.with(Tanh {}).with(Flatten::default()).with(Linear::new(64, 3))
}

fn model(norm: Option<SyncBatchNorm>) -> impl Model {
    Supervised::new(network(norm), CrossEntropyLoss::default())
}

fn optim() -> OptimWrapper {
    Sgd::new(0.05).momentum(0.9).into()
}

/// What a rank has seen of a run.
#[derive(Debug)]
struct Seen {
    losses: Vec<f64>,
    end: Outcome,
    weights: StateDict,
}

/// Trains on so many ranks, which share a folder.
fn train(world: usize, dir: &Path, make: impl Fn(&Path) -> RunnerBuilder + Sync) -> Vec<Seen> {
    tried(world, dir, make).unwrap()
}

fn tried(
    world: usize,
    dir: &Path,
    make: impl Fn(&Path) -> RunnerBuilder + Sync,
) -> shanty::base::Result<Vec<Seen>> {
    ranks(world, |_, comm| {
        let losses = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&losses);
        let note = move |_: &mut Ctx<'_>, event: &mut Event<'_>| {
            if let Event::AfterTrainIter(step) = event {
                noted.lock().unwrap().extend(step.outputs.loss());
            }
            Ok(())
        };
        let builder = make(dir).comm(comm).on(Point::AfterTrainIter, note);
        let mut runner = builder.build()?;
        let end = runner.train()?;
        let weights = StateDict::of(runner.model()?)?;
        let losses = losses.lock().unwrap().clone();
        Ok(Seen { losses, end, weights })
    })
}

/// All ranks saw the same and hold the same, bit for bit; the first of them.
fn alike(mut seen: Vec<Seen>) -> Seen {
    let first = seen.remove(0);
    for other in seen {
        assert_eq!(first.losses, other.losses);
        // On the rank that asked to stop a hook is named, on the others the rank.
        assert_eq!(std::mem::discriminant(&first.end), std::mem::discriminant(&other.end));
        let (StateDict(own), StateDict(others)) = (&first.weights, &other.weights);
        let trained = |name: &str| !name.contains("running") && !name.contains("tracked");
        let differ = own.iter().zip(others).find(|(a, b)| trained(&a.0) && a != b);
        assert!(differ.is_none(), "{differ:?}");
    }
    first
}

fn near(one: &Seen, many: &Seen, what: &str) {
    assert_eq!(one.losses.len(), many.losses.len(), "{what}");
    for (iter, (a, b)) in one.losses.iter().zip(&many.losses).enumerate() {
        assert!((a - b).abs() <= NEAR * a.abs().max(1.0), "{what}, iteration {iter}: {a} and {b}");
    }
}

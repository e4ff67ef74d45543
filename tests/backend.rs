//! A model whose weights are not in host memory under the Runner: what moves, and when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use shanty::hook::builtin::{DigestHook, EMAHook};
use shanty::optim::{Adam, ClipGrad, OptimWrapper, Optimizer, Sgd};
use shanty::params::{FlatGrads, Info, StateDict, all};
use shanty::plugin::prelude::*;
use shanty::prelude::{CrossEntropyLoss, Linear, Sequential, Supervised};
use shanty::run::verify::verify;
use shanty::run::{EpochBasedTrainLoop, Limits, RunnerBuilder};
use shanty::testing::{DeviceModel, Signs, ToyModel, toy_data, toy_runner_of};

/// A window of two batches, clipped.
fn wrapped(optimizer: Box<dyn Optimizer>) -> OptimWrapper {
    OptimWrapper::boxed(optimizer).accumulate(2).clip(ClipGrad::by_norm(0.5))
}

type Make = fn() -> Box<dyn Optimizer>;
const SGD: Make = || Box::new(Sgd::new(0.1).momentum(0.9).weight_decay(0.01));
const ADAM: Make = || Box::new(Adam::new(0.05));
const ADAM_W: Make = || Box::new(Adam::decoupled(0.05));
const SIGNS: Make = || Box::new(Signs::new(0.02));

fn run(dir: &Path, make: Make, model: impl Model) -> RunnerBuilder {
    run_for(dir, 3, make, model)
}

fn run_for(dir: &Path, epochs: u64, make: Make, model: impl Model) -> RunnerBuilder {
    let (data, train_loop) = (toy_data(8, true).unwrap(), EpochBasedTrainLoop::new(epochs));
    toy_runner_of(dir, model, data, train_loop, wrapped(make())).unwrap()
}

fn either(dir: &Path, make: Make, device: bool) -> RunnerBuilder {
    if device { run(dir, make, DeviceModel::new(3)) } else { run(dir, make, ToyModel::new(3)) }
}

/// No tensor moves in an iteration: not for the update, the window, the clipping, the norm that is logged, an average.
/// Without a save, an average that is saved or a digest the whole run moves nothing but its first weights.
#[test]
fn an_iteration_moves_no_weights() {
    for make in [SGD, ADAM, ADAM_W] {
        let dir = tempfile::tempdir().unwrap();
        let model = DeviceModel::new(3);
        let transfers = model.transfers();
        let (counts, seen) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&transfers));
        let noted = Arc::clone(&counts);
        let mut runner = run(dir.path(), make, model)
            .hook(EMAHook::new(0.1, 0))
            .on(Point::BeforeTrainIter, move |cx, _| {
                noted.lock().unwrap().push((cx.progress.epoch, seen.load(Ordering::Relaxed)));
                Ok(())
            })
            .build()
            .unwrap();
        runner.train().unwrap();
        let counts = counts.lock().unwrap();
        assert_eq!(counts.len(), 24);
        for pair in counts.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            assert_eq!(pair[0].1, pair[1].1, "an iteration of epoch {} moved something", pair[0].0);
        }
        assert_eq!(counts[0].1, 1, "the initial weights");
        assert!(transfers.load(Ordering::Relaxed) > 1, "saves read the weights");
    }
}

/// A digest reads, and says so in the count; so do the saves, by weights, momentum and average.
#[test]
fn what_looks_at_weights_is_counted() {
    let moved = |digest: bool| {
        let dir = tempfile::tempdir().unwrap();
        let model = DeviceModel::new(3);
        let transfers = model.transfers();
        let mut builder = run(dir.path(), SGD, model);
        if digest {
            builder = builder.hook(DigestHook::every(2));
        }
        builder.build().unwrap().train().unwrap();
        transfers.load(Ordering::Relaxed)
    };
    // The first weights; weights and momentum in each of three saves.
    assert_eq!(moved(false), 1 + 3 * 2);
    // Weights and momentum in each of twelve digests.
    assert_eq!(moved(true), 1 + 3 * 2 + 12 * 2);
}

/// The device computes what the host does, to the bit; an optimizer that it does not have goes by way of the host.
#[test]
fn a_device_ends_as_the_host_does() {
    for make in [SGD, ADAM, ADAM_W, SIGNS] {
        let end = |device: bool| {
            let dir = tempfile::tempdir().unwrap();
            let mut runner = either(dir.path(), make, device).hook(EMAHook::new(0.1, 0)).build().unwrap();
            runner.train().unwrap();
            let weights = StateDict::of(runner.model().unwrap()).unwrap();
            let state = &runner.session().state;
            (weights, state.optim.as_ref().unwrap().save_state(&*state.model).unwrap())
        };
        let (host, device) = (end(false), end(true));
        assert_eq!(host, device, "{}", make().name());
    }
}

/// Saved, cut and resumed inside a window, with momentum and average on the device: the same run.
#[test]
fn a_resumed_run_on_a_device_is_the_same_run() {
    for make in [SGD, ADAM, SIGNS] {
        let start = |dir: &Path, resume: bool, limits: Limits| {
            let builder = run(dir, make, DeviceModel::new(3)).hook(EMAHook::new(0.1, 2));
            builder.resume(resume).limits(limits).build()
        };
        let scratch = tempfile::tempdir().unwrap();
        for cut in verify(&start, |_| vec![1, 5, 8, 19], scratch.path(), &mut |_| ()).unwrap() {
            assert_eq!(cut.difference, None, "{}, cut after {}", make().name(), cut.at);
        }
    }
}

/// A checkpoint does not know where its weights were: begun on a device, a run goes on on the host.
#[test]
fn a_run_moves_from_a_device_to_the_host() {
    let moved = |first: bool, second: bool| {
        let dir = tempfile::tempdir().unwrap();
        let build = |device, epochs, resume| {
            let run = match device {
                true => run_for(dir.path(), epochs, ADAM, DeviceModel::new(3)),
                false => run_for(dir.path(), epochs, ADAM, ToyModel::new(3)),
            };
            run.resume(resume).build().unwrap()
        };
        build(first, 2, false).train().unwrap();
        let mut runner = build(second, 4, true);
        runner.train().unwrap();
        StateDict::of(runner.model().unwrap()).unwrap()
    };
    let whole = moved(false, false);
    assert_eq!(moved(true, false), whole);
    assert_eq!(moved(false, true), whole);
}

/// An all-reduce sees small gradients as one buffer, and they take what it leaves.
#[test]
fn small_gradients_are_exchanged_as_one_buffer() {
    let models: [Box<dyn Model>; 2] = [Box::new(ToyModel::new(3)), Box::new(DeviceModel::new(3))];
    for mut model in models {
        let step = StepCx { seed: 0, iter: 0, loss_scale: 1.0 };
        let batch = Batch::new(ndarray::arr2(&[[1.0, 2.0, 3.0]]).into_dyn(), vec![0]);
        model.train_step(&batch, &step).unwrap();
        let double = &mut |flat: &mut FlatGrads| {
            assert_eq!((&flat.pieces[..], &flat.reached[..]), (&[vec![-1.0, -2.0, -3.0]][..], &[true][..]));
            flat.pieces[0].iter_mut().for_each(|g| *g *= 2.0);
            Ok(())
        };
        model.exchange(&all, double).unwrap();
        assert_eq!(model.norm(Set::Grads, 1.0, &all).unwrap(), 12.0);
        let refused = &mut |_: &mut FlatGrads| Err(Error::invalid("no link"));
        assert!(model.exchange(&all, refused).unwrap_err().to_string().contains("no link"));
    }
}

/// A large gradient goes in its own memory and comes back in it, behind the small ones; whoever takes it and fails leaves
/// a model that learns on.
#[test]
fn a_large_gradient_is_lent() {
    let net = Sequential::new().with(Linear::new(4, 20_000)).with(Linear::new(20_000, 2));
    let mut model = Supervised::new(net, CrossEntropyLoss::default());
    model.init_weights(0).unwrap();
    let batch = Batch::new(ndarray::arr2(&[[1.0, 2.0, 3.0, 4.0]]).into_dyn(), vec![0]);
    let step = |model: &mut Supervised| {
        model.clear_grads().unwrap();
        model.train_step(&batch, &StepCx { seed: 0, iter: 0, loss_scale: 1.0 }).unwrap();
    };
    let places = |model: &Supervised| {
        let mut all = Vec::new();
        model.read(Set::Grads, &all_large, &mut |_, grad| all.push(grad.as_ptr() as usize)).unwrap();
        all
    };
    step(&mut model);
    let (before, norm) = (places(&model), model.norm(Set::Grads, 1.0, &all).unwrap());
    let mut lent = Vec::new();
    let double = &mut |flat: &mut FlatGrads| {
        assert_eq!(flat.pieces.iter().map(Vec::len).collect::<Vec<_>>(), [60_002, 80_000]);
        lent.push(flat.pieces[1].as_ptr() as usize);
        flat.pieces.iter_mut().flatten().for_each(|g| *g *= 2.0);
        Ok(())
    };
    model.exchange(&all, double).unwrap();
    assert_eq!((&lent, places(&model)), (&before, before.clone()));
    assert!((model.norm(Set::Grads, 1.0, &all).unwrap() / norm - 2.0).abs() < 1e-6);
    let refused = &mut |flat: &mut FlatGrads| {
        flat.pieces.clear();
        Err(Error::invalid("no link"))
    };
    assert!(model.exchange(&all, refused).unwrap_err().to_string().contains("no link"));
    step(&mut model);
    assert!((model.norm(Set::Grads, 1.0, &all).unwrap() / norm - 1.0).abs() < 1e-6);
    // A parameter that only another rank has reached has a gradient afterwards.
    model.clear_grads().unwrap();
    let given = &mut |flat: &mut FlatGrads| {
        assert!(flat.reached.iter().all(|reached| !reached));
        flat.pieces[1].fill(1.0);
        flat.reached[0] = true;
        Ok(())
    };
    model.exchange(&all, given).unwrap();
    assert_eq!(model.norm(Set::Grads, 1.0, &all).unwrap(), 80_000.0);
}

fn all_large(p: &Info<'_>) -> bool {
    p.shape.iter().product::<usize>() > 65_536
}

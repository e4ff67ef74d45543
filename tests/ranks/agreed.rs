//! What is decided by figures of all samples, or told of one rank.

use std::time::Duration;

use ndarray::{Array2, ArrayD, Axis};
use shanty::hook::builtin::{CheckpointHook, Replay};
use shanty::model::{DynamicWeightAverage, GradNorm, Objective, Supervised, UncertaintyWeighting};
use shanty::optim::{Schedule, ScheduledParam, Totals};
use shanty::registry::BuildCx;

use super::*;

/// The folders of checkpoints that begin so.
fn folders(dir: &Path, begin: &str) -> Vec<String> {
    let names =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    let mut found: Vec<String> = names.filter(|name| name.starts_with(begin)).collect();
    found.sort();
    found
}

/// Halves the rate after every validation that is no better.
fn plateau() -> ScheduledParam {
    let spec: Spec<dyn Schedule> =
        Spec::parse("{type: ReduceOnPlateauLR, monitor: val_loss, patience: 0, factor: 0.5}").unwrap();
    let totals = Totals { max_epochs: 8, max_iters: 24, epoch_len: 3 };
    let shape = spec.build(&mut BuildCx::new(0)).unwrap();
    ScheduledParam::from_options(shape, spec.name(), &spec.extra, true, totals).unwrap()
}

/// The best checkpoint and the rate that a plateau gives go by the figures of all samples: on 1, 2 and 3 ranks they are
/// the same, and one checkpoint is kept.
#[test]
fn the_best_and_a_plateau_are_those_of_one_rank() {
    let run = |world: usize| {
        let dir = tempfile::tempdir().unwrap();
        let rates = Arc::new(Mutex::new(vec![Vec::new(); world]));
        alike(train(world, dir.path(), |dir| {
            let noted = Arc::clone(&rates);
            let note = move |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
                let lr = cx.optim.as_ref().unwrap().groups()[0].lr();
                noted.lock().unwrap()[cx.comm.place().rank].push(lr);
                Ok(())
            };
            // So large a rate that the loss goes up and down.
            let optim = OptimWrapper::new(Sgd::new(0.7).momentum(0.9)).schedule(plateau());
            Runner::builder(model(None))
                .train(data(36, 12 / world), EpochBasedTrainLoop::new(8), optim)
                .val(data(25, 4), Accuracy::new(vec![1], vec![None]).unwrap())
                .hook(CheckpointHook::at_the_end().best("val_loss"))
                .on(Point::AfterTrainEpoch, note)
                .work_dir(dir)
                .seed(3)
        }));
        let rates = rates.lock().unwrap().clone();
        assert!(rates.iter().all(|own| *own == rates[0]), "{rates:?}");
        (folders(dir.path(), "best_"), rates[0].clone())
    };
    let one = run(1);
    assert!(one.0.len() == 1 && one.1.len() == 8 && one.1[7] < one.1[0], "{one:?}");
    assert_eq!(run(2), one);
    assert_eq!(run(3), one);
}

/// A rank that hangs in the midst of a run: the others end with its number, after the time that the config gives.
#[test]
fn a_rank_that_hangs_is_named() {
    let yaml = "\
work_dir: WORK
env_cfg: {dist_cfg: {timeout: 0.4}}
model: {type: ToyModel}
train_dataloader: {batch_size: 4, dataset: {type: Synthetic, n: 48, shape: [3, 1, 1], classes: 2}}
train_cfg: {by_epoch: true, max_epochs: 1}
optim_wrapper: {optimizer: {type: SGD, lr: 0.1}}
";
    let dir = tempfile::tempdir().unwrap();
    let node =
        shanty::config::parse("run.yaml", &yaml.replace("WORK", &dir.path().to_string_lossy())).unwrap();
    let ended = std::sync::Barrier::new(3);
    let said = ranks(3, |rank, comm| {
        let (hangs, wakes) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(wakes);
        let hang = move |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
            if cx.progress.iter == 2 {
                // Nobody speaks: it ends with the other side.
                let _ = held.lock().unwrap().recv();
            }
            Ok(())
        };
        let builder = RunnerBuilder::from_config_among(&node, None, comm)?;
        let builder = if rank == 1 { builder.on(Point::AfterTrainIter, hang) } else { builder };
        let mut run = builder.build()?;
        if rank == 1 {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    ended.wait();
                    drop(hangs);
                });
                Ok(run.train().err().map(|error| error.to_string()).unwrap_or_default())
            })
        } else {
            let error = run.train().err().map(|error| error.to_string()).unwrap_or_default();
            ended.wait();
            Ok(error)
        }
    });
    let said = said.unwrap();
    let expected = format!("in {:?}", Duration::from_millis(400));
    for text in [&said[0], &said[2]] {
        assert!(text.contains("rank 1 has not come to") && text.contains(&expected), "{said:?}");
    }
}

/// The bad step of a rank is written by that rank, and repeats what it saw: its samples, and the noise that it drew.
#[test]
fn the_bad_step_of_a_rank_is_repeated() {
    let model = || {
        let net = Sequential::new().with(Flatten::default()).with(Dropout::new(0.5)).with(Linear::new(36, 3));
        Supervised::new(net, CrossEntropyLoss::default())
    };
    let dir = tempfile::tempdir().unwrap();
    let told = ranks(2, |rank, comm| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let spoil = move |cx: &mut Ctx<'_>, event: &mut Event<'_>| {
            if let Event::BeforeTrainIter(batch) = event {
                noted.lock().unwrap().clone_from(&batch.ids);
                if (cx.comm.place().rank, cx.progress.iter) == (1, 2) {
                    batch.inputs_mut()?.index_axis_mut(Axis(0), 0).fill(Elem::INFINITY);
                }
            }
            Ok(())
        };
        let run = Runner::builder(model()).train(data(24, 4), EpochBasedTrainLoop::new(1), optim());
        let run = run.on(Point::BeforeTrainIter, spoil).hook(CheckInvalidLossHook::skip().patience(9));
        let mut run = run.work_dir(dir.path()).seed(5).comm(comm).build()?;
        run.train()?;
        Ok((rank, seen.lock().unwrap().clone(), run.session().state.dirs.log.clone()))
    });
    let told = told.unwrap();
    for (rank, name) in [(0, "replay_iter_3"), (1, "replay_iter_3_rank1")] {
        let mut replay = Replay::read(&told[rank].2.join(name)).unwrap();
        assert_eq!((replay.rank, replay.iter, replay.batch.len()), (rank, 3, 4));
        let again = replay.step(&mut model()).unwrap();
        match rank {
            0 => assert_eq!(again, None, "its own samples were good"),
            _ => assert_eq!(again.as_ref(), Some(&replay.found)),
        }
    }
    let ids = |name: &str| Replay::read(&told[0].2.join(name)).unwrap().batch.ids;
    assert!(ids("replay_iter_3").iter().all(|id| !ids("replay_iter_3_rank1").contains(id)));
}

/// The noise of a step that is repeated is that of its rank.
#[test]
fn a_repeated_step_draws_as_its_rank_did() {
    let batch = Batch::new(ArrayD::from_elem(vec![8, 16], 1.0), vec![0; 8]);
    let loss = |comm: Arc<dyn Comm>| -> Result<f64, shanty::base::Error> {
        let net = Sequential::default().with(Dropout::new(0.5)).with(Linear::new(16, 2));
        let mut model = Supervised::new(net, CrossEntropyLoss::default());
        model.init_weights(0)?;
        model.beside(comm);
        let outputs = model.train_step(&batch, &StepCx { seed: 0, iter: 5, loss_scale: 1.0 })?;
        Ok(outputs.loss().unwrap())
    };
    let of_ranks = ranks(3, |_, comm| loss(comm)).unwrap();
    let alone: Vec<f64> =
        (0..3).map(|rank| loss(Arc::new(shanty::comm::Solo::in_place_of(rank))).unwrap()).collect();
    assert_eq!(of_ranks, alone);
}

/// Two heads.
fn heads() -> Supervised {
    Supervised::trunk(Linear::new(4, 6))
        .head("a", Linear::new(6, 1))
        .head("b", Linear::new(6, 1))
        .objective(Objective::new(MSELoss::default()).head("a").target("a"))
        .objective(Objective::new(MSELoss::default()).head("b").target("b").weight(3.0))
}

/// Weights of losses are learnt from the losses of all samples: all ranks have the same, buffers among them, and a run
/// that is cut goes on with them. Averages are those of one rank; GradNorm takes norms of each rank's own gradients, so
/// that its weights are others than those of one.
#[test]
fn losses_are_weighed_alike_on_all_ranks() {
    let all: [(&str, f64, fn(Supervised) -> Supervised); 3] = [
        ("DynamicWeightAverage", NEAR, |model| model.weighting(DynamicWeightAverage::new(3))),
        ("UncertaintyWeighting", NEAR, |model| model.weighting(UncertaintyWeighting::default())),
        ("GradNorm", f64::INFINITY, |model| model.weighting(GradNorm::default())),
    ];
    for (name, near, weighed) in all {
        let begin = |dir: &Path, world: usize, epochs: u64| {
            let field =
                |k: usize| Array2::from_shape_fn((24, 1), |(n, _)| ((n * (3 + k)) % 7) as f32 / 3.5 - 1.0);
            let inputs = Array2::from_shape_fn((24, 4), |(n, k)| ((n * 5 + k * 3) % 11) as f32 / 5.5 - 1.0);
            let set = ArrayDataset::new("inputs", inputs).unwrap().with("a", field(0)).unwrap();
            let data = DataLoader::new(set.with("b", field(1)).unwrap()).batch_size(12 / world).shuffle(true);
            let run = Runner::builder(weighed(heads()));
            run.train(data, EpochBasedTrainLoop::new(epochs), optim()).work_dir(dir).seed(3)
        };
        let weights = |seen: &Seen| -> Vec<(String, ArrayD<Elem>)> {
            let StateDict(all) = &seen.weights;
            let own = all.iter().filter(|(tensor, _)| tensor.contains("weighting"));
            own.map(|(tensor, value)| (tensor.clone(), value.value.to_owned().into_owned())).collect()
        };
        let whole = |world: usize| {
            let dir = tempfile::tempdir().unwrap();
            let seen = train(world, dir.path(), |dir| begin(dir, world, 10));
            assert!(seen.iter().all(|own| weights(own) == weights(&seen[0])), "{name} on {world}");
            (weights(&alike(seen)), load(&dir.path().join("epoch_10")).unwrap())
        };
        let (one, _) = whole(1);
        for world in [2, 3] {
            let (many, end) = whole(world);
            assert!(!many.is_empty());
            for ((tensor, a), (_, b)) in one.iter().zip(&many) {
                let far = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
                assert!(far <= near, "{name}: {tensor} on {world} ranks is off by {far:e}: {a} and {b}");
            }
            let dir = tempfile::tempdir().unwrap();
            alike(train(world, dir.path(), |dir| begin(dir, world, 4)));
            alike(train(world, dir.path(), |dir| begin(dir, world, 10).resume(true)));
            let parts = load(&dir.path().join("epoch_10")).unwrap();
            assert_eq!(digest::first_difference(&end, &parts), None, "{name} on {world}");
        }
    }
}

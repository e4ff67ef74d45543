//! Ranks that train one model, here threads, against one process with all samples.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

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

/// 50 steps of one rank with batches of 8, and of two with 4 each, have one loss, and so have three with theirs: with
/// batch norms over all ranks, without any, with whatever an optimizer does between two steps.
#[test]
fn ranks_with_parts_of_a_batch_are_one_rank_with_the_whole() {
    let wrappers: [(&str, fn() -> OptimWrapper); 4] = [
        ("plain", optim),
        ("clipped", || optim().clip(ClipGrad::by_norm(0.5))),
        ("accumulated", || optim().accumulate(3)),
        ("sharp", || optim().sam(SamConfig { rho: 0.05 })),
    ];
    for (name, wrapper) in wrappers {
        for norm in [false, true] {
            for world in [2, 3] {
                let run = |world: usize, batch: usize| {
                    let dir = tempfile::tempdir().unwrap();
                    alike(train(world, dir.path(), |dir| {
                        // 84 samples: three full batches of 24, and one that is not.
                        let norm = norm.then(|| SyncBatchNorm::new(4));
                        let long = IterBasedTrainLoop::new(50);
                        Runner::builder(model(norm))
                            .train(data(84, batch), long, wrapper())
                            .work_dir(dir)
                            .seed(3)
                    }))
                };
                let what = format!("{name}, norm {norm}, {world} ranks");
                near(&run(1, 24), &run(world, 24 / world), &what);
            }
        }
    }
}

/// LeNet-5 and ResNet-20, as people train them: 50 steps of two ranks, each with half of a batch, and of one.
#[test]
fn lenet_and_resnet_on_two_ranks_are_those_on_one() {
    let lenet = || ImageClassifier::new(LeNet5::new(Some(10), 1).unwrap(), ClsHead::default());
    let resnet = || {
        let net = ResNet::cifar(&ResNetConfig { stem_channels: Some(4), ..ResNetConfig::new(20) }).unwrap();
        let head = LinearClsHead::new(10, 16, ClsHead::default());
        let mut model = ImageClassifier::new(net, head).neck(GlobalAveragePooling::default());
        assert!(model.sync_batchnorm() > 18);
        model
    };
    let run = |world: usize, batch: usize, resnets: bool| {
        let dir = tempfile::tempdir().unwrap();
        alike(train(world, dir.path(), |dir| {
            let builder = if resnets { Runner::builder(resnet()) } else { Runner::builder(lenet()) };
            let shape = if resnets { [3, 8, 8] } else { [1, 32, 32] };
            let data = DataLoader::new(Synthetic::new(88, shape, 10, 1)).batch_size(batch).shuffle(true);
            let optim = Sgd::new(0.02).momentum(0.9);
            builder.train(data, IterBasedTrainLoop::new(50), optim).work_dir(dir).seed(3)
        }))
    };
    for resnets in [false, true] {
        near(&run(1, 16, resnets), &run(2, 8, resnets), if resnets { "ResNet-20" } else { "LeNet-5" });
    }
}

/// Shares that differ by one, of which the last batch of some ranks has nothing: each sample counts once, and the step is
/// that of one rank.
#[test]
fn uneven_last_batches_are_exact() {
    let sampler = || DefaultSampler { round_up: false, ..DefaultSampler::default() };
    for accumulate in [1, 2] {
        for (n, world, batch) in [(25, 3, 4), (26, 3, 4), (7, 3, 2), (9, 4, 2)] {
            let run = |world: usize, batch: usize| {
                let dir = tempfile::tempdir().unwrap();
                alike(train(world, dir.path(), |dir| {
                    let data = data(n, batch).sampler(sampler());
                    Runner::builder(model(None))
                        .train(data, EpochBasedTrainLoop::new(4), optim().accumulate(accumulate))
                        .work_dir(dir)
                        .seed(3)
                }))
            };
            near(
                &run(1, world * batch),
                &run(world, batch),
                &format!("{n} samples, {world} ranks of {batch}"),
            );
        }
    }
    // SyncBatchNorm wants samples of all.
    let dir = tempfile::tempdir().unwrap();
    let text = tried(3, dir.path(), |dir| {
        let (data, norm) = (data(25, 4).sampler(sampler()), Some(SyncBatchNorm::new(4)));
        Runner::builder(model(norm)).train(data, EpochBasedTrainLoop::new(1), optim()).work_dir(dir).seed(3)
    });
    let text = text.unwrap_err().to_string();
    assert!(text.contains("sum") || text.contains("no sample"), "{text}");
}

/// The gradient of the toy is w minus the mean of a batch: of 5 samples on 1, 2 (3 and 2) and 3 ranks (2, 2 and 1) it is
/// w minus the mean of all.
#[test]
fn gradients_count_by_samples() {
    let end = |world: usize, batch: usize| {
        let dir = tempfile::tempdir().unwrap();
        let seen = train(world, dir.path(), |dir| {
            let sampler = DefaultSampler { round_up: false, ..DefaultSampler::sequential() };
            let data = DataLoader::new(Synthetic::new(5, [3, 1, 1], 2, 0)).sampler(sampler).batch_size(batch);
            let steps = EpochBasedTrainLoop::new(3);
            Runner::builder(ToyModel::new(3)).train(data, steps, Sgd::new(0.5)).work_dir(dir).seed(0)
        });
        let StateDict(weights) = alike(seen).weights;
        weights.iter().flat_map(|(_, tensor)| tensor.value.iter().copied()).collect::<Vec<Elem>>()
    };
    let whole = end(1, 5);
    for (world, batch) in [(2, 3), (3, 2)] {
        let off = |(a, b): (&Elem, &Elem)| f64::from((a - b).abs());
        let far = whole.iter().zip(&end(world, batch)).map(off).fold(0.0, f64::max);
        assert!(far < NEAR / 10.0, "{world} ranks: {far:e}");
    }
}

/// The run's seed is one, and so are the augmentation of a sample and the first weights; the noise within a step is
/// another one on each rank, and that of rank 0 the one of a run alone.
#[test]
fn noise_is_keyed_by_the_rank() {
    let batch = Batch::new(ndarray::ArrayD::from_elem(vec![8, 16], 1.0), vec![0; 8]);
    let loss = |comm: Option<Arc<dyn Comm>>| -> Result<f64, shanty::base::Error> {
        let net = Sequential::default().with(Dropout::new(0.5)).with(Linear::new(16, 2));
        let mut model = Supervised::new(net, CrossEntropyLoss::default());
        model.init_weights(0)?;
        if let Some(comm) = comm {
            model.beside(comm);
        }
        let outputs = model.train_step(&batch, &StepCx { seed: 0, iter: 5, loss_scale: 1.0 })?;
        Ok(outputs.loss().unwrap())
    };
    let all = ranks(3, |_, comm| loss(Some(comm))).unwrap();
    assert_eq!(all[0], loss(None).unwrap());
    assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2], "{all:?}");
    // Without a seed in the program all draw one.
    let dir = tempfile::tempdir().unwrap();
    let seeds = ranks(3, |_, comm| {
        let run = Runner::builder(ToyModel::new(3)).work_dir(dir.path()).comm(comm);
        Ok(run.build()?.session().state.info.seed)
    });
    let seeds = seeds.unwrap();
    assert!(seeds.iter().all(|seed| *seed == seeds[0]), "{seeds:?}");
}

/// Samples of three classes and five lengths.
struct Lengths(usize);

impl Dataset for Lengths {
    fn len(&self) -> usize {
        self.0
    }
    fn get(&self, index: usize, _: &mut Rng) -> shanty::base::Result<Sample> {
        Ok(Sample::new(ndarray::Array3::<f32>::zeros((1, 1, 1)), (index % 3) as i64))
    }
    fn length(&self, index: usize) -> Option<usize> {
        Some(index % 5)
    }
    fn peek(&self, index: usize, field: &str) -> Option<Value> {
        (field == "target").then(|| ((index % 3) as i64).into())
    }
}

/// Every registered sampler deals its passes out: of those that take turns the ranks together have at each step the
/// samples that one rank would have with all of their batch.
#[test]
fn every_sampler_is_dealt_out() {
    let mut taken = std::collections::BTreeSet::new();
    for sampler in [
        "DefaultSampler",
        "DefaultSampler, round_up: false",
        "DefaultSampler, shuffle: false",
        "InfiniteSampler",
        "SequentialSampler",
        "SequentialSampler, subsample_type: sequential",
        "SequentialSampler, round_up: false",
        "RepeatAugSampler",
        "WeightedRandomSampler, weights: balanced",
        "ClassAwareSampler",
        "LengthGroupedSampler",
    ] {
        let name = sampler.split(',').next().unwrap();
        taken.insert(name.to_owned());
        for (n, world, batch) in [(23, 2, 3), (24, 3, 2), (10, 4, 2)] {
            let make = |rank: usize, world: usize, batch: usize| {
                let spec: Spec<dyn Sampler> = Spec::parse(&format!("{{type: {sampler}}}")).unwrap();
                let sampler = spec.build(&mut BuildCx::new(7)).unwrap();
                DataLoader::new(Lengths(n))
                    .sampler(sampler)
                    .batch_size(batch)
                    .seed(7)
                    .shard(Shard { rank, world })
            };
            let ids = |loader: &DataLoader, g: u64| -> Vec<u64> {
                let batch = loader.batches(g, Some(g + 1)).next().unwrap().unwrap();
                batch.ids[..batch.valid].to_vec()
            };
            let (whole, parts) = (make(0, 1, world * batch), (0..world).map(|rank| make(rank, world, batch)));
            let parts: Vec<DataLoader> = parts.collect();
            // A stream without end counts its own batches, as MMEngine has it.
            let as_many = |part: &DataLoader| part.infinite() || part.len() == whole.len();
            assert!(parts.iter().all(as_many), "{sampler}");
            let mut of_pass = (Vec::new(), Vec::new());
            for g in 0..whole.len() {
                let mut own: Vec<u64> = parts.iter().flat_map(|part| ids(part, g)).collect();
                let mut all = ids(&whole, g);
                own.sort_unstable();
                all.sort_unstable();
                if whole.policy() != ShardPolicy::Blocks {
                    assert_eq!(own, all, "{sampler}, batch {g} of {n} on {world} ranks");
                }
                of_pass.0.extend(own);
                of_pass.1.extend(all);
            }
            of_pass.0.sort_unstable();
            of_pass.1.sort_unstable();
            assert_eq!(of_pass.0, of_pass.1, "{sampler}: a pass of {n} on {world} ranks");
        }
    }
    let registered: std::collections::BTreeSet<String> =
        entries("sampler").map(|entry| entry.name.to_owned()).collect();
    assert_eq!(taken, registered);
}

/// A norm of its own on each rank: what is evaluated and saved are the buffers of the first, and with SyncBuffersHook all
/// ranks have the mean of theirs at any time.
#[test]
fn buffers_are_those_of_the_first_rank_or_the_mean() {
    let run = |sync: bool| {
        let dir = tempfile::tempdir().unwrap();
        let seen = train(2, dir.path(), |dir| {
            let model = Supervised::new(network(Some(BatchNorm2d::new(4))), CrossEntropyLoss::default());
            let run = Runner::builder(model).train(data(24, 4), EpochBasedTrainLoop::new(2), optim());
            let run = run.work_dir(dir).seed(3);
            if sync { run.hook(SyncBuffersHook::default()) } else { run }
        });
        let saved = load(&dir.path().join("epoch_2")).unwrap().model;
        assert_eq!(saved, seen[0].weights);
        let buffers = |seen: &Seen| -> Vec<Vec<Elem>> {
            let StateDict(all) = &seen.weights;
            let own = all.iter().filter(|(name, _)| name.contains("running"));
            own.map(|(_, tensor)| tensor.value.iter().copied().collect()).collect()
        };
        let own = [buffers(&seen[0]), buffers(&seen[1])];
        alike(seen);
        own
    };
    let ([first, second], [mean, other]) = (run(false), run(true));
    assert_ne!(first, second, "each has seen its own batches");
    assert_eq!(mean, other, "equal bits");
    // Weights do not depend on running statistics, and their mean moves as the statistics do.
    for (mean, (a, b)) in mean.iter().flatten().zip(first.iter().flatten().zip(second.iter().flatten())) {
        let wanted = (f64::from(*a) + f64::from(*b)) / 2.0;
        assert!((f64::from(*mean) - wanted).abs() < 1e-5, "{mean} and {wanted}");
    }
}

fn resumable(dir: &Path, epochs: u64, accumulate: u64) -> RunnerBuilder {
    let model = Supervised::new(network(Some(BatchNorm2d::new(4))), CrossEntropyLoss::default());
    Runner::builder(model)
        .train(data(25, 3), EpochBasedTrainLoop::new(epochs), optim().accumulate(accumulate))
        .val(data(7, 2), Accuracy::new(vec![1], vec![None]).unwrap())
        .hook(SyncBuffersHook::default())
        .hook(EMAHook::new(0.1, 2))
        .work_dir(dir)
        .seed(5)
}

/// 4 epochs are 2, a stop, and 2 more: every part of the last checkpoint has equal bits. So it is at cuts within an
/// accumulation window, of which each rank holds a part, and whoever is told to leave.
#[test]
fn a_resumed_run_of_ranks_ends_as_one_that_was_not_cut() {
    for world in [2, 3] {
        for accumulate in [1, 3] {
            let whole = tempfile::tempdir().unwrap();
            train(world, whole.path(), |dir| resumable(dir, 4, accumulate));
            let whole = load(&whole.path().join("epoch_4")).unwrap();
            let per_epoch = whole.meta.epoch_len;
            for cut in [2 * per_epoch, per_epoch + 1, 3] {
                let dir = tempfile::tempdir().unwrap();
                let told = AtomicUsize::new(0);
                let first = train(world, dir.path(), |dir| {
                    // One rank alone hears of it.
                    let is_told = told.fetch_add(1, Ordering::Relaxed) == 0;
                    let limits = Limits { after_iter: is_told.then_some(cut), ..Limits::default() };
                    resumable(dir, 4, accumulate).limits(limits)
                });
                assert!(matches!(alike(first).end, Outcome::Interrupted(_)));
                let newest = std::fs::read_to_string(dir.path().join("last_checkpoint")).unwrap();
                let from = dir.path().join(newest.trim());
                assert_eq!(load(&from).unwrap().meta.iter, cut);
                alike(train(world, dir.path(), |dir| resumable(dir, 4, accumulate).resume(true)));
                let parts = load(&dir.path().join("epoch_4")).unwrap();
                let differs = digest::first_difference(&whole, &parts);
                assert_eq!(differs, None, "{world} ranks, window of {accumulate}, cut at {cut}");
            }
        }
    }
}

/// 2 ranks, then 1, then 3: at the end of an epoch a run goes on with any number of ranks, and within one where a batch
/// of theirs begins there; each sample of the epoch comes once.
#[test]
fn another_number_of_ranks_goes_on() {
    let sampler = |blocks: bool| -> Box<dyn Sampler> {
        let blocks_of = SequentialSampler { subsample_type: Subsample::Sequential, ..Default::default() };
        if blocks { Box::new(blocks_of) } else { Box::new(DefaultSampler::default()) }
    };
    struct Part {
        world: usize,
        batch: usize,
        cut: Option<u64>,
        resumes: bool,
    }
    let run = |dir: &Path, blocks: bool, accumulate: u64, part: Part| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let result = ranks(part.world, |_, comm| {
            let noted = Arc::clone(&seen);
            let note = move |_: &mut Ctx<'_>, event: &mut Event<'_>| {
                if let Event::BeforeTrainIter(batch) = event {
                    noted.lock().unwrap().extend(batch.ids.iter().copied());
                }
                Ok(())
            };
            let data = data(24, part.batch).sampler(sampler(blocks));
            let builder = Runner::builder(model(None))
                .train(data, EpochBasedTrainLoop::new(3), optim().accumulate(accumulate))
                .work_dir(dir)
                .seed(5)
                .comm(comm)
                .on(Point::BeforeTrainIter, note)
                .limits(Limits { after_iter: part.cut, ..Limits::default() });
            let mut runner = builder.resume(part.resumes).build()?;
            runner.train()?;
            Ok(runner.session().state.progress.epoch)
        });
        let mut ids = seen.lock().unwrap().clone();
        ids.sort_unstable();
        result.map(|_| ids)
    };
    let pass: Vec<u64> = (0..24).collect();
    // At the ends of epochs, whatever the batches.
    let dir = tempfile::tempdir().unwrap();
    for (nth, (world, batch, cut)) in
        [(2, 3, Some(4)), (1, 5, Some(10)), (3, 4, None)].into_iter().enumerate()
    {
        let part = Part { world, batch, cut, resumes: nth > 0 };
        assert_eq!(run(dir.path(), false, 1, part).unwrap(), pass, "{world} ranks");
    }
    // Within one: 12 of 24 samples are seen.
    let dir = tempfile::tempdir().unwrap();
    let mut all =
        run(dir.path(), false, 1, Part { world: 2, batch: 3, cut: Some(2), resumes: false }).unwrap();
    all.extend(run(dir.path(), false, 1, Part { world: 3, batch: 2, cut: Some(4), resumes: true }).unwrap());
    all.sort_unstable();
    assert_eq!(all, pass, "each sample once");
    let refused = |blocks: bool, accumulate: u64, half: Part, (world, batch): (usize, usize)| {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), blocks, accumulate, half).unwrap();
        let rest = Part { world, batch, cut: None, resumes: true };
        run(dir.path(), blocks, accumulate, rest).unwrap_err().to_string()
    };
    let half = || Part { world: 2, batch: 3, cut: Some(2), resumes: false };
    let text = refused(false, 1, half(), (1, 5));
    assert!(
        text.contains("no whole number of this run's batches") && text.contains("batch_size 6"),
        "{text}"
    );
    let text = refused(true, 1, half(), (3, 2));
    assert!(text.contains("its sampler gives each rank a block"), "{text}");
    let text = refused(false, 4, half(), (1, 6));
    assert!(text.contains("within an accumulation window") && text.contains("2 ranks"), "{text}");
}

/// Equal seeds give equal bits, run for run, also where a hook changes the weights by the batch of its rank before the
/// first step.
#[test]
fn runs_of_ranks_repeat_bit_for_bit() {
    let run = || {
        let dir = tempfile::tempdir().unwrap();
        alike(train(3, dir.path(), |dir| {
            Runner::builder(model(Some(SyncBatchNorm::new(4))))
                .train(data(25, 3), EpochBasedTrainLoop::new(2), optim())
                .hook(LSUVHook::default())
                .hook(PreciseBNHook::default())
                .hook(DigestHook::every(1))
                .work_dir(dir)
                .seed(5)
        }))
    };
    let (a, b) = (run(), run());
    assert_eq!(a.losses, b.losses);
    assert_eq!(a.weights, b.weights);
}

/// What one rank asks for by what it alone sees, all do: stop, validate, skip the update, go back.
#[test]
fn what_one_rank_asks_for_all_do() {
    let run = |act: fn(&mut Ctx<'_>), point: Point, at: u64| {
        let dir = tempfile::tempdir().unwrap();
        let validated = Arc::new(AtomicUsize::new(0));
        let seen = train(2, dir.path(), |dir| {
            let count = Arc::clone(&validated);
            let ask = move |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
                if (cx.comm.place().rank, cx.progress.iter) == (1, at) {
                    act(cx);
                }
                Ok(())
            };
            let count = move |_: &mut Ctx<'_>, _: &mut Event<'_>| {
                count.fetch_add(1, Ordering::Relaxed);
                Ok(())
            };
            toy_runner(dir, 1, 8).unwrap().on(point, ask).on(Point::AfterVal, count)
        });
        (alike(seen), validated.load(Ordering::Relaxed))
    };
    let (seen, _) = run(|cx| cx.stop("far enough"), Point::AfterTrainIter, 2);
    assert_eq!(seen.losses.len(), 2);
    assert!(
        matches!(&seen.end, Outcome::Stopped(why) if why.reason == "rank 1: far enough"),
        "{:?}",
        seen.end
    );
    let (_, validated) = run(|cx| cx.val(), Point::AfterTrainIter, 2);
    assert_eq!(validated, 4, "one more on both ranks");
    let (skipped, _) = run(|cx| cx.skip_update("bad"), Point::AfterBackward, 1);
    assert_eq!(skipped.losses.len(), 4);
}

/// A loss that is NaN on one rank is NaN on all, which skip the update together.
#[test]
fn what_is_not_finite_on_one_rank_is_skipped_by_all() {
    let dir = tempfile::tempdir().unwrap();
    let seen = train(2, dir.path(), |dir| {
        let poison = |cx: &mut Ctx<'_>, event: &mut Event<'_>| {
            if let Event::BeforeTrainIter(batch) = event
                && (cx.comm.place().rank, cx.progress.iter) == (1, 2)
            {
                batch.inputs_mut()?.fill(Elem::NAN);
            }
            Ok(())
        };
        toy_runner(dir, 2, 8).unwrap().on(Point::BeforeTrainIter, poison).hook(CheckInvalidLossHook::skip())
    });
    let nan: Vec<Vec<usize>> = seen
        .iter()
        .map(|seen| (0..seen.losses.len()).filter(|at| seen.losses[*at].is_nan()).collect())
        .collect();
    assert_eq!(nan, [[2], [2]]);
    let [StateDict(first), StateDict(second)] = [&seen[0].weights, &seen[1].weights];
    assert_eq!(first, second);
    assert!(first.iter().all(|(_, tensor)| tensor.value.iter().all(|value| value.is_finite())));
}

/// A sample that is no number is met by one rank: all go back, and on without that sample, of the others none.
#[test]
fn all_ranks_go_back_from_what_one_has_met() {
    let dir = tempfile::tempdir().unwrap();
    let seen = train(2, dir.path(), |dir| {
        let poison = |_: &mut Ctx<'_>, event: &mut Event<'_>| {
            if let Event::BeforeTrainIter(batch) = event
                && let Some(row) = batch.ids.iter().position(|id| *id == 5)
            {
                batch.inputs_mut()?.index_axis_mut(ndarray::Axis(0), row).fill(Elem::NAN);
            }
            Ok(())
        };
        toy_runner(dir, 3, 8)
            .unwrap()
            .on(Point::BeforeTrainIter, poison)
            .hook(CheckInvalidLossHook::rollback(2).bundle(false))
    });
    assert_eq!(load(&dir.path().join("epoch_3")).unwrap().meta.excluded, [5]);
    assert!(seen.iter().all(|seen| seen.end == Outcome::Finished));
    assert_eq!(seen[0].weights, seen[1].weights);
    assert_eq!(seen[0].losses.len(), seen[1].losses.len());
    assert_eq!(seen[0].losses.iter().filter(|loss| loss.is_nan()).count(), 1);
}

/// Early stopping goes by the figures of all samples, which all ranks have.
#[test]
fn early_stopping_is_decided_by_the_samples_of_all_ranks() {
    let dir = tempfile::tempdir().unwrap();
    let seen = alike(train(3, dir.path(), |dir| {
        let watch = EarlyStoppingHook::new("accuracy/top1").patience(2);
        toy_runner(dir, 9, 9)
            .unwrap()
            .val(toy_data(2, false).unwrap(), Accuracy::new(vec![1], vec![None]).unwrap())
            .hook(watch)
    }));
    assert!(matches!(&seen.end, Outcome::Stopped(why) if why.by == "EarlyStoppingHook"), "{:?}", seen.end);
    assert!(seen.losses.len() < 27, "{}", seen.losses.len());
}

/// Weights that one rank has changed are told with the rank and the tensor.
#[test]
fn weights_that_differ_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let text = tried(3, dir.path(), |dir| {
        let spoil = |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
            if (cx.comm.place().rank, cx.progress.iter) == (2, 3) {
                cx.model.edit(
                    Set::Values,
                    &|p| p.name.ends_with("4.bias") || p.name.ends_with("3.bias"),
                    &mut |_, mut v| {
                        v.fill(9.0);
                    },
                )?;
            }
            Ok(())
        };
        Runner::builder(model(None))
            .train(data(24, 2), EpochBasedTrainLoop::new(2), optim())
            .on(Point::BeforeTrainIter, spoil)
            .hook(DigestHook::every(1))
            .work_dir(dir)
            .seed(5)
    });
    let text = text.unwrap_err().to_string();
    assert!(text.contains("rank 2 holds other weights than rank 0") && text.contains(".bias"), "{text}");
}

/// The learning rate is scaled by the samples of all ranks, schedules count the batches of a rank.
#[test]
fn a_config_counts_the_samples_of_all_ranks() {
    let yaml = "\
work_dir: WORK
model: {type: ToyModel}
train_dataloader: {batch_size: 4, dataset: {type: Synthetic, n: 48, shape: [3, 1, 1], classes: 2}}
train_cfg: {by_epoch: true, max_epochs: 2}
optim_wrapper: {optimizer: {type: SGD, lr: 0.1}}
auto_scale_lr: {base_batch_size: 8, enable: true}
default_hooks: {checkpoint: null}
";
    let lr = |world: usize| {
        let dir = tempfile::tempdir().unwrap();
        let all = ranks(world, |_, comm| {
            let node =
                shanty::config::parse("run.yaml", &yaml.replace("WORK", &dir.path().to_string_lossy()))?;
            let mut runner = RunnerBuilder::from_config_among(&node, None, comm)?.build()?;
            runner.train()?;
            let state = &runner.session().state;
            let optim = state.optim.as_ref().unwrap();
            Ok((optim.groups()[0].lr(), state.progress.epoch_len, state.info.seed))
        });
        let all = all.unwrap();
        assert!(all.iter().all(|own| *own == all[0]), "{all:?}");
        all[0]
    };
    for (world, epoch_len) in [(1, 12), (2, 6), (3, 4)] {
        let (own, batches, _) = lr(world);
        assert!((own - 0.1 * world as f64 * 4.0 / 8.0).abs() < 1e-12, "{own}");
        assert_eq!(batches, epoch_len);
    }
}

/// An iteration is computing, waiting and communication; on 8 ranks a call has 7 messages, and of a sum 7/8 go each way.
#[test]
fn a_step_is_measured_and_predicted() {
    let yaml = "\
model: {type: ToyModel}
train_dataloader: {batch_size: 4, dataset: {type: Synthetic, n: 48, shape: [3, 1, 1], classes: 2}}
train_cfg: {by_epoch: true, max_epochs: 2}
optim_wrapper: {optimizer: {type: SGD, lr: 0.1}}
";
    let node = shanty::config::parse("run.yaml", yaml).unwrap();
    let all = ranks(2, |_, comm| scale(&node, None, comm, 5)).unwrap();
    let found = all[0];
    assert_eq!(found.world, 2);
    let parts = found.compute() + found.waiting + found.communication;
    assert!(found.iteration > 0.0 && (parts - found.iteration).abs() < 1e-9, "{found:?}");
    // A gathering of the losses, the gradients, and whether to skip and to leave.
    assert!(found.calls == 4.0 && found.bytes > 12.0, "{found:?}");
    assert!(found.of_call > 0.0, "{found:?}");
    let known = Scale {
        world: 2,
        iteration: 10e-3,
        waiting: 0.0,
        communication: 1e-3,
        calls: 4.0,
        bytes: 1e6,
        of_call: 1e-6,
        of_byte: 1e-9,
    };
    let wanted = 9e-3 + 4.0 * 7.0 * 1e-6 + 1e6 * 1e-9 * (7.0 / 8.0) / 0.5;
    assert!(
        (known.predicted(8) - wanted).abs() < 1e-12 && (known.efficiency(8) - 9e-3 / wanted).abs() < 1e-12
    );
    let alone = scale(&node, None, Arc::new(shanty::comm::Solo::default()), 5).unwrap_err().to_string();
    assert!(alone.contains("start several"), "{alone}");
}

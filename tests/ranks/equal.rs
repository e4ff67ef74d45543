//! What ranks compute is what one process computes.

use super::*;

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

/// Gradients that are large go in pieces of their own, under way together: the sums are those of one rank.
#[test]
fn large_gradients_are_those_of_one_rank() {
    let run = |world: usize, batch: usize| {
        let dir = tempfile::tempdir().unwrap();
        alike(train(world, dir.path(), |dir| {
            let net = Sequential::new().with(Flatten::default()).with(Linear::new(36, 2000)).with(Tanh {});
            let net = net.with(Linear::new(2000, 40)).with(Tanh {}).with(Linear::new(40, 3));
            Runner::builder(Supervised::new(net, CrossEntropyLoss::default()))
                .train(data(60, batch), IterBasedTrainLoop::new(12), optim().accumulate(2))
                .work_dir(dir)
                .seed(3)
        }))
    };
    for world in [2, 3] {
        near(&run(1, 12), &run(world, 12 / world), &format!("{world} ranks"));
    }
}

/// Shares that differ by one, of which the last batch of some ranks has nothing, or a rank nothing at all: each sample
/// counts once, and the step is that of one rank.
#[test]
fn uneven_last_batches_are_exact() {
    let sampler = || DefaultSampler { round_up: false, ..DefaultSampler::default() };
    for accumulate in [1, 2] {
        for (n, world, batch) in [(25, 3, 4), (26, 3, 4), (7, 3, 2), (9, 4, 2), (2, 3, 4)] {
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
}

/// Statistics of all ranks want samples of all: shares of which the last batch of some has nothing are refused before the
/// first step, and a batch of samples that cannot be read when it comes, on all ranks in the same words.
#[test]
fn batch_norms_over_all_ranks_refuse_a_rank_without_samples() {
    let run = |n: usize, batch: usize, exclude: Vec<u64>| {
        let dir = tempfile::tempdir().unwrap();
        let steps = AtomicUsize::new(0);
        let said = ranks(3, |_, comm| {
            let sampler = DefaultSampler { round_up: false, ..DefaultSampler::sequential() };
            let data = data(n, batch).sampler(sampler);
            let run = Runner::builder(model(Some(SyncBatchNorm::new(4))));
            let run = run.train(data, EpochBasedTrainLoop::new(1), optim()).exclude_samples(exclude.clone());
            let mut run = run.work_dir(dir.path()).seed(3).comm(comm).build()?;
            let ended = run.train();
            steps.fetch_add(run.session().state.progress.iter as usize, Ordering::Relaxed);
            Ok(ended.err().map(|error| error.to_string()).unwrap_or_default())
        });
        (said.unwrap(), steps.into_inner())
    };
    let (said, steps) = run(25, 4, Vec::new());
    let expected = "in the last iteration of an epoch some ranks will have no sample, while others have some";
    assert!(steps == 0 && said.iter().all(|text| text.contains(expected) && *text == said[0]), "{said:?}");
    // Of 24 each has two batches; those of one rank in the second are left out.
    let (said, steps) = run(24, 4, vec![13, 16, 19, 22]);
    let expected = "in this iteration some ranks have no sample";
    assert!(steps == 3 && said.iter().all(|text| text.contains(expected) && *text == said[0]), "{said:?}");
    // Shares of 9, 9 and 8: each has two batches.
    assert_eq!(run(26, 5, Vec::new()), (vec![String::new(); 3], 6));
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
        let run = Runner::builder(ToyModel::new(3)).work_dir(dir.path()).comm(Arc::clone(&comm)).build()?;
        // A start that goes no further takes its folder away again.
        comm.agree(0)?;
        Ok(run.session().state.info.seed)
    });
    let seeds = seeds.unwrap();
    assert!(seeds.iter().all(|seed| *seed == seeds[0]), "{seeds:?}");
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
        let buffers = |StateDict(all): &StateDict| -> Vec<Vec<Elem>> {
            let own = all.iter().filter(|(name, _)| name.contains("running"));
            own.map(|(_, tensor)| tensor.value.iter().copied().collect()).collect()
        };
        let own = [buffers(&seen[0].weights), buffers(&seen[1].weights)];
        assert_eq!(buffers(&load(&dir.path().join("epoch_2")).unwrap().model), own[0]);
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

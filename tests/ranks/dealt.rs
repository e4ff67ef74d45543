//! What each rank gets, and what a step costs.

use super::*;

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
        "RepeatFactorSampler, oversample_thr: 0.5",
        "GroupSampler, by: length",
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
    // A gathering of the losses, the samples, the gradients, and whether to skip and to leave.
    assert!(found.calls == 5.0 && found.bytes > 12.0, "{found:?}");
    assert!(found.of_call > 0.0 && found.of_sum > 0.0, "{found:?}");
    assert_eq!(found.of_library, None, "threads have no library");
    let known = Scale {
        world: 2,
        iteration: 10e-3,
        waiting: 0.0,
        communication: 1e-3,
        calls: 4.0,
        bytes: 1e6,
        of_call: 1e-6,
        of_byte: 1e-9,
        ..Scale::default()
    };
    let wanted = 9e-3 + 4.0 * 7.0 * 1e-6 + 1e6 * 1e-9 * (7.0 / 8.0) / 0.5;
    assert!(
        (known.predicted(8) - wanted).abs() < 1e-12 && (known.efficiency(8) - 9e-3 / wanted).abs() < 1e-12
    );
    let alone = scale(&node, None, Arc::new(shanty::comm::Solo::default()), 5).unwrap_err().to_string();
    assert!(alone.contains("start several"), "{alone}");
}

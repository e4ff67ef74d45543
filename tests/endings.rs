//! A run that has left out all of its data fails, and says so: nothing ends as finished that has learned nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shanty::base::Rng;
use shanty::data::{DataLoader, Dataset, DefaultSampler, InfiniteSampler, Sample, Sampler, Synthetic};
use shanty::hook::HookConfig;
use shanty::metric::Accuracy;
use shanty::plugin::prelude::*;
use shanty::registry::Spec;
use shanty::run::verify::verify;
use shanty::run::{EpochBasedTrainLoop, IterBasedTrainLoop, Limits, RunnerBuilder};
use shanty::testing::toy_optim;
use shanty::testing::toy_runner;

/// Twelve samples, of which the first ones are torn: as many as the number says at the time.
struct Torn {
    whole: Synthetic,
    torn: Arc<AtomicUsize>,
}

impl Dataset for Torn {
    fn len(&self) -> usize {
        self.whole.len()
    }
    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
        match index < self.torn.load(Ordering::SeqCst) {
            true => Err(Error::invalid("the picture is torn")),
            false => self.whole.get(index, rng),
        }
    }
}

fn data(torn: &Arc<AtomicUsize>, sampler: impl Sampler + 'static) -> DataLoader {
    let set = Torn { whole: Synthetic::new(12, [3, 1, 1], 2, 0), torn: Arc::clone(torn) };
    DataLoader::new(set).sampler(sampler).batch_size(4).max_bad_samples(100)
}

fn torn(n: usize) -> Arc<AtomicUsize> {
    Arc::new(AtomicUsize::new(n))
}

fn run(dir: &Path, torn: &Arc<AtomicUsize>) -> RunnerBuilder {
    toy_runner(dir, 3, 3).unwrap().train(
        data(torn, DefaultSampler::default()),
        EpochBasedTrainLoop::new(3),
        toy_optim(),
    )
}

fn failure(run: RunnerBuilder) -> String {
    run.build().unwrap().train().unwrap_err().to_string()
}

fn checkpoints(dir: &Path) -> Vec<String> {
    let all = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut names: Vec<_> = all
        .filter(|path| path.join("manifest.json").exists())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A folder of torn pictures below `max_bad_samples` ended as finished, after epochs in which nothing happened; in
/// every kind of loop, with endless batches and with fewer iterations than a pass has.
#[test]
fn a_training_that_leaves_out_everything_is_an_error() {
    let all_torn = || data(&torn(12), DefaultSampler::default());
    let epochs = |run: RunnerBuilder| run;
    let iters = |max_iters| {
        move |run: RunnerBuilder| {
            run.train(all_torn(), IterBasedTrainLoop::new(max_iters).val_interval(1), toy_optim())
        }
    };
    let endless = |run: RunnerBuilder| {
        let train_loop = IterBasedTrainLoop::new(1_000_000_000).val_interval(1);
        run.train(data(&torn(12), InfiniteSampler::default()), train_loop, toy_optim())
    };
    let long =
        |run: RunnerBuilder| run.train(all_torn(), EpochBasedTrainLoop::new(1_000_000_000), toy_optim());
    let loops: [(&str, Box<dyn Fn(RunnerBuilder) -> RunnerBuilder>, &str); 5] = [
        ("epochs", Box::new(epochs), "iteration 3: "),
        ("long", Box::new(long), "iteration 3: "),
        ("iterations", Box::new(iters(9)), "iteration 3: "),
        ("less than a pass", Box::new(iters(2)), "iteration 2: "),
        ("endless", Box::new(endless), "iteration 3: "),
    ];
    for (what, change, at) in loops {
        let dir = tempfile::tempdir().unwrap();
        let error = failure(change(run(dir.path(), &torn(12))));
        assert!(error.contains("no sample is left to train on: of 12"), "{what}: {error}");
        let unreadable = if what == "less than a pass" { "8 because" } else { "12 because" };
        assert!(error.contains(unreadable) && error.contains(".log lists them"), "{what}: {error}");
        assert!(error.contains(at) && error.contains("mend the data"), "{what}: {error}");
        assert_eq!(checkpoints(dir.path()), [""; 0], "{what}: nothing was learned");
    }
    // One sample is enough to go on with.
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &torn(11)).build().unwrap().train().unwrap();
}

/// Pictures that get lost in the midst of a run end it, and when they are back it goes on as if they had always been
/// there.
#[test]
fn data_that_come_back_are_trained_as_if_they_had_never_gone() {
    let (whole, dir, lost) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), torn(0));
    run(whole.path(), &lost).build().unwrap().train().unwrap();
    let gone = Arc::clone(&lost);
    let lose = move |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
        gone.store(if cx.progress.epoch == 1 { 12 } else { 0 }, Ordering::SeqCst);
        Ok(())
    };
    let error = failure(run(dir.path(), &lost).on(Point::BeforeTrainEpoch, lose));
    assert!(error.contains("no sample is left"), "{error}");
    assert_eq!(checkpoints(dir.path()), ["epoch_1"]);
    lost.store(0, Ordering::SeqCst);
    let resumed = run(dir.path(), &lost).resume(true).on(Point::BeforeTrainEpoch, |_, _| Ok(()));
    resumed.build().unwrap().train().unwrap();
    let model = |dir: &Path| fs::read(dir.join("epoch_3/model.safetensors")).unwrap();
    assert_eq!(model(dir.path()), model(whole.path()));
}

fn spoiled(dir: &Path, from: u64) -> RunnerBuilder {
    let spec = "{type: CheckInvalidLossHook, action: rollback, patience: 100}";
    let hook = Spec::<dyn Hook>::parse(spec).unwrap().build(&mut BuildCx::new(0)).unwrap();
    let spoil = move |cx: &mut Ctx<'_>, event: &mut Event<'_>| {
        if let Event::BeforeTrainIter(batch) = event
            && cx.progress.iter >= from
        {
            batch.inputs_mut().unwrap().fill(Elem::NAN);
        }
        Ok(())
    };
    toy_runner(dir, 3, 3)
        .unwrap()
        .boxed_hook(hook, "CheckInvalidLossHook", HookConfig::default())
        .on(Point::BeforeTrainIter, spoil)
}

/// `rollback` left out one sample after the other until none was left, and then ended as finished.
#[test]
fn a_rollback_that_excludes_everything_is_an_error_and_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let error = failure(spoiled(dir.path(), 4));
    assert!(error.contains("no sample is left to train on: of 12, 12 are left out by"), "{error}");
    assert!(error.contains("`rollback`, 0 because"), "{error}");
    // Whatever checkpoint is the newest: what made the loss invalid is mended, and the run goes on to its end.
    let mut runner = spoiled(dir.path(), u64::MAX).resume(true).build().unwrap();
    runner.train().unwrap();
    assert_eq!(runner.session().state.progress.iter, 9);
    assert!(checkpoints(dir.path()).contains(&"epoch_3".to_owned()));
}

/// A cut that fell on an iteration without a sample was never made: "the run ended before the cut".
#[test]
fn a_run_is_cut_where_it_has_no_samples_too() {
    let scratch = tempfile::tempdir().unwrap();
    let make = |dir: &Path, resume: bool, limits: Limits| {
        let run = toy_runner(dir, 3, 3)?;
        let run =
            run.train(data(&torn(0), DefaultSampler::sequential()), EpochBasedTrainLoop::new(3), toy_optim());
        run.exclude_samples(vec![8, 9, 10, 11]).resume(resume).limits(limits).build()
    };
    for cut in verify(&make, |_| vec![1, 2, 3, 5, 6, 8], scratch.path(), &mut |_| ()).unwrap() {
        assert_eq!(cut.difference, None, "cut at {}", cut.at);
    }
    let nothing =
        |dir: &Path, resume: bool, limits: Limits| run(dir, &torn(12)).resume(resume).limits(limits).build();
    let scratch = tempfile::tempdir().unwrap();
    let error = verify(&nothing, |_| vec![4], scratch.path(), &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("no sample is left"), "{error}");
}

/// A validation of nothing gave metrics of nothing.
#[test]
fn a_validation_that_leaves_out_everything_is_an_error() {
    for n in [4, 12] {
        let dir = tempfile::tempdir().unwrap();
        let accuracy = Accuracy::new(vec![1], vec![None]).unwrap();
        let run = toy_runner(dir.path(), 1, 3).unwrap();
        let run = run.val(data(&torn(n), DefaultSampler::sequential()), accuracy);
        let trained = run.build().unwrap().train();
        if n == 4 {
            trained.unwrap();
            continue;
        }
        let error = trained.unwrap_err().to_string();
        assert!(
            error.contains("val_dataloader") && error.contains("no sample is left to evaluate"),
            "{error}"
        );
        assert_eq!(checkpoints(dir.path()), ["epoch_1"], "what was trained is kept");
    }
}

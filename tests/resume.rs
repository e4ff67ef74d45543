//! A stopped and resumed run is the same run, bit for bit.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::path::Path;

use shanty::checkpoint::load;
use shanty::plugin::prelude::*;
use shanty::run::{EpochBasedTrainLoop, IterBasedTrainLoop, Outcome, RunnerBuilder};
use shanty::testing::toy_data;
use shanty::testing::toy_optim;
use shanty::testing::toy_runner;

fn accumulating(dir: &Path) -> RunnerBuilder {
    let data = toy_data(5, true).unwrap();
    toy_runner(dir, 2, 5).unwrap().train(data, EpochBasedTrainLoop::new(2), toy_optim().accumulate(2))
}

/// The whole run, and the same run cut after `cut` iterations and resumed: both final checkpoints.
fn both(make: impl Fn(&Path) -> RunnerBuilder, cut: u64, last: &str) -> (Checkpoint, Checkpoint) {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(make(whole.path()).build().unwrap().train().unwrap(), Outcome::Finished);
    let stop_at_cut = move |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
        if cx.progress.iter == cut {
            cx.stop("cut");
        }
        Ok(())
    };
    let mut first = make(parts.path()).on(Point::AfterTrainIter, stop_at_cut).build().unwrap();
    assert!(matches!(first.train().unwrap(), Outcome::Stopped(_)));
    let mut second = make(parts.path()).resume(true).build().unwrap();
    assert_eq!(second.train().unwrap(), Outcome::Finished);
    (load(&whole.path().join(last)).unwrap(), load(&parts.path().join(last)).unwrap())
}

fn same_end(whole: &Checkpoint, parts: &Checkpoint) {
    assert_eq!(whole.model, parts.model);
    assert_eq!(whole.optimizer, parts.optimizer);
    assert_eq!(whole.hooks, parts.hooks);
    let counters = |c: &Checkpoint| (c.meta.epoch, c.meta.iter, c.meta.batch, c.meta.validated);
    assert_eq!(counters(whole), counters(parts));
}

#[test]
fn epoch_loop_cut_anywhere() {
    for cut in 1..12 {
        let (whole, parts) = both(|dir| toy_runner(dir, 3, 4).unwrap(), cut, "epoch_3");
        same_end(&whole, &parts);
    }
}

#[test]
fn iteration_loop_cut_anywhere() {
    for cut in 1..9 {
        let make = |dir: &Path| {
            let every_two = IterBasedTrainLoop::new(9).val_interval(2);
            toy_runner(dir, 1, 4).unwrap().train(toy_data(4, true).unwrap(), every_two, toy_optim())
        };
        let (whole, parts) = both(make, cut, "iter_9");
        same_end(&whole, &parts);
    }
}

#[test]
fn an_open_accumulation_window_is_part_of_the_state() {
    for cut in 1..10 {
        let (whole, parts) = both(accumulating, cut, "epoch_2");
        same_end(&whole, &parts);
    }
}

/// RES-04: the names and counts after a resume at an epoch's end.
#[test]
fn resuming_goes_on_with_the_next_epoch() {
    let dir = tempfile::tempdir().unwrap();
    toy_runner(dir.path(), 3, 4).unwrap().build().unwrap().train().unwrap();
    let mut runner = toy_runner(dir.path(), 5, 4).unwrap().resume(true).build().unwrap();
    runner.train().unwrap();
    assert_eq!(runner.session().state.progress.iter, 20);
    for epoch in 1..=5 {
        assert!(dir.path().join(format!("epoch_{epoch}")).exists());
    }
    // From the end: nothing is left to do.
    let mut done = toy_runner(dir.path(), 5, 4).unwrap().resume(true).build().unwrap();
    assert_eq!(done.train().unwrap(), Outcome::Finished);
    assert_eq!(done.session().state.progress.iter, 20);
}

/// RES-01, RES-02: which samples a resumed run sees.
#[test]
fn a_resumed_run_sees_the_samples_that_were_left() {
    let seen = |dir: &Path, cut: Option<u64>, resume: bool| {
        let ids = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let noted = std::sync::Arc::clone(&ids);
        let builder =
            toy_runner(dir, 3, 4).unwrap().resume(resume).on(Point::BeforeTrainIter, move |cx, event| {
                if let Event::BeforeTrainIter(batch) = event {
                    noted.lock().unwrap().push(batch.ids.clone());
                }
                if Some(cx.progress.iter + 1) == cut {
                    cx.stop("cut");
                }
                Ok(())
            });
        builder.build().unwrap().train().unwrap();
        ids.lock().unwrap().clone()
    };
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let all = seen(whole.path(), None, false);
    let mut pieces = seen(parts.path(), Some(6), false);
    assert_eq!(pieces.len(), 6);
    pieces.extend(seen(parts.path(), None, true));
    assert_eq!(pieces, all);
    for epoch in all.chunks(4) {
        let mut ids: Vec<u64> = epoch.iter().flatten().copied().collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..16).collect::<Vec<_>>(), "each sample once an epoch");
    }
    assert_ne!(all[..4], all[4..8], "another order in each epoch");
}

/// RES-11: validation draws nothing from training.
#[test]
fn validation_does_not_change_training() {
    let end = |val: bool| {
        let dir = tempfile::tempdir().unwrap();
        let three = EpochBasedTrainLoop::new(3).val_begin(if val { 1 } else { 99 });
        let run = toy_runner(dir.path(), 3, 4).unwrap().train(toy_data(4, true).unwrap(), three, toy_optim());
        let mut runner = run.build().unwrap();
        runner.train().unwrap();
        load(&dir.path().join("epoch_3")).unwrap().model
    };
    assert_eq!(end(true), end(false));
}

#[test]
fn nothing_to_resume_is_a_fresh_start() {
    let (fresh, asked) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    toy_runner(fresh.path(), 1, 4).unwrap().build().unwrap().train().unwrap();
    toy_runner(asked.path(), 1, 4).unwrap().resume(true).build().unwrap().train().unwrap();
    assert_eq!(
        load(&fresh.path().join("epoch_1")).unwrap().model,
        load(&asked.path().join("epoch_1")).unwrap().model
    );
}

struct Counting(u64);
impl Hook for Counting {
    fn after_train_iter(&mut self, _cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        self.0 += 1;
        Ok(())
    }
    fn state(&mut self) -> Option<&mut dyn HookState> {
        Some(&mut self.0)
    }
}

#[test]
fn state_of_hooks_cannot_vanish() {
    let dir = tempfile::tempdir().unwrap();
    toy_runner(dir.path(), 1, 4).unwrap().hook(Counting(0)).build().unwrap().train().unwrap();
    // The hook is gone.
    let mut without = toy_runner(dir.path(), 2, 4).unwrap().resume(true).build().unwrap();
    let error = without.train().unwrap_err().to_string();
    assert!(error.contains("the checkpoint has state of hook `Counting`"), "{error}");
    assert!(error.contains("allow_hook_changes"), "{error}");
    // It is back, with its count.
    let mut with = toy_runner(dir.path(), 2, 4).unwrap().resume(true).hook(Counting(0)).build().unwrap();
    with.train().unwrap();
    assert_eq!(with.hook::<Counting>().unwrap().0, 8);
    // Another one came.
    let two = toy_runner(dir.path(), 2, 4).unwrap().resume(true).hook(Counting(0)).hook(Counting(0));
    let error = two.build().unwrap().train().unwrap_err().to_string();
    assert!(error.contains("hook `Counting#2` keeps state, but the checkpoint has none for it"), "{error}");
}

/// Weights under another name, one missing and one too many: refused with a report, taken in part, or renamed.
#[test]
fn weights_from_elsewhere_are_matched_strictly_unless_told_otherwise() {
    use shanty::checkpoint::write_tensors;
    use shanty::params::{StateDict, StateTensor};
    use shanty::run::LoadConfig;

    let dir = tempfile::tempdir().unwrap();
    let tensor = |value: f32, n: usize| StateTensor {
        role: Role::Weight,
        value: ndarray::ArrayD::from_elem(vec![n], value as Elem),
    };
    let write = |name: &str, tensors: Vec<(&str, StateTensor)>| {
        let state = StateDict(tensors.into_iter().map(|(n, t)| (n.to_owned(), t)).collect());
        let file = dir.path().join(name);
        std::fs::write(&file, write_tensors(&state).unwrap()).unwrap();
        file
    };
    let weights_of = |file: std::path::PathBuf, options: LoadConfig| {
        let work = dir.path().join("work");
        let mut runner =
            toy_runner(&work, 1, 1).unwrap().load_from(file).load_options(options).build().unwrap();
        runner.val()?;
        Ok::<_, shanty::base::Error>(
            StateDict::of(runner.model().unwrap()).unwrap().get("toy.weight").unwrap().value.clone(),
        )
    };
    let lax = || LoadConfig { strict: false, ..LoadConfig::default() };

    let fits = write("fits.safetensors", vec![("module.toy.weight", tensor(2.0, 3))]);
    assert_eq!(weights_of(fits, LoadConfig::default()).unwrap(), tensor(2.0, 3).value);

    let more = write("more.safetensors", vec![("toy.weight", tensor(3.0, 3)), ("head.bias", tensor(0.0, 1))]);
    let error = weights_of(more.clone(), LoadConfig::default()).unwrap_err().to_string();
    assert!(error.contains("1 unexpected (head.bias)") && error.contains("strict: false"), "{error}");
    assert_eq!(weights_of(more, lax()).unwrap(), tensor(3.0, 3).value);

    let shape = write("shape.safetensors", vec![("toy.weight", tensor(4.0, 5))]);
    let error = weights_of(shape, lax()).unwrap_err().to_string();
    assert!(error.contains("toy.weight: file [5], model [3]"), "{error}");

    let other = write("other.safetensors", vec![("net.0.w", tensor(5.0, 3))]);
    let error = weights_of(other.clone(), lax()).unwrap_err().to_string();
    assert!(error.contains("0 loaded") && error.contains("revise_keys"), "{error}");
    let rules = vec![(r"^net\.(\d)\.w$".into(), "toy$1.weight".into()), ("^toy0".into(), "toy".into())];
    let renamed = LoadConfig { revise_keys: rules, ..LoadConfig::default() };
    assert_eq!(weights_of(other.clone(), renamed).unwrap(), tensor(5.0, 3).value);
    let broken = LoadConfig { revise_keys: vec![("(".into(), String::new())], ..LoadConfig::default() };
    let error = weights_of(other, broken).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
}

#[test]
fn the_chain_of_digests_goes_on_over_a_resume() {
    use shanty::hook::builtin::DigestHook;
    let chain = |dir: &Path, epochs: u64, resume: bool, seed: u64| {
        let hook = DigestHook::every(3);
        let run = toy_runner(dir, epochs, 4).unwrap().seed(seed).hook(hook).resume(resume);
        let mut runner = run.build().unwrap();
        runner.train().unwrap();
        runner.hook::<DigestHook>().unwrap().chain().to_owned()
    };
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let whole = chain(dirs[0].path(), 3, false, 0);
    // Cut at iteration 8: the samples of 7 and 8 wait for the line of 9.
    assert_ne!(chain(dirs[1].path(), 2, false, 0), whole);
    assert_eq!(chain(dirs[1].path(), 3, true, 0), whole);
    assert_ne!(chain(dirs[2].path(), 3, false, 1), whole, "another order of samples");
}

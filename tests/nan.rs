//! NaN in a run: named, skipped, or undone; and repeated from a bundle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeSet;
use std::path::Path;

use shanty::checkpoint::{digest, load};
use shanty::hook::builtin::Replay;
use shanty::plugin::prelude::*;
use shanty::run::{RunConfig, Runner};
use shanty::testing::STOCHASTIC_NET;
use shanty::vis::read_scalars;

/// Eight iterations an epoch of a network with batch norm and dropout, checked by the given hook.
fn config(dir: &Path, epochs: u64, more: &str, hook: &str) -> String {
    format!(
        "
{STOCHASTIC_NET}
train_dataloader:
  batch_size: 6
  dataset: {{type: Synthetic, n: 48, shape: [3, 2, 2], classes: 3}}
  sampler: {{type: DefaultSampler, shuffle: true}}
optim_wrapper: {{optimizer: {{type: SGD, lr: 0.1, momentum: 0.9}}}}
train_cfg: {{by_epoch: true, max_epochs: {epochs}}}
randomness: {{seed: 5}}
default_hooks: {{logger: {{type: LoggerHook, interval: 1}}}}
custom_hooks: [{}{{type: CheckInvalidLossHook, {hook}}}]
work_dir: {}
{more}
",
        // An average of the weights notices an iteration that was skipped.
        if hook.contains("skip") { "" } else { "{type: EMAHook, momentum: 0.1}, " },
        dir.display()
    )
}

/// The pixels of this sample are NaN.
struct Poison(u64);

impl Hook for Poison {
    fn before_train_iter(&mut self, _cx: &mut Ctx<'_>, batch: &mut Batch) -> HookResult {
        if let Some(row) = batch.ids.iter().position(|id| *id == self.0) {
            batch.inputs_mut().unwrap().index_axis_mut(ndarray::Axis(0), row).fill(Elem::NAN);
        }
        Ok(())
    }
}

fn runner(yaml: &str, poison: Option<u64>) -> Runner {
    let node = shanty::config::parse("test", yaml).unwrap();
    let mut runner = Runner::from_config(&node, Some("test.yaml")).unwrap();
    if let Some(id) = poison {
        runner.add_hook(Poison(id)).unwrap();
    }
    runner
}

/// Which batch of the first epoch, from 1, holds the sample, and what else is in it.
fn batch_of(id: u64) -> (u64, Vec<u64>) {
    struct Ids(Vec<Vec<u64>>);
    impl Hook for Ids {
        fn before_train_iter(&mut self, _cx: &mut Ctx<'_>, batch: &mut Batch) -> HookResult {
            self.0.push(batch.ids.clone());
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut runner = runner(&config(dir.path(), 1, "", "interval: 50"), None);
    runner.add_hook(Ids(Vec::new())).unwrap();
    runner.train().unwrap();
    let all = &runner.hook::<Ids>().unwrap().0;
    let at = all.iter().position(|ids| ids.contains(&id)).unwrap();
    (at as u64 + 1, all[at].clone())
}

#[test]
fn a_stop_names_sample_tensor_and_step_and_its_bundle_repeats_it() {
    let dir = tempfile::tempdir().unwrap();
    let (iter, ids) = batch_of(17);
    let mut run = runner(&config(dir.path(), 1, "", "interval: 1"), Some(17));
    let error = run.train().unwrap_err().to_string();
    for says in [
        "`loss` became NaN".to_owned(),
        format!("iteration {iter};"),
        "the first bad tensor is the input of samples [17]".to_owned(),
        format!("samples of the batch: {ids:?}"),
    ] {
        assert!(error.contains(&says), "{says}: {error}");
    }
    let bundle = run.session().state.dirs.log.join(format!("replay_iter_{iter}"));
    let mut replay = Replay::read(&bundle).unwrap();
    assert_eq!(replay.batch.ids, ids);
    let node = shanty::config::parse("bundle", &replay.config).unwrap();
    let mut model = RunConfig::read(&node).unwrap().model.build(&mut BuildCx::new(5)).unwrap();
    let again = replay.step(&mut *model).unwrap();
    assert_eq!(again, Some(("`loss` became NaN".into(), "the input of samples [17]".into())));
}

/// The same digest as the run that never had the sample, whenever it comes first and however far back the way is.
#[test]
fn rolled_back_the_run_ends_like_one_that_never_had_the_sample() {
    for (id, steps) in [(17, 50), (3, 3), (40, 1), (17, 4)] {
        let (bad, clean) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let hook = format!("action: rollback, check: all, rollback_steps: {steps}");
        let mut run = runner(&config(bad.path(), 2, "", &hook), Some(id));
        run.train().unwrap();
        let exclude = format!("exclude_samples: [{id}]");
        runner(&config(clean.path(), 2, &exclude, &hook), Some(id)).train().unwrap();
        let (mut a, mut b) =
            (load(&bad.path().join("epoch_2")).unwrap(), load(&clean.path().join("epoch_2")).unwrap());
        for c in [&mut a, &mut b] {
            // Only the hook itself knows that it went back.
            c.hooks.remove("CheckInvalidLossHook");
            c.rollback = None;
        }
        assert_eq!(digest::first_difference(&a, &b), None, "sample {id}, {steps} steps");
        assert_eq!(digest::of(&a), digest::of(&b));
        assert_eq!(a.meta.excluded, [id]);
        let lines = read_scalars(&run.session().state.dirs.log.join("vis_data/scalars.json")).unwrap();
        let steps: Vec<f64> = lines.iter().flatten().filter(|(n, _)| n == "step").map(|(_, v)| *v).collect();
        assert_eq!(steps, (1..=16).map(f64::from).collect::<Vec<_>>(), "no step twice");
    }
}

/// Whole batch left out, whole batch skipped: the same weights, running means included.
#[test]
fn skipped_the_batch_has_not_been() {
    let (bad, clean) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_, ids) = batch_of(17);
    runner(&config(bad.path(), 1, "", "action: skip"), Some(17)).train().unwrap();
    let exclude = format!("exclude_samples: {ids:?}");
    runner(&config(clean.path(), 1, &exclude, "action: skip"), None).train().unwrap();
    let (a, b) = (load(&bad.path().join("epoch_1")).unwrap(), load(&clean.path().join("epoch_1")).unwrap());
    assert_eq!(a.model, b.model);
    assert_eq!(a.optimizer, b.optimizer);
}

/// Inside an accumulation window the running means of a bad batch stood until its end, and an average took them.
#[test]
fn no_average_takes_what_a_skipped_batch_left() {
    let average = "{type: EMAHook, momentum: 0.1, update_buffers: true}";
    let more = "optim_wrapper: {optimizer: {type: SGD, lr: 0.1}, accumulative_counts: 2}";
    // The bad batch is the first of its window, or the second.
    let mut places = BTreeSet::new();
    for id in 0..48 {
        if !places.insert(batch_of(id).0 % 2) {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let yaml = config(dir.path(), 1, more, "action: skip, check: all");
        let yaml = yaml.replacen("optim_wrapper: {optimizer: {type: SGD, lr: 0.1, momentum: 0.9}}\n", "", 1);
        let yaml = yaml.replace("custom_hooks: [", &format!("custom_hooks: [{average}, "));
        runner(&yaml, Some(id)).train().unwrap();
        let saved = load(&dir.path().join("epoch_1")).unwrap();
        let own = &saved.hooks["EMAHook"].tensors;
        assert!(own.len() > 4 && own.values().all(|t| t.iter().all(|v| v.is_finite())), "sample {id}");
        assert!(saved.model.0.iter().all(|(_, t)| t.value.iter().all(|v| v.is_finite())), "sample {id}");
    }
    assert_eq!(places.len(), 2);
}

/// Gradients of a window keep what its bad batch left: each later batch of it was blamed too, which wrote bundles that
/// repeat nothing and ate the patience.
#[test]
fn a_bad_batch_is_told_once_in_its_window() {
    for (id, check) in [(17, "grads"), (5, "all"), (30, "grads")] {
        let dir = tempfile::tempdir().unwrap();
        let hook = format!("action: skip, patience: 1, check: {check}");
        let yaml = config(dir.path(), 1, "", &hook)
            .replace("momentum: 0.9}}", "momentum: 0.9}, accumulative_counts: 8}");
        assert!(yaml.contains("accumulative_counts: 8"));
        let mut run = runner(&yaml, Some(id));
        run.train().unwrap_or_else(|e| panic!("sample {id}: {e}"));
        let names = std::fs::read_dir(&run.session().state.dirs.log).unwrap();
        let names = names.map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
        let bundles: Vec<String> = names.filter(|name| name.starts_with("replay_iter_")).collect();
        assert_eq!(bundles, [format!("replay_iter_{}", batch_of(id).0)]);
    }
}

#[test]
fn a_resumed_run_still_leaves_the_sample_out() {
    let (parts, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hook = "action: rollback";
    runner(&config(whole.path(), 2, "", hook), Some(17)).train().unwrap();
    runner(&config(parts.path(), 1, "", hook), Some(17)).train().unwrap();
    runner(&config(parts.path(), 2, "resume: true", hook), Some(17)).train().unwrap();
    let end = |dir: &Path| load(&dir.join("epoch_2")).unwrap();
    assert_eq!(end(whole.path()).model, end(parts.path()).model);
}

#[test]
fn a_hopeless_run_ends() {
    struct AllBad;
    impl Hook for AllBad {
        fn before_train_iter(&mut self, _cx: &mut Ctx<'_>, batch: &mut Batch) -> HookResult {
            batch.inputs_mut().unwrap().fill(Elem::NAN);
            Ok(())
        }
    }
    for action in ["skip", "rollback"] {
        let dir = tempfile::tempdir().unwrap();
        let hook = format!("action: {action}, patience: 3, bundle: false");
        let mut run = runner(&config(dir.path(), 9, "", &hook), None);
        run.add_hook(AllBad).unwrap();
        let error = run.train().unwrap_err().to_string();
        assert!(error.contains("patience ended after 3 times"), "{action}: {error}");
    }
}

/// Three epochs meet the sample three times, which are no three bad steps in a row.
#[test]
fn good_steps_begin_the_count_anew() {
    for action in ["skip", "rollback"] {
        let dir = tempfile::tempdir().unwrap();
        let hook = format!("action: {action}, patience: 1, rollback_steps: 1, bundle: false");
        runner(&config(dir.path(), 3, "", &hook), Some(17)).train().unwrap();
    }
}

/// Weights that broke while the loss was still a number are found before they are kept.
#[test]
fn a_broken_weight_is_named() {
    struct Break;
    impl Hook for Break {
        fn after_backward(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
            if cx.progress.iter == 3 {
                let bias = |p: &Info<'_>| p.name == "backbone.5.bias";
                cx.model.edit(Set::Values, &bias, &mut |_, mut value| value.fill(Elem::INFINITY))?;
            }
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut run = runner(&config(dir.path(), 1, "", "interval: 1, check: all"), None);
    run.add_hook(Break).unwrap();
    let error = run.train().unwrap_err().to_string();
    assert!(error.contains("the first bad tensor is the weight `backbone.5.bias`"), "{error}");
}

//! What stays apart: two hooks of one run that save, neither of which takes the checkpoints of the other, and two runs of
//! one process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use shanty::hook::builtin::{CheckpointHook, IterTimerHook};
use shanty::plugin::prelude::*;
use shanty::run::RunnerBuilder;
use shanty::testing::toy_runner;

fn with(run: RunnerBuilder, yaml: &str) -> RunnerBuilder {
    run.hook_yaml(&format!("{{type: CheckpointHook, {yaml}}}")).unwrap()
}

fn named(dir: &Path) -> Vec<String> {
    let all = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let mut all: Vec<_> = all.filter(|entry| entry.path().join("manifest.json").exists()).collect();
    all.sort_by_key(fs::DirEntry::file_name);
    all.into_iter().map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// A second hook kept one checkpoint, and with that deleted those that the first was to keep.
#[test]
fn two_hooks_that_save_under_one_name_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let work = home.path().join("w");
    let here = home.path().display();
    let out = format!("out_dir: {here}/o");
    for (first, second) in [
        ("", "max_keep_ckpts: 1".to_owned()),
        ("interval: 2", "by_epoch: true".to_owned()),
        ("filename_tmpl: 'a{}'", "filename_tmpl: 'a1{}'".to_owned()),
        ("save_best: accuracy/top1", "interval: -1, save_last: false, save_best: accuracy/top1".to_owned()),
        // The work_dir in other words.
        ("", format!("out_dir: {here}")),
        ("", format!("out_dir: {here}/x/..")),
        (&*out, format!("out_dir: {here}/./o/.")),
    ] {
        let run = toy_runner(&work, 3, 3).unwrap().without_default_hooks();
        let error = with(with(run, first), &second).build().err().expect(&second);
        let text = error.to_string();
        assert_eq!(error.exit_code(), 2, "{text}");
        for part in ["`CheckpointHook`", "`CheckpointHook#2`", "out_dir", "default_hooks.checkpoint"] {
            assert!(text.contains(part), "{first} beside {second}: {text}");
        }
        assert!(!work.exists(), "nothing was made");
    }
    let mut run = with(toy_runner(&work, 1, 3).unwrap(), "").build().unwrap();
    run.add_hook(CheckpointHook::default()).unwrap();
    let text = run.train().unwrap_err().to_string();
    assert!(text.contains("would delete each other's"), "{text}");
}

/// Each keeps to its own names, its own folder, or its own metric; the best of one metric under two templates too.
#[test]
fn hooks_with_names_of_their_own_keep_their_checkpoints() {
    let home = tempfile::tempdir().unwrap();
    let work = home.path().join("w");
    let run = toy_runner(&work, 3, 3).unwrap().without_default_hooks();
    let run = with(run, "max_keep_ckpts: 1, save_best: accuracy/top1");
    let run = with(run, "filename_tmpl: 'b{}', max_keep_ckpts: 2, save_best: accuracy/top1");
    let run = with(run, "by_epoch: false, interval: 4, max_keep_ckpts: 1, save_last: false");
    let run = with(run, &format!("out_dir: {}/o", home.path().display()));
    run.build().unwrap().train().unwrap();
    let best = |template: &str| named(&work).iter().filter(|name| name.starts_with(template)).count();
    assert_eq!((best("best_accuracy_top1_epoch_"), best("best_accuracy_top1_b")), (1, 1));
    let planned: Vec<_> = named(&work).into_iter().filter(|name| !name.starts_with("best")).collect();
    assert_eq!(planned, ["b2", "b3", "epoch_3", "iter_8"]);
    assert_eq!(named(&home.path().join("o/w")), ["epoch_1", "epoch_2", "epoch_3"]);
}

/// A program that gave a CheckpointHook had two of them, and `hook::<CheckpointHook>()` was the other one.
#[test]
fn a_given_hook_of_a_default_type_takes_its_place() {
    let home = tempfile::tempdir().unwrap();
    let given = "filename_tmpl: 'mine_{}', save_best: accuracy/top1";
    let mut run =
        with(toy_runner(home.path(), 2, 3).unwrap(), given).hook(IterTimerHook::default()).build().unwrap();
    let keys: Vec<_> = run.session().hooks.keys().iter().map(ToString::to_string).collect();
    assert!(keys.iter().all(|key| !key.contains('#')), "{keys:?}");
    assert_eq!(keys.len(), 6, "{keys:?}");
    run.train().unwrap();
    assert!(run.hook::<CheckpointHook>().unwrap().best_so_far("accuracy/top1").is_some());
    let planned: Vec<_> = named(home.path()).into_iter().filter(|name| !name.starts_with("best")).collect();
    assert_eq!(planned, ["mine_1", "mine_2"]);

    // Under a key of its own it is one more.
    let work = home.path().join("two");
    let run = toy_runner(&work, 2, 3).unwrap();
    with(run, "filename_tmpl: 'mine_{}', key: second").build().unwrap().train().unwrap();
    assert_eq!(named(&work), ["epoch_1", "epoch_2", "mine_1", "mine_2"]);
}

/// The config says where the second is, for `check` and `train`.
#[cfg(feature = "cli")]
#[test]
fn a_config_is_told_where_the_second_is() {
    const CONFIG: &str = "\
model: {type: ToyModel, n: 12}
train_dataloader:
  batch_size: 4
  dataset: {type: Synthetic, n: 12, shape: [3, 2, 2], classes: 2}
optim_wrapper: {optimizer: {type: SGD, lr: 0.1}}
train_cfg: {by_epoch: true, max_epochs: 3}
custom_hooks:
  - {type: CheckpointHook, max_keep_ckpts: 1}
randomness: {seed: 1}
work_dir: w
";
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.yaml"), CONFIG).unwrap();
    for command in ["check", "train"] {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_shanty"))
            .args([command, "c.yaml"])
            .current_dir(dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{command}: {said}");
        assert!(
            said.contains("c.yaml:8:") && said.contains("`default_hooks.checkpoint`"),
            "{command}: {said}"
        );
        assert!(!dir.path().join("w").exists());
    }
}

/// A thread of the pool that waits for a part of one run must not begin with another one, which might wait for it.
#[test]
fn one_run_at_a_time_is_on_the_pool() {
    let home = tempfile::tempdir().unwrap();
    let is_on_pool = || rayon::current_thread_index().is_some();
    let seen = std::sync::Arc::new(Mutex::new(Vec::new()));
    let (inner_dir, noted) = (home.path().join("inner"), seen.clone());
    let run_inside = move |outer: bool| {
        let noted = noted.clone();
        let inner = toy_runner(&inner_dir, 1, 1).unwrap().overwrite(true);
        let note = move |_: &mut Ctx<'_>, _: &mut Event<'_>| -> HookResult {
            noted.lock().unwrap().push((outer, is_on_pool()));
            Ok(())
        };
        inner.on(Point::BeforeTrainIter, note).build().unwrap().train().unwrap();
    };
    let begins = move |_: &mut Ctx<'_>, _: &mut Event<'_>| -> HookResult {
        let outer = is_on_pool();
        std::thread::scope(|scope| scope.spawn(|| run_inside(outer)).join()).unwrap();
        Ok(())
    };
    let outer = toy_runner(&home.path().join("outer"), 1, 2).unwrap();
    outer.on(Point::BeforeTrainIter, begins).build().unwrap().train().unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert!(!seen.contains(&(true, true)), "both are on the pool");
}

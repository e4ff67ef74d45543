//! The table of docs/backends.md: every hook with a network of candle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use shanty::checkpoint::load;
use shanty::config;
use shanty::ndarray::Axis;
use shanty::params::StateDict;
use shanty::plugin::prelude::*;
use shanty::run::{Runner, RunnerBuilder};

use support::here;

/// A short run of the digits with these keys.
fn build(dir: &Path, set: &[&str]) -> Result<Runner> {
    let short =
        ["model.network.base_channels=4", "train_cfg.max_epochs=2", "train_dataloader.batch_size=128"];
    let mut all = vec![format!("work_dir={}", dir.display())];
    all.extend(short.iter().chain(set).map(|one| (*one).to_owned()));
    RunnerBuilder::from_config(&config::load(&here("configs/digits.yaml"), &all)?, Some("digits"))?.build()
}

/// What becomes of a run with these keys.
fn trained(set: &[&str]) -> Result<StateDict> {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = build(dir.path(), set)?;
    runner.train()?;
    runner.test()?;
    StateDict::of(runner.model()?)
}

/// Hooks that a network of candle has as any other: with what keys, and whether the weights end as without them.
const WORK: [(&str, &str, bool); 22] = [
    ("CheckInvalidLossHook", "interval: 1, action: rollback", true),
    ("CheckpointHook", "interval: 5, by_epoch: false", true),
    ("ClassNumCheckHook", "", true),
    ("DigestHook", "interval: 5", true),
    ("DistSamplerSeedHook", "", true),
    ("EMAHook", "momentum: 0.05, update_buffers: true", true),
    ("EarlyStoppingHook", "monitor: accuracy/top1, patience: 5", true),
    ("EmptyCacheHook", "", true),
    ("FreezeHook", "modules: head, end: 2", false),
    ("HistogramHook", "interval: 4", true),
    ("IterTimerHook", "", true),
    ("LoggerHook", "interval: 3", true),
    ("NumClassCheckHook", "", true),
    ("ParamSchedulerHook", "", true),
    ("PreciseBNHook", "num_samples: 512", false),
    ("PrepareTTAHook", "tta_cfg: {type: AverageClsScoreTTA}", true),
    ("ProfilerHook", "", true),
    ("RuntimeInfoHook", "", true),
    ("SyncBuffersHook", "", true),
    ("VisualizationHook", "enable: false", true),
    ("WarmupParamHook", "module_name: head, param_name: dropout, warmup_epochs: 1", false),
    ("WorstSamplesHook", "", true),
];

/// Hooks that ask for what only networks of shanty's own layers have, or that are about something else, with what they
/// say; `None` for one that does nothing here.
const REFUSED: [(&str, &str, Option<&str>); 5] = [
    ("FreezeHook", "modules: backbone", Some("moves with each forward pass of candle")),
    ("LSUVHook", "", None),
    ("MeanTeacherHook", "teacher: teacher, student: backbone", Some("teacher")),
    ("SwitchRecipeHook", "schedule: []", None),
    ("PipelineSwitchHook", "switch_epoch: 1, switch_pipeline: []", None),
];

fn only(hook: &str, keys: &str) -> String {
    let comma = if keys.is_empty() { "" } else { ", " };
    format!("custom_hooks=[{{type: {hook}{comma}{keys}}}]")
}

#[test]
fn hooks_work_as_with_any_other_model() {
    let plain = trained(&["custom_hooks=[]"]).unwrap();
    for (hook, keys, same) in WORK {
        let with = trained(&[&only(hook, keys)]).unwrap_or_else(|error| panic!("{hook}: {error}"));
        assert_eq!(with == plain, same, "{hook}");
    }
}

#[test]
fn what_does_not_work_says_so() {
    for (hook, keys, said) in REFUSED {
        match (trained(&[&only(hook, keys)]), said) {
            (Ok(_), None) => {}
            (Err(error), Some(said)) => assert!(error.to_string().contains(said), "{hook}: {error}"),
            (other, _) => panic!("{hook}: {:?}", other.map(|_| "trained")),
        }
    }
    for (key, said) in [
        ("activation_checkpointing=[backbone]", "cannot compute its activations again"),
        ("train_dataloader.dataset={type: Digits, split: train, pipeline: [{type: NoSuch}]}", "NoSuch"),
    ] {
        let error = trained(&[key]).unwrap_err().to_string();
        assert!(error.contains(said), "{key}: {error}");
    }
}

/// The page names every hook that there is.
#[test]
fn the_page_names_every_hook() {
    let page = std::fs::read_to_string(here("../../docs/backends.md")).unwrap();
    let tried: BTreeSet<&str> =
        WORK.iter().map(|(hook, ..)| *hook).chain(REFUSED.iter().map(|(hook, ..)| *hook)).collect();
    for entry in shanty::registry::entries("hook") {
        assert!(tried.contains(entry.name), "{} is not tried here", entry.name);
        assert!(page.contains(entry.name), "docs/backends.md lacks {}", entry.name);
    }
}

/// The pixels of one sample are NaN.
struct Poison;

const POISONED: u64 = 17;

impl Hook for Poison {
    fn before_train_iter(&mut self, _: &mut Ctx<'_>, batch: &mut Batch) -> HookResult {
        if let Some(row) = batch.ids.iter().position(|id| *id == POISONED) {
            batch.inputs_mut()?.index_axis_mut(Axis(0), row).fill(Elem::NAN);
        }
        Ok(())
    }
}

/// `stop` names the sample; after `rollback` weights, statistics and average are those of a run that never had it.
#[test]
fn a_spoilt_sample_is_named_and_undone() {
    let (none, known) = ("exclude_samples=[]", format!("exclude_samples=[{POISONED}]"));
    let ended = |action: &str, excluded: &str| {
        let average = "{type: EMAHook, momentum: 0.05, update_buffers: true}";
        let hooks =
            format!("custom_hooks=[{average}, {{type: CheckInvalidLossHook, interval: 1, {action}}}]");
        let dir = tempfile::tempdir().unwrap();
        let mut runner = build(dir.path(), &[&hooks, excluded])?;
        runner.add_hook(Poison)?;
        runner.train()?;
        load(&dir.path().join("epoch_2")).map(|saved| (saved.model, saved.hooks["EMAHook"].clone()))
    };
    let error = ended("action: stop, check: all", none).unwrap_err().to_string();
    // The rectifiers of candle make zeros of NaN, so the loss tells nothing: `check: all` looks at the inputs.
    assert!(error.contains("became invalid") && error.contains("the input of samples [17]"), "{error}");
    let undone = ended("action: rollback, check: all", none).unwrap();
    assert!(undone == ended("action: rollback, check: all", &known).unwrap());
}

/// Options of a run around the model: groups, schedules of any number, an average, SAM.
#[test]
fn groups_schedules_and_sam_are_those_of_any_model() {
    let plain = trained(&["custom_hooks=[]"]).unwrap();
    for set in [
        "optim_wrapper.sam={rho: 0.05}",
        "optim_wrapper.paramwise_cfg={custom_keys: {head: {lr_mult: 0.1}}, bias_decay_mult: 0.0}",
        "param_scheduler=[{type: LinearMomentum, start_factor: 0.5, by_epoch: false, end: 10}]",
        "optim_wrapper.optimizer={type: Lion, lr: 0.001, weight_decay: 0.0005}",
        "optim_wrapper.accumulative_counts=3",
        "optim_wrapper.clip_grad={type: value, clip_value: 0.01}",
    ] {
        let other = trained(&["custom_hooks=[]", set]).unwrap_or_else(|error| panic!("{set}: {error}"));
        assert_ne!(other, plain, "{set}");
    }
}

/// The weights of a checkpoint are the average; those that training goes on with are the hook's.
#[test]
fn a_checkpoint_holds_the_average() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = build(dir.path(), &["custom_hooks=[{type: EMAHook, momentum: 0.05}]"]).unwrap();
    runner.train().unwrap();
    let saved = load(&dir.path().join("epoch_2")).unwrap();
    let now = StateDict::of(runner.model().unwrap()).unwrap();
    let name = "head.fc.weight";
    assert_ne!(saved.model.get(name), now.get(name));
    assert_eq!(saved.hooks["EMAHook"].tensors[name], now.get(name).unwrap().value);
}

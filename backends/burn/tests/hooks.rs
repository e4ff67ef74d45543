//! The table of docs/backends.md: every hook with a network of burn.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::path::{Path, PathBuf};

use shanty::base::Result;
use shanty::checkpoint::load;
use shanty::config;
use shanty::params::StateDict;
use shanty::run::{Runner, RunnerBuilder};

#[path = "../examples/resnet.rs"]
mod resnet;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A short run of the digits with these keys.
fn build(dir: &Path, set: &[&str]) -> Result<Runner> {
    let short = [
        "model.channels=4",
        "train_cfg.max_epochs=2",
        "train_dataloader.batch_size=128",
        "optim_wrapper.accumulative_counts=2",
        "optim_wrapper.clip_grad={max_norm: 5.0}",
    ];
    let mut all = vec![format!("work_dir={}", dir.display())];
    all.extend(short.iter().chain(set).map(|one| (*one).to_owned()));
    RunnerBuilder::from_config(&config::load(&here("configs/resnet.yaml"), &all)?, Some("resnet"))?.build()
}

/// What becomes of a run with these keys.
fn trained(set: &[&str]) -> Result<StateDict> {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = build(dir.path(), set)?;
    runner.train()?;
    runner.test()?;
    StateDict::of(runner.model()?)
}

/// Hooks that a network of burn has as any other: with what keys, and whether the weights end as without them.
const WORK: [(&str, &str, bool); 22] = [
    ("CheckInvalidLossHook", "interval: 1, action: rollback", true),
    ("CheckpointHook", "interval: 5, by_epoch: false", true),
    ("ClassNumCheckHook", "", true),
    ("DigestHook", "interval: 5", true),
    ("DistSamplerSeedHook", "", true),
    ("EMAHook", "momentum: 0.05, update_buffers: true", true),
    ("EarlyStoppingHook", "monitor: accuracy/top1, patience: 5", true),
    ("EmptyCacheHook", "", true),
    ("FreezeHook", "modules: backbone, end: 2", false),
    ("HistogramHook", "interval: 4", true),
    ("IterTimerHook", "", true),
    ("LSUVHook", "", true),
    ("LoggerHook", "interval: 3", true),
    ("NumClassCheckHook", "", true),
    ("ParamSchedulerHook", "", true),
    ("PreciseBNHook", "num_samples: 512", false),
    ("PrepareTTAHook", "tta_cfg: {type: AverageClsScoreTTA}", true),
    ("ProfilerHook", "", true),
    ("RuntimeInfoHook", "", true),
    ("SyncBuffersHook", "", true),
    ("VisualizationHook", "enable: false", true),
    ("WorstSamplesHook", "", true),
];

/// Hooks that ask for what a network of burn has not, with what they say.
const REFUSED: [(&str, &str, &str); 2] = [
    ("MeanTeacherHook", "teacher: teacher, student: backbone", "teacher"),
    ("WarmupParamHook", "module_name: head, param_name: dropout, warmup_epochs: 1", "dropout"),
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
        let error =
            trained(&[&only(hook, keys)]).err().unwrap_or_else(|| panic!("{hook} trained")).to_string();
        assert!(error.contains(said), "{hook}: {error}");
    }
    for (key, said) in [
        ("activation_checkpointing=[backbone]", "cannot compute its activations again"),
        ("model.init_cfg={type: Kaiming}", "init_cfg"),
        ("model.type=BurnResnet", "BurnResNet"),
    ] {
        let error = trained(&[key]).err().unwrap_or_else(|| panic!("{key} trained")).to_string();
        assert!(error.contains(said), "{key}: {error}");
    }
}

/// A loss that is not finite: `stop` names it, before it spoils the weights.
#[test]
fn a_spoilt_loss_is_seen_before_the_update() {
    let dir = tempfile::tempdir().unwrap();
    let hook = only("CheckInvalidLossHook", "interval: 1, action: stop");
    let blown =
        ["optim_wrapper.optimizer.lr=1e30", "param_scheduler=[]", "optim_wrapper.clip_grad=null", &hook];
    let error = build(dir.path(), &blown).unwrap().train().unwrap_err().to_string();
    assert!(error.contains("loss") && (error.contains("NaN") || error.contains("inf")), "{error}");
}

/// Options of a run around the model: groups, schedules of any number, SAM, optimizers of the host.
#[test]
fn groups_schedules_and_sam_are_those_of_any_model() {
    let plain = trained(&["custom_hooks=[]"]).unwrap();
    for set in [
        "optim_wrapper.sam={rho: 0.05}",
        "optim_wrapper.paramwise_cfg={custom_keys: {head: {lr_mult: 0.1}}, bias_decay_mult: 0.0}",
        "param_scheduler=[{type: LinearMomentum, start_factor: 0.5, by_epoch: false, end: 10}]",
        "optim_wrapper.optimizer={type: Lion, lr: 0.001, weight_decay: 0.01}",
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

/// The page names every hook that there is, and each is tried here but for two that change the data.
#[test]
fn the_page_names_every_hook() {
    let page = std::fs::read_to_string(here("../../docs/backends.md")).unwrap();
    let page = &page[page.find("\n## burn").unwrap()..];
    let of_data = ["PipelineSwitchHook", "SwitchRecipeHook"];
    let tried: Vec<&str> = WORK
        .iter()
        .map(|(hook, ..)| *hook)
        .chain(REFUSED.iter().map(|(hook, ..)| *hook))
        .chain(of_data)
        .collect();
    for entry in shanty::registry::entries("hook") {
        assert!(tried.contains(&entry.name), "{} is not tried here", entry.name);
        assert!(page.contains(entry.name), "docs/backends.md lacks {}", entry.name);
    }
}

//! What is told before anything is built: parts that do not fit together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use shanty::config::Level;
use shanty::run::RunConfig;

/// A whole small run with these changes; its complaints as `level: message`.
fn complaints(overrides: &[&str]) -> Vec<String> {
    let root = env!("CARGO_MANIFEST_DIR");
    let path = std::path::Path::new(root).join("configs/digits_lenet.yaml");
    let overrides: Vec<String> = overrides.iter().map(|o| (*o).to_owned()).collect();
    let node = shanty::config::load(&path, &overrides).unwrap_or_else(|e| panic!("{e}"));
    let diags = match RunConfig::read(&node) {
        Ok(config) => config.warnings(&node),
        Err(diags) => diags,
    };
    let level = |l| if l == Level::Error { "error" } else { "warning" };
    diags.0.iter().map(|d| format!("{}: {}", level(d.level), d.message)).collect()
}

fn only(overrides: &[&str], expected: &str) {
    assert_eq!(complaints(overrides), [expected], "{overrides:?}");
}

#[test]
fn the_config_itself_is_fine() {
    assert_eq!(complaints(&[]), Vec::<String>::new());
}

#[test]
fn schedules() {
    only(&["param_scheduler.1.end=1"], "error: the schedule ends at 1, before it begins at 1");
    only(&["param_scheduler.1.end=30"], "warning: the schedule lasts until 30, but the run has 20 epochs");
    only(&["param_scheduler.0.end=25"], "warning: the warm-up lasts until 25, but the run has 20 epochs");
    only(
        &["param_scheduler.1.begin=20", "param_scheduler.1.end=30"],
        "warning: the schedule begins at 20, but the run has 20 epochs",
    );
    only(
        &["train_cfg={by_epoch: false, max_iters: 50}", "param_scheduler={type: PolyLR, by_epoch: true}"],
        "warning: the schedule counts epochs, but the loop counts iterations: it would never move",
    );
}

#[test]
fn intervals_and_units() {
    only(
        &["default_hooks.checkpoint.interval=50"],
        "warning: an interval of 50 is longer than the run of 20 epochs",
    );
    only(
        &[
            "train_cfg={by_epoch: false, max_iters: 60}",
            "param_scheduler=null",
            "default_hooks.checkpoint.by_epoch=true",
        ],
        "warning: CheckpointHook counts epochs, but the loop counts iterations",
    );
}

#[test]
fn monitors() {
    only(
        &["default_hooks.checkpoint.save_best=accuracy/top5"],
        "error: no metric of the validation is called `accuracy/top5`",
    );
    only(
        &["val_dataloader=null", "val_cfg=null", "val_evaluator=null"],
        "error: `accuracy/top1` is watched, but the run has no validation",
    );
    assert!(complaints(&["default_hooks.checkpoint.save_best=auto"]).is_empty());
}

#[test]
fn triples() {
    only(&["val_cfg=null"], "error: `val_dataloader` needs `val_cfg` beside it");
    only(&["optim_wrapper=null"], "error: `train_dataloader` needs `optim_wrapper` beside it");
}

#[test]
fn classes_and_folders() {
    let five = complaints(&["model.backbone.num_classes=5"]);
    assert_eq!(
        five[0],
        "error: the backbone tells 5 classes apart, but the data of `train_dataloader` has 10"
    );
    let twelve = complaints(&["model.backbone.num_classes=12"]);
    assert_eq!(twelve[0], "warning: the backbone has 12 classes, the data of `train_dataloader` only 10");
    let mnist = "train_dataloader.dataset={type: MNIST, data_prefix: no/such/folder}";
    only(&[mnist], "warning: there is no folder `no/such/folder` here");
    let root = "train_dataloader.dataset={type: ImageFolder, data_root: no/such, data_prefix: folder}";
    only(&[root], "warning: there is no folder `no/such/folder` here");
    let mapping =
        "train_dataloader.dataset={type: CustomDataset, data_root: no/such, data_prefix: {img_path: folder}}";
    only(&[mapping], "warning: there is no folder `no/such/folder` here");
}

#[test]
fn what_a_loop_needs() {
    only(&["train_cfg={by_epoch: true}"], "error: a loop with `by_epoch: true` needs `max_epochs`");
    only(
        &["train_cfg={by_epoch: true, type: EpochBasedTrainLoop, max_epochs: 3}", "param_scheduler=null"],
        "error: give `by_epoch` or `type`, not both",
    );
}

//! What is told before anything is trained: parts that cannot be built, or do not fit together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use shanty::base::Error;
use shanty::config::{Diags, Level};
use shanty::run::check;

/// A whole small run with these changes; its complaints as `level: message`.
fn complaints(overrides: &[&str]) -> Vec<String> {
    let root = env!("CARGO_MANIFEST_DIR");
    let path = std::path::Path::new(root).join("configs/digits_lenet.yaml");
    let overrides: Vec<String> = overrides.iter().map(|o| (*o).to_owned()).collect();
    let node = shanty::config::load(&path, &overrides).unwrap_or_else(|e| panic!("{e}"));
    let diags: Diags = match check(&node, None) {
        Ok(warnings) => warnings,
        Err(Error::Config(source)) => *source.downcast().unwrap(),
        Err(other) => panic!("{other}"),
    };
    assert!(diags.0.iter().all(|d| d.at.is_some()), "a complaint without a place: {diags}");
    let level = |l| if l == Level::Error { "error" } else { "warning" };
    // What means something else in MMEngine is told too: tests/directions.rs looks at that.
    let own = diags.0.iter().filter(|d| !d.message.contains("in MMEngine"));
    own.map(|d| format!("{}: {}", level(d.level), d.message)).collect()
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
    only(
        &["param_scheduler.1.end=0.5"],
        "error: the schedule ends at 23, before it begins at 47: `end` must be more",
    );
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

/// A schedule that was made for 20 epochs, in a run of 200: the rest would run at its last value.
///
/// The last of the 19 · 47 steps of the cosine: (1 + cos(π · 892 / 893)) / 2 = 3.094e-6.
#[test]
fn a_schedule_that_ends_long_before_the_run_is_told() {
    only(
        &["param_scheduler.1.end=20", "train_cfg.max_epochs=200"],
        "warning: the schedules end 180 epochs before the run does: the learning rate stays at 3.09411e-06 of its value until \
         then",
    );
    let by_iter = "train_cfg={by_epoch: false, max_iters: 600}";
    only(
        &[by_iter, "param_scheduler={type: PolyLR, by_epoch: false, eta_min: 0, end: 500}"],
        "warning: the schedules end 100 iterations before the run does: the learning rate stays at 0 of its value until \
         then",
    );
    // A warm-up alone is meant to end, and one that comes down in time is as well.
    assert!(complaints(&["param_scheduler={type: LinearLR, start_factor: 0.1, end: 5}"]).is_empty());
    assert!(
        complaints(&["train_cfg.max_epochs=200"]).is_empty(),
        "without `end` a schedule lasts as long as the run"
    );
}

/// A warm-up of no steps is no warm-up; a cosine of none is odd.
#[test]
fn a_schedule_without_steps() {
    let warmup = "param_scheduler.0={type: LinearLR, start_factor: 0.1, begin: 0, end: 0}";
    assert!(complaints(&[warmup, "param_scheduler.1.begin=0"]).is_empty());
    only(&["param_scheduler.1.end=1"], "warning: the schedule begins and ends at 1: it does nothing");
}

/// k batches of b are not one of k · b to a batch norm.
#[test]
fn accumulation_with_batch_norms_is_told() {
    let norm = "model.neck=[{type: Flatten}, {type: BatchNorm1d, num_features: 10}]";
    let found = complaints(&[norm, "optim_wrapper.accumulative_counts=4"]);
    assert!(
        found[0].starts_with("warning: the model has BatchNorm1d, which normalises each of the 4 batches"),
        "{found:?}"
    );
    assert!(complaints(&[norm]).is_empty());
    assert!(complaints(&["optim_wrapper.accumulative_counts=4"]).is_empty());
}

#[test]
fn monitors() {
    only(
        &["default_hooks.checkpoint.save_best=accuracy/top5"],
        "error: hook `CheckpointHook` reads the metric `accuracy/top5`, which the validation does not give",
    );
    let none = ["val_dataloader=null", "val_cfg=null", "val_evaluator=null"];
    only(
        &none,
        "error: hook `CheckpointHook` goes by `accuracy/top1` of the validation, but the run has no validation",
    );
    let auto = [&none[..], &["default_hooks.checkpoint.save_best=auto"]].concat();
    only(
        &auto,
        "error: hook `CheckpointHook` goes by a metric of the validation, but the run has no validation",
    );
    assert!(complaints(&["default_hooks.checkpoint.save_best=auto"]).is_empty());
}

/// A metric for each class, whose names are known when the classes are.
#[test]
fn a_figure_of_one_class_can_be_watched() {
    let metric = "val_evaluator={type: SingleLabelMetric, average: null}";
    let best = |name: &str| format!("default_hooks.checkpoint.save_best={name}");
    assert!(complaints(&[metric, &best("single-label/precision_classwise/0")]).is_empty());
    for (name, more) in [
        ("single-label/precision_classwise/10", "randomness.seed=0"),
        ("single-label/precisoin_classwise/0", "default_hooks.checkpoint.rule=greater"),
    ] {
        let said = complaints(&[metric, &best(name), more]);
        assert!(said.len() == 1 && said[0].starts_with("error: ") && said[0].contains(name), "{said:?}");
    }
}

/// Each was found by the training alone, some after its first epoch.
#[test]
fn what_constructors_and_the_first_batches_refuse() {
    let checkpoint = |text: &str| vec![format!("default_hooks.checkpoint.{text}")];
    let hook = |text: &str| vec![format!("custom_hooks=[{{type: {text}}}]")];
    let layer = |text: &str| {
        vec![format!(
            "model.backbone=[{{type: {text}}}, {{type: Flatten}}, {{type: Linear, in_features: 1024, out_features: 10}}]"
        )]
    };
    let one = |text: &str| vec![text.to_owned()];
    let cases: Vec<(Vec<String>, &str)> = vec![
        (checkpoint("filename_tmpl=model.ckpt"), "`filename_tmpl` needs exactly one `{}`"),
        (checkpoint("interval=0"), "`interval: 0` saves nothing"),
        (checkpoint("max_keep_ckpts=0"), "`max_keep_ckpts: 0` would keep nothing"),
        (checkpoint("rule=[greater, less]"), "`rule` needs one entry"),
        (
            vec!["optim_wrapper.optimizer={type: SGD, lr: 0.1, nesterov: true}".into()],
            "`nesterov: true` needs a momentum above 0",
        ),
        (
            vec![
                "optim_wrapper.optimizer={type: SGD, lr: 0.1, momentum: 0.9, dampening: 0.5, nesterov: true}"
                    .into(),
            ],
            "`nesterov: true` needs a momentum above 0",
        ),
        (one("optim_wrapper.clip_grad={}"), "clip_grad: `max_norm` is missing"),
        (
            one("optim_wrapper.clip_grad={type: value, max_norm: 1}"),
            "`max_norm` belongs to a clip_grad of `type: norm`",
        ),
        (hook("EMAHook, momentum: 1.0"), "`momentum` must be less than 1"),
        (hook("EMAHook, begin_iter: 100000"), "`begin_iter: 100000`, but the run has"),
        (hook("EMAHook, before: NoHook"), "which is no hook"),
        (hook("CheckInvalidLossHook, action: skip, interval: 2"), "leave `interval` out"),
        (hook("NumClassCheckHook"), ""),
        (one("model.backbone={type: ResNet, depth: 9}"), "no ResNet has `depth: 9`"),
        (
            one("val_evaluator=[{type: Accuracy}, {type: Accuracy}]"),
            "two metrics give a value named accuracy/top1",
        ),
        (one("val_evaluator.topk=[1, 1]"), "two metrics give a value named accuracy/top1"),
        (one("val_evaluator.topk=[1, 50]"), "topk 50 is more than the 10 classes"),
        (
            one("model.head.loss={type: CrossEntropyLoss, class_weight: [1, 2]}"),
            "has shape [2] where [10] is needed",
        ),
        (layer("MaxPool2d, kernel_size: 2, stride: 0"), "must be at least 1"),
        (layer("MaxPool2d, kernel_size: 2, padding: 2"), "padding"),
        (layer("AvgPool2d, kernel_size: 0"), "must be at least 1"),
        (layer("Conv2d, in_channels: 1, out_channels: 1, kernel_size: 0"), "must be at least 1"),
        (layer("Conv2d, in_channels: 3, out_channels: 1, kernel_size: 1"), "`backbone.0`"),
        (layer("Linear, in_features: 0, out_features: 3"), "`in_features` must be at least 1"),
        (layer("Linear, in_features: 31, out_features: 32"), "`backbone.0`: a linear map of 31 features"),
        (layer("LayerNorm, normalized_shape: 0"), "must be at least 1"),
        (layer("BatchNorm2d, num_features: 0"), "`num_features` must be at least 1"),
        (one("train_dataloader.dataset.pipeline=[{type: RandomCrop, crop_size: 99}]"), "99"),
        (
            one("data_preprocessor={type: ClsDataPreprocessor, mean: [1, 2], std: [1, 2]}"),
            "have 1 number or 3",
        ),
        (
            one("data_preprocessor={type: ClsDataPreprocessor, mean: [1, 2, 3], std: [1, 2, 3]}"),
            "`mean` has 3 numbers for a batch",
        ),
        (one("train_dataloader.dataset.pipeline=[{type: Resize, scale: 100000}]"), "must be at most 16384"),
    ];
    for (overrides, expected) in cases {
        let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
        let found = complaints(&overrides);
        let errors: Vec<_> = found.iter().filter(|text| text.starts_with("error")).collect();
        if expected.is_empty() {
            assert!(errors.is_empty(), "{overrides:?}: {found:?}");
        } else {
            assert!(errors.iter().any(|text| text.contains(expected)), "{overrides:?}: {found:?}");
        }
    }
}

/// More samples than anything counts.
#[test]
fn a_data_set_whose_order_no_memory_holds_is_refused() {
    let found = complaints(&[
        "train_dataloader.dataset={type: Synthetic, n: 9223372036854775807, shape: [1, 32, 32]}",
    ]);
    assert!(found[0].starts_with("error: `n` must be at most 10000000"), "{found:?}");
}

/// Sizes that no machine has, before anything is allocated.
#[test]
fn networks_that_no_memory_holds_are_refused_at_their_layer() {
    let cases = [
        ("{type: Linear, in_features: 1024, out_features: 1000000000000}", "cannot build `Linear`"),
        (
            "{type: Linear, in_features: 18446744073709551615, out_features: 18446744073709551615}",
            "cannot build `Linear`",
        ),
        (
            "{type: Conv2d, in_channels: 1, out_channels: 16777216, kernel_size: 65535}",
            "cannot build `Conv2d`",
        ),
        ("{type: BatchNorm1d, num_features: 9223372036854775807}", "cannot build `BatchNorm1d`"),
        ("{type: LayerNorm, normalized_shape: [1000000000, 1000000000]}", "cannot build `LayerNorm`"),
        ("{type: MLP, sizes: [1000000000, 1000000000]}", "cannot build `MLP`"),
        ("{type: ResNet, depth: 18, base_channels: 1048576}", "cannot build `ResNet`"),
        (
            "{type: MultiheadAttention, embed_dims: 1000000000000, num_heads: 1}",
            "cannot build `MultiheadAttention`",
        ),
    ];
    for (layer, expected) in cases {
        let found = complaints(&[&format!("model.backbone={layer}")]);
        assert!(found[0].contains(expected) && found[0].contains("this machine has"), "{layer}: {found:?}");
    }
}

/// One reading tells all of them.
#[test]
fn all_parts_that_cannot_be_built_are_told_together() {
    let found = complaints(&[
        "default_hooks.checkpoint.interval=0",
        "custom_hooks=[{type: CheckInvalidLossHook, action: skip, interval: 2}, {type: EarlyStoppingHook, monitor: fid}]",
        "optim_wrapper.optimizer={type: SGD, lr: 0.1, nesterov: true}",
        "model.backbone=[{type: Conv2d, in_channels: 3, out_channels: 4, kernel_size: 1, groups: 2}, \
         {type: ResNet, depth: 9}]",
        "val_evaluator=[{type: Accuracy}, {type: Accuracy}]",
    ]);
    assert_eq!(found.len(), 7, "{found:#?}");
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
        "error: `model.backbone.num_classes` is 5, but the data of `train_dataloader` has 10 classes"
    );
    let twelve = complaints(&["model.backbone.num_classes=12"]);
    assert_eq!(
        twelve[0],
        "warning: `model.backbone.num_classes` is 12, but the data of `train_dataloader` has 10 classes"
    );
    // Without `to_onehot` the preprocessor does nothing with its number.
    let idle = complaints(&["data_preprocessor.num_classes=9"]);
    assert_eq!(
        idle,
        [
            "warning: `model.data_preprocessor.num_classes` is 9, but the data of `train_dataloader` has 10 classes"
        ]
    );
    let rows = complaints(&["data_preprocessor.num_classes=9", "data_preprocessor.to_onehot=true"]);
    assert!(
        rows.iter().any(|text| text.starts_with("error: `model.data_preprocessor.num_classes`")),
        "{rows:?}"
    );
    // A hook that was asked to makes an error of it.
    let checked = complaints(&["model.backbone.num_classes=12", "custom_hooks=[{type: NumClassCheckHook}]"]);
    assert!(checked.iter().any(|text| text.starts_with("error: hook `NumClassCheckHook`")), "{checked:?}");
}

/// A config may be checked where its data is not: that is told, and no error.
#[test]
fn data_that_is_not_on_this_machine_is_a_warning() {
    let cases = [
        (
            "{type: MNIST, data_prefix: no/such/folder, pipeline: [{type: Resize, scale: 32}]}",
            "no/such/folder: no MNIST here",
        ),
        ("{type: ImageFolder, data_root: no/such, data_prefix: folder}", "no/such/folder: no such folder"),
        (
            "{type: CustomDataset, data_root: no/such, data_prefix: {img_path: folder}}",
            "no/such/folder: no such folder",
        ),
        ("{type: ImageFolder, data_root: no, ann_file: list.txt}", "list.txt"),
        (
            "{type: ConcatDataset, datasets: [{type: MNIST, data_prefix: no/such/folder, pipeline: [{type: Resize, scale: 32}]}]}",
            "no/such/folder: no MNIST here",
        ),
    ];
    for (dataset, expected) in cases {
        let found = complaints(&[&format!("train_dataloader.dataset={dataset}")]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("warning: cannot build") && found[0].contains(expected), "{found:?}");
    }
    // What is wrong with the rest is told all the same.
    let both = complaints(&[
        "train_dataloader.dataset={type: MNIST, data_prefix: no/such}",
        "default_hooks.checkpoint.interval=0",
    ]);
    assert!(both.iter().any(|text| text.contains("`interval: 0` saves nothing")), "{both:?}");
}

#[test]
fn what_a_loop_needs() {
    only(&["train_cfg={by_epoch: true}"], "error: a loop with `by_epoch: true` needs `max_epochs`");
    only(
        &["train_cfg={by_epoch: true, type: EpochBasedTrainLoop, max_epochs: 3}", "param_scheduler=null"],
        "error: give `by_epoch` or `type`, not both",
    );
}

/// Rules of parameter groups and schedules of any number are held against the model, at their place.
#[test]
fn groups_and_what_schedules_move() {
    only(
        &["optim_wrapper.paramwise_cfg={custom_keys: {backbon.conv1: {lr_mult: 0.1}}}"],
        "error: paramwise_cfg: `backbon.conv1` of `custom_keys` is part of no parameter's name",
    );
    only(
        &["optim_wrapper.paramwise_cfg={custom_keys: {backbne: {lr_mult: 0.1}}}"],
        "error: paramwise_cfg: `backbne` of `custom_keys` is part of no parameter's name; did you mean `backbone`?",
    );
    assert!(complaints(&["optim_wrapper.paramwise_cfg={norm_decay_mult: 0.0}"]).is_empty());
    only(
        &["param_scheduler.1={type: PolyParamScheduler, param_name: momentun}"],
        "error: SGD has no number `momentun`; did you mean `momentum`? It has: lr, momentum, dampening, weight_decay",
    );
    only(
        &["param_scheduler.1={type: PolyLR, eta_min: 0.001, by_epoch: true}"],
        "warning: two schedules move lr in iterations 0 to 47, and one of them goes to a fixed value: together they reach \
         neither's",
    );
}

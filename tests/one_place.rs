//! A mistake is one mistake: `check` and `train` tell it in one way, at one place, and leave with one code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const WIDE: &str = include_str!("fixtures/wide.yaml");

fn shanty(args: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shanty"));
    command.args(args).current_dir(dir).env_remove("RUST_LOG").output().unwrap()
}

/// The exit code, and the errors with line, column and text.
fn errors(out: &Output) -> (Option<i32>, Vec<(u64, u64, String)>) {
    let found: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
    let errors = found.as_array().into_iter().flatten().filter(|diag| diag["level"] == "error");
    let of = |diag: &Value| {
        let number = |key: &str| diag[key].as_u64().unwrap_or(0);
        (number("line"), number("column"), diag["message"].as_str().unwrap_or_default().to_owned())
    };
    (out.status.code(), errors.map(of).collect())
}

/// Line and column of the first `needle`.
fn place(text: &str, needle: &str) -> (u64, u64) {
    let at = text.find(needle).unwrap_or_else(|| panic!("no {needle} in {text}"));
    let line = text[..at].matches('\n').count() as u64 + 1;
    let column = text[..at].rsplit('\n').next().map_or(0, str::len) as u64 + 1;
    (line, column)
}

/// The fixture with a text replaced: both commands tell it at `needle`, with 2.
fn both_at(from: &str, to: &str, needle: &str) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a_file"), "").unwrap();
    fs::create_dir_all(dir.path().join("taken/epoch_2/other")).unwrap();
    let text = format!("{WIDE}work_dir: w\n");
    assert!(text.contains(from), "{from}");
    let text = text.replacen(from, to, 1);
    fs::write(dir.path().join("c.yaml"), &text).unwrap();
    let said = |command: &str| shanty(&[command, "c.yaml", "--format", "json"], dir.path());
    let (checked, trained) = (said("check"), said("train"));
    let (check, train) = (errors(&checked), errors(&trained));
    let context =
        format!("{to}\ncheck: {check:#?}\ntrain: {train:#?}\n{}", String::from_utf8_lossy(&trained.stderr));
    assert_eq!((check.0, train.0), (Some(2), Some(2)), "{context}");
    assert_eq!(check.1, train.1, "{context}");
    let train: BTreeSet<_> = train.1.iter().map(|(line, column, _)| (*line, *column)).collect();
    assert!(train.contains(&place(&text, needle)), "expected {:?}: {context}", place(&text, needle));
}

const TRAIN: &str = "n: 12, shape: [1, 8, 8], classes: 3, noise: 0.5}";
const HOOKS: &str = "  - {type: NumClassCheckHook}\n";
const SCHEDULE: &str = "  - {type: MultiStepLR, milestones: [2, 3], gamma: 0.5}\n";
const METRICS: &str = "  - {type: Accuracy, topk: [1, 2], thrs: [0.0, 0.5]}\n";

#[test]
fn mistakes_of_data() {
    let with = |pipeline: &str| TRAIN.replace('}', &format!(", pipeline: [{pipeline}]}}"));
    both_at(TRAIN, &with("{type: RandomCrop, crop_size: 99}"), "RandomCrop");
    both_at(TRAIN, &TRAIN.replace("[1, 8, 8]", "[3, 8, 8]"), "Conv2d, in_channels");
    both_at(TRAIN, &TRAIN.replace("classes: 3", "classes: 5"), "3\n    in_channels");
    both_at("randomness:", "exclude_samples: [99]\nrandomness:", "99]\nrandomness");
    both_at(
        "val_dataloader: {batch_size: 4, dataset: {type: Synthetic, n: 8, shape: [1, 8, 8]",
        "val_dataloader: {batch_size: 4, dataset: {type: Synthetic, n: 8, shape: [2, 8, 8]",
        "Conv2d, in_channels",
    );
}

#[test]
fn sizes_of_a_model_that_do_not_fit() {
    both_at("num_features: 4", "num_features: 6", "BatchNorm2d, num_features");
    both_at("out_channels: 4", "out_channels: 5", "BatchNorm2d, num_features");
    both_at("    in_channels: 4\n", "    in_channels: 7\n", "LinearClsHead");
    both_at("kernel_size: 3", "kernel_size: 30", "Conv2d, in_channels");
    both_at("class_weight: [1.0, 2.0, 1.0]", "class_weight: [1.0, 2.0]", "[1.0, 2.0]");
    both_at("topk: [1, 2]\n    cal", "topk: [1, 9]\n    cal", "[1, 9]\n    cal");
}

#[test]
fn mistakes_of_hooks() {
    let with = |hook: &str| format!("{HOOKS}  - {hook}\n");
    both_at(HOOKS, &with("{type: MeanTeacherHook}"), "MeanTeacherHook");
    both_at(
        HOOKS,
        &with("{type: WarmupParamHook, param_name: p, module_name: backbone.9, warmup_epochs: 1}"),
        "p, module",
    );
    both_at("monitor: accuracy/top1_thr-0.00", "monitor: accuracy/top9", "accuracy/top9");
    both_at("save_best: [accuracy/top1_thr-0.00,", "save_best: [accuracy/top7,", "accuracy/top7");
    both_at("    interval: 2\n", "    interval: 0\n", "0\n    max_keep");
}

#[test]
fn mistakes_of_optimizers_and_schedules() {
    let with = |schedule: &str| format!("{SCHEDULE}  - {schedule}\n");
    both_at("lr: 0.001", "lr: 1.0e+300", "1.0e+300");
    both_at("begin: 0, end: 2,", "begin: 3, end: 2,", "2, by_epoch");
    both_at(SCHEDULE, &with("{type: StepParamScheduler, step_size: 1}"), "StepParamScheduler");
    both_at(SCHEDULE, &with("{type: CosineAnnealingMomentum, eta_min: 2}"), "2}\n  - {type: Poly");
    let numbers = "betas: [0.9, 0.999], eps: 0.00000001, weight_decay: 0.01}";
    both_at(
        &format!("lr: 0.001, {numbers}"),
        &format!("lr: 100.0, {numbers}\n  paramwise_cfg: {{custom_keys: {{head: {{lr_mult: 1.0e+38}}}}}}"),
        "{custom_keys",
    );
}

#[test]
fn mistakes_of_evaluators() {
    both_at(METRICS, &METRICS.replace("[1, 2]", "[1, 2, 9]"), "[1, 2, 9]");
    both_at(METRICS, &METRICS.repeat(2), "Accuracy, topk: [1, 2], thrs: [0.0, 0.5]}\n  - {type: Single");
}

/// `check` refused them, and `train` trained for hours before `test` did.
#[test]
fn mistakes_that_only_the_test_shows() {
    let test = |set: &str, metric: &str| {
        format!(
            "test_dataloader: {{batch_size: 4, dataset: {{{set}}}}}\ntest_cfg: {{}}\ntest_evaluator: {{{metric}}}"
        )
    };
    let set = "type: Synthetic, n: 8, shape: [1, 8, 8], classes: 3";
    let with =
        |set: &str, metric: &str, needle: &str| both_at("test_dataloader: null", &test(set, metric), needle);
    with(set, "type: Accuracy, topk: [1, 8]", "[1, 8]");
    with(set, "type: MAE", "MAE");
    with(&set.replace("[1,", "[2,"), "type: Accuracy", "Conv2d, in_channels");
    with(
        &format!("{set}, pipeline: [{{type: RandomCrop, crop_size: 9}}]"),
        "type: Accuracy",
        "RandomCrop, crop",
    );
}

#[test]
fn mistakes_of_folders_and_weights() {
    both_at("work_dir: w", "work_dir: /dev/null/w", "/dev/null");
    both_at("work_dir: w", "work_dir: a_file", "a_file");
    both_at("work_dir: w", "work_dir: taken", "taken");
    both_at("    interval: 2\n", "    interval: 2\n    out_dir: a_file\n", "a_file");
    both_at("work_dir: w", "work_dir: w\nload_from: nope", "nope");
    both_at("work_dir: w", "work_dir: w\nload_from: a_file", "a_file");
    both_at("filename_tmpl: \"epoch_{}\"", "filename_tmpl: \"../epoch_{}\"", "\"../");
}

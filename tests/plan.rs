//! `shanty plan` is what the run does: the plan of random configs against the recorded run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use shanty::config::{Node, parse};
use shanty::plugin::prelude::*;
use shanty::run::{RunPlan, Runner, Sweep, lr_find, plan};

/// Notes what the run uses and does, last in line.
struct Watch(Arc<Mutex<(Vec<f64>, Vec<u64>, Vec<(String, u64)>)>>);
impl Hook for Watch {
    fn priority(&self) -> Priority {
        Priority::LOWEST
    }
    fn before_train_iter(&mut self, cx: &mut Ctx<'_>, _: &mut Batch) -> HookResult {
        self.0.lock().unwrap().0.push(cx.optim.as_ref().unwrap().groups()[0].lr());
        Ok(())
    }
    fn before_val(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.0.lock().unwrap().1.push(cx.progress.iter);
        Ok(())
    }
    /// It may be told some iterations later, when the disk is done: the name says of which one it is.
    fn after_save_checkpoint(&mut self, cx: &mut Ctx<'_>, saved: &CheckpointSaved) -> HookResult {
        let name = saved.path.file_name().unwrap().to_string_lossy().into_owned();
        let number = |unit: &str| name.strip_prefix(unit)?.parse::<u64>().ok();
        let iter = number("iter_").or_else(|| Some(number("epoch_")? * cx.progress.epoch_len)).unwrap();
        let mut seen = self.0.lock().unwrap();
        seen.2.retain(|(n, _)| *n != name);
        seen.2.push((name, iter));
        Ok(())
    }
}

fn config(text: &str, dir: &std::path::Path) -> Node {
    parse("run.yaml", &format!("{text}work_dir: {}\n", dir.display())).unwrap()
}

/// The run itself, in the words of a plan.
fn recorded(text: &str) -> RunPlan {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = Runner::from_config(&config(text, dir.path()), None).unwrap();
    runner.record_calls();
    let seen = Arc::new(Mutex::default());
    runner.add_hook(Watch(Arc::clone(&seen))).unwrap();
    runner.train().unwrap();
    let (lr, validations, saves) = std::mem::take(&mut *seen.lock().unwrap());
    let session = runner.session();
    let mut calls: BTreeMap<usize, BTreeMap<Point, Vec<u64>>> = BTreeMap::new();
    for call in session.state.profile.calls() {
        calls.entry(call.hook).or_default().entry(call.point).or_default().push(call.iter);
    }
    let line = session.hooks.order().enumerate().filter(|(_, (key, _))| *key != "Watch");
    RunPlan {
        total_iters: session.state.progress.iter,
        epoch_len: session.state.progress.epoch_len,
        lr: vec![("lr".into(), lr)],
        numbers: Vec::new(),
        groups: Vec::new(),
        hooks: line
            .map(|(at, (hook, priority))| shanty::run::HookCalls {
                hook: hook.to_owned(),
                priority,
                calls: calls.remove(&at).into_iter().flatten().collect(),
            })
            .collect(),
        checkpoints: saves
            .into_iter()
            .map(|(name, iter)| shanty::run::PlannedCheckpoint {
                kept: dir.path().join(&name).exists(),
                name,
                iter,
            })
            .collect(),
        validations,
        ..RunPlan::default()
    }
}

/// The same, as the plan has it: what the run cannot say of itself is left out.
fn planned(text: &str) -> RunPlan {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(&config(text, dir.path()), None).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a plan writes nothing");
    let lr = plan.lr.into_iter().map(|(_, lr)| ("lr".into(), lr)).collect();
    RunPlan { warnings: Vec::new(), weight_bytes: 0, lr, ..plan }
}

fn base(batches: u64, train_cfg: &str, rest: &str) -> String {
    format!(
        "model: {{type: ToyModel}}\n\
         train_dataloader: {{batch_size: 4, dataset: {{type: Synthetic, n: {}, shape: [3, 1, 1], classes: 2}}}}\n\
         val_dataloader: {{batch_size: 4, dataset: {{type: Synthetic, n: 8, shape: [3, 1, 1], classes: 2}}}}\n\
         val_evaluator: {{type: Accuracy, topk: [1]}}\nval_cfg: {{}}\nrandomness: {{seed: 0}}\n\
         train_cfg: {train_cfg}\n{rest}\n",
        batches * 4
    )
}

prop_compose! {
    fn configs()(
        by_epoch in any::<bool>(),
        batches in 1u64..6,
        length in 1u64..8,
        val_interval in 1u64..4,
        val_begin in 1u64..4,
        milestone in 1u64..6,
        interval in prop_oneof![Just(None), (1i64..4).prop_map(Some), Just(Some(-1))],
        keep in prop_oneof![Just(-1i64), 1i64..3],
        save_begin in 0u64..3,
        save_last in any::<bool>(),
        warmup in 1u64..4,
        accumulate in 1u64..4,
        log_every in 1u64..5,
        ema in any::<bool>(),
    ) -> String {
        let unit = if by_epoch { "max_epochs" } else { "max_iters" };
        let train_cfg = format!(
            "{{by_epoch: {by_epoch}, {unit}: {length}, val_begin: {val_begin}, val_interval: {val_interval}, \
             dynamic_intervals: [[{milestone}, 1]]}}"
        );
        let interval = interval.map_or("null".to_owned(), |n| n.to_string());
        let convert = if by_epoch { ", convert_to_iter_based: true" } else { "" };
        let ema = if ema { "[{type: EMAHook, interval: 2}, {type: CheckInvalidLossHook, interval: 3}]" } else { "[]" };
        base(batches, &train_cfg, &format!(
            "optim_wrapper: {{accumulative_counts: {accumulate}, optimizer: {{type: SGD, lr: 0.1, momentum: 0.9}}}}\n\
             param_scheduler: [{{type: LinearLR, start_factor: 0.1, begin: 0, end: {warmup}{convert}}}, \
             {{type: MultiStepLR, milestones: [{milestone}], gamma: 0.5}}]\n\
             default_hooks: {{logger: {{type: LoggerHook, interval: {log_every}}}, checkpoint: {{type: CheckpointHook, \
             interval: {interval}, max_keep_ckpts: {keep}, save_begin: {save_begin}, save_last: {save_last}}}}}\n\
             custom_hooks: {ema}"
        ))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_plan_is_what_the_run_does(text in configs()) {
        prop_assert_eq!(planned(&text), recorded(&text));
    }
}

const PLAIN: &str = "optim_wrapper: {optimizer: {type: SGD, lr: 0.1}}\n";

#[test]
fn a_plan_by_hand() {
    let rest = format!(
        "{PLAIN}param_scheduler: {{type: MultiStepLR, milestones: [2], gamma: 0.1}}\n\
         default_hooks: {{checkpoint: {{type: CheckpointHook, interval: 1, max_keep_ckpts: 1}}}}"
    );
    let plan = planned(&base(2, "{by_epoch: true, max_epochs: 3, val_interval: 2}", &rest));
    assert_eq!(plan.total_iters, 6);
    let lr: Vec<_> = plan.lr[0].1.iter().map(|v| (v * 1e6).round() / 1e6).collect();
    assert_eq!(lr, [0.1, 0.1, 0.1, 0.1, 0.01, 0.01]);
    assert_eq!(plan.validations, [4, 6]);
    let checkpoints: Vec<_> = plan.checkpoints.iter().map(|c| (c.name.as_str(), c.iter, c.kept)).collect();
    assert_eq!(checkpoints, [("epoch_1", 2, false), ("epoch_2", 4, false), ("epoch_3", 6, true)]);
    let calls = |hook: &str| &plan.hooks.iter().find(|h| h.hook == hook).unwrap().calls;
    assert!(calls("CheckpointHook").contains(&(Point::AfterTrainEpoch, vec![2, 4, 6])));
    assert!(calls("DistSamplerSeedHook").is_empty(), "it is there and does nothing");
}

/// Groups have their names, and what a schedule moves of them is shown like the learning rate.
#[test]
fn a_plan_shows_groups_and_every_number_that_moves() {
    let rest = "optim_wrapper: {optimizer: {type: SGD, lr: 0.1, momentum: 0.8, weight_decay: 0.5},\n\
                \x20 paramwise_cfg: {bias_lr_mult: 2, bias_decay_mult: 0}}\n\
                param_scheduler: [{type: LinearParamScheduler, param_name: weight_decay, start_factor: 0.0, group: default},\n\
                \x20 {type: StepMomentum, step_size: 1, gamma: 0.5}]";
    let model = "{type: ImageClassifier, head: {type: ClsHead}, backbone: {type: Sequential, layers: [{type: Flatten}, \
                 {type: Linear, in_features: 3, out_features: 2}]}}";
    let text = base(1, "{by_epoch: true, max_epochs: 3}", rest).replace("{type: ToyModel}", model);
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(&config(&text, dir.path()), None).unwrap();
    assert_eq!(plan.lr, [("default".into(), vec![0.1; 3]), ("bias".into(), vec![0.2; 3])]);
    let momentum = vec![0.8, 0.4, 0.2];
    assert_eq!(
        plan.numbers,
        [
            ("momentum of default".into(), momentum.clone()),
            ("weight_decay of default".into(), vec![0.0, 0.25, 0.5]),
            ("momentum of bias".into(), momentum),
        ]
    );
    assert_eq!(plan.groups.len(), 2);
    assert!(
        plan.groups[1].starts_with("bias: 1 tensor of 2 numbers, lr 0.2, momentum 0.8"),
        "{:?}",
        plan.groups
    );
}

#[test]
fn a_plan_warns_of_what_is_lost_and_of_what_it_cannot_know() {
    let dir = tempfile::tempdir().unwrap();
    let rest = "optim_wrapper: {optimizer: {type: SGD, lr: 0.0}}\n\
                default_hooks: {checkpoint: null}\n\
                custom_hooks: [{type: EarlyStoppingHook, monitor: accuracy/top1}]";
    let text = base(2, "{by_epoch: true, max_epochs: 3, val_begin: 9}", rest);
    let warnings = plan(&config(&text, dir.path()), None).unwrap().warnings.join("\n");
    for part in ["before the first validation", "no checkpoint is left", "is 0 in 6 of 6 iterations"] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    let rest = format!("{PLAIN}custom_hooks: [{{type: EarlyStoppingHook, monitor: accuracy/top1}}]");
    let text = base(2, "{by_epoch: true, max_epochs: 3}", &rest);
    let warnings = plan(&config(&text, dir.path()), None).unwrap().warnings.join("\n");
    assert!(warnings.contains("hook `EarlyStoppingHook` goes by accuracy/top1"), "{warnings}");
}

#[cfg(feature = "cli")]
#[test]
fn the_command_prints_json_text_and_svg() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("run.yaml");
    std::fs::write(&file, base(2, "{by_epoch: true, max_epochs: 2}", PLAIN)).unwrap();
    let svg = dir.path().join("lr.svg");
    let shanty = |args: &[&str]| {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_shanty"))
            .current_dir(dir.path())
            .arg("plan")
            .arg(&file)
            .args(args)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let json: serde_json::Value =
        serde_json::from_str(&shanty(&["--format", "json", "--svg", &svg.to_string_lossy()])).unwrap();
    let keys: Vec<_> = json.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["total_iters", "data", "groups", "lr", "numbers", "hooks", "checkpoints", "validations", "warnings"]
    );
    assert_eq!(json["total_iters"], 4);
    assert_eq!(json["validations"], serde_json::json!([2, 4]));
    assert_eq!(json["lr"].as_object().unwrap().values().next().unwrap().as_array().unwrap().len(), 4);
    assert_eq!(json["checkpoints"][0], serde_json::json!({"name": "epoch_1", "iter": 2, "kept": true}));
    assert!(std::fs::read_to_string(svg).unwrap().contains("<polyline"));
    let text = shanty(&[]);
    for part in [
        "4 iterations, 2 batches an epoch",
        "learning rate",
        "(VERY_HIGH) RuntimeInfoHook",
        "DistSamplerSeedHook, which does nothing in this run",
        "2 written, 2 kept",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!dir.path().join("work_dirs").exists(), "nothing was written");
}

/// The range test trains for as many steps as it is told, whatever the config says, suggests a rate at which the loss
/// falls, and leaves nothing behind.
#[test]
fn lr_find_suggests_a_rate_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("w");
    let text = "model: {type: ImageClassifier, backbone: {type: Sequential, layers: [{type: Flatten}]}, \
                head: {type: LinearClsHead, num_classes: 3, in_channels: 12}}\n\
                train_dataloader: {batch_size: 8, dataset: {type: Synthetic, n: 64, shape: [3, 2, 2], classes: 3}}\n\
                optim_wrapper: {optimizer: {type: SGD, lr: 0.1}, paramwise_cfg: {bias_lr_mult: 2}}\n\
                param_scheduler: {type: LinearLR, end: 2}\n\
                train_cfg: {by_epoch: true, max_epochs: 2, val_interval: 1}\nrandomness: {seed: 1}\n\
                custom_hooks: [{type: CheckInvalidLossHook, interval: 1}]\n";
    let node = config(text, &work);
    let curve = lr_find(&node, None, Sweep { first: 1e-6, last: 1e4, steps: 60 }).unwrap();
    assert!(curve.rates.len() <= 60 && curve.rates.len() == curve.losses.len());
    assert!((curve.rates[0] - 1e-6).abs() < 1e-18, "{:?}", curve.rates);
    let factor = 1e10f64.powf(1.0 / 59.0);
    assert!(curve.rates.windows(2).all(|pair| (pair[1] / pair[0] / factor - 1.0).abs() < 1e-9));
    assert!(curve.diverged, "a rate of 10000 does: {:?}", curve.losses);
    let rate = curve.suggestion().unwrap();
    assert!((1e-4..10.0).contains(&rate), "{rate}");
    assert!(!work.exists() && !std::path::Path::new("work_dirs/run").exists());
    // It is a function of the config and its seed.
    assert_eq!(lr_find(&node, None, Sweep { first: 1e-6, last: 1e4, steps: 60 }).unwrap(), curve);
    for (sweep, says) in [
        (Sweep { first: 0.0, ..Sweep::default() }, "must grow from above 0"),
        (Sweep { last: 1e-9, ..Sweep::default() }, "must grow from above 0"),
        (Sweep { steps: 1, ..Sweep::default() }, "2 steps or more"),
    ] {
        assert!(lr_find(&node, None, sweep).unwrap_err().to_string().contains(says));
    }
}

/// What a plateau does depends on validations: it is checked for one, and for the name that it watches.
#[test]
fn a_plateau_needs_a_validation_that_gives_its_metric() {
    let dir = tempfile::tempdir().unwrap();
    let base = |val: bool, monitor: &str| {
        let data = "{batch_size: 8, dataset: {type: Synthetic, n: 16, shape: [3, 2, 2], classes: 3}}";
        let val = if val {
            format!("val_dataloader: {data}\nval_cfg: {{}}\nval_evaluator: {{type: Accuracy}}\n")
        } else {
            String::new()
        };
        let text = format!(
            "model: {{type: ImageClassifier, backbone: {{type: Sequential, layers: [{{type: Flatten}}]}}, \
             head: {{type: LinearClsHead, num_classes: 3, in_channels: 12}}}}\ntrain_dataloader: {data}\n\
             optim_wrapper: {{optimizer: {{type: SGD, lr: 0.1}}}}\ntrain_cfg: {{by_epoch: true, max_epochs: 6}}\n{val}\
             param_scheduler: {{type: ReduceOnPlateauLR, monitor: {monitor}, patience: 0, factor: 0.5, threshold: 10}}\n"
        );
        config(&text, &dir.path().join("w"))
    };
    let told = |val, monitor| match shanty::run::check(&base(val, monitor), None) {
        Ok(found) => found.to_string(),
        Err(error) => error.to_string(),
    };
    assert!(told(false, "val_loss").contains("there is no validation"), "{}", told(false, "val_loss"));
    assert!(told(true, "vall_loss").contains("did you mean `val_loss`"), "{}", told(true, "vall_loss"));
    assert!(!told(true, "val_loss").contains("ReduceOnPlateauLR"), "{}", told(true, "val_loss"));
    // No value is ten times better than the best: the rate is halved after each validation but the first.
    let mut runner = Runner::from_config(&base(true, "val_loss"), None).unwrap();
    let seen = Arc::new(Mutex::default());
    runner.add_hook(Watch(Arc::clone(&seen))).unwrap();
    runner.train().unwrap();
    let (rates, ..) = std::mem::take(&mut *seen.lock().unwrap());
    let expected: Vec<_> = (0..12).map(|iter: i32| 0.1 * 0.5f64.powi((iter / 2 - 1).max(0))).collect();
    assert_eq!(rates, expected);
}

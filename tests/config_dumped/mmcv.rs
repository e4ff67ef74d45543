//! Configs of MMCV 1.x, read in the form of today.

use super::*;

/// An MMCV 1.x config gave 14 to 20 unknown keys, then one refusal. It is read.
#[test]
fn a_config_of_mmcv_1_is_read_in_todays_form() {
    let (_dir, path) = lone("old.yaml", OLD);
    let loaded = config::load_all(&[&path], &[]).unwrap();
    assert_eq!(loaded.warnings.0.len(), 1, "{}", loaded.warnings);
    let told = loaded.warnings.to_string();
    assert!(told.contains("old.yaml:") && told.contains("a config of MMCV 1.x"), "{told}");
    assert!(told.contains("optim_wrapper: {paramwise_cfg: {norm_decay_mult: 0.0}"), "{told}");
    let yaml = |key: &str| loaded.node.get(key).unwrap_or_else(|| panic!("{key}")).to_yaml();
    for (key, says) in [
        ("optim_wrapper", &["accumulative_counts: 4", "max_norm: 35", "momentum: 0.9"][..]),
        ("param_scheduler", &["type: MultiStepLR", "type: LinearLR", "start_factor: 0.1", "end: 501"]),
        ("train_cfg", &["by_epoch: true", "max_epochs: 100", "val_interval: 2"]),
        (
            "train_dataloader",
            &["batch_size: 32", "num_workers: 2", "shuffle: true", "scale: 224", "prob: 0.5"],
        ),
        ("val_dataloader", &["shuffle: false", "type: ResizeEdge", "edge: short", "type: PackInputs"]),
        ("val_evaluator", &["type: Accuracy", "type: SingleLabelMetric", "- recall"]),
        ("default_hooks", &["max_keep_ckpts: 3", "save_best: auto", "type: LoggerHook", "interval: 100"]),
        ("randomness", &["seed: 7"]),
        ("model", &["type: Mixup", "probs:"]),
    ] {
        let text = yaml(key);
        says.iter().for_each(|what| assert!(text.contains(what), "{key} lacks {what}: {text}"));
    }
    for gone in ["optimizer", "lr_config", "data", "runner", "evaluation", "workflow", "checkpoint_config"] {
        assert!(loaded.node.get(gone).is_none(), "{gone}");
    }
    assert!(!loaded.node.to_yaml().contains("Collect"), "{}", loaded.node.to_yaml());
    // What was written once is today's form, and is read without a word.
    let (_dir, again) = lone("new.yaml", &loaded.node.to_yaml());
    let read = config::load_all(&[&again], &[]).unwrap();
    assert!(read.warnings.0.is_empty() && read.node == loaded.node, "{}", read.node.to_yaml());
}

/// A mistake in a value of the old layout is told at its place.
#[test]
fn mistakes_of_mmcv_1_keep_their_places() {
    for (from, to, says, place) in [
        ("step: [30, 60, 90]", "step: [30, 60, x]", "expected an integer", ":29:"),
        (
            "policy: step",
            "policy: steps",
            "the policy `steps` has no form of today: did you mean `step`?",
            ":29:",
        ),
        ("warmup: linear", "warmup: line", "none of constant, linear and exp", ":29:"),
        ("warmup_iters: 500, ", "", "a warm-up needs `warmup_iters`", ":29:"),
        ("step: [30, 60, 90]", "step: [30], stepp: 4", "unknown key `stepp`", ":29:"),
        ("metric: [accuracy, precision, recall]", "metric: bleu", "the metric", ":26:"),
        ("workers_per_gpu: 2", "worker_per_gpu: 2", "unknown key `worker_per_gpu`", ":6:"),
        ("EpochBasedRunner", "OddRunner", "the runner", ":30:"),
        ("[[train, 1]]", "[[train, 1], [val, 1]]", "a `workflow` that validates", ":36:"),
        ("lr: 0.1, momentum", "lr: -0.1, momentum", "lr", ":27:"),
        ("max_norm: 35", "max_norm: -1", "max_norm", ":28:"),
        ("seed: 7", "seed: 7\nfp16: {loss_scale: -512.0}", "loss_scale", ":36:"),
        ("seed: 7", "seed: 7\nfp16: {loss_scal: 512.0}", "unknown key `loss_scal`", ":36:"),
        ("runner: {type: EpochBasedRunner, max_epochs: 100}\n", "", "`runner` is missing", ":27:"),
        ("max_epochs: 100}", "max_epochs: 100}\ntotal_epochs: 90", "`total_epochs` is 90", ":31:"),
        ("{type: TextLoggerHook}", "{type: PaviLoggerHook}", "the logger `PaviLoggerHook`", ":32:"),
        (
            "seed: 7",
            "seed: 7\ncustom_hooks: [{type: EMAHook, momentum: 0.1, warm_up: 50}]",
            "write `warm_up: 1`",
            ":36:",
        ),
        (
            "log_config: {interval: 100, hooks: [{type: TextLoggerHook}]}",
            "log_config: 3",
            "`log_config` is a mapping",
            ":32:",
        ),
    ] {
        assert!(OLD.contains(from), "{from}");
        let (_dir, path) = lone("old.yaml", &OLD.replace(from, to));
        let said = whole(&path).text;
        assert!(said.contains(says) && said.contains(place), "{to}: {said}");
    }
    one_error("lr_config: {policy: step}\n", "write `param_scheduler`");
    one_error("fp16: {loss_scale: 512.}\n", "write `optim_wrapper: {type: AmpOptimWrapper, dtype: float16");
    one_error("resume_from: work_dirs/x\n", "`resume: true`");
}

/// Loggers, the name of the best score and the average have their forms of today.
#[test]
fn loggers_scores_and_averages_of_mmcv_1_are_translated() {
    let text = OLD
        .replace("{type: TextLoggerHook}", "{type: TextLoggerHook}, {type: MlflowLoggerHook, exp_name: x}")
        .replace("save_best: auto", "save_best: accuracy_top-1")
        .replace("seed: 7", "custom_hooks: [{type: EMAHook, momentum: 0.5, interval: 2, warm_up: 1}]");
    let (_dir, path) = lone("old.yaml", &text);
    let node = config::load(&path, &[]).unwrap();
    for (key, says) in [
        ("vis_backends", "type: MLflowVisBackend"),
        ("default_hooks", "save_best: accuracy/top1"),
        ("custom_hooks", "momentum: 0.25"),
    ] {
        let found = node.get(key).unwrap_or_else(|| panic!("{key}")).to_yaml();
        assert!(found.contains(says) && !found.contains("warm_up"), "{key}: {found}");
    }
    let said = whole(&path).text;
    assert!(!said.contains("VisBackend") && !said.contains("EMAHook"), "{said}");
}

/// Half precision is an AmpOptimWrapper, whoever asked for it.
#[test]
fn half_precision_of_mmcv_1_is_an_amp_optim_wrapper() {
    let hook = "type: GradientCumulativeOptimizerHook";
    assert!(OLD.contains(hook), "{OLD}");
    let with_hook = |name: &str, scale: &str| OLD.replace(hook, &format!("type: {name}{scale}"));
    let with_key = |fp16: &str| OLD.replace("seed: 7", &format!("seed: 7\nfp16: {fp16}"));
    for (text, scale) in [
        (with_key("{loss_scale: 512.0}"), "loss_scale: 512.0"),
        (with_key("{}"), "loss_scale: 512.0"),
        (with_key("{loss_scale: dynamic, coalesce: true}"), "loss_scale: dynamic"),
        (with_key("{loss_scale: {init_scale: 8.0}}"), "init_scale: 8.0"),
        (with_hook("GradientCumulativeFp16OptimizerHook", ", loss_scale: 64.0"), "loss_scale: 64.0"),
    ] {
        let (_dir, path) = lone("old.yaml", &text);
        let wrapper = config::load(&path, &[]).unwrap().get("optim_wrapper").unwrap().to_yaml();
        for says in ["type: AmpOptimWrapper", "dtype: float16", scale, "accumulative_counts: 4"] {
            assert!(wrapper.contains(says), "{says}: {wrapper}");
        }
        assert!(!wrapper.contains("coalesce"), "{wrapper}");
        assert!(!whole(&path).text.contains("error"), "{}", whole(&path).text);
    }
}

/// The schedules of an old config over a run of `epochs` epochs of `len` iterations: the rate of each iteration.
fn rates(lr_config: &str, by_epoch: bool, (epochs, len): (u64, u64)) -> Vec<f64> {
    let runner = match by_epoch {
        true => format!("{{type: EpochBasedRunner, max_epochs: {epochs}}}"),
        false => format!("{{type: IterBasedRunner, max_iters: {}}}", epochs * len),
    };
    let key = if lr_config.contains("momentum") { "momentum_config" } else { "lr_config" };
    let text = format!("optimizer: {{type: SGD, lr: 0.1}}\nrunner: {runner}\n{key}: {lr_config}\n");
    let node = config::parse("old.yaml", &text).unwrap_or_else(|told| panic!("{told}"));
    let totals = Totals { max_epochs: epochs, max_iters: epochs * len, epoch_len: len };
    let made = node.get("param_scheduler").map(|all| all.items().to_vec()).unwrap_or_default();
    let made: Vec<_> = made
        .iter()
        .map(|node| {
            let spec: Spec<dyn Schedule> = node.read().unwrap_or_else(|told| panic!("{lr_config}: {told}"));
            let shape = spec.build(&mut BuildCx::new(0)).unwrap();
            ScheduledParam::from_options(shape, spec.name(), &spec.extra, by_epoch, totals).unwrap()
        })
        .collect();
    let at = |iter: u64| made.iter().fold(0.1, |lr, schedule| schedule.apply(lr, 0.1, iter / len, iter));
    (0..epochs * len).map(at).collect()
}

/// Every policy of MMCV 1.x is its closed form, by epoch and by iteration, with every warm-up.
#[test]
fn policies_of_mmcv_1_are_their_closed_forms() {
    use std::f64::consts::PI;
    let cos = |from: f64, to: f64, part: f64| to + (from - to) / 2.0 * (1.0 + (PI * part).cos());
    type Law<'a> = Box<dyn Fn(f64, f64) -> f64 + 'a>;
    // The rate at a progress of a whole.
    let policies: Vec<(&str, Law<'_>)> = vec![
        ("policy: fixed", Box::new(|_, _| 0.1)),
        ("policy: step, step: 3", Box::new(|p, _| 0.1 * 0.1f64.powf((p / 3.0).floor()))),
        (
            "policy: step, step: [2, 5], gamma: 0.5, min_lr: 0.03",
            Box::new(|p, _| (0.1 * 0.5f64.powi(i32::from(p >= 2.0) + i32::from(p >= 5.0))).max(0.03)),
        ),
        ("policy: exp, gamma: 0.9", Box::new(|p, _| 0.1 * 0.9f64.powf(p))),
        ("policy: poly, power: 0.9, min_lr: 0.001", Box::new(|p, n| 0.099 * (1.0 - p / n).powf(0.9) + 0.001)),
        ("policy: inv, gamma: 0.2, power: 0.75", Box::new(|p, _| 0.1 * (1.0 + 0.2 * p).powf(-0.75))),
        ("policy: CosineAnnealing, min_lr: 0.01", Box::new(|p, n| cos(0.1, 0.01, p / n))),
        ("policy: CosineAnnealing, min_lr_ratio: 0.2", Box::new(|p, n| cos(0.1, 0.02, p / n))),
        ("policy: LinearAnnealing, min_lr_ratio: 0.2", Box::new(|p, n| 0.1 - 0.08 * p / n)),
        (
            "policy: FlatCosineAnnealing, start_percent: 0.6, min_lr: 0.01",
            Box::new(|p, n| {
                let flat = (n * 0.6).round_ties_even();
                if p < flat { 0.1 } else { cos(0.1, 0.01, (p - flat) / (n - flat)) }
            }),
        ),
        (
            "policy: CosineAnnealingCooldown, min_lr: 0.01, cool_down_ratio: 0.5, cool_down_time: 3",
            Box::new(|p, n| if p > n - 3.0 { 0.005 } else { cos(0.1, 0.01, p / (n - 3.0)) }),
        ),
        (
            "policy: CosineAnnealingCooldown, min_lr_ratio: 0.2, cool_down_time: 2",
            Box::new(|p, n| if p > n - 2.0 { 0.002 } else { cos(0.1, 0.02, p / (n - 2.0)) }),
        ),
        ("policy: CosineAnnealingLrUpdaterHook, min_lr: 0", Box::new(|p, n| cos(0.1, 0.0, p / n))),
    ];
    let warm = |kind: &str, left: f64| match kind {
        "constant" if left > 0.0 => 0.25,
        "linear" => 1.0 - left * 0.75,
        "exp" => 0.25f64.powf(left),
        _ => 1.0,
    };
    let (epochs, len) = (8, 3);
    for (policy, law) in &policies {
        for by_epoch in [true, false] {
            for kind in ["null", "constant", "linear", "exp"] {
                for (length, warm_epochs) in
                    [("warmup_iters: 7", false), ("warmup_iters: 2, warmup_by_epoch: true", true)]
                {
                    let config = format!("{{{policy}, warmup: {kind}, {length}, warmup_ratio: 0.25}}");
                    let whole = (if by_epoch { epochs } else { epochs * len }) as f64;
                    for (iter, found) in rates(&config, by_epoch, (epochs, len)).into_iter().enumerate() {
                        let progress = (if by_epoch { iter as u64 / len } else { iter as u64 }) as f64;
                        let steps = (if warm_epochs { 2 * len } else { 7 }) as f64;
                        let expected =
                            law(progress, whole) * warm(kind, (1.0 - iter as f64 / steps).max(0.0));
                        let off = (found - expected).abs();
                        assert!(
                            off <= 1e-12,
                            "{config} by_epoch {by_epoch} at {iter}: {found} is not {expected}"
                        );
                    }
                }
            }
        }
    }
}

/// Cycles and restarts of MMCV 1.x, which count iterations, or weigh what lies above the floor.
#[test]
fn cycles_of_mmcv_1_are_their_closed_forms() {
    use std::f64::consts::PI;
    let cos = |from: f64, to: f64, part: f64| to + (from - to) / 2.0 * (1.0 + (PI * part).cos());
    let near = |config: &str, law: &dyn Fn(f64) -> f64, by_epoch: bool| {
        for (iter, found) in rates(config, by_epoch, (10, 4)).into_iter().enumerate() {
            let expected = law(iter as f64);
            assert!((found - expected).abs() <= 1e-12, "{config} at {iter}: {found} is not {expected}");
        }
    };
    let restart = |t: f64| {
        let (begin, period, weight) = if t < 10.0 { (0.0, 10.0, 1.0) } else { (10.0, 30.0, 0.5) };
        0.01 + weight * 0.09 / 2.0 * (1.0 + (PI * (t - begin) / period).cos())
    };
    near(
        "{policy: CosineRestart, periods: [10, 30], restart_weights: [1, 0.5], min_lr: 0.01}",
        &restart,
        false,
    );
    let cyclic = |t: f64| {
        let (c, scale) = (t % 20.0, 0.8f64.powf((t / 20.0).floor()));
        let peak = 0.1 * (1.0 - scale + 10.0 * scale);
        if c < 8.0 { cos(0.1, peak, c / 8.0) } else { cos(peak, 0.1 * 1e-4, (c - 8.0) / 12.0) }
    };
    for by_epoch in [true, false] {
        near(
            "{policy: cyclic, target_ratio: [10, 0.0001], cyclic_times: 2, step_ratio_up: 0.4, gamma: 0.8}",
            &cyclic,
            by_epoch,
        );
    }
    let one_cycle = |t: f64| {
        let (up, low) = (0.3 * 40.0 - 1.0, 0.2 / 25.0);
        if t <= up { cos(low, 0.2, t / up) } else { cos(0.2, low / 1e4, (t - up) / (39.0 - up)) }
    };
    near("{policy: OneCycle, max_lr: 0.2}", &one_cycle, true);
    // A momentum is divided by its warm-up; here it begins at 0.1.
    let momentum = |t: f64| 0.1 / (1.0 - (1.0 - t / 4.0).max(0.0) * 0.5);
    near("{policy: fixed, warmup: linear, warmup_iters: 4, warmup_ratio: 0.5} # momentum", &momentum, true);
    let down_and_up = |t: f64| {
        let up = 0.3 * 40.0 - 1.0;
        if t <= up { cos(0.95, 0.85, t / up) } else { cos(0.85, 0.95, (t - up) / (39.0 - up)) }
    };
    near("{policy: OneCycle} # momentum", &down_and_up, true);
    let told = config::parse(
        "old.yaml",
        "optimizer: {type: SGD, lr: 0.1}\nrunner: {type: EpochBasedRunner, max_epochs: 9}\nlr_config: {policy: CosineRestart, periods: [3, 4], restart_weights: [1, 1], min_lr: 0}\n",
    );
    assert!(told.unwrap_err().to_string().contains("the periods end at 7, and the run at 9"));
}

/// A config of today may still have a batch augment under its old name.
#[test]
fn a_batch_augment_keeps_its_old_name_in_a_config_of_today() {
    let of = |augments: &str| {
        let (dir, path) =
            lone("c.yaml", &format!("_base_: run.yaml\nmodel: {{train_cfg: {{augments: {augments}}}}}\n"));
        fs::write(dir.path().join("run.yaml"), RUN).unwrap();
        let loaded = config::load_all(&[&path], &[]).unwrap();
        assert!(whole(&path).errors.is_empty(), "{}", whole(&path).text);
        (loaded.node.get("model").unwrap().to_yaml(), loaded.warnings.to_string())
    };
    let (model, told) = of("{type: BatchCutMix, alpha: 1.0, num_classes: 1000, prob: 1.0}");
    assert!(model.contains("type: CutMix") && model.contains("probs:"), "{model}");
    assert!(!model.contains("num_classes") && told.contains("c.yaml:2:"), "{model} {told}");
    assert!(told.contains("batch augments of MMClassification 0.x"), "{told}");
    let (model, told) = of("[{type: CutMix, alpha: 1.0}]");
    assert!(model.contains("type: CutMix") && told.is_empty(), "{model} {told}");
}

//! Configs of MMEngine and MMPretrain as people bring them: dumped, with leftovers, of old layouts, or still in Python.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::fs;
use std::path::{Path, PathBuf};

use shanty::config::{self, Diags};
use shanty::optim::{Schedule, ScheduledParam, Totals};
use shanty::registry::{BuildCx, Spec};
use shanty::run::RunConfig;

const RUN: &str = "\
model:
  type: mmpretrain.ImageClassifier
  backbone: {type: Sequential, layers: [{type: Flatten}, {type: torch.nn.Linear, in_features: 12, out_features: 3}, {type: torch.nn.modules.activation.ReLU}]}
  head: {type: ClsHead, loss: {type: CrossEntropyLoss, loss_weight: 1.0}}
train_dataloader:
  batch_size: 4
  dataset: {type: Synthetic, n: 16, shape: [3, 2, 2], classes: 3}
optim_wrapper: {optimizer: {type: SGD, lr: 0.1}}
train_cfg: {type: mmengine.runner.EpochBasedTrainLoop, max_epochs: 2}
";

struct Read {
    notes: Vec<String>,
    errors: Vec<String>,
    text: String,
}

/// Reads a file that holds the run with `text` laid over it.
fn read(text: &str) -> Read {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("run.yaml"), RUN).unwrap();
    let path = dir.path().join("c.yaml");
    fs::write(&path, format!("_base_: run.yaml\n{text}")).unwrap();
    whole(&path)
}

fn whole(path: &Path) -> Read {
    let result = config::load(path, &[]).and_then(|node| RunConfig::read(&node));
    match result {
        Ok(config) => Read { notes: config.notes(), errors: Vec::new(), text: String::new() },
        Err(diags) => told(&diags),
    }
}

fn told(diags: &Diags) -> Read {
    Read {
        notes: Vec::new(),
        errors: diags.0.iter().map(|d| d.message.clone()).collect(),
        text: diags.to_string(),
    }
}

fn fine(text: &str) -> Read {
    let read = read(text);
    assert!(read.errors.is_empty(), "{text}: {}", read.text);
    read
}

fn one_error(text: &str, says: &str) -> Read {
    let read = read(text);
    assert_eq!(read.errors.len(), 1, "{text}: {}", read.text);
    assert!(read.text.contains(says), "{text}: {}", read.text);
    read
}

/// Top-level variables of a Python config refused the run.
#[test]
fn leftover_variables_are_noted_once() {
    let leftovers = "\
dataset_type: ImageNet
train_pipeline: [{type: LoadImageFromFile}]
test_pipeline: []
common_data_cfg: {num_workers: 4}
resume_from: null
bgr_mean: [103.5, 116.2, 123.7]
data_root: data/x
find_unused_parameters: true
max_epochs: 2
optimizer: {type: SGD, lr: 0.1}
";
    let read = fine(leftovers);
    let about: Vec<_> = read.notes.iter().filter(|note| note.contains("dataset_type")).collect();
    assert_eq!(about.len(), 1, "{:?}", read.notes);
    for name in ["train_pipeline", "common_data_cfg", "resume_from", "max_epochs", "optimizer", "no effect"] {
        assert!(about[0].contains(name), "{}", about[0]);
    }
    assert!(fine("").notes.is_empty());
}

#[test]
fn what_may_be_a_slip_is_no_leftover() {
    one_error("train_dataloder: {}\n", "train_dataloader");
    one_error("custom_hook: []\n", "custom_hooks");
    one_error("max_epochs: 5\n", "train_cfg.max_epochs");
    one_error("num_workers: 4\n", "num_workers");
    one_error("_bas_: x.yaml\n", "_base_");
    // The command line makes no variables.
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.yaml"), RUN).unwrap();
    let node = config::load(&dir.path().join("c.yaml"), &["dataset_type=x".into()]).unwrap();
    assert!(RunConfig::read(&node).unwrap_err().to_string().contains("dataset_type"));
}

/// What is at the value at which it does nothing passes; anything else is refused with the reason.
#[test]
fn harmless_values_pass_and_others_say_why_not() {
    for text in [
        "optim_wrapper: {paramwise_cfg: null, constructor: DefaultOptimWrapperConstructor}\n",
        "optim_wrapper: {optimizer: {foreach: null, maximize: false, differentiable: false, fused: null}}\n",
        "model: {head: {loss: {use_sigmoid: false, use_soft: false, reduction: mean}}}\n",
        "model: {test_cfg: {}, train_cfg: null, pretrained: null}\n",
        "train_dataloader: {batch_sampler: null, dataset: {backend_args: null, serialize_data: true}}\n",
        "test_cfg: {}\n",
        "optim_wrapper: {type: mmengine.optim.OptimWrapper}\n",
        "vis_backends: [{type: mmengine.visualization.LocalVisBackend}]\n",
        "val_cfg: {}\n",
        "test_dataloader: null\ntest_cfg: null\n",
        "default_hooks: {visualization: {type: VisualizationHook, enable: false}}\n",
        "default_hooks: {visualization: {type: VisualizationHook, interval: 100, show: false, out_dir: null}}\n",
    ] {
        fine(text);
    }
    for (text, says) in [
        (
            "model: {head: {loss: {use_sigmoid: true}}}\n",
            "may only be false: the loss is a softmax over the classes",
        ),
        ("model: {backbone: {with_cp: true}}\n", "may only be false: activations are kept"),
        ("train_dataloader: {dataset: {backend_args: {backend: petrel}}}\n", "files are read from the disk"),
        ("train_dataloader: {batch_sampler: {type: X}}\n", "batch_sampler"),
        ("optim_wrapper: {optimizer: {capturable: true}}\n", "graphs"),
        ("test_cfg: {type: TestLoop}\n", "test_dataloader"),
    ] {
        one_error(text, says);
    }
}

/// A type that MMPretrain has was called a crate that is not linked.
#[test]
fn types_of_other_projects_are_called_what_they_are() {
    for (text, project) in [
        ("custom_hooks: [{type: SwAVHook}]\n", "MMPretrain"),
        ("custom_hooks: [{type: mmpretrain.engine.hooks.SwAVHook}]\n", "MMPretrain"),
        ("custom_hooks: [{type: RFSearchHook}]\n", "MMCV"),
        ("custom_hooks: [{type: NPUProfilerHook}]\n", "MMEngine"),
        ("optim_wrapper: {optimizer: {type: torch.optim.ASGD}}\n", "PyTorch"),
        ("optim_wrapper: {optimizer: {type: Adan}}\n", "MMPretrain"),
        ("train_dataloader: {dataset: {type: CUB, _delete_: true}}\n", "MMPretrain"),
        ("vis_backends: [{type: TensorboardVisBackend}]\n", "MMEngine"),
    ] {
        let read = one_error(text, &format!("is a type of {project} that shanty does not have"));
        assert!(!read.text.contains("not linked"), "{}", read.text);
    }
    one_error("custom_hooks: [{type: NobodysHook}]\n", "not linked");
}

/// The same mistake in three loaders was told three times.
#[test]
fn one_mistake_in_several_places_is_told_once() {
    let loader =
        "{batch_size: 4, dataset: {type: Synthetic, n: 16, shape: [3, 2, 2], classes: 3, shuffel: true}}";
    let text = format!(
        "train_dataloader: {loader}\nval_dataloader: {loader}\ntest_dataloader: {loader}\nval_cfg: {{}}\ntest_cfg: {{}}\nval_evaluator: {{type: Accuracy}}\ntest_evaluator: {{type: Accuracy}}\n"
    );
    let read = read(&text);
    assert_eq!(read.errors.len(), 3, "editors mark all three: {}", read.text);
    assert_eq!(read.text.matches("unknown key `shuffel`").count(), 1, "{}", read.text);
    assert_eq!(read.text.matches("and here").count(), 2, "{}", read.text);
}

/// `collect_device` of a metric was read and never used, and nothing was said.
#[test]
fn keys_of_metrics_that_mean_nothing_here_are_noted_once() {
    let metrics = "[{type: Accuracy, collect_device: cpu}, {type: ConfusionMatrix, collect_device: gpu}]";
    let val = "{batch_size: 4, dataset: {type: Synthetic, n: 8, shape: [3, 2, 2], classes: 3}}";
    let said = read(&format!("val_evaluator: {metrics}\nval_cfg: {{}}\nval_dataloader: {val}\n"));
    let of_key = said.notes.iter().filter(|note| note.starts_with("`val_evaluator.collect_device`"));
    assert_eq!(of_key.count(), 1, "{:?} {}", said.notes, said.text);
}

fn lone(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    (dir, path)
}

/// Python was read as YAML: "this line is no `key: value`".
#[test]
fn python_configs_are_answered_with_the_command_that_dumps_them() {
    let python = "_base_ = ['../_base_/models/resnet18.py']\nmodel = dict(head=dict(num_classes=10))\n";
    let (_dir, path) = lone("c.py", python);
    let said = whole(&path);
    assert!(said.errors.len() == 1 && said.text.contains("is a Python config"), "{}", said.text);
    assert!(said.text.contains("Config.fromfile('") && said.text.contains("c.yaml')"), "{}", said.text);
    for text in [python, "model = dict(\n    type='ImageClassifier')\n", "lr = [1]\n"] {
        let (_dir, path) = lone("c.yaml", text);
        assert!(whole(&path).text.contains("is a Python config"), "{}", whole(&path).text);
    }
    let (dir, path) = lone("c.yaml", "_base_: ./x.py\n");
    fs::write(dir.path().join("x.py"), python).unwrap();
    let said = whole(&path);
    assert!(
        said.text.contains("x.py is a Python config") && said.text.contains("c.yaml:1:9"),
        "{}",
        said.text
    );
    let (_dir, path) = lone("c.yaml", "a: b = c\nname: x=1\n");
    assert!(!whole(&path).text.contains("Python"), "{}", whole(&path).text);
}

const OLD: &str = "\
model: {type: ImageClassifier, backbone: {type: ResNet, depth: 18}, head: {type: LinearClsHead, num_classes: 1000, in_channels: 512}, train_cfg: {augments: [{type: BatchMixup, alpha: 0.2, num_classes: 1000, prob: 0.5}, {type: Identity, prob: 0.5}]}}
dataset_type: ImageNet
img_norm_cfg: {mean: [1.0, 2.0, 3.0], std: [1.0, 1.0, 1.0], to_rgb: true}
data:
  samples_per_gpu: 32
  workers_per_gpu: 2
  train:
    type: CustomDataset
    data_prefix: data/train
    pipeline:
      - {type: LoadImageFromFile}
      - {type: RandomResizedCrop, size: 224, backend: pillow}
      - {type: RandomFlip, flip_prob: 0.5, direction: horizontal}
      - {type: Normalize, mean: [1.0, 2.0, 3.0], std: [1.0, 1.0, 1.0], to_rgb: true}
      - {type: ImageToTensor, keys: [img]}
      - {type: ToTensor, keys: [gt_label]}
      - {type: Collect, keys: [img, gt_label]}
  val:
    type: CustomDataset
    data_prefix: data/val
    pipeline:
      - {type: LoadImageFromFile}
      - {type: Resize, size: [256, -1]}
      - {type: CenterCrop, crop_size: 224}
      - {type: Collect, keys: [img]}
evaluation: {interval: 2, metric: [accuracy, precision, recall], metric_options: {topk: [1, 3]}, save_best: auto}
optimizer: {type: SGD, lr: 0.1, momentum: 0.9, paramwise_cfg: {norm_decay_mult: 0.0}, weight_decay: 0.0001}
optimizer_config: {grad_clip: {max_norm: 35}, type: GradientCumulativeOptimizerHook, cumulative_iters: 4}
lr_config: {policy: step, step: [30, 60, 90], warmup: linear, warmup_iters: 500, warmup_ratio: 0.1}
runner: {type: EpochBasedRunner, max_epochs: 100}
checkpoint_config: {interval: 1, max_keep_ckpts: 3}
log_config: {interval: 100, hooks: [{type: TextLoggerHook}]}
dist_params: {backend: nccl}
resume_from: null
seed: 7
workflow: [[train, 1]]
";

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
        ("policy: step", "policy: steps", "the policy `steps` has no form of today", ":29:"),
        ("warmup: linear", "warmup: line", "none of constant, linear and exp", ":29:"),
        ("warmup_iters: 500, ", "", "a warm-up needs `warmup_iters`", ":29:"),
        ("step: [30, 60, 90]", "step: [30], stepp: 4", "unknown key `stepp`", ":29:"),
        ("metric: [accuracy, precision, recall]", "metric: bleu", "the metric", ":26:"),
        ("workers_per_gpu: 2", "worker_per_gpu: 2", "unknown key `worker_per_gpu`", ":6:"),
        ("EpochBasedRunner", "OddRunner", "the runner", ":30:"),
        ("[[train, 1]]", "[[train, 1], [val, 1]]", "a `workflow` that validates", ":36:"),
        ("lr: 0.1, momentum", "lr: -0.1, momentum", "lr", ":27:"),
        ("max_norm: 35", "max_norm: -1", "max_norm", ":28:"),
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
    one_error("resume_from: work_dirs/x\n", "`resume: true`");
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

/// An error of the weights file had no place.
#[test]
fn pretrained_weights_that_cannot_be_read_have_their_line() {
    let (_dir, path) = lone(
        "c.yaml",
        &RUN.replace("layers:", "init_cfg: {type: Pretrained, checkpoint: nowhere.pth}, layers:"),
    );
    let work = tempfile::tempdir().unwrap();
    let node = config::load(&path, &[format!("work_dir={}", work.path().display())]).unwrap();
    let error =
        shanty::run::Runner::from_config(&node, None).and_then(|mut run| run.train().map(drop)).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("c.yaml:3:") && said.contains("nowhere.pth"), "{said}");
}

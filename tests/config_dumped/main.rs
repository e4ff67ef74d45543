//! Configs of MMEngine and MMPretrain as people bring them: dumped, with leftovers, of old layouts, or still in Python.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod mmcv;

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
        "vis_backends: [{type: TensorboardVisBackend, save_dir: x}]\n",
        "visualizer: {type: Visualizer, vis_backends: [{type: WandbVisBackend, init_kwargs: {project: x}}]}\n",
        "val_cfg: {}\n",
        "test_dataloader: null\ntest_cfg: null\n",
        "default_hooks: {visualization: {type: VisualizationHook, enable: false}}\n",
        "default_hooks: {visualization: {type: VisualizationHook, interval: 100, show: false, out_dir: null}}\n",
    ] {
        fine(text);
    }
    for (text, says) in [
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
        ("train_dataloader: {dataset: {type: Flowers102, _delete_: true}}\n", "MMPretrain"),
    ] {
        let read = one_error(text, &format!("is a type of {project} that shanty does not have"));
        assert!(!read.text.contains("not linked"), "{}", read.text);
    }
    one_error("custom_hooks: [{type: NobodysHook}]\n", "not linked");
}

/// Backends of MMEngine were refused, although the documents said that they are accepted.
#[test]
fn backends_of_mmengine_are_warned_of_at_their_place() {
    let (_dir, path) = lone("c.yaml", &format!("{RUN}vis_backends: [{{type: WandbVisBackend}}]\n"));
    let node = config::load(&path, &[]).unwrap();
    let told = match shanty::run::check(&node, Some("c.yaml")) {
        Ok(warnings) => warnings.to_string(),
        Err(error) => error.to_string(),
    };
    assert!(told.contains("`WandbVisBackend` writes nothing here") && told.contains("c.yaml:10:"), "{told}");
    one_error("vis_backends: [{type: NobodysVisBackend}]\n", "NobodysVisBackend");
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

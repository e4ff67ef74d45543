//! Whole trainings by their configs, beside PyTorch's (`fixtures/gen_recipes.py`): pictures out of files, augmentation,
//! warm-up, schedules and parameter groups, frozen stages, Mixup.

use std::path::Path;
use std::sync::{Arc, Mutex};

use super::*;
use shanty::config::parse;
use shanty::hook::{Ctx, Hook, HookResult, Step};

/// What PyTorch made of a recipe.
#[derive(Deserialize)]
struct Recipe {
    name: String,
    tensors: Vec<String>,
    /// Of twenty steps, and of an evaluation behind them.
    losses: Vec<f64>,
}

fn recipe(name: &str) -> Recipe {
    let path = format!("{}/tests/fixtures/recipes.json", env!("CARGO_MANIFEST_DIR"));
    let all: Vec<Recipe> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    all.into_iter().find(|recipe| recipe.name == name).unwrap()
}

/// `picture` of the script: three planes of `size` × `size` bytes.
fn picture(number: u64, label: u64, size: usize) -> Vec<u8> {
    let square =
        |at| (128.0 + 64.0 * noise(1000 + label, at) + 48.0 * noise(2000 + number, at)).floor() as u8;
    let at = |i: usize| (i * 8 / size) as u64;
    let rows = (0..3).flat_map(|plane| (0..size).map(move |y| (plane, at(y))));
    rows.flat_map(|(plane, y)| (0..size).map(move |x| plane * 64 + y * 8 + at(x))).map(square).collect()
}

/// The losses of the steps.
struct Losses(Arc<Mutex<Vec<f64>>>);

impl Hook for Losses {
    fn after_train_iter(&mut self, _: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        self.0.lock().unwrap().push(step.outputs.loss().unwrap());
        Ok(())
    }
}

/// Trains by this config and compares with PyTorch.
fn train(recipe: &Recipe, dir: &Path, config: &str) -> Runner {
    std::fs::write(dir.join("weights.safetensors"), write_tensors(&begin(&recipe.tensors)).unwrap()).unwrap();
    let node = parse("recipe.yaml", &config.replace("DIR", &dir.display().to_string())).unwrap();
    let mut runner = Runner::from_config(&node, Some("recipe.yaml")).unwrap();
    let losses = Arc::new(Mutex::new(Vec::new()));
    runner.add_hook(Losses(Arc::clone(&losses))).unwrap();
    runner.train().unwrap();
    let evaluated = runner.val().unwrap().get("val_loss").unwrap();
    let mut found = losses.lock().unwrap().clone();
    found.push(evaluated);
    assert_eq!(found.len(), recipe.losses.len());
    let away: Vec<f64> = found.iter().zip(&recipe.losses).map(|(a, b)| (a / b - 1.0).abs()).collect();
    println!("{}: losses {:.1e} away", recipe.name, away.iter().copied().fold(0.0, f64::max));
    assert!(away.iter().all(|away| *away < 1e-5), "{}: {found:?}, PyTorch {:?}", recipe.name, recipe.losses);
    runner
}

const RESNET20: &str = "
model:
  type: ImageClassifier
  backbone: {type: ResNet_CIFAR, depth: 20, num_stages: 3, out_indices: [2], style: pytorch}
  neck: {type: GlobalAveragePooling}
  head: {type: LinearClsHead, num_classes: 10, in_channels: 64, loss: {type: CrossEntropyLoss, loss_weight: 1.0}}
data_preprocessor:
  num_classes: 10
  mean: [125.307, 122.961, 113.8575]
  std: [51.5865, 50.847, 51.255]
  to_rgb: false
train_dataloader:
  batch_size: 8
  num_workers: 2
  dataset:
    type: CIFAR10
    data_root: DIR/cifar10
    split: train
    pipeline:
      - {type: RandomCrop, crop_size: 32, padding: 4}
      - {type: RandomFlip, prob: 0.5, direction: horizontal}
      - {type: PackInputs}
  sampler: {type: DefaultSampler, shuffle: true}
val_dataloader:
  batch_size: 8
  num_workers: 2
  dataset: {type: CIFAR10, data_root: DIR/cifar10, split: test, pipeline: [{type: PackInputs}]}
  sampler: {type: DefaultSampler, shuffle: false}
val_evaluator: {type: Accuracy, topk: [1]}
val_cfg: {}
optim_wrapper: {optimizer: {type: SGD, lr: 0.1, momentum: 0.9, weight_decay: 0.0001}}
param_scheduler: {type: MultiStepLR, by_epoch: true, milestones: [2, 3], gamma: 0.1}
train_cfg: {by_epoch: true, max_epochs: 4, val_interval: 1}
auto_scale_lr: {base_batch_size: 128, enable: true}
randomness: {seed: 20}
load_from: DIR/weights.safetensors
work_dir: DIR/work
";

/// ResNet-20 on pictures of CIFAR-10's shape, from the files of its authors' layout, by MMPretrain's recipe.
#[test]
fn resnet_20_learns_by_mmpretrains_recipe_as_in_pytorch() {
    let (recipe, dir) = (recipe("cifar"), tempfile::tempdir().unwrap());
    let folder = dir.path().join("cifar10/cifar-10-batches-bin");
    std::fs::create_dir_all(&folder).unwrap();
    let files =
        ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"];
    for (file, name) in (0..).zip(files) {
        let record = |i: u64| [vec![(i % 10) as u8], picture(i, i % 10, 32)].concat();
        let records: Vec<u8> = (8 * file..8 * file + 8).flat_map(record).collect();
        std::fs::write(folder.join(format!("{name}.bin")), records).unwrap();
    }
    train(&recipe, dir.path(), RESNET20);
}

const FINE_TUNED: &str = "
model:
  type: ImageClassifier
  backbone: {type: ResNet, depth: 18, num_stages: 4, out_indices: [3], style: pytorch, frozen_stages: 2}
  neck: {type: GlobalAveragePooling}
  head:
    type: LinearClsHead
    num_classes: 4
    in_channels: 512
    loss: {type: CrossEntropyLoss, use_soft: true}
    init_cfg: {type: Constant, layer: Linear, val: 0}
  train_cfg: {augments: {type: Mixup, alpha: 1.0}}
data_preprocessor:
  num_classes: 4
  mean: [123.675, 116.28, 103.53]
  std: [58.395, 57.12, 57.375]
  to_rgb: true
train_dataloader:
  batch_size: 4
  num_workers: 2
  dataset:
    type: CustomDataset
    data_root: DIR/pictures
    pipeline:
      - {type: LoadImageFromFile}
      - {type: RandomFlip, prob: 0.5, direction: horizontal}
      - {type: PackInputs}
  sampler: {type: DefaultSampler, shuffle: true}
val_dataloader:
  batch_size: 5
  dataset: {type: CustomDataset, data_root: DIR/pictures, pipeline: [{type: LoadImageFromFile}, {type: PackInputs}]}
  sampler: {type: DefaultSampler, shuffle: false}
val_evaluator: {type: Accuracy, topk: [1]}
val_cfg: {}
optim_wrapper:
  optimizer: {type: SGD, lr: 0.0002, momentum: 0.9, weight_decay: 0.0005, nesterov: true}
  paramwise_cfg: {norm_decay_mult: 0, custom_keys: {head: {lr_mult: 10}}}
param_scheduler:
  - {type: LinearLR, start_factor: 0.01, by_epoch: true, begin: 0, end: 1, convert_to_iter_based: true}
  - {type: MultiStepLR, by_epoch: true, milestones: [3], gamma: 0.1}
train_cfg: {by_epoch: true, max_epochs: 4, val_interval: 4}
randomness: {seed: 20}
load_from: DIR/weights.safetensors
load_options: {from: torchvision, strict: false}
work_dir: DIR/work
";

/// ResNet-18 with torchvision's tensors and a new head, which learns ten times as fast; stem and two stages are frozen.
#[test]
fn resnet_18_is_fine_tuned_from_a_file_of_torchvision_as_in_pytorch() {
    let (recipe, dir) = (recipe("finetune"), tempfile::tempdir().unwrap());
    for number in 0..20 {
        let folder = dir.path().join(format!("pictures/class_{}", number / 5));
        std::fs::create_dir_all(&folder).unwrap();
        let planes = picture(number, number / 5, 64);
        let pixels = (0..64 * 64).flat_map(|at| [planes[at], planes[4096 + at], planes[8192 + at]]);
        let ppm: Vec<u8> = b"P6 64 64 255\n".iter().copied().chain(pixels).collect();
        std::fs::write(folder.join(format!("{number:02}.ppm")), ppm).unwrap();
    }
    let mut runner = train(&recipe, dir.path(), FINE_TUNED);
    let (file, state) = (begin(&recipe.tensors), StateDict::of(runner.model().unwrap()).unwrap());
    for stage in ["layer2.1.bn2.running_mean", "layer2.1.conv2.weight", "bn1.bias"] {
        assert_eq!(state.get(&format!("backbone.{stage}")).unwrap().value, file.get(stage).unwrap().value);
    }
    assert_ne!(
        state.get("backbone.layer3.0.conv1.weight").unwrap().value,
        file.get("layer3.0.conv1.weight").unwrap().value
    );
}

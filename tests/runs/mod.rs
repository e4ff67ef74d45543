//! A small run as a real process, for tests that hurt it: what it is, how it is started, how it ends if it is left
//! alone.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub const CONFIG: &str = "\
model:
  type: ImageClassifier
  backbone:
    type: Sequential
    layers:
      - {type: Flatten}
      - {type: Linear, in_features: 64, out_features: 32}
      - {type: BatchNorm1d, num_features: 32}
      - {type: ReLU}
      - {type: Dropout, p: 0.2}
      - {type: Linear, in_features: 32, out_features: 10}
  head: {type: ClsHead, loss: {type: CrossEntropyLoss}}
train_dataloader: &data
  batch_size: 64
  dataset: {type: Digits, split: train, pipeline: [{type: PackInputs}]}
  sampler: {type: DefaultSampler, shuffle: true}
val_dataloader:
  batch_size: 64
  dataset: {type: Digits, split: val, pipeline: [{type: PackInputs}]}
  sampler: {type: DefaultSampler, shuffle: false}
val_evaluator: {type: Accuracy, topk: [1]}
val_cfg: {}
optim_wrapper:
  optimizer: {type: SGD, lr: 0.1, momentum: 0.9}
  accumulative_counts: 2
param_scheduler: {type: CosineAnnealingLR, by_epoch: false}
train_cfg: {by_epoch: true, max_epochs: 8}
default_hooks:
  checkpoint: {type: CheckpointHook, interval: 7, by_epoch: false, max_keep_ckpts: 1, save_best: accuracy/top1}
randomness: {seed: 3}
";

/// How often a test hurts its runs: as the variable says, else a few times.
pub fn count(variable: &str, short: usize) -> usize {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(short)
}

/// The command that trains `config` in `work_dir`.
pub fn command(config: &Path, work_dir: &Path, resume: bool) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shanty"));
    command.arg("train").arg(config).arg("--work-dir").arg(work_dir);
    if resume {
        command.arg("--resume");
    }
    command.stdout(Stdio::null()).stderr(Stdio::null()).env("RAYON_NUM_THREADS", "1");
    command
}

/// Starts it.
pub fn start(config: &Path, work_dir: &Path, resume: bool) -> Child {
    command(config, work_dir, resume).spawn().unwrap()
}

/// Lets it run to its end; the bytes of the last checkpoint's weights.
pub fn to_the_end(config: &Path, work_dir: &Path, resume: bool) -> Vec<u8> {
    assert!(start(config, work_dir, resume).wait().unwrap().success());
    last_weights(work_dir)
}

/// The bytes of the weights of the checkpoint that the pointer names.
pub fn last_weights(work_dir: &Path) -> Vec<u8> {
    let last = fs::read_to_string(work_dir.join("last_checkpoint")).unwrap();
    fs::read(work_dir.join(last).join("model.safetensors")).unwrap()
}

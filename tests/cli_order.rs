//! Every order of arguments that `--help` shows, and the names by which checkpoints are known.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests
#![cfg(feature = "cli")]

use std::fs;
use std::path::Path;
use std::process::Command;

const CONFIG: &str = "\
model:
  type: ImageClassifier
  backbone: {type: Sequential, layers: [{type: Flatten}, {type: Linear, in_features: 12, out_features: 3}]}
  head: {type: ClsHead, loss: {type: CrossEntropyLoss}}
train_dataloader: &data
  batch_size: 4
  dataset: {type: Synthetic, n: 16, shape: [3, 2, 2], classes: 3}
  sampler: {type: DefaultSampler, shuffle: true}
val_dataloader: *data
val_evaluator: {type: Accuracy}
val_cfg: {}
optim_wrapper: {optimizer: {type: SGD, lr: 0.1, momentum: 0.9}}
train_cfg: {by_epoch: true, max_epochs: 2}
randomness: {seed: 1}
";

struct Out {
    code: i32,
    stdout: String,
    stderr: String,
}

fn shanty(dir: &Path, line: &str) -> Out {
    let out =
        Command::new(env!("CARGO_BIN_EXE_shanty")).args(line.split(' ')).current_dir(dir).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Out { code: out.status.code().unwrap(), stdout: text(out.stdout), stderr: text(out.stderr) }
}

fn with_config() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.yaml"), CONFIG).unwrap();
    fs::write(dir.path().join("more.yaml"), "train_cfg: {max_epochs: 3}\n").unwrap();
    dir
}

/// `--set a=1 c.yaml` took the config for a change.
#[test]
fn changes_may_stand_before_and_behind_the_config() {
    let dir = with_config();
    let lr = "optim_wrapper.optimizer.lr=0.5";
    let epochs = "train_cfg.max_epochs=7";
    let orders = [
        format!("config --set {lr} {epochs} c.yaml"),
        format!("config --set {lr} --set {epochs} c.yaml"),
        format!("config --set={lr} c.yaml {epochs}"),
        format!("config --cfg-options {lr} {epochs} c.yaml"),
        format!("config c.yaml --set {lr} {epochs}"),
        format!("config c.yaml --cfg-options {lr} {epochs}"),
        format!("config c.yaml {lr} {epochs}"),
        format!("config c.yaml {lr} --set {epochs}"),
        format!("config --overlay more.yaml --set {lr} {epochs} c.yaml"),
        format!("config --set {lr} {epochs} --overlay more.yaml c.yaml"),
        format!("config --set {lr} {epochs} -- c.yaml"),
        format!("--format text config --set {lr} {epochs} c.yaml"),
    ];
    let wanted = shanty(dir.path(), &orders[0]).stdout;
    assert!(wanted.contains("lr: 0.5") && wanted.contains("max_epochs: 7"), "{wanted}");
    for order in orders {
        let out = shanty(dir.path(), &order);
        assert_eq!((out.code, out.stdout), (0, wanted.clone()), "{order}: {}", out.stderr);
    }
    // From the first to the last, however they are written.
    let out = shanty(dir.path(), "config --set train_cfg.max_epochs=4 train_cfg.max_epochs=5 c.yaml");
    assert!(out.stdout.contains("max_epochs: 5"), "{}", out.stdout);
    for order in ["check", "plan"] {
        let out = shanty(dir.path(), &format!("{order} --set {lr} {epochs} c.yaml"));
        assert_eq!(out.code, 0, "{}", out.stderr);
    }
    let out = shanty(dir.path(), &format!("explain --set {lr} c.yaml optim_wrapper.optimizer.lr"));
    assert!(out.code == 0 && out.stdout.contains("0.5"), "{}{}", out.stdout, out.stderr);
    // A change in the place of the config is named.
    let out = shanty(dir.path(), &format!("check {lr} c.yaml"));
    assert_eq!(out.code, 2);
    assert!(out.stderr.contains("the config comes first"), "{}", out.stderr);
    let out = shanty(dir.path(), &format!("check --set {lr}"));
    assert_eq!(out.code, 2);
    assert!(out.stderr.contains("<CONFIG>"), "{}", out.stderr);
}

/// `train --resume c.yaml` took the config for a checkpoint.
#[test]
fn resume_stands_before_the_config_or_behind_it() {
    let dir = with_config();
    let orders = [
        "train c.yaml --work-dir w",
        "train --resume c.yaml --work-dir w",
        "train c.yaml --resume --work-dir w",
        "train --work-dir w --resume c.yaml",
        "train --work-dir w c.yaml --resume train_cfg.max_epochs=2",
        "train --work-dir w --set train_cfg.max_epochs=2 --resume c.yaml",
        "train --resume epoch_1 c.yaml --work-dir w",
        "train c.yaml --work-dir w --resume epoch_1",
        "train --resume=epoch_1 c.yaml --work-dir w",
        "train --resume --work-dir w -- c.yaml",
    ];
    for order in orders {
        let out = shanty(dir.path(), order);
        assert_eq!(out.code, 0, "{order}: {}", out.stderr);
        assert!(out.stdout.starts_with("finished after 2 epochs"), "{order}: {}", out.stdout);
        let resumed =
            (1..3).filter(|epoch| out.stderr.contains(&format!("w/epoch_{epoch}: epoch"))).sum::<usize>();
        let wanted = if !order.contains("--resume") {
            0
        } else if order.contains("epoch_1") {
            1
        } else {
            2
        };
        assert_eq!(resumed, wanted, "{order}: {}", out.stderr);
    }
}

/// A work_dir, a name in it and a file of weights were "no checkpoint" with the wrong reason.
#[test]
fn a_checkpoint_is_known_by_its_name_and_by_its_work_dir() {
    let dir = with_config();
    assert_eq!(shanty(dir.path(), "train c.yaml --work-dir w").code, 0);
    for (named, resumed) in [
        ("w", "w/epoch_2"),
        ("w/", "w/epoch_2"),
        ("./w", "w/epoch_2"),
        ("w/epoch_1", "w/epoch_1"),
        ("epoch_1", "w/epoch_1"),
        ("epoch_1/", "w/epoch_1"),
    ] {
        let out = shanty(dir.path(), &format!("train c.yaml --work-dir w --resume {named}"));
        assert_eq!(out.code, 0, "{named}: {}", out.stderr);
        let said = out.stderr.replace("/: epoch", ": epoch");
        assert!(said.contains(&format!("{resumed}: epoch")), "{named}: {said}");
    }
    for named in ["w/epoch_1", "epoch_1", "w", "w/epoch_1/model.safetensors"] {
        let out = shanty(dir.path(), &format!("val c.yaml {named} work_dir=w"));
        assert!(out.code == 0 && out.stdout.starts_with("accuracy/top1"), "{named}: {}", out.stderr);
    }
    let out = shanty(dir.path(), "train c.yaml --work-dir w --resume w/epoch_1/model.safetensors");
    assert_eq!(out.code, 2);
    assert!(
        out.stderr.contains("resume the directory `w/epoch_1`") && out.stderr.contains("load_from"),
        "{}",
        out.stderr
    );
    fs::copy(dir.path().join("w/epoch_1/model.safetensors"), dir.path().join("bare.safetensors")).unwrap();
    let out = shanty(dir.path(), "train c.yaml --work-dir w --resume bare.safetensors");
    assert!(out.code == 2 && out.stderr.contains("file of weights"), "{}", out.stderr);
    let out = shanty(dir.path(), "train c.yaml --work-dir w --resume epoch_3");
    assert!(out.code == 1 && out.stderr.contains("did you mean `epoch_1`"), "{}", out.stderr);
    fs::create_dir(dir.path().join("empty")).unwrap();
    let out = shanty(dir.path(), "train c.yaml --work-dir w --resume empty");
    assert!(out.stderr.contains("neither a checkpoint nor a work_dir"), "{}", out.stderr);
}

//! Every shipped config goes through every command.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use shanty::config::{Node, load};

fn configs() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut all: Vec<_> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    all.sort();
    assert!(all.len() >= 3);
    all
}

fn shanty(dir: &Path, args: &[String]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shanty")).current_dir(dir).args(args).output().unwrap()
}

/// Overrides that make a config small and put data that is made up in place of files.
fn small(config: &Path) -> Vec<String> {
    let node = load(config, &[]).unwrap();
    let mut set = vec![
        "train_cfg={by_epoch: false, max_iters: 2, val_interval: 2}".to_owned(),
        "default_hooks.checkpoint.interval=1".to_owned(),
        "default_hooks.checkpoint.by_epoch=false".to_owned(),
    ];
    for mode in ["train", "val", "test"] {
        let loader = format!("{mode}_dataloader");
        let dataset = node.get(&loader).and_then(|l| l.get("dataset"));
        if let Some(kind) = dataset.and_then(|d| d.get("type")).and_then(Node::as_str)
            && !["Digits", "Csv", "Npz", "TextLines"].contains(&kind)
            && !kind.starts_with("Synthetic")
        {
            let channels = if kind == "MNIST" { 1 } else { 3 };
            set.push(format!(
                "{loader}.dataset={{type: Synthetic, n: 40, shape: [{channels}, 32, 32], classes: 10}}"
            ));
            set.push(format!("{loader}.batch_size=8"));
        }
    }
    // Weights and classes of its own, which the made-up data have not.
    if config.ends_with("finetune_resnet18.yaml") {
        set.extend(["model.backbone.init_cfg=null", "model.head.num_classes=10"].map(String::from));
    }
    set.iter().flat_map(|text| ["--set".to_owned(), text.clone()]).collect()
}

#[test]
fn every_shipped_config_goes_through_every_command() {
    for config in configs() {
        let dir = tempfile::tempdir().unwrap();
        let name = config.file_stem().unwrap().to_string_lossy().into_owned();
        let file = config.to_string_lossy().into_owned();
        let set = small(&config);
        let run = |words: &[&str]| {
            let mut args: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            args.extend(set.iter().cloned());
            let out = shanty(dir.path(), &args);
            let said =
                String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
            assert!(out.status.success(), "{args:?}: {said}");
            said
        };
        run(&["check", &file]);
        run(&["config", &file]);
        run(&["explain", &file, "optim_wrapper.optimizer.lr"]);
        let plan = run(&["plan", &file]);
        assert!(plan.contains("2 iterations"), "{plan}");
        run(&["train", &file]);
        let checkpoint = format!("work_dirs/{name}/iter_2");
        let metric = match &name[..] {
            "houses_mlp" | "waves_mlp" => "mae: ",
            "waves_autoencoder" => "mse: ",
            "weather_labels" => "multi-label/f1-score: ",
            "shapes_masks" | "sums_language_model" => "mIoU: ",
            _ => "accuracy/top1",
        };
        assert!(run(&["val", &file, &checkpoint]).contains(metric));
        assert!(run(&["test", &file, &checkpoint]).contains(metric));
        run(&["predict", &file, &checkpoint, "--out", "predictions.jsonl"]);
        run(&["verify-resume", &file, "--cuts", "1"]);
    }
}

/// As it is shipped, where its data is not: warnings, and success.
#[test]
fn every_shipped_config_can_be_checked_without_its_data() {
    let dir = tempfile::tempdir().unwrap();
    for config in configs() {
        let out = shanty(dir.path(), &["check".to_owned(), config.to_string_lossy().into_owned()]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a check writes nothing");
}

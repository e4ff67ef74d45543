//! The command line as scripts see it: exit codes, places, files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn shanty(args: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Command::new(env!("CARGO_BIN_EXE_shanty")).args(args).current_dir(root).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_shipped_config_is_fine() {
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") && !path.to_string_lossy().contains("mnist") {
            let out = shanty(&["check", &path.to_string_lossy()]);
            assert!(out.status.success(), "{}", text(&out.stderr));
        }
    }
}

#[test]
fn a_misspelt_key_in_a_base_file_is_shown_where_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let base = dir.path().join("base.yaml");
    fs::write(&base, "default_hooks:\n  checkpoint: {type: CheckpointHook, intreval: 2}\n").unwrap();
    let child = dir.path().join("child.yaml");
    let digits = root.join("configs/digits_lenet.yaml");
    fs::write(&child, format!("_base_: {}\n", digits.display())).unwrap();
    assert!(shanty(&["check", &child.to_string_lossy()]).status.success());
    fs::write(&child, "_base_: base.yaml\nmodel: {type: ImageClassifier, backbone: {type: LeNet5, num_classes: 10}, head: {type: ClsHead}}\n").unwrap();
    let out = shanty(&["check", &child.to_string_lossy()]);
    assert_eq!(out.status.code(), Some(2));
    let said = text(&out.stderr);
    assert!(said.contains("base.yaml:2:38"), "{said}");
    assert!(said.contains("intreval") && said.contains("interval"), "{said}");
}

#[test]
fn usage_errors_and_failures_have_their_codes() {
    assert_eq!(shanty(&["frobnicate"]).status.code(), Some(2));
    assert_eq!(shanty(&["check", "no/such.yaml"]).status.code(), Some(2));
    let missing = shanty(&["val", "configs/digits_lenet.yaml", "no/such/checkpoint"]);
    assert_eq!(missing.status.code(), Some(1), "{}", text(&missing.stderr));
}

#[test]
fn train_then_resume_then_validate() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().to_string_lossy().into_owned();
    let config = "configs/digits_mlp_sequential.yaml";
    let short = |iters: &str, more: &[&str]| {
        let iters = format!("train_cfg.max_iters={iters}");
        let mut args = vec![
            "train",
            config,
            "--work-dir",
            &work,
            "--set",
            &iters,
            "--set",
            "default_hooks.checkpoint.interval=10",
        ];
        args.extend(more);
        shanty(&args)
    };
    let out = short("20", &[]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let said = text(&out.stdout);
    assert!(said.starts_with("finished after 0 epochs, 20 iterations"), "{said}");
    assert!(said.contains("accuracy/top1"), "{said}");
    let log = text(&out.stderr);
    assert!(!log.contains(['\r', '\u{1b}']), "no control characters off a terminal");
    assert!(dir.path().join("iter_20/model.safetensors").exists());
    assert!(dir.path().join("digits_mlp_sequential.yaml").exists());
    let out = short("30", &["--resume"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("resumed"), "{}", text(&out.stderr));
    assert!(dir.path().join("iter_30").exists());
    let checkpoint = dir.path().join("iter_30").to_string_lossy().into_owned();
    let out = shanty(&["val", config, &checkpoint, "--set", &format!("work_dir={work}")]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(text(&out.stdout).starts_with("accuracy/top1: "), "{}", text(&out.stdout));
}

#[test]
fn the_list_knows_what_the_readme_names() {
    let out = shanty(&["list"]);
    let said = text(&out.stdout);
    for name in [
        "LeNet5",
        "Conv2d",
        "CheckpointHook",
        "Kaiming",
        "SGD",
        "CosineAnnealingLR",
        "MNIST",
        "Accuracy",
        "CrossEntropyLoss",
    ] {
        assert!(said.contains(name), "`{name}` is not listed:\n{said}");
    }
    let hooks = text(&shanty(&["list", "hook"]).stdout);
    assert!(hooks.contains("LoggerHook") && !hooks.contains("Conv2d"));
    assert_eq!(shanty(&["list", "hok"]).status.code(), Some(2));
}

#[test]
fn the_resolved_config_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let out = shanty(&["config", "configs/digits_lenet.yaml", "train_cfg.max_epochs=3"]);
    let set = shanty(&["config", "configs/digits_lenet.yaml", "--cfg-options", "train_cfg.max_epochs=3"]);
    assert_eq!(text(&set.stdout), text(&out.stdout), "with and without MMEngine's switch");
    let copy = dir.path().join("copy.yaml");
    fs::write(&copy, &out.stdout).unwrap();
    let again = shanty(&["config", &copy.to_string_lossy()]);
    assert_eq!(text(&again.stdout), text(&out.stdout));
    assert!(text(&out.stdout).contains("max_epochs: 3"));
}

//! The folders of a run as the command line names them: one that holds the config, and one that is relative.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests
#![cfg(feature = "cli")]

use std::fs;
use std::path::Path;
use std::process::Command;

/// The checkpoints in a folder.
fn names(dir: &Path) -> Vec<String> {
    let is_checkpoint = |e: &fs::DirEntry| e.path().join("manifest.json").exists();
    let all = fs::read_dir(dir).unwrap().map(Result::unwrap).filter(is_checkpoint);
    let mut names: Vec<_> = all.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// `train exp/my.yaml --work-dir exp`: the config is nobody's to overwrite; a dump of an earlier run is.
#[test]
fn the_config_in_its_own_work_dir_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let text = "# my notes\n_base_: BASE\nmodel: {type: ToyModel}\n";
    let base = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/digits_lenet.yaml");
    let text = text
        .replace("BASE", base)
        .replace("model: {type: ToyModel}\n", "train_cfg: {by_epoch: true, max_epochs: 1}\n");
    let config = dir.path().join("my.yaml");
    fs::write(&config, &text).unwrap();
    let shanty = |work: &Path, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shanty"));
        command.arg("train").arg(&config).arg("--work-dir").arg(work).args(more);
        assert!(command.output().unwrap().status.success());
    };
    shanty(dir.path(), &[]);
    assert_eq!(fs::read_to_string(&config).unwrap(), text);
    let other = dir.path().join("other");
    shanty(&other, &[]);
    let first = fs::read_to_string(other.join("my.yaml")).unwrap();
    assert!(first.starts_with("# The resolved config of a run, written by shanty"), "{first}");
    shanty(&other, &["--overwrite", "--set", "train_cfg.max_epochs=2"]);
    assert_ne!(fs::read_to_string(other.join("my.yaml")).unwrap(), first, "a dump is replaced");
}

/// A relative `out_dir` means another folder when the run is resumed from elsewhere: that is told, and nothing is begun
/// anew.
#[test]
fn a_relative_folder_and_another_working_directory() {
    let root = tempfile::tempdir().unwrap();
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/digits_lenet.yaml");
    let shanty = |from: &str, epochs: u64, more: &[&str]| {
        let home = root.path().join(from);
        fs::create_dir_all(&home).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_shanty"));
        command
            .current_dir(home)
            .args(["train", config, "--work-dir"])
            .arg(root.path().join("work"))
            .args(more);
        command.args(["--no-validate", "--set", "default_hooks.checkpoint.out_dir=outd"]);
        command.args(["default_hooks.checkpoint.save_best=null", &format!("train_cfg.max_epochs={epochs}")]);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(shanty("a", 1, &[]).0, Some(0));
    let (code, told) = shanty("b", 2, &["--resume"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("which is in no folder of this run") && told.contains("a/outd/work/epoch_1"),
        "{told}"
    );
    assert_eq!(shanty("a", 2, &["--resume"]).0, Some(0));
    assert_eq!(names(&root.path().join("a/outd/work")), ["epoch_1", "epoch_2"]);
    let named = root.path().join("a/outd/work/epoch_2");
    assert_eq!(shanty("b", 3, &["--resume", &named.to_string_lossy()]).0, Some(0));
    assert_eq!(names(&root.path().join("b/outd/work")), ["epoch_3"]);
}

//! What a config or a command names as an output, and as an input, is never something that it would spoil or wait for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(all(target_os = "linux", feature = "cli"))]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

fn shanty(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shanty")).args(args).current_dir(dir).output().unwrap()
}

/// The command refuses with exit code 2, and says `why`.
fn refused(dir: &Path, args: &[&str], why: &str) {
    let out = shanty(dir, args);
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{args:?}: {said}");
    assert!(said.contains(why), "{args:?}: {said}");
}

fn shipped() -> String {
    format!("{}/configs/digits_lenet.yaml", env!("CARGO_MANIFEST_DIR"))
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// The trace took the place of devices, pipes, links, and of any file of the user's.
#[test]
fn a_trace_replaces_nothing_but_an_earlier_trace() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fifo(&at("pipe"));
    fs::write(at("mine.yaml"), "a: 1\n").unwrap();
    symlink("mine.yaml", at("link")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    fs::write(at("old.json"), r#"{"displayTimeUnit":"ms","traceEvents":[]}"#).unwrap();
    let config = shipped();
    for (path, why) in [
        ("pipe", "is no plain file"),
        ("link", "is no plain file"),
        ("dangling", "is no plain file"),
        ("mine.yaml", "is no trace of shanty's"),
        ("", "is empty"),
    ] {
        let set = format!("custom_hooks=[{{type: ProfilerHook, json_trace_path: '{path}'}}]");
        for command in ["check", "train"] {
            refused(dir.path(), &[command, &config, "--set", &set], why);
        }
    }
    let set = "custom_hooks=[{type: ProfilerHook, json_trace_path: old.json}]";
    assert!(shanty(dir.path(), &["check", &config, "--set", set]).status.success());
    assert_eq!(fs::read_to_string(at("mine.yaml")).unwrap(), "a: 1\n");
}

/// An output that stood in a checkpoint broke its seal.
#[test]
fn an_output_is_not_written_into_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).unwrap();
    let bytes = safetensors::serialize([("w", view)], None).unwrap();
    let saved = dir.path().join("epoch_1");
    fs::create_dir(&saved).unwrap();
    for path in [dir.path().join("a.safetensors"), saved.join("model.safetensors")] {
        fs::write(path, &bytes).unwrap();
    }
    fs::write(saved.join("manifest.json"), "{}").unwrap();
    for to in ["epoch_1/model.safetensors", "epoch_1/b.safetensors", ".shanty-x.safetensors"] {
        refused(dir.path(), &["ckpt", "convert", "a.safetensors", to], "name another file");
        refused(dir.path(), &["ckpt", "average", "a.safetensors", "--out", to], "name another file");
    }
    refused(dir.path(), &["plan", &shipped(), "--svg", "last_checkpoint"], "name another file");
    assert_eq!(fs::read(saved.join("model.safetensors")).unwrap(), bytes);
    assert!(!saved.join("b.safetensors").exists());
}

/// A reference that is longer than a width of `format!` may be was a panic.
#[test]
fn a_reference_may_be_longer_than_a_width() {
    let dir = tempfile::tempdir().unwrap();
    for length in [65_520, 65_530, 70_000] {
        fs::write(dir.path().join("c.yaml"), format!("x: \"{{{{_base_.{}}}}}\"\n", "a".repeat(length)))
            .unwrap();
        refused(dir.path(), &["config", "c.yaml"], "_base_");
    }
}

/// Whoever opens a pipe waits for a writer.
#[test]
fn a_pipe_is_no_config() {
    let dir = tempfile::tempdir().unwrap();
    fifo(&dir.path().join("p.yaml"));
    fs::write(dir.path().join("c.yaml"), "_base_: p.yaml\n").unwrap();
    for command in ["check", "train", "plan", "config"] {
        refused(dir.path(), &[command, "p.yaml"], "a pipe (FIFO), not a regular file");
        refused(dir.path(), &[command, "c.yaml"], "a pipe (FIFO), not a regular file");
        refused(
            dir.path(),
            &[command, &shipped(), "--overlay", "p.yaml"],
            "a pipe (FIFO), not a regular file",
        );
    }
}

/// No time at all was taken for a limit of zero seconds.
#[test]
fn a_time_has_one_of_the_forms() {
    let dir = tempfile::tempdir().unwrap();
    for time in ["", "1:2:3:4", ":"] {
        refused(dir.path(), &["train", &shipped(), "--max-time", time], "write 90, 45m, 1h30m or 11:55:00");
    }
}

/// Names that do not show, are too long, or are none of a folder of this machine were found out late or never.
#[test]
fn names_of_checkpoints_and_their_folders_are_checked_before() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("save_best={}/accuracy", "a".repeat(230));
    for (set, why) in [
        ("filename_tmpl=\"a\\u202eb{}\"", "turns the text around"),
        ("filename_tmpl=\"a\\u200bb{}\"", "is not seen"),
        ("out_dir='s3://bucket/x'", "give a local path"),
        ("out_dir='http://host/x'", "give a local path"),
        ("out_dir='~/x'", "give a local path"),
        (&*long, "it is too long"),
    ] {
        refused(dir.path(), &["check", &shipped(), "--set", &format!("default_hooks.checkpoint.{set}")], why);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// A dump that was edited, and trained where it lay, lost what was written into it.
#[test]
fn the_config_that_is_trained_is_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let dump =
        Command::new(env!("CARGO_BIN_EXE_shanty")).args(["config", &shipped()]).output().unwrap().stdout;
    let head =
        "# The resolved config of a run, written by shanty; the next start of the run replaces it.\n# mine\n";
    let mine = head.to_owned() + &String::from_utf8(dump).unwrap();
    fs::create_dir(dir.path().join("e3")).unwrap();
    fs::write(dir.path().join("e3/s.yaml"), &mine).unwrap();
    shanty(dir.path(), &["train", "e3/s.yaml", "--work-dir", "e3", "--max-time", "0s"]);
    assert_eq!(fs::read_to_string(dir.path().join("e3/s.yaml")).unwrap(), mine);
    assert!(dir.path().join("e3/s.resolved.yaml").exists());
}

//! What a config or a command names as an output, and as an input, is never something that it would spoil or wait for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(all(target_os = "linux", feature = "cli"))]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
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

const CONFIG: &str = "\
model: {type: Supervised, network: [{type: Flatten}, {type: Linear, in_features: 12, out_features: 2}], loss: {type: CrossEntropyLoss}}
train_dataloader: {batch_size: 4, dataset: &d {type: Synthetic, n: 12, shape: [3, 2, 2], classes: 2}}
val_dataloader: {batch_size: 4, dataset: *d}
val_evaluator: {type: Accuracy}
optim_wrapper: {optimizer: {type: SGD, lr: 0.1}}
train_cfg: {by_epoch: true, max_epochs: 1}
val_cfg: {}
randomness: {seed: 1}
work_dir: w
";

/// Every file below a folder, with its bytes.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = entries
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![(path.clone(), fs::read(path).unwrap())],
        })
        .collect();
    all.sort();
    all
}

/// Outputs were written over the dumped config, the log, scalars and tables, and what hooks had put beside them.
#[test]
fn an_output_is_not_written_over_what_a_run_writes() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.yaml"), CONFIG).unwrap();
    let out = shanty(dir.path(), &["train", "c.yaml"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let work = dir.path().join("w");
    let logs = fs::read_dir(&work).unwrap().map(|entry| entry.unwrap().path());
    let logs = logs.into_iter().find(|path| path.join("vis_data").is_dir()).unwrap();
    let bundle = logs.join("replay_iter_3");
    fs::create_dir(&bundle).unwrap();
    fs::write(bundle.join("step.json"), "{}").unwrap();
    let records = files(&work);
    let names =
        ["c.yaml", ".log", "scalars.json", "config.yaml", ".shanty-run.json", "last_checkpoint", "step.json"];
    for name in names {
        assert!(records.iter().any(|(path, _)| path.to_string_lossy().ends_with(name)), "{name}");
    }
    let link = dir.path().join("link");
    let new = [logs.join("new.json"), logs.join("vis_data/new.json"), bundle.join("new.csv")];
    // Names that checkpoints are yet to have.
    let new = new.into_iter().chain(["epoch_700", "iter_12"].map(|name| work.join(name)));
    let new: Vec<_> = new.collect();
    for record in records.iter().map(|(path, _)| path).chain(&new) {
        let _ = fs::remove_file(&link);
        symlink(record, &link).unwrap();
        for path in [record, &link].map(|path| path.to_str().unwrap()) {
            refused(dir.path(), &["val", "c.yaml", "epoch_1", "--out", path], "name another file");
            refused(dir.path(), &["plan", "c.yaml", "--svg", path], "name another file");
            for args in [
                &["predict", "c.yaml", "epoch_1", "--out", path][..],
                &["ckpt", "convert", "w/epoch_1", path],
            ] {
                assert_eq!(shanty(dir.path(), args).status.code(), Some(2), "{args:?}");
            }
        }
    }
    assert_eq!(files(&work), records);
    // What is nobody's but the user's is written, and written again.
    for path in [
        "w/metrics.json",
        "w/metrics.json",
        "w/epoch_700.json",
        "epoch_700",
        "w/20260101_101010.json",
        "vis_data.json",
    ] {
        let out = shanty(dir.path(), &["val", "c.yaml", "epoch_1", "--out", path]);
        assert!(out.status.success(), "{path}: {}", String::from_utf8_lossy(&out.stderr));
    }
}

/// Pictures of a data set, and the weights that a config begins with, were written over.
#[test]
fn an_output_is_not_written_over_what_a_config_reads() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let png = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/images/420_pillow.png");
    fs::create_dir_all(at("pics/cats")).unwrap();
    fs::copy(png, at("pics/cats/1.png")).unwrap();
    symlink("pics/cats/1.png", at("link.json")).unwrap();
    fs::write(at("c.yaml"), CONFIG).unwrap();
    assert!(shanty(dir.path(), &["train", "c.yaml"]).status.success());
    fs::copy(at("w/epoch_1/model.safetensors"), at("begin.safetensors")).unwrap();
    fs::write(at("from.yaml"), CONFIG.to_owned() + "load_from: begin.safetensors\n").unwrap();
    let folder = "test_dataloader={batch_size: 1, dataset: {type: ImageFolder, data_root: pics}}";
    let before = [files(&at("pics")), files(&at("w"))];
    for path in ["pics/cats/1.png", "link.json"] {
        refused(dir.path(), &["val", "c.yaml", "epoch_1", folder, "--out", path], "name another file");
        refused(dir.path(), &["plan", "c.yaml", folder, "--svg", path], "name another file");
    }
    for command in ["val", "predict"] {
        let args = [command, "from.yaml", "epoch_1", "--out", "begin.safetensors"];
        assert_eq!(shanty(dir.path(), &args).status.code(), Some(2), "{command}");
    }
    assert_eq!([files(&at("pics")), files(&at("w"))], before);
    // Samples that a training leaves out are no matter of an evaluation.
    let out = shanty(dir.path(), &["val", "c.yaml", "epoch_1", "exclude_samples=[0, 1]", "--out", "m.json"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// The mean of some checkpoints took the place of one of them.
#[test]
fn a_checkpoint_is_not_written_over_what_it_is_made_of() {
    let dir = tempfile::tempdir().unwrap();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).unwrap();
    let bytes = safetensors::serialize([("w", view)], None).unwrap();
    fs::create_dir(dir.path().join("bare")).unwrap();
    for name in ["a.safetensors", "b.safetensors", "bare/model.safetensors"] {
        fs::write(dir.path().join(name), &bytes).unwrap();
    }
    symlink("a.safetensors", dir.path().join("link.safetensors")).unwrap();
    let before = files(dir.path());
    let average = ["ckpt", "average", "a.safetensors", "bare", "b.safetensors", "--out"];
    for to in [
        "a.safetensors",
        "b.safetensors",
        "./bare/../a.safetensors",
        "link.safetensors",
        "bare/model.safetensors",
    ] {
        refused(dir.path(), &[&average[..], &[to]].concat(), "was read, and is not written over");
    }
    for (from, to) in [
        ("a.safetensors", "a.safetensors"),
        ("link.safetensors", "a.safetensors"),
        ("bare", "bare/model.safetensors"),
    ] {
        refused(dir.path(), &["ckpt", "convert", from, to], "was read, and is not written over");
    }
    assert_eq!(files(dir.path()), before);
    assert!(shanty(dir.path(), &[&average[..], &["mean.safetensors"]].concat()).status.success());
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

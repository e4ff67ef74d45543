//! Names that a run gives in its folders: what has one of them, and what somebody would write there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests
#![cfg(all(unix, feature = "cli"))]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use shanty::base::durable::sibling;
use shanty::plugin::prelude::*;
use shanty::testing::toy_runner;

const CONFIG: &str = "\
model: {type: ToyModel, n: 12}
train_dataloader:
  batch_size: 4
  dataset: {type: Synthetic, n: 12, shape: [3, 2, 2], classes: 2}
optim_wrapper: {optimizer: {type: SGD, lr: 0.1}}
train_cfg: {by_epoch: true, max_epochs: 2}
randomness: {seed: 1}
work_dir: w
";

/// Runs shanty with a limit of time: it must not wait for a pipe.
fn shanty(dir: &Path, args: &[&str]) -> Output {
    let mut all = vec!["60", env!("CARGO_BIN_EXE_shanty")];
    all.extend(args);
    Command::new("timeout").args(all).current_dir(dir).output().unwrap()
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

fn with(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.yaml"), config).unwrap();
    dir
}

/// `check` and `train` refuse with exit code 2, and say all of this.
fn refused(dir: &Path, args: &[&str], parts: &[&str]) {
    for command in ["check", "train"] {
        let all: Vec<_> = [command, "c.yaml"].iter().chain(args).copied().collect();
        let out = shanty(dir, &all);
        let text = said(&out);
        assert_eq!(out.status.code(), Some(2), "{all:?}: {text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{all:?}, {parts:?}: {text}");
    }
}

/// The name that shanty gives for a while to what belongs to `name`.
fn aside(what: &str, name: &str) -> String {
    sibling(Path::new(name), what).to_string_lossy().into_owned()
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// A trace took the name of a checkpoint to come, or of a file of the run.
#[test]
fn a_trace_does_not_take_a_name_of_the_run() {
    let out = "default_hooks={checkpoint: {type: CheckpointHook, out_dir: o, filename_tmpl: 'e{}'}}";
    for (path, args) in [
        ("w/epoch_1", &[][..]),
        ("w/epoch_1/trace.json", &[]),
        ("./w/../w/epoch_77", &[]),
        ("w/iter_3", &[]),
        ("w/emergency_iter_3", &[]),
        ("w/last_checkpoint", &[]),
        ("w/.shanty-lock", &[]),
        ("w/.shanty-run.json", &[]),
        ("w/.shanty-tmp-epoch_1", &[]),
        ("w/c.yaml", &[]),
        ("o/w/e2", &["--set", out]),
        ("elsewhere/last_checkpoint", &[]),
    ] {
        let text = format!("{CONFIG}custom_hooks:\n  - {{type: ProfilerHook, json_trace_path: {path}}}\n");
        let dir = with(&text);
        refused(dir.path(), args, &["c.yaml:10:", path, "another"]);
        assert!(!dir.path().join("w").exists(), "{path}");
    }
    let two = "{type: ProfilerHook, json_trace_path: t.json}";
    let dir = with(&format!("{CONFIG}custom_hooks:\n  - {two}\n  - {two}\n"));
    refused(dir.path(), &[], &["c.yaml:11:", "t.json", "another file"]);
    for path in ["w/trace.json", "w/epoch_x", "w/sub/epoch_1", "epoch_1"] {
        let dir =
            with(&format!("{CONFIG}custom_hooks:\n  - {{type: ProfilerHook, json_trace_path: {path}}}\n"));
        let out = shanty(dir.path(), &["train", "c.yaml"]);
        assert!(out.status.success(), "{path}: {}", said(&out));
        assert!(fs::read_to_string(dir.path().join(path)).unwrap().contains("traceEvents"), "{path}");
    }
}

/// A base or an overlay that lay where the dump goes, and began like a dump, was written over.
#[test]
fn no_file_of_the_config_is_written_over() {
    let head = "# The resolved config of a run, written by shanty; the next start of the run replaces it.\n";
    let mine = format!("{head}# mine\n{CONFIG}");
    for (name, config, more) in [
        ("c.yaml", "_base_: w/c.yaml\n", &[][..]),
        // All that the base says is said again.
        ("c.yaml", &*format!("_base_: w/c.yaml\n{CONFIG}"), &[]),
        ("c.yaml", CONFIG, &["--overlay", "w/c.yaml"]),
    ] {
        let dir = with(config);
        let at = dir.path().join("w").join(name);
        fs::create_dir(dir.path().join("w")).unwrap();
        fs::write(&at, &mine).unwrap();
        let args: Vec<_> = ["train", "c.yaml"].iter().chain(more).copied().collect();
        let out = shanty(dir.path(), &args);
        assert!(out.status.success(), "{}", said(&out));
        assert_eq!(fs::read_to_string(&at).unwrap(), mine, "{more:?}");
        let resolved = fs::read_to_string(dir.path().join("w/c.resolved.yaml")).unwrap();
        assert!(resolved.starts_with(head));
    }
}

/// A folder of a user's that had the name of a checkpoint which stepped aside was deleted.
#[test]
fn what_shanty_did_not_put_aside_stays() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["x", "epoch_1"] {
        let old = sibling(&dir.path().join(name), "old");
        fs::create_dir_all(&old).unwrap();
        fs::write(old.join("model.safetensors"), "mine").unwrap();
    }
    fs::create_dir(dir.path().join("x")).unwrap();
    let error = toy_runner(dir.path(), 2, 3).unwrap().build().unwrap().train().unwrap_err().to_string();
    assert!(error.contains(&aside("old", "epoch_1")) && error.contains("move it away"), "{error}");
    fs::remove_dir_all(dir.path().join(aside("old", "epoch_1"))).unwrap();
    toy_runner(dir.path(), 2, 3).unwrap().build().unwrap().train().unwrap();
    assert_eq!(fs::read(dir.path().join(aside("old", "x")).join("model.safetensors")).unwrap(), b"mine");
}

/// `check` passed, and `train` failed, or emptied a folder, or replaced a pipe.
#[test]
fn what_has_the_name_of_a_file_of_the_run_is_refused() {
    type Put = fn(&Path);
    let folder: Put = |path| {
        fs::create_dir(path).unwrap();
        fs::write(path.join("thesis.tex"), "mine").unwrap();
    };
    let link: Put = |path| symlink("elsewhere", path).unwrap();
    let file: Put = |path| fs::write(path, "/home/me/mmengine/epoch_3.pth").unwrap();
    let pipe: Put = fifo;
    for (name, puts) in [
        (".shanty-lock", &[folder, pipe, link][..]),
        (".shanty-run.json", &[folder, pipe, link]),
        ("last_checkpoint", &[folder, pipe, link, file]),
        (".shanty-lock", &[file]),
        (&aside("tmp", "last_checkpoint"), &[folder, pipe, link]),
        (&aside("tmp", ".shanty-run.json"), &[folder, pipe, link]),
        (&aside("tmp", "c.yaml"), &[folder, pipe, link]),
        (&aside("tmp", "epoch_2"), &[folder, pipe, link]),
        (&aside("del", "epoch_1"), &[folder, pipe, link]),
    ] {
        for (at, put) in puts.iter().enumerate() {
            let dir = with(CONFIG);
            fs::create_dir(dir.path().join("w")).unwrap();
            let path = dir.path().join("w").join(name);
            put(&path);
            let before = fs::symlink_metadata(&path).unwrap().file_type();
            refused(dir.path(), &[], &[name, "move it away"]);
            assert_eq!(fs::symlink_metadata(&path).unwrap().file_type(), before, "{name} {at}");
            assert_eq!(
                fs::read_dir(dir.path().join("w")).unwrap().count(),
                1,
                "{name} {at}: nothing is left"
            );
        }
    }
    // Of the files, the place is said; also of the one that says whose the work_dir is.
    for (name, text) in [
        ("last_checkpoint", None),
        (".shanty-lock", None),
        (".shanty-run.json", Some("{\"run\": 3")),
        (".shanty-run.json", Some("")),
    ] {
        let dir = with(CONFIG);
        let path = dir.path().join("w").join(name);
        fs::create_dir(dir.path().join("w")).unwrap();
        match text {
            None => symlink("epoch_1", &path).unwrap(),
            Some(text) => fs::write(&path, text).unwrap(),
        }
        refused(dir.path(), &[], &["c.yaml:8:11", name, "it"]);
        refused(dir.path(), &["--set", "resume=true"], &["c.yaml:8:11", name]);
        refused(dir.path(), &["--set", "overwrite=true"], &["c.yaml:8:11", name]);
        let left = fs::read_dir(dir.path().join("w")).unwrap().count();
        assert!(fs::symlink_metadata(&path).is_ok() && left == 1, "{name}");
    }
}

/// A link of that name was replaced in the midst of a run; a file there is the run's to write, but no link is.
#[test]
fn a_link_in_the_place_of_the_pointer_stays_and_costs_no_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let pointer = dir.path().join("last_checkpoint");
    let place = pointer.clone();
    let links = move |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
        if cx.progress.iter == 4 {
            fs::remove_file(&place).unwrap();
            symlink("mine", &place).unwrap();
        }
        Ok(())
    };
    let run = |epochs| toy_runner(dir.path(), epochs, 3).unwrap().async_save(false);
    run(3).on(Point::BeforeTrainIter, links).build().unwrap().train().unwrap();
    assert_eq!(fs::read_link(&pointer).unwrap(), Path::new("mine"));
    assert!(dir.path().join("epoch_3").exists());
    let error = run(4).resume(true).build().unwrap().train().unwrap_err().to_string();
    assert!(error.contains("last_checkpoint") && error.contains("move it away"), "{error}");
    fs::remove_file(&pointer).unwrap();
    run(4).resume(true).build().unwrap().train().unwrap();
    assert_eq!(fs::read_to_string(&pointer).unwrap(), "epoch_4");
}

/// A link with a temporary name was removed without a word.
#[test]
fn a_link_with_a_temporary_name_is_left() {
    let dir = with(CONFIG);
    fs::create_dir(dir.path().join("w")).unwrap();
    let link = sibling(&dir.path().join("w/epoch_9"), "tmp");
    symlink("elsewhere", &link).unwrap();
    let out = shanty(dir.path(), &["train", "c.yaml"]);
    assert!(out.status.success(), "{}", said(&out));
    assert!(said(&out).contains(".shanty-tmp-epoch_9"), "{}", said(&out));
    assert!(fs::symlink_metadata(&link).is_ok());
    let out = shanty(dir.path(), &["train", "c.yaml", "--resume", "--set", "train_cfg.max_epochs=10"]);
    assert!(out.status.success(), "{}", said(&out));
    assert!(fs::symlink_metadata(&link).is_ok() && dir.path().join("w/epoch_9-1").exists());
}

/// Folders that are none of this machine became folders of that very name; some were refused without their place.
#[test]
fn a_work_dir_is_a_local_folder() {
    for (work, why) in [
        ("s3://bucket/x", "give a local path"),
        ("~/x", "give a local path"),
        ("file:///x", "give a local path"),
        ("/dev/null", "is a file"),
        ("c.yaml", "is a file"),
        ("c.yaml/x/y", "is a file"),
    ] {
        let dir = with(&CONFIG.replace("work_dir: w", &format!("work_dir: {work}")));
        refused(dir.path(), &[], &["c.yaml:8:11", why, "--work-dir"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{work}");
    }
}

/// A file or a pipe where data should be was data that "another machine may have".
#[test]
fn data_that_are_a_file_or_a_pipe_are_refused() {
    for set in ["MNIST", "ImageFolder", "CustomDataset"] {
        for (root, what) in [("c.yaml", "a file"), ("pipe", "a pipe (FIFO)"), ("c.yaml/x", "is a file")] {
            let given = format!("dataset: {{type: {set}, data_root: {root}}}");
            let dir = with(
                &CONFIG.replace("dataset: {type: Synthetic, n: 12, shape: [3, 2, 2], classes: 2}", &given),
            );
            fifo(&dir.path().join("pipe"));
            refused(dir.path(), &[], &["c.yaml:4:", what]);
        }
    }
    let given = "dataset: {type: MNIST, data_root: m}";
    for pipe in ["train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz"] {
        let dir =
            with(&CONFIG.replace("dataset: {type: Synthetic, n: 12, shape: [3, 2, 2], classes: 2}", given));
        let m = dir.path().join("m");
        fs::create_dir(&m).unwrap();
        for name in ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"] {
            if !pipe.starts_with(name) {
                fs::write(m.join(name), [0]).unwrap();
            }
        }
        fifo(&m.join(pipe));
        refused(dir.path(), &[], &["c.yaml:4:", "a pipe (FIFO), not a regular file"]);
    }
}

/// An `out_dir` below the name of a checkpoint to come, or of a file of the run, passed `check` and ended the run.
#[test]
fn an_out_dir_does_not_take_a_name_of_the_run() {
    for out_dir in [
        "w/epoch_1",
        "w/epoch_2/deep/er",
        "./w/../w/iter_3",
        "w/last_checkpoint",
        "w/.shanty-run.json",
        "w/.shanty-x/y",
        "w/c.yaml",
    ] {
        let dir = with(&format!(
            "{CONFIG}default_hooks:\n  checkpoint: {{type: CheckpointHook, out_dir: {out_dir}}}\n"
        ));
        refused(dir.path(), &[], &["c.yaml:10:", out_dir, "name another `out_dir`"]);
        assert!(!dir.path().join("w").exists(), "{out_dir}");
    }
    for out_dir in ["w", "w/vis_data", "w/epoch_x", ".", "w/e/epoch_1"] {
        let dir = with(&format!(
            "{CONFIG}default_hooks:\n  checkpoint: {{type: CheckpointHook, out_dir: {out_dir}}}\n"
        ));
        for command in ["check", "train"] {
            let out = shanty(dir.path(), &[command, "c.yaml"]);
            assert!(out.status.success(), "{command} {out_dir}: {}", said(&out));
        }
    }
}

/// A trace with the name of a folder of the run, or a name that no file system takes, was known at the end of the run.
#[test]
fn a_trace_has_a_place_that_can_be_written() {
    let out = "default_hooks={checkpoint: {type: CheckpointHook, out_dir: o/u}}";
    let long = "x".repeat(250);
    for (path, args, says) in [
        ("w", &[][..], "name another"),
        ("o", &["--set", out], "name another"),
        ("o/u/w", &["--set", out], "name another"),
        (&*long, &[], "longer than"),
        (&format!("{long}{long}/t.json"), &[], "longer than"),
        ("/proc/t.json", &[], "cannot be written"),
        ("c.yaml/t.json", &[], "is a file"),
        ("there", &[], "is a folder"),
        ("\"n\\0l\"", &[], "NUL"),
    ] {
        let dir =
            with(&format!("{CONFIG}custom_hooks:\n  - {{type: ProfilerHook, json_trace_path: {path}}}\n"));
        fs::create_dir(dir.path().join("there")).unwrap();
        refused(dir.path(), args, &["c.yaml:10:", says]);
        assert!(!dir.path().join("w").exists(), "{path}");
    }
}

/// A stop file that the run itself makes stops it.
#[test]
fn a_stop_file_does_not_take_a_name_of_the_run() {
    for path in [
        "w",
        "w/epoch_1",
        "w/iter_2/x",
        "w/last_checkpoint",
        "w/.shanty-lock",
        "w/c.yaml",
        "./w/../w/epoch_2",
    ] {
        let dir = with(CONFIG);
        let out = shanty(dir.path(), &["train", "c.yaml", "--stop-file", path]);
        let text = said(&out);
        assert_eq!(out.status.code(), Some(2), "{path}: {text}");
        assert!(
            text.contains("the stop file") && text.contains(path) && text.contains("name another"),
            "{text}"
        );
        assert!(!dir.path().join("w").exists(), "{path}");
    }
    let dir = with(CONFIG);
    for path in ["w/stop", "stop"] {
        let out = shanty(dir.path(), &["train", "c.yaml", "--overwrite", "--stop-file", path]);
        assert!(out.status.success(), "{path}: {}", said(&out));
    }
}

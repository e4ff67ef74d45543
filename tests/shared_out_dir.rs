//! An `out_dir` that two runs share, whose work_dirs have one name: each keeps to what is its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::fs;
use std::path::{Path, PathBuf};

use shanty::plugin::prelude::*;
use shanty::run::RunnerBuilder;
use shanty::testing::toy_runner;

struct Shared(tempfile::TempDir);

impl Shared {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// A run in `<parent>/w`, whose checkpoints go to `o/w`.
    fn run(&self, parent: &str, epochs: u64, yaml: &str) -> RunnerBuilder {
        let text = format!("{{type: CheckpointHook, out_dir: {}, {yaml}}}", self.at("o").display());
        let run = toy_runner(&self.at(parent).join("w"), epochs, 3).unwrap().without_default_hooks();
        run.hook_yaml(&text).unwrap()
    }

    fn saved(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.at("o/w"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names
    }
}

fn train(run: RunnerBuilder) -> Result<()> {
    run.build()?.train().map(drop)
}

fn model(home: &Path) -> Vec<u8> {
    fs::read(home.join("model.safetensors")).unwrap()
}

/// `--overwrite` deleted the checkpoints of the other run.
#[test]
fn overwrite_deletes_what_this_work_dir_saved_and_nothing_else() {
    let shared = Shared::new();
    train(shared.run("a", 2, "")).unwrap();
    let theirs = model(&shared.at("o/w/epoch_2"));
    for overwrite in [false, true] {
        let error = train(shared.run("b", 3, "").overwrite(overwrite)).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.exit_code(), 2, "{text}");
        for part in ["o/w/epoch_1", "o/w/epoch_2", "nothing was changed", "out_dir"] {
            assert!(text.contains(part), "overwrite {overwrite}: {text}");
        }
        assert_eq!(shared.saved(), ["epoch_1", "epoch_2"]);
    }
    // Under names of its own it may save beside them, and begin again.
    train(shared.run("b", 2, "filename_tmpl: 'b_{}'")).unwrap();
    assert_eq!(shared.saved(), ["b_1", "b_2", "epoch_1", "epoch_2"]);
    let again = train(shared.run("b", 1, "filename_tmpl: 'b_{}'")).unwrap_err().to_string();
    assert!(again.contains("an earlier run (b_1, b_2)"), "{again}");
    train(shared.run("b", 1, "filename_tmpl: 'b_{}'").overwrite(true)).unwrap();
    assert_eq!(shared.saved(), ["b_1", "epoch_1", "epoch_2"]);
    train(shared.run("a", 1, "").overwrite(true)).unwrap();
    assert_eq!(shared.saved(), ["b_1", "epoch_1"]);
    assert_ne!(model(&shared.at("o/w/epoch_1")), theirs);
}

/// A work_dir keeps its name when it is moved, and a run goes on in its folders.
#[test]
fn a_work_dir_that_was_moved_is_the_same() {
    let shared = Shared::new();
    train(shared.run("a", 2, "max_keep_ckpts: 1")).unwrap();
    fs::create_dir(shared.at("c")).unwrap();
    fs::rename(shared.at("a/w"), shared.at("c/w")).unwrap();
    train(shared.run("c", 3, "max_keep_ckpts: 1").resume(true)).unwrap();
    assert_eq!(shared.saved(), ["epoch_3"]);
    train(shared.run("c", 1, "").overwrite(true)).unwrap();
    assert_eq!(shared.saved(), ["epoch_1"]);
}

/// A run that is taken up in another work_dir has the name of the first one, and gave up its checkpoints.
#[test]
fn retention_leaves_what_another_work_dir_saved_of_the_same_run() {
    let shared = Shared::new();
    train(shared.run("a", 2, "")).unwrap();
    let from = shared.at("o/w/epoch_2").to_string_lossy().into_owned();
    train(shared.run("b", 4, "max_keep_ckpts: 1").resume(true).load_from(from)).unwrap();
    assert_eq!(shared.saved(), ["epoch_1", "epoch_2", "epoch_4"]);
    // What has a name that the first one comes to costs it that name only.
    train(shared.run("a", 4, "max_keep_ckpts: 1").resume(true)).unwrap();
    assert_eq!(shared.saved(), ["epoch_4", "epoch_4-1"]);
    assert_eq!(model(&shared.at("o/w/epoch_4")), model(&shared.at("o/w/epoch_4-1")));
}

/// A checkpoint that had stepped aside is another run's business if it is another run's.
#[test]
fn what_stepped_aside_elsewhere_is_left_to_its_run() {
    let shared = Shared::new();
    train(shared.run("a", 1, "")).unwrap();
    let aside = shared.at("o/w/.shanty-old-epoch_1");
    fs::rename(shared.at("o/w/epoch_1"), &aside).unwrap();
    train(shared.run("b", 2, "filename_tmpl: 'b_{}'")).unwrap();
    assert!(aside.exists());
    assert_eq!(shared.saved(), ["b_1", "b_2"]);
    train(shared.run("a", 2, "").resume(true)).unwrap();
    assert_eq!(shared.saved(), ["b_1", "b_2", "epoch_1", "epoch_2"]);
}

/// `--resume` in a work_dir that was not there went on with the weights of the other run, and trained nothing.
#[test]
fn a_work_dir_without_a_run_resumes_nobody_elses() {
    let shared = Shared::new();
    train(shared.run("a", 2, "")).unwrap();
    let text = train(shared.run("b", 3, "").resume(true)).unwrap_err().to_string();
    assert!(text.contains("nothing says that a run of this work_dir saved it"), "{text}");
    // Named, it is meant.
    let named = shared.at("o/w/epoch_2");
    train(shared.run("c", 3, "filename_tmpl: 'c_{}'").resume(true).load_from(named)).unwrap();
}

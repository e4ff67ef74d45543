//! An `out_dir` that two runs share, whose work_dirs have one name: each keeps to what is its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use shanty::base::durable::sibling;
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
    let aside = sibling(&shared.at("o/w/epoch_1"), "old");
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

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// A copied work_dir went by the name of its original, and each gave up the other's checkpoints.
#[test]
fn a_copied_work_dir_goes_by_a_name_of_its_own() {
    let shared = Shared::new();
    train(shared.run("a", 2, "")).unwrap();
    copy(&shared.at("a/w"), &shared.at("c/w"));
    train(shared.run("c", 4, "max_keep_ckpts: 1").resume(true)).unwrap();
    assert_eq!(shared.saved(), ["epoch_1", "epoch_2", "epoch_4"]);
    train(shared.run("a", 3, "max_keep_ckpts: 1").resume(true)).unwrap();
    assert_eq!(shared.saved(), ["epoch_3", "epoch_4"]);
    // Both keep to it.
    train(shared.run("c", 5, "max_keep_ckpts: 1").resume(true)).unwrap();
    train(shared.run("a", 4, "max_keep_ckpts: 1").resume(true)).unwrap();
    assert_eq!(shared.saved(), ["epoch_4", "epoch_5"]);
    train(shared.run("c", 1, "filename_tmpl: 'c_{}'").overwrite(true)).unwrap();
    assert_eq!(shared.saved(), ["c_1", "epoch_4"]);
}

/// Of copies whose original is gone none gives up what was saved before, nor what another one saves.
#[test]
fn two_copies_of_a_work_dir_that_is_gone_keep_apart() {
    let shared = Shared::new();
    train(shared.run("a", 2, "")).unwrap();
    copy(&shared.at("a/w"), &shared.at("c/w"));
    copy(&shared.at("a/w"), &shared.at("d/w"));
    fs::remove_dir_all(shared.at("a")).unwrap();
    train(shared.run("c", 3, "max_keep_ckpts: 1").resume(true)).unwrap();
    assert_eq!(shared.saved(), ["epoch_1", "epoch_2", "epoch_3"]);
    train(shared.run("d", 4, "max_keep_ckpts: 1").resume(true)).unwrap();
    assert_eq!(shared.saved(), ["epoch_1", "epoch_2", "epoch_3", "epoch_4"]);
    train(shared.run("c", 5, "max_keep_ckpts: 1").resume(true)).unwrap();
    assert_eq!(shared.saved(), ["epoch_1", "epoch_2", "epoch_4", "epoch_5"]);
}

/// A copy that was resumed when its original had been moved took itself for that, gave up its checkpoints, and the
/// original went on with the copy's.
#[test]
fn a_copy_whose_original_was_moved_gives_up_nothing() {
    for overwrite in [false, true] {
        let shared = Shared::new();
        train(shared.run("a", 2, "")).unwrap();
        copy(&shared.at("a/w"), &shared.at("c/w"));
        fs::rename(shared.at("a"), shared.at("z")).unwrap();
        let theirs = model(&shared.at("o/w/epoch_2"));
        if overwrite {
            train(shared.run("c", 1, "filename_tmpl: 'c_{}'").overwrite(true)).unwrap();
            assert_eq!(shared.saved(), ["c_1", "epoch_1", "epoch_2"]);
        } else {
            train(shared.run("c", 4, "max_keep_ckpts: 1").resume(true)).unwrap();
            assert_eq!(shared.saved(), ["epoch_1", "epoch_2", "epoch_4"]);
        }
        assert_eq!(model(&shared.at("o/w/epoch_2")), theirs);
        // The original goes on with its own, and gives them up; so do both from then on.
        let mut original = shared.run("z", 3, "max_keep_ckpts: 1").resume(true).build().unwrap();
        original.train().unwrap();
        assert_eq!(original.session().state.progress.iter, 9);
        let copys = if overwrite { "c_1" } else { "epoch_4" };
        let mut both = vec!["epoch_3", copys];
        both.sort_unstable();
        assert_eq!(shared.saved(), both);
    }
}

/// What is moved, linked, restored or copied together with its `out_dir` keeps its checkpoints and gives them up.
#[test]
fn retention_goes_on_wherever_the_folders_come_from() {
    let in_other_ways: [fn(&Shared) -> &'static str; 5] = [
        |shared| {
            fs::rename(shared.at("a"), shared.at("z")).unwrap();
            "z"
        },
        |shared| {
            fs::rename(shared.at("a"), shared.at("z")).unwrap();
            std::os::unix::fs::symlink("z", shared.at("a")).unwrap();
            "a"
        },
        |shared| {
            copy(&shared.at("a"), &shared.at("backup"));
            fs::remove_dir_all(shared.at("a")).unwrap();
            copy(&shared.at("backup"), &shared.at("a"));
            "a"
        },
        |shared| {
            // A new run has the old place.
            fs::rename(shared.at("a"), shared.at("z")).unwrap();
            train(shared.run("a", 1, "filename_tmpl: 'n_{}'")).unwrap();
            fs::remove_dir_all(shared.at("o/w/n_1")).unwrap();
            "z"
        },
        |shared| {
            copy(&shared.at("o"), &shared.at("backup"));
            fs::remove_dir_all(shared.at("o")).unwrap();
            fs::rename(shared.at("backup"), shared.at("o")).unwrap();
            "a"
        },
    ];
    for (nth, change) in in_other_ways.into_iter().enumerate() {
        let shared = Shared::new();
        train(shared.run("a", 2, "")).unwrap();
        let parent = change(&shared);
        train(shared.run(parent, 3, "max_keep_ckpts: 1").resume(true)).unwrap();
        assert_eq!(shared.saved(), ["epoch_3"], "{nth}");
    }
    let (one, other) = (Shared::new(), Shared::new());
    train(one.run("a", 2, "")).unwrap();
    copy(&one.at("a"), &other.at("a"));
    copy(&one.at("o"), &other.at("o"));
    // There the pointer leads into the other tree.
    train(other.run("a", 3, "max_keep_ckpts: 1").resume(true)).unwrap();
    assert_eq!(other.saved(), ["epoch_3"]);
    assert_eq!(one.saved(), ["epoch_1", "epoch_2"]);
}

/// `--work-dir o/w --overwrite` deleted what another run saves there; a training in a checkpoint spoiled it.
#[test]
fn a_folder_of_another_run_is_no_place_for_a_run() {
    let shared = Shared::new();
    train(shared.run("a", 2, "")).unwrap();
    let before = fs::read_dir(shared.at("o/w")).unwrap().count();
    let within = |dir: &str| toy_runner(&shared.at(dir), 3, 3).unwrap();
    for (dir, says) in [
        ("o/w", "a/w saves its checkpoints here"),
        ("o/w/epoch_1", "is a checkpoint"),
        ("o/w/epoch_1/x/y", "is a checkpoint"),
    ] {
        for run in [within(dir), within(dir).overwrite(true), within(dir).resume(true)] {
            let text = train(run).unwrap_err().to_string();
            assert!(text.contains(says) && text.contains("another"), "{dir}: {text}");
        }
    }
    let error = train(
        toy_runner(&shared.at("b/w"), 1, 3).unwrap().without_default_hooks().hook(
            shanty::hook::builtin::CheckpointHook::every(1)
                .out_dir(shared.at("a").to_string_lossy().into_owned()),
        ),
    );
    let text = error.unwrap_err().to_string();
    assert!(text.contains("the work_dir of another run"), "{text}");
    assert!(!shared.at("b").exists(), "nothing was made");
    assert_eq!(shared.saved(), ["epoch_1", "epoch_2"]);
    assert_eq!(fs::read_dir(shared.at("o/w")).unwrap().count(), before);
    // When that run is gone, its checkpoints are what a person says.
    fs::remove_dir_all(shared.at("a")).unwrap();
    train(within("o/w").overwrite(true)).unwrap();
    assert_eq!(shared.saved().iter().filter(|name| name.starts_with("epoch")).count(), 3);
}

//! What a person copies or renames beside the checkpoints of a run is theirs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::fs;
use std::path::Path;
use std::process::Command;

use shanty::base::durable::sibling;
use shanty::plugin::prelude::*;
use shanty::registry::Spec;
use shanty::run::RunnerBuilder;
use shanty::testing::toy_runner;

fn run(dir: &Path, epochs: u64, yaml: &str) -> RunnerBuilder {
    let run = toy_runner(dir, epochs, 3).unwrap().without_default_hooks();
    run.hook_yaml(&format!("{{type: CheckpointHook, {yaml}}}")).unwrap()
}

fn train(run: RunnerBuilder) -> Result<()> {
    run.build()?.train().map(drop)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The checkpoints, and what looks like one.
fn names(dir: &Path) -> Vec<String> {
    let all = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let all =
        all.filter(|e| e.path().join("state.json").exists() || e.path().join("model.safetensors").exists());
    let mut all: Vec<_> = all.map(|e| e.file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

/// All that the runs in it have logged.
fn log(dir: &Path) -> String {
    let logs = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let logs = logs.flat_map(|path| fs::read_dir(path).into_iter().flatten());
    let logs =
        logs.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "log"));
    logs.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// `max_keep_ckpts` deleted copies and renamed checkpoints when the run went on.
#[test]
fn retention_leaves_copies_and_renamed_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    train(run(dir.path(), 2, "")).unwrap();
    for name in ["keep_me", "epoch_2.bak", "epoch_02", "best_x", "KEEP", "epoch_7", "epoch_2-1"] {
        copy(&at("epoch_2"), &at(name));
    }
    fs::rename(at("epoch_1"), at("first")).unwrap();
    train(run(dir.path(), 4, "max_keep_ckpts: 1").resume(true)).unwrap();
    let kept =
        ["KEEP", "best_x", "epoch_02", "epoch_2-1", "epoch_2.bak", "epoch_4", "epoch_7", "first", "keep_me"];
    assert_eq!(names(dir.path()), kept);
}

/// A copy that has the name of a checkpoint to come was replaced by it.
#[test]
fn a_save_does_not_replace_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    train(run(dir.path(), 2, "")).unwrap();
    copy(&dir.path().join("epoch_2"), &dir.path().join("epoch_3"));
    let copied = fs::read(dir.path().join("epoch_3/model.safetensors")).unwrap();
    train(run(dir.path(), 4, "max_keep_ckpts: 1").resume(true)).unwrap();
    assert_eq!(names(dir.path()), ["epoch_3", "epoch_4"], "`epoch_3-1` was this run's, and is given up");
    assert_eq!(fs::read(dir.path().join("epoch_3/model.safetensors")).unwrap(), copied);
}

/// `--overwrite` deleted copies, and folders that never were checkpoints.
#[test]
fn overwrite_refuses_what_shanty_did_not_save_under_this_name() {
    let dir = tempfile::tempdir().unwrap();
    train(run(dir.path(), 2, "")).unwrap();
    copy(&dir.path().join("epoch_1"), &dir.path().join("mine"));
    fs::create_dir(dir.path().join("best")).unwrap();
    fs::write(dir.path().join("best/state.json"), "a: 1").unwrap();
    let before = names(dir.path());
    let error = train(run(dir.path(), 1, "").overwrite(true)).unwrap_err().to_string();
    for part in ["nothing was changed", "saved it as `epoch_1`", "/mine", "/best", "move it away"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(names(dir.path()), before);
    for name in ["mine", "best"] {
        fs::remove_dir_all(dir.path().join(name)).unwrap();
    }
    // What is left of a checkpoint under a name of this run is no obstacle.
    fs::remove_file(dir.path().join("epoch_1/manifest.json")).unwrap();
    train(run(dir.path(), 1, "").overwrite(true)).unwrap();
    assert_eq!(names(dir.path()), ["epoch_1"]);
}

/// A folder with a temporary name that a person made was renamed.
#[test]
fn what_never_stepped_aside_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let old = sibling(&dir.path().join("x"), "old");
    fs::create_dir(&old).unwrap();
    fs::write(old.join("model.safetensors"), "mine").unwrap();
    train(run(dir.path(), 1, "")).unwrap();
    assert_eq!(fs::read(old.join("model.safetensors")).unwrap(), b"mine");
    assert!(!dir.path().join("x").exists());
}

/// `a/b` and `a_b` have one name for their best checkpoints, and deleted each other's.
#[test]
fn metrics_with_one_name_for_their_best_are_refused() {
    for pair in ["a/b, a_b", "a b, a/b"] {
        let hook = format!("{{type: CheckpointHook, rule: less, save_best: [{pair}]}}");
        let built = Spec::<dyn Hook>::parse(&hook).unwrap().build(&mut BuildCx::new(0));
        let Err(error) = built else { panic!("{pair} was taken") };
        assert!(error.to_string().contains("best_a_b_"), "{error}");
    }
}

/// What a user put into a checkpoint under the name of a part that it has not was deleted with it.
#[test]
fn files_of_ones_own_in_a_checkpoint_stay() {
    type Put = fn(&Path);
    let puts: [(&str, Put); 6] = [
        ("hooks.safetensors", |path| fs::write(path, "mine").unwrap()),
        ("rollback.safetensors", |path| fs::write(path, "mine").unwrap()),
        ("hooks.safetensors", |path| std::os::unix::fs::symlink("elsewhere", path).unwrap()),
        ("hooks.safetensors", |path| fs::create_dir(path).unwrap()),
        ("rollback.safetensors", |path| {
            assert!(Command::new("mkfifo").arg(path).status().unwrap().success())
        }),
        (".DS_Store", |path| fs::write(path, "mine").unwrap()),
    ];
    for (nth, (name, put)) in puts.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        train(run(dir.path(), 2, "")).unwrap();
        let path = dir.path().join("epoch_1").join(name);
        put(&path);
        train(run(dir.path(), 4, "max_keep_ckpts: 1").resume(true)).unwrap();
        assert!(fs::symlink_metadata(&path).is_ok(), "{nth}: {name}");
        assert_eq!(names(dir.path()), ["epoch_1", "epoch_4"], "{nth}: {name}");
        let text = log(dir.path());
        let told = text.lines().filter(|line| line.contains(&format!("it holds `{name}`"))).count();
        assert_eq!(told, 1, "{nth}: {text}");
        let error = train(run(dir.path(), 1, "").overwrite(true)).unwrap_err().to_string();
        assert!(error.contains("nothing was changed") && error.contains(name), "{nth}: {error}");
    }
}

/// What has the name of something that is being saved or deleted, or stepped aside, and never was a checkpoint of that
/// name; and what only looks like such a name.
#[test]
fn only_what_shanty_put_aside_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    train(run(dir.path(), 2, "")).unwrap();
    let at = |name: &str| dir.path().join(name);
    let aside = |what: &str, name: &str| sibling(&at(name), what);
    let mine = |path: &Path| {
        fs::create_dir(path).unwrap();
        fs::write(path.join("model.safetensors"), "mine").unwrap();
    };
    let mut stays = Vec::new();
    for what in ["tmp", "old", "del"] {
        // Names without shanty's mark, or with that of another name.
        let unmarked = |name: &str| at(&format!(".shanty-{what}-{name}"));
        fs::write(unmarked("file"), "mine").unwrap();
        fs::create_dir(unmarked("empty")).unwrap();
        mine(&unmarked("epoch_9"));
        copy(&at("epoch_1"), &unmarked("epoch_1"));
        let mark = aside(what, "epoch_1").to_string_lossy().rsplit('-').next().unwrap().to_owned();
        fs::create_dir(unmarked(&format!("epoch_2-{mark}"))).unwrap();
        stays.extend(["file", "empty", "epoch_9", "epoch_1"].map(unmarked));
        stays.push(unmarked(&format!("epoch_2-{mark}")));
    }
    // Its mark on what it did not write.
    mine(&aside("del", "thesis"));
    mine(&aside("old", "thesis"));
    copy(&at("epoch_1"), &aside("del", "copy"));
    copy(&at("epoch_1"), &aside("old", "copy"));
    fs::write(aside("del", "notes"), "mine").unwrap();
    stays.extend(
        [("del", "thesis"), ("old", "thesis"), ("del", "copy"), ("old", "copy"), ("del", "notes")]
            .map(|(what, name)| aside(what, name)),
    );
    // And what shanty did put aside.
    copy(&at("epoch_1"), &aside("del", "epoch_1"));
    fs::create_dir(aside("del", "epoch_9")).unwrap();
    fs::create_dir(aside("tmp", "epoch_9")).unwrap();
    fs::write(aside("tmp", "epoch_9").join("model.safetensors"), "torn").unwrap();
    fs::write(aside("tmp", "last_checkpoint"), "epo").unwrap();
    train(run(dir.path(), 3, "").resume(true)).unwrap();
    let left = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut left: Vec<_> = left.filter(|path| path.to_string_lossy().contains("/.shanty-")).collect();
    left.retain(|path| !path.ends_with(".shanty-lock") && !path.ends_with(".shanty-run.json"));
    left.sort();
    stays.sort();
    assert_eq!(left, stays);
    let text = log(dir.path());
    for path in stays {
        assert_eq!(
            text.lines().filter(|line| line.contains(&format!("{}:", path.display()))).count(),
            1,
            "{text}"
        );
    }
}

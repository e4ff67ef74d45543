//! What stands where a run wants to write: found before anything is changed, and no reason to lose the run later.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests
#![cfg(all(unix, feature = "cli"))]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use shanty::base::durable::sibling;
use shanty::hook::HookConfig;
use shanty::plugin::prelude::*;
use shanty::registry::Spec;
use shanty::run::RunnerBuilder;
use shanty::testing::{JudgedDisk, Op, Verdict, toy_runner};

const CONFIG: &str = "\
model: {type: ToyModel, n: 12}
train_dataloader:
  batch_size: 4
  dataset: {type: Synthetic, n: 12, shape: [3, 2, 2], classes: 2}
optim_wrapper: {optimizer: {type: SGD, lr: 0.1}}
train_cfg: {by_epoch: true, max_epochs: 3}
default_hooks: {checkpoint: {type: CheckpointHook, max_keep_ckpts: 2}}
randomness: {seed: 1}
work_dir: w
";

fn shanty(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shanty")).args(args).current_dir(dir).output().unwrap()
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

fn with_config(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.yaml"), text).unwrap();
    dir
}

/// Everything below a folder but the logs of runs, with its bytes.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let kind = entry.file_type().unwrap();
        if name.starts_with("20") || name == ".shanty-lock" {
        } else if kind.is_dir() {
            all.insert(path.clone(), Vec::new());
            all.extend(content(&path));
        } else if kind.is_symlink() {
            all.insert(
                path.clone(),
                fs::read_link(path).unwrap().to_string_lossy().into_owned().into_bytes(),
            );
        } else {
            all.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    all
}

fn run(dir: &Path, epochs: u64, yaml: &str) -> RunnerBuilder {
    let run = toy_runner(dir, epochs, 3).unwrap().without_default_hooks();
    run.hook_yaml(&format!("{{type: CheckpointHook, {yaml}}}")).unwrap()
}

fn train(run: RunnerBuilder) -> Result<()> {
    run.build()?.train().map(drop)
}

/// The name that shanty gives for a while to what belongs to `name`.
fn aside(what: &str, name: &str) -> String {
    sibling(Path::new(name), what).to_string_lossy().into_owned()
}

/// `--overwrite` deleted `epoch_1`, `epoch_2` and the pointer before it met the user's file in `epoch_3`.
#[test]
fn overwrite_deletes_everything_or_nothing() {
    let deleted = format!("{}/thesis.tex", aside("del", "epoch_1"));
    for file in ["epoch_3/thesis.tex", "epoch_2/model.safetensors.bak", &deleted] {
        let dir = tempfile::tempdir().unwrap();
        train(run(dir.path(), 3, "")).unwrap();
        for file in [file, "epoch_1/notes"] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "years of work").unwrap();
        }
        let before = content(dir.path());
        let error = train(run(dir.path(), 3, "").overwrite(true)).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.exit_code(), 2, "{text}");
        assert!(text.contains("nothing was changed") && text.contains("`notes`"), "{text}");
        assert!(text.contains(file.split('/').next_back().unwrap()), "all of them are named: {text}");
        assert_eq!(content(dir.path()), before, "{file}");
        for file in [file, "epoch_1/notes"] {
            fs::remove_file(dir.path().join(file)).unwrap();
        }
        train(run(dir.path(), 2, "").overwrite(true)).unwrap();
        assert!(dir.path().join("epoch_2").exists() && !dir.path().join("epoch_3").exists());
    }
}

type Put = fn(&Path);

/// What people leave where a checkpoint would go.
fn obstacles() -> [(String, Put); 5] {
    let put: [(&str, Put); 4] = [
        ("epoch_2", |path| fs::write(path, "mine").unwrap()),
        ("epoch_3", |path| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("thesis.tex"), "mine").unwrap();
        }),
        ("iter_4", |path| symlink("elsewhere", path).unwrap()),
        ("emergency_iter_9", |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success())),
    ];
    let [file, folder, link, pipe] = put.map(|(name, put)| (name.to_owned(), put));
    // One that somebody put into what shanty had begun to save.
    let begun = (aside("tmp", "epoch_1"), folder.1);
    [file, folder, link, begun, pipe]
}

/// It was found only when the save was due, and ended the run.
#[test]
fn what_is_in_the_way_of_a_save_is_refused_by_check_and_train() {
    for (name, put) in obstacles() {
        let dir = with_config(CONFIG);
        fs::create_dir(dir.path().join("w")).unwrap();
        put(&dir.path().join("w").join(&name));
        for command in ["check", "train"] {
            let out = shanty(dir.path(), &[command, "c.yaml"]);
            assert_eq!(out.status.code(), Some(2), "{command} with {name}: {}", said(&out));
            assert!(said(&out).contains(&name) && said(&out).contains("move it away"), "{}", said(&out));
        }
        assert!(fs::symlink_metadata(dir.path().join("w").join(name)).is_ok());
    }
    // What has such a name and is not in the way of this run.
    let dir = with_config(CONFIG);
    fs::create_dir_all(dir.path().join("w/epoch_2")).unwrap();
    for name in ["epoch_4000", "epoch_x", "epoch_1.zip", "iter_"] {
        fs::write(dir.path().join("w").join(name), "mine").unwrap();
    }
    let out = shanty(dir.path(), &["train", "c.yaml"]);
    assert!(out.status.success(), "{}", said(&out));
}

/// A run that was to go on met it when the save was due; what has the name of an earlier checkpoint is in nobody's way.
#[test]
fn what_is_in_the_way_of_a_run_that_goes_on_is_refused_by_check_and_train() {
    for (name, put) in obstacles().into_iter().filter(|(name, _)| name.starts_with("epoch_")) {
        let dir = with_config(CONFIG);
        let out = shanty(dir.path(), &["train", "c.yaml", "train_cfg.max_epochs=1"]);
        assert!(out.status.success(), "{}", said(&out));
        let at = dir.path().join("w").join(&name);
        put(&at);
        let before = content(&dir.path().join("w"));
        for args in [["check", "c.yaml", "resume=true"], ["train", "c.yaml", "--resume"]] {
            let out = shanty(dir.path(), &args);
            assert_eq!(out.status.code(), Some(2), "{args:?} with {name}: {}", said(&out));
            assert!(said(&out).contains(&name) && said(&out).contains("move it away"), "{}", said(&out));
        }
        assert_eq!(content(&dir.path().join("w")), before, "{name}");
        fs::rename(&at, dir.path().join("w/epoch_0")).unwrap();
        for args in [["check", "c.yaml", "resume=true"], ["train", "c.yaml", "--resume"]] {
            let out = shanty(dir.path(), &args);
            assert!(out.status.success(), "{args:?}: {}", said(&out));
        }
    }
}

/// What comes into the way while the run is going on costs the checkpoint its name, and nothing else: retention, the
/// pointer, and a resume go by what is in it.
#[test]
fn a_save_whose_name_is_taken_gets_another_one() {
    for (name, put) in obstacles().into_iter().filter(|(name, _)| name.contains("epoch")) {
        let (whole, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        train(run(whole.path(), 4, "max_keep_ckpts: 1")).unwrap();
        let path = dir.path().join(&name);
        let comes = move |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
            if cx.progress.iter == 1 {
                put(&path);
            }
            Ok(())
        };
        train(run(dir.path(), 3, "max_keep_ckpts: 1").on(Point::BeforeTrainIter, comes)).unwrap();
        let last = fs::read_to_string(dir.path().join("last_checkpoint")).unwrap();
        assert_eq!(last, if name == "epoch_3" { "epoch_3-1" } else { "epoch_3" }, "{name}");
        train(run(dir.path(), 4, "max_keep_ckpts: 1").resume(true)).unwrap();
        let checkpoints =
            content(dir.path()).into_keys().filter(|path| path.ends_with("manifest.json")).count();
        assert_eq!(checkpoints, 1, "{name}: retention holds");
        let model = |dir: &Path| fs::read(dir.join("epoch_4/model.safetensors")).unwrap();
        assert_eq!(model(dir.path()), model(whole.path()), "{name}");
        assert!(fs::symlink_metadata(dir.path().join(&name)).is_ok(), "{name} is still there");
    }
}

/// A work_dir that could not be made was found by `train` alone, without its place.
#[test]
fn folders_that_cannot_be_made_are_refused_with_their_place() {
    let long = "x".repeat(300);
    let (under_long, file) = (format!("a/{long}/b"), "c.yaml/run");
    for bad in [
        "/proc/shanty",
        "/dev/null/run",
        "/sys/run",
        file,
        "",
        &long,
        &under_long,
        "round",
        "gone/run",
        "n\\0l",
    ] {
        let quoted = format!("\"{bad}\"");
        let of_hook = CONFIG.replace("max_keep_ckpts: 2", &format!("out_dir: {quoted}"));
        for (key, text, place) in [
            ("work_dir", CONFIG.replace("work_dir: w", &format!("work_dir: {quoted}")), "c.yaml:9:11"),
            ("out_dir", of_hook, "c.yaml:7:"),
        ] {
            // An empty `out_dir` is the folder in which the run was started.
            if key == "out_dir" && bad.is_empty() {
                continue;
            }
            let dir = with_config(&text);
            symlink("round", dir.path().join("round")).unwrap();
            symlink("nowhere", dir.path().join("gone")).unwrap();
            for command in ["check", "train"] {
                let out = shanty(dir.path(), &[command, "c.yaml"]);
                let text = said(&out);
                assert_eq!(out.status.code(), Some(2), "{command}, {key} `{bad}`: {text}");
                assert!(text.contains(&format!("`{key}` cannot be the folder")), "{command} `{bad}`: {text}");
                assert!(
                    text.contains(place) && text.contains("name another one"),
                    "{command} `{bad}`: {text}"
                );
            }
            assert!(!dir.path().join("w").exists(), "{key} `{bad}`: nothing was made");
        }
    }
    let dir = with_config(CONFIG);
    let out = shanty(dir.path(), &["train", "c.yaml", "--work-dir", "/proc/shanty"]);
    assert!(out.status.code() == Some(2) && said(&out).contains("--work-dir"), "{}", said(&out));
}

/// A `--resume` that is refused left an empty work_dir behind, and so did a `load_from` that is not there.
#[test]
fn a_refused_start_makes_no_folder() {
    let dir = with_config(CONFIG);
    fs::create_dir(dir.path().join("broken")).unwrap();
    fs::write(dir.path().join("broken/manifest.json"), "{").unwrap();
    fs::write(dir.path().join("weights.safetensors"), "").unwrap();
    for args in [
        &["train", "c.yaml", "--resume=nothing"][..],
        &["train", "c.yaml", "--resume=broken"],
        &["train", "c.yaml", "--resume=weights.safetensors"],
        &["train", "c.yaml", "--set", "load_from=nothing"],
        &["val", "c.yaml", "nothing"],
    ] {
        let out = shanty(dir.path(), args);
        assert!(!out.status.success(), "{args:?}: {}", said(&out));
        assert!(!dir.path().join("w").exists(), "{args:?}: {}", said(&out));
    }
}

/// The name of a file of the run, held by a folder, was "Is a directory" without a word more; and it is not emptied.
#[test]
fn a_folder_that_has_the_name_of_a_file_of_the_run_is_told() {
    for name in ["last_checkpoint", ".shanty-run.json", ".shanty-lock", &aside("tmp", "last_checkpoint")] {
        for resume in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            if resume {
                train(run(dir.path(), 1, "")).unwrap();
                let _ = fs::remove_file(dir.path().join(name));
            }
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("f"), "mine").unwrap();
            let error = train(run(dir.path(), 2, "").resume(resume)).unwrap_err().to_string();
            assert!(error.contains(name), "{name}, resume {resume}: {error}");
            assert!(
                error.contains("move it away") || error.contains("remove it"),
                "{name}, resume {resume}: {error}"
            );
            assert_eq!(fs::read_to_string(dir.path().join(name).join("f")).unwrap(), "mine");
        }
    }
}

/// A replay bundle is an extra: a disk that refuses it ended the run.
#[test]
fn a_replay_bundle_that_the_disk_refuses_ends_no_run() {
    let dir = tempfile::tempdir().unwrap();
    let disk = JudgedDisk::new(|op, path, _| {
        let bundle = path.to_string_lossy().contains("replay_iter");
        if bundle && op == Op::Write { Verdict::Fail(io::ErrorKind::StorageFull.into()) } else { Verdict::Go }
    });
    let hook = Spec::<dyn Hook>::parse("{type: CheckInvalidLossHook, action: skip}").unwrap();
    let hook = hook.build(&mut BuildCx::new(0)).unwrap();
    let spoil = |cx: &mut Ctx<'_>, event: &mut Event<'_>| {
        if let Event::BeforeTrainIter(batch) = event
            && cx.progress.iter == 2
        {
            batch.inputs_mut().unwrap().fill(Elem::NAN);
        }
        Ok(())
    };
    let run = run(dir.path(), 2, "").boxed_hook(hook, "CheckInvalidLossHook", HookConfig::default());
    train(run.on(Point::BeforeTrainIter, spoil).file_system(disk)).unwrap();
    assert!(dir.path().join("epoch_2").exists());
}

/// `check` was content with a work_dir that `train` refused; it warns of what is to be decided at the start, and with
/// that decided says what `train` says.
#[test]
fn check_tells_of_an_earlier_run_and_train_refuses() {
    for (key, place) in [("work_dir", "c.yaml:9:11"), ("out_dir", "c.yaml:7:")] {
        let dir = with_config(&match key {
            "work_dir" => CONFIG.to_owned(),
            _ => CONFIG.replace("max_keep_ckpts: 2", "out_dir: o"),
        });
        let says = |args: &[&str], code: i32, words: &[&str]| {
            let out = shanty(dir.path(), args);
            assert_eq!(out.status.code(), Some(code), "{args:?}: {}", said(&out));
            assert!(words.iter().all(|word| said(&out).contains(word)), "{args:?}: {}", said(&out));
            said(&out)
        };
        says(&["train", "c.yaml"], 0, &[]);
        let held = ["holds checkpoints of an earlier run (epoch_", "--resume", "--overwrite", place];
        says(&["train", "c.yaml"], 2, &held);
        let text = says(&["check", "c.yaml"], 0, &held);
        assert!(text.contains("warning") && text.contains("is fine"), "{text}");
        for decided in ["overwrite=true", "resume=true"] {
            let text = says(&["check", "c.yaml", decided], 0, &[]);
            assert!(!text.contains("holds checkpoints"), "{text}");
        }
        let saved = if key == "work_dir" { "w" } else { "o/w" };
        fs::write(dir.path().join(saved).join("epoch_3/thesis.tex"), "mine").unwrap();
        for command in ["check", "train"] {
            says(&[command, "c.yaml", "overwrite=true"], 2, &["`thesis.tex`", "move it away", place]);
            says(&[command, "c.yaml", "overwrite=true", "resume=true"], 0, &[]);
        }
    }
}

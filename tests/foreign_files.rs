//! Nothing that comes out of a checkpoint, a pointer, a config or a work_dir makes a run touch a file that is not its
//! own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shanty::base::durable::sibling;
use shanty::plugin::prelude::*;
use shanty::registry::Spec;
use shanty::run::RunnerBuilder;
use shanty::testing::{reseal, toy_runner};
use tempfile::TempDir;

/// Changes a checkpoint's `state.json`, with the right hash.
fn craft(home: &Path, change: impl FnOnce(&mut Value)) {
    let file = home.join("state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut state);
    fs::write(file, state.to_string()).unwrap();
    reseal(home, |_| {}).unwrap();
}

/// A sandbox: a work_dir in the midst of folders and files that are nobody's business.
struct Sandbox {
    dir: TempDir,
}

const CANARIES: [&str; 12] = [
    "victim/deep/file",
    "victim/manifest.json",
    "out/other/epoch_1/manifest.json",
    ".tmp-mine",
    ".del-mine/file",
    ".old-mine/file",
    "work/.tmp-mine",
    "work/.del-mine/file",
    "work/.old-epoch_1/file",
    "work/notes/epoch_0/readme",
    "work/my.yaml",
    "work/run.json",
];

impl Sandbox {
    /// Two epochs were trained in it.
    fn new() -> Self {
        let sandbox = Self { dir: tempfile::tempdir().unwrap() };
        sandbox.run(2).build().unwrap().train().unwrap();
        for canary in CANARIES {
            let path = sandbox.at(canary);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, canary).unwrap();
        }
        sandbox
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn run(&self, epochs: u64) -> RunnerBuilder {
        with_hook(&self.at("work"), epochs, "max_keep_ckpts: 1, save_best: accuracy/top1")
    }

    /// Everything in the sandbox that a run does not own, with its bytes.
    fn foreign(&self) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        walk(self.dir.path(), &mut all);
        let work = self.at("work");
        let own = |path: &Path| {
            let Ok(inside) = path.strip_prefix(&work) else { return false };
            let first = inside.iter().next().unwrap().to_string_lossy().into_owned();
            let stamped = first.starts_with("20") && inside.iter().count() > 1;
            let named =
                ["epoch_", "best_", "iter_", "emergency_", ".shanty-"].iter().any(|p| first.starts_with(p));
            stamped || named || first == "last_checkpoint"
        };
        all.retain(|path, _| !own(path));
        all
    }

    /// Runs on in every way there is, whatever comes of it, and looks whether a foreign file was touched.
    fn survives(&self, what: &str) {
        let before = self.foreign();
        for canary in CANARIES {
            assert!(before.contains_key(&self.at(canary)), "{what}: {canary}");
        }
        let runs =
            [self.run(4).resume(true), self.run(2), self.run(2).overwrite(true), self.run(4).resume(true)];
        for run in runs {
            let _ = run.build().and_then(|mut run| run.train());
        }
        assert_eq!(before, self.foreign(), "{what}");
    }
}

fn walk(dir: &Path, all: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            walk(&path, all);
        } else if kind.is_symlink() {
            all.insert(path.clone(), format!("-> {}", fs::read_link(path).unwrap().display()));
        } else if kind.is_file() {
            all.insert(path.clone(), String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned());
        }
    }
}

fn with_hook(dir: &Path, epochs: u64, yaml: &str) -> RunnerBuilder {
    let run = toy_runner(dir, epochs, 3).unwrap().without_default_hooks();
    run.hook_yaml(&format!("{{type: CheckpointHook, {yaml}}}")).unwrap()
}

/// Places that a crafted name may lead to from the work_dir.
fn places(sandbox: &Sandbox) -> Vec<String> {
    let absolute = |path: &str| sandbox.at(path).to_string_lossy().into_owned();
    let mut all: Vec<String> = [
        "",
        ".",
        "..",
        "../victim",
        "../victim/",
        "./../victim",
        "epoch_2/../../victim",
        "notes",
        "notes/epoch_0",
        "/",
        ".tmp-mine",
        ".old-epoch_1",
        "my.yaml",
        "~",
        "../out/other/epoch_1",
        "\u{0}",
        "..\\victim",
        "epoch_2\n../victim",
        "run.json",
        "*",
    ]
    .map(String::from)
    .into();
    all.extend([absolute("victim"), absolute("work"), absolute("work/notes"), absolute("")]);
    all
}

/// Crafted checkpoints, with right hashes: every string that a hook keeps leads somewhere else.
#[test]
fn a_crafted_checkpoint_names_nothing_outside() {
    let count = places(&Sandbox::new()).len();
    for index in 0..count {
        let sandbox = Sandbox::new();
        let place = places(&sandbox)[index].clone();
        craft(&sandbox.at("work/epoch_2"), |state| {
            let hook = &mut state["hooks"]["CheckpointHook"];
            hook["kept"] = json!([place, place, "epoch_2"]);
            hook["stopped"] = json!(place);
            hook["best"] = json!({"accuracy/top1": {"score": 0.0, "name": place}});
            state["meta"]["log_dir"] = json!(place);
        });
        sandbox.survives(&format!("crafted state `{place}`"));
    }
}

/// The same with a hook's state as it should be, and a log folder that leads away.
#[test]
fn a_crafted_log_folder_leads_nowhere() {
    for index in 0..places(&Sandbox::new()).len() {
        let sandbox = Sandbox::new();
        let place = places(&sandbox)[index].clone();
        craft(&sandbox.at("work/epoch_2"), |state| state["meta"]["log_dir"] = json!(place));
        sandbox.survives(&format!("crafted log folder `{place}`"));
    }
}

#[test]
fn a_crafted_pointer_leads_nowhere() {
    for index in 0..places(&Sandbox::new()).len() {
        let sandbox = Sandbox::new();
        let place = places(&sandbox)[index].clone();
        fs::write(sandbox.at("work/last_checkpoint"), &place).unwrap();
        // What a dead run may have left there has the names that other programs give, too.
        sandbox.survives(&format!("crafted pointer `{place}`"));
        fs::write(sandbox.at("work/last_checkpoint"), format!("{place}/x")).unwrap();
        sandbox.survives(&format!("crafted pointer `{place}/x`"));
    }
}

#[test]
fn a_crafted_manifest_names_nothing_outside() {
    for index in 0..places(&Sandbox::new()).len() {
        let sandbox = Sandbox::new();
        let place = places(&sandbox)[index].clone();
        reseal(&sandbox.at("work/epoch_2"), |about| {
            about["files"][&place] = about["files"]["state.json"].clone();
            about["run"] = json!(place);
            about["work_dir"] = json!(place);
        })
        .unwrap();
        sandbox.survives(&format!("crafted manifest `{place}`"));
    }
}

/// What belongs to a name for a while, with the mark that shanty gives.
const MARKED: [(&str, &str); 6] = [
    ("tmp", "epoch_3"),
    ("del", "epoch_1"),
    ("old", "epoch_1"),
    ("old", "epoch_3"),
    ("tmp", "last_checkpoint"),
    ("del", "victim"),
];

fn aside(what: &str, name: &str) -> String {
    sibling(Path::new(name), what).to_string_lossy().into_owned()
}

/// Links in a work_dir to places outside, under each name that a run uses.
#[test]
fn links_are_not_followed() {
    let names = [
        "epoch_1",
        "epoch_3",
        "epoch_4",
        ".shanty-tmp-epoch_3",
        ".shanty-del-epoch_2",
        ".shanty-old-epoch_3",
        "last_checkpoint",
        ".shanty-lock",
        ".shanty-run.json",
        ".shanty-tmp-last_checkpoint",
        "best_accuracy_top1_epoch_1",
        ".shanty-tmp-run",
        "emergency_iter_3",
        ".shanty-old-victim",
        ".shanty-del-victim",
    ];
    let marked = MARKED.map(|(what, name)| aside(what, name));
    for name in names.into_iter().chain(marked.iter().map(String::as_str)) {
        for target in ["../victim", "../victim/deep/file", "../nothing", "."] {
            let sandbox = Sandbox::new();
            let path = sandbox.at("work").join(name);
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            symlink(target, path).unwrap();
            sandbox.survives(&format!("{name} is a link to {target}"));
        }
    }
}

/// Directories that have a checkpoint's or a temporary name, and hold something that shanty did not write.
#[test]
fn a_directory_with_something_foreign_in_it_is_not_deleted() {
    let names = [
        "epoch_1",
        "epoch_3",
        ".shanty-tmp-epoch_3",
        ".shanty-del-epoch_1",
        ".shanty-old-epoch_1",
        "best_accuracy_top1_epoch_9",
    ];
    let marked = MARKED.map(|(what, name)| aside(what, name));
    for name in names.into_iter().chain(marked.iter().map(String::as_str)) {
        for file in ["thesis.tex", "deep/thesis.tex", "model.safetensors/thesis.tex"] {
            let sandbox = Sandbox::new();
            let path = sandbox.at("work").join(name).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "years of work").unwrap();
            sandbox.survives(&format!("{name} holds {file}"));
            assert_eq!(fs::read_to_string(&path).unwrap(), "years of work", "{name} holds {file}");
        }
    }
}

/// A checkpoint of another run that was put into the folder is not retention's to delete.
#[test]
fn retention_deletes_checkpoints_of_its_own_run_only() {
    let sandbox = Sandbox::new();
    let (mine, other) = (sandbox.at("work"), tempfile::tempdir().unwrap());
    with_hook(other.path(), 1, "").build().unwrap().train().unwrap();
    fs::rename(other.path().join("epoch_1"), mine.join("epoch_1")).unwrap();
    let error = sandbox.run(4).resume(true).build().unwrap().train().unwrap_err();
    assert!(error.to_string().contains("holds checkpoints of another run (epoch_1)"), "{error}");
    assert_eq!(error.exit_code(), 2);
    assert!(
        mine.join("epoch_1/model.safetensors").exists() && mine.join("epoch_2/model.safetensors").exists()
    );
}

/// What hooks and configs name is no exception.
#[test]
fn a_hook_and_a_config_name_nothing_outside() {
    let count = places(&Sandbox::new()).len();
    for index in 0..count {
        let sandbox = Sandbox::new();
        let place = places(&sandbox)[index].clone();
        let before = sandbox.foreign();
        for out_dir in [None, Some(PathBuf::from(&place)), Some(sandbox.at("victim"))] {
            // With a folder that nobody declared, any name is refused.
            let name = if out_dir.is_some() { "epoch_9".to_owned() } else { place.clone() };
            let request =
                SaveRequest { out_dir, series: "epoch_{}".into(), keep: Some(1), ..SaveRequest::new(name) };
            let ask = move |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
                cx.save(request.clone());
                Ok(())
            };
            let _ = sandbox.run(3).resume(true).on(Point::AfterTrainEpoch, ask).build().unwrap().train();
        }
        let written = sandbox.foreign();
        let changed: Vec<_> =
            before.iter().filter(|(path, text)| written.get(*path) != Some(*text)).collect();
        assert!(changed.is_empty(), "a hook names `{place}`: {changed:?}");
        let template = serde_json::to_string(&format!("{place}{{}}")).unwrap();
        let spec = Spec::<dyn Hook>::parse(&format!("{{type: CheckpointHook, filename_tmpl: {template}}}"));
        let refused = spec.map_err(Error::from).and_then(|spec| spec.build(&mut BuildCx::new(0))).is_err();
        let plain = !place.starts_with('.') && !place.contains(['/', '\\', '\n', '\0']);
        assert_eq!(refused, !plain, "`{place}` as a template");
    }
}

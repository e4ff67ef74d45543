//! The examples as programs: cut anywhere, or killed, a run resumes and ends as the one that was left alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// An example, which `cargo test` builds beside the tests; so does `cargo build --examples`.
fn example(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(program.exists(), "{} is missing: cargo build --examples", program.display());
    Command::new(program)
}

fn config(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(format!("{name}.yaml"))
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// Runs a command on the config of an example; what it said.
fn run(name: &str, command: &str, more: &[&str]) -> String {
    let out = example(name).arg(command).arg(config(name)).args(more).output().unwrap();
    assert!(out.status.success(), "{name} {command}: {}", said(&out));
    said(&out)
}

/// Shorter than the example, with saves inside of windows.
const SHORT: [&str; 4] =
    ["--set", "train_cfg.max_epochs=2", "--set", "default_hooks.checkpoint={interval: 9, by_epoch: false}"];

#[test]
fn resumed_anywhere_a_run_is_the_same_run() {
    for name in ["mlp", "resnet", "transformer"] {
        let more = [&SHORT[..], &["--cuts", "5"]].concat();
        let said = run(name, "verify-resume", &more);
        assert_eq!(said.matches(": equal").count(), 5, "{name}: {said}");
    }
}

/// The bytes of the last weights.
fn weights(dir: &Path) -> Vec<u8> {
    let last = fs::read_to_string(dir.join("last_checkpoint")).unwrap();
    fs::read(dir.join(last).join("model.safetensors")).unwrap()
}

#[test]
fn killed_and_resumed_a_run_ends_with_the_same_bytes() {
    for name in ["mlp", "resnet", "transformer"] {
        let scratch = tempfile::tempdir().unwrap();
        let (whole, cut) = (scratch.path().join("whole"), scratch.path().join("cut"));
        let train = |dir: &Path, more: &[&str]| {
            let mut command = example(name);
            command.arg("train").arg(config(name)).args(SHORT).arg("--work-dir").arg(dir).args(more);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().unwrap()
        };
        assert!(train(&whole, &[]).wait().unwrap().success());
        let mut child = train(&cut, &[]);
        // In the middle: as soon as there is something to resume from.
        while !cut.join("last_checkpoint").exists() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "{name} ended before it was killed");
        assert!(train(&cut, &["--resume"]).wait().unwrap().success());
        assert!(weights(&cut) == weights(&whole), "{name}: other weights");
    }
}

/// Any number of threads gives the same bits.
#[test]
fn threads_change_nothing() {
    for name in ["mlp", "resnet", "transformer"] {
        let scratch = tempfile::tempdir().unwrap();
        let of = |threads: &str| {
            let dir = scratch.path().join(threads);
            let mut command = example(name);
            command.arg("train").arg(config(name)).args(SHORT).arg("--work-dir").arg(&dir);
            let out = command.env("RAYON_NUM_THREADS", threads).output().unwrap();
            assert!(out.status.success(), "{}", said(&out));
            weights(&dir)
        };
        assert!(of("1") == of("3"), "{name}: other weights");
    }
}

#[test]
fn the_whole_command_line_knows_the_network() {
    assert!(run("mlp", "check", &[]).contains("is fine"));
    let planned = run("mlp", "plan", &[]);
    assert!(planned.contains("EMAHook") && !planned.contains("0.00 MB in all"), "{planned}");
    let out = example("mlp").args(["describe", "BurnMlp"]).output().unwrap();
    assert!(said(&out).contains("hidden"), "{}", said(&out));
    let bad =
        example("mlp").arg("check").arg(config("mlp")).args(["--set", "model.hiden=3"]).output().unwrap();
    assert_eq!(bad.status.code(), Some(2), "{}", said(&bad));
    assert!(said(&bad).contains("the nearest is `model.hidden`"), "{}", said(&bad));
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().to_str().unwrap();
    run("mlp", "train", &[&SHORT[..], &["--work-dir", dir]].concat());
    let last = fs::read_to_string(scratch.path().join("last_checkpoint")).unwrap();
    let checkpoint = scratch.path().join(last);
    let tested = example("mlp").arg("test").arg(config("mlp")).arg(&checkpoint).output().unwrap();
    assert!(tested.status.success() && said(&tested).contains("accuracy/top1"), "{}", said(&tested));
}

/// The config on the page trains as it stands there, and the network is that of the example.
#[test]
fn the_config_of_the_page_trains() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(crate_dir.join("../../docs/backends.md")).unwrap();
    let source = fs::read_to_string(crate_dir.join("examples/mlp.rs")).unwrap();
    let (_, network) = source.split_once("impl Network for Mlp").unwrap();
    let (network, _) = network.split_once("\n}\n").unwrap();
    assert!(page.contains(network), "the page lacks{network}");
    let (_, burn) = page.split_once("\n## burn\n").unwrap();
    let (yaml, _) = burn.split_once("```yaml\n").unwrap().1.split_once("```").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let config = scratch.path().join("page.yaml");
    fs::write(&config, yaml).unwrap();
    let out = example("mlp")
        .arg("train")
        .arg(&config)
        .args(["--set", "train_cfg.max_epochs=1", "--work-dir"])
        .arg(scratch.path().join("run"))
        .output()
        .unwrap();
    assert!(out.status.success() && said(&out).contains("accuracy/top1"), "{}", said(&out));
}

/// A device that this program cannot have is an error that names it.
#[test]
fn a_device_that_was_not_built_in_is_an_error() {
    if cfg!(feature = "cuda") {
        return;
    }
    let out = example("mlp").arg("check").arg(config("mlp")).env("BURN_DEVICE", "cuda").output().unwrap();
    let text = said(&out);
    assert_eq!(out.status.code(), Some(2), "{text}");
    assert!(
        text.contains("BURN_DEVICE=cuda") && text.contains("the 'cuda' feature is not enabled"),
        "{text}"
    );
}

/// What does not fit is an error with burn's own words, not a panic.
#[test]
fn pictures_of_another_size_are_an_error() {
    let out =
        example("mlp").arg("check").arg(config("mlp")).args(["--set", "model.inputs=63"]).output().unwrap();
    let text = said(&out);
    assert_eq!(out.status.code(), Some(2), "{text}");
    for part in ["the network panicked: ", "expected 63, got 64", "model.inputs=63"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

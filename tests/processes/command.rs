//! `shanty` under each launcher: one message, one set of files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::launcher::{Kind, installed, mpirun};

const CONFIG: &str = "\
model:
  type: ImageClassifier
  backbone:
    type: Sequential
    layers: [{type: Flatten}, {type: Linear, in_features: 64, out_features: 10}]
  head: {type: ClsHead, loss: {type: CrossEntropyLoss}}
train_dataloader:
  batch_size: 64
  dataset: {type: Digits, split: train, pipeline: [{type: PackInputs}]}
  sampler: {type: DefaultSampler, shuffle: true}
val_dataloader:
  batch_size: 64
  dataset: {type: Digits, split: val, pipeline: [{type: PackInputs}]}
  sampler: {type: DefaultSampler, shuffle: false}
val_evaluator: {type: Accuracy}
val_cfg: {}
optim_wrapper: {optimizer: {type: SGD, lr: 0.1, momentum: 0.9}}
train_cfg: {by_epoch: true, max_epochs: 4}
default_hooks: {checkpoint: {type: CheckpointHook, interval: 5, by_epoch: false, max_keep_ckpts: 1}}
randomness: {seed: 3}
";

pub struct Place {
    pub dir: tempfile::TempDir,
    launcher: (Kind, PathBuf),
}

/// A folder with the config, for each launcher.
pub fn places(test: &str) -> Vec<Place> {
    let place = |launcher| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tiny.yaml"), CONFIG).unwrap();
        Place { dir, launcher }
    };
    installed(test).into_iter().map(place).collect()
}

impl Place {
    pub fn work(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `shanty train` in this work_dir.
    pub fn train(&self, ranks: usize, work: &str, more: &[&str]) -> Command {
        let mut command = mpirun(&self.launcher, ranks, Path::new(env!("CARGO_BIN_EXE_shanty")));
        command.current_dir(self.dir.path()).args(["train", "tiny.yaml", "--work-dir", work]).args(more);
        command
    }

    pub fn what(&self) -> Kind {
        self.launcher.0
    }

    pub fn exit_code(&self, work: &str) -> Option<u8> {
        let text = fs::read_to_string(self.work(work).join(".shanty-exit-code")).ok()?;
        text.trim().parse().ok()
    }

    /// The weights and the optimizer's state at the end.
    pub fn end(&self, work: &str) -> Vec<Vec<u8>> {
        let newest = fs::read_to_string(self.work(work).join("last_checkpoint")).unwrap();
        let dir = self.work(work).join(newest.trim());
        ["model.safetensors", "optimizer.safetensors"].map(|file| fs::read(dir.join(file)).unwrap()).to_vec()
    }
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Two ranks train to the end with one voice; what is cut at an epoch, or told to leave, and gone on with ends as the run
/// that was not.
#[test]
fn mpirun_trains_and_a_resumed_run_ends_the_same() {
    for place in places("mpirun_trains_and_a_resumed_run_ends_the_same") {
        let whole = place.train(2, "whole", &[]).output().unwrap();
        let text = said(&whole);
        assert!(whole.status.success(), "{:?}: {text}", place.what());
        assert_eq!(text.matches("finished after 4 epochs").count(), 1, "{text}");
        assert!(!text.contains('\u{1b}'), "no colours through a launcher: {text}");
        assert_eq!(place.exit_code("whole"), Some(0));
        let cut = place.train(2, "cut", &["--set", "train_cfg.max_epochs=2"]).output().unwrap();
        assert!(cut.status.success(), "{}", said(&cut));
        let on = place.train(2, "cut", &["--resume"]).output().unwrap();
        assert!(on.status.success(), "{}", said(&on));
        assert!(place.end("cut") == place.end("whole"), "{:?}: another end", place.what());
        let limited = place.train(2, "limited", &["--max-time", "0"]).output().unwrap();
        assert_eq!(place.exit_code("limited"), Some(75), "{}", said(&limited));
        let on = place.train(2, "limited", &["--resume"]).output().unwrap();
        assert!(on.status.success(), "{}", said(&on));
        assert!(place.end("limited") == place.end("whole"), "{:?}: another end", place.what());
    }
}

/// A batch script goes on by the code in the file: that of a start which failed, or of a run of one process, is not that of
/// the training before it.
#[test]
fn the_code_in_the_file_is_that_of_the_last_start() {
    for place in places("the_code_in_the_file_is_that_of_the_last_start") {
        let left = place.train(2, "w", &["--max-time", "0"]).output().unwrap();
        assert_eq!(place.exit_code("w"), Some(75), "{}", said(&left));
        let refused = place.train(2, "w", &["--resume", "--set", "optim_wrapper.optimizer.lrr=1"]);
        let text = said(&{ refused }.output().unwrap());
        assert_eq!(place.exit_code("w"), Some(2), "{text}");
        let one = place.train(1, "w", &["--resume", "--max-time", "0"]).output().unwrap();
        assert_eq!(place.exit_code("w"), Some(75), "{}", said(&one));
        let mut alone = Command::new(env!("CARGO_BIN_EXE_shanty"));
        alone.current_dir(place.dir.path()).args(["train", "tiny.yaml", "--work-dir", "w", "--resume"]);
        assert!(alone.output().unwrap().status.success());
        assert_eq!(place.exit_code("w"), None, "a run that no launcher started ends with its own code");
    }
}

/// Mistakes and wrong starts: each is told once, by one process, and all end.
#[test]
fn a_wrong_start_is_told_once() {
    for place in places("a_wrong_start_is_told_once") {
        let shanty = Path::new(env!("CARGO_BIN_EXE_shanty"));
        let once = |mut command: Command, expected: &str| {
            let output = command.output().unwrap();
            let text = said(&output);
            assert_eq!(output.status.code(), Some(2), "{:?}: {text}", place.what());
            assert_eq!(text.matches("error: ").count(), 1, "{:?}: {text}", place.what());
            assert!(text.contains(expected), "{:?}: {text}", place.what());
        };
        once(place.train(2, "w", &["--set", "train_cfg.max_epoch=2"]), "unknown key `max_epoch`");
        once(
            place.train(2, "w", &["--set", "launcher=none"]),
            "`launcher: none` makes each a run of its own",
        );
        once(place.train(2, "w", &["--launcher", "slurm"]), "mpirun started these processes");
        once(place.train(2, "w", &["--work-dri", "w"]), "unexpected argument '--work-dri'");
        let mut unlike = place.train(1, "w", &[]);
        unlike.args([":", "-np", "1"]).arg(shanty).args(["train", "tiny.yaml", "--work-dir", "w"]);
        unlike.args(["--set", "optim_wrapper.optimizer.lr=0.2"]);
        once(unlike, "rank 1 has another config than rank 0: optim_wrapper.optimizer.lr: 0.1 -> 0.2");
        // The first has joined the others by then, or waits for one that would not come.
        for (other, expected) in [
            (
                &["list"][..],
                "rank 1 was started with `list`, rank 0 with `train`: all ranks are to do the same",
            ),
            (&["val", "tiny.yaml", "w"], "rank 1 was started with `val`, rank 0 with `train`"),
            (&["--help"], "rank 1 was started with `--help`, rank 0 with `train`"),
            (&["trian"], "rank 1 of 2 failed:\nerror: unrecognized subcommand"),
        ] {
            let mut mixed = place.train(1, "w", &[]);
            mixed.args([":", "-np", "1"]).arg(shanty).args(other);
            once(mixed, expected);
        }
        let mut listed = mpirun(&place.launcher, 2, shanty);
        listed.arg("list");
        once(listed, "only `train`, `val` and `test` are done by several");
        let missing = "no MPI library can be loaded: /no/libmpi.so";
        let mut absent = place.train(2, "w", &[]);
        absent.env("SHANTY_MPI", "/no/libmpi.so");
        once(absent, missing);
        let other = if place.what() == Kind::OpenMpi { "libmpich.so.12" } else { "libmpi.so.40" };
        if installed("a_wrong_start_is_told_once").len() == 2 {
            let mut strange = place.train(2, "w", &[]);
            strange.env("SHANTY_MPI", other);
            once(strange, "but");
        }
        assert!(!place.work("w").exists(), "nothing stays of a start that was refused");
    }
}

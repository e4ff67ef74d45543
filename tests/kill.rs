//! Real signals to a real process at random instants: it resumes, and ends byte for byte like the run that was left alone.
//!
//! `SHANTY_KILLS=200 SHANTY_TERMS=50 cargo test --release --test kill -- --nocapture` is the long form.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![cfg(all(unix, feature = "cli"))]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::RngExt;
use shanty::base::keyed;

const CONFIG: &str = "\
model:
  type: ImageClassifier
  backbone:
    type: Sequential
    layers:
      - {type: Flatten}
      - {type: Linear, in_features: 64, out_features: 32}
      - {type: BatchNorm1d, num_features: 32}
      - {type: ReLU}
      - {type: Dropout, p: 0.2}
      - {type: Linear, in_features: 32, out_features: 10}
  head: {type: ClsHead, loss: {type: CrossEntropyLoss}}
train_dataloader: &data
  batch_size: 64
  dataset: {type: Digits, split: train, pipeline: [{type: PackInputs}]}
  sampler: {type: DefaultSampler, shuffle: true}
val_dataloader:
  batch_size: 64
  dataset: {type: Digits, split: val, pipeline: [{type: PackInputs}]}
  sampler: {type: DefaultSampler, shuffle: false}
val_evaluator: {type: Accuracy, topk: [1]}
val_cfg: {}
optim_wrapper:
  optimizer: {type: SGD, lr: 0.1, momentum: 0.9}
  accumulative_counts: 2
param_scheduler: {type: CosineAnnealingLR, by_epoch: false}
train_cfg: {by_epoch: true, max_epochs: 8}
default_hooks:
  checkpoint: {type: CheckpointHook, interval: 7, by_epoch: false, max_keep_ckpts: 1, save_best: accuracy/top1}
randomness: {seed: 3}
";

fn count(variable: &str, short: usize) -> usize {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(short)
}

fn start(config: &Path, work_dir: &Path, resume: bool) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shanty"));
    command.arg("train").arg(config).arg("--work-dir").arg(work_dir);
    if resume {
        command.arg("--resume");
    }
    command.stdout(Stdio::null()).stderr(Stdio::null()).env("RAYON_NUM_THREADS", "1").spawn().unwrap()
}

fn to_the_end(config: &Path, work_dir: &Path, resume: bool) -> Vec<u8> {
    assert!(start(config, work_dir, resume).wait().unwrap().success());
    let last = fs::read_to_string(work_dir.join("last_checkpoint")).unwrap();
    fs::read(work_dir.join(last).join("model.safetensors")).unwrap()
}

/// Sends the signal after a random part of the time that the whole run takes, until `times` signals found their process
/// alive; each to a run of its own. `exit` reaps it: the time that took, `None` if the run had ended before.
fn interrupt(times: usize, signal: &str, exit: &dyn Fn(Child) -> Option<Duration>) -> Vec<Duration> {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("tiny.yaml");
    fs::write(&config, CONFIG).unwrap();
    let whole = to_the_end(&config, &dir.path().join("whole"), false);
    let began = Instant::now();
    assert!(to_the_end(&config, &dir.path().join("again"), false) == whole);
    let mut takes = began.elapsed();
    let mut rng = keyed(7, signal, 0, 0);
    let mut taken = Vec::new();
    while taken.len() < times {
        let work_dir = dir.path().join("cut");
        let child = start(&config, &work_dir, false);
        std::thread::sleep(takes.mul_f64(rng.random_range(0.0..1.0)));
        let id = child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        match exit(child) {
            Some(time) => {
                taken.push(time);
                let end = to_the_end(&config, &work_dir, true);
                assert!(end == whole, "{signal} number {}: another end", taken.len());
            }
            // The machine has less to do than when the whole run was timed.
            None => takes = takes.mul_f64(0.9),
        }
        fs::remove_dir_all(&work_dir).unwrap();
    }
    taken
}

#[test]
fn killed_at_any_instant_a_run_resumes_to_the_same_end() {
    let kills = count("SHANTY_KILLS", 10);
    let reap = |mut child: Child| child.wait().unwrap().signal().map(|_| Duration::ZERO);
    interrupt(kills, "-KILL", &reap);
    println!("{kills} SIGKILLs: all runs ended byte-identical");
}

#[test]
fn terminated_at_any_instant_a_run_saves_leaves_and_resumes_to_the_same_end() {
    let terms = count("SHANTY_TERMS", 5);
    let reap = |mut child: Child| {
        let asked = Instant::now();
        let status = child.wait().unwrap();
        // 143: left with a checkpoint. A signal: it came before the handler was there, or twice. 0: it had finished.
        let died = status.signal() == Some(15);
        assert!(matches!(status.code(), Some(143 | 0)) || died, "{status:?}");
        (status.code() != Some(0)).then(|| asked.elapsed())
    };
    let mut taken = interrupt(terms, "-TERM", &reap);
    taken.sort();
    // A second signal right behind the first, perhaps in the midst of the save: nothing is lost.
    let impatient = |child: Child| {
        let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        reap(child)
    };
    interrupt(terms.div_ceil(2), "-TERM", &impatient);
    println!(
        "{terms} SIGTERMs: all runs ended byte-identical; signal to exit: median {:?}, longest {:?}",
        taken[taken.len() / 2],
        taken[taken.len() - 1]
    );
}

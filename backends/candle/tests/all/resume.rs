//! A run of each example that is stopped, or killed, and resumed ends bit for bit as one that was not.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use shanty::checkpoint::{Checkpoint, load};
use shanty::config;
use shanty::run::verify::{random_cuts, verify};
use shanty::run::{Limits, Runner, RunnerBuilder};

use crate::support::{here, train};

/// The shipped config in this folder, with a shorter run where the shipped one is long.
fn runner(
    name: &str,
    more: &[&str],
    dir: &Path,
    resume: bool,
    limits: Limits,
) -> shanty::base::Result<Runner> {
    let mut set = vec![format!("work_dir={}", dir.display()), format!("resume={resume}")];
    set.extend(more.iter().map(|one| (*one).to_owned()));
    let node = config::load(&here(&format!("configs/{name}.yaml")), &set)?;
    RunnerBuilder::from_config(&node, Some(name))?.limits(limits).build()
}

fn five_cuts(name: &str, more: &[&str]) {
    let scratch = tempfile::tempdir().unwrap();
    let make = |dir: &Path, resume: bool, limits: Limits| runner(name, more, dir, resume, limits);
    let cuts = verify(&make, |total| random_cuts(total, 5, 1), scratch.path(), &mut |_| ()).unwrap();
    assert_eq!(cuts.len(), 5);
    for cut in cuts {
        assert_eq!(cut.difference, None, "{name}, cut after {} of {}", cut.at, cut.total);
    }
}

/// Dropout, AdamW, clipping.
#[test]
fn a_table_resumes_at_any_cut() {
    five_cuts("houses", &["train_cfg.max_epochs=4", "default_hooks.checkpoint.interval=2"]);
}

/// Batch norms, dropout, accumulation over two batches (an epoch has an odd number of them), Nesterov, an average.
#[test]
fn pictures_resume_at_any_cut() {
    five_cuts("digits", &["train_cfg.max_epochs=2"]);
}

/// Dropout, Adam, sequences of unequal lengths.
#[test]
fn text_resumes_at_any_cut() {
    five_cuts("words", &["train_cfg.max_epochs=4", "default_hooks.checkpoint.interval=2"]);
}

/// What the last checkpoint holds.
fn end(dir: &Path) -> Checkpoint {
    load(&dir.join("iter_188")).unwrap()
}

/// SIGKILL to a real process, somewhere behind these lines of its log, in each epoch and beside a save in flight.
#[test]
fn killed_at_any_instant_a_run_resumes_to_the_same_end() {
    let more = [
        "train_cfg.max_epochs=4",
        "default_hooks.logger.interval=1",
        "default_hooks.checkpoint={interval: 7, by_epoch: false}",
    ];
    let scratch = tempfile::tempdir().unwrap();
    let whole = scratch.path().join("whole");
    assert!(train("digits", &whole, &more).status().unwrap().success());
    let expected = end(&whole);
    for iteration in [3, 29, 63, 98, 140] {
        let dir = scratch.path().join(format!("cut_{iteration}"));
        let mut child = train("digits", &dir, &more).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let steps = lines.map(Result::unwrap).filter(|line| line.contains("(train)"));
        assert_eq!(steps.take(iteration).count(), iteration);
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        let resume: Vec<_> = more.iter().copied().chain(["resume=true"]).collect();
        assert!(train("digits", &dir, &resume).status().unwrap().success());
        let found = end(&dir);
        assert!(found.model == expected.model, "killed after {iteration}: other weights");
        assert!(found.optimizer == expected.optimizer, "killed after {iteration}: another momentum");
        let average = found.hooks["EMAHook"] == expected.hooks["EMAHook"];
        assert!(average, "killed after {iteration}: another average");
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    for name in ["digits", "words"] {
        let scratch = tempfile::tempdir().unwrap();
        let weights = |threads: &str| {
            let dir = scratch.path().join(threads);
            let set = ["train_cfg.max_epochs=1", "default_hooks.checkpoint.interval=1"];
            assert!(train(name, &dir, &set).env("RAYON_NUM_THREADS", threads).status().unwrap().success());
            load(&dir.join("epoch_1")).unwrap().model
        };
        let one = weights("1");
        assert!(one == weights("2"), "{name}: two threads");
        assert!(one == weights("4"), "{name}: four threads");
    }
}

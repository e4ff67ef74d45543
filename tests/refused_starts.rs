//! A start that is refused before it trains leaves nothing, and one that has nothing to resume begins as the first one
//! would.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use shanty::checkpoint::load;
use shanty::data::DataLoader;
use shanty::plugin::prelude::*;
use shanty::run::{EpochBasedTrainLoop, RunnerBuilder};
use shanty::testing::sim::{Faults, Machine};
use shanty::testing::{ToyModel, toy_data, toy_optim, toy_runner, toy_runner_of};

fn run(dir: &Path, epochs: u64, yaml: &str) -> RunnerBuilder {
    let run = toy_runner(dir, epochs, 3).unwrap().without_default_hooks();
    run.hook_yaml(&format!("{{type: CheckpointHook, {yaml}}}")).unwrap()
}

/// A run of one epoch of this model on these data.
fn of(dir: &Path, model: ToyModel, data: DataLoader) -> RunnerBuilder {
    toy_runner_of(dir, model, data, EpochBasedTrainLoop::new(1), toy_optim()).unwrap()
}

fn train(run: RunnerBuilder) -> Result<()> {
    run.build()?.train().map(drop)
}

/// Every path below a folder.
fn paths(dir: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            all.extend(paths(&entry.path()));
        }
        all.insert(entry.path());
    }
    all
}

/// The run is refused, says this, and what was there is all that is there.
fn leaves_nothing(home: &Path, run: impl FnOnce() -> RunnerBuilder, says: &str) {
    let before = paths(home);
    let error = train(run()).unwrap_err().to_string();
    assert!(error.contains(says), "{says}: {error}");
    let after = paths(home);
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), Vec::<&PathBuf>::new(), "{error}");
    assert_eq!(before, after, "{error}");
}

/// Refused starts left a stamped folder of logs each, a lock, a dump, and the note whose the work_dir is.
#[test]
fn a_refused_start_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    train(run(&at("w"), 2, "")).unwrap();
    let from = |name: &str| at(name);
    let fresh = at("deep/er/new");
    let new = || run(&fresh, 2, &format!("out_dir: {}", at("o/u/t").display()));

    leaves_nothing(home.path(), || run(&at("w"), 2, ""), "holds checkpoints of an earlier run");
    leaves_nothing(home.path(), || new().resume(true).load_from(from("nothing")), "no such checkpoint");
    let other = || toy_data(4, true).unwrap();
    leaves_nothing(
        home.path(),
        || of(&fresh, ToyModel::new(3), other()).resume(true).load_from(from("w/epoch_1")),
        "data",
    );
    let hook = || new().hook(shanty::hook::builtin::EMAHook::new(0.1, 1)).resume(true);
    leaves_nothing(home.path(), || hook().load_from(from("w/epoch_1")), "allow_hook_changes");
    let refuses = |_: &mut Ctx<'_>, _: &mut Event<'_>| Err("not today".into());
    leaves_nothing(home.path(), || new().on(Point::BeforeRun, refuses), "not today");
    let stop = shanty::run::Limits { stop_file: Some(at("w/epoch_1")), ..Default::default() };
    leaves_nothing(home.path(), || new().limits(stop.clone()), "the stop file");

    // What stands in the way.
    fs::create_dir_all(at("v")).unwrap();
    fs::write(at("v/epoch_2"), "mine").unwrap();
    leaves_nothing(home.path(), || run(&at("v"), 2, ""), "move it away");
    // Another run is there.
    let held = at("held");
    let second = held.clone();
    let meets = move |_: &mut Ctx<'_>, _: &mut Event<'_>| {
        leaves_nothing(&second, || run(&second, 2, ""), "in use by another run");
        Ok(())
    };
    train(run(&held, 1, "").on(Point::BeforeTrain, meets)).unwrap();
    // A damaged checkpoint, and none else.
    fs::remove_dir_all(at("w/epoch_1")).unwrap();
    fs::write(at("w/epoch_2/state.json"), "{").unwrap();
    leaves_nothing(home.path(), || run(&at("w"), 3, "").resume(true), "no checkpoint can be resumed");
}

/// Several runs that start at one instant in one work_dir had one folder of logs, which whoever was refused took away from
/// the others: all of them failed for a file that had gone.
#[test]
fn of_several_starts_at_once_one_goes_on() {
    for _ in 0..10 {
        let home = tempfile::tempdir().unwrap();
        let at_once = std::sync::Barrier::new(4);
        let start = || {
            at_once.wait();
            train(run(&home.path().join("w"), 2, "")).err().map(|error| error.to_string())
        };
        let ended: Vec<Option<String>> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let refused: Vec<&String> = ended.iter().flatten().collect();
        let known =
            |text: &&String| text.contains("in use by another run") || text.contains("an earlier run");
        assert!(refused.len() == 3 && refused.iter().all(known), "{ended:?}");
        assert_eq!(load(&home.path().join("w/epoch_2")).unwrap().meta.epoch, 2);
    }
}

/// All that is below a folder, with what is in it.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    paths(dir)
        .into_iter()
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// A first batch that the model, or a hook before it, refused left a lock and a log; with `overwrite` the checkpoints of
/// the old run were gone by then.
#[test]
fn a_start_that_its_first_batch_refuses_changes_nothing() {
    type Spoil = fn(RunnerBuilder) -> RunnerBuilder;
    let refuses: [(&str, Spoil); 4] = [
        ("before_train", |run| run.on(Point::BeforeTrain, |_, _| Err("not today".into()))),
        ("before_train_epoch", |run| run.on(Point::BeforeTrainEpoch, |_, _| Err("not today".into()))),
        ("before_train_iter", |run| run.on(Point::BeforeTrainIter, |_, _| Err("not today".into()))),
        ("train_step", |run| run),
    ];
    for (point, spoil) in refuses {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let refused = |dir: &Path| {
            let mut model = ToyModel::new(3);
            model.on_step = |_| Err(Error::invalid("not today"));
            spoil(of(dir, model, toy_data(2, true).unwrap()))
        };
        leaves_nothing(home.path(), || refused(&at("w")), "not today");
        leaves_nothing(home.path(), || refused(&at("w")).resume(true), "not today");
        train(run(&at("w"), 2, "")).unwrap();
        let before = content(home.path());
        leaves_nothing(home.path(), || refused(&at("w")).overwrite(true), "not today");
        let mut after = content(home.path());
        // It holds the number of the process.
        after.insert(at("w/.shanty-lock"), before[&at("w/.shanty-lock")].clone());
        assert_eq!(before, after, "{point}");
        train(run(&at("w"), 3, "").resume(true)).unwrap();
        train(run(&at("w"), 1, "").overwrite(true)).unwrap();
        assert!(!at("w/epoch_2").exists());
    }
}

/// What is saved before the first step makes the run the one of its folders; what a hook wrote of the first batch is
/// named in the error.
#[test]
fn what_is_written_before_the_first_step_stays() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    train(run(&at("w"), 2, "")).unwrap();
    let saves = |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
        cx.save(SaveRequest::new("zero"));
        Ok(())
    };
    let fails = |_: &mut Ctx<'_>, _: &mut Event<'_>| Err("not today".into());
    let again = run(&at("w"), 2, "").overwrite(true);
    train(again.on(Point::BeforeTrain, saves).on(Point::BeforeTrainIter, fails)).unwrap_err();
    assert!(at("w/zero").exists() && !at("w/epoch_2").exists());
    assert_eq!(fs::read_to_string(at("w/last_checkpoint")).unwrap(), "zero");

    let spoil = |_: &mut Ctx<'_>, event: &mut Event<'_>| {
        if let Event::BeforeTrainIter(batch) = event {
            batch.inputs_mut().unwrap().fill(Elem::NAN);
        }
        Ok(())
    };
    let watched =
        run(&at("v"), 2, "").hook_yaml("{type: CheckInvalidLossHook, check: all, interval: 1}").unwrap();
    let text = train(watched.on(Point::BeforeTrainIter, spoil)).unwrap_err().to_string();
    let bundle = text.split("shanty replay ").nth(1).expect(&text).split('`').next().unwrap();
    assert!(Path::new(bundle).is_dir(), "{text}");
}

/// The names of weights that do not fit stand in the log, which stays; and the folder is free for the next start.
#[test]
fn the_log_stays_where_the_error_sends_to_it() {
    let home = tempfile::tempdir().unwrap();
    let (old, new) = (home.path().join("old"), home.path().join("new"));
    train(run(&old, 1, "")).unwrap();
    let from = old.join("epoch_1");
    let unfit = of(&new, ToyModel::new(5), toy_data(2, true).unwrap()).load_from(from);
    let error = train(unfit).unwrap_err().to_string();
    assert!(error.contains("do not fit the model"), "{error}");
    let left: Vec<_> = fs::read_dir(&new).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let log = paths(&new).into_iter().find(|path| path.extension().is_some_and(|end| end == "log")).unwrap();
    assert!(fs::read_to_string(log).unwrap().contains("toy.weight"));
}

/// `--overwrite` had deleted the checkpoints of the old run when the weights for the new one turned out not to fit.
#[test]
fn overwrite_deletes_nothing_before_the_run_can_begin() {
    let home = tempfile::tempdir().unwrap();
    let (old, work) = (home.path().join("old"), home.path().join("w"));
    train(run(&old, 1, "")).unwrap();
    train(run(&work, 2, "")).unwrap();
    let before = load(&work.join("epoch_2")).unwrap().model;
    let from = old.join("epoch_1");
    let again = || run(&work, 1, "").overwrite(true);
    let unfit = of(&work, ToyModel::new(5), toy_data(2, true).unwrap()).overwrite(true);
    train(unfit.load_from(from)).unwrap_err();
    let refuses = |_: &mut Ctx<'_>, _: &mut Event<'_>| Err("not today".into());
    train(again().on(Point::BeforeRun, refuses)).unwrap_err();
    assert_eq!(load(&work.join("epoch_2")).unwrap().model, before);
    assert_eq!(fs::read_to_string(work.join("last_checkpoint")).unwrap(), "epoch_2");
    train(run(&work, 3, "").resume(true)).unwrap();
    train(again()).unwrap();
    assert!(!work.join("epoch_2").exists());
}

/// Checkpoints under a former template stayed for ever, without a word.
#[test]
fn checkpoints_under_a_former_template_are_told_once() {
    let dir = tempfile::tempdir().unwrap();
    train(run(dir.path(), 3, "max_keep_ckpts: 2, save_best: accuracy/top1")).unwrap();
    let text = |dir: &Path| {
        let logs = paths(dir).into_iter().filter(|path| path.extension().is_some_and(|end| end == "log"));
        fs::read_to_string(logs.max().unwrap()).unwrap()
    };
    train(run(dir.path(), 4, "max_keep_ckpts: 2, filename_tmpl: 'm{}'").resume(true)).unwrap();
    let log = text(dir.path());
    let line =
        log.lines().find(|line| line.contains("no hook saves under these names any more")).expect(&log);
    for name in ["epoch_2", "epoch_3", "best_accuracy_top1_epoch_"] {
        assert!(line.contains(name), "{line}");
    }
    train(run(dir.path(), 5, "filename_tmpl: 'm{}', max_keep_ckpts: 3").resume(true)).unwrap();
    for name in ["epoch_2", "epoch_3"] {
        fs::remove_dir_all(dir.path().join(name)).unwrap();
    }
    let best = paths(dir.path()).into_iter().filter(|p| p.is_dir() && p.to_string_lossy().contains("best_"));
    best.for_each(|path| fs::remove_dir_all(path).unwrap());
    train(run(dir.path(), 6, "filename_tmpl: 'm{}', max_keep_ckpts: 1").resume(true)).unwrap();
    assert!(!text(dir.path()).contains("no hook saves under"));
}

/// With `save_best: auto` the best checkpoint was told to be nobody's on every resume. What `best` names has no optimizer,
/// and is refused before anything is told of what a resume would do.
#[test]
fn the_best_checkpoint_is_the_hooks_own_and_no_run() {
    for best in ["auto", "accuracy/top1"] {
        let dir = tempfile::tempdir().unwrap();
        train(run(dir.path(), 3, &format!("save_best: {best}"))).unwrap();
        let logs = || {
            let all =
                paths(dir.path()).into_iter().filter(|path| path.extension().is_some_and(|end| end == "log"));
            all.map(|path| fs::read_to_string(path).unwrap()).collect::<String>()
        };
        train(run(dir.path(), 4, &format!("save_best: {best}")).resume(true)).unwrap();
        assert!(!logs().contains("no hook saves under these names"), "{best}: {}", logs());
        let resumed = || run(dir.path(), 5, &format!("save_best: {best}")).resume(true).load_from("best");
        leaves_nothing(dir.path(), resumed, "it holds weights only");
    }
}

/// What is named is looked for on the disk that the run is on.
#[test]
fn weights_and_runs_are_found_on_the_file_system_of_the_run() {
    let machine = Machine::new(1);
    let (first, second) = (Path::new("/home/a/first"), Path::new("/home/a/second"));
    let on = |dir: &Path, epochs| run(dir, epochs, "").file_system(machine.boot(Faults::default()));
    train(on(first, 2)).unwrap();
    for named in ["/home/a/first", "/home/a/first/epoch_2", "/home/a/first/epoch_2/model.safetensors"] {
        train(on(second, 1).load_from(named).overwrite(true)).unwrap_or_else(|e| panic!("{named}: {e}"));
    }
    train(on(first, 3).load_from("epoch_1").resume(true)).unwrap();
    let error = train(on(second, 1).load_from("epoch_9").overwrite(true)).unwrap_err().to_string();
    assert!(error.contains("did you mean `epoch_1`?"), "{error}");
    let error = train(on(second, 1).load_from("/home/a/first/epoch_1/state.json").resume(true));
    assert!(error.unwrap_err().to_string().contains("resume the directory"));
    assert!(!Path::new("/home/a").exists());
}

#[cfg(feature = "cli")]
mod cli {
    use super::*;
    use std::process::Command;

    const CONFIG: &str = "\
model: {type: ToyModel, n: 12}
train_dataloader: &data
  batch_size: 4
  dataset: {type: Synthetic, n: 20, shape: [3, 2, 2], classes: 2}
val_dataloader: *data
val_evaluator: {type: Accuracy, topk: [1]}
val_cfg: {}
optim_wrapper: {optimizer: {type: SGD, lr: 0.1}}
train_cfg: {by_epoch: true, max_epochs: 20}
randomness: {seed: 1}
work_dir: w
";

    fn shanty(dir: &Path, args: &[&str]) -> (i32, String) {
        let out = Command::new(env!("CARGO_BIN_EXE_shanty"))
            .args(args)
            .current_dir(dir)
            .env("TMPDIR", dir)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        (out.status.code().unwrap(), text)
    }

    /// `--resume` of a run that had died before its first checkpoint began with other weights than the run had begun
    /// with.
    #[test]
    fn a_resume_of_nothing_begins_as_the_first_start() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("c.yaml"), CONFIG).unwrap();
        let with = |work: &str, more: &[&str]| {
            let from = ["train", "c.yaml", "--work-dir", work, "--set", "train_cfg.max_epochs=2"];
            shanty(dir.path(), &[&from[..], more].concat())
        };
        assert_eq!(with("first", &["--set", "randomness.seed=7"]).0, 0);
        let config = format!("{CONFIG}load_from: first/epoch_2\n");
        fs::write(dir.path().join("c.yaml"), config).unwrap();
        assert_eq!(with("whole", &[]).0, 0);
        let (code, text) = with("resumed", &["--resume"]);
        assert_eq!(code, 0, "{text}");
        assert!(
            text.contains("nothing to resume") && text.contains("the weights of first/epoch_2"),
            "{text}"
        );
        let model = |work: &str| fs::read(dir.path().join(work).join("epoch_2/model.safetensors")).unwrap();
        assert_eq!(model("resumed"), model("whole"));
        // With a checkpoint it goes on from that.
        let (code, text) = with("resumed", &["--resume", "--set", "train_cfg.max_epochs=3"]);
        assert!(code == 0 && text.contains("resumed ") && !text.contains("nothing to resume"), "{text}");
    }

    /// Cuts were drawn from the planned iterations, of which EarlyStoppingHook leaves some: "a cut at 13 is not
    /// inside".
    #[test]
    fn a_run_that_ends_early_is_cut_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let early = "custom_hooks: [{type: EarlyStoppingHook, monitor: accuracy/top1, patience: 1, min_delta: 1.0}]\n";
        fs::write(dir.path().join("c.yaml"), format!("{CONFIG}{early}")).unwrap();
        let (code, text) = shanty(dir.path(), &["verify-resume", "c.yaml", "--cuts", "4"]);
        assert_eq!(code, 0, "{text}");
        let cuts: Vec<_> = text.lines().filter(|line| line.starts_with("cut after ")).collect();
        assert_eq!(cuts.len(), 4, "{text}");
        assert!(cuts.iter().all(|line| line.ends_with(": equal") && !line.contains("of 100")), "{text}");
    }

    /// The error named a bundle that was deleted with the folder of the runs.
    #[test]
    fn what_a_failed_proof_names_is_there() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("c.yaml"), CONFIG.replace("lr: 0.1", "lr: 1.0e+30")).unwrap();
        let more = ["--set", "custom_hooks=[{type: CheckInvalidLossHook}]"];
        let (code, text) = shanty(dir.path(), &[&["verify-resume", "c.yaml"][..], &more].concat());
        assert_eq!(code, 1, "{text}");
        let bundle = text.split("shanty replay ").nth(1).expect(&text).split('`').next().unwrap();
        assert!(Path::new(bundle).is_dir(), "{text}");
        assert!(text.contains("is kept below"), "{text}");
        // A config that is wrong leaves nothing.
        let before = paths(dir.path()).len();
        let (code, text) =
            shanty(dir.path(), &["verify-resume", "c.yaml", "--set", "train_cfg.max_epochs=-1"]);
        assert_eq!((code, paths(dir.path()).len()), (2, before), "{text}");
    }
}

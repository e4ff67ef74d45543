//! Saving beside the training, leaving on request, and one run at a time in a work_dir.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use shanty::base::durable::sibling;
use shanty::base::fs::Disk;
use shanty::checkpoint::{Commit, EMERGENCY, Home, Prune, load};
use shanty::plugin::prelude::*;
use shanty::run::{ExitReason, Interrupt, IterBasedTrainLoop, Limits, Outcome, RunnerBuilder};
use shanty::testing::toy_data;
use shanty::testing::toy_optim;
use shanty::testing::{JudgedDisk, Op, Recorder, Verdict, toy_runner};
use shanty::vis::read_scalars;

fn names(dir: &Path) -> Vec<String> {
    let is_checkpoint = |e: &fs::DirEntry| e.path().join("manifest.json").exists();
    let all = fs::read_dir(dir).unwrap().map(Result::unwrap).filter(is_checkpoint);
    let mut names: Vec<_> = all.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A disk on which no write ends before the gate is open.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn disk(&self) -> JudgedDisk {
        let gate = self.clone();
        JudgedDisk::new(move |op, path, _| {
            // The folder of the logs is written while nobody waits yet.
            if op != Op::Write
                || !path.ancestors().any(|dir| dir.ends_with(sibling("epoch_1".as_ref(), "tmp")))
            {
                return Verdict::Go;
            }
            let open = gate.0.0.lock().unwrap();
            let closed = |open: &mut bool| !*open;
            let (open, _) = gate.0.1.wait_timeout_while(open, Duration::from_secs(60), closed).unwrap();
            if *open { Verdict::Go } else { Verdict::Fail(io::Error::other("nobody opened the gate")) }
        })
    }
}

#[test]
fn training_goes_on_while_a_save_is_under_way_and_events_do_not_depend_on_the_disk() {
    let (slow, fast) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let gate = Gate::default();
    let opener = gate.clone();
    let (recorder, slow_trace) = Recorder::new();
    // The save of epoch 1 is under way until iteration 5 of the run has been trained.
    let mut runner = toy_runner(slow.path(), 2, 3)
        .unwrap()
        .file_system(gate.disk())
        .on(Point::AfterTrainIter, move |cx, _| {
            if cx.progress.iter == 5 {
                opener.open();
            }
            Ok(())
        })
        .hook(recorder)
        .build()
        .unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Finished);
    let (recorder, fast_trace) = Recorder::new();
    let idle = |_: &mut Ctx<'_>, _: &mut Event<'_>| Ok(());
    let fast_run = toy_runner(fast.path(), 2, 3).unwrap().on(Point::AfterTrainIter, idle).hook(recorder);
    fast_run.build().unwrap().train().unwrap();
    assert_eq!(slow_trace.lines(), fast_trace.lines());
    assert_eq!(
        load(&slow.path().join("epoch_2")).unwrap().model,
        load(&fast.path().join("epoch_2")).unwrap().model
    );
}

#[test]
fn a_save_in_the_step_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, trace) = Recorder::new();
    let run = toy_runner(dir.path(), 1, 2).unwrap().async_save(false).hook(recorder);
    run.build().unwrap().train().unwrap();
    let lines = trace.lines();
    let before = lines.iter().position(|l| l.starts_with("before_save_checkpoint")).unwrap();
    assert!(lines[before + 1].starts_with("after_save_checkpoint"), "{lines:?}");
}

#[test]
fn a_second_run_in_a_work_dir_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let refused = Arc::new(Mutex::new(String::new()));
    let noted = Arc::clone(&refused);
    let mut first = toy_runner(dir.path(), 1, 3)
        .unwrap()
        .on(Point::AfterTrainIter, move |cx, _| {
            if cx.progress.iter == 2 {
                let error = toy_runner(&path, 1, 3)?.build()?.train().unwrap_err();
                *noted.lock().unwrap() = error.to_string();
            }
            Ok(())
        })
        .build()
        .unwrap();
    assert_eq!(first.train().unwrap(), Outcome::Finished);
    let refused = refused.lock().unwrap().clone();
    assert!(
        refused.contains(&format!("in use by another run (process {})", std::process::id())),
        "{refused}"
    );
    // Afterwards the folder is free, while the first runner still lives.
    toy_runner(dir.path(), 1, 3).unwrap().overwrite(true).build().unwrap().train().unwrap();
}

/// A run of 20 iterations that saves every 4 and validates every 10.
fn twenty(dir: &Path) -> RunnerBuilder {
    let spec = shanty::registry::Spec::<dyn Hook>::parse(
        "{type: CheckpointHook, interval: 4, by_epoch: false, max_keep_ckpts: 1}",
    );
    let hook = spec.unwrap().build(&mut BuildCx::new(0)).unwrap();
    toy_runner(dir, 1, 5)
        .unwrap()
        .train(toy_data(5, true).unwrap(), IterBasedTrainLoop::new(20).val_interval(10), toy_optim())
        .without_default_hooks()
        .boxed_hook(hook, "CheckpointHook", shanty::hook::HookConfig::default())
}

/// Raises the flag in the given iteration, as a signal would.
fn signalled(dir: &Path, at: u64, signal: usize, resume: bool) -> (RunnerBuilder, Interrupt) {
    let interrupt = Interrupt::default();
    let raise = interrupt.clone();
    let builder = twenty(dir)
        .resume(resume)
        .limits(Limits { interrupt: interrupt.clone(), ..Limits::default() })
        .on(Point::AfterBackward, move |cx, _| {
            if cx.progress.iter + 1 == at {
                match signal {
                    0 => raise.save.store(true, Ordering::Relaxed),
                    n => raise.signal.store(n, Ordering::Relaxed),
                }
            }
            Ok(())
        });
    (builder, interrupt)
}

fn last_model(dir: &Path) -> Vec<u8> {
    fs::read(dir.join("iter_20/model.safetensors")).unwrap()
}

/// SIG-01: at any iteration, also one that is saved or validated anyway.
#[test]
fn a_signal_ends_the_run_at_the_step_with_one_checkpoint_that_resumes() {
    let whole = tempfile::tempdir().unwrap();
    twenty(whole.path()).build().unwrap().train().unwrap();
    for (at, signal, code) in [(1, 15, 143), (7, 15, 143), (8, 2, 130), (10, 15, 143), (20, 2, 130)] {
        let dir = tempfile::tempdir().unwrap();
        let mut runner = signalled(dir.path(), at, signal, false).0.build().unwrap();
        let outcome = runner.train().unwrap();
        assert_eq!(outcome, Outcome::Interrupted(ExitReason::Signal(signal)));
        assert_eq!(ExitReason::Signal(signal).exit_code(), code);
        let mut expected = vec![format!("iter_{at}")];
        if at > 4 && at % 4 != 0 {
            expected.push(format!("iter_{}", at / 4 * 4));
        }
        expected.sort();
        assert_eq!(names(dir.path()), expected, "one checkpoint of iteration {at}, written once");
        assert_eq!(load(&dir.path().join(format!("iter_{at}"))).unwrap().meta.iter, at);
        twenty(dir.path()).resume(true).build().unwrap().train().unwrap();
        assert_eq!(last_model(dir.path()), last_model(whole.path()), "left at {at}");
        assert_eq!(names(dir.path()), ["iter_20"], "the checkpoint of the leave is replaced");
    }
}

#[test]
fn asked_to_save_a_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let mut runner = signalled(dir.path(), 6, 0, false)
        .0
        .on(Point::AfterSaveCheckpoint, move |_, event| {
            if let Event::AfterSaveCheckpoint(saved) = event {
                noted.lock().unwrap().push(saved.path.file_name().unwrap().to_string_lossy().into_owned());
            }
            Ok(())
        })
        .build()
        .unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Finished);
    assert_eq!(*seen.lock().unwrap(), ["iter_4", "iter_6", "iter_8", "iter_12", "iter_16", "iter_20"]);
    assert_eq!(names(dir.path()), ["iter_20"]);
}

#[test]
fn limits_end_a_run_with_a_code_of_their_own() {
    // A second each time the timer is read.
    let dir = tempfile::tempdir().unwrap();
    let mut now = 0.0;
    let timer = move || {
        now += 1.0;
        now
    };
    let limits = Limits { max_seconds: Some(50.0), ..Limits::default() };
    let mut runner = twenty(dir.path()).timer(timer).limits(limits).build().unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Interrupted(ExitReason::TimeUp));
    let at = runner.session().state.progress.iter;
    assert!(at > 1 && at < 20, "{at}");
    assert!(names(dir.path()).contains(&format!("iter_{at}")));
    assert_eq!(ExitReason::TimeUp.exit_code(), 75);

    let dir = tempfile::tempdir().unwrap();
    let stop_file = dir.path().join("stop");
    let limits = Limits { stop_file: Some(stop_file.clone()), ..Limits::default() };
    let touch = stop_file.clone();
    let mut runner = twenty(dir.path())
        .limits(limits.clone())
        .on(Point::AfterTrainIter, move |cx, _| {
            if cx.progress.iter == 3 {
                fs::write(&touch, "")?;
            }
            Ok(())
        })
        .build()
        .unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Interrupted(ExitReason::StopFile(stop_file)));
    assert_eq!(names(dir.path()), ["iter_3"]);
    let error = twenty(dir.path()).limits(limits).build().unwrap().train().unwrap_err();
    assert!(error.to_string().contains("remove it to start"), "{error}");
    assert_eq!(error.exit_code(), 2);
}

/// The folder of the checkpoints may be another than the work_dir; a crash between its two renames hides nothing.
#[test]
fn a_checkpoint_that_had_stepped_aside_elsewhere_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (work, out) = (dir.path().join("work"), dir.path().join("out"));
    let builder = |epochs, resume| {
        let yaml = format!("{{type: CheckpointHook, out_dir: {}}}", out.display());
        let spec = shanty::registry::Spec::<dyn Hook>::parse(&yaml).unwrap();
        let hook = spec.build(&mut BuildCx::new(0)).unwrap();
        toy_runner(&work, epochs, 3).unwrap().without_default_hooks().resume(resume).boxed_hook(
            hook,
            "CheckpointHook",
            shanty::hook::HookConfig::default(),
        )
    };
    builder(1, false).build().unwrap().train().unwrap();
    let home = out.join("work/epoch_1");
    fs::rename(&home, sibling(&home, "old")).unwrap();
    let mut runner = builder(2, true).build().unwrap();
    runner.train().unwrap();
    assert_eq!(runner.session().state.progress.iter, 6);
    assert!(home.exists());
}

#[test]
fn when_every_checkpoint_is_refused_nothing_is_started_over() {
    let dir = tempfile::tempdir().unwrap();
    twenty(dir.path()).build().unwrap().train().unwrap();
    fs::write(dir.path().join("iter_20/state.json"), "{").unwrap();
    let error = twenty(dir.path()).resume(true).build().unwrap().train().unwrap_err().to_string();
    assert!(
        error.contains("no checkpoint can be resumed") && error.contains("`state.json` is damaged"),
        "{error}"
    );
}

/// LOG-04 and a torn line: the scalars of a run that was cut and resumed have each step once.
#[test]
fn no_step_is_logged_twice() {
    let dir = tempfile::tempdir().unwrap();
    let every_step = |resume| {
        let spec =
            shanty::registry::Spec::<dyn Hook>::parse("{type: CheckpointHook, interval: 4, by_epoch: false}");
        let hook = spec.unwrap().build(&mut BuildCx::new(0)).unwrap();
        toy_runner(dir.path(), 1, 5)
            .unwrap()
            .train(toy_data(5, true).unwrap(), IterBasedTrainLoop::new(20).val_interval(10), toy_optim())
            .without_default_hooks()
            .boxed_hook(hook, "CheckpointHook", shanty::hook::HookConfig::default())
            .resume(resume)
            .on(Point::AfterTrainIter, |cx, _| {
                let loss = if cx.progress.iter == 2 { f64::NAN } else { 0.5 };
                cx.vis.add_scalars(&[("loss", loss)], cx.progress.iter);
                Ok(())
            })
    };
    let killed = |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
        if cx.progress.iter == 11 { Err("killed".into()) } else { Ok(()) }
    };
    let mut first = every_step(false).on(Point::BeforeTrainIter, killed).build().unwrap();
    first.train().unwrap_err();
    let scalars = first.session().state.dirs.log.join("vis_data/scalars.json");
    let mut torn = fs::read(&scalars).unwrap();
    torn.extend(b"{\"loss\": 0.");
    fs::write(&scalars, torn).unwrap();
    assert_eq!(read_scalars(&scalars).unwrap().len(), 11);
    let mut second = every_step(true).build().unwrap();
    second.train().unwrap();
    let lines = read_scalars(&second.session().state.dirs.log.join("vis_data/scalars.json")).unwrap();
    let of = |name: &str| -> Vec<f64> {
        lines.iter().flatten().filter(|(n, _)| n == name).map(|(_, v)| *v).collect()
    };
    assert_eq!(of("step"), (1..=20).map(f64::from).collect::<Vec<_>>());
    assert!(of("loss")[1].is_nan());
}

/// A signal after a rollback writes the checkpoint of its iteration anew: the next save must not give it up.
#[test]
fn a_planned_checkpoint_that_a_signal_writes_anew_stays_planned() {
    let dir = tempfile::tempdir().unwrap();
    toy_runner(dir.path(), 1, 2).unwrap().build().unwrap().train().unwrap();
    let checkpoint = load(&dir.path().join("epoch_1")).unwrap();
    let commit = |name, series, prune: &[Prune]| {
        let (fs, out_dir) = (&Disk, dir.path());
        let home = &Home { dir: dir.path().to_owned(), ..Home::default() };
        Commit { fs, out_dir, name, home, series, is_last: true, prune }.run(&checkpoint).unwrap();
    };
    commit("iter_2", "iter_{}", &[]);
    commit("iter_2", EMERGENCY, &[]);
    commit("iter_3", EMERGENCY, &[]);
    let unplanned = Prune { dir: dir.path().to_owned(), series: EMERGENCY.to_owned(), keep: 0 };
    commit("iter_4", "iter_{}", &[unplanned]);
    assert_eq!(names(dir.path()), ["epoch_1", "iter_2", "iter_4"]);
}

/// The weights are in place when the event log turns out to be unwritable: nothing was learned, so nothing is kept.
#[test]
fn a_resume_that_fails_leaves_no_emergency_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    toy_runner(dir.path(), 2, 2).unwrap().build().unwrap().train().unwrap();
    let before = names(dir.path());
    let disk = JudgedDisk::new(|op, path, _| {
        let refuses = op == Op::Append && path.ends_with("vis_data/events.jsonl");
        if refuses { Verdict::Fail(io::Error::other("injected")) } else { Verdict::Go }
    });
    let resumed = toy_runner(dir.path(), 3, 2).unwrap().resume(true).file_system(disk).build();
    let error = resumed.unwrap().train().unwrap_err().to_string();
    assert!(error.contains("events.jsonl"), "{error}");
    assert_eq!(names(dir.path()), before);
}

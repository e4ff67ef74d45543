//! A run that cannot be lost: kills between two operations, damaged and missing files, failures after progress.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use shanty::base::durable::sibling;
use shanty::plugin::prelude::*;
use shanty::run::{Background, Interrupt, Limits, Outcome, RunnerBuilder, Task};
use shanty::testing::{JudgedDisk, Op, Scripted, Verdict, toy_data, toy_runner};

/// A run whose only saver is this CheckpointHook.
fn run(dir: &Path, epochs: u64, yaml: &str) -> RunnerBuilder {
    let run = toy_runner(dir, epochs, 3).unwrap().without_default_hooks();
    run.hook_yaml(&format!("{{type: CheckpointHook, {yaml}}}")).unwrap()
}

fn train(run: RunnerBuilder) -> Result<u64> {
    let mut runner = run.build()?;
    runner.train()?;
    Ok(runner.session().state.progress.iter)
}

fn refused(run: RunnerBuilder) -> String {
    train(run).unwrap_err().to_string()
}

/// The log of the run whose folder has the last stamp.
fn log(dir: &Path) -> String {
    let stamped = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut stamped: Vec<_> = stamped.filter(|p| p.join("vis_data").exists()).collect();
    stamped.sort_by_key(|p| fs::metadata(p).unwrap().modified().unwrap());
    let last = stamped.last().unwrap();
    fs::read_to_string(last.join(format!("{}.log", last.file_name().unwrap().to_string_lossy()))).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let is_checkpoint = |e: &fs::DirEntry| e.path().join("manifest.json").exists();
    let all = fs::read_dir(dir).unwrap().map(Result::unwrap).filter(is_checkpoint);
    let mut names: Vec<_> = all.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn model(home: &Path) -> Vec<u8> {
    fs::read(home.join("model.safetensors")).unwrap()
}

/// A disk that dies when it is asked for this operation for the n-th time.
fn dies_at(op: Op, part: &'static str, n: u64) -> JudgedDisk {
    let (seen, dead) = (AtomicU64::new(0), AtomicBool::new(false));
    JudgedDisk::new(move |what, path, _| {
        let hit = what == op && path.to_string_lossy().contains(part);
        if hit && seen.fetch_add(1, Ordering::SeqCst) + 1 == n {
            dead.store(true, Ordering::SeqCst);
        }
        if dead.load(Ordering::SeqCst) { Verdict::Fail(io::Error::other("dead")) } else { Verdict::Go }
    })
}

/// A process that died between moving the pointer and deleting what retention gives up: the next save makes up for it,
/// for periodic and for best checkpoints.
#[test]
fn retention_holds_after_a_death_at_any_deletion() {
    let scripted = |dir: &Path, epochs, resume| {
        let values: Vec<f64> = (0..9).map(|i| 0.1 * f64::from(i)).collect();
        run(dir, epochs, "max_keep_ckpts: 2, save_best: acc, rule: greater")
            .val(toy_data(1, false).unwrap(), Scripted::new("acc", &values))
            .resume(resume)
    };
    for (op, part) in
        [(Op::Rename, "/epoch_1"), (Op::Remove, ".shanty-del-epoch_1"), (Op::Rename, "/best_acc_epoch_1")]
    {
        let dir = tempfile::tempdir().unwrap();
        let _ = train(scripted(dir.path(), 4, false).file_system(dies_at(op, part, 1)));
        assert!(names(dir.path()).len() > 2, "{part}: something was left over: {:?}", names(dir.path()));
        train(scripted(dir.path(), 6, true)).unwrap();
        assert_eq!(names(dir.path()), ["best_acc_epoch_6", "epoch_5", "epoch_6"], "{part}");
    }
}

/// Each damaged checkpoint is named with its reason, and where none can be read nothing is started over; with and
/// without the pointer, whatever file is damaged in whatever way.
#[test]
fn a_damaged_checkpoint_is_named_and_never_passed_over() {
    let damages: [(&str, fn(&Path)); 9] = [
        ("truncated", |file| fs::write(file, "{").unwrap()),
        ("empty", |file| fs::write(file, "").unwrap()),
        ("deleted", |file| fs::remove_file(file).unwrap()),
        ("a directory", |file| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        }),
        ("a pipe", |file| {
            fs::remove_file(file).unwrap();
            assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
        }),
        ("a device", |file| {
            fs::remove_file(file).unwrap();
            std::os::unix::fs::symlink("/dev/zero", file).unwrap();
        }),
        ("a loop of links", |file| {
            fs::remove_file(file).unwrap();
            std::os::unix::fs::symlink(file, file).unwrap();
        }),
        ("a dangling link", |file| {
            fs::remove_file(file).unwrap();
            std::os::unix::fs::symlink("nowhere", file).unwrap();
        }),
        ("huge", |file| fs::File::options().write(true).open(file).unwrap().set_len(1 << 40).unwrap()),
    ];
    for file in ["manifest.json", "state.json", "model.safetensors", "optimizer.safetensors"] {
        for (what, damage) in damages {
            for pointer in [true, false] {
                let dir = tempfile::tempdir().unwrap();
                train(run(dir.path(), 2, "")).unwrap();
                if !pointer {
                    fs::remove_file(dir.path().join("last_checkpoint")).unwrap();
                }
                let case = format!("{file} is {what}, pointer {pointer}");
                damage(&dir.path().join("epoch_2").join(file));
                let (from, other) = (dir.path().join("epoch_1"), tempfile::tempdir().unwrap());
                // The older one is taken, and the newer one named.
                fs::rename(&from, other.path().join("epoch_1")).unwrap();
                let error = refused(run(dir.path(), 3, "").resume(true));
                assert!(
                    error.contains("no checkpoint can be resumed") && error.contains("epoch_2"),
                    "{case}: {error}"
                );
                fs::rename(other.path().join("epoch_1"), from).unwrap();
                assert_eq!(train(run(dir.path(), 3, "").resume(true)).unwrap(), 9, "{case}");
                let log = log(dir.path());
                assert!(log.contains("WARNING - refused") && log.contains("epoch_2"), "{case}: {log}");
                assert!(log.contains("epoch_1: epoch 1, iteration 3"), "{case}: {log}");
            }
        }
    }
}

/// Weights are verified wherever they are taken from a checkpoint: by its directory or by the file in it.
#[test]
fn weights_of_a_damaged_checkpoint_are_refused_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    train(run(dir.path(), 1, "")).unwrap();
    let home = dir.path().join("epoch_1");
    let load = |path: &Path| {
        let scratch = tempfile::tempdir().unwrap();
        run(scratch.path(), 1, "").load_from(path).build().unwrap().val().map(drop)
    };
    for path in [home.clone(), home.join("model.safetensors")] {
        load(&path).unwrap();
    }
    let file = home.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    for path in [home.clone(), file] {
        assert!(
            load(&path).unwrap_err().to_string().contains("`model.safetensors` is damaged"),
            "{}",
            path.display()
        );
    }
    fs::remove_file(home.join("manifest.json")).unwrap();
    assert!(load(&home).unwrap_err().to_string().contains("it has no `manifest.json`"));
}

/// A folder of checkpoints elsewhere in all its spellings; the pointer may be lost, and the work_dir a link.
#[test]
fn checkpoints_elsewhere_are_found_however_the_folder_is_spelled() {
    let root = tempfile::tempdir_in(".").unwrap();
    let relative = Path::new(root.path().file_name().unwrap()).to_owned();
    let absolute = root.path().canonicalize().unwrap();
    std::os::unix::fs::symlink(&absolute, absolute.join("link")).unwrap();
    let spell = |dir: &Path| format!("out_dir: {}", dir.display());
    let all = [
        spell(&relative.join("out")),
        spell(&Path::new(".").join(&relative).join("out")),
        format!("{}/", spell(&relative.join("out"))),
        spell(&relative.join("link/out")),
        spell(&absolute.join("out")),
    ];
    for (index, first) in all.iter().enumerate() {
        for second in &all {
            for pointer in [true, false] {
                let work = absolute.join(format!("work_{index}"));
                for dir in [work.clone(), absolute.join("out")] {
                    let _ = fs::remove_dir_all(dir);
                }
                assert_eq!(train(run(&work, 1, first)).unwrap(), 3);
                if !pointer {
                    fs::remove_file(work.join("last_checkpoint")).unwrap();
                }
                let linked = absolute.join("link").join(work.file_name().unwrap());
                let mut runner = run(&linked, 2, second).resume(true).build().unwrap();
                runner.train().unwrap();
                let log = log(&work);
                assert!(
                    log.contains("resumed") && log.contains("epoch 1, iteration 3"),
                    "{first}, {second}: {log}"
                );
            }
        }
    }
}

/// A failure after progress leaves a checkpoint that says what it is, from which the run goes on to the same end.
#[test]
fn a_failure_after_progress_leaves_an_emergency_checkpoint() {
    let whole = tempfile::tempdir().unwrap();
    train(run(whole.path(), 3, "interval: 3")).unwrap();
    let points = [
        (Point::BeforeVal, 2, 3),
        (Point::AfterValEpoch, 2, 6),
        (Point::AfterTrainEpoch, 2, 6),
        (Point::BeforeTrainIter, 4, 4),
        (Point::AfterTrainIter, 5, 5),
    ];
    for (point, at, saved) in points {
        let dir = tempfile::tempdir().unwrap();
        let fails = move |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
            let unit = if matches!(point, Point::BeforeTrainIter | Point::AfterTrainIter) {
                cx.progress.iter
            } else {
                cx.progress.epoch
            };
            if unit == at || point == Point::BeforeVal { Err("a corrupt picture".into()) } else { Ok(()) }
        };
        let error = refused(run(dir.path(), 3, "interval: 3").on(point, fails));
        assert!(error.contains("a corrupt picture"), "{error}");
        let name = format!("emergency_iter_{saved}");
        assert_eq!(names(dir.path()).join(" "), name, "{point:?}");
        assert!(
            log(dir.path()).contains(&format!("emergency checkpoint {name}: `--resume` goes on from it"))
        );
        train(run(dir.path(), 3, "interval: 3").resume(true).on(point, |_, _| Ok(()))).unwrap();
        assert_eq!(names(dir.path()), ["epoch_3"], "the next planned one replaces it");
        if point != Point::BeforeTrainIter && point != Point::AfterTrainIter {
            assert_eq!(model(&dir.path().join("epoch_3")), model(&whole.path().join("epoch_3")), "{point:?}");
        }
    }
}

#[test]
fn weights_that_are_not_finite_are_not_kept_in_an_emergency() {
    let dir = tempfile::tempdir().unwrap();
    let spoil = |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
        if cx.progress.iter < 5 {
            return Ok(());
        }
        cx.model.edit(Set::Values, &shanty::params::all, &mut |_, mut value| value.fill(Elem::NAN))?;
        Err("gone".into())
    };
    refused(run(dir.path(), 3, "").on(Point::AfterTrainIter, spoil));
    assert_eq!(names(dir.path()), ["epoch_1"]);
    assert!(log(dir.path()).contains("no emergency checkpoint: there are weights that are not finite"));
}

/// A second training in one work_dir says so, with the remedies; each of them works.
#[test]
fn training_twice_into_one_work_dir_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    train(run(dir.path(), 2, "")).unwrap();
    let before = model(&dir.path().join("epoch_2"));
    let error = train(run(dir.path(), 1, "")).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    for remedy in ["--resume", "--overwrite", "--work-dir", "epoch_1, epoch_2"] {
        assert!(error.to_string().contains(remedy), "{error}");
    }
    assert_eq!(error.to_string().lines().count(), 1);
    assert_eq!(model(&dir.path().join("epoch_2")), before);
    assert_eq!(train(run(dir.path(), 3, "").resume(true)).unwrap(), 9);
    train(run(dir.path(), 1, "").overwrite(true)).unwrap();
    assert_eq!(names(dir.path()), ["epoch_1"], "nothing of the old run is left");
}

/// A run that began anew and died at any operation before its first save: a resume never takes the old run's weights.
#[test]
fn a_new_run_that_died_early_does_not_become_the_old_one() {
    let dies: [(Op, &str); 6] = [
        (Op::Rename, "/epoch_1"),
        (Op::Remove, ".shanty-del-epoch_1"),
        (Op::Rename, "/epoch_2"),
        (Op::Remove, "last_checkpoint"),
        (Op::Remove, ".shanty-del-epoch_2"),
        (Op::CreateDir, ".shanty-tmp-epoch_1"),
    ];
    for (op, part) in dies {
        let dir = tempfile::tempdir().unwrap();
        train(run(dir.path(), 2, "")).unwrap();
        let _ = train(run(dir.path(), 4, "").seed(7).overwrite(true).file_system(dies_at(op, part, 1)));
        let mut again = run(dir.path(), 4, "").seed(7).resume(true).build().unwrap();
        match again.train() {
            Ok(_) => assert!(log(dir.path()).contains("starting from the beginning"), "{part}"),
            Err(error) => assert!(error.to_string().contains("it is of another run"), "{part}: {error}"),
        }
    }
}

/// An old checkpoint that cannot be deleted is told once and tried again; the run and every later start go on.
#[test]
fn an_old_checkpoint_that_cannot_be_deleted_is_no_end() {
    let deleted = sibling(Path::new("epoch_1"), "del");
    for stubborn in [Path::new("epoch_1"), &deleted].map(Path::to_owned) {
        let dir = tempfile::tempdir().unwrap();
        let (what, aside) = (stubborn.display().to_string(), stubborn == deleted);
        let refuses = JudgedDisk::new(move |op, path, _| {
            let old = path.ends_with(&stubborn);
            let deletes = if aside { op == Op::Remove && path.exists() } else { op == Op::Rename };
            if old && deletes { Verdict::Fail(io::ErrorKind::PermissionDenied.into()) } else { Verdict::Go }
        });
        assert_eq!(train(run(dir.path(), 4, "max_keep_ckpts: 1").file_system(refuses.clone())).unwrap(), 12);
        assert_eq!(log(dir.path()).matches("the next one tries again").count(), 1, "{what}");
        assert_eq!(
            train(run(dir.path(), 5, "max_keep_ckpts: 1").resume(true).file_system(refuses)).unwrap(),
            15
        );
        train(run(dir.path(), 6, "max_keep_ckpts: 1").resume(true)).unwrap();
        assert_eq!(names(dir.path()), ["epoch_6"], "when it can be deleted it is");
    }
}

/// Nobody runs anything for it: as where a process may have no more threads.
struct NoThread;

impl Background for NoThread {
    fn start(&mut self, _: Task) -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    fn is_done(&mut self) -> bool {
        true
    }
    fn wait(&mut self) {}
}

#[test]
fn without_a_thread_a_save_is_done_in_the_step() {
    let dir = tempfile::tempdir().unwrap();
    train(run(dir.path(), 2, "").save_on(NoThread)).unwrap();
    assert_eq!(names(dir.path()), ["epoch_1", "epoch_2"]);
    assert!(log(dir.path()).contains("WARNING - no thread is to be had for the save"));
}

/// Runs a save when it is waited for, no sooner: a test decides when.
#[derive(Default)]
struct Later(Option<Task>);

impl Background for Later {
    fn start(&mut self, task: Task) -> io::Result<()> {
        self.0 = Some(task);
        Ok(())
    }
    fn is_done(&mut self) -> bool {
        self.0.is_none()
    }
    fn wait(&mut self) {
        if let Some(task) = self.0.take() {
            task();
        }
    }
}

#[test]
fn a_save_may_be_run_as_late_as_it_is_waited_for() {
    let (dir, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    train(run(dir.path(), 3, "").save_on(Later::default())).unwrap();
    train(run(whole.path(), 3, "")).unwrap();
    assert_eq!(names(dir.path()), names(whole.path()));
    assert_eq!(model(&dir.path().join("epoch_3")), model(&whole.path().join("epoch_3")));
}

/// A save that someone asked for (SIGUSR1) may fail; the run goes on, and what comes later is saved.
#[test]
fn a_save_that_was_asked_for_may_fail() {
    let dir = tempfile::tempdir().unwrap();
    let interrupt = Interrupt::default();
    let raise = interrupt.clone();
    let full = JudgedDisk::new(|op, path, _| match op {
        Op::Write if path.to_string_lossy().contains("iter_4") => {
            Verdict::Torn(9, io::ErrorKind::StorageFull.into())
        }
        _ => Verdict::Go,
    });
    let mut runner = run(dir.path(), 2, "")
        .file_system(full)
        .limits(Limits { interrupt, ..Limits::default() })
        .on(Point::AfterTrainIter, move |cx, _| {
            raise.save.store(cx.progress.iter == 4, Ordering::Relaxed);
            Ok(())
        })
        .build()
        .unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Finished);
    assert_eq!(names(dir.path()), ["epoch_1", "epoch_2"]);
    assert!(log(dir.path()).contains("the save that was asked for failed, the run goes on"));
}

/// What the pointer names is ignored if it is not the run's, and told; a pipe in its place is refused, and does not
/// block.
#[test]
fn a_pointer_elsewhere_is_refused_with_a_warning() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    train(run(other.path(), 5, "")).unwrap();
    train(run(dir.path(), 2, "")).unwrap();
    let pointer = dir.path().join("last_checkpoint");
    let elsewhere = other.path().join("epoch_5").to_string_lossy().into_owned();
    for (epochs, text) in [(3, &*elsewhere), (4, "../x/epoch_5")] {
        fs::write(&pointer, text).unwrap();
        assert_eq!(train(run(dir.path(), epochs, "").resume(true)).unwrap(), epochs * 3);
        let refusals = log(dir.path()).matches("WARNING - refused").count();
        assert_eq!(refusals, 1, "the newest log, after {text}");
    }
    fs::remove_file(&pointer).unwrap();
    assert!(Command::new("mkfifo").arg(&pointer).status().unwrap().success());
    assert!(refused(run(dir.path(), 5, "").resume(true)).contains("move it away"));
    fs::remove_file(&pointer).unwrap();
    assert_eq!(train(run(dir.path(), 5, "").resume(true)).unwrap(), 15);
}

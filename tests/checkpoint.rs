//! Checkpoints: retention, best, and that nothing is lost whatever fails.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::fs;
use std::path::Path;

use shanty::base::fs::Disk;
use shanty::checkpoint::{Folders, load, newest, recover};
use shanty::plugin::prelude::*;
use shanty::registry::Spec;
use shanty::run::{Outcome, RunnerBuilder};
use shanty::testing::{FaultyDisk, Op, Scripted, toy_data, toy_runner};

/// A run whose only saver is this CheckpointHook.
fn with_hook(dir: &Path, epochs: u64, yaml: &str) -> RunnerBuilder {
    let run = toy_runner(dir, epochs, 3).unwrap().without_default_hooks();
    run.hook_yaml(&format!("{{type: CheckpointHook, {yaml}}}")).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let is_checkpoint = |e: &fs::DirEntry| e.path().join("manifest.json").exists();
    let all = fs::read_dir(dir).unwrap().map(Result::unwrap).filter(is_checkpoint);
    let mut names: Vec<_> = all.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn save_last_whatever_the_interval() {
    // CKP-07
    let cases: [(u64, &str, &[&str]); 3] = [
        (5, "interval: 2", &["epoch_2", "epoch_4", "epoch_5"]),
        (2, "interval: 4, by_epoch: false", &["iter_4", "iter_6"]),
        (3, "interval: -1, save_last: false", &[]),
    ];
    for (epochs, yaml, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        with_hook(dir.path(), epochs, yaml).build().unwrap().train().unwrap();
        assert_eq!(names(dir.path()), expected, "{yaml}");
    }
}

#[test]
fn a_stopped_run_is_saved_where_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let stop = |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
        if cx.progress.epoch == 3 {
            cx.stop("early");
        }
        Ok(())
    };
    let mut runner =
        with_hook(dir.path(), 9, "interval: 2").on(Point::AfterTrainEpoch, stop).build().unwrap();
    assert!(matches!(runner.train().unwrap(), Outcome::Stopped(_)));
    assert_eq!(names(dir.path()), ["epoch_2", "epoch_3"]);
}

#[test]
fn retention_follows_the_template() {
    // CKP-02
    let dir = tempfile::tempdir().unwrap();
    let yaml = "interval: 1, max_keep_ckpts: 2, filename_tmpl: 'model_{}.ckpt'";
    with_hook(dir.path(), 4, yaml).build().unwrap().train().unwrap();
    assert_eq!(names(dir.path()), ["model_3.ckpt", "model_4.ckpt"]);
    assert_eq!(fs::read_to_string(dir.path().join("last_checkpoint")).unwrap(), "model_4.ckpt");
}

#[test]
fn nonsense_is_refused() {
    for (yaml, says) in [
        ("interval: 0", "interval"),
        ("max_keep_ckpts: 0", "max_keep_ckpts"),
        ("filename_tmpl: model.ckpt", "filename_tmpl"),
        ("save_best: [auto, loss]", "auto"),
        ("save_best: fid", "rule"),
        ("save_best: [acc, acc]", "twice"),
        ("interval: -2", "interval"),
    ] {
        let spec = Spec::<dyn Hook>::parse(&format!("{{type: CheckpointHook, {yaml}}}"));
        let error = spec
            .map_err(Error::from)
            .and_then(|s| s.build(&mut BuildCx::new(0)))
            .err()
            .map(|e| e.to_string());
        assert!(error.as_ref().is_some_and(|e| e.contains(says)), "{yaml}: {error:?}");
    }
}

/// A run whose validations give these values of `acc` in turn.
fn scripted(dir: &Path, epochs: u64, yaml: &str, values: &[f64]) -> RunnerBuilder {
    with_hook(dir, epochs, yaml)
        .sanity_check(false)
        .val(toy_data(1, false).unwrap(), Scripted::new("acc", values))
}

fn best_of(yaml: &str, values: &[f64]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let yaml = format!("interval: -1, save_last: false, save_best: acc, {yaml}");
    scripted(dir.path(), values.len() as u64, &yaml, values).build().unwrap().train().unwrap();
    names(dir.path())
}

#[test]
fn nan_and_infinity_are_never_best() {
    // CKP-04
    let nan = f64::NAN;
    assert_eq!(best_of("rule: greater", &[nan, 0.5, 0.5, nan, 0.6]), ["best_acc_epoch_5"]);
    assert_eq!(best_of("rule: greater", &[nan, 0.5, 0.5, nan]), ["best_acc_epoch_2"]);
    assert_eq!(best_of("rule: less", &[nan, 1.0, nan, 0.9]), ["best_acc_epoch_4"]);
    assert_eq!(best_of("rule: greater", &[0.5, f64::INFINITY, 0.4]), ["best_acc_epoch_1"]);
    assert!(best_of("rule: greater", &[nan, nan]).is_empty());
}

#[test]
fn the_best_score_survives_a_resume() {
    // CKP-01: 0.70, 0.80, stop, resume, 0.75, 0.90. The checkpoint of epoch 2 is older than its validation, so the
    // resumed run validates epoch 2 once more.
    let dir = tempfile::tempdir().unwrap();
    let yaml = "interval: 1, save_best: acc";
    scripted(dir.path(), 2, yaml, &[0.7, 0.8]).build().unwrap().train().unwrap();
    let mut runner = scripted(dir.path(), 3, yaml, &[0.8, 0.75]).resume(true).build().unwrap();
    runner.train().unwrap();
    let best = |names: Vec<String>| names.into_iter().filter(|n| n.starts_with("best")).collect::<Vec<_>>();
    assert_eq!(best(names(dir.path())), ["best_acc_epoch_2"]);
    scripted(dir.path(), 4, yaml, &[0.75, 0.9]).resume(true).build().unwrap().train().unwrap();
    assert_eq!(best(names(dir.path())), ["best_acc_epoch_4"]);
}

#[test]
fn a_best_that_someone_deleted_is_no_error() {
    // CKP-11
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let delete = move |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
        if cx.progress.epoch == 1 {
            fs::remove_dir_all(root.join("best_acc_epoch_1"))?;
        }
        Ok(())
    };
    // Saved in the step, so that the best of epoch 1 is there to be deleted.
    let mut runner = scripted(dir.path(), 2, "save_best: acc", &[0.5, 0.6])
        .async_save(false)
        .on(Point::BeforeTrainEpoch, delete)
        .build()
        .unwrap();
    runner.train().unwrap();
    assert!(names(dir.path()).contains(&"best_acc_epoch_2".to_owned()));
}

#[test]
fn another_runs_files_are_not_touched() {
    // CKP-05
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    with_hook(a.path(), 3, "max_keep_ckpts: 1").build().unwrap().train().unwrap();
    let before = fs::read(a.path().join("epoch_3/state.json")).unwrap();
    let from = a.path().join("epoch_3");
    let mut runner =
        with_hook(b.path(), 5, "max_keep_ckpts: 1").load_from(from).resume(true).build().unwrap();
    runner.train().unwrap();
    assert_eq!(names(a.path()), ["epoch_3"]);
    assert_eq!(fs::read(a.path().join("epoch_3/state.json")).unwrap(), before);
    assert_eq!(names(b.path()), ["epoch_5"]);
}

#[test]
fn the_pointer_survives_a_move_and_a_deletion() {
    // CKP-10
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    with_hook(&old, 3, "interval: 1").build().unwrap().train().unwrap();
    fs::rename(&old, &new).unwrap();
    let found = newest(&Disk, &Folders::of(&new), None).unwrap();
    assert_eq!(found.checkpoint.unwrap().0, new.join("epoch_3"));
    fs::remove_dir_all(new.join("epoch_3")).unwrap();
    let found = newest(&Disk, &Folders::of(&new), None).unwrap();
    assert_eq!(found.checkpoint.unwrap().0, new.join("epoch_2"));
    assert!(found.refused[0].contains("epoch_3"), "{:?}", found.refused);
}

#[test]
fn a_damaged_file_is_named_and_the_next_checkpoint_taken() {
    let dir = tempfile::tempdir().unwrap();
    with_hook(dir.path(), 2, "interval: 1").build().unwrap().train().unwrap();
    let file = dir.path().join("epoch_2/model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    assert!(
        load(&dir.path().join("epoch_2")).unwrap_err().to_string().contains("`model.safetensors` is damaged")
    );
    let found = newest(&Disk, &Folders::of(dir.path()), None).unwrap();
    assert_eq!(found.checkpoint.unwrap().0, dir.path().join("epoch_1"));
    assert!(found.refused[0].contains("epoch_2"));
}

/// CKP-08 and its kin: the disk stops at every operation of a run in turn, a write after 0, 1, 100 and all of its
/// bytes. What is left loads, and the run that resumes from it ends like the one whose disk never stopped.
fn stop_at_every_operation(yaml: &str) {
    let model = |dir: &Path| fs::read(dir.join("epoch_3/model.safetensors")).unwrap();
    let whole = tempfile::tempdir().unwrap();
    let counting = FaultyDisk::counting();
    with_hook(whole.path(), 3, yaml).file_system(counting.disk()).build().unwrap().train().unwrap();
    let all = counting.list();
    // Before an old checkpoint's files go, its new name is synced. (Where a write follows, the pointer is moved.)
    let deletes = |at: u64| {
        let mut next = all.iter().skip(at as usize);
        next.next() == Some(&Op::Remove) && next.next() != Some(&Op::Write)
    };
    let points = all.iter().copied().zip(1..).flat_map(|(op, at)| {
        let partial: &[usize] = if op == Op::Write { &[0, 1, 100, usize::MAX] } else { &[0] };
        partial.iter().map(move |bytes| (op, at, *bytes))
    });
    let mut count = 0;
    for (op, at, partial) in points {
        let dir = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::stopping_at(at, partial);
        let run = with_hook(dir.path(), 3, yaml).file_system(disk.disk()).build();
        let ended = run.and_then(|mut run| run.train());
        let forgiven = [Op::Append, Op::Rename, Op::Remove].contains(&op) || (op == Op::Sync && deletes(at));
        let at = format!("{op:?}, operation {at}, {partial} bytes");
        match ended {
            Err(error) => assert!(error.to_string().contains("injected"), "{at}: {error}"),
            // A line of the log is lost, or an old checkpoint stays.
            Ok(_) => assert!(forgiven, "{at}"),
        }
        let committed = dir.path().join("last_checkpoint").exists();
        let found = newest(&Disk, &Folders::of(dir.path()), None).unwrap();
        assert!(found.checkpoint.is_some() || !committed, "{at}: {:?}", found.refused);
        recover(&Disk, dir.path(), None).unwrap();
        for name in names(dir.path()) {
            load(&dir.path().join(&name)).unwrap_or_else(|e| panic!("{at}: {name} does not load: {e}"));
        }
        with_hook(dir.path(), 3, yaml).resume(true).build().unwrap().train().unwrap();
        assert_eq!(model(dir.path()), model(whole.path()), "{at}");
        let hidden = |e: &fs::DirEntry| e.file_name().to_string_lossy().starts_with(['.']);
        let left = fs::read_dir(dir.path()).unwrap().map(Result::unwrap).filter(hidden).count();
        assert_eq!(left, 2, "{at}: only the lock and the owner are left");
        count += 1;
    }
    eprintln!("{yaml}: {count} points, 0 lost");
}

#[test]
fn an_intact_checkpoint_is_left_wherever_the_disk_stops_keeping_one() {
    stop_at_every_operation("max_keep_ckpts: 1, save_best: accuracy/top1");
}

#[test]
fn an_intact_checkpoint_is_left_wherever_the_disk_stops_keeping_two() {
    stop_at_every_operation("max_keep_ckpts: 2, save_best: accuracy/top1");
}

/// A bit that flipped in `iter`, `name`, `run` or `home` was believed: nothing but the files had hashes.
#[test]
fn no_bit_of_a_manifest_can_flip_unseen() {
    let dir = tempfile::tempdir().unwrap();
    with_hook(dir.path(), 1, "").build().unwrap().train().unwrap();
    let home = dir.path().join("epoch_1");
    let file = home.join("manifest.json");
    let whole = fs::read(&file).unwrap();
    let says = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).ok();
    let (before, mut seen) = (says(&whole).unwrap(), 0);
    for field in ["iter", "epoch_{}", "epoch_1", "run", "home", "resumable", "seal"] {
        assert!(before.to_string().contains(field), "{before}");
    }
    for bit in 0..whole.len() * 8 {
        let mut text = whole.clone();
        text[bit / 8] ^= 1 << (bit % 8);
        fs::write(&file, &text).unwrap();
        // A space that became a line break says nothing else.
        if says(&text).as_ref() != Some(&before) {
            seen += 1;
            let error = load(&home).map(drop).unwrap_err().to_string();
            assert!(error.contains("manifest.json"), "{}: {error}", String::from_utf8_lossy(&text));
        }
    }
    assert!(seen > 3000, "{seen}");
    // The order and the spaces are nobody's business; one of before there was a seal is read as it stands.
    let mut other = before.clone();
    other.sort_all_objects();
    fs::write(&file, other.to_string()).unwrap();
    load(&home).unwrap();
    let all = other.as_object_mut().unwrap();
    all.remove("seal");
    fs::write(&file, serde_json::to_string(all).unwrap()).unwrap();
    assert!(load(&home).unwrap_err().to_string().contains("seal"));
    all.remove("format");
    fs::write(&file, serde_json::to_string(all).unwrap()).unwrap();
    load(&home).unwrap();
}

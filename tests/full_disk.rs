//! A full disk: a clear error, and the last checkpoint loads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use shanty::base::fs::{Disk, FileSystem};
use shanty::checkpoint::{Folders, newest};
use shanty::plugin::prelude::*;
use shanty::testing::{JudgedDisk, Op, Verdict, toy_runner};

/// The run keeps all its checkpoints until nothing fits any more; after room was made it ends as if nothing had been.
fn fills_up(dir: &Path, fs: impl FileSystem + 'static, clear: &str) {
    let error = toy_runner(dir, 200, 2).unwrap().file_system(fs).build().unwrap().train().unwrap_err();
    assert!(error.to_string().contains(clear), "{error}");
    let found = newest(&Disk, &Folders::of(dir), None).unwrap();
    let (path, checkpoint) = found.checkpoint.expect("a checkpoint that loads");
    assert!(checkpoint.meta.epoch > 1, "{}", path.display());
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn a_small_tmpfs_fills_up() {
    let dir = tempfile::tempdir().unwrap();
    let small = dir.path().join("small");
    fs::create_dir(&small).unwrap();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(&small).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("no right to mount: the other test stands in for this one");
        return;
    }
    let run = std::panic::catch_unwind(|| fills_up(&small.join("run"), Disk, "No space left on device"));
    assert!(Command::new("umount").arg(&small).status().unwrap().success());
    run.unwrap();
}

/// A disk on which this many bytes can be written.
fn quota(bytes: u64) -> JudgedDisk {
    let left = AtomicU64::new(bytes);
    JudgedDisk::new(move |op, _, bytes| {
        if op != Op::Write {
            return Verdict::Go;
        }
        let room = left.load(Ordering::Relaxed);
        left.store(room.saturating_sub(bytes), Ordering::Relaxed);
        if bytes > room {
            Verdict::Torn(room as usize, io::Error::from(io::ErrorKind::StorageFull))
        } else {
            Verdict::Go
        }
    })
}

#[test]
fn the_error_names_the_file_and_the_run_can_be_resumed_when_there_is_room() {
    let (dir, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fills_up(dir.path(), quota(100_000), "no storage space");
    let seen = Arc::new(AtomicUsize::new(0));
    let noted = Arc::clone(&seen);
    let count = move |_: &mut Ctx<'_>, _: &mut Event<'_>| {
        noted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let mut resumed = toy_runner(dir.path(), 200, 2).unwrap().on(Point::BeforeTrainIter, count).resume(true);
    resumed = resumed.async_save(true);
    resumed.build().unwrap().train().unwrap();
    assert!(seen.load(Ordering::Relaxed) < 400, "it went on, it did not begin again");
    toy_runner(whole.path(), 200, 2).unwrap().build().unwrap().train().unwrap();
    let model = |dir: &Path| fs::read(dir.join("epoch_200/model.safetensors")).unwrap();
    assert_eq!(model(dir.path()), model(whole.path()));
}

/// What the `log` crate was told as an error.
static ERRORS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Errors;

impl log::Log for Errors {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        ERRORS.lock().unwrap().push(format!("{} {}", record.target(), record.args()));
    }

    fn flush(&self) {}
}

/// The log of a rank other than the first was all that spoke of it, and nobody heard that it could not grow.
#[test]
fn a_log_that_cannot_grow_is_told_once_and_ends_nothing() {
    log::set_logger(&Errors).unwrap();
    log::set_max_level(log::LevelFilter::Error);
    let dir = tempfile::tempdir().unwrap();
    let fs = JudgedDisk::new(|op, path, _| match op {
        Op::Append if path.extension().is_some_and(|e| e == "log") => {
            Verdict::Fail(io::ErrorKind::StorageFull.into())
        }
        _ => Verdict::Go,
    });
    toy_runner(dir.path(), 5, 2).unwrap().file_system(fs).build().unwrap().train().unwrap();
    let own = dir.path().display().to_string();
    let all = ERRORS.lock().unwrap();
    let told: Vec<_> = all.iter().filter(|line| line.contains(&own)).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("shanty::own lines of the log ") && told[0].contains("are lost"), "{told:?}");
    assert!(dir.path().join("epoch_5/model.safetensors").exists());
}

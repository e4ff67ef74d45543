//! Real processes in bad weather: a disk that fills up, a terminal that goes away, a reader that stops reading, limits
//! of the system. Whatever happens, the run ends with an exit code that says so, and resumes to the same bytes.
//!
//! `SHANTY_STORM=60 cargo test --release --test storm -- --nocapture --test-threads 1` is the long form.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![cfg(all(target_os = "linux", feature = "cli"))]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rand::RngExt;
use shanty::base::{Rng, keyed};

mod runs;
use runs::{CONFIG, command, count, last_weights, to_the_end};

/// A config, the end of its run if nothing happens, and how long that takes.
struct Calm {
    dir: tempfile::TempDir,
    config: PathBuf,
    weights: Vec<u8>,
    takes: Duration,
}

impl Calm {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("tiny.yaml");
        fs::write(&config, CONFIG).unwrap();
        let began = Instant::now();
        let weights = to_the_end(&config, &dir.path().join("calm"), false);
        Self { dir, config, weights, takes: began.elapsed() }
    }

    /// Waits for a random part of the time that the whole run takes.
    fn wait(&self, rng: &mut Rng) {
        std::thread::sleep(self.takes.mul_f64(rng.random_range(0.0..1.0)));
    }

    /// After the storm: what is left resumes to the same bytes, or begins anew if nothing was saved yet.
    fn ends_equal(&self, work_dir: &Path, what: &str) {
        assert!(to_the_end(&self.config, work_dir, true) == self.weights, "{what}: another end");
    }
}

/// No panic, and no success: the run said that it failed.
fn failed(status: ExitStatus, what: &str) {
    assert!(matches!(status.code(), Some(1 | 2)), "{what}: {status:?}");
}

#[test]
fn a_disk_that_fills_up() {
    let calm = Calm::new();
    let disk = calm.dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = |options: &str| {
        let made = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&disk).output();
        made.is_ok_and(|out| out.status.success())
    };
    let (mut rng, rounds, mut full) = (keyed(11, "disk", 0, 0), count("SHANTY_STORM", 3), 0);
    for _ in 0..rounds {
        if !mount(&format!("size={}k", rng.random_range(4..160) * 4)) {
            println!("no right to mount a disk: skipped");
            return;
        }
        let work_dir = disk.join("run");
        let tried = std::panic::catch_unwind(|| {
            let status = command(&calm.config, &work_dir, false).status().unwrap();
            if !status.success() {
                failed(status, "a full disk");
            }
            assert!(mount("remount,size=64m"), "the disk cannot grow");
            calm.ends_equal(&work_dir, "a full disk");
            !status.success()
        });
        assert!(Command::new("umount").arg(&disk).status().unwrap().success());
        full += usize::from(tried.unwrap());
    }
    println!("{rounds} small disks, {full} full: each run ended byte-identical when there was room");
}

#[test]
fn a_reader_that_stops_reading() {
    let calm = Calm::new();
    let (mut rng, rounds) = (keyed(12, "pipe", 0, 0), count("SHANTY_STORM", 3));
    for round in 0..rounds {
        let work_dir = calm.dir.path().join(format!("pipe_{round}"));
        let mut run = command(&calm.config, &work_dir, false);
        let mut child = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if round % 2 == 0 {
            // Head's way: it reads a little, and is gone.
            let _ = child.stderr.as_mut().unwrap().read(&mut [0; 10]);
        } else {
            calm.wait(&mut rng);
        }
        drop((child.stdout.take(), child.stderr.take()));
        assert!(child.wait().unwrap().success(), "a broken pipe ended the run");
        assert!(last_weights(&work_dir) == calm.weights);
    }
    println!("{rounds} broken pipes: each run went on to the same bytes");
}

/// The command as one line of a shell.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| format!("'{}'", w.to_str().unwrap())).collect::<Vec<_>>().join(" ")
}

/// Waits until no process has `work_dir` on its command line. The terminal is gone by then, not what it had started: a
/// run that is still on its way to its lock cannot be told by the lock.
fn until_gone(work_dir: &Path) {
    let name = work_dir.to_str().unwrap();
    let named = |process: fs::DirEntry| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(name)
    };
    while fs::read_dir("/proc").unwrap().flatten().any(named) {
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_terminal_that_goes_away() {
    let calm = Calm::new();
    let (mut rng, rounds) = (keyed(13, "terminal", 0, 0), count("SHANTY_STORM", 3));
    for round in 0..rounds {
        let work_dir = calm.dir.path().join(format!("terminal_{round}"));
        let run = line(&command(&calm.config, &work_dir, false));
        // With HUP ignored it goes on without its terminal; else it saves and leaves.
        let ignored = round % 2 == 0;
        let run = if ignored { format!("trap '' HUP; {run}") } else { run };
        let mut terminal = Command::new("script");
        terminal.args(["-q", "-c", &run, "/dev/null"]).stdin(Stdio::null()).stdout(Stdio::null());
        let started = terminal.stderr(Stdio::null()).spawn();
        let Ok(mut terminal) = started else {
            println!("there is no `script` to make a terminal: skipped");
            return;
        };
        calm.wait(&mut rng);
        terminal.kill().unwrap();
        terminal.wait().unwrap();
        until_gone(&work_dir);
        let lock = work_dir.join(".shanty-lock");
        if ignored && lock.exists() {
            assert!(
                last_weights(&work_dir) == calm.weights,
                "a closed terminal ended a run that ignores HUP"
            );
        }
        calm.ends_equal(&work_dir, "a closed terminal");
    }
    println!("{rounds} closed terminals: each run went on, or resumed to the same bytes");
}

/// Limits that a run may meet: files, bytes of a file, threads, memory.
fn limit(round: usize, rng: &mut Rng) -> String {
    match round % 4 {
        0 => format!("--nofile={}", rng.random_range(4..24)),
        1 => format!("--fsize={}", rng.random_range(1..24) * 512),
        2 => format!("--nproc={}", rng.random_range(1..6)),
        _ => format!("--as={}", rng.random_range(2..64) << 22),
    }
}

#[test]
fn limits_of_the_system() {
    let calm = Calm::new();
    let nobody = Command::new("setpriv").args(["--reuid=65534", "--clear-groups", "true"]).status();
    let as_nobody = nobody.is_ok_and(|s| s.success());
    let (mut rng, rounds) = (keyed(14, "limits", 0, 0), count("SHANTY_STORM", 4));
    for round in 0..rounds {
        let limit = limit(round, &mut rng);
        let work_dir = calm.dir.path().join(format!("limit_{round}"));
        fs::create_dir(&work_dir).unwrap();
        let run = command(&calm.config, &work_dir, false);
        let mut limited = Command::new("prlimit");
        limited.arg(&limit).arg("--core=0");
        if limit.starts_with("--nproc") {
            if !as_nobody {
                continue;
            }
            // The system counts no threads of root.
            for path in [calm.dir.path(), &work_dir] {
                assert!(Command::new("chown").arg("65534").arg(path).status().unwrap().success());
            }
            limited.args(["setpriv", "--reuid=65534", "--clear-groups"]);
        }
        limited.arg(run.get_program()).args(run.get_args()).env("RAYON_NUM_THREADS", "1");
        let out = limited.output().unwrap();
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(!text.contains("panicked"), "{limit}: {text}");
        // Rust ends a process that gets no memory by SIGABRT; the loader of programs has codes of its own.
        let memory = limit.starts_with("--as");
        assert!(memory || matches!(out.status.code(), Some(0..=2)), "{limit}: {:?} {text}", out.status);
        if limit.starts_with("--nproc") {
            assert!(Command::new("chown").args(["-R", "0"]).arg(&work_dir).status().unwrap().success());
        }
        calm.ends_equal(&work_dir, &limit);
    }
    println!("{rounds} limits of files, bytes, threads and memory: each run resumed to the same bytes");
}

//! Real signals to a real process at random instants: it resumes, and ends byte for byte like the run that was left
//! alone.
//!
//! `SHANTY_KILLS=200 SHANTY_TERMS=50 cargo test --release --test kill -- --nocapture` is the long form.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![cfg(all(unix, feature = "cli"))]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rand::RngExt;
use shanty::base::keyed;

mod runs;
use runs::{CONFIG, count, start, to_the_end};

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

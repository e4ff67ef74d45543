//! `watch` has a terminal to itself, and gives it back as it was.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};

use crate::{code, terminal, with_config};

/// `watch` of the run in `w`, in a terminal of its own.
struct Watching {
    name: String,
    master: File,
    /// Held open, so that the terminal's settings outlive the program.
    held: File,
    before: Vec<u8>,
    child: Child,
}

impl Watching {
    fn begin(dir: &Path) -> Self {
        let (name, master) = terminal();
        let held = File::options().read(true).write(true).open(&name).unwrap();
        let before = settings(&name);
        // A script that starts the tests by `&` has SIGINT ignored.
        let mut watch = Command::new("env");
        watch.args(["--default-signal=HUP,INT,TERM", env!("CARGO_BIN_EXE_shanty"), "watch", "w"]);
        watch.current_dir(dir).env("TERM", "xterm");
        let open = || held.try_clone().unwrap();
        let child = watch.stdin(open()).stdout(open()).stderr(open()).spawn().unwrap();
        Self { name, master, held, before, child }
    }

    /// Reads what is drawn up to these words.
    fn until(&mut self, words: &str) {
        let (mut seen, mut bytes) = (Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&seen).contains(words) {
            let n = std::io::Read::read(&mut self.master, &mut bytes).unwrap();
            seen.extend_from_slice(&bytes[..n]);
        }
    }

    /// How it ends, which leaves the terminal as it was.
    fn ended(mut self) -> ExitStatus {
        self.until("\x1b[?1049l");
        let status = self.child.wait().unwrap();
        assert_eq!(settings(&self.name), self.before);
        drop(self.held);
        status
    }
}

fn settings(terminal: &str) -> Vec<u8> {
    Command::new("stty").args(["-F", terminal, "-g"]).output().unwrap().stdout
}

/// `watch` waits for a run that goes away for a while; it ended, and what was typed then was not seen any more.
#[test]
fn watch_leaves_the_terminal_as_it_was() {
    let dir = with_config();
    assert_eq!(code(dir.path(), "\"$SHANTY\" train c.yaml --work-dir w train_cfg.max_epochs=2 -q"), 0);
    let mut watching = Watching::begin(dir.path());
    watching.until("w: finished, epoch 2/2 (q leaves)");
    fs::rename(dir.path().join("w"), dir.path().join("away")).unwrap();
    watching.until("w: there is no such folder; name the work_dir of a run (q leaves)");
    fs::rename(dir.path().join("away"), dir.path().join("w")).unwrap();
    watching.until("w: finished, epoch 2/2 (q leaves)");
    assert_ne!(settings(&watching.name), watching.before, "keys are heard one by one");
    std::io::Write::write_all(&mut watching.master, b"q").unwrap();
    assert_eq!(watching.ended().code(), Some(0));
}

/// A terminal that is left raw does not show what a person types.
#[test]
fn a_signal_that_ends_watch_leaves_the_terminal_as_it_was() {
    let dir = with_config();
    assert_eq!(code(dir.path(), "\"$SHANTY\" train c.yaml --work-dir w train_cfg.max_epochs=2 -q"), 0);
    for (signal, number) in [("TERM", 15), ("HUP", 1), ("INT", 2)] {
        let mut watching = Watching::begin(dir.path());
        while settings(&watching.name) == watching.before {
            watching.until("w: finished, epoch 2/2 (q leaves)");
        }
        let kill = Command::new("kill").args(["-s", signal, &watching.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
        assert_eq!(watching.ended().signal(), Some(number), "it ends as if nobody had caught {signal}");
    }
}

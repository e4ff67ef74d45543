//! Terminals that go away, full disks behind stdout, readers that stop, and signals that a parent ignored.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests
#![cfg(all(target_os = "linux", feature = "cli"))]

mod watch;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

const CONFIG: &str = "\
model:
  type: ImageClassifier
  backbone: {type: Sequential, layers: [{type: Flatten}, {type: Linear, in_features: 12, out_features: 3}]}
  head: {type: ClsHead, loss: {type: CrossEntropyLoss}}
train_dataloader:
  batch_size: 4
  dataset: {type: Synthetic, n: 16, shape: [3, 2, 2], classes: 3}
optim_wrapper: {optimizer: {type: SGD, lr: 0.1}}
train_cfg: {by_epoch: true, max_epochs: 40}
default_hooks: {logger: {type: LoggerHook, interval: 1}, checkpoint: {type: CheckpointHook, interval: 1, max_keep_ckpts: 1}}
randomness: {seed: 1}
";

fn with_config() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.yaml"), CONFIG).unwrap();
    fs::write(dir.path().join("bad.yaml"), CONFIG.replace("momentum", "momentun").replace("lr:", "lrr:"))
        .unwrap();
    dir
}

/// Runs a line of the shell in which `$SHANTY` is the program.
fn shell(dir: &Path, line: &str) -> Command {
    let mut command = Command::new("bash");
    command.arg("-c").arg(line).current_dir(dir).env("SHANTY", env!("CARGO_BIN_EXE_shanty"));
    command.stdin(Stdio::null());
    command
}

fn code(dir: &Path, line: &str) -> i32 {
    shell(dir, line).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().code().unwrap()
}

/// The lines of the log file that tell of iterations.
fn logged(work_dir: &Path) -> usize {
    let run = fs::read_dir(work_dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.join("vis_data").exists())
        .unwrap();
    let log = run.join(format!("{}.log", run.file_name().unwrap().to_str().unwrap()));
    fs::read_to_string(log).unwrap().lines().filter(|line| line.contains("Epoch(train)")).count()
}

/// A run died at its next log line when nobody could read it any more.
#[test]
fn a_run_outlives_its_readers() {
    let dir = with_config();
    for (name, streams) in [
        ("full", ">/dev/full 2>/dev/full"),
        ("closed", ">&- 2>&-"),
        ("closed_in", "<&- >&- 2>&-"),
        ("pipe", "2>&1 | head -n 3"),
        ("no_reader", "2> >(exit 0) > >(exit 0)"),
    ] {
        let line = format!("set -o pipefail; \"$SHANTY\" train c.yaml --work-dir {name} {streams}");
        assert_eq!(code(dir.path(), &line), 0, "{name}");
        let work = dir.path().join(name);
        assert!(work.join("epoch_40").exists(), "{name}");
        assert_eq!(logged(&work), 160, "{name}: the log file has everything");
    }
}

/// The exit code says how the command went, whoever reads what it prints.
#[test]
fn short_commands_have_their_exit_codes_without_readers() {
    let dir = with_config();
    for (line, wanted) in [
        ("\"$SHANTY\" check bad.yaml 2>&1 | head -n 0; exit ${PIPESTATUS[0]}", 2),
        ("\"$SHANTY\" check bad.yaml 2>/dev/full", 2),
        ("\"$SHANTY\" check bad.yaml 2>&-", 2),
        ("\"$SHANTY\" check --format json bad.yaml >/dev/full", 2),
        ("\"$SHANTY\" check c.yaml >/dev/full 2>/dev/full", 0),
        ("\"$SHANTY\" schema >/dev/full", 1),
        ("\"$SHANTY\" schema >/dev/full 2>/dev/full", 1),
        ("\"$SHANTY\" config c.yaml >/dev/full", 1),
        ("\"$SHANTY\" list >/dev/full", 1),
        ("\"$SHANTY\" describe SGD >/dev/full", 1),
        ("\"$SHANTY\" explain c.yaml optim_wrapper.optimizer.lr >/dev/full", 1),
        ("\"$SHANTY\" train c.yaml --work-dir t --set train_cfg.max_epochs=1 2>/dev/null", 0),
        ("\"$SHANTY\" ckpt digest t >/dev/full", 1),
        ("\"$SHANTY\" ckpt inspect t >/dev/full", 1),
        ("\"$SHANTY\" ckpt diff t t >/dev/full", 1),
        ("\"$SHANTY\" ckpt digest t --parts | head -n 0; exit ${PIPESTATUS[0]}", 0),
        ("\"$SHANTY\" list | head -n 1; exit ${PIPESTATUS[0]}", 0),
        ("\"$SHANTY\" plan c.yaml >/dev/full", 1),
        ("\"$SHANTY\" --help >/dev/full", 1),
        ("\"$SHANTY\" --version >/dev/full", 1),
        ("\"$SHANTY\" train --help >/dev/full 2>/dev/full", 1),
        ("\"$SHANTY\" frobnicate 2>/dev/full", 2),
        ("\"$SHANTY\" frobnicate 2>&-", 2),
        ("\"$SHANTY\" schema | head -n 1; exit ${PIPESTATUS[0]}", 0),
        ("\"$SHANTY\" --help | head -n 0; exit ${PIPESTATUS[0]}", 0),
        ("RUST_LOG=,=,nonsense=x \"$SHANTY\" check c.yaml 2>/dev/full", 0),
        ("\"$SHANTY\" ckpt inspect nothing 2>/dev/full", 1),
    ] {
        assert_eq!(code(dir.path(), line), wanted, "{line}");
    }
    let out = shell(dir.path(), "\"$SHANTY\" schema >/dev/full").output().unwrap();
    assert!(String::from_utf8_lossy(&out.stderr).contains("cannot be printed"), "{out:?}");
}

/// A training that goes on for long, once its first iteration was logged.
fn training(dir: &Path, before: &str) -> (Child, BufReader<std::process::ChildStderr>) {
    // Whoever started this test may ignore signals, and a shell cannot take that back.
    let heard = if before.is_empty() { "env --default-signal=HUP,INT,TERM" } else { "" };
    let set = "--work-dir w --set train_cfg.max_epochs=1000000";
    let line = format!("{before} exec {heard} \"$SHANTY\" train c.yaml {set}");
    let mut child = shell(dir, &line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains("Epoch(train)") {
        assert!(log.read_line(&mut text).unwrap() > 0, "{text}");
    }
    (child, log)
}

fn send(signal: &str, child: &Child) {
    assert!(
        Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(child.id().to_string())
            .status()
            .unwrap()
            .success()
    );
}

fn to_the_end(mut child: Child, mut log: BufReader<std::process::ChildStderr>) -> ExitStatus {
    std::io::copy(&mut log, &mut std::io::sink()).unwrap();
    child.wait().unwrap()
}

/// Without a terminal a run was gone, with nothing saved.
#[test]
fn a_closed_terminal_saves_and_leaves() {
    let dir = with_config();
    let (child, log) = training(dir.path(), "");
    send("HUP", &child);
    send("HUP", &child);
    assert_eq!(to_the_end(child, log).code(), Some(129));
    assert!(dir.path().join("w/last_checkpoint").exists());
}

/// `nohup` and scripts that start in the background ignore signals for their children.
#[test]
fn what_the_parent_ignores_stays_ignored() {
    let dir = with_config();
    let (child, mut log) = training(dir.path(), "trap '' HUP INT USR1;");
    for signal in ["HUP", "INT", "INT", "USR1"] {
        send(signal, &child);
    }
    let mut more = String::new();
    for _ in 0..200 {
        log.read_line(&mut more).unwrap();
    }
    assert!(more.lines().count() == 200 && more.contains("Epoch(train)"), "it goes on: {more}");
    send("TERM", &child);
    assert_eq!(to_the_end(child, log).code(), Some(143));
}

/// The reader of stderr goes away in the middle.
#[test]
fn a_pipe_that_breaks_in_the_middle_ends_nothing() {
    let dir = with_config();
    let (mut child, log) = training(dir.path(), "");
    drop(log);
    let pointer = || fs::read_to_string(dir.path().join("w/last_checkpoint")).unwrap_or_default();
    let before = pointer();
    while pointer() == before {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::yield_now();
    }
    send("TERM", &child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

/// A terminal whose other end is closed while the bar is drawn on it.
#[test]
fn a_terminal_that_goes_away_ends_nothing() {
    let dir = with_config();
    let (name, master) = terminal();
    let terminal = || File::options().read(true).write(true).open(&name).unwrap();
    let mut child =
        shell(dir.path(), "exec \"$SHANTY\" train c.yaml --work-dir w --set train_cfg.max_epochs=400")
            .stdout(terminal())
            .stderr(terminal())
            .spawn()
            .unwrap();
    let mut seen = BufReader::new(master);
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("iterations,") {
        assert!(seen.read_until(b'\n', &mut text).unwrap() > 0);
    }
    drop(seen);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(dir.path().join("w/epoch_400").exists());
    assert_eq!(logged(&dir.path().join("w")), 1600);
}

/// A pseudo terminal: its name, and the side on which a person would look.
fn terminal() -> (String, File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    (ptsname(&master, Vec::new()).unwrap().into_string().unwrap(), File::from(master))
}

/// The bar makes way for each line of the log, however wide the terminal is and becomes.
#[test]
fn no_line_of_the_log_is_garbled_by_the_bar() {
    let dir = with_config();
    let (name, mut master) = terminal();
    let width = |columns: u32| {
        let done =
            Command::new("stty").args(["-F", &name, "rows", "24", "cols", &columns.to_string()]).status();
        assert!(done.unwrap().success());
    };
    width(80);
    let open = || File::options().read(true).write(true).open(&name).unwrap();
    let mut child =
        shell(dir.path(), "exec \"$SHANTY\" train c.yaml --work-dir w --set train_cfg.max_epochs=200")
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap();
    let (mut seen, mut widths) = (Vec::new(), [200, 40, 120].into_iter());
    let mut bytes = [0; 4096];
    // Nobody has the terminal any more: an error, not an end.
    while let Ok(n @ 1..) = std::io::Read::read(&mut master, &mut bytes) {
        seen.extend_from_slice(&bytes[..n]);
        if seen.len() > 20_000 * (4 - widths.len()) {
            widths.next().into_iter().for_each(width);
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(widths.next(), None, "it was resized three times");
    let seen = String::from_utf8(seen).unwrap();
    assert!(seen.contains("/800 iterations,") && seen.contains(" left, loss "), "there was a bar");
    let work = dir.path().join("w");
    let log = fs::read_dir(&work).unwrap().map(|e| e.unwrap().path()).find(|p| p.join("vis_data").exists());
    let log = log.unwrap();
    let text = fs::read_to_string(log.join(format!("{}.log", log.file_name().unwrap().to_str().unwrap())));
    let lines: Vec<_> =
        text.unwrap().lines().filter_map(|l| Some(l.split_once("Epoch(train)")?.1.to_owned())).collect();
    assert_eq!(lines.len(), 800);
    for line in lines {
        assert!(seen.contains(&format!("Epoch(train){line}\r\n")), "{line}");
    }
    assert!(
        seen.contains("\r\nfinished after 200 epochs") || seen.contains("\x1b[2Kfinished after"),
        "the end"
    );
}

/// What the command says on stdout and on stderr, as a pipe gets it.
fn said(dir: &Path, line: &str) -> (String, String) {
    let out = shell(dir, line).output().unwrap();
    assert!(out.status.success(), "{line}: {out:?}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(out.stdout), text(out.stderr))
}

/// Bars and colours in a pipe made files that no editor shows.
#[test]
fn a_pipe_gets_plain_lines_and_as_many_as_were_asked_for() {
    let dir = with_config();
    let train = |more: &str| {
        let line = "\"$SHANTY\" train c.yaml --overwrite --work-dir w --set train_cfg.max_epochs=2";
        said(dir.path(), &line.replacen("\"$SHANTY\"", &format!("{more} \"$SHANTY\""), 1))
    };
    let (out, err) = train("");
    assert!(!(out.clone() + &err).contains(['\r', '\x1b']), "{err}");
    assert_eq!(err.matches("INFO - Epoch(train)").count(), 8);
    assert!(out.starts_with("finished after 2 epochs, 8 iterations, "), "{out}");
    assert!(out.contains(" samples/s in training; at most ") && out.contains("hooks took "), "{out}");
    for filter in ["RUST_LOG=warn", "RUST_LOG=off"] {
        let (out, err) = train(filter);
        assert!(err.is_empty() && out.starts_with("finished after"), "{filter}: {err}");
    }
    let with = |flags: &str| {
        said(
            dir.path(),
            &format!("\"$SHANTY\" train c.yaml --overwrite --work-dir w {flags} train_cfg.max_epochs=2"),
        )
    };
    for quiet in ["--quiet", "-q", "--set log_level=WARNING --set randomness.seed=1"] {
        let (out, err) = with(quiet);
        assert_eq!(err, "", "{quiet}");
        assert!(out.starts_with("finished after 2 epochs"), "{quiet}: {out}");
        assert_eq!(out.lines().count(), if quiet.contains("log_level") { 2 } else { 1 }, "{quiet}: {out}");
    }
    let (_, err) = with("--verbose");
    assert!(err.contains("DEBUG - config:\n") && err.contains("Epoch(train)"), "{err}");
    let (_, err) = with("-v --set log_level=ERROR");
    assert!(err.contains("DEBUG - config:\n"), "who asks on the command line wins: {err}");
}

/// The lines of a training, each number as `#`: log lines with their levels in colour on a terminal, which they never were
/// there, and plain in a pipe; then what the end tells.
#[test]
fn a_training_has_these_lines_on_a_terminal_and_in_a_pipe() {
    let numberless = |text: &str| {
        let parts = text.split(|c: char| c.is_ascii_digit()).collect::<Vec<_>>();
        let mut out = String::new();
        for (at, part) in parts.iter().enumerate() {
            // Of several digits in a row only the first.
            out += if at > 0 && (!part.is_empty() || at + 1 == parts.len()) { "#" } else { "" };
            out += part;
        }
        out
    };
    let train =
        "Epoch(train) [#][#/#]  lr: #.#e-#  eta: #:#:#  time: #.#  data_time: #.#  memory: #  loss: #.#";
    let told = [
        &["WARN", "`default_scope` is accepted without effect: all registered types are in reach"][..],
        &["INFO", "hooks in the order in which they are called:"],
        &["(VERY_HIGH   ) RuntimeInfoHook"],
        &["(NORMAL      ) IterTimerHook"],
        &["(NORMAL      ) DistSamplerSeedHook"],
        &["(BELOW_NORMAL) LoggerHook"],
        &["(LOW         ) ParamSchedulerHook"],
        &["(VERY_LOW    ) CheckpointHook"],
        &["INFO", train],
        &["INFO", train],
        &["INFO", train],
        &["INFO", train],
        &["INFO", "saving checkpoint epoch_#"],
    ];
    let lines = |begin: &str, end: &str| {
        let line = |line: &&[&str]| match line {
            [level, text] => format!("#/# #:#:# - shanty - {begin}{level}{end} - {text}"),
            other => other.concat(),
        };
        told.iter().map(line).collect::<Vec<_>>().join("\n") + "\n"
    };
    let ends = [
        "finished after # epoch, # iterations, #.# s; in w\n",
        " samples/s in training; at most #.# MiB of memory; hooks took ",
        "  # warning, once more:\n    `default_scope` is accepted without effect: all registered types are in reach\n",
    ];
    let dir = with_config();
    let line =
        "\"$SHANTY\" train c.yaml --overwrite --work-dir w default_scope=mmpretrain train_cfg.max_epochs=1";
    let (out, err) = said(dir.path(), line);
    assert!(numberless(&err).ends_with(&lines("", "")), "{err}");
    ends.iter().for_each(|end| assert!(numberless(&out).contains(end), "{end}: {out}"));

    for (before, begin, end) in [("", "\x1b[#m", "\x1b[#m"), ("NO_COLOR=1 ", "", ""), ("TERM=dumb ", "", "")]
    {
        let (name, mut master) = terminal();
        let open = || File::options().read(true).write(true).open(&name).unwrap();
        let line = format!("exec env TERM=xterm {before}{line}");
        let mut child = shell(dir.path(), &line).stdout(open()).stderr(open()).spawn().unwrap();
        let (mut seen, mut bytes) = (Vec::new(), [0; 4096]);
        while let Ok(n @ 1..) = std::io::Read::read(&mut master, &mut bytes) {
            seen.extend_from_slice(&bytes[..n]);
        }
        assert!(child.wait().unwrap().success());
        // What stands on the line behind what the bar took off it.
        let seen = String::from_utf8(seen).unwrap();
        let kept = seen.split("\r\n").map(|line| line.rsplit("\x1b[2K").next().unwrap_or_default());
        let seen = numberless(&kept.collect::<Vec<_>>().join("\n"));
        assert!(seen.contains(&lines(begin, end)), "{before}: {seen}");
        let plain = lines("", "");
        assert_eq!(seen.contains(&plain), begin.is_empty(), "{before}: {seen}");
        ends.iter().for_each(|end| assert!(seen.contains(end), "{before}{end}: {seen}"));
    }
}

/// What of `RUST_LOG` means nothing was said by nobody, and all lines were gone.
#[test]
fn a_filter_that_means_nothing_is_complained_of_and_left_out() {
    let dir = with_config();
    for (filter, words) in [
        ("warnn", "warning: RUST_LOG: nothing here logs as `warnn` (did you mean `warn`?)"),
        ("shnty=debug", "nothing here logs as `shnty` (did you mean `shanty`?)"),
        ("shanty=inof", "`inof` is no level (did you mean `info`?)"),
    ] {
        let line = format!(
            "RUST_LOG={filter} \"$SHANTY\" train c.yaml --overwrite --work-dir w train_cfg.max_epochs=1"
        );
        let (_, err) = said(dir.path(), &line);
        assert!(err.starts_with("warning: RUST_LOG: ") && err.contains(words), "{err}");
        assert!(err.contains("INFO - Epoch(train)"), "as if it were not there: {err}");
        let (_, err) = said(dir.path(), &line.replace(" train c.yaml", " -q train c.yaml"));
        assert_eq!(err, "", "who asks on the command line is told nothing of it");
    }
    let (_, err) = said(dir.path(), "RUST_LOG=warn,shanty::run=info \"$SHANTY\" check c.yaml");
    assert_eq!(err, "");
}

/// A warning of the first second has left the screen when a run is over.
#[test]
fn the_end_tells_the_warnings_once_more() {
    let dir = with_config();
    let line = "\"$SHANTY\" train c.yaml --work-dir w default_scope=mmpretrain train_cfg.max_epochs=1";
    let (out, err) = said(dir.path(), line);
    let warning = "`default_scope` is accepted without effect: all registered types are in reach";
    assert!(err.contains(&format!("WARN - {warning}")), "{err}");
    assert!(
        out.contains("\n  1 warning, once more:\n    ") && out.contains(&format!("\n    {warning}\n")),
        "{out}"
    );
}

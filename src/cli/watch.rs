//! `shanty watch`: how a run stands, on one screen that follows its files. The run does not know of it.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ::console::{Key, Term};
use clap::Args;

use super::braille::{LOW, Plot, padded};
use super::own_screen::OwnScreen;
use super::run_files::{RunFiles, RunState};
use super::{console, signals};
use crate::base::Result;
use crate::base::error::IoContext;
use crate::base::escape::escaped;
use crate::base::number::{fixed, short, steep};
use crate::hook::Mode;
use crate::run::Interrupt;

/// Arguments of `watch`.
#[derive(Debug, Clone, Args)]
pub(super) struct Watch {
    /// The work_dir of the run.
    #[arg(value_name = "WORK_DIR")]
    dir: PathBuf,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
    /// Print one screen and leave, as where nobody sits before a terminal.
    #[arg(long)]
    once: bool,
}

/// Rows and columns where no terminal says them.
const USUAL: (usize, usize) = (24, 80);

/// How often it is looked whether somebody made the terminal wider.
const GLANCE: Duration = Duration::from_millis(200);
/// Of its own time no more than a part of so many is spent with looking: a long log takes a while, and the run needs the
/// machine.
const SHARE: u32 = 10;

impl Watch {
    pub fn run(&self) -> Result<()> {
        let term = Term::stdout();
        let first = RunFiles::read(&self.dir)?;
        if self.once || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            console::say(&screen(&first, USUAL, false).join("\n"));
            return Ok(());
        }
        let interrupt = signals::install(true)?;
        let own = OwnScreen::enter(&term);
        self.follow(&term, &leaving()?, &interrupt);
        drop(own);
        signals::end_by(interrupt.signal.load(Ordering::Relaxed));
        Ok(())
    }

    /// Until somebody leaves, by a key or a signal. A folder that cannot be read may be there again soon.
    fn follow(&self, term: &Term, leave: &mpsc::Receiver<()>, interrupt: &Interrupt) {
        let size = || term.size_checked().map_or(USUAL, |(rows, columns)| (rows.into(), columns.into()));
        loop {
            let began = Instant::now();
            let run = RunFiles::read(&self.dir);
            let pause = Duration::from_secs(self.every).max(began.elapsed() * SHARE);
            let mut drawn = None;
            while drawn.is_none() || began.elapsed() < pause {
                let now = size();
                if drawn.replace(now) != Some(now) {
                    let lines = match &run {
                        Ok(run) => screen(run, now, true),
                        Err(why) => vec![format!("{} (q leaves)", escaped(&why.to_string()))],
                    };
                    if !show(term, &lines) {
                        return;
                    }
                }
                let told = leave.recv_timeout(GLANCE) != Err(mpsc::RecvTimeoutError::Timeout);
                if told || interrupt.signal.load(Ordering::Relaxed) != 0 {
                    return;
                }
            }
        }
    }
}

/// Each line is cleared behind its end, so that nothing flickers. False where the terminal is gone.
fn show(mut term: &Term, lines: &[String]) -> bool {
    let text = lines.join("\x1b[K\r\n");
    write!(term, "\x1b[H{text}\x1b[K\x1b[J").and_then(|()| term.flush()).is_ok()
}

/// Hears of `q`, Escape and Ctrl-C.
fn leaving() -> Result<mpsc::Receiver<()>> {
    let (tell, told) = mpsc::channel();
    let wait = move || {
        let term = Term::stdout();
        while let Ok(key) = term.read_key_raw() {
            if matches!(key, Key::Char('q' | 'Q') | Key::Escape | Key::CtrlC) {
                break;
            }
        }
        let _ = tell.send(());
    };
    thread::Builder::new().name("keys".into()).spawn(wait).at("the thread that waits for keys")?;
    Ok(told)
}

/// What is seen, cut to the size; `keys` if somebody can press one.
fn screen(run: &RunFiles, (rows, columns): (usize, usize), keys: bool) -> Vec<String> {
    let mut lines = head(run, columns, keys);
    lines.push(String::new());
    let room = rows.saturating_sub(lines.len() + 4);
    lines.extend(curves(run, columns, (2 * rows / 5).min(20).min(room)));
    let left = rows.saturating_sub(lines.len() + 1);
    lines.extend(tail(run, left));
    lines.truncate(rows.saturating_sub(1));
    lines.iter().map(|line| padded(line, columns).trim_end().to_owned()).collect()
}

/// Name, state, progress, the last numbers.
fn head(run: &RunFiles, columns: usize, keys: bool) -> Vec<String> {
    let epochs = run.epochs().map_or(String::new(), |(done, planned)| {
        let planned = planned.map_or(String::new(), |planned| format!("/{planned}"));
        format!(", {} {done}{planned}", run.unit())
    });
    let keys = match run.state {
        _ if !keys => "",
        RunState::Running => " (q leaves, the run goes on)",
        _ => " (q leaves)",
    };
    let mut lines = vec![format!("{}: {}{epochs}{keys}", escaped(&run.name()), run.state.name())];
    lines.extend(progress(run, columns));
    lines.extend(run.lacks().map(|lacks| escaped(&lacks).into_owned()));
    for (mode, skip) in [
        (Mode::Train, &["memory"][..]),
        (Mode::Val, &["time", "data_time"]),
        (Mode::Test, &["time", "data_time"]),
    ] {
        lines.extend(newest(run, mode, skip));
    }
    if let Some(best) = run.best() {
        let (name, value) = (escaped(&best.name), fixed(best.value, 4));
        lines.push(format!("best   {name} {value} at iteration {}", best.iter));
    }
    lines
}

/// A bar, and the time that is left as the log says it.
fn progress(run: &RunFiles, columns: usize) -> Option<String> {
    let last = run.messages.iter().rev().find(|message| message.text.contains("(train)"));
    let text = last.map_or("", |message| message.text.as_str());
    let done =
        if run.state == RunState::Finished { 1.0 } else { run.fraction().or_else(|| fraction(run, text))? };
    let width = columns.saturating_sub(40).clamp(10, 60);
    let full = ((done * width as f64).round() as usize).min(width);
    let bar = format!("{}{}", "█".repeat(full), "░".repeat(width - full));
    let left = field(text, "eta: ").filter(|_| run.state == RunState::Running);
    let left = left.map_or(String::new(), |eta| format!(", {} left", escaped(eta)));
    Some(format!("{bar} {:.0} %{left}", done * 100.0))
}

/// The last numbers of a training or of evaluations.
fn newest(run: &RunFiles, mode: Mode, skip: &[&str]) -> Option<String> {
    let line = run.of(mode).next_back()?;
    let values = line.values.iter().filter(|(name, _)| !skip.contains(&name.as_str()));
    let text = |(name, value): &(String, f64)| {
        let value = if name.ends_with("lr") { short(*value) } else { fixed(*value, 4) };
        format!("{} {value}", escaped(name))
    };
    let shown = values.map(text).collect::<Vec<_>>();
    (!shown.is_empty()).then(|| format!("{:<6} {}", mode.name(), shown.join("  ")))
}

/// What stands behind a word of a log line, up to two blanks.
fn field<'t>(line: &'t str, word: &str) -> Option<&'t str> {
    let rest = line.split_once(word)?.1;
    Some(rest.split("  ").next().unwrap_or(rest))
}

/// How much of the run is done, by its last line: `[3][10/47]` of so many epochs, or `[10/300]`.
fn fraction(run: &RunFiles, line: &str) -> Option<f64> {
    let mut brackets = line.split('[').skip(1).filter_map(|part| part.split(']').next());
    let first = brackets.next()?;
    let ratio = |text: &str| -> Option<f64> {
        let (a, b) = text.split_once('/')?;
        let (a, b): (f64, f64) = (a.trim().parse().ok()?, b.trim().parse().ok()?);
        (b > 0.0).then(|| a / b)
    };
    if let Some(done) = ratio(first) {
        return Some(done.clamp(0.0, 1.0));
    }
    let (epoch, part): (f64, f64) = (first.trim().parse().ok()?, ratio(brackets.next()?)?);
    let all = run.configured("train_cfg.max_epochs").filter(|all| *all > 0.0)?;
    Some(((epoch - 1.0 + part) / all).clamp(0.0, 1.0))
}

/// The loss and the metrics beside each other, as many as there is room for.
fn curves(run: &RunFiles, columns: usize, tall: usize) -> Vec<String> {
    let best = run.best();
    let wanted = [
        Some((Mode::Train, "loss")),
        best.as_ref().map(|best| (Mode::Val, best.name.as_str())),
        Some((Mode::Train, "lr")),
    ];
    let points = |(mode, name): (Mode, &str)| {
        let all: Vec<(f64, f64)> = run
            .of(mode)
            .filter_map(|line| Some((line.iter, line.get(name)?)))
            .filter(|(_, y)| y.is_finite())
            .collect();
        (all.len() > 1).then(|| (escaped(name).into_owned(), all))
    };
    let mut wanted: Vec<_> = wanted.into_iter().flatten().filter_map(points).collect();
    wanted.truncate((columns / 36).max(1));
    if tall < LOW || wanted.is_empty() {
        return Vec::new();
    }
    let width = (columns / wanted.len()).saturating_sub(2);
    let plots = wanted.iter().map(|(name, points)| {
        let log = name.contains("loss") && steep(points.iter().map(|(_, y)| *y));
        Plot { name, points, log }.lines(width, tall)
    });
    let plots: Vec<_> = plots.collect();
    let line = |i: usize| plots.iter().map(|plot| plot[i].as_str()).collect::<Vec<_>>().join("  ");
    (0..tall).map(line).chain([String::new()]).collect()
}

/// The last lines of the log.
fn tail(run: &RunFiles, rows: usize) -> Vec<String> {
    let last = run.messages.iter().rev().filter_map(|message| {
        let first = message.text.lines().next()?;
        let time = message.time.split(' ').next_back().unwrap_or_default();
        let level = if message.level == "INFO" { String::new() } else { format!("{} ", message.level) };
        Some(format!("{time} {level}{}", escaped(first)))
    });
    let mut lines: Vec<_> = last.take(rows).collect();
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_ends_at_two_blanks() {
        let line = "Epoch(train) [1][ 10/938]  lr: 1.0000e-02  eta: 1 day, 2:03:04  time: 0.0123";
        assert_eq!(field(line, "eta: "), Some("1 day, 2:03:04"));
        assert_eq!(field(line, "loss: "), None);
    }
}

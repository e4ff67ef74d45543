//! `shanty watch`: how a run stands, on one screen that follows its files. The run does not know of it.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ::console::{Key, Term};
use clap::Args;

use super::console;
use super::run_files::{RunFiles, RunState};
use crate::base::Result;
use crate::base::error::IoContext;
use crate::base::escape::escaped;
use crate::base::number::{fixed, short};
use crate::hook::Mode;

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
/// Rows of a curve, at least.
const LOW: usize = 6;

impl Watch {
    pub fn run(&self) -> Result<()> {
        let term = Term::stdout();
        if self.once || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            console::say(&screen(&RunFiles::read(&self.dir)?, USUAL, false).join("\n"));
            return Ok(());
        }
        RunFiles::read(&self.dir)?;
        let leave = leaving()?;
        // A screen of its own, so that what stood on the terminal comes back.
        let _ = write!(&term, "\x1b[?1049h\x1b[?25l");
        let seen = self.follow(&term, &leave);
        let _ = write!(&term, "\x1b[?25h\x1b[?1049l");
        seen
    }

    fn follow(&self, mut term: &Term, leave: &mpsc::Receiver<()>) -> Result<()> {
        loop {
            let size = term.size_checked().map_or(USUAL, |(rows, columns)| (rows.into(), columns.into()));
            let lines = screen(&RunFiles::read(&self.dir)?, size, true);
            // Each line is cleared behind its end, so that nothing flickers.
            let text = lines.join("\x1b[K\r\n");
            if write!(term, "\x1b[H{text}\x1b[K\x1b[J").and_then(|()| term.flush()).is_err() {
                return Ok(());
            }
            match leave.recv_timeout(Duration::from_secs(self.every)) {
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                _ => return Ok(()),
            }
        }
    }
}

/// Hears of `q`, Escape and Ctrl-C. Its thread puts the terminal back as it was before it tells.
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
    lines.extend(curves(run, columns, (rows / 3).clamp(LOW, 16).min(room)));
    let left = rows.saturating_sub(lines.len() + 1);
    lines.extend(tail(run, left));
    lines.truncate(rows.saturating_sub(1));
    lines.iter().map(|line| cut(line, columns)).collect()
}

fn cut(line: &str, columns: usize) -> String {
    line.chars().take(columns).collect()
}

/// Name, state, progress, the last numbers.
fn head(run: &RunFiles, columns: usize, keys: bool) -> Vec<String> {
    let epochs = run.epochs().map_or(String::new(), |(done, planned)| {
        let planned = planned.map_or(String::new(), |planned| format!("/{planned}"));
        let unit = if run.configured("train_cfg.max_epochs").is_some() { "epoch" } else { "iteration" };
        format!(", {unit} {done}{planned}")
    });
    let name = run.name();
    let keys = match run.state {
        _ if !keys => "",
        RunState::Running => " (q leaves, the run goes on)",
        _ => " (q leaves)",
    };
    let mut lines = vec![format!("{}: {}{epochs}{keys}", escaped(&name), run.state.name())];
    let last = run.messages.iter().rev().find(|message| message.text.contains("(train)"));
    let text = last.map_or("", |message| message.text.as_str());
    let done = if run.state == RunState::Finished { Some(1.0) } else { fraction(run, text) };
    if let Some(done) = done {
        let width = columns.saturating_sub(40).clamp(10, 60);
        let full = (done * width as f64).round() as usize;
        let bar = format!("{}{}", "█".repeat(full.min(width)), "░".repeat(width.saturating_sub(full)));
        let left = field(text, "eta: ").filter(|_| run.state == RunState::Running);
        let left = left.map_or(String::new(), |eta| format!(", {eta} left"));
        lines.push(format!("{bar} {:.0} %{left}", done * 100.0));
    }
    let shown = |mode: Mode, skip: &[&str]| -> String {
        let line = run.of(mode).next_back();
        let values =
            line.into_iter().flat_map(|line| &line.values).filter(|(name, _)| !skip.contains(&name.as_str()));
        let text = |(name, value): &(String, f64)| {
            let value = if name.ends_with("lr") { short(*value) } else { fixed(*value, 4) };
            format!("{} {value}", escaped(name))
        };
        values.map(text).collect::<Vec<_>>().join("  ")
    };
    lines.push(shown(Mode::Train, &["memory"]));
    lines.push(shown(Mode::Val, &["time", "data_time"]));
    let test = shown(Mode::Test, &["time", "data_time"]);
    if !test.is_empty() {
        lines.push(format!("test: {test}"));
    }
    if let Some(best) = run.best() {
        lines.push(format!(
            "best {} {} at iteration {}",
            escaped(&best.name),
            fixed(best.value, 4),
            best.iter
        ));
    }
    lines.retain(|line| !line.is_empty());
    lines
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
    let plots: Vec<_> = wanted.iter().map(|(name, points)| plot(name, points, width, tall)).collect();
    let line = |i: usize| {
        let parts = plots.iter().map(|plot| format!("{:<width$}", plot.get(i).map_or("", String::as_str)));
        parts.collect::<Vec<_>>().join("  ")
    };
    (0..tall).map(line).chain([String::new()]).collect()
}

/// A curve in Braille, two by four points a letter, below a line with its name and its ends.
fn plot(name: &str, points: &[(f64, f64)], width: usize, lines: usize) -> Vec<String> {
    const BITS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
    let (width, lines) = (width.max(1), lines.max(2));
    let (wide, tall) = (width * 2, (lines - 1) * 4);
    let ends = |of: fn(&(f64, f64)) -> f64| {
        points
            .iter()
            .map(of)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let ((x0, x1), (y0, y1)) = (ends(|p| p.0), ends(|p| p.1));
    let place = |v: f64, low: f64, high: f64, size: usize| {
        let part = if high > low { (v - low) / (high - low) } else { 0.5 };
        ((part * (size - 1) as f64).round() as usize).min(size - 1)
    };
    // The mean of each column of points.
    let mut sums = vec![(0.0, 0u32); wide];
    for (x, y) in points {
        let (sum, count) = &mut sums[place(*x, x0, x1, wide)];
        (*sum, *count) = (*sum + y, *count + 1);
    }
    let mut cells = vec![vec![0u32; width]; lines - 1];
    let mut before: Option<(usize, usize)> = None;
    for (column, (sum, count)) in sums.iter().enumerate().filter(|(_, (_, count))| *count > 0) {
        let row = tall - 1 - place(sum / f64::from(*count), y0, y1, tall);
        let (from, first) = before.unwrap_or((row, column));
        for at in first..=column {
            // A line to the next point, with all rows between two columns.
            let on = |at: usize| {
                let part = if column > first { (at - first) as f64 / (column - first) as f64 } else { 1.0 };
                (from as f64 + part * (row as f64 - from as f64)).round() as usize
            };
            let (a, b) = (on(at), on((at + 1).min(column)));
            for y in a.min(b)..=a.max(b) {
                cells[y / 4][at / 2] |= BITS[at % 2][y % 4];
            }
        }
        before = Some((row, column));
    }
    let head = format!("{name}: {} to {}", short(y0), short(y1));
    let letters =
        |row: &Vec<u32>| row.iter().filter_map(|bits| char::from_u32(0x2800 + bits)).collect::<String>();
    std::iter::once(cut(&head, width)).chain(cells.iter().map(letters)).collect()
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
    fn a_curve_goes_from_corner_to_corner() {
        let line: Vec<(f64, f64)> = (0..40).map(|i| (f64::from(i), f64::from(i))).collect();
        let drawn = plot("loss", &line, 10, 6);
        assert_eq!((drawn.len(), drawn[0].as_str()), (6, "loss: 0 to"));
        let blank = |row: &str| row.chars().map(|c| c == '\u{2800}').collect::<Vec<_>>();
        // Two letters a row, one row after the other.
        for (i, row) in drawn[1..].iter().rev().enumerate() {
            let inked: Vec<_> = (0..10).filter(|k| !blank(row)[*k]).collect();
            assert!(inked.iter().all(|k| (2 * i).saturating_sub(1) <= *k && *k <= 2 * i + 2), "{drawn:?}");
        }
        assert!(!blank(&drawn[5])[0] && !blank(&drawn[1])[9], "{drawn:?}");
        // One that is the same always lies in the middle, and takes no width at all.
        let flat = plot("flat", &[(1.0, 2.0), (2.0, 2.0)], 0, 0);
        assert_eq!((flat.len(), blank(&flat[1])), (2, vec![false]));
    }

    #[test]
    fn a_field_ends_at_two_blanks() {
        let line = "Epoch(train) [1][ 10/938]  lr: 1.0000e-02  eta: 1 day, 2:03:04  time: 0.0123";
        assert_eq!(field(line, "eta: "), Some("1 day, 2:03:04"));
        assert_eq!(field(line, "loss: "), None);
    }
}

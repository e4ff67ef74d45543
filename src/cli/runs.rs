//! `shanty runs`: all runs below a folder in one table.

use std::cmp::Ordering;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::run_files::{Best, RunFiles, RunState, below};
use super::{Format, console};
use crate::base::Result;
use crate::base::escape::escaped;
use crate::base::number::{fixed, short};
use crate::metric::Direction;

/// Arguments of `runs`.
#[derive(Debug, Clone, Args)]
pub(super) struct Runs {
    /// The folder.
    #[arg(value_name = "DIR", default_value = "work_dirs")]
    dir: PathBuf,
    /// What the table is sorted by: the newest, the best or the furthest run comes first.
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// Print a JSON array, as `--format json` does.
    #[arg(long)]
    json: bool,
}

/// What the table is sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Sort {
    #[default]
    Age,
    Name,
    State,
    Epoch,
    Best,
}

/// A row of the table.
struct Row {
    dir: PathBuf,
    state: RunState,
    /// Done and planned: epochs, or iterations.
    epoch: Option<(f64, Option<f64>)>,
    best: Option<Best>,
    /// Seconds since something was written.
    age: Option<f64>,
}

impl Runs {
    pub fn run(&self, format: Format) -> Result<()> {
        let mut rows: Vec<Row> = Vec::new();
        for dir in below(&self.dir)? {
            match RunFiles::read(&dir) {
                Ok(files) => {
                    files.lacks().into_iter().for_each(|lacks| log::warn!("{lacks}"));
                    rows.push(Row::of(files));
                }
                Err(why) => log::warn!("{why}"),
            }
        }
        rows.sort_by(|a, b| self.sort.order(a, b).then_with(|| a.dir.cmp(&b.dir)));
        if self.json || format == Format::Json {
            console::say(&Value::Array(rows.iter().map(Row::json).collect()).to_string());
        } else if rows.is_empty() {
            console::say(&format!("no run has logged below {}", self.dir.display()));
        } else {
            console::say(&table(&rows));
        }
        Ok(())
    }
}

impl Sort {
    fn order(self, a: &Row, b: &Row) -> Ordering {
        let numbers = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        let best = |row: &Row| {
            let Best { value, direction, .. } = row.best.as_ref()?;
            Some(if *direction == Direction::Less { *value } else { -value })
        };
        match self {
            Self::Age => numbers(a.age, b.age),
            Self::Name => Ordering::Equal,
            Self::State => a.state.name().cmp(b.state.name()),
            Self::Epoch => numbers(a.epoch.map(|(done, _)| -done), b.epoch.map(|(done, _)| -done)),
            Self::Best => numbers(best(a), best(b)),
        }
    }
}

impl Row {
    fn of(files: RunFiles) -> Self {
        let since = |time| SystemTime::now().duration_since(time).unwrap_or_default().as_secs_f64();
        Self {
            state: files.state,
            epoch: files.epochs(),
            best: files.best(),
            age: files.touched().map(since),
            dir: files.dir,
        }
    }

    fn json(&self) -> Value {
        let number = |value: Option<f64>| value.map_or(Value::Null, crate::vis::to_json);
        let (done, planned) = self.epoch.map_or((None, None), |(done, planned)| (Some(done), planned));
        let best = self.best.as_ref();
        let best = best.map(|best| json!({"name": best.name, "value": number(Some(best.value))}));
        json!({"work_dir": self.dir, "state": self.state.name(), "epoch": number(done), "max_epochs": number(planned),
               "best": best, "age_seconds": number(self.age)})
    }

    fn cells(&self) -> [String; 5] {
        let epoch = self.epoch.map_or("-".into(), |(done, planned)| match planned {
            Some(planned) => format!("{done}/{planned}"),
            None => done.to_string(),
        });
        let best = self
            .best
            .as_ref()
            .map_or("-".into(), |best| format!("{} {}", escaped(&best.name), fixed(best.value, 4)));
        let age = self.age.map_or("-".into(), age);
        // Escaped here already: the width of the column is that of what is shown.
        let dir = escaped(&self.dir.to_string_lossy()).into_owned();
        [dir, self.state.name().to_owned(), epoch, best, age]
    }
}

/// `12 s`, `5 min`, `3.5 h`, `2 days`.
fn age(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s if s < 129_600.0 => format!("{} h", short((s / 360.0).round() / 10.0)),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

fn table(rows: &[Row]) -> String {
    let head = ["work_dir", "state", "epoch", "best", "age"].map(str::to_owned);
    let cells: Vec<_> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3, 4].map(width);
    let line = |row: &[String; 5]| {
        let padded = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    cells.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::{Row, RunState, age, table};

    #[test]
    fn ages_read_as_people_say_them() {
        let shown = [0.0, 89.0, 300.0, 5400.0, 12_600.0, 172_800.0].map(age);
        assert_eq!(shown, ["0 s", "89 s", "5 min", "1.5 h", "3.5 h", "2 days"]);
    }

    #[test]
    fn a_folder_of_an_odd_name_leaves_the_columns_in_line() {
        let state = RunState::Died;
        let row = |dir: &str| Row { dir: dir.into(), state, epoch: None, best: None, age: None };
        let shown = table(&[row("plain"), row("o\u{1b}dd\n")]);
        let widths: Vec<_> = shown.lines().skip(1).map(|line| line.chars().count()).collect();
        assert_eq!(widths.len(), 2, "{shown}");
        assert_eq!(widths[0], widths[1], "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown}");
    }
}

//! What a folder of logs tells in numbers: its event log, or `scalars.json` where there is none.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::{Line, RunState};
use crate::base::Result;
use crate::base::error::IoContext;
use crate::checkpoint::VIS_DATA;
use crate::hook::Mode;
use crate::metric::Direction;
use crate::vis::{EVENTS, SCALARS, TABLES, VisEvent, read_scalars};

/// The events of a folder of logs, sorted by what they are.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub lines: Vec<Line>,
    /// The tables of the last evaluation that had some, each with the keys of a line of `tables.json`.
    pub tables: Vec<Map<String, Value>>,
    /// Those of the runs that this one goes on with, too.
    pub warnings: Vec<String>,
    /// Which way its metrics are better, as far as they say so.
    pub directions: BTreeMap<String, Direction>,
    /// It goes on with an earlier run, whose folder of logs is another one.
    pub resumed: bool,
    /// How it ended, unless it has begun again since.
    pub end: Option<RunState>,
    /// Iterations that are planned.
    pub max_iters: Option<f64>,
    /// Whether it trains: an evaluation has a folder of its own.
    pub trains: bool,
    /// Whole lines of the event log that could not be read.
    pub unread: u64,
    /// There is no event log: MMEngine has none, and neither had older versions. Then nothing says how it ended.
    pub is_older: bool,
}

impl Record {
    /// Reads a folder of logs.
    ///
    /// # Errors
    /// When a file that is there cannot be read.
    pub fn read(log: &Path) -> Result<Self> {
        let dir = log.join(VIS_DATA);
        let file = dir.join(EVENTS);
        // Whatever else has this name is not opened: a pipe that nobody writes to would be waited for.
        let text = if file.is_file() { fs::read(&file).at(&file)? } else { Vec::new() };
        let mut record = Self::default();
        let mut is_empty = true;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            match VisEvent::parse(line) {
                Some(event) => {
                    record.add(&event);
                    is_empty = false;
                }
                // A last one without its end is being written, or was torn.
                None => record.unread += u64::from(line.ends_with(b"\n")),
            }
        }
        if is_empty {
            return Ok(Self { unread: record.unread, ..Self::older(&dir)? });
        }
        Ok(record)
    }

    fn older(dir: &Path) -> Result<Self> {
        let lines = lines(dir)?;
        let trains = lines.iter().any(|line| line.mode == Mode::Train);
        let mut record = Self { lines, trains, is_older: true, ..Self::default() };
        let file = dir.join(TABLES);
        let text = if file.is_file() { fs::read_to_string(&file).unwrap_or_default() } else { String::new() };
        for table in text.lines().filter_map(|line| serde_json::from_str::<Map<String, Value>>(line).ok()) {
            record.add_table(table);
        }
        Ok(record)
    }

    fn add(&mut self, event: &VisEvent) {
        match event.kind() {
            "run" | "resume" => {
                self.end = None;
                self.resumed |= event.kind() == "resume";
                self.max_iters = event.get("max_iters").and_then(Value::as_f64);
                let told = event.get("directions").cloned().map(serde_json::from_value);
                self.directions.extend(told.and_then(Result::ok).unwrap_or_else(BTreeMap::new));
                // Of what is only evaluated, the data are not told.
                self.trains |= event.get("data").is_some_and(|data| !data.is_null());
            }
            "end" => self.end = RunState::ended(event.text("reason")),
            "train" => {
                self.trains = true;
                self.lines.push(line(event, Mode::Train));
            }
            "scalars" => self.lines.push(line(event, Mode::Train)),
            "val" => self.lines.push(line(event, Mode::Val)),
            "test" => self.lines.push(line(event, Mode::Test)),
            "warning" => self.warnings.push(event.text("text").to_owned()),
            "table" => {
                let keys = ["name", "mode", "axes", "rows", "columns", "values", "step"];
                let fields = keys.iter().filter_map(|key| Some(((*key).to_owned(), event.get(key)?.clone())));
                self.add_table(fields.collect());
            }
            _ => {}
        }
    }

    /// Those of an earlier evaluation go.
    fn add_table(&mut self, table: Map<String, Value>) {
        let same = |key: &str, old: &Map<String, Value>| old.get(key) == table.get(key);
        self.tables.retain(|old| same("step", old) && same("mode", old) && !same("name", old));
        self.tables.push(table);
    }

    /// Takes the tests of a later folder in. A process that only tests counts no iterations: what it says stands at the
    /// end of the training.
    pub fn add_tests(&mut self, later: &Self) {
        let trained = self.lines.iter().rev().find(|line| line.mode == Mode::Train && !line.own);
        let behind = trained.map_or(0.0, |line| line.iter);
        for test in later.lines.iter().filter(|line| line.mode == Mode::Test) {
            let iter = if test.iter > 0.0 { test.iter } else { behind };
            self.lines.push(Line { iter, ..test.clone() });
        }
    }
}

/// The line of an event with scalars. A hook's own have no iteration, and their step is what comes nearest to it.
fn line(event: &VisEvent, mode: Mode) -> Line {
    let prefix = format!("{}/", mode.name());
    let number = |key: &str| event.get(key).and_then(Value::as_f64);
    let values = event.scalars();
    let values = values.map(|(name, value)| (name.strip_prefix(&*prefix).unwrap_or(name).to_owned(), value));
    Line {
        mode,
        own: event.kind() == "scalars",
        iter: number("iter").or_else(|| number("step")).unwrap_or_default(),
        epoch: number("epoch"),
        values: values.collect(),
    }
}

/// The lines of `scalars.json`, which do not say what they are: a training has iterations, and what follows it is an
/// evaluation of what it has trained.
fn lines(dir: &Path) -> Result<Vec<Line>> {
    let file = dir.join(SCALARS);
    if !file.is_file() {
        return Ok(Vec::new());
    }
    let mut trained = 0.0;
    let line = |values: Vec<(String, f64)>| {
        let find = |wanted: &str| values.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
        let iter = find("iter").or_else(|| find("train/iter"));
        let epoch = find("epoch").or_else(|| find("train/epoch"));
        let tests = values.iter().any(|(name, _)| name.starts_with("test/"));
        let mode = if iter.is_some() {
            Mode::Train
        } else if tests {
            Mode::Test
        } else {
            Mode::Val
        };
        trained = iter.unwrap_or(trained);
        let prefix = format!("{}/", mode.name());
        let plain =
            |(name, value): (String, f64)| (name.strip_prefix(&*prefix).unwrap_or(&name).to_owned(), value);
        let shown = |(name, _): &(String, f64)| !matches!(name.as_str(), "epoch" | "iter" | "step");
        let values = values.into_iter().map(plain).filter(shown).collect();
        Line { mode, own: false, iter: trained, epoch, values }
    };
    Ok(read_scalars(&file)?.into_iter().map(line).collect())
}

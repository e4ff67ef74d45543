//! `shanty report`: one HTML file that tells all about a run, or compares several. It holds what it needs, a script of
//! its own to draw the curves included, and asks no network.

mod curves;
mod samples;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::console;
use super::output::Output;
use super::run_files::{RunFiles, RunState};
use crate::base::escape::{brief, escaped_lines};
use crate::base::memory::human;
use crate::base::number::count;
use crate::base::{Error, Result, WallClock};
use crate::config::Node;

/// Arguments of `report`.
#[derive(Debug, Clone, Args)]
pub(super) struct Report {
    /// The work_dirs of the runs, or folders of logs in them.
    #[arg(value_name = "WORK_DIR", required = true)]
    runs: Vec<PathBuf>,
    /// The file.
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
    /// Write over a file that is no report of an earlier `report`.
    #[arg(long)]
    overwrite: bool,
}

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Rows and columns of a table that are shown; of a larger one the cells that matter most are listed.
const WIDEST: usize = 40;
/// Lines of a list.
const LONGEST: usize = 200;

impl Report {
    pub fn run(&self) -> Result<()> {
        let begin = PAGE.split_once("<head>").map_or(PAGE, |(begin, _)| begin);
        let is_own = |own: &[u8]| own.starts_with(begin.as_bytes());
        let out = Output::of_own(&self.out, is_own, "report", self.overwrite)?;
        let runs = self.runs.iter().map(|dir| RunFiles::read(dir)).collect::<Result<Vec<_>>>()?;
        let page = page(&runs, &WallClock::default().format("%Y-%m-%d %H:%M"))?;
        if out.write(page.as_bytes())? {
            let (runs, size) = (count(runs.len() as u64, "run"), human(page.len() as f64));
            console::tell(&format!("{} of {runs}, {size}", self.out.display()));
        }
        Ok(())
    }
}

/// The whole file.
fn page(runs: &[RunFiles], written: &str) -> Result<String> {
    let names = names(runs);
    let told: Vec<_> = runs.iter().zip(&names).map(|(run, name)| about(run, name)).collect();
    let tables: Vec<_> =
        runs.iter().zip(&names).flat_map(|(run, name)| tables(run, name, runs.len() > 1)).collect();
    let report = json!({"version": env!("CARGO_PKG_VERSION"), "written": written, "runs": told,
                        "charts": curves::charts(runs), "tables": tables,
                        "samples": samples::worst(runs, &names)});
    let data = serde_json::to_string(&fit(report)).map_err(|e| Error::Other(e.into()))?;
    // In a script element only `<` could end it, or begin a comment.
    let data = data.replace('<', "\\u003c");
    Ok(PAGE.replace("{{STYLE}}", STYLE).replace("{{SCRIPT}}", SCRIPT).replacen("{{DATA}}", &data, 1))
}

/// All texts without marks that nobody sees, such as those that turn what follows them round.
fn fit(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(escaped_lines(&text).into_owned()),
        Value::Array(items) => items.into_iter().map(fit).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, fit(value))).collect(),
        other => other,
    }
}

/// What the runs are called: their folders, with those above where two are called alike.
fn names(runs: &[RunFiles]) -> Vec<String> {
    let short: Vec<_> = runs.iter().map(RunFiles::name).collect();
    let is_one = |name: &String| short.iter().filter(|own| *own == name).count() == 1;
    let long = |run: &RunFiles| {
        let log = run.log.file_name().unwrap_or_default().to_string_lossy().into_owned();
        format!("{} {log}", run.dir.display())
    };
    runs.iter().zip(&short).map(|(run, name)| if is_one(name) { name.clone() } else { long(run) }).collect()
}

fn about(run: &RunFiles, name: &str) -> Value {
    let best =
        run.best().map(|best| json!({"name": best.name, "value": rounded(best.value), "iter": best.iter}));
    let mut facts: Vec<[String; 2]> = vec![["folder".into(), run.dir.display().to_string()]];
    if let Some((done, planned)) = run.epochs() {
        let planned = planned.map_or(String::new(), |planned| format!(" of {planned}"));
        facts.push([format!("{}s", run.unit()), format!("{done}{planned}")]);
    }
    if let (Some(first), Some(last)) = (run.messages.first(), run.messages.last()) {
        facts.push(["logged".into(), format!("{} to {}", first.time, last.time)]);
    }
    let mut saved = run.checkpoints();
    saved.drain(..saved.len().saturating_sub(LONGEST));
    let saved: Vec<_> = saved.iter().map(|c| json!([c.name, c.iter, human(c.bytes as f64)])).collect();
    let end = run.end().filter(|_| !matches!(run.state, RunState::Running | RunState::Died));
    json!({"name": name, "state": run.state.name(), "best": best, "facts": facts, "end": end.map(brief),
           "warnings": warnings(run), "checkpoints": saved, "hooks": hooks(run), "environment": environment(run),
           "config": config(run)})
}

/// Each warning once: those of the event log, which knows what was said before a resume, then what the text log alone
/// has, such as errors and what the event log could not be told.
fn warnings(run: &RunFiles) -> Vec<String> {
    let is_one = |level: &str| matches!(level, "WARNING" | "ERROR");
    let in_text = run.messages.iter().filter(|message| is_one(&message.level)).map(|message| &message.text);
    let mut all: Vec<String> = Vec::new();
    let lacks = run.lacks();
    for text in lacks.iter().chain(run.warnings()).chain(in_text) {
        // The text log is without control characters.
        let text = brief(&escaped_lines(text)).into_owned();
        if !all.contains(&text) && all.len() < LONGEST {
            all.push(text);
        }
    }
    all
}

/// What the log says before the hooks are listed.
fn environment(run: &RunFiles) -> Vec<String> {
    let begins = |text: &str| text.starts_with("hooks in the order");
    let first = run.messages.iter().take_while(|message| !begins(&message.text));
    first.filter(|message| message.level == "INFO").take(20).map(|m| brief(&m.text).into_owned()).collect()
}

/// Every value of the config: its path, itself, and where it was written.
fn config(run: &RunFiles) -> Vec<[String; 3]> {
    let places = run.places();
    let place = |path: &str| places.get(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let leaves = run.config.iter().flat_map(|config| config.leaves()).take(10 * LONGEST);
    let row = |(path, node): (String, &Node)| {
        let (value, from) = (brief(&node.summary()).into_owned(), place(&path));
        [path, value, from]
    };
    leaves.map(row).collect()
}

/// The last table of the time of hooks: hook, point, seconds, microseconds a call.
fn hooks(run: &RunFiles) -> Vec<Value> {
    let Some(table) = run.messages.iter().rev().find(|message| message.text.starts_with("time of hooks"))
    else {
        return Vec::new();
    };
    let row = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        // What took less than a tenth of a millisecond in all is no news.
        [hook, point, seconds, "s", each, "µs"] if seconds != "0.0000" => {
            Some(json!([hook, point, seconds, each]))
        }
        _ => None,
    };
    table.text.lines().skip(2).filter_map(row).take(WIDEST).collect()
}

/// The tables of the last evaluation, the largest cut down to what matters.
fn tables(run: &RunFiles, name: &str, several: bool) -> Vec<Value> {
    let shown = |table: &Map<String, Value>| {
        let texts = |key: &str| -> Vec<String> {
            let all = table.get(key).and_then(Value::as_array).into_iter().flatten();
            all.filter_map(Value::as_str).map(|text| brief(text).into_owned()).collect()
        };
        let (rows, columns, axes) = (texts("rows"), texts("columns"), texts("axes"));
        let number = |value: &Value| value.as_f64().map_or(Value::Null, rounded);
        let values: Vec<Vec<Value>> = table
            .get("values")
            .and_then(Value::as_array)?
            .iter()
            .map(|row| row.as_array().into_iter().flatten().map(number).collect())
            .collect();
        let title = table.get("name").and_then(Value::as_str).unwrap_or_default();
        let title = if several { format!("{name}: {title}") } else { title.to_owned() };
        if rows.len() > WIDEST || columns.len() > WIDEST {
            return Some(largest(&title, &rows, &columns, &axes, &values));
        }
        let axes = (axes.len() == 2).then_some(axes);
        Some(json!({"title": title, "rows": rows, "columns": columns, "axes": axes, "values": values}))
    };
    run.tables().iter().filter_map(shown).collect()
}

/// Of a table that is too large to be seen, the cells off the diagonal with most in them: what is taken for what.
fn largest(
    title: &str,
    rows: &[String],
    columns: &[String],
    axes: &[String],
    values: &[Vec<Value>],
) -> Value {
    let mut cells: Vec<(f64, usize, usize)> = Vec::new();
    for (i, row) in values.iter().enumerate() {
        for (k, value) in row.iter().enumerate() {
            let value = value.as_f64().unwrap_or(0.0);
            if value > 0.0 && (axes.is_empty() || i != k) {
                cells.push((value, i, k));
            }
        }
    }
    cells.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
    cells.truncate(WIDEST);
    let named = |all: &[String], at: usize| all.get(at).cloned().unwrap_or_default();
    let names: Vec<_> =
        cells.iter().map(|(_, i, k)| format!("{}, {}", named(rows, *i), named(columns, *k))).collect();
    let values: Vec<_> = cells.iter().map(|(value, ..)| [rounded(*value)]).collect();
    let note = format!("The {} largest of {} × {} cells.", values.len(), rows.len(), columns.len());
    json!({"title": title, "rows": names, "columns": ["value"], "axes": null, "values": values, "note": note})
}

/// Five digits: more are not seen, and cost their bytes. What is no number is a gap.
fn rounded(value: f64) -> Value {
    let rounded: f64 = format!("{value:.4e}").parse().unwrap_or(f64::NAN);
    if rounded.is_finite() && rounded.fract() == 0.0 && rounded.abs() < 1e15 {
        return json!(rounded as i64);
    }
    serde_json::Number::from_f64(rounded).map_or(Value::Null, Value::Number)
}

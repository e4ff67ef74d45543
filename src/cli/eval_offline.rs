//! `shanty eval-offline`: metrics of predictions that stand in a file.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Args;
use ndarray::ArrayD;
use serde_json::{Map, Value};

use super::evaluate::tell;
use super::output::{self, Output};
use super::{Bare, ConfigArgs};
use crate::base::error::IoContext;
use crate::base::{Elem, Error, Result};
use crate::config::{Node, OneOrMany};
use crate::data::{Batch, Column, Fields};
use crate::metric::{Evaluator, Metric, Predictions, TARGETS};
use crate::registry::{BuildCx, Spec};

/// Lines that are counted at once.
const CHUNK: usize = 256;

/// Arguments of `eval-offline`.
#[derive(Debug, Clone, Args)]
pub(super) struct EvalOffline {
    #[command(flatten)]
    config: ConfigArgs,
    /// What was predicted: a file of JSON lines, from `shanty predict --out FILE.jsonl` or from DumpResults.
    predictions: PathBuf,
    /// Write the metrics to this JSON file too.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    bare: Bare,
}

impl EvalOffline {
    pub fn run(self) -> Result<()> {
        let node = self.config.with(&self.bare).resolve()?;
        let mut evaluator = evaluator(&node)?;
        if let Some(out) = &self.out {
            output::spare_inputs(out, &node)?;
            output::spare(out, std::slice::from_ref(&self.predictions))?;
        }
        let out = self.out.as_deref().map(Output::at).transpose()?;
        count(&self.predictions, &mut evaluator)?;
        let tables = evaluator.tables(|_| None)?;
        tell(&evaluator.compute()?, &tables, out)
    }
}

/// The metrics of a config: those to test with, else to validate with.
fn evaluator(node: &Node) -> Result<Evaluator> {
    let given = |key| node.get(key).filter(|metrics| !metrics.is_null());
    let metrics = given("test_evaluator").or_else(|| given("val_evaluator")).ok_or_else(|| {
        Error::config("the config has no `test_evaluator` and no `val_evaluator`: they say what is computed")
    })?;
    let specs: OneOrMany<Spec<dyn Metric>> = metrics.read_checked()?;
    Evaluator::build(&specs.0, &mut BuildCx::new(0))
}

/// Counts every line of a file.
fn count(path: &Path, evaluator: &mut Evaluator) -> Result<()> {
    if path.extension().is_none_or(|ending| ending != "jsonl") {
        return Err(Error::config(format!(
            "{}: predictions with their targets are JSON lines: write them by `shanty predict --out FILE.jsonl`, or by \
             the metric DumpResults",
            path.display()
        )));
    }
    let mut lines = BufReader::new(File::open(path).at(path)?).lines().enumerate();
    let mut chunk = Chunk::default();
    loop {
        let next = lines.next();
        if next.is_none() || chunk.numbers.len() == CHUNK {
            chunk.count(evaluator).map_err(|why| chunk.placed(path, why))?;
            chunk = Chunk::default();
        }
        let Some((number, line)) = next else { return Ok(()) };
        let line = line.at(path)?;
        if !line.trim().is_empty() {
            let read = chunk.read(number as u64 + 1, &line);
            read.map_err(|why| Error::config(format!("{}:{}: {why}", path.display(), number + 1)))?;
        }
    }
}

/// Lines that are counted together.
#[derive(Default)]
struct Chunk {
    numbers: Vec<u64>,
    outputs: Fields<Numbers>,
    targets: Fields<Numbers>,
}

impl Chunk {
    /// Adds a line.
    fn read(&mut self, number: u64, line: &str) -> std::result::Result<(), String> {
        let line: Map<String, Value> =
            serde_json::from_str(line).map_err(|e| format!("this is no JSON object: {e}"))?;
        let Some(targets) = line.get(TARGETS).and_then(Value::as_object) else {
            return Err(format!(
                "there are no `{TARGETS}` to compare with: predict the data of the config, without `--input`"
            ));
        };
        let is_told = |name: &String| is_derived(name, &line);
        let outputs = line.iter().filter(|(name, _)| !is_told(name));
        let first = self.numbers.is_empty();
        for (all, entries) in
            [(&mut self.outputs, outputs.collect::<Vec<_>>()), (&mut self.targets, targets.iter().collect())]
        {
            if !first && all.len() != entries.len() {
                return Err("there are other predictions or targets than in the lines above".into());
            }
            for (name, value) in entries {
                if first {
                    all.set(name.clone(), Numbers::default());
                }
                let numbers =
                    all.get_mut(name).ok_or_else(|| format!("`{name}` is not in the lines above"))?;
                numbers.read(value).map_err(|why| format!("`{name}` {why}"))?;
            }
        }
        self.numbers.push(number);
        Ok(())
    }

    fn count(&self, evaluator: &mut Evaluator) -> Result<()> {
        let n = self.numbers.len();
        if n == 0 {
            return Ok(());
        }
        let mut batch = Batch { ids: self.numbers.clone(), valid: n, ..Batch::default() };
        for (name, numbers) in self.targets.iter() {
            batch = batch.with(name.to_owned(), numbers.column(n)?);
        }
        let mut outputs = Fields::default();
        for (name, numbers) in self.outputs.iter() {
            outputs.set(name.to_owned(), numbers.array(n, |value| value as Elem)?);
        }
        evaluator.process(&Predictions::of(&batch, &outputs))
    }

    fn placed(&self, path: &Path, why: Error) -> Error {
        let (first, last) = (self.numbers.first().unwrap_or(&0), self.numbers.last().unwrap_or(&0));
        Error::invalid(format!("{}, lines {first} to {last}: {why}", path.display()))
    }
}

/// Whether a key says of a prediction what its numbers say too, or is none: `id`, `class`, `digit_probability`.
fn is_derived(name: &str, line: &Map<String, Value>) -> bool {
    let told =
        ["class", "class_id", "probability", "class_ids"].iter().filter_map(|end| name.strip_suffix(end));
    let mut prefixes = told.filter_map(|prefix| match prefix {
        "" => Some(None),
        prefix => prefix.strip_suffix('_').map(Some),
    });
    ["id", "file", TARGETS].contains(&name)
        || prefixes.any(|of| of.is_none_or(|output| line.contains_key(output)))
}

/// The numbers of all lines under one name.
#[derive(Default)]
struct Numbers {
    /// The shape of one line's.
    shape: Option<Vec<usize>>,
    values: Vec<f64>,
    /// Whether one of them is no whole number.
    real: bool,
}

impl Numbers {
    fn read(&mut self, value: &Value) -> std::result::Result<(), String> {
        let shape = self.add(value)?;
        match &self.shape {
            Some(known) if *known != shape => {
                Err(format!("has the shape {shape:?}, and {known:?} in the lines above"))
            }
            _ => {
                self.shape = Some(shape);
                Ok(())
            }
        }
    }

    /// Adds numbers, lists of them or lists of lists; gives their shape. JSON has no NaN: it is null.
    fn add(&mut self, value: &Value) -> std::result::Result<Vec<usize>, String> {
        let list: Vec<&Value> = match value {
            Value::Null => {
                self.real = true;
                self.values.push(f64::NAN);
                return Ok(Vec::new());
            }
            Value::Number(number) => {
                self.real |= number.as_i64().is_none();
                self.values.push(number.as_f64().unwrap_or(f64::NAN));
                return Ok(Vec::new());
            }
            Value::Array(items) => items.iter().collect(),
            Value::Object(entries) => entries.values().collect(),
            Value::Bool(_) | Value::String(_) => return Err(format!("is {value}, and a number is wanted")),
        };
        let mut shape = None;
        for item in &list {
            let own = self.add(item)?;
            if shape.get_or_insert_with(|| own.clone()) != &own {
                return Err("has lists of unequal lengths".into());
            }
        }
        Ok(std::iter::once(list.len()).chain(shape.unwrap_or_default()).collect())
    }

    fn array<T>(&self, n: usize, of: impl Fn(f64) -> T) -> Result<ArrayD<T>> {
        let shape: Vec<usize> = std::iter::once(n).chain(self.shape.iter().flatten().copied()).collect();
        let values = self.values.iter().map(|value| of(*value)).collect();
        ArrayD::from_shape_vec(shape, values).map_err(|e| Error::invalid(e.to_string()))
    }

    fn column(&self, n: usize) -> Result<Column> {
        Ok(match self.real {
            true => Column::Float(self.array(n, |value| value as Elem)?),
            false => Column::Int(self.array(n, |value| value as i64)?),
        })
    }
}
